# SPDX-License-Identifier: BSD-2-Clause
"""One trial again: the same image, machine, seed and schedule, k times, each from the same saved boot; and the
same with the machine standing still before the strike, for gdb.

A trial is named DIR:N, trial N of the run folder DIR, or N, of build/chaos/latest. Guest time is not host time, so
that a replay is the same experiment and not the same execution: hence k, and how many of k agreed."""
import contextlib
import dataclasses
import json
import pathlib
import re
import tempfile

from faultinject import boots, campaign, judge, plan as plans, summary
from faultinject.fleet import Silent
from faultinject.reports import run as runs

PATIENCE = 0.1  # a workload that hangs is what many failing trials leave; nothing more is learned from it


@dataclasses.dataclass
class Source:
    """A trial of a run folder, and what is known of it."""
    folder: pathlib.Path
    n: int
    facts: dict
    schedule: list       # plan.Trial; the last is the trial itself, before it those of the same boot
    record: dict | None  # its line in trials.jsonl

    @property
    def outcome(self):
        return self.record["outcome"] if self.record else None

    def ending(self, before=0):
        """The schedule of the trial and at most `before` trials ahead of it (None: all of its boot)."""
        return self.schedule if before is None else self.schedule[-1 - before:]


def find(text, latest):
    """(run folder, trial number) of DIR:N or N."""
    found = re.fullmatch(r"(?:(.+):)?(\d+)", text)
    if not found:
        raise plans.UsageProblem(f"'{text}' names no trial: write DIR:N, such as build/chaos/latest:17, or N")
    return pathlib.Path(found[1] or latest), int(found[2])


def load(text, latest):
    folder, n = find(text, latest)
    run = runs.load(folder)
    path = folder / "plan.jsonl"
    if not path.is_file():
        raise plans.UsageProblem(f"{path}: not there; a replay takes its schedule from it")
    schedule = [t for t in plans.read(path) if first_of_boot(folder, n) <= t.n <= n]
    if not schedule or schedule[-1].n != n:
        raise plans.UsageProblem(f"trial {n} is not in {path}")
    return Source(folder, n, run.facts, schedule, next((t for t in run.trials if t["n"] == n), None))


def first_of_boot(folder, n):
    """Number of the first trial of the boot that trial n belonged to."""
    for path in folder.glob("parts/*/trials.jsonl"):
        numbers = [json.loads(line)["n"] for line in path.read_text().splitlines()]
        if n in numbers:
            return min(numbers)
    return 0


def options(source, image=None, out=None):
    """What the campaign ran with. Another image only if asked for: a replay of another system is another experiment."""
    facts, disk = source.facts, source.facts.get("disk")
    o = campaign.Options(
        seed=facts["seed"], plan=[], driver=facts["driver"], fault=facts["fault"], smp=facts["smp"], mem=facts["mem"],
        accel=facts["accel"], iommu=facts["iommu"], qemu_extra=facts.get("qemu_extra") or "",
        image=image or pathlib.Path(facts["image"]), out=out or source.folder.resolve().parent / "replays",
        disk=pathlib.Path(disk["path"]) if disk else None, patience=PATIENCE,
        enumerate=(facts.get("enumerate") or {}).get("stride", 0))
    if not (o.image / "system.img").is_file():
        raise plans.UsageProblem(f"{o.image}: the image of this run is not there any more; --image names another")
    if not image and o.image_sha256() != facts["image_sha256"]:
        raise plans.UsageProblem(f"{o.image}: built anew since this run; --image {o.image} replays with what is there now")
    return o


@contextlib.contextmanager
def saved(o, fresh=False):
    """The options with a boot to start from, saved for as long as this lasts."""
    with tempfile.TemporaryDirectory(prefix="coppice-boot-") as folder:
        if not fresh and not o.disk:
            folder = pathlib.Path(folder)
            boot = boots.make(folder, o.machine(folder / "machine", o.data_disk(folder / "machine")))
            o = dataclasses.replace(o, boot=boot)
        yield o


def play(o, schedule):
    """(record of the schedule's last trial, run folder)"""
    c = campaign.Campaign(dataclasses.replace(o, plan=list(schedule)), Silent())
    c.run()
    lines = summary.load(c.folder)[1]
    last = next((line for line in lines if line["n"] == schedule[-1].n), None)
    if last is None:  # the guest ended in an earlier trial
        last = lines[-1] if lines else {"outcome": "harness_error", "why": c.trouble or "nothing ran"}
    return last, c.folder


def failed(outcome):
    return outcome not in judge.GOOD and outcome != "harness_error"


def agrees(outcome, wanted):
    """A failure is reproduced by any failure: which of several harms is seen first depends on the moment."""
    return outcome == wanted or (failed(outcome) and failed(wanted))


def verdict(outcomes, wanted):
    """(line, reproduced at least once)"""
    if wanted is None:
        return f"replays: {', '.join(outcomes)} (the run folder does not say how the trial ended)", True
    hits = sum(agrees(o, wanted) for o in outcomes)
    return f"{hits} of {len(outcomes)} replays reproduced {wanted}: {', '.join(outcomes)}", hits > 0


def times(o, schedule, wanted, k):
    """Plays the schedule k times; True if the outcome was seen again."""
    outcomes = []
    for i in range(k):
        line, folder = play(o, schedule)
        outcomes.append(line["outcome"])
        print(f"replay {i + 1} of {k}: {line['outcome']}{': ' + line['why'] if line['why'] else ''} ({folder})", flush=True)
    text, reproduced = verdict(outcomes, wanted)
    print(text)
    return reproduced


def debugger(port):
    """For Options.before_last: the machine stands still until gdb is there and lets it go on."""
    def wait(guest):
        guest.qmp("stop")
        guest.hmp(f"gdbserver tcp:127.0.0.1:{port}")
        print(f"the machine stands still before the trial. In another terminal:\n"
              f"    gdb -ex 'set $port = {port}' -x tools/coppice.gdb -ex 'target remote 127.0.0.1:{port}'\n"
              f"then set breakpoints and `continue`; `detach` lets it run to its end", flush=True)
    return wait
