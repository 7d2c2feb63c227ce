# SPDX-License-Identifier: BSD-2-Clause
"""A kernel that panics leaves its last words: the next boot prints them, and they are in a file of the boot volume."""
import os
import subprocess

from tests.system.conftest import BOOT_SECONDS, PROMPT
from tools import mkimage

FILE = "::coppice/epitaph.log"


def read_from_outside(folder):
    """The file on the ESP of the guest's boot disk, as another machine would read it."""
    raw = folder / "boot.raw"
    subprocess.run(["qemu-img", "convert", "-U", "-O", "raw", str(folder / "boot.qcow2"), str(raw)], check=True)
    volume = f"{raw}@@{mkimage.ESP_FIRST * mkimage.SECTOR}"
    return subprocess.run(["mtype", "-i", volume, FILE], check=True, capture_output=True, text=True,
                          env={**os.environ, "MTOOLS_SKIP_CHECK": "1"}).stdout


def test_the_last_words_of_a_panic_outlive_it(machine, tmp_path):
    c = machine(reboot=True)
    c.guest.qmp("inject-nmi")
    c.await_log("KERNEL PANIC: NMI")
    c.await_log("  trace ")
    died = len(c.log())
    c.guest.qmp("system_reset")
    c.expect("last kernel panicked; its last words are appended to", BOOT_SECONDS)
    c.await_log("last panic: KERNEL PANIC: NMI", BOOT_SECONDS, after=died)
    c.expect(PROMPT, BOOT_SECONDS)
    again = c.log()[died:]
    assert "last panic:   " in again and "+0x" in again and " trace " in again
    stored = read_from_outside(tmp_path)
    assert stored.startswith("KERNEL PANIC: NMI") and "+0x" in stored and " trace " in stored
    # Read once: an ordinary boot after it has nothing to say.
    booted = len(c.log())
    c.type("reboot\n")
    c.expect("console ready", BOOT_SECONDS)
    assert "last panic" not in c.log()[booted:]
    assert read_from_outside(tmp_path) == stored
