# SPDX-License-Identifier: BSD-2-Clause
"""From evidence to the outcome of one trial. Pure: no clock, no file, no guest."""
import dataclasses

from faultinject import aims, combination, faults, phases, sometimes

OUTCOMES = ("not_activated", "masked", "recovered", "recovered_with_loss", "degraded", "gave_up", "cascaded",
            "lied", "silent_corruption", "kernel_panic", "harness_error")
GOOD = ("recovered", "masked", "not_activated")
RESTARTED_WITH = "DEPENDENCY"  # cause of a death that the manifest asks for
SERVICE_DRIVER = 2             # enum service_flags in abi/manifest.h
STATE_RUNNING, STATE_ABSENT = 2, 7  # abi/states.def
NOT_CLIENTS = ("supervisor", "recovery", "pci", "injector")
NOTE = 3  # enum inject_action in abi/syscall.h
LOADED = "virtio_blk"  # its client always waits for something: the workload
BLOCK_SERVICES = ("virtio_blk", "virtio_disk")


@dataclasses.dataclass
class Evidence:
    """All that is known of one trial."""
    trial: object                    # plan.Trial
    window: phases.Window | None     # of the trace
    report: dict | None              # what the injector said
    services: dict                   # index -> {"name", "flags", "state", "restarts_with"} as at the start
    tsc_hz: int = 1
    trace_lost: bool = False         # entries of this window were overwritten before they were read
    panic: str | None = None
    trouble: str | None = None       # why the harness could not go on
    lost: list = dataclasses.field(default_factory=list)        # verify.Finding
    events: dict = dataclasses.field(default_factory=dict)      # mismatch, duplicate, io_error -> count
    typing: list = dataclasses.field(default_factory=list)      # typist's problems
    aim: str = ""                    # where exactly, in words
    disk_in_use: bool = True         # virtio_disk had a client with work until the trial ended


def recoveries(e):
    """The chains of all services that died in the window, the trial's own first."""
    others = {i for i, s in e.services.items() if s["name"] in NOT_CLIENTS}
    found = []
    for index, service in e.services.items():
        r = phases.service_recovery(e.window, index, service["name"], others)
        if r is not None:
            found.append(r)
    main = "virtio_blk" if e.trial.service == "all" else e.trial.service
    return sorted(found, key=lambda r: (r.service != main, r.service))


def targets(e):
    """Names of the services that the trial means to kill."""
    if e.trial.service != "all":
        return {e.trial.service} | ({"virtio_blk"} if faults.BY_NAME[e.trial.fault].how == "recovering" else set())
    return {s["name"] for s in e.services.values() if s["flags"] & SERVICE_DRIVER and s["state"] != STATE_ABSENT}


def combined(e):
    return faults.BY_NAME[e.trial.fault].how == "update"


def activated(e):
    """The fault took effect: the proof that its row of faults.TABLE names is there."""
    if combined(e):
        return combination.activated(e)
    names = {i: s["name"] for i, s in e.services.items()}
    proof = faults.BY_NAME[e.trial.fault].proof
    if proof == "killed":
        return {names.get(d.service) for d in e.window.deaths} >= targets(e)
    struck = [m for m in e.window.strikes if names.get(m.service) == e.trial.service]
    if proof == "repeated":
        return len(struck) >= 2 + e.trial.again
    if proof == "given_up":
        return bool(struck) and given_up_as_meant(e)
    if proof == "starved":
        return starved_us(e) >= aims.starved_us(e.trial)
    if proof == "executed":
        return any(m.a == NOTE for m in struck)
    if proof == "spoiled":
        return bool(struck) and any(names.get(m.service) == "recovery" for m in e.window.pokes)
    if proof == "poked":
        return any(names.get(m.service) == e.trial.service for m in e.window.pokes)
    return len(struck) > faults.BY_NAME[e.trial.fault].deep


def given_up_as_meant(e):
    """The target was, nobody else, and it runs again."""
    names = {e.services[i]["name"] for i in e.window.gave_up if i in e.services}
    return e.trial.fault == "give_up" and names == {e.trial.service} and e.report.get("state_after") == STATE_RUNNING


def starved_us(e):
    """How long the hog had the CPU: between its two marks."""
    marks = [m.tsc for m in e.window.entries if m.mark == "STARVING"]
    return (marks[-1] - marks[0]) * 1e6 / e.tsc_hz if len(marks) == 2 else 0


