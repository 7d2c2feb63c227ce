# SPDX-License-Identifier: BSD-2-Clause
"""A store without checkpoint code survives bits that turn in its memory: no wrong answer. And the client that judges
finds wrong answers when the store does not look at itself. The long run is `make corrupt FLIPS=10000`."""
from conftest import BUILD
from faultinject.corrupt import Corrupt


def test_no_wrong_answer_and_the_judge_can_see_one(tmp_path):
    with Corrupt(tmp_path, BUILD) as run:
        run.run(200, seed=1)
        figures = run.figures()
        assert not run.problems
        assert figures["flips"] > 150 and figures["rollbacks"] > 10 and figures["wrong"] == 0
        assert all(figures["by_area"].values()), "an area was never reached"

        run.plant()
        run.run(2000, seed=2)
    assert any("wrong answer" in p for p in run.problems), run.problems
