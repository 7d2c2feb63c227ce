# SPDX-License-Identifier: BSD-2-Clause
"""The end of a campaign, whatever ends it: QEMU is stopped, what is known is written, and the exit code tells."""
import errno
import json
import socket

import pytest

from faultinject import campaign, fi, judge, plan, trace, verify
from tools import qemu


class Silent:
    def stage(self, *_):
        pass

    trial = close = stage


class Machine:
    events = []
    stopped = False

    def stop(self):
        self.stopped = True


class Log:
    panic = None
    bad_lines = []

    def join(self, _):
        pass


@pytest.fixture
def doomed(tmp_path, monkeypatch):
    """doomed(step, problem): a campaign whose step raises the problem."""
    (tmp_path / "system.img").touch()
    monkeypatch.setattr(qemu, "qemu_version", lambda: "0")

    def make(step, problem):
        c = campaign.Campaign(campaign.Options(1, plan.make_plan(1, 3, "mix", "mix"), image=tmp_path, out=tmp_path), Silent())

        def fail(*_):
            raise problem

        def boot():
            c.guest, c.log = Machine(), Log()
        for name in ("play", "finish", "last_trace"):
            setattr(c, name, lambda: None)
        c.boot = boot
        setattr(c, step, fail)
        return c
    return make


@pytest.mark.parametrize("step", ["play", "finish", "last_trace", "judge_last", "check"])
@pytest.mark.parametrize("problem", [KeyboardInterrupt(), ValueError("mistake"), OSError(errno.ENOSPC, "full")])
def test_whatever_fails_the_machine_is_stopped_and_the_summary_written(doomed, step, problem):
    c = doomed(step, problem)
    with pytest.raises(type(problem)):
        c.run()
    assert c.guest.stopped
    assert json.loads((c.folder / "summary.json").read_text())["trouble"]


def test_a_bad_trace_ends_it_without_an_exception(doomed):
    c = doomed("play", trace.TraceProblem("short"))
    assert c.run()["trouble"] == "short" and c.guest.stopped


def test_a_guest_paused_on_a_full_disk_is_an_environment_problem(doomed):
    c = doomed("play", campaign.GuestGone("no 'trial' from the guest in time"))
    Machine.events = [{"event": "BLOCK_IO_ERROR", "data": {"nospace": True}}]
    try:
        with pytest.raises(qemu.EnvironmentProblem, match="no space"):
            c.run()
    finally:
        Machine.events = []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_no_room_is_an_environment_problem_that_names_the_path(monkeypatch, capsys, number):
    def full(_):
        raise OSError(number, "no room", "some/path")
    monkeypatch.setattr(fi, "cmd_list", full)
    assert fi.main(["list", "faults"]) == fi.ENVIRONMENT
    assert "some/path" in capsys.readouterr().err


def test_a_reply_to_a_command_that_was_given_up_is_dropped():
    ours, theirs = socket.socketpair()
    guest = qemu.Guest.__new__(qemu.Guest)
    guest._qmp, guest._input, guest._commands, guest.events = ours, b"", 6, []
    theirs.sendall(b'{"return": "old", "id": 6}\n{"event": "STOP"}\n{"return": "new", "id": 7}\n')
    assert guest.qmp("query-status") == "new" and guest.events == [{"event": "STOP"}]
    assert json.loads(theirs.recv(4096))["id"] == 7


def test_a_disk_that_was_read_whole_has_nothing_in_flight():
    e = judge.Evidence(plan.Trial(1, "virtio_disk", "kill", 0, 1, 0, 1), None, None, {})
    found = [type("R", (), {"service": s, "in_flight": n})() for s, n in (("virtio_disk", 0), ("virtio_blk", None))]
    assert judge.in_flight(e, found) == 0
    e.disk_in_use = False
    assert judge.in_flight(e, found) is None


def test_a_guest_that_is_ahead_hides_no_trial():
    """The trace may hold the beginning of the trial after the next one: the next one's entries are not skipped."""
    c = campaign.Campaign(campaign.Options(1, plan.make_plan(1, 3, "mix", "mix")), Silent())
    c.entries = [trace.Entry(at, "MARK" if n else "DEATH", 1, 1, 10, n, "TRIAL" if n else None)
                 for at, n in enumerate([1, 0, 0, 2, 0, 3])]
    c.window_start = c.after_window(1)
    assert c.window_start == 3
    c.window_start = c.after_window(2)
    assert c.window_start == 5 == c.after_window(3)


def test_what_was_found_wrong_is_not_charged_to_a_later_trial():
    ledger = campaign.Ledger()
    ledger.acks.start(64, 1, 42)
    ledger.trial = 3
    ledger.take({"mismatch": {"seq": 10, "place": 10, "found_magic": 0, "found_seq": 0}, "writer": None})
    known, newer, other = (verify.Finding("corrupt", place, seq, None, 9) for place, seq in ((10, 10), (10, 74), (11, 11)))
    assert [f.trial for f in ledger.blame([known, newer, other])] == [3, 9, 9]
    assert ledger.counts[3]["mismatch"] == 1
    ledger.trial = 0
    ledger.take({"mismatch": {"seq": 12, "place": 12, "found_magic": 0, "found_seq": 0}, "writer": None})
    assert [f.trial for f in ledger.blame([verify.Finding("corrupt", 12, 12, None, 9)])] == [9], "0 is no trial"


def test_the_warm_system_is_the_chaos_system_with_a_spare():
    chaos, warm = ([line for line in (campaign.ROOT / f"system/{name}.toml").read_text().splitlines() if not line.startswith("#")]
                   for name in ("chaos", "chaos_warm"))
    warm.remove("spare = 1")
    assert warm == chaos
