"""One run: a fresh server, its load, and the numbers that come of it.

run() picks the function by the kind of the work: pelton-bench, redis-benchmark and iperf3 through
a proxy, or pelton-micro. The parse_* functions turn what those programs print into metrics.

Neighbours: runs.py repeats what is made here; servers.py starts and ends the processes.
Ownership: everything a run starts has ended, and its temporary directory is gone, when it returns.
"""

import contextlib
import csv
import dataclasses
import io
import json
import re
import shutil
import socket
import tempfile

import proc
from servers import RunError, run_load, serving

HOST = "127.0.0.1"
MORE_SECONDS = 60  # that a load may take beyond its duration
REDIS_WARMUP_REQUESTS = 2000


@dataclasses.dataclass
class Bench:
    """Where everything runs: the registry and the cores."""

    contenders: object
    server_core: int
    load_core: int

    @property
    def root(self):
        """Commands are relative to this directory."""
        return self.contenders.root


@dataclasses.dataclass
class Result:
    """What one run gave. Waits are percent of its time; None where they were not read."""

    values: dict
    server_wait: float | None
    load_wait: float | None
    command: list
    load_command: list
    line: str = ""

    @property
    def wait(self):
        """The larger share of the run for which either side was kept off its core."""
        return max(self.server_wait or 0, self.load_wait or 0)


def free_port():
    """A TCP port that was free a moment ago, for servers that cannot pick one."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return str(probe.getsockname()[1])


def tool(name):
    """The path of somebody else's program; sbin is where Debian puts some."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def with_rates(values):
    """Adds requests per core-second where the CPU per request is known."""
    cpu = values.get("cpu_us_per_request")
    if cpu:
        values["requests_per_core_second"] = 1e6 / cpu
    return values


def parse_bench(text):
    """(values, server wait, load wait) of pelton-bench's JSON."""
    report = json.loads(text)
    if report.get("errors"):
        raise RunError(f"pelton-bench counted {report['errors']} errors")
    values = {key: report[key] for key in ("requests", "requests_per_second", "bytes_per_second")
              if report.get(key) is not None}
    for key, value in (report.get("latency_us") or {}).items():
        values[f"{key}_us"] = value
    server, load = report.get("server") or {}, report.get("load") or {}
    for ours, theirs in (("cpu_us_per_request", "cpu_us_per_request"),
                         ("server_cpu_percent", "cpu_percent"), ("rss_bytes", "rss_bytes"),
                         ("rss_bytes_per_connection", "rss_bytes_per_connection")):
        if server.get(theirs) is not None:
            values[ours] = server[theirs]
    if load.get("cpu_percent") is not None:
        values["load_cpu_percent"] = load["cpu_percent"]
    return with_rates(values), server.get("wait_percent"), load.get("wait_percent")


def parse_redis(text):
    """The values of the last line of redis-benchmark --csv."""
    rows = list(csv.DictReader(io.StringIO(text[text.find('"test"'):])))
    if not rows or "rps" not in rows[-1]:
        raise RunError(f"redis-benchmark printed no figures: {text[-300:]!r}")
    row = rows[-1]
    values = {"requests_per_second": float(row["rps"])}
    for ours, theirs in (("min_us", "min"), ("mean_us", "avg"), ("p50_us", "p50"),
                         ("p99_us", "p99"), ("max_us", "max")):
        values[ours] = float(row[f"{theirs}_latency_ms"]) * 1e3
    return values


def parse_iperf(text):
    """(bytes received, bytes per second) of iperf3 -J."""
    report = json.loads(text)
    if "error" in report:
        raise RunError(f"iperf3: {report['error']}")
    received = report["end"]["sum_received"]
    return received["bytes"], received["bits_per_second"] / 8


