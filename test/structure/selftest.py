"""Proves that every rule fires on a bad sample, and is silent on one that is merely close to it."""

import pathlib
import tempfile
from dataclasses import dataclass, field

import rules
import source
from tree import Tree

COMMENT = "// A sample.\n"
GUARD = COMMENT + "#pragma once\n"
BODY = "  step();\n"


@dataclass
class Sample:
    """`bad` and `good` are trees, as {path: text}; `line` is where the violation is reported."""

    rule: object
    bad: dict
    good: dict
    line: int = 1
    search_path: str = None
    options: dict = field(default_factory=dict)


def include(path, comment=COMMENT):
    """A source of one include."""
    return f"{comment}#include {path}\n"


def function(lines, head="void f()"):
    """A function of that many lines in all."""
    return COMMENT + head + " {\n" + BODY * (lines - 2) + "}\n"


def python(lines):
    """A Python function of that many lines in all."""
    return '"""A sample."""\n\n\ndef f():\n' + "    step()\n" * (lines - 1)


def samples():
    """At least one sample for each rule."""
    yield from include_samples()
    yield from size_samples()
    yield from text_samples()
    yield from test_samples()


def include_samples():
    """What may include what."""
    up = include("<pelton/stream/reader.hpp>")
    yield Sample(
        rules.include_direction, {"engine/a.cpp": up}, {"apps/a.cpp": up, "stream/a.cpp": up}, 2
    )
    yield Sample(
        rules.include_direction,
        {"proto/a.hpp": include("<pelton/stream.hpp>", GUARD)},
        {"proto/a.hpp": include("<pelton/engine/ring.hpp>", GUARD) + "// <pelton/stream.hpp>\n"},
        3,
    )
    yield Sample(
        rules.include_spelling, {"engine/a.cpp": include('"ring.hpp"')},
        {"apps/a.cpp": include('"apps/common.hpp"')}, 2,
    )
    yield Sample(
        rules.include_spelling, {"test/a.cpp": include('"../engine/ring.hpp"')},
        {"test/a.cpp": include("<pelton/engine/ring.hpp>")}, 2,
    )
    uring = include("<liburing.h>")
    yield Sample(
        rules.liburing_at_the_ring, {"engine/loop.cpp": uring},
        {"engine/uring_ring.cpp": uring, "perf/peers/echo.c": uring}, 2,
    )
    canaries = include("<pelton/engine/simulation.hpp>")
    yield Sample(
        rules.simulation_is_private, {"proto/a.hpp": canaries}, {"proto/a.cpp": canaries}, 2,
    )
    spdlog = include("<spdlog/spdlog.h>")
    yield Sample(
        rules.spdlog_is_private, {"engine/log.hpp": spdlog},
        {"engine/log.cpp": spdlog, "apps/echo.cpp": spdlog}, 2,
    )


def size_samples():
    """How long things may be."""
    yield Sample(
        rules.file_length, {"scripts/a.sh": "# A line.\n" * 601},
        {"scripts/a.sh": "# A line.\n" * 600, "README.md": "text\n" * 700}, 601,
    )
    yield Sample(
        rules.file_length, {"examples/a.cpp": COMMENT * 61}, {"examples/a.cpp": COMMENT * 60}, 61
    )
    yield Sample(
        rules.function_length, {"engine/a.cpp": function(71)}, {"engine/a.cpp": function(70)}, 2
    )
    yield Sample(
        rules.function_length, {"perf/peers/a.c": function(71, "static struct ring *f(int a)")},
        {"perf/peers/a.c": function(70, "static struct ring *f(int a)")}, 2,
    )
    yield Sample(
        rules.function_length, {"scripts/a.py": python(71)}, {"scripts/a.py": python(70)}, 4
    )
    yield Sample(
        rules.line_length, {"a.cmake": "#" * 101}, {"a.cmake": "#" * 100, "a.md": "-" * 200}
    )


def text_samples():
    """What sources say, and how they are laid out."""
    yield Sample(
        rules.opening_comment, {"engine/a.cpp": "int a;\n"},
        {"engine/a.cpp": COMMENT, "a.sh": "#!/bin/sh\n# Why.\n", "a.py": '"""Why."""\n'},
    )
    yield Sample(
        rules.pragma_once, {"engine/a.hpp": COMMENT + "// #pragma once\n"}, {"engine/a.hpp": GUARD}
    )
    style = {".clang-format": "BasedOnStyle: Google\n"}
    unformatted = {"engine/a.cpp": COMMENT + "int  a ;\n"}
    yield Sample(
        rules.formatting, style | unformatted, style | {"engine/a.cpp": COMMENT + "int a;\n"}, 2
    )
    yield Sample(rules.formatting, style, style, search_path="/nowhere")
    path = "/" + "work/pelton"
    yield Sample(
        rules.machine_paths, {"README.md": path}, {"README.md": "frame" + path + " ~/x /tmp/y"}
    )
    host = "deb." + "debian.org"
    yield Sample(rules.machine_paths, {"Dockerfile": host}, {"Dockerfile": "FROM debian:12-slim"})
    note = "TO" + "DO"
    yield Sample(rules.unfinished, {"a.cmake": f"# {note}: more"}, {"a.cmake": f"# {note}S"})


