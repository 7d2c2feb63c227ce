# SPDX-License-Identifier: BSD-2-Clause
"""Nobody is above restart: supervisor, recovery and pci are ended at random instructions, of their idle work and of
recoveries that they are in the middle of. They go on with what they had; nobody else dies, nothing is lost."""
import collections
import json

import pytest

SUPERVISOR = 0
FELL = "kernel: the first process fell"


def trials(done):
    return [json.loads(line) for line in (done.out / "latest" / "trials.jsonl").open()]


def log(done):
    return (done.out / "latest" / "kernel.log").read_text(errors="replace")


def test_the_supervisor_is_ended_within_recoveries(fi):
    done = fi("run", "--seed", 3, "--kills", 40, "--driver", "supervisor", "--fault", "recovering")
    assert done.code == 0, done.text
    outcomes = collections.Counter(t["outcome"] for t in trials(done))
    assert outcomes["recovered"] >= 38, outcomes
    assert log(done).count(FELL) == log(done).count("supervisor: started again") >= 38
    assert done.summary()["writes_acknowledged"] > 1000


def test_the_supervisor_is_ended_by_exceptions_while_others_work(fi):
    done = fi("run", "--seed", 4, "--kills", 12, "--driver", "supervisor", "--fault", "exception")
    assert done.code == 0, done.text
    deaths = {r["service"] for t in trials(done) for r in t["recoveries"]}
    assert deaths <= {"supervisor"}, deaths


@pytest.mark.parametrize("service, kills", [("recovery", 30), ("pci", 12)])
def test_who_is_kept_goes_on_within_recoveries(fi, service, kills):
    done = fi("run", "--seed", 5, "--kills", kills, "--driver", service, "--fault", "recovering")
    assert done.code == 0, done.text
    deaths = {r["service"] for t in trials(done) for r in t["recoveries"]}
    assert deaths == {service, "virtio_blk"}, deaths
    assert log(done).count(f"{service}: goes on with") >= kills * 2 // 3
    assert "begins without what it kept" not in log(done)


def test_recovery_is_ended_by_exceptions_while_others_work(fi):
    done = fi("run", "--seed", 6, "--kills", 10, "--driver", "recovery", "--fault", "exception")
    assert done.code == 0, done.text
    assert {r["service"] for t in trials(done) for r in t["recoveries"]} <= {"recovery"}


@pytest.mark.parametrize("service, fault, stride", [("supervisor", "recovering", 400), ("recovery", "recovering_twice", 1000),
                                                    ("pci", "recovering_thrice", 250)])
def test_every_step_of_a_recovery(fi, service, fault, stride):
    """Coarsely; docs/FAULTS.md has the commands that strike at each instruction."""
    done = fi("run", "--enumerate", stride, "--driver", service, "--fault", fault)
    assert done.code == 0, done.text
    outcomes = collections.Counter(t["outcome"] for t in trials(done))
    assert outcomes["recovered"] >= 12 and not outcomes.keys() - {"recovered", "not_activated"}, outcomes
    assert done.summary()["enumerated"]["untouched_at"]
    assert {r["service"] for t in trials(done) for r in t["recoveries"]} <= {service, "virtio_blk"}


def test_strikes_during_live_updates(fi):
    """The long run is `make chaos FAULT=combination KILLS=1000`. A bad version, one that is kept, one that is rolled back."""
    done = fi("run", "--seed", 1, "--kills", 40, "--fault", "combination")
    assert done.code == 0, done.text
    outcomes = collections.Counter(t["outcome"] for t in trials(done))
    assert outcomes["recovered"] >= 8 and not outcomes.keys() - {"recovered", "not_activated"}, outcomes
    text = log(done)
    assert "on probation" in text and "did not hold" in text and "begins without what it kept" not in text
