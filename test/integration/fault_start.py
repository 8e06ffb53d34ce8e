"""System calls that fail while pelton-echo and pelton-proxy start, one row of a table each.

io_uring that is refused, at whichever of its calls: `auto` serves on epoll and says why in one
warning, `uring` ends with 78, the reason and a remedy. What is refused once, or is not needed,
stops nobody. Where nothing can serve the program ends with 78 and names the call or the address.

Neighbours: faults.py has strace; test_refusal.py has a seccomp filter and bad addresses.
"""

import os
import pathlib
import re
import unittest
import unittest.mock

from clients import serves
from faults import Fault, add_cases, from_the_start
from harness import HOST, Case, sanitized

EX_CONFIG = 78
UPSTREAM = f"{HOST}:9"  # nobody is asked to connect
RING_CALLS = "io_uring_setup io_uring_enter io_uring_register"
ERRORS = ("EINTR", "EBUSY", "EAGAIN", "ENOMEM", "EPERM", "ENOSYS")
NOT_TO_BE_HAD = ("EPERM", "ENOSYS")


class Start(Case):
    """Programs that are started under strace."""

    def setUp(self):
        super().setUp()
        if sanitized():
            self.skipTest("what the first system calls answer does not depend on the sanitizer")
        asked = unittest.mock.patch.dict(os.environ, {"PELTON_ENGINE": "auto"})
        asked.start()
        self.addCleanup(asked.stop)

    def options(self, name, engine):
        upstream = ["--upstream", UPSTREAM] if name == "pelton-proxy" else []
        return [*upstream, "--engine", engine]

    def starts(self, name, engine, call, error, when):
        """A server that serves all the same; returns it, having served."""
        under = from_the_start(self, call, error, when)
        server = self.serve(name, f"{HOST}:0", *self.options(name, engine), under=under)
        if name == "pelton-echo":
            serves(server.address)
        return server

    def serves_on_io_uring(self, name, call, error, when):
        server = self.starts(name, "auto", call, error, when)
        self.assertEqual(server.engine, "io_uring", server.describe())
        server.stop()
        self.assertNotIn("[warn]", server.stderr)
        if error == "EINTR":  # which says nothing about the kernel
            self.assertEqual(self.caps(server), self.caps(self.untouched()))

    def rings_of_a_thread(self, name):
        """How many rings a server of one thread makes: its own is the last."""
        under = from_the_start(self, "io_uring_setup", "EPERM", 1000)
        server = self.serve(name, f"{HOST}:0", *self.options(name, "auto"), "--threads", "1",
                            under=under)
        server.stop()
        log = pathlib.Path(under[under.index("-o") + 1])
        return log.read_text(encoding="utf-8").count("io_uring_setup(")

    def serves_on_both(self, name):
        """The thread that probes does not get a ring of its own afterwards; the other has one."""
        rings = min(self.rings_of_a_thread(name) for _ in range(2))  # a slow probe is made twice
        under = from_the_start(self, "io_uring_setup", "EPERM", rings)
        server = self.serve(name, f"{HOST}:0", *self.options(name, "auto"), "--threads", "2",
                            under=under)
        both = r"io_uring,epoll|epoll,io_uring"
        self.assertRegex(server.engine, rf"^({both})$")
        for _ in range(8 if name == "pelton-echo" else 0):  # either thread, most probably
            serves(server.address)
        server.stop()
        self.assertRegex(server.stderr, rf"stopped: .* engine=({both})\n")
        self.assertIn("epoll is used instead of io_uring", server.stderr)

    def caps(self, server):
        return re.search(r"recv_caps=\w+", server.stdout[0])[0]

    def untouched(self):
        server = self.echo()
        server.stop()
        return server

    def serves_on_epoll(self, name, call, error, when):
        server = self.starts(name, "auto", call, error, when)
        self.assertEqual(server.engine, "epoll", server.describe())
        server.stop()
        warnings = [line for line in server.stderr.splitlines() if "[warn]" in line]
        self.assertEqual(len(warnings), 1, server.stderr)
        self.assertIn("epoll is used instead of io_uring", warnings[0])
        self.explains(warnings[0], call, error)

    def refuses_without_io_uring(self, name, call, error, when):
        said = self.refused(name, "uring", call, error, when)
        self.explains(said, call, error)

    def refuses_to_serve(self, name, engine, call, error, when):
        said = self.refused(name, engine, call, error, when)
        self.assertRegex(said, rf"{call}|cannot listen on '{re.escape(HOST)}")

    def refused(self, name, engine, call, error, when):
        made = self.refuses(name, "--listen", f"{HOST}:0", *self.options(name, engine),
                            under=from_the_start(self, call, error, when))
        self.assertEqual(made.child.returncode, EX_CONFIG, made.describe())
        self.assertFalse(any("listening" in line for line in made.stdout), made.stdout)
        return made.stderr

    def explains(self, said, call, error):
        """It names the call and the errno, what this host is like, and a remedy."""
        for word in (rf"{call} failed with {error} \(", r"kernel\.io_uring_disabled=",
                     "seccomp mode", "memlock limit", "remedy: "):
            self.assertRegex(said, word)


