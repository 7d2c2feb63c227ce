#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Many services: how many are alive, what each costs, and whether a recovery takes longer among many.

Boots system/scale.toml with 8 services and with N, kills services chosen by the seed (the first and the last
always) from the console, and reads each recovery out of the kernel's trace: from the death to the supervisor's
mark that the service serves again. Once in time, once counting instructions (`-icount shift=0`).

Writes build/scale/<stamp>/scale.json. Exit codes: 0 all hold, 1 a service did not come back, a page or a handle
is missing, or a limit is exceeded; 2 usage, 3 environment, 4 something could not be measured.
"""
import argparse
import dataclasses
import datetime
import importlib.util
import json
import os
import pathlib
import random
import re
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:] = [str(ROOT)] + [p for p in sys.path if p != str(ROOT / "bench")]  # there, `bench` is a module
from bench.bench import BenchProblem, Console  # noqa: E402
from faultinject import channel, phases, trace  # noqa: E402
from tools import qemu  # noqa: E402

SCHEMA_VERSION = 1
FEW = 8
STANDARD = 1024         # what system/scale.toml says
PAGE_KIB = 4
LIMIT_KIB = 64          # memory of one more idle service, beyond its own image
LIMIT_RATIO = 1.5       # recovery among many to recovery among few
BOOT_SECONDS = 600      # counting instructions, firmware alone takes a minute
ANSWER_SECONDS = 120
POLL_SECONDS = 0.05
PROMPT = "coppice> "
HUB = "recovery"        # everybody depends on it, and nobody may die with it
HUB_KILLS = 5
KINDS = ("counter", "reader", "virtio_blk", "pci", "serial", "console")  # by the name up to the dot


class Missed(Exception):
    """Something that must hold does not."""


def manifest_of(total):
    spec = importlib.util.spec_from_file_location("manifest", ROOT / "tools" / "manifest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    system, errors = module.compile_file(ROOT / "system" / "scale.toml", ROOT, total)
    if errors:
        raise qemu.UsageProblem("\n".join(errors))
    return [s["name"] for s in system["services"]]


def kind_of(name):
    return name.split(".")[0]


def victims(names, kills, seed):
    """The first and the last counter, one of each other kind, and any others. Not recovery: its death could be that of
    everybody whose memory it keeps, and is measured last."""
    rng = random.Random(f"coppice scale {seed}")
    counters = [n for n in names if kind_of(n) == "counter"]
    chosen = [counters[0], counters[-1]] + [next(n for n in names if kind_of(n) == k) for k in KINDS[1:]]
    chosen += [rng.choice(counters) for _ in range(kills - len(chosen))]
    return chosen[:kills]


class Shell(Console):
    """The console, a command at a time."""

    def ask(self, text, seconds):
        """What it says until it asks for the next command."""
        with self.changed:
            at = len(self.text)
            self.console.sendall(text.encode() + b"\r")
            if not self.changed.wait_for(lambda: len(self.text) > at and self.text.endswith(PROMPT), seconds):
                raise BenchProblem(f"the console does not answer `{text}`: {self.text[at:][-500:]!r}")
            return self.text[at:].replace("\r", "")


@dataclasses.dataclass
class Recovery:
    service: str
    ticks: int        # death to the mark READY
    waited: int       # of them, by a client: from its signal to its driver until the driver's to it
    phases: dict      # as faultinject.phases names them, and "ready"
    checkpoint: int | None


class System:
    """A running machine with so many services."""

    def __init__(self, folder, build, total, counted, mem, extra):
        self.total, self.names = total, manifest_of(total)
        self.index = {n: i for i, n in enumerate(self.names)}
        self.generation = {n: 1 for n in self.names}
        folder.mkdir(parents=True, exist_ok=True)
        image = "scale" if total == STANDARD else f"scale-{total}"
        machine = qemu.Machine(image=build / "image" / image, run=folder, mem=mem, extra=extra,
                               disk=qemu.data_disk(folder / "data.img"), icount="shift=0" if counted else None)
        self.guest = qemu.start(machine)
        self.console = Shell(self.guest.console)
        self.log = channel.LogReader(self.guest.log)
        boot = self.log.wait("boot", BOOT_SECONDS)
        self.tsc_hz = boot["tsc_hz"]
        self.ring = trace.Rings(trace.memory_reader(self.guest, folder), boot["trace_paddr"], boot["cpus"],
                                folder / "trace.bin")
        self.log_file = folder / "kernel.log"
        self.boot_us = self.await_up()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.guest.stop()

    def await_up(self):
        deadline = time.monotonic() + BOOT_SECONDS
        pattern = re.compile(r"supervisor: up, (\d+) services serve, (\d+) do not, (\d+) us")
        while not (said := pattern.search(self.log_file.read_text(errors="replace"))):
            if time.monotonic() > deadline:
                raise Missed(f"{self.total} services do not all serve: {self.log_file}")
            time.sleep(POLL_SECONDS)
        if (int(said[1]), int(said[2])) != (self.total, 0):
            raise Missed(f"{said[1]} services serve and {said[2]} do not")
        self.read()
        return int(said[3])

    def read(self):
        entries = self.ring.read()
        if self.ring.lost:
            raise BenchProblem(f"the trace ring lost {self.ring.lost} entries")
        return entries

    def ask(self, text):
        return self.console.ask(text, ANSWER_SECONDS)

    def used_kib(self):
        return int(re.search(r"used\s+(\d+) KiB", self.ask("mem"))[1])

    def rest(self, wanted=None):
        """Memory in use once the dead are buried; if it is to be `wanted`, waits for that for a while."""
        deadline = time.monotonic() + 10
        while (used := self.used_kib()) != wanted and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            if wanted is None and used == self.used_kib():
                return used
        return used

    def accounts(self):
        """Service -> (pages, handles), as `ps` says."""
        text = self.ask("ps")
        rows = re.findall(r"^ *\d+ (\S+) +\S+ +\d+ +(\d+)/\d+ +(\d+) ", text, re.M)
        return {name: (int(pages), int(handles)) for name, pages, handles in rows}

    def services(self):
        """Service -> (state, generation), as `svc` says."""
        text = self.ask("svc")
        rows = re.findall(r"^(\S+) +([A-Z ]+?) +(\d+) +\d+ +\S+(?: us| ms)? ", text, re.M)
        return {name: (state, int(generation)) for name, state, generation in rows}

    def await_ready(self, name, after):
        """Entries up to the mark that a younger incarnation of it serves."""
        index, entries = self.index[name], []
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            entries += self.read()
            born = [e for e in entries if e.event == "PROCESS_CREATE" and e.service == index and e.generation > after]
            done = [e for e in entries if born and e.mark == "READY" and e.b == index and e.tsc > born[0].tsc]
            if done:
                return entries, done[0]
            if time.monotonic() > deadline:
                raise Missed(f"{name} did not come back")
            time.sleep(POLL_SECONDS)

    def kill(self, name):
        """Kills it and waits until it serves again."""
        self.ask(f"kill {name}")
        entries, ready = self.await_ready(name, self.generation[name])
        for e in entries:
            if e.event == "PROCESS_CREATE" and e.service < len(self.names):
                self.generation[self.names[e.service]] = e.generation
        chain = phases.service_recovery(phases.Window(0, entries), self.index[name], name, set())
        death = chain.instants["death"]
        steps = chain.phases_us(1e6)  # a clock of 1 MHz: ticks
        last = chain.instants.get("replayed", chain.instants.get("first", death))
        window = [e for e in entries if death <= e.tsc <= ready.tsc]
        return Recovery(name, ready.tsc - death, waited(window, self.index[name], self.index["virtio_blk"]),
                        steps | {"ready": ready.tsc - last}, chain.checkpoint)

    def kill_recovery(self):
        """Deaths with that of recovery, itself among them, and ticks until all serve again."""
        self.ask("kill recovery")
        entries, _ = self.await_ready("recovery", self.generation["recovery"])
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            died = {e.service: e.tsc for e in reversed(entries) if e.event == "DEATH"}
            back = {e.b: e.tsc for e in entries if e.mark == "READY"}
            if died.keys() <= back.keys():
                return len(died), max(back.values()) - died[self.index["recovery"]]
            if time.monotonic() > deadline:
                raise Missed(f"after the death of recovery {len(back)} of {len(died)} services came back")
            time.sleep(POLL_SECONDS)
            entries += self.read()


def waited(entries, client, driver):
    """Ticks until the driver answers what the client signalled last. While all of them sleep, the guest's clock goes as
    the host's does, instructions counted or not: what the disk takes is no instruction of ours. What the driver
    does for the request is left out with it."""
    for i, e in enumerate(entries):
        if e.event != "SIGNAL" or (e.service, e.a & 0xFFF) != (driver, client):
            continue
        asked = [b.tsc for b in entries[:i] if b.event == "SIGNAL" and (b.service, b.a & 0xFFF) == (client, driver)]
        if asked:
            return e.tsc - asked[-1]
    return 0


def measure(folder, build, total, options, counted):
    """One boot: what the report says of it."""
    with System(folder, build, total, counted, options.mem, options.qemu_extra) as system:
        system.kill("reader.0")  # recovery's pools keep the pages of a session that is closed after the next is open
        before, accounts = system.rest(), system.accounts()
        recoveries, missing = [], []
        for name in victims(system.names, options.kills, options.seed):
            recoveries.append(system.kill(name))
            if (now := system.rest(before)) != before:
                missing.append(f"after the death of {name}: {now - before:+} KiB")
        after = system.accounts()
        rows = system.services()
        wrong = [f"{n}: {rows.get(n)}" for n in system.names[1:] if rows.get(n) != ("RUNNING", system.generation[n])]
        wrong += [f"{n}: {accounts[n]} pages and handles before, {after.get(n)} after" for n in accounts
                  if accounts[n] != after.get(n)]
        lost = [r.service for r in recoveries if kind_of(r.service) in ("counter", "reader") and r.checkpoint != 1]
        wrong += [f"{n}: its state was not restored" for n in lost]
        falls = [system.kill_recovery() for _ in range(HUB_KILLS)]
        alive = sum(state == "RUNNING" for state, _ in system.services().values()) - 1
        return {"services": total, "hub": [ticks for _, ticks in falls], "died": max(died for died, _ in falls), "alive": alive,
                "boot_us": system.boot_us, "used_kib": before, "tsc_hz": system.tsc_hz,
                "recoveries": recoveries, "problems": missing + wrong}


# --- Figures -----------------------------------------------------------------------------------------------

def image_private_kib(build):
    """Of a counter: what is its own and not shared, the pages of its writable segment."""
    from elftools.elf.elffile import ELFFile
    with open(build / "user" / "boot" / "counter.elf", "rb") as f:
        segments = [s.header for s in ELFFile(f).iter_segments() if s.header.p_type == "PT_LOAD"]
    pages = sum((s.p_vaddr % 4096 + s.p_memsz + 4095) // 4096 for s in segments if s.p_flags & 2)
    return pages * PAGE_KIB


def service_kib(few, many, build):
    """What one more idle service takes of the machine, in all processes and the kernel, beyond its own image."""
    each = (many["used_kib"] - few["used_kib"]) / (many["services"] - few["services"])
    return round(each - image_private_kib(build), 1)


def spread(values):
    v = sorted(values)
    return {"n": len(v), "min": v[0], "p50": v[(len(v) - 1) // 2], "p90": v[(len(v) - 1) * 9 // 10], "max": v[-1]}


def by_kind(run):
    return {k: [r for r in run["recoveries"] if kind_of(r.service) == k] for k in KINDS}


def compare(few, many, unit, scale):
    """Rows: for each kind, recovery among few and among many. scale: (recovery, run) to a number."""
    rows = []
    for kind in KINDS:
        a, b = (spread([scale(r, run) for r in by_kind(run)[kind]]) for run in (few, many))
        rows.append(row(kind, unit, a, b))
    return rows


def row(kind, unit, few, many):
    return {"kind": kind, "unit": unit, "few": few, "many": many, "ratio": round(many["p50"] / few["p50"], 3)}


def compare_hub(few, many, unit, scale):
    return row(HUB, unit, *(spread([scale(ticks, run) for ticks in run["hub"]]) for run in (few, many)))


def microseconds(ticks, run):
    return round(ticks * 1e6 / run["tsc_hz"], 1)


def phases_of(run):
    steps = [r.phases for r in by_kind(run)["counter"]]
    names = [n for n in (*phases.PHASES, "ready") if any(n in s for s in steps)]
    return {n: round(statistics.median(s[n] for s in steps if n in s)) for n in names}


def show(out):
    print(f"services alive        {out['alive']} of {out['services']}, and {FEW} of {FEW}")
    print(f"boot                  {out['boot_us'] / 1e6:.2f} s from the loader until all serve "
          f"({FEW} services: {out['boot_us_few'] / 1e6:.2f} s)")
    print(f"memory a service      {out['service_kib']} KiB beyond its own image (limit {LIMIT_KIB}); with its own "
          f"{out['image_kib']} KiB of data {round(out['service_kib'] + out['image_kib'], 1)} KiB; text is shared")
    print(f"{'RECOVERY':<12} {'UNIT':<5} {'N':>4} {'P50 OF ' + str(FEW):>12} {'MAX':>12} {'N':>4} "
          f"{'P50 OF ' + str(out['services']):>12} {'P90':>12} {'MAX':>12} {'RATIO':>6}")
    for r in out["recovery"]:
        a, b = r["few"], r["many"]
        print(f"{r['kind']:<12} {r['unit']:<5} {a['n']:>4} {a['p50']:>12,} {a['max']:>12,} {b['n']:>4} {b['p50']:>12,} "
              f"{b['p90']:>12,} {b['max']:>12,} {r['ratio']:>6.2f}")
    print(f"deaths with recovery  {out['died']}, itself among them")
    for name in ("phases_few", "phases_many"):
        if out.get(name):
            print(f"counter, {name.split('_')[1]}: " + ", ".join(f"{k} {v:,}" for k, v in out[name].items()))
    for problem in out["problems"]:
        print(f"PROBLEM: {problem}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--services", type=int, default=STANDARD)
    parser.add_argument("--kills", type=int, default=40, help="in each of the boots")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mem", default="256M")
    parser.add_argument("--qemu-extra", default="")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--time-only", action="store_true", help="do not count instructions")
    options = parser.parse_args()
    folder = options.build.resolve() / "scale" / datetime.datetime.now().strftime("%Y%m%d-%H%M%S")

    def run(total, counted):
        print(f"scale: {total} services{', counting instructions' if counted else ''} ...", file=sys.stderr, flush=True)
        return measure(folder / f"{total}{'-counted' if counted else ''}", options.build.resolve(), total, options, counted)

    few, many = run(FEW, False), run(options.services, False)
    out = {"schema_version": SCHEMA_VERSION, "seed": options.seed, "kills": options.kills,
           "services": options.services, "alive": many["alive"], "boot_us": many["boot_us"],
           "boot_us_few": few["boot_us"], "image_kib": image_private_kib(options.build),
           "recovery": compare(few, many, "us", lambda r, run: microseconds(r.ticks, run)),
           "died": many["died"], "problems": few["problems"] + many["problems"]}
    out["recovery"].append(compare_hub(few, many, "us", microseconds))
    out["service_kib"] = service_kib(few, many, options.build)
    if out["service_kib"] >= LIMIT_KIB:
        out["problems"].append(f"a service takes {out['service_kib']} KiB beyond its image, limit {LIMIT_KIB}")
    if not options.time_only:
        few, many = run(FEW, True), run(options.services, True)
        counted = compare(few, many, "insn", lambda r, _: r.ticks - r.waited)
        counted.append(compare_hub(few, many, "insn", lambda ticks, _: ticks))
        out["recovery"] += counted
        out |= {"phases_few": phases_of(few), "phases_many": phases_of(many)}
        out["problems"] += few["problems"] + many["problems"]
        out["problems"] += [f"{r['kind']}: {r['ratio']} times the instructions, limit {LIMIT_RATIO}" for r in counted
                            if r["ratio"] > LIMIT_RATIO]
    (folder / "scale.json").write_text(json.dumps(out, indent=1) + "\n")
    latest = folder.parent / "latest"
    latest.unlink(missing_ok=True)
    latest.symlink_to(folder.name)
    show(out)
    print(f"all in {os.path.relpath(folder)}/scale.json")
    return 1 if out["problems"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Missed as problem:
        print(f"scale: {problem}", file=sys.stderr)
        sys.exit(1)
    except qemu.UsageProblem as problem:
        print(f"scale: {problem}", file=sys.stderr)
        sys.exit(2)
    except qemu.EnvironmentProblem as problem:
        print(f"scale: {problem}", file=sys.stderr)
        sys.exit(3)
    except (BenchProblem, channel.GuestGone, trace.TraceProblem) as problem:
        print(f"scale: {problem}", file=sys.stderr)
        sys.exit(4)
