# SPDX-License-Identifier: BSD-2-Clause
"""The console, and drivers killed from it: one machine for all tests of this file."""
import pytest

COMMANDS = "help ps svc kill trace mem reboot shutdown".split()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists(console, command):
    assert f"\n  {command}" in "\n" + console.run("help")


def test_svc_shows_every_service_running(console):
    for name in ("supervisor", "recovery", "pci", "serial", "virtio_blk", "echo", "console"):
        assert console.service(name)["state"] == "running"


def test_ps_shows_every_process(console):
    assert all(name in console.run("ps") for name in ("supervisor", "recovery", "serial", "console"))


def test_mem_shows_less_than_32_mib_used(console):
    used = next(line for line in console.run("mem").splitlines() if line.startswith("used"))
    assert int(used.split()[1]) < 32 * 1024


def test_trace_shows_events(console):
    assert len(console.run("trace 5").splitlines()) >= 5


def test_an_unknown_command_is_refused_with_advice(console):
    assert "did you mean `help`" in console.run("hepl")


@pytest.mark.parametrize("driver", ["echo", "virtio_blk", "serial", "pci"])
def test_a_killed_driver_grows_back(console, driver):
    before = console.service(driver)["gen"]
    console.run(f"kill {driver}")
    console.await_service(driver, lambda row: row["gen"] == before + 1 and row["state"] == "running")


def test_a_half_typed_line_survives_the_serial_driver(console):
    before = console.service("serial")["gen"]
    console.run("kill serial")
    console.type("ec")
    console.expect("ec")
    console.type("ho grown\n")
    assert "grown" in console.expect("grown\r\n.*grown")
    console.expect("coppice> ")
    assert console.service("serial")["gen"] == before + 1


def test_a_line_typed_while_its_driver_dies_is_whole(console):
    before = console.service("serial")["gen"]
    console.type("kill serial\necho whole line\n")
    console.expect("whole line\r\n[^\r\n]*whole line")
    console.expect("coppice> ")
    assert console.service("serial")["gen"] == before + 1


def test_an_unknown_service_cannot_be_killed(console):
    assert "no such service" in console.run("kill nobody")


def test_echo_answers(console):
    assert console.run("echo hello").strip() == "hello"


def test_nothing_leaked(console):
    assert " 0 pages leaked" in console.run("svc")
