# SPDX-License-Identifier: BSD-2-Clause
"""Comparing with a peer: how ratios and spreads come about, what the Linux guest says, its initramfs."""
import json
import subprocess

import pytest

from bench import bench, compare, peers
from bench.linux import image

# Lines of real runs (linux-image-6.1.0-56-amd64), shortened: one with time, one counting instructions.
TIMED = """\
{"bench":{"begin":true,"tsc_hz":2595629099,"instructions":false}}
{"bench":{"boot_ticks":19138889380,"boot_kernel_ns":2500000000}}
{"bench":{"memory":{"ram_kib":255540,"total_kib":202640,"free_kib":175660,"available_kib":179556}}}
{"bench":{"name":"read4k_qd1_busy","n":12,"each":1000,"min":470976896,"p50":589948268,"p90":711029150,"p99":715134030,"max":729794182}}
{"bench":{"name":"read4k_qd1_elapsed","n":12,"each":1000,"min":470976896,"p50":589948268,"p90":711029150,"p99":715134030,"max":729794182}}
{"bench":{"name":"uio_elapsed","n":120,"each":1,"min":10772970,"p50":12017876,"p90":13947232,"p99":17803786,"max":29343496}}
{"bench":{"uio_kills":120,"in_flight":120,"reads":102589}}
{"bench":{"end":true}}
"""
COUNTED = """\
{"bench":{"begin":true,"tsc_hz":999998724,"instructions":true}}
{"bench":{"name":"null_syscall","n":1000,"each":1,"min":381,"p50":381,"p90":381,"p99":381,"max":381}}
{"bench":{"name":"read4k_qd1_busy","n":12,"each":1000,"min":19006710,"p50":19034045,"p90":19045735,"p99":19053060,"max":19129020}}
{"bench":{"name":"read4k_qd1_elapsed","n":12,"each":1000,"min":69721765,"p50":80591520,"p90":100150070,"p99":111119590,"max":136484960}}
{"bench":{"end":true}}
"""


class Log:
    """What a guest said, as channel.LogReader hands it out."""

    def __init__(self, text):
        self.lines = iter(text.splitlines())

    def wait(self, key, _seconds):
        return next(e[key] for e in map(json.loads, self.lines) if key in e)


def figure(value, p99=None):
    return bench.Figure(value, 10, value, value, p99)


def pairs_of(*values, name="x", theirs="y"):
    return [{"coppice": {name: figure(a)}, "linux": {theirs: figure(b)}} for a, b in values]


def test_what_linux_says_in_time():
    figures = peers.linux_figures_timed(*bench.suites_run(None, Log(TIMED), False))
    assert figures["read4k_qd1_iops"].value == pytest.approx(2595629099 / 589948.268)
    assert figures["uio_us"].value == pytest.approx(4630.04, abs=0.01)
    assert figures["uio_us"].p99 == pytest.approx(6859.14, abs=0.01)
    assert figures["boot_read_us"].value == pytest.approx(7373507, abs=1)
    assert figures["boot_kernel_us"].value == 2500000
    assert figures["idle_memory_kib"].value == 255540 - 179556
    assert figures["idle_memory_total_kib"].value == 202640 - 179556
    assert "read4k_qd1_us" not in figures


def test_what_linux_says_counting():
    samples, _ = bench.suites_run(None, Log(COUNTED), True)
    figures = peers.linux_figures_counted(samples)
    assert {name: f.value for name, f in figures.items()} == {"null_syscall": 381, "read4k_qd1_insn": 19034.045}


def test_ticks_of_the_wrong_kind_are_refused():
    with pytest.raises(bench.BenchProblem, match="instruction"):
        bench.suites_run(None, Log(TIMED), True)


def test_an_error_of_the_guest_is_passed_on():
    text = '{"bench":{"begin":true,"tsc_hz":1,"instructions":true}}\n{"bench":{"error":"io_uring: No such device"}}'
    with pytest.raises(bench.BenchProblem, match="io_uring: No such device"):
        bench.suites_run(None, Log(text), True)


def test_the_ratio_is_that_of_pairs_and_not_of_medians():
    c = compare.Comparison("x", "us", "y", "the peer")
    row = compare.row(c, pairs_of((1, 10), (100, 20), (3, 30)))
    assert (row["value"], row["peer_value"]) == (3, 20)
    assert row["ratio"] == 0.1 and row["n"] == 3
    assert row["spread"] == [0.1, 5.0] and row["spread_of"] == "ratio"
    assert row["value_spread"] == [1, 100] and row["peer_spread"] == [10, 30]


