# SPDX-License-Identifier: BSD-2-Clause
"""Damaged boot media: bits, sectors and ends of the boot disk are changed at random, and the machine is started from it.
The loader must end with one line that names the file and the problem, or the system must run as if nothing were; never
silence, a reset or a kernel that starts and panics. Where firmware itself no longer finds the loader, nothing of ours ran.

What the loader's own file holds is not damaged: only firmware (Secure Boot) can refuse an altered loader."""
import dataclasses
import os
import pathlib
import random
import re
import select
import struct
import subprocess
import tempfile
import time

from tools import mkimage, qemu

GREETING = "Coppice loader"
COMPLAINT = re.compile(r"Coppice loader: (?!UEFI)[^\n]+\n")
NO_LOADER = ("Shell>", "BdsDxe: failed to load", "BdsDxe: No bootable option")
READY = '{"injector":{"ready":1}}'
SECONDS = 60          # to an end; firmware alone takes 5
ESP = mkimage.ESP_FIRST * mkimage.SECTOR
GOOD = ("refused", "ran", "firmware")
SECTOR, PAGE = 512, 4096


@dataclasses.dataclass(frozen=True)
class Damage:
    where: str    # region
    offset: int   # of the disk
    what: str     # flip, noise, zeros, cut
    size: int

    def apply(self, data, source):
        if self.what == "cut":
            del data[self.offset:]
        elif self.what == "flip":
            data[self.offset] ^= 1 << source.randrange(8)
        else:
            data[self.offset:self.offset + self.size] = source.randbytes(self.size) if self.what == "noise" else bytes(self.size)

    def text(self):
        return f"{self.what} of {self.size} bytes at {self.offset:#x} ({self.where})"


def file_in(disk, name):
    """A file of the boot disk."""
    return subprocess.run(["mtype", "-i", f"{disk}@@{ESP}", f"::coppice/{name}"], check=True, capture_output=True,
                          env=os.environ | {"MTOOLS_SKIP_CHECK": "1"}).stdout


def regions(image, disk):
    """Name -> (first byte, last byte + 1) of what can be damaged. The files lie in one piece: mcopy wrote them to an empty disk."""
    sector, cluster, reserved, fats, entries, _, _, fat16 = struct.unpack_from("<HBHBHHBH", image, ESP + 11)
    fat = fat16 or struct.unpack_from("<I", image, ESP + 36)[0]
    first_fat = ESP + reserved * sector
    data = first_fat + fats * fat * sector
    found = {"partition table": (SECTOR, 34 * SECTOR), "boot sector": (ESP, ESP + sector), "file allocation table": (first_fat, data),
             "directories": (data, data + max(entries * 32, cluster * sector * 4))}
    for name in ("kernel.elf", "system.img"):
        content = file_in(disk, name)
        at = image.find(content[:PAGE], data)
        if at < 0:
            raise qemu.EnvironmentProblem(f"{disk} does not hold {name} in one piece: run `make image`")
        found[name] = (at, at + len(content))
    return found


def draw(found, seed, n):
    """(damage, source of the bytes) of run n."""
    source = random.Random(f"media {seed} {n}")
    where = source.choice(sorted(found))
    first, end = found[where]
    what = source.choice(("flip", "flip", "noise", "zeros", "cut"))
    size = {"flip": 1, "noise": SECTOR, "zeros": PAGE, "cut": 0}[what]
    return Damage(where, source.randrange(first, max(first + 1, end - size)), what, min(size, end - first)), source


def verdict(console, log, ended, late):
    """The outcome, or None: not there yet."""
    if "KERNEL PANIC" in log:
        return "panic"
    if READY in log:
        return "ran"
    if COMPLAINT.search(console):
        return "kernel ran" if log else "refused"
    if ended:
        return "reset"
    if GREETING not in console and (late or any(words in console for words in NO_LOADER)):
        return "firmware"
    return "silence" if late else None


def start(image, folder):
    """(outcome, the loader's last line) of a machine with this boot disk."""
    console, log, deadline = b"", b"", time.monotonic() + SECONDS
    with qemu.start(qemu.Machine(image, folder, disk=qemu.data_disk(folder / "data.img"))) as guest:
        ended = False
        while True:
            text, said = console.decode(errors="replace").replace("\r", ""), log.decode(errors="replace")
            outcome = verdict(text, said, ended, time.monotonic() > deadline)
            if outcome:
                lines = [line for line in text.split("\n") if line.startswith(GREETING)]
                return outcome, lines[-1] if lines else ""
            ready, _, _ = select.select([guest.console, guest.log], [], [], 0.5)
            for channel in ready:
                data = channel.recv(65536)
                ended = ended or not data
                if channel is guest.console:
                    console += data
                else:
                    log += data


def run(folder, seed, runs, show):
    """Number of runs that ended as they must."""
    original = (folder / "boot.img").read_bytes()
    found = regions(original, folder / "boot.img")
    good = 0
    for n in range(1, runs + 1):
        damage, source = draw(found, seed, n)
        with tempfile.TemporaryDirectory(prefix="coppice-media-") as scratch:
            scratch = pathlib.Path(scratch)
            data = bytearray(original)
            damage.apply(data, source)
            (scratch / "image").mkdir()
            (scratch / "image/boot.img").write_bytes(data)
            outcome, line = start(scratch / "image", scratch / "run")
        good += outcome in GOOD
        show(n, damage, outcome, line)
    return good
