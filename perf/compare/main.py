#!/usr/bin/env python3
"""Compares pelton with its peers and writes runs, report and charts. See perf/README.md.

scripts/bench.sh calls this after it has built everything; it runs by itself, too, with Debian's
python3 (the charts need python3-matplotlib).

Neighbours: cases.py is the table, runs.py measures, summary.py computes, report.py and charts.py
show, against.py has two builds for contenders, ../results/README.md describes the JSON.
Ownership: the document of a comparison is made here and written once, at the end.
"""

import argparse
import contextlib
import json
import os
import pathlib
import resource
import shlex
import signal
import sys
import time

sys.dont_write_bytecode = True

import against  # noqa: E402
import cases  # noqa: E402
import contenders  # noqa: E402
import loads  # noqa: E402
import machine  # noqa: E402
import report  # noqa: E402
import runs  # noqa: E402
import summary  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
PUBLISHED = "perf/results"
UNPUBLISHED = "build/bench"
SCHEMA = 1
OPEN_FILES = 65536


class UsageError(Exception):
    """A comparison that cannot be made as it was asked for; the text is for the user."""


def positive(kind):
    """A number above 0, for argparse."""
    def parse(text):
        value = kind(text)
        if value <= 0:
            raise ValueError(text)
        return value
    parse.__name__ = f"{kind.__name__} above 0"
    return parse


def parser():
    """The command line of scripts/bench.sh, but for --no-setup."""
    made = argparse.ArgumentParser(
        prog="scripts/bench.sh", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Sets up, builds, measures pelton beside its peers, and writes\n"
        "comparison.json (every run), REPORT.md and SVG charts. Server on one core, load on\n"
        "another, a fresh server for each run, in the order A B A B. perf/README.md tells how\n"
        "to read what comes of it.",
        epilog="Only a full run of all rows goes to perf/results, where the published numbers\n"
        "are; all others go to build/bench/..., unless --out says where.\n\n"
        "Exit status: 0 done (with --check: every limit kept), 1 a limit was missed, 2 the\n"
        "comparison could not be made, 3 --check could not tell (something was not measured,\n"
        "or disturbed by other programs), 130 interrupted: what was measured is written.")
    made.add_argument("--quick", action="store_true",
                      help="short runs, fewer rounds, fewer peers on the side: under 3 minutes")
    made.add_argument("--only", nargs="+", metavar="ROW", default=[],
                      help="these rows (see --list; echo-* is allowed)")
    made.add_argument("--list", action="store_true", help="print rows and limits, measure nothing")
    made.add_argument("--rounds", type=positive(int), metavar="N",
                      help="rounds of each row (default: 5 or 3; --quick: 1 to 3)")
    made.add_argument("--duration", type=positive(float), metavar="S",
                      help="seconds measured in each run (default: 2; --quick: 0.4)")
    made.add_argument("--check", action="store_true", help="exit 1 if a limit is missed")
    made.add_argument("--out", type=pathlib.Path, metavar="DIR", help="where the results go")
    made.add_argument("--report-only", action="store_true",
                      help="write report and charts anew from comparison.json in --out "
                      f"(default: {PUBLISHED})")
    made.add_argument("--no-setup", action="store_true",
                      help="install nothing and build nothing: measure what is there")
    made.add_argument("--bin", type=pathlib.Path, metavar="DIR",
                      default=pathlib.Path(contenders.DEFAULT_BIN),
                      help="the programs of the build (default: %(default)s)")
    made.add_argument("--against", type=pathlib.Path, metavar="DIR",
                      help="instead of the peers: the servers of another build, in DIR, beside "
                      "those of --bin; prints ratios, and knows no limits; with --no-setup the "
                      "peers are not built first")
    made.add_argument("--server-core", type=int, metavar="N", help="default: the first allowed")
    made.add_argument("--load-core", type=int, metavar="N",
                      help="default: the first that shares no unit with the server's")
    made.add_argument("--max-wait", type=positive(float), default=3, metavar="PERCENT",
                      help="a run is disturbed where server or load was kept off its core for "
                      "more of the time than this (default: %(default)s)")
    made.add_argument("--attempts", type=positive(int), default=4, metavar="N",
                      help="a disturbed run is made at most so often (default: %(default)s)")
    made.add_argument("--validate", action="store_true", help=argparse.SUPPRESS)  # for bench.sh
    return made


