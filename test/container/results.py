"""Prints the results of unittest cases, one line each, and last "N passed, M failed".

Used by check.py and run.py beside it.
"""

import sys
import time
import unittest


class Lines(unittest.TestResult):
    """Prints each result as it comes, what went wrong beneath it."""

    def __init__(self):
        super().__init__()
        self.passed = 0
        self.begun = time.monotonic()

    def startTest(self, test):
        super().startTest(test)
        self.begun = time.monotonic()

    def say(self, word, test, more=""):
        """One line, and the text beneath it."""
        name = ".".join(test.id().split(".")[-2:])
        print(f"{word:>4}  {name} ({time.monotonic() - self.begun:.1f} s)", flush=True)
        for line in more.splitlines():
            print(f"      {line}", flush=True)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1
        self.say("ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.say("SKIP", test, reason)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.say("FAIL", test, self.failures[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.say("FAIL", subtest, self._exc_info_to_string(err, test))

    def addError(self, test, err):
        super().addError(test, err)
        self.say("FAIL", test, self.errors[-1][1])


def run(module_name, only=()):
    """Runs the cases of a module whose names contain one of `only`; returns the exit status."""
    loaded = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[module_name])
    chosen = unittest.TestSuite(
        test for case in loaded for test in case
        if not only or any(word in test.id() for word in only)
    )
    result = Lines()
    chosen.run(result)
    failed = len(result.failures) + len(result.errors)
    if result.testsRun == 0:
        print(f"no test has one of these in its name: {', '.join(only)}")
        failed = 1
    skipped = f", {len(result.skipped)} skipped" if result.skipped else ""
    print(f"{result.passed} passed, {failed} failed{skipped}")
    return 1 if failed else 0
