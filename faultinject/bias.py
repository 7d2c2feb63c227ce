# SPDX-License-Identifier: BSD-2-Clause
"""Does a saved boot bias what is measured? Two samples, boots from the firmware and boots from a saved state, of the same
trials, are compared: outcomes, total recovery time and every phase.

Trials of one boot are not independent, and the host is busier at one time than at another. So boots come in pairs, one
of each kind right after the other in an order drawn from the seed, and the test exchanges the kinds within pairs: under
the hypothesis that the kind does not matter, every exchange was as likely as what was seen. The statistic is the
largest Kolmogorov-Smirnov distance over all figures, scaled by their sample sizes; taking the largest is the
correction for looking at many."""
import dataclasses
import itertools
import random
import shutil

import numpy

from faultinject import campaign, fleet, replay, summary
from faultinject.phases import PHASES

ALPHA = 0.01
PERMUTATIONS = 20000  # of pairs, when there are more than all of them


@dataclasses.dataclass(frozen=True)
class Verdict:
    p: float
    statistic: float
    figures: dict        # name -> (scaled distance, trials of the one kind, of the other)
    pairs: int

    @property
    def alike(self):
        return self.p >= ALPHA

    @property
    def worst(self):
        return max(self.figures, key=lambda name: self.figures[name][0])


def figures_of(trial):
    """Name -> number, of one line of trials.jsonl. No times of the first of a boot: nobody's figures have them (summary.timed)."""
    if trial.get("early"):
        return {} if trial["in_flight"] is None else {"in flight": trial["in_flight"]}
    out = {f"phase {name}": trial["phases_us"][name] for name in PHASES if name in trial["phases_us"]}
    if trial["outcome"] == "recovered" and trial["recovery_us"] is not None:
        out["recovery"] = trial["recovery_us"]
    if trial["in_flight"] is not None:
        out["in flight"] = trial["in_flight"]
    return out


class Ranks:
    """One figure of all boots: for each boot, how many of its values lie at or below each value that occurs anywhere."""

    def __init__(self, boots):
        grid = numpy.unique(numpy.concatenate([numpy.asarray(b, float) for b in boots]))
        self.below = numpy.array([numpy.searchsorted(numpy.sort(numpy.asarray(b, float)), grid, "right") for b in boots], float)
        self.sizes = numpy.array([len(b) for b in boots], float)

    def distance(self, kinds):
        """Of the boots of kind +1 and of kind -1: Kolmogorov-Smirnov, times sqrt(nm / (n + m))."""
        one, other = self.sizes[kinds > 0].sum(), self.sizes[kinds < 0].sum()
        if not one or not other:
            return 0.0
        gap = self.below[kinds > 0].sum(0) / one - self.below[kinds < 0].sum(0) / other
        return float(numpy.abs(gap).max() * (one * other / (one + other)) ** 0.5)


def names_of(boots):
    """All figures that occur; each outcome is one, of values 0 and 1."""
    names = {name for boot in boots for t in boot for name in figures_of(t)}
    return sorted(names), sorted({t["outcome"] for boot in boots for t in boot})


def test(pairs, seed=0):
    """pairs: [(trials of a fresh boot, trials of a saved one)]. Returns a Verdict."""
    boots = [boot for pair in pairs for boot in pair]
    numbers, outcomes = names_of(boots)
    ranks = {name: Ranks([[figures_of(t)[name] for t in boot if name in figures_of(t)] for boot in boots]) for name in numbers}
    ranks |= {f"outcome {o}": Ranks([[float(t["outcome"] == o) for t in boot] for boot in boots]) for o in outcomes}

    def largest(kinds):
        return max(r.distance(kinds) for r in ranks.values())

    seen = numpy.tile([1, -1], len(pairs))
    statistic = largest(seen)
    exchanges = every(len(pairs)) if 2 ** len(pairs) <= PERMUTATIONS else drawn(len(pairs), seed)
    statistics = [largest(seen * numpy.repeat(signs, 2)) for signs in exchanges]
    p = (1 + sum(s >= statistic - 1e-12 for s in statistics)) / (1 + len(statistics))
    figures = {name: (round(r.distance(seen), 3), int(r.sizes[seen > 0].sum()), int(r.sizes[seen < 0].sum()))
               for name, r in ranks.items()}
    return Verdict(p, round(statistic, 3), figures, len(pairs))


def every(pairs):
    """All exchanges but the one that was made."""
    return [numpy.array(signs) for signs in itertools.product((1, -1), repeat=pairs) if -1 in signs]


def drawn(pairs, seed):
    source = numpy.random.default_rng(seed)
    return [source.choice((1, -1), pairs) for _ in range(PERMUTATIONS // 10)]


def pairs_needed():
    """With fewer, no difference however large could be found: the exchange of all is as far off as what was seen."""
    return next(n for n in itertools.count(1) if 2 / 2 ** n < ALPHA)


def orders(pairs, seed):
    """For each pair, whether the fresh boot comes first."""
    source = random.Random(f"bias {seed}")
    return [source.random() < 0.5 for _ in range(pairs)]


def text(v):
    yield f"{'figure':<28}{'fresh':>8}{'saved':>8}{'distance':>10}"
    for name, (distance, one, other) in sorted(v.figures.items(), key=lambda item: -item[1][0]):
        yield f"{name:<28}{one:>8}{other:>8}{distance:>10.3f}"
    yield (f"{v.pairs} pairs of boots, largest scaled Kolmogorov-Smirnov distance {v.statistic} ({v.worst}): p = {v.p:.4f}; "
           + ("no difference found" if v.alike else f"DIFFERENT (p < {ALPHA})"))


def sample(options, plans, seed, show):
    """Runs the pairs: plans[i] on a fresh and on a saved boot. Returns what test() takes."""
    pairs = []
    with replay.saved(options) as saved:
        for i, (plan, fresh_first) in enumerate(zip(plans, orders(len(plans), seed))):
            both = {}
            for fresh in (fresh_first, not fresh_first):
                c = campaign.Campaign(dataclasses.replace(options if fresh else saved, plan=list(plan)), fleet.Silent())
                c.run()
                both[fresh] = summary.load(c.folder)[1]
                shutil.rmtree(c.folder)
            pairs.append((both[True], both[False]))
            show(i + 1)
    return pairs
