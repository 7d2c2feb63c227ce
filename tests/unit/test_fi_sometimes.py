# SPDX-License-Identifier: BSD-2-Clause
"""What no trial reached is listed, and what one reached is not."""
import pytest

from faultinject import aims, judge, plan, report, sometimes, summary
from tests.unit.test_fi_summary import evidence
from tests.unit.test_fi_trace import recovery_entries

NAMES = [name for name, _, _ in sometimes.SOMETIMES]


def record(entries=None, **changes):
    return judge.record(evidence(recovery_entries() if entries is None else entries, **changes), "")


def test_names_are_used_once():
    assert len(NAMES) == len(set(NAMES))


def test_a_recovery_shows_what_it_was():
    counts = sometimes.count([record()])
    assert {name for name in NAMES if counts[name]} == {"in_flight_at_death", "many_in_flight", "replayed", "checkpoint_latest"}


def test_nothing_shows_nothing():
    assert sometimes.never(sometimes.count([])) == NAMES


@pytest.mark.parametrize("event,name", [("DMA_FAULT", "dma_fault"), ("CALL_REPLAYED", "call_replayed"), ("OVERRUN", "overrun")])
def test_what_is_seen_in_the_trace_counts(event, name):
    import dataclasses
    entries = recovery_entries()
    entries.append(dataclasses.replace(entries[1], event=event, tsc=entries[-1].tsc + 1))
    assert sometimes.count([record(entries)])[name] == 1 and sometimes.count([record()])[name] == 0


def test_every_name_of_the_trace_exists():
    from faultinject.trace import EVENTS, MARKS
    assert set(sometimes.SEEN) <= set(EVENTS.values()) | set(MARKS.values())


def test_every_cause_exists():
    from faultinject.trace import CAUSES
    assert {"EXIT", "STALLED", "PROTOCOL", "DEPENDENCY", "INVALID_OPCODE", "DIVIDE", "PAGE_FAULT", "PROTECTION", "BREAKPOINT", "STACK",
            "DEBUG"} <= set(CAUSES.values())


def test_faults_that_no_trial_activated_are_listed():
    run = {"driver": "virtio_blk", "fault": "exception"}
    s = summary.summarise(run, [record()])
    assert ["virtio_blk", "ud2"] in s["never_activated"] and len(s["never_activated"]) == len(plan.GROUPS["exception"])
    assert any("never activated: " in line and "ud2 on virtio_blk" in line for line in report.facts(s))
    assert any("never seen: " in line and "poisoned" in line for line in report.facts(s))


def test_points_are_one_after_the_other():
    trials = plan.make_points(1, 5, 10, "echo", "kill")
    assert [t.instructions for t in trials] == [10, 20, 30, 40, 50] and all(t.delay_us == 0 for t in trials)
    assert [t.instructions for t in plan.make_points(4, 3, 10, "echo", "kill")] == [7, 17, 27], "seeds 1 to 10 strike everywhere"


def test_points_within_a_recovery():
    trials = plan.make_points(1, 3, 10, "supervisor", "recovering")
    assert [(t.instructions, t.second) for t in trials] == [(10, 0), (20, 0), (30, 0)]
    for fault in ("recovering_twice", "recovering_thrice"):
        trials = plan.make_points(1, 3, 10, "recovery", fault)
        assert [t.second for t in trials] == [10, 20, 30] and all(t.instructions <= plan.RECOVERING_MIN["recovery"] for t in trials)
        assert all(t.delay_us > 0 for t in trials), "its policy has a limit"
    assert aims.order(trials[0], None)[0]["again"] == 1


@pytest.mark.parametrize("driver,fault", [("serial", "kill"), ("echo", "mix"), ("echo", "flip_register"), ("mix", "kill")])
def test_points_need_one_driver_and_one_end(driver, fault):
    with pytest.raises(plan.UsageProblem, match="--enumerate needs"):
        plan.make_points(1, 5, 1, driver, fault)


@pytest.mark.parametrize("untouched,met", [(2, True), (None, False)])
def test_an_enumeration_is_met_when_a_request_passed(untouched, met):
    run = {"driver": "echo", "fault": "kill", "enumerate": {"stride": 1, "untouched_at": untouched}}
    assert summary.summarise(run, [record()])["targets"]["enumerated"] == met


@pytest.mark.parametrize("fault,met", [("mutate_delete", True), ("flip_data", False)])
def test_changes_that_are_not_come_to_miss_no_target(fault, met):
    import dataclasses
    from tests.unit.test_fi_summary import TRIAL
    asleep = record(recovery_entries()[:1], trial=dataclasses.replace(TRIAL, fault=fault))
    assert summary.summarise({}, [record(), asleep])["targets"]["activated"] == met
