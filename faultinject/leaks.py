#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Kills the services of system/leaks.toml many times. After each kill the guest counts pages, quarantine, processes,
threads, handles, mappings and kernel objects (faultinject/injector/leaks.c) and compares with the count that
there was; the first 200 kills are not counted, because tables and pools grow to what a restart needs and stay so large; between batches the machine is stopped and the kernel's own records are counted from outside, by process and
type: endpoints, interrupts, vectors, IOMMU domains and their mappings. All must stay what it is, exactly. Recovery
times of the first and the last 1,000 kills are compared and judged by nobody.

    faultinject/leaks.py [--kills 10000] [--seed 1] [--smp 1] [--plant NAME]

--plant NAME makes a function return at once that should give something back, in the running machine: the run must
fail. Exit codes: 0 nothing leaked; 1 something did, or the system did not come back; 3 environment."""
import argparse
import collections
import json
import pathlib
import statistics
import struct
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from faultinject import gdbstub, witness  # noqa: E402
from faultinject.channel import GuestGone, LogReader, Orders  # noqa: E402
from tools import qemu  # noqa: E402

BOOT_SECONDS = 600  # with -icount, firmware alone takes minutes
UNCOUNTED = 200
BATCH = 1000
BATCH_SECONDS = 600  # hosts can be slow
COMPARED = 1000
LINE_FREE = 0        # enum line_state (kernel/arch/x86_64/interrupts.c)
# What a planted leak keeps: (program, None for the kernel; function).
PLANTS = {"domain": (None, "arch_iommu_close"), "session": ("recovery", "session_objects_free")}


def census(kernel):
    """{what: how many} of the kernel's records; processes by their service, so that restarts do not matter."""
    found = collections.Counter()
    for p in witness.processes(kernel):
        who = f"service {witness.tag_of(p) & 0xFFF}"
        found["processes"] += 1
        for what in ("used", "thread_count", "handle_count", "mapping_count", "object_count", "chunk_count"):
            found[f"{who}: {what}"] += p[what]
        found[f"{who}: page tables"] += sum(struct.unpack("<4I", kernel.read(p.address_of("space.tables"), 16)))
        found[f"{who}: pages of cells"] += pages_of_cells(kernel, p)
        for o in kernel.list(p.address_of("objects"), "object", "owned"):
            found[f"{who}: {witness.TYPES[o['type']]}"] += 1
            if witness.TYPES[o["type"]] == "DMA":
                found["mappings in DMA domains"] += kernel.at("dma", o.address)["mapping_count"]
    found["IOMMU domains"] = sum(word.bit_count() for word in words(kernel, "taken", 8))
    size = kernel.layout["line"][None]
    at, bytes_ = kernel.symbols["lines"], kernel.sizes["lines"]
    found["vectors"] = sum(kernel.at("line", at + n)["state"] != LINE_FREE for n in range(0, bytes_, size))
    return found


def pages_of_cells(kernel, p):
    """Objects and mappings live there; each page begins with the next one's address (kernel/object.c)."""
    pages, at = 0, p["pool"]
    while at:
        pages, at = pages + 1, struct.unpack("<Q", kernel.read(at, 8, physical=True))[0]
    return pages


def words(kernel, symbol, size):
    data = kernel.read(kernel.symbols[symbol], kernel.sizes[symbol])
    return [int.from_bytes(data[n:n + size], "little") for n in range(0, len(data), size)]


