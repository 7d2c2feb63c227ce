# SPDX-License-Identifier: BSD-2-Clause
"""What a driver's DMA can reach. The driver of QEMU's `edu` is told to aim at kernel memory, at another driver's
buffer and at a buffer that it gave back; each time checksums of the target, read by QEMU's monitor outside the
guest's power, stay as they were, the fault is in the trace, and that driver alone is restarted. The same attacks on a
machine without an IOMMU change memory: they are real."""
import hashlib
import json
import re
import socket
import struct
import subprocess
import time

import pytest

from tests.system.conftest import BUILD, boot  # puts the repository on the path
from faultinject import trace
from tools import abi

MOVE, FILL, CHECK, TAKE, RETURN = range(1, 6)  # abi/protocol.def, EDU
TO_MEMORY, TO_DEVICE = 1, 0
READ, WRITE = 1, 2  # RIGHT_READ, RIGHT_WRITE, and the bits of an entry of the IOMMU's tables
PATTERN = 0x5EED_F00D_CAFE_D00D
BYSTANDERS = ("supervisor", "recovery", "pci", "serial", "virtio_blk", "edu_stuck", "console", "injector")
PAGE = 4096
BYTES = 2048  # of a driver's buffer
KERNEL_BASE = 0xFFFFFFFF80000000
ROOT_TABLE_REGISTER = 0xFED90020  # of QEMU's intel-iommu
MSI = 0x40                        # where edu's capability is in its configuration space
EDU_RAISE = 0x60                  # register: raises its interrupt
FIRST_VECTOR = 48                 # of devices: somebody's, who came first
E_BUSY = abi.numbers("errors")["E_BUSY"]
DEVICES = "-device edu,dma_mask=0xffffffffffffffff -device edu,dma_mask=0xffffffffffffffff"


def symbol(name):
    names = subprocess.run(["nm", BUILD / "kernel/kernel.elf"], capture_output=True, text=True, check=True).stdout
    return int(re.search(rf"^([0-9a-f]+) . {name}$", names, re.M)[1], 16)


class Memory:
    """Physical memory and registers, written through QEMU's gdb stub while the machine stands still."""

    def __init__(self, lab):
        path = lab.folder / "gdb.sock"
        lab.guest.hmp(f"gdbserver unix:{path},server=on,wait=off")
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))

    def __enter__(self):
        assert self.say("Qqemu.PhyMemMode:1") == "OK"
        return self

    def __exit__(self, *_):
        self.say("D")  # and the machine goes on
        self.socket.close()

    def say(self, text):
        self.socket.sendall(b"$%s#%02x" % (text.encode(), sum(text.encode()) % 256))
        answer = b""
        while not (found := re.search(rb"\$((?!T)[^#]*)#..", answer)):  # T...: it stands still now
            answer += self.socket.recv(4096)
        self.socket.sendall(b"+")
        return found[1].decode()

    def read(self, paddr, size):
        return bytes.fromhex(self.say(f"m{paddr:x},{size:x}"))

    def write(self, paddr, data):
        assert self.say(f"M{paddr:x},{len(data):x}:{data.hex()}") == "OK"


