"""The comparison of scripts/bench.sh: its arithmetic, what it reads, its report and charts.

No load but in the last case, which makes one short run of each contender of a small row where the
programs are built. The sample is ../perf/compare_sample.json; the comparison is perf/compare/.
"""

import copy
import importlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import unittest
import xml.etree.ElementTree

from harness import ROOT, Case, bin_dir, sanitized

COMPARE = ROOT / "perf" / "compare"
SAMPLE = ROOT / "test" / "perf" / "compare_sample.json"
PYTHON = "/usr/bin/python3"  # Debian's, which has its matplotlib


def load(name):
    """A module of the comparison."""
    if str(COMPARE) not in sys.path:
        sys.path.append(str(COMPARE))
    return importlib.import_module(name)


def command(*options):
    """The command line of the comparison."""
    python = PYTHON if os.access(PYTHON, os.X_OK) else sys.executable
    return [python, "-B", str(COMPARE / "main.py"), *map(str, options)]


def compare(*options, timeout=60, **more):
    """Runs the comparison to its end."""
    return subprocess.run(command(*options), capture_output=True, text=True, timeout=timeout,
                          check=False, cwd=ROOT, **more)


def need_programs():
    """Skips where the comparison has nothing to run."""
    if sanitized():
        raise unittest.SkipTest("instrumented programs are not measured")
    if len(os.sched_getaffinity(0)) < 2:
        raise unittest.SkipTest("one core only")
    for name in ("pelton-bench", "pelton-echo", "epoll_echo"):
        if shutil.which(str(bin_dir() / name)) is None:
            raise unittest.SkipTest(f"{name} is not built")


def run_of(number, contender, value, disturbed=False, work="echo-64",
           metric="cpu_us_per_request"):
    """A run as the JSON holds it, with one figure."""
    return {"work": work, "contender": contender, "round": number, "attempts": 1,
            "disturbed": disturbed, "values": {metric: value}}


