"""The rules. Each is a generator of Violation over a Tree; its docstring is what it asks for."""

import re
import shutil
import subprocess
from dataclasses import dataclass

import source

FILE_LINES = 600
FUNCTION_LINES = 70
LINE_COLUMNS = 100
EXAMPLE_LINES = 60
UNTESTED_LINES = 40  # a source of more lines than this should have a test file of its name
FORMAT_VERSION = "14"

LAYERS = {"engine": 0, "proto": 1, "stream": 2}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)
TEST_NAME = re.compile(
    r'^TEST_CASE(?:_FIXTURE)?\((?:\w+,\s*)?((?:\s*"(?:\\.|[^"\\])*")+)', re.MULTILINE
)

TRAPS_HEAD = re.compile(r"\| trap \| defence \| test \|")
GUARD_NAME = re.compile(r'"([^"]+)"|canary `(\w+)`')

# Written so that this file does not break its own rules.
UNFINISHED = re.compile(r"\b(?:TO[D]O|FIX[M]E)\b")
MACHINE_PATH = re.compile(r"(?<![\w.$}/-])/(?:work|root|home)(?![\w-])")
REGISTRY = re.compile(
    r"\b(?:(?:pypi|files[.]pythonhosted|registry[.]npmjs|proxy[.]golang|sum[.]golang|"
    r"deb[.]debian|security[.]debian)[.]org|(?:archive[.]ubuntu|registry[.]yarnpkg)[.]com|"
    r"(?:(?:static|index)[.]crates|ghcr|quay|gcr|index[.]docker|registry-1[.]docker)[.]io)\b"
)

# GCC 12 destroys a temporary of aggregate type in a co_await expression twice. A closure that
# captures by value is one, a braced list with designators another.
AWAITED_CLOSURE = re.compile(
    r"\bco_await\b[^;{}]*[(,]\s*\[(?!\s*(?:&|this\s*)?\])([^\]]*)\]\s*[({]"
)
AWAITED_BRACES = re.compile(r"\bco_await\b[^;{}]*[(,]\s*\{\s*\.\w")

# Nor may an await be a loop's condition by itself: GCC 12 destroys what it yielded at the wrong
# time.
AWAITED_CONDITION = re.compile(r"\bwhile\s*\(\s*!?\s*\(?\s*co_await\b")


@dataclass
class Violation:
    """What is wrong where, and what to do about it."""

    path: str
    line: int
    what: str
    remedy: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.what}\n    remedy: {self.remedy}"


def includes(file):
    """(line, bracket, path) of each #include."""
    for match in INCLUDE.finditer(file.without_comments):
        yield source.line_of(file.text, match.start()), match[1], match[2]


def layer_of_include(path):
    """The layer an include belongs to, or None."""
    match = re.match(r"pelton/(engine|proto|stream)(?:/|\.hpp$)", path)
    return match[1] if match else None


def include_direction(tree):
    """engine <- proto <- stream <- everything else."""
    for file in tree.c_files():
        rank = LAYERS.get(file.top)
        for line, _, path in includes(file):
            layer = layer_of_include(path)
            if rank is not None and layer and LAYERS[layer] > rank:
                yield Violation(
                    file.path, line, f"{file.top}/ includes {path}, of a layer above it",
                    "move what is needed down a layer, or this code up",
                )


def include_spelling(tree):
    """Layers include each other as <pelton/LAYER/NAME.hpp>; nobody climbs with "../"."""
    for file in tree.c_files():
        for line, bracket, path in includes(file):
            if file.top in LAYERS and bracket == '"' or "../" in path:
                yield Violation(
                    file.path, line, f"#include {bracket}{path}",
                    "spell it <pelton/LAYER/NAME.hpp>, as installed",
                )
            elif path == "pelton/stream/stream.hpp":
                yield Violation(
                    file.path, line, f"#include <{path}>", "spell it <pelton/stream.hpp>"
                )


def liburing_at_the_ring(tree):
    """<liburing.h> only in engine/uring_*.cpp and in perf/peers/."""
    for file in tree.c_files():
        if re.match(r"engine/uring_\w+\.cpp$|perf/peers/", file.path):
            continue
        for line, _, path in includes(file):
            if re.match(r"liburing(?:\.h$|/)", path):
                yield Violation(
                    file.path, line, f"#include <{path}> away from the ring",
                    "go through engine/ring.hpp; kernel constants are in engine/uapi.hpp",
                )


