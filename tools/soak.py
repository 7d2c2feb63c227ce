#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""make soak: every long target, one after another, each by the command that shows it alone; some three hours on two
cores. A run's output is in BUILD/soak/DATE/NAME.log, the table in summary.txt beside it. One that fails ends nothing:
the others run all the same. Figures that nobody passes or fails by (make bench, make warm) are not among them.

    tools/soak.py [--only NAME ...] [--build build]

Exit codes: 0 all passed; 1 one did not; 2 no such run; 130 interrupted: what was not run is said."""
import argparse
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RUNS = {
    # capabilities under attack
    "model": ["model", "CALLS=10000000"],
    "fuzz-planted": ["fuzz", "PLANT=1", "RUNS=2000000"],
    "fuzz": ["fuzz", "RUNS=10000000"],
    "hostile": ["hostile", "SECONDS=60", "SMP=4", "SEED=1"],
    "exhaust": ["exhaust", "SECONDS=5"],
    # many CPUs, many processes
    "stress": ["stress", "SMP=4", "KILLS=20000"],
    "scale": ["scale"],
    "leaks": ["leaks", "KILLS=10000"],
    # nothing lost
    "chaos-1-cpu": ["chaos", "SMP=1", "SEED=1", "KILLS=200"],
    "chaos-4-cpus": ["chaos", "SMP=4", "SEED=2", "KILLS=200"],
    "hardware": ["hardware", "SEED=1"],
    "powercut": ["powercut", "KILLS=50", "SEED=1"],
    "media": ["media", "RUNS=20", "SEED=1"],
    # supervision and recovery
    "sim": ["sim", "SEEDS=1000000"],
    "supervisor": ["chaos", "DRIVER=supervisor", "FAULT=recovering", "KILLS=200"],
    "recovery": ["chaos", "DRIVER=recovery", "FAULT=recovering", "KILLS=200"],
    "pci": ["chaos", "DRIVER=pci", "FAULT=recovering", "KILLS=200"],
    "combination": ["chaos", "FAULT=combination", "KILLS=200", "SEED=1"],
    "update": ["update", "UPDATES=1000"],
    "corrupt": ["corrupt", "FLIPS=1000"],
}


def commit():
    said = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True)
    return said.stdout.strip() or "not a git checkout"


def run(name, words, folder):
    """(passed, seconds, the last line that it said)."""
    log, began = folder / f"{name}.log", time.monotonic()
    with open(log, "wb") as out:
        child = subprocess.Popen(words, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                 env={k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k not in ("MFLAGS", "ONLY")})
        try:
            code = child.wait()
        except KeyboardInterrupt:  # the terminal told the child as well; a signal from elsewhere did not
            child.send_signal(signal.SIGINT)
            child.wait()
            raise
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return code == 0, time.monotonic() - began, lines[-1].strip() if lines else "said nothing"


def soak(runs, folder, say=print):
    """Runs {name: words}; the rows of the table as [(name, state, seconds, line)]."""
    rows = [(name, "not run", 0.0, " ".join(words)) for name, words in runs.items()]
    try:
        for n, (name, words) in enumerate(runs.items()):
            rows[n] = (name, "interrupted", 0.0, " ".join(words))
            passed, seconds, line = run(name, words, folder)
            rows[n] = (name, "passed" if passed else "FAILED", seconds, line)
            say(table(rows[n:n + 1]), flush=True)
    except KeyboardInterrupt:
        pass
    (folder / "summary.txt").write_text(f"commit {commit()}\n{table(rows)}\n")
    return rows


def table(rows):
    return "\n".join(f"{name:14} {state:11} {seconds / 60:6.1f} min  {line[:110]}" for name, state, seconds, line in rows)


def main():
    p = argparse.ArgumentParser(prog="soak.py", description=__doc__.splitlines()[0])
    p.add_argument("--only", nargs="+", default=[], metavar="NAME", help=", ".join(RUNS))
    p.add_argument("--build", default="build")
    args = p.parse_args()
    unknown = [name for name in args.only if name not in RUNS]
    if unknown:
        print(f"soak: no run is called {' '.join(unknown)}. Allowed: {' '.join(RUNS)}", file=sys.stderr)
        return 2
    folder = ROOT / args.build / "soak" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder.mkdir(parents=True)
    runs = {name: ["make", *words, f"BUILD={args.build}"] for name, words in RUNS.items() if not args.only or name in args.only}
    print(f"soak: {len(runs)} runs at {commit()}, logs in {folder.relative_to(ROOT)}", flush=True)
    states = [state for _, state, _, _ in soak(runs, folder)]
    if "interrupted" in states:
        print(f"soak: interrupted; {states.count('not run')} runs were not begun")
        return 130
    print(f"soak: {states.count('passed')} of {len(runs)} passed" if "FAILED" not in states else
          f"soak: {states.count('FAILED')} of {len(runs)} FAILED: {folder.relative_to(ROOT)}/summary.txt")
    return 1 if "FAILED" in states else 0


if __name__ == "__main__":
    sys.exit(main())
