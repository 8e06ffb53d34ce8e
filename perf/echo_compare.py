#!/usr/bin/env python3
# echo_compare.py: pelton-echo against raw C echo servers, run in turn on the same two cores.
#
# Two promises are checked: an echo costs at most 1.10 times the CPU that raw liburing spends,
# and with one connection and --busy-poll auto the median latency is at most half of a raw
# epoll server's. Server on one core, load on another, in the order A B A B...; every run has
# a fresh server. A run during which either process was kept off its core is repeated, and a
# round that stays disturbed does not count.
#
# Neighbours: peers/uring_echo.c and peers/epoll_echo.c (the servers compared with),
# bench/echo_load.c (the load, which verifies every byte); README.md tells how to read it.
# Ownership: each server lives for one run, and is ended by the function that started it.
"""Compare pelton-echo with raw C echo servers; see perf/README.md."""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import re
import select
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time

START_SECONDS = 10
STOP_SECONDS = 10
SUBJECT = "pelton-echo"


class CompareError(Exception):
    """Something that keeps the comparison from being made; its text is for the user."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One load, one number taken from it, and how the subject's may relate to the peer's."""

    name: str
    peer: str
    connections: int
    size: int
    metric: str
    limit: float


COMPARISONS = (
    Comparison("CPU per echo", "uring_echo", 64, 64, "server_cpu_us_per_request", 1.10),
    Comparison("latency p50", "epoll_echo", 1, 64, "p50_us", 0.50),
)


def parse_arguments(arguments):
    """The command line; argparse names what is wrong with it and exits 2."""
    parser = argparse.ArgumentParser(
        prog="echo_compare.py",
        description="Compare pelton-echo with raw C echo servers on liburing and on epoll.",
        epilog="Exit status: 0 done (with --check: within both limits), 1 a limit was missed, "
        "2 the comparison could not be made, 3 --check could not tell: other programs "
        "disturbed more than half of the rounds.",
    )
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/release/bin"),
                        help="where the binaries are (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="A B pairs (default: %(default)s)")
    parser.add_argument("--duration", type=float, default=2,
                        help="seconds measured per run (default: %(default)s)")
    parser.add_argument("--warmup", type=float, default=0.5,
                        help="seconds of load before that (default: %(default)s)")
    parser.add_argument("--server-core", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--load-core", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--max-wait", type=float, default=3, metavar="PERCENT",
                        help="repeat a run if the server or the load was runnable but kept off "
                        "its core for more than this share of it (default: %(default)s)")
    parser.add_argument("--attempts", type=int, default=4,
                        help="at most this many runs for one number (default: %(default)s)")
    parser.add_argument("--server-command", metavar="COMMAND",
                        help=f"measure this instead of {SUBJECT}; it must not fork, and print "
                        '"listening on HOST:PORT" once it serves')
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write every number")
    parser.add_argument("--check", action="store_true", help="exit 1 if a limit is missed")
    options = parser.parse_args(arguments)
    options.subject = "server-command" if options.server_command else SUBJECT
    for name in ("rounds", "attempts"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if options.duration <= 0 or options.warmup < 0:
        parser.error("--duration must be above 0, and --warmup not below")
    if options.server_core == options.load_core:
        parser.error("--server-core and --load-core must differ")
    return options


def check_cores(options):
    """Both cores must be ours to use."""
    allowed = os.sched_getaffinity(0)
    for core in (options.server_core, options.load_core):
        if core not in allowed:
            raise CompareError(
                f"core {core} is not among those this process may use "
                f"({', '.join(map(str, sorted(allowed)))}): choose two of them with "
                "--server-core and --load-core")


def binary(options, name):
    """The path of a program that the build made."""
    path = options.bin / name
    if not os.access(path, os.X_OK):
        raise CompareError(
            f"{path} is not there: build it (cmake --preset release && "
            "cmake --build --preset release) or name its directory with --bin")
    return str(path.resolve())


def server_commands(options):
    """The command line of every server, by its name in the table."""
    if options.server_command:
        subject = shlex.split(options.server_command)
    else:
        subject = [binary(options, SUBJECT), "--listen", "127.0.0.1:0", "--threads", "1",
                   "--busy-poll", "auto"]
    commands = {options.subject: subject}
    for peer in {comparison.peer for comparison in COMPARISONS}:
        commands[peer] = [binary(options, peer), "--port", "0"]
    return commands


def pin(core):
    """What a child does before it becomes a program: stay on one core."""
    return lambda: os.sched_setaffinity(0, {core})


def read_line(process, deadline):
    """The next line of a server's output; None when it ended or the deadline passed."""
    left = deadline - time.monotonic()
    ready, _, _ = select.select([process.stdout], [], [], max(left, 0))
    return process.stdout.readline().decode(errors="replace") if ready else None


def wait_until_listening(process, command):
    """The address in the server's start-up line, and that line."""
    deadline = time.monotonic() + START_SECONDS
    while line := read_line(process, deadline):
        if match := re.search(r"\blistening on (\S+:\d+)", line):
            return match.group(1), line.strip()
    ended = line == ""  # end of file: the status follows at once
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = process.wait(1 if ended else 0)
        raise CompareError(f'{shlex.join(command)} ended with status {code} before it printed '
                           '"listening on HOST:PORT"; its own message is above')
    raise CompareError(f'{shlex.join(command)} did not print "listening on HOST:PORT" on '
                       f"stdout within {START_SECONDS} s")


@contextlib.contextmanager
def serving(command, core):
    """A server, from its start-up line until SIGTERM has ended it with status 0."""
    try:
        # Unbuffered, so that select() and readline() agree on what has been read.
        said = tempfile.TemporaryFile("w+")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, bufsize=0,
                                   stdin=subprocess.DEVNULL, preexec_fn=pin(core))
    except OSError as error:
        raise CompareError(f"cannot start {shlex.join(command)}: {error}") from error
    try:
        try:
            address, line = wait_until_listening(process, command)
        except CompareError:
            said.seek(0)
            sys.stderr.write(said.read())
            raise
        yield process.pid, address, line
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise CompareError(f"{shlex.join(command)} was still there {STOP_SECONDS} s "
                               "after SIGTERM") from error
        if code != 0:
            raise CompareError(f"{shlex.join(command)} ended with status {code} on SIGTERM, not 0")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        process.stdout.close()
        said.close()


