# SPDX-License-Identifier: BSD-2-Clause
"""The Linux guest's boot disk: our loader, Debian's kernel as it is, and an initramfs of one static program
and the kernel modules that it loads.

    image.py --kernel FOLDER --init FILE --loader FILE -o boot.img     FOLDER: what fetch.sh left
"""
import argparse
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tools import mkimage  # noqa: E402

# In the order in which they must be loaded. What Debian builds into the kernel needs no module.
MODULES = {
    "disk": ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk"],
    "uio": ["uio", "uio_pci_generic"],
}
FOLDER, FILE = 0o040755, 0o100755


def entry(number, name, mode, data=b""):
    """One entry of a cpio archive, format "newc" (Linux, Documentation/driver-api/early-userspace/buffer-format)."""
    fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
    return padded(head) + padded(data)


def padded(data):
    return data + bytes(-len(data) % 4)


def initramfs(init, modules):
    """init: bytes of /init; modules: {folder: [bytes]}, which become /modules/folder/0.ko, 1.ko, ..."""
    out = [("init", FILE, init), ("modules", FOLDER, b"")]
    for folder, files in modules.items():
        out.append((f"modules/{folder}", FOLDER, b""))
        out += [(f"modules/{folder}/{i}.ko", FILE, data) for i, data in enumerate(files)]
    body = b"".join(entry(i + 1, *file) for i, file in enumerate(out))
    return body + entry(0, "TRAILER!!!", 0)


def module(kernel, name):
    found = list(kernel.glob(f"lib/modules/*/kernel/**/{name}.ko"))
    if len(found) != 1:
        raise mkimage.Problem(f"{kernel}: {len(found)} modules of the name {name}")
    return found[0].read_bytes()


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("kernel", "init", "loader"):
        p.add_argument(f"--{name}", type=pathlib.Path, required=True)
    p.add_argument("-o", "--output", type=pathlib.Path, required=True)
    args = p.parse_args()
    modules = {folder: [module(args.kernel, name) for name in names] for folder, names in MODULES.items()}
    initrd = args.output.parent / "initrd.img"
    with mkimage.written_whole(initrd) as new:
        new.write_bytes(initramfs(args.init.read_bytes(), modules))
    mkimage.disk(args.output, {"EFI/BOOT/BOOTX64.EFI": args.loader, "linux/vmlinuz": args.kernel / "boot/vmlinuz",
                               "linux/initrd.img": initrd})


if __name__ == "__main__":
    try:
        main()
    except (mkimage.Problem, OSError) as problem:
        print(f"image.py: {problem}", file=sys.stderr)
        sys.exit(1)
