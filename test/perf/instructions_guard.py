#!/usr/bin/env python3
"""Counts the instructions of pelton's hot operations and compares them with the baseline.

Each workload of pelton-instructions runs under callgrind, which counts exactly: no clock, no load
of the machine, no luck. An operation that needs over 3 % more instructions than the baseline is a
failure, one that needs over 3 % less is reported, so that the baseline can be lowered.

Counts depend on compiler and libraries, so instructions_baseline.json beside this file has one
baseline for each; where there is none, or no valgrind, the comparison is skipped (exit status 77).

Exit status: 0 within the limit, 1 over it, 2 wrong usage, 77 skipped.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass

BASELINE = pathlib.Path(__file__).resolve().with_name("instructions_baseline.json")
TOLERANCE_PERCENT = 3.0
ROUNDING_PERCENT = 1e-6
COUNT_SECONDS_MAX = 120
SKIPPED = 77
RING_REFUSED = 78  # the exit status of pelton's programs where io_uring is not allowed
MEASURED = "pelton_measured"  # the function whose instructions are counted
TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)
NAME = re.compile(r"^(c?fn)=\((\d+)\)(?: (.*))?$")  # a number stands for a name given before
COST = re.compile(r"^[+*-]?\d* (\d+)$")
SHOWN_FUNCTIONS = 30
NAME_COLUMNS = 90


class Skip(Exception):
    """The comparison cannot be made here."""


class Broken(Exception):
    """A count could not be taken, though it should have been."""


@dataclass
class Workload:
    """One line of pelton-instructions --list."""

    name: str
    rounds: int
    operations: int
    text: str


# --- Counting ---


class Counter:
    """Runs workloads of `program` under callgrind."""

    def __init__(self, program, folder):
        self.program = program
        self.folder = pathlib.Path(folder)
        self.valgrind = shutil.which("valgrind")
        if not self.valgrind:
            raise Skip("valgrind is not installed (Debian: valgrind)")
        self.toolchain = self.ask("--toolchain").strip()
        self.workloads = [read_workload(line) for line in self.ask("--list").splitlines()]
        self.valgrind_version = run([self.valgrind, "--version"]).stdout.strip()

    def ask(self, option):
        """What the program answers."""
        done = run([self.program, option])
        if done.returncode != 0:
            raise Broken(f"{self.program} {option}: {done.stderr.strip()}")
        return done.stdout

    def run_callgrind(self, workload):
        """The two files of counts: of the set-up and ROUNDS rounds, and of twice as many."""
        target = self.folder / f"{workload.name}.callgrind"
        done = run([
            self.valgrind, "--tool=callgrind", f"--callgrind-out-file={target}",
            f"--toggle-collect={MEASURED}", f"--dump-after={MEASURED}",
            self.program, workload.name, str(workload.rounds),
        ])
        if done.returncode == RING_REFUSED:
            raise Skip(f"{workload.name}: {own_words(done.stderr)}")
        if done.returncode != 0:
            raise Broken(f"{workload.name} ended with {done.returncode}: {own_words(done.stderr)}")
        return [pathlib.Path(f"{target}.{part}") for part in (1, 2)]

    def count(self, workload):
        """Instructions of one operation."""
        once, twice = (total_of(path) for path in self.run_callgrind(workload))
        return (twice - once) / (workload.rounds * workload.operations)

    def functions(self, workload):
        """[(instructions of one operation, function)], the most costly first."""
        costs = {}
        for sign, path in zip((-1, 1), self.run_callgrind(workload)):
            for function, cost in costs_of(path.read_text(encoding="utf-8", errors="replace")):
                costs[function] = costs.get(function, 0) + sign * cost
        operations = workload.rounds * workload.operations
        return sorted(((cost / operations, name) for name, cost in costs.items()), reverse=True)


def run(command):
    """Runs `command` with an environment that is the same everywhere."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment,
            timeout=COUNT_SECONDS_MAX,
        )
    except subprocess.TimeoutExpired as error:
        raise Broken(f"{' '.join(command)}: not done in {COUNT_SECONDS_MAX} s") from error
    except OSError as error:
        raise Broken(f"{command[0]} cannot be run: {error.strerror}") from error


