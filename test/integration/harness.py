"""Starts pelton's programs for the integration tests, watches them and stops them.

Neighbours: run.py runs all tests here; clients.py has the socket helpers, seccomp.py the system
call filter; the cases are in test_*.py. Programs come from the directory in PELTON_BIN (run.py
sets it; default build/release/bin). Every process started here dies with this one, is stopped by
its own pid, and every test has a time limit.
"""

import ctypes
import os
import pathlib
import queue
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
QUICK = os.environ.get("PELTON_QUICK", "") not in ("", "0")
KIB = 1 << 10
MIB = 1 << 20
START_SECONDS = 20
STOP_SECONDS = 30
ZERO_AT_EXIT = ("connections", "fds", "buffers_lent", "ops_in_flight")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


class OutOfTime(BaseException):
    """The test's time limit passed. Not an Exception, so that no client code swallows it."""


def sanitized():
    """Which sanitizer the programs are built with; empty for none."""
    return os.environ.get("PELTON_SANITIZE", "")


def bin_dir():
    return pathlib.Path(os.environ.get("PELTON_BIN", ROOT / "build" / "release" / "bin"))


def program(name):
    """The path of one of pelton's programs; fails the test where it is not built."""
    path = bin_dir() / name
    if not os.access(path, os.X_OK):
        raise AssertionError(f"no program {path}: build it first, or say --bin DIR")
    return str(path)


def tool(name):
    """The path of somebody else's program; skips the test where it is missing."""
    path = shutil.which(name)
    if path is None:
        raise unittest.SkipTest(f"{name} is not installed")
    return path


def unused_port(host=HOST):
    """A TCP port that was free a moment ago."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def have_ipv6():
    try:
        unused_port("::1")
    except OSError:
        return False
    return True


class Address:
    """HOST:PORT, [V6]:PORT or unix:PATH (unix:@NAME is abstract), as pelton prints it."""

    def __init__(self, text):
        self.text = text
        if text.startswith("unix:"):
            path = text[5:]
            self.family = socket.AF_UNIX
            self.name = "\0" + path[1:] if path.startswith("@") else path
            return
        match = re.fullmatch(r"(?:\[(.*)\]|([^:\[\]]*)):(\d+)", text)
        if match is None:
            raise AssertionError(f"not an address: {text!r}")
        host = match[1] if match[1] is not None else match[2]
        self.family = socket.AF_INET6 if match[1] is not None else socket.AF_INET
        self.host = {"0.0.0.0": HOST, "": HOST, "*": HOST, "::": "::1"}.get(host, host)
        self.port = int(match[3])
        self.name = (self.host, self.port)

    def __str__(self):
        return self.text

    def socket(self, timeout=10, source=None):
        """A connected blocking socket."""
        made = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            made.settimeout(timeout)
            if source is not None and self.family == socket.AF_INET:
                made.bind((source, 0))
            made.connect(self.name)
        except BaseException:
            made.close()
            raise
        return made


def in_child(nofile, prepare):
    """What the child does between fork and exec."""
    def run():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
        if nofile is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))
        if prepare is not None:
            prepare()
    return run


class Process:
    """A child process: stdout as lines in a queue and a list, stderr in a file."""

    def __init__(self, command, nofile=None, prepare=None):
        self.command = [str(each) for each in command]
        self.lines = queue.Queue()
        self.stdout = []
        self._stderr = tempfile.TemporaryFile()
        self.child = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._stderr,
            preexec_fn=in_child(nofile, prepare))
        self.pid = self.child.pid
        self._reader = threading.Thread(target=self._read_stdout, daemon=True)
        self._reader.start()

    def _read_stdout(self):
        for line in self.child.stdout:
            text = line.decode(errors="replace").rstrip("\n")
            self.stdout.append(text)
            self.lines.put(text)
        self.lines.put(None)

    @property
    def stderr(self):
        size = os.fstat(self._stderr.fileno()).st_size
        return os.pread(self._stderr.fileno(), size, 0).decode(errors="replace")

    def alive(self):
        return self.child.poll() is None

    def signal(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def wait(self, timeout=STOP_SECONDS):
        """The exit status; negative for a signal."""
        try:
            status = self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            said = self.describe()
            self.kill()
            raise AssertionError(f"did not end within {timeout} s: {said}") from None
        self._reader.join(5)
        return status

    def kill(self):
        if self.alive():
            self.child.kill()
        self.child.wait(10)

    def close(self):
        self.kill()
        self._reader.join(5)
        self.child.stdout.close()
        self._stderr.close()

    def describe(self):
        out = "\n".join(self.stdout[-20:])
        return (f"{' '.join(self.command)} (exit status {self.child.poll()})\n"
                f"stdout: {out}\nstderr: {self.stderr[-4000:]}")

    def line(self, pattern, timeout=START_SECONDS):
        """The match of the next stdout line that has `pattern`."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                text = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                text = None
            if text is None:
                raise AssertionError(f"no line like {pattern!r} in time: {self.describe()}")
            match = re.search(pattern, text)
            if match:
                return match

    def threads(self):
        return os.listdir(f"/proc/{self.pid}/task")

    def cpu_seconds(self):
        """CPU time of all its threads so far, from schedstat."""
        total = 0
        for thread in self.threads():
            try:
                text = pathlib.Path(f"/proc/{self.pid}/task/{thread}/schedstat").read_text()
            except FileNotFoundError:
                continue
            total += int(text.split()[0])
        return total / 1e9

    def cpu_during(self, seconds):
        before = self.cpu_seconds()
        time.sleep(seconds)
        return self.cpu_seconds() - before

    def fds(self):
        """The number of its open descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss(self):
        """Resident memory in bytes."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", text, re.M)[1]) * 1024


