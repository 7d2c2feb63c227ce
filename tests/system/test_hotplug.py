# SPDX-License-Identifier: BSD-2-Clause
"""A disk that comes and goes while nobody uses it. Under load it is a fault (test_hardware.py, unplug)."""
from tests.system.conftest import BUILD  # noqa: F401  puts the repository on the path
from tools import qemu

DISK = "data-disk"


def plug(console):
    said = console.guest.hmp("device_add " + qemu.data_disk_device(qemu.Machine(image=".", run=".", slot=True)))
    assert not said, said


def unplug(console):
    console.guest.qmp("device_del", id=DISK)
    assert console.guest.wait_event("DEVICE_DELETED", 10, device=DISK), console.story()


def state_is(wanted):
    return lambda row: row["state"] == wanted


def test_a_disk_is_plugged_into_an_empty_slot_and_pulled(machine, tmp_path):
    """Firmware never saw it: addresses are pci's to give. Neither an operator nor the end of pci brings a disk back that is
    not there."""
    file = qemu.data_disk(tmp_path / "plugged.img")
    c = machine(without_disk=True, extra=[*qemu.SLOT, "-blockdev", f"driver=file,node-name=data-file,filename={file}",
                                          "-blockdev", "driver=raw,node-name=data,file=data-file"])
    assert c.service("virtio_blk")["state"] == "absent" and "1042" not in c.run("lspci")
    plug(c)
    c.await_service("virtio_blk", state_is("running"))
    assert "1af4:1042" in c.run("lspci") and "131072 sectors" in c.log()
    unplug(c)
    row = c.await_service("virtio_blk", state_is("absent"))
    assert "its device is being taken away" in row["rest"] and "1042" not in c.run("lspci")
    c.run("svc reset virtio_blk")
    c.run("kill pci")
    c.await_log("pci: goes on with 0 functions handed out")
    assert c.service("virtio_blk")["state"] == "absent"
    plug(c)
    c.await_service("virtio_blk", lambda r: r["state"] == "running" and r["gen"] > row["gen"])
    c.run("kill virtio_blk")  # it is one as any other
    c.await_service("virtio_blk", lambda r: r["state"] == "running" and r["gen"] > row["gen"] + 1)