def test_percentiles_are_compared_with_percentiles():
    c = compare.Comparison("x", "us", "y", "the peer", p99=True)
    pair = {"coppice": {"x": figure(1, p99=30)}, "linux": {"y": figure(1000, p99=60)}}
    row = compare.row(c, [pair])
    assert (row["name"], row["value"], row["peer_value"], row["ratio"]) == ("x_p99", 30, 60, 0.5)
    assert compare.row(c, pairs_of((1, 2))) is None  # too few samples for a percentile


def test_what_a_pair_lacks_is_named():
    c = [compare.Comparison("x", "us", "y", "A"), compare.Comparison("x", "us", "z", "B")]
    rows, short = compare.rows(c, pairs_of((1, 2), (1, 4)) + [{"coppice": {"x": figure(1)}, "linux": {}}])
    assert [(r["peer"], r["n"], r["ratio"]) for r in rows] == [("A", 2, 0.375)]
    assert short == ["x (A)", "x (B)"]


def test_the_third_system_goes_with_the_iommu(tmp_path, monkeypatch):
    monkeypatch.setenv("IOMMU", "0")
    assert peers.systems_of(tmp_path) == ["linux"]
    monkeypatch.setenv("IOMMU", "1")
    assert peers.systems_of(tmp_path) == ["linux", "linux-noiommu"]


@pytest.mark.parametrize("iommu", [False, True])
def test_comparisons_are_of_figures_that_exist(iommu):
    """One that names a figure which nobody measures would be missing in every run."""
    compared = compare.comparisons(iommu)
    assert {c.name for c in compared} <= {name for name, _ in bench.ROWS}
    rows = [(c.row_name, c.peer) for c in compared]
    assert len(rows) == len(set(rows))
    uio = {c.system for c in compared if "UIO" in c.peer}
    assert uio == ({"linux-noiommu"} if iommu else {"linux"})


def test_tables():
    made = [compare.row(compare.Comparison("x", "us", "y", "the peer"), pairs_of((1500, 3000)))]
    assert compare.table(made).splitlines()[1].split()[:5] == ["x", "1,500", "3,000", "us", "0.500"]
    assert compare.markdown(made).splitlines()[2] == \
        "| x | 1,500 | 3,000 | us | 0.500 | 0.500 | 0.500 | 1 | the peer |"


def test_half_a_pair_merges_what_each_system_measured(tmp_path):
    seen = []

    def coppice_one(system, run, _build):
        seen.append((system, (run / "data.img").stat().st_size))
        return {"a": 1}

    def coppice_two(*_):
        return {"b": 2}

    def linux_one(*_):
        raise bench.BenchProblem("it hangs")

    jobs = [("coppice", coppice_one), ("coppice", coppice_two)]
    assert peers.half(tmp_path / "pair1", None, jobs, 1) == {"coppice": {"a": 1, "b": 2}}
    assert seen == [("coppice", peers.DISK_BYTES)]
    with pytest.raises(bench.BenchProblem, match="pair2/linux-one: it hangs"):
        peers.half(tmp_path / "pair2", None, [("linux", linux_one)], 1)


def test_initramfs_is_a_cpio_archive(tmp_path):
    archive = image.initramfs(b"\x7fELF init", {"disk": [b"one", b"second"], "uio": [b"x" * 5]})
    at, found = 0, {}
    while True:  # read as the kernel reads it (newc)
        assert archive[at:at + 6] == b"070701" and at % 4 == 0
        field = [int(archive[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110:at + 110 + field[11] - 1].decode()
        data = (at + 110 + field[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            break
        found[name] = (field[1], archive[data:data + field[6]])
        at = (data + field[6] + 3) // 4 * 4
    assert found["init"] == (0o100755, b"\x7fELF init")
    assert found["modules/disk"] == (0o040755, b"")
    assert found["modules/disk/1.ko"][1] == b"second" and found["modules/uio/0.ko"][1] == b"x" * 5


def test_no_package_access_is_one_clear_line(tmp_path):
    """apt-get, apt-cache and sudo that know nothing."""
    for tool in ("apt-get", "apt-cache", "sudo"):
        (tmp_path / tool).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / tool).chmod(0o755)
    result = subprocess.run([peers.ROOT / "bench/linux/fetch.sh", tmp_path / "linux"], capture_output=True, text=True,
                            env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert result.returncode == 3
    assert "apt knows no linux-image-amd64" in result.stderr and not (tmp_path / "linux").exists()


@pytest.mark.parametrize("end, told", [(KeyboardInterrupt(), "interrupted"), (bench.BenchProblem("it hangs"), "it hangs")])
def test_what_was_measured_before_the_end_is_kept(tmp_path, monkeypatch, end, told):
    def pair(folder, *_):
        if folder.name == "pair3":
            raise end
        return folder.name

    monkeypatch.setattr(peers, "pair", pair)
    pairs, problems, loads = peers.measured(tmp_path, None, ["linux"], 5)
    assert (pairs, problems, len(loads)) == (["pair1", "pair2"], [told], 3)
