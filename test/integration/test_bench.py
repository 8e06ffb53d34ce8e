"""pelton-bench against pelton-echo, and against Python servers that are good, slow or wrong.

Neighbours: harness.py; the unit tests of its parts are in test/perf. Skipped where it is not built,
as in builds without the performance programs.
"""

import asyncio
import json
import os
import pathlib
import pty
import re
import signal
import socket
import threading
import time
import unittest

from harness import HOST, QUICK, Case, bin_dir, program, unused_port

SECONDS = "0.5" if QUICK else "1"
PERCENTILES = ["p50", "p90", "p99", "p99.9", "p99.99"]


class PythonServer:
    """An asyncio echo server on a thread. `answer(data, state)` makes what goes back; None closes.

    `state` is a dictionary of the whole server, under the loop's thread alone."""

    def __init__(self, test, answer=lambda data, state: data):
        self.answer = answer
        self.state = {}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        future = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self.serve, HOST, 0), self.loop)
        self.server = future.result(10)
        self.address = f"{HOST}:{self.server.sockets[0].getsockname()[1]}"
        test.addCleanup(self.stop)

    async def serve(self, reader, writer):
        try:
            while data := await reader.read(65536):
                data = self.answer(data, self.state)
                if data is None:
                    break
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()

    def stop(self):
        async def end():
            self.server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        asyncio.run_coroutine_threadsafe(end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


class BenchCase(Case):
    """What the cases below need of pelton-bench."""

    def setUp(self):
        super().setUp()
        if not os.access(bin_dir() / "pelton-bench", os.X_OK):
            self.skipTest("pelton-bench is not built")

    def start(self, mode, address, *options, **kwargs):
        return self.process(program("pelton-bench"), mode, "--connect", str(address), *options,
                            **kwargs)

    def measure(self, mode, address, *options):
        """The JSON of a run that must succeed."""
        made = self.start(mode, address, "--duration", SECONDS, "--json", "-",
                          *(() if mode == "idle" else ("--warmup", "0.1")), *options)
        self.assertEqual(made.wait(40), 0, made.describe())
        return json.loads("\n".join(made.stdout))

    def fails(self, status, *words, mode="echo", address="", options=()):
        """Runs one that must end with `status` and say all of `words`; returns what it said."""
        made = self.start(mode, address, *options)
        self.assertEqual(made.wait(30), status, made.describe())
        self.assertEqual(made.stdout, [], "figures of a run that failed")
        for word in words:
            self.assertIn(word, made.stderr)
        return made.stderr


class Modes(BenchCase):
    """Every mode, and the figures it reports."""

    def check_latency(self, figures):
        latency = figures["latency_us"]
        values = [latency["min"], *(latency[each] for each in PERCENTILES), latency["max"]]
        self.assertEqual(values, sorted(values))
        self.assertGreater(latency["min"], 0)
        self.assertLessEqual(latency["min"], latency["mean"])
        self.assertLessEqual(latency["mean"], latency["max"])

    def check(self, figures, mode, connections, size):
        self.assertEqual(figures["tool"], "pelton-bench")
        self.assertEqual(figures["mode"], mode)
        self.assertEqual(figures["connections"], connections)
        self.assertEqual(figures["size"], size)
        self.assertEqual(figures["errors"], 0)
        self.assertGreater(figures["requests"], 0)
        self.assertGreater(figures["load"]["cpu_s"], 0)
        rate = figures["requests"] / figures["duration_s"]
        self.assertAlmostEqual(figures["requests_per_second"], rate, delta=0.01 * rate + 1)

    def test_echo_with_the_cost_of_the_server(self):
        server = self.echo()
        figures = self.measure("echo", server.address, "--server-pid", server.pid, "-c", "20")
        self.check(figures, "echo", 20, 64)
        self.check_latency(figures)
        self.assertAlmostEqual(figures["duration_s"], float(SECONDS), delta=0.001)
        self.assertAlmostEqual(figures["bytes_per_second"], 64 * figures["requests_per_second"],
                               delta=0.01 * figures["bytes_per_second"])
        cost = figures["server"]
        self.assertEqual(cost["pid"], server.pid)
        self.assertGreater(cost["rss_bytes"], 1 << 20)
        self.assertAlmostEqual(cost["cpu_us_per_request"],
                               cost["cpu_s"] * 1e6 / figures["requests"], places=6)
        self.assertLess(cost["cpu_percent"], 120)
        server.stop()

    def test_echo_sizes_pipelines_and_threads(self):
        server = self.echo()
        for options in (["--size", "1"], ["--size", "14", "--pipeline", "16"],
                        ["--size", "100000", "-c", "3"], ["--size", "3000000", "-c", "2"],
                        ["--pipeline", "1000", "-c", "2"], ["--threads", "3", "-c", "7"]):
            with self.subTest(options=options):
                self.check_latency(self.measure("echo", server.address, *options))
        server.stop()

    def test_echo_on_a_unix_socket(self):
        server = self.echo(listen=f"unix:{self.directory()}/echo")
        self.check(self.measure("echo", server.address), "echo", 64, 64)
        self.check(self.measure("connect", server.address), "connect", 64, 64)
        server.stop()

    def test_a_python_server_in_every_mode(self):
        server = PythonServer(self)
        for mode, size in (("echo", 64), ("lines", 100), ("stream", 65536), ("connect", 64),
                           ("idle", 64)):
            with self.subTest(mode=mode):
                figures = self.measure(mode, server.address, "-c", "10")
                self.check(figures, mode, 10, size)

    def test_lines(self):
        server = self.echo()
        figures = self.measure("lines", server.address, "--pipeline", "64", "-c", "4")
        self.check(figures, "lines", 4, 100)
        self.check_latency(figures)
        server.stop()

    def test_stream_has_bytes_both_ways_and_no_latency(self):
        server = self.echo()
        figures = self.measure("stream", server.address)
        self.check(figures, "stream", 1, 65536)
        self.assertIsNone(figures["latency_us"])
        self.assertGreater(figures["bytes_per_second"], 1e6)
        self.assertGreater(figures["bytes_sent_per_second"], 1e6)
        server.stop()

    def test_connect_closes_what_it_opens(self):
        server = self.echo()
        figures = self.measure("connect", server.address, "-c", "8")
        self.check(figures, "connect", 8, 64)
        self.check_latency(figures)
        self.note(f"{figures['requests_per_second']:.0f} connections/s")
        ended = server.stop()
        self.assertGreaterEqual(ended["accepted"], figures["requests"])

    def test_idle_measures_memory_per_connection(self):
        server = self.echo()
        count = 500
        figures = self.measure("idle", server.address, "-c", count, "--server-pid", server.pid)
        self.assertEqual(figures["requests"], 2 * count)
        self.assertGreaterEqual(figures["duration_s"], float(SECONDS))
        cost = figures["server"]
        self.assertGreater(cost["rss_bytes"], cost["rss_bytes_before"])
        self.assertAlmostEqual(cost["rss_bytes_per_connection"],
                               (cost["rss_bytes"] - cost["rss_bytes_before"]) / count, delta=1)
        server.stop()

    def test_children_of_the_server_count(self):
        server = self.process("sh", "-c", f"{program('pelton-echo')} --listen {HOST}:0; true")
        address = server.line(r"listening on (\S+)")[1]
        children = pathlib.Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
        figures = self.measure("echo", address, "--server-pid", server.pid)
        self.assertGreater(figures["server"]["cpu_s"], 0.01)
        os.kill(int(children), signal.SIGTERM)
        server.wait()

    def test_files_and_a_summary(self):
        server = self.echo()
        folder = pathlib.Path(self.directory())
        made = self.start("echo", server.address, "--duration", "0.3", "--warmup", "0",
                          "--json", folder / "json", "--hdr", folder / "hdr")
        self.assertEqual(made.wait(), 0, made.describe())
        self.assertIn("p99.99", "\n".join(made.stdout))
        figures = json.loads((folder / "json").read_text())
        lines = (folder / "hdr").read_text().splitlines()
        rows = [line.split() for line in lines[2:] if not line.startswith("#")]
        values = [float(row[0]) for row in rows]
        counts = [int(row[2]) for row in rows]
        self.assertEqual(values, sorted(values))
        self.assertEqual(counts, sorted(counts))
        self.assertEqual(float(rows[-1][1]), 1.0)
        self.assertAlmostEqual(values[-1], figures["latency_us"]["max"], delta=0.01)
        self.assertEqual(counts[-1], figures["requests"])
        server.stop()

    def test_a_terminal_sees_progress(self):
        server = self.echo()
        leader, follower = pty.openpty()
        self.addCleanup(os.close, leader)
        made = self.start("echo", server.address, "--duration", "2.2", "--warmup", "0",
                          prepare=lambda: os.dup2(follower, 2))
        self.assertEqual(made.wait(), 0)
        os.close(follower)
        text = os.read(leader, 65536).decode()
        lines = re.findall(r"^ +\d\.0 s +\d+ requests/s .* p50 \d.* p99 \d.* errors 0\r?$", text,
                           re.M)
        self.assertEqual(len(lines), 2, text)
        server.stop()


class OpenLoop(BenchCase):
    """A fixed rate: it is kept, a stall is seen, and what cannot be kept is said."""

    def test_the_rate_is_kept(self):
        server = self.echo()
        for mode in ("echo", "lines"):
            figures = self.measure(mode, server.address, "--rate", "2000", "-c", "10")
            self.assertAlmostEqual(figures["requests_per_second"], 2000, delta=40)
            self.assertEqual(figures["rate"], 2000)
            self.assertEqual(figures["unsent"], 0)
        server.stop()

    def stalls_once(self, data, state):
        """Sleeps for 200 ms once, half a second after the beginning."""
        now = time.monotonic()
        begun = state.setdefault("begun", now)
        if now - begun > 0.5 and not state.get("stalled"):
            state["stalled"] = True
            time.sleep(0.2)
        return data

    def test_a_stall_of_the_server_is_in_the_latencies_of_all_that_were_due(self):
        folder = pathlib.Path(self.directory())
        server = PythonServer(self, self.stalls_once)
        made = self.start("echo", server.address, "--rate", "1000", "-c", "10", "--duration", "2",
                          "--warmup", "0.1", "--json", "-", "--hdr", folder / "hdr")
        self.assertEqual(made.wait(), 0, made.describe())
        latency = json.loads("\n".join(made.stdout))["latency_us"]
        self.assertGreaterEqual(latency["max"], 150_000)
        self.assertGreaterEqual(latency["p99.9"], 150_000)
        self.assertLess(latency["p50"], 20_000)
        rows = [line.split() for line in (folder / "hdr").read_text().splitlines()[2:]
                if not line.startswith("#")]
        total = int(rows[-1][2])
        early = max((int(row[2]) for row in rows if float(row[0]) <= 50_000), default=0)
        # 1000/s for the 150 ms that were more than 50 ms too late.
        self.assertGreaterEqual(total - early, 75, "a stall that only a few requests noticed")
        self.assertLessEqual(total - early, 600)

    def test_a_rate_that_cannot_be_kept_is_said(self):
        def slow(data, _):
            time.sleep(0.002)
            return data
        server = PythonServer(self, slow)
        made = self.start("echo", server.address, "--rate", "5000", "-c", "4", "--duration", "1",
                          "--warmup", "0", "--json", "-")
        self.assertEqual(made.wait(), 0, made.describe())
        figures = json.loads("\n".join(made.stdout))
        self.assertIn("rate of 5000.0/s was not sustained", made.stderr)
        self.assertLess(figures["requests_per_second"], 600)
        self.assertGreater(figures["unsent"], 3000)
        self.assertGreater(figures["latency_us"]["p50"], 100_000)


class Failures(BenchCase):
    """Wrong bytes, servers that go, users who interrupt: told, with the right status, soon."""

    def test_a_corrupted_byte_is_shown(self):
        def corrupt(data, state):
            state["count"] = state.get("count", 0) + 1
            if state["count"] != 100:
                return data
            return data[:5] + bytes([data[5] ^ 1]) + data[6:]
        for mode in ("echo", "lines", "stream", "connect"):
            with self.subTest(mode=mode):
                server = PythonServer(self, corrupt)
                said = self.fails(1, "connection 0", "wrong bytes at offset", "expected", "got",
                                  mode=mode, address=server.address, options=["-c", "1"])
                match = re.search(r"expected (\w\w) .*got (\w\w) ", said)
                self.assertEqual(int(match[1], 16) ^ int(match[2], 16), 1, said)

    def test_swapped_doubled_and_surplus_answers(self):
        def surplus(data, state):
            state["count"] = state.get("count", 0) + 1
            return data + b"!" if state["count"] == 50 else data

        def stale(data, state):
            state["count"] = state.get("count", 0) + 1
            before = state.get("before", data)
            state["before"] = data
            return before if state["count"] == 50 else data
        for answer, words in ((surplus, "1 bytes more than it was given"), (stale, "wrong bytes")):
            server = PythonServer(self, answer)
            self.fails(1, words, address=server.address, options=["-c", "1"])

    def test_a_refused_connection(self):
        address = f"{HOST}:{unused_port()}"
        for mode in ("echo", "stream", "connect", "idle"):
            self.fails(1, address, "Connection refused", "is the server running", mode=mode,
                       address=address)
        self.fails(1, "No such file", address=f"unix:{self.directory()}/none")

    def test_an_early_close(self):
        def close(data, state):
            state["count"] = state.get("count", 0) + 1
            return None if state["count"] == 30 else data
        for mode in ("echo", "connect"):
            server = PythonServer(self, close)
            self.fails(1, "the server closed it", mode=mode, address=server.address,
                       options=["-c", "2"])

    def test_a_server_that_is_killed(self):
        server = self.echo()
        made = self.start("echo", server.address, "--duration", "20")
        time.sleep(0.7)
        server.kill()
        self.assertEqual(made.wait(10), 1, made.describe())
        self.assertRegex(made.stderr, r"connection \d+, after \d+ answers: ")

    def test_a_server_that_falls_silent(self):
        silent = socket.create_server((HOST, 0))
        self.addCleanup(silent.close)
        address = f"{HOST}:{silent.getsockname()[1]}"
        for mode in ("echo", "connect", "idle", "stream"):
            self.fails(1, "silent for 0.5", mode=mode, address=address,
                       options=["--timeout", "0.5", "-c", "4"])

    def test_too_few_descriptors(self):
        made = self.start("echo", f"{HOST}:9", "-c", "1000", nofile=200)
        self.assertEqual(made.wait(), 2)
        self.assertIn("ulimit -n", made.stderr)
        self.assertIn("--connections 1000", made.stderr)

    def test_bad_arguments(self):
        for options, words in ((["--size", "0"], "--size"), (["--threads", "x"], "--threads"),
                               (["--server-pid", "1073741823"], "no process"),
                               (["--json", "/no/such/file"], "--json /no/such/file")):
            self.fails(2, words, address=f"{HOST}:9", options=options)
        self.fails(2, "leave --rate out", mode="stream", address=f"{HOST}:9",
                   options=["--rate", "5"])

    def test_an_interrupt_ends_early_and_reports(self):
        server = self.echo()
        for mode in ("echo", "stream", "connect", "lines"):
            with self.subTest(mode=mode):
                made = self.start(mode, server.address, "--duration", "60", "--warmup", "0.1",
                                  "--json", "-", "--threads", "1", "--server-pid", server.pid)
                time.sleep(0.8)
                made.signal(signal.SIGINT)
                self.assertEqual(made.wait(10), 0, made.describe())
                figures = json.loads("\n".join(made.stdout))
                self.assertTrue(figures["interrupted"])
                self.assertLess(figures["duration_s"], 2)
                self.assertGreater(figures["requests"], 0)
        server.stop()

    def test_an_interrupt_before_the_window_has_no_figures(self):
        server = self.echo()
        made = self.start("echo", server.address, "--warmup", "60")
        time.sleep(0.4)
        made.signal(signal.SIGTERM)
        self.assertEqual(made.wait(10), 1, made.describe())
        self.assertIn("interrupted before anything was measured", made.stderr)
        server.stop()


if __name__ == "__main__":
    unittest.main()
