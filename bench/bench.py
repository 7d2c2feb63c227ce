# SPDX-License-Identifier: BSD-2-Clause
"""Measures Coppice: `make bench`. Boots system/bench.toml and system/warm.toml twice, once counting instructions and once in
time, and system/default.toml for boot time and memory at rest; writes build/bench/<stamp>/bench.json.

The guest measures (bench/guest) and says so on the kernel log; recoveries are read from the kernel's trace,
out of guest memory. A figure is printed as it is, good or bad. Exit codes: 0 all figures measured, 3
environment, 4 something could not be measured (which, and what was, is printed).

Rows of bench.json: {name, unit, value, n, spread: [min, max]}, p99 where there are enough samples, and
{peer, peer_value, ratio} where a peer is known; README.md beside this file says what each one is.
"""
import dataclasses
import datetime
import json
import os
import pathlib
import platform
import re
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)  # not this folder: `bench` is the package
from faultinject import channel, phases, trace  # noqa: E402
from tools import qemu  # noqa: E402
from bench import breakdown, gdbstub  # noqa: E402

SCHEMA_VERSION = 1
SUITE_SECONDS = 300     # the longest silence of the measuring guest
BOOT_SECONDS = 300      # firmware polls a timer for 0.75 s of guest time: a minute when instructions are counted
BOOTS = 3
IDLE_SECONDS = 1.0      # after the console is ready: nothing is left to do then
IDLE_MEM = "128M"       # the smallest machine that must boot

# What others need for the same on the same emulator (QEMU 7.2, q35, -cpu max, TCG, one CPU).
SOURCE = "measured on QEMU 7.2 q35 TCG"
PEERS = {
    "null_syscall": ("seL4", 90),
    "ipc_0w": ("seL4", 421),
    "ipc_8w": ("seL4", 1577),
    "ping_pong": ("seL4", 1568),
    "irq_to_user": ("seL4", 356),
    "process_create": ("seL4, minimal process", 54600),
    "process_destroy": ("seL4, minimal process", 20400),
    "process_life": ("Linux vfork+exec+wait", 238400),
    "read4k_qd1_insn": ("Linux, driver in the kernel", 19300),
    "read4k_qd32_insn": ("Linux, driver in the kernel", 8200),
    "read4k_qd1_iops": ("Linux, driver in the kernel", 7800),
    "read4k_qd32_iops": ("Linux, driver in the kernel", 47000),
    "recover_cold_insn": ("Linux, UIO driver, request lost", 1460000),
    "recover_cold_us": ("Linux, UIO driver, request lost", 4800),
    "recover_warm_insn": ("Linux, UIO driver, request lost", 1460000),
    "recover_warm_us": ("Linux, UIO driver, request lost", 4800),
    "boot_read_us": ("Linux, firmware to first disk read", 4400000),
    "idle_memory_kib": ("Linux", 106 * 1024),
}
# What Coppice means to be at most (at least, for rates): the goals. Reported, never a failure.
GOALS = {
    "null_syscall": 90, "ipc_0w": 421, "ipc_8w": 460, "ping_pong": 1568, "irq_to_user": 356,
    "process_create": 54600, "process_destroy": 20400, "page_map_single": 732, "page_unmap_single": 574,
    "checkpoint_1k": 2000,
    "read4k_qd1_insn": 6000, "read4k_qd32_insn": 2500, "recover_cold_insn": 300000, "recover_warm_insn": 60000,
    "recover_warm_us": 1000, "warm_to_reset": 1.5,
}
GOALS_P99 = {"recover_warm_us"}  # of the 99th percentile, not the median
# name, unit, in the order of the table.
ROWS = [
    ("null_syscall", "insn"), ("ipc_0w", "insn"), ("ipc_8w", "insn"), ("ipc_echo", "insn"),
    ("ping_pong", "insn"), ("irq_to_user", "insn"), ("timer_to_user", "insn"),
    ("process_create", "insn"), ("process_destroy", "insn"), ("process_life", "insn"),
    ("page_map", "insn"), ("page_unmap", "insn"), ("page_map_single", "insn"), ("page_unmap_single", "insn"),
    ("checkpoint_1k", "insn"),
    ("read4k_qd1_insn", "insn"), ("read4k_qd32_insn", "insn"),
    ("read4k_qd1_iops", "1/s"), ("read4k_qd32_iops", "1/s"),
    ("read4k_qd1_switches", "1"), ("read4k_qd32_switches", "1"),
    ("recover_cold_insn", "insn"), ("recover_cold_us", "us"), ("recover_warm_insn", "insn"),
    ("recover_warm_us", "us"), ("warm_to_reset", "1"), ("warm_to_device", "1"), ("warm_reset_us", "us"),
    ("warm_device_us", "us"), ("warm_in_flight", "1"), ("device_reset_insn", "insn"),
    ("device_reset_us", "us"), ("boot_us", "us"), ("boot_read_us", "us"), ("idle_memory_kib", "KiB"),
]


