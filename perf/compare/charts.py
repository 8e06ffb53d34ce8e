"""The charts, as SVG: throughput, CPU per request, latencies, memory, cost against connections.

pelton has the strong colour, everybody else a quiet one; every bar and line is labelled where it
is. The files are the same, byte for byte, for the same document: no date, no random ids.

Neighbours: summary.py gives the medians; main.py names the directory.
Ownership: each figure is made, saved and closed by its own function.
"""

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

import cases  # noqa: E402
import summary  # noqa: E402

PELTON_COLOUR = "#d6336c"
BAR_COLOUR = "#adb5bd"
INK = "#212529"
FAINT = "#868e96"
# Raw C in greys, the other languages and libraries each in a colour of its own.
LINE_COLOURS = {
    "uring_echo": "#343a40", "epoll_echo": "#868e96", "asio_uring": "#1864ab",
    "asio_epoll": "#4dabf7", "libuv": "#2b8a3e", "tokio": "#c9710c", "go": "#0c8599",
    "node": "#74b816", "uvloop": "#7048e8", "asyncio": "#b197fc"}
SHOWN_NAMES = {
    "uring_echo": "raw C, io_uring", "epoll_echo": "raw C, epoll", "asio_uring": "Asio, io_uring",
    "asio_epoll": "Asio, epoll", "libuv": "libuv", "tokio": "Rust tokio", "go": "Go",
    "node": "Node", "uvloop": "uvloop", "asyncio": "asyncio", "haproxy": "HAProxy",
    "haproxy_splice": "HAProxy, splice", "nginx": "nginx", "pelton_lines": "pelton",
    "pelton-echo": "pelton", "pelton-proxy": "pelton"}
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "pelton", "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"], "font.size": 10,
    "axes.edgecolor": "#ced4da", "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False,
    "axes.spines.right": False, "figure.facecolor": "white", "axes.facecolor": "white",
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left",
}


def shown_name(name):
    """A contender as the reader knows it."""
    return SHOWN_NAMES.get(name, name)


def figures_of(document, work, metric):
    """[(contender, median)] of a work, in the table's order; empty where nothing was measured."""
    known = cases.work_of(work)
    found = [(name, summary.median_of(document, work, name, metric)) for name in known.contenders]
    return [(name, value) for name, value in found if value is not None]


def shown_value(value):
    """Three significant digits for a label."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def draw_bars(axes, room, figures, title, unit, scale=1, lower_is_better=True):
    """One bar for each contender, the best on top, with its value at its end; room for so many."""
    ordered = sorted(figures, key=lambda each: each[1], reverse=not lower_is_better)
    values = [value * scale for _, value in ordered]
    places = range(len(ordered))
    colours = [PELTON_COLOUR if cases.is_pelton(name) else BAR_COLOUR for name, _ in ordered]
    axes.barh(places, values, color=colours, height=0.68)
    for place, (name, _), value in zip(places, ordered, values):
        bold = "bold" if cases.is_pelton(name) else "normal"
        axes.annotate(shown_value(value), (value, place), xytext=(4, 0), fontweight=bold,
                      textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(places, [shown_name(name) for name, _ in ordered])
    for label, (name, _) in zip(axes.get_yticklabels(), ordered):
        label.set_fontweight("bold" if cases.is_pelton(name) else "normal")
    box = axes.get_position()  # bars are as thick in every panel; few of them need less of it
    height = box.height * len(ordered) / room
    axes.set_position([box.x0, box.y1 - height, box.width, height])
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set_xlim(0, max(values) * 1.16)
    axes.set_title(title)
    axes.set_xlabel(f"{unit} ({'less' if lower_is_better else 'more'} is better)", color=FAINT,
                    fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", colors=FAINT, labelsize=8)
    axes.spines["left"].set_visible(False)


def spread_labels(wanted, gap):
    """The wanted heights, moved apart so that neighbours keep `gap`, as little as possible."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups = []  # [sum of the wanted bottoms, members]
    for i in order:
        groups.append([[i], wanted[i]])
        # Groups that overlap become one, centred where its members want to be.
        while len(groups) > 1 and (groups[-1][1] - groups[-2][1]
                                   < gap * (len(groups[-1][0]) + len(groups[-2][0])) / 2):
            members = groups[-2][0] + groups[-1][0]
            groups[-2:] = [[members, sum(wanted[j] for j in members) / len(members)]]
    heights = [0.0] * len(wanted)
    for members, centre in groups:
        for place, i in enumerate(members):
            heights[i] = centre + (place - (len(members) - 1) / 2) * gap
    return heights


