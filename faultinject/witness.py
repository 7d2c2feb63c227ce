# SPDX-License-Identifier: BSD-2-Clause
"""What the kernel's own records say, read from outside: objects, capabilities, mappings and page tables, found
through the kernel's debug information in the memory of the stopped machine. No process is asked, so none can lie.

    kernel = Kernel(guest, "build/kernel/kernel.elf", folder)
    with kernel.stopped():
        problems = audit(kernel, service=9)        # authority that a service and its children should not have
        problems += unchanged(kernel, "build/image/hostile/system.img")
"""
import contextlib
import pathlib
import struct
import time

from elftools.elf.elffile import ELFFile

from tools import abi

PAGE = 4096
READ, WRITE, EXECUTE = 1, 2, 4
PTE_PRESENT, PTE_WRITE, PTE_USER, PTE_NX = 1, 2, 4, 1 << 63
FRAME = 0x000FFFFFFFFFF000
MEMORY_CONTIGUOUS, MEMORY_DEVICE, MEMORY_IMMUTABLE, MEMORY_KERNEL = 1, 4, 8, 16
FRAMES_INLINE, FRAMES_INDEX = 9, 1024  # kernel/memory.h
STRUCTS = ("process", "capability", "cap_chunk", "object", "memory", "mapping", "arch_space", "thread", "dma", "line")
BUNDLE_MAGIC = b"COPPIMG1"


class Kernel:
    def __init__(self, guest, elf, folder):
        self.guest = guest
        self.scratch = pathlib.Path(folder).resolve() / "witness.tmp"
        with open(elf, "rb") as f:
            file = ELFFile(f)
            table = file.get_section_by_name(".symtab")
            self.symbols = {s.name: s["st_value"] for s in table.iter_symbols() if s.name}
            self.sizes = {s.name: s["st_size"] for s in table.iter_symbols() if s.name}
            self.constant = [(s["p_vaddr"], s.data()) for s in file.iter_segments("PT_LOAD") if not s["p_flags"] & 2]
            self.layout = layouts(file.get_dwarf_info())

    @contextlib.contextmanager
    def stopped(self):
        """The machine stands still, and no CPU is inside the kernel: its lists are whole."""
        deadline = time.monotonic() + 30
        while True:
            self.guest.qmp("stop")
            if not self.u32(self.symbols["kernel_lock"]):
                break
            self.guest.qmp("cont")
            if time.monotonic() > deadline:
                raise TimeoutError("the kernel lock is held whenever we look")
        try:
            yield self
        finally:
            self.guest.qmp("cont")

    def read(self, address, size, physical=False):
        signed = address - (1 << 64) if address >> 63 else address
        self.guest.qmp("pmemsave" if physical else "memsave", val=signed, size=size, filename=str(self.scratch))
        return self.scratch.read_bytes()

    def u32(self, address):
        return struct.unpack("<I", self.read(address, 4))[0]

    def u64(self, address):
        return struct.unpack("<Q", self.read(address, 8))[0]

    def at(self, name, address):
        return Struct(self, name, address)

    def list(self, head, name, member):
        """The structures linked in a kernel list by that member."""
        offset = self.layout[name][member][0]
        at = self.u64(head)
        while at != head:
            yield self.at(name, at - offset)
            at = self.u64(at)


class Struct:
    """A structure in the kernel's memory: s["member"] is a number; s.address_of("member")."""

    def __init__(self, kernel, name, address):
        self.kernel, self.name, self.address = kernel, name, address
        self.fields = kernel.layout[name]
        self.data = kernel.read(address, self.fields[None])

    def __getitem__(self, member):
        offset, size = self.fields[member][:2]
        return int.from_bytes(self.data[offset:offset + size], "little")

    def address_of(self, member):
        return self.address + self.fields[member][0]


def layouts(dwarf):
    """{struct: {member: (offset, size), None: bytes}}; members of nested structures by a dot."""
    found = {}
    for unit in dwarf.iter_CUs():
        for die in unit.iter_DIEs():
            name = die.attributes.get("DW_AT_name")
            if die.tag != "DW_TAG_structure_type" or not name or "DW_AT_byte_size" not in die.attributes:
                continue
            name = name.value.decode()
            if name in STRUCTS and name not in found:
                found[name] = {None: die.attributes["DW_AT_byte_size"].value} | dict(members(die))
    return found


