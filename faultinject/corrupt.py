#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Turns bits at random in the memory of a store without checkpoint code (services/kv in system/kv.toml): data, heap, stack and
program, while its client puts and gets without a pause and checks every answer (services/kvload). What the store notices, or
dies of, brings it back to its last answer.

    faultinject/corrupt.py [--flips 1000] [--seed 1] [--smp 1] [--gap-us 3000] [--cells 10]

--cells is how many of 100 flips are made as a memory cell turns, behind the back of copy-on-write: they are in the snapshot
too, if the page was not written since. All others are what the store itself could have written astray.
Judged: no answer is wrong, a call that may not be replayed and failed had no effect, the store serves at the end. A store
that was started anew has lost its keys and says so: that is counted as a loss and is no wrong answer.
--plant: the store does not check itself; the run must fail. Exit codes: 0 all held; 1 something did not; 3 environment."""
import argparse
import json
import pathlib
import sys
import time

from elftools.elf.elffile import ELFFile

ROOT = pathlib.Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from faultinject import gdbstub, witness  # noqa: E402
from faultinject.channel import GuestGone, LogReader, Orders  # noqa: E402
from tools import qemu  # noqa: E402

BOOT_SECONDS = 120
SILENT_SECONDS = 120
BATCH = 100
PAGE = 4096
STACK_TOP, STACK_BYTES = 0x420000, 1024  # abi/types.h: USER_STACK_TOP; of the stack, what is in use
HEAP_PAGES = 3                           # services/kv/main.c: the table
AREAS = ("data", "heap", "stack", "text")
CALLS_AFTER = 4000                       # the client's, when all flips are made
TRIES = 5                                # deaths until a snapshot counts as damaged (supervisor/core.h)


def areas(program):
    """{name: (address, bytes)} of what is flipped."""
    with open(program, "rb") as f:
        loads = {s["p_flags"]: (s["p_vaddr"], s["p_memsz"]) for s in ELFFile(f).iter_segments("PT_LOAD")}
    text, data = loads[5], loads[6]
    heap = ((data[0] + data[1] + PAGE - 1) // PAGE + 1) * PAGE  # lib/runtime.c: mappings_base
    return {"data": data, "heap": (heap, HEAP_PAGES * PAGE), "stack": (STACK_TOP - STACK_BYTES, STACK_BYTES), "text": text}


class Corrupt:
    """One boot. problems: what did not hold, as lines. counts: the client's, latest."""

    def __init__(self, folder, build, **machine):
        self.folder, self.build = pathlib.Path(folder), pathlib.Path(build)
        self.problems, self.counts, self.made = [], {}, dict.fromkeys((*AREAS, "cells"), 0)
        self.deaths, self.starts = 0, 0
        self.areas = {k: v for name, (base, size) in areas(self.build / "user" / "kv.elf").items()
                      for k, v in ((name, base), (f"{name}_bytes", size))}
        self.guest = qemu.start(qemu.Machine(image=self.build / "image" / "kv", run=self.folder, **machine))
        try:
            self.log = LogReader(self.guest.log, self.take, self.line)
            self.log.wait("injector", BOOT_SECONDS, lambda value: "ready" in value)
            self.orders = Orders(self.guest.channel)
            self.log.wait("kv", SILENT_SECONDS)
        except BaseException:
            self.guest.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.guest.stop()
        self.log.join(5)

    def take(self, event):
        if "kv_wrong" in event:
            self.problems.append("wrong answer: {what}, key {key}: {got}, not {wanted}".format(**event["kv_wrong"]))
        self.counts = event.get("kv", self.counts)

    def line(self, _writer, text):
        self.starts += text.startswith("kv: empty")

    def plant(self):
        """The store looks at itself no more: answers will be wrong, and the client must say so."""
        kernel = witness.Kernel(self.guest, self.build / "kernel" / "kernel.elf", self.folder)
        with kernel.stopped():
            image = witness.system_image(kernel)
        gdbstub.switch_off_program(self.guest, self.build / "image" / "kv" / "system.img", image, self.build, "kv", "kv_verify")

    def batch(self, flips, seed, gap_us, cells):
        self.orders.send({"op": "flip", "service": "kv", "count": flips, "seed": seed, "gap_us": gap_us, "cells_pct": cells,
                          **self.areas})
        said = self.log.wait("flips", SILENT_SECONDS)
        for name in self.made:
            self.made[name] += said[name]
        self.deaths = said["deaths"]
        if not said["settled"] or said["gave_up"]:
            self.problems.append("the store does not serve")

    def run(self, flips, seed, gap_us=3000, cells=10, on_progress=lambda run: None):
        """Until so many flips, or the first problem; then the client goes on for some thousand calls."""
        try:
            for begin in range(0, flips, BATCH):
                self.batch(min(BATCH, flips - begin), seed * 1000003 + begin, gap_us, cells)
                on_progress(self)
                if self.problems:
                    return
            calls = self.counts["calls"]
            self.log.wait("kv", SILENT_SECONDS, lambda value: value["calls"] >= calls + CALLS_AFTER)
        except GuestGone as gone:
            self.problems.append(f"{gone}: {gone.panic}" if gone.panic else str(gone))

    def flips(self):
        return sum(self.made[a] for a in AREAS)

    def figures(self):
        """rollbacks: after which it went on with its keys. A damaged snapshot is tried in vain before it begins empty."""
        empty = self.starts - 1
        return {"flips": self.flips(), "by_area": self.made, "deaths": self.deaths, "empty": empty,
                "rollbacks": self.deaths - TRIES * empty, **self.counts, "problems": self.problems}


