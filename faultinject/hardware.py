# SPDX-License-Identifier: BSD-2-Clause
"""Faults of devices and of the machine, done by QEMU while the workload runs: one boot a fault. Each row says how it is
begun and ended, what proves that it was active, what it may do to the system, and what it must.

A disk's faults are put between QEMU's virtio device and the image file, by exchanging the node under it; registers and
interrupts are written to physical addresses, through QEMU's gdb stub, as nobody in the guest could tell from the device."""
import collections
import contextlib
import dataclasses
import random
import time

from faultinject import campaign, fleet, gdbstub, phases, plan as plans, replay
from tools import qemu

EIO, ENOMEDIUM = 5, 123
DELAY_SECONDS = (0.05, 0.3)  # of work before the fault
SERVE_SECONDS = 10
UNPLUG_SECONDS = 10          # from the button to power off: the guest takes a little more than one
TOLD_LATE = 200               # writes: two batches of acknowledgements
BEGUN_SECONDS = 0.1           # what was under way before the fault is told of
DISK = "data-disk"           # tools/qemu.py: the virtio device, the node it reads, the file below
NODE, FILE = "data", "data-file"
LAPIC = 0xFEE00000           # a write of V there is an interrupt message with vector V for CPU 0
VECTORS = range(0x20, 0x100)
AT_ONCE = 8                  # pending together
VIRTIO_STATUS = 0x14         # in the common configuration, at the start of BAR 4
MSIX_ENTRY, MSIX_ENTRIES = 16, 2  # in BAR 1
EDU_SOURCE, EDU_TARGET, EDU_BYTES, EDU_COMMAND = 0x80, 0x88, 0x90, 0x98
EDU_BUFFER, EDU_START, EDU_TO_MEMORY = 0x40000, 1, 2
PORT = "pcie-root-port,id=root-port,chassis=1,addr=1c"
MCE_CORRECTED = "0 9 0x9400004000040151 0 0x1000 0x8c"     # valid, enabled, address; not UC
MCE_FATAL = "0 9 0xbd80000000000134 0x5 0x1000 0x8c"       # UC, PCC; MCIP, RIPV


@dataclasses.dataclass(frozen=True)
class Fault:
    name: str
    what: str
    how: str                     # in QEMU
    proof: str                   # of activation
    begin: object                # (Context) -> nothing
    end: object = None
    hold_ms: int = 200           # between the two
    proved: object = None        # (Context, Seen) -> bool; None: begin raises if it was not done
    may: frozenset = frozenset()  # of: death, io_error, mismatch, lost_here
    must: str = ""               # one of them, or panic
    devices: tuple = ()          # more words for QEMU
    slot: bool = False           # the disk is in a slot


@dataclasses.dataclass
class Seen:
    """What a run left."""
    deaths: list                 # (service name, cause)
    io_errors: int = 0
    mismatches: int = 0
    lost_here: int = 0           # acknowledged while the fault lasted, and not on the disk
    lost: int = 0                # all other
    duplicates: int = 0
    panic: str | None = None
    trouble: str | None = None
    settled: bool = False
    served_after: bool = False
    finished: bool = False       # workload drained, read everything back, disk checked

    def kinds(self):
        counts = {"death": self.deaths, "io_error": self.io_errors, "mismatch": self.mismatches, "lost_here": self.lost_here,
                  "panic": self.panic}
        return {kind for kind, value in counts.items() if value}


def judge(fault, activated, seen):
    """(as it must be, outcome, why)"""
    if seen.panic:
        return fault.must == "panic", "kernel_panic", seen.panic
    if not activated:
        return False, "not_activated", fault.proof + ": not seen"
    if fault.must and fault.must not in seen.kinds():
        return False, "masked", f"no {fault.must}"
    for kind, count, outcome in (("lost", seen.lost, "recovered_with_loss"), ("duplicates", seen.duplicates, "recovered_with_loss")):
        if count:
            return False, outcome, f"{count} {kind}"
    beyond = seen.kinds() - fault.may - {fault.must}
    if beyond:
        outcome = "silent_corruption" if beyond & {"mismatch", "lost_here"} else "cascaded" if "death" in beyond else "degraded"
        return False, outcome, ", ".join(sorted(beyond))
    strangers = [f"{name} died: {cause}" for name, cause in seen.deaths if name != "virtio_blk"]
    if strangers:
        return False, "cascaded", strangers[0]
    if not (seen.settled and seen.served_after and seen.finished):
        return False, "degraded", seen.trouble or "the workload did not go on"
    told = ", ".join(sorted(seen.kinds()))
    return True, "recovered" if told else "masked", told


