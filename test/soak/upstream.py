"""The upstream that the soak kills, stops and starts again: redis where it is installed, else
another pelton-echo.

Neighbours: load.py does it; soak.py makes it.
"""

import asyncio
import shutil
import signal
import zlib

from clients import open_stream
from harness import HOST, Address, Process, Server, unused_port

START_S = 20
SETTLE_S = 1.0  # after it is back: what was cut off may be noticed this much later


class Wrong(Exception):
    """A server answered with other bytes than it should have."""


class Upstream:
    """A server on one port, whatever becomes of its processes."""

    def __init__(self, engine):
        self.engine = engine
        self.redis = shutil.which("redis-server")
        self.address = Address(f"{HOST}:{unused_port()}")
        self.outages = 0
        self.back_at = 0.0
        self.down = False
        self.lock = asyncio.Lock()
        self.process = self.start()

    @property
    def name(self):
        return "redis" if self.redis else "pelton-echo"

    def start(self):
        if not self.redis:
            return Server("pelton-echo", [str(self.address)], "--engine", self.engine)
        return Process([self.redis, "--port", str(self.address.port), "--bind", HOST, "--save", "",
                        "--appendonly", "no"])

    async def ready(self):
        """Waits until it answers."""
        deadline = asyncio.get_running_loop().time() + START_S
        while True:
            try:
                _, writer = await open_stream(self.address)
                writer.close()
                return
            except OSError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.02)

    def was_down(self, outages):
        """Whether it has been down at some time since there had been `outages` of them."""
        now = asyncio.get_running_loop().time()
        return self.down or self.outages > outages or now < self.back_at + SETTLE_S

    async def pause(self, seconds):
        """SIGSTOP, and SIGCONT after this time. \\return whether it could be done."""
        if self.lock.locked():
            return False
        async with self.lock:
            try:
                self.process.signal(signal.SIGSTOP)
                await asyncio.sleep(seconds)
            finally:
                self.process.signal(signal.SIGCONT)
        return True

    async def kill(self, seconds):
        """kill -9, and another one on the same port after this time."""
        async with self.lock:
            self.down = True
            self.outages += 1
            self.process.close()
            await asyncio.sleep(seconds)
            self.process = self.start()
            await self.ready()
            self.back_at = asyncio.get_running_loop().time()
            self.down = False

    async def exchange(self, reader, writer, key, data):
        """Stores and reads a value, or has it echoed, and compares."""
        if not self.redis:
            writer.write(data)
            await self.compare(reader, len(data), zlib.crc32(data))
            return
        writer.write(b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(key), key, len(data)))
        writer.write(data)
        writer.write(b"\r\n*1\r\n$4\r\nPING\r\n")
        await self.expect(reader, b"+OK\r\n+PONG\r\n")
        # A key of its own for each would grow: that another client has set it since is no error.
        writer.write(b"*2\r\n$4\r\nECHO\r\n$%d\r\n%b\r\n" % (len(data), data))
        await self.expect(reader, b"$%d\r\n" % len(data))
        await self.compare(reader, len(data), zlib.crc32(data))
        await self.expect(reader, b"\r\n")

    async def expect(self, reader, text):
        got = await reader.readexactly(len(text))
        if got != text:
            raise Wrong(f"{text!r} was expected, {got!r} came")

    async def compare(self, reader, size, crc):
        data = await reader.readexactly(size)
        if zlib.crc32(data) != crc:
            raise Wrong(f"{size} bytes came back with CRC {zlib.crc32(data):08x}, not {crc:08x}")

    def close(self):
        self.process.close()
