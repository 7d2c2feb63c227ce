# SPDX-License-Identifier: BSD-2-Clause
"""Damaged boot disks: what is damaged follows from the seed and lies where it says; each way to end has its verdict."""
import random

import pytest

from faultinject import media

HELLO = "Coppice loader: UEFI 2.70, EDK II\n"
REGIONS = {"kernel.elf": (0x200000, 0x220000), "boot sector": (0x100000, 0x100200)}


@pytest.mark.parametrize("console,log,ended,late,outcome", [
    ("", "", False, False, None),
    (HELLO, "", False, False, None),
    (HELLO + "Coppice loader: \\coppice\\kernel.elf: altered\n", "", False, False, "refused"),
    (HELLO + "Coppice loader: \\coppice\\kernel.elf: alt", "", False, False, None),
    (HELLO, '[8.1] {"injector":{"ready":1}}', False, False, "ran"),
    ("BdsDxe: failed to load Boot0001", "", False, False, "firmware"),
    ("", "", False, True, "firmware"),
    (HELLO, "", False, True, "silence"),
    (HELLO, "", True, False, "reset"),
    (HELLO, "KERNEL PANIC: no manifest", False, False, "panic"),
    (HELLO + "Coppice loader: \\coppice\\system.img: truncated\n", "kernel starts", False, False, "kernel ran"),
])
def test_verdicts(console, log, ended, late, outcome):
    assert media.verdict(console, log, ended, late) == outcome
    assert outcome is None or (outcome in media.GOOD) == (outcome in ("refused", "ran", "firmware"))


def test_damage_follows_from_the_seed_and_stays_in_its_region():
    for n in range(200):
        damage, _ = media.draw(REGIONS, 7, n)
        assert damage == media.draw(REGIONS, 7, n)[0]
        first, end = REGIONS[damage.where]
        assert first <= damage.offset < end


def test_damage_is_done():
    whole = bytes(range(256)) * 64
    for what, size in (("flip", 1), ("noise", 512), ("zeros", 4096), ("cut", 0)):
        data = bytearray(whole)
        media.Damage("x", 1000, what, size).apply(data, random.Random(1))
        assert data[:1000] == whole[:1000]
        changed = [i for i, (a, b) in enumerate(zip(data, whole)) if a != b]
        assert len(data) == 1000 if what == "cut" else changed and all(1000 <= i < 1000 + size for i in changed)
        assert what != "flip" or len(changed) == 1