class Context:
    """What a fault works with: the machine, a random source of its own, and room for what it remembers."""

    def __init__(self, seed):
        self.guest, self.rng, self.note = None, random.Random(f"hardware {seed}"), {}

    def under(self, **node):
        """From now on the disk's node reads and writes through this one."""
        self.guest.qmp("blockdev-add", **({"node-name": "fault"} | node))
        self.reopen("fault")

    def reopen(self, file):
        self.guest.qmp("blockdev-reopen", options=[{"driver": "raw", "node-name": NODE, "file": file}])

    def heal(self):
        self.reopen(FILE)
        self.guest.qmp("blockdev-del", **{"node-name": "fault"})

    def bar(self, device, number):
        return next(r["address"] for d in functions(self.guest.qmp("query-pci")) if d["qdev_id"] == device
                    for r in d["regions"] if r["bar"] == number)

    def physical(self):
        return gdbstub.physical(self.guest)


def functions(buses):
    for bus in buses:
        for d in bus["devices"] if "devices" in bus else bus:
            yield d
            yield from functions([d["pci_bridge"]] if "devices" in d.get("pci_bridge", {}) else [])


# --- the disk ------------------------------------------------------------------------------------------------

def errors(errno, *kinds):
    def begin(c):
        rules = [{"event": "none", "iotype": kind, "errno": errno, "once": False, "immediately": True} for kind in kinds]
        c.under(driver="blkdebug", image=FILE, **{"inject-error": rules})
    return begin


def throttled(iops):
    def begin(c):
        c.guest.qmp("object-add", **{"qom-type": "throttle-group", "id": "slow", "limits": {"iops-total": iops}})
        c.under(driver="throttle", file=FILE, **{"throttle-group": "slow"})
    return begin


def unthrottle(c):
    c.heal()
    c.guest.qmp("object-del", id="slow")


def liar(c):
    size = c.guest.qmp("query-named-block-nodes", flat=True)
    size = next(n["image"]["virtual-size"] for n in size if n["node-name"] == NODE)
    c.under(driver="null-co", size=size, **{"read-zeroes": True})


def heal(c):
    c.heal()


def unplug(c):
    """The attention button. What follows is the guest's: QEMU takes the device away when the slot's power goes off."""
    c.guest.qmp("device_del", id=DISK)
    c.note["deleted"] = c.guest.wait_event("DEVICE_DELETED", UNPLUG_SECONDS, device=DISK) is not None


def replug(c):
    if not c.note["deleted"]:
        return
    said = c.guest.hmp("device_add " + qemu.data_disk_device(c.guest.machine))
    if said:
        raise RuntimeError(said)


def unplugged(c, seen):
    return c.note["deleted"] and c.note["acknowledged"] == 0 and ("virtio_blk", "UNPLUGGED") in seen.deaths


# --- registers and interrupts -----------------------------------------------------------------------------------

def reset_itself(c):
    with c.physical() as memory:
        memory.write(c.bar(DISK, 4) + VIRTIO_STATUS, bytes(1))
        c.note["status"] = memory.read(c.bar(DISK, 4) + VIRTIO_STATUS, 1)


def lose_interrupts(c):
    """Messages name an entry of the remapping table that is not present: they are gone, not late."""
    table = c.bar(DISK, 1)
    with c.physical() as memory:
        for entry in range(MSIX_ENTRIES):
            at = table + entry * MSIX_ENTRY
            address = int.from_bytes(memory.read(at, 4), "little")
            if address:
                memory.write(at, (address | 0x7FFF << 5).to_bytes(4, "little"))
                c.note["changed"] = True


def spurious(c):
    """Every vector there is, in a random order, whether anybody asked for it or not."""
    vectors = c.rng.sample(VECTORS, len(VECTORS))
    for at in range(0, len(vectors), AT_ONCE):
        with c.physical() as memory:
            for vector in vectors[at:at + AT_ONCE]:
                memory.write(LAPIC, vector.to_bytes(4, "little"))


def stray_dma(c):
    """A device that no driver has claimed is told to write over the kernel, as if it had gone mad."""
    with c.physical() as memory:
        bar = c.bar("mad", 0)
        for register, value, size in ((EDU_SOURCE, EDU_BUFFER, 8), (EDU_TARGET, c.rng.randrange(0x100000, 0x800000, 4096), 8),
                                      (EDU_BYTES, 4096, 8), (EDU_COMMAND, EDU_START | EDU_TO_MEMORY, 8)):
            memory.write(bar + register, value.to_bytes(size, "little"))
        c.note["started"] = memory.read(bar + EDU_COMMAND, 8)


