# SPDX-License-Identifier: BSD-2-Clause
"""One campaign: boots the system, feeds the trials, follows the trace, stops, and checks the disk.

Owns a run folder (build/chaos/STAMP-seedS) and one QEMU. Whatever happens, QEMU is ended and what is known
is written: plan.jsonl, run.json, trials.jsonl, summary.json, kernel.log, trace.bin, data.img."""
import collections
import dataclasses
import datetime
import hashlib
import itertools
import json
import os
import pathlib
import resource
import time

from faultinject import aims, boots, death, faults, judge, phases, plan as plans, summary, trace, verify
from faultinject.channel import GuestGone, LogReader, Orders, split_writer
from faultinject.reports.run import write
from faultinject.typist import Typist
from tools import abi, manifest, qemu

ROOT = pathlib.Path(__file__).resolve().parent.parent

HELLO_SECONDS = 15
TRIAL_SECONDS = 20     # the injector's own limits end long before
DEBUG_SECONDS = 86400
STOP_SECONDS = 60
HASH_SECONDS = 600     # for the rest of a user's disk after the last trial
TYPED = {"serial", "all"}
ECHO_ECHO, ECHO_CALLS_A_CHECKPOINT = 1, 64  # abi/protocol.def, drivers/echo/main.c
EARLY = 20  # trials of a boot in which QEMU still translates what it comes to for the first time
WRITE_LOG = "writes.log"
SPOILING, SPOILT_DISK_BYTES = ("memory", "mutation"), 8 << 20
REPORT = dict.fromkeys(("struck", "second", "died", "settled", "rescued", "cleaned", "stuck", "wrong", "answered", "poked", "in_flight", "site",
                        "generation", "generation_after", "state_after"), 0) | {"error": ""}  # what the injector leaves out
COUNTED = ("mismatch", "duplicate", "io_error")


@dataclasses.dataclass
class Options:
    seed: int
    plan: list
    driver: str = "mix"
    fault: str = "mix"
    enumerate: int = 0                 # strike at every so many instructions of one request, until it passes; 0: as the plan says
    image: pathlib.Path = pathlib.Path("build/image/chaos")
    out: pathlib.Path = pathlib.Path("build/chaos")
    disk: pathlib.Path | None = None
    smp: int = 1
    mem: str = "256M"
    accel: str = "tcg"
    iommu: bool = True
    qemu_extra: str = ""
    extra: tuple = ()                  # words for QEMU that a fault needs
    slot: bool = False                 # the data disk is in a slot, where it may be unplugged
    write_log: bool = False            # the data disk keeps a log of what it is given: WRITE_LOG in the run folder
    verbose: bool = False
    boot: pathlib.Path | None = None   # folder of a saved boot to go on from (boots.py)
    name: pathlib.Path | None = None   # where the trials will be found, if not in the run folder itself
    patience: float = 1                # with a guest that does not answer; a replay has less
    before_last: object = None         # called with the guest before the last trial, which then has all the time

    def data_disk(self, folder):
        """Small where everything on it is read back at the end of many a trial: there, as there are more trials a second, what was
        written in one is still on it when that happens."""
        small = faults.family_of(self.fault) in SPOILING
        return qemu.data_disk(folder / "data.img", SPOILT_DISK_BYTES if small else qemu.DATA_DISK_BYTES)

    def machine(self, run, disk):
        return qemu.Machine(image=self.image, run=run, disk=disk, user_disk=self.disk, smp=self.smp, mem=self.mem,
                            accel=self.accel, iommu=self.iommu, verbose=self.verbose, log="file", slot=self.slot,
                            write_log=run / WRITE_LOG if self.write_log else None,
                            extra=qemu.split_extra(self.qemu_extra) + list(self.extra))

    def image_sha256(self):
        return hashlib.sha256((self.image / "system.img").read_bytes()).hexdigest()


def replay_line(folder, n):
    """The command that runs one trial of a run folder again."""
    return f"faultinject/fi replay {folder}:{n}"


def make_folder(out, started, seed):
    """A new run folder in out, to which out/latest then points."""
    stamp = started.strftime("%Y%m%dT%H%M%SZ")
    for more in itertools.count():
        folder = out / (f"{stamp}-seed{seed}" + (f".{more}" if more else ""))
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        latest = out / "latest.new"
        latest.unlink(missing_ok=True)
        latest.symlink_to(folder.name)
        os.replace(latest, out / "latest")
        return folder


