# SPDX-License-Identifier: BSD-2-Clause
"""Plans: faults as data. A plan is a list of trials (when, where, what, seed), made from a seed alone.

Trial n depends on (seed, driver, fault, n) and on nothing else: a longer campaign begins with the shorter
one, and one trial can be run again by itself."""
import dataclasses
import json
import random

from faultinject import combination, faults
from faultinject.faults import DRIVER_GROUPS, GROUPS

SCHEMA_VERSION = 1
RANDOM_BITS = 48  # seeds sent to the guest

FAULTS = {f.name: f.what for f in faults.TABLE}
SERVICES = {name: faults.of_service(name) for name in faults.SERVICES}
DISK_WEIGHT = {"mix": 85, "all": 1}  # of virtio_disk, when there is a user's disk

# Instructions of the target until the strike, at most: about a round of its work. More would be lost on
# targets that sleep meanwhile, and single-stepped work is slow enough to alarm the watchdog.
INSTRUCTIONS_MAX = {"virtio_blk": 900, "virtio_disk": 900, "serial": 600, "echo": 400, "pci": 400, "supervisor": 1200, "recovery": 900}
RECOVERING_MAX = {"supervisor": 24000, "recovery": 9000, "pci": 1500}  # from the victim's death until it serves again
RECOVERING_MIN = {"supervisor": 10000, "recovery": 3000, "pci": 150}  # as many are always executed then
RESUME_MAX = {"supervisor": 21000, "recovery": 24000, "pci": 4000}  # from the start of one that fell until it serves again
ENUMERATED = ("virtio_blk", "echo", "pci")  # that can be asked for one thing while nothing else goes on
NESTED = tuple(f.name for f in faults.TABLE if f.how == "recovering")
PAUSE_US = 25_000  # for each time that somebody is struck at his start: nobody may restart more often than his policy says
RECOVERIES_UNTOUCHED = 20  # one after the other end an enumeration of them: one recovery takes twice as many as another
SECOND_MAX = 2500  # of the successor: start to READY
THIRD_MAX = 1000   # of each of two: echo does not execute many more before somebody calls it
LOOP_MAX = 250     # of each successor in a loop of crashes: it has asked recovery for nothing yet
LOOP = (2, 7)      # successors after the first
GIVE_UP = 149      # more than the policy of system/chaos.toml forgives
STARVE_US = (1_000, 60_000)
DELAY_US = (0, 8000)  # a round of the workload takes 1 to 3 ms
KEPT_US = 12_000      # more, if a kept one is struck each time: the policy forgives 100 falls a second


class UsageProblem(Exception):
    """The command line asks for what is not there; callers exit with 2."""


@dataclasses.dataclass(frozen=True)
class Trial:
    n: int
    service: str        # "all": every driver
    fault: str
    delay_us: int       # after the previous trial came to rest
    instructions: int   # of the target, from then to the strike
    second: int         # faults that strike successors: instructions of the successor; else 0
    seed: int           # for what the guest chooses
    again: int = 0      # so many successors after that one are struck too

    def where(self):
        more = f"+{self.second}" if self.second else ""
        more += f"x{1 + self.again}" if self.again else ""
        return f"{self.fault}@{self.instructions}{more}" if faults.counted(self.fault) else self.fault


def allowed(names):
    return ", ".join(sorted(names))


def check(driver, fault, disk=False):
    """Raises UsageProblem, naming what is allowed."""
    if driver not in SERVICES and driver not in DRIVER_GROUPS:
        raise UsageProblem(f"unknown driver '{driver}'. Allowed: {allowed([*SERVICES, *DRIVER_GROUPS])}")
    if fault not in FAULTS and fault not in GROUPS:
        raise UsageProblem(f"unknown fault '{fault}'. Allowed: {allowed([*FAULTS, *GROUPS])}")
    if driver == "virtio_disk" and not disk:
        raise UsageProblem("driver 'virtio_disk' is there only with a disk image of your own (--disk)")
    if driver in SERVICES and fault in FAULTS and fault not in SERVICES[driver] + ("all",):
        raise UsageProblem(f"fault '{fault}' makes no sense for {driver}. Allowed: {allowed(SERVICES[driver])}")


def pick(rng, weights):
    names = sorted(weights)
    return rng.choices(names, [weights[name] for name in names])[0]


def services_of(driver, fault, disk):
    group = DRIVER_GROUPS.get(driver, {driver: 1})
    if driver in DRIVER_GROUPS and faults.BY_NAME[fault].targets == faults.KEPT:
        group = dict.fromkeys(faults.KEPT, 1)
    weights = dict(group)
    if disk and driver in DISK_WEIGHT:
        weights["virtio_disk"] = DISK_WEIGHT[driver]
    meant = {name: w for name, w in weights.items() if fault in SERVICES[name]}
    return meant or {name: 1 for name in SERVICES if fault in SERVICES[name]}  # nobody of the group can have it


