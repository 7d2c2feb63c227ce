# SPDX-License-Identifier: BSD-2-Clause
"""The kernel's trace ring, read from outside: straight out of guest memory (layout: abi/trace.h).

Nothing in the guest is asked, so nothing in the guest can be wrong about what it did or when."""
import dataclasses
import pathlib
import struct

from tools import abi

MAGIC = 0x4543415254504F43  # "COPTRACE"
VERSION = 2
PAGE = 4096
HEADER = struct.Struct("<QIIQQQ")  # magic version cpu entries tsc_hz head
BUCKETS = 40  # LOCK_BUCKETS
TIMES = struct.Struct(f"<{BUCKETS}QQQ")  # struct lock_times: count most sum
ENTRY = struct.Struct("<QHHIQQ")   # tsc event cpu tag a b

EVENTS = abi.names("trace")
MARKS = abi.names("marks")
CAUSES = abi.names("faults")


class TraceProblem(Exception):
    """What is in guest memory is not the ring that the kernel announced."""


@dataclasses.dataclass(frozen=True)
class Entry:
    tsc: int
    event: str
    service: int
    generation: int
    a: int
    b: int
    mark: str | None = None  # of an event MARK
    cpu: int = 0


@dataclasses.dataclass(frozen=True)
class Header:
    cpu: int
    entries: int
    tsc_hz: int
    head: int

    @property
    def bytes(self):
        """Of the whole ring; the next CPU's follows."""
        return PAGE + self.entries * ENTRY.size


def parse_header(data):
    if len(data) < HEADER.size:
        raise TraceProblem(f"the trace ring's header has {len(data)} bytes instead of {HEADER.size}")
    magic, version, cpu, entries, tsc_hz, head = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise TraceProblem(f"no trace ring of version {VERSION}: magic {magic:#x}, version {version}")
    if entries == 0 or entries & (entries - 1):
        raise TraceProblem(f"the trace ring claims {entries} entries")
    return Header(cpu, entries, tsc_hz, head)


def parse_entry(data, at=0):
    tsc, event, cpu, tag, a, b = ENTRY.unpack_from(data, at)
    name = EVENTS.get(event, f"event {event}")
    mark = MARKS.get(a, f"mark {a}") if name == "MARK" else None
    return Entry(tsc, name, tag & 0xFFF, tag >> 12, a, b, mark, cpu)


def parse_entries(data):
    return [parse_entry(data, at) for at in range(0, len(data) - len(data) % ENTRY.size, ENTRY.size)]


class Ring:
    """Follows one CPU's ring. read_memory(paddr, size) -> bytes. `lost` counts entries that were overwritten
    before they were read: whoever judges by the trace must look at it."""

    def __init__(self, read_memory, paddr):
        self.read_memory, self.paddr = read_memory, paddr
        self.next = 0
        self.lost = 0

    def header(self):
        return parse_header(self.read_memory(self.paddr, HEADER.size))

    def _raw(self, first, count, entries):
        """Entries first..first+count-1, in at most two pieces because the ring wraps round."""
        base, at = self.paddr + PAGE, first % entries
        here = min(count, entries - at)
        data = self.read_memory(base + at * ENTRY.size, here * ENTRY.size)
        if here < count:
            data += self.read_memory(base, (count - here) * ENTRY.size)
        return data

    def read(self):
        """Raw entries written since the last call."""
        header = self.header()
        first = max(self.next, header.head - header.entries)
        data = self._raw(first, header.head - first, header.entries) if header.head > first else b""
        overwritten = max(0, self.header().head - header.entries - first)  # while we were reading
        self.lost += first - self.next + overwritten
        self.next = header.head
        return data[overwritten * ENTRY.size:]


def split(raw):
    return [raw[at:at + ENTRY.size] for at in range(0, len(raw) - len(raw) % ENTRY.size, ENTRY.size)]


def time_of(entry):
    return int.from_bytes(entry[:8], "little")