def simulation_is_private(tree):
    """engine/simulation.hpp, which is not installed, is included by .cpp files alone."""
    for file in tree.c_files():
        if not re.match(r"(?:engine|proto|stream)/.*\.hpp$", file.path):
            continue
        for line, _, path in includes(file):
            if path == "pelton/engine/simulation.hpp":
                yield Violation(
                    file.path, line, f"#include <{path}> in a header that is installed",
                    "move the canary to a .cpp file",
                )


def spdlog_is_private(tree):
    """No public header shows spdlog or fmt, and of the layers only engine links them."""
    for file in tree.c_files():
        if file.top not in LAYERS or (file.top == "engine" and file.suffix == ".cpp"):
            continue
        for line, _, path in includes(file):
            if re.match(r"(?:spdlog|fmt)/", path):
                yield Violation(
                    file.path, line, f"#include <{path}>",
                    "log through engine/log.hpp, which keeps the library to itself",
                )


def file_length(tree):
    """Files have at most 600 lines, examples at most 60."""
    for file in tree.code_files():
        is_example = file.top == "examples" and file.is_c
        limit = EXAMPLE_LINES if is_example else FILE_LINES
        if len(file.lines) > limit:
            yield Violation(
                file.path, limit + 1, f"{len(file.lines)} lines, more than {limit}",
                "split it by what its parts are about",
            )


def function_length(tree):
    """Functions have at most 70 lines, in C, C++ and Python."""
    for file in tree.code_files():
        if file.is_c:
            functions = source.c_functions(file.text)
        elif file.suffix == ".py":
            functions = source.python_functions(file.text)
        else:
            continue
        for name, first, last in functions:
            if last - first + 1 > FUNCTION_LINES:
                yield Violation(
                    file.path, first, f"{name} has {last - first + 1} lines, "
                    f"more than {FUNCTION_LINES}", "give its steps names of their own",
                )


def line_length(tree):
    """Lines have at most 100 columns."""
    for file in tree.code_files():
        for number, line in enumerate(file.lines, 1):
            if len(line) > LINE_COLUMNS:
                yield Violation(
                    file.path, number, f"{len(line)} columns, more than {LINE_COLUMNS}", "wrap it"
                )


def opening_comment(tree):
    """Every source begins by saying what it is."""
    for file in tree.code_files():
        lines = [line for line in file.lines if not line.startswith("#!")]
        first = next((line for line in lines if line.strip()), "")
        starts = ("//", "/*") if file.is_c else ('"""', "#")
        if not first.startswith(starts):
            yield Violation(
                file.path, 1, "no comment at the top", "say in a sentence or more what the file is"
            )


def pragma_once(tree):
    """Headers have #pragma once."""
    for file in tree.c_files():
        if file.suffix in (".hpp", ".h") and "#pragma once\n" not in file.without_comments:
            yield Violation(file.path, 1, "no include guard", "add #pragma once below the comment")


