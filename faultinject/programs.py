# SPDX-License-Identifier: BSD-2-Clause
"""The programs that faults are aimed at, as their ELF files tell: text, data, functions. A folder of a boot disk lies
in the build that made it (BUILD/image/NAME), the programs beside it (BUILD/user)."""
import bisect
import dataclasses
import functools
import pathlib

from tools import qemu

PROGRAM_OF = {"virtio_disk": "virtio_blk"}  # one program, several services
PAGE = 4096


@dataclasses.dataclass(frozen=True)
class Program:
    path: pathlib.Path
    text_start: int
    text: bytes
    data_start: int
    end: int           # of the image
    functions: tuple   # (address, bytes, name), sorted
    objects: dict      # name -> address

    @property
    def text_pages(self):
        return (self.text_start % PAGE + len(self.text) + PAGE - 1) // PAGE

    def code(self, address, size):
        return self.text[address - self.text_start:address - self.text_start + size]

    def function_at(self, address):
        """(its address, size, name), or None."""
        at = bisect.bisect_right(self.functions, (address, 1 << 62, "")) - 1
        found = self.functions[at] if at >= 0 else None
        return found if found and found[0] <= address < found[0] + found[1] else None

    def where(self, address):
        found = self.function_at(address)
        return f"{found[2]}+{address - found[0]:#x}" if found else f"{address:#x}"

    def address(self, name):
        """Of a function by name; a compiler's suffix (.part.0) does not count."""
        for at, _, known in self.functions:
            if known.split(".")[0] == name:
                return at
        raise KeyError(f"{self.path} has no function {name}")


def read(path):
    try:
        from elftools.elf.elffile import ELFFile
    except ImportError:
        raise qemu.EnvironmentProblem("python3-pyelftools is missing: run `make deps`") from None
    with open(path, "rb") as f:
        elf = ELFFile(f)
        loads = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
        text = next(s for s in loads if s["p_flags"] & 1)
        data = next(s for s in loads if s["p_flags"] & 2)
        symbols = list(elf.get_section_by_name(".symtab").iter_symbols())
        functions = tuple(sorted((s["st_value"], s["st_size"], s.name) for s in symbols
                                 if s["st_info"]["type"] == "STT_FUNC" and s["st_size"]))
        objects = {s.name: s["st_value"] for s in symbols if s["st_info"]["type"] == "STT_OBJECT"}
        return Program(path, text["p_vaddr"], text.data(), data["p_vaddr"], data["p_vaddr"] + data["p_memsz"], functions, objects)


@functools.lru_cache(maxsize=None)
def member_offset(path, struct, member):
    """Of a member of a C structure, from the debugging information."""
    from elftools.elf.elffile import ELFFile
    with open(path, "rb") as f:
        for unit in ELFFile(f).get_dwarf_info().iter_CUs():
            for entry in unit.iter_DIEs():
                if entry.tag != "DW_TAG_structure_type" or name_of(entry) != struct:
                    continue
                for child in entry.iter_children():
                    if child.tag == "DW_TAG_member" and name_of(child) == member:
                        return child.attributes["DW_AT_data_member_location"].value
    raise KeyError(f"{path} has no {struct}.{member}")


def name_of(entry):
    return entry.attributes["DW_AT_name"].value.decode() if "DW_AT_name" in entry.attributes else ""


@functools.lru_cache(maxsize=None)
def of_service(image, service):
    """image: pathlib.Path of the boot disk's folder."""
    path = pathlib.Path(image).parent.parent / "user" / f"{PROGRAM_OF.get(service, service)}.elf"
    if not path.is_file():
        raise qemu.EnvironmentProblem(f"{path} is missing: run `make image`")
    program = read(path)
    if program.text not in (pathlib.Path(image) / "system.img").read_bytes():
        raise qemu.EnvironmentProblem(f"{path}: not the program in {image}/system.img: run `make image`")
    return program