def own_words(stderr):
    """What the program itself said: valgrind's lines begin with its number."""
    lines = [line for line in stderr.splitlines() if not re.match(r"==\d+==", line)]
    return " ".join(lines).strip() or stderr.strip()


def read_workload(line):
    """A Workload of a line "NAME ROUNDS OPERATIONS what it is"."""
    name, rounds, operations, text = line.split(" ", 3)
    return Workload(name, int(rounds), int(operations), text)


def total_of(path):
    """The total of a file of callgrind's."""
    try:
        match = TOTALS.search(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise Broken(f"callgrind wrote no {path.name}: {error.strerror}") from error
    if not match or int(match[1]) == 0:
        raise Broken(f"{path.name} counts nothing: is {MEASURED}() in the program?")
    return int(match[1])


def costs_of(text):
    """(function, instructions) of each line of costs in a file of callgrind's: the function's own,
    not those of what it calls."""
    names = {}
    function = ""
    in_call = False
    for line in text.splitlines():
        if match := NAME.match(line):
            names.setdefault(match[2], match[3])
            if match[1] == "fn":
                function = names[match[2]]
        elif line.startswith("calls="):
            in_call = True  # the next line has what the call cost
        elif match := COST.match(line):
            if not in_call:
                yield function, int(match[1])
            in_call = False


# --- Comparing ---


@dataclass
class Verdict:
    """One workload against its baseline."""

    name: str
    measured: float | None
    baseline: float | None

    @property
    def percent(self):
        """How much more the operation costs now."""
        return 100 * (self.measured / self.baseline - 1)

    def failed(self, tolerance):
        """True where it costs too much, or where one of the two numbers is missing."""
        if self.measured is None or self.baseline is None:
            return True
        return self.percent > tolerance + ROUNDING_PERCENT

    def line(self, tolerance):
        """The report of it."""
        if self.measured is None:
            return f"FAIL  {self.name}: in the baseline, but no such workload"
        if self.baseline is None:
            return f"FAIL  {self.name}: {self.measured:.1f} instructions, not in the baseline"
        word = "FAIL" if self.failed(tolerance) else "ok"
        note = "  <- the baseline can be lowered" if self.percent < -tolerance else ""
        return (f"{word:>4}  {self.name}: {self.measured:.1f} instructions per operation, baseline "
                f"{self.baseline:.1f} ({self.percent:+.2f} %){note}")


def compare(counts, baseline):
    """The verdicts, in the order of the counts."""
    names = [*counts, *(name for name in baseline if name not in counts)]
    return [Verdict(name, counts.get(name), baseline.get(name)) for name in names]


def report(verdicts, tolerance, command):
    """Prints the verdicts and what to do. Returns how many failed."""
    for verdict in verdicts:
        print(verdict.line(tolerance))
    failed = [verdict for verdict in verdicts if verdict.failed(tolerance)]
    if failed:
        print(f"\nOver the limit of +{tolerance:g} % (or without a partner):")
    for verdict in failed:
        print(f"  {verdict.line(tolerance)[6:]}")
        if verdict.measured is not None:
            print(f"    where they go:       {command} --show {verdict.name}")
    if failed or any(verdict.percent < -tolerance for verdict in verdicts):
        print(f"    update the baseline: {command} --update")
    return len(failed)


# --- The file of baselines ---


def load(path):
    """{toolchain: {"valgrind": version, "instructions": {name: count}}}"""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise Broken(f"{path} is no JSON: {error}; repair it, or delete it and --update") from error


def update(path, counter, counts, whole):
    """Writes the counts in. Those of workloads that are gone go too, if all were counted."""
    baselines = load(path)
    old = baselines.get(counter.toolchain, {}).get("instructions", {})
    new = {name: round(count, 1) for name, count in counts.items()}
    baselines[counter.toolchain] = {
        "valgrind": counter.valgrind_version,
        "instructions": new if whole else {**old, **new},
    }
    path.write_text(json.dumps(baselines, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for name, count in new.items():
        print(f"{name}: {old.get(name, 'none')} -> {count}")
    print(f"{path} has a baseline of {counter.toolchain}")


# --- The program ---


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", metavar="FILE",
                        default="build/release/bin/pelton-instructions",
                        help="pelton-instructions of the build to count (default %(default)s)")
    parser.add_argument("--baseline", metavar="FILE", type=pathlib.Path, default=BASELINE,
                        help="the file of baselines (default: beside this script)")
    parser.add_argument("--only", metavar="NAME", nargs="+", default=[],
                        help="count these workloads only")
    parser.add_argument("--tolerance", metavar="PERCENT", type=float, default=TOLERANCE_PERCENT,
                        help="what an operation may cost more (default %(default)s)")
    parser.add_argument("--jobs", metavar="N", type=int, default=1,
                        help="how many are counted at once; counts do not depend on it")
    parser.add_argument("--keep", metavar="DIR", help="leave callgrind's files in this directory")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--update", action="store_true",
                      help="make what is counted now the baseline of this toolchain")
    what.add_argument("--show", metavar="NAME",
                      help="list the functions that one operation of NAME spends its "
                           "instructions in")
    what.add_argument("--json", action="store_true", help="print the counts, compare nothing")
    arguments = parser.parse_args()
    if arguments.tolerance < 0 or arguments.jobs < 1:
        parser.error("--tolerance must be at least 0 and --jobs at least 1")
    if not pathlib.Path(arguments.program).is_file():
        parser.error(f"--program {arguments.program}: no such file; build pelton-instructions")
    return parser, arguments


def choose(parser, workloads, names):
    """The workloads of these names; all for none."""
    known = {workload.name: workload for workload in workloads}
    for name in names:
        if name not in known:
            parser.error(f"no workload is named '{name}'; there are {', '.join(known)}")
    return [known[name] for name in names] or workloads


def show(counter, workload):
    """Prints the functions of one operation."""
    functions = counter.functions(workload)
    total = sum(cost for cost, _ in functions)
    print(f"{workload.name}: {workload.text}: {total:.1f} instructions per operation")
    for cost, function in functions[:SHOWN_FUNCTIONS]:
        if cost >= 0.05:
            print(f"{cost:9.1f}  {100 * cost / total:5.1f} %  {short(function)}")


def short(function):
    """The name of a function without what every name has in common."""
    return function.replace("pelton::", "").replace("(anonymous namespace)::", "")[:NAME_COLUMNS]


def work(parser, arguments, folder):
    """Does what the arguments say. Returns the exit status."""
    counter = Counter(arguments.program, folder)
    if arguments.show:
        show(counter, choose(parser, counter.workloads, [arguments.show])[0])
        return 0
    workloads = choose(parser, counter.workloads, arguments.only)
    baselines = load(arguments.baseline)
    command = f"{os.path.relpath(__file__)} --program {os.path.relpath(arguments.program)}"
    if not (arguments.update or arguments.json or counter.toolchain in baselines):
        raise Skip(f"there is no baseline of {counter.toolchain}; make one: {command} --update")
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        names = [workload.name for workload in workloads]
        counts = dict(zip(names, pool.map(counter.count, workloads)))
    if arguments.json:
        print(json.dumps({"toolchain": counter.toolchain, "instructions": counts}, indent=2))
        return 0
    if arguments.update:
        update(arguments.baseline, counter, counts, whole=not arguments.only)
        return 0
    return judge(counter, counts, baselines[counter.toolchain], arguments, command)


def judge(counter, counts, baseline, arguments, command):
    """Compares and prints. Returns the exit status."""
    expected = baseline["instructions"]
    if arguments.only:
        expected = {name: expected[name] for name in counts if name in expected}
    print(f"{counter.toolchain}, {counter.valgrind_version}")
    if baseline["valgrind"] != counter.valgrind_version:
        print(f"the baseline was counted by {baseline['valgrind']}, which may count differently")
    verdicts = compare(counts, expected)
    failed = report(verdicts, arguments.tolerance, command)
    print(f"{len(verdicts) - failed} passed, {failed} failed")
    return 1 if failed else 0


def main():
    parser, arguments = parse()
    try:
        if arguments.keep:
            pathlib.Path(arguments.keep).mkdir(parents=True, exist_ok=True)
            return work(parser, arguments, arguments.keep)
        with tempfile.TemporaryDirectory(prefix="pelton-instructions-") as folder:
            return work(parser, arguments, folder)
    except Skip as reason:
        print(f"SKIP  {reason}")
        return SKIPPED
    except (Broken, OSError) as error:
        print(f"instructions_guard.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
