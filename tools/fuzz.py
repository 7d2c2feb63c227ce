# SPDX-License-Identifier: BSD-2-Clause
"""Runs libFuzzer targets (tests/fuzz/NAME.c, built into BUILD/fuzz/NAME) and prints a table.

    fuzz.py run   --build build --runs N --jobs N [--target NAME] [--seed N] [--keep]
    fuzz.py plant --build build --runs N [--target NAME]
    fuzz.py list

run: each target makes N executions in all, shared among the jobs, starting from the kept corpus in
tests/fuzz/corpus/NAME.hex (an input a line). An input that breaks a target is kept in BUILD/fuzz/findings/NAME with the command
that replays it. --keep: what the runs found new is minimised into the kept corpus.
plant: applies each tests/fuzz/plants/NAME*.patch to a copy of the sources, builds the target from it, and
requires that the planted bug is found within N executions, and that the same target without it finds none.
Exit codes: 0 no finding (plant: every planted bug found), 1 otherwise, 2 usage, 3 environment."""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests/fuzz"
MAX_LENGTH = {"syscall": 192}  # bytes of an input; longer ones only slow the search down
MAX_LENGTH_OTHERS = 160
SECONDS_ONE_INPUT = 20
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",
               "UBSAN_OPTIONS": "print_stacktrace=1", "HOST_QUIET": "1"}


def targets():
    return sorted(p.stem for p in TESTS.glob("*.c") if p.stem != "standalone")


def arguments(name, corpus, artifacts, seed):
    return [f"-max_len={MAX_LENGTH.get(name, MAX_LENGTH_OTHERS)}", f"-timeout={SECONDS_ONE_INPUT}",
            "-rss_limit_mb=2048", "-print_final_stats=1", "-use_value_profile=0", "-reload=0", f"-seed={seed}",
            f"-artifact_prefix={artifacts}/", str(corpus)]


class Job:
    """One process that fuzzes one target."""

    def __init__(self, name, binary, runs, seed, work, kept, artifacts):
        work.mkdir(parents=True, exist_ok=True)
        artifacts.mkdir(parents=True, exist_ok=True)
        self.artifacts, self.log = artifacts, work.parent / f"{work.name}.log"
        command = [str(binary), f"-runs={runs}", *arguments(name, work, artifacts, seed), str(kept)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **ENVIRONMENT},
                                            cwd=ROOT)

    def wait(self):
        """(exit code, executions, edges covered)"""
        code = self.process.wait()
        text = self.log.read_text(errors="replace")
        executions = re.findall(r"stat::number_of_executed_units:\s*(\d+)", text) or \
            re.findall(r"^#(\d+)\t", text, re.M)
        edges = re.findall(r"\bcov: (\d+)", text)
        return code, int(executions[-1]) if executions else 0, int(edges[-1]) if edges else 0


def findings_report(name, binary, artifacts, jobs):
    for path in sorted(artifacts.glob("*")):
        print(f"  {name}: {path.relative_to(ROOT)}\n    replay: {binary.relative_to(ROOT)} {path.relative_to(ROOT)}")
    for job in jobs:
        lines = [line for line in job.log.read_text(errors="replace").splitlines()
                 if re.match(r"fuzz:|model:|.*runtime error|SUMMARY|==\d+==ERROR|panic", line)]
        print("".join(f"    {line}\n" for line in lines[:6]), end="")


def corpus_file(name):
    return TESTS / "corpus" / f"{name}.hex"


