# SPDX-License-Identifier: BSD-2-Clause
"""Changes of programs: each class means what it says, on instructions whose encodings are written out here."""
import random

import pytest

from faultinject import mutation, programs

START = 0x420000
CODE = bytes.fromhex(
    "31c0"          # +00 xor eax, eax
    "bf07000000"    # +02 mov edi, 7
    "e800000000"    # +07 call +0c
    "488b4308"      # +0c mov rax, [rbx + 8]
    "83f805"        # +10 cmp eax, 5
    "7205"          # +13 jb +1a
    "4801d8"        # +15 add rax, rbx
    "75e6"          # +18 jne +00
    "c3")           # +1a ret
PROGRAM = programs.Program(None, START, CODE, 0x430000, 0x431000, ((START, len(CODE), "f"),), {})


def found(kind):
    """Offset -> what becomes of the instruction there, without what it was."""
    out = {}
    for some in mutation.of(PROGRAM).all(kind):
        for change in some:
            out.setdefault(change.address - START, set()).add(change.text.split(" -> ")[1])
    return out


def test_a_change_has_the_length_of_what_it_replaces():
    sizes = {0x00: 2, 0x02: 5, 0x07: 5, 0x0C: 4, 0x10: 3, 0x13: 2, 0x15: 3, 0x18: 2, 0x1A: 1}
    for kind in mutation.CLASSES:
        for some in mutation.of(PROGRAM).all(kind):
            assert all(len(c.code) == sizes[c.address - START] for c in some), kind


def test_every_change_changes_something():
    for kind in mutation.CLASSES:
        for some in mutation.of(PROGRAM).all(kind):
            assert all(c.code != PROGRAM.code(c.address, len(c.code)) for c in some), kind


def test_source():
    assert "add rax, rcx" not in found("destination")[0x15] and "add rax, rdx" not in found("source").get(0x0C, ())
    assert {"add rax, rcx", "add rax, rdx", "add rax, rdi"} <= found("source")[0x15]


def test_destination():
    assert "mov rcx, qword ptr [rbx + 8]" in found("destination")[0x0C]
    assert 0x10 not in found("destination"), "cmp writes nothing"


def test_pointer():
    assert {"mov rax, qword ptr [rbx + 9]", "mov rax, qword ptr [rdx + 8]"} <= found("pointer")[0x0C]
    assert set(found("pointer")) == {0x0C}


def test_branch_and_loop():
    assert found("branch") == {0x13: {f"jae {START + 0x1a:#x}"}}
    assert found("loop") == {0x18: {f"je {START:#x}"}}


def test_off_by_one():
    assert found("off_by_one") == {0x10: {"cmp eax, 4"}, 0x13: {f"jbe {START + 0x1a:#x}"}}


def test_left_out():
    assert set(found("initialise")) == {0x00, 0x02}
    assert set(found("interface")) == {0x02}
    assert set(found("delete")) == {0x00, 0x02, 0x07, 0x0C, 0x10, 0x13, 0x15, 0x18}, "all but the return"


def test_bit_is_one_bit():
    for some in mutation.of(PROGRAM).all("bit"):
        for c in some:
            old = PROGRAM.code(c.address, len(c.code))
            assert sum((a ^ b).bit_count() for a, b in zip(old, c.code)) == 1


@pytest.mark.parametrize("kind", mutation.CLASSES)
def test_the_seed_decides(kind):
    def chosen(seed):
        return mutation.of(PROGRAM).choose(random.Random(seed), kind, 4)
    assert chosen(1) == chosen(1)
    addresses = [c.address for c in chosen(2)]
    assert len(addresses) == len(set(addresses)), "each of another instruction"


def test_sites_are_what_the_injector_reads():
    assert mutation.Change(0x42000c, b"\x90\x0f", "").site() == "42000c:900f"
