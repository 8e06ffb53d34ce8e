"""What the suite `faults` is made of: the record of a case, and faults put in by strace.

A case is a test method that `add_cases` makes from a row of a table; its record says in which
phase what happens to whom, and on which engine, so that `run.py --suite faults --list` prints the
table. System calls are made to fail by strace(1): from the start of a program, or of one that
serves for the time of a `with` block.

Neighbours: harness.py starts the programs; the tables are in fault_*.py.
"""

import pathlib
import subprocess
import tempfile
import time
import typing
import unittest

from harness import tool

ATTACH_SECONDS = 10


class Fault(typing.NamedTuple):
    """A case in a table: when, what, to whom, on which engine (io_uring, epoll or either)."""

    phase: str
    what: str
    program: str
    engine: str = "either"

    @property
    def runs(self):
        """How often it runs in all: what is for either engine runs on each."""
        return 2 if self.engine == "either" else 1

    def is_for(self, engine):
        """Whether it belongs to a run where PELTON_ENGINE says `engine`."""
        return self.engine == "either" or (self.engine == "epoll") == (engine == "epoll")


def add_cases(case, check, rows):
    """Makes a test method of the class `case` from each row of (Fault, argument...): it calls
    `check(self, argument...)`."""
    for fault, *arguments in rows:
        def run(self, arguments=tuple(arguments)):
            check(self, *arguments)
        run.fault = fault
        words = f"{fault.phase} {fault.what} {fault.program} {fault.engine}"
        name = "test_" + "".join(each if each.isalnum() else "_" for each in words)
        if hasattr(case, name):
            raise AssertionError(f"two rows are named {name}")
        run.__name__ = name
        setattr(case, name, run)


def injecting(call, error, when, log):
    """The options of strace that make some calls of `call` fail."""
    return [tool("strace"), "-f", "-qq", "-e", "signal=none", "-o", str(log), "-e",
            f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]


def from_the_start(case, call, error, when):
    """A command to put before a program's, so that its calls fail from the beginning."""
    log = pathlib.Path(case.directory(), "strace")
    return [*injecting(call, error, when, log)[:1], "-D", *injecting(call, error, when, log)[1:]]


class Injection:
    """While it is entered, some calls of a process that runs fail. `count` says how many did."""

    def __init__(self, process, call, error, when):
        self.process = process
        self.directory = tempfile.TemporaryDirectory(prefix="pelton-")
        self.log = pathlib.Path(self.directory.name, "strace")
        self.command = [*injecting(call, error, when, self.log), "-p", str(process.pid)]
        self.count = 0
        self.strace = None

    def __enter__(self):
        self.strace = subprocess.Popen(self.command, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + ATTACH_SECONDS
        while not self.attached():
            ended = self.strace.poll() is not None
            if ended and self.struck():
                return self  # the first call that failed has ended the process, and strace with it
            if ended or time.monotonic() > deadline:
                self.end()
                said = self.strace.stderr.read().decode(errors="replace").strip()
                self.strace.stderr.close()
                if "ptrace" in said:
                    raise unittest.SkipTest(f"this host refuses ptrace(2): {said}")
                raise AssertionError(f"strace does not attach: {said}")
            time.sleep(0.001)
        return self

    def attached(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return f"TracerPid:\t{self.strace.pid}\n" in status

    def __exit__(self, *_):
        time.sleep(0.02)  # the process has come to rest
        self.end()
        self.strace.stderr.close()
        self.struck()
        self.directory.cleanup()

    def struck(self):
        """How many calls were made to fail so far, and written down by strace."""
        if not self.log.exists():
            return 0
        with open(self.log, encoding="utf-8", errors="replace") as lines:
            self.count = sum("(INJECTED)" in line for line in lines)
        return self.count

    def end(self):
        """Lets go of the process, which goes on."""
        if self.strace.poll() is None:
            self.strace.terminate()
        try:
            self.strace.wait(10)
        except subprocess.TimeoutExpired:
            self.strace.kill()
            self.strace.wait(10)
