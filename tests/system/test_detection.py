# SPDX-License-Identifier: BSD-2-Clause
"""Faults that only their own detection finds, and how long that takes: an interrupt that never comes, a leak. By its growth a
service is found in tests/system/test_ladder.py too."""
import json


def found(fi, *words):
    """(campaign, how often each cause was the end of what was struck)"""
    done = fi("run", "--seed", 1, *words)
    by_cause = done.summary()["by_cause"]
    assert all(row["detect_us"]["n"] == row["deaths"] for row in by_cause.values()), "each death has its latency"
    bad = [json.loads(line) for line in (done.out / "latest/trials.jsonl").read_text().splitlines()]
    assert all(t["outcome"] in ("recovered", "masked", "not_activated") for t in bad), done.text
    assert "found by" in done.text
    return done, {cause: row["deaths"] for cause, row in by_cause.items()}


def test_an_interrupt_that_never_comes_is_found(fi):
    done, causes = found(fi, "--driver", "virtio_blk", "--fault", "deaf", "--kills", 4)
    assert causes.get("LOST_IRQ", 0) >= 2 and set(causes) == {"LOST_IRQ"}, done.text


def test_who_takes_all_memory_and_keeps_it_is_found(fi):
    done, causes = found(fi, "--driver", "echo", "--fault", "hoard", "--kills", 2)
    assert causes == {"QUOTA_GROWTH": 2}, done.text