class Arithmetic(Case):
    """Ratios of medians, ranges of single rounds, disturbed rounds, verdicts."""

    def evaluated(self, runs, limit=0.87, peers=("epoll_echo",), **more):
        cases, summary = load("cases"), load("summary")
        metric = more.pop("metric", "cpu_us_per_request")
        check = cases.Check(
            "echo", "CPU", cases.Quantity("echo-64", "pelton-echo", metric),
            more.pop("operator", "<="), limit,
            tuple(cases.Quantity("echo-64", peer, metric) for peer in peers), **more)
        return summary.evaluate(check, runs, [], ["echo-64"])

    def rounds(self, ours, theirs, disturbed=()):
        return [run for number, (a, b) in enumerate(zip(ours, theirs), 1) for run in (
            run_of(number, "pelton-echo", a, number in disturbed),
            run_of(number, "epoll_echo", b))]

    def test_a_ratio_is_that_of_the_medians_and_its_range_that_of_the_rounds(self):
        got = self.evaluated(self.rounds([2, 4, 3], [4, 5, 10]))
        self.assertEqual(got["value"], 3 / 5)
        self.assertEqual(got["range"], [3 / 10, 4 / 5])
        self.assertEqual((got["subject_value"], got["subject_range"]), (3, [2, 4]))
        self.assertEqual((got["peer_value"], got["peer_range"]), (5, [4, 10]))
        self.assertEqual((got["verdict"], got["close"]), ("met", False))

    def test_a_limit_inside_the_range_is_close_on_either_side(self):
        self.assertTrue(self.evaluated(self.rounds([4, 4, 5], [5, 5, 5]))["close"])
        missed = self.evaluated(self.rounds([4, 5, 5], [5, 5, 5]))
        self.assertEqual((missed["verdict"], missed["close"]), ("missed", True))

    def test_a_disturbed_round_does_not_count(self):
        got = self.evaluated(self.rounds([2, 2, 90], [4, 4, 4], disturbed=[3]))
        self.assertEqual((got["value"], got["range"]), (0.5, [0.5, 0.5]))
        self.assertEqual((got["rounds"], got["quiet_rounds"]), (3, 2))
        self.assertEqual(got["verdict"], "met")

    def test_fewer_than_half_quiet_rounds_make_no_verdict(self):
        got = self.evaluated(self.rounds([2, 2, 8], [4, 4, 4], disturbed=[1, 2]))
        self.assertEqual(got["verdict"], "disturbed")
        self.assertEqual(got["range"], [0.5, 2], "all rounds are shown")

    def test_more_is_better_for_a_lower_bound(self):
        runs = self.rounds([30, 30], [10, 10])
        self.assertEqual(self.evaluated(runs, 2, operator=">=")["verdict"], "met")
        self.assertEqual(self.evaluated(runs, 4, operator=">=")["verdict"], "missed")

    def test_an_exact_limit(self):
        runs = [run_of(1, "pelton-echo", 1.0)]
        self.assertEqual(self.evaluated(runs, 1, (), operator="==")["verdict"], "met")
        runs = [run_of(1, "pelton-echo", 1.1)]
        self.assertEqual(self.evaluated(runs, 1, (), operator="==")["verdict"], "missed")

    def test_the_best_of_several_peers_is_compared_with(self):
        runs = [*self.rounds([2, 2], [4, 4]), run_of(1, "go", 3), run_of(2, "go", 3)]
        got = self.evaluated(runs, peers=("epoll_echo", "go", "node"))
        self.assertEqual((got["peer"], got["value"]), ("go", 2 / 3))

    def test_the_best_peer_may_be_named_by_another_metric(self):
        runs = [*self.rounds([2, 2], [4, 4]), run_of(1, "go", 3), run_of(2, "go", 3)]
        for run in runs:
            run["values"]["p50_us"] = {"pelton-echo": 5, "epoll_echo": 9, "go": 11}[
                run["contender"]]
        got = self.evaluated(runs, peers=("epoll_echo", "go"), best_by="p50_us")
        self.assertEqual(got["peer"], "epoll_echo")

    def test_what_was_not_measured_says_why(self):
        cases, summary = load("cases"), load("summary")
        check = cases.Check("echo", "CPU", cases.Quantity("echo-64", "pelton-echo", "p50_us"),
                            "<=", 1, (cases.Quantity("echo-64", "go", "p50_us"),))
        missing = [{"work": "echo-64", "contender": "go", "why": "no compiler"}]
        runs = [run_of(1, "pelton-echo", 1, metric="p50_us")]
        got = summary.evaluate(check, runs, missing, ["echo-64"])
        self.assertEqual((got["verdict"], got["why"]), ("not measured", "go: no compiler"))
        got = summary.evaluate(check, runs, [], ["lines"])
        self.assertEqual(got["why"], "echo-64 did not run")

    def test_growth_is_a_quotient_of_two_rows(self):
        cases, summary = load("cases"), load("summary")
        runs = [run_of(n, name, value, work=work) for n in (1, 2) for name, work, value in (
            ("pelton-echo", "echo-100", 3), ("pelton-echo", "echo-10000", 6),
            ("go", "echo-100", 5), ("go", "echo-10000", 20))]
        growth = [check for check in cases.CHECKS if check.subject.over]
        alone = summary.evaluate(growth[0], runs, [], ["echo-100", "echo-10000"])
        self.assertEqual((alone["value"], alone["verdict"]), (2, "missed"))
        over_go = next(c for c in growth if c.peers and c.peers[0].contender == "go")
        got = summary.evaluate(over_go, runs, [], ["echo-100", "echo-10000"])
        self.assertEqual((got["value"], got["verdict"]), (0.5, "met"))

    def test_exit_status(self):
        status = load("summary").exit_status
        self.assertEqual(status([{"verdict": "met"}]), 0)
        self.assertEqual(status([{"verdict": "not measured"}, {"verdict": "missed"}]), 1)
        self.assertEqual(status([{"verdict": "met"}, {"verdict": "disturbed"}]), 3)
        self.assertEqual(status([]), 3)


