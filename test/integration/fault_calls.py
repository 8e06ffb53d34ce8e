"""System calls that fail while pelton-echo and pelton-proxy serve, one row of a table each.

One server for each program and engine; strace makes some calls of it fail while new clients and
one that was there before talk to it. What loses nothing must lose nothing; where a call says that a
connection is lost, or cannot be had, that one is ended and the others go on. Only a ring that may
never be entered again ends the server, with 78 and the reason.

What fails is bounded in number, so that nothing does when strace lets go of the server: a call
that it has begun to change then would end with ENOSYS. EAGAIN is not told to the receives, sends
and accepts of the epoll engine: where the kernel says it, it tells by an event when to try again,
and strace does not.

Neighbours: faults.py has strace; fault_start.py does the same to the start.
"""

import random
import select
import socket
import time
import unittest

from clients import ends_within, receive_all, serves, talks
from faults import Fault, Injection, add_cases
from harness import HOST, MIB, Case, Server

EX_CONFIG = 78
CLIENTS = 3
BULK = random.Random(2).randbytes(32 * MIB)
DATA = random.Random(1).randbytes(40_000)
ENGINES = {"io_uring": "uring", "epoll": "epoll"}
WHICH = {"1": "once", "1..4": "four times", "1..5+2": "every other", "2..8+3": "every third"}


class Shared:
    """The servers that a class of cases shares; made when the first case needs them."""

    def __init__(self):
        self.upstream = None
        self.servers = {}
        self.descriptors = {}  # open in each before it had a client, by pid

    def get(self, name, engine):
        if self.upstream is None:
            self.upstream = Server("pelton-echo", [f"{HOST}:0"])
        server = self.servers.get((name, engine))
        if server is None or not server.alive():
            upstream = ["--upstream", str(self.upstream.address)] if name == "pelton-proxy" else []
            server = Server(name, [f"{HOST}:0"], *upstream, "--engine", ENGINES[engine])
            self.servers[name, engine] = server
            self.descriptors[server.pid] = server.fds()
        return server

    def close(self):
        """Ends all of them; each must have nothing left, proxies first."""
        try:
            for server in sorted(self.servers.values(), key=lambda each: each.name, reverse=True):
                if server.alive():
                    server.stop()
            if self.upstream:
                self.upstream.stop()
        finally:
            for server in [*self.servers.values(), self.upstream]:
                if server:
                    server.close()


class Calls(Case):
    """Calls that fail while there are clients."""

    @classmethod
    def setUpClass(cls):
        cls.shared = Shared()
        cls.addClassCleanup(cls.shared.close)

    def begin(self, name, engine):
        """The server, and a client of it that is there before anything fails."""
        server = self.shared.get(name, engine)
        self.assertEqual(server.engine, engine)
        old = server.address.socket(timeout=20)
        self.addCleanup(old.close)
        talks(old, b"before")
        return server, old

    def converse(self, server):
        """A new client's conversation. \\return whether all of it came back."""
        with server.address.socket(timeout=20) as sock:
            try:
                time.sleep(0.02)  # so that the server has to wait for what it says
                sock.sendall(DATA)
                sock.shutdown(socket.SHUT_WR)
                back = receive_all(sock)
            except TimeoutError:
                self.fail("a client is left hanging")
            except OSError:
                return False
        self.assertEqual(back, DATA[:len(back)], "other bytes than were sent")
        return len(back) == len(DATA)

    def end(self, server, injection, old):
        """All is well again, and the fault did strike."""
        self.assertGreater(injection.count, 0, "no call was made to fail")
        self.assertTrue(server.alive(), server.describe())
        if old:
            talks(old, DATA)
            old.close()
        serves(server.address)
        before = self.shared.descriptors[server.pid]
        self.eventually(lambda: server.fds() == before, 10,
                        lambda: f"{server.fds()} descriptors, {before} before")

    def loses_nothing(self, name, engine, call, error, when):
        server, old = self.begin(name, engine)
        with Injection(server, call, error, when) as injection:
            for _ in range(CLIENTS):
                self.assertTrue(self.converse(server), "a client did not get all its bytes back")
            talks(old, DATA)
        self.end(server, injection, old)

    def loses_its_own(self, name, engine, call, error, when):
        """No more clients are cut off than calls failed; the old one is not concerned."""
        server, old = self.begin(name, engine)
        with Injection(server, call, error, when) as injection:
            whole = sum(self.converse(server) for _ in range(CLIENTS))
        self.assertGreaterEqual(whole, CLIENTS - injection.count)
        self.end(server, injection, old)

    def splices_or_copies(self, name, engine, call, error, when):
        """A bulk transfer comes through whole."""
        server, old = self.begin(name, engine)
        with Injection(server, call, error, when) as injection:
            for _ in range(20):  # now and then all of it is on its way and nothing has to wait
                with server.address.socket(timeout=20) as sock:
                    self.assertTrue(self.exchange(sock, BULK) == BULK, "other bytes than were sent")
                if injection.struck():
                    break
        self.end(server, injection, old)

    def exchange(self, sock, data):
        """Sends all and reads all, but nothing until no more can be sent: as a bulk flow counts
        what waits for a destination that is slow."""
        view = memoryview(data)
        sock.setblocking(False)
        back = bytearray()
        sent = 0
        readers = []
        while len(back) < len(data):
            unsent = [sock] if sent < len(data) else []
            readable, writable, _ = select.select(readers, unsent, [], 20 if readers else 0.1)
            if not readable and not writable:
                self.assertFalse(readers, f"silence after {len(back)} bytes")
                readers = [sock]
            if writable:
                sent += sock.send(view[sent:sent + 262_144])
                if sent == len(data):
                    readers = [sock]
            if readable:
                part = sock.recv(262_144)
                if not part:
                    break
                back += part
        return bytes(back)

    def ends_the_server(self, name, engine, call, error):
        server = self.shared.get(name, engine)
        clients = [server.address.socket() for _ in range(CLIENTS)]
        for sock in clients:
            self.addCleanup(sock.close)
            talks(sock, b"before")
        with Injection(server, call, error, "1+") as injection:
            clients[0].sendall(b"wake up")
            self.assertEqual(server.wait(10), EX_CONFIG, server.describe())
        self.assertGreater(injection.count, 0)
        self.assertRegex(server.stderr, rf"{name}: enter of {engine}: ")
        for sock in clients:
            self.assertTrue(ends_within(sock, 5), "a client is left hanging")


