# SPDX-License-Identifier: BSD-2-Clause
"""All faults, one row each: what happens, where it strikes, who can be struck, and what proves that it was active.
Everything that lists faults reads this table: plans, `fi list`, orders to the guest, the judge, reports, docs/FAULTS.md.

A row that the injector in the guest carries out names its mechanism (`how`) and, where it runs a snippet of code in the
target, the snippet (`code`, faultinject/injector/gadgets.c). A row without `how` is carried out by the host."""
import dataclasses

from faultinject.mutation import CLASSES

FAMILIES = {  # of faults, in the order of lists
    "process": "the driver's process ends, hangs, or uses up what it has",
    "memory": "what the driver computes with is not what it was",
    "mutation": "the driver's program is another one",
    "protocol": "the driver breaks the rules of what it shares with others",
    "system": "several things at once",
}
PROOFS = {  # name -> what the judge looks for; an activated fault is one with its proof
    "executed": "STRIKE (NOTE) of the target in the kernel's trace: it came to the changed instruction, and executed it next",
    "struck": "STRIKE of the target in the kernel's trace: it was stopped at that instruction, and the fault was done there",
    "poked": "POKED of the target in the kernel's trace: its memory was written",
    "spoiled": "POKED of recovery and STRIKE of the target in the kernel's trace: its checkpoint was written, and it was ended",
    "repeated": "STRIKE of the target in the kernel's trace, as many times as the trial says",
    "given_up": "STRIKE of the target and the supervisor's mark GAVE_UP in the kernel's trace",
    "starved": "two marks STARVING of the hog in the kernel's trace, as far apart as the trial says",
    "combined": "STRIKE of the target and of another in the kernel's trace, before the update had ended",
    "killed": "DEATH of every driver in the kernel's trace",
}
MECHANISMS = {  # of the injector in the guest
    "kill": "ends the target at an instruction",
    "jump": "makes it run a snippet from there, and not come back",
    "call": "makes it run a snippet there, and go on",
    "text": "gives it a copy of its text with one instruction changed",
    "corrupt": "writes into its memory while it does not run",
    "checkpoint": "writes into recovery's memory, then ends the target",
    "garbage": "as corrupt, for what its clients read",
    "recovering": "has the supervisor end virtio_blk, then ends the target at an instruction",
    "again": "ends the target at an instruction, and then each of its successors at one of its start",
    "starve": "has a process that is more urgent than every driver use up the CPU",
    "update": "has the supervisor update virtio_blk, and ends the target and others at instructions meanwhile",
    "all": "has the supervisor end every driver",
}

BLOCK = ("virtio_blk", "virtio_disk")
SERVED = BLOCK + ("serial", "echo")
STRUCK = SERVED + ("pci",)
KEPT = ("pci", "recovery", "supervisor")  # fall and go on
ENDED = STRUCK + ("recovery", "supervisor")  # whose end is noticed, whatever of; that the supervisor hangs, nobody notices
SERVICES = ENDED            # all that can be struck, in the order of lists


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
    region: str = ""        # call of flip_word, store: data, heap (what it has mapped), buffer (its clients' data)
    at: str = ""            # function at whose entry it is struck
    deep: int = 0           # so many more times it is ended while it starts after that
    weight: int = 0         # in the group "mix", the everyday campaign
    watch_ms: int = 0       # one that lives is watched for so long; 0: the injector's 40 ms
    apart: bool = False     # in no group: to be asked for by name
    exception: bool = False  # of the group "exception"


    @property
    def lives(self):
        """The target may live with it, and do what it should not."""
        return self.how in ("call", "text", "corrupt", "garbage")

    @property
    def successors(self):
        """They are struck too."""
        return self.how == "again" or self.name == "double"

    @property
    def lies(self):
        """It may live and say or do, in due form, other than what it was asked for: nobody but a client with sums can tell."""
        return self.family in ("memory", "mutation")


AT_RANDOM = "an instruction of the driver, counted from a random moment"


def exception(name, what):
    return Fault(name, "process", what, AT_RANDOM, "struck", ENDED, how="jump", code=name, weight=3, exception=True)