class Lab:
    """A machine with two edu devices: what the injector calls for, and what is seen from outside."""

    def __init__(self, folder, iommu):
        self.console = boot(folder, image="iommu", iommu=iommu, extra=DEVICES)
        self.guest, self.folder = self.console.guest, folder
        self.read_memory = trace.memory_reader(self.guest, folder)
        self.console.await_log('"injector":{"ready"')
        self.kernel = int(re.search(r"0x([0-9a-f]+)", self.guest.hmp(f"gva2gpa {KERNEL_BASE:#x}"))[1], 16)
        said = self.event("boot")
        self.ring = trace.Rings(self.read_memory, said["trace_paddr"], said["cpus"])

    def event(self, name, after=0):
        found = re.findall(r'^(?:\[[\d.]+\] )?(\{"%s":.*\}\})$' % name, self.console.log()[after:], re.M)
        return json.loads(found[-1])[name] if found else None

    def order(self, label, *words, service="edu"):
        """A call of the driver by the injector, the answer as (status, w0)."""
        self.console.pump(0)
        at = len(self.console.log())
        names = ("w0", "w1", "w2")
        self.guest.channel.sendall(json.dumps({"op": "call", "service": service, "label": label} | dict(zip(names, words)))
                                   .encode() + b"\n")
        self.console.await_log("}}\n", after=at)
        answer = self.event("call", at)
        return answer["status"], answer["w0"]

    def ok(self, label, *words, service="edu"):
        status, word = self.order(label, *words, service=service)
        assert status == 0, f"EDU call {label}: status {status}\n{self.console.story()}"
        return word

    def await_rest(self, pattern=0):
        """The transfer has ended; whether the driver's buffer is full of the pattern."""
        deadline = time.monotonic() + 20
        while (answer := self.order(CHECK, pattern))[0] == E_BUSY:
            assert time.monotonic() < deadline, self.console.story()
        assert answer[0] == 0, self.console.story()
        return answer[1]

    def load(self):
        """The device's own memory is full of the pattern: what an attack would leave behind."""
        self.ok(MOVE, self.ok(FILL, PATTERN), BYTES, TO_DEVICE)
        self.await_rest()

    def generations(self):
        return {name: self.console.service(name)["gen"] for name in BYSTANDERS}

    def sum(self, pages):
        return hashlib.sha256(b"".join(self.read_memory(page, PAGE) for page in pages)).hexdigest()

    # --- the IOMMU's own tables, as it reads them ------------------------------------------------------------
    def words(self, paddr):
        return struct.unpack("<512Q", self.read_memory(paddr, PAGE))

    def mapped(self, bdf):
        """{I/O address: (frame, rights)} of a function: all that it can reach. Legacy mode, three levels."""
        register = self.guest.hmp(f"xp /1gx {ROOT_TABLE_REGISTER:#x}")
        root = int(register.split("0x")[-1], 16) & ~0xFFF
        bus = self.words(root)[2 * (bdf >> 8)]
        if not bus & 1:
            return {}
        context = self.words(bus & ~0xFFF)[2 * (bdf & 0xFF)]
        return dict(self.walk(context & ~0xFFF, 2, 0)) if context & 1 else {}

    def walk(self, table, level, base):
        for i, entry in enumerate(self.words(table)):
            at = base | i << (12 + 9 * level)
            if entry & 3 and level:
                yield from self.walk(entry & 0xFFFFFFFFF000, level - 1, at)
            elif entry & 3:
                yield at, (entry & 0xFFFFFFFFF000, entry & 3)

    def bdf(self, service):
        bus, device, function = re.search(r"pci: (..):(..)\.(.) \S+ is for %s\b" % service, self.console.log()).groups()
        return int(bus, 16) << 8 | int(device, 16) << 3 | int(function)

    # --- an attack --------------------------------------------------------------------------------------------
    def kernel_pages(self):
        """Text and read-only data: what never changes."""
        return [self.kernel + at for at in range(0, 0x10000, PAGE)]

    def attack(self, address, pages, way=TO_MEMORY, size=64):
        """Aims; the pages, and all that never changes in the kernel, must not notice, and edu alone must die."""
        self.load()
        watched = list(pages) + self.kernel_pages()
        before, others, generation = self.sum(watched), self.generations(), self.console.service("edu")["gen"]
        self.ring.read()
        self.ok(MOVE, address, size, way)
        self.console.await_service("edu", lambda row: row["gen"] == generation + 1 and row["state"] == "running")
        assert self.sum(watched) == before, "memory that is not edu's has changed"
        assert self.generations() == others, "somebody else was restarted"
        self.check_trace(generation, address, way)

    def check_trace(self, generation, address, way):
        entries = [e for e in self.ring.read() if e.event in ("DMA_FAULT", "DEATH", "FENCE_BUS_MASTER", "FENCE_DRAINED")]
        fault = entries[0]
        service = fault.service
        assert fault.event == "DMA_FAULT" and fault.generation == generation, entries
        assert fault.a & 0xFFFF == self.bdf("edu") and fault.a >> 24 == way and fault.b == address & ~0xFFF, fault
        assert [e.event for e in entries] == ["DMA_FAULT", "DEATH", "FENCE_BUS_MASTER", "FENCE_DRAINED"], entries
        assert all((e.service, e.generation) == (service, generation) for e in entries), entries
        assert trace.CAUSES[entries[1].a] == "DMA_FAULT" and entries[3].b > 0, entries


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    made = Lab(tmp_path_factory.mktemp("iommu"), iommu=True)
    yield made
    made.guest.stop()


