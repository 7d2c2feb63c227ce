# SPDX-License-Identifier: BSD-2-Clause
"""A run for other programs: JUnit XML (CI), Prometheus text 0.0.4 (monitoring), HdrHistogram's percentile
table .hgrm (its plotter)."""
import math
import statistics
import xml.etree.ElementTree as ElementTree

from faultinject import judge
from faultinject.phases import PHASES

ERRORS = ("harness_error",)             # nobody can tell, as opposed to: it went wrong
SKIPPED = ("not_activated",)
BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
HGRM_HALVINGS, HGRM_TICKS = 20, 5       # rows: so many ticks for each halving of the distance to 100 %


def junit(run):
    """One case a trial and one a target of the campaign."""
    suite = ElementTree.Element("testsuite", name=f"coppice-seed{run.facts['seed']}")
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for t in run.trials:
        case = add_case(suite, totals, f"{t['service']}.{t['fault']}", f"trial-{t['n']}", (t["recovery_us"] or 0) / 1e6)
        if t["outcome"] in SKIPPED:
            ElementTree.SubElement(case, "skipped", message=t["why"])
            totals["skipped"] += 1
        elif t["outcome"] not in judge.GOOD:
            kind = "error" if t["outcome"] in ERRORS else "failure"
            problem = ElementTree.SubElement(case, kind, message=f"{t['outcome']}: {t['why']}")
            problem.text = "\n".join([f"replay: {t['replay']}", *run.log_tails.get(t["n"], [])])
            totals[f"{kind}s"] += 1
    for name, met in run.summary["targets"].items():
        case = add_case(suite, totals, "targets", name, 0)
        if not met:
            ElementTree.SubElement(case, "failure", message=f"target missed: {name}")
            totals["failures"] += 1
    for name, value in totals.items():
        suite.set(name, str(value))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def add_case(suite, totals, classname, name, seconds):
    totals["tests"] += 1
    return ElementTree.SubElement(suite, "testcase", classname=f"coppice.{classname}", name=name, time=f"{seconds:.6f}")


def prometheus(run):
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
    registry = CollectorRegistry()
    trials = Counter("coppice_trials", "Injected faults.", ["service", "fault", "outcome"], registry=registry)
    total = Histogram("coppice_recovery_seconds", "First strike to first completed request.", ["service"],
                      buckets=BUCKETS_S, registry=registry)
    phase = Histogram("coppice_recovery_phase_seconds", "One phase of a recovery.", ["service", "phase"],
                      buckets=BUCKETS_S, registry=registry)
    for t in run.trials:
        trials.labels(t["service"], t["fault"], t["outcome"]).inc()
        if t["outcome"] == "recovered" and t["recovery_us"] is not None:
            total.labels(t["service"]).observe(t["recovery_us"] / 1e6)
            for name in PHASES:
                if name in t["phases_us"]:
                    phase.labels(t["service"], name).observe(t["phases_us"][name] / 1e6)
    s = run.summary
    for name, text in (("lost_acknowledged_writes", "Acknowledged writes that are not on the disk."),
                       ("duplicate_completions", "Requests completed twice."), ("read_mismatches", "Records read wrong."),
                       ("kernel_panics", "Kernel panics."), ("leaks", "Things dead processes still owned.")):
        Gauge(f"coppice_{name}", text, registry=registry).set(s[name])
    Gauge("coppice_targets_met", "1 if every target of the campaign was met.", registry=registry).set(s["met"])
    return generate_latest(registry)


def hgrm(values, unit=1000.0):
    """HdrHistogram's percentile distribution of values / unit (microseconds in, milliseconds out)."""
    rows = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}", ""]
    ordered = sorted(values)
    for percentile in hgrm_points(len(ordered)):
        count = min(len(ordered), max(1, math.ceil(percentile * len(ordered))))
        distance = "inf" if percentile == 1 else f"{1 / (1 - percentile):.2f}"
        rows.append(f"{ordered[count - 1] / unit:12.3f} {percentile:14.12f} {count:10} {distance:>14}")
    mean = statistics.fmean(ordered) / unit if ordered else 0
    deviation = statistics.pstdev(ordered) / unit if ordered else 0
    rows.append(f"#[Mean    = {mean:12.3f}, StdDeviation   = {deviation:12.3f}]")
    rows.append(f"#[Max     = {(ordered[-1] if ordered else 0) / unit:12.3f}, Total count    = {len(ordered):12}]")
    rows.append("#[Buckets =            1, SubBuckets     =            1]")
    return "\n".join(rows) + "\n"


def hgrm_points(n):
    """Percentiles from 0 towards 1, closer together near 1, as far as n values can tell them apart; then 1."""
    points = [0.0] if n else []
    for halving in range(HGRM_HALVINGS if n else 0):
        start, step = 1 - 0.5 ** halving, 0.5 ** (halving + 1) / HGRM_TICKS
        points += [start + step * tick for tick in range(1, HGRM_TICKS + 1)]
        if 1 - points[-1] < 1 / n:
            break
    return points + [1.0] if n else []