def choose_cores(options):
    """(server core, load core); UsageError where there are no two."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise UsageError(
            f"this process may use core {allowed[0]} only, and the comparison needs two: one for "
            "the server, one for the load. Run it on a machine (or with a taskset, a cpuset, a "
            "--cpuset-cpus) that gives it two")
    server = allowed[0] if options.server_core is None else options.server_core
    others = [core for core in allowed if core != server]
    apart = [core for core in others if core not in machine.siblings(server)]
    load = (apart or others)[0] if options.load_core is None else options.load_core
    for core in (server, load):
        if core not in allowed:
            raise UsageError(f"core {core} is not among those this process may use "
                             f"({', '.join(map(str, allowed))}): choose two of them with "
                             "--server-core and --load-core")
    if server == load:
        raise UsageError("--server-core and --load-core must differ")
    return server, load


def raise_open_files():
    """Open files for 10000 connections, two for each in a proxy; else as many as are allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < OPEN_FILES:
        with contextlib.suppress(OSError, ValueError):  # only root may
            resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
            return
    soft = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def in_tree(path):
    """A path given by the user, relative to the tree where it lies in it."""
    absolute = path.resolve()
    return absolute.relative_to(ROOT) if absolute.is_relative_to(ROOT) else absolute


def output_directory(options, complete=True):
    """Where results go: published numbers are replaced by a full and complete run only."""
    if options.out:
        return options.out
    if options.report_only:
        return ROOT / PUBLISHED
    partial = options.only or options.rounds or options.duration or options.attempts != 4
    if options.against:
        return ROOT / UNPUBLISHED / "against"
    if options.quick:
        return ROOT / UNPUBLISHED / "quick"
    if partial:
        return ROOT / UNPUBLISHED / "partial"
    return ROOT / PUBLISHED if complete else ROOT / UNPUBLISHED / "interrupted"


def print_list():
    """Rows, then limits."""
    for work in cases.WORKS:
        print(f"{work.id:<15} {work.title}: {', '.join(work.contenders)}")
    print()
    for check in cases.CHECKS:
        peers = " or ".join(peer.contender for peer in check.peers)
        if len(check.peers) > 3:
            peers = "the best peer"
        over = f" / {peers}" if peers else ""
        print(f"{check.work}: {check.measure}{over} {check.operator} {check.limit:g}")