def test_what_was_mapped_works(lab):
    lab.load()
    iova = lab.ok(FILL, 0)
    assert lab.await_rest(0) == 1
    lab.ok(MOVE, iova, BYTES, TO_MEMORY)
    assert lab.await_rest(PATTERN) == 1, "the device's memory came back"
    assert lab.console.service("edu")["gen"] == 1


def test_a_domain_holds_what_its_driver_mapped_and_nothing_else(lab):
    iova = lab.ok(FILL, 0x1234)
    reach = lab.mapped(lab.bdf("edu"))
    assert list(reach) == [iova] and reach[iova][0] != iova
    assert struct.unpack("<Q", lab.read_memory(reach[iova][0], 8))[0] == 0x1234, "this is the driver's buffer"
    theirs = lab.mapped(lab.bdf("virtio_blk"))
    assert theirs and not set(theirs) & set(reach) and not {f for f, _ in theirs.values()} & {f for f, _ in reach.values()}
    assert all(lab.mapped(bdf) == {} for bdf in range(0x100)
               if bdf not in [lab.bdf(name) for name in ("edu", "edu_stuck", "virtio_blk")])


def test_dma_into_the_kernel_is_blocked(lab):
    lab.attack(lab.kernel, [])


def test_dma_out_of_the_kernel_is_blocked(lab):
    lab.attack(lab.kernel, [], way=TO_DEVICE)


def test_dma_into_another_drivers_buffer_is_blocked(lab):
    """By its physical address, and by the address that is right in the other driver's domain."""
    for service in ("virtio_blk", "edu_stuck"):
        theirs = lab.mapped(lab.bdf(service))
        iova, (frame, _) = next(iter(theirs.items()))
        for address in (frame, iova):
            lab.attack(address, [frame for frame, _ in theirs.values()])


def test_dma_into_its_own_freed_buffer_is_blocked(lab):
    """The device has used it: only dropping the IOMMU's cached translation keeps it out."""
    iova = lab.ok(TAKE)
    frame, _ = lab.mapped(lab.bdf("edu"))[iova]
    lab.load()
    lab.ok(MOVE, iova, BYTES, TO_MEMORY)
    lab.await_rest()
    assert struct.unpack("<Q", lab.read_memory(frame, 8))[0] == PATTERN, "as long as it is its own it works"
    lab.ok(FILL, 0x77)
    lab.ok(MOVE, lab.ok(FILL, 0x77), BYTES, TO_DEVICE)
    lab.await_rest()
    lab.ok(RETURN)
    assert iova not in lab.mapped(lab.bdf("edu"))
    before, generation = lab.sum([frame]), lab.console.service("edu")["gen"]
    lab.ring.read()
    lab.ok(MOVE, iova, 64, TO_MEMORY)
    lab.console.await_service("edu", lambda row: row["gen"] == generation + 1 and row["state"] == "running")
    assert lab.sum([frame]) == before, "the freed page has changed"
    lab.check_trace(generation, iova, TO_MEMORY)


@pytest.mark.parametrize("may, works, blocked", [(READ, TO_DEVICE, TO_MEMORY), (WRITE, TO_MEMORY, TO_DEVICE)])
def test_reading_and_writing_are_apart(lab, may, works, blocked):
    """The same buffer, the same address: one way ends the driver, and the buffer is what it was; the other works. In this order:
    QEMU refuses what a translation that it has cached forbids as well, but reports no fault then (CAVEATS.md)."""
    iova = lab.ok(TAKE, may)
    frame, rights = lab.mapped(lab.bdf("edu"))[iova]
    assert rights == may
    lab.attack(iova, [frame], way=blocked)
    iova = lab.ok(TAKE, may)
    frame, _ = lab.mapped(lab.bdf("edu"))[iova]
    lab.load()
    before, generation = lab.sum([frame]), lab.console.service("edu")["gen"]
    lab.ok(MOVE, iova, BYTES, works)
    lab.await_rest()
    after = lab.sum([frame])
    assert (after == before) == (works == TO_DEVICE), "as far as it may, it works"
    lab.ok(MOVE, iova, BYTES, blocked)
    lab.await_rest()
    assert lab.sum([frame]) == after
    lab.ok(RETURN)
    assert lab.console.service("edu")["gen"] == generation