def run_once(options, comparison, command):
    """One fresh server under one load: what echo_load reports, and the server's own line."""
    with serving(command, options.server_core) as (pid, address, line):
        load = [binary(options, "echo_load"), "--connect", address,
                "--connections", str(comparison.connections), "--size", str(comparison.size),
                "--duration", str(options.duration), "--warmup", str(options.warmup),
                "--server-pid", str(pid)]
        try:
            result = subprocess.run(load, capture_output=True, text=True, check=False,
                                    preexec_fn=pin(options.load_core),
                                    timeout=options.duration + options.warmup + 30)
        except subprocess.TimeoutExpired as error:
            raise CompareError(f"{shlex.join(load)} did not end in time") from error
        if result.returncode != 0:
            raise CompareError(f"{shlex.join(load)} failed against {shlex.join(command)}:\n"
                               f"  {result.stderr.strip()}")
    report = json.loads(result.stdout)
    report["server_line"] = line
    return report


def waited(report):
    """The larger share of the run for which one of the two was kept off its core."""
    return max(report["server_wait_percent"], report["load_wait_percent"])


def run_undisturbed(options, comparison, command):
    """Repeats a run that others disturbed; if none was quiet, the least disturbed of them."""
    best = None
    for attempt in range(1, options.attempts + 1):
        report = run_once(options, comparison, command)
        report["attempts"] = attempt
        report["disturbed"] = waited(report) > options.max_wait
        if not report["disturbed"]:
            return report
        if best is None or waited(report) < waited(best):
            best = report
        if attempt < options.attempts:
            time.sleep(1)
    best["attempts"] = options.attempts
    return best


