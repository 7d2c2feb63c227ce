# SPDX-License-Identifier: BSD-2-Clause
"""Where the instructions of a figure go. Boots system/bench.toml once more, behind QEMU's gdb stub, and for
each figure steps through one iteration, from the RDTSC that starts its clock to the one that stops it
(bench/guest/window.h), one instruction at a time. Every instruction is put down to the function it was
inlined from and to a phase; so the counts of a figure add up to its number of steps, and that must be the
figure that `make bench` measured without stepping, or the breakdown is reported as not matching.

Nothing of the machine is asked: an address below the middle belongs to the program whose file has these very
bytes there, one above it to the kernel. The list of phases is PHASES; what is in none is `other`."""
import collections
import dataclasses
import re
import struct
import subprocess

from elftools.elf.elffile import ELFFile

from bench import gdbstub

KERNEL = 1 << 63
WINDOW = struct.Struct("<QQ48s")  # bench/guest/window.h
BEGIN, END, ROUND = 0, 1, 2
WARM_UP = 10          # iterations before one is stepped; the guest makes 100 of a process, which two figures share
WARM_UP_OF = {"ping_pong": 70}  # more than signals are traced (SIGNAL_CREDIT)
TRIES = 6             # an iteration that an interrupt lengthened is not the median: take the next
READS = 8             # rounds of QD1 that are stepped
STEPS_MAX = 60000
RUN_SECONDS = 300     # to the first figure: firmware is slow when instructions are counted
STUB_BYTES = 16       # of each vector's entry in trap_stubs
CODE_BYTES = 512      # at the start of a program's text, that tell it from others
IMAGE_BASE = 0x420000 # of every program: USER_IMAGE_BASE of abi/types.h

# Kernel functions, innermost first: the first of an instruction's functions that a pattern names decides.
PHASES = [(phase, re.compile(f"^({names})$")) for phase, names in (
    ("entry", "syscall_entry|trap_stubs|trap_common|trap_user|kernel_syscall|syscall_dispatch"),
    ("exit", "context_resume|context_resume_iret|cpu_idle|cpu_woken"),
    ("interrupt", "trap_interrupt|interrupt_arrived|kernel_irq|kernel_timer|irq_.*|arch_irq_.*|apic_eoi|line_of"),
    ("decode", "cap_lookup|cap_get|fast_endpoint|decode.*|recv_decode|user_pointer|user_read|user_write"),
    ("transfer", "message_.*|endpoint_.*|caller_.*|notification_.*|source_.*"),
    ("switch", "sched_.*|thread_(ready|block|charge|deadlines|resume|exhaust|replenish)|queue_(put|take|pick)|"
               "account|slice_over|timer_.*|arch_timer_arm|arch_space_switch|cr3_write|arch_space_leave"),
    ("trace", "trace|trace_.*"),
    ("memory", "mapping_.*|memory_.*|frame_.*|cell_.*|arch_space_.*|entry_of|region_prepare|table_.*|page_flush|"
               "memset|memcpy|shootdown.*"),
    ("process", "process_.*|thread_.*|death_.*|elf_.*|object_.*|cap_.*|slot_.*|arch_context_.*|inv_.*|"
                "segment_.*|image_.*"),
    ("call", "sys_.*|give|time_.*"),
)]


class BreakdownProblem(Exception):
    """A figure could not be taken apart."""


# --- Addresses to functions -----------------------------------------------------------------------------------

class Program:
    """One ELF file: which functions an address lies in, and the bytes of its text."""

    def __init__(self, name, path):
        self.name, self.path = name, path
        self.chains = {}
        with open(path, "rb") as f:
            elf = ELFFile(f)
            self.segments = [(s["p_vaddr"], s.data()) for s in elf.iter_segments("PT_LOAD")]
            table = elf.get_section_by_name(".symtab")
            self.symbols = {s.name: s["st_value"] for s in table.iter_symbols() if s.name}
            section = elf.get_section_by_name(".debug_windows")
            self.windows = windows_of(section.data()) if section else {}

    def bytes_at(self, address, size):
        """As many of them as there are in one segment."""
        for start, data in self.segments:
            if start <= address < start + len(data):
                return data[address - start:address - start + size]
        return b""

    def resolve(self, addresses):
        """Looks all of them up at once: {address: functions, innermost first}."""
        new = sorted(a for a in set(addresses) if a not in self.chains)
        if not new:
            return
        out = subprocess.run(["addr2line", "-a", "-f", "-i", "-e", str(self.path)], capture_output=True, text=True,
                             check=True, input="\n".join(f"{a:#x}" for a in new) + "\n").stdout
        self.chains.update(zip(new, chains_of(out), strict=True))


