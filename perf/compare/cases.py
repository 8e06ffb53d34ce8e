"""The table of the comparison: every work that is measured, and every limit that is checked.

A Work is one load, put on each of its contenders in turn; a Check is one line of the report: a
quantity of pelton's, by itself or over a peer's, and the limit it must keep.

Neighbours: runs.py measures works, summary.py computes checks, report.py and charts.py show both.
Ownership: constants only; select() gives copies with the settings of one comparison applied.
"""

import dataclasses
import fnmatch

LINE_BYTES = 100
CURVE = (1, 10, 100, 1000, 10000)
ECHO_PEERS = ("uring_echo", "epoll_echo", "asio_uring", "asio_epoll", "libuv", "tokio", "go",
              "node", "uvloop", "asyncio")
PELTON = ("pelton-echo", "pelton-proxy", "pelton_lines", "readuntil", "small_writes")
PROXIES = ("haproxy", "haproxy_splice", "nginx")
HAPROXY = ("haproxy", "haproxy_splice")


class UnknownRow(Exception):
    """A row that the table does not have; its text is for the user."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number that a run yields: what it is called, its unit, and which way is better."""

    title: str
    unit: str
    lower_is_better: bool
    scale: float = 1  # what the raw value is multiplied with before it is shown in `unit`


METRICS = {
    "cpu_us_per_request": Metric("CPU per request", "us", True),
    "requests_per_second": Metric("requests/s", "k/s", False, 1e-3),
    "requests_per_core_second": Metric("requests/s per core", "k/s", False, 1e-3),
    "p50_us": Metric("p50", "us", True),
    "p90_us": Metric("p90", "us", True),
    "p99_us": Metric("p99", "us", True),
    "p99.9_us": Metric("p99.9", "us", True),
    "p99.99_us": Metric("p99.99", "us", True),
    "max_us": Metric("max", "us", True),
    "rss_bytes_per_connection": Metric("memory per connection", "bytes", True),
    "cpu_s_per_gb": Metric("CPU per GB", "s", True),
    "bytes_per_second": Metric("throughput", "GB/s", False, 1e-9),
    "sends_per_turn": Metric("sends per turn", "sends", True),
}
LATENCIES = ("p50_us", "p90_us", "p99_us", "p99.9_us", "p99.99_us")


@dataclasses.dataclass(frozen=True)
class Work:
    """One load. Pairs hold (full, quick); `kind` says which function of loads.py makes a run."""

    id: str
    title: str
    kind: str  # bench, redis, iperf or micro
    load: dict
    contenders: tuple
    metrics: tuple  # what the report's table of this work shows
    rounds: tuple = (5, 2)
    seconds: tuple = (2.0, 0.4)
    warmups: tuple = (0.5, 0.1)
    quick_contenders: tuple = ()  # empty: all
    setup_seconds: float = 0.5  # starting, connecting and stopping, for the estimate of time left
    watched: bool = True  # False: no run of it can be disturbed by who waits for a core
    # Set by select():
    run_rounds: int = 0
    duration: float = 0.0
    warmup: float = 0.0

    def estimate(self):
        """Seconds that one run takes, roughly."""
        return self.duration + self.warmup + self.setup_seconds


@dataclasses.dataclass(frozen=True)
class Quantity:
    """A metric of one contender under one work; with `over`, divided by that under another."""

    work: str
    contender: str
    metric: str
    over: str = ""


@dataclasses.dataclass(frozen=True)
class Check:
    """One limit. `peers` are alternatives: the best of them, by `best_by`, is compared with."""

    work: str  # as the report says it
    measure: str
    subject: Quantity
    operator: str  # "<=", ">=" or "=="
    limit: float
    peers: tuple = ()  # of Quantity; empty: the subject's own value is limited
    best_by: str = ""  # the metric that names the best peer; empty: the check's own

    def works(self):
        """The ids of the works that it needs."""
        quantities = (self.subject, *self.peers)
        return {q.work for q in quantities} | {q.over for q in quantities if q.over}


def _echo(connections):
    """The echo work over TCP with so many connections."""
    plural = "" if connections == 1 else "s"
    big = connections >= 10000
    few = ("pelton-echo", "uring_echo", "epoll_echo", "go")
    return Work(
        f"echo-{connections}", f"echo 64 B, {connections} connection{plural}", "bench",
        {"mode": "echo", "connections": connections, "size": 64, "pipeline": 1},
        ("pelton-echo", *ECHO_PEERS),
        ("cpu_us_per_request", "requests_per_second", "p50_us", "p99_us", "p99.9_us"),
        rounds=(5, 2) if connections in (1, 64) else (3, 1 if big else 2),
        quick_contenders=() if connections in (1, 64) else few,
        setup_seconds=0.5 + connections / 4000)


