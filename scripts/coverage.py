#!/usr/bin/env python3
"""Reports coverage from llvm-cov's exports; scripts/coverage.sh runs it.

Lines come from the LCOV export. Branches come from the JSON export, each side of a condition once,
however many instantiations of a template it is in; those within macros, which is where assertions
that never fail are, do not count. Ends 0 if each folder reaches the limits, 1 if one does not.
"""

import argparse
import collections
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
LAYERS = ("engine", "proto", "stream")
LINES_PERCENT = 90.0
BRANCHES_PERCENT = 80.0


class Counts:
    """How many of how many lines and branches."""

    def __init__(self):
        self.lines = self.lines_hit = self.branches = self.branches_hit = 0

    def __iadd__(self, other):
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self

    def text(self):
        """Two columns of a table."""
        lines = f"{self.lines_hit:5}/{self.lines:<5} {percent(self.lines_hit, self.lines):6.1f} %"
        branches = f"{self.branches_hit:5}/{self.branches:<5}"
        return f"{lines}  {branches} {percent(self.branches_hit, self.branches):6.1f} %"

    def is_enough(self):
        """True where both limits are reached."""
        return (percent(self.lines_hit, self.lines) >= LINES_PERCENT
                and percent(self.branches_hit, self.branches) >= BRANCHES_PERCENT)


def percent(part, whole):
    """All of nothing is all."""
    return 100.0 * part / whole if whole else 100.0


def relative(path):
    """The path within the tree, or None: also for the links below the build directory."""
    resolved = pathlib.Path(path).resolve()
    try:
        inside = resolved.relative_to(ROOT)
    except ValueError:
        return None
    return str(inside) if inside.parts[0] in LAYERS else None


def read_lines(lcov):
    """{file: {line: count}}"""
    files = collections.defaultdict(collections.Counter)
    name = None
    for line in lcov.read_text(encoding="utf-8").splitlines():
        if line.startswith("SF:"):
            name = relative(line[3:])
        elif name and line.startswith("DA:"):
            number, count = line[3:].split(",")[:2]
            files[name][int(number)] += int(count)
    return files


def read_branches(export):
    """{file: {(line, column): [true count, false count]}}"""
    files = collections.defaultdict(dict)
    for data in json.loads(export.read_text(encoding="utf-8"))["data"]:
        for file in data["files"]:
            name = relative(file["filename"])
            for line, column, _, _, true_count, false_count, *_ in file["branches"] if name else ():
                sides = files[name].setdefault((line, column), [0, 0])
                sides[0] += true_count
                sides[1] += false_count
    return files


def ranges(numbers):
    """[1, 2, 3, 7] as "1-3, 7"."""
    parts = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def write_uncovered(path, lines, branches):
    """file:lines, and file:line:column of each condition of which one side is missing."""
    with path.open("w", encoding="utf-8") as out:
        for name in sorted(lines):
            missing = [number for number, count in lines[name].items() if count == 0]
            if missing:
                out.write(f"{name}: lines {ranges(missing)}\n")
            for (line, column), sides in sorted(branches.get(name, {}).items()):
                if lines[name].get(line) == 0:
                    continue  # said already
                for count, side in zip(sides, ("true", "false")):
                    if count == 0:
                        out.write(f"{name}:{line}:{column}: never {side}\n")


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=pathlib.Path, required=True, help="llvm-cov export")
    parser.add_argument("--lcov", type=pathlib.Path, required=True, help="the same as LCOV")
    parser.add_argument("--uncovered", type=pathlib.Path, required=True, help="the file to write")
    options = parser.parse_args()
    lines, branches = read_lines(options.lcov), read_branches(options.json)
    folders = {layer: Counts() for layer in LAYERS}
    print(f"{'':34} {'lines':>20} {'branches':>21}")
    for name in sorted(lines):
        counts = Counts()
        counts.lines = len(lines[name])
        counts.lines_hit = sum(count > 0 for count in lines[name].values())
        sides = [count for pair in branches.get(name, {}).values() for count in pair]
        counts.branches = len(sides)
        counts.branches_hit = sum(count > 0 for count in sides)
        folders[name.partition("/")[0]] += counts
        print(f"{name:34} {counts.text()}")
    for layer, counts in folders.items():
        print(f"{layer + '/':34} {counts.text()}")
    write_uncovered(options.uncovered, lines, branches)
    print(f"not covered: {options.uncovered}")
    poor = [layer for layer, counts in folders.items() if not counts.is_enough()]
    for layer in poor:
        print(f"{layer}/ is below {LINES_PERCENT:.0f} % of lines or "
              f"{BRANCHES_PERCENT:.0f} % of branches")
    return 1 if poor or not lines else 0


if __name__ == "__main__":
    sys.exit(main())
