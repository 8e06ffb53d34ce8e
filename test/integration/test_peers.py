"""The servers that pelton is compared with: whoever is measured must be correct first.

Every peer that `scripts/peers.sh --list` names gets the same treatment: echoes compared by
SHA-256, half-closes, many connections, lines that cross the borders of reads, unix sockets and
SIGTERM; the proxies in front of an echo. A peer that is not built is skipped with the reason, but
for the C peers and pelton_lines, which every build has.
"""

import asyncio
import functools
import json
import pathlib
import random
import re
import socket
import subprocess
import sys
import time
import unittest

from clients import (Upstream, echo_rounds, open_stream, pump, receive, receive_all, reset, serves,
                     talks)
from harness import MIB, ROOT, Address, Case, Process, bin_dir

ALWAYS_BUILT = ("uring_echo", "epoll_echo", "pelton_lines")
BUILT_BY_CMAKE = "build/release/bin/"
LINE_BYTES = 100
LIST_SECONDS = 60


@functools.cache
def peers():
    """What the script lists, by name."""
    done = subprocess.run([ROOT / "scripts" / "peers.sh", "--list"], capture_output=True,
                          text=True, timeout=LIST_SECONDS, check=True)
    return {each["name"]: each for each in map(json.loads, done.stdout.splitlines())}


class Peer(Process):
    """A peer, serving once constructed."""

    def __init__(self, name, command):
        super().__init__(command)
        try:
            match = self.line(rf"^{re.escape(name)} listening on (\S+)(?: pid=(\d+))?$")
        except BaseException:
            self.close()
            raise
        self.address = Address(match[1])
        self.worker = int(match[2]) if match[2] else self.pid

    def stop(self):
        """Ends it by SIGTERM; the exit status must be 0."""
        if not self.alive():
            raise AssertionError(f"it ended before it was told to: {self.describe()}")
        self.child.terminate()
        status = self.wait()
        if status != 0:
            raise AssertionError(f"exit status {status}, expected 0: {self.describe()}")


def here(word):
    """A word of a listed command as it is here: programs of this build, files of this tree."""
    if word.startswith(BUILT_BY_CMAKE):
        return str(bin_dir() / word.removeprefix(BUILT_BY_CMAKE))
    if "/" in word and (ROOT / word).exists():
        return str(ROOT / word)
    return word


def why_missing(name, listed):
    """Why a peer cannot be tested, or None."""
    program = listed["command"][0]
    if not program.startswith(BUILT_BY_CMAKE):
        return listed["why_missing"]
    if pathlib.Path(here(program)).exists():
        return None
    if not any((bin_dir() / each).exists() for each in ALWAYS_BUILT):
        return "this build has no perf/"
    if name in ALWAYS_BUILT:
        raise AssertionError(f"{here(program)} is not built, and every build of perf/ has it")
    return listed["why_missing"] or "not in this build"


class PeerCase(Case):
    """Starts peers by name, and talks to them."""

    def command(self, name, unix=False, **values):
        """The command line of a peer; skips the test where there is none."""
        listed = peers().get(name)
        if listed is None:
            raise AssertionError(f"scripts/peers.sh --list does not name {name}")
        why = why_missing(name, listed)
        if why:
            self.skipTest(f"{name}: {why}")
        words = [here(word) for word in listed["unix_command" if unix else "command"]]
        for key, value in values.items():
            words = [word.replace(f"{{{key}}}", str(value)) for word in words]
        return words

    def exchange(self, address, *pieces):
        """Sends the pieces and ends the sending side; what comes back until the stream ends."""
        async def run():
            reader, writer = await open_stream(address)

            async def send():
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                writer.write_eof()

            async with asyncio.timeout(30):
                _, back = await asyncio.gather(send(), reader.read())
            writer.close()
            return back
        return asyncio.run(run())

    def start(self, name, mode="echo", path=None, upstream=None):
        """A peer that serves."""
        made = Peer(name, self.command(name, path is not None, mode=mode, path=path,
                                       upstream=upstream))
        self.addCleanup(made.close)
        return made


class EchoOfPeers:
    """What every echo server must do; the classes below say which server. Not run by itself."""

    def test_random_sizes_up_to_1_mib_and_half_close(self):
        server = self.start(self.NAME)
        chunks = asyncio.run(pump(server.address, 8 * MIB, seed=21))
        self.note(f"8 MiB in {chunks} chunks")
        # In one go: what is on its way when the client ends its side must come back too.
        data = random.Random(22).randbytes(MIB)
        self.assertTrue(self.exchange(server.address, data) == data, "the echo differs")
        server.stop()

    def test_100_connections_at_once(self):
        server = self.start(self.NAME)
        total = asyncio.run(echo_rounds(server.address, 100, 10, lambda rng: rng.randint(1, 9000)))
        self.assertGreater(total, 100 * 10)
        server.stop()

    def test_survives_resets(self):
        server = self.start(self.NAME)
        for _ in range(20):
            sock = server.address.socket()
            sock.sendall(b"x" * 100_000)
            reset(sock)
        serves(server.address)
        server.stop()

    def test_ends_0_with_a_connection_open(self):
        server = self.start(self.NAME)
        with server.address.socket() as sock:
            talks(sock, b"hello")
            server.stop()

    def test_unix_socket_that_an_earlier_process_left(self):
        path = f"{self.directory()}/peer.sock"
        first = self.start(self.NAME, path=path)
        self.assertEqual(str(first.address), f"unix:{path}")
        serves(first.address)
        first.kill()
        self.assertTrue(pathlib.Path(path).is_socket(), "the killed server cannot have removed it")
        second = self.start(self.NAME, path=path)
        asyncio.run(pump(second.address, 2 * MIB, seed=23))
        second.stop()

    def test_the_bad_command_line_is_refused(self):
        command = self.command(self.NAME, mode="nonsense")
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("nonsense", done.stderr)


