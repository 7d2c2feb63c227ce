# SPDX-License-Identifier: BSD-2-Clause
"""summary.json from run.json and trials.jsonl: a pure function, so that it can be made again at any time
(`fi summarise DIR`) and cannot know more than the truth does."""
import collections
import json
import math

from faultinject import death, faults, plan, sometimes
from faultinject.judge import OUTCOMES
from faultinject.phases import PHASES

SCHEMA_VERSION = 1
ACTIVATED_MIN = 0.9
IN_FLIGHT_MIN = 0.5
SET_ASIDE_PAGES = 1  # recovery's, from the first update on: for the checkpoint of before it
NESTED_ACTIVATED = 0.5  # of an enumeration within recoveries, at least: its last third is reached only by the long ones


def percentile(values, p):
    """Nearest rank: always a value that was measured."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(p / 100 * len(ordered)) - 1)]


def spread(values, points=(50, 90, 99)):
    out = {"n": len(values)} | {f"p{p}": percentile(values, p) for p in points}
    return out | {"max": max(values, default=None)}


def wilson(successes, n, z=1.96):
    """95 % interval of a rate."""
    if n == 0:
        return [0.0, 1.0]
    rate, square = successes / n, z * z
    middle = (rate + square / (2 * n)) / (1 + square / n)
    half = z * math.sqrt(rate * (1 - rate) / n + square / (4 * n * n)) / (1 + square / n)
    return [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]


def timed(trials):
    """Those whose times say something: without the first of each boot, in which QEMU still translates what it runs, unless there
    are no others. A saved boot goes on in a QEMU that has translated nothing, so these differ by how the boot came to be."""
    return [t for t in trials if not t.get("early")] or trials


def times(trials):
    """Only of trials that recovered: others have no recovery to time."""
    done = timed([t for t in trials if t["outcome"] == "recovered"])
    totals = [t["recovery_us"] for t in done if t["recovery_us"] is not None]
    restarts = [sum(t["phases_us"][p] for p in PHASES[1:]) for t in done if "first_completion" in t["phases_us"]]
    return {"recovery_us": spread(totals),
            "restart_us": spread(restarts),  # from the (last) death: without detection
            "phases_us": {phase: spread([t["phases_us"][phase] for t in done if phase in t["phases_us"]], (50, 99))
                          for phase in PHASES}}


def in_flight(trials):
    """Over activated trials in which a block driver died and recovery counted its ledger."""
    counts = [t["in_flight"] for t in trials if t["activated"] and t["in_flight"] is not None]
    hits = sum(1 for n in counts if n > 0)
    return {"kills": len(counts), "with_requests": hits, "share": round(hits / len(counts), 4) if counts else None,
            "requests_p50": percentile(counts, 50), "requests_max": max(counts, default=None)}


def grouped(trials, key):
    out = {}
    for name in sorted({t[key] for t in trials}):
        part = [t for t in trials if t[key] == name]
        out[name] = {"injected": len(part), "activated": sum(t["activated"] for t in part),
                     "outcomes": dict(collections.Counter(t["outcome"] for t in part)),
                     "recovery_us": times(part)["recovery_us"]}
    return out


def by_cause(trials):
    """How the fault was found, and how long that took: from the strike to the death that followed from it."""
    out = {}
    for cause in sorted({t["cause"] for t in trials if t["activated"] and t["cause"]}):
        part = [t for t in trials if t["activated"] and t["cause"] == cause]
        out[cause] = {"deaths": len(part), "detect_us": spread([t["phases_us"]["detect"] for t in timed(part)
                                                                if "detect" in t["phases_us"]], (50, 99))}
    return out


def leaks_of(run, trials):
    """Things that a dead process still owned, and pages that were free before the campaign and not after."""
    before, after = run.get("rest_before"), run.get("rest_after")
    events = sum(t["leaks"] for t in trials) + sum(run.get("leaks_by_boot", []))
    if not before or not after:
        return events
    combined = run.get("fault") == "combination"
    missing = before["pages_free"] - after["pages_free"] - (SET_ASIDE_PAGES if combined else 0)
    missing -= after.get("room", 0) - before.get("room", 0)  # what held the most objects at once: there may be no more of them
    objects = 0 if combined else after.get("objects", 0) - before.get("objects", 0)
    return events + max(missing, after["dead_pages"] + after["quarantined"], objects, 0)  # the same things, seen twice


def enough_activated(s):
    """Of the faults that can be told to strike where the target is; whether a changed instruction is come to is the program's,
    and whether three strikes fall into one update is chance."""
    rows = [row for name, row in s["by_fault"].items() if name not in faults.BY_NAME or faults.BY_NAME[name].proof not in ("executed", "combined")]
    return s["activated"] > 0 and sum(r["activated"] for r in rows) >= ACTIVATED_MIN * sum(r["injected"] for r in rows)


def targets(s, run):
    """Name -> met. A campaign that was cut short, or whose check could not be made, meets nothing."""
    out = {
        "complete": bool(run.get("complete")),
        "verified": bool(run.get("verified")),
        "workload_finished": bool(run.get("workload")),
        "activated": enough_activated(s),
        "all_recovered": all(s["outcomes"][o] == 0 for o in OUTCOMES
                             if o not in ("recovered", "masked", "not_activated", "harness_error")),
        "nothing_lost": s["lost_acknowledged_writes"] == 0,
        "nothing_twice": s["duplicate_completions"] == 0,
        "nothing_wrong": s["read_mismatches"] == 0,
        "characters": s["typing_problems"] == 0,
        "no_panic": s["kernel_panics"] == 0,
        "no_leak": s["leaks"] == 0,
        "no_harness_error": s["outcomes"]["harness_error"] == 0,
    }
    if run.get("enumerate"):
        out["enumerated"] = run["enumerate"]["untouched_at"] is not None
        out["activated"] = s["activated"] >= s["injected"] - 1  # the last one passes
        if run.get("fault") in plan.NESTED:  # no two recoveries are equally long
            out["activated"] = s["activated"] >= s["injected"] * NESTED_ACTIVATED - plan.RECOVERIES_UNTOUCHED
    elif s["in_flight"]["kills"]:
        # Missed only where there were enough kills to tell: with ten, five are no finding.
        out["in_flight"] = wilson(s["in_flight"]["with_requests"], s["in_flight"]["kills"])[1] > IN_FLIGHT_MIN
    if run.get("death_order") and s["activated"]:
        out["death_order"] = death.met(run["death_order"])
    if run.get("disk"):
        out["disk"] = bool(run["disk"].get("equal")) and bool(run["disk"].get("untouched"))
    return out


def pairs_of(run):
    """(service, fault) of all that a campaign could strike."""
    driver, fault = run.get("driver"), run.get("fault")
    if run.get("enumerate"):
        return [(driver, fault)]
    known = plan.FAULTS.keys() | plan.GROUPS.keys()
    return plan.pairs(driver, fault, bool(run.get("disk"))) if fault in known and driver else []


def summarise(run, trials):
    workload = run.get("workload") or {}
    outside = run.get("outside") or {}  # what could not be put down to a trial
    outcomes = {o: sum(t["outcome"] == o for t in trials) for o in OUTCOMES}
    activated = sum(t["activated"] for t in trials)
    recovered = sum(t["activated"] and t["outcome"] == "recovered" for t in trials)
    masked = sum(t["activated"] and t["outcome"] == "masked" for t in trials)
    s = {
        "schema_version": SCHEMA_VERSION,
        **{key: run.get(key) for key in ("seed", "kills", "driver", "fault", "accel", "qemu", "smp", "mem", "image_sha256",
                                         "started", "seconds", "cpu_seconds", "trouble")},
        "injected": len(trials), "activated": activated, "outcomes": outcomes,
        "recovered": recovered, "recovered_rate_95": wilson(recovered, activated),
        "unharmed": recovered + masked, "unharmed_rate_95": wilson(recovered + masked, activated),
        **times(trials),
        "in_flight": in_flight(trials),
        "lost_acknowledged_writes": sum(t["lost"] for t in trials) + outside.get("lost", 0),
        "duplicate_completions": max(sum(t["duplicates"] for t in trials) + outside.get("duplicate", 0),
                                     workload.get("duplicates", 0)) + outside.get("repeated_acks", 0),
        "read_mismatches": max(sum(t["mismatches"] for t in trials) + outside.get("mismatch", 0),
                               workload.get("mismatch", 0)),
        "typing_problems": sum(len(t["typing"]) for t in trials) + outside.get("typing", 0),
        "kernel_panics": outcomes["kernel_panic"] + outside.get("panic", 0),
        "leaks": leaks_of(run, trials),
        "writes_acknowledged": run.get("acknowledged"), "places_checked": run.get("places_checked"),
        "workload": workload or None, "disk": run.get("disk"), "death_order": run.get("death_order"),
        "lock": run.get("lock"),
        "sometimes": sometimes.count(trials), "never_activated": sometimes.not_activated(trials, pairs_of(run)),
        "enumerated": run.get("enumerate"),
        "by_fault": grouped(trials, "fault"), "by_service": grouped(trials, "service"),
        "by_cause": by_cause(trials),
    }
    s["targets"] = targets(s, run)
    s["met"] = all(s["targets"].values())
    return s


def exit_code(s):
    """0 met, 1 missed, 4 the harness could not do its work (and nothing else is wrong)."""
    if s["met"]:
        return 0
    own = {"complete", "verified", "no_harness_error"}
    missed = {name for name, met in s["targets"].items() if not met}
    return 4 if missed and missed <= own and s["kernel_panics"] == 0 else 1


def load(folder):
    trials = [json.loads(line) for line in open(folder / "trials.jsonl")]
    return json.loads((folder / "run.json").read_text()), trials


def write(folder):
    """Regenerates summary.json; returns it."""
    s = summarise(*load(folder))
    (folder / "summary.json").write_text(json.dumps(s, indent=2) + "\n")
    return s