class Repetition(Case):
    """Disturbed runs are made again, A B A B order, failures do not end the comparison."""

    def setUp(self):
        super().setUp()
        self.runs, self.loads = load("runs"), load("loads")
        self.addCleanup(setattr, self.loads, "run", self.loads.run)
        self.addCleanup(setattr, self.runs, "print", print)
        self.runs.print = lambda *_, **__: None
        self.work = next(iter(load("cases").select(["unix-64"], rounds=2, duration=0.1)))

    def measure(self, make, attempts=3):
        class Everybody:
            @staticmethod
            def why_missing(name, _):
                return "it is not built" if name == "uring_echo" else None

        bench = self.loads.Bench(Everybody(), 0, 1)
        self.loads.run = make
        made = self.runs.Measurement(bench, self.runs.Repeats(attempts, 3, 60),
                                     self.runs.Progress([self.work]))
        made.work(self.work)
        return made

    def result(self, wait=0.0):
        return self.loads.Result({"cpu_us_per_request": 2.0}, wait, None, ["server"], ["load"])

    def test_rounds_visit_everybody_in_turn_and_name_who_is_missing(self):
        made = self.measure(lambda *_: self.result())
        order = [(run["round"], run["contender"]) for run in made.measured]
        self.assertEqual(order, [(1, "pelton-echo"), (1, "epoll_echo"),
                                 (2, "pelton-echo"), (2, "epoll_echo")])
        self.assertEqual(made.missing, [
            {"work": "unix-64", "contender": "uring_echo", "why": "it is not built"}])

    def test_a_disturbed_run_is_made_again(self):
        waits = iter([9.0, 0.1, 0.1, 0.1, 0.1])
        made = self.measure(lambda *_: self.result(next(waits)))
        self.assertEqual([run["attempts"] for run in made.measured], [2, 1, 1, 1])
        self.assertFalse(any(run["disturbed"] for run in made.measured))

    def test_the_least_disturbed_run_is_kept_where_none_is_quiet(self):
        waits = iter([9.0, 5.0, 7.0] + [0.0] * 9)
        first = self.measure(lambda *_: self.result(next(waits))).measured[0]
        self.assertEqual((first["disturbed"], first["attempts"], first["server_wait_percent"]),
                         (True, 3, 5.0))

    def test_who_fails_twice_is_left_out_with_the_reason(self):
        def make(_, __, name):
            if name == "epoll_echo":
                raise load("servers").RunError("it\nbroke")
            return self.result()

        made = self.measure(make)
        self.assertEqual([run["contender"] for run in made.measured], ["pelton-echo"] * 2)
        self.assertIn("it broke", made.missing[-1]["why"])


