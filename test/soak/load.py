"""The mixed load of the soak: what clients do right, and what they do wrong.

Every byte that comes back is compared by CRC-32. Clients of the echo and of the proxy in front of
it may meet no error at all; clients of the proxy whose upstream is killed may, while it is down.

Neighbours: soak.py starts the servers and this; upstream.py is the one that is killed. pelton-bench
makes the volume, asyncio's streams the variety: one core is enough for both.
"""

import asyncio
import collections
import math
import random
import signal
import socket
import struct
import zlib

from clients import open_stream
from harness import MIB, program
from upstream import Wrong

PATIENCE_S = 60  # for one conversation; the machine may be busy with other things
FAILURES_KEPT = 20
SLOW_READER_BYTES = 2 * MIB
STORM = 100


def log_uniform(rng, most):
    """A size of 1 to `most`; every magnitude is as likely."""
    return max(1, int(math.exp(rng.uniform(0, math.log(most)))))


def set_to_reset(writer):
    """Closing will send a RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def read_back(reader, size, crc, piece=MIB, pause=0.0):
    """Reads `size` bytes, which must have this CRC."""
    got = 0
    seen = 0
    while got < size:
        data = await reader.read(min(piece, size - got))
        if not data:
            raise Wrong(f"the stream ended after {got} of {size} bytes")
        seen = zlib.crc32(data, seen)
        got += len(data)
        if pause:
            await asyncio.sleep(pause)
    if seen != crc:
        raise Wrong(f"{size} bytes came back with CRC {seen:08x}, {crc:08x} were sent")


async def read_end(reader):
    if await reader.read(1):
        raise Wrong("more came back than was sent")


class Load:
    """Everything that runs against the servers until `stop` is set."""

    def __init__(self, echo, proxy, redis_proxy, upstream, seed, pauses=1.0):
        self.echo = echo
        self.proxy = proxy
        self.redis_proxy = redis_proxy
        self.upstream = upstream
        self.rng = random.Random(seed)
        self.pauses = pauses
        self.noise = self.rng.randbytes(4 * MIB)
        self.stop = asyncio.Event()
        self.tally = collections.Counter()
        self.failures = []
        self.benches = set()

    def actors(self):
        """(how many at once, the longest pause between two in seconds, what, its arguments)"""
        for address in (self.echo.address, self.proxy.address):
            yield 3, 0.2, self.messages, address
            yield 1, 0.5, self.half_close, address
            yield 1, 0.1, self.reset, address
            yield 2, 1, self.slow_reader, address
            yield 1, 4, self.storm, address
        yield 1, 1, self.bench, self.echo.address, 5, "echo", "-c", "32", "-s", "256", "-r", "2000"
        yield 1, 1, self.bench, self.proxy.address, 5, "echo", "-c", "16", "-s", "1000", "-r", "800"
        yield 1, 15, self.bench, self.proxy.address, 1, "stream"
        yield 1, 20, self.stop_a_bench
        yield 3, 0.3, self.values
        yield 1, 0.5, self.reset_redis
        yield 1, 15, self.stop_upstream
        yield 1, 30, self.kill_upstream

    async def run(self):
        """Returns when `stop` has been set and every actor has ended."""
        async with asyncio.TaskGroup() as group:
            for count, pause, what, *arguments in self.actors():
                for _ in range(count):
                    group.create_task(self.repeat(pause, what, *arguments))

    async def repeat(self, pause, what, *arguments):
        while not self.stop.is_set():
            outages = self.upstream.outages
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await what(*arguments)
            except (OSError, Wrong, EOFError, TimeoutError) as error:
                self.failed(what, error, outages)
            try:
                async with asyncio.timeout(self.pauses * self.rng.uniform(0, pause)):
                    await self.stop.wait()
            except TimeoutError:
                pass

    def failed(self, what, error, outages):
        """Who talks to the upstream that is killed may fail while it is down."""
        its_own = what in (self.values, self.reset_redis)
        if its_own and not isinstance(error, Wrong) and self.upstream.was_down(outages):
            self.tally["cut off by a killed upstream"] += 1
            return
        self.tally["failures"] += 1
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append(f"{what.__name__}: {type(error).__name__}: {error}")

    def piece(self, size):
        at = self.rng.randrange(len(self.noise) - size + 1)
        return self.noise[at:at + size]

    async def messages(self, address):
        """A few messages of random sizes, each read back before the next; then the end."""
        reader, writer = await open_stream(address)
        try:
            for _ in range(self.rng.randint(1, 20)):
                data = self.piece(log_uniform(self.rng, 200_000))
                writer.write(data)
                await asyncio.gather(writer.drain(), read_back(reader, len(data), zlib.crc32(data)))
                self.tally["messages compared"] += 1
                self.tally["bytes compared"] += len(data)
            writer.write_eof()
            await read_end(reader)
        finally:
            writer.close()

    async def half_close(self, address):
        """Everything and the end at once; the answer must be whole."""
        reader, writer = await open_stream(address)
        try:
            data = self.piece(log_uniform(self.rng, MIB))
            writer.write(data)
            writer.write_eof()
            await read_back(reader, len(data), zlib.crc32(data))
            await read_end(reader)
            self.tally["half-closes"] += 1
            self.tally["bytes compared"] += len(data)
        finally:
            writer.close()

    async def reset(self, address):
        """A RST before, during or after an exchange."""
        reader, writer = await open_stream(address)
        try:
            kind = self.rng.randrange(4)
            if kind:
                writer.write(self.piece(log_uniform(self.rng, 500_000)))
            if kind == 2:
                await self.read_some(reader)
            elif kind == 3:
                await asyncio.sleep(self.rng.uniform(0, 0.02))
        finally:
            set_to_reset(writer)
            writer.transport.abort()
        self.tally["resets"] += 1

    async def read_some(self, reader):
        """What comes, if anything does: redis has no answer to noise."""
        try:
            async with asyncio.timeout(0.5):
                await reader.read(1000)
        except TimeoutError:
            pass

    async def reset_redis(self):
        await self.reset(self.redis_proxy.address)

    async def slow_reader(self, address):
        """Sends what is taken, reads nothing for a while, then all of it, slowly."""
        reader, writer = await open_stream(address, limit=65536)
        try:
            data = self.piece(SLOW_READER_BYTES)
            writer.write(data)
            await asyncio.sleep(self.rng.uniform(0.5, 2))
            await read_back(reader, len(data), zlib.crc32(data), piece=65536, pause=0.005)
            writer.write_eof()
            await read_end(reader)
            self.tally["slow readers"] += 1
            self.tally["bytes compared"] += len(data)
        finally:
            writer.close()

    async def storm(self, address):
        """Many connections at the same time, which end at once, in either way."""
        async def one(index):
            _, writer = await open_stream(address)
            if index % 2:
                set_to_reset(writer)
            writer.transport.abort()
        await asyncio.gather(*(one(index) for index in range(STORM)))
        self.tally["connections of storms"] += STORM

    async def bench(self, address, seconds, mode, *options):
        """pelton-bench, which compares every byte itself."""
        made = await asyncio.create_subprocess_exec(
            program("pelton-bench"), mode, "--connect", str(address), "--duration", str(seconds),
            "--warmup", "0", "--timeout", str(PATIENCE_S // 2), *options,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT)
        self.benches.add(made)
        try:
            said, _ = await made.communicate()
        except BaseException:
            made.kill()
            await made.wait()
            raise
        finally:
            self.benches.discard(made)
        if made.returncode != 0:
            raise Wrong(f"pelton-bench {mode} ended with {made.returncode}: {said.decode()[-500:]}")
        for line in said.decode().splitlines():
            words = line.split()
            if words[:1] == ["requests"]:
                self.tally["messages of pelton-bench"] += int(words[1].rstrip(","))
        self.tally["runs of pelton-bench"] += 1

    async def stop_a_bench(self):
        """SIGSTOP of a client for a while."""
        if not self.benches:
            return
        made = self.rng.choice(sorted(self.benches, key=lambda each: each.pid))
        try:
            made.send_signal(signal.SIGSTOP)
            await asyncio.sleep(self.rng.uniform(0.2, 1))
            self.tally["clients stopped"] += 1
        except ProcessLookupError:
            pass
        finally:
            if made.returncode is None:
                made.send_signal(signal.SIGCONT)

    async def values(self):
        """SET and GET of random values through the proxy whose upstream is killed."""
        reader, writer = await open_stream(self.redis_proxy.address)
        try:
            key = b"soak:%d" % self.rng.randrange(32)
            for _ in range(self.rng.randint(1, 10)):
                data = self.piece(log_uniform(self.rng, 200_000))
                await self.upstream.exchange(reader, writer, key, data)
                self.tally["values compared"] += 1
                self.tally["bytes compared"] += len(data)
        finally:
            writer.close()

    async def stop_upstream(self):
        """SIGSTOP of the upstream: its clients wait, and nothing else happens."""
        await asyncio.sleep(self.rng.uniform(1, 5))
        if await self.upstream.pause(self.rng.uniform(0.2, 1.5)):
            self.tally["upstream stopped"] += 1

    async def kill_upstream(self):
        """kill -9 of the upstream, and its return after a while."""
        await asyncio.sleep(self.rng.uniform(2, 8))
        if self.stop.is_set():
            return
        await self.upstream.kill(self.rng.uniform(0.1, 1.5))
        self.tally["upstream killed"] += 1
