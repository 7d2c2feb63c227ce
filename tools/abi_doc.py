# SPDX-License-Identifier: BSD-2-Clause
"""Generates docs/ABI.md from abi/*.def. `--check FILE` compares instead and exits with 1 if they differ."""
import argparse
import difflib
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import abi  # noqa: E402

INTRO = """# The contract between kernel and processes

<!-- Generated from abi/*.def by `make docs`: edit those. -->

Structures and constants are in `abi/*.h`: `syscall.h` (info word, structures the kernel writes),
`session.h` (sessions and ledger), `startup.h`, `manifest.h`, `bundle.h`, `handoff.h`, `trace.h`.
"""
# list, title, columns: (heading, index of the macro's argument, set as code)
LISTS = [
    ("syscalls", "System calls", [("nr", 0, False), ("name", 1, True), ("arguments", 2, False),
                                  ("results", 3, False), ("meaning", 4, False)]),
    ("errors", "Statuses", [("nr", 1, False), ("name", 0, True), ("meaning", 2, False)]),
    ("faults", "Causes of a process's end", [("nr", 1, False), ("name", 0, True), ("meaning", 2, False)]),
    ("objects", "Objects", [("nr", 1, False), ("name", 0, True), ("meaning", 2, False)]),
    ("rights", "Rights", [("bit", 1, False), ("name", 0, True), ("meaning", 2, False)]),
    ("protocol", "Messages", [("service", 0, True), ("name", 1, True), ("label", 2, False),
                              ("request", 3, False), ("reply", 4, False), ("meaning", 5, False)]),
    ("trace", "Trace events", [("nr", 1, False), ("name", 0, True), ("a", 2, False), ("b", 3, False),
                               ("meaning", 4, False)]),
    ("marks", "Trace marks", [("nr", 1, False), ("name", 0, True), ("value", 2, False),
                              ("meaning", 3, False)]),
]


def cell(value, code):
    text = str(value).replace("|", "\\|")
    return f"`{text}`" if code and text else text


def section(name, title, columns):
    lines = [f"## {title}", "", abi.header(name), "",
             "| " + " | ".join(heading for heading, _, _ in columns) + " |",
             "|" + "---|" * len(columns)]
    for entry in abi.read(name):
        lines.append("| " + " | ".join(cell(entry["args"][i], code) for _, i, code in columns) + " |")
    return "\n".join(lines) + "\n"


def document():
    return INTRO + "\n" + "\n".join(section(*row) for row in LISTS)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("-o", "--output", type=pathlib.Path)
    p.add_argument("--check", type=pathlib.Path)
    args = p.parse_args()
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(document())
    if args.check:
        old = args.check.read_text() if args.check.exists() else ""
        changes = list(difflib.unified_diff(old.splitlines(), document().splitlines(), str(args.check),
                                            "abi/*.def", lineterm="", n=0))
        if changes:
            print("\n".join(changes[:20]))
            print(f"{args.check} is not what abi/*.def says: run `make docs`")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
