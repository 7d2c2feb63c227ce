# SPDX-License-Identifier: BSD-2-Clause
"""Machines for system tests: a console that a test types on and reads from, booted once a module, and
campaigns run as a user runs them. A failing wait shows what the console and the kernel log said."""
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tools import qemu  # noqa: E402

BUILD = ROOT / os.environ.get("COPPICE_BUILD", "build")
PROMPT = "coppice> "
BOOT_SECONDS = 60
ANSWER_SECONDS = 20
# Where this was started in the background or by nohup both are ignored, and so they would be by what tests start and signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Console:
    """The serial console of a running machine."""

    def __init__(self, guest, folder):
        self.guest, self.folder = guest, folder
        self.seen = ""   # all output so far
        self.at = 0      # what tests have consumed of it
        self.log_bytes = b""

    def await_end(self, seconds=ANSWER_SECONDS):
        """Waits for QEMU to end by itself; returns its exit code."""
        try:
            self.expect("(?!)", seconds)  # nothing matches this
        except AssertionError as end:
            assert "QEMU ended" in str(end), f"the machine did not end\n{self.story()}"
        return self.guest.wait(seconds)

    def pump(self, seconds):
        """Takes what console and log have to say; the log must be drained or the guest waits for us."""
        ready, _, _ = select.select([self.guest.console, self.guest.log], [], [], max(0, seconds))
        for source in ready:
            data = source.recv(65536)
            if not data:
                raise AssertionError(f"QEMU ended\n{self.story()}")
            if source is self.guest.console:
                self.seen += data.decode(errors="replace")
            else:
                self.log_bytes += data

    def story(self):
        return f"--- console\n{self.seen[-3000:]}\n--- kernel log\n{self.log()[-3000:]}"

    def log(self):
        return self.log_bytes.decode(errors="replace")

    def await_log(self, text, seconds=ANSWER_SECONDS, after=0):
        """The kernel log says it (from character `after` on), now or within the time."""
        deadline = time.monotonic() + seconds
        while text not in self.log()[after:]:
            if time.monotonic() > deadline:
                raise AssertionError(f"no {text!r} in the kernel log\n{self.story()}")
            self.pump(min(0.5, deadline - time.monotonic()))

    def expect(self, pattern, seconds=ANSWER_SECONDS):
        """Waits for the pattern in what was not consumed yet; returns the text up to its end."""
        deadline = time.monotonic() + seconds
        while not (found := re.compile(pattern).search(self.seen, self.at)):
            if time.monotonic() > deadline:
                raise AssertionError(f"no {pattern!r} on the console\n{self.story()}")
            self.pump(min(0.5, deadline - time.monotonic()))
        text = self.seen[self.at:found.end()]
        self.at = found.end()
        return text

    def type(self, text):
        self.guest.console.sendall(text.encode())

    def run(self, command, seconds=ANSWER_SECONDS):
        """A command's output."""
        self.type(command + "\n")
        self.expect(re.escape(command) + r"\r?\n")
        text = self.expect(re.escape(PROMPT), seconds)
        return text.replace("\r", "").removesuffix(PROMPT)

    def service(self, name):
        """The row of svc: {state, gen, restarts, rest}."""
        for line in self.run("svc").splitlines():
            words = line.split()
            if words and words[0] == name:
                state = re.match(r"\S+\s+(.*?)\s+(\d+)\s+(\d+)\s+(.*)", line)
                return {"state": state[1].lower().replace("_", " "), "gen": int(state[2]), "restarts": int(state[3]), "rest": state[4]}
        raise AssertionError(f"svc does not list {name}\n{self.story()}")

    def await_service(self, name, wanted, seconds=ANSWER_SECONDS):
        """Asks until the row satisfies `wanted`; the system needs some milliseconds for a restart."""
        deadline = time.monotonic() + seconds
        while not wanted(row := self.service(name)):
            assert time.monotonic() < deadline, f"{name} stays {row}\n{self.story()}"
        return row


def boot(folder, image="default", without_disk=False, **machine):
    disk = None if without_disk else qemu.data_disk(folder / "data.img")
    guest = qemu.start(qemu.Machine(image=BUILD / "image" / image, run=folder, disk=disk, **machine))
    console = Console(guest, folder)
    try:
        console.expect(re.escape(PROMPT), BOOT_SECONDS)
        console.await_log("supervisor: up,", BOOT_SECONDS)  # on several CPUs the console may be there before the others
    except BaseException:
        guest.stop()
        raise
    return console


@pytest.fixture(scope="module")
def console(tmp_path_factory):
    """One machine for all tests of a file."""
    c = boot(tmp_path_factory.mktemp("console"))
    yield c
    c.guest.stop()


@pytest.fixture
def machine(tmp_path):
    """A machine of its own: machine(mem="128M"); ended after the test, however that ends."""
    booted = []

    def run(**options):
        booted.append(boot(tmp_path, **options))
        return booted[-1]
    yield run
    for c in booted:
        c.guest.stop()


class Campaign:
    """The end of an `fi` command."""

    def __init__(self, done, out):
        self.code, self.text, self.out = done.returncode, done.stdout + done.stderr, out

    def summary(self):
                return json.loads((self.out / "latest" / "summary.json").read_text())


def run_fi(folder, words, build):
    out = folder / "chaos"
    more = ["--out", str(out), "--image", str(build / "image" / "chaos")] if words[0] in ("run", "hardware", "powercut") else []
    done = subprocess.run([str(ROOT / "faultinject/fi"), *map(str, words), *more], capture_output=True, text=True,
                          timeout=500, stdin=subprocess.DEVNULL)
    return Campaign(done, out)


@pytest.fixture
def fi(tmp_path):
    return lambda *words, build=BUILD: run_fi(tmp_path, words, build)


@pytest.fixture(scope="module")
def fi_in():
    """For a run that several tests look at: fi_in(folder, "run", ...)."""
    return lambda folder, *words, build=BUILD: run_fi(folder, words, build)


@pytest.fixture(scope="session")
def noreplay():
    """A build whose driver library replays nothing: campaigns on it must fail."""
    build = BUILD / "noreplay"
    name = os.path.relpath(build, ROOT)
    subprocess.run(["make", "-f", "tools/build.mk", "NOREPLAY=1", f"BUILD={name}", f"{name}/image/chaos/boot.img"], cwd=ROOT,
                   check=True, capture_output=True)
    return build
