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
ROUNDING_TICKS = 3  # by which /proc/stat may be off


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

    ksoftirqd is no stranger: what it does is the network's work, put off. The programs of the
    load share a core, so each of them waits for the others; what counts as the load's wait is
    what strangers ran on that core, and what the hypervisor took of either.
    """

    def __init__(self, pid, core, load_pids, load_core):
        """`pid` is measured, on `core`; `load_pids` are the load's that stay, on `load_core`."""
        self.pid, self.core, self.load_pids, self.load_core = pid, core, load_pids, load_core
        self.softirq = {each: softirq_thread(each) for each in (core, load_core)}
        self.begin = self._read()

    def _softirq_seconds(self, core):
        """What a core's ksoftirqd has run."""
        return cpu_and_wait(self.softirq[core])[0] if self.softirq[core] else 0.0

    def _read(self):
        ran, waited = cpu_and_wait(self.pid)
        own = sum(cpu_and_wait(pid)[0] for pid in self.load_pids) + _ended_children_seconds()
        busy, stolen = core_times(self.load_core)
        return {"at": time.monotonic(), "ran": ran, "waited": waited, "own": own, "busy": busy,
                "stolen": stolen + core_times(self.core)[1],
                "softirq": self._softirq_seconds(self.core),
                "load_softirq": self._softirq_seconds(self.load_core)}

    def stop(self):
        """{"cpu_s", "server_wait_percent", "load_wait_percent", "seconds"} since the start."""
        now = self._read()
        spent = {key: value - self.begin[key] for key, value in now.items()}
        strangers = (spent["busy"] - spent["own"] - spent["load_softirq"]
                     - ROUNDING_TICKS * TICK_SECONDS)
        return {"seconds": spent["at"], "cpu_s": spent["ran"],
                "server_wait_percent":
                    100 * max(spent["waited"] - spent["softirq"], 0) / spent["at"],
                "load_wait_percent":
                    100 * (max(strangers, 0) + spent["stolen"]) / spent["at"]}


def _ended_children_seconds():
    """CPU seconds of this process's children that ended: the loads that came and went."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
