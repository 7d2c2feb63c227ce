# SPDX-License-Identifier: BSD-2-Clause
"""The simulator (tests/sim): many schedules hold, a seed repeats exactly, and bugs planted on purpose are
found, shrunk and replayed. A plant changes one place in a copy of one source."""
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("COPPICE_BUILD", "build")
SIM = BUILD / "tests/sim"
SCHEDULES, CHECKED = 20000, 1500
PLANT_SCHEDULES = 600000  # at most: the rarest plant, no drain, shows once in 70,000
PLANT_FIRST = {"replay before the device is quiet": 200000}  # the first two that show it, 27531 and 128672, shrink to 10 and 9 faults

# name: file, what stands there, what is planted (None: a switch for the compiler), what the simulator says
PLANTS = {
    "starts before its dependency": (
        "supervisor/core.c", "    default: return VERDICT_WAIT;\n    }\n}\n\n/* What an earlier",
        "    default: return VERDICT_START;\n    }\n}\n\n/* What an earlier", "starts before|invariant"),
    "one restart too many": (
        "supervisor/core.c", "return s->window_count <= m->intensity;", "return s->window_count <= m->intensity + 1;",
        "deaths in its period|invariant|assertion"),
    "a follower is forgotten": (
        "supervisor/core.c", "if (supervisor_serving(state->service[j].state))\n            step_kill(",
        "if (state->service[j].state == SERVICE_STATE_RUNNING)\n            step_kill(", "restarts with it|invariant"),
    "a new supervisor starts nothing": (
        "supervisor/core.c", "if (s->state == SERVICE_STATE_STARTING) act_start(step, i);", "",
        "."),
    "a dead spare is taken for ever": (
        "supervisor/core_spare.c", "    s->spare = SPARE_NONE;\n    s->spare_deaths +=", "    s->spare_deaths +=", "."),
    "a bad version is not rolled back": (
        "supervisor/core_spare.c", "    s->program = s->previous;\n", "", "."),
    "a spare outlives its service": (
        "supervisor/core.c", "    if (down_for_good(to)) spare_end(step, i);\n", "", "invariant|stands by for it"),
    "a spare's name is used twice": (
        "supervisor/core_spare.c", "s->spare_generation = ++s->issued;", "s->spare_generation = s->issued + 1;", "."),
    "a group that fails is not waited for": (
        "supervisor/core_group.c", "    if (falls_with_group(other)) return VERDICT_WAIT;\n", "", "still being stopped|invariant"),
    "a group fails one failure too late": (
        "supervisor/core_group.c", "return kept <= m->intensity;", "return kept <= m->intensity + 1;",
        "more failures than it may|invariant"),
    "what is nested does not restart": (
        "supervisor/core_index.c", "return mark_nested(state, leader) || again;", "return again;", "invariant"),
    "a nested group starts before its turn": (
        "supervisor/core_group.c", "    if (strategy == STRATEGY_REST_FOR_ONE && j < i && theirs == shared)\n        return verdict_of_member(other->state);\n", "",
        "comes before it|invariant"),
    "a death counts twice in the ledger": (
        "recovery/core_ledger.c", "        s->attempts[slot]++; /*", "        s->attempts[slot] += 2; /*", "poisoned after"),
    "a torn completion is believed": (
        "recovery/core_ledger.c", "return completed > id || load(&e->issued_id) != id ||",
        "return completed > id ||", "."),
    "who leaks is never found": (
        "supervisor/core_growth.c", "++g->looks >= GROWTH_LOOKS", "++g->looks > 1000000", "nobody finds it"),
    "a lost interrupt of its predecessor is held against a driver": (
        "recovery/core_ledger.c", "load(&s->ledger->irq_lost) == generation", "generation && load(&s->ledger->irq_lost)",
        "its device sends them"),
    "who was never asked has not answered": (
        "recovery/core_watch.c", "    if (w->state == WATCH_ASKED)\n        watch_reset(w);\n    else if", "    if", "sleeps with nothing to do"),
    "memory is freed under a driver": (
        "recovery/core.c", "(s->held_generation == 0 || s->held_generation != r->server[s->server].generation)",
        "s->held_generation <= r->server[s->server].generation", "is freed while"),
    "a corrupted checkpoint is taken": (
        "recovery/core_checkpoint.c", "if (sum[0] != c->sum[0] || sum[1] != c->sum[1]) return CHECKPOINT_BAD_SUM;", "",
        "is believed"),
    "replay before the device is quiet": ("tests/sim/actors.c", None, "-DSIM_NO_DRAIN", "disk|lost|gives|with the device"),
    "an update that the supervisor fell in is forgotten": (
        "supervisor/core_spare.c", "if (none && s->spare_generation == 0) return;", "if (none || s->updating) return;",
        "while service|is alive|no spare|does not end|invariant"),
    "a request that ends recovery is tried for ever": (
        "recovery/core_hand.c", "h->tries >= HAND_TRIES_MAX", "h->tries >= 1000000", "is tried again after 5 falls"),
    "a slot is freed too late": (
        "lib/session_block.c", "    s->busy &= ~(1ul << i);\n    return true;", "    return true;", "."),
}

