# SPDX-License-Identifier: BSD-2-Clause
"""Shrinking a schedule: the oracle is planted, so what must be left is known."""
import dataclasses
import pathlib

import pytest

from faultinject import minimise, plan, replay

SCHEDULE = [dataclasses.replace(t, delay_us=9000 + t.n, instructions=500) for t in plan.make_plan(3, 24, "virtio_blk", "kill")]
PLAYS = 10000


def shrink(fails, runs=PLAYS):
    return minimise.Shrinker(fails, SCHEDULE, runs).run()


def test_a_trial_that_fails_alone_is_all_that_is_left():
    found = shrink(lambda s: True)
    assert [(t.n, t.delay_us, t.instructions) for t in found] == [(24, 0, 0)]
    assert found[0].seed == SCHEDULE[-1].seed and found[0].fault == SCHEDULE[-1].fault


def test_the_trials_that_it_needs_stay():
    found = shrink(lambda s: {5, 17, 24} <= {t.n for t in s})
    assert [t.n for t in found] == [5, 17, 24]


def test_numbers_shrink_to_the_edge():
    found = shrink(lambda s: s[-1].instructions >= 130 and s[-1].delay_us > 2000)
    assert 130 <= found[-1].instructions < 160 and 2000 < found[-1].delay_us < 2300


def test_what_fails_one_time_in_three_is_still_found():
    plays = iter(range(PLAYS))
    found = shrink(lambda s: next(plays) % 3 == 2 and {9, 24} <= {t.n for t in s})
    assert [t.n for t in found] == [9, 24]


def test_what_fails_reliably_is_not_traded_for_what_fails_rarely():
    """With small numbers it fails one time in four: they are not taken."""
    plays = iter(range(PLAYS))
    found = shrink(lambda s: s[-1].delay_us >= 5000 or next(plays) % 4 == 3)
    assert found[-1].delay_us >= 5000


def test_what_never_fails_is_said():
    assert shrink(lambda s: False) is None


def test_the_budget_holds_and_keeps_what_was_found():
    played = []

    def fails(schedule):
        played.append(schedule)
        return {5, 24} <= {t.n for t in schedule}
    found = shrink(fails, runs=14)
    assert len(played) == 14 and fails(found) and len(found) < len(SCHEDULE)
    assert minimise.Shrinker(lambda s: False, SCHEDULE, 2).run() is None


def test_a_second_strike_stays_one():
    schedule = [dataclasses.replace(SCHEDULE[0], fault="double", second=77)]
    assert minimise.Shrinker(lambda s: True, schedule, PLAYS).run()[0].second == 1


@pytest.mark.parametrize("text,wanted", [("17", ("latest", 17)), ("a/b:3", ("a/b", 3)), ("a:b:3", ("a:b", 3))])
def test_names_of_trials(text, wanted):
    assert replay.find(text, "latest") == (pathlib.Path(wanted[0]), wanted[1])


@pytest.mark.parametrize("outcome,wanted,same", [
    ("recovered", "recovered", True), ("cascaded", "degraded", True), ("masked", "recovered", False),
    ("recovered", "degraded", False), ("harness_error", "degraded", False), ("harness_error", "harness_error", True)])
def test_which_outcomes_agree(outcome, wanted, same):
    assert replay.agrees(outcome, wanted) == same


def test_the_schedule_before_a_trial_is_that_of_its_boot(tmp_path):
    for name, numbers in (("0000001", "1 2 3"), ("0000004", "4 5 6")):
        part = tmp_path / "parts" / name
        part.mkdir(parents=True)
        (part / "trials.jsonl").write_text("".join(f'{{"n": {n}}}\n' for n in numbers.split()))
    assert replay.first_of_boot(tmp_path, 5) == 4 and replay.first_of_boot(tmp_path, 3) == 1
