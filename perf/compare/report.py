"""REPORT.md and the table on the terminal, from the document of a comparison alone.

Neighbours: summary.py computes what is shown; main.py writes it beside the charts of charts.py.
Ownership: pure functions from the document to text.
"""

import cases
import summary

VERDICTS = {"met": "met", "missed": "**missed**", "disturbed": "disturbed, not trusted",
            "not measured": "not measured"}
CHART_TITLES = {
    "throughput.svg": "Throughput", "cpu.svg": "CPU per request",
    "latency.svg": "Latency percentiles", "memory.svg": "Memory per connection",
    "scaling.svg": "Cost against connections"}


def number(value):
    """Three or four significant digits, without an exponent."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def with_unit(value, metric, growth=False):
    """A value of a metric as it is shown."""
    if value is None:
        return "-"
    if growth:
        return f"x {value:.2f}"
    known = cases.METRICS[metric]
    return f"{number(value * known.scale)} {known.unit}"


def ratio(value, value_range):
    """0.87 [0.85..0.88]"""
    digits = 1 if value >= 10 else 2 if value >= 0.995 else 3
    low, high = value_range
    return f"{value:.{digits}f} [{low:.{digits}f}..{high:.{digits}f}]"


def outcome(check):
    """The columns ratio, limit and verdict of a check."""
    limit = f"{check['operator']} {check['limit']:g}"
    if "value" not in check:
        return "-", limit, VERDICTS[check["verdict"]]
    if "peer_value" in check or check["growth"]:
        value = ratio(check["value"], check["range"])
    else:
        low, high = (number(each) for each in check["range"])
        value = f"{number(check['value'])} [{low}..{high}]"
    verdict = VERDICTS[check["verdict"]] + (", within the noise" if check["close"] else "")
    return value, limit, verdict


def check_row(check):
    """A check as the cells of a row."""
    metric, growth = check["metric"], check["growth"]
    ours = f"{check['subject']} {with_unit(check.get('subject_value'), metric, growth)}"
    theirs = "" if not check["peer"] else (
        f"{check['peer']} {with_unit(check.get('peer_value'), metric, growth)}")
    return (check["work"], check["measure"], ours, theirs, *outcome(check))


HEADINGS = ("work", "measure", "pelton", "peer", "ratio [rounds]", "limit", "verdict")


def table(headings, rows):
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines) + "\n"


def plain_table(checks):
    """The checks for a terminal."""
    rows = [HEADINGS, *(check_row(check) for check in checks)]
    return plain([tuple(cell.replace("**missed**", "MISSED") for cell in row) for row in rows])


def plain(rows):
    """Rows of cells as columns for a terminal."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
                     for row in rows)


def verdict_counts(checks):
    """12 limits met, 1 missed, ..."""
    counts = {verdict: sum(check["verdict"] == verdict for check in checks)
              for verdict in VERDICTS}
    return f"{counts['met']} limits met, " + ", ".join(
        f"{counts[verdict]} {verdict}" for verdict in list(VERDICTS)[1:])


def losses_section(document):
    """Where pelton loses: missed limits, then every figure in which a peer is better."""
    lines = ["## Where pelton loses\n"]
    missed = [check for check in document["checks"] if check["verdict"] == "missed"]
    if missed:
        lines.append("Limits that were missed:\n")
        for check in missed:
            over = f" over {check['peer']}'s" if "peer_value" in check else ""
            value, limit, _ = outcome(check)
            close = "; the limit lies within the noise" if check["close"] else ""
            lines.append(f"- {check['work']}: {check['measure']}{over} is {value}, and must be "
                         f"{limit}{close}.")
    else:
        lines.append("No limit was missed.")
    lost = summary.losses(document)
    lines.append("")
    if not lost:
        lines.append("In none of the figures below is a peer better than pelton by more than "
                     f"{summary.LOSS:.0%}.\n")
        return "\n".join(lines)
    lines.append(f"Figures in which a peer is better by more than {summary.LOSS:.0%}, limits or "
                 "not (\"every round\" or only by the median):\n")
    rows = []
    for each in lost:
        rows.append((each["title"], cases.METRICS[each["metric"]].title,
                     f"{each['subject']} {with_unit(each['subject_value'], each['metric'])}",
                     f"{each['peer']} {with_unit(each['peer_value'], each['metric'])}",
                     ratio(each["ratio"], each["range"]),
                     "every round" if each["clear"] else "the median"))
    lines.append(table(("work", "figure", "pelton", "peer", "ratio [rounds]", "better in"), rows))
    return "\n".join(lines)


def not_measured_section(document):
    """What is missing and why, and what was disturbed."""
    lines = []
    absent = [check for check in document["checks"] if check["verdict"] == "not measured"]
    if absent or document["missing"]:
        lines.append("## Not measured\n")
        lines += [f"- {check['work']}: {check['measure']}"
                  f"{' over ' + check['peer'] if check['peer'] else ''}: {check['why']}."
                  for check in absent]
        reasons = {}
        for each in document["missing"]:
            reasons.setdefault((each["contender"], each["why"]), []).append(each["work"])
        lines += [f"- {name} in {', '.join(works)}: {why}."
                  for (name, why), works in reasons.items()]
        lines.append("")
    disturbed = [run for run in document["runs"] if run["disturbed"]]
    repeated = sum(run["attempts"] - 1 for run in document["runs"])
    lines.append("## Disturbed runs\n")
    lines.append(f"{repeated} runs were made again because other programs kept the server or the "
                 f"load off its core for more than {document['settings']['max_wait_percent']:g} % "
                 f"of the time; {len(disturbed)} of {len(document['runs'])} stayed disturbed, and "
                 "do not count where at least half of the rounds were quiet.\n")
    for run in disturbed:
        lines.append(f"- {run['work']}, round {run['round']}, {run['contender']}: server "
                     f"{run['server_wait_percent'] or 0:.1f} %, load "
                     f"{run['load_wait_percent'] or 0:.1f} %")
    if disturbed:
        lines.append("")
    return "\n".join(lines)


