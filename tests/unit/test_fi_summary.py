# SPDX-License-Identifier: BSD-2-Clause
"""Outcomes and the summary: derived from the truth, and able to say no."""
import copy
import dataclasses
import json

import pytest

from faultinject import judge, phases, plan, report, summary
from tests.unit.test_fi_trace import BLK, CLIENT, HZ, RECOVERY, SUPERVISOR, e, recovery_entries
from faultinject.verify import Finding

SERVICES = {SUPERVISOR: {"name": "supervisor", "flags": 0, "state": 2}, RECOVERY: {"name": "recovery", "flags": 0, "state": 2},
            BLK: {"name": "virtio_blk", "flags": 2, "state": 2}, CLIENT: {"name": "workload", "flags": 0, "state": 2}}
REPORT = {"n": 17, "struck": 1, "died": 1, "settled": 1, "rescued": 0, "state_after": 2, "error": ""}
TRIAL = plan.Trial(17, "virtio_blk", "kill", 0, 5, 0, 1)


def evidence(entries=None, **changes):
    entries = recovery_entries() if entries is None else entries
    window = phases.windows(entries).get(17)
    return judge.Evidence(**({"trial": TRIAL, "window": window, "report": dict(REPORT), "services": SERVICES,
                              "tsc_hz": HZ} | changes))


def outcome(*args, **changes):
    return judge.judge(evidence(*args, **changes))[0]


def test_recovered():
    assert outcome() == "recovered"


def test_not_activated():
    assert outcome(recovery_entries()[:1]) == "not_activated"


def test_masked():
    assert outcome(recovery_entries()[:2]) == "masked"


@pytest.mark.parametrize("kind,wanted", [("lost", "recovered_with_loss"), ("corrupt", "silent_corruption")])
def test_a_finding_on_the_disk(kind, wanted):
    assert outcome(lost=[Finding(kind, 1, 2, 1, 17)]) == wanted


@pytest.mark.parametrize("events,wanted", [({"mismatch": 1}, "silent_corruption"), ({"duplicate": 1}, "recovered_with_loss"),
                                           ({"io_error": 1}, "degraded")])
def test_what_the_workload_saw(events, wanted):
    assert outcome(events=events) == wanted


@pytest.mark.parametrize("change,wanted", [({"settled": 0}, "degraded"), ({"rescued": 1}, "degraded"), ({"state_after": 6}, "gave_up"),
                                           ({"error": "refused"}, "harness_error")])
def test_what_the_injector_saw(change, wanted):
    assert outcome(report=REPORT | change) == wanted


@pytest.mark.parametrize("strikes,deaths,wanted", [(1, 1, "not_activated"), (2, 2, "recovered"), (2, 3, "cascaded")])
def test_who_is_struck_again_while_it_starts_may_die_as_often(strikes, deaths, wanted):
    entries = recovery_entries()
    dead = [e(350 + 10 * n, "DEATH", RECOVERY, 1 + n, 34) for n in range(deaths)]
    struck = [e(349 + 10 * n, "STRIKE", RECOVERY, 1 + n, 0) for n in range(strikes)]
    born = [e(400, "PROCESS_CREATE", RECOVERY, 9, 0, 395)]
    trial = dataclasses.replace(TRIAL, service="recovery", fault="recovering_twice")
    assert outcome(sorted(entries + dead + struck + born, key=lambda x: x.tsc), trial=trial) == wanted


def test_a_survivor_that_serves_nobody():
    assert outcome(recovery_entries()[:2], report=REPORT | {"died": 0, "stuck": 1, "cleaned": 1}) == "degraded"


@pytest.mark.parametrize("service,fault,changes,wanted", [
    ("virtio_blk", "mutate_branch", {"events": {"mismatch": 3}}, "lied"),
    ("virtio_blk", "flip_register", {"lost": [Finding("lost", 1, 2, 1, 17)]}, "lied"),
    ("virtio_blk", "kill", {"events": {"mismatch": 3}}, "silent_corruption"),            # nothing made it lie
    ("virtio_blk", "flip_register", {"events": {"mismatch": 1, "duplicate": 1}}, "silent_corruption"),
    ("virtio_blk", "flip_register", {"typing": ["lost"]}, "recovered_with_loss"),        # not its characters
    ("echo", "flip_register", {"events": {"mismatch": 1}}, "silent_corruption"),         # not its records
])
def test_a_lie_in_due_form(service, fault, changes, wanted):
    entries = [dataclasses.replace(x, a=judge.NOTE) if x.event == "STRIKE" else x for x in recovery_entries()]
    services = SERVICES if service == "virtio_blk" else SERVICES | {BLK: SERVICES[BLK] | {"name": service}}
    assert outcome(entries, trial=dataclasses.replace(TRIAL, service=service, fault=fault), services=services, **changes) == wanted


def test_an_answer_with_other_words():
    assert outcome(report=REPORT | {"wrong": 1}) == "silent_corruption"


