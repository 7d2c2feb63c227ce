# SPDX-License-Identifier: BSD-2-Clause
"""Machines of other shapes, and how a machine ends."""
import re


def test_boots_with_128_mib(machine):
    assert machine(mem="128M").service("virtio_blk")["state"] == "running"


def test_four_cpus_run_threads(machine):
    """Each CPU's ring in the trace has entries of processes, and a driver comes back from a kill."""
    c = machine(smp=4)
    assert "4 CPUs" in c.log()
    c.run("kill virtio_blk")
    c.await_service("virtio_blk", lambda row: row["state"] == "running" and row["gen"] == 2)
    rings = c.run("trace 40").split("cpu ")[1:]
    assert len(rings) == 4 and sum("SIGNAL" in r or "PROCESS" in r for r in rings) > 1


def test_more_cpus_than_the_kernel_has_room_for(machine):
    c = machine(smp=9)
    assert "9 CPUs present, 8 used" in c.log()
    c.await_service("virtio_blk", lambda row: row["state"] == "running")


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


def test_the_cpu_protects_the_kernel(machine):
    """WP, SMEP, SMAP, UMIP (Intel SDM vol. 3A, 2.5) and EFER.NXE, read from outside."""
    registers = dict(re.findall(r"\b(CR0|CR4|EFER)=([0-9a-f]+)", machine().guest.hmp("info registers")))
    cr0, cr4, efer = (int(registers[name], 16) for name in ("CR0", "CR4", "EFER"))
    assert cr0 >> 16 & 1 and cr4 >> 20 & 1 and cr4 >> 21 & 1 and cr4 >> 11 & 1 and efer >> 11 & 1
