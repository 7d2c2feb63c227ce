# SPDX-License-Identifier: BSD-2-Clause
"""A campaign on a Dask cluster of two workers, one of which is killed midway; and one interrupted and resumed."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests.system.conftest import BUILD, ROOT  # puts ROOT on the path
from faultinject import fi

BATCH, KILLS = 8, 40
LONG = 160  # some of it is left when the first batch is told of
SECONDS = 300
IMAGE = BUILD / "image/chaos"


def distributed(program, *words):
    return subprocess.Popen([sys.executable, "-m", f"distributed.cli.{program}", *words], cwd=ROOT, stdout=subprocess.DEVNULL,
                            stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": str(ROOT)})


@pytest.fixture
def dask(tmp_path):
    """(address, [worker processes])"""
    where = tmp_path / "scheduler.json"
    processes = [distributed("dask_scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(where))]
    try:
        deadline = time.monotonic() + SECONDS
        while not (where.exists() and where.read_text()):
            assert processes[0].poll() is None and time.monotonic() < deadline, "the scheduler did not start"
            time.sleep(0.05)
        address = json.loads(where.read_text())["address"]
        workers = [distributed("dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
                               "--local-directory", str(tmp_path / f"worker{i}")) for i in range(2)]
        processes += workers
        yield address, workers
    finally:
        for process in processes:
            process.kill()
            process.wait()


def campaign(out, *words, kills=KILLS):
    return subprocess.Popen([sys.executable, str(ROOT / "faultinject/fi.py"), "run", "--fault", "kill", "--kills", str(kills),
                             "--batch", str(BATCH), "--image", str(IMAGE), "--out", str(out), *words],
                            cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)


def until_a_batch(process):
    for line in process.stdout:
        if line.startswith("batch "):
            return
    pytest.fail("the campaign ended before its first batch")


def trials(folder):
    return [json.loads(line)["n"] for line in (folder / "latest/trials.jsonl").read_text().splitlines()]


def test_a_worker_killed_midway_costs_no_trial(dask, tmp_path):
    address, workers = dask
    run = campaign(tmp_path / "out", "--dask", address)
    until_a_batch(run)
    workers[0].kill()
    text = run.communicate(timeout=SECONDS)[0]
    assert run.returncode in (fi.MET, fi.MISSED), text  # what the guest makes of a busy host is not the question here
    assert trials(tmp_path / "out") == list(range(1, KILLS + 1))


def test_ctrl_c_and_resume(tmp_path):
    run = campaign(tmp_path / "out", "-j", "2", kills=LONG)
    until_a_batch(run)
    os.killpg(run.pid, signal.SIGINT)
    run.communicate(timeout=SECONDS)
    assert run.returncode == fi.HARNESS
    early = trials(tmp_path / "out")
    assert early and len(early) == len(set(early))
    folder = pathlib.Path(os.path.realpath(tmp_path / "out/latest"))
    again = subprocess.run([sys.executable, str(ROOT / "faultinject/fi.py"), "run", "--resume", str(folder), "-j", "2",
                            "--image", str(IMAGE)], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert again.returncode in (fi.MET, fi.MISSED), again.stdout + again.stderr
    assert f"{len(early)} trials are there already" in again.stdout
    assert trials(tmp_path / "out") == list(range(1, LONG + 1))


def test_no_scheduler_is_said(tmp_path):
    run = campaign(tmp_path / "out", "--dask", "tcp://127.0.0.1:1")
    run.communicate(timeout=SECONDS)
    assert run.returncode == fi.ENVIRONMENT
