# SPDX-License-Identifier: BSD-2-Clause
"""make model: random system calls against the reference model (tests/model/syscalls.c), every invariant after
each, as many runs of CALLS_PER_RUN as make the number asked for. A failing run prints the line that replays it.
Exit codes: 0 all hold, 1 one does not."""
import argparse
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CALLS_PER_RUN = 20_000
RUNS_AT_ONCE = 100_000  # what the program takes


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    p.add_argument("--calls", type=int, required=True)
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    runs = max(1, -(-args.calls // CALLS_PER_RUN))
    first, started, failed = max(1, args.seed), time.monotonic(), False
    for at in range(0, runs, RUNS_AT_ONCE):
        count = min(RUNS_AT_ONCE, runs - at)
        print(f"model: seeds {first + at} to {first + at + count - 1}, {CALLS_PER_RUN:,} calls each", flush=True)
        done = subprocess.run([ROOT / args.build / "tests/model/syscalls", f"-j{args.jobs}"], cwd=ROOT, check=False,
                              env={**os.environ, "MODEL_FIRST": str(first + at), "MODEL_RUNS": str(count),
                                   "MODEL_CALLS": str(CALLS_PER_RUN)})
        failed = failed or done.returncode != 0
    took = time.monotonic() - started
    print(f"model: {runs * CALLS_PER_RUN:,} calls, every invariant after each, in {took:.0f} s: "
          f"{'AN INVARIANT BROKE' if failed else 'all hold'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
