#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Compiles a system manifest and the program manifests it uses into manifest.bin.

Input grammar: docs/MANIFEST.md. Output layout: abi/manifest.h (tests/unit/test_manifest.py compares every
offset with what the C compiler says). All mistakes are reported at once as
`file:line: what is wrong; expected ...`; nothing is written unless everything is right.
Exit codes: 0 done, 2 the manifest or the command line is wrong.
"""
import argparse
import copy
import heapq
import json
import os
import re
import struct
import sys
import tomllib
from pathlib import Path

MAGIC = 0x31494E414D504F43  # "COPMANI1"
VERSION = 5
NAME_MAX = 24
SERVICES_MAX = 2048
DEPENDS_MAX = 8
PORTS_MAX = 2
IRQS_MAX = 2
PCI_MAX = 2
GROUPS_MAX = 16
PROGRAMS_MAX = 16
NONE = 0xFFFF
CPUS_MAX = 8  # kernel/arch/arch.h
BUDGET_MIN_US = 50  # kernel/process.h
INTENSITY_MAX = 100  # SUPERVISOR_INTENSITY_MAX in supervisor/core.h
MS_MAX = 3_600_000
SUPERVISOR = "supervisor"
SUPERVISOR_PRIORITY = 30
# Of recovery's own quota: its image and tables, and for each service two checkpoints, one put aside, a staging area.
RECOVERY_PAGES, RECOVERY_SERVICE_PAGES = 160, 6

FLAGS = {  # key of a program or system manifest -> enum service_flags
    "endpoint": 1, "driver": 2, "log": 4, "trace": 8, "inject": 16, "root": 32, "image_access": 64,
    "control": 128, "optional": 256, "dma": 512, "recovery": 1024, "spare": 2048, "kept": 4096,
}
RESTART = {"permanent": 0, "transient": 1, "temporary": 2}
STRATEGY = {"one_for_one": 0, "rest_for_one": 1, "one_for_all": 2}
GIVE_UP = {"degraded": 0, "reboot": 1, "escalate": 2}
DEPEND = {"hold-and-replay": 0, "restart-with": 1}

HEADER = struct.Struct("<QIIIHH")  # struct manifest up to group[]
GROUP = struct.Struct(f"<{NAME_MAX}sHHII")
SERVICE = struct.Struct(
    f"<{NAME_MAX}s{NAME_MAX}sI2H" "5I4H" "11I" "6H" f"{2 * DEPENDS_MAX}H{DEPENDS_MAX}H{DEPENDS_MAX}H"
    f"{2 * PORTS_MAX}H{IRQS_MAX}H{4 * PCI_MAX}H" "128s")


# --- Source positions -------------------------------------------------------------------------------
class Source:
    """A parsed TOML file that remembers on which line each table, key and list element stands."""

    def __init__(self, path, shown):
        self.shown = shown
        self.lines = {}
        text = path.read_text(encoding="utf-8")
        self.data = tomllib.loads(text)
        self._index(text)

    def line(self, path):
        path = tuple(path)
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def _index(self, text):
        """One pass over text that tomllib has accepted: so only nesting and strings must be understood."""
        table, key, depth, element, line, i = (), (), 0, 0, 1, 0
        at_start = True  # of a line, outside any value
        while i < len(text):
            c = text[i]
            if c == "\n":
                line += 1
                at_start = at_start or depth == 0
            elif c == "#":
                i = text.find("\n", i)
                if i < 0:
                    return
                continue
            elif at_start and not c.isspace():
                end = text.find("\n", i)
                rest = text[i:end if end >= 0 else len(text)]
                if c == "[":
                    table = split_key(rest.strip("[]").split("]")[0])
                    for n in range(1, len(table) + 1):
                        self.lines.setdefault(table[:n], line)
                    i += len(rest)
                    continue
                name = rest.split("=")[0]
                key, at_start = table + split_key(name), False
                self.lines.setdefault(key, line)
                i += len(name)
                continue
            elif c in "\"'":
                if depth == 1:
                    self.lines.setdefault(key + (element,), line)
                quote = c * 3 if text.startswith(c * 3, i) else c
                end = skip_string(text, i + len(quote), quote)
                line += text.count("\n", i, end)
                i = end
                continue
            elif c in "[{":
                if depth == 1:
                    self.lines.setdefault(key + (element,), line)
                depth += 1
                element = 0 if depth == 1 else element
            elif c in "]}":
                depth -= 1
            elif c == "," and depth == 1:
                element += 1
            elif depth == 1 and not c.isspace():
                self.lines.setdefault(key + (element,), line)
            i += 1


def split_key(text):
    return tuple(part.strip().strip("\"'") for part in text.strip().split("."))


def skip_string(text, i, quote):
    while not text.startswith(quote, i):
        i += 2 if text[i] == "\\" and quote[0] == '"' else 1
    return i + len(quote)


class Problems:
    def __init__(self):
        self.lines = []

    def add(self, source, path, what, expected):
        self.lines.append(f"{source.shown}:{source.line(path)}: {what}; expected {expected}")


# --- Shapes of values: each returns None, or what was expected ----------------------------------------
def integer(low, high):
    def check(v, *_):
        ok = isinstance(v, int) and not isinstance(v, bool) and low <= v <= high
        return None if ok else f"an integer from {low} to {high}"
    return check


def boolean(v, *_):
    return None if isinstance(v, bool) else "true or false"


def choice(*words):
    def check(v, *_):
        return None if v in words and isinstance(v, str) else " or ".join(f'"{w}"' for w in words)
    return check


def name(v, *_):
    if isinstance(v, str) and re.fullmatch(r"[a-z0-9_]+", v) and len(v) < NAME_MAX:
        return None
    return f"a name of 1 to {NAME_MAX - 1} characters of a-z, 0-9 and _"


def reference(v, *_):
    """The name of a service, which may be one of several instances."""
    return name(v if not isinstance(v, str) or len(v) >= NAME_MAX else re.sub(r"\.[0-9]+$", "", v))


def text(limit):
    def check(v, *_):
        ok = isinstance(v, str) and len(v.encode()) < limit and v.isprintable()
        return None if ok else f"a printable string of at most {limit - 1} bytes"
    return check


def folder(v, *_):
    ok = isinstance(v, str) and v and not os.path.isabs(v) and ".." not in v.split("/")
    return None if ok else "a folder relative to the root of the repository"


def table(v, *_):
    return None if isinstance(v, dict) else "a table"


def many(of, limit):
    def check(v, source, path, problems):
        if not isinstance(v, list) or len(v) > limit:
            return f"a list of at most {limit}"
        for n, item in enumerate(v):
            expected = of(item, source, path + (n,), problems)
            if expected:
                problems.add(source, path + (n,), f"bad element {show(item)} of `{path[-1]}`", expected)
        return None
    return check


def record(shape, required):
    def check(v, source, path, problems):
        if not isinstance(v, dict):
            return "{ " + ", ".join(f"{k} = ..." for k in shape) + " }"
        check_table(v, shape, required, source, path, problems)
        return None
    return check


def show(v):
    shown = json.dumps(v) if isinstance(v, (str, bool, list, dict)) else str(v)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def check_table(data, shape, required, source, path, problems):
    for key, value in data.items():
        if key not in shape:
            problems.add(source, path + (key,), f"unknown key `{key}`", "one of " + ", ".join(sorted(shape)))
            continue
        expected = shape[key](value, source, path + (key,), problems)
        if expected:
            problems.add(source, path + (key,), f"`{key}` is {show(value)}", expected)
    for key in required:
        if key not in data:
            problems.add(source, path, f"`{key}` is missing", f"`{key} = ...` here")


PORTS = record({"base": integer(0, 0xFFFF), "count": integer(1, 256)}, ["base", "count"])
PCI = record({"vendor": integer(0, 0xFFFF), "device": integer(0, 0xFFFF), "nth": integer(0, 255)},
             ["vendor", "device"])
EDGE = record({"on": reference, "kind": choice(*DEPEND)}, ["on", "kind"])
BOTH = {  # in a program manifest; the system manifest may replace it
    "image": name,
    "pci": many(PCI, PCI_MAX),
    "quota_pages": integer(16, 1 << 20),
    "priority": integer(1, SUPERVISOR_PRIORITY - 1),
    "budget_us": integer(0, (1 << 28) - 1),
    "budget_period_us": integer(0, (1 << 28) - 1),
    "cpus": many(integer(0, CPUS_MAX - 1), CPUS_MAX),
    "calls": many(reference, DEPENDS_MAX),
    "sessions": many(reference, DEPENDS_MAX),
    "session_pages": integer(8, 1 << 20),
}
PROGRAM = BOTH | {key: boolean for key in FLAGS if key not in ("optional", "dma", "spare")} | {
    "session": choice("block", "stream"),
    "ports": many(PORTS, PORTS_MAX),
    "irq": many(integer(0, 255), IRQS_MAX),
    "irq_limit": integer(0, 1000000),
}
POLICY = {
    "restart": choice(*RESTART),
    "intensity": integer(0, INTENSITY_MAX),
    "period_ms": integer(1, MS_MAX),
    "backoff_initial_ms": integer(0, MS_MAX),
    "backoff_max_ms": integer(0, MS_MAX),
    "backoff_factor_pct": integer(100, 1000),
    "backoff_jitter_pct": integer(0, 100),
    "stable_ms": integer(0, MS_MAX),
    "breaker": integer(0, 1000),
    "on_give_up": choice(*GIVE_UP),
    "watchdog_ms": integer(0, MS_MAX),
    "start_timeout_ms": integer(1, MS_MAX),
    "probation_ms": integer(0, MS_MAX),
    "memory_warn_pct": integer(0, 100),
}
GROUP_KEYS = {"strategy": choice(*STRATEGY), "inside": name} | {key: POLICY[key] for key in ("intensity", "period_ms")}
SERVICE_KEYS = BOTH | POLICY | {
    "use": folder,
    "instances": integer(1, SERVICES_MAX - 1),
    "depends": many(EDGE, DEPENDS_MAX),
    "group": name,
    "optional": boolean,
    "spare": integer(0, 1),
    "kept": boolean,
    "dma": choice("unprotected"),
    "args": text(128),
}
TOP = {"system": table, "defaults": table, "group": table, "service": table}
FALLBACK = {
    "restart": "permanent", "intensity": 5, "period_ms": 10000, "backoff_initial_ms": 0,
    "backoff_max_ms": 0, "backoff_factor_pct": 200, "backoff_jitter_pct": 0, "stable_ms": 0, "breaker": 0,
    "on_give_up": "degraded", "watchdog_ms": 0, "start_timeout_ms": 5000, "probation_ms": 1000, "memory_warn_pct": 95, "quota_pages": 256, "priority": 10,
    "budget_us": 0, "budget_period_us": 0, "cpus": [], "calls": [], "sessions": [], "session_pages": 256, "pci": [], "ports": [], "irq": [], "irq_limit": 0,
    "depends": [], "group": None, "args": "", "session": None,
} | {key: False for key in FLAGS}


# --- Reading ------------------------------------------------------------------------------------------
class Service:
    """A service of the system: values merged from its table, [defaults] and its program manifest."""

    def __init__(self, label, own, system, program, defaults):
        self.name = label    # or NAME.N of several instances
        self.label = label   # its table in the system manifest
        self.system, self.program = system, program
        self.own = own
        self.value = FALLBACK | {"image": own["use"].rstrip("/").split("/")[-1]}
        self.value |= defaults | program.data | own
        self.edges = {}  # other's name -> kind, in order

    def __getitem__(self, key):
        return self.value[key]

    def place(self, key, *more):
        """Where this value was written: (source, path)."""
        if key in self.own:
            return self.system, ("service", self.label, key) + more
        if key in self.program.data:
            return self.program, (key,) + more
        return self.system, ("service", self.label)

    def instances(self):
        """Itself, or what `instances` makes of it: the same but for the name, edges included."""
        if "instances" not in self.own:
            return [self]
        out = [copy.copy(self) for _ in range(self.own["instances"])]
        for n, instance in enumerate(out):
            instance.name = f"{self.label}.{n}"
        return out


def exists(path):
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


def load(path, shown, problems):
    try:
        return Source(path, shown)
    except tomllib.TOMLDecodeError as e:
        at = re.search(r"\(at line (\d+)", str(e))
        line = at.group(1) if at else path.read_text().count("\n") + 1
        problems.lines.append(f"{shown}:{line}: {str(e).split(' (at')[0]}; expected TOML 1.0")
    except RecursionError:
        problems.lines.append(f"{shown}:1: nested too deeply; expected lists and tables a few levels deep")
    except UnicodeDecodeError:
        problems.lines.append(f"{shown}:1: not UTF-8 text; expected TOML 1.0")
    except OSError as e:
        problems.lines.append(f"{shown}:1: cannot be read ({e.strerror}); expected a manifest")
    return None


def read_system(path, root, problems, total=None):
    """Returns (source, {name: Service} in file order) with every table checked for itself. total: as many
    services in all, by the number of instances of the last table that has instances."""
    source = load(path, str(path), problems)
    if source is None:
        return None, {}
    check_table(source.data, TOP, ["service"], source, (), problems)
    if problems.lines:
        return None, {}
    check_table(source.data.get("system", {}), {"chaos": boolean, "programs": many(folder, PROGRAMS_MAX)}, [], source, ("system",), problems)
    check_table(source.data.get("defaults", {}), POLICY, [], source, ("defaults",), problems)
    read_groups(source, problems)
    if total:
        set_total(source, total, problems)
    services, programs = {}, {}
    for label, own in source.data["service"].items():
        service = read_service(label, own, source, root, programs, problems)
        if service:
            check_instances(service, problems)
            services |= {instance.name: instance for instance in service.instances()}
    if len(services) >= SERVICES_MAX:
        problems.add(source, ("service",), f"{len(services)} services", f"at most {SERVICES_MAX - 1}")
    return source, services


def set_total(source, total, problems):
    tables = [own for own in source.data["service"].values() if isinstance(own, dict)]
    several = [own for own in tables if isinstance(own.get("instances"), int)]
    if not several:
        problems.add(source, ("service",), f"not to be made {total} services", "a service with `instances = ...`")
        return
    several[-1]["instances"] += total - sum(own.get("instances", 1) for own in tables)


def check_instances(s, problems):
    if "instances" not in s.own:
        return
    last = s.instances()[-1].name
    if len(last) >= NAME_MAX:
        problems.add(*s.place("instances"), f"the name `{last}` is too long", f"at most {NAME_MAX - 1} characters")
    for key in ("pci", "ports", "irq", "recovery"):
        if s[key]:
            problems.add(*s.place("instances"), f"several instances of `{s.name}`, which has `{key}`",
                         "one service for each piece of hardware, and one recovery service")


def read_groups(source, problems):
    groups = source.data.get("group", {})
    for label, group in groups.items():
        if name(label) or not isinstance(group, dict):
            problems.add(source, ("group", label), f"bad group `{label}`", "[group.NAME], " + (name("") or ""))
            continue
        check_table(group, GROUP_KEYS, ["strategy"], source, ("group", label), problems)
    for label, group in groups.items():
        check_nesting(groups, label, source, problems)
    if len(groups) > GROUPS_MAX:
        problems.add(source, ("group",), f"{len(groups)} groups", f"at most {GROUPS_MAX}")


def check_nesting(groups, label, source, problems):
    """A group is inside one that there is, and not inside itself."""
    walk = [label]
    while isinstance(groups[walk[-1]], dict) and isinstance(groups[walk[-1]].get("inside"), str):
        outer = groups[walk[-1]]["inside"]
        if outer not in groups or outer in walk:
            if len(walk) == 1 or outer == label:  # said where it is written, once
                wrong = f"unknown group `{outer}`" if outer not in groups else "groups inside themselves: " + " -> ".join(walk + [outer])
                problems.add(source, ("group", label, "inside"), wrong, "a group that is not inside this one")
            return
        walk.append(outer)


def nesting(groups, label):
    """The group and those around it, the innermost first; empty: it is None."""
    out = []
    while label is not None:
        out.append(label)
        label = groups[label].get("inside")
    return out


def compile_groups(source):
    """A group comes after the one that it is inside of. One that others are inside of counts failures by [defaults],
    if it does not say otherwise; one without nested groups only if it says so."""
    groups, defaults = source.data.get("group", {}), FALLBACK | source.data.get("defaults", {})
    order = sorted(groups, key=lambda g: len(nesting(groups, g)))
    outer = {g.get("inside") for g in groups.values()}
    rows = []
    for label in order:
        g = groups[label]
        counts = label in outer or "intensity" in g or "period_ms" in g
        policy = {key: g.get(key, defaults[key]) if counts else 0 for key in ("intensity", "period_ms")}
        inside = 1 + order.index(g["inside"]) if "inside" in g else 0
        rows.append({"name": label, "strategy": g["strategy"], "inside": inside} | policy)
    return rows


def read_service(label, own, source, root, programs, problems):
    at = ("service", label)
    before = len(problems.lines)
    if name(label) or label == SUPERVISOR:
        problems.add(source, at, f"bad service name `{label}`",
                     f"{name('')}, other than {SUPERVISOR}")
    if not isinstance(own, dict):
        problems.add(source, at, f"`{label}` is {show(own)}", f"a table [service.{label}]")
        return None
    check_table(own, SERVICE_KEYS, ["use"], source, at, problems)
    if len(problems.lines) != before:
        return None
    use = own["use"]
    if use not in programs:
        file = root / use / "manifest.toml"
        if not exists(file):
            problems.add(source, at + ("use",), f"`{use}` has no manifest.toml", "the folder of a program")
            programs[use] = None
        else:
            program = load(file, os.path.relpath(file), problems)
            errors = len(problems.lines)
            if program:
                check_table(program.data, PROGRAM, [], program, (), problems)
            programs[use] = program if len(problems.lines) == errors else None
    if programs[use] is None:
        return None
    return Service(label, own, source, programs[use], source.data.get("defaults", {}))


# --- Rules between services -----------------------------------------------------------------------------
def written(services):
    """One of each table: what is wrong with one instance is wrong with all."""
    return [s for s in services.values() if s.name in (s.label, f"{s.label}.0")]


def check_system(source, services, problems):
    for s in written(services):
        check_names(s, services, problems)
        check_authority(s, source, problems)
        check_numbers(s, problems)
    check_recovery(source, services, problems)
    check_shared(services, problems)
    check_session_pages(services, problems)


def known_names(services):
    out = {}
    for s in services.values():
        out.setdefault(s.label, []).append(s.name)
    return ", ".join(n[0] if len(n) == 1 else f"{n[0]} to {n[-1]}" for n in out.values())


def check_names(s, services, problems):
    known = known_names(services)
    for key in ("calls", "sessions"):
        for n, other in enumerate(s[key]):
            where = s.place(key, n)
            if other in (SUPERVISOR, "recovery") and key == "calls":
                problems.add(*where, f"`calls` names {other}", "other services: everybody may call it")
            elif other not in services:
                problems.add(*where, f"service `{s.name}`: unknown service `{other}` in `{key}`", f"one of {known}")
            elif key == "calls" and not services[other]["endpoint"]:
                problems.add(*where, f"`{s.name}` calls `{other}`, which has no endpoint",
                             "a service whose manifest says endpoint = true")
            elif key == "sessions" and not services[other]["session"]:
                problems.add(*where, f"`{s.name}` opens sessions with `{other}`, which serves none",
                             "a service whose manifest says session = ...")
            if s[key].index(other) != n:
                problems.add(*where, f"`{other}` twice in `{key}`", "each service once")
    for n, edge in enumerate(s["depends"]):
        where = s.place("depends", n)
        if edge["on"] not in services:
            problems.add(*where, f"unknown service `{edge['on']}` in `depends`", f"one of {known}")
        elif edge["on"] in s.edges:
            problems.add(*where, f"`{s.name}` depends on `{edge['on']}` twice", "one kind of dependency")
        else:
            s.edges[edge["on"]] = edge["kind"]
    group = s["group"]
    groups = s.system.data.get("group", {})
    if group is not None and group not in groups:
        problems.add(*s.place("group"), f"unknown group `{group}`", "one of " + (", ".join(groups) or "none yet"))


def check_authority(s, source, problems):
    if s["inject"] and not source.data.get("system", {}).get("chaos", False):
        problems.add(source, ("service", s.label), f"`{s.name}` holds the inject capability",
                     "[system] chaos = true where a service may strike others")
    if s["dma"] and not s["pci"]:
        problems.add(*s.place("dma"), f"`{s.name}` says dma and drives no PCI function", "no dma here")


def check_numbers(s, problems):
    if s["backoff_max_ms"] < s["backoff_initial_ms"]:
        problems.add(*s.place("backoff_max_ms"), f"`{s.name}`: backoff_max_ms is {s['backoff_max_ms']}",
                     f"at least backoff_initial_ms, {s['backoff_initial_ms']}")
    if s["breaker"] == 1:
        problems.add(*s.place("breaker"), f"`{s.name}`: breaker is 1", "0 (none), or 2 or more of the same crash")
    if (s["budget_us"] > 0) != (s["budget_period_us"] > 0) or s["budget_us"] > s["budget_period_us"] \
            or 0 < s["budget_us"] < BUDGET_MIN_US:
        problems.add(*s.place("budget_us"), f"`{s.name}`: budget_us is {s['budget_us']} of {s['budget_period_us']}",
                     f"both 0, or budget_us from {BUDGET_MIN_US} to budget_period_us")
    nested = "inside" in s.system.data.get("group", {}).get(s["group"] or "", {})
    if s["on_give_up"] == "escalate" and "restart-with" not in s.edges.values() and not nested:
        problems.add(*s.place("on_give_up"), f"`{s.name}` escalates and restarts with nobody",
                     'a dependency of kind = "restart-with", a group inside another, or on_give_up = "degraded" or "reboot"')
    for n, ports in enumerate(s["ports"]):
        if ports["base"] + ports["count"] > 0x10000:
            problems.add(*s.place("ports", n), "ports beyond 0xffff", "base + count of at most 0x10000")


def check_recovery(source, services, problems):
    """Exactly one, by its own name; and what lives on its memory depends on it."""
    holders = [s for s in services.values() if s["recovery"]]
    if [s.name for s in holders] != ["recovery"]:
        for s in holders or [None]:
            if s is None or s.name != "recovery":
                problems.add(source, ("service", s.name) if s else ("service",),
                             f"`{s.name}` is a recovery service" if s else "no recovery service",
                             'exactly one, [service.recovery] use = "recovery"')
        return
    for s in holders:
        if s["spare"]:
            problems.add(*s.place("spare"), f"`{s.name}` has a spare", "none: its memory is everybody's state")
    for s in written(services):
        if (s["driver"] or s["session"] or s["sessions"]) and "recovery" not in s.edges and not s["recovery"]:
            s.edges["recovery"] = "restart-with"
        if "recovery" in s.edges and s["start_timeout_ms"] <= holders[0]["watchdog_ms"]:
            problems.add(*s.place("start_timeout_ms"), f"`{s.name}`: start_timeout_ms is {s['start_timeout_ms']}",
                         f"more than recovery's watchdog_ms, {holders[0]['watchdog_ms']}: whoever waits for a "
                         "recovery that hangs is not slow to start")
        if len(s.edges) > DEPENDS_MAX:
            problems.add(*s.place("depends"), f"`{s.name}` has {len(s.edges)} dependencies, recovery included",
                         f"at most {DEPENDS_MAX}")


def check_session_pages(services, problems):
    """Sessions are recovery's memory: what their clients may hold of it in all, and its own need, fit its quota."""
    clients = [s for s in services.values() if s["sessions"]]
    if "recovery" not in services or not clients:
        return
    quota = services["recovery"]["quota_pages"]
    own = RECOVERY_PAGES + RECOVERY_SERVICE_PAGES * (len(services) + 1)
    total = sum(s["session_pages"] for s in clients)
    if own + total > quota:
        most = max(clients, key=lambda s: s["session_pages"])
        problems.add(*most.place("session_pages"), f"`session_pages` of {len(clients)} services with sessions are {total}",
                     f"at most {max(quota - own, 0)} in all: recovery's quota_pages, {quota}, without {own} for itself")


