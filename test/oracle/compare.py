#!/usr/bin/env python3
"""Compares pelton's stream_oracle with CPython's asyncio over seeded scripts, to the letter.

    compare.py --oracle build/release/bin/stream_oracle --scripts 20000 --seed 1
    compare.py --oracle ... --seed 1 --first 4711 --scripts 1      one script again
    compare.py --oracle ... --script FILE                          a script of your own
    compare.py --self python3.13                                   one CPython against another

The reference is cpython_oracle.py beside this file, run by this interpreter; scripts.py writes the
scripts. One pair of processes takes thousands of scripts. The first script that is answered
differently is shrunk, printed with both answers and the seed, and the exit status is 1.
The last line is `N passed, M failed`.
"""

import argparse
import concurrent.futures
import itertools
import pathlib
import re
import shlex
import subprocess
import sys
import time

import scripts

HERE = pathlib.Path(__file__).resolve().parent
REFERENCE = [sys.executable, str(HERE / "cpython_oracle.py")]
BATCH = 2000
BATCH_TIMEOUT = 120
ALONE_TIMEOUT = 15
SHRINK_SECONDS = 60


class Answer:
    """What one side said to a run of scripts."""

    def __init__(self, text, trouble):
        self.text = text
        self.trouble = trouble  # how the process went wrong, or None

    def blocks(self):
        """The answer to each command: result lines and their `=` line."""
        found = [each + "\n" for each in re.findall(r"(?:^[^=].*\n)*^=.*", self.text, re.M)]
        rest = self.text[sum(map(len, found)):]
        return found + ([rest] if rest.strip("\n") else [])


def ask(command, text, timeout):
    """Runs one side over `text`."""
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=timeout,
                              check=False)
    except subprocess.TimeoutExpired as late:
        return Answer((late.stdout or b"").decode(errors="replace"), f"no end in {timeout} s")
    except OSError as error:
        sys.exit(f"compare: cannot run {command[0]}: {error.strerror}")
    trouble = None
    if done.returncode != 0 or done.stderr:
        said = done.stderr.decode(errors="replace")[-2000:].strip()
        trouble = f"exit status {done.returncode}" + (f", stderr: {said}" if said else "")
    return Answer(done.stdout.decode(errors="replace"), trouble)


class Pair:
    """The two sides, run side by side."""

    def __init__(self, reference, oracle):
        self.commands = (reference, oracle)
        self.pool = concurrent.futures.ThreadPoolExecutor(2)

    def ask(self, batch, timeout):
        text = "".join("\n".join(lines) + "\n" for lines in batch)
        return list(self.pool.map(lambda command: ask(command, text, timeout), self.commands))

    def differing(self, batch, timeout):
        """Indices of the scripts answered differently, and whether that list is whole."""
        first, second = self.ask(batch, timeout)
        if first.text == second.text and not first.trouble and not second.trouble:
            return [], True
        ours, theirs = per_script(batch, first), per_script(batch, second)
        bad = [i for i in range(len(batch)) if ours[i] != theirs[i]]
        if first.trouble or second.trouble:
            return bad[:1] or [len(batch) - 1], False
        return bad or [len(batch) - 1], True

    def differs(self, lines):
        first, second = self.ask([lines], ALONE_TIMEOUT)
        return first.text != second.text or bool(first.trouble or second.trouble)


def commands_in(lines):
    return sum(1 for line in lines if line and not line.startswith("#"))


def per_script(batch, answer):
    """The answer's blocks, dealt out to the scripts of the batch."""
    blocks = iter(answer.blocks())
    return [list(itertools.islice(blocks, commands_in(lines))) for lines in batch]


def smaller(lines, chunk):
    """The script without each run of `chunk` lines in turn; the first line stays."""
    for start in range(1, len(lines), chunk):
        yield lines[:start] + lines[start + chunk:]


def without_pairs(lines):
    """The script without any two lines: a feed and the read that takes it go together."""
    for i, j in itertools.combinations(range(1, min(len(lines), 40)), 2):
        yield lines[:i] + lines[i + 1:j] + lines[j + 1:]


def shorter_feeds(lines):
    """The script with one feed cut: to either half, then by a byte at either end."""
    for at, line in enumerate(lines):
        if not line.startswith("feed ") or len(line) <= 7:
            continue
        data = line[5:]
        half = len(data) // 4 * 2 or 2
        for cut in (data[:half], data[half:], data[2:], data[:-2]):
            if cut and cut != data:
                yield lines[:at] + [f"feed {cut}"] + lines[at + 1:]


def first_differing(pair, candidates):
    """The first candidate that still differs, found with as few processes as it takes."""
    candidates = list(candidates)
    while candidates:
        bad, _ = pair.differing(candidates, ALONE_TIMEOUT)
        if not bad:
            return None
        if pair.differs(candidates[bad[0]]):
            return candidates[bad[0]]
        candidates = candidates[bad[0] + 1:]
    return None


