"""The arithmetic: medians, ranges, ratios of medians, verdicts, and where pelton loses.

A ratio is the median of pelton's rounds over the median of the peer's. Its range is that of the
ratios of single rounds, in each of which the two ran one after the other. Rounds with a disturbed
run do not count; where fewer than half of the rounds are quiet all are shown, and not trusted.

Neighbours: cases.py has the checks, runs.py made the runs, report.py shows what comes of them.
Ownership: pure functions of the records; nothing is kept.
"""

import dataclasses
import statistics

import cases

EXACT = 0.005  # how far from the limit "==" lets a value be, relatively
LOSS = 0.02  # smaller differences are not called a loss


def rounds_of(runs, work, contender, metric):
    """{round: (value, quiet)} of a metric."""
    return {run["round"]: (run["values"][metric], not run["disturbed"]) for run in runs
            if run["work"] == work and run["contender"] == contender
            and run["values"].get(metric) is not None}


class Series:
    """The rounds of a quantity: its values by round, and their median over chosen rounds."""

    def __init__(self, runs, quantity):
        self.parts = [rounds_of(runs, quantity.work, quantity.contender, quantity.metric)]
        if quantity.over:
            self.parts.append(rounds_of(runs, quantity.over, quantity.contender, quantity.metric))
        self.rounds = sorted(set.intersection(*(set(part) for part in self.parts)))

    def quiet(self, number):
        """True if nothing that belongs to a round was disturbed."""
        return all(part[number][1] for part in self.parts)

    def value(self, number):
        """The value of a round."""
        values = [part[number][0] for part in self.parts]
        return values[0] / values[1] if len(values) > 1 else values[0]

    def median(self, rounds):
        """The median over rounds; of a quotient, the quotient of the medians."""
        medians = [statistics.median(part[n][0] for n in rounds) for part in self.parts]
        return medians[0] / medians[1] if len(medians) > 1 else medians[0]

    def range(self, rounds):
        """The lowest and the highest value of a round."""
        values = [self.value(n) for n in rounds]
        return [min(values), max(values)]


def chosen_rounds(*series):
    """(rounds to use, all rounds, trusted): the quiet rounds that all have, if they are enough."""
    common = sorted(set.intersection(*(set(each.rounds) for each in series)))
    quiet = [n for n in common if all(each.quiet(n) for each in series)]
    trusted = bool(quiet) and 2 * len(quiet) >= len(common)
    return (quiet if trusted else common), common, len(quiet), trusted


def keeps(operator, value, limit):
    """True if a value keeps its limit."""
    if operator == "<=":
        return value <= limit
    if operator == ">=":
        return value >= limit
    return abs(value - limit) <= EXACT * abs(limit)


def is_close(operator, value_range, limit):
    """True if the limit lies among the values of the rounds: the noise could turn the verdict."""
    verdicts = {keeps(operator, value, limit) for value in value_range}
    return len(verdicts) > 1


def best_peer(runs, check):
    """The best of the alternatives that were measured: (Quantity, Series); None if none was."""
    found = []
    for peer in check.peers:
        series = Series(runs, peer)
        by = cases.Quantity(peer.work, peer.contender, check.best_by or peer.metric, peer.over)
        ranking = Series(runs, by)
        if series.rounds and ranking.rounds:
            found.append((ranking.median(ranking.rounds), peer, series))
    if not found:
        return None
    lower = cases.METRICS[check.best_by or check.peers[0].metric].lower_is_better
    _, peer, series = (min if lower else max)(found, key=lambda each: each[0])
    return peer, series


def why_not_measured(check, missing, works_run):
    """The reason why a check has no value, as a sentence's end."""
    not_run = sorted(check.works() - set(works_run))
    if not_run:
        return f"{' and '.join(not_run)} did not run"
    names = {q.contender for q in (check.subject, *check.peers)}
    reasons = [f"{each['contender']}: {each['why']}" for each in missing
               if each["work"] in check.works() and each["contender"] in names]
    unique = list(dict.fromkeys(reasons))
    return "; ".join(unique) or "no run of it was made"


