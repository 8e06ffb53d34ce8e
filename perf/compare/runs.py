"""The order of the runs: A B A B, repeated where disturbed, with a line of progress for each.

Every round of a work visits all its contenders in turn, so that a slow minute of the machine is
shared by all of them. A run during which either side waited for its core is made again.

Neighbours: loads.py makes one run; main.py writes down what comes of them.
Ownership: `measured` grows run by run and belongs to the caller, who has it whole after Ctrl-C.
"""

import sys
import time

import cases
import loads
from contenders import why_no_tools
from servers import RunError

MAX_FAILURES = 2  # of one contender under one work, before it is left out of it
MAX_REASON = 400  # characters of what a failed run said


class Progress:
    """One line on stderr for each run, with the time that is left."""

    def __init__(self, works, out=sys.stderr):
        self.out = out
        self.total = sum(self.seconds_of(work) for work in works)
        self.planned_done = 0.0
        self.started = time.monotonic()

    @staticmethod
    def seconds_of(work):
        """The estimate for all runs of a work."""
        return work.estimate() * work.run_rounds * len(work.contenders)

    def left(self):
        """Seconds left: the plan's, corrected by how the plan has done so far."""
        spent = time.monotonic() - self.started
        pace = spent / self.planned_done if self.planned_done > 10 else 1
        return max(self.total - self.planned_done, 0) * min(max(pace, 0.5), 3)

    def done(self, seconds):
        """So much of the plan is done."""
        self.planned_done += seconds

    def say(self, text):
        """One line."""
        minutes, seconds = divmod(int(self.left()), 60)
        print(f"[{minutes:2d}:{seconds:02d} left] {text}", file=self.out, flush=True)


class Repeats:
    """How often a disturbed run may be made again: a few times each, and within the time."""

    def __init__(self, attempts, max_wait, seconds):
        self.attempts, self.max_wait = attempts, max_wait
        self.deadline = time.monotonic() + seconds

    def allowed(self, attempt):
        """True if another attempt may follow this one."""
        return attempt < self.attempts and time.monotonic() < self.deadline


def record(work, name, number, attempt, result, disturbed):
    """A run as the JSON holds it."""
    def rounded(value):
        return float(f"{value:.6g}") if isinstance(value, float) else value

    return {"work": work.id, "contender": name, "round": number, "attempts": attempt,
            "disturbed": disturbed, "server_wait_percent": rounded(result.server_wait),
            "load_wait_percent": rounded(result.load_wait),
            "values": {key: rounded(value) for key, value in result.values.items()},
            "command": result.command, "load_command": result.load_command,
            "line": result.line}


def undisturbed(make, work, repeats):
    """(result, attempts, disturbed): the first quiet run, else the least disturbed one."""
    best, attempt = None, 0
    while True:
        attempt += 1
        result = make()
        if not work.watched or result.wait <= repeats.max_wait:
            return result, attempt, False
        if best is None or result.wait < best.wait:
            best = result
        if not repeats.allowed(attempt):
            return best, attempt, True
        time.sleep(0.3)


def main_figure(work, values):
    """What the line of progress says about a run: the first metric of its work."""
    metric = cases.METRICS[work.metrics[0]]
    value = values.get(work.metrics[0])
    shown = "?" if value is None else f"{value * metric.scale:.4g} {metric.unit}"
    return f"{metric.title} {shown}"


class Measurement:
    """Runs works and collects what comes of them."""

    def __init__(self, bench, repeats, progress):
        self.bench, self.repeats, self.progress = bench, repeats, progress
        self.measured = []  # records of runs
        self.missing = []  # {"work", "contender", "why"}

    def present(self, work):
        """The contenders that can take part in a work; the others are noted as missing."""
        why_none = why_no_tools(work, loads.tool)
        present = []
        for name in work.contenders:
            why = why_none or self.bench.contenders.why_missing(name, work)
            if why:
                self.leave_out(work, name, why)
                self.progress.done(work.estimate() * work.run_rounds)
            else:
                present.append(name)
        return present

    def leave_out(self, work, name, why):
        """`name` does not take part in a work, and the report will say why."""
        self.missing.append({"work": work.id, "contender": name, "why": why})
        self.progress.say(f"{work.id}: {name} is left out: {why}")

    def one(self, work, name, number, failures):
        """One run, undisturbed if possible; False where `name` fails too often to go on."""
        while True:
            try:
                result, attempts, disturbed = undisturbed(
                    lambda: loads.run(self.bench, work, name), work, self.repeats)
                break
            except RunError as error:
                failures[name] = failures.get(name, 0) + 1
                said = " ".join(str(error).split())[:MAX_REASON]
                self.progress.say(f"{work.id}: {name} failed: {said}")
                if failures[name] >= MAX_FAILURES:
                    self.leave_out(work, name, f"it failed {MAX_FAILURES} times: {said}")
                    return False
        self.measured.append(record(work, name, number, attempts, result, disturbed))
        self.progress.done(work.estimate())
        self.progress.say(
            f"{work.id} {number}/{work.run_rounds} {name}: {main_figure(work, result.values)}"
            f"{f', DISTURBED ({result.wait:.1f} % off its core)' if disturbed else ''}")
        return True

    def work(self, work):
        """All rounds of one work."""
        names, failures = self.present(work), {}
        for number in range(1, work.run_rounds + 1):
            for name in list(names):
                if not self.one(work, name, number, failures):
                    names.remove(name)
                    self.progress.done(work.estimate() * (work.run_rounds - number + 1))
