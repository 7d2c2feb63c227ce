# SPDX-License-Identifier: BSD-2-Clause
"""Plans: the same seed gives the same plan, and nothing that makes no sense is planned."""
import collections

import dataclasses
import json

import pytest

from faultinject import faults, plan


def test_same_seed_same_plan():
    assert plan.make_plan(7, 50) == plan.make_plan(7, 50)


def test_other_seed_other_plan():
    assert plan.make_plan(7, 50) != plan.make_plan(8, 50)


def test_longer_plan_begins_with_the_shorter():
    assert plan.make_plan(3, 200)[:20] == plan.make_plan(3, 20)


def test_one_trial_alone_is_the_one_of_the_plan():
    assert plan.make_trial(3, 17) == plan.make_plan(3, 20)[16]


def test_written_plan_reads_back(tmp_path):
    trials = plan.make_plan(5, 30)
    plan.write(trials, tmp_path / "plan.jsonl")
    assert plan.read(tmp_path / "plan.jsonl") == trials


def test_mix_is_mostly_the_block_driver_and_has_every_fault():
    trials = plan.make_plan(1, 2000)
    services = collections.Counter(t.service for t in trials)
    assert services["virtio_blk"] > 0.7 * len(trials)
    assert {t.fault for t in trials} == set(plan.GROUPS["mix"])


@pytest.mark.parametrize("driver", ["mix", "all", "virtio_blk", "serial", "echo", "pci"])
def test_only_faults_that_make_sense(driver):
    for t in plan.make_plan(2, 500, driver):
        assert t.fault == "all" or t.fault in plan.SERVICES[t.service]


def test_user_disk_is_struck_only_if_there_is_one():
    assert all(t.service != "virtio_disk" for t in plan.make_plan(1, 500))
    assert any(t.service == "virtio_disk" for t in plan.make_plan(1, 50, disk=True))


@pytest.mark.parametrize("driver,fault,word", [("floppy", "mix", "virtio_blk"), ("mix", "avalanche", "garbage"),
                                               ("echo", "garbage", "loop"), ("virtio_disk", "kill", "--disk")])
def test_refusals_name_what_is_allowed(driver, fault, word):
    with pytest.raises(plan.UsageProblem, match=word):
        plan.check(driver, fault)


@pytest.mark.parametrize("fault", [*plan.FAULTS, *plan.GROUPS])
@pytest.mark.parametrize("driver", plan.DRIVER_GROUPS)
def test_every_fault_has_a_target_in_every_group(driver, fault):
    assert len(plan.make_plan(1, 20, driver, fault, disk=True)) == 20


GOOD = {"schema_version": 1} | dataclasses.asdict(plan.make_trial(1, 1))


@pytest.mark.parametrize("line,why", [
    ("{", "property name"), ("17", "pop"), ("{}", "schema_version"), ('{"schema_version": 99}', "version"),
    ('{"schema_version": 1, "n": 2}', "service"), (json.dumps(GOOD | {"fault": "earthquake"}), "unknown fault 'earthquake'"),
    (json.dumps(GOOD | {"service": "floppy"}), "unknown service 'floppy'"), (json.dumps(GOOD | {"delay_us": "x"}), "delay_us"),
    (json.dumps(GOOD | {"instructions": -1}), "instructions"), (json.dumps(GOOD | {"colour": 1}), "colour")])
def test_a_broken_plan_is_refused_with_file_and_line(tmp_path, line, why):
    path = tmp_path / "plan.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + line + "\n")
    with pytest.raises(plan.UsageProblem, match="plan.jsonl:2: .*" + why):
        plan.read(path)


def test_a_written_plan_is_read_back(tmp_path):
    trials = plan.make_plan(4, 50)
    plan.write(trials, tmp_path / "plan.jsonl")
    assert plan.read(tmp_path / "plan.jsonl") == trials


def test_a_kept_target_is_not_struck_more_often_than_its_policy_forgives():
    for driver in faults.KEPT:
        assert all(t.delay_us > 10_000 for t in plan.make_plan(1, 50, driver, "kill")), "100 falls in a second, and it is given up"
