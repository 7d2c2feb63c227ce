# SPDX-License-Identifier: BSD-2-Clause
"""From trace entries to recoveries: what died when, what came back when, and each step between.

A recovery is a chain of instants of one service. Each phase ends where the next begins:
    strike  -detect->  death  -fence->  fenced  -decide->  decided  -spawn->  first instruction
    -restore->  state in hand  -reset->  device ready  -replay->  requests with the device again
    -first_completion->  a client is told of a completion
"""
import dataclasses
import itertools

PHASES = ("detect", "fence", "decide", "spawn", "restore", "reset", "replay", "first_completion")
INSTANTS = ("strike", "death", "fenced", "decided", "first", "restored", "reset", "replayed", "completed")


@dataclasses.dataclass
class Recovery:
    service: str
    generation: int                 # of the one that died first
    generation_after: int | None = None
    cause: str | None = None        # of the first death
    deaths: int = 1                 # in the chain: 2 if the successor was struck too
    warm: bool = False              # a spare took over: nothing was made
    struck_at: int | None = None    # TSC; of the first strike, if one was seen
    instants: dict = dataclasses.field(default_factory=dict)  # TSC by name, of the last death's chain
    in_flight: int | None = None    # requests issued to the device and not completed, at the first death
    replayed: int | None = None
    checkpoint: int | None = None   # 0 none, 1 latest, 2 previous
    completed_later: bool = False   # struck again before a completion was seen; a later incarnation had one

    def begin(self):
        return self.struck_at if self.struck_at is not None else self.instants["death"]

    def phases_us(self, tsc_hz):
        """Phase -> microseconds; a phase whose end was not seen is absent."""
        out, at = {}, self.instants.get("strike", self.instants.get("death"))
        for phase, name in zip(PHASES, INSTANTS[1:]):
            if name not in self.instants:
                break
            out[phase] = (self.instants[name] - at) * 1e6 / tsc_hz
            at = self.instants[name]
        return out

    def total_us(self, tsc_hz):
        """First strike to first completion; None if none was seen."""
        if "completed" not in self.instants:
            return None
        return (self.instants["completed"] - self.begin()) * 1e6 / tsc_hz

    def in_order(self):
        seen = [self.instants[name] for name in INSTANTS if name in self.instants]
        return all(a <= b for a, b in zip(seen, seen[1:]))


@dataclasses.dataclass
class Window:
    """What the trace says of one trial: entries from its MARK TRIAL to the next one's. later: the whole
    trace and where the window ends in it; a first completion may come after the next trial has begun."""
    n: int
    entries: list
    later: tuple = ((), 0)
    strikes: list = dataclasses.field(default_factory=list)
    pokes: list = dataclasses.field(default_factory=list)
    deaths: list = dataclasses.field(default_factory=list)   # entries, in order
    gave_up: list = dataclasses.field(default_factory=list)  # service indices
    poisoned: int = 0
    leaks: int = 0
    cleaned: list = dataclasses.field(default_factory=list)  # deaths after the injector began to clean up

    def __post_init__(self):
        deaths = self.deaths
        for e in self.entries:
            if e.mark == "CLEANED":
                deaths = self.cleaned
            elif e.event == "STRIKE":
                self.strikes.append(e)
            elif e.event == "POKED":
                self.pokes.append(e)
            elif e.event == "DEATH":
                deaths.append(e)
            elif e.event == "LEAK":
                self.leaks += 1
            elif e.mark == "GAVE_UP":
                self.gave_up.append(e.b)
            elif e.mark == "POISONED":
                self.poisoned += 1


def windows(entries):
    """Splits a trace at its MARK TRIALs: {trial number: Window}. What comes before the first is dropped."""
    starts = [i for i, e in enumerate(entries) if e.mark == "TRIAL"]
    ends = starts[1:] + [len(entries)]
    return {entries[at].b: Window(entries[at].b, entries[at:end], (entries, end)) for at, end in zip(starts, ends)}