def aer(c):
    said = c.guest.hmp("pcie_aer_inject_error root-port SDN")
    if not said.startswith("OK"):
        raise RuntimeError(said)


def mce(words):
    def begin(c):
        said = c.guest.hmp("mce " + words)
        if said:
            raise RuntimeError(said)
    return begin


def stalled(c, seen):
    return ("virtio_blk", "STALLED") in seen.deaths


FROM_DISK = frozenset(("io_error", "death"))
TABLE = (
    Fault("io_error_write", "every write ends with an I/O error", "blkdebug, EIO", "the workload's writes fail",
          errors(EIO, "write"), heal, may=FROM_DISK, must="io_error"),
    Fault("io_error_read", "every read ends with an I/O error", "blkdebug, EIO", "the workload's reads fail",
          errors(EIO, "read"), heal, may=FROM_DISK, must="io_error"),
    Fault("disk_gone", "the medium is pulled out, and put back", "blkdebug, ENOMEDIUM for reads and writes", "the workload's requests fail",
          errors(ENOMEDIUM, "read", "write"), heal, may=FROM_DISK, must="io_error"),
    Fault("unplug", "the disk is unplugged, and plugged in again", "device_del and device_add, behind a PCI Express port with a slot",
          "QEMU's DEVICE_DELETED, nothing acknowledged until it is back, and the driver dies of UNPLUGGED", unplug, replug, hold_ms=1500,
          proved=unplugged, may=frozenset({"death"}), must="death", slot=True),
    Fault("disk_slow", "200 requests a second instead of thousands", "throttle filter", "the workload gets no more done",
          throttled(200), unthrottle, hold_ms=1000, proved=lambda c, _: c.note["acknowledged"] < 400),
    Fault("disk_stuck", "requests are taken and not done for most of a second", "throttle filter, one request a second",
          "nothing is acknowledged meanwhile", throttled(1), unthrottle, hold_ms=900,
          proved=lambda c, _: c.note["acknowledged"] == 0),
    Fault("disk_lies", "reads give zeros, writes are thrown away, all with status OK", "null-co in place of the file",
          "the workload finds records that are wrong", liar, heal, may=frozenset({"mismatch", "lost_here"}), must="mismatch"),
    Fault("self_reset", "the device resets itself behind its driver", "0 written into its status register",
          "the register reads 0 and the driver dies of STALLED", reset_itself,
          proved=lambda c, seen: c.note.get("status") == bytes(1) and stalled(c, seen), may=frozenset({"death"}), must="death"),
    Fault("irq_lost", "no interrupt of the disk arrives any more", "its MSI-X table names an absent remapping entry",
          "the table is changed and the driver dies of LOST_IRQ", lose_interrupts,
          proved=lambda c, seen: c.note.get("changed") and ("virtio_blk", "LOST_IRQ") in seen.deaths, may=frozenset({"death"}), must="death"),
    Fault("irq_spurious", "every vector from 32 to 255 once, out of nowhere", "messages written to the local APIC",
          "each write is confirmed", spurious),
    Fault("nmi", "a non-maskable interrupt", "QMP inject-nmi", "the kernel's last words name it",
          lambda c: c.guest.qmp("inject-nmi"), must="panic"),
    Fault("mce_corrected", "a machine check that hardware has corrected", "HMP mce, no UC", "QEMU has taken it",
          mce(MCE_CORRECTED)),
    Fault("mce_fatal", "a machine check with broken context", "HMP mce, UC and PCC", "the kernel's last words name it",
          mce(MCE_FATAL), must="panic"),
    Fault("aer", "a PCI Express port reports a fatal error (surprise down)", "HMP pcie_aer_inject_error", "QEMU has taken it",
          aer, devices=("-device", PORT)),
    Fault("dma_stray", "a device that nobody drives writes over the kernel", "registers of QEMU's edu", "the device was started",
          stray_dma, proved=lambda c, _: "started" in c.note, devices=("-device", "edu,id=mad,addr=1d")),
)
BY_NAME = {fault.name: fault for fault in TABLE}