class Reading(Case):
    """What servers and loads print."""

    def test_start_up_lines(self):
        read = load("servers").start_up
        self.assertEqual(read("epoll_echo listening on 127.0.0.1:4711\n"),
                         ("127.0.0.1:4711", None))
        self.assertEqual(read("pelton-echo listening on [::1]:80 engine=io_uring threads=1"),
                         ("[::1]:80", None))
        self.assertEqual(read("nginx listening on 127.0.0.1:8080 pid=1234"),
                         ("127.0.0.1:8080", 1234))
        self.assertEqual(read("go listening on unix:/tmp/a b"), ("unix:/tmp/a", None))
        self.assertIsNone(read("warning: not listening yet"))

    def test_redis_benchmark(self):
        loads = load("loads")
        text = ('"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms",'
                '"p95_latency_ms","p99_latency_ms","max_latency_ms"\n'
                '"PING_MBULK","47249.80","0.716","0.144","0.663","1.1","1.527","9.959"\n')
        got = loads.parse_redis("WARNING: Could not fetch server CONFIG\n" + text)
        self.assertEqual(got["requests_per_second"], 47249.8)
        self.assertAlmostEqual(got["p50_us"], 663)
        self.assertAlmostEqual(got["max_us"], 9959)
        with self.assertRaisesRegex(load("servers").RunError, "no figures"):
            loads.parse_redis("Error: Connection reset by peer\n")

    def test_iperf(self):
        loads = load("loads")
        text = json.dumps({"end": {"sum_received": {"bytes": 10 ** 9, "bits_per_second": 8e9}}})
        self.assertEqual(loads.parse_iperf(text), (10 ** 9, 1e9))
        with self.assertRaisesRegex(load("servers").RunError, "the server is busy"):
            loads.parse_iperf('{"error": "the server is busy"}')

    def test_pelton_bench(self):
        loads = load("loads")
        report = {"requests": 10, "requests_per_second": 5.0, "errors": 0,
                  "latency_us": {"p50": 7.5, "p99.99": 9}, "load": {"wait_percent": 1.5},
                  "server": {"cpu_us_per_request": 4.0, "wait_percent": 0.25}}
        values, server_wait, load_wait = loads.parse_bench(json.dumps(report))
        self.assertEqual((server_wait, load_wait), (0.25, 1.5))
        self.assertEqual((values["p50_us"], values["p99.99_us"]), (7.5, 9))
        self.assertEqual(values["requests_per_core_second"], 250000)
        with self.assertRaisesRegex(load("servers").RunError, "3 errors"):
            loads.parse_bench(json.dumps(report | {"errors": 3}))

    def test_pelton_micro(self):
        loads = load("loads")
        each = {"name": "memchr/100", "run_type": "iteration", "iterations": 10,
                "real_time": 100.0, "cpu_time": 90.0, "bytes_per_second": 2e9}
        text = json.dumps({"benchmarks": [each, each | {"name": "memchr/1000"}]})
        values, wait = loads.parse_micro(text, "memchr/100")
        self.assertEqual(values, {"bytes_per_second": 2e9})
        self.assertAlmostEqual(wait, 10)
        with self.assertRaisesRegex(load("servers").RunError, "no benchmark readuntil/100"):
            loads.parse_micro(text, "readuntil/100")

    def test_registry(self):
        contenders, cases = load("contenders"), load("cases")
        line = json.dumps({"name": "go", "modes": ["echo"], "unix_command": None,
                           "command": ["build/peers/go_peer", "{mode}", "--port", "0"]})
        registry = contenders.Contenders(
            ROOT, "elsewhere", contenders.parse_registry(f"{line}\n\n"))
        connect = cases.work_of("connect")
        self.assertEqual(registry.command("go", connect),
                         ["build/peers/go_peer", "echo", "--port", "0"])
        self.assertEqual(registry.command("pelton-echo", connect)[0], "elsewhere/pelton-echo")
        self.assertIn("unix", registry.why_missing("go", cases.work_of("unix-64")))
        self.assertIn("lines", registry.why_missing("go", cases.work_of("lines")))
        self.assertIn("peers.sh", registry.why_missing("node", connect))
        with self.assertRaisesRegex(ValueError, "not a peer: 'oops'"):
            contenders.parse_registry("oops")

    def test_servers_cpu_and_children_are_counted(self):
        proc = load("proc")
        child = self.process("sh", "-c", "timeout 20 sh -c 'while :; do :; done'; exit 0")
        deadline = time.monotonic() + 10
        while proc.cpu_and_wait(child.pid)[0] < 0.05 and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertGreaterEqual(proc.cpu_and_wait(child.pid)[0], 0.05)
        family = proc.family(child.pid)
        self.assertGreaterEqual(len(family), 2)
        self.addCleanup(lambda: [os.kill(pid, signal.SIGKILL) for pid in family[1:]
                                 if os.path.exists(f"/proc/{pid}")])


