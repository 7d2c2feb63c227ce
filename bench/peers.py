# SPDX-License-Identifier: BSD-2-Clause
"""Measures Coppice against Linux on the same machine: `make bench PEERS=linux`. PAIRS (5) times it boots both
from the same QEMU line, with only the boot disk exchanged: counting instructions, then in time, Coppice first.
Boots that count instructions run beside each other if JOBS allows (a count does not depend on the host's load);
boots in time run alone. After a Ctrl-C the pairs that are complete are reported.

Writes build/bench/<stamp>/bench.json and table.md (README.md beside this file says what each row is). Exit codes:
0 all figures in all pairs, 3 environment, 4 something could not be measured (the rest is printed and written).
"""
import concurrent.futures
import datetime
import json
import os
import pathlib
import platform
import struct
import subprocess
import sys

from bench import bench, compare
from faultinject import channel, trace
from tools import qemu

ROOT = pathlib.Path(__file__).resolve().parent.parent
DISK_BYTES = qemu.DATA_DISK_BYTES
BLOCK = 4096
LINUX_BOOT_SECONDS = 900  # six thousand million instructions when they are counted
TAIL_LINES = 12      # of a console, when its guest failed
DEFAULT_MEM = "256M"
Problems = (bench.BenchProblem, channel.GuestGone, trace.TraceProblem, qemu.EnvironmentProblem)


# --- Machines --------------------------------------------------------------------------------------------------

def disk_stamped(run):
    """A data disk in a run folder; every block begins with its own number, which the Linux guest checks."""
    run.mkdir(parents=True)
    with open(run / "data.img", "wb") as f:
        for number in range(DISK_BYTES // BLOCK):
            f.write(struct.pack("<Q", number).ljust(BLOCK, b"\xa5"))


def mem():
    return os.environ.get("MEM") or DEFAULT_MEM


def linux_boot(system, run, build, counted):
    """One boot of a Linux guest: ({name: samples}, what it said of itself)."""
    m = bench.machine(system, run, build, icount="shift=0" if counted else None, mem=mem())
    m.image = build / "linux" / system
    with qemu.start(m) as guest:
        log, console = channel.LogReader(guest.log), bench.Console(guest.console)
        try:
            log.wait("boot", LINUX_BOOT_SECONDS)
            return bench.suites_run(guest, log, counted)
        except (bench.BenchProblem, channel.GuestGone) as problem:
            tail = "\n".join(console.text.splitlines()[-TAIL_LINES:])
            raise bench.BenchProblem(f"{problem}. Its console ends with:\n{tail}\nLog: {run}/kernel.log") from None


def linux_counted(system, run, build):
    samples, _ = linux_boot(system, run, build, counted=True)
    return linux_figures_counted(samples)


def linux_timed(system, run, build):
    return linux_figures_timed(*linux_boot(system, run, build, counted=False))


def coppice_counted(_system, run, build):
    samples, _, recovered = bench.measure(run, build, counted=True)
    return bench.figures_counted(samples, recovered)


def coppice_timed(_system, run, build):
    return bench.figures_timed(*bench.measure(run, build, counted=False))


def coppice_rest(_system, run, build):
    us, kib = bench.appliance(run, build, mem())
    return {"boot_us": bench.figure_of([us]), "idle_memory_kib": bench.figure_of([kib])}


# --- Figures of a Linux guest ------------------------------------------------------------------------------------

def linux_figures_counted(samples):
    out = {name: bench.figure_of_samples(s) for name, s in samples.items() if not name.endswith("_elapsed")}
    return {name.replace("_busy", "_insn"): figure for name, figure in out.items()}


def linux_figures_timed(samples, said):
    hz, out = said["tsc_hz"], {}
    for name, s in samples.items():
        stem, _, kind = name.rpartition("_")
        if kind == "elapsed" and stem.startswith("read4k"):
            out[f"{stem}_iops"] = bench.figure_of_samples(s, lambda ticks: hz / ticks)
        elif kind == "elapsed":
            out[f"{stem}_us"] = bench.figure_of_samples(s, lambda ticks: ticks * 1e6 / hz)
    memory = said["memory"]
    out["boot_read_us"] = bench.figure_of([said["boot_ticks"] * 1e6 / hz])
    out["boot_kernel_us"] = bench.figure_of([said["boot_kernel_ns"] / 1e3])
    out["idle_memory_kib"] = bench.figure_of([memory["ram_kib"] - memory["available_kib"]])
    out["idle_memory_total_kib"] = bench.figure_of([memory["total_kib"] - memory["available_kib"]])
    return out


# --- Pairs ---------------------------------------------------------------------------------------------------------

def boots(systems, linux_step, *coppice_steps):
    """(system, step) of one half of a pair: Coppice, then each Linux."""
    return [(compare.COPPICE, step) for step in coppice_steps] + [(s, linux_step) for s in systems]


def half(folder, build, what, at_once):
    """Boots each; merges the figures by system."""
    def boot(job):
        system, step = job
        run = folder / f"{system}-{step.__name__.split('_')[1]}"
        disk_stamped(run)
        try:
            return system, step(system, run, build)
        except Problems as problem:
            raise bench.BenchProblem(f"{run.relative_to(folder.parent)}: {problem}") from None
        finally:
            (run / "data.img").unlink()

    figures = {}
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        for system, measured in (pool.map if at_once > 1 else map)(boot, what):
            figures.setdefault(system, {}).update(measured)
    return figures


def pair(folder, build, systems, jobs):
    counted = half(folder, build, boots(systems, linux_counted, coppice_counted), min(jobs, 2))
    timed = half(folder, build, boots(systems, linux_timed, coppice_timed, coppice_rest), 1)
    return {system: counted[system] | timed[system] for system in counted}


def systems_of(build):
    """The Linux systems that this machine calls for."""
    line = qemu.command(qemu.Machine(image=build / "image/bench", run=build, disk=build / "data.img",
                                     extra=os.environ.get("QEMU_EXTRA", ""), iommu=os.environ.get("IOMMU") != "0"))
    return ["linux"] + ([compare.NO_IOMMU] if any("intel-iommu" in word for word in line) else [])


def measured(folder, build, systems, count):
    """(pairs, problems, load averages)."""
    pairs, loads, jobs = [], [], int(os.environ.get("JOBS") or 1)
    for number in range(1, count + 1):
        print(f"bench: pair {number} of {count} ...", file=sys.stderr, flush=True)
        loads.append(round(os.getloadavg()[0], 2))
        try:
            pairs.append(pair(folder / f"pair{number}", build, systems, jobs))
        except bench.BenchProblem as problem:
            return pairs, [str(problem)], loads
        except KeyboardInterrupt:
            return pairs, ["interrupted"], loads
    return pairs, [], loads


# --- Report ----------------------------------------------------------------------------------------------------------

def others(pairs):
    """Coppice's figures that have no row here, as `make bench` reports them; values: the medians of the boots."""
    compared = {c.name for c in compare.COMPARISONS}
    out = []
    for name, unit in bench.ROWS:
        found = [p[compare.COPPICE][name].value for p in pairs if name in p[compare.COPPICE]]
        if found and name not in compared:
            out.append(bench.row(name, unit, bench.figure_of(found)))
    return out


def commit():
    out = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10"],
                         capture_output=True, text=True)
    return out.stdout.strip() or "unknown"


