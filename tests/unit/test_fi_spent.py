# SPDX-License-Identifier: BSD-2-Clause
"""Where a trial's time went, from its trace."""
from faultinject import spent
from faultinject.trace import Entry


def event(ms, name, n=0, mark=None):
    return Entry(ms, name, 3, 1, 0, n, mark)


def trial(ms, n):
    return event(ms, "MARK", n, "TRIAL")


def test_each_step_ends_where_the_next_begins():
    entries = [trial(100, 1), event(110, "STRIKE"), event(150, "MARK", 1, "CLEANED"), event(151, "DEATH"),
               trial(160, 2), event(165, "STRIKE"), event(166, "DEATH"), event(170, "STRIKE"), event(180, "DEATH"),
               trial(200, 3), trial(225, 4)]
    first, second, third = spent.of(entries)
    assert first.ms(1000) == {"look": 10, "watch": 40, "rest": 10}
    assert second.ms(1000) == {"look": 5, "watch": 1, "rest": 34}
    assert third.ms(1000) == {"look": 25, "watch": 0, "rest": 0}  # nobody came there


def test_the_table_names_what_cost_most_first():
    entries = [trial(0, 1), event(10, "STRIKE"), event(5000, "DEATH"), trial(5010, 2), trial(5410, 3)]
    trials = {n: {"n": n, "service": "echo", "outcome": outcome, "fault": "kill", "cause": None, "why": "", "aim": ""}
              for n, outcome in ((1, "recovered"), (2, "not_activated"))}
    text = list(spent.table(spent.of(entries), trials, 1000))
    assert text[0] == "2 trials, 5.4 s, 2705 ms each"
    assert text[2].split()[:4] == ["echo", "recovered", "1", "5.0"]
    assert text[3].split()[:4] == ["echo", "not_activated", "1", "0.4"]
    assert any(line.startswith("trial 1: 5010 ms: look 10, watch 4990, rest 10") for line in text)
