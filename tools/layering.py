# SPDX-License-Identifier: BSD-2-Clause
"""Checks that dependencies run one way, by the #include lines of every C file:

    abi <- kernel          abi <- lib <- drivers, services, the shells of supervisor and recovery
    abi <- supervisor/core*, recovery/core*  (pure: they also run in tests and the simulator)

Prints each breach as file:line and exits with 1 if there is any."""
import fnmatch
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
PLAIN = ["stddef.h", "stdint.h", "stdbool.h", "stdarg.h", "limits.h"]  # freestanding: no library behind them
DEVICES = PLAIN + ["elf.h", "linux/virtio_*.h", "linux/types.h", "linux/pci_regs.h", "linux/serial_reg.h"]

# First match wins: (files, may include "these" of the repository, may include <these>).
# {own} is the file's own folder. Headers found only through -I are listed by name.
RULES = [
    ("abi/*", ["abi/*"], PLAIN),
    ("kernel/arch/host/*", ["abi/*", "kernel/*"], ["*"]),
    ("kernel/arch/x86_64/*", ["abi/*", "kernel/*"], PLAIN + ["elf.h"]),
    ("kernel/hide.h", [], PLAIN + ["sanitizer/asan_interface.h"]),  # host tests only
    ("kernel/*", ["abi/*", "kernel/*.h", "kernel/arch/arch.h", "kernel/arch/*/regs.h"],
     PLAIN + ["elf.h"]),
    ("lib/*", ["abi/*", "lib/*"], PLAIN),
    ("supervisor/core*", ["abi/*", "supervisor/core*.h"], PLAIN),
    ("recovery/core*", ["abi/*", "recovery/core*.h"], PLAIN),
    ("efi/verify.c", ["abi/*", "efi/*", "bearssl_hash.h"], PLAIN),
    ("efi/*", ["abi/*", "efi/*"], PLAIN + ["efi.h", "efilib.h"]),
    ("bench/linux/*", ["{own}/*"], ["*"]),  # runs on another system
    ("tests/*", ["*"], ["*"]),
    # versions of one driver share what they do not change
    ("drivers/virtio_blk_v*/*", ["abi/*", "lib/*", "{own}/*", "drivers/virtio_blk/*.h"], DEVICES),
    ("*", ["abi/*", "lib/*", "{own}/*", "bearssl_hash.h"], DEVICES),
]
FOLDERS = ["abi", "kernel", "lib", "drivers", "services", "supervisor", "recovery", "efi", "faultinject",
           "bench", "tests"]


def resolve(file, name):
    """The repository path of an #include "name", or the name itself if it is found elsewhere."""
    near = os.path.normpath(file.parent / name)
    for candidate in (near, name, f"kernel/{name}", f"kernel/arch/x86_64/{name}", f"kernel/arch/host/{name}"):
        if (ROOT / candidate).exists():
            return os.path.normpath(candidate)
    return name


def allowed(file, bracket, name):
    _, own_headers, system_headers = next(r for r in RULES if fnmatch.fnmatch(str(file), r[0]))
    if bracket == "<":
        return any(fnmatch.fnmatch(name, pattern) for pattern in system_headers)
    target = resolve(file, name)
    return any(fnmatch.fnmatch(target, p.format(own=file.parent)) for p in own_headers)


def breaches(file):
    for number, line in enumerate((ROOT / file).read_text().splitlines(), 1):
        found = INCLUDE.match(line)
        if found and not allowed(file, *found.groups()):
            yield f"{file}:{number}: {file.parts[0]} may not include {found.group(2)}"


def main():
    files = [p.relative_to(ROOT) for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*"))
             if p.suffix in (".c", ".h", ".S", ".def")]
    found = [b for f in files for b in breaches(f)]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
