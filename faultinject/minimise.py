# SPDX-License-Identifier: BSD-2-Clause
"""Shrinks the schedule of a failing trial: the fewest trials before it, then the smallest numbers (delay,
instructions), as far as it still fails. Shrinker is pure but for `fails`, which plays a schedule.

Nothing fails each time: a schedule is played up to TRIES times. If the first failed most of these, so must all that
take its place, and what is left fails as reliably; if it failed rarely, once is enough."""
import dataclasses
import os
import pathlib
import shutil

from faultinject import campaign, replay

TRIES = 3
FIXED = ("n", "seed")  # a trial's name, and what cannot be smaller


class OutOfRuns(Exception):
    """The budget is used up; what was found until then holds."""


class Shrinker:
    """fails(schedule) -> bool, True if the last trial of the schedule fails. `best` always failed at least once."""

    def __init__(self, fails, schedule, runs, tries=TRIES):
        self.play, self.best, self.left, self.tries = fails, list(schedule), runs, tries
        self.found, self.need = False, 1

    def failures(self, schedule, enough, tries=None):
        """How many of up to `tries` plays failed; no more are made than tell whether `enough` do."""
        count, tries = 0, tries or self.tries
        for played in range(tries):
            if count >= enough or count + tries - played < enough:
                break
            if self.left == 0:
                raise OutOfRuns
            self.left -= 1
            count += bool(self.play(schedule))
        return count

    def fails(self, schedule):
        if self.failures(schedule, self.need) < self.need:
            return False
        self.best, self.found = list(schedule), True
        return True

    def run(self):
        """The smallest failing schedule found; None if it never failed."""
        try:
            whole = self.best
            if not self.begin(whole[-1:]) and len(whole) > 1 and self.begin(whole):
                self.drop()
            if self.found:
                self.numbers()
        except OutOfRuns:
            pass
        return self.best if self.found else None

    def begin(self, schedule):
        count = sum(self.failures(schedule, 1, 1) for _ in range(self.tries))
        if count == 0:
            return False
        self.need = (self.tries + 1) // 2 if 2 * count > self.tries else 1
        self.best, self.found = list(schedule), True
        return True

    def drop(self):
        """Trials before the last: halves, quarters, ... single ones, until none can go."""
        size = max(1, (len(self.best) - 1) // 2)
        while True:
            at, gone = 0, False
            while at < len(self.best) - 1:
                rest = self.best[:at] + self.best[min(at + size, len(self.best) - 1):]
                if self.fails(rest):
                    gone = True
                else:
                    at += size
            if size == 1 and not gone:
                return
            size = max(1, size // 2)

    def numbers(self):
        for at in range(len(self.best)):
            for field in dataclasses.fields(self.best[at]):
                value = getattr(self.best[at], field.name)
                if field.name not in FIXED and isinstance(value, int) and value > 0:
                    self.number(at, field.name, value)

    def number(self, at, name, value):
        """Nothing, or else by halving the gap between what passes and what fails. A second strike of 0 would be none."""
        low = 1 if name == "second" else 0
        if value == low or self.with_number(at, name, low):
            return
        passing, failing = low, value
        while failing - passing > max(1, failing // 8):
            middle = (passing + failing) // 2
            if self.with_number(at, name, middle):
                failing = middle
            else:
                passing = middle

    def with_number(self, at, name, value):
        changed = list(self.best)
        changed[at] = dataclasses.replace(changed[at], **{name: value})
        return self.fails(changed)


def run(options, source, budget):
    """Shrinks, keeps the smallest failing run as a run folder beside the trial's own, prints how to replay it."""
    failing = None

    def fails(schedule):
        nonlocal failing
        line, folder = replay.play(options, schedule)
        seen = replay.failed(line["outcome"])
        print(f"{len(schedule):>4} trials, {numbers_text(schedule[-1]):<40} {line['outcome']}", flush=True)
        if seen:
            failing, folder = folder, failing
        if folder:
            shutil.rmtree(folder)
        return seen

    shrinker = Shrinker(fails, source.schedule, budget)
    found = shrinker.run()
    if found is None:
        print(f"not reproduced in {budget - shrinker.left} replays: nothing to shrink")
        return False
    folder = pathlib.Path(os.path.relpath(source.folder.resolve()))
    kept = folder.with_name(f"{folder.name}-minimal-{source.n}")
    shutil.rmtree(kept, ignore_errors=True)
    failing.rename(kept)
    print(f"smallest failing schedule, after {budget - shrinker.left} replays: {len(found)} of {len(source.schedule)} trials:")
    for trial in found:
        print(f"    {trial.n}: {trial.service} {trial.fault}, {numbers_text(trial)}")
    print(f"replay: {campaign.replay_line(kept, source.n)}{' --before all' if len(found) > 1 else ''} -k 5")
    return True


def numbers_text(trial):
    return ", ".join(f"{f.name} {getattr(trial, f.name)}" for f in dataclasses.fields(trial)
                     if f.name not in FIXED and isinstance(getattr(trial, f.name), int))