def main():
    p = argparse.ArgumentParser(prog="corrupt.py", description=__doc__.splitlines()[0])
    p.add_argument("--flips", type=int, default=1000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--gap-us", type=int, default=3000)
    p.add_argument("--cells", type=int, default=10)
    p.add_argument("--smp", type=int, default=1)
    p.add_argument("--mem", default="256M")
    p.add_argument("--accel", default="tcg")
    p.add_argument("--iommu", type=int, choices=(0, 1), default=1)
    p.add_argument("--qemu-extra", default="")
    p.add_argument("--plant", action="store_true", help="the store does not check itself: the run must fail")
    p.add_argument("--build", default="build")
    args = p.parse_args()
    folder = ROOT / args.build / "corrupt" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    began, shown = time.monotonic(), [0.0]

    def progress(run):
        if time.monotonic() - shown[0] > 10:
            shown[0] = time.monotonic()
            print(f"corrupt: {run.flips():,} of {args.flips:,} flips, {shown[0] - began:.0f} s", flush=True)
    with Corrupt(folder, ROOT / args.build, smp=args.smp, mem=args.mem, accel=args.accel, iommu=bool(args.iommu),
                 extra=args.qemu_extra) as run:
        if args.plant:
            run.plant()
        run.run(args.flips, args.seed, args.gap_us, args.cells, progress)
        figures = run.figures() | {"seed": args.seed, "smp": args.smp, "seconds": round(time.monotonic() - began)}
    (folder / "summary.json").write_text(json.dumps(figures, indent=1))
    print("{flips:,} bits turned in {seconds} s: data {data}, heap {heap}, stack {stack}, program {text}; {cells} of them as a cell"
          .format(**figures, **figures["by_area"]))
    print("{deaths:,} deaths of the store: after {rollbacks:,} it went on from its last answer with all its keys; {empty} times the "
          "snapshot was damaged too, and it began empty ({lost:,} keys lost, and said so)".format(**figures))
    print("{calls:,} calls: {right:,} answered right, {failed:,} failed with an error and had no effect, {unsealed} answers damaged "
          "on their way out and asked again, {wrong} WRONG".format(**figures))
    for problem in run.problems[:20]:
        print(f"DID NOT HOLD: {problem}")
    print(f"{len(run.problems)} violations; details in {folder}")
    return 1 if run.problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except qemu.EnvironmentProblem as problem:
        print(f"corrupt.py: {problem}", file=sys.stderr)
        sys.exit(3)
