# SPDX-License-Identifier: BSD-2-Clause
"""All faults, one row each: what happens, where it strikes, who can be struck, and what proves that it was active.
Everything that lists faults reads this table: plans, `fi list`, orders to the guest, the judge, reports, docs/FAULTS.md.

A row that the injector in the guest carries out names its mechanism (`how`) and, where it runs a snippet of code in the
target, the snippet (`code`, faultinject/injector/gadgets.c). A row without `how` is carried out by the host."""
import dataclasses

FAMILIES = {  # of faults, in the order of lists
    "process": "the driver's process ends, hangs, or uses up what it has",
    "memory": "what the driver computes with is not what it was",
    "mutation": "the driver's program is another one",
    "protocol": "the driver breaks the rules of what it shares with others",
    "system": "several things at once",
}
PROOFS = {  # name -> what the judge looks for; an activated fault is one with its proof
    "struck": "STRIKE of the target in the kernel's trace: it was stopped at that instruction, and the fault was done there",
    "poked": "POKED of the target in the kernel's trace: its memory was written",
    "killed": "DEATH of every driver in the kernel's trace",
}
MECHANISMS = ("kill", "jump", "garbage", "all")  # what the injector in the guest can do

BLOCK = ("virtio_blk", "virtio_disk")
SERVED = BLOCK + ("serial", "echo")
STRUCK = SERVED + ("pci",)  # pci is not a driver; its restart takes the block drivers with it
SERVICES = STRUCK           # all that can be struck, in the order of lists


@dataclasses.dataclass(frozen=True)
class Fault:
    name: str
    family: str
    what: str               # happens, as a clause
    where: str              # it strikes
    proof: str              # key of PROOFS
    targets: tuple          # services
    how: str = ""           # mechanism of the injector; "": the host's
    code: str = ""          # snippet that the target is made to run
    weight: int = 0         # in the group "mix", the everyday campaign
    exception: bool = False  # of the group "exception"


AT_RANDOM = "an instruction of the driver, counted from a random moment"


def exception(name, what):
    return Fault(name, "process", what, AT_RANDOM, "struck", STRUCK, how="jump", code=name, weight=3, exception=True)


TABLE = (
    Fault("kill", "process", "it is ended", AT_RANDOM, "struck", STRUCK, how="kill", weight=50),
    exception("ud2", "it executes an invalid instruction"),
    exception("divide", "it divides by zero"),
    exception("page_fault", "it loads from address 0"),
    exception("protection", "it executes a privileged instruction"),
    exception("noncanonical", "it loads from an address that cannot be"),
    exception("breakpoint", "it executes a breakpoint that nobody set"),
    exception("stack_overflow", "it pushes until its stack ends"),
    Fault("loop", "process", "it spins for ever", AT_RANDOM, "struck", STRUCK, how="jump", code="loop", weight=5),
    Fault("block", "process", "it waits for ever for what nobody can signal", AT_RANDOM, "struck", STRUCK, how="jump",
          code="block", weight=5),
    Fault("garbage", "protocol", "it writes nonsense where its clients read completions",
          "ledger entries of requests in flight: ids of the future, of another slot, unknown status", "poked", BLOCK,
          how="garbage", weight=6),
    Fault("double", "system", "it is ended, and its successor again while it recovers",
          AT_RANDOM + "; then one of the successor, start to READY", "struck", SERVED, how="kill", weight=8),
    Fault("all", "system", "every driver is ended at once", "all drivers, by the operator's kill", "killed", SERVICES, how="all",
          weight=5),
)
BY_NAME = {fault.name: fault for fault in TABLE}

GROUPS = {  # a name for several faults -> weights
    "exception": {f.name: 1 for f in TABLE if f.exception},
    "mix": {f.name: f.weight for f in TABLE if f.weight},
}
DRIVER_GROUPS = {  # a name for several services -> weights
    "mix": {"virtio_blk": 85, "serial": 5, "echo": 5, "pci": 5},
    "all": {"virtio_blk": 1, "serial": 1, "echo": 1, "pci": 1},
}
DRIVERS = {  # service -> what it is
    "virtio_blk": "block driver, with the workload's requests in flight",
    "virtio_disk": "block driver of your own disk; only with --disk",
    "serial": "16550, with characters typed and echoed",
    "echo": "no device: answers calls",
    "pci": "enumerates the bus; its restart takes the block drivers with it",
}


def of_service(service):
    """Names of the faults that make sense for it alone."""
    return tuple(f.name for f in TABLE if service in f.targets and f.how != "all")


# --- lists ---------------------------------------------------------------------------------------------------

def targets_text(fault):
    return "every driver" if fault.targets == SERVICES and fault.how == "all" else ", ".join(fault.targets)


def list_faults():
    for family, what in FAMILIES.items():
        rows = [f for f in TABLE if f.family == family]
        if not rows:
            continue
        yield f"{family}: {what}"
        for f in rows:
            yield f"  {f.name:<18}{f.what}"
            yield f"  {'':<18}at: {f.where}; of: {targets_text(f)}; proof: {f.proof}"
    yield "proofs:"
    for name, text in PROOFS.items():
        yield f"  {name:<18}{text}"
    yield "groups: " + ", ".join(GROUPS)


def list_drivers():
    for name, what in DRIVERS.items():
        yield f"{name:<13}{what}"
        yield f"{'':<13}faults: {', '.join(of_service(name))}"
    yield "groups: " + ", ".join(DRIVER_GROUPS)


def markdown():
    """The table in docs/FAULTS.md, a test compares them."""
    yield "| fault | family | what happens | where it strikes | who | proof |"
    yield "|---|---|---|---|---|---|"
    for f in TABLE:
        yield f"| `{f.name}` | {f.family} | {f.what} | {f.where} | {targets_text(f)} | {f.proof} |"
