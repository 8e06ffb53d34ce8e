#!/usr/bin/env python3
"""Docker's default seccomp profile as a table of facts, and scripts/seccomp.json made from it.

The table is default_syscalls.txt beside this file: one rule a line, a system call and what must
hold for it. `facts.py --write` makes scripts/seccomp.json anew: the rules of the table, and the
three calls of io_uring. When Docker changes its profile, change the table and run that. check.py
compares the two files; scripts/seccomp.py makes other forms of the profile.
"""

import argparse
import json
import pathlib
import re
import sys
import textwrap

HERE = pathlib.Path(__file__).resolve().parent
TABLE = HERE / "default_syscalls.txt"
PROFILE = HERE.parents[1] / "scripts" / "seccomp.json"
IO_URING = ("io_uring_enter", "io_uring_register", "io_uring_setup")
COMMENT = "io_uring: the only rule here that Docker's default profile does not have"

ARGUMENT = re.compile(r"arg(\d)(?:(<|>|==)(\d+)|&(\d+)==(\d+))$")
COMPARISONS = {"<": "SCMP_CMP_LT", ">": "SCMP_CMP_GT", "==": "SCMP_CMP_EQ"}


class BadTable(Exception):
    """A line of the table that says nothing known."""


def sub_architectures(words):
    """'x86_64 x86 x32' as an entry of a profile's archMap."""
    names = [f"SCMP_ARCH_{word.upper()}" for word in words]
    return {"architecture": names[0], "subArchitectures": names[1:]}


def argument(word):
    """'arg0<12' or 'arg0&2114060288==0' as a profile has it."""
    match = ARGUMENT.match(word)
    if match is None:
        return None
    index, comparison, value, mask, masked = match.groups()
    if mask is None:
        return {"index": int(index), "value": int(value), "op": COMPARISONS[comparison]}
    return {"index": int(index), "value": int(mask), "valueTwo": int(masked),
            "op": "SCMP_CMP_MASKED_EQ"}


def conditions(words):
    """What a profile's entry says beside its names."""
    entry = {"action": "SCMP_ACT_ALLOW"}
    for word in words:
        key, _, value = word.partition("=")
        if compared := argument(word):
            entry.setdefault("args", []).append(compared)
        elif word[:5] == "+CAP_":
            entry.setdefault("includes", {}).setdefault("caps", []).append(word[1:])
        elif word[:5] == "-CAP_":
            entry.setdefault("excludes", {}).setdefault("caps", []).append(word[1:])
        elif key == "arch":
            entry.setdefault("includes", {})["arches"] = value.split(",")
        elif key == "arch!":
            entry.setdefault("excludes", {})["arches"] = value.split(",")
        elif key == "kernel>":
            entry.setdefault("includes", {})["minKernel"] = value
        elif key == "errno":
            entry |= {"action": "SCMP_ACT_ERRNO", "errnoRet": int(value)}
        else:
            raise BadTable(f"'{word}' is no condition")
    return entry


def read_table(path=TABLE):
    """(archMap, entries) of the table: entries in its order, calls of one condition together."""
    architectures, grouped = [], {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if words[0] == "architecture":
            architectures.append(sub_architectures(words[1:]))
            continue
        try:
            entry = conditions(words[1:])
        except BadTable as error:
            raise BadTable(f"{path}:{number}: {error}") from None
        key = json.dumps(entry, sort_keys=True)
        grouped.setdefault(key, (entry, []))[1].append(words[0])
    return architectures, [{"names": sorted(names)} | entry for entry, names in grouped.values()]


def rules(entries):
    """The rules of a profile's entries as a sorted list of texts: one system call each."""
    made = []
    for entry in entries:
        rest = {key: value for key, value in entry.items() if key not in ("names", "comment")}
        made += [f"{name} {json.dumps(rest, sort_keys=True)}" for name in entry["names"]]
    return sorted(made)


def laid_out(architectures, entries):
    """The text of scripts/seccomp.json: an entry a paragraph, its names wrapped."""
    lines = ["{", '  "defaultAction": "SCMP_ACT_ERRNO",', '  "defaultErrnoRet": 1,']
    lines += ['  "archMap": [', ",\n".join(f"    {json.dumps(each)}" for each in architectures)]
    lines += ["  ],", '  "syscalls": [']
    paragraphs = []
    for entry in entries:
        text = json.dumps(entry)
        paragraphs.append("\n".join(textwrap.wrap(
            text, 96, initial_indent="    ", subsequent_indent="      ",
            break_long_words=False, break_on_hyphens=False)))
    return "\n".join(lines + [",\n".join(paragraphs), "  ]", "}"]) + "\n"


def profile_text():
    """What scripts/seccomp.json must be."""
    architectures, entries = read_table()
    ours = {"comment": COMMENT, "names": list(IO_URING), "action": "SCMP_ACT_ALLOW"}
    return laid_out(architectures, [ours, *entries])


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"write {PROFILE.name} anew")
    options = parser.parse_args()
    text = profile_text()
    if options.write:
        PROFILE.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
