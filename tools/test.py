# SPDX-License-Identifier: BSD-2-Clause
"""Runs all tests and counts them: the Criterion programs (tests/unit, tests/model), then pytest
(tests/unit/*.py, tests/system). The last line, `N passed, N failed`, counts test cases; a program that
ends without a report is one failed case. Reports: BUILD/test/*.xml (JUnit), BUILD/test/summary.txt.
Exit codes: 0 all passed, 1 some failed or none ran, 2 usage, 3 environment."""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM_SECONDS = 900  # a test that hangs is a failed test; the longest takes a small part of this


def cases(report):
    """(passed, failed, skipped) of a JUnit report; None if there is no readable one."""
    try:
        root = ElementTree.parse(report).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    passed = failed = skipped = 0
    for case in root.iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"} or case.get("status") in ("FAILED", "ERRORED"):
            failed += 1
        elif "skipped" in kinds or case.get("status") == "SKIPPED":
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def run_program(path, report):
    """One Criterion program; returns (passed, failed, skipped). Its output is shown only if it fails."""
    started = time.monotonic()
    try:
        done = subprocess.run([path, f"--xml={report}", f"-j{os.environ.get('JOBS', '2')}"], cwd=ROOT,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PROGRAM_SECONDS)
        output, code = done.stdout.decode(errors="replace"), done.returncode
    except subprocess.TimeoutExpired as hung:
        output, code = (hung.stdout or b"").decode(errors="replace") + "\ntimed out", -1
    counts = cases(report) or (0, 0, 0)
    if code != 0 and counts[1] == 0:
        counts = (counts[0], 1, counts[2])  # it died outside any test case
    if code == 0 and counts[0] + counts[2] == 0:
        output, counts = "the program reports no test cases", (0, 1, 0)
    name = "/".join(path.parts[-3:])
    took = time.monotonic() - started
    print(f"  {'FAIL' if counts[1] else 'ok':4}  {name:40} {counts[0]:5} passed {counts[1]:3} failed {took:6.1f} s",
          flush=True)
    if counts[1]:
        print(output, flush=True)
    return counts


def shared_memory_problem():
    """Criterion's test processes share memory through /dev/shm; without it every program fails alike."""
    if os.access("/dev/shm", os.W_OK | os.X_OK):
        return None
    return "tests: /dev/shm cannot be written by this user; Criterion needs it (mount -o remount,mode=1777 /dev/shm)"


def run_pytest(folder, paths, report):
    if not any(p.rglob("test_*.py") for p in paths if p.exists()):
        return 0, 0, 0
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "--timeout=600", "-p", "no:cacheprovider",
               f"--junitxml={report}", *[str(p.relative_to(ROOT)) for p in paths if any(p.rglob("test_*.py"))]]
    code = subprocess.run(command, cwd=ROOT, env={**os.environ, "COPPICE_BUILD": str(folder),
                                                  "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}).returncode
    if code == 5:  # pytest's "no tests collected"
        return 0, 0, 0
    counts = cases(report) or (0, 0, 0)
    return counts if code == 0 or counts[1] else (counts[0], 1, counts[2])


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    args = p.parse_args()
    problem = shared_memory_problem()
    if problem:
        print(problem, file=sys.stderr)
        return 3
    reports = (ROOT / args.build / "test").resolve()
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)

    sources = sorted([*(ROOT / "tests/unit").glob("*.c"), *(ROOT / "tests/model").glob("*.c")])
    results = []
    for source in sources:
        name = f"{source.parent.name}/{source.stem}"
        results.append(run_program(ROOT / args.build / "tests" / name, reports / f"{name.replace('/', '-')}.xml"))
    results.append(run_pytest(args.build, [ROOT / "tests/unit", ROOT / "tests/model", ROOT / "tests/system"],
                              reports / "pytest.xml"))

    passed, failed, skipped = (sum(column) for column in zip(*results))
    line = f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")
    (reports / "summary.txt").write_text(line + "\n")
    print(line, flush=True)
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
