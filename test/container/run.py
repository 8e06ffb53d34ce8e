#!/usr/bin/env python3
"""Proves the images with a real engine: buildah, in isolation by chroot, on a debootstrapped base.

    sudo test/container/run.py [--storage DIR] [--only WORD]... [--engine NAME]

Builds each image by scripts/docker.sh and runs it: refused under Docker's default profile, serving
under ours, the tests and the benchmark within. Takes 20 minutes or so and 5 GB, and so is
no part of ctest; check.py beside this file is. Images go to a temporary directory, or to DIR,
which is kept. Ends with "N passed, M failed".
"""

import argparse
import json
import os
import pathlib
import platform
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

import results

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCKER_SH = ROOT / "scripts" / "docker.sh"
EX_CONFIG = 78
HOST = "127.0.0.1"
USER = 10001
KIB = 1024
MIB = 1024 * KIB
START_SECONDS = 60
STOP_SECONDS = 30
BUILD_SECONDS = 3600
RUNTIME_BYTES_MAX = 100 * MIB
PERF = ("--only", "echo-64", "--rounds", "1", "--duration", "0.3", "--attempts", "1")
FLAGS = []  # of docker.sh, for every test: set by main()


def docker_sh(*arguments, timeout=BUILD_SECONDS):
    """docker.sh, run to its end."""
    return subprocess.run([DOCKER_SH, *FLAGS, *map(str, arguments)], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=timeout, check=False)


def said(done):
    """What a finished program said, for messages."""
    return f"exit status {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def parent_of(pid):
    """The parent's id from /proc, or 0."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def descends(pid, ancestor):
    """True if `pid` is a descendant of `ancestor`."""
    while pid > 1 and pid != ancestor:
        pid = parent_of(pid)
    return pid == ancestor


def status_of(pid):
    """/proc/PID/status as a dictionary."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.M))