def members(die, base=0, prefix=""):
    for child in die.iter_children():
        if child.tag != "DW_TAG_member" or "DW_AT_data_member_location" not in child.attributes:
            continue  # bit fields: read by hand
        name = prefix + child.attributes["DW_AT_name"].value.decode()
        offset = base + child.attributes["DW_AT_data_member_location"].value
        kind = resolve(child)
        yield name, (offset, kind.attributes["DW_AT_byte_size"].value if "DW_AT_byte_size" in kind.attributes else 8)
        if kind.tag == "DW_TAG_structure_type":
            yield from members(kind, offset, name + ".")


def resolve(die):
    kind = die.get_DIE_from_attribute("DW_AT_type")
    while kind.tag in ("DW_TAG_typedef", "DW_TAG_const_type", "DW_TAG_volatile_type"):
        kind = kind.get_DIE_from_attribute("DW_AT_type")
    return kind


# --- Processes ------------------------------------------------------------------------------------------------
def processes(kernel, top=None):
    """Every process, parents first."""
    p = top or kernel.at("process", kernel.u64(kernel.symbols["process_root"]))
    yield p
    for child in list(kernel.list(p.address_of("children"), "process", "sibling")):
        yield from processes(kernel, child)


def tag_of(p):
    return p["object.tag"]


class Capability:
    def __init__(self, kernel, address, data=None):
        self.address = address
        data = data or kernel.read(address, 64)
        self.object, mixed, self.badge, _, self.parent = struct.unpack_from("<5Q", data)
        self.rights = mixed & 0xFFFF
        self.chunk = address & ~(PAGE - 1)


def capabilities(kernel, p):
    base, count = p.address_of("chunk"), p["chunk_count"]
    chunks = struct.unpack(f"<{count}Q", kernel.read(base, 8 * count)) if count else ()
    for chunk in chunks:
        page = kernel.read(chunk, PAGE)
        for at in range(64, PAGE, 64):
            if page[at:at + 8] != bytes(8):
                yield Capability(kernel, chunk + at, page[at:at + 64])


TYPES = abi.names("objects")
RIGHTS = abi.numbers("rights")


def may_hold(kind, rights):
    """What an ordinary service is given from outside, at most (system/hostile.toml)."""
    bits = {name: 1 << n for name, n in RIGHTS.items()}
    allowed = {
        "ENDPOINT": bits["READ"] | bits["WRITE"],
        "TRACE": bits["WRITE"],                                        # the log
        "MEMORY": bits["READ"] | bits["WRITE"] | bits["GRANT"],        # sessions; the image, read-only
        "NOTIFICATION": bits["WRITE"] | bits["GRANT"],                 # doorbells
    }
    return kind in allowed and not rights & ~allowed[kind]


def audit(kernel, service):
    """Lines about each authority that the service's processes hold and should not."""
    everybody = list(processes(kernel))
    family = {p.address: p for p in everybody if tag_of(p) & 0xFFF == service}
    owners = {p.address: tag_of(p) & 0xFFF for p in everybody}
    problems, seen = [], 0
    for p in family.values():
        for c in capabilities(kernel, p):
            seen += 1
            problems += audit_capability(kernel, p, c, family)
        problems += audit_mappings(kernel, p, family, owners)
    return problems, {"processes": len(family), "capabilities": seen}


def audit_capability(kernel, p, c, family):
    who = f"process {p['pid']}"
    o = kernel.at("object", c.object)
    kind = TYPES.get(o["type"], f"type {o['type']}")
    name = f"{who} holds {kind} at {c.object:#x} with rights {c.rights:#x}"
    problems = []
    if c.parent:
        parent = Capability(kernel, c.parent)
        if parent.object != c.object:
            problems.append(f"{name}: its parent names another object")
        if c.rights & ~parent.rights:
            problems.append(f"{name}: its parent has only {parent.rights:#x}")
    own = o["owner"] in family
    if kind in ("ROOT", "INJECT", "IRQ", "PORTS", "DMA"):
        problems.append(f"{name}: authority over hardware or others")
    elif kind == "PROCESS" and c.object not in family:
        problems.append(f"{name}: a process of others")
    elif kind != "PROCESS" and not own and not may_hold(kind, c.rights):
        problems.append(f"{name}: not its own, and more than it was given")
    return problems


