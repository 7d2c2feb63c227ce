# SPDX-License-Identifier: BSD-2-Clause
"""Faults that QEMU does, and power cuts, in a real machine. make hardware runs them all."""
import json


def test_faults_of_disk_interrupts_and_machine_end_as_they_must(fi):
    """irq_spurious sends the spurious vector too: without its end of interrupt the machine stood still for ever."""
    done = fi("hardware", "io_error_write", "disk_lies", "self_reset", "irq_spurious", "unplug", "mce_fatal")
    assert done.code == 0 and "6 faults, 6 activated, 6 ended as they must" in done.text, done.text
    lines = [json.loads(line) for line in (done.out / "hardware/results.jsonl").read_text().splitlines()]
    assert "exception 18" in lines[-1]["panic"] and lines[0]["io_errors"] > 0 and lines[1]["mismatches"] > 0


def test_power_may_be_cut_after_any_write(fi):
    done = fi("powercut", "--kills", 6, "--fault", "kill", "--driver", "virtio_blk")
    assert done.code == 0 and " 0 promises broken" in done.text, done.text
    cuts = json.loads((done.out / "powercut/latest/powercut.json").read_text())
    assert cuts["promised"] > 0 and cuts["writes"] > 100 and cuts["places"] > 0


def test_unknown_names_are_refused(fi):
    done = fi("hardware", "earthquake")
    assert done.code == 2 and "nmi" in done.text, done.text