class Ledger:
    """What the log said, put down to the trial during which it said so. Called on the reader's thread."""

    def __init__(self):
        self.acks = verify.Acks()
        self.trial = 0  # 0: before the first
        self.damaged = {}  # place -> (the record that should be there, trial during which it was found not to be)
        self.following = {}  # of trials that the guest begins by itself
        self.counts = collections.defaultdict(collections.Counter)  # trial -> kind -> count
        self.workload = None
        self.diskhash = None
        self.writer = None  # the service that said first that it is the workload: nobody else speaks for it

    def take(self, event):
        if "start" in event.get("workload", {}) and self.writer is None:
            self.writer = event.get("writer")
        if event.keys() & {"ack", "workload", *COUNTED} and event.get("writer") != self.writer:
            self.counts[self.trial]["forged"] += 1
            return
        if "trial" in event:
            self.trial = self.following.get(event["trial"]["n"], self.trial)
        if "ack" in event:
            self.acks.add(event["ack"], self.trial)
        for kind in COUNTED:
            if kind in event:
                self.counts[self.trial][kind] += 1
        if "mismatch" in event:
            self.damaged[event["mismatch"]["place"]] = event["mismatch"]["seq"], self.trial
        if "workload" in event:
            value = event["workload"]
            if "start" in value:
                self.acks.start(value["places"], value["stride"], value["seed"])
            if "final" in value:
                self.workload = value
        if event.get("diskhash", {}).get("final") or "error" in event.get("diskhash", {}):
            self.diskhash = event["diskhash"]

    def blame(self, findings):
        """What the image shows and the workload had found before is put down to the trial in which it did: everything is read
        back at the end of a trial that could spoil records. Found in no trial (0), it stays with the one that acknowledged it."""
        def found_in(f):
            seq, trial = self.damaged.get(f.place, (None, 0))
            return trial if seq == f.seq and trial else f.trial
        return [dataclasses.replace(f, trial=found_in(f)) for f in findings]


def restarts_with(image):
    """From the manifest that the image was made of, if it is one of ours: {index: names of services}."""
    source = ROOT / "system" / f"{image.name}.toml"
    system, problems = manifest.compile_file(source, ROOT) if source.is_file() else ({"services": []}, [])
    return {} if problems else {
        s["index"]: [d["on"] for d in s["depends"] if d["kind"] == "restart-with"] for s in system["services"]}


