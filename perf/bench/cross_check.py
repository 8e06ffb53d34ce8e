#!/usr/bin/env python3
"""Checks pelton-bench against redis-benchmark: the same server, the same bytes, the same figures.

    perf/bench/cross_check.py [--bin DIR] [--rounds N] [--server working|redis-server|epoll_echo]

The two load the same server in turn (A B A B ...), with the same number of connections, one
request of 14 bytes in flight on each (Redis's PING as an array), from the same core. Compared are
the medians of requests per second and of p50. Exit status: 0 within the tolerance (5 %), 1 not,
2 bad usage, a program that is missing or failed, or a server that was not the bottleneck.

What makes the comparison fair:
- Server and load have a core each, or they would take it from each other in different measure.
- The server must be the bottleneck for both, or the figures are the load's own. redis-benchmark
  needs about 11 us of CPU per request (a read and a write each, and its parser), more than
  redis-server, epoll_echo or a plain asyncio echo need to answer it: at any of them
  redis-benchmark measures itself, its core full and the server's not. Hence the default server, an
  echo on asyncio's streams that works for 30 us on each request: what it can do is what both must
  find. Its answer to a PING is that PING, which redis-benchmark's ping_mbulk accepts.
- The other servers are there to be looked at: the busy shares in the table say whose figure it is.
  redis-server is asked with `--message ping`, exactly what redis-benchmark sends.
- redis-benchmark has no warm-up: its requests include the first ones. It is given as many as make
  --duration seconds.

Neighbours: pelton-bench (main.cpp), ../peers/epoll_echo.c. Every process started here ends here.
"""

