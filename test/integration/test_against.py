"""scripts/bench.sh --against: two builds of pelton side by side.

One short run of one program as both builds. Neighbours: test_compare.py has the comparison with
peers; perf/compare/against.py is what is tested.
"""

import json
import pathlib
import unittest

from harness import ROOT, Case, bin_dir
from test_compare import compare, load, need_programs, run_of


class Against(Case):
    """Ratios without limits, of the servers of two directories."""

    def test_two_builds_have_ratios_whichever_way_is_better(self):
        against = load("against")
        names = ("pelton-echo", against.twin("pelton-echo"))
        runs = [run_of(number, name, value, disturbed, metric=metric)
                for metric, values in (("cpu_us_per_request", ((2, 4), (3, 4), (9, 1))),
                                       ("requests_per_second", ((8e3, 4e3), (6e3, 4e3), (1, 1))))
                for number, pair in enumerate(values, 1)
                for name, value, disturbed in zip(names, pair, (number == 3, False))]
        document = {"runs": runs, "works": [
            {"id": "echo-64", "title": "echo", "contenders": list(names)}]}
        self.assertEqual(against.rows(document), [
            ("echo", "CPU per request", "2.50 us", "4.00 us", "0.625 [0.500..0.750]"),
            ("echo", "requests/s", "7.00 k/s", "4.00 k/s", "1.75 [1.50..2.00]")])
        self.assertEqual(against.rows(document | {"runs": runs[::2]}), [])

    def test_the_other_build_is_started_from_its_own_directory(self):
        contenders, cases = load("contenders"), load("cases")
        registry = contenders.Contenders(ROOT, "elsewhere", [])
        registry.add_build(("pelton-echo", "pelton_lines"), "build/release/bin", "other {}".format)
        connect = cases.work_of("connect")
        self.assertEqual(registry.command("other pelton-echo", connect)[0],
                         str(ROOT / "build/release/bin/pelton-echo"))
        self.assertNotIn("other pelton_lines", registry.entries)

    def test_wrong_options(self):
        for options, words in (
                (["--against", "no-such"], "no no-such/pelton-echo: --against takes"),
                (["--against", bin_dir(), "--check"], "there are no limits to --check"),
                (["--against", bin_dir(), "--only", "small-writes"], "compares rows of")):
            done = compare("--validate", *options)
            self.assertEqual(done.returncode, 2, options)
            self.assertIn(words, done.stderr)

    def test_two_builds_side_by_side(self):
        need_programs()
        directory = pathlib.Path(self.directory())
        other = directory / "bin"
        other.mkdir()
        (other / "pelton-echo").symlink_to(bin_dir().resolve() / "pelton-echo")
        done = compare("--against", other, "--only", "connect", "small-writes", "--rounds", "2",
                       "--duration", "0.1", "--attempts", "1", "--bin", bin_dir(), "--out",
                       directory)
        self.assertEqual(done.returncode, 0, done.stderr)
        document = json.loads((directory / "comparison.json").read_text(encoding="utf-8"))
        self.assertEqual([(run["contender"], run["round"]) for run in document["runs"]],
                         [("pelton-echo", 1), ("pelton-echo (other build)", 1),
                          ("pelton-echo", 2), ("pelton-echo (other build)", 2)])
        programs = [run["command"][0] for run in document["runs"]]
        self.assertEqual(len(set(programs)), 2, programs)
        self.assertEqual(programs[1], str(other / "pelton-echo"))
        self.assertRegex(done.stdout, r"accept, echo .* CPU per request .* us .* us +\d+\.\d+ \[")
        self.assertIn("| CPU per request |", (directory / "AGAINST.md").read_text("utf-8"))
        self.assertFalse((directory / "REPORT.md").exists())
        done = compare("--report-only", "--out", directory)
        self.assertEqual(done.returncode, 2)
        self.assertIn("compares two builds", done.stderr)


if __name__ == "__main__":
    unittest.main()
