"""Two builds of pelton side by side: what a change, an option or a compiler costs or brings.

`scripts/bench.sh --against DIR` leaves the peers out. The programs of DIR are the second contender
of each row of a server, under the first build's load generator; what is printed are ratios, without
limits.

Neighbours: main.py calls; cases.py has the rows, contenders.py starts either build's programs,
summary.py has the arithmetic, report.py the form of numbers.
Ownership: pure functions; nothing is kept.
"""

import dataclasses

import cases
import report
import summary

SUBJECTS = ("pelton-echo", "pelton-proxy", "pelton_lines")
HEADINGS = ("work", "figure", "this build", "the other", "ratio [rounds]")


def twin(name):
    """What the program of the other build is called."""
    return f"{name} (other build)"


def subjects(works):
    """The servers that works are about."""
    return [work.contenders[0] for work in works if work.contenders[0] in SUBJECTS]


def select(works):
    """The works whose subject is a server, each with the two builds of it alone."""
    return [dataclasses.replace(work, contenders=(work.contenders[0], twin(work.contenders[0])))
            for work in works if work.contenders[0] in SUBJECTS]


def rows(document):
    """What was measured, as the cells of HEADINGS."""
    found = []
    for work in document["works"]:
        ours, theirs = work["contenders"]
        for metric in cases.work_of(work["id"]).metrics:
            pair = summary.pair(document["runs"], work["id"], ours, theirs, metric)
            if pair is None:
                continue
            noise = "" if pair["trusted"] else ", disturbed"
            found.append((work["title"], cases.METRICS[metric].title,
                          report.with_unit(pair["subject_value"], metric),
                          report.with_unit(pair["peer_value"], metric),
                          report.ratio(pair["ratio"], pair["range"]) + noise))
    return found


def left_out(document):
    """Rows that were asked for and not measured, a line each with the reason."""
    return [f"{each['work']}: {each['contender']} is left out: {each['why']}"
            for each in document["missing"]]


def markdown(document):
    """AGAINST.md."""
    parts = ["# Two builds side by side\n", f"`{document['command']}`\n"]
    if document["mode"] == "quick":
        parts.append("A quick run: short measurements of few rounds.\n")
    if not document["complete"]:
        parts.append("**The run was interrupted: what follows is a part of it.**\n")
    return "\n".join((
        *parts,
        "Fresh servers in the order A B A B. A ratio is the median of this build's rounds over the "
        "median of the other's; in brackets the lowest and the highest ratio of a single round.\n",
        report.table(HEADINGS, rows(document)),
        report.not_measured_section(document),
        "The commit is that of this tree, from which neither build need have been made.\n",
        report.machine_section(document)))
