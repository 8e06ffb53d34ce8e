"""Reads /proc: the CPU time of a process and its children, and what else ran on a core.

Neighbours: loads.py measures with these the servers that pelton-bench does not watch itself.
Ownership: nothing is kept; every function reads anew.
"""

import contextlib
import os
import pathlib
import time

TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


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
    """(busy, stolen) seconds of a core since the machine started: busy as user or kernel."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _, _, _, _, steal = map(int, line.split()[1:9])
            return (user + nice + system) * TICK_SECONDS, steal * TICK_SECONDS
    return 0.0, 0.0


class Watch:
    """What processes spend between start and stop, and how much others took of a core."""

    def __init__(self, pid, core, own_pids, other_core):
        """`pid` is measured, on `core`; `own_pids` are the load's that stay, on `other_core`."""
        self.pid, self.core, self.own_pids, self.other_core = pid, core, own_pids, other_core
        self.begin = self._read()

    def _read(self):
        ran, waited = cpu_and_wait(self.pid)
        own = sum(cpu_and_wait(pid)[0] for pid in self.own_pids) + _children_seconds()
        busy, stolen = core_times(self.other_core)
        return {"at": time.monotonic(), "ran": ran, "waited": waited, "own": own, "busy": busy,
                "stolen": stolen + core_times(self.core)[1]}

    def stop(self):
        """{"cpu_s", "server_wait_percent", "load_wait_percent", "seconds"} since the start.

        The load's programs share a core, so each of them waits for the others; what counts as
        its wait is what strangers took of that core, and what the hypervisor took of either.
        """
        spent = {key: value - self.begin[key] for key, value in self._read().items()}
        strangers = max(spent["busy"] - spent["own"] - 2 * TICK_SECONDS, 0)
        return {"seconds": spent["at"], "cpu_s": spent["ran"],
                "server_wait_percent": 100 * spent["waited"] / spent["at"],
                "load_wait_percent": 100 * (strangers + spent["stolen"]) / spent["at"]}


def _children_seconds():
    """CPU seconds of this process's children that ended: the loads that came and went."""
    times = os.times()
    return times.children_user + times.children_system + times.user + times.system