def _proxy(identity, title, kind, load, metrics, **more):
    """A work of the proxies."""
    return Work(identity, title, kind, load, ("pelton-proxy", *PROXIES), metrics, **more)


def _micro(identity, title, filters, metrics):
    """Single operations, timed by pelton-micro; filters: {contender: name of the benchmark}."""
    return Work(identity, title, "micro", {"filters": filters}, tuple(filters), metrics,
                seconds=(1.0, 0.2), warmups=(0, 0), rounds=(5, 3), setup_seconds=0.3)


WORKS = (
    _echo(64),
    *(_echo(connections) for connections in CURVE),
    Work("unix-64", "echo 64 B, 64 connections, unix socket", "bench",
         {"mode": "echo", "connections": 64, "size": 64, "pipeline": 1, "unix": True},
         ("pelton-echo", "epoll_echo", "uring_echo"),
         ("cpu_us_per_request", "requests_per_second", "p50_us", "p99_us")),
    Work("lines", "lines of 100 B, 16 connections, 128 in flight on each", "bench",
         {"mode": "lines", "connections": 16, "size": LINE_BYTES, "pipeline": 128},
         ("pelton_lines", "asio_epoll", "tokio", "go", "asyncio"),
         ("requests_per_core_second", "requests_per_second", "cpu_us_per_request", "p50_us")),
    _micro("readuntil-100", "readuntil over buffered data, lines of 100 B",
           {"readuntil": "readuntil/100", "memchr": "memchr/100"}, ("bytes_per_second",)),
    _micro("readuntil-4096", "readuntil over buffered data, lines of 4 KiB",
           {"readuntil": "readuntil/4096", "memchr": "memchr/4096"}, ("bytes_per_second",)),
    _micro("small-writes", "many small writes, one drain", {"small_writes": "small_writes"},
           ("sends_per_turn",)),
    _proxy("proxy-50", "proxy to redis, 50 clients", "redis", {"clients": 50},
           ("cpu_us_per_request", "requests_per_second", "p50_us", "p99_us"), setup_seconds=1.0),
    _proxy("proxy-1", "proxy to redis, 1 client", "redis", {"clients": 1},
           ("p50_us", "p99_us", "requests_per_second", "cpu_us_per_request"), setup_seconds=1.0),
    _proxy("proxy-bulk", "proxy, one bulk flow (iperf3)", "iperf", {},
           ("cpu_s_per_gb", "bytes_per_second"), seconds=(3, 1), warmups=(0, 0),
           setup_seconds=0.8),
    Work("connect", "accept, echo 64 B, close; 16 at a time", "bench",
         {"mode": "connect", "connections": 16, "size": 64, "pipeline": 1},
         ("pelton-echo", "epoll_echo", "uring_echo"),
         ("requests_per_core_second", "requests_per_second", "cpu_us_per_request", "p50_us")),
    Work("idle-echo", "10000 idle connections", "bench",
         {"mode": "idle", "connections": 10000, "size": 64, "pipeline": 1},
         ("pelton-echo", *ECHO_PEERS), ("rss_bytes_per_connection",), rounds=(3, 1),
         seconds=(0.5, 0.2), warmups=(0, 0), setup_seconds=2.5, watched=False,
         quick_contenders=("pelton-echo", "uring_echo", "epoll_echo", "go")),
    _proxy("idle-proxy", "4000 idle proxied connections", "bench",
           {"mode": "idle", "connections": 4000, "size": 64, "pipeline": 1, "upstream": True},
           ("rss_bytes_per_connection",), rounds=(3, 1), seconds=(0.5, 0.2), warmups=(0, 0),
           setup_seconds=2.5, watched=False),
)


def _over(work, measure, metric, subject, operator, limit, peers, best_by=""):
    """A check of `subject` over the best of `peers` (names) under one work."""
    title = next(each.title for each in WORKS if each.id == work)
    return Check(title, measure, Quantity(work, subject, metric), operator, limit,
                 tuple(Quantity(work, peer, metric) for peer in peers), best_by)