def middle(values):
    v = sorted(values)
    return round(statistics.mean(v[len(v) // 4:len(v) - len(v) // 4]))


class Leaks:
    """One boot. problems: what did not hold, as lines."""

    def __init__(self, folder, build, **machine):
        self.folder, self.build = pathlib.Path(folder), pathlib.Path(build)
        self.problems, self.recovered, self.kills, self.deaths, self.counted = [], [], 0, 0, None
        self.guest = qemu.start(qemu.Machine(image=self.build / "image" / "leaks", run=self.folder,
                                             disk=qemu.data_disk(self.folder / "data.img"), **machine))
        try:
            self.log = LogReader(self.guest.log, self.take)
            self.log.wait("injector", BOOT_SECONDS, lambda value: "ready" in value)
            self.orders = Orders(self.guest.channel)
            self.kernel = witness.Kernel(self.guest, self.build / "kernel" / "kernel.elf", self.folder)
            self.batch(0, 12345, UNCOUNTED)
            self.before = self.census()
        except BaseException:
            self.guest.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.guest.stop()
        self.log.join(5)

    def plant(self, name):
        program, function = PLANTS[name]
        if program is None:
            gdbstub.switch_off(self.guest, self.build / "kernel" / "kernel.elf", function)
        else:
            with self.kernel.stopped():
                image = witness.system_image(self.kernel)
            gdbstub.switch_off_program(self.guest, self.build / "image" / "leaks" / "system.img", image, self.build,
                                       program, function)

    def take(self, event):
        self.recovered += event.get("recovered", [])

    def census(self):
        with self.kernel.stopped():
            return census(self.kernel)

    def batch(self, kills, seed, uncounted=0):
        self.orders.send({"op": "leaks", "uncounted": uncounted, "kills": kills, "seed": seed})
        said = self.log.wait("leaks", BATCH_SECONDS)
        self.kills += said["kills"]
        self.deaths, self.counted = said["deaths"], {k: v for k, v in said.items() if isinstance(v, list)}
        if said["leaked"]:
            differ = [f"{k} {v[0]} -> {v[1]}" for k, v in self.counted.items() if v[0] != v[1]]
            self.problems.append(f"after kill {self.kills + bool(kills)}: " + (", ".join(differ) or "a service does not serve again"))

    def look(self):
        now = self.census()
        self.problems += [f"after {self.kills} kills, seen from outside: {what} {self.before[what]} -> {now[what]}"
                          for what in sorted(self.before | now) if self.before[what] != now[what]]

    def run(self, kills, seed, batch=BATCH, on_progress=lambda leaks: None):
        """Until so many, or the first problem."""
        try:
            while self.kills < kills and not self.problems:
                self.batch(min(batch, kills - self.kills), seed + self.kills)
                self.look()
                on_progress(self)
        except GuestGone as gone:
            self.problems.append(f"{gone}: {gone.panic}" if gone.panic else str(gone))

    def times(self):
        """Recovery of each service in the first and the last kills, ns, and the ratio of their sums. Means of the middle half:
        some services recover by one of two ways, each in about half of the cases, and a median jumps from one to the other."""
        first, last = self.recovered[:COMPARED], self.recovered[-COMPARED:]
        both = sorted({s for s, _ in first} & {s for s, _ in last})
        rows = {s: [middle([ns for of, ns in part if of == s]) for part in (first, last)] for s in both}
        sums = [sum(row[n] for row in rows.values()) for n in (0, 1)]
        return {"kills_compared": len(first), "middle_ns": rows, "ratio": round(sums[1] / sums[0], 4) if sums[0] else None}

    def figures(self):
        return {"kills": self.kills, "deaths": self.deaths, "counts": self.counted, "outside": len(self.before),
                "recovery": self.times(), "problems": self.problems}


def main():
    p = argparse.ArgumentParser(prog="leaks.py", description=__doc__.splitlines()[0])
    p.add_argument("--kills", type=int, default=10000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--smp", type=int, default=1)
    p.add_argument("--mem", default="256M")
    p.add_argument("--accel", default="tcg")
    p.add_argument("--iommu", type=int, choices=(0, 1), default=1)
    p.add_argument("--qemu-extra", default="")
    p.add_argument("--plant", choices=PLANTS)
    p.add_argument("--build", default="build")
    args = p.parse_args()
    folder = ROOT / args.build / "leaks" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    began, shown = time.monotonic(), [0.0]

    def progress(leaks):
        if time.monotonic() - shown[0] > 10:
            shown[0] = time.monotonic()
            print(f"leaks: {leaks.kills:,} of {args.kills:,} kills, {shown[0] - began:.0f} s", flush=True)
    with Leaks(folder, ROOT / args.build, smp=args.smp, mem=args.mem, accel=args.accel, iommu=bool(args.iommu),
               extra=args.qemu_extra) as run:
        if args.plant:
            run.plant(args.plant)
        run.run(args.kills, args.seed, on_progress=progress)
        figures = run.figures() | {"seed": args.seed, "smp": args.smp, "seconds": round(time.monotonic() - began)}
    (folder / "summary.json").write_text(json.dumps(figures, indent=1))
    print(f"{figures['kills']:,} kills, {figures['deaths']:,} deaths in {figures['seconds']} s; {len(figures['counts'])} "
          f"counts compared after each, {figures['outside']} from outside after each batch")
    times = figures["recovery"]
    if times["ratio"]:
        print(f"recovery, last {times['kills_compared']:,} kills : first: {times['ratio']}")
        for service, (first, last) in times["middle_ns"].items():
            print(f"  service {service}: {first:,} ns, then {last:,}: {last / first:.3f}")
    for problem in run.problems[:20]:
        print(f"LEAK: {problem}")
    print(f"{len(run.problems)} leaks; details in {folder}")
    return 1 if run.problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except qemu.EnvironmentProblem as problem:
        print(f"leaks.py: {problem}", file=sys.stderr)
        sys.exit(3)
