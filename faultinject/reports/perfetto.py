# SPDX-License-Identifier: BSD-2-Clause
"""A trial's trace as Chrome trace-event JSON, for ui.perfetto.dev: a track a service, its recovery and the
recovery's phases as nested slices, every kernel event as an instant, and flow arrows
fault -> detect -> restart -> replay.

Format: Google, "Trace Event Format" (ph X, i, s, t, f, M; ts and dur in microseconds)."""
import json

from faultinject import phases

ARROW = (("strike", "fault"), ("death", "detect"), ("first", "restart"), ("replayed", "replay"))


def trial(run, n):
    """JSON text of trial n; None if the trace does not hold it."""
    window = run.windows.get(n)
    line = next((t for t in run.trials if t["n"] == n), None)
    if window is None or line is None:
        return None
    names = dict(enumerate(run.facts["services"]))
    start, ticks = window.entries[0].tsc, run.facts["tsc_hz"] / 1e6
    events = [track(index, name) for index, name in names.items()]
    for number, (index, r) in enumerate(chains(window, names)):
        events += slices(r, index, start, ticks) + arrows(r, index, start, ticks, number + 1)
    events += [instant(e, names, start, ticks) for e in window.entries]
    about = {"trial": n, "seed": run.facts["seed"], "replay": line["replay"], "outcome": line["outcome"]}
    return json.dumps({"displayTimeUnit": "ms", "otherData": about, "traceEvents": events}, indent=1) + "\n"


def track(index, name):
    return {"ph": "M", "name": "process_name", "pid": index, "tid": 0, "args": {"name": name}}


def chains(window, names):
    """(index, Recovery) of every service that died in the window."""
    for index in sorted({d.service for d in window.deaths}):
        r = phases.service_recovery(window, index, names.get(index, f"service {index}"), set())
        if r is not None:
            yield index, r


def slices(r, index, start, ticks):
    """The recovery, and within it its phases: slices nest by containment."""
    steps = [(name, r.instants[name]) for name in phases.INSTANTS if name in r.instants]
    if len(steps) < 2:
        return []
    out = [slice_of(f"recovery of {r.service}", index, steps[0][1], steps[-1][1], start, ticks,
                    {"cause": r.cause, "generation": r.generation, "in flight": r.in_flight, "replayed": r.replayed})]
    for (_, begin), (name, end) in zip(steps, steps[1:]):
        phase = phases.PHASES[phases.INSTANTS.index(name) - 1]
        out.append(slice_of(phase, index, begin, end, start, ticks, {}))
    return out


def slice_of(name, index, begin, end, start, ticks, args):
    return {"ph": "X", "cat": "recovery", "name": name, "pid": index, "tid": 0, "ts": (begin - start) / ticks,
            "dur": (end - begin) / ticks, "args": args}


def arrows(r, index, start, ticks, number):
    """One flow through the chain's instants; each step binds to the slice that begins there."""
    points = [(text, r.instants[name]) for name, text in ARROW if name in r.instants]
    kinds = ["s"] + ["t"] * (len(points) - 2) + ["f"]
    return [{"ph": kind, "cat": "recovery", "name": "recovery", "id": number, "pid": index, "tid": 0, "bp": "e",
             "ts": (tsc - start) / ticks, "args": {"step": text}}
            for kind, (text, tsc) in zip(kinds, points)] if len(points) > 1 else []


def instant(e, names, start, ticks):
    name = e.mark or e.event
    return {"ph": "i", "cat": "kernel", "name": name, "pid": e.service if e.service in names else 0, "tid": 0,
            "s": "p", "ts": (e.tsc - start) / ticks,
            "args": {"generation": e.generation, "a": e.a, "b": e.b}}
