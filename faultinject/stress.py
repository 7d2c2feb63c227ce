#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs system/stress.toml: processes are made and ended, and memory is taken from them, on all CPUs at once, until
so many ended. The guest looks whether what the kernel said is true (services/stress); from outside the trace is
read: services stay on the CPUs that the manifest gives them, nothing leaks, and for how long the lock is held.

    faultinject/stress.py [--kills 10000] [--smp 4] [--no-shootdown]

--no-shootdown patches the running kernel so that other CPUs keep TLB entries of what is unmapped: the run must fail.
Exit codes: 0 all held; 1 something did not; 3 environment."""
import argparse
import json
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from faultinject import gdbstub, trace  # noqa: E402
from faultinject.channel import GuestGone, LogReader  # noqa: E402
from tools import manifest, qemu  # noqa: E402

BOOT_SECONDS = 300
SILENT_SECONDS = 300  # between two lines of the guest; hosts can be slow
ACTIONS = ("kill", "unmap", "revoke", "destroy", "leave", "thread", "calls")


class Stress:
    """One boot. problems: what did not hold, as lines. counts: by instance, the last line of each."""

    def __init__(self, folder, build, smp, shootdown=True, **machine):
        self.folder, self.build, self.smp = pathlib.Path(folder), pathlib.Path(build), smp
        self.problems, self.counts, self.strays = [], {}, {}
        system, errors = manifest.compile_file(ROOT / "system" / "stress.toml", ROOT)
        assert not errors, errors
        self.pinned = {s["index"]: {c % smp for c in s["cpus"]} for s in system["services"] if s["cpus"]}
        self.names = {s["index"]: s["name"] for s in system["services"]}
        disk = qemu.data_disk(self.folder / "data.img")
        self.guest = qemu.start(qemu.Machine(image=self.build / "image" / "stress", run=self.folder, disk=disk, smp=smp,
                                             **machine))
        try:
            self.log = LogReader(self.guest.log)
            boot = self.log.wait("boot", BOOT_SECONDS)
            self.tsc_hz = boot["tsc_hz"]
            self.rings = trace.Rings(trace.memory_reader(self.guest, self.folder), boot["trace_paddr"], boot["cpus"])
            if not shootdown:
                gdbstub.switch_off(self.guest, self.build / "kernel" / "kernel.elf", "sched_flush")
        except BaseException:
            self.guest.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.guest.stop()
        self.log.join(5)

    @property
    def ended(self):
        return sum(c["ended"] for c in self.counts.values())

    def take(self, line):
        if "violation" in line:
            self.problems.append("{action}, round {round}: {violation}: {got:#x}, not {wanted:#x}".format(**line))
        else:
            self.counts[line["instance"]] = line

    def look_at_trace(self):
        for e in self.rings.read():
            if e.event == "LEAK":
                self.problems.append(f"a dead process of service {e.service} owned {e.a} pages")
            if e.service in self.pinned and e.event in ("SIGNAL", "MARK", "PROCESS_FIRST") \
                    and e.cpu not in self.pinned[e.service]:
                self.problems.append(f"{self.names[e.service]} ran on CPU {e.cpu}, not on {self.pinned[e.service]}")

    def run(self, kills, on_progress=lambda ended: None):
        """Until so many ended, or the first problem."""
        try:
            while self.ended < kills and not self.problems:
                self.take(self.log.wait("stress", SILENT_SECONDS))
                self.look_at_trace()
                on_progress(self.ended)
        except GuestGone as gone:
            self.problems.append(f"{gone}: {gone.panic}" if gone.panic else str(gone))
        self.problems += [f"the log has the line {line!r}" for line in self.log.bad_lines]

    def figures(self):
        lock = {}
        if self.guest.process.poll() is None:
            lock = {name: t.row(self.tsc_hz) for name, t in trace.lock_times(self.rings).items()}
        return {"smp": self.smp, "ended": self.ended, "lock": lock,
                **{a: sum(c[a] for c in self.counts.values()) for a in ACTIONS}}


def main():
    p = argparse.ArgumentParser(prog="stress.py", description=__doc__.splitlines()[0])
    p.add_argument("--kills", type=int, default=10000)
    p.add_argument("--smp", type=int, default=4)
    p.add_argument("--mem", default="256M")
    p.add_argument("--accel", default="tcg")
    p.add_argument("--iommu", type=int, choices=(0, 1), default=1)
    p.add_argument("--qemu-extra", default="")
    p.add_argument("--no-shootdown", action="store_true")
    p.add_argument("--build", default="build")
    args = p.parse_args()
    build = ROOT / args.build
    folder = build / "stress" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    began, shown = time.monotonic(), [0.0]

    def progress(ended):
        if time.monotonic() - shown[0] > 10:
            shown[0] = time.monotonic()
            print(f"stress: {ended:,} of {args.kills:,} ended, {shown[0] - began:.0f} s", flush=True)
    with Stress(folder, build, args.smp, not args.no_shootdown, mem=args.mem, accel=args.accel,
                iommu=bool(args.iommu), extra=args.qemu_extra) as run:
        run.run(args.kills, progress)
        figures = run.figures() | {"problems": run.problems, "seconds": round(time.monotonic() - began)}
    (folder / "summary.json").write_text(json.dumps(figures, indent=1))
    print(f"{figures['ended']:,} processes and threads ended on {args.smp} CPUs in {figures['seconds']} s: " +
          ", ".join(f"{figures[a]:,} {a}" for a in ACTIONS))
    if figures["lock"]:
        print(trace.lock_line(figures["lock"]))
    for problem in run.problems[:20]:
        print(f"DID NOT HOLD: {problem}")
    print(f"{len(run.problems)} violations; details in {folder}")
    return 1 if run.problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except qemu.EnvironmentProblem as problem:
        print(f"stress.py: {problem}", file=sys.stderr)
        sys.exit(3)
