# SPDX-License-Identifier: BSD-2-Clause
"""What is made of a finished run: it says what the run says, and refuses what it cannot read."""
import html.parser
import json
import pathlib
import xml.etree.ElementTree as ElementTree

import pytest

from faultinject import fi, judge, plan
from faultinject.reports import compare, exports, html as page, perfetto, run as runs
from tests.unit import test_fi_summary as made
from tests.unit.test_fi_trace import HZ

NAMES = ["supervisor", "recovery", "pci", "serial", "virtio_blk", "virtio_disk", "echo", "console", "injector", "workload"]
FACTS = {"schema_version": 1, "seed": 5, "kills": 3, "driver": "mix", "fault": "mix", "accel": "tcg", "qemu": "7.2", "smp": 1,
         "mem": "256M", "qemu_extra": "", "image_sha256": "00", "started": "2026-01-01T00:00:00+00:00", "seconds": 1.0,
         "complete": True, "verified": True, "trouble": None, "panic": None, "tsc_hz": HZ, "trace_entries": 9, "trace_lost": 0,
         "acknowledged": 10, "places_checked": 5, "workload": {"final": True}, "rest_before": None, "rest_after": None,
         "disk": None, "outside": {}, "services": NAMES, "bad_lines": []}


def line(n, **changes):
    return judge.record(made.evidence(), f"faultinject/fi replay x:{n}") | {"n": n} | changes


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "run", [line(1), line(2, outcome="degraded", why="<b>not back</b>"), line(3, recovery_us=9000.0)])


def write(folder, lines, **facts):
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(FACTS | facts))
    (folder / "trials.jsonl").write_text("".join(json.dumps(t) + "\n" for t in lines))
    (folder / "kernel.log").write_text('boot\n{"trial":{"n":1}}\nthe driver is silent\n{"trial":{"n":2}}\n')
    return folder


class Page(html.parser.HTMLParser):
    """All words of a page, its ids, and everything it would load."""

    def __init__(self, text):
        super().__init__()
        self.words, self.ids, self.links, self.loads = "", set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids.add(values.get("id"))
        if tag == "a":
            self.links.append(values["href"])
        if tag in ("script", "link", "img", "iframe") or values.get("src"):
            self.loads.append(tag)

    def handle_data(self, data):
        self.words += data


def test_the_page_says_what_happened_and_loads_nothing(folder):
    text = page.render(runs.load(folder))
    seen = Page(text)
    assert "66.67% recovered" in seen.words and "2 of 3 activated" in seen.words
    assert "Trial 2: virtio_blk, kill: degraded: <b>not back</b>" in seen.words  # escaped in the source
    assert "the driver is silent" in seen.words and "faultinject/fi replay x:2" in seen.words
    assert seen.loads == [] and text.count("url(") == text.count("url(#") and "@import" not in text
    assert all(link.startswith("#") and link[1:] in seen.ids for link in seen.links)
    assert "currentColor" in text and "prefers-color-scheme: dark" in text


def test_what_was_never_struck_is_a_hole(folder):
    view = page.model(runs.load(folder))
    assert ("virtio_blk", "kill") not in view["coverage"]["missed"] and ("virtio_blk", "loop") in view["coverage"]["missed"]
    assert any("loop on virtio_blk" in text for text in view["not_measured"])


def test_an_empty_run_has_a_page(tmp_path):
    empty = write(tmp_path / "run", [], complete=False, trouble="interrupted")
    assert "ended early: interrupted" in Page(page.render(runs.load(empty))).words


def test_junit_counts(folder):
    suite = ElementTree.fromstring(exports.junit(runs.load(folder))).find("testsuite")
    failed = [c.get("name") for c in suite.iter("testcase") if c.find("failure") is not None]
    assert "trial-2" in failed and "trial-1" not in failed and "all_recovered" in failed
    assert int(suite.get("failures")) == len(failed) and int(suite.get("tests")) == len(list(suite.iter("testcase")))
    assert "replay: faultinject/fi replay x:2" in next(suite.iter("failure")).text


def test_prometheus_text_parses_and_agrees(folder):
    from prometheus_client.parser import text_string_to_metric_families
    families = {f.name: f for f in text_string_to_metric_families(exports.prometheus(runs.load(folder)).decode())}
    outcomes = {s.labels["outcome"]: s.value for s in families["coppice_trials"].samples if s.name.endswith("_total")}
    assert outcomes == {"recovered": 2, "degraded": 1}
    assert [s.value for s in families["coppice_recovery_seconds"].samples if s.name.endswith("_count")] == [2]
    assert families["coppice_targets_met"].samples[0].value == 0


def test_hgrm_is_monotonic_and_ends_with_the_longest():
    values = [float(us) for us in range(1, 2001)]
    rows = [text.split() for text in exports.hgrm(values).splitlines()[2:] if not text.startswith("#")]
    for column in (0, 1, 2):
        numbers = [float(row[column]) for row in rows]
        assert numbers == sorted(numbers)
    assert float(rows[-1][0]) == 2.0 and rows[-1][2] == "2000"
    median = next(row for row in rows if float(row[1]) == 0.5)
    assert float(median[0]) == 1.0
    assert "Total count    =            0" in exports.hgrm([])


