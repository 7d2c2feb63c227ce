#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs of system/hostile.toml: a hostile process attacks, or asks for more than there is, while the workload
writes, reads and verifies and a meter measures. What came of it is judged from outside: the kernel's records
and memory (witness.py), the disk image, the other services' generations.

    faultinject/isolation.py attack  [--seconds 60] [--seed 1] [--smp 1]
    faultinject/isolation.py exhaust [--seconds 5] [--smp 1]       # seconds: of each flood, and of each calm
    faultinject/isolation.py longest                               # the longest system calls, in instructions

Exit codes: 0 nothing was gained, lost or disturbed; 1 something was; 2 usage; 3 environment."""
import argparse
import json
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from faultinject import verify, witness  # noqa: E402
from faultinject.campaign import Ledger, status_name  # noqa: E402
from faultinject.channel import GuestGone, LogReader, Orders  # noqa: E402
from tools import qemu  # noqa: E402

BOOT_SECONDS = 300
ANSWER_SECONDS = 60
SLACK = 20  # a run may take as many times what was asked: the guest's seconds are an emulator's
KINDS = {1: "spawn", 2: "calls", 3: "signals", 4: "capabilities", 5: "memory", 6: "timers", 7: "log", 8: "mappings",
         9: "marks", 10: "requests", 11: "sessions"}  # enum flood_kind
LONGEST = 12
SERIES = ("echo", "supervisor", "read")
RATIO_MAX = 2.0
STORMS = 3  # system/hostile.toml


class Run:
    """One boot of the hostile system. problems: what should not have happened, as lines."""

    def __init__(self, folder, build=ROOT / "build", **machine):
        self.folder, self.build = pathlib.Path(folder), pathlib.Path(build)
        self.problems, self.services, self.failures, self.ledger = [], {}, [], Ledger()
        self.storms, self.floods = 0, []
        self.image = self.build / "image" / "hostile"
        disk = qemu.data_disk(self.folder / "data.img")
        self.guest = qemu.start(qemu.Machine(image=self.image, run=self.folder, disk=disk, **machine))
        try:
            self.log = LogReader(self.guest.log, self.take, self.hear)
            self.orders = Orders(self.guest.channel)
            self.kernel = witness.Kernel(self.guest, self.build / "kernel" / "kernel.elf", self.folder)
            self.log.wait("injector", BOOT_SECONDS, lambda value: "ready" in value)
            self.services = self.await_storms()
        except BaseException:
            self.guest.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.guest.stop()

    def take(self, event):
        self.ledger.take(event)
        if "flood" in event:
            self.floods.append(event["flood"])
        if "hostile_failed" in event:
            self.failures.append(event["hostile_failed"])

    def hear(self, writer, line):
        self.storms += writer is None and line.startswith("kernel: interrupt storm")

    def hello(self):
        self.orders.send({"op": "hello"})
        found = {}
        while True:
            event = self.log.next(ANSWER_SECONDS)
            if "service" in event:
                found[event["service"]["name"]] = event["service"]
            if "hello" in event.get("injector", {}):
                return found

    def await_storms(self):
        """The services, once the one whose device storms was restarted for each storm, and no more."""
        deadline = time.monotonic() + BOOT_SECONDS
        while (found := self.hello())["storm"]["generation"] <= STORMS and time.monotonic() < deadline:
            time.sleep(0.2)
        storm = found["storm"]
        if storm["generation"] != STORMS + 1 or self.storms != STORMS:
            self.problems.append(f"{self.storms} interrupt storms were reported, generation {storm['generation']} of "
                                 f"storm runs; {STORMS} and {STORMS + 1} were to come")
        return found

    def rest(self):
        self.orders.send({"op": "rest"})
        return self.log.wait("rest", ANSWER_SECONDS)

    def order(self, op, **fields):
        self.orders.send({"op": op, **fields})
        status = self.log.wait("order", ANSWER_SECONDS, lambda value: value["op"] == op)["status"]
        if status:
            raise GuestGone(f"the guest refused '{op}': {status_name(status)}")

    # --- what is done -------------------------------------------------------------------------------------
    def start(self, seed):
        self.order("start", seed=seed)
        self.log.wait("workload", ANSWER_SECONDS, lambda value: "start" in value)

    def attack(self, seconds, seed, audits=4):
        """The hostile process's own count at the end. Between the parts the kernel's records are looked at."""
        said = None
        for part in range(audits):
            self.order("attack", seed=seed + part, ms=int(seconds * 1000 / audits))
            self.audit()
            said = self.log.wait("hostile", ANSWER_SECONDS + SLACK * seconds, lambda value: value["final"])
            self.audit()
        return said

    def measure(self, seconds):
        self.order("measure", ms=int(seconds * 1000))
        found = {}
        while True:
            value = self.log.wait("meter", ANSWER_SECONDS + SLACK * seconds)
            if "done" in value:
                if value["session"]:
                    raise GuestGone(f"the meter was refused a session: {status_name(value['session'])}")
                return found
            found[value["name"]] = value

    def flood(self, kind, seconds):
        """(the flood's own count, what the meter measured meanwhile)"""
        self.order("flood", kind=kind, ms=int(seconds * 1000))
        self.log.wait("flooding", ANSWER_SECONDS + SLACK * seconds)
        measured = self.measure(seconds * 0.8)
        while not self.floods:  # it may be over before the meter is
            self.log.next(ANSWER_SECONDS + SLACK * seconds, "'flood'")
        return self.floods.pop(), measured

    def stop_workload(self):
        self.order("stop")
        return self.log.wait("workload", ANSWER_SECONDS + 60, lambda value: "final" in value)

    # --- what is checked -----------------------------------------------------------------------------------
    def audit(self):
        with self.kernel.stopped():
            found, self.counted = witness.audit(self.kernel, self.services["hostile"]["index"])
            self.problems += found + witness.unchanged(self.kernel, self.image / "system.img")

    def check_others(self):
        """No other service died; nothing leaked; what the workload says of itself."""
        now = self.hello()
        for name, service in self.services.items():
            if name != "hostile" and now[name]["generation"] != service["generation"]:
                self.problems.append(f"{name} was restarted: generation {service['generation']} -> "
                                     f"{now[name]['generation']}")
        rest = self.rest()
        if rest["dead_pages"]:
            self.problems.append(f"dead processes hold {rest['dead_pages']} pages")
        for kind in ("mismatch", "duplicate", "io_error", "forged"):
            count = sum(c[kind] for c in self.ledger.counts.values())
            if count:
                self.problems.append(f"the workload: {count} {kind}")

    def check_disk(self):
        """After the machine is off."""
        found = verify.check_disk(self.folder / "data.img", self.ledger.acks)
        self.problems += [f.text() for f in found]
        if not self.ledger.acks.count:
            self.problems.append("the workload wrote nothing")
        if self.log.panic:
            self.problems.append(self.log.panic)


def attack(folder, seconds, seed, build=ROOT / "build", **machine):
    """A whole run. Returns (problems, figures)."""
    with Run(folder, build, **machine) as run:
        run.start(seed)
        said = run.attack(seconds, seed)
        run.stop_workload()
        run.check_others()
        run.problems += [f"{f['attack']}: {f['what']}: got {f['got']}, wanted {f['wanted']}" for f in run.failures]
        run.guest.stop()
        run.log.join(5)
        run.check_disk()
        generations = {n: s["generation"] for n, s in run.services.items()}
        return run.problems, {"hostile": said, "writes": run.ledger.acks.count, "counted": run.counted,
                              "generations": generations}


def exhaust(folder, seconds, kinds=KINDS, build=ROOT / "build", **machine):
    """Each flood beside a calm of the same length. Returns (problems, rows)."""
    rows = []
    with Run(folder, build, **machine) as run:
        run.start(1)
        for kind in kinds:
            calm = run.measure(seconds * 0.8)
            said, storm = run.flood(kind, seconds)
            run.audit()
            rows.append({"kind": KINDS[kind], **{k: said[k] for k in ("attempts", "refused", "first_refusal")},
                         "status": status_name(said["status"]) if said["refused"] else "-",
                         "calm": calm, "flood": storm,
                         "ratio": {s: storm[s]["p50_ns"] / calm[s]["p50_ns"] for s in SERIES}})
        run.stop_workload()
        run.check_others()
        run.guest.stop()
        run.log.join(5)
        run.check_disk()
        return run.problems, rows


def longest(folder, build=ROOT / "build", **machine):
    """Rows of the longest system calls, in instructions. Nothing else runs."""
    rows = []
    with Run(folder, build, icount="shift=0", **machine) as run:
        run.order("flood", kind=LONGEST, ms=1)
        while True:
            event = run.log.next(ANSWER_SECONDS * SLACK)
            if "longest" in event:
                rows.append(event["longest"])
            if "flood" in event:
                return run.problems, rows


def table(rows):
    yield (f"{'flood':<14}{'attempts':>12}{'refused':>12}  {'by':<12}" +
           "".join(f"{s + ' p50':>24}{'ratio':>7}{'p99 ratio':>11}" for s in SERIES))
    for r in rows:
        line = f"{r['kind']:<14}{r['attempts']:>12,}{r['refused']:>12,}  {r['status']:<12}"
        for s in SERIES:
            calm, flood = r["calm"][s], r["flood"][s]
            line += (f"{calm['p50_ns'] / 1000:>12.1f} ->{flood['p50_ns'] / 1000:>6.1f} us{r['ratio'][s]:>7.2f}"
                     f"{flood['p99_ns'] / calm['p99_ns']:>11.2f}")
        yield line


def main():
    p = argparse.ArgumentParser(prog="isolation.py", description=__doc__.splitlines()[0])
    p.add_argument("what", choices=("attack", "exhaust", "longest"))
    p.add_argument("--seconds", type=float)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--smp", type=int, default=1)
    p.add_argument("--mem", default="256M")
    p.add_argument("--accel", default="tcg")
    p.add_argument("--iommu", type=int, choices=(0, 1), default=1)
    p.add_argument("--qemu-extra", default="")
    p.add_argument("--build", default="build")
    args = p.parse_args()
    build = ROOT / args.build
    folder = build / args.what / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    machine = {"smp": args.smp, "mem": args.mem, "accel": args.accel, "iommu": bool(args.iommu), "extra": args.qemu_extra}
    if args.what == "attack":
        problems, figures = attack(folder, args.seconds or 60, args.seed, build, **machine)
        h = figures["hostile"]
        print(f"seed {args.seed}, {args.smp} CPU: {h['calls']:,} random system calls in {h['children']} children "
              f"({h['deaths']} died: {h['page_faults']} of page faults), {h['attacks']} runs of {h['kinds']} attacks, "
              f"{h['failures']} not as expected; {figures['writes']:,} writes of the workload acknowledged")
    elif args.what == "longest":
        problems, rows = longest(folder, build=build, **machine)
        for r in rows:
            print(f"{r['name']:<32}{r['amount']:>8,}{r['ticks']:>12,} instructions")
    else:
        problems, rows = exhaust(folder, args.seconds or 5, build=build, **machine)
        (folder / "exhaust.json").write_text(json.dumps(rows, indent=1) + "\n")
        print("\n".join(table(rows)))
        for r in rows:
            for s in SERIES:
                if r["ratio"][s] > RATIO_MAX:
                    print(f"note: {s} takes {r['ratio'][s]:.2f} times as long during {r['kind']}")
    for problem in problems:
        print(f"PROBLEM: {problem}")
    print(f"{len(problems)} problems; details in {folder}")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except qemu.EnvironmentProblem as problem:
        print(f"isolation.py: {problem}", file=sys.stderr)
        sys.exit(3)
