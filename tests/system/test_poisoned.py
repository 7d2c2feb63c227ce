# SPDX-License-Identifier: BSD-2-Clause
"""A request that ends its server each time, whoever takes it: the instruction at which the handler of exactly this request
begins is made an invalid one in the running machine. It alone is refused after five falls, the first rung of the ladder;
recovery and supervisor go on, and so does everybody else."""
import contextlib
import time

import pytest

from conftest import BUILD  # puts the root on the path
from faultinject import gdbstub, witness
from faultinject.campaign import Ledger
from faultinject.channel import LogReader, Orders
from faultinject.typist import Typist
from tools import abi, qemu

SECONDS = 60
FALLS = 5
SUPERVISOR_LIST, SUPERVISOR_CENSUS, RECOVERY_STATUS = 2, 10, 7  # abi/protocol.def
POISONED, OK = (next(n for n, name in abi.names("errors").items() if name == wanted) for wanted in ("E_POISONED", "OK"))
WORDS = {"supervisor": "supervisor: started again after its end", "recovery": "recovery: goes on with"}


class Machine:
    """The appliance under load. lines: what the log says that is not for the harness."""

    def __init__(self, folder):
        self.lines, self.ledger = [], Ledger()
        self.guest = qemu.start(qemu.Machine(image=BUILD / "image/chaos", run=folder, disk=qemu.data_disk(folder / "data.img")))
        self.log = LogReader(self.guest.log, self.ledger.take, lambda _, line: self.lines.append(line))
        self.log.wait("injector", SECONDS, lambda value: "ready" in value)
        self.orders = Orders(self.guest.channel)
        self.kernel = witness.Kernel(self.guest, BUILD / "kernel/kernel.elf", folder)
        self.port = gdbstub.port_of(self.guest)
        self.typist = Typist(self.guest.console, seed=1)
        self.orders.send({"op": "start", "seed": 1})
        self.log.wait("workload", SECONDS, lambda value: "start" in value)

    def call(self, service, label, **words):
        self.orders.send({"op": "call", "service": service, "label": label, "replayable": 1, **words})
        return self.log.wait("call", SECONDS)["status"]

    def rows(self):
        """{service: (generation, state)}"""
        self.orders.send({"op": "hello"})
        found = {}
        while "injector" not in (event := self.log.next(SECONDS)):
            if "service" in event:
                found[event["service"]["name"]] = (event["service"]["generation"], event["service"]["state"])
        return found

    def await_writes(self):
        """The load goes on."""
        begun, deadline = self.ledger.acks.count, time.monotonic() + SECONDS
        while self.ledger.acks.count == begun:
            assert time.monotonic() < deadline, "nothing is acknowledged any more"
            self.rows()

    def said(self, text):
        return sum(text in line for line in self.lines)

    def paddr(self, service, address):
        """Where a process's page is. One that is kept stays the same when it falls."""
        with self.kernel.stopped():
            process = next(p for p in witness.processes(self.kernel) if witness.tag_of(p) & 0xFFF == service)
            pages = dict(witness.leaves(self.kernel, process["space.root"]))
        return (pages[address & -witness.PAGE] & witness.FRAME) + address % witness.PAGE

    def change(self, at, code):
        with gdbstub.Stub(self.port) as stub:
            stub.physical()
            was = stub.read(at, len(code))
            stub.write(at, code)
        return was

    @contextlib.contextmanager
    def deadly(self, index, program, handler):
        """Whoever comes to this handler dies there."""
        at = self.paddr(index, gdbstub.inlined(BUILD / "user" / f"{program}.elf", handler))
        was = self.change(at, gdbstub.INVALID)
        yield
        assert self.change(at, was) == gdbstub.INVALID


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    m = Machine(tmp_path_factory.mktemp("poisoned"))
    yield m
    m.typist.end()
    m.guest.stop()
    m.log.join(5)


@pytest.mark.parametrize("service, handler, label", [("recovery", "handle_status", RECOVERY_STATUS),
                                                     ("supervisor", "on_census", SUPERVISOR_CENSUS)])
def test_a_request_that_ends_its_server_each_time_is_refused_alone(loaded, service, handler, label):
    before = loaded.rows()
    echo = list(before).index("echo")
    assert loaded.call(service, label, w0=echo) == OK
    with loaded.deadly(list(before).index(service), service, handler):
        for n in (1, 2):  # asked for anew it is tried again
            assert loaded.call(service, label, w0=echo) == POISONED
            assert loaded.said(WORDS[service]) == n * FALLS, loaded.lines
            assert loaded.said(f"{service}: request {label} of service ") == n, loaded.lines
            assert loaded.call("supervisor", SUPERVISOR_LIST) == OK
        after = loaded.rows()
    assert {name for name in before if before[name] != after[name]} <= {service}, (before, after)
    assert loaded.call(service, label, w0=echo) == OK
    loaded.await_writes()
    assert not loaded.ledger.counts, "the workload misses something"
