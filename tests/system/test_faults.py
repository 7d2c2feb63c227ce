# SPDX-License-Identifier: BSD-2-Clause
"""Every fault of the table, against every driver: the proof of its activation is seen, and the promises hold."""
import json

import pytest

from tests.system.conftest import BUILD  # noqa: F401 (puts the repository on the path)
from faultinject import faults

PROMISED = ("complete", "verified", "workload_finished", "no_panic", "no_leak", "no_harness_error", "death_order", "nothing_twice")


def trials_of(done):
    return [json.loads(line) for line in (done.out / "latest/trials.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def every(tmp_path_factory, fi_in):
    """One campaign for all tests of this file: each driver with each fault, once."""
    return fi_in(tmp_path_factory.mktemp("every"), "run", "--seed", 1, "--each", 1, "--driver", "all", "--fault", "every")


def test_promises_hold_under_every_fault(every):
    targets = every.summary()["targets"]
    assert all(targets[name] for name in PROMISED), every.text


def test_every_fault_is_activated(every):
    active = {t["fault"] for t in trials_of(every) if t["activated"]}
    assert active == {f.name for f in faults.TABLE if not f.apart}, every.text


def test_faults_that_cannot_lie_are_recovered_from(every):
    """Of the others a driver may die, or do another thing than was asked: lies in due form."""
    honest = {f.name for f in faults.TABLE if f.family in ("process", "protocol", "system")} - {"corrupt_ledger", "corrupt_ring"}
    bad = [t for t in trials_of(every) if t["fault"] in honest and t["outcome"] not in ("recovered", "masked", "not_activated")]
    assert not bad, bad


def test_a_spoiled_checkpoint_is_not_used(every):
    spoiled = [t for t in trials_of(every) if t["fault"] == "corrupt_checkpoint" and t["activated"]]
    assert spoiled and all(r["checkpoint"] != 1 for t in spoiled for r in t["recoveries"][:1]), spoiled


def test_what_was_struck_is_told(every):
    aimed = {t["fault"]: t["aim"] for t in trials_of(every)}
    assert " -> nothing" in aimed["mutate_delete"] and "^" in aimed["flip_register"] and aimed["slow"].endswith(" us")


@pytest.mark.parametrize("driver,stride", [("echo", 2), ("virtio_blk", 80)])
def test_one_request_is_struck_everywhere(fi, driver, stride):
    done = fi("run", "--enumerate", stride, "--driver", driver, "--fault", "kill")
    assert done.code == 0, done.text
    trials, s = trials_of(done), done.summary()
    assert [t["instructions"] for t in trials] == [stride * n for n in range(1, len(trials) + 1)]
    assert s["enumerated"]["untouched_at"] == trials[-1]["instructions"] > 30
    assert all(t["outcome"] == "recovered" for t in trials[:-1]) and trials[-1]["outcome"] == "not_activated"