def _echo_checks():
    """CPU per echo at 64 connections against every peer, and the two special loads."""
    limits = {"uring_echo": 1.03, "epoll_echo": 0.87, "libuv": 0.87, "asio_epoll": 0.87,
              "asio_uring": 0.97, "uvloop": 0.6, "node": 0.6, "go": 0.6, "asyncio": 0.22}
    for peer, limit in limits.items():
        yield _over("echo-64", "CPU per echo", "cpu_us_per_request", "pelton-echo", "<=", limit,
                    (peer,))
    yield _over("echo-1000", "CPU per echo", "cpu_us_per_request", "pelton-echo", "<=", 0.92,
                ("uring_echo",))
    yield _over("echo-1", "p50", "p50_us", "pelton-echo", "<=", 0.40,
                ECHO_PEERS)
    yield _over("echo-1", "CPU per echo, same peer", "cpu_us_per_request", "pelton-echo",
                "<=", 1.0, ECHO_PEERS, "p50_us")


def _curve_checks():
    """What 10000 connections cost over 100: pelton's own growth, and over every peer's."""
    def growth(name):
        return Quantity("echo-10000", name, "cpu_us_per_request", over="echo-100")

    title = "echo 64 B, 10000 connections over 100"
    yield Check(title, "growth of CPU per echo", growth("pelton-echo"), "<=", 1.8)
    for peer in ECHO_PEERS:
        yield Check(title, "growth of CPU per echo", growth("pelton-echo"), "<=", 1.0,
                    (growth(peer),))


def _line_checks():
    """Lines per second and core, and the search for the end of a line."""
    for peer, limit in (("asyncio", 15), ("go", 2), ("tokio", 1.5), ("asio_epoll", 2)):
        yield _over("lines", "lines/s per core", "requests_per_core_second", "pelton_lines", ">=",
                    limit, (peer,))
    for size, limit in ((100, 0.5), (4096, 0.9)):
        yield _over(f"readuntil-{size}", "bytes/s", "bytes_per_second", "readuntil",
                    ">=", limit, ("memchr",))
    yield Check("many small writes, one drain", "sends per turn and stream",
                Quantity("small-writes", "small_writes", "sends_per_turn"), "==", 1)


def _proxy_checks():
    """The proxy with many clients, with one, and in bulk."""
    cpu, gb = "cpu_us_per_request", "cpu_s_per_gb"
    yield _over("proxy-50", "CPU per request", cpu, "pelton-proxy", "<=", 0.82, HAPROXY)
    yield _over("proxy-50", "CPU per request", cpu, "pelton-proxy", "<=", 0.85, ("nginx",))
    yield _over("proxy-1", "p50", "p50_us", "pelton-proxy", "<=", 0.55, HAPROXY)
    yield _over("proxy-bulk", "CPU per GB", gb, "pelton-proxy", "<=", 0.55, ("haproxy_splice",))
    yield _over("proxy-bulk", "throughput", "bytes_per_second", "pelton-proxy", ">=", 1.2,
                HAPROXY)


def _rest_checks():
    """Short connections, memory, the unix socket."""
    memory = "rss_bytes_per_connection"
    yield _over("connect", "connections/s per core", "requests_per_core_second", "pelton-echo",
                ">=", 1.1, ("epoll_echo",))
    yield Check("10000 idle connections", "user-space bytes of each",
                Quantity("idle-echo", "pelton-echo", memory), "<=", 1024)
    yield Check("4000 idle proxied connections", "user-space bytes of each pair",
                Quantity("idle-proxy", "pelton-proxy", memory), "<=", 2048)
    yield _over("unix-64", "CPU per echo", "cpu_us_per_request", "pelton-echo", "<=", 0.87,
                ("epoll_echo",))


CHECKS = (*_echo_checks(), *_curve_checks(), *_line_checks(), *_proxy_checks(), *_rest_checks())


def select(patterns=(), quick=False, rounds=None, duration=None):
    """The works to run, in order, with their settings; patterns are ids or globs like echo-*."""
    chosen = []
    for pattern in patterns:
        matching = [work.id for work in WORKS if fnmatch.fnmatchcase(work.id, pattern)]
        if not matching:
            raise UnknownRow(f"no row is named {pattern}; there are: "
                             f"{', '.join(work.id for work in WORKS)}")
        chosen += matching
    which = 1 if quick else 0
    return [dataclasses.replace(
        work, run_rounds=rounds or work.rounds[which],
        duration=duration or work.seconds[which],
        warmup=work.warmups[which] if duration is None else min(work.warmups[which], duration),
        contenders=work.quick_contenders if quick and work.quick_contenders else work.contenders)
        for work in WORKS if not patterns or work.id in chosen]


def is_pelton(name):
    """True for pelton's own programs and operations."""
    return name in PELTON


def work_of(identity):
    """The work of that id, None if the table has none (any more)."""
    return next((work for work in WORKS if work.id == identity), None)
