# SPDX-License-Identifier: BSD-2-Clause
"""Live update: a driver becomes another version of itself under load, a version that fails is rolled back by itself, and
what `svc` says about it. The long run is `make update`."""
import pytest

from bench import update
from conftest import BUILD, boot

UPDATES = 30


def test_updates_under_load(tmp_path):
    said, pauses = update.run(tmp_path, BUILD, UPDATES)
    assert update.wrong(said) == []
    assert sum(u["rolled_back"] for u in said) == UPDATES // 10
    assert len(pauses["UPDATED"]) == UPDATES, "each update stopped the old version once"
    assert len(pauses["INVALID_OPCODE"]) == UPDATES // 10
    assert said[-1]["verified"] > 1000


@pytest.fixture(scope="module")
def updated(tmp_path_factory):
    machine = boot(tmp_path_factory.mktemp("update"), image="update")
    yield machine
    machine.guest.stop()


def program(console):
    lines = console.run("svc").splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("virtio_blk "))
    return lines[at + 1].strip() if lines[at + 1].startswith(" ") else ""


def test_what_cannot_be_is_refused(updated):
    assert "no such program" in updated.run("svc update virtio_blk virtio_blk_v9")
    assert "no such service" in updated.run("svc update nobody virtio_blk_v2")
    assert program(updated) == ""


def test_an_update_is_on_probation_first(updated):
    at = len(updated.log())
    updated.run("svc update virtio_blk virtio_blk_v2")
    updated.await_log("virtio_blk is virtio_blk_v2 now, on probation", after=at)
    updated.await_service("virtio_blk", lambda row: row["state"] == "running" and "made room" in row["rest"])


def test_a_version_that_crashes_is_rolled_back_and_svc_says_so(updated):
    at = len(updated.log())
    updated.run("svc update virtio_blk virtio_blk_v3")
    updated.await_log("the update of virtio_blk did not hold: it is virtio_blk, as before", after=at)
    updated.await_service("virtio_blk", lambda row: row["state"] == "running" and "#UD" in row["rest"])
    assert program(updated) == "is virtio_blk: previous version, the last update did not hold"


def test_what_is_no_program_changes_nothing(updated):
    at, before = len(updated.log()), updated.service("virtio_blk")["gen"]
    updated.run("svc update virtio_blk manifest.bin")
    updated.await_log("the update of virtio_blk did not hold", after=at)
    assert updated.service("virtio_blk")["gen"] == before
