# SPDX-License-Identifier: BSD-2-Clause
"""Death in order: a trace as the kernel writes it passes; every step that is missing, late or early is found."""
import copy

import pytest

from faultinject import death, summary
from faultinject.trace import Entry
from tests.unit.test_fi_summary import truth

BLK, ECHO, BDF = 4, 5, 0x08


def step(tsc, event, service=BLK, generation=1, a=0, b=0):
    return Entry(tsc, event, service, generation, a, b)


def started(tsc, generation):
    return [step(tsc, "RESET_DONE", generation=generation, a=BDF), step(tsc + 1, "REUSABLE", generation=generation, a=BDF, b=4),
            step(tsc + 2, "BUS_MASTER_ON", generation=generation, a=BDF)]


def died(tsc, generation, confirmed, service=BLK, functions=1):
    who = {"service": service, "generation": generation}
    return [step(tsc, "DEATH", a=33, **who), step(tsc + 1, "FENCE_GENERATION", **who), step(tsc + 2, "FENCE_IRQ", a=1, **who),
            step(tsc + 3, "FENCE_BUS_MASTER", a=functions, **who), step(tsc + 4, "FENCE_DOMAIN", a=2, b=4, **who),
            step(tsc + 5, "FENCE_DRAINED", a=functions, b=confirmed, **who), step(tsc + 6, "FENCE_DONE", a=9, b=4, **who)]


def good():
    return (started(10, 1) + died(20, 1, 7) + started(30, 2) + died(40, 1, 0, ECHO, 0) + died(50, 2, 9) + started(60, 3))


def violations(entries, iommu=True, **options):
    return death.check(entries, iommu, **options)["violations"]


def fell(tsc, generation):
    """A kept process: fenced, and it frees nothing."""
    steps = died(tsc, generation, 0, ECHO, 0)
    return steps[:-1] + [step(tsc + 6, "FENCE_DONE", ECHO, generation, a=0)]


def test_a_kept_process_may_fall_and_end_later_but_once():
    end = [x for x in died(60, 1, 0, ECHO, 0) if x.event != "DEATH"]
    assert not violations(fell(40, 1) + end)
    assert violations(fell(40, 1) + end + end), "it is gone by then"
    assert violations(died(40, 1, 0, ECHO, 0) + end), "it was not kept"


def test_a_good_trace_passes():
    result = death.check(good(), True)
    assert result == {"ended": 3, "with_dma": 2, "resets": 3, "lost_entries": 0, "violated": 0, "violations": []}
    assert death.met(result)


def test_other_events_do_not_matter():
    entries = [x for e in good() for x in (e, step(e.tsc, "SIGNAL"), step(e.tsc, "MARK", a=3))]
    assert not violations(entries)


@pytest.mark.parametrize("at", range(3, 9))
def test_two_steps_exchanged_are_found(at):
    entries = good()
    entries[at], entries[at + 1] = entries[at + 1], entries[at]
    assert violations(entries), f"{entries[at + 1].event} came after {entries[at].event}"


@pytest.mark.parametrize("at", range(3, 10))
def test_a_step_left_out_is_found(at):
    entries = good()
    gone = entries.pop(at)
    if gone.event != "DEATH":  # then it is a child that ended with its creator
        assert violations(entries), f"nobody missed {gone.event}"


def test_each_step_of_the_return_is_needed():
    for at in range(10, 12):
        entries = good()
        gone = entries.pop(at)
        assert violations(entries), f"nobody missed {gone.event}"
    entries = good()
    entries[10], entries[11] = entries[11], entries[10]
    assert violations(entries), "reusable before the reset"
    entries = good()
    entries[11], entries[12] = entries[12], entries[11]
    assert violations(entries), "bus-master on before memory was reusable"


def test_a_reset_before_the_fence_is_found():
    entries = good()
    early = entries.pop(10)
    entries.insert(5, early)
    assert any("not drained" in v for v in violations(entries))


def test_the_iommu_must_confirm_each_time():
    entries = started(10, 1) + died(20, 1, 0)
    assert violations(entries) and not violations(entries, iommu=False)
    assert violations(started(10, 1) + died(20, 1, 7) + started(30, 2) + died(40, 2, 7)), "an old number"


def test_every_function_that_it_drove_is_fenced():
    assert violations(started(10, 1) + died(20, 1, 0, functions=0))
    gone = step(15, "DOMAIN_GONE", service=2, a=BDF, b=3)
    assert not violations(started(10, 1) + [gone] + died(20, 1, 0, functions=0)), "pci took it away before"


def test_bus_mastering_by_the_dead_is_found():
    assert violations(good() + [step(70, "BUS_MASTER_ON", generation=2, a=BDF)])


def test_a_child_ends_with_its_creator_without_death():
    assert not violations(died(20, 1, 0, ECHO, 0)[1:])
    assert violations(died(20, 1, 0, ECHO, 0)[1:] + [step(30, "DEATH", service=ECHO)]), "its death after its fence"


def test_a_fence_that_never_ends_is_found():
    entries = good() + died(70, 3, 11)[:-1]
    assert violations(entries)
    assert not violations(entries, whole=False), "after a panic there is more to say"


def test_lost_entries_are_no_success():
    assert not death.met(death.check(good(), True, lost=1))
    assert not death.met(death.check([], True))


def test_a_campaign_with_a_violation_misses_its_targets():
    run, lines = truth()
    run["death_order"] = death.check(good(), True)
    assert summary.summarise(run, lines)["met"]
    bad = copy.deepcopy(run)
    bad["death_order"] = death.check(good()[:-1] + [step(70, "REUSABLE", generation=3, a=BDF)], True)
    assert summary.exit_code(summary.summarise(bad, lines)) == 1


def test_boots_add_up():
    part = death.check(good(), True)
    assert death.merged([part, part])["ended"] == 6
    assert death.merged([part, None]) is None
