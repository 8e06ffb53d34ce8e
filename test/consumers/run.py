#!/usr/bin/env python3
"""Installs pelton and builds an application against it in each way that is offered.

    test/consumers/run.py --source DIR --build DIR

By find_package and pkg-config from an installed tree, by add_subdirectory and FetchContent from
the sources; each program is run. What is built lands in BUILD/consumers and is kept, so that a
second run is quick. Ends with "N passed, M failed".
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PRIVATE_INCLUDE = re.compile(r'^\s*#\s*include\s*[<"](?:spdlog|fmt|liburing)[./]')


class Failure(Exception):
    """A step went wrong; the text says how."""


def run(*command, **environment):
    """Runs a command and returns what it printed."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, env=os.environ | environment, text=True, check=False, timeout=600,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    if done.returncode != 0:
        raise Failure(f"{' '.join(words)}\nended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def check_program(program, **environment):
    """Runs the application."""
    output = run(program, **environment)
    if output != "consumer ok\n":
        raise Failure(f"{program} printed {output!r}")


class Consumers:
    """The ways, each a method that raises Failure."""

    def __init__(self, source, build):
        self.source = source.resolve()
        self.build = build.resolve()
        self.work = self.build / "consumers"
        self.prefix = self.work / "prefix"
        cache = (self.build / "CMakeCache.txt").read_text(encoding="utf-8")
        self.compiler = re.search(r"^CMAKE_CXX_COMPILER:\w+=(.*)$", cache, re.MULTILINE)[1]

    def install(self):
        """cmake --install to a prefix that nobody knew when the tree was configured."""
        shutil.rmtree(self.prefix, ignore_errors=True)
        run("cmake", "--install", self.build, "--prefix", self.prefix)

    def headers(self):
        """No installed header shows a library that pelton keeps to itself."""
        headers = list((self.prefix / "include").rglob("*.hpp"))
        if not any(header.name == "stream.hpp" for header in headers):
            raise Failure("include/pelton/stream.hpp is not installed")
        for header in headers:
            for number, line in enumerate(header.read_text(encoding="utf-8").splitlines(), 1):
                if PRIVATE_INCLUDE.match(line):
                    raise Failure(f"{header}:{number}: {line}")

    def find_package(self):
        """From the installed tree, by CMake."""
        self.cmake("find_package", f"-DCMAKE_PREFIX_PATH={self.prefix}")

    def pkgconfig(self):
        """From the installed tree, by pkg-config and the compiler."""
        config = next(self.prefix.rglob("pelton.pc")).parent
        program = self.work / "pkgconfig_consumer"
        script = HERE / "pkgconfig" / "build.sh"
        run(script, program, PKG_CONFIG_PATH=str(config), CXX=self.compiler)
        check_program(program, LD_LIBRARY_PATH=str(config.parent))

    def add_subdirectory(self):
        """From the sources, as a folder of the application's."""
        self.cmake("add_subdirectory", f"-DPELTON_SOURCE={self.source}", "-DPELTON_PRECOMPILE=ON")

    def fetchcontent(self):
        """From the sources, fetched by CMake; by an application that unites sources."""
        self.cmake(
            "fetchcontent", f"-DPELTON_SOURCE={self.source}", "-DCMAKE_UNITY_BUILD=ON",
            "-DCMAKE_UNITY_BUILD_BATCH_SIZE=16",
        )

    def cmake(self, name, *options):
        """Configures, builds and runs one of the projects."""
        build = self.work / name
        run(
            "cmake", "-G", "Ninja", "-S", HERE / name, "-B", build, *options,
            f"-DCMAKE_CXX_COMPILER={self.compiler}", "-DCMAKE_BUILD_TYPE=None",
        )
        run("cmake", "--build", build)
        check_program(build / "consumer")


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", type=pathlib.Path, default=HERE.parents[1])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="a built tree")
    options = parser.parse_args()
    ways = Consumers(options.source, options.build)
    passed, failed = 0, 0
    steps = (
        ways.install, ways.headers, ways.find_package, ways.pkgconfig, ways.add_subdirectory,
        ways.fetchcontent,
    )
    for step in steps:
        try:
            step()
            print(f"ok    {step.__name__}", flush=True)
            passed += 1
        except (Failure, subprocess.TimeoutExpired) as failure:
            print(f"FAIL  {step.__name__}: {failure}", flush=True)
            failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
