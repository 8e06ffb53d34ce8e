"""Hosts that give little: no locked memory, a filter that refuses one of io_uring's calls, no more
descriptors.

A user who may lock too little is served on epoll, or on a smaller ring, and told so. Where no
descriptor is left new clients wait until there are some again; a proxy that finds none for its
upstream ends that client, and no other.

Neighbours: seccomp.py has the filter; faults.py makes the cases; fault_start.py has other refusals.
"""

import os
import resource
import unittest
import unittest.mock

from clients import ends_within, serves, talks
from faults import Fault, add_cases
from harness import HOST, Case
from seccomp import IO_URING_ENTER, IO_URING_REGISTER, IO_URING_SETUP, refuse

EX_CONFIG = 78
ENGINES = {"io_uring": "uring", "epoll": "epoll"}
CALLS = {"io_uring_setup": IO_URING_SETUP, "io_uring_enter": IO_URING_ENTER,
         "io_uring_register": IO_URING_REGISTER}
KIB = 1024
IDLE = 8  # descriptors of a server without clients
SPARE = 4
CLIENTS = 12


def as_nobody(locked_bytes):
    """For a child: becomes a user without privileges who may lock so much. The user is not shared
    with other processes, since memory is charged by user."""
    user = 200_000 + os.getpid()

    def become():
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (locked_bytes, locked_bytes))
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    return become


class Refused(Case):
    """What the kernel refuses from the start."""

    def setUp(self):
        super().setUp()
        asked = unittest.mock.patch.dict(os.environ, {"PELTON_ENGINE": "auto"})
        asked.start()
        self.addCleanup(asked.stop)

    def server(self, name, *options, prepare):
        if name == "pelton-echo":
            return self.echo(*options, prepare=prepare), None
        upstream = self.echo()
        return self.proxy(upstream.address, *options, prepare=prepare), upstream

    def warned(self, server, upstream, *words):
        serves(server.address)
        server.stop()
        if upstream:
            upstream.stop()
        warnings = [line for line in server.stderr.splitlines() if "[warn]" in line]
        self.assertEqual(len(warnings), 1, server.stderr)
        for word in ("epoll is used instead of io_uring", "remedy: ", *words):
            self.assertIn(word, warnings[0])

    def insists(self, name, prepare, *words):
        """--engine uring: 78 and the reason."""
        upstream = ["--upstream", f"{HOST}:9"] if name == "pelton-proxy" else []
        made = self.refuses(name, "--listen", f"{HOST}:0", *upstream, "--engine", "uring",
                            prepare=prepare)
        self.assertEqual(made.child.returncode, EX_CONFIG, made.describe())
        for word in ("remedy: ", *words):
            self.assertIn(word, made.stderr)

    def without_a_call(self, name, call, number):
        """A filter refuses one of the three calls."""
        prepare = refuse(CALLS[call], number)
        words = (f"{call} failed with {'EPERM' if number == 1 else 'ENOSYS'} (", "seccomp mode 2",
                 "io_uring_setup, io_uring_enter and io_uring_register")
        server, upstream = self.server(name, prepare=prepare)
        self.assertEqual(server.engine, "epoll")
        self.warned(server, upstream, *words)
        self.insists(name, prepare, *words)

    def without_locked_memory(self, name):
        self.needs_root()
        words = ("ENOMEM", "memlock limit 0 KiB", "ulimit -l")
        server, upstream = self.server(name, prepare=as_nobody(0))
        self.assertEqual(server.engine, "epoll")
        self.warned(server, upstream, *words)
        self.insists(name, as_nobody(0), *words)

    def with_little_locked_memory(self, name, threads):
        """64 KiB: a smaller ring, or epoll for the threads that get none; both say so."""
        self.needs_root()
        server, upstream = self.server(name, "--threads", str(threads), prepare=as_nobody(64 * KIB))
        for _ in range(8):
            serves(server.address)
        self.note(f"engine={server.engine}")
        server.stop()
        if upstream:
            upstream.stop()
        said = "not enough locked memory" if server.engine == "io_uring" else "ulimit -l"
        self.assertIn(said, server.stderr)

    def needs_root(self):
        if os.geteuid() != 0:
            self.skipTest("needs root, to become a user without privileges")


class Descriptors(Case):
    """RLIMIT_NOFILE is hardly more than the server needs for itself. From its start: an accept of
    io_uring keeps to the limit that was there when it was armed."""

    def clients_wait(self, engine):
        """accept(2) finds no descriptor: who comes waits, who is there is served."""
        server = self.echo("--engine", ENGINES[engine], nofile=IDLE + SPARE)
        self.assertEqual(server.fds(), IDLE)
        clients = [server.address.socket(timeout=10) for _ in range(CLIENTS)]
        for sock in clients:
            self.addCleanup(sock.close)
        for first in range(0, CLIENTS, SPARE):
            for sock in clients[first:first + SPARE]:
                talks(sock, b"now there is room")
            self.assertLessEqual(server.fds(), IDLE + SPARE)
            for sock in clients[first:first + SPARE]:
                talks(sock, b"and still")
                sock.close()
        self.eventually(lambda: server.fds() == IDLE, 10, "descriptors are left")
        figures = server.stop()
        self.assertEqual(figures["accepted"], CLIENTS)
        self.assertGreaterEqual(figures["accept_pauses"], 1)

    def the_proxy_has_none_for_its_upstream(self, engine):
        """The client that is accepted last is ended; the one that was there goes on."""
        echo = self.echo()
        proxy = self.proxy(echo.address, "--engine", ENGINES[engine], nofile=IDLE + 3)
        self.assertEqual(proxy.fds(), IDLE)
        old = proxy.address.socket()
        self.addCleanup(old.close)
        talks(old, b"before")
        for _ in range(5):
            with proxy.address.socket() as sock:
                self.assertTrue(ends_within(sock, 10), "a client without an upstream is kept")
        talks(old, b"after")
        old.close()
        self.eventually(lambda: proxy.fds() == IDLE, 10, lambda: f"{proxy.fds()} descriptors")
        serves(proxy.address)
        proxy.stop()
        echo.stop()
        self.assertRegex(proxy.stderr, r"upstream .*[Tt]oo many open files")


PROGRAMS = ("pelton-echo", "pelton-proxy")
add_cases(Refused, Refused.without_a_call, [
    (Fault("start", f"a filter refuses {call}, {name}", program, "io_uring"), program, call, number)
    for program in PROGRAMS for call in CALLS for name, number in (("EPERM", 1), ("ENOSYS", 38))])
add_cases(Refused, Refused.without_locked_memory, [
    (Fault("start", "memlock 0, not root", program, "io_uring"), program) for program in PROGRAMS])
add_cases(Refused, Refused.with_little_locked_memory, [
    (Fault("start", f"memlock 64 KiB, not root, {threads} threads", program, "io_uring"),
     program, threads)
    for program in PROGRAMS for threads in (1, 2)])
add_cases(Descriptors, Descriptors.clients_wait, [
    (Fault("serving", "EMFILE of accept", "pelton-echo", engine), engine) for engine in ENGINES])
add_cases(Descriptors, Descriptors.the_proxy_has_none_for_its_upstream, [
    (Fault("serving", "EMFILE of the connect", "pelton-proxy", engine), engine)
    for engine in ENGINES])


if __name__ == "__main__":
    unittest.main()
