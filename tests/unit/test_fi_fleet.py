# SPDX-License-Identifier: BSD-2-Clause
"""Campaigns of many boots: every trial of the plan is in the result once, whatever happens to a batch."""
import json

import pytest

from faultinject import campaign, fi, fleet, plan
from tests.unit.test_fi_reports import FACTS, line
from tools import qemu

PLAN = plan.make_plan(5, 12)


def numbers(batches):
    return [[t.n for t in b.trials] for b in batches]


def test_batches_and_shards_cover_the_plan_once():
    assert numbers(fleet.split(PLAN, 5)) == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12]]
    shards = [fleet.shard(PLAN, i, 5) for i in range(1, 6)]
    assert sorted(t.n for s in shards for t in s) == [t.n for t in PLAN]


def test_what_is_left_of_a_batch():
    batch = fleet.split(PLAN, 4)[0]
    assert batch.rest({1, 2, 3, 4}) is None
    rest = batch.rest({1, 2})
    assert [t.n for t in rest.trials] == [3, 4] and rest.name != batch.name and rest.tries == 0
    assert batch.rest(set()).tries == 1


def asked(**changes):
    return {"seed": 5, "kills": 12, "driver": "mix", "fault": "mix", "image_sha256": "00", "started": "now", "batch": 4,
            "fresh_boot": False, "shard": None} | changes


def files(trials, **facts):
    lines = "".join(json.dumps(line(n)) + "\n" for n in trials)
    return {"run.json": json.dumps(FACTS | facts).encode(), "trials.jsonl": lines.encode()}


class Quiet(fleet.Silent):
    skip = batch = fleet.Silent.stage


class Future:
    keys = iter(range(1000))

    def __init__(self, made):
        self.made, self.key = made, next(self.keys)

    def exception(self):
        return self.made if isinstance(self.made, Exception) else None

    def result(self):
        return self.made


@pytest.fixture
def made(tmp_path):
    """made(work) runs a fleet in which work(batch, asked) stands for a boot."""
    (tmp_path / "system.img").touch()

    def run(work, **changes):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        facts = asked(**changes)
        fleet.write(folder / fleet.FLEET, json.dumps(facts))
        options = campaign.Options(5, list(PLAN), image=tmp_path)
        f = fleet.Fleet(folder, options, facts, Quiet())

        def hand_out(_, waiting):
            while waiting:
                batch = waiting.pop(0)
                waiting += [rest for rest in [f.take(batch, Future(work(batch)))] if rest]
        f.hand_out = hand_out
        return folder, f.run
    return run


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    monkeypatch.setattr(fleet, "cluster", lambda *_: __import__("contextlib").nullcontext())


def numbers_in(folder):
    return [json.loads(text)["n"] for text in (folder / "trials.jsonl").read_text().splitlines()]


def test_a_whole_campaign(made):
    folder, run = made(lambda batch: files([t.n for t in batch.trials]))
    s = run()
    assert numbers_in(folder) == list(range(1, 13)) and s["injected"] == 12
    facts = json.loads((folder / "run.json").read_text())
    assert facts["complete"] and facts["boots"] == 3 and facts["acknowledged"] == 3 * FACTS["acknowledged"]


def test_a_batch_cut_short_is_finished_by_another(made):
    """Trial 6 ends its boot: it is counted, and 7 and 8 run in a new one."""
    folder, run = made(lambda batch: files([n for n in (t.n for t in batch.trials) if batch.trials[0].n != 5 or n <= 6]))
    run()
    assert numbers_in(folder) == list(range(1, 13))


def test_a_worker_that_dies_costs_nothing(made):
    dead = []

    def work(batch):
        if batch.name not in dead:
            dead.append(batch.name)
            return RuntimeError("the worker is gone")
        return files([t.n for t in batch.trials])
    folder, run = made(work)
    run()
    assert numbers_in(folder) == list(range(1, 13)) and len(dead) == 3


def test_a_batch_that_never_brings_anything_ends_the_campaign(made):
    folder, run = made(lambda batch: files([]) if batch.trials[0].n == 5 else files([t.n for t in batch.trials]))
    with pytest.raises(RuntimeError, match="brought nothing 3 times"):
        run()
    assert not json.loads((folder / "run.json").read_text())["complete"]
    assert not (folder / "parts/0000005").exists()


def test_an_environment_problem_is_not_tried_again(made):
    _, run = made(lambda batch: qemu.EnvironmentProblem("no QEMU"))
    with pytest.raises(qemu.EnvironmentProblem):
        run()


def test_an_interrupted_campaign_goes_on_where_it_was(made):
    def work(batch):
        if batch.trials[0].n > 4:
            raise KeyboardInterrupt
        return files([t.n for t in batch.trials])
    folder, run = made(work)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert numbers_in(folder) == [1, 2, 3, 4]
    seen = []
    _, again = made(lambda batch: (seen.extend(t.n for t in batch.trials), files([t.n for t in batch.trials]))[1])
    assert again()["injected"] == 12 and seen == list(range(5, 13))


def shard_folder(tmp_path, name, trials, **changes):
    part = tmp_path / name / "parts" / f"{trials[0]:07}"
    part.mkdir(parents=True)
    for file, data in files(trials).items():
        (part / file).write_bytes(data)
    (tmp_path / name / fleet.FLEET).write_text(json.dumps(asked(**changes)))
    return tmp_path / name


def test_shards_are_merged(tmp_path):
    folders = [shard_folder(tmp_path, f"s{i}", list(range(i, 13, 3))) for i in (1, 2, 3)]
    fleet.merge(folders, tmp_path / "all")
    assert numbers_in(tmp_path / "all") == list(range(1, 13))
    assert json.loads((tmp_path / "all/run.json").read_text())["complete"]
    fleet.merge(folders[:2], tmp_path / "two")
    assert not json.loads((tmp_path / "two/run.json").read_text())["complete"]


@pytest.mark.parametrize("second,words", [(dict(trials=[3, 4]), "trial 3 is in"), (dict(trials=[9], seed=6), "another seed")])
def test_what_cannot_be_merged(tmp_path, capsys, second, words):
    a, b = shard_folder(tmp_path, "a", [1, 2, 3]), shard_folder(tmp_path, "b", **second)
    assert fi.main(["merge", str(a), str(b), "-o", str(tmp_path / "all")]) == fi.USAGE
    assert words in capsys.readouterr().err


def test_merge_names_what_is_no_fleet(tmp_path, capsys):
    assert fi.main(["merge", str(tmp_path), "-o", str(tmp_path / "all")]) == fi.USAGE
    assert "fleet.json: not there" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/"])
def test_a_shard_that_is_none(text, capsys):
    with pytest.raises(SystemExit) as end:
        fi.parse(["run", "--shard", text])
    assert end.value.code == fi.USAGE and "is not I/N" in capsys.readouterr().err


def test_leaks_of_every_boot_count():
    from faultinject import summary
    assert summary.leaks_of({"leaks_by_boot": [0, 2, 1]}, [{"leaks": 1}]) == 4


def test_evidence_is_kept_of_a_bad_batch_only(tmp_path):
    for name in fleet.KEPT:
        (tmp_path / name).write_text("x")
    (tmp_path / "run.json").write_text(json.dumps(FACTS))
    (tmp_path / "trials.jsonl").write_text(json.dumps(line(1)) + "\n")
    assert set(fleet.packed(tmp_path)) == {"run.json", "trials.jsonl"}
    (tmp_path / "trials.jsonl").write_text(json.dumps(line(1, outcome="degraded")) + "\n")
    assert "trace.bin.gz" in fleet.packed(tmp_path)