# --- Address spaces -----------------------------------------------------------------------------------------------
def frames_of(kernel, m):
    """paddr of each page of a memory object."""
    pages = m["pages"]
    if m["flags"] & (MEMORY_CONTIGUOUS | MEMORY_DEVICE | MEMORY_KERNEL):
        return [m["base"] + n * PAGE for n in range(pages)]
    inline = struct.unpack(f"<{FRAMES_INLINE}I", kernel.read(m.address_of("frame"), 4 * FRAMES_INLINE))
    if pages <= FRAMES_INLINE:
        return [f * PAGE for f in inline[:pages]]
    numbers = []
    for index in inline[:(pages + FRAMES_INDEX - 1) // FRAMES_INDEX]:
        numbers += struct.unpack(f"<{FRAMES_INDEX}I", kernel.read(index * PAGE, PAGE, physical=True))
    return [f * PAGE for f in numbers[:pages]]


def leaves(kernel, table, level=4, base=0):
    """(address, entry) of every page that user mode can reach."""
    for n, entry in enumerate(struct.unpack("<512Q", kernel.read(table & FRAME, PAGE, physical=True))):
        if level == 4 and n >= 256:
            if entry & PTE_USER:
                yield 0xFFFF << 48 | n << 39, entry
            continue
        if not entry & PTE_PRESENT:
            continue
        address = base | n << (3 + 9 * level)
        if level == 1:
            yield address, entry
        else:
            yield from leaves(kernel, entry, level - 1, address)


def audit_mappings(kernel, p, family, owners):
    who, expected, problems = f"process {p['pid']}", {}, []
    for m in kernel.list(p.address_of("mappings"), "mapping", "of_process"):
        memory = kernel.at("memory", m["memory"])
        others = memory["object.owner"] not in family
        if others and m["prot"] & EXECUTE and not memory["flags"] & MEMORY_IMMUTABLE:
            problems.append(f"{who} executes memory of service {owners.get(memory['object.owner'])}")
        if memory["flags"] & (MEMORY_IMMUTABLE | MEMORY_DEVICE) and m["prot"] & WRITE:
            problems.append(f"{who} writes the system image or a device")
        frames = frames_of(kernel, memory)
        for n in range(m["pages"]):
            expected[m["start"] + n * PAGE] = (frames[m["offset"] + n], m["prot"])
    for address, entry in leaves(kernel, p["space.root"]):
        frame, prot = expected.get(address, (None, 0))
        if entry & FRAME != frame:
            problems.append(f"{who}: page {address:#x} shows frame {entry & FRAME:#x}; its mapping says {frame}")
        if entry & PTE_WRITE and not entry & PTE_NX:
            problems.append(f"{who}: page {address:#x} is writable and executable")
        if (entry & PTE_WRITE and not prot & WRITE) or (not entry & PTE_NX and not prot & EXECUTE):
            problems.append(f"{who}: page {address:#x} allows more than its mapping")
    return problems


def system_image(kernel):
    """Physical address of the system image."""
    root = kernel.at("process", kernel.u64(kernel.symbols["process_root"]))
    for o in kernel.list(root.address_of("objects"), "object", "owned"):
        if TYPES.get(o["type"]) == "MEMORY":
            m = kernel.at("memory", o.address)
            if m["flags"] & MEMORY_IMMUTABLE and kernel.read(m["base"], 8, physical=True) == BUNDLE_MAGIC:
                return m["base"]
    raise RuntimeError("the first process has no system image")


# --- Canaries --------------------------------------------------------------------------------------------------------
def unchanged(kernel, system_image):
    """Nobody wrote the kernel's text and constants, nor the system image, of which all text is mapped."""
    problems = []
    for address, data in kernel.constant:
        if kernel.read(address, len(data)) != data:
            problems.append(f"the kernel's read-only segment at {address:#x} is not what was built")
    root = kernel.at("process", kernel.u64(kernel.symbols["process_root"]))
    whole = pathlib.Path(system_image).read_bytes()
    for o in kernel.list(root.address_of("objects"), "object", "owned"):
        if TYPES.get(o["type"]) != "MEMORY":
            continue
        m = kernel.at("memory", o.address)
        if m["flags"] & MEMORY_IMMUTABLE and m["pages"] == (len(whole) + PAGE - 1) // PAGE:
            if kernel.read(m["base"], len(whole), physical=True) == whole:
                return problems
    return problems + ["the system image in memory is not what was built"]
