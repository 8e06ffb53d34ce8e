#!/usr/bin/env python3
"""A soak: pelton-echo and pelton-proxy under a mixed load with faults, for minutes or hours.

    scripts/soak.sh --minutes N [--engine auto|uring|epoll] [--out DIR] [--bin DIR] [--seed N]
                    [--pauses N]

An echo, a proxy in front of it, and a proxy in front of redis (another echo where redis is not
installed), which is killed and comes back. Messages of random sizes, half-closes, resets, slow
readers, storms of connections, bulk through splice(2), clients and the upstream stopped for a
while; every byte compared. It takes about one core.

At the end the load stops; then descriptors, leases and operations in flight must be what they were
before it, memory must not have grown after the first third, and the servers must end 0. Leaves
summary.json, samples.jsonl and soak.svg in --out. The exit status is 1 on any breach, with the
reason; 2 on a bad argument.

Neighbours: load.py and upstream.py are the load, samples.py observes and judges, picture.py draws.
"""

import argparse
import asyncio
import json
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "test" / "integration"))

import harness  # noqa: E402  (found by the path above)
import load  # noqa: E402
import picture  # noqa: E402
import samples  # noqa: E402
import upstream  # noqa: E402

PROGRESS_S = 5
END_S = 90  # for the actors to end what they are at
NOFILE = 4096


def parse():
    parser = argparse.ArgumentParser(
        prog="scripts/soak.sh", description=__doc__.partition("\n\n    scripts")[0],
        epilog="Ends 0 if all was well, 1 on any breach, 2 on a bad argument.")
    parser.add_argument("--minutes", type=float, required=True, metavar="N",
                        help="how long the load runs; 0.5 is a check of the soak itself")
    parser.add_argument("--engine", choices=("auto", "uring", "epoll"), default="auto",
                        help="of the servers (default %(default)s)")
    parser.add_argument("--out", metavar="DIR", default=str(ROOT / "build" / "soak"),
                        help="where summary, samples and picture go (default build/soak)")
    parser.add_argument("--bin", metavar="DIR", default=str(ROOT / "build" / "release" / "bin"),
                        help="where the programs are (default build/release/bin)")
    parser.add_argument("--seed", type=int, default=1, metavar="N",
                        help="of sizes, kinds and pauses (default %(default)s)")
    parser.add_argument("--pauses", type=float, default=1, metavar="N",
                        help="of the load are so many times as long; 1 takes a core, or what there"
                             " is (default %(default)s)")
    arguments = parser.parse_args()
    if not 0 < arguments.pauses <= 1000:
        parser.error("--pauses must be over 0, at most 1000")
    if not 0.1 <= arguments.minutes <= 10_000:
        parser.error("--minutes must be from 0.1 to 10000")
    if not os.access(pathlib.Path(arguments.bin, "pelton-bench"), os.X_OK):
        parser.error(f"no pelton-bench in {arguments.bin}: build the release preset, or say --bin")
    return arguments


