"""Faults: no more descriptors, resets before, during and after writes, an upstream killed.

After each the server goes on serving, and its exit line shows that nothing was left behind.
Last, strace as faults.py uses it. Neighbours: harness.py, clients.py, faults.py.
"""

import random
import select
import signal
import socket
import subprocess
import threading
import time
import unittest

from clients import (Upstream, digest_all, ends_within, receive, receive_all, reset, serves, talks)
from faults import Injection
from harness import HOST, MIB, Case, Server, unused_port

MESSAGE = b"m" * 1000


def answered(sockets, seconds):
    """Those of the sockets that become readable within the time."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    waiting = {sock.fileno(): sock for sock in sockets}
    for number in waiting:
        poll.register(number, select.POLLIN)
    ready = []
    while waiting and (left := deadline - time.monotonic()) > 0:
        for number, _ in poll.poll(left * 1000):
            poll.unregister(number)
            ready.append(waiting.pop(number))
    return ready


class OutOfDescriptors(Case):
    """accept(2) fails with EMFILE."""

    CLIENTS = 100
    NOFILE = 64

    def connect(self, server):
        """All the clients, each with a message sent; the kernel queues whom nobody accepts."""
        made = []
        for index in range(self.CLIENTS):
            sock = server.address.socket(timeout=10)
            self.addCleanup(sock.close)
            sock.sendall(b"hello %03d" % index)
            made.append(sock)
        return made

    def test_accepting_resumes_by_itself(self):
        server = self.echo("--threads", "1", nofile=self.NOFILE)
        clients = self.connect(server)
        served = answered(clients, 2)
        self.note(f"{len(served)} of {self.CLIENTS} served with {self.NOFILE} descriptors")
        self.assertGreaterEqual(len(served), 20)
        self.assertLess(len(served), self.NOFILE)
        for sock in served:
            receive(sock, 9)
        used = self.assert_idle(server, 1, 0.05, "out of descriptors")
        self.note(f"{used * 1e3:.2f} ms of CPU in that second")
        for sock in served:
            talks(sock, MESSAGE)
        waiting = [sock for sock in clients if sock not in served]
        while waiting:
            for sock in served:
                sock.close()
            served = answered(waiting, 6)
            self.assertTrue(served, f"{len(waiting)} clients are never accepted")
            for sock in served:
                receive(sock, 9)
                talks(sock, MESSAGE)
            waiting = [sock for sock in waiting if sock not in served]
        for sock in clients:
            sock.close()
        figures = server.stop()
        self.assertEqual(figures["accepted"], self.CLIENTS)


class Resets(Case):
    """The client's RST before, during and after what the server writes."""

    ROUNDS = 40

    def before(self, address):
        reset(address.socket())

    def during(self, address):
        sock = address.socket()
        sock.setblocking(False)
        try:
            for _ in range(64):
                sock.send(bytes(65536))
        except BlockingIOError:
            pass
        reset(sock)

    def after(self, address):
        sock = address.socket()
        talks(sock, MESSAGE)
        reset(sock)

    def half_closed(self, address):
        sock = address.socket()
        sock.sendall(MESSAGE)
        sock.shutdown(socket.SHUT_WR)
        reset(sock)

    def storm(self, server):
        """All kinds of reset, mixed, while one client talks on undisturbed."""
        witness = server.address.socket()
        self.addCleanup(witness.close)
        kinds = [self.before, self.during, self.after, self.half_closed] * self.ROUNDS
        random.Random(1).shuffle(kinds)
        for index, kind in enumerate(kinds):
            kind(server.address)
            if index % 10 == 0:
                talks(witness, b"%d" % index)
        witness.close()
        serves(server.address)
        self.assertTrue(server.alive(), server.describe())
        self.assert_idle(server, 1, 0.05, "after the resets")
        return len(kinds)

    def test_resets_by_clients_of_echo(self):
        server = self.echo()
        self.storm(server)
        server.stop()

    def test_resets_by_clients_of_proxy(self):
        echo = self.echo()
        proxy = self.proxy(echo.address)
        self.storm(proxy)
        proxy.stop()
        echo.stop()

    def test_resets_with_four_buffers(self):
        server = self.echo("--threads", "1", "--buffers", "4")
        self.storm(server)
        server.stop()

    def test_resets_by_the_upstream_of_proxy(self):
        def handle(sock, index):
            if index % 3 == 1:
                sock.sendall(b"a greeting")
                receive(sock, 10)
            elif index % 3 == 2:
                sock.setblocking(False)
                try:
                    while sock.send(bytes(65536)):
                        pass
                except BlockingIOError:
                    pass
            reset(sock)

        upstream = Upstream(self, handle)
        proxy = self.proxy(upstream)
        for _ in range(3 * self.ROUNDS):
            with proxy.address.socket() as sock:
                try:
                    sock.sendall(MESSAGE)
                except OSError:
                    pass
                self.assertTrue(ends_within(sock, 10), "the client is left hanging")
        proxy.stop()


