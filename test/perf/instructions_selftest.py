#!/usr/bin/env python3
"""Proves that the instruction-count guard passes, fails, skips and updates when it should.

A stand-in for pelton-instructions and one for valgrind let it see any count; the guard itself runs
as ctest runs it. Neighbours: instructions_guard.py, what is tested. Ends with "N passed, M failed".
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

GUARD = pathlib.Path(__file__).resolve().with_name("instructions_guard.py")
TOOLCHAIN = "compiler 1 machine"

PROGRAM = """#!/bin/sh
case $1 in
  --toolchain) echo "compiler 1 machine" ;;
  --list) echo "slow 10 4 an operation"; echo "fast 10 4 another" ;;
esac
"""
# As many instructions an operation as a file of the workload's name says, and 1000 of set-up.
VALGRIND = """#!/bin/sh
if [ "$1" = --version ]; then echo valgrind-1; exit 0; fi
for argument; do
  case $argument in --callgrind-out-file=*) target=${argument#*=} ;; esac
done
shift $(($# - 2))
counts=$(cat "$(dirname "$0")/counts/$1") || { echo "==1== no"; echo "it broke" >&2; exit 1; }
[ "$counts" = refused ] && { echo "no ring here" >&2; exit 78; }
for times in 1 2; do
  cost=$((1000 + times * $2 * 4 * counts))
  printf 'fn=(1) work\\ncfn=(2) helper\\ncalls=1 0\\n1 999\\n+3 %s\\ntotals: %s\\n' $cost $cost \\
    > "$target.$times"
done
"""


class Guard(unittest.TestCase):
    """Each test has a folder with the two stand-ins and a file of baselines."""

    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.folder = pathlib.Path(self.temporary.name)
        self.write("program", PROGRAM)
        self.write("valgrind", VALGRIND)
        (self.folder / "counts").mkdir()
        self.count(slow=100, fast=50)
        self.baseline(slow=100.0, fast=50.0)

    def write(self, name, text):
        """An executable script."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)

    def count(self, **counts):
        """What the stand-in will count."""
        for name, value in counts.items():
            (self.folder / "counts" / name).write_text(str(value), encoding="utf-8")

    def baseline(self, toolchain=TOOLCHAIN, **counts):
        """Writes the file of baselines."""
        text = json.dumps({toolchain: {"valgrind": "valgrind-1", "instructions": counts}})
        (self.folder / "baseline.json").write_text(text, encoding="utf-8")

    def guard(self, *options, path=None):
        """Runs the guard: (exit status, what it printed)."""
        environment = {**os.environ, "PATH": path or f"{self.folder}:{os.environ['PATH']}"}
        command = [sys.executable, "-B", str(GUARD), "--program", str(self.folder / "program"),
                   "--baseline", str(self.folder / "baseline.json"), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False,
                              env=environment, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def test_equal_counts_pass(self):
        status, text = self.guard()
        self.assertEqual(status, 0, text)
        self.assertIn("2 passed, 0 failed", text)

    def test_three_percent_more_pass(self):
        self.count(slow=103)
        self.assertEqual(self.guard()[0], 0)

    def test_over_three_percent_more_fail_by_name(self):
        self.count(slow=104)
        status, text = self.guard()
        self.assertEqual(status, 1)
        self.assertIn("slow: 104.0 instructions per operation, baseline 100.0 (+4.00 %)", text)
        self.assertIn("--show slow", text)
        self.assertIn("--update", text)
        self.assertIn("1 passed, 1 failed", text)

    def test_fewer_are_reported_and_pass(self):
        self.count(fast=40)
        status, text = self.guard()
        self.assertEqual(status, 0)
        self.assertIn("fast: 40.0 instructions per operation, baseline 50.0 (-20.00 %)  "
                      "<- the baseline can be lowered", text)

    def test_workloads_without_partner_fail(self):
        self.baseline(slow=100.0, gone=1.0)
        status, text = self.guard()
        self.assertEqual(status, 1)
        self.assertIn("FAIL  fast: 50.0 instructions, not in the baseline", text)
        self.assertIn("FAIL  gone: in the baseline, but no such workload", text)

    def test_another_toolchain_is_skipped_and_can_be_added(self):
        self.baseline("another", slow=1.0)
        status, text = self.guard()
        self.assertEqual(status, 77)
        self.assertIn(f"no baseline of {TOOLCHAIN}", text)
        self.assertEqual(self.guard("--update")[0], 0)
        self.assertEqual(self.guard()[0], 0)
        baselines = json.loads((self.folder / "baseline.json").read_text(encoding="utf-8"))
        self.assertEqual(baselines["another"]["instructions"], {"slow": 1.0})

    def test_update_of_one_keeps_the_others(self):
        self.count(slow=200, fast=200)
        self.assertEqual(self.guard("--update", "--only", "slow")[0], 0)
        status, text = self.guard()
        self.assertEqual(status, 1)
        self.assertIn("  ok  slow", text)
        self.assertIn("FAIL  fast", text)

    def test_no_valgrind_is_skipped(self):
        (self.folder / "valgrind").unlink()
        os.symlink("/bin/sh", self.folder / "sh")
        status, text = self.guard(path=str(self.folder))
        self.assertEqual(status, 77)
        self.assertIn("valgrind is not installed", text)

    def test_a_refused_ring_is_skipped(self):
        self.count(slow="refused")
        status, text = self.guard()
        self.assertEqual(status, 77)
        self.assertIn("no ring here", text)

    def test_a_workload_that_breaks_fails(self):
        (self.folder / "counts" / "slow").unlink()
        status, text = self.guard()
        self.assertEqual(status, 1)
        self.assertIn("slow ended with 1", text)
        self.assertIn("it broke", text)

    def test_show_lists_what_functions_cost_themselves(self):
        status, text = self.guard("--show", "slow")
        self.assertEqual(status, 0)
        self.assertIn("slow: an operation: 100.0 instructions per operation", text)
        self.assertIn("100.0 %  work", text)
        self.assertNotIn("helper", text)

    def test_wrong_names_are_refused(self):
        for options in (("--only", "none"), ("--show", "none"), ("--jobs", "0")):
            self.assertEqual(self.guard(*options)[0], 2)


def main():
    tests = unittest.defaultTestLoader.loadTestsFromTestCase(Guard)
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(tests)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
