#!/usr/bin/env python3
"""Runs the integration tests against built programs.

    test/integration/run.py [--suite tests|faults|load] [--bin DIR] [--only NAME]...
                            [--except NAME]... [--list] [--quick]

The suites: `tests` is test_*.py; `faults` is fault_*.py, a table of faults put to the programs,
which --list prints; `load` is load_*.py, many connections and large floods, with figures. A case
that is about one engine is left out where PELTON_ENGINE names another.

Prints one line for each test, what went wrong beneath it, and last `N passed, M failed,
K skipped`. The exit status is 1 where a test failed. The tests are unittest cases;
`PELTON_BIN=DIR python3 -m unittest` in this directory runs `tests` as well. See harness.py.
"""

import argparse
import os
import pathlib
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PATTERNS = {"tests": "test_*.py", "faults": "fault_*.py", "load": "load_*.py"}


class Lines(unittest.TestResult):
    """Prints each result as it comes."""

    def __init__(self):
        super().__init__()
        self.passed = self.failed = self.passed_over = 0
        self.bad = False

    def startTest(self, test):
        super().startTest(test)
        self.started = time.monotonic()
        self.bad = False
        print(f"  ..  {name_of(test)}", flush=True)

    def say(self, word, test, more=""):
        seconds = time.monotonic() - getattr(self, "started", time.monotonic())
        print(f"{word:>4}  {name_of(test)} ({seconds:.1f} s){more}", flush=True)

    def addSuccess(self, test):
        self.passed += 1
        self.say("ok", test)

    def addSkip(self, test, reason):
        self.passed_over += 1
        self.say("SKIP", test, f": {reason}")

    def addFailure(self, test, err):
        self.failing(test, err)

    def addError(self, test, err):
        self.failing(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self.failing(test, err, f" {subtest._subDescription()}")

    def failing(self, test, err, more=""):
        """One failure is counted for a test, however many parts of it went wrong."""
        if not self.bad:
            self.failed += 1
        self.bad = True
        self.say("FAIL", test, more)
        if hasattr(test, "_testMethodName"):
            text = self._exc_info_to_string(err, test)
        else:
            text = f"{err[0].__name__}: {err[1]}\n"
        print("".join(f"      {line}\n" for line in text.splitlines()), flush=True)


def name_of(test):
    parts = test.id().split(".")
    return ".".join(parts[-3:])


def cases(suite):
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from cases(each)
        else:
            yield each


def fault_of(case):
    """What a case of the suite `faults` is about, as faults.Fault; None for other cases."""
    return getattr(getattr(case, getattr(case, "_testMethodName", ""), None), "fault", None)


def list_cases(chosen):
    """The names; for faults the table of what happens when to whom, and how many there are."""
    rows = [fault_of(each) for each in chosen]
    if None in rows:
        for each in chosen:
            print(name_of(each))
        return
    for row in [("phase", "fault", "program", "engine"), *rows]:
        print(f"{row[0]:<34}{row[1]:<40}{row[2]:<27}{row[3]}".rstrip())
    runs = sum(row.runs for row in rows)
    print(f"{len(rows)} cases; with each engine that they are for {runs}")


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=sorted(PATTERNS), default="tests",
                        help="which tests (default %(default)s)")
    parser.add_argument("--bin", metavar="DIR", default=str(ROOT / "build" / "release" / "bin"),
                        help="where the programs are (default %(default)s)")
    parser.add_argument("--only", metavar="NAME", action="append", default=[],
                        help="run the tests whose names contain NAME (may be repeated)")
    parser.add_argument("--except", metavar="NAME", action="append", default=[], dest="excepted",
                        help="but not those whose names contain NAME (may be repeated)")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    parser.add_argument("--quick", action="store_true", help="smaller transfers (PELTON_QUICK=1)")
    return parser.parse_args()


def main():
    arguments = parse()
    os.environ["PELTON_BIN"] = str(pathlib.Path(arguments.bin).resolve())
    if arguments.quick:
        os.environ["PELTON_QUICK"] = "1"
    if not arguments.list and not pathlib.Path(arguments.bin).is_dir():
        sys.exit(f"run.py: no directory {arguments.bin}: build first, or say --bin DIR")
    sys.path.insert(0, str(HERE))
    suite = unittest.TestLoader().discover(str(HERE), PATTERNS[arguments.suite], str(HERE))
    chosen = [each for each in cases(suite)
              if (not arguments.only or any(only in each.id() for only in arguments.only))
              and not any(excepted in each.id() for excepted in arguments.excepted)]
    if arguments.list:
        list_cases(chosen)
        return 0
    engine = os.environ.get("PELTON_ENGINE", "")
    chosen = [each for each in chosen if fault_of(each) is None or fault_of(each).is_for(engine)]
    if not chosen:
        sys.exit(f"run.py: --only {arguments.only} --except {arguments.excepted} leave no test")
    result = Lines()
    unittest.TestSuite(chosen).run(result)
    print(f"{result.passed} passed, {result.failed} failed, {result.passed_over} skipped")
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