PROGRAMS = ("pelton-echo", "pelton-proxy")
ENTERS = [("io_uring", "io_uring_enter", error, when)
          for error in ("EINTR", "EBUSY", "EAGAIN", "ENOMEM") for when in ("1", "1..4", "1..5+2")]
WAITS = [("epoll", "epoll_wait,epoll_pwait2", error, when)
         for error in ("EINTR", "EAGAIN", "ENOMEM", "EBUSY") for when in ("1..4", "1..5+2")]
ACCEPTS = [("epoll", "accept4", error, "1") for error in (
    "EINTR", "ECONNABORTED", "EPROTO", "EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EPERM")]
TRANSFERS = [("epoll", call, "EINTR", when)
             for call in ("recvfrom,recvmsg", "sendto,sendmsg") for when in ("1", "1..5+2")]
OPTIONS = [("either", "setsockopt", error, when)
           for error in ("EPERM", "ENOMEM") for when in ("1", "1..5+2")]
LOST = [("epoll", call, error, when) for call, error, when in (
    ("recvfrom,recvmsg", "ECONNRESET", "1"), ("recvfrom,recvmsg", "ETIMEDOUT", "1"),
    ("recvfrom,recvmsg", "EIO", "2"), ("sendto,sendmsg", "ECONNRESET", "1"),
    ("sendto,sendmsg", "EPIPE", "1"), ("sendto,sendmsg", "EHOSTUNREACH", "2"),
    ("epoll_ctl", "EPERM", "1"), ("epoll_ctl", "ENOMEM", "1"), ("epoll_ctl", "ENOSPC", "1"))]
NO_UPSTREAM = [("either", "socket", error, when)
               for error in ("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EPERM")
               for when in (("1", "2") if error == "EMFILE" else "1")]
SPLICES = [("either", call, error, when) for call, error, when in (
    ("splice", "EINTR", "1..5+2"), ("splice", "EAGAIN", "2..8+3"), ("splice", "ENOMEM", "1"),
    ("splice", "EINVAL", "1"), ("pipe2", "EMFILE", "1+"), ("pipe2", "ENFILE", "1+"))]


def rows(names, table):
    """A row for each program, and for each engine where it is about either."""
    for name in names:
        for engines, call, error, when in table:
            for engine in ENGINES if engines == "either" else [engines]:
                what = f"{call.partition(',')[0]} {error}, {WHICH.get(when, when)}"
                yield Fault("serving", what, name, engine), name, engine, call, error, when


add_cases(Calls, Calls.loses_nothing, rows(PROGRAMS, ENTERS + WAITS + TRANSFERS))
add_cases(Calls, Calls.loses_nothing, rows(["pelton-echo"], ACCEPTS))
add_cases(Calls, Calls.loses_nothing, rows(["pelton-proxy"], ACCEPTS[4:6]))
add_cases(Calls, Calls.loses_nothing, rows(["pelton-proxy"], OPTIONS))
add_cases(Calls, Calls.loses_its_own, rows(["pelton-echo"], LOST))
add_cases(Calls, Calls.loses_its_own, rows(["pelton-proxy"], NO_UPSTREAM))
add_cases(Calls, Calls.splices_or_copies, rows(["pelton-proxy"], SPLICES))
add_cases(Calls, Calls.ends_the_server, [
    (Fault("serving", f"{call.partition(',')[0]} {error}, for ever", name, engine),
     name, engine, call, error)
    for name in PROGRAMS for error in ("EPERM", "ENOSYS")
    for engine, call in (("io_uring", "io_uring_enter"), ("epoll", "epoll_wait,epoll_pwait2"))])


if __name__ == "__main__":
    unittest.main()
