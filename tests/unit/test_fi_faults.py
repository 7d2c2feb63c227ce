# SPDX-License-Identifier: BSD-2-Clause
"""The table of faults: whole, and the same in the documentation, on the command line and in the guest."""
import collections
import pathlib
import re

import pytest

from faultinject import aims, faults, fi, judge, plan

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DOCUMENT = (ROOT / "docs/FAULTS.md").read_text()


def test_the_document_has_the_table():
    rows = [line for line in DOCUMENT.splitlines() if line.startswith("| `")]
    assert rows == list(faults.markdown())[2:]


def test_the_document_has_the_proofs():
    rows = dict(re.findall(r"^\| (\w+) \| ([^|]+) \|$", DOCUMENT, re.M))
    assert set(rows) - {"proof"} == set(faults.PROOFS)


@pytest.mark.parametrize("fault", faults.TABLE, ids=lambda f: f.name)
def test_every_row_is_whole(fault):
    assert fault.family in faults.FAMILIES and fault.proof in faults.PROOFS
    assert fault.targets and set(fault.targets) <= set(faults.SERVICES)
    assert fault.how == "" or fault.how in faults.MECHANISMS


def test_names_are_used_once():
    assert len(faults.BY_NAME) == len(faults.TABLE) and not set(faults.BY_NAME) & set(faults.GROUPS)


def test_every_snippet_is_in_the_injector():
    code = (ROOT / "faultinject/injector/gadgets.c").read_text()
    assert all(f"gadget_{f.code}:" in code for f in faults.TABLE if f.how in ("jump", "call"))


def test_every_kind_is_in_the_injector():
    code = (ROOT / "faultinject/injector/corrupt.c").read_text()
    assert all(f'"{f.code}"' in code for f in faults.TABLE if f.how == "corrupt")


def test_the_injector_knows_a_checkpoint():
    magic = {re.search(r"#define CHECKPOINT_MAGIC (\w+)", (ROOT / path).read_text())[1]
             for path in ("recovery/core.h", "faultinject/injector/corrupt.h")}
    assert len(magic) == 1


def test_the_judge_knows_a_note():
    assert re.search(r"INJECT_NOTE = (\d)", (ROOT / "abi/syscall.h").read_text())[1] == str(judge.NOTE)


def test_each_has_every_pair_as_often():
    trials = plan.make_each(1, 2)
    counts = collections.Counter((t.service, t.fault) for t in trials)
    assert set(counts.values()) == {2} and [t.n for t in trials] == list(range(1, len(trials) + 1))
    assert set(counts) == {(s, f.name) for f in faults.TABLE if not f.apart for s in f.targets
                           if s in faults.DRIVER_GROUPS["all"] and f.how != "all"} | {("all", "all")}


def test_orders_say_how():
    order, _ = aims.order(plan.make_trial(1, 1, "echo", "loop"), None)
    assert (order["how"], order["code"]) == ("jump", "loop")


def test_whoever_can_spoil_records_has_them_read_back():
    swept = {(t.service, t.fault) for t in plan.make_each(1, 1) if aims.spoils(t)}
    assert {service for service, _ in swept} == {"virtio_blk"}
    assert {fault for _, fault in swept} >= {f.name for f in faults.TABLE if f.lies and not f.apart} | {"corrupt_ring", "garbage"}
    assert not {fault for _, fault in swept} & {"kill", "ud2", "loop", "double", "all", "corrupt_checkpoint"}


def test_the_place_that_was_reached_is_told():
    assert aims.reached("one; two; three", {"site": 2}) == "two"
    assert aims.reached("one; two; three", {"site": 0}) == aims.reached("one; two; three", {}) == "one; two; three"


def test_lists(capsys):
    assert fi.main(["list", "faults"]) == fi.MET
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {f.name}\s", text, re.M) for f in faults.TABLE)
    assert fi.main(["list", "drivers"]) == fi.MET
    assert all(name in capsys.readouterr().out for name in ["virtio_blk"])
    with pytest.raises(SystemExit) as end:
        fi.main(["list", "weather"])
    assert end.value.code == fi.USAGE