class Campaign:
    def __init__(self, options, report):
        self.o, self.report = options, report
        self.ledger = Ledger()
        self.reports, self.typing, self.aims, self.done = {}, {}, {}, []
        self.entries, self.lost_at = [], []
        self.services, self.tsc_hz = {}, 1
        self.rest_before = self.rest_after = None
        self.trouble = self.panic = None
        self.complete = self.verified = False
        self.places_checked = 0
        self.disk = self.lock = None
        self.guest = self.log = self.ring = self.typist = None
        self.outside = collections.Counter()
        self.machine = self.running = None
        self.untouched_at = None
        self.hashing = set()   # trials to whose end the user's disk was being read
        self.ending = None     # the exception that ended the campaign early
        self.findings = []
        self.sent = set()      # trials whose orders the guest has
        self.shown, self.window_start = set(), 0  # trials already reported; entries of older ones

    # --- life ---------------------------------------------------------------------------------------------
    def run(self):
        """Returns the summary. Whatever ended the campaign early (Ctrl-C, a full disk, a mistake in here) is
        raised again after QEMU was stopped and everything that is known was written."""
        self.started = datetime.datetime.now(datetime.timezone.utc)
        self.cpu_before = cpu_seconds()
        self.folder = make_folder(self.o.out, self.started, self.o.seed)
        plans.write(self.o.plan, self.folder / "plan.jsonl")
        try:
            for step in (self.boot, self.play, self.finish):
                if not self.trouble:
                    self.attempt(step)
            self.attempt(self.last_trace)
        finally:
            self.attempt(self.stop)
        for step in (self.full_disk, self.judge_last, self.check):
            self.attempt(step)
        before = self.ending
        result = self.attempt(self.write)
        if self.ending is not before and isinstance(self.ending, KeyboardInterrupt):
            self.attempt(self.write)  # the Ctrl-C came into the middle of it
        if self.ending:
            raise self.ending
        return result

    def attempt(self, step):
        """One step; its failure is noted, and the steps that clean up and write are made all the same."""
        try:
            return step()
        except GuestGone as gone:
            self.panic = self.panic or gone.panic
            self.trouble = self.trouble or str(gone)
        except trace.TraceProblem as problem:
            self.trouble = self.trouble or str(problem)
        except KeyboardInterrupt as problem:
            self.ending = self.ending or problem
            self.trouble = self.trouble or "interrupted"
        except Exception as problem:
            self.ending = self.ending or problem
            self.trouble = self.trouble or f"{type(problem).__name__}: {problem}"
        return None

    def boot(self):
        self.report.stage("boot")
        data = self.o.data_disk(self.folder)
        if self.o.disk:
            self.disk_before()
        self.machine = self.o.machine(self.folder, data)
        if self.o.boot:
            self.machine.incoming, boot = boots.load(self.o.boot)
        self.guest = qemu.start(self.machine)
        self.log = LogReader(self.guest.log, self.ledger.take)
        self.orders = Orders(self.guest.channel)
        if not self.o.boot:
            boot = boots.announced(self.log)
        self.tsc_hz = boot["tsc_hz"]
        read_memory = trace.memory_reader(self.guest, self.folder)
        self.ring = trace.Rings(read_memory, boot["trace_paddr"], boot["cpus"], copy=self.folder / "trace.bin")
        self.hello()
        self.typist = Typist(self.guest.console, self.o.seed)

    def hello(self):
        self.orders.send({"op": "hello"})
        while True:
            event = self.log.next(HELLO_SECONDS * self.o.patience)
            if "service" in event:
                self.services[event["service"]["index"]] = event["service"]
            if "hello" in event.get("injector", {}):
                break
        for index, names in restarts_with(self.o.image).items():
            self.services.get(index, {})["restarts_with"] = names

    def start_workload(self):
        self.order("start", seed=self.o.seed, calm=int(bool(self.o.enumerate) and self.o.fault not in plans.NESTED))
        self.log.wait("workload", HELLO_SECONDS * self.o.patience, lambda value: "start" in value)

    def play(self):
        self.start_workload()
        if self.o.disk:
            self.order("hash")
            self.log.wait("diskhash", HELLO_SECONDS * self.o.patience, lambda value: "start" in value)
        self.first_checkpoints()
        self.rest_before = self.rest()  # both have their sessions now, and keep them to the end
        self.report.stage("trials", len(self.o.plan))
        trials = self.trials()
        trial = next(trials, None)
        while trial:
            following = None if self.o.disk or self.o.enumerate else next(trials, None)
            self.one(trial, following)
            trial = following or next(trials, None)
        self.complete = True

    def first_checkpoints(self):
        """Recovery makes room for a service's checkpoint once, at the first; echo makes its first after many calls."""
        if not any(s["name"] == "echo" for s in self.services.values()):
            return
        for _ in range(ECHO_CALLS_A_CHECKPOINT):
            self.orders.send({"op": "call", "service": "echo", "label": ECHO_ECHO})
            self.log.wait("call", HELLO_SECONDS)

    def trials(self):
        """The plan; with a user's disk, more of the same until its hash is there."""
        if self.o.enumerate:
            yield from self.points()
            return
        yield from self.o.plan
        if not self.o.disk:
            return
        deadline = time.monotonic() + HASH_SECONDS
        n = max(t.n for t in self.o.plan)
        while self.ledger.diskhash is None and time.monotonic() < deadline:
            n += 1
            trial = plans.make_trial(self.o.seed, n, self.o.driver, self.o.fault, True)
            self.o.plan.append(trial)
            self.report.stage("trials", len(self.o.plan))
            yield trial

    def points(self):
        """One request after the other, struck later and later, until one passes untouched (or so many as the plan has). How far
        a recovery goes differs a little from one to the next: there, several in a row must."""
        nested, passed = self.o.fault in plans.NESTED, 0
        for trial in self.o.plan:
            yield trial
            report = self.reports[trial.n]
            struck = report["second"] or not report["struck"] if trial.second else report["struck"]
            if report["error"]:
                return
            passed = passed + 1 if report["answered"] and not struck else 0
            if passed == (plans.RECOVERIES_UNTOUCHED if nested else 1):
                self.untouched_at = trial.second or trial.instructions
                del self.o.plan[trial.n:]
                return

    def send(self, trial):
        if trial.n not in self.sent:
            order, self.aims[trial.n] = aims.order(trial, self.o.image, self.tsc_hz)
            self.orders.send(order | ({"calm": 1} if self.o.enumerate else {}))
            self.sent.add(trial.n)

    def send_ahead(self, trial, following):
        """The guest need not wait for us between trials, unless somebody must type meanwhile."""
        if following and not {trial.service, following.service} & TYPED and not self.o.before_last:
            self.ledger.following[trial.n] = following.n
            self.send(following)

    def one(self, trial, following=None):
        """Runs a trial. It is judged when the next one has ended: its first completion may still come."""
        self.ledger.trial = trial.n
        typed = trial.service in TYPED
        if typed:
            known = len(self.typist.problems)
            self.typist.work()
        self.running = trial
        seconds = TRIAL_SECONDS
        if self.o.before_last and trial is self.o.plan[-1]:
            self.o.before_last(self.guest)
            seconds = DEBUG_SECONDS
        self.send(trial)
        self.send_ahead(trial, following)
        self.reports[trial.n] = REPORT | self.log.wait("trial", seconds, lambda value: value["n"] == trial.n)
        self.aims[trial.n] = aims.reached(self.aims[trial.n], self.reports[trial.n])
        if typed:
            self.typist.rest()
            self.typing[trial.n] = self.typist.problems[known:]
        if self.ledger.diskhash is None:
            self.hashing.add(trial.n)
        self.read_trace()
        self.judge_last()
        self.done.append(trial)
        self.running = None

    def finish(self):
        self.report.stage("stop")
        self.ledger.trial = 0
        self.order("stop")
        self.log.wait("workload", STOP_SECONDS * self.o.patience, lambda value: "final" in value)
        self.rest_after = self.rest()
        self.typist.end()

    def ask(self, op, **fields):
        """The status that the guest answers an order with."""
        self.orders.send({"op": op, **fields})
        return self.log.wait("order", HELLO_SECONDS * self.o.patience, lambda value: value["op"] == op)["status"]

    def order(self, op, **fields):
        status = self.ask(op, **fields)
        if status != 0:
            raise GuestGone(f"the guest refused '{op}': {status_name(status)}")

    def rest(self):
        self.orders.send({"op": "rest"})
        return self.log.wait("rest", HELLO_SECONDS * self.o.patience)

    def stop(self):
        if self.guest:
            self.guest.stop()
            self.log.join(5)
            self.panic = self.panic or self.log.panic

    def full_disk(self):
        """QEMU pauses the guest when it cannot write data.img any more; the guest is only silent then."""
        for event in self.guest.events if self.guest else ():
            if event.get("event") == "BLOCK_IO_ERROR" and event["data"].get("nospace"):
                raise qemu.EnvironmentProblem(f"{self.folder}: no space left for the disks of the guest")

    # --- trace and outcomes ---------------------------------------------------------------------------------
    def read_trace(self):
        lost = self.ring.lost
        entries = self.ring.read()
        if self.ring.lost != lost:
            self.lost_at.append(len(self.entries))
        self.entries += entries

    def last_trace(self):
        """After the end, whatever it was: a panicked kernel's memory is still there."""
        if not self.ring or self.guest.process.poll() is not None:
            return
        try:
            self.read_trace()
            self.lock = {name: t.row(self.tsc_hz) for name, t in trace.lock_times(self.ring).items()}
        except (RuntimeError, qemu.EnvironmentProblem, trace.TraceProblem, OSError) as problem:
            self.trouble = self.trouble or f"the last trace could not be read: {problem}"

    def evidence(self, trial, windows, findings=()):
        window = windows.get(trial.n)
        running = self.running
        last = running.n if running else (self.done[-1].n if self.done else None)
        return judge.Evidence(
            trial=trial, window=window, report=self.reports.get(trial.n), services=self.services,
            tsc_hz=self.tsc_hz, trace_lost=bool(self.lost_at) and window is None,
            panic=self.panic if trial.n == last else None,
            trouble=self.trouble if running is trial else None,
            lost=[f for f in findings if f.trial == trial.n], events=self.ledger.counts[trial.n],
            typing=self.typing.get(trial.n, []), aim=self.aims.get(trial.n, ""), disk_in_use=not self.o.disk or trial.n in self.hashing)

    def judge_last(self):
        """Judges the latest finished trial for the eyes of whoever watches; the record is made at the end."""
        if not self.done or self.done[-1].n in self.shown:
            return
        trial = self.done[-1]
        self.shown.add(trial.n)
        windows = phases.windows(self.entries[self.window_start:])
        line = judge.record(self.evidence(trial, windows), self.replay(trial.n), len(self.done) <= EARLY)
        self.report.trial(line)
        with open(self.folder / "trials.jsonl", "a") as f:
            f.write(json.dumps(line) + "\n")
        self.window_start = self.after_window(trial.n)

    def after_window(self, n):
        """Where the entries of the trial after n begin: those of judged trials are not split again. The guest may be further."""
        marks = [i for i in range(self.window_start, len(self.entries)) if self.entries[i].mark == "TRIAL"]
        own = next((at for at, i in enumerate(marks) if self.entries[i].b == n), len(marks))
        return marks[own + 1] if own + 1 < len(marks) else self.window_start

    def replay(self, n):
        return replay_line(self.o.name or self.folder, n)

    # --- after the machine is off -----------------------------------------------------------------------------
    def check(self):
        """Reads the disk image. Possible only now: QEMU has written everything back."""
        self.report.stage("verify")
        acks = self.ledger.acks
        data = self.folder / "data.img"
        self.findings = self.ledger.blame(verify.check_disk(data, acks)) if acks.places and data.exists() else []
        self.places_checked = len(acks.last)
        self.verified = bool(acks.count) or bool(self.o.enumerate and self.o.driver != "virtio_blk")  # nothing is written then
        if self.disk:
            self.disk_after()

    def disk_before(self):
        self.report.stage("hash the disk")
        disk_format = qemu.disk_format(self.o.disk)
        digest, size = verify.image_sha256(self.o.disk, disk_format, self.folder / "unpacked.tmp")
        self.disk = {"path": str(self.o.disk), "format": disk_format, "bytes": size, "sha256": digest,
                     "file_sha256": verify.file_sha256(self.o.disk)}

    def disk_after(self):
        guest = self.ledger.diskhash or {}
        self.disk["guest_sha256"] = guest.get("sha256")
        self.disk["guest_bytes"] = guest.get("bytes")
        self.disk["equal"] = guest.get("sha256") == self.disk["sha256"]
        self.disk["untouched"] = verify.file_sha256(self.o.disk) == self.disk["file_sha256"]

    def write(self):
        """run.json, trials.jsonl as it is known now, summary.json."""
        windows = phases.windows(self.entries)
        tried = self.done + ([self.running] if self.running else [])
        lines = [judge.record(self.evidence(t, windows, self.findings), self.replay(t.n), at < EARLY) for at, t in enumerate(tried)]
        known = {t.n for t in tried}
        self.outside = collections.Counter(repeated_acks=len(self.ledger.acks.repeated))
        self.outside["lost"] = sum(f.trial not in known for f in self.findings)
        for n, counts in self.ledger.counts.items():
            if n not in known:
                self.outside.update({k: v for k, v in counts.items()})
        if self.typist:
            self.outside["typing"] = len(self.typist.problems) - sum(len(p) for p in self.typing.values())
        if self.panic and not tried:
            self.outside["panic"] = 1
        write(self.folder / "trials.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        write(self.folder / "run.json", json.dumps(self.facts(), indent=2) + "\n")
        plans.write(self.o.plan, self.folder / "plan.jsonl")
        return summary.write(self.folder)

    def facts(self):
        ended = datetime.datetime.now(datetime.timezone.utc)
        return {
            "schema_version": summary.SCHEMA_VERSION, "seed": self.o.seed, "kills": len(self.o.plan),
            "driver": self.o.driver, "fault": self.o.fault, "accel": self.machine.accel if self.machine else self.o.accel,
            "iommu": self.o.iommu, "qemu": qemu.qemu_version(), "smp": self.o.smp, "mem": self.o.mem, "qemu_extra": self.o.qemu_extra,
            "image": str(self.o.image.resolve()), "image_sha256": self.o.image_sha256(),
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round((ended - self.started).total_seconds(), 1),
            "cpu_seconds": round(cpu_seconds() - self.cpu_before, 2),
            "complete": self.complete, "verified": self.verified, "trouble": self.trouble, "panic": self.panic,
            "tsc_hz": self.tsc_hz, "trace_entries": len(self.entries),
            "trace_lost": self.ring.lost if self.ring else 0,
            "lock": self.lock,
            "enumerate": {"stride": self.o.enumerate, "untouched_at": self.untouched_at} if self.o.enumerate else None,
            "acknowledged": self.ledger.acks.count, "places_checked": self.places_checked,
            "death_order": death.check(self.entries, self.o.iommu, self.ring.lost if self.ring else 0, not self.panic),
            "workload": self.ledger.workload, "rest_before": self.rest_before, "rest_after": self.rest_after,
            "disk": self.disk, "outside": dict(self.outside),
            "services": [s["name"] for _, s in sorted(self.services.items())],
            "bad_lines": self.log.bad_lines[:10] if self.log else [],
        }


def cpu_seconds():
    """Of this process and of those that it has waited for, QEMU among them."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def load_acks(folder):
    """The acknowledgements of a finished run, from its kernel log."""
    ledger = Ledger()
    with open(folder / "kernel.log", errors="replace") as log:
        for line in log:
            try:
                writer, line = split_writer(line)
                event = json.loads(line) | {"writer": writer} if line.startswith("{") else {}
            except ValueError:  # cut off by the end of the run
                continue
            ledger.take(event)
    return ledger.acks


def status_name(number):
    return abi.names("errors").get(number, f"status {number}")