def chains_of(text):
    """addr2line -a -f -i: an address line, then a function line and a place line for each level."""
    chains = []
    for line in text.splitlines():
        if line.startswith("0x"):
            chains.append([])
            function = True
        else:
            if function:
                chains[-1].append(line)
            function = not function
    return [tuple(chain) for chain in chains]


def windows_of(data):
    """{name: {kind: [addresses]}}"""
    out = {}
    for address, kind, name in WINDOW.iter_unpack(data):
        out.setdefault(name.rstrip(b"\0").decode(), {}).setdefault(kind, []).append(address)
    return out


class Peer(Program):
    """Routines of bench/guest/peer.S, which are data to the bench and text at IMAGE_BASE in other processes."""

    def __init__(self, guest):
        begin, end = guest.symbols["peer_begin"], guest.symbols["peer_end"]
        self.name, self.chains = "peer", {}
        self.symbols = {name: at - begin + IMAGE_BASE for name, at in guest.symbols.items()
                        if name.startswith("peer_") and begin <= at < end}
        self.segments = [(IMAGE_BASE, guest.bytes_at(begin, end - begin))]

    def resolve(self, addresses):
        for address in addresses:
            at, name = max((at, name) for name, at in self.symbols.items() if at <= address and name != "peer_begin")
            self.chains[address] = (name,)


def program_at(programs, head):
    """Whose text begins with these bytes."""
    found = [p for p in programs if (known := p.bytes_at(IMAGE_BASE, len(head))) and head.startswith(known)]
    if len(found) != 1:
        raise BreakdownProblem(f"{len(found)} programs begin with {head[:32].hex()}...")
    return found[0]


# --- Folding ---------------------------------------------------------------------------------------------------

def phase_of(chain):
    """The phase of a kernel instruction: functions innermost first."""
    for function in chain:
        for phase, pattern in PHASES:
            if pattern.match(function):
                return phase
    return "other"


@dataclasses.dataclass
class Breakdown:
    name: str
    steps: int
    phases: dict    # name: instructions; those of user programs are "user PROGRAM"
    symbols: list   # [program, function, instructions], most first
    entries: int    # times the kernel was entered
    switches: int   # times another program ran than before
    measured: float | None = None

    rounds: int = 1  # how often the figure's work was done in these steps

    @property
    def matches(self):
        return self.measured == self.steps / self.rounds

    def as_json(self):
        """The counts are of all rounds together, and add up to steps."""
        return dataclasses.asdict(self) | {"matches": self.matches}


def fold(name, trace, last, idle=()):
    """trace: (program or None for the kernel, chain) of each instruction, in order; last: the program that runs
    after them. Instructions of a function in `idle` are what nobody needed: they leave no mark but the switch to
    them."""
    phases, symbols = collections.Counter(), collections.Counter()
    entries = switches = steps = 0
    last_user, was_kernel = None, False
    for program, chain in trace:
        if program is None:
            entries += not was_kernel
            phases[phase_of(chain)] += 1
            symbols["kernel", chain[0]] += 1
        else:
            if was_kernel and last_user not in (None, program):
                switches += 1
            last_user = program
            if chain[0] not in idle:
                phases[f"user {program}"] += 1
                symbols[program, chain[0]] += 1
        steps += program is None or chain[0] not in idle
        was_kernel = program is None
    switches += last_user not in (None, last)
    assert sum(phases.values()) == sum(symbols.values()) == steps
    order = sorted(symbols.items(), key=lambda item: (-item[1], item[0]))
    return Breakdown(name, steps, dict(phases.most_common()), [[*key, n] for key, n in order], entries, switches)


# --- Stepping --------------------------------------------------------------------------------------------------