def label_ends(axes, lines):
    """Names at the right ends of lines: [(x, y, name, colour)], without overlapping."""
    to_pixels = axes.transData.transform
    pixels = [to_pixels((x, y)) for x, y, _, _ in lines]
    dots_per_point = axes.figure.dpi / 72
    heights = spread_labels([y for _, y in pixels], 11.5 * dots_per_point)
    for (x, y, name, colour), pixel, height in zip(lines, pixels, heights):
        bold = "bold" if cases.is_pelton(name) else "normal"
        axes.annotate(shown_name(name), (x, y), color=colour, fontsize=9, fontweight=bold,
                      xytext=(8, (height - pixel[1]) / dots_per_point), va="center",
                      textcoords="offset points", annotation_clip=False)


def draw_lines(axes, lines, title, y_label):
    """Lines [(name, xs, ys)] over a logarithmic y axis, pelton's above all others."""
    ends = []
    for name, xs, ys in lines:
        ours = cases.is_pelton(name)
        colour = PELTON_COLOUR if ours else LINE_COLOURS.get(name, BAR_COLOUR)
        axes.plot(xs, ys, color=colour, linewidth=3 if ours else 1.4, marker="o",
                  markersize=5 if ours else 3, zorder=5 if ours else 3, solid_capstyle="round",
                  clip_on=False)
        ends.append((xs[-1], ys[-1], name, colour))
    axes.set_yscale("log")
    low = min(min(ys) for _, _, ys in lines)
    high = max(max(ys) for _, _, ys in lines)
    axes.set_ylim(low / 1.35, high * 1.35)
    steps = [d * 10 ** e for e in range(-2, 9) for d in (1, 2, 5)]
    ticks = [step for step in steps if low / 1.35 <= step <= high * 1.35]
    axes.set_yticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="y", color="#e9ecef", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(title)
    axes.set_ylabel(y_label, color=FAINT, fontsize=9)
    axes.tick_params(colors=FAINT, labelsize=9, length=0)
    axes.spines["left"].set_visible(False)
    label_ends(axes, ends)


def footnote(document):
    """Where and when the data were made."""
    machine = document["machine"]
    quick = ", quick run" if document["mode"] == "quick" else ""
    return (f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}; "
            "loopback, server on one core, load on another. "
            f"Medians, {document['started'][:10]}{quick}.")


def save(figure, document, title, path):
    """Title and footnote, then the file."""
    width, height = figure.get_size_inches()
    figure.suptitle(title, x=0.12 / width, y=1 - 0.12 / height, ha="left", va="top", fontsize=14,
                    fontweight="bold")
    figure.text(0.12 / width, 0.1 / height, footnote(document), fontsize=8, color=FAINT)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def panels(count, width, height, left=1.45, right=0.3, gap=1.85):
    """A figure with `count` axes side by side; margins in inches, for names and title."""
    figure, axes = plt.subplots(1, count, figsize=(width, height), squeeze=False)
    inner = (width - left - right - gap * (count - 1)) / count
    figure.subplots_adjust(left=left / width, right=1 - right / width, top=1 - 0.85 / height,
                           bottom=0.85 / height, wspace=gap / inner if inner > 0 else 0.5)
    return figure, list(axes[0])


def bar_chart(document, path, title, wanted):
    """A panel of bars for each (work, metric, title, unit, scale, lower_is_better) measured."""
    found = [(figures_of(document, work, metric), *rest) for work, metric, *rest in wanted]
    found = [each for each in found if each[0]]
    if not found:
        return False
    tallest = max(len(each[0]) for each in found)
    figure, axes = panels(len(found), max(4.2 * len(found), 6.4), 1.9 + 0.27 * tallest)
    for each, where in zip(found, axes):
        draw_bars(where, tallest, *each)
    save(figure, document, title, path)
    return True


