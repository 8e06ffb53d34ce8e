"""Start, idle time, signals, drain and exit of pelton-echo and pelton-proxy.

Neighbours: test_refusal.py for starts that must fail, harness.py, clients.py.
"""

import asyncio
import os
import pathlib
import contextlib
import re
import signal
import socket
import threading
import time
import unittest

from clients import ends_within, pump, receive, serves, talks
from harness import HOST, MIB, Case, sanitized

IDLE_SECONDS = 2
IDLE_CPU = 0.005


@unittest.skipIf(sanitized(), "no figures are to be expected")
class Idle(Case):
    """A server with nothing to do uses no CPU."""

    def test_before_any_client(self):
        server = self.echo()
        time.sleep(0.3)
        used = self.assert_idle(server, IDLE_SECONDS, IDLE_CPU, "no client yet")
        self.note(f"{used * 1e6:.0f} us of CPU in {IDLE_SECONDS} s, engine={server.engine}")
        server.stop()

    def test_with_idle_clients_after_traffic(self):
        server = self.echo("--threads", "2")
        clients = [server.address.socket() for _ in range(50)]
        for sock in clients:
            self.addCleanup(sock.close)
        for _ in range(20):
            for sock in clients:
                talks(sock, b"some traffic first")
        time.sleep(0.3)
        used = self.assert_idle(server, IDLE_SECONDS, IDLE_CPU, "50 idle clients")
        self.note(f"{used * 1e6:.0f} us of CPU in {IDLE_SECONDS} s")
        for sock in clients:
            sock.close()
        time.sleep(0.3)
        self.assert_idle(server, IDLE_SECONDS, IDLE_CPU, "all clients gone")
        server.stop()

    def test_proxy_with_an_idle_client(self):
        echo = self.echo()
        proxy = self.proxy(echo.address)
        with proxy.address.socket() as sock:
            talks(sock, b"hello")
            time.sleep(0.3)
            self.assert_idle(proxy, IDLE_SECONDS, IDLE_CPU, "an idle client of the proxy")
        proxy.stop()
        echo.stop()

    def test_each_way_to_wait(self):
        for busy in ("auto", "off", "50"):
            with self.subTest(busy_poll=busy):
                server = self.echo("--busy-poll", busy)
                serves(server.address)
                time.sleep(0.3)
                self.assert_idle(server, 1, IDLE_CPU, f"--busy-poll {busy}")
                server.stop()


class Signals(Case):
    """SIGTERM and SIGINT: no new clients, those there finish, exit status 0."""

    def drains(self, server, number):
        """A client in the middle of a transfer when the signal comes gets all its bytes."""
        total = 16 * MIB
        sent_signal = []

        async def pause(sent):
            if sent > total // 3 and not sent_signal:
                server.signal(number)
                sent_signal.append(sent)
                await asyncio.sleep(0.3)

        asyncio.run(pump(server.address, total, seed=9, largest=100_000, pause=pause))
        self.assertTrue(sent_signal)
        self.note(f"the signal came after {sent_signal[0]} bytes; all {total} came back")
        return server.ended()

    def test_sigterm_drains_echo(self):
        self.drains(self.echo("--drain-timeout", "20"), signal.SIGTERM)

    def test_sigint_drains_echo(self):
        self.drains(self.echo("--drain-timeout", "20"), signal.SIGINT)

    def test_sigterm_drains_proxy(self):
        echo = self.echo()
        self.drains(self.proxy(echo.address, "--drain-timeout", "20"), signal.SIGTERM)
        echo.stop()

    def test_sigterm_drains_two_threads(self):
        self.drains(self.echo("--threads", "2", "--drain-timeout", "20"), signal.SIGTERM)

    def test_sigterm_drains_the_clients_of_every_thread(self):
        server = self.echo("--threads", "2", "--drain-timeout", "20")
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.address.socket()) for _ in range(16)]
            for sock in clients:
                talks(sock, b"before")
            server.signal(signal.SIGTERM)
            time.sleep(0.5)
            for sock in clients:
                talks(sock, b"after")
        server.ended()

    def test_no_new_clients_while_it_drains(self):
        server = self.echo("--drain-timeout", "10")
        with server.address.socket() as sock:
            talks(sock, b"before")
            server.signal(signal.SIGTERM)
            deadline = time.monotonic() + 3
            refused = False
            while not refused and time.monotonic() < deadline and server.alive():
                try:
                    with server.address.socket(timeout=1) as late:
                        refused = ends_within(late, 0.2)
                except OSError:
                    refused = True
                time.sleep(0.05)
            self.assertTrue(refused or not server.alive(), "it goes on accepting")
        server.ended()

    def test_the_drain_is_bounded(self):
        server = self.echo("--drain-timeout", "1")
        with server.address.socket() as sock:
            talks(sock, b"and now I say nothing")
            started = time.monotonic()
            server.signal(signal.SIGTERM)
            server.ended(timeout=8)
            seconds = time.monotonic() - started
            self.note(f"ended {seconds:.2f} s after SIGTERM, --drain-timeout 1, a silent client")
            self.assertLess(seconds, 4)
            self.assertTrue(ends_within(sock, 2))

    def test_a_client_that_does_not_read_cannot_stop_the_end(self):
        server = self.echo("--drain-timeout", "1")
        with socket.socket() as sock:
            sock.connect(server.address.name)
            sock.settimeout(0.5)
            try:
                while True:
                    sock.send(bytes(65536))
            except TimeoutError:
                pass
            server.signal(signal.SIGTERM)
            server.ended(timeout=8)

    def test_a_second_signal_does_no_harm(self):
        server = self.echo("--drain-timeout", "2")
        with server.address.socket() as sock:
            talks(sock, b"hello")
            server.signal(signal.SIGTERM)
            time.sleep(0.2)
            server.signal(signal.SIGTERM)
            status = server.wait(10)
        self.assertIn(status, (0, -signal.SIGTERM), server.describe())

    def test_idle_proxy_stops_at_once(self):
        echo = self.echo()
        proxy = self.proxy(echo.address)
        serves(proxy.address)
        started = time.monotonic()
        proxy.stop()
        self.assertLess(time.monotonic() - started, 3)
        echo.stop(signal.SIGINT)

    def test_the_figures_add_up(self):
        server = self.echo()
        for _ in range(30):
            serves(server.address)
        figures = server.stop()
        self.note(" ".join(f"{key}={value}" for key, value in figures.items()))
        self.assertEqual(figures["accepted"], 30)
        self.assertEqual(figures["closed"], 30)

    def test_restarts_on_the_same_port_at_once(self):
        server = self.echo()
        address = server.address
        with address.socket() as sock:
            talks(sock, b"hello")
            server.signal(signal.SIGTERM)
            sock.shutdown(socket.SHUT_WR)
            server.ended()
        again = self.echo(listen=str(address))
        serves(again.address)
        again.stop()