class Stepper:
    def __init__(self, stub, kernel, users):
        self.stub, self.kernel = stub, kernel
        self.guest = next(p for p in users if p.windows)
        self.peer = Peer(self.guest)
        self.users = [self.peer, *users]

    def program(self):
        """Whose address space is loaded."""
        return program_at(self.users, self.stub.memory(IMAGE_BASE, CODE_BYTES))

    def bench_at(self, addresses):
        """Runs until the bench itself, not another program at the same address, comes to one of them."""
        while (rip := self.stub.run_to(addresses, RUN_SECONDS)) not in addresses or self.program() is not self.guest:
            self.stub.step()

    def record(self, end, program):
        """Steps from here until the bench is at one of the addresses: [(program or None, rip)]. program: whose
        address space it is now."""
        rip, trace = self.stub.register(gdbstub.RIP), []
        while len(trace) < STEPS_MAX:
            in_kernel = rip >= KERNEL
            trace.append((None if in_kernel else program, rip))
            rip = self.stub.step()
            if in_kernel and rip < KERNEL:
                program = self.program()
            if rip in end and program is self.guest:
                return trace
        raise BreakdownProblem(f"no end of the window after {STEPS_MAX} instructions")

    def chains(self, trace):
        addresses = collections.defaultdict(set)
        for program, rip in trace:
            addresses[program or self.kernel].add(rip)
        for program, rips in addresses.items():
            program.resolve(rips)
        return [(program.name if program else None, (program or self.kernel).chains[rip])
                for program, rip in trace]

    def window(self, name, measured):
        """One iteration whose length is the one measured, or the last of TRIES."""
        window = self.guest.windows[name]
        for _ in range(WARM_UP_OF.get(name, WARM_UP)):
            self.bench_at(window[BEGIN])
            self.stub.step()
        for _ in range(TRIES):
            self.bench_at(window[BEGIN])
            trace = self.record(window[END], self.guest)
            found = fold(name, self.chains(trace), self.guest.name)
            found.measured = measured
            if found.matches:
                break
        return found

    def interrupt(self, name, measured):
        """From an interrupt's first instruction; the instructions of the interrupted loop since it stored the
        time last are counted by where it was struck (peer_stamp: rdtsc, store, jmp)."""
        stubs, common = (self.kernel.symbols[s] for s in ("trap_stubs", "trap_common"))
        end = self.guest.windows[name][END]
        stamp = self.peer.symbols["peer_stamp"]
        lengths = {stamp: 3, stamp + 2: 4, stamp + 5: 2}
        vector = 0
        while not 48 <= vector < 240:
            self.stub.run_to([common], RUN_SECONDS)
            vector = self.stub.word(self.stub.register(gdbstub.RSP))
            self.stub.step()
        for _ in range(TRIES * 4):
            self.stub.run_to([stubs + vector * STUB_BYTES], RUN_SECONDS)
            struck = self.stub.word(self.stub.register(gdbstub.RSP))
            if struck not in lengths:
                self.stub.step()
                continue
            trace = self.record(end, self.peer)
            before = [(self.peer, struck)] * lengths[struck]
            found = fold(name, self.chains(before + trace), self.guest.name)
            found.measured = measured
            if found.matches:
                return found
        return found

    def rounds(self, name, mark, measured, rounds):
        """Several rounds from a mark to its next time, interrupts and all. What the spinner counted is what
        nobody needed."""
        at = self.guest.windows[mark][ROUND]
        for _ in range(WARM_UP):
            self.bench_at(at)
            self.stub.step()
        self.bench_at(at)
        self.stub.interrupts_in_steps(True)
        trace = []
        for _ in range(rounds):
            trace += self.record(at, self.guest)
        self.stub.interrupts_in_steps(False)
        found = fold(name, self.chains(trace), self.guest.name, idle=("peer_spin",))
        found.measured, found.rounds = measured, rounds
        return found


# --- All of it ---------------------------------------------------------------------------------------------------

WINDOWS = ("null_syscall", "ipc_0w", "ipc_8w", "ipc_echo", "ping_pong")  # in the order in which the guest comes to them
WINDOWS_LATER = ("process_create", "process_destroy", "page_map_single", "page_unmap_single")


def take_apart(connection, wait_for_kernel, build, measured):
    """[Breakdown] of the bench that runs behind this stub, stopped at reset. measured: {name: instructions}."""
    kernel = Program("kernel", build / "kernel/kernel.elf")
    users = [Program(path.stem, path) for path in sorted((build / "user").glob("*.elf"))]
    stub = gdbstub.Stub(connection)
    stub.run_until(wait_for_kernel)
    stepper = Stepper(stub, kernel, users)
    out = [stepper.window(name, measured.get(name)) for name in WINDOWS]
    out.append(stepper.interrupt("irq_to_user", measured.get("irq_to_user")))
    out += [stepper.window(name, measured.get(name)) for name in WINDOWS_LATER]
    out.append(stepper.rounds("read4k_qd1_insn", "read4k", measured.get("read4k_qd1_insn"), READS))
    return out


def line(b):
    """One figure's share of phases, as text."""
    def share(n):
        return f"{n / b.rounds:,.0f}"
    ours = f"{b.name:<20} {share(b.steps):>7} = " + " + ".join(f"{phase} {share(n)}" for phase, n in b.phases.items())
    extra = f"; {b.entries / b.rounds:g} kernel entries, {b.switches / b.rounds:g} switches"
    if b.matches or b.measured is None or b.rounds > 1:
        return ours + extra
    return ours + extra + f"; MEASURED {b.measured:,}: this iteration was another"