class HalfClose(Case):
    """shutdown(SHUT_WR) by either side leaves the other direction open."""

    def test_echo_returns_all_after_the_end_of_input(self):
        server = self.echo()
        data = random.Random(2).randbytes(8 * MIB)
        with server.address.socket() as sock:
            sender = threading.Thread(
                target=lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR)), daemon=True)
            sender.start()
            self.assertEqual(receive_all(sock), data)
            sender.join(10)
        for _ in range(50):
            serves(server.address)
        with server.address.socket() as sock:
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(sock), b"")
        server.stop()

    def test_client_of_proxy_ends_first(self):
        answer = random.Random(3).randbytes(4 * MIB)

        def handle(sock, _):
            asked = receive_all(sock)
            sock.sendall(asked + answer)

        upstream = Upstream(self, handle)
        proxy = self.proxy(upstream)
        for _ in range(5):
            with proxy.address.socket() as sock:
                sock.sendall(MESSAGE)
                sock.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_all(sock), MESSAGE + answer)
        self.assertEqual(upstream.errors, [])
        proxy.stop()

    def test_upstream_of_proxy_ends_first(self):
        data = random.Random(4).randbytes(4 * MIB)
        received = []

        def handle(sock, _):
            sock.sendall(b"tell me all")
            sock.shutdown(socket.SHUT_WR)
            received.append(receive_all(sock))

        upstream = Upstream(self, handle)
        proxy = self.proxy(upstream)
        with proxy.address.socket() as sock:
            self.assertEqual(receive_all(sock), b"tell me all")
            time.sleep(0.2)
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            upstream.join()
        self.assertEqual(upstream.errors, [])
        self.assertEqual([len(each) for each in received], [len(data)])
        self.assertEqual(received[0], data)
        proxy.stop()


class UpstreamKilled(Case):
    """kill -9 of the upstream in the middle of a transfer, and its return."""

    def transfers(self, proxy, count):
        """Clients that send and read without end, and how much each has got."""
        got = [0] * count
        sockets = [proxy.address.socket() for _ in range(count)]
        threads = []

        def send(sock):
            try:
                while True:
                    sock.sendall(bytes(65536))
            except OSError:
                pass

        def read(sock, index):
            try:
                while size := len(sock.recv(65536)):
                    got[index] += size
            except TimeoutError:
                got[index] = -1  # left hanging
            except OSError:
                pass

        for index, sock in enumerate(sockets):
            self.addCleanup(sock.close)
            threads.append(threading.Thread(target=send, args=(sock,), daemon=True))
            threads.append(threading.Thread(target=read, args=(sock, index), daemon=True))
        for each in threads:
            each.start()
        return got, threads

    def test_kill_9_mid_transfer(self):
        port = unused_port()
        echo = self.echo(listen=f"{HOST}:{port}")
        proxy = self.proxy(echo.address)
        got, threads = self.transfers(proxy, 8)
        deadline = time.monotonic() + 20
        while min(got) < MIB and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertGreaterEqual(min(got), MIB, "the transfers do not get going")
        echo.signal(signal.SIGKILL)
        echo.wait(10)
        for each in threads:
            each.join(12)
        self.assertNotIn(-1, got, "a client is left hanging after the upstream died")
        self.assertFalse([each for each in threads if each.is_alive()])
        with proxy.address.socket() as sock:
            self.assertTrue(ends_within(sock, 10), "no upstream, and the client is not told")
        self.assertTrue(proxy.alive(), proxy.describe())
        self.assert_idle(proxy, 1, 0.02, "without an upstream")
        again = self.restart(port)
        serves(proxy.address)
        with proxy.address.socket() as sock:
            sock.sendall(bytes(MIB))
            self.assertEqual(digest_all(sock, MIB)[1], MIB)
        proxy.stop()
        again.stop()

    def restart(self, port):
        """Another echo on the port of the one that was killed."""
        for _ in range(20):
            try:
                return self.echo(listen=f"{HOST}:{port}")
            except AssertionError:
                time.sleep(0.5)
        return Server("pelton-echo", [f"{HOST}:{port}"])


class Strace(Case):
    """faults.Injection, which the suite `faults` makes calls fail by."""

    def test_a_process_that_its_first_fault_ends(self):
        class Unseen(Injection):
            """The process has ended before it was seen to be traced."""

            def attached(self):
                return False

        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, bufsize=0) as cat:
            cat.stdin.write(b"x")
            self.assertEqual(cat.stdout.read(1), b"x")  # it has started
            with Unseen(cat, "read", "EIO", "1") as injection:
                self.assertEqual(cat.wait(10), 1)
        self.assertEqual(injection.count, 1)


if __name__ == "__main__":
    unittest.main()