def may_lock_all():
    """True if this machine lets us lift the limit of locked memory; some sandboxes do not."""
    command = ["prlimit", "--memlock=unlimited", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Server:
    """pelton-echo or pelton-proxy in a container, serving once constructed."""

    def __init__(self, name, *arguments, options=(), engine="io_uring"):
        command = [DOCKER_SH, *FLAGS, "--no-build", *options, "run", name,
                   "--listen", f"{HOST}:0", *arguments]
        self.program = f"pelton-{name}"
        self.stderr = tempfile.TemporaryFile(mode="w+", encoding="utf-8")
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True,
                                      stdout=subprocess.PIPE, stderr=self.stderr)
        timer = threading.Timer(START_SECONDS, self.child.kill)
        timer.start()
        self.line = self.child.stdout.readline()
        timer.cancel()
        match = re.match(rf"{self.program} listening on {HOST}:(\d+) engine={engine} ", self.line)
        if match is None:
            self.close()
            raise AssertionError(f"{self.program} does not serve: {self.line}{self.errors()}")
        self.port = int(match[1])

    def errors(self):
        """Standard error so far."""
        self.stderr.seek(0)
        return self.stderr.read()

    def pid(self):
        """The process of the program itself, as this machine numbers it."""
        for each in filter(str.isdigit, os.listdir("/proc")):
            try:
                name = os.readlink(f"/proc/{each}/exe").rpartition("/")[2]
            except OSError:
                continue
            if name == self.program and descends(int(each), self.child.pid):
                return int(each)
        raise AssertionError(f"no process {self.program} below docker.sh")

    def stop(self):
        """Ends it as an operator would, by SIGTERM to docker.sh; returns exit status and words."""
        self.child.send_signal(signal.SIGTERM)
        status = self.child.wait(STOP_SECONDS)
        return status, self.errors()

    def close(self):
        """Ends it in any case."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        self.child.stdout.close()


def echoes(port, data):
    """Sends data and reads as much back, at the same time."""
    received = bytearray()
    with socket.create_connection((HOST, port), timeout=20) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        while len(received) < len(data) and (piece := client.recv(64 * KIB)):
            received += piece
        sender.join()
    return bytes(received)


class Case(unittest.TestCase):
    """What the tests share. The runtime image is built by the first of them."""

    def serve(self, name, *arguments, **keywords):
        made = Server(name, *arguments, **keywords)
        self.addCleanup(made.stderr.close)
        self.addCleanup(made.close)
        return made

    def profile(self, *options):
        """The path of another form of the profile, for as long as the test runs."""
        made = tempfile.NamedTemporaryFile(mode="w", suffix=".json", encoding="utf-8")
        self.addCleanup(made.close)
        subprocess.run([ROOT / "scripts" / "seccomp.py", *options], stdout=made, check=True)
        return made.name

    def note(self, text):
        """A figure worth printing beside the result."""
        for line in text.splitlines():
            print(f"      {line}", flush=True)

    def serves_well(self, server):
        """Echoes bulk, and many connections at once; then stops in order."""
        bulk = os.urandom(4 * MIB)
        self.assertTrue(echoes(server.port, bulk) == bulk, "other bytes came back")
        clients = [socket.create_connection((HOST, server.port), timeout=20) for _ in range(200)]
        for number, client in enumerate(clients):
            client.sendall(b"%d\n" % number)
        for number, client in enumerate(clients):
            with client, client.makefile("rb") as lines:
                self.assertEqual(lines.readline(), b"%d\n" % number)
        status, words = server.stop()
        self.assertEqual(status, 0, words)
        self.assertRegex(words, r" connections=0 fds=0 buffers_lent=0 ops_in_flight=0 ")


class ARuntime(Case):
    """The image of the programs."""

    def test_a_it_builds_and_is_small(self):
        done = docker_sh("build")
        self.assertEqual(done.returncode, 0, said(done))
        done = docker_sh("--no-build", "exec", "runtime", "sh", "-c",
                         "du -sxb / 2>/dev/null; cat /opt/pelton/packages")
        size = int(done.stdout.split()[0])
        self.note(f"{size / 1e6:.0f} MB; beside the base: {' '.join(done.stdout.split()[2:])}")
        self.assertLess(size, RUNTIME_BYTES_MAX)

    def test_b_it_runs_as_nobody_in_particular(self):
        done = docker_sh("--no-build", "exec", "runtime", "sh", "-c",
                         "id -u; id -g; grep -E '^(CapEff|Seccomp):' /proc/self/status")
        self.assertEqual(done.stdout.split(),
                         [str(USER), str(USER), "CapEff:", "0" * 16, "Seccomp:", "2"], said(done))


class BRefused(Case):
    """Where a profile refuses io_uring, the programs serve on epoll and say what would help.

    Those that insist on io_uring end with 78 and say the same.
    """

    def refused(self, options, errno_name, *command):
        done = docker_sh("--no-build", *options, "run", *command, "--engine", "uring",
                         timeout=120)
        self.assertEqual(done.returncode, EX_CONFIG, said(done))
        self.assertNotIn("listening", done.stdout)
        self.note(done.stderr.strip())
        self.assertIn(errno_name, done.stderr)
        return done.stderr

    def test_by_dockers_default_echo(self):
        text = self.refused(["--seccomp", self.profile("--refuse-io-uring")], "EPERM",
                            "echo", "--listen", f"{HOST}:0")
        self.assertRegex(text, "seccomp mode 2")
        self.assertRegex(text, "remedy: .*seccomp.*--security-opt seccomp=")

    def test_by_dockers_default_proxy(self):
        text = self.refused(["--seccomp", self.profile("--refuse-io-uring")], "EPERM",
                            "proxy", "--listen", f"{HOST}:0", "--upstream", f"{HOST}:9")
        self.assertRegex(text, "remedy: .*seccomp.*--security-opt seccomp=")

    def test_by_the_default_of_podman_and_buildah(self):
        text = self.refused(["--seccomp", "default"], "ENOSYS", "echo", "--listen", f"{HOST}:0")
        self.assertRegex(text, "remedy: .*seccomp.*--security-opt seccomp=")

    def test_echo_serves_on_epoll_by_dockers_default(self):
        options = ["--seccomp", self.profile("--refuse-io-uring")]
        server = self.serve("echo", options=options, engine="epoll")
        with socket.create_connection((HOST, server.port), 10) as client:
            client.sendall(b"over epoll")
            self.assertEqual(client.recv(10, socket.MSG_WAITALL), b"over epoll")
        status, text = server.stop()
        self.assertEqual(status, 0, text)
        self.assertRegex(text, "epoll is used instead of io_uring: .*seccomp mode 2.*remedy: ")

    def test_by_a_limit_of_locked_memory(self):
        text = self.refused(["--memlock", "0"], "ENOMEM", "echo", "--listen", f"{HOST}:0")
        self.assertRegex(text, "remedy: .*--ulimit memlock=-1")


class CServing(Case):
    """Under scripts/seccomp.json the programs serve."""

    def test_echo_with_all_the_memory_it_may_lock(self):
        server = self.serve("echo")
        pid = server.pid()
        status = status_of(pid)
        self.assertEqual(status["Uid"].split(), [str(USER)] * 4)
        self.assertEqual(int(status["CapEff"], 16), 0)
        self.assertEqual(status["Seccomp"], "2", "no profile is in force")
        wanted = "unlimited" if may_lock_all() else resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        self.note(f"locked memory: {wanted}")
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text(encoding="utf-8")
        self.assertRegex(limits, rf"Max locked memory +{wanted} ")
        self.serves_well(server)

    def test_echo_with_the_memory_that_systemd_gives(self):
        server = self.serve("echo", options=["--memlock", str(8 * MIB)])
        limits = pathlib.Path(f"/proc/{server.pid()}/limits").read_text(encoding="utf-8")
        self.assertRegex(limits, rf"Max locked memory +{8 * MIB} ")
        self.serves_well(server)

    def test_echo_on_two_threads(self):
        self.serves_well(self.serve("echo", "--threads", "2"))

    def test_echo_under_the_form_for_containerd(self):
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
        if machine is None:
            self.skipTest(f"no name for {platform.machine()} here")
        profile = self.profile("--oci", machine)
        server = self.serve("echo", options=["--seccomp", profile])
        self.assertEqual(status_of(server.pid())["Seccomp"], "2")
        self.serves_well(server)

    def test_proxy_to_echo(self):
        upstream = self.serve("echo")
        proxy = self.serve("proxy", "--upstream", f"{HOST}:{upstream.port}")
        self.assertEqual(status_of(proxy.pid())["Seccomp"], "2")
        self.serves_well(proxy)
        status, words = upstream.stop()
        self.assertEqual(status, 0, words)


class DTests(Case):
    """The image of the tests."""

    def test_scripts_test_sh_passes_within(self):
        done = docker_sh("test", "--quick")
        last = done.stdout.strip().rpartition("\n")[2]
        self.note(last)
        self.assertEqual(done.returncode, 0, said(done))
        match = re.fullmatch(r"(\d+) passed, 0 failed", last)
        self.assertIsNotNone(match, said(done))
        self.assertGreater(int(match[1]), 100)


class EPerf(Case):
    """The image of the benchmark suite."""

    def test_the_comparison_runs_and_its_reports_come_out(self):
        with tempfile.TemporaryDirectory() as directory:
            done = docker_sh("--results", directory, "perf", *PERF)
            self.assertEqual(done.returncode, 0, said(done))
            measured = pathlib.Path(directory, "comparison.json")
            self.assertTrue(measured.exists(), said(done))
            json.loads(measured.read_text(encoding="utf-8"))
            report = pathlib.Path(directory, "REPORT.md").read_text(encoding="utf-8")
            self.assertIn("uring_echo", report)
            self.note(f"{len(report.splitlines())} lines of report")


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engine", default="buildah", choices=("docker", "podman", "buildah"),
                        help="default: buildah")
    parser.add_argument("--storage", metavar="DIR", help="keep buildah's images there")
    parser.add_argument("--only", action="append", default=[], metavar="WORD",
                        help="only tests with this in their names; may be repeated")
    options = parser.parse_args()
    FLAGS.extend(["--engine", options.engine])
    storage = None
    if options.engine == "buildah":
        storage = options.storage or tempfile.mkdtemp(prefix="pelton-storage-")
        FLAGS.extend(["--storage", storage])
    try:
        return results.run(__name__, options.only)
    finally:
        if storage is not None and not options.storage:
            forget(storage)


def forget(storage):
    """Removes buildah's storage; what is still mounted in it first."""
    tool = ["buildah", "--root", f"{storage}/root", "--runroot", f"{storage}/run"]
    for command in (["rm", "--all"], ["rmi", "--all", "--force"]):
        subprocess.run([*tool, *command], capture_output=True, check=False)
    shutil.rmtree(storage, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
