# SPDX-License-Identifier: BSD-2-Clause
"""tools/manifest.py: every mistake is named with its file and line; the output is what abi/manifest.h says."""
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "manifest.py"
spec = importlib.util.spec_from_file_location("manifest", TOOL)
manifest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(manifest)

PROGRAMS = {
    "recovery": "recovery = true\nendpoint = true\nquota_pages = 6000\n",
    "echo": "endpoint = true\n",
    "disk": 'driver = true\nsession = "block"\npci = [{ vendor = 0x1af4, device = 0x1042 }]\n',
    "uart": 'driver = true\nsession = "stream"\nports = [{ base = 0x3f8, count = 8 }]\nirq = [4]\n',
    "striker": "inject = true\n",
    "plain": "",
}
RECOVERY = '[service.recovery]\nuse = "recovery"\n'  # lines 1 and 2 of most systems below


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A small repository; returns run(system text, {folder: changed program manifest})."""
    monkeypatch.chdir(tmp_path)

    def run(system, **programs):
        for name, text in (PROGRAMS | programs).items():
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "manifest.toml").write_text(text)
        Path("s.toml").write_text(system)
        return manifest.compile_file("s.toml", tmp_path)

    return run


def service(name, use, *lines):
    return f'[service.{name}]\nuse = "{use}"\n' + "".join(line + "\n" for line in lines)


# Each: system text, {program: text}, the beginning of an error, a word of what was expected.
S = RECOVERY
MISTAKES = {
    "syntax": (S + "[service.a\n", {}, "s.toml:3: Expected ']'", "TOML"),
    "no service": ("[system]\n", {}, "s.toml:1: `service` is missing", "here"),
    "unknown table": (S + "[servise.a]\n", {}, "s.toml:3: unknown key `servise`", "service"),
    "unknown system key": ("[system]\nkaos = true\n" + S, {}, "s.toml:2: unknown key `kaos`", "chaos"),
    "unknown default": ("[defaults]\n\nimage = 'x'\n" + S, {}, "s.toml:3: unknown key `image`", "restart"),
    "unknown service key": (S + service("a", "plain", "# c", "prioriti = 3"), {}, "s.toml:6: unknown key `prioriti`", "priority"),
    "unknown program key": (S + service("a", "plain"), {"plain": "\nlog = true\nlogs = true\n"}, "plain/manifest.toml:3: unknown key `logs`", "log"),
    "not a table": ("service.a = 3\n" + S, {}, "s.toml:1: `a` is 3", "[service.a]"),
    "use missing": (S + "[service.a]\nlog = true\n", {}, "s.toml:3: `use` is missing", "use"),
    "use of nothing": (S + service("a", "nowhere"), {}, "s.toml:4: `nowhere` has no manifest.toml", "folder"),
    "use outside": (S + service("a", "../plain"), {}, 's.toml:4: `use` is "../plain"', "repository"),
    "wrong type": (S + service("a", "plain", 'priority = "high"'), {}, 's.toml:5: `priority` is "high"', "1 to 29"),
    "bool is no integer": (S + service("a", "plain", "intensity = true"), {}, "s.toml:5: `intensity` is true", "0 to 100"),
    "integer is no bool": (S + service("a", "plain", "optional = 1"), {}, "s.toml:5: `optional` is 1", "true or false"),
    "priority range": (S + service("a", "plain", "priority = 30"), {}, "s.toml:5: `priority` is 30", "1 to 29"),
    "quota range": (S + service("a", "plain"), {"plain": "quota_pages = 3\n"}, "plain/manifest.toml:1: `quota_pages` is 3", "16 to"),
    "intensity range": (S + service("a", "plain", "intensity = 101"), {}, "s.toml:5: `intensity` is 101", "0 to 100"),
    "period range": (S + service("a", "plain", "period_ms = 0"), {}, "s.toml:5: `period_ms` is 0", "1 to"),
    "default range": ("[defaults]\nwatchdog_ms = -1\n" + S, {}, "s.toml:2: `watchdog_ms` is -1", "0 to"),
    "restart kind": (S + service("a", "plain", 'restart = "always"'), {}, 's.toml:5: `restart` is "always"', "permanent"),
    "strategy": ('[group.g]\nstrategy = "all"\n' + S, {}, 's.toml:2: `strategy` is "all"', "rest_for_one"),
    "strategy missing": ("[group.g]\n" + S, {}, "s.toml:1: `strategy` is missing", "strategy"),
    "dma word": (S + service("a", "disk", 'dma = "yes"'), {}, 's.toml:5: `dma` is "yes"', "unprotected"),
    "session class": (S + service("a", "uart"), {"uart": 'session = "tape"\n'}, 'uart/manifest.toml:1: `session` is "tape"', "block"),
    "service name": (S + service("Disk-1", "plain"), {}, "s.toml:3: bad service name `Disk-1`", "a-z"),
    "name taken": (S + service("supervisor", "plain"), {}, "s.toml:3: bad service name `supervisor`", "other than"),
    "long name": (S + service("a" * 24, "plain"), {}, "s.toml:3: bad service name", "23"),
    "duplicate": (S + service("a", "plain") + service("a", "echo"), {}, "s.toml:5: Cannot declare ('service', 'a') twice", "TOML"),
    "long args": (S + service("a", "plain", f'args = "{"x" * 128}"'), {}, "s.toml:5: `args` is", "127"),
    "too many calls": (S + service("a", "plain", "calls = [" + "'echo'," * 9 + "]"), {}, "s.toml:5: `calls` is", "at most 8"),
    "spare of recovery": (RECOVERY + "spare = 1\n", {}, "s.toml:3: `recovery` has a spare", "none"),
    "spares": (S + service("a", "plain", "spare = 2"), {}, "s.toml:5: `spare` is 2", "0 to 1"),
    "unknown call": (S + service("a", "plain", "calls = [", "  # who?", "  'echo',", "]"), {}, "s.toml:7: service `a`: unknown service `echo`", "recovery"),
    "unknown call in program": (S + service("a", "plain"), {"plain": "\ncalls = ['b']\n"}, "plain/manifest.toml:2: service `a`: unknown service `b`", "one of"),
    "call without endpoint": (S + service("a", "plain", "calls = ['b']") + service("b", "plain"), {}, "s.toml:5: `a` calls `b`, which has no endpoint", "endpoint = true"),
    "call to recovery": (S + service("a", "plain", "calls = ['recovery']"), {}, "s.toml:5: `calls` names recovery", "everybody"),
    "call twice": (S + service("a", "plain", "calls = ['b', 'b']") + service("b", "echo"), {}, "s.toml:5: `b` twice in `calls`", "once"),
    "unknown session": (S + service("a", "plain", "sessions = ['b']"), {}, "s.toml:5: service `a`: unknown service `b`", "one of"),
    "session with none": (S + service("a", "plain", "sessions = ['b']") + service("b", "echo"), {}, "s.toml:5: `a` opens sessions with `b`, which serves none", "session"),
    "unknown dependency": (S + service("a", "plain", "depends = [", "  { on = 'recovery', kind = 'restart-with' },", "  { on = 'b', kind = 'restart-with' },", "]"), {}, "s.toml:7: unknown service `b` in `depends`", "recovery"),
    "dependency kind": (S + service("a", "plain", "depends = [{ on = 'recovery', kind = 'with' }]"), {}, 's.toml:5: `kind` is "with"', "hold-and-replay"),
    "dependency key": (S + service("a", "plain", "depends = [{ on = 'recovery' }]"), {}, "s.toml:5: `kind` is missing", "kind"),
    "dependency is text": (S + service("a", "plain", "depends = ['recovery']"), {}, 's.toml:5: bad element "recovery"', "{ on"),
    "dependency twice": (S + service("a", "plain", "depends = [{on='recovery',kind='restart-with'},{on='recovery',kind='hold-and-replay'}]"), {}, "s.toml:5: `a` depends on `recovery` twice", "one kind"),
    "cycle": (S + service("a", "plain", "depends = [{on='b',kind='restart-with'}]") + service("b", "plain", "depends = [{on='c',kind='hold-and-replay'}]") + service("c", "plain", "depends = [{on='a',kind='restart-with'}]"), {}, "s.toml:5: dependency cycle a -> b -> c -> a", "order"),
    "cycle of one": (S + service("a", "plain", "depends = [{on='a',kind='restart-with'}]"), {}, "s.toml:5: dependency cycle a -> a", "order"),
    "cycle through a group": ("[group.g]\nstrategy='rest_for_one'\n" + S + service("a", "plain", "group='g'", "depends=[{on='b',kind='restart-with'}]") + service("b", "plain", "group='g'"), {}, "s.toml:8: dependency cycle a -> b -> a", "order"),
    "group in an unknown one": ("[group.g]\nstrategy='one_for_all'\ninside='h'\n" + S, {}, "s.toml:3: unknown group `h`", "not inside"),
    "groups in each other": ("[group.g]\nstrategy='one_for_all'\ninside='h'\n[group.h]\nstrategy='one_for_one'\ninside='g'\n" + S, {}, "s.toml:3: groups inside themselves: g -> h -> g", "not inside"),
    "unknown group": (S + service("a", "plain", "group = 'g'"), {}, "s.toml:5: unknown group `g`", "none yet"),
    "same ports": (S + service("a", "uart") + service("b", "plain"), {"plain": "\nports = [{ base = 0x3ff, count = 1 }]\n"}, "plain/manifest.toml:2: `b` and `a` both claim ports 0x3ff to 0x3ff", "one service"),
    "same irq": (S + service("a", "uart") + service("b", "plain"), {"plain": "irq = [9,\n4]\n"}, "plain/manifest.toml:2: `b` and `a` both claim irq 4", "one service"),
    "same pci": (S + service("a", "disk", "dma = 'unprotected'") + service("b", "disk", "dma = 'unprotected'"), {}, "disk/manifest.toml:3: `b` and `a` both claim pci 1af4:1042 nth 0", "one service"),
    "same pci nth": (S + service("a", "disk", "dma = 'unprotected'") + service("b", "disk", "dma = 'unprotected'", "pci = [{ vendor = 0x1af4, device = 0x1042, nth = 0 }]"), {}, "s.toml:9: `b` and `a` both claim pci", "one service"),
    "ports beyond": (S + service("a", "plain"), {"plain": "ports = [{ base = 0xffff, count = 2 }]\n"}, "plain/manifest.toml:1: ports beyond 0xffff", "0x10000"),
    "port range": (S + service("a", "plain"), {"plain": "ports = [{ base = 0x10000, count = 2 }]\n"}, "plain/manifest.toml:1: `base` is 65536", "65535"),
    "dma without pci": (S + service("a", "plain", "dma = 'unprotected'"), {}, "s.toml:5: `a` says dma and drives no PCI function", "no dma"),
    "inject": (S + service("a", "striker"), {}, "s.toml:3: `a` holds the inject capability", "chaos = true"),
    "backoff": (S + service("a", "plain", "backoff_initial_ms = 5"), {}, "s.toml:3: `a`: backoff_max_ms is 0", "at least"),
    "no such CPU": (S + service("a", "plain", "cpus = [8]"), {}, "s.toml:5: bad element 8 of `cpus`", "0 to 7"),
    "factor range": (S + service("a", "plain", "backoff_factor_pct = 99"), {}, "s.toml:5: `backoff_factor_pct` is 99", "100 to 1000"),
    "jitter range": (S + service("a", "plain", "backoff_jitter_pct = 101"), {}, "s.toml:5: `backoff_jitter_pct` is 101", "0 to 100"),
    "breaker of one": (S + service("a", "plain", "breaker = 1"), {}, "s.toml:5: `a`: breaker is 1", "2 or more"),
    "end of the ladder": (S + service("a", "plain", "on_give_up = 'panic'"), {}, 's.toml:5: `on_give_up` is "panic"', "reboot"),
    "escalates to nobody": (S + service("a", "plain", "on_give_up = 'escalate'"), {}, "s.toml:5: `a` escalates and restarts with nobody", "restart-with"),
    "impatient start": ("[service.recovery]\nuse = 'recovery'\nwatchdog_ms = 500\n" + service("a", "uart", "start_timeout_ms = 500"), {}, "s.toml:6: `a`: start_timeout_ms is 500", "more than recovery's watchdog_ms, 500"),
    "budget": (S + service("a", "plain", "budget_us = 5"), {}, "s.toml:5: `a`: budget_us is 5 of 0", "budget_period_us"),
    "no recovery": (service("a", "plain"), {}, "s.toml:1: no recovery service", "exactly one"),
    "two recoveries": (S + service("a", "recovery"), {}, "s.toml:3: `a` is a recovery service", "exactly one"),
    "no instance": (S + service("a", "plain", "instances = 0"), {}, "s.toml:5: `instances` is 0", "1 to 2047"),
    "too many instances": (S + service("a", "plain", "instances = 2047"), {}, "s.toml:1: 2048 services", "at most 2047"),
    "long name of an instance": (S + service("a" * 21, "plain", "instances = 11"), {}, "s.toml:5: the name `aaaaaaaaaaaaaaaaaaaaa.10` is too long", "23"),
    "instances of hardware": (S + service("a", "uart", "instances = 2"), {}, "s.toml:5: several instances of `a`, which has `ports`", "one service for each"),
    "instances of recovery": ("[service.recovery]\nuse = 'recovery'\ninstances = 2\n", {}, "s.toml:3: several instances of `recovery`, which has `recovery`", "one recovery"),
    "all instances at once": (S + service("a", "echo", "instances = 20") + service("b", "plain", "calls = ['a']"), {}, "s.toml:8: service `b`: unknown service `a` in `calls`", "one of recovery, a.0 to a.19, b"),
    "no such instance": (S + service("a", "echo", "instances = 20") + service("b", "plain", "depends = [{on='a.20',kind='restart-with'}]"), {}, "s.toml:8: unknown service `a.20` in `depends`", "a.0 to a.19"),
    "dot in a name": (S + '[service."a.1"]\nuse = "plain"\n', {}, "s.toml:", "a-z"),
    "session pages": (S + service("u", "uart") + service("a", "plain", "sessions = ['u']", "session_pages = 7"), {}, "s.toml:8: `session_pages` is 7", "8 to"),
    "more session pages than recovery has": (S + service("u", "uart") + service("a", "plain", "sessions = ['u']") + service("b", "plain", "sessions = ['u']", "# much", "session_pages = 5555"), {}, "s.toml:12: `session_pages` of 2 services with sessions are 5811", "5810 in all: recovery's quota_pages, 6000, without 190"),
    "session pages of many": (S + service("u", "uart") + service("a", "plain", "instances = 23"), {"plain": "sessions = ['u']\n"}, "s.toml:5: `session_pages` of 23 services", "in all"),
    "program syntax": (S + service("a", "plain"), {"plain": "log = true\nx ==\n"}, "plain/manifest.toml:2: ", "TOML"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistake_is_named_with_file_and_line(house, what):
    text, programs, begins, expected = MISTAKES[what]
    system, errors = house(text, **programs)
    assert system is None
    assert any(e.startswith(begins) and expected in e.split("; expected ")[1] for e in errors), "\n".join(errors)


def test_all_mistakes_at_once(house):
    _, errors = house(S + service("a", "plain", "priority = 99", "optional = 3", "colour = 'red'"))
    assert [e.split(":")[1] for e in errors] == ["5", "6", "7"]


def test_dependencies_come_first_and_otherwise_file_order(house):
    text = (service("z", "plain", "depends = [{on='y',kind='hold-and-replay'}]") + service("b", "plain") +
            service("y", "uart") + S)
    system, errors = house(text)
    assert not errors
    assert [s["name"] for s in system["services"]] == ["supervisor", "b", "recovery", "y", "z"]


def test_session_memory_is_a_dependency_without_saying_so(house):
    text = service("z", "plain", "sessions = ['y']") + service("y", "uart") + service("p", "plain") + S
    system, _ = house(text)
    rows = {s["name"]: s["depends"] for s in system["services"]}
    on_recovery = [{"on": "recovery", "kind": "restart-with"}]
    assert rows["z"] == on_recovery and rows["y"] == on_recovery and rows["p"] == []


def test_written_dependency_on_recovery_is_kept(house):
    text = S + service("y", "uart", "depends = [{on='recovery',kind='hold-and-replay'}]")
    system, _ = house(text)
    assert system["services"][2]["depends"] == [{"on": "recovery", "kind": "hold-and-replay"}]


def test_rest_for_one_members_start_in_file_order(house):
    text = ("[group.g]\nstrategy = 'rest_for_one'\n" + S +
            service("late", "plain", "group = 'g'", "depends = [{on='x',kind='hold-and-replay'}]") +
            service("later", "plain", "group = 'g'") + service("x", "plain"))
    system, _ = house(text)
    assert [s["name"] for s in system["services"]] == ["supervisor", "recovery", "x", "late", "later"]


def test_system_overrides_program_overrides_default(house):
    text = "[defaults]\nintensity = 9\n" + S + service("a", "plain", "priority = 7", "intensity = 2") + service("b", "plain")
    system, _ = house(text, plain="priority = 5\nquota_pages = 77\n")
    a, b = system["services"][2:]
    assert (a["priority"], a["intensity"], a["quota_pages"]) == (7, 2, 77)
    assert (b["priority"], b["intensity"], b["quota_pages"]) == (5, 9, 77)


def test_instances_are_the_same_but_for_the_name(house):
    text = (S + service("a", "echo", "instances = 3", "quota_pages = 20", "depends = [{on='b',kind='restart-with'}]") +
            service("b", "echo") + service("c", "plain", "calls = ['a.2']"))
    system, errors = house(text)
    assert not errors
    rows = {r["name"]: r for r in system["services"]}
    assert list(rows) == ["supervisor", "recovery", "b", "a.0", "a.1", "a.2", "c"]
    for n in range(3):
        row = rows[f"a.{n}"]
        assert (row["image"], row["quota_pages"], row["depends"]) == ("echo", 20, [{"on": "b", "kind": "restart-with"}])
    assert rows["c"]["calls"] == ["a.2"]
    assert len(manifest.pack(system)) == manifest.HEADER.size + 16 * manifest.GROUP.size + 7 * manifest.SERVICE.size


def test_a_mistake_of_instances_is_said_once(house):
    _, errors = house(S + service("a", "plain", "instances = 50", "calls = ['nobody']"))
    assert len(errors) == 1 and errors[0].startswith("s.toml:6: service `a.0`: unknown service `nobody`")


def test_a_group_comes_after_the_one_around_it(house):
    system, errors = house("[defaults]\nintensity = 7\n[group.a]\nstrategy='one_for_one'\ninside='b'\n"
                           "[group.b]\nstrategy='one_for_all'\n[group.c]\nstrategy='one_for_one'\nperiod_ms = 50\n" + S +
                           service("x", "plain", "group='a'", "on_give_up='escalate'"))
    assert not errors
    assert [(g["name"], g["inside"], g["intensity"], g["period_ms"]) for g in system["groups"]] == \
        [("b", 0, 7, 10000), ("c", 0, 7, 50), ("a", 1, 0, 0)], "one with groups inside counts, and one that says so"


def test_a_nested_group_starts_where_its_first_service_stands(house):
    tree = "[group.g]\nstrategy='rest_for_one'\n[group.h]\nstrategy='one_for_one'\ninside='g'\n" + S
    system, errors = house(tree + service("x", "plain", "group='h'") + service("y", "plain", "group='g'") +
                           service("z", "plain", "group='h'"))
    assert not errors
    assert [r["name"] for r in system["services"]][-3:] == ["x", "z", "y"], "y comes after all of h"
    _, errors = house(tree + service("x", "plain", "group='h'") + service("y", "plain", "group='g'") +
                      service("z", "plain", "group='h'", "depends=[{on='y',kind='hold-and-replay'}]"))
    assert len(errors) == 1 and "dependency cycle" in errors[0] and errors[0].startswith("s.toml:")


def test_instances_in_a_group_start_in_order(house):
    system, errors = house("[group.g]\nstrategy='rest_for_one'\n" + S + service("z", "plain", "instances = 12", "group='g'"))
    assert not errors
    assert [r["name"] for r in system["services"]][2:] == [f"z.{n}" for n in range(12)]


def test_total_number_of_services(house, tmp_path):
    house(S + service("a", "plain", "instances = 2") + service("b", "plain", "instances = 5"))
    for total in (4, 8, 1024):
        system, errors = manifest.compile_file("s.toml", tmp_path, total)
        names = [r["name"] for r in system["services"]]
        assert not errors and len(names) == total + 1 and names[-1] == f"b.{total - 4}"
    assert "`instances` is 0" in manifest.compile_file("s.toml", tmp_path, 3)[1][0]
    house(S)
    assert "s.toml:1: not to be made 9 services" in manifest.compile_file("s.toml", tmp_path, 9)[1][0]


def test_chaos_may_inject(house):
    system, errors = house("[system]\nchaos = true\n" + S + service("a", "striker"))
    assert not errors and system["services"][2]["flags"] & manifest.FLAGS["inject"]


# --- The compiled form, as the C compiler sees it ------------------------------------------------------
READER = r"""
#include <stdio.h>
#include <stdlib.h>
#include "abi/manifest.h"
#include "abi/status.h"
#include "supervisor/core.h"

