# SPDX-License-Identifier: BSD-2-Clause
"""Nobody is above restart: the supervisor is ended at random instructions, of its idle work and of recoveries that it
is in the middle of. The kernel starts it again with what it had; nobody else dies, nothing is lost."""
import collections
import json

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