def report(folder, systems, wanted, pairs, problems, loads):
    kernel = (ROOT / "build/third_party/linux/version").read_text().split()
    rows, short = compare.rows(compare.comparisons(compare.NO_IOMMU in systems), pairs)
    if len(pairs) < wanted:
        problems.append(f"{len(pairs)} of {wanted} pairs were measured")
    out = {"schema_version": bench.SCHEMA_VERSION, "accel": "tcg", "qemu": qemu.qemu_version(), "smp": 1, "mem": mem(),
           "iommu": compare.NO_IOMMU in systems,
           "host": platform.processor() or platform.machine(), "cpus": os.cpu_count(), "commit": commit(),
           "peers": "measured in this run", "linux": dict(zip(("package", "version", "sha256"), kernel)),
           "pairs": len(pairs), "load": loads, "rows": rows + others(pairs), "missing": short, "problems": problems}
    (folder / "bench.json").write_text(json.dumps(out, indent=1) + "\n")
    (folder / "table.md").write_text(markdown(out, rows))
    bench.latest_is(folder)
    print(compare.table(rows))
    print(f"\nRatio: Coppice / peer, median of {len(pairs)} pairs; lowest and highest of a pair. Load: {loads}.\n"
          f"All in {os.path.relpath(folder)}/bench.json, the table as {os.path.relpath(folder)}/table.md")
    return short


def markdown(out, rows):
    linux = out["linux"]
    return (f"# Coppice and Linux on the same machine, {datetime.date.today()}\n\n"
            f"`make bench PEERS=linux`, {out['pairs']} pairs; commit {out['commit']}; {linux['package']} "
            f"{linux['version']}; QEMU {out['qemu']}, TCG, one CPU, {out['mem']}, {'an' if out['iommu'] else 'no'} IOMMU; host with {out['cpus']} CPUs, load "
            f"before each pair {', '.join(map(str, out['load']))}.\nRatio: Coppice / peer, the median over the pairs; "
            "lowest and highest ratio of a pair. What each row is: bench/README.md.\n\n"
            f"{compare.markdown(rows)}\n")


def main():
    build = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
    folder = build / "bench" / datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder.mkdir(parents=True)
    systems, wanted = systems_of(build), int(os.environ.get("PAIRS") or 5)
    pairs, problems, loads = measured(folder, build, systems, wanted)
    short = report(folder, systems, wanted, pairs, problems, loads)
    for problem in problems:
        print(f"bench: {problem}", file=sys.stderr)
    if short:
        print(f"bench: not measured in every pair: {', '.join(short)}", file=sys.stderr)
    return 4 if problems or short else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except qemu.EnvironmentProblem as problem:
        print(f"bench: {problem}", file=sys.stderr)
        sys.exit(3)
