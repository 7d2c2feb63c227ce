# SPDX-License-Identifier: BSD-2-Clause
"""A finished run folder, read once for all reports."""
import dataclasses
import functools
import json
import pathlib

from faultinject import phases, plan, summary, trace

LOG_TAIL = 12  # lines shown of a failing trial


@dataclasses.dataclass
class Run:
    folder: pathlib.Path
    facts: dict
    trials: list

    @functools.cached_property
    def summary(self):
        return summary.summarise(self.facts, self.trials)

    @functools.cached_property
    def windows(self):
        """Trial number -> phases.Window; empty if the run kept no trace."""
        path = self.folder / "trace.bin"
        return phases.windows(trace.parse_entries(path.read_bytes())) if path.is_file() else {}

    @functools.cached_property
    def log_tails(self):
        """Trial number -> the last lines of the kernel log of that trial."""
        path, tails, n, lines = self.folder / "kernel.log", {}, 0, []
        if not path.is_file():
            return {}
        for line in path.read_text(errors="replace").splitlines():
            lines.append(line)
            number = trial_of(line)
            if number is not None:
                n, tails[number], lines = number, lines[-LOG_TAIL:], []
        tails[n + 1] = lines[-LOG_TAIL:]  # of the trial that never reported
        return tails

    def recovered(self):
        """Trials with a time."""
        return [t for t in self.trials if t["outcome"] == "recovered" and t["recovery_us"] is not None]

    def recovery_times(self):
        """Of the same that the summary counts, us."""
        return [t["recovery_us"] for t in summary.timed(self.recovered())]


def trial_of(line):
    """Number of the trial that a log line ends, or None. A cut-off line ends none."""
    if not line.startswith('{"trial"'):
        return None
    try:
        return json.loads(line)["trial"]["n"]
    except (ValueError, KeyError, TypeError):
        return None


def load(folder):
    """Raises UsageProblem, naming the file and line that cannot be read."""
    for name in ("run.json", "trials.jsonl"):
        if not (folder / name).is_file():
            raise plan.UsageProblem(f"{folder / name}: not there; this takes a run folder, such as build/chaos/latest")
    try:
        facts = json.loads((folder / "run.json").read_text())
    except ValueError as problem:
        raise plan.UsageProblem(f"{folder / 'run.json'}: {problem}") from None
    trials = []
    for number, line in enumerate((folder / "trials.jsonl").read_text().splitlines(), 1):
        try:
            trials.append(json.loads(line))
        except ValueError as problem:
            raise plan.UsageProblem(f"{folder / 'trials.jsonl'}:{number}: {problem}") from None
    return Run(folder, facts, trials)


def write(path, content):
    """A reader sees the old file or the new one."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content if isinstance(content, bytes) else content.encode())
    temporary.replace(path)
    return path