LEFT_MAX = 12  # faults that a shrunk schedule may need: which schedule is the first to show a plant, any change of the cores decides


def play(program, *args):
    done = subprocess.run([str(program), *map(str, args)], cwd=ROOT, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout


@pytest.mark.parametrize("program,seeds", [("sim", SCHEDULES), ("sim_checked", CHECKED)])
def test_schedules_hold(program, seeds):
    code, said = play(SIM / program, "--seeds", seeds, "--jobs", os.environ.get("JOBS", "2"))
    assert code == 0, said
    assert f"sim: {seeds} schedules" in said and " 0 failed" in said


def test_a_seed_is_a_schedule():
    one, two = (play(SIM / "sim", "--seed", 5, "--trace") for _ in range(2))
    assert one == two and one[0] == 0
    assert play(SIM / "sim", "--seed", 6, "--trace")[1] != one[1]


def plant(tmp_path, name):
    """A simulator with one changed object."""
    source, old, new, _ = PLANTS[name]
    objects = [str(p) for p in (SIM / "obj").rglob("*.o")]
    victim = "tests/sim/actors.c" if source.startswith("lib/") else source
    flags = ["-std=gnu11", "-O1", "-fno-strict-aliasing", f"-I{tmp_path}", "-I.", "-Ilib", "-Itests/sim",
             f"-I{Path(source).parent}"]
    file = victim
    if old is None:
        flags.append(new)
    else:
        text = (ROOT / source).read_text()
        assert text.count(old) == 1, f"{source} has changed: plant `{name}` anew"
        changed = tmp_path / source
        changed.parent.mkdir(parents=True)
        changed.write_text(text.replace(old, new))
        file = victim if source.startswith("lib/") else str(changed)
    if source.startswith("lib/"):  # "lib/X.c" is looked for beside actors.c, then in tmp_path, then here
        file = str(tmp_path / "actors.c")
        (tmp_path / "actors.c").write_text((ROOT / victim).read_text())
    subprocess.run(["gcc", *flags, "-c", file, "-o", str(tmp_path / "planted.o")], cwd=ROOT, check=True)
    kept = [o for o in objects if not o.endswith(f"/{victim}.o")]
    assert len(kept) == len(objects) - 1
    subprocess.run(["gcc", *kept, str(tmp_path / "planted.o"), "-o", str(tmp_path / "sim")], check=True)
    return tmp_path / "sim"


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found_shrunk_and_replayed(tmp_path, name):
    program = plant(tmp_path, name)
    code, said = play(program, "--seeds", PLANT_SCHEDULES, "--first", PLANT_FIRST.get(name, 1), "--jobs", os.environ.get("JOBS", "2"))
    assert code == 1, said
    assert re.search(r"FAILED: .*(" + PLANTS[name][3] + ")", said), said
    left, whole = map(int, re.search(r"shrunk to (\d+) of (\d+) faults", said).groups())
    assert left <= whole and left <= LEFT_MAX
    replay = re.search(r"sim: replay: \S+ (.*)", said).group(1).split()
    again = play(program, *replay)
    assert again[0] == 1 and "FAILED" in again[1]
    assert play(SIM / "sim", *replay)[0] == 0, "the same schedule holds without the plant"
