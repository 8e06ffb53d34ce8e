"""The soak finds what it looks for: a control of its rules, and of the script.

Neighbours: test/soak is what is tested; ctest runs scripts/soak.sh itself for three minutes.
"""

import os
import pathlib
import signal
import subprocess
import sys
import unittest

from harness import MIB, ROOT, Case, bin_dir, sanitized

sys.path.insert(0, str(ROOT / "test" / "soak"))

import samples  # noqa: E402  (found by the path above)

SCRIPT = ROOT / "scripts" / "soak.sh"


class Rules(unittest.TestCase):
    """What samples.Watch makes of samples."""

    def watch(self, memory):
        """A watch with one sample a second, each with the memory that `memory(second)` says."""
        made = object.__new__(samples.Watch)
        made.label = "it"
        made.samples = [{"seconds": second, "rss": memory(second), "impossible": 0}
                        for second in range(1, 181)]
        return made

    def test_level_memory_is_none_however_high_the_peaks(self):
        for memory in (lambda second: 7 * MIB,
                       lambda second: 7 * MIB + (20 * MIB if second % 10 == 0 else 0),
                       lambda second: min(second, 50) * MIB):
            self.assertEqual(self.watch(memory).breaches({}), [])

    def test_memory_that_rises_slowly_is_a_breach(self):
        found = self.watch(lambda second: 7 * MIB + second * 20_000).breaches({})
        self.assertEqual(len(found), 1)
        self.assertIn("memory rises by 2.2", found[0])

    def test_what_is_left_is_a_breach_each(self):
        found = self.watch(lambda second: MIB).breaches({"fds": (8, 9), "buffers_lent": (0, 1)})
        self.assertEqual(found, ["it: fds is 9, it was 8 before the load",
                                 "it: buffers_lent is 1, it was 0 before the load"])

    def test_an_impossible_completion_is_a_breach(self):
        watch = self.watch(lambda second: MIB)
        watch.samples[-1]["impossible"] = 1
        self.assertEqual(watch.breaches({}), ["it: 1 impossible completions"])


@unittest.skipUnless((bin_dir() / "pelton-bench").exists(), "this build has no pelton-bench")
class Script(Case):
    """scripts/soak.sh from the outside."""

    def run_script(self, *options):
        return subprocess.run([SCRIPT, "--bin", bin_dir(), *options], capture_output=True,
                              text=True, timeout=80, check=False)

    def test_a_bad_argument_is_named(self):
        for options, word in (([], "--minutes"), (["--minutes", "0"], "--minutes"),
                              (["--minutes", "1", "--engine", "kqueue"], "kqueue")):
            done = self.run_script(*options)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(word, done.stderr)

    @unittest.skipIf(sanitized(), "an uninstrumented run says as much")
    def test_a_server_that_dies_is_a_breach(self):
        made = self.process(SCRIPT, "--bin", bin_dir(), "--minutes", "0.5",
                            "--out", self.directory())
        made.line("^soak: ")
        os.kill(self.child_named("pelton-echo", made.pid), signal.SIGKILL)
        self.assertEqual(made.wait(60), 1, made.describe())
        said = "\n".join(made.stdout)
        self.assertRegex(said, "(?m)^BREACH .*pelton-echo")
        self.assertRegex(said, "(?m)^soak: failed, ")

    def child_named(self, name, parent):
        children = pathlib.Path(f"/proc/{parent}/task/{parent}/children")
        for pid in map(int, children.read_text(encoding="utf-8").split()):
            if pathlib.Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == name:
                return pid
        raise AssertionError(f"{parent} has no child {name}")


if __name__ == "__main__":
    unittest.main()
