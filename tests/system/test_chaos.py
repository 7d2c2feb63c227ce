# SPDX-License-Identifier: BSD-2-Clause
"""Campaigns as a user runs them: a small one passes, one without replay does not, wrong words are refused."""
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.system.conftest import BUILD, ROOT  # puts ROOT on the path
from faultinject import campaign, verify


def test_a_small_campaign_meets_its_targets(fi):
    done = fi("run", "--seed", 1, "--kills", 20)
    assert done.code == 0, done.text
    s = done.summary()
    assert s["activated"] >= 18 and s["in_flight"]["share"] > 0.5
    assert s["phases_us"]["first_completion"]["n"] > 0 and s["writes_acknowledged"] > 1000


@pytest.mark.parametrize("fault", ["kill", "exception", "loop", "block", "garbage", "double", "all"])
def test_every_fault(fi, fault):
    done = fi("run", "--seed", 2, "--kills", 10, "--fault", fault)
    assert done.code == 0, done.text


def test_without_replay_it_fails(fi, noreplay):
    """The check can fail: recovery's replay is left out of the build, and the campaign must notice."""
    done = fi("run", "--seed", 1, "--kills", 10, "--fault", "kill", "--driver", "virtio_blk", build=noreplay)
    assert done.code == 1, done.text
    assert done.summary()["outcomes"]["recovered"] < 10


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_disk_of_your_own(fi, tmp_path, form):
    image = tmp_path / "mine.img"
    image.write_bytes(b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(1 << 19)))  # 16 MiB: read while drivers die
    if form == "qcow2":
        raw, image = image, tmp_path / "mine.qcow2"
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, image], check=True)
    before = image.read_bytes()
    done = fi("run", "--seed", 1, "--kills", 5, "--driver", "virtio_disk", "--fault", "kill", "--disk", image)
    assert done.code == 0, done.text
    assert done.summary()["disk"]["equal"] and done.summary()["disk"]["untouched"], done.text
    assert image.read_bytes() == before


def processes_with(path):
    """Command lines that name the path, from /proc: a bare system has no pgrep."""
    found = []
    for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(path) in line:
            found.append(line)
    return found


def campaign_at_trial(out, n):
    """A long campaign, running, that has reported trial n."""
    process = subprocess.Popen([str(ROOT / "faultinject/fi"), "run", "--kills", "1000", "--out", str(out), "--image",
                                str(BUILD / "image/chaos")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.lstrip().startswith(f"{n} "):
            break
    assert process.poll() is None and processes_with(out)
    return process


def await_no_process(out):
    deadline = time.monotonic() + 5
    while processes_with(out) and time.monotonic() < deadline:
        time.sleep(0.1)  # the kernel reaps a killed process a little later
    assert not processes_with(out), "QEMU is still there"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_writes_what_there_is(tmp_path, number):
    out = tmp_path / "chaos"
    process = campaign_at_trial(out, 3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 4 and "interrupted" in errors
    assert len((out / "latest/trials.jsonl").read_text().splitlines()) >= 3
    assert json.loads((out / "latest/summary.json").read_text())["trouble"] == "interrupted"
    await_no_process(out)


def test_killed_it_leaves_no_machine(tmp_path):
    out = tmp_path / "chaos"
    process = campaign_at_trial(out, 1)
    process.kill()
    process.communicate(timeout=60)
    await_no_process(out)


def test_the_check_of_a_real_disk_can_fail(fi):
    """One acknowledged record of a good run is put back to what was there before: it must be missed."""
    folder = (fi("run", "--seed", 4, "--kills", 3, "--fault", "kill").out / "latest").resolve()
    good = fi("verify", folder)
    assert good.code == 0 and " 0 lost" in good.text, good.text
    acks = campaign.load_acks(folder)
    place, (seq, _) = max(acks.last.items(), key=lambda item: item[1])
    with open(folder / "data.img", "r+b") as image:
        image.seek(place * verify.RECORD_BYTES)
        older = seq - acks.places
        image.write(verify.make_record(older, place, acks.seed) if older > 0 else bytes(verify.RECORD_BYTES))
    bad = fi("verify", folder)
    assert bad.code == 1 and " 1 lost" in bad.text and f"place {place}: write {seq} was acknowledged" in bad.text, bad.text


@pytest.mark.parametrize("words,allowed", [
    (["run", "--fault", "avalanche"], "garbage"),
    (["run", "--driver", "floppy"], "virtio_blk"),
    (["run", "--driver", "echo", "--fault", "garbage"], "loop"),
    (["run", "--kills", "0"], "1 to"),
    (["run", "--seed", "x"], "not a number"),
    (["run", "--sed", "1"], "--seed"),
    (["replay", "third"], "DIR:N"),
    (["replay", "nowhere:3"], "run.json"),
    (["replay"], "TRIAL"),
    (["run", "--qemu-extra", "-name 'x"], "QEMU_EXTRA"),
    (["dance"], "run"),
])
def test_usage_is_refused_with_what_is_allowed(fi, words, allowed):
    done = fi(*words)
    assert done.code == 2 and allowed in done.text, done.text


def test_a_missing_boot_disk_is_an_environment_problem(fi, tmp_path):
    done = fi("run", build=tmp_path)
    assert done.code == 3 and "make image" in done.text


def test_a_missing_qemu_is_an_environment_problem(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "faultinject/fi.py", "run", "--image", str(BUILD / "image/chaos")], capture_output=True,
                          text=True, env={"PATH": str(tmp_path)}, timeout=60)
    assert done.returncode == 3 and "qemu-system-x86_64 is missing: run `make deps`" in done.stderr, done.stderr


def test_an_empty_disk_is_refused(fi, tmp_path):
    image = tmp_path / "empty.img"
    image.touch()
    done = fi("run", "--disk", image)
    assert done.code == 2 and str(image) in done.text and "empty" in done.text, done.text
