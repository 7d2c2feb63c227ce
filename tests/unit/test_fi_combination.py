# SPDX-License-Identifier: BSD-2-Clause
"""Strikes during a live update: what follows from a seed, and how such a trial is judged."""
import dataclasses

import pytest

from faultinject import aims, combination, judge, phases, plan
from faultinject.trace import CAUSES
from tests.unit.test_fi_summary import REPORT, SERVICES
from tests.unit.test_fi_trace import BLK, CLIENT, HZ, RECOVERY, SUPERVISOR, e

CAUSE = {name: number for number, name in CAUSES.items()}
TRIALS = [plan.make_trial(1, n, "mix", "combination") for n in range(1, 400)]


def trial(to_bad=False, other="virtio_blk"):
    for t in TRIALS:
        fields = combination.chosen(t)
        if t.service == "supervisor" and fields["other"] == other and bool(fields.get("bad")) == to_bad:
            return dataclasses.replace(t, n=17)


def mark(tsc, name):
    return dataclasses.replace(e(tsc, "DECIDED", SUPERVISOR, 2, BLK), mark=name)


def entries(*more, ready=300):
    """An update from 100 to `ready`, in which the supervisor and the driver are struck."""
    plain = [e(100, "TRIAL", 8, 1, 17), e(120, "STRIKE", SUPERVISOR, 1, 0), e(121, "DEATH", SUPERVISOR, 1, CAUSE["INJECTED"]),
             e(200, "STRIKE", BLK, 4, 0), e(201, "DEATH", BLK, 4, CAUSE["INJECTED"]),
             mark(250, "UPDATED"), mark(ready, "READY"),
             e(400, "SIGNAL", BLK, 5, CLIENT)]
    return sorted(plain + list(more), key=lambda x: x.tsc)


def outcome(trace, t=None, **changes):
    report = REPORT | {"answered": 1} | changes
    window = phases.windows(trace)[17]
    return judge.judge(judge.Evidence(trial=t or trial(), window=window, report=report, services=SERVICES, tsc_hz=HZ))[0]


def test_the_order_follows_from_the_seed():
    order, text = aims.order(TRIALS[0], None)
    assert order == aims.order(TRIALS[0], None)[0] and order["how"] == "update" and order["to"] != order["back"]
    assert order["to"] in text and order["other"] in text


def test_everybody_has_a_turn():
    assert {t.service for t in TRIALS} == {"supervisor", "recovery", "pci"}
    chosen = [combination.chosen(t) for t in TRIALS]
    assert {c["other"] for c in chosen} == {"virtio_blk", "recovery", "pci"} and {c["again"] for c in chosen} == {0, 1}
    assert all(c["other"] != t.service for c, t in zip(chosen, TRIALS))
    assert 0 < sum(c["to"] == combination.BAD for c in chosen) < len(chosen) / 3
    assert any(t.delay_us == combination.PROBATION_US for t in TRIALS)


def test_recovered():
    assert outcome(entries()) == "recovered"


@pytest.mark.parametrize("trace,changes", [(entries(ready=150), {}), (entries(), {"answered": 0})])
def test_it_counts_only_if_both_were_struck_during_an_update(trace, changes):
    trace = [x for x in trace if changes or x.mark != "UPDATED"]
    assert outcome(trace, **changes) == "not_activated"


def test_nothing_is_served_in_the_end():
    assert outcome([x for x in entries() if x.event != "SIGNAL"]) == "degraded"


@pytest.mark.parametrize("service,cause,wanted", [(CLIENT, "EXIT", "cascaded"), (BLK, "UPDATED", "recovered"), (BLK, "PAGE_FAULT", "cascaded"),
                                                  (RECOVERY, "INJECTED", "cascaded"), (BLK, "INVALID_OPCODE", "cascaded")])
def test_whose_death_was_meant(service, cause, wanted):
    assert outcome(entries(e(220, "DEATH", service, 4, CAUSE[cause]))) == wanted


def test_a_bad_version_may_die_of_its_fault():
    assert outcome(entries(e(320, "DEATH", BLK, 5, CAUSE["INVALID_OPCODE"])), trial(to_bad=True)) == "recovered"


def test_an_update_without_end():
    assert outcome(entries(), stuck=1) == "degraded"
