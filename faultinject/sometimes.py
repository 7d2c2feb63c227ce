# SPDX-License-Identifier: BSD-2-Clause
"""States worth visiting: a campaign that never reaches one of them tests less than it says. Each is looked for in the
records of the trials (trials.jsonl), so it can be asked of any finished run; what was never seen is listed as not covered."""
import collections

SEEN = ("CALL_REPLAYED", "PEER_RESTARTED", "OVERRUN", "DMA_FAULT", "IRQ_STORM", "COMPLAINT", "POISONED", "GAVE_UP", "CLEANED")


def any_recovery(wanted):
    return lambda t: any(wanted(r) for r in t["recoveries"])


def died_of(cause):
    return any_recovery(lambda r: r["cause"] == cause)


def saw(name):
    return lambda t: name in t.get("seen", ())


SOMETIMES = (  # (name, what, whether a trial's record shows it)
    ("in_flight_at_death", "a driver dies with requests in flight", any_recovery(lambda r: r["in_flight"])),
    ("many_in_flight", "with more than sixteen", any_recovery(lambda r: (r["in_flight"] or 0) > 16)),
    ("none_in_flight", "a driver dies with none", any_recovery(lambda r: r["in_flight"] == 0)),
    ("replayed", "its successor issues requests again", any_recovery(lambda r: r["replayed"])),
    ("checkpoint_latest", "it goes on from the latest checkpoint", any_recovery(lambda r: r["checkpoint"] == 1)),
    ("checkpoint_previous", "it goes on from the previous checkpoint", any_recovery(lambda r: r["checkpoint"] == 2)),
    ("checkpoint_none", "it starts without one", any_recovery(lambda r: r["checkpoint"] == 0)),
    ("died_recovering", "it dies again while it recovers", any_recovery(lambda r: r["deaths"] > 1)),
    ("exception", "it dies of an exception of the CPU",
     any_recovery(lambda r: r["cause"] in ("INVALID_OPCODE", "DIVIDE", "PAGE_FAULT", "PROTECTION", "BREAKPOINT", "STACK", "DEBUG"))),
    ("exit", "it ends itself", died_of("EXIT")),
    ("stalled", "it makes no progress, and that is noticed", died_of("STALLED")),
    ("lost_irq", "its device is done and does not say so, and that is noticed", died_of("LOST_IRQ")),
    ("protocol", "it breaks the protocol, and that is noticed", died_of("PROTOCOL")),
    ("dependency", "somebody restarts with it", died_of("DEPENDENCY")),
    ("complaint", "recovery complains of it", saw("COMPLAINT")),
    ("call_replayed", "a call goes back to the queue and is answered by the successor", saw("CALL_REPLAYED")),
    ("peer_restarted", "a call fails because its server died", saw("PEER_RESTARTED")),
    ("overrun", "it uses up its budget", saw("OVERRUN")),
    ("dma_fault", "its device reaches for memory that is not its own, and is stopped", saw("DMA_FAULT")),
    ("irq_storm", "an interrupt comes too often", saw("IRQ_STORM")),
    ("poisoned", "a request is given up alone", saw("POISONED")),
    ("gave_up", "a service is given up", saw("GAVE_UP")),
    ("survived", "it lives with the fault, and serves", saw("CLEANED")),
)


def seen_in(window):
    """What of SEEN is in a trial's part of the trace."""
    return sorted({e.mark or e.event for e in window.entries} & set(SEEN)) if window else []


def count(trials):
    """Name -> number of trials that show it."""
    return {name: sum(bool(shows(t)) for t in trials) for name, _, shows in SOMETIMES}


def never(counts):
    return [name for name, n in counts.items() if not n]


def not_activated(trials, pairs):
    """Pairs (service, fault) that the campaign could strike and no trial activated."""
    counts = collections.Counter((t["service"], t["fault"]) for t in trials if t["activated"])
    return [list(pair) for pair in pairs if not counts[pair]]
