#!/usr/bin/env python3
"""Builds the peers and lists them: what scripts/peers.sh runs.

Those in C and C++ are targets of the release build, in build/release/bin; those in Go and Rust go
to build/peers, from Debian's own compilers and crates and without a network; the others need no
building. See README.md for what each peer does.

Neighbours: CMakeLists.txt (the targets), proxy.py (the proxies), perf/compare, which reads --list.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Callable, Optional

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = pathlib.Path("perf/peers")  # relative to ROOT, as are all paths in commands
BIN = pathlib.Path("build/release/bin")
OUT = pathlib.Path("build/peers")
CRATES = pathlib.Path("/usr/share/cargo/registry")
PYTHON = "/usr/bin/python3"
# Debian's programs come before others of the same name that a user may have.
DEBIAN_PATH = "/usr/bin:/usr/sbin:/bin:/sbin"
TOOL_SECONDS = 30
BUILD_SECONDS = 1800
ESSENTIAL = ("uring_echo", "epoll_echo")


class PeerError(Exception):
    """What keeps a peer from being built; its text is for the user."""


def say(text):
    """A line of progress, on standard error: standard output belongs to --list."""
    print(f"peers: {text}", file=sys.stderr, flush=True)


def tool(name):
    """The path of a program: Debian's, else the first in PATH, else None."""
    return shutil.which(name, path=DEBIAN_PATH) or shutil.which(name)


def output_of(*command):
    """What a command prints, or "" where it cannot run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS,
                              check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip() if done.returncode == 0 else ""


def found(pattern, text, otherwise="unknown"):
    """The first group of a pattern in a text."""
    match = re.search(pattern, text)
    return match[1] if match else otherwise


def run(command, environment=None, directory=ROOT):
    """Runs a step of a build; its output is shown only where it fails."""
    try:
        done = subprocess.run([str(word) for word in command], cwd=directory, env=environment,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=BUILD_SECONDS,
                              check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise PeerError(f"{' '.join(map(str, command))} failed:\n{done.stdout[-6000:]}")
    return done.stdout


# --- What each peer needs: None, or why it cannot be there ---

def needs_tool(name, package):
    """A program that has to be there."""
    def missing():
        return None if tool(name) else f"no {name}; on Debian: apt-get install {package}"
    return missing


def needs_library(name, package):
    """A library that pkg-config knows."""
    def missing():
        if output_of("pkg-config", "--modversion", name):
            return None
        return f"no library {name} (pkg-config); on Debian: apt-get install {package} pkg-config"
    return missing


def needs_file(path, package):
    """A file that a package brings."""
    def missing():
        return None if os.path.exists(path) else f"no {path}; on Debian: apt-get install {package}"
    return missing


def needs_asio():
    """Asio is headers only, and has no pkg-config file before 1.24."""
    if asio_version_file() is not None:
        return None
    return "no asio.hpp; on Debian: apt-get install libasio-dev"


def needs_uvloop():
    """For the asyncio peer's interpreter, so that the two differ in nothing but the loop."""
    if output_of(PYTHON, "-c", "import uvloop; print(uvloop.__version__)"):
        return None
    return f"{PYTHON} has no uvloop; on Debian: apt-get install python3-uvloop"


def needs_tokio():
    """Debian's compiler and crates."""
    for name in ("cargo", "rustc"):
        if shutil.which(name, path=DEBIAN_PATH) is None:
            return f"no {name} of Debian's in {DEBIAN_PATH}: apt-get install {name}"
    if not list(CRATES.glob("tokio-1.*")):
        return f"no tokio in {CRATES}; on Debian: apt-get install librust-tokio-dev"
    return None


def needs_nginx():
    """The server and its stream module, which Debian packages apart."""
    module = "/usr/lib/nginx/modules/ngx_stream_module.so"
    return needs_tool("nginx", "nginx libnginx-mod-stream")() or \
        needs_file(module, "libnginx-mod-stream")()


def needs_nothing():
    """A peer that the release build always has."""


# --- Versions ---

def asio_version_file():
    """The header in which Asio says its version."""
    for folder in ("/usr/include", "/usr/local/include"):
        path = pathlib.Path(folder, "asio", "version.hpp")
        if path.exists():
            return path
    return None


def asio_version():
    """ASIO_VERSION is 102201 for 1.22.1."""
    number = int(found(r"#define ASIO_VERSION (\d+)", asio_version_file().read_text("utf-8"), "0"))
    return f"asio {number // 100000}.{number // 100 % 1000}.{number % 100}"


def tokio_version():
    """The version of the crate and of the compiler."""
    crate = sorted(CRATES.glob("tokio-1.*"))[-1].name.replace("-", " ")
    compiler = found(r"rustc (\S+)", output_of("/usr/bin/rustc", "--version"))
    return f"{crate}, rustc {compiler}"


def python_version():
    """Of the interpreter that both Python peers run on."""
    return output_of(PYTHON, "--version")