def check_shared(services, problems):
    """Hardware has one driver."""
    taken = []
    for s in services.values():
        for key in ("ports", "irq", "pci"):
            for n, item in enumerate(s[key]):
                for other, kind, theirs in taken:
                    if kind == key and overlap(key, item, theirs):
                        problems.add(*s.place(key, n), f"`{s.name}` and `{other}` both claim {describe(key, item)}",
                                     "one service for each piece of hardware")
                taken.append((s.name, key, item))


def overlap(key, a, b):
    if key == "ports":
        return a["base"] < b["base"] + b["count"] and b["base"] < a["base"] + a["count"]
    if key == "irq":
        return a == b
    return (a["vendor"], a["device"], a.get("nth", 0)) == (b["vendor"], b["device"], b.get("nth", 0))


def describe(key, item):
    if key == "ports":
        return f"ports {item['base']:#x} to {item['base'] + item['count'] - 1:#x}"
    if key == "irq":
        return f"irq {item}"
    return f"pci {item['vendor']:04x}:{item['device']:04x} nth {item.get('nth', 0)}"


def prerequisites(services):
    """name -> names that must serve before it: written edges and order inside rest_for_one groups. A nested group stands
    where its first service does, and comes as a whole."""
    needs = {s.name: list(s.edges) for s in services.values()}
    groups = next(iter(services.values())).system.data.get("group", {})
    for label, group in groups.items():
        members = {}
        for s in services.values():
            way = nesting(groups, s["group"])
            if label in way:
                at = way.index(label)
                members.setdefault(way[at - 1] if at else f"service {s.name}", []).append(s.name)
        members = list(members.values())
        if group["strategy"] == "rest_for_one":
            for before, after in zip(members, members[1:]):
                for one in after:
                    needs[one] += before
    return needs