def measure(options):
    """Runs everything; the document, complete or not."""
    server_core, load_core = choose_cores(options)
    raise_open_files()
    registry = contenders.load(ROOT, in_tree(options.bin))
    works = cases.select(options.only, options.quick, options.rounds, options.duration)
    if options.against:
        registry.add_build(against.SUBJECTS, in_tree(options.against), against.twin)
        works = against.select(works)
    progress = runs.Progress(works)
    repeats = runs.Repeats(options.attempts, options.max_wait,
                           progress.total * (1.2 if options.quick else 1.6) + 10)
    bench = loads.Bench(registry, server_core, load_core)
    measurement = runs.Measurement(bench, repeats, progress)
    started, clock, complete = time.gmtime(), time.monotonic(), True
    try:
        for work in works:
            measurement.work(work)
    except KeyboardInterrupt:
        complete = False
        print("scripts/bench.sh: interrupted; writing what there is", file=sys.stderr)
    document = {
        "schema": SCHEMA, "mode": "quick" if options.quick else "full", "complete": complete,
        "command": shlex.join(["scripts/bench.sh", *options.arguments]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", started),
        "seconds": round(time.monotonic() - clock),
        "settings": {"server_core": server_core, "load_core": load_core,
                     "max_wait_percent": options.max_wait, "attempts": options.attempts},
        "machine": machine.describe(ROOT),
        "contenders": {name: entry.get("version") for name, entry in registry.entries.items()},
        "works": [{"id": work.id, "title": work.title, "load": work.load,
                   "contenders": list(work.contenders), "rounds": work.run_rounds,
                   "duration_s": work.duration, "warmup_s": work.warmup} for work in works],
        "missing": measurement.missing, "runs": measurement.measured,
    }
    if options.against:
        return document | {"against": str(in_tree(options.against)), "checks": []}
    document["checks"] = summary.checks(document)
    return document


def json_text(document):
    """The document, one run to a line, without the place of this tree on this machine."""
    runs_text = ",\n".join("  " + json.dumps(run) for run in document["runs"])
    text = json.dumps(document | {"runs": []}, indent=1)
    text = text.replace('"runs": []', f'"runs": [\n{runs_text}\n ]' if runs_text else '"runs": []')
    return text.replace(f"{ROOT}/", "").replace(str(ROOT), ".") + "\n"


def write(document, directory):
    """comparison.json; the document as it stands there."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json_text(document)
    (directory / "comparison.json").write_text(text, encoding="utf-8")
    return json.loads(text)


def show(document, directory):
    """REPORT.md and the charts, from the JSON alone."""
    names = []
    try:
        import charts  # noqa: PLC0415  matplotlib takes a second to load, and may be missing
        names = charts.draw_all(document, directory)
    except ImportError as error:
        print(f"scripts/bench.sh: no charts: {error}. apt-get install python3-matplotlib",
              file=sys.stderr)
    (directory / "REPORT.md").write_text(report.markdown(document, names), encoding="utf-8")
    print(report.plain_table(document["checks"]))
    print(f"\n{report.verdict_counts(document['checks'])}. Written to {directory}: "
          f"comparison.json, REPORT.md{''.join(f', {name}' for name in names)}")


def show_against(document, directory):
    """AGAINST.md, and its table for a terminal."""
    (directory / "AGAINST.md").write_text(against.markdown(document), encoding="utf-8")
    print(report.plain([against.HEADINGS, *against.rows(document)]))
    print(*("", *against.left_out(document)), sep="\n")
    print(f"Written to {directory}: comparison.json, AGAINST.md")


def stored(directory):
    """The document in a directory of results."""
    path = directory / "comparison.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"no {path}: {error.strerror}. Name a directory of results with "
                         "--out") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    if document.get("schema") != SCHEMA:
        raise UsageError(f"{path} has schema {document.get('schema')}, not {SCHEMA}: measure anew")
    return document


def interrupt(*_):
    """SIGTERM is treated like Ctrl-C."""
    raise KeyboardInterrupt


def check_against(options):
    """UsageError where --against has nothing to compare, or is asked for what it does not tell."""
    if options.check or options.report_only:
        raise UsageError("--against prints ratios: there are no limits to --check, and no report")
    subjects = against.subjects(cases.select(options.only))
    if not subjects:
        raise UsageError(f"--against compares rows of {', '.join(against.SUBJECTS)}; see --list")
    if not any((options.against / name).exists() for name in subjects):
        raise UsageError(f"no {options.against}/{subjects[0]}: --against takes the directory of "
                         "the programs of another build, such as build/other/bin")


def run(options):
    """Does what the options ask for; the exit status."""
    if options.list:
        print_list()
        return 0
    if options.against:
        check_against(options)
    if options.validate:
        cases.select(options.only)
        choose_cores(options)
        return 0
    if options.report_only:
        document = stored(output_directory(options))
        if document.get("against"):
            raise UsageError(f"{output_directory(options)} compares two builds: there are no "
                             "limits to report on; see AGAINST.md")
        document["checks"] = summary.checks(document)
        show(document, output_directory(options))
    else:
        document = measure(options)
        if not document["runs"]:
            why = "; ".join(dict.fromkeys(each["why"] for each in document["missing"]))
            raise UsageError(f"nothing was measured: {why or 'interrupted before the first run'}")
        directory = output_directory(options, document["complete"])
        (show_against if options.against else show)(write(document, directory), directory)
        if not document["complete"]:
            return 130
    return summary.exit_status(document["checks"]) if options.check else 0


def main(arguments):
    """See parser() for the exit status."""
    options = parser().parse_args(arguments)
    options.arguments = arguments
    signal.signal(signal.SIGTERM, interrupt)
    try:
        return run(options)
    except (UsageError, cases.UnknownRow) as error:
        print(f"scripts/bench.sh: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"scripts/bench.sh: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
