"""Other people's programs on pelton's servers: redis-benchmark, redis-server, iperf3, a big file.

A test is skipped where its program is not installed.
"""

import hashlib
import json
import os
import pathlib
import random
import shutil
import socket
import subprocess
import time
import unittest

from clients import Upstream, digest_all, receive, receive_all
from harness import HOST, MIB, QUICK, Case, tool, unused_port

FILE_SIZE = (200 if QUICK else 1024) * MIB
REQUESTS = "20000"


class RedisBenchmark(Case):
    """redis-benchmark against the echo (PING comes back as an answer), and redis by proxy."""

    def benchmark(self, address, *options):
        command = [tool("redis-benchmark"), "-h", address.host, "-p", str(address.port),
                   "-n", REQUESTS, "-q", *options]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        out = done.stdout.decode(errors="replace").replace("\r", "\n")
        said = f"{' '.join(command)}: {out[-2000:]}{done.stderr.decode(errors='replace')[-2000:]}"
        self.assertEqual(done.returncode, 0, said)
        rates = [line.strip() for line in out.splitlines() if "requests per second" in line]
        self.assertTrue(rates, said)
        for each in rates:
            self.note(each)
        return rates

    def redis(self):
        """A redis-server on a port of its own; the port."""
        server = tool("redis-server")
        port = unused_port()
        child = self.process(server, "--port", port, "--bind", HOST, "--save", "",
                             "--appendonly", "no", "--dir", self.directory())
        child.line(r"(?i)ready to accept connections")
        return port

    def test_ping_mbulk_against_echo(self):
        server = self.echo()
        rates = self.benchmark(server.address, "-t", "ping_mbulk")
        self.assertRegex(rates[0], r"^PING_MBULK: ")
        figures = server.stop()
        self.assertGreaterEqual(figures["accepted"], 50)

    def test_ping_mbulk_pipelined_against_echo_on_two_threads(self):
        server = self.echo("--threads", "2")
        self.benchmark(server.address, "-t", "ping_mbulk", "-P", "16")
        server.stop()

    def test_redis_through_proxy(self):
        proxy = self.proxy(f"{HOST}:{self.redis()}")
        rates = self.benchmark(proxy.address, "-t", "ping_mbulk,set,get")
        self.assertEqual(len(rates), 3)
        self.benchmark(proxy.address, "-t", "set,get", "-P", "16", "-d", "3000")
        with proxy.address.socket() as sock:
            sock.sendall(b"SET wheel pelton\r\nGET wheel\r\n")
            self.assertEqual(receive(sock, 17), b"+OK\r\n$6\r\npelton\r\n")
        proxy.stop()


class Iperf(Case):
    """iperf3 through the proxy, both ways."""

    def run_iperf(self, address, *options):
        for _ in range(20):  # its server tidies up after a test for a while, and is busy
            done = subprocess.run(
                [tool("iperf3"), "-c", address.host, "-p", str(address.port), "-t", "2", "-J",
                 *options], capture_output=True, timeout=30, check=False)
            out = json.loads(done.stdout)
            if "busy" not in out.get("error", ""):
                break
            time.sleep(0.1)
        self.assertNotIn("error", out)
        self.assertEqual(done.returncode, 0, done.stderr)
        rate = out["end"]["sum_received"]["bits_per_second"]
        self.assertGreater(out["end"]["sum_received"]["bytes"], MIB)
        self.note(f"iperf3 {' '.join(options)}: {rate / 1e9:.2f} Gbit/s")

    def test_iperf3_through_proxy(self):
        server = tool("iperf3")
        port = unused_port()
        child = self.process(server, "-s", "-B", HOST, "-p", port, "--forceflush")
        child.line("Server listening")
        proxy = self.proxy(f"{HOST}:{port}")
        self.run_iperf(proxy.address)
        self.run_iperf(proxy.address, "-R")
        self.run_iperf(proxy.address, "-P", "4")
        proxy.stop()


class BigFile(Case):
    """A file of 1 GB (200 MB where PELTON_QUICK is set) through the proxy, with its SHA-256."""

    TIME_LIMIT = 180

    def make_file(self):
        """A file of FILE_SIZE bytes no two MiB of which are alike; its path and SHA-256."""
        directory = self.directory()
        if shutil.disk_usage(directory).free < FILE_SIZE + 256 * MIB:
            self.skipTest(f"{directory} has no room for a file of {FILE_SIZE // MIB} MiB")
        path = pathlib.Path(directory, "big")
        noise = random.Random(1).randbytes(MIB)
        digest = hashlib.sha256()
        with path.open("wb") as out:
            for index in range(FILE_SIZE // MIB):
                at = index * 997 % MIB
                block = index.to_bytes(8, "big") + noise[at:] + noise[8:at]
                block = block[:MIB].ljust(MIB, b"\0")
                digest.update(block)
                out.write(block)
        return path, digest.hexdigest()

    def test_download(self):
        path, expected = self.make_file()

        def send(sock, _):
            with path.open("rb") as file:
                sock.sendfile(file)
            sock.shutdown(socket.SHUT_WR)
            receive_all(sock)

        upstream = Upstream(self, send, timeout=120)
        proxy = self.proxy(upstream)
        started = time.monotonic()
        with proxy.address.socket(timeout=60) as sock:
            got = digest_all(sock)
        self.report(got, expected, started, proxy)
        upstream.join()
        self.assertEqual(upstream.errors, [])
        proxy.stop()

    def test_upload(self):
        path, expected = self.make_file()
        received = []

        def take(sock, _):
            received.append(digest_all(sock))
            sock.sendall(received[0][0].encode())

        upstream = Upstream(self, take, timeout=120)
        proxy = self.proxy(upstream)
        started = time.monotonic()
        with proxy.address.socket(timeout=120) as sock, path.open("rb") as file:
            sock.sendfile(file)
            sock.shutdown(socket.SHUT_WR)
            answer = receive_all(sock).decode()
        self.assertEqual(upstream.errors, [])
        self.assertEqual(answer, received[0][0])
        self.report(received[0], expected, started, proxy)
        proxy.stop()

    def report(self, got, expected, started, proxy):
        seconds = time.monotonic() - started
        self.assertEqual(got, (expected, FILE_SIZE))
        self.note(f"{FILE_SIZE // MIB} MiB in {seconds:.2f} s,"
                  f" {proxy.cpu_seconds() / (FILE_SIZE / 1e9):.2f} s of proxy CPU per GB,"
                  f" RSS {os.path.basename(proxy.command[0])} {proxy.rss() // 1024} KiB")
        self.assertLess(proxy.rss(), 256 * MIB, "the proxy must not hoard what it passes on")


if __name__ == "__main__":
    unittest.main()