def test_an_interrupt_of_another_sender_is_dropped(lab):
    """edu's own message, as a driver that reached its MSI registers could aim it: at the entry of another's vector."""
    generations = lab.generations()
    config = int(re.search(r"([0-9a-f]{16})-\S+ \(.*\): pcie-mmcfg-mmio", lab.guest.hmp("info mtree"))[1], 16)
    config += lab.bdf("edu") << 12
    bars = re.findall(r"1234:11e8.*?BAR0: 32 bit memory at 0x([0-9a-f]+)", lab.guest.hmp("info pci"), re.S)
    with Memory(lab) as memory:
        assert memory.read(config + MSI, 1) == b"\x05", "edu's MSI capability"
        for offset, value in ((MSI + 4, 0xFEE00010 | FIRST_VECTOR << 5), (MSI + 8, 0), (MSI + 12, 0)):
            memory.write(config + offset, struct.pack("<I", value))
        memory.write(config + MSI, struct.pack("<I", 0x81_0005))  # enabled, 64-bit addresses
        memory.write(int(bars[0], 16) + EDU_RAISE, struct.pack("<I", 1))
        memory.write(config + MSI, struct.pack("<I", 0x80_0005))
    assert "invalid IRTE SID" in (lab.folder / "qemu.err").read_text(), "QEMU took the message"
    assert lab.generations() == generations


def test_a_device_that_never_confirms_its_reset_keeps_its_pages(lab):
    """Its pages stay in quarantine, which is said; its driver is given up by policy; nobody else suffers."""
    others = lab.generations()
    frames = [frame for frame, _ in lab.mapped(lab.bdf("edu_stuck")).values()]
    lab.console.run("kill edu_stuck")
    assert lab.console.await_service("edu_stuck", lambda row: "gave up" in row["state"])
    lab.console.await_log(f"with edu_stuck given up, {len(frames)} pages stay in quarantine until a device confirms its reset")
    quarantine = next(line for line in lab.console.run("mem").splitlines() if "quarantine" in line)
    assert int(quarantine.split()[-2]) == 4 * len(frames)
    assert lab.mapped(lab.bdf("edu_stuck")) == {}, "and out of its device's reach meanwhile"
    del others["edu_stuck"]
    now = lab.generations()
    assert all(now[name] == others[name] for name in others)
    assert lab.console.service("edu")["state"] == "running"


def test_without_an_iommu_the_same_attacks_succeed(tmp_path):
    """On bytes that nobody needs: the kernel's first instructions, which run once, and the freed buffer."""
    lab = Lab(tmp_path, iommu=False)
    try:
        assert "NO IOMMU: DMA IS UNPROTECTED" in lab.console.log()
        lab.load()
        entry = lab.kernel + symbol("kernel_entry") - KERNEL_BASE
        lab.ok(MOVE, entry, 16, TO_MEMORY)
        lab.await_rest()
        assert lab.read_memory(entry, 16) == struct.pack("<QQ", PATTERN, PATTERN), "the kernel was not written"
        frame = lab.ok(TAKE)
        lab.ok(RETURN)
        lab.ok(MOVE, frame, 64, TO_MEMORY)
        lab.await_rest()
        assert struct.unpack("<Q", lab.read_memory(frame, 8))[0] == PATTERN, "the freed page was not written"
        theirs = lab.ok(TAKE, service="edu_stuck")
        lab.ok(MOVE, theirs, 64, TO_MEMORY)
        lab.await_rest()
        assert struct.unpack("<Q", lab.read_memory(theirs, 8))[0] == PATTERN, "the other driver's page was not written"
        assert lab.console.service("edu")["gen"] == 1, "and nobody noticed"
    finally:
        lab.guest.stop()


def test_without_an_iommu_a_driver_with_dma_is_refused(machine):
    """virtio_blk of the default system does not say dma = "unprotected"; the system comes up without it."""
    console = machine(iommu=False)
    console.await_log('pci: virtio_blk does not say dma = "unprotected" and there is no IOMMU: refused')
    console.await_log("supervisor: virtio_blk is refused")
    assert console.service("virtio_blk")["state"] == "absent"
    assert console.run("echo still here").strip() == "still here"


def test_with_an_iommu_unprotected_changes_nothing(lab):
    assert 'is for edu; the IOMMU confines it although dma = "unprotected"' in lab.console.log()