def service_recovery(window, index, name, others):
    """The chain of one service in a window, or None if it did not die there. others: indices of services
    that are no clients (supervisor, recovery, pci): signals to them complete nothing."""
    deaths = [e for e in window.deaths if e.service == index]
    if not deaths:
        return None
    strikes = [e for e in window.strikes + window.pokes if e.service == index]
    first, last = deaths[0], deaths[-1]
    r = Recovery(name, first.generation, cause=None, deaths=len(deaths))
    r.cause = cause_name(first.a)
    of_first = [e.tsc for e in strikes if e.generation == first.generation and e.tsc <= first.tsc]
    of_last = [e.tsc for e in strikes if e.generation == last.generation and e.tsc <= last.tsc]
    if of_first:
        r.struck_at = of_first[0]
    if of_last:
        r.instants["strike"] = of_last[0]
    r.instants["death"] = last.tsc
    after = [e for e in window.entries if e.tsc >= last.tsc]
    fill_end(r, after, index, last.generation)
    fill_start(r, after, index, last.generation)
    fill_completion(r, itertools.chain(after, itertools.islice(*window.later, None)), index, others)
    r.in_flight = in_flight(window.entries, index, first.generation)
    return r


def cause_name(number):
    from faultinject.trace import CAUSES
    return CAUSES.get(number, f"cause {number}")


def fill_end(r, entries, index, generation):
    for e in entries:
        if e.event == "FENCE_DONE" and (e.service, e.generation) == (index, generation):
            r.instants["fenced"] = e.tsc
            break


def fill_start(r, entries, index, dead):
    """The incarnation after `dead`: PROCESS_CREATE to REPLAYED, or of a spare from its being taken."""
    new = [e for e in entries if e.service == index and e.generation > dead]
    taken = next((e for e in entries if e.mark == "TAKEN" and e.b == index), None)
    create = next((e for e in new if e.event == "PROCESS_CREATE"), None)
    if taken is not None and (create is None or taken.tsc < create.tsc):
        decided = [e.tsc for e in entries if e.mark == "DECIDED" and e.b == index and e.tsc <= taken.tsc]
        begun = next((e for e in new if e.mark == "RESTORED" and e.tsc > taken.tsc), None)
        if not decided or begun is None:
            return
        r.warm, r.generation_after = True, begun.generation
        r.instants |= {"decided": decided[-1], "first": taken.tsc}
    elif create is None:
        return
    else:
        decided = [e.tsc for e in entries if e.mark == "DECIDED" and e.b == index and e.tsc <= create.tsc]
        r.instants["decided"] = decided[-1] if decided else create.b
        r.generation_after = create.generation
    for e in (e for e in new if e.generation == r.generation_after):
        if e.event == "PROCESS_FIRST":
            r.instants.setdefault("first", e.tsc)
        elif e.mark == "RESTORED":
            r.instants.setdefault("restored", e.tsc)
            r.checkpoint = e.b
        elif e.event == "RESET_DONE" or e.mark == "RESET":
            r.instants.setdefault("reset", e.tsc)
        elif e.mark == "REPLAYED":
            r.instants.setdefault("replayed", e.tsc)
            r.replayed = e.b


def fill_completion(r, entries, index, others):
    """The first signal to a client after REPLAYED. If the next trial's strike comes before it, the time is not known,
    but whether a later incarnation completed something is."""
    if "replayed" not in r.instants:
        return
    entries = iter(entries)
    for e in entries:
        if e.service != index or e.generation != r.generation_after or e.tsc < r.instants["replayed"]:
            continue
        if e.event == "DEATH":
            break
        if e.event == "SIGNAL" and e.a & 0xFFF not in others | {index}:
            r.instants["completed"] = e.tsc
            return
    r.completed_later = any(e.event == "SIGNAL" and e.service == index and e.generation > r.generation_after
                            and e.a & 0xFFF not in others | {index} for e in entries)


def in_flight(entries, index, dead):
    """What recovery counted in the ledger when the first successor asked for its sessions: the mark's
    value is count | the successor's tag << 32 (abi/marks.def)."""
    for e in entries:
        if e.mark == "ATTACHED" and e.b >> 32 & 0xFFF == index and e.b >> 44 > dead:
            return e.b & 0xFFFFFFFF
    return None
