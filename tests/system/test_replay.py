# SPDX-License-Identifier: BSD-2-Clause
"""A failing trial is run again, shrunk, and held for gdb. What fails is planted: a build that replays no request."""
import json
import re
import subprocess

import pytest

from tests.system.conftest import ROOT  # puts ROOT on the path
from faultinject import gdbstub, judge


@pytest.fixture(scope="module")
def campaign(noreplay, tmp_path_factory):
    """(run folder, its trials)"""
    out = tmp_path_factory.mktemp("planted")
    done = subprocess.run([ROOT / "faultinject/fi", "run", "--seed", "1", "--kills", "3", "--fault", "kill", "--driver", "virtio_blk",
                           "--image", noreplay / "image/chaos", "--out", out], capture_output=True, text=True, timeout=200)
    assert done.returncode == 1, done.stdout + done.stderr
    folder = (out / "latest").resolve()
    return folder, [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


def test_a_failing_trial_is_shrunk_and_replayed(fi, campaign):
    folder, trials = campaign
    bad = next(t for t in trials if t["outcome"] not in judge.GOOD)
    assert f"fi replay {folder}:{bad['n']}" in bad["replay"]
    done = fi("minimise", f"{folder}:{bad['n']}", "--runs", 6)
    assert done.code == 0 and "smallest failing schedule" in done.text, done.text
    line = next(text for text in done.text.splitlines() if text.startswith("replay: "))
    small = [json.loads(text) for text in (folder.parent / f"{folder.name}-minimal-{bad['n']}/plan.jsonl").read_text().splitlines()]
    assert len(small) == 1 and small[0]["delay_us"] <= bad["delay_us"], small
    again = fi(*line.split()[2:-1], 2)
    hits = int(re.search(r"(\d) of 2 replays reproduced", again.text)[1])
    seen = [text.split(": ")[1].split()[0] for text in again.text.splitlines() if text.startswith("replay ")]
    assert hits == sum(outcome not in judge.GOOD for outcome in seen) and again.code == (0 if hits else 1), again.text


def test_what_did_not_fail_is_not_shrunk(fi, campaign):
    folder, trials = campaign
    lines = (folder / "trials.jsonl").read_text()
    (folder / "trials.jsonl").write_text("".join(json.dumps(t | {"outcome": "recovered"}) + "\n" for t in trials))
    done = fi("minimise", f"{folder}:{trials[0]['n']}")
    (folder / "trials.jsonl").write_text(lines)
    assert done.code == 2 and "only a trial that failed" in done.text, done.text


def test_another_image_is_no_replay(fi, campaign):
    """With the working build, asked for by name, the planted failure is gone; unasked it is refused."""
    folder, trials = campaign
    bad = next(t["n"] for t in trials if t["outcome"] not in judge.GOOD)
    done = fi("replay", f"{folder}:{bad}", "--image", ROOT / "build/image/chaos")
    assert done.code == 1 and "0 of 1 replays" in done.text, done.text
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(facts | {"image_sha256": "0"}))
    refused = fi("replay", f"{folder}:{bad}")
    (folder / "run.json").write_text(json.dumps(facts))
    assert refused.code == 2 and "built anew" in refused.text, refused.text


def test_gdb_finds_the_machine_standing_still(campaign):
    folder, _ = campaign
    port = gdbstub.free_port()
    process = subprocess.Popen([ROOT / "faultinject/fi", "replay", f"{folder}:1", "--gdb", str(port)], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "stands still" in line:
            break
    with gdbstub.Stub(port) as stub:
        assert len(stub.ask("g")) > 16 * 16  # the registers: the machine is there, and stands still
    text = process.communicate(timeout=60)[0]
    assert "replay 1 of 1: " in text and process.returncode in (0, 1), text