class BenchProblem(Exception):
    """Something could not be measured."""


@dataclasses.dataclass
class Figure:
    value: float
    n: int
    low: float
    high: float
    p99: float | None = None


def rounded(v):
    return round(v) if abs(v) >= 100 or v == int(v) else round(v, 2)


def figure_of(values):
    """Median of a list, nearest rank; a 99th percentile from 100 values on."""
    v = sorted(values)
    p99 = v[(len(v) - 1) * 99 // 100] if len(v) >= 100 else None
    return Figure(v[(len(v) - 1) // 2], len(v), v[0], v[-1], p99)


def figure_of_samples(s, scale=lambda ticks: ticks):
    """The guest's own summary of its samples: {"n", "each", "min", "p50", "p99", "max"} in ticks."""
    p50, p99, low, high = (scale(s[key] / s["each"]) for key in ("p50", "p99", "min", "max"))
    return Figure(p50, s["n"], min(low, high), max(low, high), p99 if s["n"] >= 100 and low <= high else None)


# --- The measuring guest ------------------------------------------------------------------------------------

def machine(name, run, build, **options):
    return qemu.Machine(image=build / "image" / name, run=run, disk=qemu.data_disk(run / "data.img"), smp=1,
                        extra=os.environ.get("QEMU_EXTRA", ""), iommu=os.environ.get("IOMMU") != "0", **options)


def suites_run(guest, log, counted):
    """Everything the guest says until its end: {name: samples}; and all else as one object (tsc_hz, ...)."""
    samples, begin = {}, None
    while True:
        said = log.wait("bench", SUITE_SECONDS)
        if "error" in said:
            raise BenchProblem(f"the guest: {said['error']}")
        if "begin" in said:
            begin = said
            if said["instructions"] != counted:
                raise BenchProblem(f"a tick is {'' if said['instructions'] else 'not '}an instruction: not what "
                                   "QEMU was told")
        elif "name" in said:
            samples[said["name"]] = said
        elif "end" in said:
            return samples, begin
        elif begin is not None:
            begin.update(said)


@dataclasses.dataclass
class Recovery:
    """All in ticks. From the death to the client's first completion by the new incarnation."""
    total: int
    idle: int     # of total: nobody had anything to do but wait for the device
    reset: int    # device reset and initialisation
    stop: int     # its interrupt masked and bus-mastering taken, which waits for what it has under way
    in_flight: int
    phases: dict  # as faultinject.phases names them; the idle time is taken out of the last
    warm: bool    # by a spare, and no process was made until the service served again


def recoveries(entries):
    out, begun = [], None
    for i, e in enumerate(entries):
        if e.mark != "BENCH":
            continue
        if not e.b & 1:
            begun = i
            continue
        if begun is None:
            raise BenchProblem("a recovery ends in the trace that did not begin")
        out.append(recovery(entries[begun:i + 1]))
        begun = None
    return out


def recovery(window):
    """From the entries between the two marks of the bench that enclose it (bench/guest/storage.c)."""
    begin, end = window[0], window[-1]
    death = next((e for e in window if e.event == "DEATH"), None)
    if death is None:
        raise BenchProblem("a kill without a death in the trace")
    new = [e for e in window if e.service == death.service and e.generation > death.generation]
    marks = {e.mark: e.tsc for e in reversed(new) if e.mark}  # the first of each
    if not {"RESTORED", "RESET", "REPLAYED"} <= marks.keys():
        raise BenchProblem(f"a recovery without all its marks: {sorted(marks)}")
    not_clients = set(range(4096)) - {begin.service}
    chain = phases.service_recovery(phases.Window(0, window), death.service, "virtio_blk", not_clients)
    idle = (end.b >> 1) - (begin.b >> 1)
    steps = chain.phases_us(1e6)  # a clock of 1 MHz: ticks
    if "first_completion" in steps:
        steps["first_completion"] -= idle
    serves = next((e.tsc for e in window if e.mark == "READY" and e.b == death.service), end.tsc)
    made = any(e.event == "PROCESS_CREATE" for e in window if death.tsc < e.tsc <= serves)
    fence = {e.event: e.tsc for e in window if e.generation == death.generation and e.service == death.service}
    stop = fence["FENCE_BUS_MASTER"] - fence["FENCE_GENERATION"]
    return Recovery(end.tsc - death.tsc, idle, marks["RESET"] - marks["RESTORED"], stop, chain.in_flight, steps,
                    chain.warm and not made)


def phases_of(recovered):
    """Median of each phase, and for how many recoveries it was seen."""
    seen = {name: [r.phases[name] for r in recovered if name in r.phases] for name in phases.PHASES}
    return {name: {"value": rounded(figure_of(v).value), "n": len(v)} for name, v in seen.items() if v}


def measure(run, build, counted, system="bench"):
    """One boot of the bench system: ({name: samples}, what else it said, recoveries)."""
    m = machine(system, run, build, icount="shift=0" if counted else None, console="null",
                mem=os.environ.get("MEM") or "256M")
    with qemu.start(m) as guest:
        log = channel.LogReader(guest.log)
        boot = log.wait("boot", BOOT_SECONDS)
        samples, begin = suites_run(guest, log, counted)
        ring = trace.Rings(trace.memory_reader(guest, run), boot["trace_paddr"], boot["cpus"], run / "trace.bin")
        entries = ring.read()
        if ring.lost:
            raise BenchProblem(f"the trace ring lost {ring.lost} entries")
        return samples, begin, recoveries(entries)


# --- The appliance at rest ------------------------------------------------------------------------------------

class Console(threading.Thread):
    """Reads the console all the time: firmware, loader and driver wait for a line that nobody reads."""

    def __init__(self, console):
        super().__init__(daemon=True)
        self.console, self.text, self.changed = console, "", threading.Condition()
        self.start()

    def run(self):
        while data := self.receive():
            with self.changed:
                self.text += data.decode(errors="replace")
                self.changed.notify_all()

    def receive(self):
        try:
            return self.console.recv(4096)
        except OSError:
            return b""  # QEMU ended; whoever waits for text times out

    def command(self, text, answer, seconds):
        """Sends a line; returns the match of a pattern in what comes back."""
        with self.changed:
            at = len(self.text)
            self.console.sendall(text.encode() + b"\r")
            if not self.changed.wait_for(lambda: re.search(answer, self.text[at:]), seconds):
                raise BenchProblem(f"the console does not answer `{text}`: {self.text[at:]!r}")
            return re.search(answer, self.text[at:])


def appliance(run, build, mem=IDLE_MEM):
    """One boot of the default system: (us from loader entry to console, KiB in use at rest)."""
    with qemu.start(machine("default", run, build, mem=mem)) as guest:
        log, console = channel.LogReader(guest.log), Console(guest.console)
        event = {}
        while event.get("event") != "console_ready":
            event = log.next(BOOT_SECONDS, "console_ready")
        time.sleep(IDLE_SECONDS)
        used = console.command("mem", r"used\s+(\d+) KiB", BOOT_SECONDS)
        return event["boot_us"], int(used.group(1))


# --- Figures ---------------------------------------------------------------------------------------------------

def figures_counted(samples, recovered):
    out = {name: figure_of_samples(s) for name, s in samples.items() if not name.endswith("_switches")}
    for depth in ("qd1", "qd32"):
        out[f"read4k_{depth}_insn"] = figure_of_samples(samples[f"read4k_{depth}_busy"])
    out["recover_cold_insn"] = figure_of([r.total - r.idle for r in recovered])
    out["device_reset_insn"] = figure_of([r.reset for r in recovered])
    return out


def figures_timed(samples, said, recovered):
    tsc_hz = said["tsc_hz"]
    out = {"boot_read_us": figure_of([said["boot_ticks"] * 1e6 / tsc_hz])}
    for depth in ("qd1", "qd32"):
        out[f"read4k_{depth}_iops"] = figure_of_samples(samples[f"read4k_{depth}_elapsed"], lambda t: tsc_hz / t)
        out[f"read4k_{depth}_switches"] = figure_of_samples(samples[f"read4k_{depth}_switches"])
    out["recover_cold_us"] = figure_of([r.total * 1e6 / tsc_hz for r in recovered])
    out["device_reset_us"] = figure_of([r.reset * 1e6 / tsc_hz for r in recovered])
    return out


def warm(folder, build, counted):
    """Figures of one boot of the warm system. The floor of a recovery is the device's own reset and initialisation."""
    _, said, recovered = measure(folder, build, counted=counted, system="warm")
    cold = sum(not r.warm for r in recovered)
    if cold:
        raise BenchProblem(f"{cold} of {len(recovered)} recoveries made a process although a spare was to be there")
    if counted:
        return {"recover_warm_insn": figure_of([r.total - r.idle for r in recovered])}
    us = 1e6 / said["tsc_hz"]
    device = [(r, r.stop + r.reset + r.idle) for r in recovered]
    return {"recover_warm_us": figure_of([r.total * us for r in recovered]),
            "warm_reset_us": figure_of([r.reset * us for r in recovered]),
            "warm_device_us": figure_of([ticks * us for _, ticks in device]),
            "warm_to_reset": figure_of([r.total / r.reset for r in recovered]),
            "warm_to_device": figure_of([r.total / ticks for r, ticks in device]),
            "warm_in_flight": figure_of([r.in_flight for r in recovered])}


def row(name, unit, figure):
    r = {"name": name, "unit": unit, "value": rounded(figure.value), "n": figure.n,
         "spread": [rounded(figure.low), rounded(figure.high)], "peer": None, "peer_value": None, "ratio": None}
    if figure.p99 is not None:
        r["p99"] = rounded(figure.p99)
    if name in PEERS:
        peer, value = PEERS[name]
        r |= {"peer": peer, "peer_value": value, "ratio": round(figure.value / value, 4)}
    if name in GOALS:
        judged = figure.p99 if name in GOALS_P99 else figure.value
        r |= {"goal": GOALS[name], "goal_met": judged is not None and judged <= GOALS[name]}
    return r


def table(rows):
    lines = [f"{'FIGURE':<20} {'VALUE':>12} {'UNIT':<5} {'N':>5} {'MIN':>12} {'MAX':>12} {'P99':>9} "
             f"{'GOAL':>14} {'RATIO':>7}  PEER"]
    for r in rows:
        peer = f"{r['peer']}: {r['peer_value']:,}" if r["peer"] else ""
        ratio = f"{r['ratio']:.2f}" if r["peer"] else ""
        p99 = f"{r['p99']:,}" if "p99" in r else ""
        goal = f"{r['goal']:,} {'met' if r['goal_met'] else 'MISSED'}" if "goal" in r else ""
        low, high = r["spread"]
        lines.append(f"{r['name']:<20} {r['value']:>12,} {r['unit']:<5} {r['n']:>5} {low:>12,} {high:>12,} "
                     f"{p99:>9} {goal:>14} {ratio:>7}  {peer}".rstrip())
    return "\n".join(lines)


def latest_is(folder):
    latest = folder.parent / "latest"
    latest.unlink(missing_ok=True)
    latest.symlink_to(folder.name)


def report(folder, figures, steps, parts, problems):
    rows = [row(name, unit, figures[name]) for name, unit in ROWS if name in figures]
    missing = [name for name, _ in ROWS if name not in figures]
    out = {"schema_version": SCHEMA_VERSION, "accel": "tcg", "qemu": qemu.qemu_version(), "smp": 1,
           "host": platform.processor() or platform.machine(), "peers": SOURCE, "rows": rows,
           "recover_cold_phases_insn": steps, "missing": missing, "problems": problems}
    (folder / "bench.json").write_text(json.dumps(out, indent=1) + "\n")
    (folder / "breakdown.json").write_text(json.dumps(
        {"schema_version": SCHEMA_VERSION, "figures": [part.as_json() for part in parts]}, indent=1) + "\n")
    latest_is(folder)
    print(table(rows))
    if steps:
        print("\nrecover_cold_insn by phase: " + ", ".join(f"{k} {v['value']:,}" for k, v in steps.items()))
    if parts:
        print("\nWhere the instructions go (breakdown.json has them by function):")
        print("\n".join(breakdown.line(part) for part in parts))
    print(f"\nPeers: {SOURCE}. Ratio: value / peer. All in {os.path.relpath(folder)}/bench.json")
    return missing


def main():
    build = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
    folder = build / "bench" / datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    figures, problems, steps, parts = {}, [], {}, []

    def counted():
        samples, _, recovered = measure(folder / "counted", build, counted=True)
        figures.update(figures_counted(samples, recovered))
        steps.update(phases_of(recovered))

    def stepped():
        m = machine("bench", folder / "stepped", build, icount="shift=0", console="null", gdb="socket",
                    mem=os.environ.get("MEM") or "256M")
        with qemu.start(m) as guest:
            log = channel.LogReader(guest.log)
            parts.extend(breakdown.take_apart(guest.gdb, lambda: log.wait("boot", BOOT_SECONDS), build,
                                              {name: rounded(f.value) for name, f in figures.items()}))

    def timed():
        figures.update(figures_timed(*measure(folder / "timed", build, counted=False)))

    def rest():
        boots = [appliance(folder / f"default{n}", build) for n in range(BOOTS)]
        figures["boot_us"] = figure_of([us for us, _ in boots])
        figures["idle_memory_kib"] = figure_of([kib for _, kib in boots])

    def spares():
        figures.update(warm(folder / "warm-counted", build, counted=True))
        figures.update(warm(folder / "warm-timed", build, counted=False))

    for what, step in (("counting instructions", counted), ("with a spare", spares), ("instruction by instruction", stepped),
                       ("in time", timed), ("the appliance at rest", rest)):
        print(f"bench: {what} ...", file=sys.stderr, flush=True)
        try:
            step()
        except (BenchProblem, channel.GuestGone, trace.TraceProblem, gdbstub.StubProblem,
                breakdown.BreakdownProblem) as problem:
            problems.append(f"{what}: {problem}")
    missing = report(folder, figures, steps, parts, problems)
    for problem in problems:
        print(f"bench: {problem}", file=sys.stderr)
    if missing:
        print(f"bench: not measured: {' '.join(missing)}", file=sys.stderr)
    return 4 if problems or missing else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except qemu.EnvironmentProblem as problem:
        print(f"bench: {problem}", file=sys.stderr)
        sys.exit(3)