class Server(Process):
    """pelton-echo or pelton-proxy, up and serving once constructed."""

    def __init__(self, name, listen, *options, nofile=None, prepare=None, under=()):
        """`under` is a command that becomes the server, strace -D for one."""
        command = [*under, program(name)]
        for each in listen:
            command += ["--listen", each]
        super().__init__([*command, *options], nofile, prepare)
        self.name = name
        pattern = rf"^{re.escape(name)} listening on (\S+) engine=(\S+)"
        try:
            matches = [self.line(pattern) for _ in listen]
        except BaseException:
            self.close()
            raise
        self.addresses = [Address(match[1]) for match in matches]
        self.engine = matches[0][2]

    @property
    def address(self):
        return self.addresses[0]

    def figures(self, state):
        """The counters of each line `NAME STATE: ...` on stderr; integers where they are."""
        lines = re.findall(rf"^.*{re.escape(self.name)} {state}: (.*)\n", self.stderr, re.M)
        return [{key: int(value) if re.fullmatch(r"-?\d+", value) else value
                 for key, _, value in (each.partition("=") for each in line.split())}
                for line in lines]

    def stopped(self):
        """The figures of the exit line."""
        found = self.figures("stopped")
        if not found:
            raise AssertionError(f"no `{self.name} stopped: ...` line: {self.describe()}")
        return found[0]

    def running(self, timeout=START_SECONDS):
        """The figures that a server of one thread prints on SIGUSR1."""
        heard = len(self.figures("running"))
        self.signal(signal.SIGUSR1)
        deadline = time.monotonic() + timeout
        while len(found := self.figures("running")) <= heard:
            if not self.alive() or time.monotonic() > deadline:
                raise AssertionError(f"it does not tell its figures: {self.describe()}")
            time.sleep(0.01)
        return found[-1]

    def stop(self, number=signal.SIGTERM, timeout=STOP_SECONDS):
        """Ends it by a signal: exit status 0, and nothing left behind. Returns its figures."""
        if not self.alive():
            raise AssertionError(f"it ended before it was told to: {self.describe()}")
        self.signal(number)
        return self.ended(timeout)

    def ended(self, timeout=STOP_SECONDS):
        """Waits for a clean end that was already asked for. Returns its figures."""
        status = self.wait(timeout)
        if status != 0:
            raise AssertionError(f"exit status {status}, expected 0: {self.describe()}")
        figures = self.stopped()
        for key in ("connections", "buffers_lent", "ops_in_flight"):
            if key not in figures:
                raise AssertionError(f"the exit line has no {key}=: {figures}")
        left = {key: figures[key] for key in ZERO_AT_EXIT if figures.get(key, 0) != 0}
        if left:
            raise AssertionError(f"left behind at exit: {left}: {self.describe()}")
        return figures


class Case(unittest.TestCase):
    """A test with a time limit, a temporary directory, and processes that end with it."""

    TIME_LIMIT = 90

    def setUp(self):
        old = signal.signal(signal.SIGALRM, self._out_of_time)
        self.addCleanup(signal.signal, signal.SIGALRM, old)
        signal.alarm(self.TIME_LIMIT)
        self.addCleanup(signal.alarm, 0)

    def _out_of_time(self, *_):
        raise OutOfTime(f"the test took longer than {self.TIME_LIMIT} s")

    def directory(self):
        made = tempfile.mkdtemp(prefix="pelton-")
        self.addCleanup(shutil.rmtree, made, ignore_errors=True)
        return made

    def eventually(self, what, seconds, why):
        """Waits until `what()` is true."""
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                self.fail(why() if callable(why) else why)
            time.sleep(0.01)

    def note(self, text):
        """A figure worth printing beside the result."""
        print(f"      {text}", flush=True)

    def process(self, *command, **kwargs):
        made = Process(command, **kwargs)
        self.addCleanup(made.close)
        return made

    def serve(self, name, listen, *options, **kwargs):
        made = Server(name, [listen] if isinstance(listen, str) else listen, *options, **kwargs)
        self.addCleanup(made.close)
        return made

    def echo(self, *options, listen=f"{HOST}:0", **kwargs):
        return self.serve("pelton-echo", listen, *options, **kwargs)

    def proxy(self, upstream, *options, listen=f"{HOST}:0", **kwargs):
        return self.serve("pelton-proxy", listen, "--upstream", str(upstream), *options, **kwargs)

    def refuses(self, name, *options, prepare=None, timeout=START_SECONDS, under=()):
        """Runs a program that must not serve; returns it, ended, with a non-zero status."""
        made = self.process(*under, program(name), *options, prepare=prepare)
        made.wait(timeout)
        status = made.child.returncode
        self.assertNotEqual(status, 0, made.describe())
        self.assertGreater(status, 0, f"it died of a signal: {made.describe()}")
        self.assertTrue(made.stderr.strip(), "it refused without a word on stderr")
        return made

    def assert_idle(self, process, seconds, most, why):
        used = process.cpu_during(seconds)
        self.assertLessEqual(used, most, f"{why}: {used * 1e3:.1f} ms of CPU in {seconds} s")
        return used


def raise_nofile(needed):
    """Raises this process's limit of open files; skips the test where it cannot."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise unittest.SkipTest(f"needs {needed} open files; the hard limit is {hard}")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


if __name__ == "__main__":
    sys.exit("harness.py is a part of the integration tests: see run.py")
