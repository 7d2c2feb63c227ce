# SPDX-License-Identifier: BSD-2-Clause
"""The loader refuses any kernel or system image but its own, with one line that names file and problem."""
import os
import pathlib
import re
import select
import shutil
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import mkimage  # noqa: E402
import qemu  # noqa: E402

IMAGE = ROOT / os.environ.get("COPPICE_BUILD", "build") / "image/default"
ESP = mkimage.ESP_FIRST * mkimage.SECTOR
KERNEL, SYSTEM = "coppice/kernel.elf", "coppice/system.img"


def mtool(image, tool, *arguments):
    subprocess.run([tool, "-i", f"{image}@@{ESP}", *arguments], check=True,
                   env={**os.environ, "MTOOLS_SKIP_CHECK": "1"})


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def changed_disk(folder, name, change):
    """A copy of the boot disk on which one file is changed; change(bytes) -> bytes, or None to delete it."""
    disk, file = folder / "boot.img", folder / "file"
    shutil.copyfile(IMAGE / "boot.img", disk)
    mtool(disk, "mcopy", f"::{name}", str(file))
    mtool(disk, "mdel", f"::{name}")
    data = change(file.read_bytes())
    if data is not None:
        file.write_bytes(data)
        mtool(disk, "mcopy", str(file), f"::{name}")


def loader_lines(folder, seconds=60):
    """Lines of the loader on the console, until one reports a problem; and the kernel's log."""
    with qemu.start(qemu.Machine(folder, folder / "run")) as guest:
        text, deadline = b"", time.monotonic() + seconds
        while not re.search(rb"coppice\\[^\r\n]*[\r\n]", text):  # firmware gives up a byte that a busy host does not take
            assert select.select([guest.console], [], [], max(0, deadline - time.monotonic()))[0], text
            data = guest.console.recv(4096)
            assert data, text
            text += data
        log = (folder / "run/kernel.log").read_bytes()
    lines = text.decode(errors="replace").replace("\r", "").split("\n")
    return [line for line in lines if line.startswith("Coppice loader")], log


@pytest.mark.parametrize("name, change, problem", [
    (KERNEL, lambda data: None, "missing"),
    (KERNEL, lambda data: data[:-1], "truncated"),
    (KERNEL, lambda data: b"", "truncated"),
    (KERNEL, lambda data: flip(data, len(data) // 2), "altered"),
    (KERNEL, lambda data: flip(data, 20), "wrong version"),
    (SYSTEM, lambda data: None, "missing"),
    (SYSTEM, lambda data: data[:-4096], "truncated"),
    (SYSTEM, lambda data: flip(data, len(data) - 1), "altered"),
    (SYSTEM, lambda data: flip(data, 8), "wrong version"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_loader_stops_with_one_line(tmp_path, name, change, problem):
    changed_disk(tmp_path, name, change)
    lines, log = loader_lines(tmp_path)
    assert len(lines) == 2, lines  # its greeting and the one problem
    assert lines[1].startswith("Coppice loader: \\" + name.replace("/", "\\") + ": " + problem)
    assert log == b"", "a kernel ran"