class UnixSockets(Case):
    """The file of a unix socket."""

    def stale(self):
        """The path of a socket file whose process is gone."""
        path = f"{self.directory()}/echo.sock"
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
        self.assertTrue(pathlib.Path(path).is_socket())
        return path

    def test_a_stale_file_is_replaced(self):
        path = self.stale()
        server = self.echo(listen=f"unix:{path}")
        serves(server.address)
        server.stop()

    def test_the_file_is_gone_after_the_end(self):
        path = f"{self.directory()}/echo.sock"
        server = self.echo(listen=f"unix:{path}")
        serves(server.address)
        server.stop()
        self.assertFalse(os.path.lexists(path), "the socket file is left behind")

    def test_an_abstract_address(self):
        name = f"@pelton-lifecycle-{os.getpid()}"
        server = self.echo(listen=f"unix:{name}")
        self.assertEqual(str(server.address), f"unix:{name}")
        serves(server.address)
        server.stop()
        self.assertFalse(os.path.lexists(name))

    def test_proxy_from_unix_to_an_abstract_upstream(self):
        echo = self.echo(listen=f"unix:@pelton-upstream-{os.getpid()}")
        proxy = self.proxy(echo.address, listen=f"unix:{self.stale()}")
        serves(proxy.address)
        threads = [threading.Thread(target=self.talk, args=(proxy.address,)) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(20)
        proxy.stop()
        echo.stop()

    def talk(self, address):
        with address.socket() as sock:
            for _ in range(20):
                sock.sendall(b"x" * 5000)
                receive(sock, 5000)


class Listening(Case):
    """The line that says it serves."""

    def test_the_line_names_address_and_engine(self):
        for engine, name in (("uring", "io_uring"), ("epoll", "epoll")):
            with self.subTest(engine=engine):
                server = self.echo("--engine", engine)
                self.assertRegex(server.stdout[0],
                                 rf"^pelton-echo listening on {HOST}:[1-9]\d* engine={name} ")
                features = re.findall(r"\w+=(?:yes|no)", server.stdout[0])
                self.assertIn("registered_ring_fd=" + ("no" if name == "epoll" else "yes"),
                              features)
                self.assertEqual(len(features), 8, features)
                server.stop()
                turned_down = server.stderr.count("turned down ")
                self.assertRegex(server.stderr, rf"stopped: .* {' '.join(features)} "
                                 rf"turned_down={turned_down} engine={name}\n")


if __name__ == "__main__":
    unittest.main()
