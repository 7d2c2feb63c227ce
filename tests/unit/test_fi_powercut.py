# SPDX-License-Identifier: BSD-2-Clause
"""Power cuts on paper: promises kept are found kept; lost, overwritten and never flushed writes are found."""
import json
import struct

import pytest

from faultinject import powercut, verify
from faultinject.powercut import Flush, Told, Write

PLACES, STRIDE, SEED = 64, 2654435761, 42


def write(seq):
    return Write(seq * STRIDE % PLACES, seq)


def acks(first, last):
    return [Told("ack", seq) for seq in range(first, last + 1)]


# 1..20 written and flushed as 1; 21..90 (some places again) and flushed as 2
TOLD = acks(1, 20) + [Told("flush", 1), Told("flushed", 1)] + acks(21, 90) + [Told("flush", 2), Told("flushed", 2)]
LOG = [write(n) for n in range(1, 21)] + [Flush()] + [write(n) for n in range(21, 91)] + [Flush()]


def check(log, told=TOLD):
    return powercut.check(iter(log), told, PLACES, STRIDE)


def test_promises_that_are_kept():
    result = check(LOG)
    assert result.violations == [] and (result.writes, result.flushes, result.promised, result.places) == (90, 2, 2, PLACES)
    assert result.cuts == len(LOG)


def test_more_may_be_written_and_flushed_than_was_promised():
    assert check(LOG[:10] + [Flush()] + LOG[10:] + [write(91), Flush(), write(92)]).violations == []


def test_a_write_executed_twice_before_the_next_of_its_place_is_no_loss():
    assert check(LOG[:21] + [write(7), write(12)] + LOG[21:]).violations == []


@pytest.mark.parametrize("at", [20, 91])
def test_a_flush_that_the_driver_kept_to_itself_is_found(at):
    assert "no flush in the log" in check(LOG[:at] + LOG[at + 1:]).violations[0]


def test_a_write_that_never_reached_the_disk_is_found():
    assert check(LOG[:5] + LOG[6:]).violations


def test_a_flush_before_what_it_covers_is_found():
    assert check(LOG[:19] + [Flush(), write(20)] + LOG[21:-1]).violations


def test_an_older_write_that_lands_late_is_found_with_its_place():
    late = next(n for n in range(1, 21) if any(m * STRIDE % PLACES == n * STRIDE % PLACES for m in range(n + 1, 91)))
    violations = check(LOG + [write(late)]).violations
    assert len(violations) == 1 and f"write {late} goes over it" in violations[0]


def test_nonsense_over_a_promised_record_is_found():
    assert "no record goes over it" in check(LOG + [Write(3, None)]).violations[0]


def test_a_flush_that_was_not_reported_done_promises_nothing_and_is_not_forgotten():
    told = acks(1, 20) + [Told("flush", 1)] + acks(21, 30) + [Told("flush", 2), Told("flushed", 2)]
    assert powercut.promises(told) == [list(range(1, 31))]


def test_the_log_as_qemu_writes_it(tmp_path):
    path = tmp_path / "writes.log"
    good = verify.make_record(5, 5 * STRIDE % PLACES, SEED)
    entry = lambda sector, sectors, flags: struct.pack("<QQQQ", sector, sectors, flags, 0).ljust(512, b"\0")  # noqa: E731
    path.write_bytes(struct.pack("<QQQI", powercut.MAGIC, 1, 3, 512).ljust(512, b"\0") +
                     entry(5 * STRIDE % PLACES * 8, 8, 0) + good + entry(0, 0, powercut.FLUSH) + entry(16, 8, 0) + b"x" * 4096)
    found = list(powercut.read_log(path, SEED, PLACES, STRIDE))
    assert found[0] == write(5) and isinstance(found[1], Flush) and found[2] == Write(2, None) and len(found) == 3
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(powercut.LogProblem):
        list(powercut.read_log(path, SEED, PLACES, STRIDE))


def test_what_the_workload_said(tmp_path):
    lines = [{"workload": {"start": True, "seed": SEED, "places": PLACES, "stride": STRIDE}}, {"ack": [[1, 2]]}, {"flush": 1},
             {"ack": [[3, 3]]}, {"flushed": 1}]
    (tmp_path / "kernel.log").write_text("".join(f"[9.1] {json.dumps(line)}\n" for line in lines) + '[9.1] {"ack":[[4')
    assert powercut.read_told(tmp_path / "kernel.log") == (SEED, PLACES, STRIDE, [
        Told("ack", 1), Told("ack", 2), Told("flush", 1), Told("ack", 3), Told("flushed", 1)])
