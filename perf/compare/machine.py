"""What a reader must know of the machine to judge the numbers: kernel, processor, versions.

Neighbours: main.py stores this with the runs; report.py prints it.
Ownership: reads only, and asks each program for its version once.
"""

import contextlib
import os
import pathlib
import platform
import re
import shutil
import subprocess

VERSION_COMMANDS = {
    "haproxy": ["haproxy", "-v"], "nginx": ["nginx", "-v"],
    "redis-server": ["redis-server", "--version"],
    "redis-benchmark": ["redis-benchmark", "--version"], "iperf3": ["iperf3", "--version"],
    "g++": ["g++", "--version"], "go": ["go", "version"], "node": ["node", "--version"],
    "python3": ["/usr/bin/python3", "--version"], "rustc": ["rustc", "--version"],
}
PACKAGES = ("liburing2", "liburing-dev", "libuv1-dev", "libasio-dev", "python3-uvloop",
            "librust-tokio-dev", "libc6", "libbenchmark-dev")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def read(path):
    """The text of a file of /proc or /sys; None where there is none."""
    with contextlib.suppress(OSError):
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace").strip()
    return None


def said(command, cwd=None):
    """What a program prints, both streams; "" where it cannot be asked."""
    program = shutil.which(command[0], path=PATH)
    if program is None:
        return ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=20,
                              check=False, cwd=cwd)
        return (done.stdout + done.stderr).strip() if done.returncode == 0 else ""
    return ""


def processor():
    """The processor's name, as the kernel gives it."""
    match = re.search(r"^model name\s*:\s*(.+)$", read("/proc/cpuinfo") or "", re.MULTILINE)
    return match[1] if match else platform.machine()


def hypervisor():
    """True where the kernel knows that it runs in a virtual machine."""
    return bool(re.search(r"^flags\s*:.*\bhypervisor\b", read("/proc/cpuinfo") or "",
                          re.MULTILINE))


def memory_gib():
    """The memory of the machine, in GiB."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", read("/proc/meminfo") or "", re.MULTILINE)
    return round(int(match[1]) / (1 << 20), 1) if match else None


def mitigations():
    """{name: what the kernel says of it}, those that do not concern this processor left out."""
    folder = pathlib.Path("/sys/devices/system/cpu/vulnerabilities")
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return {name: text for name in names
            if (text := read(folder / name)) and text != "Not affected"}


def versions():
    """The first line of what each program says of its version, and Debian's of the libraries."""
    found = {}
    for name, command in VERSION_COMMANDS.items():
        if text := said(command):
            found[name] = text.splitlines()[0]
    listed = said(["dpkg-query", "--show", "--showformat=${Package} ${Version}\n", *PACKAGES])
    if not listed:  # one unknown package fails them all
        listed = "\n".join(said(["dpkg-query", "--show", "--showformat=${Package} ${Version}", p])
                           for p in PACKAGES)
    found |= dict(line.split(" ", 1) for line in listed.splitlines() if " " in line)
    return found


def describe(root):
    """All of it."""
    release = re.search(r'^PRETTY_NAME="(.+)"$', read("/etc/os-release") or "", re.MULTILINE)
    commit = said(["git", "rev-parse", "--short=10", "HEAD"], root)
    return {
        "kernel": platform.release(), "kernel_build": platform.version(),
        "system": release[1] if release else None,
        "processor": processor(), "virtual": hypervisor(), "cores": os.cpu_count(),
        "memory_gib": memory_gib(),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "turbo_off": read("/sys/devices/system/cpu/intel_pstate/no_turbo"),
        "kernel_command_line_mitigations": re.findall(
            r"\bmitigations=\S+", read("/proc/cmdline") or ""),
        "mitigations": mitigations(), "versions": versions(),
        "pelton_commit": commit or None,
        "pelton_changed": bool(said(["git", "status", "--porcelain", "--untracked-files=no"],
                                    root)) if commit else None,
    }


def siblings(core):
    """The cores that share their execution units with `core`."""
    text = read(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list") or str(core)
    found = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found