class Disturbance(Case):
    """Who counts as a stranger: not the server itself, not its load, not ksoftirqd."""

    def watched(self, ran, waited, busy_here, busy_there, stolen=0.0):
        """What a Watch says of a second with these seconds in it; ksoftirqd has 0.1 of each."""
        proc = load("proc")
        times = {1: (ran, waited), 2: (0.5, 9.0), 70: (0.1, 0), 71: (0.1, 0)}
        now = [0.0]
        fakes = {
            "cpu_and_wait": lambda pid: tuple(now[0] * each for each in times[pid]),
            "core_times": lambda core: (now[0] * (busy_there if core else busy_here),
                                        now[0] * stolen),
            "softirq_thread": lambda core: 70 + core,
            "_ended_children_seconds": lambda: 0.2 * now[0],
            "time": type("Clock", (), {"monotonic": staticmethod(lambda: now[0])}),
        }
        for name, fake in fakes.items():
            self.addCleanup(setattr, proc, name, getattr(proc, name))
            setattr(proc, name, fake)
        watch = proc.Watch(1, 0, [2], 1)
        now[0] = 1.0
        return watch.stop()

    def test_threads_of_a_server_that_wait_for_each_other_disturb_nobody(self):
        seen = self.watched(ran=0.9, waited=0.4, busy_here=1.0, busy_there=0.8)
        self.assertEqual((seen["server_wait"], seen["load_wait"]), (0, 0))
        self.assertAlmostEqual(seen["cpu_s"], 0.9)

    def test_strangers_on_the_core_of_the_server_count_as_far_as_it_waited(self):
        seen = self.watched(ran=0.4, waited=0.3, busy_here=1.0, busy_there=0.8)
        self.assertAlmostEqual(seen["server_wait"], 30)
        seen = self.watched(ran=0.4, waited=0.0, busy_here=1.0, busy_there=0.8)
        self.assertEqual(seen["server_wait"], 0)

    def test_strangers_on_the_core_of_the_load_and_the_hypervisor_count(self):
        seen = self.watched(ran=0.9, waited=0.5, busy_here=1.0, busy_there=1.0)
        self.assertAlmostEqual(seen["load_wait"], 18)  # 20 ms are rounding
        seen = self.watched(ran=0.9, waited=0.5, busy_here=1.0, busy_there=0.8, stolen=0.1)
        self.assertAlmostEqual(seen["server_wait"], 10)
        self.assertAlmostEqual(seen["load_wait"], 10)


class Report(Case):
    """Report and charts, from the sample's JSON alone."""

    def results(self, change=None):
        """A directory with the sample, changed."""
        document = json.loads(SAMPLE.read_text(encoding="utf-8"))
        if change:
            change(document)
        directory = pathlib.Path(self.directory())
        (directory / "comparison.json").write_text(json.dumps(document), encoding="utf-8")
        return directory

    def written(self, *options, change=None, status=0):
        """(directory, text of the report, what was printed)."""
        directory = self.results(change)
        done = compare("--report-only", "--out", directory, *options)
        self.assertEqual(done.returncode, status, done.stderr)
        return directory, (directory / "REPORT.md").read_text(encoding="utf-8"), done.stdout

    def test_it_says_what_was_met_missed_disturbed_and_not_measured(self):
        _, text, printed = self.written()
        rows = {}  # by the peer's name and the work
        for line in text.partition("## Where")[0].splitlines():
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) == 9:
                rows[f"{cells[4].partition(' ')[0]}/{cells[1]}"] = line
        echo = "echo 64 B, 64 connections"
        # The third round of epoll_echo was disturbed: (3.0 + 3.3) / 2 over (4.0 + 4.2) / 2.
        self.assertIn("0.768 [0.750..0.786] | <= 0.87 | met |", rows[f"epoll_echo/{echo}"])
        self.assertIn("| <= 1.03 | **missed** |", rows[f"uring_echo/{echo}"])
        self.assertIn("not measured", rows[f"asyncio/{echo}"])
        self.assertIn("disturbed, not trusted", rows[f"epoll_echo/{echo}, unix socket"])
        self.assertIn("haproxy_splice", text)
        self.assertIn("MISSED", printed)

    def test_it_says_where_pelton_loses_and_why_something_is_missing(self):
        _, text, _ = self.written()
        lost = text.partition("## Where pelton loses")[2].partition("\n## ")[0]
        self.assertIn("CPU per echo over uring_echo's is 1.24", lost)
        self.assertRegex(lost, r"10000 idle connections \| memory per connection .*epoll_echo")
        self.assertNotIn("| epoll_echo 260", lost, "pelton's p50 is the better one")
        absent = text.partition("## Not measured")[2].partition("\n## ")[0]
        self.assertIn("asyncio in echo-64: no program build/peers/asyncio.", absent)
        self.assertIn("nginx: nginx is not installed.", absent)
        self.assertIn("unix-64, round 1, pelton-echo: server 7.5 %", text)
        for fact in ("Sample CPU (virtual)", "Retpolines", "with uncommitted changes",
                     "go 1.19.8", "build/release/bin/pelton-echo --port 0"):
            self.assertIn(fact, text)

    def test_it_says_so_where_nothing_is_lost(self):
        def keep_one(document):
            document["works"] = document["works"][:1]
            document["runs"] = [run for run in document["runs"] if run["work"] == "echo-64"
                                and run["contender"] in ("pelton-echo", "epoll_echo")]

        _, text, _ = self.written(change=keep_one)
        self.assertIn("No limit was missed.", text)
        self.assertIn("In none of the figures", text)

    def test_check_exits_1_for_a_missed_limit(self):
        self.written("--check", status=1)

    def test_charts_are_xml_the_same_each_time_and_name_everybody(self):
        needs_matplotlib()
        directory, _, _ = self.written()
        charts = {path.name: path.read_bytes() for path in directory.glob("*.svg")}
        self.assertEqual(sorted(charts), ["cpu.svg", "latency.svg", "memory.svg", "scaling.svg",
                                          "throughput.svg"])
        for name, text in charts.items():
            words = "".join(xml.etree.ElementTree.fromstring(text).itertext())
            self.assertIn("pelton", words, name)
            self.assertIn("raw C, epoll", words, name)
            self.assertIn("2026-01-02", words, name)
        again, _, _ = self.written()
        self.assertEqual(charts, {path.name: path.read_bytes() for path in again.glob("*.svg")})

    def test_labels_keep_their_distance_and_their_order(self):
        needs_matplotlib()
        script = ("import sys; sys.path.insert(0, sys.argv[1]); import charts; "
                  "print(charts.spread_labels([10, 11, 50, 10.5], 8))")
        done = subprocess.run([PYTHON, "-B", "-c", script, str(COMPARE)], capture_output=True,
                              text=True, check=True, timeout=60)
        heights = json.loads(done.stdout)
        self.assertEqual(heights, [2.5, 18.5, 50, 10.5])

    def test_results_that_are_none(self):
        empty = self.directory()
        done = compare("--report-only", "--out", empty)
        self.assertEqual(done.returncode, 2)
        self.assertIn(f"no {empty}/comparison.json", done.stderr)
        directory = self.results(lambda document: document.update(schema=99))
        done = compare("--report-only", "--out", directory)
        self.assertEqual(done.returncode, 2)
        self.assertIn("schema 99, not 1", done.stderr)

    def test_no_place_of_this_machine_is_written(self):
        main = load("main")
        document = copy.deepcopy(json.loads(SAMPLE.read_text(encoding="utf-8")))
        document["runs"][0]["command"] = [f"{ROOT}/build/peers/go_peer"]
        document["missing"][0]["why"] = f"not in {ROOT}"
        text = main.json_text(document)
        self.assertNotIn(str(ROOT), text)
        self.assertEqual(json.loads(text)["runs"][0]["command"], ["build/peers/go_peer"])


