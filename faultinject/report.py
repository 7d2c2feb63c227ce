# SPDX-License-Identifier: BSD-2-Clause
"""What people see: progress while a campaign runs, one line a trial, and the table at its end.

On a terminal with Rich: a bar and colours. Anywhere else, and with NO_COLOR: plain lines of the same words."""
import collections
import os
import sys

from faultinject import faults, judge, sometimes, summary
from faultinject.phases import PHASES
from faultinject.trace import lock_line

STAGES = {"boot": "booting", "trials": "striking", "stop": "draining and reading back",
          "verify": "checking the disk image from outside", "hash the disk": "hashing your disk image"}
COLOURS = {"recovered": "green", "masked": "green", "not_activated": "dim"}


def use_rich(stream=sys.stdout):
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        import rich  # noqa: F401
    except ImportError:
        return False
    return True


def milliseconds(us):
    return "-" if us is None else f"{us / 1000:.2f} ms"


def trial_text(line):
    """One line a trial, with the command that runs it again."""
    flight = "" if line["in_flight"] is None else f", {line['in_flight']} in flight"
    where = f"{line['fault']}@{line['instructions']}" if faults.counted(line["fault"]) else line["fault"]
    where += f"+{line['second']}" if line["second"] else ""
    where += f"x{1 + line['again']}" if line.get("again") else ""
    why = f" ({line['why']})" if line["why"] else ""
    return (f"{line['n']:>5}  {line['service']:<11} {where:<20} {line['outcome']:<14} "
            f"{milliseconds(line['recovery_us']):>10}{flight}{why}  replay: {line['replay']}")


def batch_text(name, lines):
    counts = collections.Counter(line["outcome"] for line in lines)
    times = [line["recovery_us"] for line in lines if line["outcome"] == "recovered" and line["recovery_us"] is not None]
    return (f"batch {name}: {len(lines)} trials: " + (", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items())) or "none") +
            f"; median recovery {milliseconds(summary.percentile(times, 50))}")


class Plain:
    """Plain lines on standard output."""

    def stage(self, name, total=None):
        more = f": {total} trials" if total else ""
        print(f"fi: {STAGES[name]}{more}", flush=True)

    def trial(self, line):
        print(trial_text(line), flush=True)

    def skip(self, trials):
        """Done by an earlier run of this campaign."""
        if trials:
            print(f"fi: {trials} trials are there already", flush=True)

    def batch(self, name, lines):
        print(batch_text(name, lines), flush=True)
        for line in lines:
            if line["outcome"] not in judge.GOOD:
                self.trial(line)

    def close(self):
        pass


class Terminal:
    """A progress bar with the time left; trials that did not recover stay above it."""

    def __init__(self):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        self.progress = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                                 TimeElapsedColumn(), TimeRemainingColumn(), console=Console(highlight=False))
        self.progress.start()
        self.task = self.progress.add_task("starting", total=None)

    def stage(self, name, total=None):
        self.progress.update(self.task, description=STAGES[name])
        if total:
            self.progress.update(self.task, total=total)

    def trial(self, line):
        from rich.text import Text
        self.progress.advance(self.task)
        self.progress.console.print(Text(trial_text(line), style=COLOURS.get(line["outcome"], "bold red")))

    def skip(self, trials):
        self.progress.advance(self.task, trials)

    def batch(self, name, lines):
        from rich.text import Text
        self.progress.advance(self.task, len(lines))
        self.progress.console.print(batch_text(name, lines))
        for line in lines:
            if line["outcome"] not in judge.GOOD:
                self.progress.console.print(Text(trial_text(line), style="bold red"))

    def close(self):
        self.progress.stop()


def make():
    return Terminal() if use_rich() else Plain()


def rows(s):
    """The recovery table: (phase, p50, p99), in milliseconds."""
    out = [(phase, s["phases_us"][phase]["p50"], s["phases_us"][phase]["p99"]) for phase in PHASES]
    out.append(("death to completion", s["restart_us"]["p50"], s["restart_us"]["p99"]))
    out.append(("strike to completion", s["recovery_us"]["p50"], s["recovery_us"]["p99"]))
    return [(name, milliseconds(a), milliseconds(b)) for name, a, b in out]


def found_by(s):
    """The detection table: (cause of death, how often, p50, p99 of the time from strike to death), in milliseconds."""
    return [(cause, str(row["deaths"]), milliseconds(row["detect_us"]["p50"]), milliseconds(row["detect_us"]["p99"]))
            for cause, row in s.get("by_cause", {}).items()]


