#!/usr/bin/env python3
"""One asyncio.StreamReader driven by commands: the reference for pelton's stream_oracle.

Reads commands on standard input and answers on standard output, flushed after each command:

    new LIMIT | feed HEX | eof | exception TEXT | read N | readline | readexactly N
    readuntil HEX[,HEX...] | cancel | # a comment

After each command the loop runs until nothing is ready. Then come the reads that finished, in
order, as `< HEX` or `! NAME FIELDS...` (fields joined by single spaces, an empty one included),
and one line `= buffered=N at_eof=0|1 paused=0|1 pending=0|1`.

The other side is `stream_oracle`, built from C++ into build/release/bin; compare.py beside this
file writes scripts, runs both and compares their answers to the letter. Here StreamReader, Task
and Future are CPython's own; only the loop is ours (a queue: nothing here waits for a file or a
clock), and below Python 3.13 the `readuntil` that takes several separators.
"""

import argparse
import asyncio
import collections
import sys

TUPLES_BUILT_IN = sys.version_info >= (3, 13)
NOT_FOUND = "Separator is not found, and chunk exceed the limit"
TOO_LONG = "Separator is found, but chunk is longer than limit"


class QueueLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as futures and tasks need: callbacks in the order they came."""

    def __init__(self):
        self._ready = collections.deque()

    def call_soon(self, callback, *args, context=None):
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def create_future(self):
        return asyncio.Future(loop=self)

    def create_task(self, coro, **kwargs):
        return asyncio.Task(coro, loop=self, **kwargs)

    def get_debug(self):
        return False

    def is_running(self):
        return True

    def call_exception_handler(self, context):
        raise SystemExit(f"cpython_oracle: the loop reported {context!r}")

    def run_until_idle(self):
        while self._ready:
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()


class RecordingTransport(asyncio.Transport):
    """A transport that only remembers whether its reader has paused it."""

    def __init__(self):
        super().__init__()
        self.paused = False

    def pause_reading(self):
        assert not self.paused, "pause_reading() while paused"
        self.paused = True

    def resume_reading(self):
        assert self.paused, "resume_reading() while not paused"
        self.paused = False

    def is_reading(self):
        return not self.paused

    def is_closing(self):
        return False


class TupleReader(asyncio.StreamReader):
    """StreamReader whose readuntil() takes a tuple of separators, as CPython 3.13's does."""

    async def readuntil(self, separator=b"\n"):
        if not isinstance(separator, tuple):
            return await super().readuntil(separator)
        if not separator:
            raise ValueError("Separator should contain at least one element")
        lengths = [len(each) for each in separator]
        if min(lengths) == 0:
            raise ValueError("Separator should be at least one-byte string")
        if self._exception is not None:
            raise self._exception
        start, end = await self._first_match(separator, min(lengths), max(lengths))
        if start > self._limit:
            raise asyncio.LimitOverrunError(TOO_LONG, start)
        chunk = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._maybe_resume_transport()
        return chunk

    async def _first_match(self, separators, shortest, longest):
        """Where the match that ends first starts and ends; among equal ends, the shortest.

        `clean` bytes at the front hold the start of no match. Another read may have shortened the
        buffer meanwhile; asyncio keeps the old mark then, and so does this.
        """
        clean = 0
        while True:
            size = len(self._buffer)
            if size - clean >= shortest:
                found = []
                for each in separators:
                    at = self._buffer.find(each, clean)
                    if at >= 0:
                        found.append((at + len(each), len(each)))
                if found:
                    end, length = min(found)
                    return end - length, end
                clean = max(0, size + 1 - longest)
                if clean > self._limit:
                    raise asyncio.LimitOverrunError(NOT_FOUND, clean)
            if self._eof:
                rest = bytes(self._buffer)
                self._buffer.clear()
                raise asyncio.IncompleteReadError(rest, None)
            await self._wait_for_data("readuntil")


READER = asyncio.StreamReader if TUPLES_BUILT_IN else TupleReader


def describe(task):
    """The line for a finished read."""
    if task.cancelled():
        return "! Cancelled"
    error = task.exception()
    if error is None:
        data = task.result().hex()
        return f"< {data}" if data else "<"
    return describe_error(error)


def describe_error(error):
    name = type(error).__name__
    if isinstance(error, asyncio.IncompleteReadError):
        expected = "undefined" if error.expected is None else error.expected
        return f"! {name} {error.partial.hex()} {expected}"
    if isinstance(error, asyncio.LimitOverrunError):
        return f"! {name} {error.consumed} {error}"
    return f"! {name} {error}"


class Driver:
    """Carries out one command at a time on the current reader."""

    def __init__(self):
        self.loop = QueueLoop()
        self.reader = None
        self.transport = RecordingTransport()
        self.tasks = []
        self.finished = []

    def command(self, line):
        """The answer to one command line, as a list of lines."""
        name, _, argument = line.partition(" ")
        handler = getattr(self, f"do_{name}", None)
        if handler is None:
            raise ValueError(f"unknown command {name!r}")
        if self.reader is None and name != "new":
            raise ValueError(f"{name} before the first `new LIMIT`")
        handler(argument)
        self.loop.run_until_idle()
        answer, self.finished = self.finished, []
        answer.append(self.state())
        return answer

    def state(self):
        buffered = len(self.reader._buffer) if self.reader else 0
        at_eof = int(self.reader.at_eof()) if self.reader else 0
        paused = int(self.transport.paused)
        pending = int(bool(self.tasks))
        return f"= buffered={buffered} at_eof={at_eof} paused={paused} pending={pending}"

    def do_new(self, argument):
        for task in list(self.tasks):
            task.cancel()
        self.loop.run_until_idle()
        self.finished.clear()
        self.reader = None
        self.transport = RecordingTransport()
        try:
            self.reader = READER(limit=int(argument), loop=self.loop)
        except ValueError as error:
            self.finished.append(describe_error(error))
            return
        self.reader.set_transport(self.transport)

    def do_feed(self, argument):
        try:
            self.reader.feed_data(bytes.fromhex(argument))
        except AssertionError as error:
            self.finished.append(describe_error(error))

    def do_eof(self, _):
        self.reader.feed_eof()

    def do_exception(self, argument):
        self.reader.set_exception(ConnectionResetError(argument))

    def do_read(self, argument):
        self.start(self.reader.read(int(argument)))

    def do_readline(self, _):
        self.start(self.reader.readline())

    def do_readexactly(self, argument):
        self.start(self.reader.readexactly(int(argument)))

    def do_readuntil(self, argument):
        separators = tuple(bytes.fromhex(each) for each in argument.split(","))
        self.start(self.reader.readuntil(separators if len(separators) > 1 else separators[0]))

    def do_cancel(self, _):
        if self.tasks:
            self.tasks[0].cancel()

    def start(self, coroutine):
        task = self.loop.create_task(coroutine)
        self.tasks.append(task)
        task.add_done_callback(self.on_done)

    def on_done(self, task):
        self.tasks.remove(task)
        self.finished.append(describe(task))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    driver = Driver()
    for number, line in enumerate(sys.stdin, 1):
        line = line.rstrip("\r\n")
        if not line or line.startswith("#"):
            continue
        try:
            answer = driver.command(line)
        except ValueError as error:
            sys.exit(f"cpython_oracle: line {number}: {error}")
        sys.stdout.write("\n".join(answer) + "\n")
        sys.stdout.flush()
    driver.do_new("1")


if __name__ == "__main__":
    main()