def parse_micro(text, name):
    """(values, percent of the time off the core) of the benchmark `name`, or of name/ANYTHING."""
    pattern = re.compile(rf"{re.escape(name)}(/|$)")
    found = [each for each in json.loads(text)["benchmarks"]
             if pattern.match(each["name"]) and each.get("run_type") != "aggregate"]
    if not found:
        raise RunError(f"pelton-micro has no benchmark {name}")
    for each in found:
        if each.get("error_occurred"):
            raise RunError(f"{each['name']}: {each.get('error_message', 'failed')}")
    values = {key: max(each[key] for each in found)
              for key in ("bytes_per_second", "sends_per_turn") if key in found[0]}
    wall = sum(each["real_time"] * each["iterations"] for each in found)
    cpu = sum(each["cpu_time"] * each["iterations"] for each in found)
    return values, 100 * max(wall - cpu, 0) / wall


@contextlib.contextmanager
def upstream_of(bench, work):
    """The address of what the proxy of a pelton-bench work connects to; None without a proxy."""
    if not work.load.get("upstream"):
        yield None
        return
    command = [bench.contenders.program("pelton-echo"), "--listen", f"{HOST}:0", "--threads", "1"]
    with serving(command, bench.load_core, bench.root) as server:
        yield server.address


def run_bench(bench, work, name):
    """pelton-bench on a fresh server."""
    load = work.load
    with tempfile.TemporaryDirectory(prefix="pelton-") as directory, \
            upstream_of(bench, work) as upstream:
        command = bench.contenders.command(name, work, f"{directory}/socket", upstream)
        with serving(command, bench.server_core, bench.root) as server:
            load_command = [
                bench.contenders.program("pelton-bench"), load["mode"],
                "--connect", server.address, "--connections", str(load["connections"]),
                "--size", str(load["size"]), "--pipeline", str(load["pipeline"]),
                "--duration", f"{work.duration:g}", "--threads", "1", "--json", "-",
                "--server-pid", str(server.cpu_pid)]
            if work.warmup:  # the idle mode has none
                load_command += ["--warmup", f"{work.warmup:g}"]
            watch = proc.Watch(server.cpu_pid, bench.server_core, [], bench.load_core)
            out = run_load(load_command, bench.load_core, bench.root,
                           work.duration + work.warmup + MORE_SECONDS)
            strangers = watch.stop()["server_strangers"]
            values, server_wait, load_wait = parse_bench(out)
            if server_wait is not None:  # the threads of a server wait for each other, too
                server_wait = min(server_wait, strangers)
            return Result(values, server_wait, load_wait, command, load_command, server.line)