import argparse
import csv
import io
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
START_SECONDS = 10
BUSY_PERCENT = 90  # of the server, in both measurements: it is the bottleneck
WORKING_ECHO = """
import asyncio, time
async def echo(reader, writer):
    while data := await reader.read(65536):
        until = time.perf_counter() + 30e-6
        while time.perf_counter() < until:
            pass
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=1024)
    print("listening on 127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
RUN_SECONDS = 120


class Trouble(Exception):
    """The comparison cannot be made."""


def need(program):
    """The path of a program that must be there."""
    path = shutil.which(str(program))
    if path is None:
        raise Trouble(f"no program {program}: build it, or run scripts/setup.sh")
    return path


def pinned(core):
    return lambda: os.sched_setaffinity(0, {core})


def cpu_seconds(pid):
    """CPU time of all threads of a process so far."""
    total = 0
    for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
        total += int(stat.read_text().split()[0])
    return total / 1e9


class Server:
    """A server on a core of its own, until the end of the `with`."""

    def __init__(self, name, arguments):
        self.name = name
        self.arguments = arguments
        self.folder = tempfile.TemporaryDirectory(prefix="pelton-cross-check-")

    def command(self):
        """The command line, and what the server says when it serves."""
        if self.name == "working":
            return [sys.executable, "-c", WORKING_ECHO], r"listening on \S+:(\d+)"
        if self.name == "epoll_echo":
            echo = need(self.arguments.bin / "epoll_echo")
            return [echo, "--port", "0"], r"listening on \S+:(\d+)"
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = str(probe.getsockname()[1])
        return [need("redis-server"), "--port", port, "--bind", HOST, "--save", "", "--appendonly",
                "no", "--dir", self.folder.name], r"port=(\d+)[^$]*Ready to accept connections"

    def __enter__(self):
        command, pattern = self.command()
        log = pathlib.Path(self.folder.name, "log")
        with log.open("w") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out,
                                            preexec_fn=pinned(self.arguments.server_core))
        deadline = time.monotonic() + START_SECONDS
        while (match := re.search(pattern, log.read_text())) is None:
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text()[-500:]
                self.__exit__()
                raise Trouble(f"{self.name} did not start: {said}")
            time.sleep(0.02)
        self.port = match[1]
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()


def run(command, arguments):
    """Output of a load on its core."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS,
                          preexec_fn=pinned(arguments.load_core), check=False)
    if done.returncode != 0:
        raise Trouble(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def pelton_bench(server, arguments):
    message = ["--message", "ping"] if server.name == "redis-server" else ["--size", "14"]
    figures = json.loads(run(
        [need(arguments.bin / "pelton-bench"), "echo", "--connect", f"{HOST}:{server.port}",
         "--connections", str(arguments.connections), "--duration", str(arguments.duration),
         "--warmup", "0.3", "--server-pid", str(server.process.pid), "--json", "-", *message],
        arguments))
    return {"rate": figures["requests_per_second"], "p50": figures["latency_us"]["p50"],
            "load": figures["load"]["cpu_percent"], "server": figures["server"]["cpu_percent"]}


def redis_benchmark(server, arguments, rate):
    """`rate` of the other load says how many requests take about as long."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    server_before, begun = cpu_seconds(server.process.pid), time.monotonic()
    out = run([need("redis-benchmark"), "-h", HOST, "-p", server.port, "-c",
               str(arguments.connections), "-n", str(int(rate * arguments.duration)), "-P", "1",
               "-t", "ping_mbulk", "--csv"], arguments)
    elapsed = time.monotonic() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    row = next((each for each in csv.DictReader(io.StringIO(out)) if each["test"] == "PING_MBULK"),
               None)
    if row is None:
        raise Trouble(f"redis-benchmark printed no PING_MBULK: {out[-300:]}")
    return {"rate": float(row["rps"]), "p50": float(row["p50_latency_ms"]) * 1e3,
            "load": 100 * used / elapsed,
            "server": 100 * (cpu_seconds(server.process.pid) - server_before) / elapsed}


def compare(name, arguments):
    """Rounds in turn on one server; prints the table. Returns the ratios of rate and p50, and
    whether the server was the bottleneck of both."""
    ours, theirs = [], []
    with Server(name, arguments) as server:
        rate = pelton_bench(server, arguments)["rate"]  # not counted: everything is warm then
        for _ in range(arguments.rounds):
            ours.append(pelton_bench(server, arguments))
            theirs.append(redis_benchmark(server, arguments, rate))
    bottleneck = True
    print(f"{name}, {arguments.connections} connections, {arguments.rounds} rounds:")
    for tool, rounds in (("pelton-bench", ours), ("redis-benchmark", theirs)):
        middle = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        bottleneck = bottleneck and middle["server"] >= BUSY_PERCENT
        print(f"  {tool:16} {middle['rate']:9.0f} requests/s   p50 {middle['p50']:7.1f} us   "
              f"busy: load {middle['load']:3.0f} %, server {middle['server']:3.0f} %")
    ratios = {}
    for key in ("rate", "p50"):
        ratios[key] = (statistics.median(each[key] for each in ours)
                       / statistics.median(each[key] for each in theirs))
        singles = sorted(one[key] / other[key] for one, other in zip(ours, theirs))
        print(f"  ratio of {key:4}: {ratios[key]:.3f} ({singles[0]:.3f}-{singles[-1]:.3f})")
    return ratios, bottleneck


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", metavar="DIR", type=pathlib.Path,
                        default=ROOT / "build" / "release" / "bin", help="where the programs are")
    parser.add_argument("--server", choices=["working", "redis-server", "epoll_echo"],
                        default="working", help="default: %(default)s")
    parser.add_argument("--connections", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of each; default: %(default)s")
    parser.add_argument("--duration", type=float, default=2, help="seconds; default: %(default)s")
    parser.add_argument("--tolerance", type=float, default=0.05, help="default: %(default)s")
    parser.add_argument("--server-core", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--load-core", type=int, default=1, help="default: %(default)s")
    arguments = parser.parse_args()
    if min(arguments.rounds, arguments.connections) < 1 or arguments.duration <= 0:
        parser.error("--rounds, --connections and --duration must be above 0")
    if not {arguments.server_core, arguments.load_core} <= os.sched_getaffinity(0):
        parser.error("--server-core and --load-core must be CPUs that this process may use")
    return arguments


def main():
    arguments = parse()
    try:
        ratios, bottleneck = compare(arguments.server, arguments)
    except (Trouble, OSError, subprocess.TimeoutExpired) as error:
        print(f"cross_check.py: {error}", file=sys.stderr)
        return 2
    if not bottleneck:
        print(f"  no verdict: {arguments.server} was not the bottleneck of both (below"
              f" {BUSY_PERCENT} % busy), so that the figures are the load's own")
        return 2
    within = all(abs(ratio - 1) <= arguments.tolerance for ratio in ratios.values())
    print(f"  {'within' if within else 'NOT within'} {arguments.tolerance:.0%}")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