def test_samples():
    """Coroutines and tests."""
    yield Sample(
        rules.awaited_conditions, {"examples/a.cpp": COMMENT + "while (co_await r.read(n)) {}\n"},
        {"examples/a.cpp": COMMENT + "while (const auto b = co_await r.read(n)) {}\n"}, 2,
    )
    yield Sample(
        rules.awaited_temporaries, {"test/a.cpp": COMMENT + "co_await f([p] { g(p); });\n"},
        {"test/a.cpp": COMMENT + "co_await f([&p, this] { g(p); }, a[i], [] {}, [this] {});\n"}, 2,
    )
    yield Sample(
        rules.awaited_temporaries, {"apps/a.cpp": COMMENT + "co_await f(1, {.host = h});\n"},
        {"apps/a.cpp": COMMENT + "f({.host = h}); co_await g(Options(h), {});\n"}, 2,
    )
    case = 'TEST_CASE("%s") {}\n'
    yield Sample(
        rules.test_names,
        {"test/engine/a_test.cpp": COMMENT + case % "one", "test/engine/b_test.cpp": case % "One"},
        {"test/engine/a_test.cpp": COMMENT + case % "one", "test/proto/b_test.cpp": case % "one"},
    )
    yield Sample(
        rules.test_names, {"test/engine/a_test.cpp": COMMENT + case % "a; b"},
        {"test/engine/a_test.cpp": COMMENT + case % "a, b: (c) 'd'"}, 2,
    )
    table = '| trap | defence | test |\n|---|---|---|\n| a | b | "one", canary `two` |\n'
    canaries = {"test/sim/canaries.hpp": COMMENT + 'Canary all[] = {{"two", "text"}};\n'}
    guard = canaries | {"test/engine/a_test.cpp": case % "one"}
    yield Sample(
        rules.guarded_traps, guard | {"ARCHITECTURE.md": table + "| c | d | - |\n"},
        guard | {"ARCHITECTURE.md": table + "\n| other | table |\n|---|---|\n| e | f |\n"}, 4,
    )
    yield Sample(
        rules.guarded_traps,
        canaries | {"ARCHITECTURE.md": table}, guard | {"ARCHITECTURE.md": table}, 3,
    )
    large = COMMENT * 41
    yield Sample(
        rules.mirrored_tests, {"engine/a.cpp": large},
        {"engine/a.cpp": large, "test/engine/a_test.cpp": COMMENT, "engine/b.cpp": COMMENT},
    )


def violations(sample, files):
    """What the rule of the sample finds in a tree made of `files`."""
    with tempfile.TemporaryDirectory() as folder:
        for path, text in files.items():
            target = pathlib.Path(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        return list(sample.rule(Tree(folder, sample.search_path)))


def sample_fault(sample):
    """What is wrong with the rule of this sample, or None."""
    found = violations(sample, sample.bad)
    if [violation.line for violation in found] != [sample.line]:
        return f"found {found} in {sample.bad}, not one violation in line {sample.line}"
    if sample.search_path is None and (found := violations(sample, sample.good)):
        return f"found {found} in the good sample"
    return None


# Each line that begins a function is marked with its name; the rest must not be taken for one.
FUNCTIONS = """
namespace a::b {
class C : public std::function<void(int)> {
 public:
  explicit C(int x) noexcept : x_{x}, y_(x) {  // C
    auto f = [this] { return "}"; };
  }
  [[nodiscard]] bool ok() const {  // ok
    return x_ == '}' || 1'0;
  }
  void with_default(Options options = {}, int = 3) {  // with_default
  }

 private:
  int x_{3};
  std::array<int, 2> y_ = {1, 2};
};
enum class E : int { a, b };
constexpr int table[] = {1, 2};
#define MACRO(x) \\
  if (x) {
template <class T, class U = std::vector<T>>
struct D {
  T get(T t) const {  // get
    return t;
  }
};
template <class R, class... A>
class Callback<R(A...)> {
  R call(A... a) {  // call
  }
};
}  // namespace a::b
extern "C" {
struct pair make_pair(int a, int b) {  // make_pair
  const char* text = R"x({ " )x";
  return (struct pair){a, b};
}
}
auto task() -> pelton::Task<int> {  // task
  co_return 1;
}
TEST_CASE("a sentence, with { in it") {  // TEST_CASE
}
"""


def function_fault():
    """What is wrong with the finding of functions, or None."""
    marked = [line.partition("{  // ")[2] for line in FUNCTIONS.splitlines()]
    expected = [(name, number) for number, name in enumerate(marked, 1) if name]
    found = [(name, first) for name, first, _ in source.c_functions(FUNCTIONS)]
    return None if found == expected else f"found {found}, expected {expected}"


def run():
    """Runs everything; returns how many samples passed and how many failed."""
    faults = [(sample.rule.__name__, sample_fault(sample)) for sample in samples()]
    faults.append(("c_functions", function_fault()))
    tested = {name for name, _ in faults}
    for rule in rules.RULES + rules.WARNINGS:
        if rule.__name__ not in tested:
            faults.append((rule.__name__, "has no sample"))
    failed = [(name, fault) for name, fault in faults if fault]
    for name, fault in failed:
        print(f"{name}: {fault}")
    return len(faults) - len(failed), len(failed)
