# SPDX-License-Identifier: BSD-2-Clause
"""The build's own tools: options are refused with what is allowed, images are reproducible, the layering
check finds what it is there to find, missing packages are named."""
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import abi  # noqa: E402
import layering  # noqa: E402
import mkimage  # noqa: E402
import qemu  # noqa: E402
import soak  # noqa: E402


def make(*arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "MFLAGS"}
    return subprocess.run(["make", "-C", str(ROOT), *arguments], capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("arguments, allowed", [
    (["help", "SPM=2"], "Allowed: SMP MEM ACCEL"),
    (["hlep"], "Allowed: all image run"),
    (["doctor", "SMP=0"], "Allowed: 1 to 16"),
    (["doctor", "MEM=64M"], "Allowed: 128M or more"),
    (["doctor", "MEM=lots"], "Allowed: a number with M or G"),
    (["doctor", "ACCEL=xen"], "Allowed: tcg kvm auto"),
    (["doctor", "KILLS=many"], "Allowed: 1 to 1000000"),
    (["doctor", "SEED=-1"], "Allowed: 0 to 4294967295"),
    (["doctor", "PEERS=minix"], "Allowed: linux"),
    (["doctor", "PEERS=linux", "PAIRS=0"], "Allowed: 1 to 100"),
    (["doctor", "PAIRS=3"], "Allowed: PAIRS with PEERS=linux"),
    (["chaos", "PEERS=linux"], "Allowed: SMP MEM"),
    (["doctor", "DISK=/no/such/file"], "Allowed: a raw or qcow2 image file"),
    (["doctor", "BUILD=/etc"], "Allowed: build, or a folder below build/"),
    (["doctor", "BUILD=build/../.."], "Allowed: letters"),
])
def test_options_are_refused_with_what_is_allowed(arguments, allowed):
    result = make(*arguments)
    assert result.returncode == 2
    assert allowed in result.stderr


def test_environment_sets_no_options():
    result = subprocess.run(["make", "-C", str(ROOT), "-n", "chaos"], capture_output=True, text=True,
                            env={**os.environ, "MAKEFLAGS": "", "SEED": "77", "DISK": "/etc/passwd"})
    assert "77" not in result.stdout and "passwd" not in result.stdout


@pytest.mark.parametrize("target", ["chaos", "stress", "leaks", "hostile", "exhaust", "scale", "warm"])
def test_a_program_takes_the_options_that_its_target_gives_it(target):
    """Without QEMU and without images each ends for want of them, not over an option."""
    nothing = "build/nothing-there"
    lines = make("--no-print-directory", "-n", target, f"BUILD={nothing}").stdout.replace("\\\n", " ").splitlines()
    try:
        result = subprocess.run(lines[-1], shell=True, cwd=ROOT, capture_output=True, text=True,
                                env={"PATH": "/nonexistent", "PYTHONPATH": str(ROOT), "COPPICE_BUILD": nothing})
    finally:
        shutil.rmtree(ROOT / nothing, ignore_errors=True)
    assert result.returncode == 3, result.stderr
    assert nothing in result.stderr or "qemu" in result.stderr.lower(), result.stderr


def test_missing_packages_are_named_with_the_line_to_run():
    result = subprocess.run([ROOT / "tools/deps.sh", "no-such-package-a", "no-such-package-b"],
                            capture_output=True, text=True, env={**os.environ, "COPPICE_NO_INSTALL": "1"})
    assert result.returncode == 3
    assert result.stderr.splitlines()[-1].strip().endswith("no-such-package-a no-such-package-b")
    assert "apt-get install" in result.stderr


def test_bundle_layout():
    data = mkimage.bundle(b"m" * 10, {"a": b"x" * 5000, "b": b""})
    magic, version, count, length = mkimage.HEADER.unpack_from(data)
    assert (magic, version, count, length) == (0x31474D4950504F43, 1, 3, len(data))
    for i, (name, content) in enumerate([("manifest.bin", b"m" * 10), ("a", b"x" * 5000), ("b", b"")]):
        found, offset, size = mkimage.ENTRY.unpack_from(data, mkimage.HEADER.size + i * mkimage.ENTRY.size)
        assert found.rstrip(b"\0").decode() == name
        assert offset % 4096 == 0 and data[offset:offset + size] == content
    assert len(data) % 4096 == 0


def test_bundle_refuses_a_name_that_does_not_fit():
    with pytest.raises(mkimage.Problem):
        mkimage.bundle(b"", {"n" * 24: b""})


def test_boot_disk_is_reproducible(tmp_path):
    for name in ("loader", "kernel", "image"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    disks = []
    for i in range(2):
        for name in ("loader", "kernel", "image"):
            os.utime(tmp_path / name, (1000 + i, 1000 + i))
        out = tmp_path / f"{i}.img"
        subprocess.run([sys.executable, ROOT / "tools/mkimage.py", "disk", "--loader", tmp_path / "loader",
                        "--kernel", tmp_path / "kernel", "--image", tmp_path / "image", "-o", out], check=True)
        disks.append(out.read_bytes())
    assert disks[0] == disks[1]
    assert b"kernelkernel" in disks[0]


@pytest.mark.parametrize("file, bracket, name, good", [
    ("kernel/x.c", '"', "abi/types.h", True),
    ("kernel/x.c", '"', "lib/sys.h", False),
    ("kernel/x.c", "<", "stdio.h", False),
    ("abi/types.h", '"', "kernel/object.h", False),
    ("lib/x.c", '"', "drivers/echo/device.h", False),
    ("drivers/serial/x.c", '"', "lib/driver.h", True),
    ("drivers/serial/x.c", '"', "drivers/virtio_blk/device.h", False),
    ("drivers/serial/x.c", '"', "kernel/object.h", False),
    ("drivers/virtio_blk/x.c", "<", "linux/virtio_blk.h", True),
    ("supervisor/core.c", '"', "lib/sys.h", False),
    ("supervisor/core.c", '"', "supervisor/shell.h", False),
    ("supervisor/main.c", '"', "supervisor/core.h", True),
    ("recovery/core_ledger.c", '"', "abi/session.h", True),
    ("recovery/core_ledger.c", "<", "string.h", False),
])
def test_layering_rules(file, bracket, name, good):
    assert layering.allowed(pathlib.Path(file), bracket, name) is good


def test_abi_lists_are_read_as_the_compiler_reads_them(tmp_path):
    source = tmp_path / "names.c"
    source.write_text('#include <stdio.h>\n#include "abi/trace.h"\nint main(void) {\n'
                      '#define EVENT(name, number, a, b, text) printf("%d %s %s\\n", number, #name, text);\n'
                      '#include "abi/trace.def"\n}\n')
    subprocess.run(["gcc", f"-I{ROOT}", source, "-o", tmp_path / "names"], check=True)
    out = subprocess.run([tmp_path / "names"], capture_output=True, text=True, check=True).stdout
    ours = [f"{e['args'][1]} {e['args'][0]} {e['args'][4]}" for e in abi.read("trace")]
    assert out.splitlines() == ours


def test_user_image_is_only_reached_through_an_overlay(tmp_path):
    original = tmp_path / "a,b.img"
    original.write_bytes(b"\1" * 65536)
    (tmp_path / "boot.img").write_bytes(b"\0" * 65536)
    machine = qemu.Machine(tmp_path, tmp_path / "run", user_disk=original)
    qemu.prepare(machine)
    line = qemu.command(machine)
    assert not any(str(original) in word or qemu.quote(original) in word for word in line)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 512", tmp_path / "run/disk.qcow2"], check=True,
                   stdout=subprocess.DEVNULL)
    assert original.read_bytes() == b"\1" * 65536


def test_unreadable_user_image_is_an_environment_problem(tmp_path):
    with pytest.raises(qemu.EnvironmentProblem, match="not a readable disk image"):
        qemu.disk_format(tmp_path / "none.img")


def test_compiled_manifest_names_its_programs():
    service = struct.Struct("<24s24s4x")
    body = service.pack(b"supervisor", b"supervisor") + service.pack(b"disk", b"virtio_blk")
    groups = b"\0" * (16 * 28)
    size = 24 + len(groups) + len(body)
    head = struct.pack("<QIIIHH", mkimage.abi_constant("MANIFEST_MAGIC"), mkimage.abi_constant("MANIFEST_VERSION"),
                       size, service.size, 2, 0)
    assert mkimage.images_named(head + groups + body) == ["supervisor", "virtio_blk"]


def test_a_driver_needs_few_lines_about_recovery():
    done = subprocess.run([sys.executable, str(ROOT / "tools/recovery_lines.py"), "drivers/virtio_blk"], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_soak_goes_on_after_a_failure_and_says_which(tmp_path):
    said = []
    rows = soak.soak({"good": ["sh", "-c", "echo; echo 10 kills, 0 lost; echo"], "bad": ["sh", "-c", "echo 1 lost; exit 1"],
                      "after": ["true"]}, tmp_path, lambda text, **_: said.append(text))
    assert [(name, state, line) for name, state, _, line in rows] == [
        ("good", "passed", "10 kills, 0 lost"), ("bad", "FAILED", "1 lost"), ("after", "passed", "said nothing")]
    assert len(said) == 3 and "FAILED" in (tmp_path / "summary.txt").read_text()
    assert (tmp_path / "bad.log").read_text() == "1 lost\n"


def test_an_interrupted_soak_says_what_it_did_not_run(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who started the tests may ignore it
    rows = soak.soak({"first": ["true"], "second": ["sh", "-c", f"kill -INT {os.getpid()}; exec sleep 60"],
                      "third": ["true"]}, tmp_path, lambda *_, **__: None)
    signal.signal(signal.SIGINT, before)
    assert [state for _, state, _, _ in rows] == ["passed", "interrupted", "not run"]
    assert "not run" in (tmp_path / "summary.txt").read_text()


@pytest.mark.parametrize("name", soak.RUNS)
def test_each_run_of_a_soak_is_a_command_that_make_takes(name):
    assert make("-n", *soak.RUNS[name]).returncode == 0


def test_a_soak_knows_no_other_runs():
    wrong = make("soak", "ONLY=stress nonsense")
    assert wrong.returncode == 2 and "nonsense" in wrong.stderr and "Allowed: model" in wrong.stderr