def formatting(tree):
    """C and C++ are laid out as clang-format 14 and .clang-format have it."""
    names = (f"clang-format-{FORMAT_VERSION}", "clang-format")
    paths = [shutil.which(name, path=tree.search_path) for name in names]
    tool = next((path for path in paths if path and is_right_version(path)), None)
    files = [str(tree.root / file.path) for file in tree.c_files()]
    if tool is None:
        yield Violation(
            ".clang-format", 1, f"clang-format {FORMAT_VERSION} is not installed",
            "run scripts/setup.sh",
        )
        return
    if not files:
        return
    command = [tool, "--dry-run", "-Werror", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seen = set()
    for path, line in re.findall(r"^(.*?):(\d+):\d+: error: ", done.stderr, re.MULTILINE):
        relative = path.removeprefix(f"{tree.root}/")
        if relative not in seen:
            seen.add(relative)
            yield Violation(
                relative, int(line), "not formatted, from here on",
                f"run clang-format-{FORMAT_VERSION} -i {relative}, or scripts/format.sh",
            )
    if done.returncode != 0 and not seen:
        yield Violation(".clang-format", 1, done.stderr.strip(), "repair .clang-format")


def is_right_version(tool):
    """True for the clang-format whose verdict counts: other versions differ in details."""
    command = [tool, "--version"]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    match = re.search(r"version (\d+)", output)
    return match is not None and match[1] == FORMAT_VERSION


def machine_paths(tree):
    """No path of one machine, no address of one package registry."""
    for file in tree.files:
        for number, line in enumerate(file.lines, 1):
            if match := MACHINE_PATH.search(line) or REGISTRY.search(line):
                yield Violation(
                    file.path, number, f"'{match[0]}' is a place on somebody's machine or network",
                    "derive it from the place of the script, or take it as an option",
                )


def unfinished(tree):
    """What is to be done is an issue, not a note in the source."""
    for file in tree.files:
        for number, line in enumerate(file.lines, 1):
            if match := UNFINISHED.search(line):
                yield Violation(
                    file.path, number, f"{match[0]} left in the source", "do it, or open an issue"
                )


def awaited_temporaries(tree):
    """No closure with captures and no braced aggregate as a temporary under co_await."""
    for file in tree.c_files():
        for pattern in (AWAITED_CLOSURE, AWAITED_BRACES):
            for match in pattern.finditer(file.code):
                if pattern is AWAITED_CLOSURE and only_references(match[1]):
                    continue
                line = source.line_of(file.code, match.end())
                yield Violation(
                    file.path, line, "GCC 12 destroys this temporary twice",
                    "give it a name before the co_await and move it in (see CONTRIBUTING.md)",
                )


def awaited_conditions(tree):
    """No unnamed await as the condition of a while."""
    for file in tree.c_files():
        for match in AWAITED_CONDITION.finditer(file.code):
            yield Violation(
                file.path, source.line_of(file.code, match.start()),
                "GCC 12 miscompiles an unnamed await as a loop's condition",
                "name what it yields: while (const auto x = co_await ...) (see CONTRIBUTING.md)",
            )


def only_references(captures):
    """True if no capture of a lambda has a destructor: references and `this`."""
    names = [name.strip() for name in captures.split(",")]
    return all(name.startswith("&") or name == "this" for name in names)


def test_names(tree):
    """Names of test cases are unique in their layer and safe for ctest."""
    seen = {}
    for file in tree.c_files():
        if file.top != "test" or not file.name.endswith("_test.cpp"):
            continue
        folder = file.path.rpartition("/")[0]
        for match in TEST_NAME.finditer(file.without_comments):
            name = "".join(re.findall(r'"((?:\\.|[^"\\])*)"', match[1]))
            line = source.line_of(file.text, match.start())
            if bad := re.search(r"[;\[\]\\]", name):
                yield Violation(
                    file.path, line, f"'{bad[0]}' in the name of a test breaks ctest's list",
                    "use words",
                )
            if (folder, name.lower()) in seen:
                yield Violation(
                    file.path, line, f"'{name}' is a test of {seen[folder, name.lower()]} too",
                    "say what is different about this one",
                )
            seen.setdefault((folder, name.lower()), file.path)


def mirrored_tests(tree):
    """Sources of some size have a test file of their name (a warning only)."""
    paths = {file.path for file in tree.files}
    for file in tree.c_files():
        if file.top not in LAYERS or file.suffix != ".cpp" or len(file.lines) <= UNTESTED_LINES:
            continue
        test = f"test/{file.path.removesuffix('.cpp')}_test.cpp"
        if test not in paths:
            yield Violation(file.path, 1, "has no test file of its own", f"add {test}")


def case_names(tree):
    """The names of all test cases of C++, canaries and structure rules."""
    names = {rule.__name__ for rule in RULES}
    for file in tree.c_files():
        if file.name.endswith("_test.cpp"):
            for match in TEST_NAME.finditer(file.without_comments):
                names.add("".join(re.findall(r'"((?:\\.|[^"\\])*)"', match[1])))
        elif file.name == "canaries.hpp":
            names.update(re.findall(r'\{"(\w+)"', file.text))
    return names


def guarded_traps(tree):
    """Each trap that ARCHITECTURE.md lists names a test that exists."""
    known = None
    for file in tree.files:
        if file.path != "ARCHITECTURE.md":
            continue
        for number, line in enumerate(file.lines, 1):
            in_table = bool(line.startswith("|") and (known or TRAPS_HEAD.match(line)))
            if not in_table:
                known = None
                continue
            if known is None:
                known = case_names(tree)
                continue
            cells = line.strip("| ").split(" | ")
            names = GUARD_NAME.findall(cells[-1])
            missing = [name for pair in names for name in pair if name and name not in known]
            if not line.startswith("|---") and (len(cells) != 3 or not names or missing):
                yield Violation(
                    file.path, number, f"no test is known as {missing or cells[-1]}",
                    "name a test case, a canary or a structure rule that guards it",
                )


RULES = (
    include_direction, include_spelling, liburing_at_the_ring, simulation_is_private,
    spdlog_is_private, file_length,
    function_length, line_length, opening_comment, pragma_once, formatting, machine_paths,
    unfinished, awaited_temporaries, awaited_conditions, test_names, guarded_traps,
)
WARNINGS = (mirrored_tests,)
