# SPDX-License-Identifier: BSD-2-Clause
"""report.html: one self-contained page of a run. `model` makes all numbers and words, the template only
places them; `render` draws. Nothing is loaded from anywhere when the page is looked at."""
import collections
import pathlib
import statistics

from faultinject import judge, plan, report, sometimes, summary
from faultinject.phases import PHASES

SLOWEST = 10
WINDOWS = 10         # of trials, for the ageing line
TRACE_LINES = 60     # shown of a failing trial
NOT_MEASURED = (
    "Time in the guest is the guest's time-stamp counter: under emulation it follows the host's clock, and a busy host "
    "makes every phase longer.",
    "A client that is awake at the first completion is not signalled; that recovery is then reported too long, never too short.",
    "A service without a session (echo, pci) has phases and no time to a first completed request.",
    "Nonsense that is a well-formed lie (a write reported done that was never made) is not among the injected faults.",
)


def model(run):
    s = run.summary
    return {
        "run": run.facts, "summary": s, "folder": run.folder.name, "headline": headline(s), "facts": list(report.facts(s)),
        "verdict": report.verdict(s), "targets": s["targets"], "phase_rows": report.rows(s),
        "outcomes": {name: n for name, n in s["outcomes"].items() if n},
        "cdf": cdf_series(run), "means": phase_means(run), "heat": heat(run.trials),
        "ageing": ageing(run), "slowest": sorted(run.recovered(), key=lambda t: -t["recovery_us"])[:SLOWEST],
        "failing": [failing(run, t) for t in run.trials if t["outcome"] not in judge.GOOD],
        "coverage": coverage(run), "environment": environment(run.facts), "not_measured": not_measured(run),
        "phases": PHASES, "found_by": report.found_by(run.summary), "ms": report.milliseconds,
    }


def headline(s):
    low, high = s["recovered_rate_95"]
    rate = s["recovered"] / s["activated"] if s["activated"] else 0
    return {"rate": f"{rate:.2%}", "low": f"{low:.2%}", "high": f"{high:.2%}", "recovered": s["recovered"],
            "activated": s["activated"], "injected": s["injected"]}


def cdf_series(run):
    """Service -> recovery times, most trials first."""
    series = collections.defaultdict(list)
    for t in summary.timed(run.recovered()):
        series[t["service"]].append(t["recovery_us"])
    return dict(sorted(series.items(), key=lambda item: -len(item[1])))


def phase_means(run):
    """Service -> phase -> mean; of every service that died and came back, also without a total."""
    times = collections.defaultdict(lambda: collections.defaultdict(list))
    for t in run.trials:
        for r in t["recoveries"] if t["outcome"] == "recovered" else ():
            for name, us in r["phases_us"].items():
                times[r["service"]][name].append(us)
    return {service: {name: statistics.fmean(values) for name, values in by_phase.items()}
            for service, by_phase in sorted(times.items())}


def heat(trials):
    """Service x fault: recovered / activated and the median time."""
    cells = collections.defaultdict(list)
    for t in trials:
        cells[t["service"], t["fault"]].append(t)
    services, faults = sorted({k[0] for k in cells}), [f for f in plan.FAULTS if any(k[1] == f for k in cells)]
    return {"faults": faults, "rows": [(name, [heat_cell(cells.get((name, fault))) for fault in faults]) for name in services]}


def heat_cell(trials):
    if not trials:
        return None
    activated = [t for t in trials if t["activated"]]
    good = sum(t["outcome"] in judge.GOOD for t in activated)
    times = [t["recovery_us"] for t in trials if t["outcome"] == "recovered" and t["recovery_us"] is not None]
    return {"good": good, "activated": len(activated), "injected": len(trials), "p50": summary.percentile(times, 50),
            "kind": "none" if not activated else "all" if good == len(activated) else "some" if good else "nothing"}


def ageing(run):
    points = [(t["n"], t["recovery_us"]) for t in run.recovered()]
    size = max(1, len(points) // WINDOWS)
    parts = [points[at:at + size] for at in range(0, len(points), size)] if len(points) >= 2 * WINDOWS else []
    return {"points": points, "medians": [(part[len(part) // 2][0], statistics.median(us for _, us in part)) for part in parts]}


def noteworthy(run):
    """Numbers of the trials whose traces go beside the page: the failing and the slowest."""
    slowest = sorted(run.recovered(), key=lambda t: -t["recovery_us"])[:SLOWEST]
    return sorted({t["n"] for t in run.trials if t["outcome"] not in judge.GOOD} | {t["n"] for t in slowest})


def failing(run, t):
    window = run.windows.get(t["n"])
    entries = window.entries if window else []
    start, ticks = (entries[0].tsc if entries else 0), run.facts["tsc_hz"] / 1e6
    names = dict(enumerate(run.facts["services"]))
    lines = [f"{(e.tsc - start) / ticks:12.1f} us  {names.get(e.service, '-'):<12} {e.mark or e.event:<18} {e.a:#x} {e.b:#x}"
             for e in entries]
    dropped = len(lines) - TRACE_LINES
    return {"trial": t, "log": run.log_tails.get(t["n"], []), "trace": lines[-TRACE_LINES:], "dropped": max(0, dropped)}


def coverage(run):
    """What a campaign of this kind can strike, and how often it did: a zero is a hole."""
    counts = collections.Counter((t["service"], t["fault"]) for t in run.trials if t["activated"])
    pairs = summary.pairs_of(run.facts)
    died_of = collections.Counter(r["cause"] for t in run.trials for r in t["recoveries"])
    return {"pairs": [(s, f, counts[s, f]) for s, f in pairs], "missed": [(s, f) for s, f in pairs if not counts[s, f]],
            "causes": died_of.most_common(),
            "sometimes": [(what, run.summary["sometimes"][name]) for name, what, _ in sometimes.SOMETIMES]}


def environment(facts):
    wanted = ("started", "seconds", "seed", "kills", "driver", "fault", "qemu", "accel", "smp", "mem", "qemu_extra",
              "image_sha256", "tsc_hz", "trace_entries", "trace_lost")
    return [(key, facts[key]) for key in wanted if facts.get(key) not in (None, "")]


def not_measured(run):
    extra = []
    if run.facts["trace_lost"]:
        extra.append(f"{run.facts['trace_lost']} trace entries were overwritten before they were read.")
    if not run.facts["complete"]:
        extra.append(f"The campaign ended early: {run.facts['trouble']}. Trials that did not run are not in any figure.")
    if not run.facts["verified"]:
        extra.append("The disk image could not be checked against the acknowledgements.")
    missed = coverage(run)["missed"]
    if missed:
        extra.append("Never activated in this run: " + ", ".join(f"{f} on {s}" for s, f in missed) + ".")
    return [*extra, *NOT_MEASURED]


def render(run):
    import jinja2
    from faultinject.reports import charts
    view = model(run)
    drawings = {"outcomes": charts.outcomes(view["outcomes"]) if view["outcomes"] else "",
                "cdf": charts.cdf(view["cdf"]) if view["cdf"] else "",
                "phases": charts.phases(view["means"], PHASES) if view["means"] else "",
                "ageing": charts.ageing(**view["ageing"]) if view["ageing"]["points"] else ""}
    loader = jinja2.FileSystemLoader(pathlib.Path(__file__).parent)
    page = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True).get_template("report.html.j2")
    return page.render(**view, charts=drawings, percentiles=(50, 90, 99), percentile=summary.percentile)
