"""What the soak observes of its servers, and what it says about that.

A server prints its counters on SIGUSR1; memory and descriptors are from /proc. The rules: nothing
impossible happened; once the load is gone, connections, leases, operations in flight and
descriptors are what they were before it; memory does not grow after the first third.

Neighbours: soak.py asks for samples and the verdict; picture.py draws them.
"""

import statistics
import time

MIB = 1 << 20
SETTLE_S = 30  # for everything to be given back once the load is gone
RISE_FLOOR = 1.5 * MIB  # of memory, over the last two thirds: what allocators and chance make of it
RISE_PART = 0.05        # and of what it was
LEFT = ("connections", "buffers_lent", "ops_in_flight", "fds")


class Watch:
    """One server, its samples, and its state before the load."""

    def __init__(self, label, server):
        self.label = label
        self.server = server
        self.samples = []
        self.started = time.monotonic()
        self.before = self.ask()

    def ask(self):
        """The server's counters and its memory now."""
        figures = self.server.running()
        figures.update(seconds=round(time.monotonic() - self.started, 2), rss=self.server.rss(),
                       fds=self.server.fds(), cpu=round(self.server.cpu_seconds(), 3))
        return figures

    def sample(self):
        self.samples.append(self.ask())
        return self.samples[-1]

    def settled(self):
        """Asks until all is as before the load. \\return what is not, after a while."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            now = self.ask()
            left = {key: (self.before[key], now[key]) for key in LEFT
                    if now[key] > self.before[key]}
            if not left or time.monotonic() > deadline:
                self.samples.append(now)
                return left
            time.sleep(0.2)

    def rise(self):
        """By how much memory rises over the last two thirds of the load, and from what: the
        median of the slopes between each two samples, which a few peaks do not move."""
        last = self.samples[-1]["seconds"]
        late = [(each["seconds"], each["rss"]) for each in self.samples
                if each["seconds"] >= last / 3]
        slopes = [(b - a) / (t - s) for index, (s, a) in enumerate(late)
                  for t, b in late[index + 1:] if t > s]
        if not slopes:
            return 0.0, 0.0
        return statistics.median(slopes) * (last - late[0][0]), late[0][1]

    def breaches(self, left):
        """What is wrong with it, as sentences. \\param left  what settled() returned."""
        found = [f"{self.label}: {key} is {after}, it was {before} before the load"
                 for key, (before, after) in left.items()]
        if self.samples[-1].get("impossible", 0):
            found.append(f"{self.label}: {self.samples[-1]['impossible']} impossible completions")
        rise, base = self.rise()
        bound = RISE_FLOOR + RISE_PART * base
        if rise > bound:
            found.append(f"{self.label}: memory rises by {rise / MIB:.2f} MiB in the last two"
                         f" thirds, more than {bound / MIB:.2f} MiB")
        return found

    def summary(self):
        last = self.samples[-1]
        rise, base = self.rise()
        hours = last["seconds"] * 2 / 3 / 3600
        return {
            "server": self.label, "engine": self.server.engine,
            "rss_mib_before": round(self.before["rss"] / MIB, 2),
            "rss_mib_after_a_third": round(base / MIB, 2),
            "rss_mib_highest": round(max(each["rss"] for each in self.samples) / MIB, 2),
            "rss_mib_at_the_end": round(last["rss"] / MIB, 2),
            "rss_rise_mib_of_two_thirds": round(rise / MIB, 3),
            "rss_slope_mib_per_hour": round(rise / MIB / hours, 3) if hours else 0.0,
            "fds_before": self.before["fds"], "fds_at_the_end": last["fds"],
            "fds_highest": max(each["fds"] for each in self.samples),
            "buffers_lent_highest": max(each["buffers_lent"] for each in self.samples),
            "ops_in_flight_highest": max(each["ops_in_flight"] for each in self.samples),
            "cpu_seconds": last["cpu"],
            **{key: last[key] for key in (
                "accepted", "bytes_received", "bytes_sent", "bytes_spliced", "splices",
                "completions", "enobufs", "parks", "sq_full", "cq_overflows", "accept_pauses",
                "impossible", *LEFT) if key in last},
        }