def evaluate(check, runs, missing, works_run):
    """A check as the report and the JSON show it."""
    result = {"work": check.work, "rows": sorted(check.works()), "measure": check.measure,
              "metric": check.subject.metric, "subject": check.subject.contender,
              "growth": bool(check.subject.over), "operator": check.operator,
              "limit": check.limit, "verdict": "not measured",
              "peer": " or ".join(p.contender for p in check.peers[:2]) if len(check.peers) < 3
              else "the best peer"}
    subject = Series(runs, check.subject)
    found = best_peer(runs, check) if check.peers else None
    if not subject.rounds or (check.peers and not found):
        return result | {"why": why_not_measured(check, missing, works_run)}
    series = [subject] + ([found[1]] if found else [])
    used, common, quiet, trusted = chosen_rounds(*series)
    if not common:
        return result | {"why": "no round has both sides"}
    value, value_range = subject.median(used), subject.range(used)
    result |= {"subject_value": value, "subject_range": value_range, "rounds": len(common),
               "quiet_rounds": quiet}
    if found:
        peer, theirs = found
        ratios = [subject.value(n) / theirs.value(n) for n in used]
        result |= {"peer": peer.contender, "peer_value": theirs.median(used),
                   "peer_range": theirs.range(used)}
        value, value_range = value / theirs.median(used), [min(ratios), max(ratios)]
    met = keeps(check.operator, value, check.limit)
    verdict = ("met" if met else "missed") if trusted else "disturbed"
    return result | {"value": value, "range": value_range, "verdict": verdict,
                     "close": is_close(check.operator, value_range, check.limit)}


def asked_for(check, document):
    """The check with the peers that were asked for; None where that leaves nothing of it.

    A quick run leaves peers out; what nobody asked for is not called "not measured".
    """
    invited = {(work["id"], name) for work in document["works"] for name in work["contenders"]}
    peers = tuple(peer for peer in check.peers if (peer.work, peer.contender) in invited)
    if not check.works() & {work["id"] for work in document["works"]}:
        return None
    return dataclasses.replace(check, peers=peers) if peers or not check.peers else None


def checks(document):
    """All checks that were asked for."""
    works_run = [work["id"] for work in document["works"]]
    asked = (asked_for(check, document) for check in cases.CHECKS)
    return [evaluate(check, document["runs"], document["missing"], works_run)
            for check in asked if check]


def contender_summary(runs, work, contender, metric):
    """{"median", "range", "rounds", "trusted"} of one metric; None where it was not measured."""
    series = Series(runs, cases.Quantity(work, contender, metric))
    if not series.rounds:
        return None
    used, common, _, trusted = chosen_rounds(series)
    return {"median": series.median(used), "range": series.range(used), "rounds": len(common),
            "trusted": trusted}


def median_of(document, work, contender, metric):
    """The median alone; None where it was not measured."""
    found = contender_summary(document["runs"], work, contender, metric)
    return found and found["median"]


def pair(runs, work, subject, peer, metric):
    """One figure of two contenders, and their ratio; None where no round has both."""
    ours = Series(runs, cases.Quantity(work, subject, metric))
    theirs = Series(runs, cases.Quantity(work, peer, metric))
    used, _, _, trusted = chosen_rounds(ours, theirs)
    if not used:
        return None
    singles = [ours.value(n) / theirs.value(n) for n in used]
    return {"subject_value": ours.median(used), "peer_value": theirs.median(used),
            "ratio": ours.median(used) / theirs.median(used),
            "range": [min(singles), max(singles)], "trusted": trusted}


def losses(document):
    """Where a peer is better than pelton by more than LOSS, in anything the report shows."""
    runs, found = document["runs"], []
    for shown in document["works"]:
        work = cases.work_of(shown["id"])
        if work is None:
            continue
        subject = work.contenders[0]
        for metric in work.metrics:
            if metric == "cpu_us_per_request" and "requests_per_core_second" in work.metrics:
                continue  # the same, said twice
            lower = cases.METRICS[metric].lower_is_better
            for peer in work.contenders[1:]:
                figure = pair(runs, work.id, subject, peer, metric)
                if figure is None:
                    continue
                low, high = figure["range"]
                ratio = figure["ratio"]
                if (ratio > 1 + LOSS) if lower else (ratio < 1 / (1 + LOSS)):
                    found.append({
                        "work": work.id, "title": work.title, "metric": metric,
                        "subject": subject, "peer": peer,
                        "subject_value": figure["subject_value"],
                        "peer_value": figure["peer_value"], "ratio": ratio,
                        "range": [low, high], "clear": low > 1 if lower else high < 1})
    return found


def exit_status(results):
    """The status of --check: 1 a limit was missed, 3 some could not be told, else 0."""
    verdicts = {result["verdict"] for result in results}
    if "missed" in verdicts:
        return 1
    return 3 if verdicts - {"met"} or not verdicts else 0
