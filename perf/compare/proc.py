"""Reads /proc: the CPU time of a process and its children, and what else ran on a core.

Neighbours: loads.py measures with these the servers that pelton-bench does not watch itself.
Ownership: nothing is kept; every function reads anew.
"""

import contextlib
import os
import pathlib
import resource
import time

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
ROUNDING_TICKS = 2  # by which /proc/stat may be off


def family(pid):
    """`pid` and all its descendants."""
    children = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name, in brackets, may hold anything; what follows the last one may not.
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def cpu_and_wait(pid):
    """Seconds that all threads of `pid` and its children ran, and waited for a core."""
    ran = waited = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{member}/task"):
                with contextlib.suppress(OSError):
                    path = pathlib.Path(f"/proc/{member}/task/{thread}/schedstat")
                    running, waiting, _ = path.read_text().split()
                    ran += int(running)
                    waited += int(waiting)
    return ran / 1e9, waited / 1e9


def core_times(core):
    """(busy, stolen) seconds of a core since the machine started."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _, _, irq, softirq, steal = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq) * TICK_SECONDS, steal * TICK_SECONDS
    return 0.0, 0.0


def softirq_thread(core):
    """The pid of the kernel's ksoftirqd of a core; None where it cannot be seen (containers)."""
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "comm").read_text().strip() == f"ksoftirqd/{core}":
                    return int(entry.name)
    return None


class Watch:
    """What a server spends between start and stop, and how much strangers took of two cores.

    Nobody is disturbed by himself: the threads of a server wait for each other, and so do the
    programs of a load that share its core. ksoftirqd is no stranger either: what it does is the
    network's work, put off. So a wait counts as far as strangers ran on that core meanwhile.
    """

    def __init__(self, pid, core, load_pids, load_core):
        """`pid` is measured, on `core`; `load_pids` are the load's that stay, on `load_core`."""
        self.pid, self.core, self.load_pids, self.load_core = pid, core, load_pids, load_core
        self.softirq = {each: softirq_thread(each) for each in (core, load_core)}
        self.begin = self._read()

    def _foreign(self, core, own):
        """Seconds that neither `own` nor ksoftirqd explain, but something ran on a core."""
        busy, stolen = core_times(core)
        softirq = cpu_and_wait(self.softirq[core])[0] if self.softirq[core] else 0.0
        return busy - own - softirq, stolen

    def _read(self):
        ran, waited = cpu_and_wait(self.pid)
        load = sum(cpu_and_wait(pid)[0] for pid in self.load_pids) + _ended_children_seconds()
        here, stolen_here = self._foreign(self.core, ran)
        there, stolen_there = self._foreign(self.load_core, load)
        return {"at": time.monotonic(), "ran": ran, "waited": waited, "here": here,
                "there": there, "stolen_here": stolen_here, "stolen_there": stolen_there}

    def stop(self):
        """{"seconds", "cpu_s", and in percent "server_wait", "server_strangers", "load_wait"}."""
        now = self._read()
        spent = {key: value - self.begin[key] for key, value in now.items()}
        percent = 100 / spent["at"]
        here, there = (max(spent[side] - ROUNDING_TICKS * TICK_SECONDS, 0)
                       for side in ("here", "there"))
        strangers = percent * (here + spent["stolen_here"])
        return {"seconds": spent["at"], "cpu_s": spent["ran"], "server_strangers": strangers,
                "server_wait": min(percent * spent["waited"], strangers),
                "load_wait": percent * (there + spent["stolen_there"])}


def _ended_children_seconds():
    """CPU seconds of this process's children that ended: the loads that came and went."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
