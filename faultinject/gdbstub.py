# SPDX-License-Identifier: BSD-2-Clause
"""Changes code of the running kernel through QEMU's gdb stub, to see that a test notices: the remote protocol of
gdb, as much of it as writing memory needs."""
import contextlib
import re
import socket
import struct
import subprocess

from elftools.elf.elffile import ELFFile

RET = bytes((0xC3,))
INVALID = bytes((0x0F, 0x0B))  # ud2


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def port_of(guest):
    """Where the machine's stub listens, from the first question on."""
    if not hasattr(guest, "gdb_port"):
        guest.gdb_port = free_port()
        guest.hmp(f"gdbserver tcp:127.0.0.1:{guest.gdb_port}")
    return guest.gdb_port


class Stub:
    """The machine stands still while this is open."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ask("D")  # and the machine goes on
        self.socket.close()

    def packet(self):
        while not (found := re.search(rb"\$([^#]*)#..", self.rest)):
            data = self.socket.recv(4096)
            if not data:
                raise RuntimeError("the gdb stub is gone")
            self.rest += data
        self.rest = self.rest[found.end():]
        self.socket.sendall(b"+")
        return found[1].decode()

    def ask(self, text):
        self.socket.sendall(f"${text}#{sum(text.encode()) % 256:02x}".encode())
        while (answer := self.packet()).startswith("T"):  # it also says that the machine has stopped
            pass
        return answer

    def write(self, address, data):
        if self.ask(f"M{address:x},{len(data):x}:{data.hex()}") != "OK":
            raise RuntimeError(f"the gdb stub does not write at {address:#x}")

    def physical(self):
        if self.ask("Qqemu.PhyMemMode:1") != "OK":
            raise RuntimeError("this QEMU's gdb stub does not write physical memory")

    def read(self, address, size):
        return bytes.fromhex(self.ask(f"m{address:x},{size:x}"))


def function(elf, name):
    for line in subprocess.run(["nm", str(elf)], check=True, capture_output=True, text=True).stdout.splitlines():
        address, _, symbol = line.split()[-3:]
        if symbol == name:
            return int(address, 16)
    raise RuntimeError(f"{elf} has no function {name}")


def switch_off(guest, elf, name):
    """A function of the kernel, of no result, returns at once from now on."""
    with Stub(port_of(guest)) as stub:
        stub.write(function(elf, name), RET)


def switch_off_program(guest, image, image_paddr, build, program, name):
    """The same for a function of a program, whose text every incarnation shares: in the system image at image_paddr."""
    with open(build / "user" / "boot" / f"{program}.elf", "rb") as f:  # as it is in the image: without symbols
        segments = [(s["p_vaddr"], s["p_filesz"], s["p_offset"]) for s in ELFFile(f).iter_segments("PT_LOAD")]
    at = function(build / "user" / f"{program}.elf", name)
    inside = next(offset + at - start for start, size, offset in segments if start <= at < start + size)
    with Stub(port_of(guest)) as stub:
        stub.physical()
        stub.write(image_paddr + bundle_offset(image, program) + inside, RET)


def inlined(elf, name):
    """Where a function begins that the compiler has put into its only caller."""
    with open(elf, "rb") as f:
        for unit in ELFFile(f).get_dwarf_info().iter_CUs():
            for entry in unit.iter_DIEs():
                if entry.tag != "DW_TAG_inlined_subroutine" or "DW_AT_entry_pc" not in entry.attributes:
                    continue
                origin = entry.get_DIE_from_attribute("DW_AT_abstract_origin").attributes.get("DW_AT_name")
                if origin and origin.value.decode() == name:
                    return entry.attributes["DW_AT_entry_pc"].value
    raise RuntimeError(f"{elf} has no inlined function {name}")


def bundle_offset(image, program):
    """Where a file begins in a bundle (abi/bundle.h)."""
    with open(image, "rb") as f:
        _, _, count, _ = struct.unpack("<QIIQ", f.read(24))
        for _ in range(count):
            name, offset, _ = struct.unpack("<24sQQ", f.read(40))
            if name.rstrip(b"\0").decode() == program:
                return offset
    raise RuntimeError(f"{image} has no {program}")


@contextlib.contextmanager
def physical(guest):
    """Reads and writes at physical addresses, registers of devices among them, while the machine stands still."""
    port = free_port()
    guest.hmp(f"gdbserver tcp:127.0.0.1:{port}")
    with Stub(port) as stub:
        stub.ask("Qqemu.PhyMemMode:1")
        yield stub
        stub.ask("Qqemu.PhyMemMode:0")
    guest.hmp("gdbserver none")