class LinesOfPeers:
    """What every server of lines must do. Not run by itself."""

    def test_pipelined_lines_of_100_bytes(self):
        server = self.start(self.NAME, "lines")
        rng = random.Random(31)
        lines = [bytes(rng.choices(range(32, 127), k=LINE_BYTES - 1)) + b"\n"
                 for _ in range(20_000)]
        started = time.monotonic()
        self.assertTrue(self.exchange(server.address, b"".join(lines)) == b"".join(lines))
        self.note(f"20,000 lines in {time.monotonic() - started:.2f} s")
        server.stop()

    def test_lines_that_cross_the_borders_of_reads(self):
        server = self.start(self.NAME, "lines")
        rng = random.Random(32)
        data = b"".join(b"a" * rng.choice([0, 1, 99, 4095, 4096, 8191, 30_000]) + b"\n"
                        for _ in range(300)) + b"the last one has no end"
        pieces, at = [], 0
        while at < len(data):
            size = rng.choice([1, 7, 100, 4096, 5000, 70_000])
            pieces.append(data[at:at + size])
            at += size
        self.assertTrue(self.exchange(server.address, *pieces) == data)
        server.stop()

    def test_a_half_line_keeps_back_no_reply(self):
        server = self.start(self.NAME, "lines")
        with server.address.socket() as sock:
            sock.sendall(b"one\ntwo\nthr")
            self.assertEqual(receive(sock, 8), b"one\ntwo\n")
            sock.sendall(b"ee\n")
            self.assertEqual(receive(sock, 6), b"three\n")
        server.stop()

    def test_lines_over_100_connections(self):
        server = self.start(self.NAME, "lines")
        asyncio.run(self.everybody(server.address))
        server.stop()

    async def everybody(self, address):
        """100 clients, each with 8 lines in flight, 10 times."""
        async def one(index):
            reader, writer = await open_stream(address)
            block = b"".join(b"%d-%d\n" % (index, number) for number in range(8))
            for _ in range(10):
                writer.write(block)
                self.assertEqual(await reader.readexactly(len(block)), block)
            writer.close()

        async with asyncio.timeout(30):
            await asyncio.gather(*(one(index) for index in range(100)))

    def test_lines_over_a_unix_socket(self):
        server = self.start(self.NAME, "lines", path=f"{self.directory()}/lines.sock")
        with server.address.socket() as sock:
            talks(sock, b"over here\n")
        server.stop()


class ProxyOfPeers:
    """What every proxy must do. Not run by itself."""

    def echo_upstream(self):
        """An echo in Python, which answers the end of the stream with one."""
        def handle(sock, _):
            while data := sock.recv(65536):
                sock.sendall(data)
        return Upstream(self, handle)

    def test_carries_bytes_and_half_closes(self):
        proxy = self.start(self.NAME, upstream=self.echo_upstream())
        asyncio.run(pump(proxy.address, 8 * MIB, seed=41))
        serves(proxy.address)
        with proxy.address.socket() as sock:
            talks(sock, b"hello")
            proxy.stop()

    def test_the_reply_that_comes_after_the_client_ended_its_side(self):
        def handle(sock, _):
            asked = receive_all(sock)
            time.sleep(0.3)
            sock.sendall(asked[::-1])
        proxy = self.start(self.NAME, upstream=Upstream(self, handle))
        with proxy.address.socket() as sock:
            sock.sendall(b"stressed")
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(receive_all(sock), b"desserts")
        proxy.stop()

    def test_100_connections_at_once(self):
        proxy = self.start(self.NAME, upstream=self.echo_upstream())
        asyncio.run(echo_rounds(proxy.address, 100, 10, lambda rng: rng.randint(1, 9000)))
        proxy.stop()

    def test_names_the_one_process_that_works(self):
        proxy = self.start(self.NAME, upstream=self.echo_upstream())
        name = pathlib.Path(f"/proc/{proxy.worker}/comm").read_text(encoding="utf-8").strip()
        self.assertEqual(name, self.NAME.partition("_")[0])
        self.assertEqual(len(list(pathlib.Path(f"/proc/{proxy.worker}/task").iterdir())), 1)
        before = cpu_of(proxy.worker)
        asyncio.run(echo_rounds(proxy.address, 10, 100, 1000))
        self.assertGreater(cpu_of(proxy.worker), before)
        proxy.stop()
        self.assertFalse(pathlib.Path(f"/proc/{proxy.worker}").exists(), "the proxy lives on")


def cpu_of(pid):
    """Nanoseconds of CPU of a process of one thread."""
    text = pathlib.Path(f"/proc/{pid}/schedstat").read_text(encoding="utf-8")
    return int(text.split()[0])


def make_cases():
    """A test case for each mode of each peer, named after both."""
    parts = {"echo": EchoOfPeers, "lines": LinesOfPeers}
    for name, listed in peers().items():
        modes = listed["modes"] if listed["kind"] == "echo" else ["proxy"]
        for mode in modes:
            title = "".join(word.capitalize() for word in [*name.split("_"), mode])
            made = type(f"Peer{title}", (parts.get(mode, ProxyOfPeers), PeerCase), {"NAME": name})
            made.__module__ = __name__
            yield made


for case in make_cases():
    setattr(sys.modules[__name__], case.__name__, case)
del case

if __name__ == "__main__":
    unittest.main()