def make_trial(seed, n, driver="mix", fault="mix", disk=False):
    rng = random.Random(f"coppice {seed} {n} {driver} {fault} {int(disk)}")
    kinds = GROUPS.get(fault, {fault: 1})
    if driver in SERVICES:
        kinds = {kind: w for kind, w in kinds.items() if kind in SERVICES[driver] + ("all",)}
    kind = pick(rng, kinds)
    service = "all" if kind == "all" else pick(rng, services_of(driver, kind, disk))
    if faults.BY_NAME[kind].how == "update":
        return Trial(n=n, service=service, fault=kind, delay_us=combination.delay_us(rng),
                     instructions=rng.randint(0, combination.STEPS[service]), second=0, seed=rng.getrandbits(RANDOM_BITS))
    recovering, deep = faults.BY_NAME[kind].how == "recovering", faults.BY_NAME[kind].deep
    most = (RECOVERING_MIN if deep else RECOVERING_MAX) if recovering else INSTRUCTIONS_MAX
    at_start = {"double": SECOND_MAX, "triple": THIRD_MAX}.get(kind, RESUME_MAX[service] if deep else LOOP_MAX)
    rest_us = KEPT_US if driver in faults.KEPT else 0
    return Trial(n=n, service=service, fault=kind, delay_us=rng.randint(*DELAY_US) + rest_us, instructions=rng.randint(0, most.get(service, 0)),
                 second=rng.randint(1, at_start) if faults.BY_NAME[kind].successors or deep else 0, seed=rng.getrandbits(RANDOM_BITS),
                 again={"triple": 1, "crash_loop": rng.randint(*LOOP), "give_up": GIVE_UP}.get(kind, max(0, deep - 1)))


def make_plan(seed, kills, driver="mix", fault="mix", disk=False):
    check(driver, fault, disk)
    return [make_trial(seed, n, driver, fault, disk) for n in range(1, kills + 1)]


def pairs(driver="all", fault="every", disk=False):
    """(service, fault) of all that these words mean and that makes sense."""
    kinds = [kind for kind in FAULTS if kind in GROUPS.get(fault, {fault: 1})]
    services = [driver] if driver in SERVICES else [name for name in SERVICES if name in services_of(driver, "kill", disk)]
    found = [(service, kind) for service in services for kind in kinds if kind in SERVICES[service]]
    return found + [("all", kind) for kind in kinds if faults.BY_NAME[kind].how == "all"]


def make_each(seed, times, driver="all", fault="every", disk=False):
    """Every pair of driver and fault so often, one after the other."""
    check(driver, fault, disk)
    wanted = pairs(driver, fault, disk)
    return [make_trial(seed, n, "mix" if service == "all" else service, kind, disk)
            for n, (service, kind) in enumerate(wanted * times, 1)]


def make_points(seed, points, stride, driver, fault):
    """One request, struck after stride, twice stride, ... of the driver's instructions; or the recovery of another driver (the
    fault `recovering`); or, nested deeper, the start of whoever was struck in one. Seeds 1 to stride begin at different
    instructions, and together strike at each."""
    check(driver, fault)
    nested = fault in FAULTS and faults.BY_NAME[fault].how == "recovering"
    fatal = sorted(f.name for f in faults.TABLE if f.how in ("kill", "jump") and f.proof == "struck" and f.family == "process")
    able, kinds = (faults.KEPT, NESTED) if nested else (ENUMERATED, fatal)
    if driver not in able or fault not in kinds:
        raise UsageProblem(f"--enumerate needs one driver ({allowed(able)}) and one fault that ends it ({', '.join(kinds)})")
    field = "second" if faults.BY_NAME[fault].deep else "instructions"
    trials = (make_trial(seed, n, driver, fault) for n in range(1, points + 1))
    pause = PAUSE_US * faults.BY_NAME[fault].deep
    return [dataclasses.replace(t, delay_us=pause, **{field: stride * t.n - (seed - 1) % stride}) for t in trials]


def write(plan, path):
    with open(path, "w") as f:
        for trial in plan:
            f.write(json.dumps({"schema_version": SCHEMA_VERSION} | dataclasses.asdict(trial)) + "\n")


def read(path):
    """Raises UsageProblem with file and line of what is no trial."""
    plan = []
    for number, line in enumerate(open(path), 1):
        try:
            plan.append(read_trial(json.loads(line)))
        except (ValueError, TypeError, AttributeError, KeyError) as problem:
            raise UsageProblem(f"{path}:{number}: {problem}") from None
    return plan


def read_trial(fields):
    if fields.pop("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"not a plan of version {SCHEMA_VERSION}")
    trial = Trial(**fields)
    if trial.fault not in FAULTS:
        raise ValueError(f"unknown fault '{trial.fault}'")
    if trial.service != "all" and trial.service not in SERVICES:
        raise ValueError(f"unknown service '{trial.service}'")
    for field in dataclasses.fields(trial):
        value = getattr(trial, field.name)
        if field.type is int and (not isinstance(value, int) or value < 0):
            raise ValueError(f"{field.name} is {value!r}, not a number from 0")
    return trial