def test_the_end_of_a_survivor_is_not_its_recovery():
    entries = recovery_entries()
    cleaned = [*entries[:2], dataclasses.replace(entries[0], mark="CLEANED", tsc=entries[1].tsc), *entries[2:]]
    result, _, found = judge.judge(evidence(cleaned))
    assert (result, found) == ("masked", [])


def test_somebody_else_who_dies_then_is_a_stranger():
    entries = recovery_entries()
    death = dataclasses.replace(next(e for e in entries if e.event == "DEATH"), service=CLIENT)
    cleaned = [*entries[:2], dataclasses.replace(entries[0], mark="CLEANED", tsc=entries[1].tsc), death]
    assert outcome(cleaned) == "cascaded"


@pytest.mark.parametrize("fault,action,active", [("mutate_delete", judge.NOTE, True), ("mutate_delete", 0, False), ("kill", 0, True)])
def test_a_changed_instruction_is_activated_by_a_note_alone(fault, action, active):
    entries = [dataclasses.replace(x, a=action) if x.event == "STRIKE" else x for x in recovery_entries()]
    assert judge.activated(evidence(entries, trial=dataclasses.replace(TRIAL, fault=fault))) == active


def test_a_spoiled_checkpoint_is_activated_by_both_of_its_proofs():
    trial = dataclasses.replace(TRIAL, fault="corrupt_checkpoint")
    entries = recovery_entries()
    poke = dataclasses.replace(entries[1], event="POKED", service=RECOVERY)
    assert not judge.activated(evidence(entries, trial=trial))
    assert judge.activated(evidence([entries[0], poke, *entries[1:]], trial=trial))
    assert not judge.activated(evidence([entries[0], poke], trial=trial))


def test_masked_counts_as_unharmed_and_not_as_recovered():
    lines = [judge.record(evidence(), ""), judge.record(evidence(recovery_entries()[:2]), "")]
    s = summary.summarise({}, lines)
    assert (s["activated"], s["recovered"], s["unharmed"]) == (2, 1, 2)


def test_panic_and_trouble():
    assert outcome(panic="KERNEL PANIC: x") == "kernel_panic"
    assert outcome(trouble="no answer") == "harness_error"
    assert outcome(report=None) == "harness_error"
    assert outcome([], trace_lost=True) == "harness_error"


def test_a_stranger_that_dies_is_a_cascade():
    assert outcome(recovery_entries() + [e(350, "DEATH", CLIENT, 1, 15)]) == "cascaded"


def test_a_restart_by_manifest_is_none():
    dependency = next(n for n, name in __import__("faultinject.trace", fromlist=["CAUSES"]).CAUSES.items() if name == "DEPENDENCY")
    assert outcome(recovery_entries() + [e(350, "DEATH", CLIENT, 1, dependency)]) != "cascaded"


def test_a_death_for_want_of_the_service_it_restarts_with_is_none():
    services = {**SERVICES, CLIENT: SERVICES[CLIENT] | {"restarts_with": ["virtio_blk"]}}
    fault = e(103, "DEATH", CLIENT, 1, 15)
    entries = recovery_entries()
    entries.insert(3, fault)
    assert outcome(entries, services=services) != "cascaded"
    assert outcome(entries) == "cascaded", "it does not restart with it"
    again = entries[:4] + [e(105, "DEATH", CLIENT, 2, 15)] + entries[4:]
    assert outcome(again, services=services) == "cascaded", "its successor has no such excuse"


def test_a_stall_under_the_single_step_is_none():
    stalled = next(n for n, name in __import__("faultinject.trace", fromlist=["CAUSES"]).CAUSES.items() if name == "STALLED")
    entries = recovery_entries()
    stepped = [entries[0], e(91, "ARMED", BLK, 2, 900), e(95, "DEATH", BLK, 2, stalled), *entries[1:]]
    assert outcome(stepped) != "cascaded"
    assert outcome([stepped[0], *stepped[2:]]) == "cascaded", "nobody stepped it"


def test_never_started_again_is_degraded():
    assert outcome([x for x in recovery_entries() if x.tsc < 118]) == "degraded"


def test_requests_that_never_complete_are_degraded():
    assert outcome([x for x in recovery_entries() if x.tsc < 300]) == "degraded"


def test_a_completion_after_the_next_trial_began_counts():
    entries = recovery_entries()
    assert outcome(entries[:-2] + [e(299, "TRIAL", 8, 1, 18)] + entries[-2:]) == "recovered"


# --- the summary -------------------------------------------------------------------------------------------

def truth(n=20):
    lines = []
    for i in range(1, n + 1):
        line = judge.record(evidence(), f"faultinject/fi replay x:{i}")
        lines.append(line | {"n": i, "recovery_us": float(100 * i)})
    rest = {"pages_free": 1000, "dead_pages": 0, "quarantined": 0, "objects": 300, "room": 20}
    run = {"seed": 1, "complete": True, "verified": True, "accel": "tcg", "qemu": "7.2", "smp": 1, "image_sha256": "0",
           "rest_before": rest, "rest_after": dict(rest), "workload": {"mismatch": 0, "duplicates": 0}, "outside": {}}
    return run, lines


