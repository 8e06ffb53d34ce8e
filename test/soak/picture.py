"""Draws the samples of a soak: memory, descriptors and throughput over time, as one SVG.

Neighbours: soak.py calls it; samples.py says what a sample has.
"""

import pathlib

MIB = 1 << 20


def rates(samples, key):
    """(seconds, increase of a counter in a second) between each two samples."""
    return [((a["seconds"] + b["seconds"]) / 2, (b[key] - a[key]) / (b["seconds"] - a["seconds"]))
            for a, b in zip(samples, samples[1:]) if b["seconds"] > a["seconds"]]


def draw(watches, path):
    """\\return the path, or None where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("svg")
    from matplotlib import pyplot
    figure, (memory, descriptors, rate) = pyplot.subplots(
        3, 1, figsize=(9, 9), sharex=True, layout="constrained")
    for watch in watches:
        samples = watch.samples
        minutes = [each["seconds"] / 60 for each in samples]
        memory.plot(minutes, [each["rss"] / MIB for each in samples], label=watch.label)
        descriptors.plot(minutes, [each["fds"] for each in samples], label=watch.label)
        points = rates(samples, "bytes_received")
        rate.plot([each[0] / 60 for each in points], [each[1] / MIB for each in points],
                  label=watch.label)
    for axes, what in ((memory, "resident memory, MiB"), (descriptors, "open descriptors"),
                       (rate, "received, MiB per second")):
        axes.set_ylabel(what)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    memory.legend(loc="lower right")
    rate.set_xlabel("minutes")
    figure.suptitle(f"pelton, {watches[0].server.engine}: mixed load with faults")
    figure.savefig(path)
    pyplot.close(figure)
    return pathlib.Path(path)