class Soak:
    """The servers, the load and what is observed."""

    def __init__(self, arguments):
        self.seconds = arguments.minutes * 60
        self.seed = arguments.seed
        self.pauses = arguments.pauses
        self.out = pathlib.Path(arguments.out)
        self.engine = arguments.engine
        self.servers = []
        self.watches = []
        self.upstream = None
        self.load = None

    def serve(self, label, name, *options):
        server = harness.Server(name, [f"{harness.HOST}:0"], "--engine", self.engine, *options,
                                nofile=NOFILE)
        self.servers.append(server)
        self.watches.append(samples.Watch(label, server))
        return server

    async def start(self):
        self.upstream = upstream.Upstream(self.engine)
        await self.upstream.ready()
        echo = self.serve("echo", "pelton-echo")
        proxy = self.serve("proxy to echo", "pelton-proxy", "--upstream", str(echo.address))
        other = self.serve(f"proxy to {self.upstream.name}", "pelton-proxy",
                           "--upstream", str(self.upstream.address))
        self.load = load.Load(echo, proxy, other, self.upstream, self.seed, self.pauses)
        print(f"soak: {self.seconds / 60:g} minutes, engine={echo.engine}, seed {self.seed}",
              flush=True)

    async def observe(self):
        """Samples and tells the progress until the time is over."""
        started = time.monotonic()
        step = min(PROGRESS_S, self.seconds / 12)
        with open(self.out / "samples.jsonl", "w", encoding="utf-8") as file:
            while (passed := time.monotonic() - started) < self.seconds:
                await asyncio.sleep(min(step, self.seconds - passed))
                for watch in self.watches:
                    sample = await asyncio.to_thread(watch.sample)
                    json.dump({"server": watch.label, **sample}, file)
                    file.write("\n")
                file.flush()
                self.progress(time.monotonic() - started)

    def progress(self, passed):
        state = "  ".join(f"{each.label} {each.samples[-1]['rss'] / samples.MIB:.1f} MiB"
                          f" {each.samples[-1]['fds']} fds" for each in self.watches)
        tally = self.load.tally
        compared = tally["messages compared"] + tally["messages of pelton-bench"]
        print(f"{passed:6.0f} of {self.seconds:.0f} s  {state}  {compared} messages,"
              f" {tally['resets']} resets, {tally['upstream killed']} kills,"
              f" {tally['failures']} failures", flush=True)

    async def run(self):
        """\\return the breaches."""
        await self.start()
        running = asyncio.create_task(self.load.run())
        observing = asyncio.create_task(self.observe())
        try:
            done, _ = await asyncio.wait({running, observing}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            self.load.stop.set()
            async with asyncio.timeout(END_S):
                await running
        finally:
            for task in (running, observing):
                task.cancel()
            await asyncio.gather(running, observing, return_exceptions=True)
        breaches = []
        for watch in self.watches:
            breaches += watch.breaches(await asyncio.to_thread(watch.settled))
        breaches += self.failures()
        return breaches

    def failures(self):
        if not self.load.tally["messages compared"]:
            yield "no message was compared: there was no load"
        if self.load.tally["failures"]:
            yield f"{self.load.tally['failures']} conversations failed, the first: " + \
                " | ".join(self.load.failures[:5])

    def stop(self):
        """Ends the servers, proxies first. \\return what is wrong with how they end."""
        for server in reversed(self.servers):
            try:
                server.stop()
            except AssertionError as error:
                yield str(error)

    def close(self):
        for each in (*self.servers, self.upstream):
            if each:
                each.close()

    def report(self, breaches):
        summary = {"minutes": self.seconds / 60, "seed": self.seed, "breaches": breaches,
                   "load": dict(self.load.tally) if self.load else {},
                   "servers": [each.summary() for each in self.watches if each.samples]}
        path = self.out / "summary.json"
        path.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        for what, count in sorted(summary["load"].items()):
            print(f"  {what}: {count}")
        for each in summary["servers"]:
            print("  " + ", ".join(f"{key}={value}" for key, value in each.items()))
        drawn = picture.draw(self.watches, self.out / "soak.svg") if summary["servers"] else None
        print(f"  written: {path}, {drawn or 'no picture, for want of matplotlib'}")


def main():
    arguments = parse()
    os.environ["PELTON_BIN"] = str(pathlib.Path(arguments.bin).resolve())
    pathlib.Path(arguments.out).mkdir(parents=True, exist_ok=True)
    soak = Soak(arguments)
    breaches = []
    try:
        breaches += asyncio.run(soak.run())
        breaches += soak.stop()
    except (AssertionError, RuntimeError, OSError, TimeoutError) as error:
        breaches.append(f"{type(error).__name__}: {error}")
    finally:
        soak.close()
    soak.report(breaches)
    for breach in breaches:
        print(f"BREACH {breach}")
    print("soak: " + (f"failed, {len(breaches)} breaches" if breaches else "passed"))
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