def needs_matplotlib():
    """Skips a test where Debian's python3 has no matplotlib."""
    done = subprocess.run([PYTHON, "-c", "import matplotlib"], capture_output=True, check=False,
                          timeout=60)
    if done.returncode != 0:
        raise unittest.SkipTest("python3-matplotlib is not installed")


class Readme(Case):
    """README.md's numbers are those of perf/results."""

    def test_the_numbers_are_those_of_the_results(self):
        done = subprocess.run([PYTHON, "-B", COMPARE / "readme.py", "--check"], text=True,
                              capture_output=True, check=False, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_only_what_stands_between_the_markers_is_renewed(self):
        readme = load("readme")
        results = ROOT / "perf" / "results" / "comparison.json"
        document = json.loads(results.read_text(encoding="utf-8"))
        text = f"before\n{readme.BEGIN}stale figures\n{readme.END}after\n"
        new = readme.renewed(text, document)
        self.assertTrue(new.startswith(f"before\n{readme.BEGIN}| work |"))
        self.assertTrue(new.endswith(f"{readme.END}after\n"))
        self.assertNotIn("stale", new)
        self.assertIn("raw C on liburing", new)
        self.assertEqual(readme.renewed(new, document), new)

    def test_results_that_lack_a_row_or_are_of_a_quick_run_are_refused(self):
        readme, summary = load("readme"), load("summary")
        document = json.loads(SAMPLE.read_text(encoding="utf-8"))
        document["checks"] = summary.checks(document)
        with self.assertRaisesRegex(ValueError, "no check of echo-64"):
            readme.numbers(document | {"mode": "full", "complete": True})
        with self.assertRaisesRegex(ValueError, "not of a whole, full run"):
            readme.numbers(document | {"mode": "quick"})

    def test_a_text_without_markers_is_refused(self):
        with self.assertRaisesRegex(ValueError, "has no lines <!-- numbers"):
            load("readme").renewed("no table here\n", {})


class CommandLine(Case):
    """What scripts/bench.sh is asked, and one short run of a row."""

    def test_help_and_list(self):
        done = compare("--help")
        self.assertEqual(done.returncode, 0)
        for word in ("--quick", "--check", "--no-setup", "A B A B", "perf/results"):
            self.assertIn(word, done.stdout)
        done = compare("--list")
        for row in ("echo-64", "proxy-bulk", "idle-proxy", "small-writes"):
            self.assertRegex(done.stdout, rf"(?m)^{row} ")

    def test_every_limit_belongs_to_rows_that_exist(self):
        cases = load("cases")
        rows = {work.id: work for work in cases.WORKS}
        for check in cases.CHECKS:
            for quantity in (check.subject, *check.peers):
                work = rows[quantity.work]
                self.assertIn(quantity.contender, work.contenders)
                self.assertIn(quantity.metric, cases.METRICS)

    def test_wrong_options(self):
        for options, words in (
                (["--only", "no-such-row"], "no row is named no-such-row; there are: echo-64"),
                (["--rounds", "0"], "--rounds"), (["--duration", "-1"], "--duration"),
                (["--server-core", "4000"], "core 4000 is not among"),
                (["--server-core", "0", "--load-core", "0"], "must differ")):
            done = compare("--validate", *options)
            self.assertEqual(done.returncode, 2, options)
            self.assertIn(words, done.stderr)

    def test_one_core_is_too_few(self):
        core = min(os.sched_getaffinity(0))
        done = compare("--only", "connect", "--out", self.directory(),
                       preexec_fn=lambda: os.sched_setaffinity(0, {core}))
        self.assertEqual(done.returncode, 2)
        self.assertIn("the comparison needs two", done.stderr)

    def test_nothing_is_written_where_nothing_was_measured(self):
        if len(os.sched_getaffinity(0)) < 2:
            self.skipTest("one core only")
        directory = pathlib.Path(self.directory())
        done = compare("--only", "small-writes", "--bin", directory, "--out", directory / "out")
        self.assertEqual(done.returncode, 2)
        self.assertIn("nothing was measured: no program", done.stderr)
        self.assertFalse((directory / "out").exists())

    def test_a_short_run_of_a_row(self):
        need_programs()
        directory = pathlib.Path(self.directory())
        done = compare("--only", "connect", "--rounds", "1", "--duration", "0.1", "--attempts",
                       "1", "--bin", bin_dir(), "--out", directory)
        self.assertEqual(done.returncode, 0, done.stderr)
        document = json.loads((directory / "comparison.json").read_text(encoding="utf-8"))
        measured = {run["contender"]: run["values"] for run in document["runs"]}
        self.assertIn("pelton-echo", measured, done.stderr)
        self.assertGreater(measured["pelton-echo"]["requests_per_core_second"], 0)
        self.assertTrue(document["complete"])
        self.assertIn("connections/s per core", done.stdout)
        self.assertTrue((directory / "REPORT.md").is_file())
        self.assertTrue(document["machine"]["kernel"])

    def test_an_interrupted_run_writes_what_it_has(self):
        need_programs()
        directory = pathlib.Path(self.directory())
        child = self.process(*command("--only", "connect", "--rounds", "500", "--duration", "0.1",
                                      "--bin", bin_dir(), "--out", directory))
        deadline = time.monotonic() + 30
        while "1/500 pelton-echo" not in child.stderr and time.monotonic() < deadline:
            time.sleep(0.05)
        child.signal(signal.SIGINT)
        self.assertEqual(child.wait(), 130, child.describe())
        document = json.loads((directory / "comparison.json").read_text(encoding="utf-8"))
        self.assertFalse(document["complete"])
        self.assertGreaterEqual(len(document["runs"]), 1)


if __name__ == "__main__":
    unittest.main()