def cell(document, work, name, metric):
    """Median and range of one figure."""
    found = summary.contender_summary(document["runs"], work, name, metric)
    if found is None:
        return "-"
    scale = cases.METRICS[metric].scale
    low, high = (number(each * scale) for each in found["range"])
    middle = number(found["median"] * scale)
    mark = "" if found["trusted"] else " (disturbed)"
    return (middle if low == high else f"{middle} [{low}..{high}]") + mark


def works_section(document):
    """Every work with all its contenders."""
    lines = ["## Every figure\n", "Medians of the rounds, with the lowest and the highest.\n"]
    for shown in document["works"]:
        work = cases.work_of(shown["id"])
        if work is None:
            continue
        measured = {run["contender"] for run in document["runs"] if run["work"] == work.id}
        names = [name for name in work.contenders if name in measured]
        lines.append(f"### {work.title} (`{work.id}`)\n")
        if not names:
            lines.append("Not measured.\n")
            continue
        seconds = f"{shown['rounds']} rounds of {shown['duration_s']:g} s"
        lines.append(f"{seconds}.\n")
        headings = ["", *(f"{cases.METRICS[metric].title}, {cases.METRICS[metric].unit}"
                          for metric in work.metrics)]
        lines.append(table(headings, [
            [f"**{name}**" if cases.is_pelton(name) else name,
             *(cell(document, work.id, name, metric) for metric in work.metrics)]
            for name in names]))
    return "\n".join(lines)


def machine_section(document):
    """Kernel, processor, mitigations, versions."""
    machine, settings = document["machine"], document["settings"]
    state = " with uncommitted changes" if machine.get("pelton_changed") else ""
    facts = [
        ("processor", f"{machine['processor']}{' (virtual)' if machine['virtual'] else ''}"),
        ("cores", f"{machine['cores']}; server on {settings['server_core']}, load on "
                  f"{settings['load_core']}"),
        ("memory", f"{machine['memory_gib']} GiB"),
        ("system", machine["system"]),
        ("kernel", f"{machine['kernel']} ({machine['kernel_build']})"),
        ("frequency governor", machine["governor"] or "none to be seen"),
        ("pelton", f"{machine['pelton_commit'] or 'unknown commit'}{state}"),
        *((f"mitigation: {name}", text) for name, text in machine["mitigations"].items()),
    ]
    lines = ["## The machine\n", table(("", ""), facts), "## Versions\n"]
    peers = {name: text for name, text in document["contenders"].items() if text}
    lines.append(table(("program", "version"),
                       sorted((machine["versions"] | peers).items())))
    return "\n".join(lines)


def commands_section(document):
    """The command lines of each work's contenders, from the last round."""
    lines = ["## Command lines\n",
             "Each pinned to its core; ports and paths are those of the last round.\n", "```"]
    for shown in document["works"]:
        last = {run["contender"]: run for run in document["runs"] if run["work"] == shown["id"]}
        if not last:
            continue
        lines.append(f"# {shown['id']}")
        lines += [" ".join(run["command"]) for run in last.values()]
        final = list(last.values())[-1]
        if final["load_command"] != final["command"]:
            lines.append("  " + " ".join(final["load_command"]))
    return "\n".join([*lines, "```", ""])


def markdown(document, charts):
    """The whole report."""
    machine = document["machine"]
    parts = [
        "# pelton and its peers: the numbers\n",
        f"`{document['command']}`, {document['started']}, {document['seconds'] // 60} min "
        f"{document['seconds'] % 60} s, {machine['processor']}, Linux {machine['kernel']}. "
        f"{verdict_counts(document['checks'])}.\n",
    ]
    if document["mode"] == "quick":
        parts.append("A quick run: short measurements of few rounds, to see whether something is "
                     "badly wrong. It leaves out some peers, and the limits that need them. "
                     "Trust the full run's numbers.\n")
    if not document["complete"]:
        parts.append("**The run was interrupted: what follows is a part of it.**\n")
    parts += [
        "Loopback, the server on one core and the load on another, a fresh server for each run, "
        "in the order A B A B. A ratio is the median of pelton's rounds over the median of the "
        "peer's; in brackets the lowest and the highest ratio of a single round. Lines marked "
        "\"within the noise\" have the limit inside that range. `perf/README.md` tells how to "
        "read this.\n",
        "## The numbers\n",
        table(HEADINGS, [check_row(check) for check in document["checks"]]),
        losses_section(document),
        not_measured_section(document),
    ]
    if charts:
        parts.append("## Charts\n")
        parts += [f"![{CHART_TITLES[name]}]({name})\n" for name in charts]
    parts += [works_section(document), machine_section(document), commands_section(document)]
    return "\n".join(parts)
