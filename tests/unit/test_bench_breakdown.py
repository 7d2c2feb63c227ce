# SPDX-License-Identifier: BSD-2-Clause
"""Taking a figure apart: folding of instructions into phases, the stub's packets, the table of windows."""
import os
import pathlib
import random
import re
import socket
import struct
import threading

import pytest

from bench import breakdown, gdbstub

ROOT = pathlib.Path(__file__).resolve().parents[2]
KERNEL_FUNCTIONS = [("syscall_entry",), ("cap_lookup", "cap_get"), ("list_append", "endpoint_deliver"),
                    ("arch_cpu", "sched_hand_over"), ("context_resume",), ("nobody_knows",)]


def test_every_instruction_is_in_one_phase_and_one_symbol():
    dice = random.Random(1)
    trace = [(dice.choice([None, "a", "b"]), dice.choice(KERNEL_FUNCTIONS)) for _ in range(5000)]
    found = breakdown.fold("x", trace, "a")
    assert found.steps == 5000 == sum(found.phases.values()) == sum(n for *_, n in found.symbols)


def test_phases_entries_and_switches_of_a_call_and_its_reply():
    def kernel(*names):
        return [(None, (name,)) for name in names]
    trace = ([("client", ("main",))] + kernel("syscall_entry", "cap_lookup", "message_copy", "sched_hand_over",
                                              "context_resume")
             + [("server", ("serve",))] * 2 + kernel("syscall_entry", "context_resume"))
    found = breakdown.fold("call", trace, "client")
    assert found.phases == {"entry": 2, "exit": 2, "user server": 2, "user client": 1, "decode": 1, "transfer": 1,
                            "switch": 1}
    assert (found.steps, found.entries, found.switches) == (10, 2, 2)


def test_the_innermost_function_that_a_phase_names_decides():
    assert breakdown.phase_of(("list_append", "endpoint_deliver", "endpoint_call_fast")) == "transfer"
    assert breakdown.phase_of(("arch_tsc", "account", "sched_switch")) == "switch"
    assert breakdown.phase_of(("cap_lookup", "fast_endpoint", "endpoint_call_fast")) == "decode"
    assert breakdown.phase_of(("arch_cpu",)) == "other"


def test_what_nobody_needed_is_not_counted_but_the_switch_to_it_is():
    trace = [("a", ("main",)), (None, ("sched_switch",)), ("peer", ("peer_spin",)), ("peer", ("peer_spin",)),
             (None, ("sched_switch",))]
    found = breakdown.fold("x", trace, "a", idle=("peer_spin",))
    assert (found.steps, found.switches) == (3, 2)


def test_a_breakdown_that_does_not_add_up_to_the_measurement_says_so():
    found = breakdown.fold("x", [("a", ("main",))] * 3, "a")
    found.measured = 3
    assert found.matches and "MEASURED" not in breakdown.line(found)
    found.measured = 4
    assert not found.matches and "MEASURED 4" in breakdown.line(found) and found.as_json()["matches"] is False


def test_windows_are_read_as_the_guest_writes_them():
    def entry(address, kind, name):
        return struct.pack("<QQ48s", address, kind, name)
    assert breakdown.windows_of(entry(16, 0, b"a") + entry(32, 1, b"a") + entry(48, 2, b"b")) == {
        "a": {0: [16], 1: [32]}, "b": {2: [48]}}


def test_inlined_functions_are_read_innermost_first():
    assert breakdown.chains_of("0x1\nlist_append\na.h:3\nendpoint_deliver\na.c:9\n0x2\n??\n??:0\n") == [
        ("list_append", "endpoint_deliver"), ("??",)]


class Text:
    def __init__(self, data):
        self.data = data

    def bytes_at(self, _, size):
        return self.data[:size]


def test_a_program_is_known_by_how_its_text_begins():
    small, large = Text(b"\1\2"), Text(b"\3" * 600)
    assert breakdown.program_at([small, large], b"\1\2" + bytes(510)) is small
    with pytest.raises(breakdown.BreakdownProblem):
        breakdown.program_at([small, large], b"\7" * 512)


def test_programs_begin_where_the_abi_says():
    base = re.search(r"#define USER_IMAGE_BASE (0x[0-9a-f]+)ul", (ROOT / "abi/types.h").read_text())
    assert breakdown.IMAGE_BASE == int(base[1], 16)


def test_the_stub_speaks_packets():
    ours, theirs = socket.socketpair()

    def answer():
        data = b""
        for reply in (b"l<target/>", b"8000000000000000", b"E14"):
            while data.count(b"#") == 0 or len(data.split(b"#", 1)[1]) < 2:
                data += theirs.recv(4096)
            text, data = data.split(b"#", 1)
            assert int(data[:2], 16) == sum(text.split(b"$")[1]) % 256
            data = data[2:]
            theirs.sendall(b"+$" + reply + b"#00")
    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    stub = gdbstub.Stub(ours)
    assert stub.register(gdbstub.RIP) == 0x80
    with pytest.raises(gdbstub.StubProblem):
        stub.memory(0, 4)
    thread.join(5)
    assert not thread.is_alive()


def test_the_bench_names_its_windows():
    """Every figure that is taken apart begins and ends somewhere in the built bench."""
    guest = breakdown.Program("guest", ROOT / os.environ.get("COPPICE_BUILD", "build") / "user/guest.elf")
    for name in (*breakdown.WINDOWS, *breakdown.WINDOWS_LATER):
        assert guest.windows[name][breakdown.BEGIN] and guest.windows[name][breakdown.END], name
    assert guest.windows["irq_to_user"][breakdown.END] and guest.windows["read4k"][breakdown.ROUND]