@pytest.fixture
def traced(folder):
    from faultinject import trace
    from tests.unit.test_fi_trace import EVENT, MARK, recovery_entries
    raw = b"".join(trace.ENTRY.pack(e.tsc, EVENT[e.event], 0, e.generation << 12 | e.service,
                                    MARK[e.mark] if e.mark else e.a, e.b) for e in recovery_entries())
    (folder / "trace.bin").write_bytes(raw)
    lines = [json.loads(text) for text in (folder / "trials.jsonl").read_text().splitlines()]
    lines[1]["n"] = 17
    (folder / "trials.jsonl").write_text("".join(json.dumps(t) + "\n" for t in lines))
    return folder


def test_a_trace_nests_and_its_arrow_runs_forward(traced):
    events = json.loads(perfetto.trial(runs.load(traced), 17))["traceEvents"]
    whole = next(e for e in events if e["name"] == "recovery of virtio_blk" and e["ph"] == "X")
    parts = [e for e in events if e["ph"] == "X" and e is not whole]
    assert [e["name"] for e in parts] == ["detect", "fence", "decide", "spawn", "restore", "reset", "replay", "first_completion"]
    assert all(whole["ts"] <= e["ts"] and e["ts"] + e["dur"] <= whole["ts"] + whole["dur"] + 1e-6 for e in parts)
    flow = [e for e in events if e["ph"] in "stf"]
    assert [e["args"]["step"] for e in flow] == ["fault", "detect", "restart", "replay"]
    assert [e["ts"] for e in flow] == sorted(e["ts"] for e in flow) and flow[0]["ph"] == "s" and flow[-1]["ph"] == "f"
    assert {e["args"]["name"] for e in events if e["ph"] == "M"} == set(NAMES)


def test_a_trial_without_trace_is_refused(folder, capsys):
    assert fi.main(["trace", str(folder), "2"]) == fi.USAGE
    assert "holds no trace of trial 2" in capsys.readouterr().err


def test_report_writes_all_files(traced):
    assert fi.main(["report", str(traced)]) == fi.MET
    for name in ("report.html", "junit.xml", "metrics.prom", "recovery.hgrm", "trial-17.trace.json"):
        assert (traced / name).stat().st_size > 0
    assert not list(pathlib.Path(traced).glob("*.new"))


@pytest.mark.parametrize("name,text,words", [("trials.jsonl", '{"n": 1}\n{"n":', "trials.jsonl:2"), ("run.json", "{", "run.json")])
def test_a_broken_run_is_named(folder, capsys, name, text, words):
    (folder / name).write_text(text)
    assert fi.main(["report", str(folder)]) == fi.USAGE
    assert words in capsys.readouterr().err


def slow(tmp_path, name, factor):
    return write(tmp_path / name, [line(n, recovery_us=1000.0 * factor + n) for n in range(1, 101)])


def test_compare_finds_the_slower_run(tmp_path, capsys):
    a, b = slow(tmp_path, "a", 1), slow(tmp_path, "b", 1.5)
    assert fi.main(["compare", str(a), str(b)]) == fi.MET
    assert fi.main(["compare", str(a), str(b), "--fail-if", "p99+20%"]) == fi.MISSED
    assert "worse: p99+20%" in capsys.readouterr().out
    assert fi.main(["compare", str(b), str(a), "--fail-if", "p99+20%", "--fail-if", "recovered-0.1%"]) == fi.MET
    interval = compare.compare(runs.load(a), runs.load(b))[0].interval
    assert 1.3 < interval[0] <= interval[1] < 1.6


def test_compare_counts_loss_as_worse_than_none(tmp_path):
    a, b = slow(tmp_path, "a", 1), write(tmp_path / "b", [line(1, lost=1)])
    rows = compare.compare(runs.load(a), runs.load(b))
    assert compare.holds(compare.parse_condition("lost+0%"), rows)
    gone = write(tmp_path / "c", [line(1, outcome="degraded")])
    assert compare.holds(compare.parse_condition("p50+10%"), compare.compare(runs.load(a), runs.load(gone)))


@pytest.mark.parametrize("text", ["p99", "p98+10%", "p99+x%", "p99*2%", ""])
def test_a_condition_that_is_none(text):
    with pytest.raises(plan.UsageProblem, match="not understood"):
        compare.parse_condition(text)


def test_a_curve_of_a_million_has_both_ends_and_its_tail_and_few_steps():
    from faultinject.reports import charts
    n = 1_000_000
    ranks = list(charts.steps(n))
    assert len(ranks) <= charts.STEPS_MAX and ranks == sorted(set(ranks))
    assert ranks[0] == 0 and ranks[-1] == n - 1
    assert sum(r >= n * 999 // 1000 for r in ranks) > 100, "of the slowest thousandth"
    assert list(charts.steps(7)) == list(range(7))


def test_a_chart_of_many_points_stays_small():
    from faultinject.reports import charts
    assert len(charts.ageing([(n, 1000.0 + n % 97) for n in range(50_000)], [])) < 1 << 20
