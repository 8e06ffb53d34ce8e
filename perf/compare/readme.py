#!/usr/bin/env python3
"""Writes README.md's table of numbers from perf/results/comparison.json, or checks that it is so.

    perf/compare/readme.py            write the part between the two markers anew
    perf/compare/readme.py --check    exit 1 where it is not what the results say

A choice of the checks: REPORT.md beside the JSON has them all. Neighbours: report.py formats the
figures, main.py wrote the JSON; test/integration/test_compare.py calls the check.
"""

import argparse
import json
import pathlib
import sys

import report

ROOT = pathlib.Path(__file__).resolve().parents[2]
BEGIN = "<!-- numbers: written by perf/compare/readme.py -->\n"
END = "<!-- end of numbers -->\n"
# The row, the metric, and the peers that are shown: none for a figure without a peer.
SHOWN = (
    ("echo-64", "cpu_us_per_request", ("uring_echo", "epoll_echo", "libuv", "go", "asyncio")),
    ("echo-1000", "cpu_us_per_request", ("uring_echo",)),
    ("unix-64", "cpu_us_per_request", ("epoll_echo",)),
    ("echo-1", "p50_us", None),
    ("lines", "requests_per_core_second", ("tokio", "go", "asyncio")),
    ("readuntil-100", None, None),
    ("proxy-50", "cpu_us_per_request", ("haproxy", "nginx")),
    ("proxy-1", "p50_us", None),
    ("proxy-bulk", "cpu_s_per_gb", None),
    ("proxy-bulk", "bytes_per_second", None),
    ("connect", "requests_per_core_second", None),
    ("idle-echo", "rss_bytes_per_connection", None),
    ("idle-proxy", "rss_bytes_per_connection", None),
)
NAMES = {
    "uring_echo": "raw C on liburing", "epoll_echo": "raw C on epoll", "asio_epoll": "Asio, epoll",
    "asio_uring": "Asio, io_uring", "haproxy": "HAProxy", "haproxy_splice": "HAProxy with splice",
    "go": "Go", "node": "Node"}


def shown(checks):
    """The checks of SHOWN; the first of a row and a metric where it names no peers.

    ValueError where one is not there.
    """
    for row, metric, peers in SHOWN:
        found = {check["peer"]: check for check in reversed(checks)
                 if check["rows"] == [row] and metric in (None, check["metric"])}
        for peer in peers or list(found)[-1:] or [None]:
            if "value" not in found.get(peer, {}):
                raise ValueError(f"no check of {row}, {metric}, {peer} in the results")
            yield found[peer]


def table(checks):
    """The checks as a Markdown table; what one has in common with the one above is left out."""
    rows, above = [], None
    for check in shown(checks):
        ours = report.with_unit(check["subject_value"], check["metric"])
        theirs = value = ""
        if "peer_value" in check:
            peer = NAMES.get(check["peer"], check["peer"])
            theirs = f"{report.with_unit(check['peer_value'], check['metric'])}, {peer}"
            value = report.ratio(check["value"], check["range"])
        if check["verdict"] == "disturbed":
            value += " disturbed"
        what = (check["work"], check["measure"], ours)
        rows.append((*(what if what != above else ("", "", "")), theirs, value))
        above = what
    return report.table(("work", "measure", "pelton", "peer", "ratio [rounds]"), rows)


def numbers(document):
    """What stands between the markers."""
    checks = document["checks"]
    if document["mode"] != "full" or not document["complete"]:
        raise ValueError("the results are not of a whole, full run")
    machine = document["machine"]
    rounds = max(work["rounds"] for work in document["works"])
    return (f"{table(checks)}\n"
            f"`{document['command']}` on {machine['cores']} cores of an\n"
            f"{machine['processor']}, Linux {machine['kernel']}: medians of {rounds} rounds, and "
            f"in brackets the ratios\nof single rounds. Of the {len(checks)} limits that pelton "
            f"sets itself: {report.verdict_counts(checks)}.\n"
            "`perf/results/REPORT.md` has every figure, and where pelton loses.\n")


def renewed(text, document):
    """README.md's text with its numbers renewed. ValueError where the markers are missing."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md has no lines {BEGIN.strip()} and {END.strip()}")
    return head + BEGIN + numbers(document) + END + tail


def main(arguments):
    """0, or 1 where --check finds a difference, or 2 where something cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    readme, results = ROOT / "README.md", ROOT / "perf" / "results" / "comparison.json"
    try:
        text = readme.read_text(encoding="utf-8")
        new = renewed(text, json.loads(results.read_text(encoding="utf-8")))
        if text != new and not options.check:
            readme.write_text(new, encoding="utf-8")
    except (OSError, ValueError, KeyError) as error:
        print(f"perf/compare/readme.py: {error!r}", file=sys.stderr)
        return 2
    if text == new or not options.check:
        return 0
    print("README.md has not the numbers of perf/results: run perf/compare/readme.py",
          file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
