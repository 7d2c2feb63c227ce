# SPDX-License-Identifier: BSD-2-Clause
"""Where the time of a campaign's trials went, from the kernel's trace: pure, but for reading a run folder.

    look    the trial begins -> the target is struck, or what there is of it ends the search
    watch   struck -> it dies, or (alive, and its clients served) it is ended by the operator
    rest    that -> the next trial begins: recovery, reading back, report, the next order"""
import collections
import dataclasses
import json

from faultinject import trace

STEPS = ("look", "watch", "rest")
EDGES_MS = (20, 50, 100, 200, 500, 1000, 2000, 5000)  # of the histogram


@dataclasses.dataclass
class Spent:
    n: int
    begin: int              # TSC
    struck: int | None = None
    over: int | None = None  # dead, or ended
    end: int = 0

    def ms(self, tsc_hz):
        """{step: milliseconds}; a trial without a strike looked until it was over."""
        over = self.over if self.over is not None else self.struck if self.struck is not None else self.end
        struck = min(self.struck, over) if self.struck is not None else over
        at = (self.begin, struck, over, self.end)
        return {step: (b - a) * 1e3 / tsc_hz for step, a, b in zip(STEPS, at, at[1:])}


def of(entries):
    """One Spent for each trial but the last, whose end nothing marks."""
    out, now = [], None
    for e in entries:
        if e.mark == "TRIAL":
            if now:
                now.end = e.tsc
                out.append(now)
            now = Spent(e.b, e.tsc)
        elif now and e.event == "STRIKE" and now.struck is None:
            now.struck = e.tsc
        elif now and now.over is None and (e.mark == "CLEANED" or e.event == "DEATH" and now.struck is not None):
            now.over = e.tsc
    return out


def table(spent, trials, tsc_hz):
    """Lines for people: by target and outcome, what cost most first; then a histogram and the longest."""
    rows = [(trials[s.n], s.ms(tsc_hz)) for s in spent if s.n in trials]
    groups = collections.defaultdict(list)
    for t, ms in rows:
        groups[t["service"], t["outcome"]].append(ms)
    total = sum(sum(ms.values()) for _, ms in rows)
    yield f"{len(rows)} trials, {total / 1e3:.1f} s, {total / max(1, len(rows)):.0f} ms each"
    yield f"{'target':<12}{'outcome':<20}{'n':>5}{'sum s':>8}" + "".join(f"{step + ' ms':>11}" for step in STEPS)
    for (service, outcome), all_ms in sorted(groups.items(), key=lambda g: -sum(sum(ms.values()) for ms in g[1])):
        means = [sum(ms[step] for ms in all_ms) / len(all_ms) for step in STEPS]
        yield (f"{service:<12}{outcome:<20}{len(all_ms):>5}{sum(sum(ms.values()) for ms in all_ms) / 1e3:>8.1f}"
               + "".join(f"{mean:>11.1f}" for mean in means))
    lows = (0, *EDGES_MS)
    for low, high in zip(lows, (*EDGES_MS, float("inf"))):
        within = [ms for _, ms in rows if low <= sum(ms.values()) < high]
        yield f"{low:>6} ms and more: {len(within):>5} trials, {sum(sum(ms.values()) for ms in within) / 1e3:>7.1f} s"
    for t, ms in sorted(rows, key=lambda row: -sum(row[1].values()))[:10]:
        yield (f"trial {t['n']}: {sum(ms.values()):.0f} ms: " + ", ".join(f"{k} {v:.0f}" for k, v in ms.items())
               + f"; {t['service']} {t['fault']} {t['outcome']} {t['cause'] or t['why']}; {t['aim'][:80]}")


def lines(folder):
    """Of a run of one boot, which keeps its trace."""
    run = json.loads((folder / "run.json").read_text())
    trials = {t["n"]: t for t in map(json.loads, (folder / "trials.jsonl").read_text().splitlines())}
    return table(of(trace.parse_entries((folder / "trace.bin").read_bytes())), trials, run["tsc_hz"])
