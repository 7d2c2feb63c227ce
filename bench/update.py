# SPDX-License-Identifier: BSD-2-Clause
"""Live updates of the block driver under load: `make update UPDATES=1000`. One boot of system/update.toml; its updater
(services/updater) writes, reads and verifies and orders the updates, each tenth to a version that crashes and must be
rolled back by itself. Pauses are read from the kernel's trace: from DEATH to the first signal to the client.

Writes build/update/<stamp>/update.json. Exit codes: 0 every update held or was rolled back as it must, and no request was
lost, failed or answered wrongly; 1 not so; 3 environment; 4 it did not come to its end."""
import argparse
import datetime
import json
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)
from faultinject import channel, trace  # noqa: E402
from tools import manifest, qemu  # noqa: E402

BOOT_SECONDS, UPDATE_SECONDS = 120, 60
BAD = "virtio_blk_v3"


class Pauses:
    """From trace entries: {cause of the death: [us, ...]}."""

    def __init__(self, tsc_hz, service, client):
        self.tsc_hz, self.service, self.client = tsc_hz, service, client
        self.death, self.found = None, {}

    def take(self, entries):
        for e in entries:
            if e.service != self.service:
                continue
            if e.event == "DEATH" and trace.CAUSES.get(e.a) != "NOT_NEEDED":
                self.death = self.death or e
            elif e.event == "SIGNAL" and self.death and e.generation > self.death.generation \
                    and e.a & 0xFFF == self.client:
                cause = trace.CAUSES.get(self.death.a, str(self.death.a))
                self.found.setdefault(cause, []).append((e.tsc - self.death.tsc) * 1e6 / self.tsc_hz)
                self.death = None


def run(folder, build, updates, mem="256M", extra="", iommu=True, progress=lambda n: None):
    """(updates as the guest says them, pauses by cause)."""
    m = qemu.Machine(image=build / "image" / "update", run=folder, disk=qemu.data_disk(folder / "data.img"), mem=mem,
                     console="null", extra=extra, iommu=iommu)
    said = []
    with qemu.start(m) as guest:
        log = channel.LogReader(guest.log)
        boot = log.wait("boot", BOOT_SECONDS)
        ring = trace.Rings(trace.memory_reader(guest, folder), boot["trace_paddr"], boot["cpus"], folder / "trace.bin")
        system, _ = manifest.compile_file(ROOT / "system/update.toml", ROOT)
        index = {s["name"]: s["index"] for s in system["services"]}
        pauses = Pauses(boot["tsc_hz"], index["virtio_blk"], index["updater"])
        log.wait("update", BOOT_SECONDS)
        guest.channel.sendall(f"{updates}\n".encode())
        while len(said) < updates:
            said.append(log.wait("update", UPDATE_SECONDS))
            if "error" in said[-1]:
                raise channel.GuestGone(said[-1]["error"])
            pauses.take(ring.read())
            progress(len(said))
    return said, pauses.found


def wrong(said):
    """What must not be, in words."""
    out = [f"update {u['n']} to {u['to']}: it is {u['is']}{', rolled back' if u['rolled_back'] else ''}" for u in said
           if (u["is"] == u["to"]) == (u["to"] == BAD) or bool(u["rolled_back"]) != (u["to"] == BAD)]
    last = said[-1]
    return out + [f"{last[k]} {k}" for k in ("mismatched", "errors", "violations") if last[k]]


def percentile(values, p):
    return sorted(values)[(len(values) - 1) * p // 100]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--mem", default="256M")
    parser.add_argument("--qemu-extra", default="")
    parser.add_argument("--iommu", choices=("0", "1"), default="1")
    o = parser.parse_args()
    folder = o.build.resolve() / "update" / datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    said, pauses = run(folder, o.build.resolve(), o.updates, o.mem, o.qemu_extra, o.iommu == "1",
                       lambda n: n % 100 == 0 and print(f"update: {n} of {o.updates}", flush=True))
    bad = wrong(said)
    print(f"{len(said)} updates, {sum(u['to'] == BAD for u in said)} of them to a version that must be rolled back; "
          f"{said[-1]['completed']:,} requests completed, {said[-1]['verified']:,} blocks read back and compared")
    for cause, us in sorted(pauses.items()):
        print(f"pause after {cause}: {len(us)}, median {statistics.median(us):,.0f} us, 99 % {percentile(us, 99):,.0f} us")
    (folder / "update.json").write_text(json.dumps({"schema_version": 1, "updates": said, "pauses_us": pauses,
                                                    "wrong": bad}) + "\n")
    for text in bad[:20]:
        print(f"update: {text}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except qemu.EnvironmentProblem as problem:
        print(f"update: {problem}", file=sys.stderr)
        sys.exit(3)
    except (channel.GuestGone, trace.TraceProblem) as problem:
        print(f"update: {problem}", file=sys.stderr)
        sys.exit(4)
