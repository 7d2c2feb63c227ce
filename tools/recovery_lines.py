#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""How much of a driver is about recovery: `tools/recovery_lines.py drivers/virtio_blk [-v]`. Counted, without blank lines
and and comments: record.c and record.h (what outlives an incarnation) but for the figures that they keep, the functions named
below, and every other line that speaks of checkpoints, replay, restoring or versions. Not counted: what a first start needs
as well, such as the device's reset, asking who the disk is, and the queue's memory. Exit code 1: more lines than a driver should need (tests/unit/test_tools.py)."""
import pathlib
import re
import sys

MOST = 60
FILES = ("record.c", "record.h")
FUNCTIONS = ("record_valid", "identity_same", "identity_restore", "program_prepare")
FIGURES = ("record_count", "record_batch", "record_count_request")
WORDS = re.compile(r"checkpoint|record_(valid|schema)|replay|restore|migrate|recover", re.I)


def code_lines(text):
    """(number, line) of what is neither blank nor comment."""
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    return [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]


def about_recovery(path):
    inside, figures, out = False, False, []
    for number, line in code_lines(path.read_text()):
        starts = re.match(r"[a-z].*?\b(\w+)\(", line)
        if starts and not line.rstrip().endswith(";"):
            inside, figures = starts[1] in FUNCTIONS, False
        if starts and starts[1] in FIGURES:
            figures = not line.rstrip().endswith((";", "}"))
            continue
        guard = line.startswith("#") and "include" not in line and "CHECKPOINT" not in line
        if not figures and not guard and (path.name in FILES or inside or WORDS.search(line)):
            out.append((number, line))
        if line.startswith("}") or (inside and line.rstrip().endswith("}") and starts):
            inside = figures = False
    return out


def main():
    folder = pathlib.Path(sys.argv[1])
    found = {path: about_recovery(path) for path in sorted(folder.glob("*.[ch]"))}
    total = sum(len(code_lines(path.read_text())) for path in found)
    for path, lines in found.items():
        for number, line in lines if "-v" in sys.argv else ():
            print(f"{path}:{number}: {line}")
    count = sum(map(len, found.values()))
    print(f"{folder}: {count} of {total} lines of code are about recovery")
    return 1 if count >= MOST else 0


if __name__ == "__main__":
    sys.exit(main())