def find(names):
    """Rows of the table by name; all without names."""
    unknown = [name for name in names if name not in BY_NAME]
    if unknown:
        raise plans.UsageProblem(f"unknown fault '{unknown[0]}'. Allowed: {', '.join(BY_NAME)}")
    return [BY_NAME[name] for name in names] or list(TABLE)


class Run(campaign.Campaign):
    """One boot with one fault amid the workload."""

    def __init__(self, options, fault, seed):
        super().__init__(dataclasses.replace(options, plan=[], extra=fault.devices, slot=fault.slot), fleet.Silent())
        self.fault = fault
        self.context = Context(seed)
        self.delay = self.context.rng.uniform(*DELAY_SECONDS)
        self.served_after = self.is_settled = False

    def play(self):
        self.start_workload()
        self.context.guest = self.guest
        time.sleep(self.delay)
        self.order("mark", n=1)
        self.ledger.trial = 1
        self.fault.begin(self.context)
        time.sleep(BEGUN_SECONDS)
        begun = self.ledger.acks.count
        time.sleep(max(0, self.fault.hold_ms / 1e3 - BEGUN_SECONDS))
        self.context.note["acknowledged"] = self.ledger.acks.count - begun
        if self.fault.end:
            self.fault.end(self.context)
        self.is_settled = self.ask("settle") == 0
        self.served_after = self.acknowledged_more()
        self.ledger.trial = 0  # only now: the workload tells of its writes in batches
        self.complete = True

    def acknowledged_more(self):
        count, deadline = self.ledger.acks.count, time.monotonic() + SERVE_SECONDS
        while self.ledger.acks.count < count + TOLD_LATE and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.ledger.acks.count >= count + TOLD_LATE

    def seen(self):
        names = {i: s["name"] for i, s in self.services.items()}
        window = phases.windows(self.entries).get(1)
        deaths = [(names.get(e.service, str(e.service)), phases.cause_name(e.a)) for e in window.deaths] if window else []
        counts = collections.Counter()
        for c in self.ledger.counts.values():
            counts.update(c)
        return Seen(deaths=deaths, io_errors=counts["io_error"], mismatches=counts["mismatch"], duplicates=counts["duplicate"],
                    lost_here=sum(f.trial == 1 for f in self.findings), lost=sum(f.trial != 1 for f in self.findings),
                    panic=self.panic, trouble=self.trouble, settled=self.is_settled, served_after=self.served_after,
                    finished=bool(self.ledger.workload and self.verified))

    def verdict(self):
        """One line of trials.jsonl."""
        seen = self.seen()
        activated = not self.trouble or bool(seen.panic)
        if self.fault.proved and not seen.panic:
            activated = bool(self.fault.proved(self.context, seen))
        right, outcome, why = judge(self.fault, activated, seen)
        return {"fault": self.fault.name, "activated": activated, "outcome": outcome, "why": why, "as_it_must": right,
                **{k: v for k, v in dataclasses.asdict(seen).items()}, "folder": str(self.folder)}


def run(options, chosen, seed, times, show):
    """Lines of all runs; show(line) as each is known."""
    lines = []
    with contextlib.ExitStack() as stack:
        boots = {}
        for i in range(times):
            for fault in chosen:
                machine = {"extra": fault.devices, "slot": fault.slot}
                key = tuple(machine.items())
                if key not in boots:
                    boots[key] = stack.enter_context(replay.saved(dataclasses.replace(options, **machine)))
                r = Run(boots[key], fault, f"{seed} {i} {fault.name}")
                r.run()
                lines.append(r.verdict())
                show(lines[-1])
    return lines


def line_text(line):
    verdict = "as it must" if line["as_it_must"] else "NOT AS IT MUST"
    why = f" ({line['why']})" if line["why"] else ""
    return f"{line['fault']:<16}{'active' if line['activated'] else 'NOT ACTIVE':<12}{line['outcome']:<18}{verdict}{why}"


def list_faults():
    yield "hardware: done by QEMU, one boot a fault (fi hardware)"
    for f in TABLE:
        yield f"  {f.name:<18}{f.what}"
        yield f"  {'':<18}by: {f.how}; proof: {f.proof}"


def markdown():
    """The table in docs/FAULTS.md, a test compares them."""
    yield "| fault | what happens | done in QEMU by | proof | it may cause | it must cause |"
    yield "|---|---|---|---|---|---|"
    for f in TABLE:
        yield f"| *{f.name}* | {f.what} | {f.how} | {f.proof} | {', '.join(sorted(f.may)) or 'nothing'} | {f.must or '-'} |"