@contextlib.contextmanager
def redis_server(bench):
    """A redis-server on the load's core, which keeps nothing on disk."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pelton-") as directory:
        command = [tool("redis-server"), "--port", port, "--bind", HOST, "--save", "",
                   "--appendonly", "no", "--dir", directory]
        with serving(command, bench.load_core, bench.root, address=f"{HOST}:{port}",
                     recognise=lambda line: "eady to accept" in line) as server:
            yield server


def redis_benchmark(bench, work, proxy, requests):
    """redis-benchmark with so many requests: (command, values)."""
    host, port = proxy.host_port
    command = [tool("redis-benchmark"), "-h", host, "-p", port, "-c", str(work.load["clients"]),
               "-t", "ping_mbulk", "-n", str(requests), "--csv"]
    out = run_load(command, bench.load_core, bench.root, work.duration + MORE_SECONDS)
    return command, parse_redis(out) | {"requests": requests}


def one_client(bench, seconds, proxy):
    """pelton-bench as redis's only client, which counts single microseconds: (command, values).

    redis-benchmark counts latencies in steps of 8 us, a tenth of what is measured here.
    """
    command = [bench.contenders.program("pelton-bench"), "echo", "--connect", proxy.address,
               "--message", "ping", "--connections", "1", "--duration", f"{seconds:g}",
               "--warmup", "0", "--threads", "1", "--json", "-"]
    out = run_load(command, bench.load_core, bench.root, seconds + MORE_SECONDS)
    return command, parse_bench(out)[0]


def warmed_up(bench, work, proxy):
    """Warms redis and the proxy up; the load itself, to be called when the watch has begun."""
    if work.load["clients"] == 1:
        one_client(bench, max(work.warmup, 0.05), proxy)
        return lambda: one_client(bench, work.duration, proxy)
    # redis-benchmark is told a number, not a time: the first rate says how many fill the time.
    rate = redis_benchmark(bench, work, proxy, REDIS_WARMUP_REQUESTS)[1]["requests_per_second"]
    requests = max(int(rate * work.duration), REDIS_WARMUP_REQUESTS)
    return lambda: redis_benchmark(bench, work, proxy, requests)


def run_redis(bench, work, name):
    """Clients that ping a fresh redis-server through a fresh proxy."""
    with redis_server(bench) as redis:
        command = bench.contenders.command(name, work, upstream=redis.address)
        with serving(command, bench.server_core, bench.root) as proxy:
            put_load = warmed_up(bench, work, proxy)
            watch = proc.Watch(proxy.cpu_pid, bench.server_core, [redis.cpu_pid],
                               bench.load_core)
            load_command, values = put_load()
            seen = watch.stop()
            values["cpu_us_per_request"] = seen["cpu_s"] * 1e6 / values["requests"]
            values["server_cpu_percent"] = 100 * seen["cpu_s"] / seen["seconds"]
            return Result(with_rates(values), seen["server_wait"],
                          seen["load_wait"], command, load_command, proxy.line)


def run_iperf(bench, work, name):
    """One flow of iperf3 through a fresh proxy."""
    iperf, port = tool("iperf3"), free_port()
    upstream = [iperf, "-s", "-B", HOST, "-p", port, "--forceflush"]
    with serving(upstream, bench.load_core, bench.root, address=f"{HOST}:{port}", clean=False,
                 recognise=lambda line: "Server listening" in line) as sink:
        command = bench.contenders.command(name, work, upstream=sink.address)
        with serving(command, bench.server_core, bench.root) as proxy:
            host, port = proxy.host_port
            load_command = [iperf, "-c", host, "-p", port, "-t", f"{max(work.duration, 1):.0f}",
                            "-J"]
            watch = proc.Watch(proxy.cpu_pid, bench.server_core, [sink.cpu_pid], bench.load_core)
            received, rate = parse_iperf(run_load(load_command, bench.load_core, bench.root,
                                                  work.duration + MORE_SECONDS))
            seen = watch.stop()
            values = {"bytes": received, "bytes_per_second": rate,
                      "cpu_s_per_gb": seen["cpu_s"] / (received / 1e9),
                      "server_cpu_percent": 100 * seen["cpu_s"] / seen["seconds"]}
            return Result(values, seen["server_wait"], seen["load_wait"],
                          command, load_command, proxy.line)


def run_micro(bench, work, name):
    """One benchmark of pelton-micro, on the server's core."""
    benchmark = work.load["filters"][name]
    command = [bench.contenders.program("pelton-micro"),
               f"--benchmark_filter=^{benchmark}(/|$)", "--benchmark_format=json",
               f"--benchmark_min_time={work.duration:g}"]
    out = run_load(command, bench.server_core, bench.root, work.duration + MORE_SECONDS)
    values, wait = parse_micro(out, benchmark)
    return Result(values, wait, None, command, command)


KINDS = {"bench": run_bench, "redis": run_redis, "iperf": run_iperf, "micro": run_micro}


def run(bench, work, name):
    """One run of `name` under `work`; a Result. Raises RunError."""
    try:
        return KINDS[work.kind](bench, work, name)
    except (ValueError, KeyError, TypeError) as error:  # what a program printed makes no sense
        raise RunError(f"{name} under {work.id}: unexpected output: {error!r}") from error