def sort_services(services, problems):
    """File order, except that what is depended on comes first. None if there is a cycle."""
    needs, names = prerequisites(services), list(services)
    place = {n: at for at, n in enumerate(names)}
    missing = {n: len(set(needs[n])) for n in names}
    needed_by = {}
    for n in names:
        for d in set(needs[n]):
            needed_by.setdefault(d, []).append(n)
    ready, order = [place[n] for n in names if not missing[n]], []
    while ready:
        order.append(names[heapq.heappop(ready)])
        for n in needed_by.get(order[-1], ()):
            missing[n] -= 1
            if not missing[n]:
                heapq.heappush(ready, place[n])
    if len(order) < len(names):
        left = set(names) - set(order)
        cycle = find_cycle({n: [d for d in needs[n] if d in left] for n in names if n in left})
        s = services[cycle[0]]
        problems.add(*s.place("depends"), "dependency cycle " + " -> ".join(cycle),
                     "an order in which services can start")
        return None
    return [services[n] for n in order]


def find_cycle(needs):
    """Every node has a successor, so walking must meet itself; the cycle, its first node repeated."""
    walk = [next(iter(needs))]
    while walk.count(walk[-1]) == 1:
        walk.append(needs[walk[-1]][0])
    return walk[walk.index(walk[-1]):]


