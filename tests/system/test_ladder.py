# SPDX-License-Identifier: BSD-2-Clause
"""What `svc` and the log say on each rung of the ladder (docs/SUPERVISION.md), climbed by `kill` at the console."""
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
