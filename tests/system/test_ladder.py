# SPDX-License-Identifier: BSD-2-Clause
"""What `svc` and the log say on each rung of the ladder (docs/SUPERVISION.md), climbed by `kill` at the console. The rungs
degraded and previous version: test_giveup.py, test_update.py."""
import pytest

from conftest import boot


@pytest.fixture(scope="module")
def ladder(tmp_path_factory):
    machine = boot(tmp_path_factory.mktemp("ladder"), image="ladder", without_disk=True)
    yield machine
    machine.guest.stop()


def kill(console, name, times):
    """Waits each time until the system has dealt with it."""
    for _ in range(times):
        before = console.service(name)["gen"]
        console.run(f"kill {name}")
        console.await_service(name, lambda row: row["state"] == "gave up" or row["state"] == "running" and row["gen"] > before)


def generations(console, *names):
    return [console.service(name)["gen"] for name in names]


def test_a_leak_is_found_before_the_quota_is_reached(ladder):
    row = ladder.await_service("leaky", lambda row: row["gen"] == 2 and row["state"] == "running")
    assert "its memory had grown close to its quota" in row["rest"]
    ladder.await_log("leaky died, generation 1 (its memory had grown close to its quota")
    assert "end of its quota" not in ladder.log()
    assert generations(ladder, "echo", "beside", "after", "serial", "recovery", "console") == [1] * 6, "nobody else"


def test_what_it_restarts_with_is_restarted(ladder):
    kill(ladder, "upper", 2)
    row = ladder.await_service("lower", lambda row: row["gen"] == 2 and row["state"] == "running")
    assert "what restarts with it kept failing" in row["rest"]
    assert ladder.await_service("upper", lambda row: row["state"] == "running")["gen"] == 3
    ladder.await_log("lower died, generation 1 (what restarts with it kept failing")


def test_a_group_fails_in_the_group_around_it(ladder):
    kill(ladder, "echo", 2)
    assert generations(ladder, "echo", "beside", "after") == [3, 1, 1], "each for itself"
    assert "group" not in ladder.run("svc")
    kill(ladder, "echo", 1)
    for name in ("beside", "after"):  # the rest of its group, and the group that comes after it
        ladder.await_service(name, lambda row: row["gen"] == 2 and row["state"] == "running")
    assert "kept failing" in ladder.service("beside")["rest"]
    assert generations(ladder, "serial", "recovery") == [1, 1]
    said = "group front: failed as a whole 1 times; last for echo: more failures in its group than the group's policy allows"
    assert said in ladder.run("svc")
    ladder.await_log("group front failed, for echo: more failures in its group than the group's policy allows; restarted within appliance")


def test_one_failure_too_many_is_given_up_and_reset(ladder):
    kill(ladder, "echo", 3)
    row = ladder.await_service("echo", lambda row: row["state"] == "gave up")
    assert "gave up: more failures in its group than the group's policy allows; last: killed" in row["rest"]
    assert "clear with svc reset echo" in row["rest"]
    said = ladder.run("svc")
    assert "group front: failed as a whole 2 times" in said
    assert "group appliance: failed as a whole 0 times, and no group is left to deal with it; last for echo" in said
    ladder.await_log("gave up echo: more failures in its group than the group's policy allows; clear with svc reset echo")
    ladder.run("svc reset echo")
    ladder.await_service("echo", lambda row: row["state"] == "running")
    assert "no group is left" not in ladder.run("svc")
    assert ladder.run("echo back again").strip() == "back again"


def test_the_last_rung(ladder):
    """Given up, and the machine is to start anew: this one ends, and its log says for whom."""
    kill(ladder, "vital", 1)
    ladder.type("kill vital\n")
    ladder.await_end()
    while data := ladder.guest.log.recv(65536):  # what came with the end
        ladder.log_bytes += data
    said = ladder.log()
    assert "gave up vital: more than 1 deaths in 3600000 ms; the machine starts anew" in said
    assert said.index("gave up vital") < said.index("everything has ended, rebooting")