def refusals():
    """io_uring that cannot be had, for good."""
    for name in ("pelton-echo", "pelton-proxy"):
        for call in RING_CALLS.split():
            few = call != "io_uring_setup" or name == "pelton-proxy"
            for error in NOT_TO_BE_HAD if few else ERRORS:
                yield name, call, error


add_cases(Start, Start.serves_on_epoll, [
    (Fault("start", f"{call} {error}, always", name, "io_uring"), name, call, error, "1+")
    for name, call, error in refusals()])
add_cases(Start, Start.refuses_without_io_uring, [
    (Fault("start, --engine uring", f"{call} {error}, always", name, "io_uring"),
     name, call, error, "1+")
    for name, call, error in refusals() if error != "ENOMEM"])  # which is waited for
add_cases(Start, Start.serves_on_io_uring, [
    (Fault("start", f"{call} {error}, {which}", "pelton-echo", "io_uring"),
     "pelton-echo", call, error, when)
    for call, error, when, which in (
        ("io_uring_setup", "ENOMEM", "1", "once"),
        ("io_uring_setup", "ENOMEM", "1..3", "three times"),
        ("io_uring_setup", "EPERM", "1", "of the probe"),
        ("io_uring_register", "EPERM", "1", "once"),
        ("io_uring_register", "EINVAL", "1", "once"),
        ("io_uring_register", "ENOMEM", "2", "of the probe"),
        ("io_uring_enter", "EINTR", "1", "once"),
        ("io_uring_enter", "EINTR", "1+2", "every other"),
        ("io_uring_enter", "EAGAIN", "1..5", "five times"),
        ("io_uring_enter", "EBUSY", "1..5", "five times"),
        ("io_uring_enter", "ENOMEM", "2+3", "every third"))])
add_cases(Start, Start.serves_on_both, [
    (Fault("start", "io_uring_setup EPERM, one thread of two", name, "io_uring"), name)
    for name in ("pelton-echo", "pelton-proxy")])
add_cases(Start, Start.refuses_to_serve, [
    (Fault("start", f"{call} {error}", name, engine), name, option, call, error, "1+")
    for engine, option in (("io_uring", "uring"), ("epoll", "epoll"))
    for name, call, error in (
        ("pelton-echo", "socket", "EMFILE"), ("pelton-echo", "socket", "EPERM"),
        ("pelton-echo", "socket", "ENOMEM"), ("pelton-proxy", "socket", "ENFILE"),
        ("pelton-echo", "bind", "EACCES"), ("pelton-proxy", "listen", "EADDRINUSE"))])
add_cases(Start, Start.refuses_to_serve, [
    (Fault("start", f"epoll_create1 {error}", name, "epoll"),
     name, "epoll", "epoll_create1", error, "1+")
    for name, error in (("pelton-echo", "EMFILE"), ("pelton-proxy", "ENOMEM"),
                        ("pelton-echo", "ENFILE"))])


if __name__ == "__main__":
    unittest.main()