def throughput(document, path):
    """Echoes and lines per second."""
    rate = "requests_per_second"
    return bar_chart(document, path, "Throughput of a server on one core", [
        ("echo-64", rate, "echo 64 B, 64 connections", "1000 echoes/s", 1e-3, False),
        ("lines", rate, "lines of 100 B, pipelined", "1000 lines/s", 1e-3, False)])


def cpu(document, path):
    """CPU per request."""
    metric = "cpu_us_per_request"
    return bar_chart(document, path, "What a request costs the server", [
        ("echo-64", metric, "echo 64 B, 64 connections", "us of CPU per echo", 1, True),
        ("lines", metric, "lines of 100 B, pipelined", "us of CPU per line", 1, True),
        ("proxy-50", metric, "proxy to redis, 50 clients", "us of CPU per request", 1, True)])


def memory(document, path):
    """Memory of an idle connection."""
    metric = "rss_bytes_per_connection"
    return bar_chart(document, path, "Memory of an idle connection, user space", [
        ("idle-echo", metric, "echo server", "KiB per connection", 1 / 1024, True),
        ("idle-proxy", metric, "proxy, both sides", "KiB per proxied connection", 1 / 1024,
         True)])


def latency_lines(document, work):
    """[(contender, places, microseconds)] of a work's percentiles."""
    lines = []
    for name in cases.work_of(work).contenders:
        values = [summary.median_of(document, work, name, metric) for metric in cases.LATENCIES]
        if all(value is not None and value > 0 for value in values):
            lines.append((name, list(range(len(values))), values))
    return lines


def latency(document, path):
    """Percentiles, with one connection and with 64."""
    wanted = [("echo-1", "1 connection, pelton busy polls"), ("echo-64", "64 connections")]
    found = [(latency_lines(document, work), title) for work, title in wanted]
    found = [each for each in found if each[0]]
    if not found:
        return False
    figure, axes = panels(len(found), max(5.6 * len(found), 6.4), 5.4, left=0.75, right=1.3,
                          gap=2.1)
    for (lines, title), where in zip(found, axes):
        where.set_xlim(-0.15, len(cases.LATENCIES) - 1)
        where.set_xticks(range(len(cases.LATENCIES)),
                         [cases.METRICS[metric].title for metric in cases.LATENCIES])
        draw_lines(where, lines, title, "us, logarithmic (less is better)")
        where.set_xlabel("percentile of the round trips", color=FAINT, fontsize=9)
    save(figure, document, "Latency of an echo of 64 B", path)
    return True


def scaling(document, path):
    """CPU per echo with 1 to 10000 connections."""
    lines = []
    for name in ("pelton-echo", *cases.ECHO_PEERS):
        points = [(count, summary.median_of(document, f"echo-{count}", name,
                                            "cpu_us_per_request")) for count in cases.CURVE]
        points = [point for point in points if point[1]]
        if len(points) > 1:
            lines.append((name, [x for x, _ in points], [y for _, y in points]))
    if not lines:
        return False
    figure, (axes,) = panels(1, 8.4, 5.4, left=0.75, right=1.4)
    axes.set_xscale("log")
    counts = [count for count in cases.CURVE if any(count in xs for _, xs, _ in lines)]
    axes.set_xlim(counts[0] / 1.2, counts[-1])
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    draw_lines(axes, lines, "echo 64 B, one message in flight on each connection",
               "us of CPU per echo, logarithmic (less is better)")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.set_xlabel("connections, logarithmic", color=FAINT, fontsize=9)
    save(figure, document, "What an echo costs with more connections", path)
    return True


CHARTS = {"throughput.svg": throughput, "cpu.svg": cpu, "latency.svg": latency,
          "memory.svg": memory, "scaling.svg": scaling}


def draw_all(document, directory):
    """Draws what the document has data for; the names of the files."""
    drawn = []
    with plt.rc_context(STYLE):
        for name, draw in CHARTS.items():
            path = directory / name
            if draw(document, path):
                drawn.append(name)
            else:
                path.unlink(missing_ok=True)  # an older one would show other data
    return drawn
