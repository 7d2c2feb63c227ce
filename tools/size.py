# SPDX-License-Identifier: BSD-2-Clause
"""Counts the kernel: lines of C, headers and assembly in kernel/ without the host port, which is test
code. Lines are all lines, comments and blank ones too: nothing is gained by formatting. With --image, also the bytes
of what a machine is given to boot: loader, kernel, system image. Exit 1 if over."""
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


def image_fits(files, limit):
    sizes = {path: path.stat().st_size for path in files}
    for path, size in sizes.items():
        print(f"{size:7} bytes  {path}")
    print(f"{sum(sizes.values()):7} bytes  of {limit} allowed for all of the image")
    return sum(sizes.values()) <= limit


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--max", type=int, required=True)
    p.add_argument("--image", type=pathlib.Path, nargs="+", help="loader, kernel, system image")
    p.add_argument("--max-image", type=int, default=500_000)
    args = p.parse_args()
    lines = kernel_lines()
    total = sum(lines.values())
    for folder, n in lines.items():
        print(f"{n:7} lines  {folder}")
    print(f"{total:7} lines  of {args.max} allowed")
    fits = not args.image or image_fits(args.image, args.max_image)
    return 0 if total < args.max and fits else 1


if __name__ == "__main__":
    sys.exit(main())
