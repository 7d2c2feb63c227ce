# SPDX-License-Identifier: BSD-2-Clause
"""Several CPUs: processes end and memory is taken away on all of them, and a campaign holds there. The long run is
`make stress SMP=4 KILLS=10000`."""
from conftest import BUILD
from faultinject.stress import Stress


def test_what_ends_or_is_taken_away_is_gone_on_every_cpu(tmp_path):
    with Stress(tmp_path, BUILD, 4) as run:
        run.run(300)
        figures = run.figures()
    assert not run.problems
    assert len(run.counts) > 1 and figures["lock"]["held"]["n"] > 1000


def test_without_the_shootdown_it_is_noticed(tmp_path):
    with Stress(tmp_path, BUILD, 4, shootdown=False) as run:
        run.run(2000)
    assert any(", round " in p for p in run.problems), "a victim saw it: memory written after it was taken away, or so"


def test_a_campaign_on_four_cpus(fi):
    done = fi("run", "--seed", 3, "--kills", 10, "--smp", 4)
    assert done.code == 0, done.text
    assert "kernel lock:" in done.text and done.summary()["lock"]["held"]["n"] > 1000
