# SPDX-License-Identifier: BSD-2-Clause
"""Reading the trace ring out of memory, and recoveries out of the trace."""
import pytest

from faultinject import phases, trace
from tools import abi

EVENT, MARK = abi.numbers("trace"), abi.numbers("marks")
BASE, ENTRIES, HZ = 0x10000, 8, 1_000_000  # a tick is a microsecond
SUPERVISOR, RECOVERY, BLK, CLIENT = 0, 1, 4, 9


class Memory:
    """A ring as the kernel writes it."""

    def __init__(self, entries=ENTRIES, cpu=0):
        self.cpu = cpu
        self.entries, self.head = entries, 0
        self.slots = [bytes(trace.ENTRY.size)] * entries
        self.on_read = lambda: None

    def write(self, n=1, tsc=None):
        for _ in range(n):
            time = self.head if tsc is None else tsc
            self.slots[self.head % self.entries] = trace.ENTRY.pack(time, EVENT["BOOT"], self.cpu, 0, time, 0)
            self.head += 1

    def read(self, paddr, size):
        header = trace.HEADER.pack(trace.MAGIC, trace.VERSION, self.cpu, self.entries, HZ, self.head).ljust(trace.PAGE, b"\0")
        data = (header + b"".join(self.slots))[paddr - BASE:paddr - BASE + size]
        if paddr > BASE:
            self.on_read()
        return data


def numbers(entries):
    return [e.a for e in entries]


def test_increments_across_the_wrap():
    memory = Memory()
    ring = trace.Rings(memory.read, BASE)
    memory.write(5)
    assert numbers(ring.read()) == [0, 1, 2, 3, 4]
    memory.write(6)
    assert numbers(ring.read()) == [5, 6, 7, 8, 9, 10]
    assert ring.read() == [] and ring.lost == 0


def test_rings_of_several_cpus_are_one_trace():
    """What is newer than the first look may still miss an older entry of a ring read before: it waits."""
    cpus = [Memory(cpu=0), Memory(cpu=1)]
    size = trace.PAGE + ENTRIES * trace.ENTRY.size

    def read(paddr, count):
        cpu, offset = divmod(paddr - BASE, size)
        return cpus[cpu].read(BASE + offset, count)
    rings = trace.Rings(read, BASE, 2)
    cpus[0].write(tsc=10), cpus[1].write(tsc=20), cpus[0].write(tsc=30), cpus[1].write(tsc=40)

    def meanwhile():  # after ring 0 was looked at: both go on
        cpus[0].write(tsc=35), cpus[1].write(tsc=50)
        cpus[1].on_read = lambda: None
    cpus[1].on_read = meanwhile
    assert numbers(rings.read()) == [10, 20, 30, 35, 40]
    assert numbers(rings.read()) == [50]


def test_a_wrap_is_counted_and_said():
    memory = Memory()
    ring = trace.Rings(memory.read, BASE)
    memory.write(20)
    assert numbers(ring.read()) == list(range(12, 20))
    assert ring.lost == 12


def test_entries_overwritten_while_reading_are_dropped():
    memory = Memory()
    ring = trace.Rings(memory.read, BASE)
    memory.write(8)
    memory.on_read = lambda: (memory.write(3), setattr(memory, "on_read", lambda: None))
    assert numbers(ring.read()) == [3, 4, 5, 6, 7]
    assert ring.lost == 3


def test_not_a_ring_is_refused():
    with pytest.raises(trace.TraceProblem):
        trace.parse_header(bytes(trace.HEADER.size))


@pytest.mark.parametrize("size", [0, 1, trace.HEADER.size - 1])
def test_a_short_header_is_refused(size):
    with pytest.raises(trace.TraceProblem, match="bytes"):
        trace.parse_header(bytes(size))


def e(tsc, event, service, generation, a=0, b=0):
    mark = None
    if event in MARK:
        event, mark, a, b = "MARK", event, MARK[event], a
    return trace.Entry(tsc, event, service, generation, a, b, mark)


def recovery_entries():
    return [
        e(90, "TRIAL", 8, 1, 17),
        e(100, "STRIKE", BLK, 3), e(102, "DEATH", BLK, 3, 34), e(110, "FENCE_DONE", BLK, 3),
        e(115, "DECIDED", SUPERVISOR, 1, BLK), e(120, "PROCESS_CREATE", BLK, 4, 50, 116),
        e(150, "PROCESS_FIRST", BLK, 4), e(160, "ATTACHED", RECOVERY, 1, (4 << 12 | BLK) << 32 | 31), e(170, "RESTORED", BLK, 4, 1),
        e(175, "SIGNAL", BLK, 4, RECOVERY), e(200, "RESET_DONE", BLK, 4), e(220, "REPLAYED", BLK, 4, 31),
        e(221, "SIGNAL", BLK, 4, RECOVERY), e(222, "READY", BLK, 4), e(300, "SIGNAL", BLK, 4, CLIENT),
        e(301, "SIGNAL", BLK, 4, CLIENT),
    ]


def recover(entries):
    return phases.service_recovery(phases.windows(entries)[17], BLK, "virtio_blk", {SUPERVISOR, RECOVERY})


def test_phases_of_a_recovery():
    r = recover(recovery_entries())
    assert r.phases_us(HZ) == {"detect": 2, "fence": 8, "decide": 5, "spawn": 35, "restore": 20, "reset": 30,
                               "replay": 20, "first_completion": 80}
    assert r.total_us(HZ) == 200 == sum(r.phases_us(HZ).values())
    assert (r.in_flight, r.replayed, r.generation, r.generation_after, r.cause) == (31, 31, 3, 4, "INJECTED")
    assert r.in_order()


def test_a_signal_before_replay_is_no_completion():
    entries = [x for x in recovery_entries() if x.tsc < 300]
    r = recover(entries)
    assert "first_completion" not in r.phases_us(HZ) and r.total_us(HZ) is None


def test_second_kill_counts_from_the_first_strike():
    first = [x for x in recovery_entries() if x.tsc <= 160]
    second = [e(165, "STRIKE", BLK, 4), e(165, "DEATH", BLK, 4, 34)]
    rest = [e(x.tsc + 100, x.event if not x.mark else x.mark, x.service, x.generation + (x.service == BLK),
              x.b if x.mark else x.a, 0 if x.mark else x.b) for x in recovery_entries() if x.tsc >= 110]
    r = recover(first + second + rest)
    assert r.deaths == 2 and r.generation == 3 and r.generation_after == 5
    assert r.total_us(HZ) == 300 and r.phases_us(HZ)["detect"] == 0


def test_disorder_is_seen():
    entries = recovery_entries()
    entries[10] = e(500, "RESET_DONE", BLK, 4)
    assert not recover(entries).in_order()


def test_windows_end_where_the_next_trial_begins():
    found = phases.windows(recovery_entries() + [e(400, "TRIAL", 8, 1, 18), e(410, "DEATH", BLK, 4, 34)])
    assert len(found[17].deaths) == 1 and len(found[18].deaths) == 1


def test_a_completion_may_come_in_the_next_window_but_not_after_another_death():
    head, tail = recovery_entries()[:-2], recovery_entries()[-2:]
    after = head + [e(290, "TRIAL", 8, 1, 18)] + tail
    assert recover(after).total_us(HZ) == 200
    assert recover(head + [e(290, "TRIAL", 8, 1, 18), e(295, "DEATH", BLK, 4, 34)] + tail).total_us(HZ) is None