def corpus_unpack(name, folder):
    """The kept corpus as libFuzzer wants it; the number of inputs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lines = corpus_file(name).read_text().split() if corpus_file(name).exists() else []
    for number, line in enumerate(lines):
        (folder / f"{number:05}").write_bytes(bytes.fromhex(line))
    return len(lines)


def corpus_keep(name, binary, folders):
    """The smallest part of all that was found which covers the same becomes the kept corpus."""
    fresh = binary.parent / "merged" / name
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    subprocess.run([str(binary), "-merge=1", f"-max_len={MAX_LENGTH.get(name, MAX_LENGTH_OTHERS)}", str(fresh),
                    *[str(f) for f in folders]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   env={**os.environ, **ENVIRONMENT}, check=True)
    lines = sorted((p.read_bytes().hex() for p in fresh.iterdir()), key=lambda line: (len(line), line))
    corpus_file(name).parent.mkdir(exist_ok=True)
    corpus_file(name).write_text("".join(f"{line}\n" for line in lines if line))
    return len(lines)


def target_run(name, args):
    """Row of the table."""
    folder = args.build / "fuzz"
    binary, work, kept = folder / name, folder / "work", folder / "corpus" / name
    inputs = corpus_unpack(name, kept)
    artifacts = folder / "findings" / name
    shutil.rmtree(artifacts, ignore_errors=True)
    for job in range(args.jobs):
        shutil.rmtree(work / f"{name}.{job}", ignore_errors=True)
    started = time.monotonic()
    share = -(-args.runs // args.jobs)
    jobs = [Job(name, binary, share, args.seed + j, work / f"{name}.{j}", kept, artifacts)
            for j in range(args.jobs)]
    results = [job.wait() for job in jobs]
    took = time.monotonic() - started
    executions, edges = sum(r[1] for r in results), max(r[2] for r in results)
    failed = [job for job, r in zip(jobs, results) if r[0] != 0]
    if args.keep and not failed:
        inputs = corpus_keep(name, binary, [kept, *[work / f"{name}.{j}" for j in range(args.jobs)]])
    print(f"{name:12} {executions:12,} {executions / max(took, 0.001):10,.0f} {edges:7} {inputs:7} "
          f"{len(failed):9}", flush=True)
    findings_report(name, binary, artifacts, failed)
    return len(failed)


def run(args):
    names = [args.target] if args.target else targets()
    print(f"{'target':12} {'executions':>12} {'per second':>10} {'edges':>7} {'corpus':>7} {'findings':>9}", flush=True)
    failed = sum(target_run(name, args) for name in names)
    print(f"{failed} findings" if failed else "no findings")
    return 1 if failed else 0


# --- Planted bugs ------------------------------------------------------------------------------------------

# A broken check, a sanitizer's report, an input that takes too long, a panic: also while the world is made.
FOUND = r"^fuzz:|^PANIC|panic|runtime error:|ERROR: (Address|libFuzzer)"
NO_SOURCES = {"build", ".git", "docs"}


def planted_build(patch, folder, args):
    """A copy of the sources with the bug in it, and the target built from it. What is built already is copied too:
    only what the patch touches is compiled."""
    name = patch.stem.split("-")[0]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for source in ROOT.iterdir():
        if source.is_dir() and source.name not in NO_SOURCES:
            shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__", "corpus"))
    shutil.copytree(args.build / "fuzz/obj", folder / "build/fuzz/obj")
    applied = subprocess.run(["patch", "-p1", "--fuzz=3", "-s", "-i", str(patch)], cwd=folder, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, check=False)
    if applied.returncode:
        print(f"fuzz: {patch.relative_to(ROOT)} does not apply: {applied.stdout.decode().strip()}")
        return None
    made = subprocess.run(["make", "-f", "tools/build.mk", f"-j{args.jobs}", f"build/fuzz/{name}"], cwd=folder,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          env={k: v for k, v in os.environ.items() if k != "BUILD" and not k.startswith("MAKE")})
    if made.returncode:
        print(f"fuzz: {patch.stem} does not build: {made.stdout.decode().strip()[-2000:]}")
        return None
    return folder / "build/fuzz" / name


def plant(args):
    patches = sorted((TESTS / "plants").glob("*.patch"))
    if args.target:
        patches = [p for p in patches if p.stem.split("-")[0] == args.target]
    if not patches:
        print("fuzz: no planted bug for this target")
        return 2
    missed = 0
    print(f"{'planted bug':28} {'found':>6} {'executions':>12} {'seconds':>8}", flush=True)
    for patch in patches:
        name, folder = patch.stem.split("-")[0], args.build / "plants" / patch.stem
        binary = planted_build(patch, folder, args)
        if binary is None:
            missed += 1
            continue
        started = time.monotonic()
        corpus_unpack(name, folder / "corpus")
        job = Job(name, binary, args.runs, args.seed, folder / "work", folder / "corpus", folder / "found")
        code, executions, _ = job.wait()
        found = code != 0 and re.search(FOUND, job.log.read_text(errors="replace"), re.M) is not None
        missed += not found
        print(f"{patch.stem:28} {'yes' if found else 'NO':>6} {executions:12,} {time.monotonic() - started:8.1f}",
              flush=True)
    print(f"{missed} planted bugs were not found" if missed else "every planted bug was found")
    return 1 if missed else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("command", choices=["run", "plant", "list"])
    p.add_argument("--build", type=lambda text: ROOT / text, default=ROOT / "build")
    p.add_argument("--runs", type=int, default=10_000_000)
    p.add_argument("--jobs", type=int, default=1)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--target", choices=targets())
    p.add_argument("--keep", action="store_true")
    args = p.parse_args()
    if args.command == "list":
        print(" ".join(targets()))
        return 0
    return run(args) if args.command == "run" else plant(args)


if __name__ == "__main__":
    sys.exit(main())
