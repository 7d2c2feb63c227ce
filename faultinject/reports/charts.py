# SPDX-License-Identifier: BSD-2-Clause
"""The report's charts: SVG text from numbers. Words and axes take the page's colour (currentColor), so that
one drawing serves light and dark; every chart's numbers are also in a table beside it."""
import io
import re

import matplotlib
matplotlib.use("svg")
from matplotlib import pyplot, ticker  # noqa: E402

STEPS_MAX = 2000        # of one curve: no screen shows more
VECTORS_MAX = 5000      # more points than that are one picture
INK = "#010203"  # stands for the page's text colour; no other colour may be this one
PHASE_COLOURS = ("#c2452d", "#d98032", "#d9b22f", "#86a83a", "#3f9b6c", "#3690a8", "#4a6fc0", "#8759b0")
OUTCOME_COLOURS = {"recovered": "#3f9b6c", "masked": "#3690a8", "not_activated": "#8a8f98", "recovered_with_loss": "#d98032",
                   "degraded": "#d9b22f", "gave_up": "#c2452d", "cascaded": "#b0418c", "lied": "#a5522d", "silent_corruption": "#8a1f1f",
                   "kernel_panic": "#5b1a6e", "harness_error": "#6b4b2a"}
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "coppice", "font.family": "sans-serif", "font.size": 10,
         "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
         "axes.spines.top": False, "axes.spines.right": False, "grid.color": "#8a8f98", "grid.alpha": 0.35,
         "legend.frameon": False}


def drawn(draw, width=9.0, height=3.4):
    """SVG of what draw(axes) draws."""
    with matplotlib.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
        try:
            draw(axes)
            out = io.StringIO()
            figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        finally:
            pyplot.close(figure)
    return inlined(out.getvalue())


def inlined(svg):
    """Without XML prologue and fixed size: fit for an HTML page. The caption names it, so it is hidden from
    screen readers, which are given the table."""
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r' (?:width|height)="[^"]*pt"', "", svg, count=2)
    return svg.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1).replace(INK, "currentColor")


def milliseconds(axis):
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def steps(n):
    """Ranks from 0 to n - 1 that a curve of n values is drawn through: all, or so many that both ends and what lies between the
    last of a hundred and the last of all are seen."""
    if n <= STEPS_MAX:
        return range(n)
    even = {round(i * (n - 1) / (STEPS_MAX // 2 - 1)) for i in range(STEPS_MAX // 2)}
    tail = {n - 1 - round((n / 100) ** (i / (STEPS_MAX // 2 - 1))) for i in range(STEPS_MAX // 2)}
    return sorted(even | tail)


def cdf(series):
    """series: name -> microseconds."""
    def draw(axes):
        for name, values in series.items():
            ordered = [v / 1000 for v in sorted(values)]
            ranks = steps(len(ordered))
            axes.step([ordered[i] for i in ranks], [(i + 1) / len(ordered) for i in ranks], where="post", label=f"{name} ({len(ordered)})")
        axes.set(xscale="log", xlabel="strike to first completion, ms", ylabel="share of recoveries", ylim=(0, 1.02))
        milliseconds(axes.xaxis)
        axes.grid(True)
        axes.legend(loc="lower right")
    return drawn(draw)


def phases(table, names):
    """table: service -> phase -> mean microseconds; bars of stacked phases."""
    def draw(axes):
        for row, (service, means) in enumerate(table.items()):
            left = 0.0
            for name, colour in zip(names, PHASE_COLOURS):
                width = means.get(name, 0) / 1000
                axes.barh(row, width, left=left, color=colour, label=name if row == 0 else None)
                left += width
        axes.set(xlabel="mean, ms", yticks=range(len(table)), yticklabels=list(table))
        axes.invert_yaxis()
        axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return drawn(draw, height=1.6 + 0.45 * len(table))


def outcomes(counts):
    """counts: outcome -> trials, only those that happened."""
    def draw(axes):
        bars = axes.barh(list(counts), list(counts.values()), color=[OUTCOME_COLOURS[name] for name in counts])
        axes.bar_label(bars, padding=4, color=INK)
        axes.set(xlabel="trials (logarithmic)", xscale="symlog", xlim=(0, max(counts.values()) * 2))
        milliseconds(axes.xaxis)
        axes.invert_yaxis()
    return drawn(draw, height=0.9 + 0.4 * len(counts))


def ageing(points, medians):
    """points: (trial number, microseconds); medians: (trial number, microseconds) of windows."""
    def draw(axes):
        axes.scatter([n for n, _ in points], [us / 1000 for _, us in points], s=9, alpha=0.5, color="#4a6fc0", label="a recovery",
                     rasterized=len(points) > VECTORS_MAX)
        if medians:
            axes.plot([n for n, _ in medians], [us / 1000 for _, us in medians], color="#c2452d", linewidth=2, label="median of a tenth")
        axes.set(yscale="log", xlabel="trial", ylabel="ms")
        milliseconds(axes.yaxis)
        axes.grid(True)
        axes.legend(loc="upper right")
    return drawn(draw)
