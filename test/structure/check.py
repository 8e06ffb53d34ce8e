#!/usr/bin/env python3
"""Checks the rules of the house: layers, sizes, layout. See CONTRIBUTING.md.

Prints each violation as file:line: what, and its remedy; then "N passed, M failed", counted in
rules. `--self-test` proves instead that every rule fires where it should and nowhere else.
"""

import argparse
import pathlib
import sys

import rules
import selftest
from tree import Tree

PROJECT = pathlib.Path(__file__).resolve().parents[2]


def check(root):
    """Runs every rule over the tree at `root`; returns how many passed and how many failed."""
    tree = Tree(root)
    failed = 0
    for rule in rules.RULES:
        violations = list(rule(tree))
        for violation in violations:
            print(f"{violation} [{rule.__name__}]")
        failed += bool(violations)
    for rule in rules.WARNINGS:
        for violation in rule(tree):
            print(f"warning: {violation} [{rule.__name__}]")
    return len(rules.RULES) - failed, failed


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=pathlib.Path, default=PROJECT, help="the tree to check")
    parser.add_argument("--self-test", action="store_true", help="check the rules themselves")
    options = parser.parse_args()
    passed, failed = selftest.run() if options.self_test else check(options.root)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