# --- Output ---------------------------------------------------------------------------------------------
def compile_system(source, order):
    """The compiled manifest as plain data: what --json prints and pack() writes."""
    index = {SUPERVISOR: 0} | {s.name: n + 1 for n, s in enumerate(order)}
    own_policy = {k: v for k, v in source.data.get("defaults", {}).items() if k in ("intensity", "period_ms")}
    supervisor = FALLBACK | own_policy | {
        "name": SUPERVISOR, "image": SUPERVISOR, "priority": SUPERVISOR_PRIORITY, "quota_pages": 0,
        "flags": sum(FLAGS[k] for k in ("endpoint", "log", "trace", "root", "image_access", "control")),
    }
    rows = [supervisor]
    for s in order:
        row = dict(s.value)
        row["name"] = s.name
        row["flags"] = sum(bit for key, bit in FLAGS.items() if s[key])
        row["depends"] = [{"on": on, "kind": kind} for on, kind in s.edges.items()]
        rows.append(row)
    return {
        "programs": [p.rstrip("/").split("/")[-1] for p in source.data.get("system", {}).get("programs", [])],
        "groups": compile_groups(source),
        "services": [{"index": index[r["name"]]} | r for r in rows],
    }


def pad(values, count, fill=0):
    return list(values) + [fill] * (count - len(values))


