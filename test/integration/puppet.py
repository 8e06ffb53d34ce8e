"""A peer whose process can be stopped and killed: it holds one end of a connection.

`Puppet(sock, data)` forks a child that takes the socket over, and does what it is told: send,
fill, end, reset, finish. What it sends comes from `data`; at the end it says how much it received
and its CRC-32. The child does no more than system calls on that socket, and never returns.

Neighbour: fault_peers.py.
"""

import json
import os
import random
import select
import signal
import socket
import struct
import zlib

SECONDS = 20
LAST_WORDS = 1 << 20
FULL_AFTER = 0.15  # seconds that a socket takes nothing


def endless(seed):
    """Noise, more than all buffers of a connection hold (a kernel may let them grow to 32 MiB); it
    repeats itself, but at no offset that a buffer would have."""
    return random.Random(seed).randbytes(4_194_301) * 24


class Puppet:
    """The parent's side: commands go out, answers come in, one line of JSON each."""

    def __init__(self, sock, data):
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(sock.fileno(), 3, inheritable=False)
            os.dup2(theirs.fileno(), 4, inheritable=False)
            os.closerange(5, 65536)
            try:
                Child(socket.socket(fileno=3), socket.socket(fileno=4), data).serve()
            finally:
                os._exit(1)
        theirs.close()
        sock.close()
        ours.settimeout(SECONDS)
        self.ended = False  # it has said that no more will come
        self.control = ours
        self.lines = ours.makefile("rb")
        self.alive = True

    def tell(self, command):
        """Has it do something without waiting for that."""
        self.control.sendall(command.encode() + b"\n")

    def answer(self):
        line = self.lines.readline()
        if not line:
            raise AssertionError("the puppet died")
        said = json.loads(line)
        if "error" in said:
            raise AssertionError(f"puppet: {said['error']}")
        return said

    def do(self, command):
        self.ended = self.ended or command == "end"
        self.tell(command)
        return self.answer()

    def signal(self, number):
        if self.alive:
            os.kill(self.pid, number)

    def kill(self):
        """kill -9; returns when it is gone."""
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.alive = False

    def close(self):
        self.kill()
        self.lines.close()
        self.control.close()


class Child:
    """The puppet itself."""

    def __init__(self, sock, control, data):
        self.sock = sock
        self.control = control
        self.data = memoryview(data)
        self.sent = 0
        self.received = 0
        self.crc = 0
        self.ended = False
        sock.setblocking(False)
        control.setblocking(True)

    def serve(self):
        for line in self.control.makefile("rb"):
            name, *words = line.decode().split()
            try:
                said = getattr(self, name)(*words) or {}
            except OSError as error:
                said = {"error": f"{name}: {error}"}
            self.control.sendall(json.dumps(said).encode() + b"\n")

    def rest(self):
        """Nothing: it is there."""

    def send(self, size):
        """Sends so much, reading what comes meanwhile."""
        self.exchange(self.sent + int(size), read=True)

    def greet(self):
        """Sends a little and waits for an answer: now the connection is established all the way."""
        self.send(1000)
        self.read()

    def fill(self):
        """Sends until nobody takes any more, and reads nothing."""
        while self.sent < len(self.data):
            if not select.select([], [self.sock], [], FULL_AFTER)[1]:
                break
            self.sent += self.sock.send(self.data[self.sent:self.sent + 65536])
        return {"sent": self.sent}

    def end(self):
        """Says that no more will come from here."""
        self.sock.shutdown(socket.SHUT_WR)
        self.ended = True

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def hang_up(self):
        """Closes, whatever is left to be read."""
        self.sock.close()

    def finish(self):
        """Sends some more and the end, unless it has; reads to the end of the other side."""
        more = 0 if self.ended else LAST_WORDS
        self.exchange(min(self.sent + more, len(self.data)), read=True)
        if not self.ended:
            self.end()
        while self.read():
            pass
        return {"sent": self.sent, "received": self.received, "crc": self.crc}

    def await_end(self):
        """Reads until the other side has ended or reset the connection."""
        try:
            while self.read():
                pass
        except TimeoutError:
            raise
        except OSError:
            pass
        return {"received": self.received}

    def exchange(self, until, read):
        while self.sent < until:
            readable, writable, _ = select.select([self.sock], [self.sock], [], SECONDS)
            if not readable and not writable:
                raise TimeoutError(f"silence after {self.sent} bytes sent")
            if writable:
                piece = self.data[self.sent:min(until, self.sent + 65536)]
                self.sent += self.sock.send(piece)
            if readable and read and not self.read():
                return

    def read(self):
        """Reads what is there, or waits for something. \\return whether there may be more."""
        if not select.select([self.sock], [], [], SECONDS)[0]:
            raise TimeoutError(f"silence after {self.received} bytes received")
        part = self.sock.recv(262_144)
        self.received += len(part)
        self.crc = zlib.crc32(part, self.crc)
        return bool(part)

