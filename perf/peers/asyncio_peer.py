#!/usr/bin/python3
"""Echo and lines on Python's asyncio streams, as asyncio's documentation writes them: a peer.

    asyncio_peer.py [--loop asyncio|uvloop] [echo|lines] --port N | --unix PATH

echo reads what there is, writes it and drains; lines does so for each readline(). With
`--loop uvloop` the same program runs on uvloop's event loop.

Neighbours: README.md compares the peers. Ownership: a connection belongs to its own task.
"""

import argparse
import asyncio
import contextlib
import resource
import signal

READ_BYTES = 65536
BACKLOG = 4096


async def echo(reader, writer):
    """Sends back what comes, as it comes."""
    while data := await reader.read(READ_BYTES):
        writer.write(data)
        await writer.drain()


async def answer_lines(reader, writer):
    """Answers each line with the same line."""
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()


def closing(handle):
    """`handle`, and then the end of the connection; one that was lost is no error of ours."""
    async def connected(reader, writer):
        with contextlib.suppress(ConnectionError, ValueError):
            await handle(reader, writer)
        writer.close()
    return connected


async def serve(options):
    """Listens, says so, and ends on SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    handle = closing(answer_lines if options.mode == "lines" else echo)
    if options.unix is not None:
        await asyncio.start_unix_server(handle, options.unix, backlog=BACKLOG)
        address = f"unix:{options.unix}"
    else:
        server = await asyncio.start_server(handle, "127.0.0.1", options.port, backlog=BACKLOG)
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(f"{options.loop} listening on {address}", flush=True)
    await stop.wait()


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mode", nargs="?", choices=("echo", "lines"), default="echo")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int, help="TCP port on 127.0.0.1; 0 picks a free one")
    where.add_argument("--unix", metavar="PATH", help="unix socket; a stale one is replaced")
    options = parser.parse_args()
    if options.port is not None and not 0 <= options.port <= 65535:
        parser.error(f"--port {options.port} is not a number from 0 to 65535")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.loop == "uvloop":
        import uvloop  # pylint: disable=import-outside-toplevel
        uvloop.install()
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