def pack_service(row, index, group_index):
    depends = [x for d in row["depends"] for x in (index[d["on"]], DEPEND[d["kind"]])]
    ports = [x for p in row["ports"] for x in (p["base"], p["count"])]
    pci = [x for p in row["pci"] for x in (p["vendor"], p["device"], p.get("nth", 0), 0)]
    return SERVICE.pack(
        row["name"].encode(), row["image"].encode(), row["flags"], RESTART[row["restart"]],
        group_index.get(row["group"], NONE), row["intensity"], row["period_ms"], row["backoff_initial_ms"],
        row["backoff_max_ms"], row["stable_ms"], row["backoff_factor_pct"], row["backoff_jitter_pct"],
        row["breaker"], GIVE_UP[row["on_give_up"]], row["watchdog_ms"], row["start_timeout_ms"], row["probation_ms"],
        row["priority"], row["budget_us"], row["budget_period_us"], row["quota_pages"], row["memory_warn_pct"], row["irq_limit"],
        sum(1 << cpu for cpu in set(row["cpus"])), row["session_pages"], len(row["depends"]),
        len(row["calls"]), len(row["sessions"]), len(row["ports"]), len(row["irq"]), len(row["pci"]),
        *pad(depends, 2 * DEPENDS_MAX), *pad([index[c] for c in row["calls"]], DEPENDS_MAX),
        *pad([index[c] for c in row["sessions"]], DEPENDS_MAX), *pad(ports, 2 * PORTS_MAX),
        *pad(row["irq"], IRQS_MAX), *pad(pci, 4 * PCI_MAX), row["args"].encode())


