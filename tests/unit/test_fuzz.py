# SPDX-License-Identifier: BSD-2-Clause
"""The kept corpus of every fuzz target, without libFuzzer; and the manifest compiler on spoilt input: whatever
the bytes, it says file and line, and never ends in a traceback."""
import os
import pathlib
import random
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
import fuzz  # noqa: E402
from tests.unit import test_manifest  # noqa: E402

REPLAY = pathlib.Path(os.environ.get("COPPICE_BUILD", "build")) / "fuzz/replay"
SPOILT = 1500
SEED = int(os.environ.get("MANIFEST_SEED", "1"))

house = test_manifest.house


@pytest.mark.parametrize("name", fuzz.targets())
def test_corpus(name):
    lines = fuzz.corpus_file(name).read_text().split()
    assert lines, "no corpus is kept for this target"
    done = subprocess.run([ROOT / REPLAY / name, fuzz.corpus_file(name)], cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env={**os.environ, **fuzz.ENVIRONMENT}, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-3000:]
    assert f"{len(lines)} inputs" in done.stdout.decode()


@pytest.mark.parametrize("patch", sorted((fuzz.TESTS / "plants").glob("*.patch")), ids=lambda p: p.stem)
def test_planted_bug_still_fits(patch):
    text = patch.read_text()
    source = (ROOT / re.search(r"^--- a/(.*)$", text, re.M).group(1)).read_text()
    removed = [line[1:] for line in text.splitlines() if re.match(r"-(?!-- )", line)]
    assert removed and all(line in source.splitlines() for line in removed)
    assert patch.stem.split("-")[0] in fuzz.targets()


WORDS = ["", "=", "[", "]", "{}", '"', "'", "\n", "\r", "\0", "#", "-1", "0", "1e400", "nan", "inf", "true", "1979-05-27",
         "18446744073709551616", "[service.a]", "[[service]]", "use", "recovery", '"""', "\ud7ff", "é", "\x7f", "a.b.c = 1",
         "[defaults]", "priority = 99999999999999999999", "depends = [[]]", "pci = [{ vendor = -1 }]", "irq = [[4]]",
         "ports = [{}]", "args = 3", "[" * 300, "service = 1", "[group.g]", "strategy = []"]


def spoil(text, dice):
    """A few changes of characters, words and whole lines."""
    for _ in range(dice.randint(1, 6)):
        at, how = dice.randint(0, len(text)), dice.randint(0, 5)
        if how == 0:
            text = text[:at] + chr(dice.choice([dice.randint(0, 127), dice.randint(128, 0xd7ff)])) + text[at + 1:]
        elif how == 1:
            text = text[:at] + dice.choice(WORDS) + text[at:]
        elif how == 2:
            text = text[:at] + text[at + dice.randint(1, 12):]
        else:
            lines = text.split("\n")
            line = dice.randrange(len(lines))
            if how == 3:
                lines.insert(line, dice.choice(WORDS))
            elif how == 4:
                lines.insert(dice.randrange(len(lines)), lines[line])
            else:
                lines[line] = re.sub(r"=.*", lambda _: "= " + dice.choice(WORDS), lines[line])
            text = "\n".join(lines)
    return text


def test_a_spoilt_manifest_is_named_by_file_and_line(house):
    whole = {"s.toml": test_manifest.RECOVERY + '[defaults]\nintensity = 5\n' +
             test_manifest.service("e", "echo", "depends = [{ on = 'recovery', kind = 'restart-with' }]") +
             test_manifest.service("d", "disk", "depends = [{ on = 'e', kind = 'hold-and-replay' }]", "dma = 'unprotected'") +
             test_manifest.service("u", "uart", "priority = 4") +
             test_manifest.service("p", "plain", 'calls = ["e"]', 'sessions = ["d"]', 'args = "x=1"')} | {
                 name: text for name, text in test_manifest.PROGRAMS.items()}
    accepted = 0
    assert house(whole["s.toml"])[1] == []
    for trial in range(SPOILT):
        dice = random.Random(SEED * 1_000_003 + trial)
        name = dice.choice(sorted(whole))
        text = spoil(whole[name], dice)
        programs = {} if name == "s.toml" else {name: text}
        try:
            system, errors = house(text if name == "s.toml" else whole["s.toml"], **programs)
        except Exception as unexpected:  # pylint: disable=broad-except
            pytest.fail(f"trial {trial}, MANIFEST_SEED={SEED}: {unexpected!r} for {name}:\n{text}")
        accepted += not errors
        assert (system is None) == bool(errors)
        for line in errors:
            assert re.match(r"[\w./-]+\.toml:[1-9]\d*: .*; expected ", line, re.S), f"trial {trial}: {line!r}"
    assert 0 < accepted < SPOILT, accepted
