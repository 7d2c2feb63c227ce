# SPDX-License-Identifier: BSD-2-Clause
"""The test for bias finds a planted one, and finds none where boots differ as boots do. Boots are made up: each has a
pace of its own, each pair a load of the host; recovery times are spread as real ones are."""
import numpy
import pytest

from faultinject import bias
from faultinject.phases import PHASES

PAIRS, TRIALS = 9, 40


def boot(source, load, slower=1.0, masked=0.02):
    pace = load * source.lognormal(0, 0.08)
    out = []
    for _ in range(TRIALS):
        us = {phase: pace * source.lognormal(5, 0.4) for phase in PHASES}
        us["restore"] *= slower
        lost = source.random() < masked
        out.append({"outcome": "masked" if lost else "recovered", "phases_us": {} if lost else us, "in_flight": int(source.integers(0, 33)),
                    "recovery_us": None if lost else sum(us.values())})
    return out


def pairs(seed, **saved):
    source = numpy.random.default_rng(seed)
    loads = source.lognormal(0, 0.5, PAIRS)  # the host's: it is the same for both of a pair
    return [(boot(source, load), boot(source, load, **saved)) for load in loads]


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_bias_of_one_phase_is_found(seed):
    v = bias.test(pairs(seed, slower=2.0))
    assert not v.alike and v.worst == "phase restore", list(bias.text(v))


def test_a_planted_bias_of_outcomes_is_found():
    v = bias.test(pairs(5, masked=0.35))
    assert not v.alike, list(bias.text(v))


def test_without_bias_it_is_wrong_as_rarely_as_it_says():
    wrong = sum(not bias.test(pairs(100 + seed)).alike for seed in range(16))
    assert wrong <= 2  # expected 0.2; more than 2 has a chance of one in a thousand


def test_too_few_pairs_can_find_nothing():
    assert 2 / 2 ** bias.pairs_needed() < bias.ALPHA <= 2 / 2 ** (bias.pairs_needed() - 1)
