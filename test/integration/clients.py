"""What the integration tests speak to the servers with: sockets, asyncio streams, upstreams.

Neighbour: harness.py, which starts the servers themselves.
"""

import asyncio
import hashlib
import math
import random
import socket
import struct
import threading

from harness import HOST, MIB


def receive(sock, size):
    """Exactly `size` bytes."""
    data = bytearray(size)
    view = memoryview(data)
    at = 0
    while at < size:
        got = sock.recv_into(view[at:])
        if got == 0:
            raise AssertionError(f"the stream ended after {at} of {size} bytes")
        at += got
    return bytes(data)


def receive_all(sock):
    """Everything up to the end of the stream."""
    parts = []
    while data := sock.recv(256 * 1024):
        parts.append(data)
    return b"".join(parts)


def digest_all(sock, most=None):
    """The SHA-256 and the number of the bytes up to the end of the stream (or `most`)."""
    digest = hashlib.sha256()
    buffer = bytearray(MIB)
    view = memoryview(buffer)
    total = 0
    while most is None or total < most:
        got = sock.recv_into(view if most is None else view[:min(MIB, most - total)])
        if got == 0:
            break
        digest.update(view[:got])
        total += got
    return digest.hexdigest(), total


def reset(sock):
    """Closes a connection with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def ends_within(sock, seconds):
    """True once the peer has ended or reset the connection; what it still sends is dropped."""
    sock.settimeout(seconds)
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def talks(sock, message):
    """Sends a message and expects it back."""
    sock.sendall(message)
    back = receive(sock, len(message))
    if back != message:
        raise AssertionError(f"sent {message[:40]!r}..., received {back[:40]!r}...")


def serves(address, message=b"is anybody there?"):
    """A whole short conversation: connect, echo, half-close, end of stream."""
    with address.socket() as sock:
        talks(sock, message)
        sock.shutdown(socket.SHUT_WR)
        rest = receive_all(sock)
    if rest:
        raise AssertionError(f"{len(rest)} bytes more than were sent")


class Upstream:
    """A TCP server on a thread; `handle(sock, index)` runs on a thread for each connection."""

    def __init__(self, case, handle, timeout=20, port=0):
        self.handle = handle
        self.timeout = timeout
        self.errors = []
        self.threads = []
        self.listener = socket.create_server((HOST, port), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()
        case.addCleanup(self.close)

    def __str__(self):
        return f"{HOST}:{self.port}"

    def _accept(self):
        index = 0
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock, index), daemon=True)
            self.threads.append(thread)
            thread.start()
            index += 1

    def _serve(self, sock, index):
        sock.settimeout(self.timeout)
        try:
            self.handle(sock, index)
        except (OSError, AssertionError) as error:
            self.errors.append(error)
        finally:
            sock.close()

    def join(self, timeout=20):
        for thread in self.threads:
            thread.join(timeout)

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        self.thread.join(5)
        self.join(5)


async def open_stream(address, **options):
    """asyncio's streams on an Address."""
    if address.family == socket.AF_UNIX:
        return await asyncio.open_unix_connection(address.name, **options)
    return await asyncio.open_connection(address.host, address.port, **options)


def chunk_sizes(rng, total, largest):
    """Sizes from 1 to `largest` that add up to `total`; every magnitude is as likely."""
    while total > 0:
        size = min(total, max(1, int(math.exp(rng.uniform(0, math.log(largest))))))
        yield size
        total -= size


async def pump(address, total, seed, largest=MIB, pause=None):
    """Sends `total` bytes in chunks of random size while it reads the echo; compares the sums.

    `pause(sent)` is awaited after each chunk. Returns the number of chunks written.
    """
    rng = random.Random(seed)
    noise = rng.randbytes(2 * largest)
    reader, writer = await open_stream(address)
    sent, received = hashlib.sha256(), hashlib.sha256()
    count = {"sent": 0, "received": 0, "chunks": 0}

    async def send():
        for size in chunk_sizes(rng, total, largest):
            at = rng.randrange(largest)
            chunk = noise[at:at + size]
            sent.update(chunk)
            writer.write(chunk)
            await writer.drain()
            count["sent"] += size
            count["chunks"] += 1
            if pause is not None:
                await pause(count["sent"])
        writer.write_eof()

    async def listen():
        sizes = random.Random(seed + 1)
        while data := await reader.read(sizes.choice([1, 100, 4096, 65536, MIB])):
            received.update(data)
            count["received"] += len(data)

    await asyncio.gather(send(), listen())
    writer.close()
    await writer.wait_closed()
    if count["received"] != total or sent.digest() != received.digest():
        raise AssertionError(f"{address}: sent {total} bytes with SHA-256 {sent.hexdigest()},"
                             f" received {count['received']} with {received.hexdigest()}")
    return count["chunks"]


async def echo_rounds(address, clients, rounds, size, seconds=60):
    """`clients` connections at once, each sending `rounds` messages and awaiting each echo.

    `size` is a number or a function of a random generator. Returns the bytes echoed.
    """
    async def one(index):
        rng = random.Random(index)
        reader, writer = await open_stream(address)
        total = 0
        for _ in range(rounds):
            message = rng.randbytes(size(rng) if callable(size) else size)
            writer.write(message)
            back = await reader.readexactly(len(message))
            if back != message:
                raise AssertionError(f"client {index} received other bytes than it sent")
            total += len(message)
        writer.write_eof()
        if await reader.read():
            raise AssertionError(f"client {index} received more than it sent")
        writer.close()
        await writer.wait_closed()
        return total

    async with asyncio.timeout(seconds):
        return sum(await asyncio.gather(*(one(index) for index in range(clients))))
