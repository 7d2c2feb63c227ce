# SPDX-License-Identifier: BSD-2-Clause
"""Machines of other shapes, and how a machine ends."""


def test_boots_with_128_mib(machine):
    assert machine(mem="128M").service("virtio_blk")["state"] == "running"


def test_boots_without_a_data_disk_and_says_absent(machine):
    assert machine(without_disk=True).service("virtio_blk")["state"] == "absent"


def test_shutdown_ends_the_machine(machine):
    console = machine()
    console.type("shutdown\n")
    assert console.await_end() == 0 and "power off" in console.log()


def test_reboot_comes_back(machine):
    console = machine(reboot=True)
    console.type("reboot\n")
    console.expect("console ready", 60)


def test_a_panic_names_its_place(machine):
    c = machine()
    c.guest.qmp("inject-nmi")
    c.await_log("KERNEL PANIC")
    c.await_log("+0x")  # the backtrace has symbols