def test_a_good_campaign_meets_its_targets():
    s = summary.summarise(*truth())
    assert s["met"] and summary.exit_code(s) == 0
    assert s["recovery_us"] == {"n": 20, "p50": 1000.0, "p90": 1800.0, "p99": 2000.0, "max": 2000.0}
    assert s["phases_us"]["spawn"] == {"n": 20, "p50": 35.0, "p99": 35.0, "max": 35.0}
    assert s["in_flight"]["share"] == 1.0 and s["outcomes"]["recovered"] == 20


def test_it_has_every_promised_field():
    s = summary.summarise(*truth())
    wanted = ("schema_version seed accel qemu smp image_sha256 injected activated outcomes recovery_us phases_us "
              "lost_acknowledged_writes duplicate_completions read_mismatches kernel_panics leaks").split()
    assert set(wanted) <= set(s) and set(s["phases_us"]) == set(phases.PHASES)


def test_detection_is_told_by_cause():
    run, lines = truth()
    for n, line in enumerate(lines[:3]):
        line.update(cause="STALLED", phases_us=line["phases_us"] | {"detect": 500000.0 + n})
    lines[3].update(cause=None, phases_us={})
    s = summary.summarise(run, lines)
    others = set(s["by_cause"]) - {"STALLED"}
    assert s["by_cause"]["STALLED"] == {"deaths": 3, "detect_us": {"n": 3, "p50": 500001.0, "p99": 500002.0, "max": 500002.0}}
    assert len(others) == 1 and s["by_cause"][others.pop()]["deaths"] == 16
    assert ("STALLED", "3", "500.00 ms", "500.00 ms") in [tuple(row) for row in report.found_by(s)]


def test_it_is_a_pure_function():
    run, lines = truth()
    before = copy.deepcopy((run, lines))
    assert summary.summarise(run, lines) == summary.summarise(run, lines) and (run, lines) == before


def spoil_lost(run, lines): lines[3]["lost"] = 1
def spoil_outside(run, lines): run["outside"]["lost"] = 1
def spoil_twice(run, lines): run["workload"]["duplicates"] = 1
def spoil_wrong(run, lines): run["workload"]["mismatch"] = 1
def spoil_pages(run, lines): run["rest_after"]["pages_free"] -= 1
def spoil_objects(run, lines): run["rest_after"]["objects"] += 1
def spoil_dead(run, lines): run["rest_after"]["dead_pages"] = 1
def spoil_activated(run, lines): [t.update(activated=False, outcome="not_activated") for t in lines[:3]]
def spoil_flight(run, lines): [t.update(in_flight=0) for t in lines[:16]]
def spoil_panic(run, lines): lines[-1]["outcome"] = "kernel_panic"
def spoil_degraded(run, lines): lines[0]["outcome"] = "degraded"
def spoil_workload(run, lines): run["workload"] = None


def test_room_that_was_needed_once_is_no_leak_but_what_fills_it_is():
    run, lines = truth()
    run["rest_after"].update(pages_free=999, room=21)
    assert summary.summarise(run, lines)["leaks"] == 0
    run["rest_after"].update(objects=301)
    assert summary.summarise(run, lines)["leaks"] == 1
    run["rest_after"].update(objects=300, pages_free=998)
    assert summary.summarise(run, lines)["leaks"] == 1


@pytest.mark.parametrize("spoil", [spoil_lost, spoil_outside, spoil_twice, spoil_wrong, spoil_pages, spoil_objects, spoil_dead, spoil_activated,
                                   spoil_flight, spoil_panic, spoil_degraded, spoil_workload])
def test_each_target_can_be_missed(spoil):
    run, lines = truth()
    spoil(run, lines)
    s = summary.summarise(run, lines)
    assert not s["met"] and summary.exit_code(s) == 1


def test_a_harness_error_is_never_a_success():
    run, lines = truth()
    lines[0]["outcome"] = "harness_error"
    assert summary.exit_code(summary.summarise(run, lines)) == 4
    run, lines = truth()
    run["verified"] = False
    assert summary.exit_code(summary.summarise(run, lines)) == 4


def test_summary_is_made_again_from_the_files(tmp_path):
    run, lines = truth()
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(t) + "\n" for t in lines))
    first = summary.write(tmp_path)
    text = (tmp_path / "summary.json").read_text()
    (tmp_path / "summary.json").unlink()
    assert summary.write(tmp_path) == first and (tmp_path / "summary.json").read_text() == text


def test_wilson_interval():
    low, high = summary.wilson(200, 200)
    assert 0.98 < low < 0.982 and high == 1.0


def test_the_first_trials_of_a_boot_are_not_timed_and_all_else_of_them_counts():
    lines = [judge.record(evidence(), "", early) | {"recovery_us": us} for early, us in ((True, 9000.0), (False, 1000.0), (False, 1200.0))]
    s = summary.summarise({}, lines)
    assert (s["injected"], s["recovered"]) == (3, 3)
    assert (s["recovery_us"]["n"], s["recovery_us"]["max"]) == (2, 1200.0)
    assert summary.times(lines[:1])["recovery_us"]["max"] == 9000.0, "there are no others"
