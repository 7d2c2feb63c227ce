# SPDX-License-Identifier: BSD-2-Clause
"""Power cuts, at every write: QEMU logs all that the disk was given, in order (blklogwrites), while drivers are killed.
Afterwards the power is cut after each entry of that log, on paper: what a flush covered is on the disk, of what came
after it any part may be. What the workload was told to be written, and then to be flushed, must be there at each cut.

A write of 4 KiB lands whole or not at all here: nobody can promise more of a record that is overwritten in place.
Log format: dm-log-writes (Linux, Documentation/admin-guide/device-mapper/log-writes.rst), as QEMU writes it."""
import dataclasses
import json
import struct

from faultinject import campaign, verify
from faultinject.channel import split_writer
from faultinject.reports.run import write

MAGIC, VERSION = 0x6A736677736872, 1
SUPER = struct.Struct("<QQQI")   # magic version entries sector size
ENTRY = struct.Struct("<QQQQ")   # sector, sectors, flags, bytes of data
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
SHOWN = 10


class LogProblem(Exception):
    """Not a log of writes."""


@dataclasses.dataclass(frozen=True)
class Write:
    place: int
    seq: int | None  # None: no record of this run


class Flush:
    pass


@dataclasses.dataclass(frozen=True)
class Told:
    """What the workload said: acknowledged writes, a flush handed in, that flush done."""
    what: str        # "ack", "flush", "flushed"
    value: object    # seq, or number of the flush


def read_log(path, seed, places, stride):
    """Entries in order: Write or Flush. Firmware's reads and what the workload did not write leave none."""
    with open(path, "rb") as log:
        magic, version, count, sector = SUPER.unpack(log.read(SUPER.size))
        if magic != MAGIC or version != VERSION or sector < ENTRY.size:
            raise LogProblem(f"{path}: no log of writes of version {VERSION}")
        log.seek(sector)
        for number in range(count):
            first, sectors, flags, _ = ENTRY.unpack(log.read(sector)[:ENTRY.size])
            if flags & FLUSH:
                yield Flush()
            if flags & (DISCARD | MARK):
                continue
            if sectors:
                data = log.read(sectors * sector)
                if len(data) < sectors * sector:
                    raise LogProblem(f"{path}: ends in entry {number} of {count}")
                yield from records(first * sector, data, seed, places, stride)
            if flags & FUA:
                yield Flush()


def records(offset, data, seed, places, stride):
    for at in range(0, len(data), verify.RECORD_BYTES):
        place = (offset + at) // verify.RECORD_BYTES
        block = data[at:at + verify.RECORD_BYTES]
        seq = verify.record_seq(block, place, seed) if len(block) == verify.RECORD_BYTES else None
        yield Write(place, seq if seq is not None and seq * stride % places == place else None)


def read_told(path):
    """(seed, places, stride, [Told]) from a kernel log."""
    start, told = None, []
    with open(path, errors="replace") as log:
        for line in log:
            writer, text = split_writer(line)
            if not text.startswith("{"):
                continue
            try:
                event = json.loads(text)
            except ValueError:  # cut off
                continue
            if "start" in event.get("workload", {}):
                start = event["workload"]
            for first, last in event.get("ack", ()):
                told += [Told("ack", seq) for seq in range(first, last + 1)]
            for what in ("flush", "flushed"):
                if what in event:
                    told.append(Told(what, event[what]))
    if start is None:
        raise LogProblem(f"{path}: no workload in it")
    return start["seed"], start["places"], start["stride"], told


@dataclasses.dataclass
class Result:
    writes: int = 0
    flushes: int = 0
    promised: int = 0    # flushes that the workload was told of
    cuts: int = 0
    places: int = 0      # with a promise, at the end
    violations: list = dataclasses.field(default_factory=list)


def check(entries, told, places, stride):
    """Cuts the power after every entry."""
    result = Result()
    due = promises(told)
    result.promised = len(due)
    newest, promised = {}, {}  # place -> seq there now (None: no record); place -> seq that must be there, or a later one
    done = 0                   # flushes of `due` that the log has
    for at, entry in enumerate(entries):
        result.cuts += 1
        if isinstance(entry, Flush):
            result.flushes += 1
            # This is the oldest flush reported done that the log has not had, if all it covers is written; if not, it is
            # an earlier one executed again, or what was acknowledged was never written: the end of the log tells.
            if done < len(due) and all((newest.get(seq * stride % places) or 0) >= seq for seq in due[done]):
                for seq in due[done]:
                    place = seq * stride % places
                    promised[place] = max(promised.get(place, 0), seq)
                done += 1
            continue
        result.writes += 1
        newest[entry.place] = entry.seq
        if (entry.seq or 0) < promised.get(entry.place, 0):
            over = f"write {entry.seq}" if entry.seq else "no record"
            result.violations.append(f"entry {at}: place {entry.place}: write {promised[entry.place]} was flushed, {over} goes over it")
    result.places = len(promised)
    if done < len(due):
        result.violations.append(f"flush {done + 1} of {len(due)} was reported done; no flush in the log covers what was "
                                 "acknowledged before it")
    return result


def promises(told):
    """For each flush reported done, in order: the writes acknowledged before it was handed in, and not before an earlier."""
    since, handed_in, due = [], {}, []
    for t in told:
        if t.what == "ack":
            since.append(t.value)
        elif t.what == "flush":
            handed_in[t.value], since = since, []
        else:
            covered = [number for number in handed_in if number <= t.value]
            due.append([seq for number in covered for seq in handed_in.pop(number)])
    return due


class Run(campaign.Campaign):
    """A campaign whose disk keeps a log."""

    def run(self):
        self.o.write_log = True
        summary = super().run()
        log = self.folder / campaign.WRITE_LOG
        seed, places, stride, told = read_told(self.folder / "kernel.log")
        result = check(read_log(log, seed, places, stride), told, places, stride)
        if not result.violations:
            log.unlink()
        write(self.folder / "powercut.json", json.dumps(dataclasses.asdict(result), indent=2) + "\n")
        return summary, result


def result_text(result):
    yield (f"power cut after each of {result.cuts} entries of the disk's log ({result.writes} writes, {result.flushes} flushes): "
           f"{result.promised} flushes reported done, {result.places} places promised, {len(result.violations)} promises broken")
    yield from result.violations[:SHOWN]
