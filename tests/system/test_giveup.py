# SPDX-License-Identifier: BSD-2-Clause
"""A service that dies too often is given up, said so, and comes back when the operator resets it."""
INTENSITY = 5  # system/default.toml


def test_give_up_and_reset(console):
    for _ in range(INTENSITY + 1):
        console.run("kill echo")
        console.await_service("echo", lambda row: row["state"] != "starting")
    assert console.await_service("echo", lambda row: "gave up" in row["state"])
    console.await_log("gave up echo: more than 5 deaths in 10000 ms; clear with svc reset echo")
    assert "gave up: more than 5 deaths in 10000 ms; last: killed" in console.run("svc")
    console.run("svc reset echo")
    console.await_service("echo", lambda row: row["state"] == "running")
    assert console.run("echo back again").strip() == "back again"