def injected_deaths(e, service):
    """Deaths that the trial's own strikes explain."""
    fault = faults.BY_NAME[e.trial.fault]
    nested = fault.successors or fault.deep
    return max(1, sum(m.service == service for m in e.window.strikes)) if nested else 1


def orphaned(e, death, before):
    """It restarts with a service that has just died, and on another CPU it was faster than the supervisor: the
    registers that it used were gone with the one that gave them. `before`: earlier deaths of the window."""
    start = max((d.tsc for d in before if d.service == death.service), default=0)
    owners = e.services.get(death.service, {}).get("restarts_with", ())
    return any(e.services[d.service]["name"] in owners for d in before if d.tsc > start and d.service in e.services)


def slowed(e, death):
    """It stalled while it was single-stepped towards the strike: a trap after each of its instructions."""
    def of_it(event):
        return any(x.event == event and (x.service, x.generation) == (death.service, death.generation)
                   for x in e.window.entries)
    return phases.cause_name(death.a) == "STALLED" and of_it("ARMED") and not of_it("STRIKE")


def excused(e, death):
    """It was the doing of others, or of whoever counted its instructions."""
    before = e.window.deaths[:e.window.deaths.index(death)]
    return phases.cause_name(death.a) == RESTARTED_WITH or orphaned(e, death, before) or slowed(e, death)


def strangers(e):
    """Deaths that neither the trial nor the manifest explains."""
    if combined(e):
        return combination.strangers(e, lambda d: excused(e, d))
    names = {i: s["name"] for i, s in e.services.items()}
    meant, count, out = targets(e), {}, []
    for d in e.window.deaths:
        name = names.get(d.service, f"service {d.service}")
        if excused(e, d):
            continue
        count[name] = count.get(name, 0) + 1
        if name not in meant or count[name] > injected_deaths(e, d.service):
            out.append(f"{name} died: {phases.cause_name(d.a)}")
    for at, d in enumerate(e.window.cleaned):
        name = names.get(d.service, f"service {d.service}")
        explained = phases.cause_name(d.a) == RESTARTED_WITH or orphaned(e, d, e.window.cleaned[:at])
        if name != e.trial.service and not explained:
            out.append(f"{name} died when {e.trial.service} was ended: {phases.cause_name(d.a)}")
    return out


OWNERS = {"records": BLOCK_SERVICES, "characters": ("serial",), "answers": ("echo",)}


def lie(e):
    """What the target's clients were told wrong, if the fault makes it tell anything and nobody else can have done it."""
    told = {"records": e.lost or e.events.get("mismatch"), "characters": e.typing, "answers": e.report.get("wrong")}
    wrong = [what for what, seen in told.items() if seen]
    if not wrong or not faults.BY_NAME[e.trial.fault].lies or e.events.get("duplicate") or not activated(e):
        return None
    if any(e.trial.service not in OWNERS[what] for what in wrong) or strangers(e):
        return None
    return f"{e.trial.service}, changed, did other than it was asked for: {', '.join(wrong)} are wrong"


def harm(e, found):
    """(outcome, why) of a fault that took effect, worst first."""
    told = lie(e)
    if told:
        return "lied", told
    if any(f.kind == "corrupt" for f in e.lost) or e.events.get("mismatch"):
        return "silent_corruption", "; ".join(f.text() for f in e.lost[:1]) or "a record read back was wrong"
    if e.report.get("wrong"):
        return "silent_corruption", "a call was answered with other words"
    if e.lost:
        return "recovered_with_loss", e.lost[0].text()
    if e.events.get("duplicate"):
        return "recovered_with_loss", "a request was completed twice"
    if e.typing:
        return "recovered_with_loss", "characters were lost or repeated on the console"
    if e.window.gave_up and not given_up_as_meant(e) or (e.report and e.report.get("state_after") == 6):
        return "gave_up", "the supervisor gave the service up"
    others = strangers(e)
    if others:
        return "cascaded", others[0]
    if e.window.leaks:
        return "degraded", "a dead process owned something"
    if e.report.get("stuck"):
        return "degraded", "a client waited in vain, and nobody noticed"
    if e.report.get("rescued"):
        return "degraded", "nobody noticed the fault"
    if not e.report.get("settled"):
        return "degraded", "a service did not come back"
    if e.window.poisoned or e.events.get("io_error"):
        return "degraded", "a request failed"
    for r in found:
        if r.generation_after is None:
            return "degraded", f"{r.service} was not started again"
        answered = e.report.get("answered")  # a client that is awake is not signalled
        if r.service == LOADED and r.in_flight and "completed" not in r.instants and not (answered or r.completed_later):
            return "degraded", "none of the requests in flight was completed"
    return "recovered", ""


