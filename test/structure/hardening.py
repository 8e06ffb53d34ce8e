#!/usr/bin/env python3
"""Looks whether built programs are hardened, by what readelf says of them.

    test/structure/hardening.py PROGRAM... [--cet LIBRARY...]

Each program must start at a random place (PIE), resolve its symbols at the start and make them
read-only (RELRO, NOW), have no executable stack and no relocation of code, check its stack and its
calls of the C library (canaries, fortified functions), and look for its libraries nowhere but where
the system does. Each object of a library must be marked for control-flow protection; a program is
only where the system's start files are, which Debian's are not. Ends with "N passed, M failed".
"""

import argparse
import re
import subprocess
import sys


class Program:
    """What readelf says of one program."""

    def __init__(self, path):
        self.path = path
        self.header = readelf("--file-header", path)
        self.segments = readelf("--program-headers", path)
        self.dynamic = readelf("--dynamic", path)
        self.symbols = readelf("--dyn-syms", path)

    def imports(self, pattern):
        """True where a symbol that the C library gives has this name."""
        return re.search(rf"\bUND {pattern}@", self.symbols) is not None


def readelf(option, path):
    """The output for one option, in English."""
    done = subprocess.run(
        ["readelf", "--wide", option, path], capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )
    if done.returncode != 0:
        sys.exit(f"hardening: readelf {option} {path}: {done.stderr.strip()}")
    return done.stdout


def starts_anywhere(program):
    """-fPIE -pie"""
    is_shared = re.search(r"Type:\s+DYN\b", program.header)
    return is_shared and re.search(r"\(FLAGS_1\).*\bPIE\b", program.dynamic)


def has_read_only_relocations(program):
    """-Wl,-z,relro"""
    return re.search(r"^\s*GNU_RELRO\b", program.segments, re.MULTILINE)


def binds_at_the_start(program):
    """-Wl,-z,now"""
    return re.search(r"\(FLAGS\).*\bBIND_NOW\b|\(FLAGS_1\).*\bNOW\b", program.dynamic)


def has_no_executable_stack(program):
    """-Wl,-z,noexecstack"""
    stack = re.search(r"^\s*GNU_STACK\s.*?\s([RWE ]{3})\s+0x", program.segments, re.MULTILINE)
    return stack and "E" not in stack[1]


def has_no_writable_code(program):
    """no segment that is written and run"""
    loads = re.findall(r"^\s*LOAD\s.*?\s([RWE ]{3})\s+0x", program.segments, re.MULTILINE)
    return loads and not any("W" in flags and "E" in flags for flags in loads)


def has_no_code_relocations(program):
    """no TEXTREL: all code is position-independent"""
    return "TEXTREL" not in program.dynamic


def has_no_search_path(program):
    """no RPATH or RUNPATH"""
    return not re.search(r"\((?:RPATH|RUNPATH)\)", program.dynamic)


def checks_its_stack(program):
    """-fstack-protector-strong"""
    return program.imports("__stack_chk_fail")


def checks_calls(program):
    """-D_FORTIFY_SOURCE"""
    return program.imports(r"__\w+_chk")


def objects_without_cet(library):
    """The objects of a static library, or a shared one, without -fcf-protection=full."""
    notes = readelf("--notes", library)
    objects = re.split(r"^File: ", notes, flags=re.MULTILINE)[1:] or [f"{library}\n{notes}"]
    marked = re.compile(r"x86 feature:.*\bIBT\b.*\bSHSTK\b")
    return [each.partition("\n")[0] for each in objects if not marked.search(each)]


CHECKS = (
    starts_anywhere, has_read_only_relocations, binds_at_the_start, has_no_executable_stack,
    has_no_writable_code, has_no_code_relocations, has_no_search_path, checks_its_stack,
    checks_calls,
)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("programs", nargs="+", metavar="PROGRAM", help="what to look at")
    parser.add_argument("--cet", nargs="*", default=[], metavar="LIBRARY",
                        help="libraries whose objects must be marked for control-flow protection")
    options = parser.parse_args()
    passed = failed = 0
    for program in map(Program, options.programs):
        for check in CHECKS:
            good = bool(check(program))
            passed += good
            failed += not good
            if not good:
                print(f"{program.path}: not {check.__name__.replace('_', ' ')} ({check.__doc__})")
    for library in options.cet:
        bad = objects_without_cet(library)
        passed += not bad
        failed += bool(bad)
        for name in bad:
            print(f"{name}: not marked for control-flow protection (-fcf-protection=full)")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
