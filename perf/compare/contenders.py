"""Who is compared: pelton's programs and the peers, how each is started, and what is missing.

`scripts/peers.sh --list` is the registry of the peers: one JSON object per line. pelton-echo and
pelton-proxy are added here, and so are the operations that pelton-micro times.

Neighbours: cases.py names the contenders of each work; servers.py starts what is named here.
Ownership: a Contenders object holds the registry of one comparison; nothing changes in it.
"""

import json
import os
import pathlib
import subprocess

DEFAULT_BIN = "build/release/bin"
MICRO = ("readuntil", "memchr", "small_writes")
TOOLS = {"redis": ("redis-server", "redis-benchmark"), "iperf": ("iperf3",)}


class Contenders:
    """The registry: commands by name, with the directory of the programs filled in."""

    def __init__(self, root, bin_dir, entries):
        """`entries`: peers as scripts/peers.sh lists them, or {} with a reason in why_none."""
        self.root = pathlib.Path(root)
        self.bin_dir = str(bin_dir)
        self.entries = {entry["name"]: entry for entry in entries}
        self.entries["pelton-echo"] = {
            "name": "pelton-echo", "command": [
                f"{DEFAULT_BIN}/pelton-echo", "--listen", "127.0.0.1:0", "--threads", "1",
                "--busy-poll", "auto"],
            "unix_command": [f"{DEFAULT_BIN}/pelton-echo", "--listen", "unix:{path}",
                             "--threads", "1", "--busy-poll", "auto"]}
        self.entries["pelton-proxy"] = {
            "name": "pelton-proxy", "command": [
                f"{DEFAULT_BIN}/pelton-proxy", "--listen", "127.0.0.1:0", "--upstream",
                "{upstream}", "--threads", "1", "--busy-poll", "auto"]}
        for name in MICRO:
            self.entries[name] = {"name": name, "command": [f"{DEFAULT_BIN}/pelton-micro"]}
        self.why_no_peers = None

    def add_build(self, names, bin_dir, called):
        """The programs `names` of another build, as `called(name)`."""
        for name in names:
            entry = self.entries.get(name)
            if entry is None:
                continue
            other = dict(entry, name=called(name), version=None, why_missing=None)
            for key in ("command", "unix_command"):
                if entry.get(key):
                    # Absolute: what is relative belongs to the first build.
                    program = pathlib.Path(self.root, bin_dir, pathlib.Path(entry[key][0]).name)
                    other[key] = [str(program), *entry[key][1:]]
            self.entries[called(name)] = other

    def program(self, name):
        """The path of a program of the build, relative to the root where it lies below it."""
        return f"{self.bin_dir}/{name}"

    def command(self, name, work, path=None, upstream=None):
        """The command line that starts `name` for a work."""
        entry = self.entries[name]
        unix = work.load.get("unix")
        values = {"{mode}": work.load.get("mode", ""), "{path}": path or "",
                  "{upstream}": upstream or ""}
        if values["{mode}"] in ("connect", "stream", "idle"):  # loads of the echo
            values["{mode}"] = "echo"
        return [self._fill(part, values)
                for part in (entry["unix_command"] if unix else entry["command"])]

    def _fill(self, part, values):
        """One argument with its placeholders replaced, and the build's directory by ours."""
        for name, value in values.items():
            part = part.replace(name, value)
        if part.startswith(f"{DEFAULT_BIN}/"):
            part = self.bin_dir + part.removeprefix(DEFAULT_BIN)
        return part

    def why_missing(self, name, work):
        """Why `name` cannot take part in a work; None where it can."""
        entry = self.entries.get(name)
        if entry is None:
            return self.why_no_peers or "scripts/peers.sh does not list it"
        if entry.get("why_missing"):
            return entry["why_missing"]
        if work.load.get("unix") and not entry.get("unix_command"):
            return "it does not serve unix sockets"
        mode = work.load.get("mode", "")
        modes = entry.get("modes")
        if modes and mode and ("lines" if mode == "lines" else "echo") not in modes:
            return f"it has no mode {mode}"
        programs = [self._fill(entry["command"][0], {})]
        if work.kind == "bench" or work.load.get("clients") == 1:
            programs.append(self.program("pelton-bench"))
        for program in programs:
            if "/" in program and not os.access(self.root / program, os.X_OK):
                return f"no program {program}"
        return None


def why_no_tools(work, search):
    """Why a work cannot be measured for want of other people's programs; None where it can."""
    absent = [tool for tool in TOOLS.get(work.kind, ()) if search(tool) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


def parse_registry(text):
    """The entries of scripts/peers.sh --list; ValueError names the line that is none."""
    entries = []
    for line in filter(str.strip, text.splitlines()):
        try:
            entry = json.loads(line)
            entry["name"], entry["command"][0]  # both must be there
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ValueError(f"scripts/peers.sh --list: not a peer: {line!r}") from error
        entries.append(entry)
    return entries


def load(root, bin_dir):
    """The registry of this tree. Where the peers cannot be listed, all of them are missing."""
    entries, why = [], None
    try:
        done = subprocess.run(["scripts/peers.sh", "--list"], cwd=root, capture_output=True,
                              text=True, timeout=60, check=True)
        entries = parse_registry(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        why = f"the peers could not be listed: {error}"
    made = Contenders(root, bin_dir, entries)
    made.why_no_peers = why
    return made
