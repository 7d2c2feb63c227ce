# SPDX-License-Identifier: BSD-2-Clause
"""A hostile process in the machine: short runs of `make hostile` and `make exhaust`, and proof that what judges
them can fail."""
import contextlib

from tests.system.conftest import BUILD  # puts the root on the path
from faultinject import isolation, witness

SEED = 11
# What ends a flood for certain; log lines and mappings meet theirs only on a fast machine (unit tests).
BOUNDED = {"spawn": "E_QUOTA", "capabilities": "E_NO_SLOTS", "memory": "E_QUOTA", "timers": "E_QUOTA", "marks": "E_QUOTA",
           "sessions": "E_QUOTA"}


def test_nothing_is_gained_and_nobody_is_disturbed(tmp_path):
    problems, figures = isolation.attack(tmp_path, seconds=8, seed=SEED, build=BUILD)
    assert not problems, "\n".join(problems)
    said = figures["hostile"]
    assert said["attacks"] >= said["kinds"], "not every attack was tried"
    assert said["calls"] > 10000 and said["deaths"] > 10 and figures["writes"] > 100


def test_floods_end_at_a_quota_and_harm_nobody(tmp_path):
    """Latencies are reported by `make exhaust`, not judged here."""
    problems, rows = isolation.exhaust(tmp_path, seconds=1, build=BUILD)
    assert not problems, "\n".join(problems)
    for row in rows:
        assert row["attempts"] > 0, row
        if row["kind"] in BOUNDED:
            assert row["refused"] and row["status"] == BOUNDED[row["kind"]], row
    assert next(r for r in rows if r["kind"] == "spawn")["attempts"] >= 10000


def test_what_the_witness_finds(tmp_path):
    """Authority, a page and a constant are forged in what it reads: each is found."""
    with isolation.Run(tmp_path, BUILD) as run:
        index, image = run.services["hostile"]["index"], run.image / "system.img"
        with run.kernel.stopped() as kernel:
            assert witness.audit(kernel, index)[0] == [] and witness.unchanged(kernel, image) == []
            for forge, found in ((more_rights, "its parent has only"), (another_object, "names another object"),
                                 (writable_text, "writable and executable")):
                with forged(kernel, *forge(kernel, index)):
                    lines = witness.audit(kernel, index)[0]
                assert any(found in line for line in lines), (found, lines)
            with forged(kernel, kernel.constant[0][0] + 64, 0x90, False):
                assert "read-only segment" in witness.unchanged(kernel, image)[0]


@contextlib.contextmanager
def forged(kernel, address, value, physical):
    """Eight bytes of memory look like this value."""
    honest = kernel.read

    def read(at, size, is_physical=False):
        data = bytearray(honest(at, size, is_physical))
        for n, byte in enumerate(value.to_bytes(8, "little")):
            if is_physical == physical and at <= address + n < at + size:
                data[address + n - at] = byte
        return bytes(data)
    kernel.read = lambda at, size, physical=False: read(at, size, physical)
    try:
        yield
    finally:
        kernel.read = honest


def hostile(kernel, index):
    return next(p for p in witness.processes(kernel) if witness.tag_of(p) & 0xFFF == index)


def given(kernel, index):
    return next(c for c in witness.capabilities(kernel, hostile(kernel, index)) if c.parent)


def more_rights(kernel, index):
    at = given(kernel, index).address + 8
    return at, kernel.u64(at) | 0x7F, False


def another_object(kernel, index):
    return given(kernel, index).address, kernel.u64(kernel.symbols["process_root"]), False


def writable_text(kernel, index):
    """The page-table entry of its first page of text."""
    at = root = hostile(kernel, index)["space.root"]
    text = next(address for address, entry in witness.leaves(kernel, root) if not entry & witness.PTE_NX)
    for shift in (39, 30, 21, 12):
        slot = (at & witness.FRAME) + 8 * (text >> shift & 511)
        at = int.from_bytes(kernel.read(slot, 8, physical=True), "little")
    return slot, at | witness.PTE_WRITE, True
