# SPDX-License-Identifier: BSD-2-Clause
"""`svc update NAME disk:FILE`: a driver that is built here and in no system image takes over under load, survives deaths of its
service and of the supervisor, gives way when it is bad; and what is said of files and archives that are no good. The
driver is the worked example of docs/SUPERVISION.md."""
import os
import random
import re
import shutil
import socket
import subprocess
import tarfile

import pytest
from elftools.elf.elffile import ELFFile

from bench import gdbstub
from conftest import BUILD, ROOT, boot
from faultinject.gdbstub import free_port, function
from test_update import program

GOOD, BAD = "virtio_blk_v4.elf", "virtio_blk_v5.elf"
AT_WORK = "version 4 at work"
LARGEST = 512 << 10


def shell_of(text, first):
    """The lines of the worked example that build the drivers, from a line that begins with `first` to its `tar`."""
    lines = [line.strip() for line in text.splitlines()]
    start = next(i for i, line in enumerate(lines) if line.startswith(first))
    end = next(i for i in range(start, len(lines)) if lines[i].startswith("tar "))
    return "\n".join(lines[start:end + 1])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with files.tar, built as the document says, and more to go wrong with."""
    tree = tmp_path_factory.mktemp("tree") / "coppice"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns("build", ".git", "__pycache__", "tests"))
    script = shell_of((tree / "docs/SUPERVISION.md").read_text(), "cp -r drivers/virtio_blk_v2")
    script = re.sub(r"^make ", "make -f tools/build.mk ", script, flags=re.M)  # that alone: not what is to be installed first
    done = subprocess.run(["sh", "-ec", script], cwd=tree, capture_output=True, text=True,
                          env={k: v for k, v in os.environ.items() if k != "BUILD" and not k.startswith("MAKE")})
    assert done.returncode == 0, done.stdout + done.stderr
    (tree / "text.elf").write_text("\x7fELF, it says\n" * 100)
    (tree / "empty.elf").write_text("")
    (tree / "large.elf").write_bytes(random.Random(1).randbytes(LARGEST + 1))
    good = bytearray((tree / "build/user/boot" / GOOD).read_bytes())
    (tree / "cut.elf").write_bytes(good[:len(good) // 2])
    with tarfile.open(tree / "files.tar", "a") as tar:
        for name in ("text.elf", "empty.elf", "large.elf", "cut.elf"):
            tar.add(tree / name, name)
        tar.add(tree / "docs", "docs", recursive=False)
    return tree


@pytest.fixture(scope="module")
def system(files, tmp_path_factory):
    console = boot(tmp_path_factory.mktemp("file"), image="update", user_disk=files / "files.tar")
    yield console
    console.guest.stop()


def await_program(console, wanted):
    console.await_service("virtio_blk", lambda row: row["state"] == "running" and program(console) == wanted)


def update(console, file, log):
    at = len(console.log())
    assert console.run(f"svc update virtio_blk disk:{file}") == ""
    console.await_log(log, after=at)
    return at


@pytest.mark.parametrize("words, answer", [
    ("virtio_blk disk:nothing.elf", r"disk:nothing.elf: no such file among the 6 in the archive"),
    ("virtio_blk disk:docs", r"no such file"),
    ("virtio_blk disk:", r"name has 1 to 23 characters"),
    ("virtio_blk disk:" + 24 * "x", r"name has 1 to 23 characters"),
    ("nobody disk:" + GOOD, r"nobody: no such service"),
    ("supervisor disk:" + GOOD, r"supervisor: no such service"),
    ("recovery disk:" + GOOD, r"recovery: keeps its memory .*: it cannot be updated"),
    ("virtio_blk disk:text.elf", r"disk:text.elf: not an ELF program for this system"),
    ("virtio_blk disk:cut.elf", r"disk:cut.elf: not an ELF program for this system"),
    ("virtio_blk disk:empty.elf", r"disk:empty.elf: 0 bytes: a program has 1 to 524288"),
    ("virtio_blk disk:large.elf", r"disk:large.elf: 524289 bytes: a program has 1 to 524288"),
    ("virtio_blk " + GOOD, r"virtio_blk_v4.elf: no such program in the system image"),
])
def test_what_cannot_be_is_refused_and_why(system, words, answer):
    before = system.service("virtio_blk")["gen"]
    assert re.search(answer, system.run(f"svc update {words}"))
    assert system.service("virtio_blk")["gen"] == before and program(system) == ""


def test_a_driver_that_was_in_no_image_takes_over_and_stays(system):
    at = update(system, GOOD, f"virtio_blk is disk:{GOOD} now, on probation for 1000 ms")
    system.await_log(AT_WORK, after=at)
    await_program(system, f"is disk:{GOOD}")
    at = len(system.log())
    system.run("kill virtio_blk")
    system.await_log(AT_WORK, after=at)
    system.await_service("virtio_blk", lambda row: row["state"] == "running" and "killed" in row["rest"])
    assert program(system) == f"is disk:{GOOD}", "its restart was made from the supervisor's copy"


def test_a_bad_one_is_rolled_back_to_the_one_before(system):
    update(system, BAD, f"the update of virtio_blk did not hold: it is disk:{GOOD}, as before")
    system.await_service("virtio_blk", lambda row: row["state"] == "running" and "#UD" in row["rest"])
    assert program(system) == f"is disk:{GOOD}: previous version, the last update did not hold"


class Attached(gdbstub.Stub):
    """To a machine that ran: it also says that it has stopped for us."""

    def ask(self, text, expect=None):
        answer = super().ask(text)
        while text not in ("c", "s") and answer.startswith("T"):
            answer = self.receive()
        assert expect in (None, answer), f"{text}: {answer!r}"
        return answer


def code_at(elf, address, size=32):
    with open(elf, "rb") as f:
        for s in ELFFile(f).iter_segments("PT_LOAD"):
            if s["p_vaddr"] <= address < s["p_vaddr"] + s["p_filesz"]:
                return s.data()[address - s["p_vaddr"]:][:size]
    raise AssertionError(f"{elf} has nothing at {address:#x}")


def fall(console, who, name, nth, command):
    """The program jumps to nowhere at its nth call of this function while the command is carried out."""
    elf = BUILD / "user" / f"{who}.elf"
    at, port = function(elf, name), free_port()
    code = code_at(elf, at)
    console.guest.hmp(f"gdbserver tcp:127.0.0.1:{port}")
    stub = Attached(socket.create_connection(("127.0.0.1", port)))
    console.type(command + "\n")
    while nth:
        stub.run_to([at], 60)
        nth -= stub.memory(at, len(code)) == code  # every program has its text there
        if nth:
            stub.step()
    stub.ask(f"P{gdbstub.RIP:x}={bytes(8).hex()}", "OK")
    stub.ask("D")
    stub.connection.close()
    console.guest.hmp("gdbserver none")
    console.expect(re.escape(command) + r"\r?\n")
    return console.expect(re.escape("coppice> ")).replace("\r", "").removesuffix("coppice> ")


@pytest.mark.parametrize("where, nth", [
    ("on_load", 1), ("on_load_data", 8), ("answer", 8), ("on_update_loaded", 1), ("version_update", 1)])
def test_the_supervisor_falls_within_a_load_and_after_it(system, where, nth):
    """At `answer` what came is there and the loader does not know it: it says it again."""
    at = len(system.log())
    assert fall(system, "supervisor", where, nth, f"svc update virtio_blk disk:{GOOD}") == ""
    system.await_log("supervisor: started again after its end", after=at)
    system.await_log(f"virtio_blk is disk:{GOOD} now", after=at)
    await_program(system, f"is disk:{GOOD}")
    at = len(system.log())
    system.run("kill virtio_blk")
    system.await_log(AT_WORK, after=at)
    assert program(system) == f"is disk:{GOOD}"


@pytest.mark.parametrize("where, nth", [("archive_header", 2), ("service_call", 8)])
def test_who_reads_the_archive_dies_within_a_load(system, where, nth):
    """It is said, nothing has happened, and the next time it works: what was half there is overwritten."""
    before, at = system.service("virtio_blk")["gen"], len(system.log())
    assert "files: died meanwhile" in fall(system, "files", where, nth, f"svc update virtio_blk disk:{GOOD}")
    system.await_log("supervisor: files died", after=at)
    system.await_service("files", lambda row: row["state"] == "running")
    assert system.service("virtio_blk")["gen"] == before
    update(system, GOOD, f"virtio_blk is disk:{GOOD} now")
    await_program(system, f"is disk:{GOOD}")


def test_slots_run_out_only_while_services_need_them(system):
    """virtio_blk is one and would go back to another; so is virtio_disk after two updates."""
    before = program(system)
    for service in 2 * ["virtio_disk"]:
        at = len(system.log())
        assert system.run(f"svc update {service} disk:{GOOD}") == ""
        system.await_log(f"{service} is disk:{GOOD} now", after=at)
        system.await_service(service, lambda row: row["state"] == "running" and "made room" in row["rest"])
        system.await_service(service, lambda row: "on probation" not in system.run("svc"))
    assert "services need all programs loaded before" in system.run(f"svc update virtio_blk disk:{GOOD}")
    assert program(system) == before


def test_a_damaged_archive_is_named_with_its_place(system, files):
    with tarfile.open(files / "files.tar") as tar:
        at = tar.getmember(BAD).offset
    assert "error" not in system.guest.hmp(f'qemu-io user "write -P 0x58 {at} 512"').lower()
    before = program(system)
    said = system.run(f"svc update virtio_blk disk:{GOOD}")
    assert f"disk:{GOOD}: archive, byte {at}: no header where one must be" in said
    system.guest.hmp('qemu-io user "write -P 0 0 512"')
    assert f"disk:{GOOD}: archive, byte 0: the disk holds no tar archive" in system.run(f"svc update virtio_blk disk:{GOOD}")
    assert program(system) == before


def test_nothing_was_lost(system):
    """The load went on through all of this; asked for one update more, the updater says what it has seen."""
    at = len(system.log())
    system.guest.channel.sendall(b"1\n")
    system.await_log('{"update":{"n":0,', after=at)
    system.await_log("}}\n", after=system.log().index('{"update":{"n":0,', at))
    said = re.search(r'\{"update":\{"n":0,.*\}\}', system.log()[at:])[0]
    assert '"mismatched":0,"errors":0,"violations":0' in said and int(re.search(r'"verified":(\d+)', said)[1]) > 1000


def test_without_a_disk(machine):
    console = machine(image="default")
    assert "files: absent: no disk with programs" in console.run("svc update virtio_blk disk:x.elf").lower()
