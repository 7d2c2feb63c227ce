# SPDX-License-Identifier: BSD-2-Clause
"""The verdict on faults done by QEMU: what a fault may cause passes, what it may not, and what it must and did not, do not."""
import dataclasses
import pathlib
import re

import pytest

from faultinject import faults, hardware

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GOOD = hardware.Seen(deaths=[], settled=True, served_after=True, finished=True)
STALLED = [("virtio_blk", "STALLED")]


def seen(**changes):
    return dataclasses.replace(GOOD, **changes)


def verdict(name, activated=True, **changes):
    return hardware.judge(hardware.BY_NAME[name], activated, seen(**changes))[:2]


def test_the_document_has_the_table():
    rows = [line for line in (ROOT / "docs/FAULTS.md").read_text().splitlines() if line.startswith("| *")]
    assert rows == list(hardware.markdown())[2:]


def test_names_are_nobody_elses():
    assert len(hardware.BY_NAME) == len(hardware.TABLE) and not set(hardware.BY_NAME) & set(faults.BY_NAME)
    assert all(f.may <= {"death", "io_error", "mismatch", "lost_here"} and re.fullmatch(r"\w+", f.name) for f in hardware.TABLE)


@pytest.mark.parametrize("name,changes,outcome", [
    ("io_error_write", {"io_errors": 9}, "recovered"),
    ("io_error_write", {"io_errors": 9, "deaths": STALLED}, "recovered"),
    ("disk_lies", {"mismatches": 3, "lost_here": 8}, "recovered"),
    ("self_reset", {"deaths": STALLED}, "recovered"),
    ("irq_spurious", {}, "masked"),
    ("nmi", {"panic": "NMI"}, "kernel_panic"),
])
def test_what_a_fault_may_cause_passes(name, changes, outcome):
    assert verdict(name, **changes) == (True, outcome)


@pytest.mark.parametrize("name,changes,outcome", [
    ("io_error_write", {}, "masked"),                                         # the error was told to nobody
    ("io_error_write", {"io_errors": 9, "mismatches": 1}, "silent_corruption"),
    ("io_error_read", {"io_errors": 1, "lost": 1}, "recovered_with_loss"),
    ("io_error_read", {"io_errors": 1, "duplicates": 1}, "recovered_with_loss"),
    ("disk_lies", {"mismatches": 3, "lost": 1}, "recovered_with_loss"),       # what was written before is gone too
    ("disk_slow", {"io_errors": 1}, "degraded"),
    ("irq_spurious", {"deaths": STALLED}, "cascaded"),
    ("self_reset", {"deaths": STALLED + [("serial", "STALLED")]}, "cascaded"),
    ("self_reset", {"deaths": STALLED, "served_after": False}, "degraded"),
    ("self_reset", {"deaths": STALLED, "finished": False}, "degraded"),
    ("irq_spurious", {"settled": False}, "degraded"),
    ("irq_spurious", {"panic": "vector 7"}, "kernel_panic"),
    ("nmi", {}, "masked"),
])
def test_what_it_may_not_cause_is_found(name, changes, outcome):
    assert verdict(name, **changes) == (False, outcome)


def test_without_proof_nothing_was_tested():
    assert verdict("irq_spurious", activated=False) == (False, "not_activated")
