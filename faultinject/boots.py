# SPDX-License-Identifier: BSD-2-Clause
"""A booted machine, kept: a campaign of many boots starts each of them from the same saved state instead of
from the firmware (0.2 s instead of 5). The state holds memory and devices; disks are new each time.

A state belongs to the image and the machine's options. It lives in a folder of its own: guest (QEMU's
migration stream), boot.json (what the kernel announced)."""
import fcntl
import json

from faultinject.channel import LogReader
from tools import qemu

BOOT_SECONDS = 60


def announced(log):
    """Waits until the injector is ready; returns the kernel's announcement of itself."""
    boot = log.wait("boot", BOOT_SECONDS)
    log.wait("injector", BOOT_SECONDS, lambda value: "ready" in value)
    return boot


def make(folder, machine):
    """Boots `machine` in folder and saves it there, unless that was done. machine: as the campaign's own, but with
    run folder and data disk in `folder`. Several processes may ask at once: one makes it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "boot.json").exists():
            boot_and_save(folder, machine)
    return folder


def boot_and_save(folder, machine):
    guest = qemu.start(machine)
    log = LogReader(guest.log, lambda event: None)
    try:
        boot = announced(log)
        guest.save(folder / "guest")
    finally:
        guest.stop()
        log.join(5)
    (folder / "boot.json").write_text(json.dumps(boot))  # last: it says that the rest is whole


def load(folder):
    """(path of the state, the announcement)"""
    return folder / "guest", json.loads((folder / "boot.json").read_text())
