# SPDX-License-Identifier: BSD-2-Clause
"""Warm spares in the guest: the block driver of system/warm.toml is killed under load, and what the kernel's trace says
of each recovery is judged: between the death and the moment that the service serves again no process is made; the next
spare is built later, even if the device takes longer than that for the first completion."""
import pytest

from bench import bench
from conftest import BUILD

KILLS = 120  # bench/guest/main.c


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    windows = []
    judge = bench.recovery

    def keep(window):
        windows.append(window)
        return judge(window)

    bench.recovery = keep
    try:
        _, said, recovered = bench.measure(tmp_path_factory.mktemp("spare"), BUILD, counted=False, system="warm")
    finally:
        bench.recovery = judge
    return said, recovered, windows


def test_every_death_is_taken_over_by_a_spare(run):
    said, recovered, windows = run
    assert len(recovered) == KILLS and said["violations"] == 0
    for window in windows:
        death = next(e for e in window if e.event == "DEATH")
        serves = next(e for e in window if e.mark == "READY" and e.b == death.service)
        after = [e for e in window if death.tsc < e.tsc <= serves.tsc]
        assert not [e for e in after if e.event in ("PROCESS_CREATE", "PROCESS_START")], "a process was made"
        taken = [e for e in after if e.mark == "TAKEN"]
        assert [e.b for e in taken] == [death.service]
        restored = next(e for e in after if e.mark == "RESTORED")
        assert restored.generation > death.generation and restored.tsc > taken[0].tsc
    assert all(r.warm for r in recovered)


def test_a_spare_has_a_name_of_its_own(run):
    generations = [next(e.generation for e in w if e.mark == "RESTORED") for w in run[2]]
    assert generations == sorted(set(generations))