def uvloop_version():
    """Of the module and of the interpreter."""
    number = output_of(PYTHON, "-c", "import uvloop; print(uvloop.__version__)")
    return f"uvloop {number}, {python_version()}"


def library_version(name):
    """Of a library, from pkg-config."""
    return lambda: f"{name} {output_of('pkg-config', '--modversion', name) or 'unknown'}"


def gcc_version():
    """Of the compiler that the release preset names."""
    return f"gcc {output_of('gcc', '-dumpfullversion') or 'unknown'}"


def pelton_version():
    """Of this tree."""
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return "pelton " + found(r"VERSION (\d+[.]\d+[.]\d+)", text[text.index("project("):])


def told_version(name, pattern, *options):
    """What a program says about itself, cut down by a pattern."""
    return lambda: f"{name} {found(pattern, output_of(tool(name), *options))}"


# --- Builds ---

def is_current(result, inputs):
    """True if a result is there and newer than all that it is made from."""
    if not result.exists():
        return False
    made = result.stat().st_mtime
    return all(pathlib.Path(each).stat().st_mtime <= made for each in inputs)


def build_targets(targets):
    """Builds targets of the release build, which is configured first where it has to be."""
    cmake = shutil.which("cmake")
    if cmake is None:
        raise PeerError("no cmake; run scripts/setup.sh")
    build = ROOT / "build" / "release"
    if not (build / "build.ninja").exists():
        say("configuring build/release")
        run([cmake, "--preset", "release"])
    known = run([cmake, "--build", build, "--target", "help"])
    if any(not re.search(rf"^{target}:", known, re.M) for target in targets):
        # A build without perf/, or one that was configured before a library was installed.
        say("configuring build/release once more")
        run([cmake, build, "-D", "PELTON_BUILD_PERF=ON"])
    run([cmake, "--build", build, "--target", *targets])


def build_go():
    """Go's standard library is all that it needs: no module, no network."""
    source = ROOT / SOURCES / "go_peer.go"
    result = ROOT / OUT / "go_peer"
    if is_current(result, [source, os.path.realpath(tool("go"))]):
        return
    cache = ROOT / OUT / "go"
    environment = {"PATH": DEBIAN_PATH, "HOME": str(cache), "GOCACHE": str(cache / "cache"),
                   "GOPATH": str(cache), "GOENV": "off", "GO111MODULE": "off", "GOPROXY": "off",
                   "GOTOOLCHAIN": "local"}
    result.parent.mkdir(parents=True, exist_ok=True)
    run([tool("go"), "build", "-trimpath", "-o", result, source], environment)


CARGO_CONFIG = f"""[source.crates-io]
replace-with = "debian"

[source.debian]
directory = "{CRATES}"
"""


def build_tokio():
    """Debian's cargo, rustc and crates, offline, in a copy of the sources: cargo writes there."""
    result = ROOT / OUT / "tokio" / "target" / "release" / "tokio_peer"
    sources = [ROOT / SOURCES / "tokio" / name for name in ("Cargo.toml", "main.rs")]
    if is_current(result, [*sources, "/usr/bin/rustc", CRATES]):
        return
    folder = ROOT / OUT / "tokio"
    home = ROOT / OUT / "cargo-home"
    for each in (folder, home):
        each.mkdir(parents=True, exist_ok=True)
    for source in sources:
        shutil.copy(source, folder)
    (folder / "Cargo.lock").unlink(missing_ok=True)  # the crates may have been upgraded
    (home / "config.toml").write_text(CARGO_CONFIG, encoding="utf-8")
    environment = {"PATH": DEBIAN_PATH, "HOME": str(home), "CARGO_HOME": str(home),
                   "RUSTC": "/usr/bin/rustc", "CARGO_TARGET_DIR": str(folder / "target")}
    run(["/usr/bin/cargo", "build", "--release", "--offline"], environment, folder)


# --- The peers ---

@dataclass(frozen=True)
class Peer:
    """One peer: how it is run, what it needs and how it is made."""

    name: str
    command: list
    version: Callable[[], str]
    missing: Callable[[], Optional[str]] = needs_nothing
    modes: list = field(default_factory=lambda: ["echo"])
    kind: str = "echo"
    target: Optional[str] = None           # of the release build
    build: Optional[Callable[[], None]] = None
    result: Optional[pathlib.Path] = None  # what has to be there once it is built

    def why_missing(self):
        """None if it can be run, else the reason and the remedy."""
        why = self.missing()
        if why is None and self.result is not None and not os.access(ROOT / self.result, os.X_OK):
            why = f"not built; run scripts/peers.sh --only {self.name}"
        return why

    def describe(self):
        """The object that --list prints."""
        why = self.why_missing()
        is_proxy = self.kind == "proxy"
        command = [str(word) for word in self.command]
        return {
            "name": self.name,
            "kind": self.kind,
            "modes": self.modes,
            "unix": not is_proxy,
            "command": command + ([] if is_proxy else ["{mode}", "--port", "0"]),
            "unix_command": None if is_proxy else [*command, "{mode}", "--unix", "{path}"],
            "version": self.version() if self.missing() is None else None,
            "why_missing": why,
        }