def judge_combined(e):
    """Several recoveries that are one within the other: they are not taken apart."""
    outcome, why = harm(e, [])
    if outcome == "recovered" and not combination.serves(e):
        return "degraded", "no request was completed after the last death"
    if outcome == "recovered" and not activated(e):
        return "not_activated", "not both were struck before the update had ended"
    return outcome, why


def judge(e):
    """(outcome, why, recoveries)"""
    if e.panic:
        return "kernel_panic", e.panic, []
    if e.trouble or e.report is None:
        return "harness_error", e.trouble or "no report from the injector", []
    if e.report.get("error"):
        return "harness_error", e.report["error"], []
    if e.trace_lost or e.window is None:
        return "harness_error", "the trace ring wrapped before it was read" if e.trace_lost else "no trace", []
    if combined(e):
        return (*judge_combined(e), [])
    found = recoveries(e)
    disordered = [r.service for r in found if not r.in_order()]
    if disordered:
        return "harness_error", f"the trace of {disordered[0]} is not in order", found
    if not activated(e):
        worse = harm(e, found)
        if worse[0] != "recovered" and worse[0] != "cascaded":
            return (*worse, found)
        before = [f"{r.service} died of {r.cause} before the strike" for r in found]
        return "not_activated", before[0] if before else "the target did not run that far", found
    outcome, why = harm(e, found)
    if outcome == "recovered" and not found:
        return "masked", "nothing died", found
    return outcome, why, found


def record(e, replay, early=False):
    """One line of trials.jsonl. early: of the first of its boot, whose times are not as the others' (summary.timed)."""
    outcome, why, found = judge(e)
    main = found[0] if found else None
    live = e.window is not None and outcome not in ("kernel_panic", "harness_error")
    return {
        "schema_version": 1, "n": e.trial.n, "service": e.trial.service, "fault": e.trial.fault,
        "delay_us": e.trial.delay_us, "instructions": e.trial.instructions, "second": e.trial.second,
        "again": e.trial.again, "trial_seed": e.trial.seed, "aim": e.aim, "outcome": outcome, "why": why,
        "activated": outcome == "kernel_panic" or bool(live and activated(e)),
        "cause": main.cause if main else None,
        "in_flight": in_flight(e, found), "early": early,
        "recovery_us": rounded(main.total_us(e.tsc_hz)) if main else None,
        "phases_us": {k: rounded(v) for k, v in main.phases_us(e.tsc_hz).items()} if main else {},
        "recoveries": [describe(r, e.tsc_hz) for r in found], "seen": sometimes.seen_in(e.window),
        "lost": len(e.lost), "mismatches": e.events.get("mismatch", 0), "duplicates": e.events.get("duplicate", 0),
        "io_errors": e.events.get("io_error", 0), "typing": e.typing, "leaks": e.window.leaks if e.window else 0,
        "findings": [f.text() for f in e.lost], "injector": e.report, "replay": replay,
    }


def in_flight(e, found):
    """Requests issued to the device and not completed when a block driver died: counted by recovery in the
    ledger; where the trial spoiled the ledger, by the injector in the moment before. None: no such death. A user's disk that has been read whole has no requests
    any more: its driver's deaths then say nothing."""
    loaded = [s for s in BLOCK_SERVICES if s == LOADED or e.disk_in_use]
    if e.trial.fault == "garbage":
        if e.trial.service not in loaded:
            return None
        return e.report["in_flight"] if e.report and e.report["poked"] else None
    return max((r.in_flight for r in found if r.service in loaded and r.in_flight is not None), default=None)


def describe(r, tsc_hz):
    return {"service": r.service, "generation": r.generation, "generation_after": r.generation_after,
            "cause": r.cause, "deaths": r.deaths, "in_flight": r.in_flight, "replayed": r.replayed,
            "checkpoint": r.checkpoint,
            "recovery_us": rounded(r.total_us(tsc_hz)),
            "phases_us": {k: rounded(v) for k, v in r.phases_us(tsc_hz).items()}}


def rounded(x):
    return None if x is None else round(x, 1)
