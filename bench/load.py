# SPDX-License-Identifier: BSD-2-Clause
"""What deaths cost the throughput of a block driver that has a spare: `make warm`. One boot of system/warm.toml; its
guest reads at depth 32 in rounds of three slices: undisturbed, one kill a second, ten kills a second. A round's loss
is against its own undisturbed slice, so that a host that slows down does not count as a loss.

Writes build/warm/<stamp>/load.json. Exit codes: 0 measured, 3 environment, 4 not measured. A bad figure is no error."""
import datetime
import json
import os
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)
from bench import bench  # noqa: E402
from faultinject import channel  # noqa: E402
from tools import qemu  # noqa: E402

SLICE_SECONDS = 60
GOALS = {"lost at 1 kill/s": 1.0, "lost at 10 kills/s": 5.0}  # percent


def slices(run, build):
    m = bench.machine("warm", run, build, console="null", mem=os.environ.get("MEM") or "256M")
    out = []
    with qemu.start(m) as guest:
        log = channel.LogReader(guest.log)
        log.wait("boot", bench.BOOT_SECONDS)
        bench.suites_run(guest, log, counted=False)
        while "end" not in (said := log.wait("load", SLICE_SECONDS)):
            out.append(said)
    return out


def losses(rounds, which):
    """Percent of the reads a second of the round's first slice."""
    def rate(s):
        return s["reads"] / s["ns"]
    return [100 * (1 - rate(r[which]) / rate(r[0])) for r in rounds]


def main():
    build = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
    folder = build / "warm" / datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    got = slices(folder, build)
    rounds = [got[n:n + 3] for n in range(0, len(got), 3)]
    out = {"schema_version": 1, "rounds": rounds, "rows": []}
    print(f"{len(rounds)} rounds; {sum(s['reads'] for s in got):,} reads, {sum(s['kills'] for s in got)} kills, "
          f"{got[-1]['violations']} violations; undisturbed "
          f"{statistics.median(r[0]['reads'] * 1e9 / r[0]['ns'] for r in rounds):,.0f} reads/s")
    for which, (name, goal) in enumerate(GOALS.items(), 1):
        lost = losses(rounds, which)
        row = {"name": name, "unit": "%", "value": round(statistics.median(lost), 2), "n": len(lost),
               "spread": [round(min(lost), 2), round(max(lost), 2)], "goal": goal}
        row["goal_met"] = row["value"] <= goal
        out["rows"].append(row)
        print(f"{name:<20} {row['value']:>6} %   rounds {row['spread'][0]} to {row['spread'][1]}   "
              f"goal {goal} % {'met' if row['goal_met'] else 'MISSED'}")
    (folder / "load.json").write_text(json.dumps(out, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except qemu.EnvironmentProblem as problem:
        print(f"warm: {problem}", file=sys.stderr)
        sys.exit(3)
    except (bench.BenchProblem, channel.GuestGone) as problem:
        print(f"warm: {problem}", file=sys.stderr)
        sys.exit(4)