def compiled(name, version, missing=needs_nothing, modes=None, target=None):
    """A peer that is a target of the release build."""
    target = target or name
    return Peer(name, [BIN / target], version, missing, modes or ["echo"], target=target,
                result=BIN / target)


def python_peer(loop, version, missing):
    """The asyncio program on one of its two loops."""
    return Peer(loop, [PYTHON, SOURCES / "asyncio_peer.py", "--loop", loop], version, missing,
                ["echo", "lines"])


def proxy(name, version, missing):
    """A proxy, which proxy.py runs."""
    command = [SOURCES / "proxy.py", name, "--upstream", "{upstream}"]
    return Peer(name, command, version, missing, [], kind="proxy")


BOTH = ["echo", "lines"]
HAPROXY_VERSION = told_version("haproxy", r"version (\S+)", "-v")
PEERS = (
    compiled("uring_echo", library_version("liburing")),
    compiled("epoll_echo", gcc_version),
    compiled("asio_epoll", asio_version, needs_asio, BOTH),
    compiled("asio_uring", asio_version, needs_asio, BOTH),
    compiled("libuv", library_version("libuv"), needs_library("libuv", "libuv1-dev"),
             target="libuv_echo"),
    Peer("go", [OUT / "go_peer"], told_version("go", r"go version go(\S+)", "version"),
         needs_tool("go", "golang-go"), BOTH, build=build_go, result=OUT / "go_peer"),
    Peer("node", [tool("node") or "node", SOURCES / "node_echo.js"],
         told_version("node", r"v(\S+)", "--version"), needs_tool("node", "nodejs")),
    python_peer("asyncio", python_version, needs_file(PYTHON, "python3")),
    python_peer("uvloop", uvloop_version, needs_uvloop),
    Peer("tokio", [OUT / "tokio/target/release/tokio_peer"], tokio_version, needs_tokio, BOTH,
         build=build_tokio, result=OUT / "tokio/target/release/tokio_peer"),
    compiled("pelton_lines", pelton_version, modes=["lines"]),
    proxy("haproxy", HAPROXY_VERSION, needs_tool("haproxy", "haproxy")),
    proxy("haproxy_splice", HAPROXY_VERSION, needs_tool("haproxy", "haproxy")),
    proxy("nginx", told_version("nginx", r"nginx/(\S+)", "-v"), needs_nginx),
)


def build_all(peers):
    """Builds what can be built; each failure by the name of its peer."""
    failures = {}
    possible = [peer for peer in peers if peer.missing() is None]
    targets = [peer.target for peer in possible if peer.target]
    if targets:
        try:
            build_targets(targets)
        except PeerError as error:
            failures |= {peer.name: str(error) for peer in possible if peer.target}
    for peer in possible:
        if peer.build is not None:
            try:
                peer.build()
            except PeerError as error:
                failures[peer.name] = str(error)
    for text in dict.fromkeys(failures.values()):
        say(text)
    return {name: text.partition("\n")[0] for name, text in failures.items()}


def report(peers, failures, options):
    """Says what there is; the exit status."""
    gone = []
    for peer in peers:
        why = failures.get(peer.name) or peer.why_missing()
        if why is None:
            print(f"{peer.name:<15} ready    {peer.version()}")
        else:
            gone.append(peer.name)
            print(f"{peer.name:<15} missing  {why}")
    print(f"{len(peers) - len(gone)} ready, {len(gone)} missing", flush=True)
    if options.strict or options.only:
        return 1 if gone else 0
    return 1 if any(name in gone for name in ESSENTIAL) else 0


def parse():
    """The command line; argparse names what is wrong with it and exits 2."""
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(
        prog="scripts/peers.sh",
        description="Builds the servers that pelton is compared with, and lists them.",
        epilog="Exit status: 0, also where a peer's language or library is not installed; 1 where "
               "the C peers could not be built, or with --strict or --only where any peer asked "
               "for is missing; 2 for a bad command line. scripts/setup.sh --bench installs what "
               "the peers need.")
    parser.add_argument("--list", action="store_true",
                        help="build nothing; print a JSON object for each peer, one a line")
    parser.add_argument("--only", action="append", choices=names, metavar="NAME",
                        help=f"this peer only, may be repeated: {', '.join(names)}")
    parser.add_argument("--strict", action="store_true", help="exit 1 where any peer is missing")
    return parser.parse_args()


def main():
    """Exit status as --help says."""
    options = parse()
    peers = [peer for peer in PEERS if not options.only or peer.name in options.only]
    if options.list:
        described = [peer.describe() for peer in peers]
        for each in described:
            print(json.dumps(each))
        return 1 if options.strict and any(each["why_missing"] for each in described) else 0
    return report(peers, build_all(peers), options)


if __name__ == "__main__":
    sys.exit(main())
