# SPDX-License-Identifier: BSD-2-Clause
"""Death has an order, and this is where it is held against the trace: of every process that ended, and of every
PCI function that lost its driver. Pure.

    DEATH, generation, IRQs masked, bus-master off, domain detached, drained, owns nothing; then, by the next driver,
    reset confirmed, memory reusable, bus-master on

An end without DEATH is a child's with its creator: its fence is held to the same order."""
STEPS = ("DEATH", "FENCE_GENERATION", "FENCE_IRQ", "FENCE_BUS_MASTER", "FENCE_DOMAIN", "FENCE_DRAINED", "FENCE_DONE")
SHOWN = 20  # violations that are written out


class Checker:
    def __init__(self, iommu):
        self.iommu = iommu
        self.violations = []
        self.ended = self.with_dma = self.resets = 0
        self.fences = {}     # (service, generation) -> steps seen, while it is being fenced
        self.dead = set()    # whose fence is complete
        self.started = set() # who has ever run
        self.owner = {}      # bdf -> (service, generation) that turned its bus-mastering on
        self.functions = {}  # bdf -> "on", "fenced", "reset" or "reusable"
        self.confirmed = 0   # the IOMMU's last number

    def wrong(self, e, what):
        self.violations.append(f"service {e.service}.{e.generation}: {e.event} at {e.tsc}: {what}")

    def take(self, e):
        if e.event == "PROCESS_START":
            self.started.add((e.service, e.generation))
        elif e.event in STEPS:
            self.step(e, (e.service, e.generation))
        elif e.event == "DOMAIN_GONE":
            self.fence(e.a)
        elif e.event in ("RESET_DONE", "REUSABLE", "BUS_MASTER_ON"):
            getattr(self, e.event.lower())(e, e.a, (e.service, e.generation))

    # --- processes ------------------------------------------------------------------------------------------
    def step(self, e, who):
        seen = self.fences.setdefault(who, [])
        if who in self.dead:
            self.wrong(e, "it is dead already")
        if not seen and e.event == "FENCE_GENERATION":
            seen.append(None)  # its creator ended
        wanted = STEPS[len(seen)]
        if e.event != wanted:
            self.wrong(e, f"expected {wanted}")
        seen.append(e)
        if e.event == "FENCE_DRAINED":
            self.drained(e, who, seen)
        if e.event == "FENCE_DONE" or len(seen) == len(STEPS):
            fell = e.event == "FENCE_DONE" and e.a == 0  # it is kept with all its pages; its end, if it comes, is another
            self.ended += not fell
            if fell:
                self.started.add(who)
            ran = seen[0] is not None or who in self.started  # else its supervisor ended while making it
            if ran and not fell:
                self.dead.add(who)
            del self.fences[who]

    def drained(self, e, who, seen):
        off = next((s.a for s in seen if s and s.event == "FENCE_BUS_MASTER"), None)
        mine = [bdf for bdf, owner in self.owner.items() if owner == who and self.functions[bdf] == "on"]
        if e.a != off:
            self.wrong(e, f"{e.a} functions drained, {off} lost bus-mastering")
        if e.a < len(mine):
            self.wrong(e, f"it drives {len(mine)} functions, {e.a} were drained")
        if e.a and self.iommu and e.b <= self.confirmed:
            self.wrong(e, f"the IOMMU did not confirm: {e.b} after {self.confirmed}")
        self.confirmed = max(self.confirmed, e.b)
        self.with_dma += e.a > 0
        for bdf in mine:
            self.fence(bdf)

    # --- PCI functions ----------------------------------------------------------------------------------------
    def fence(self, bdf):
        self.functions[bdf] = "fenced"
        self.owner.pop(bdf, None)

    def reset_done(self, e, bdf, who):
        owner = self.owner.get(bdf, who)
        if owner != who:
            self.wrong(e, "the last driver's domain is not drained")
        self.resets += 1
        self.functions[bdf] = "reset"

    def reusable(self, e, bdf, who):
        if self.functions.get(bdf) != "reset":
            self.wrong(e, "no reset was confirmed")
        self.functions[bdf] = "reusable"

    def bus_master_on(self, e, bdf, who):
        if self.functions.get(bdf) not in ("reusable", "on"):
            self.wrong(e, "no reset was confirmed since its last driver died")
        if who in self.dead:
            self.wrong(e, "its driver is dead")
        self.functions[bdf] = "on"
        self.owner[bdf] = who

    def end(self):
        for (service, generation), seen in self.fences.items():
            self.violations.append(f"service {service}.{generation}: the trace ends before its {STEPS[len(seen)]}")


def check(entries, iommu, lost=0, whole=True):
    """What `fi` writes into run.json. lost: entries that nobody read; whole: the last death was let end."""
    checker = Checker(iommu)
    for e in entries:
        checker.take(e)
    if whole:
        checker.end()
    return {"ended": checker.ended, "with_dma": checker.with_dma, "resets": checker.resets, "lost_entries": lost,
            "violated": len(checker.violations), "violations": checker.violations[:SHOWN]}


def merged(parts):
    """Of the boots of one campaign; None: they were made before this was looked at."""
    if not parts or None in parts:
        return None
    out = {key: sum(p[key] for p in parts) for key in ("ended", "with_dma", "resets", "lost_entries", "violated")}
    return out | {"violations": [v for p in parts for v in p["violations"]][:SHOWN]}


def met(result):
    """Every death of the campaign was seen, and in order."""
    return result["ended"] > 0 and result["violated"] == 0 and result["lost_entries"] == 0