def facts(s):
    """The lines under the table."""
    low, high = s["recovered_rate_95"]
    flight = s["in_flight"]
    yield (f"{s['injected']} faults injected, {s['activated']} activated, {s['recovered']} recovered: "
           f"{s['recovered'] / max(1, s['activated']):.1%} (95 %: {low:.1%} to {high:.1%})")
    if s.get("unharmed", s["recovered"]) != s["recovered"]:
        low, high = s["unharmed_rate_95"]
        yield (f"recovered, or masked and everybody served: {s['unharmed']} of {s['activated']}: "
               f"{s['unharmed'] / s['activated']:.2%} (95 %: {low:.2%} to {high:.2%})")
    yield "outcomes: " + ", ".join(f"{n} {name}" for name, n in s["outcomes"].items() if n)
    if flight["kills"]:
        yield (f"requests in flight: at {flight['with_requests']} of {flight['kills']} strikes on a block driver "
               f"({flight['share']:.0%}), median {flight['requests_p50']}, most {flight['requests_max']}")
    yield (f"{s['writes_acknowledged']} writes acknowledged, {s['places_checked']} places checked in the disk image: "
           f"{s['lost_acknowledged_writes']} lost, {s['duplicate_completions']} completed twice, "
           f"{s['read_mismatches']} read wrong")
    if order := s.get("death_order"):
        yield (f"{order['ended']} deaths, {order['with_dma']} with DMA, {order['resets']} resets: {order['violated']} steps out of order"
               + (f", {order['lost_entries']} entries of the trace lost" if order["lost_entries"] else ""))
        yield from order["violations"]
    yield f"{s['kernel_panics']} kernel panics, {s['leaks']} leaks, {s['typing_problems']} lines typed wrong"
    if s.get("lock") and s["lock"]["held"]["n"]:
        yield lock_line(s["lock"])
    if s["disk"]:
        d = s["disk"]
        yield (f"your disk: {d['bytes']} bytes, SHA-256 {'equal inside and outside' if d['equal'] else 'DIFFERENT'}, "
               f"the image {'is untouched' if d['untouched'] else 'WAS CHANGED'}")
    if done := s.get("enumerated"):
        end = done["untouched_at"]
        yield (f"struck at every {done['stride']}. instruction" if done["stride"] > 1 else "struck at every instruction") + \
            (f" until instruction {end}, which the request no longer reaches" if end else ", not to the end")
    if s["injected"] and (missing := s.get("never_activated")):
        yield "not covered, never activated: " + ", ".join(f"{fault} on {service}" for service, fault in missing)
    if s["injected"] and not done and (missing := sometimes.never(s.get("sometimes", {}))):
        yield "not covered, never seen: " + ", ".join(missing)
    if s.get("cpu_seconds"):
        yield (f"{s['seconds']:.1f} s from boot to verdict, {s['cpu_seconds']:.1f} CPU-seconds of harness and QEMU: "
               f"{s['injected'] / s['cpu_seconds']:.1f} trials a second per core")
    if s["trouble"]:
        yield f"trouble: {s['trouble']}"


def verdict(s):
    missed = [name for name, met in s["targets"].items() if not met]
    return "all targets met" if not missed else "targets missed: " + ", ".join(missed)


def print_summary(s, trials, folder):
    title = f"recovery by phase ({s['recovery_us']['n']} recoveries, {s['accel']}, from the kernel trace)"
    if use_rich():
        print_rich(s, title)
    else:
        print_plain(s, title)
    for line in facts(s):
        print(line)
    failing = [t for t in trials if t["outcome"] not in judge.GOOD]
    for t in failing:
        print(f"trial {t['n']}: {t['outcome']}: {t['why']}\n    replay: {t['replay']}")
    print(f"{verdict(s)}; details in {folder}")


def print_plain(s, title):
    print(f"\n{title}\n{'phase':<22}{'p50':>12}{'p99':>12}")
    for name, p50, p99 in rows(s):
        print(f"{name:<22}{p50:>12}{p99:>12}")
    print(f"\n{'found by':<22}{'deaths':>12}{'detect p50':>12}{'p99':>12}")
    for row in found_by(s):
        print("{:<22}{:>12}{:>12}{:>12}".format(*row))
    print()


def print_rich(s, title):
    from rich.console import Console
    from rich.table import Table
    table = Table(title=title, title_justify="left")
    table.add_column("phase")
    table.add_column("p50", justify="right")
    table.add_column("p99", justify="right")
    for name, p50, p99 in rows(s):
        table.add_row(name, p50, p99, end_section=name == PHASES[-1])
    causes = Table("found by", title="detection, from the strike to the death", title_justify="left")
    for column in ("deaths", "p50", "p99"):
        causes.add_column(column, justify="right")
    for row in found_by(s):
        causes.add_row(*row)
    Console().print("", table, causes)