class Rings:
    """Follows the rings of all CPUs as one trace in the order of time: the CPUs have one clock and write under
    one lock. While one ring is read the others go on, so what is newer than the newest entry of a first look
    at every ring is held back until the next call; a second look completes what is not newer."""

    def __init__(self, read_memory, paddr, cpus=1, copy=None):
        first = Ring(read_memory, paddr).header()
        self.rings = [Ring(read_memory, paddr + cpu * first.bytes) for cpu in range(cpus)]
        self.tsc_hz = first.tsc_hz
        self.held = []
        self.copy = open(copy, "wb") if copy else None  # the raw entries in order, for later

    @property
    def lost(self):
        return sum(r.lost for r in self.rings)

    def look(self):
        return [entry for r in self.rings for entry in split(r.read())]

    def read(self):
        """All entries since the last call, but for those held back."""
        fresh = self.held + self.look()
        self.held = []
        if len(self.rings) > 1 and fresh:
            newest = max(map(time_of, fresh))
            fresh = sorted(fresh + self.look(), key=time_of)
            self.held = [entry for entry in fresh if time_of(entry) > newest]
            fresh = fresh[:len(fresh) - len(self.held)]
        if self.copy:
            self.copy.write(b"".join(fresh))
            self.copy.flush()
        return [parse_entry(entry) for entry in fresh]


@dataclasses.dataclass(frozen=True)
class Times:
    """How often something took 2^n to 2^(n+1) - 1 TSC ticks, by n."""
    count: list
    most: int
    sum: int

    def quantile_us(self, q, tsc_hz):
        """The end of the bucket in which the quantile lies, or the most there was."""
        rank, seen = q * sum(self.count), 0
        for n, count in enumerate(self.count):
            seen += count
            if count and seen >= rank:
                return min(2 ** (n + 1) - 1, self.most) / tsc_hz * 1e6
        return 0.0

    def row(self, tsc_hz):
        return {"n": sum(self.count), **{f"p{p}_us": round(self.quantile_us(p / 100, tsc_hz), 3) for p in (50, 90, 99, 99.9)},
                "most_us": round(self.most / tsc_hz * 1e6, 3), "sum_ms": round(self.sum / tsc_hz * 1e3, 3),
                "log2_ticks": {n: c for n, c in enumerate(self.count) if c}}


def lock_times(rings):
    """{"held": Times, "waited": Times} of the kernel lock, of all CPUs together; no counts where one CPU runs."""
    total = {"held": Times([0] * BUCKETS, 0, 0), "waited": Times([0] * BUCKETS, 0, 0)}
    for ring in rings.rings:
        data = ring.read_memory(ring.paddr + HEADER.size, 2 * TIMES.size)
        for at, name in enumerate(total):
            *count, most, ticks = TIMES.unpack_from(data, at * TIMES.size)
            t = total[name]
            total[name] = Times([a + b for a, b in zip(t.count, count)], max(t.most, most), t.sum + ticks)
    return total


def lock_line(rows):
    """One line for reports."""
    held, waited = rows["held"], rows["waited"]
    return (f"kernel lock: {held['n']:,} entries held it p50 {held['p50_us']:.1f} us, p99 {held['p99_us']:.1f} us, most "
            f"{held['most_us']:.0f} us; {waited['n']:,} waited p50 {waited['p50_us']:.1f} us, p99 {waited['p99_us']:.1f} us, "
            f"most {waited['most_us']:.0f} us")


def memory_reader(guest, folder):
    """read_memory for a running tools.qemu.Guest, by QMP through a file in folder."""
    path = pathlib.Path(folder).resolve() / "memory.tmp"

    def read_memory(paddr, size):
        guest.qmp("pmemsave", val=paddr, size=size, filename=str(path))
        data = path.read_bytes()
        if len(data) != size:
            raise TraceProblem(f"QEMU gave {len(data)} bytes of guest memory instead of {size}")
        return data
    return read_memory
