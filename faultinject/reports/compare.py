# SPDX-License-Identifier: BSD-2-Clause
"""Two runs side by side, and conditions under which the second counts as worse (`fi compare`).

A condition is METRIC+N% or METRIC-N%: the metric of B is higher (lower) than that of A by more than N %.
Each ratio comes with a 95 % bootstrap interval: conditions are judged by the measured ratio, and a reader
sees from the interval whether the runs are long enough to tell."""
import dataclasses
import random
import re

from faultinject import plan, summary

BOOTSTRAPS = 500
CONDITION = re.compile(r"([a-z0-9_]+)([+-])(\d+(?:\.\d+)?)%")


def share(name):
    return lambda run: sum(t["outcome"] == name for t in run.trials) / max(1, sum(t["activated"] for t in run.trials))


def percentile(p):
    return lambda values: summary.percentile(values, p)


TIMES = {"p50": percentile(50), "p90": percentile(90), "p99": percentile(99), "max": lambda values: max(values, default=None)}
RATES = {"recovered": lambda run: run.summary["recovered"] / max(1, run.summary["activated"]), "masked": share("masked"),
         "lost": lambda run: run.summary["lost_acknowledged_writes"],
         "duplicates": lambda run: run.summary["duplicate_completions"], "panics": lambda run: run.summary["kernel_panics"],
         "leaks": lambda run: run.summary["leaks"]}


@dataclasses.dataclass
class Row:
    name: str
    a: float | None
    b: float | None
    interval: tuple | None = None  # of b / a

    def ratio(self):
        if self.a is None or self.b is None:
            return None
        return self.b / self.a if self.a else (1.0 if self.b == 0 else float("inf"))


def bootstrap(metric, a, b, rng):
    """2.5 and 97.5 percentiles of the ratio over resampled runs."""
    if len(a) < 2 or len(b) < 2:
        return None
    ratios = sorted(metric(rng.choices(b, k=len(b))) / metric(rng.choices(a, k=len(a))) for _ in range(BOOTSTRAPS))
    return summary.percentile(ratios, 2.5), summary.percentile(ratios, 97.5)


def compare(run_a, run_b):
    """Rows of all metrics. The resampling is seeded: the same two runs give the same table."""
    a, b, rng = run_a.recovery_times(), run_b.recovery_times(), random.Random("coppice compare")
    rows = [Row(name, metric(a), metric(b), bootstrap(metric, a, b, rng)) for name, metric in TIMES.items()]
    return rows + [Row(name, metric(run_a), metric(run_b)) for name, metric in RATES.items()]


def parse_condition(text):
    found = CONDITION.fullmatch(text.replace(" ", ""))
    known = [*TIMES, *RATES]
    if not found or found[1] not in known:
        raise plan.UsageProblem(f"condition '{text}' is not understood. Allowed: METRIC+N% or METRIC-N% with METRIC one of "
                                f"{', '.join(known)}; such as p99+20%")
    return found[1], found[2], float(found[3])


def holds(condition, rows):
    """True if B is worse in the sense of the condition. A metric that B lacks and A has is worse."""
    name, sign, percent = condition
    row = next(r for r in rows if r.name == name)
    if row.a is None or row.b is None:
        return row.a is not None
    change = (row.ratio() - 1) * 100
    return change > percent if sign == "+" else change < -percent


def differences(run_a, run_b):
    """What else differs: a ratio between unlike runs says little."""
    keys = ("accel", "qemu", "smp", "mem", "driver", "fault", "seed", "kills", "image_sha256")
    return [f"{key}: {run_a.facts.get(key)} and {run_b.facts.get(key)}" for key in keys
            if run_a.facts.get(key) != run_b.facts.get(key)]


def table(rows):
    out = [f"{'metric':<12}{'A':>12}{'B':>12}{'B/A':>9}  95 % of B/A"]
    for r in rows:
        ratio = "-" if r.ratio() is None else f"{r.ratio():.3f}"
        interval = f"{r.interval[0]:.3f} to {r.interval[1]:.3f}" if r.interval else ""
        out.append(f"{r.name:<12}{shown(r.name, r.a):>12}{shown(r.name, r.b):>12}{ratio:>9}  {interval}".rstrip())
    return out


def shown(name, value):
    if value is None:
        return "-"
    if name in TIMES:
        return f"{value / 1000:.2f} ms"
    return f"{value:.2%}" if name in ("recovered", "masked") else str(value)