int main(int argc, char **argv)
{
    static _Alignas(8) unsigned char bytes[1 << 20];
    FILE *f = fopen(argv[argc - 1], "rb");
    size_t n = fread(bytes, 1, sizeof(bytes), f);
    const struct manifest *m = (const struct manifest *)bytes;
    uint32_t where;
    const char *wrong = manifest_check(bytes, n, &where);
    if (wrong) return printf("service %d: %s\n", (int)where, wrong), 1;
    for (int g = 0; g < m->group_count; g++) printf("group %s %u %u %u %u\n", m->group[g].name,
        m->group[g].strategy, m->group[g].inside, m->group[g].intensity, m->group[g].period_ms);
    for (int i = 0; i < m->service_count; i++) {
        const struct manifest_service *s = &m->service[i];
        printf("%s|%s|%u|%u|%u|%u|%u|%u|%u|%u|%u|%u|%u|%u|%u|%u|%u|%u|%u|%u|%u|%u|%u|%x|%u|%s", s->name, s->image, s->flags, s->restart, s->group,
               s->intensity, s->period_ms, s->backoff_initial_ms, s->backoff_max_ms, s->stable_ms,
               s->backoff_factor_pct, s->backoff_jitter_pct, s->breaker, s->on_give_up, s->watchdog_ms,
               s->start_timeout_ms, s->probation_ms, s->priority, s->budget_us, s->budget_period_us, s->quota_pages,
               s->memory_warn_pct, s->irq_limit, s->cpus, s->session_pages, s->args);
        for (int d = 0; d < s->depend_count; d++) printf("|d%u.%u", s->depend[d].service, s->depend[d].kind);
        for (int d = 0; d < s->call_count; d++) printf("|c%u", s->call[d]);
        for (int d = 0; d < s->session_count; d++) printf("|s%u", s->session[d]);
        for (int d = 0; d < s->port_count; d++) printf("|p%x.%u", s->port[d].base, s->port[d].count);
        for (int d = 0; d < s->irq_count; d++) printf("|i%u", s->irq[d]);
        for (int d = 0; d < s->pci_count; d++)
            printf("|x%x.%x.%u", s->pci[d].vendor, s->pci[d].device, s->pci[d].nth);
        printf("\n");
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader")
    (folder / "reader.c").write_text(READER)
    subprocess.run(["gcc", "-std=gnu11", "-Wall", "-Werror", f"-I{ROOT}", "-o", folder / "reader", folder / "reader.c",
                    ROOT / "supervisor" / "core_manifest.c"], check=True)
    return folder / "reader"


def test_every_field_arrives_where_c_reads_it(house, reader):
    text = ("[system]\nchaos = true\n[group.h]\nstrategy = 'rest_for_one'\ninside = 'g'\nintensity = 5\nperiod_ms = 6\n"
            "[group.g]\nstrategy = 'one_for_all'\nintensity = 7\nperiod_ms = 8\n" + S + service("echo", "echo") + service("uart", "uart") +
            service("all", "all", "group = 'h'", "restart = 'temporary'", "intensity = 11", "period_ms = 12",
                    "backoff_initial_ms = 13", "backoff_max_ms = 14", "stable_ms = 61", "backoff_factor_pct = 162",
                    "backoff_jitter_pct = 63", "breaker = 64", "on_give_up = 'reboot'", "watchdog_ms = 15", "start_timeout_ms = 16", "probation_ms = 18", "memory_warn_pct = 17",
                    "budget_us = 57", "budget_period_us = 58", "cpus = [1, 4, 1]", "args = 'a=1 b=2'", "dma = 'unprotected'",
                    "optional = true", "depends = [{on='uart',kind='hold-and-replay'},{on='echo',kind='restart-with'}]"))
    program = ("image = 'prog'\ndriver = true\nlog = true\ntrace = true\ninject = true\nroot = true\n"
               "image_access = true\ncontrol = true\nendpoint = true\nquota_pages = 4711\npriority = 19\n"
               "calls = ['echo']\nsessions = ['uart']\nsession_pages = 21\nports = [{base=0x60,count=1},{base=0x64,count=2}]\n"
               "irq = [1, 12]\nirq_limit = 20\npci = [{vendor=0x8086,device=0x10d3},{vendor=1,device=2,nth=3}]\n")
    system, errors = house(text, all=program)
    assert not errors
    Path("m.bin").write_bytes(manifest.pack(system))
    lines = subprocess.run([reader, "m.bin"], check=True, capture_output=True, text=True).stdout.splitlines()
    assert lines[:2] == ["group g 2 0 7 8", "group h 1 1 5 6"]
    assert lines[2].startswith("supervisor|supervisor|")
    assert lines[6] == ("all|prog|1023|2|1|11|12|13|14|61|162|63|64|1|15|16|18|19|57|58|4711|17|20|12|21|a=1 b=2|d3.0|d2.1|d1.1|c2|s3"
                        "|p60.1|p64.2|i1|i12|x8086.10d3.0|x1.2.3")


@pytest.mark.parametrize("path", sorted(ROOT.glob("system/*.toml")), ids=lambda p: p.stem)
def test_our_systems_compile_and_pass_the_supervisors_check(path, reader, tmp_path):
    out = tmp_path / "manifest.bin"
    run = subprocess.run([sys.executable, TOOL, path, "-o", out, "--json"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    subprocess.run([reader, out], check=True)
    chaos = any(s["flags"] & manifest.FLAGS["inject"] for s in json.loads(run.stdout)["services"])
    assert chaos == (path.stem not in ("default", "ladder", "scale", "update")), "only systems under test hold the inject capability"


def test_scale_is_what_bench_scale_says():
    system, errors = manifest.compile_file(ROOT / "system" / "scale.toml", ROOT)
    assert not errors and len(system["services"]) - 1 == 1024


def test_command_line(house, tmp_path):
    house(S + service("a", "plain", "priority = 99"))
    run = subprocess.run([sys.executable, TOOL, "s.toml", "--root", tmp_path, "-o", "m.bin"], capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("s.toml:5: ") and not Path("m.bin").exists()
    house(S + service("a", "plain") + service("b", "plain"))
    run = subprocess.run([sys.executable, TOOL, "s.toml", "--root", tmp_path, "--list-images"], capture_output=True, text=True)
    assert run.stdout.split() == ["supervisor", "recovery", "plain"]


def test_numbers_agree_with_the_headers():
    """Constants kept here and in C are the same."""
    text = (ROOT / "abi" / "manifest.h").read_text() + (ROOT / "supervisor" / "core.h").read_text()
    for name, value in (("MANIFEST_NAME_MAX", manifest.NAME_MAX), ("MANIFEST_SERVICES", manifest.SERVICES_MAX),
                        ("MANIFEST_DEPENDS", manifest.DEPENDS_MAX), ("MANIFEST_PORTS", manifest.PORTS_MAX),
                        ("MANIFEST_IRQS", manifest.IRQS_MAX), ("MANIFEST_PCI", manifest.PCI_MAX),
                        ("SUPERVISOR_INTENSITY_MAX", manifest.INTENSITY_MAX)):
        line = next(l for l in text.splitlines() if l.startswith(f"#define {name} "))
        assert int(line.split()[2].rstrip("u"), 0) == value, name