def compare(options, comparison, commands):
    """All rounds of one comparison, and what they come to."""
    runs = {options.subject: [], comparison.peer: []}
    for number in range(1, options.rounds + 1):
        for name, reports in runs.items():
            report = run_undisturbed(options, comparison, commands[name])
            reports.append(report)
            print(f"  {comparison.name}, round {number} of {options.rounds}: {name} "
                  f"{report[comparison.metric]:.3f} us, "
                  f"{report['requests_per_second']:.0f} echoes/s"
                  f"{', DISTURBED' if report['disturbed'] else ''}", file=sys.stderr, flush=True)
    return {**dataclasses.asdict(comparison), **summary(comparison, *runs.values()), "runs": runs}


def summary(comparison, subject_runs, peer_runs):
    """What the rounds come to: the quiet ones, or, where those are under half, all of them."""
    pairs = list(zip(subject_runs, peer_runs, strict=True))
    quiet = [pair for pair in pairs if not any(report["disturbed"] for report in pair)]
    trusted = 2 * len(quiet) >= len(pairs)
    used = quiet if trusted else pairs
    values = [(a[comparison.metric], b[comparison.metric]) for a, b in used]
    subject, peer = zip(*values)
    ratios = [a / b for a, b in values]
    ratio = statistics.median(subject) / statistics.median(peer)
    return {
        "subject_median": statistics.median(subject),
        "subject_range": [min(subject), max(subject)],
        "peer_median": statistics.median(peer),
        "peer_range": [min(peer), max(peer)],
        "ratio": ratio, "ratio_range": [min(ratios), max(ratios)],
        "within_limit": ratio <= comparison.limit,
        "rounds": len(pairs), "quiet_rounds": len(quiet), "trusted": trusted,
    }


def spread(median, low_high, digits):
    """A median with its range, for the table."""
    return f"{median:.{digits}f} ({low_high[0]:.{digits}f}-{low_high[1]:.{digits}f})"


def print_table(results, subject):
    """The verdicts, one line each."""
    rows = [("what", "load", subject, "peer", "ratio", "limit", "")]
    for r in results:
        plural = "" if r["connections"] == 1 else "s"
        verdict = "ok" if r["within_limit"] else "MISSED"
        if r["quiet_rounds"] < r["rounds"]:
            verdict += f", {r['quiet_rounds']} of {r['rounds']} rounds quiet"
        if not r["trusted"]:
            verdict += ": NOT TO BE TRUSTED"
        rows.append((f"{r['name']}, us", f"{r['connections']} connection{plural} x {r['size']} B",
                     spread(r["subject_median"], r["subject_range"], 2),
                     f"{r['peer']} {spread(r['peer_median'], r['peer_range'], 2)}",
                     spread(r["ratio"], r["ratio_range"], 3), f"{r['limit']:.2f}", verdict))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def processor():
    """The processor's name, as the kernel gives it."""
    with contextlib.suppress(OSError):
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if match := re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE):
            return match.group(1)
    return platform.machine()


def write_json(options, commands, results):
    """Everything a reader needs to judge the numbers, and to make them again."""
    document = {
        "command": [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]],
        "subject": options.subject,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(), "processor": processor(), "cores": os.cpu_count(),
        "servers": {name: [os.path.basename(command[0]), *command[1:]]
                    for name, command in commands.items()},
        "comparisons": results,
    }
    try:
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise CompareError(f"cannot write --json {options.json}: {error}") from error


def exit_status(results):
    """The exit status of --check: a trusted miss counts, a disturbed result proves nothing."""
    if any(r["trusted"] and not r["within_limit"] for r in results):
        return 1
    if not all(r["trusted"] for r in results):
        print("echo_compare.py: the machine was too busy to tell; run it when other programs "
              "are quiet (or allow more with --max-wait)", file=sys.stderr)
        return 3
    return 0


def main(arguments):
    """Runs the comparisons; see --help for the exit status."""
    options = parse_arguments(arguments)
    try:
        check_cores(options)
        commands = server_commands(options)
        binary(options, "echo_load")
        results = [compare(options, comparison, commands) for comparison in COMPARISONS]
        print_table(results, options.subject)
        if options.json:
            write_json(options, commands, results)
    except CompareError as error:
        print(f"echo_compare.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return exit_status(results) if options.check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
