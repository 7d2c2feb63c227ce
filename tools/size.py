# SPDX-License-Identifier: BSD-2-Clause
"""Counts the kernel: lines of C, headers and assembly in kernel/ without the host port, which is test
code. Lines are all lines, comments and blank ones too: nothing is gained by formatting. Exit 1 if over."""
import argparse
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def kernel_lines():
    """folder -> lines"""
    lines = {}
    for path in sorted((ROOT / "kernel").rglob("*")):
        name = path.relative_to(ROOT)
        if path.suffix in (".c", ".h", ".S", ".ld") and "host" not in name.parts:
            lines[str(name.parent)] = lines.get(str(name.parent), 0) + path.read_bytes().count(b"\n")
    return lines


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--max", type=int, required=True)
    p.add_argument("--elf", type=pathlib.Path)
    args = p.parse_args()
    lines = kernel_lines()
    total = sum(lines.values())
    for folder, n in lines.items():
        print(f"{n:7} lines  {folder}")
    print(f"{total:7} lines  of {args.max} allowed")
    if args.elf:
        print(f"{args.elf.stat().st_size:7} bytes  {args.elf}, symbols included")
    return 0 if total < args.max else 1


if __name__ == "__main__":
    sys.exit(main())