def pack(system):
    index = {r["name"]: r["index"] for r in system["services"]}
    group_index = {g["name"]: n for n, g in enumerate(system["groups"])}
    groups = b"".join(GROUP.pack(g["name"].encode(), STRATEGY[g["strategy"]], g["inside"],
                                 g["intensity"], g["period_ms"]) for g in system["groups"])
    groups = groups.ljust(GROUP.size * GROUPS_MAX, b"\0")
    services = b"".join(pack_service(r, index, group_index) for r in system["services"])
    size = HEADER.size + len(groups) + len(services)
    header = HEADER.pack(MAGIC, VERSION, size, SERVICE.size, len(index), len(group_index))
    return header + groups + services


def compile_file(path, root, total=None):
    """Returns (compiled system or None, error lines)."""
    problems = Problems()
    source, services = read_system(Path(path), Path(root), problems, total)
    order = None
    if not problems.lines:
        check_system(source, services, problems)
    if not problems.lines:
        order = sort_services(services, problems)
    if problems.lines:
        return None, problems.lines
    return compile_system(source, order), []


def main():
    parser = argparse.ArgumentParser(description="compile a system manifest (grammar: docs/MANIFEST.md)")
    parser.add_argument("system", help="system/NAME.toml")
    parser.add_argument("-o", "--output", help="write manifest.bin here")
    parser.add_argument("--list-images", action="store_true", help="print the names of the programs it needs")
    parser.add_argument("--json", action="store_true", help="print the compiled services as JSON")
    parser.add_argument("--services", type=int, metavar="N",
                        help="N services in all, by more or fewer instances of the last that has several")
    parser.add_argument("--root", default=Path(__file__).resolve().parent.parent,
                        help="folder to which `use` is relative (default: the repository)")
    options = parser.parse_args()
    system, errors = compile_file(options.system, options.root, options.services)
    if errors:
        print("\n".join(errors), file=sys.stderr)
        return 2
    if options.list_images:
        print("\n".join(dict.fromkeys([r["image"] for r in system["services"]] + system["programs"])))
    if options.json:
        print(json.dumps(system, indent=2))
    if options.output:
        Path(options.output).write_bytes(pack(system))
    return 0


if __name__ == "__main__":
    sys.exit(main())
