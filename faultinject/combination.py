# SPDX-License-Identifier: BSD-2-Clause
"""The unplanned combination: while the block driver is updated under load, somebody is ended whom that needs, the supervisor
(recovery, pci) is ended as well, and one of them again while it starts. Who, when, and to which version follows from the
trial's seed; here is how, and how such a trial is judged. Pure."""
import random

from faultinject import phases

UPDATED = "virtio_blk"
VERSIONS = (UPDATED, "virtio_blk_v2")  # take turns
BAD = "virtio_blk_v3"  # dies of its 300th completion, and must be rolled back
BAD_ONE_IN, PROVEN_ONE_IN = 5, 12
PROBATION_US = 1_050_000
DELAY_US = (0, 20_000)
LATE_US = 3000  # after the order to update, at most, the second strike begins to count
OTHERS = {UPDATED: 3, "pci": 1, "recovery": 1}
STEPS = {UPDATED: 2000, "supervisor": 14_000, "recovery": 4000, "pci": 300}  # until the strike, at most
STARTS = {UPDATED: 2500, "supervisor": 20_000, "recovery": 20_000, "pci": 4000}  # of one that starts
MEANT = ("INJECTED", "UPDATED", "DEPENDENCY", "NOT_NEEDED")


def delay_us(rng):
    """Mostly the version before has not proven itself yet when the next update comes."""
    return PROBATION_US if rng.randrange(PROVEN_ONE_IN) == 0 else rng.randint(*DELAY_US)


def chosen(trial):
    """Of the order, all that the trial does not say itself."""
    rng = random.Random(f"coppice combination {trial.seed}")
    versions = rng.sample(VERSIONS, 2)
    if rng.randrange(BAD_ONE_IN) == 0:
        versions[0] = BAD
    others = {name: weight for name, weight in OTHERS.items() if name != trial.service}
    other = rng.choices(sorted(others), [others[name] for name in sorted(others)])[0]
    starting = rng.choice((trial.service, trial.service, other))
    return {"to": versions[0], "back": versions[1], "other": other, "b": rng.randint(1, STEPS[other]), "a": rng.randint(0, LATE_US),
            "bad": versions[0] if versions[0] == BAD else "", "starting": starting, "second": rng.randint(1, STARTS[starting]), "again": rng.choice((0, 0, 1))}


def text(fields):
    return (f"to {fields['to']}; {fields['other']}@{fields['b']} after {fields['a']} us; {fields['starting']} again @{fields['second']}"
            + (" twice" if fields["again"] else ""))


def index_of(services, name):
    return next(i for i, s in services.items() if s["name"] == name)


def end_of_update(window, index):
    """TSC of its service's readiness after the program changed or was changed back; marks of a step that the supervisor fell
    in are lost, then of its last. None: it never was ready."""
    changed = [e.tsc for e in window.entries if e.mark in ("UPDATED", "ROLLED_BACK") and e.b == index]
    ready = [e.tsc for e in window.entries if e.mark == "READY" and e.b == index]
    after = [tsc for tsc in ready if changed and tsc >= changed[0]]
    return after[0] if after else ready[-1] if ready else None


def during(e):
    """{service: strikes while the update was under way}"""
    end = end_of_update(e.window, index_of(e.services, UPDATED))
    found = {}
    for m in e.window.strikes:
        if end is not None and m.tsc <= end:
            name = e.services[m.service]["name"]
            found[name] = found.get(name, 0) + 1
    return found


def activated(e):
    """An update was accepted, and both were struck before it had ended."""
    found = during(e)
    return bool(e.report and e.report.get("answered")) and bool(found.get(e.trial.service) and found.get(chosen(e.trial)["other"]))


def strangers(e, excused):
    """Deaths that nobody meant. excused(death): it was not the driver's fault."""
    bad = chosen(e.trial)["to"] == BAD
    out = []
    for d in e.window.deaths:
        name, cause = e.services[d.service]["name"], phases.cause_name(d.a)
        meant = cause in MEANT or (bad and name == UPDATED and cause == "INVALID_OPCODE")
        struck = cause != "INJECTED" or any(m.service == d.service and m.tsc <= d.tsc for m in e.window.strikes)
        if not (meant and struck) and not excused(d):
            out.append(f"{name} died: {cause}")
    return out


def serves(e):
    """A client was told of a completion after the last death of the updated service, in this trial or later."""
    index = index_of(e.services, UPDATED)
    last = max((d.tsc for d in e.window.deaths if d.service == index), default=0)
    nobody = {i for i, s in e.services.items() if s["name"] in ("supervisor", "recovery", "pci", "injector")} | {index}
    entries, _ = e.window.later
    return any(x.event == "SIGNAL" and x.service == index and x.tsc > last and x.a & 0xFFF not in nobody
               for x in (*e.window.entries, *entries[e.window.later[1]:]))
