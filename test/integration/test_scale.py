"""Many connections, few buffers, slow readers: pelton-echo where resources are short.

Memory and CPU are the server's own, from /proc. Neighbours: load_crowds.py has more of them at
once; harness.py, clients.py.
"""

import asyncio
import random
import select
import socket
import time
import unittest

from clients import digest_all, echo_rounds, receive, talks
from harness import MIB, QUICK, Case, raise_nofile, sanitized

PAIRS = 2_000
PAIR_BYTES = 1536  # of user memory, at most, per proxied pair


class ProxiedPairs(Case):
    """2,000 connections through pelton-proxy, idle after one message."""

    def test_idle_pairs_are_small(self):
        raise_nofile(PAIRS + 300)
        echo = self.echo(nofile=PAIRS + 300)
        proxy = self.proxy(echo.address, nofile=2 * PAIRS + 300)
        asyncio.run(echo_rounds(proxy.address, 64, 20, 60_000))
        time.sleep(0.3)
        before = proxy.rss()
        for index in range(PAIRS):
            sock = proxy.address.socket(timeout=30)
            self.addCleanup(sock.close)
            talks(sock, b"%64d" % index)
        pair = (proxy.rss() - before) / PAIRS
        self.note(f"{pair:.0f} bytes of user memory per idle pair (at most {PAIR_BYTES})")
        proxy.stop()
        echo.stop()
        if not sanitized():  # whose shadow memory is no connection's
            self.assertLessEqual(pair, PAIR_BYTES)


class FewBuffers(Case):
    """A group of 4 buffers for 200 connections."""

    SIZE = 4096

    def four(self, *options):
        return self.echo("--threads", "1", "--buffers", "4", "--buffer-size", str(self.SIZE),
                         *options)

    def test_messages_in_turns_are_few_submissions(self):
        server = self.four()
        rounds = 20 if QUICK else 50
        asyncio.run(echo_rounds(server.address, 200, rounds, lambda rng: rng.randint(1, 1000)))
        self.assert_idle(server, 1, 0.02, "after the messages")
        figures = server.stop()
        messages = 200 * rounds
        self.note(f"{messages} messages: recv_submitted={figures['recv_submitted']}"
                  f" send_submitted={figures['send_submitted']} enobufs={figures['enobufs']}")
        self.assertLessEqual(figures["recv_submitted"], 4 * messages + 2000)
        self.assertLessEqual(figures["send_submitted"], 4 * messages + 2000)

    def test_bulk_from_200_connections(self):
        server = self.four()
        size, rounds = 50_000, 4
        total = asyncio.run(echo_rounds(server.address, 200, rounds, size))
        figures = server.stop()
        self.note(f"{total} bytes: recv_submitted={figures['recv_submitted']}"
                  f" enobufs={figures['enobufs']}")
        least = 200 * rounds + total // 512  # a buffer may be far from full
        self.assertLessEqual(figures["recv_submitted"], 4 * least + 2000)
        self.assertEqual(figures["accepted"], 200)

    def test_200_idle_connections_use_no_cpu(self):
        server = self.four()
        clients = [server.address.socket() for _ in range(200)]
        for index, sock in enumerate(clients):
            self.addCleanup(sock.close)
            talks(sock, b"%d" % index)
        self.assert_idle(server, 2, 0.01, "200 idle connections on 4 buffers")
        for sock in clients:
            sock.close()
        server.stop()


class SlowReaders(Case):
    """Clients that send and do not read what comes back."""

    CEILING = 16 * MIB

    def flood(self, server, most=64 * MIB):
        """A client that has sent until the server took no more for half a second, and how much."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.addCleanup(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.settimeout(10)
        sock.connect(server.address.name)
        sock.setblocking(False)
        noise = random.Random(7).randbytes(MIB)
        sent = 0
        while sent < most:
            try:
                at = sent % MIB
                sent += sock.send(noise[at:at + 65536])
            except BlockingIOError:
                if not select.select([], [sock], [], 0.5)[1]:
                    break
        self.assertLess(sent, most, "the server took everything: no back-pressure")
        return sock, sent

    def expect(self, sock, sent):
        """Reads what the flood sent, in order; then the connection still echoes."""
        noise = random.Random(7).randbytes(MIB)
        sock.settimeout(20)
        at = 0
        while at < sent:
            size = min(65536, sent - at)
            part = receive(sock, size)
            start = at % MIB
            expected = (noise + noise)[start:start + size] if size > MIB - start \
                else noise[start:start + size]
            self.assertEqual(part, expected, f"other bytes than were sent near {at}")
            at += size
        talks(sock, b"and on it goes")
        sock.shutdown(socket.SHUT_WR)
        self.assertEqual(digest_all(sock)[1], 0)

    def check(self, floods, *options):
        server = self.echo("--threads", "1", *options)
        asyncio.run(echo_rounds(server.address, 50, 5, 20_000))
        before = server.rss()
        held = [self.flood(server) for _ in range(floods)]
        grown = server.rss() - before
        started = time.monotonic()
        asyncio.run(echo_rounds(server.address, 50, 20, 1000, seconds=20))
        seconds = time.monotonic() - started
        self.assert_idle(server, 1, 0.02, "while floods wait to be read")
        self.note(f"{floods} sent {sum(sent for _, sent in held) // 1024} KiB and did not read:"
                  f" RSS {grown // 1024:+} KiB; 50 others took {seconds:.2f} s for 1000 echoes")
        if not sanitized():  # whose allocator keeps what was freed
            self.assertLess(grown, self.CEILING)
        for sock, sent in held:
            self.expect(sock, sent)
            sock.close()
        server.stop()

    def test_one_client_that_does_not_read(self):
        self.check(1)

    def test_eight_clients_that_do_not_read(self):
        self.check(8)

    def test_eight_clients_that_do_not_read_and_four_buffers(self):
        self.check(8, "--buffers", "4")

    def test_a_client_of_the_proxy_that_does_not_read(self):
        echo = self.echo()
        proxy = self.proxy(echo.address)
        asyncio.run(echo_rounds(proxy.address, 50, 5, 20_000))
        before = proxy.rss()
        # The kernel's own queues, of three connections that have to carry it on, take 32 MiB each.
        sock, sent = self.flood(proxy, 192 * MIB)
        grown = proxy.rss() - before
        asyncio.run(echo_rounds(proxy.address, 50, 20, 1000, seconds=20))
        self.note(f"{sent // 1024} KiB sent and not read: RSS of the proxy {grown // 1024:+} KiB")
        self.assertLess(grown, self.CEILING)
        self.expect(sock, sent)
        sock.close()
        proxy.stop()
        echo.stop()


if __name__ == "__main__":
    unittest.main()
