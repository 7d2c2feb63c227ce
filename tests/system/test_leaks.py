# SPDX-License-Identifier: BSD-2-Clause
"""Everything is counted after each kill and nothing is left over; the long run is `make leaks KILLS=100000`. Then two
leaks are made on purpose in the same machine: one that only the kernel's records show, and one that the guest's counts
show."""
from conftest import BUILD
from faultinject.leaks import Leaks


def test_after_each_kill_everything_is_as_before_and_a_leak_is_found(tmp_path):
    with Leaks(tmp_path, BUILD) as run:
        run.run(300, seed=1, batch=150)
        figures = run.figures()
        assert not run.problems
        assert figures["kills"] == 300 <= figures["deaths"] and len(run.recovered) == 300
        assert len(figures["recovery"]["middle_ns"]) == 6, "somebody was never killed"

        run.plant("domain")
        run.run(500, seed=2, batch=50)
        assert [p.split(":")[1].strip().rsplit(" ", 3)[0] for p in run.problems] == ["IOMMU domains"], run.problems

        run.problems.clear()
        run.plant("session")
        run.run(1000, seed=3, batch=50)
    assert "handles" in run.problems[0] and "seen from outside" not in run.problems[0], run.problems