TABLE = (
    Fault("kill", "process", "it is ended", AT_RANDOM, "struck", ENDED, how="kill", weight=50),
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
    Fault("livelock", "process", "it makes system calls for ever and gets nowhere", AT_RANDOM, "struck", STRUCK, how="jump",
          code="livelock"),
    Fault("slow", "process", "it is held up for 0.5 to 20 ms", AT_RANDOM, "struck", STRUCK, how="call", code="spin"),
    Fault("leak_memory", "process", "it takes all memory that it may have, and goes on", AT_RANDOM, "struck", STRUCK, how="call",
          code="leak_memory"),
    Fault("hoard", "process", "it takes all memory that it may have and keeps it, until that is noticed", AT_RANDOM, "struck",
          BLOCK + ("serial", "echo"), how="call", code="leak_memory", watch_ms=8000, apart=True),
    Fault("leak_handles", "process", "it makes all objects that it may have, and goes on", AT_RANDOM, "struck", STRUCK, how="call",
          code="leak_handles"),

    Fault("flip_register", "memory", "a bit of a register turns round", AT_RANDOM + ": general registers, stack pointer, flags",
          "struck", STRUCK, how="call", code="flip_register"),
    Fault("flip_stack", "memory", "a bit of its stack turns round", AT_RANDOM + ": a word between stack pointer and top", "struck",
          STRUCK, how="call", code="flip_stack"),
    Fault("flip_data", "memory", "a bit of its variables turns round", AT_RANDOM + ": a word of .data or .bss", "struck", STRUCK,
          how="call", code="flip_word", region="data"),
    Fault("flip_heap", "memory", "a bit of what it has mapped turns round",
          AT_RANDOM + ": a word of device queues, staging, ledgers, hints", "struck", STRUCK, how="call", code="flip_word", region="heap"),
    Fault("flip_text", "memory", "a bit of its program turns round", "an instruction of the text, as it is about to be executed",
          "executed", STRUCK, how="text", code="bit"),
    Fault("wild_store", "memory", "it stores a word where it should not",
          AT_RANDOM + ": to its variables, to what it has mapped, to its program, to nowhere", "struck", STRUCK, how="call", code="store",
          region="wild"),
    Fault("flip_buffer", "memory", "a bit of its clients' data turns round",
          AT_RANDOM + ": a word of a session's buffers; nobody but a client with sums of its own can tell", "struck",
          BLOCK + ("serial",), how="call", code="flip_word", region="buffer", apart=True),

    *(Fault("mutate_" + kind, "mutation", what, "an instruction of the text, as it is about to be executed", "executed", STRUCK,
            how="text", code=kind) for kind, what in CLASSES.items() if kind != "bit"),

    Fault("truncated", "protocol", "it completes requests with the low byte of their number", "ledger entries of requests in flight",
          "poked", BLOCK, how="corrupt", code="truncated"),
    Fault("duplicated", "protocol", "it announces every completion again", "hints of all slots", "poked", BLOCK, how="corrupt",
          code="duplicated"),
    Fault("reordered", "protocol", "it completes two requests in each other's slots", "ledger entries of two requests in flight", "poked",
          BLOCK, how="corrupt", code="reordered"),
    Fault("delayed", "protocol", "it is held up for 0.5 to 20 ms before it reports a completion", "the entry of `driver_complete`",
          "struck", BLOCK, how="call", code="spin", at="driver_complete"),
    Fault("unsent", "protocol", "it forgets a request: the completion is never sent", "its record of a request in flight", "poked", BLOCK,
          how="corrupt", code="unsent"),
    Fault("flood", "protocol", "it signals its client for ever", AT_RANDOM, "struck", BLOCK + ("serial",), how="jump", code="flood"),
    Fault("stale_handle", "protocol", "it uses a handle of an earlier life of its slot",
          "recovery, supervisor, doorbell, endpoint or a client's notification", "poked", SERVED, how="corrupt", code="stale_handle"),
    Fault("corrupt_ledger", "protocol", "a word of a session's ledger is another one", "ledger or stream indices", "poked",
          BLOCK + ("serial",), how="corrupt", code="ledger"),
    Fault("corrupt_hint", "protocol", "a session's hints are other ones", "submit and complete bits", "poked", BLOCK, how="corrupt",
          code="hint"),
    Fault("corrupt_ring", "protocol", "a word of the ring that it shares with the device is another one", "the virtqueue's memory", "poked",
          BLOCK, how="corrupt", code="ring"),
    Fault("deaf", "protocol", "it no longer asks its device for interrupts", "the virtqueue's memory: when to interrupt next", "poked",
          BLOCK, how="corrupt", code="deaf"),
    Fault("corrupt_checkpoint", "protocol", "its latest checkpoint is spoiled, then it is ended",
          "length, time, sums or data of the checkpoint, in recovery's memory; then an instruction of the driver", "spoiled", SERVED,
          how="checkpoint"),
    Fault("garbage", "protocol", "it writes nonsense where its clients read completions",
          "ledger entries of requests in flight: ids of the future, of another slot, unknown status", "poked", BLOCK,
          how="garbage", weight=6),
    Fault("double", "system", "it is ended, and its successor again while it recovers",
          AT_RANDOM + "; then one of the successor, start to READY", "struck", SERVED, how="kill", weight=8),
    Fault("triple", "system", "it is ended, its successor while it recovers, and that one's successor while it recovers from both",
          AT_RANDOM + "; then one of each successor, start to READY", "repeated", SERVED, how="again"),
    Fault("crash_loop", "system", "it is ended, and its next 3 to 8 successors at their start",
          AT_RANDOM + "; then the same of each successor, before it has its sessions", "repeated", SERVED, how="again"),
    Fault("give_up", "system", "it is ended, and its successors at their start until it is given up; then an operator resets it",
          AT_RANDOM + "; then the same of each successor, before it has its sessions", "given_up", ("virtio_blk", "serial"),
          how="again", apart=True),
    Fault("starve", "system", "it does not get the CPU for 1 to 60 ms", "a random moment", "starved", STRUCK, how="starve"),
    Fault("recovering", "system", "it is ended while virtio_blk, which was killed, recovers",
          "an instruction of its own, counted from that kill", "struck", KEPT, how="recovering", apart=True),
    Fault("recovering_twice", "system", "it is ended while virtio_blk, which was killed, recovers, and again while it goes on after that",
          "instructions of its own, counted from that kill, and from its start", "struck", KEPT, how="recovering", apart=True, deep=1),
    Fault("recovering_thrice", "system", "the same, and once more as far into the next start",
          "instructions of its own, counted from that kill, and from each start", "struck", KEPT, how="recovering", apart=True, deep=2),
    Fault("combination", "system", "virtio_blk is updated under load, and meanwhile the target is ended, somebody else whom that needs, and "
          "one of them again as it starts", "instructions of each, counted from the order to update or from its start", "combined", KEPT,
          how="update", apart=True),
    Fault("all", "system", "every driver is ended at once", "all drivers, by the operator's kill", "killed", SERVICES, how="all",
          weight=5),
)
BY_NAME = {fault.name: fault for fault in TABLE}

GROUPS = {  # a name for several faults -> weights
    "exception": {f.name: 1 for f in TABLE if f.exception},
    "mix": {f.name: f.weight for f in TABLE if f.weight},
    **{family: {f.name: 1 for f in TABLE if f.family == family and not f.apart} for family in FAMILIES if family != "system"},
    "every": {f.name: 1 for f in TABLE if not f.apart},
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
    "pci": "enumerates the bus; falls and goes on",
    "recovery": "sessions, ledgers and checkpoints of all; falls and goes on",
    "supervisor": "no driver: started again by the kernel",
}


def family_of(name):
    """Of a fault, or of a group that is one; None: of several."""
    if name in BY_NAME:
        return BY_NAME[name].family
    return name if name in FAMILIES else None


def counted(name):
    """Its place is a number of instructions."""
    fault = BY_NAME[name]
    return fault.proof in ("struck", "repeated", "given_up") and not fault.at


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
            yield f"  {f.name:<19}{f.what}"
            yield f"  {'':<19}at: {f.where}; of: {targets_text(f)}; proof: {f.proof}"
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