def shrink(pair, lines):
    """A script that is as short as this can make it and still differs."""
    deadline = time.monotonic() + SHRINK_SECONDS
    chunk = max(1, len(lines) // 2)
    while time.monotonic() < deadline:
        kept = first_differing(pair, smaller(lines, chunk))
        if kept is None and chunk == 1:
            kept = first_differing(pair, itertools.chain(without_pairs(lines),
                                                         shorter_feeds(lines)))
        if kept is not None:
            lines = kept
            chunk = min(chunk, max(1, len(lines) // 2))
        elif chunk == 1:
            break
        else:
            chunk //= 2
    return lines


def show(pair, lines):
    """Prints a script with both answers, command by command."""
    answers = pair.ask([lines], ALONE_TIMEOUT)
    dealt = [answer.blocks() for answer in answers]
    at = 0
    for line in lines:
        print(f"    {line}")
        if not line or line.startswith("#"):
            continue
        said = [blocks[at] if at < len(blocks) else "(nothing)\n" for blocks in dealt]
        at += 1
        if said[0] == said[1]:
            print(indent("", said[0]), end="")
        else:
            print(indent("asyncio: ", said[0]) + indent("oracle:  ", said[1]), end="")
    for name, answer in zip(("asyncio", "oracle"), answers):
        if answer.trouble:
            print(f"    {name} went wrong: {answer.trouble}")


def indent(label, block):
    return "".join(f"        {label}{line}\n" for line in block.splitlines())


def report(pair, batch, bad, seed, first):
    """Shrinks and prints the script `batch[bad]`."""
    lines = batch[bad]
    print(f"\nscript {first + bad} of seed {seed} is answered differently"
          f" (again: --seed {seed} --first {first + bad} --scripts 1)")
    if pair.differs(lines):
        shrunk = shrink(pair, lines)
        print(f"shrunk from {len(lines)} lines to {len(shrunk)}:\n")
        show(pair, shrunk)
        return
    print("alone it is answered alike: the difference needs the scripts before it."
          f" (again: --seed {seed} --first {first} --scripts {bad + 1})\n")
    for name, answer in zip(("asyncio", "oracle"), pair.ask(batch[:bad + 1], BATCH_TIMEOUT)):
        if answer.trouble:
            print(f"    {name} went wrong: {answer.trouble}")
    show(pair, lines)


def run(pair, seed, first, count):
    """Compares `count` scripts; returns how many passed and failed."""
    passed = 0
    started = time.monotonic()
    for start in range(first, first + count, BATCH):
        size = min(BATCH, first + count - start)
        batch = [scripts.script(seed, index) for index in range(start, start + size)]
        bad, whole = pair.differing(batch, BATCH_TIMEOUT)
        if bad:
            report(pair, batch, bad[0], seed, start)
            return passed + (size - len(bad) if whole else bad[0]), len(bad)
        passed += size
        if sys.stderr.isatty():
            print(f"\r{passed}/{count} scripts, {time.monotonic() - started:.0f} s", end="",
                  file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return passed, 0


def run_file(pair, path):
    """Compares the one script in a file."""
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    differs = pair.differs(lines)
    show(pair, lines)
    return (0, 1) if differs else (1, 0)


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    side = parser.add_mutually_exclusive_group(required=True)
    side.add_argument("--oracle", metavar="COMMAND", help="the program to compare with asyncio")
    side.add_argument("--self", metavar="PYTHON", nargs="?", const=sys.executable, dest="python",
                      help="compare asyncio with that of another Python (default: this one)")
    parser.add_argument("--scripts", type=int, default=20000, metavar="N",
                        help="how many scripts (default %(default)s)")
    parser.add_argument("--seed", type=int, default=None, metavar="S",
                        help="seed of the scripts (default: from the clock, printed)")
    parser.add_argument("--first", type=int, default=0, metavar="INDEX",
                        help="index of the first script (default %(default)s)")
    parser.add_argument("--script", metavar="FILE", help="compare this script and show the answers")
    arguments = parser.parse_args()
    if arguments.scripts < 1 or arguments.first < 0:
        parser.error("--scripts must be at least 1 and --first at least 0")
    if arguments.seed is None:
        arguments.seed = int(time.time())
    return arguments


def main():
    arguments = parse()
    if arguments.python:
        oracle = [arguments.python, REFERENCE[1]]
    else:
        oracle = shlex.split(arguments.oracle)
    pair = Pair(REFERENCE, oracle)
    started = time.monotonic()
    if arguments.script:
        passed, failed = run_file(pair, arguments.script)
    else:
        print(f"seed {arguments.seed}", flush=True)
        passed, failed = run(pair, arguments.seed, arguments.first, arguments.scripts)
        print(f"{time.monotonic() - started:.1f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
