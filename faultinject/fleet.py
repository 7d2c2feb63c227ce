# SPDX-License-Identifier: BSD-2-Clause
"""A campaign over many boots and many QEMUs: the plan is cut into batches, each batch is one boot, and Dask
`distributed` hands the batches out: to processes of this machine (-j) or to a cluster (--dask).

A batch returns all it has to say as bytes; only the coordinator writes. So a worker that dies has said
nothing, its batch is handed out again, and no trial is lost or counted twice. A batch cut short by the guest
(a panic) hands in the trials it judged; the rest become a batch of their own.

Folder: fleet.json (what was asked: enough to resume), parts/N/ (run.json, trials.jsonl of each batch, and its
evidence if a trial in it failed), and, made from the parts at the end, what a single boot also leaves."""
import collections
import contextlib
import dataclasses
import gzip
import json
import pathlib
import shutil
import signal
import tempfile

from faultinject import boots, campaign, death, faults, judge, plan as plans, summary
from faultinject.reports.run import write
from tools import qemu

BATCH = 500            # trials a boot
ONE_BOOT = 5000        # a campaign of no more needs no fleet
TRIES = 3              # of a batch that brought nothing at all
KEPT = ("kernel.log", "trace.bin", "qemu.err")  # evidence of a batch with a failing trial
FLEET = "fleet.json"
PLAN = "plan.jsonl"
SUMS = ("trace_entries", "trace_lost", "acknowledged", "places_checked")
SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Batch:
    """A boot's worth of trials; the name is its part's folder."""
    name: str
    trials: tuple
    tries: int = 0

    def rest(self, done):
        """What is left of it, or None."""
        left = tuple(t for t in self.trials if t.n not in done)
        if not left:
            return None
        failed = len(left) == len(self.trials)
        return Batch(self.name + ("" if failed else ".1"), left, self.tries + 1 if failed else 0)


def split(trials, size=BATCH):
    return [Batch(f"{trials[at].n:07}", tuple(trials[at:at + size])) for at in range(0, len(trials), size)]


def shard(trials, i, n):
    """Every n-th trial, from the i-th (1 to n): all shards are alike, and together they are the plan."""
    return trials[i - 1::n]


# --- one batch, on a worker ----------------------------------------------------------------------------------

class Silent:
    """Progress is the coordinator's to show."""

    def stage(self, *_):
        pass

    trial = close = stage


def scratch():
    """The worker's own folder: it goes with the worker."""
    from distributed import get_worker
    return get_worker().local_directory


_states = {}  # of this worker process: (image, machine) -> folder of the saved boot


def saved_boot(options):
    key = (options.image_sha256(), options.smp, options.mem, options.accel, options.iommu, options.qemu_extra,
           faults.family_of(options.fault))
    if key not in _states:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="boot-", dir=scratch()))
        machine = options.machine(folder / "machine", options.data_disk(folder / "machine"))
        _states[key] = boots.make(folder, machine)
    return _states[key]


def run_batch(options, image_sha256, batch, fresh_boot):
    """{file name: bytes} of a finished batch. options.out is not used: all happens in a temporary folder."""
    if options.image_sha256() != image_sha256:
        raise qemu.EnvironmentProblem(f"{options.image}: not the image of this campaign; every worker needs the same build")
    with tempfile.TemporaryDirectory(prefix="batch-", dir=scratch()) as folder:
        o = dataclasses.replace(options, plan=list(batch.trials), out=pathlib.Path(folder),
                                boot=None if fresh_boot else saved_boot(options))
        c = campaign.Campaign(o, Silent())
        c.run()
        return packed(c.folder)


def packed(folder):
    files = {name: (folder / name).read_bytes() for name in ("run.json", "trials.jsonl") if (folder / name).exists()}
    bad = any(json.loads(line)["outcome"] not in judge.GOOD for line in files.get("trials.jsonl", b"").splitlines())
    if bad or json.loads(files["run.json"])["trouble"]:
        files |= {f"{name}.gz": gzip.compress((folder / name).read_bytes(), 1) for name in KEPT if (folder / name).exists()}
    return files


# --- the coordinator ------------------------------------------------------------------------------------------

@contextlib.contextmanager
def cluster(jobs, address):
    """A Dask client of the cluster at address, or of `jobs` processes here that live as long as we do."""
    try:
        import dask
        import distributed
    except ImportError:
        raise qemu.EnvironmentProblem("python3-distributed is missing: run `make deps`") from None
    dask.config.set({"distributed.scheduler.allowed-failures": 10, "distributed.worker.daemon": True,
                     "distributed.comm.timeouts.connect": "10s"})
    if address:
        try:
            client = distributed.Client(address, timeout="10s")
        except (OSError, ValueError, TimeoutError) as problem:
            raise qemu.EnvironmentProblem(f"{address}: no Dask scheduler answers: {problem}") from None
        with client:
            yield client
        return
    with tempfile.TemporaryDirectory(prefix="coppice-fleet-") as folder, dask.config.set({"temporary-directory": folder}):
        with here(distributed, jobs) as local, distributed.Client(local) as client:
            yield client


def here(distributed, jobs):
    """Worker processes that leave Ctrl-C to us."""
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return distributed.LocalCluster(n_workers=jobs, threads_per_worker=1, processes=True, dashboard_address=None,
                                        silence_logs="ERROR")
    finally:
        signal.signal(signal.SIGINT, ours)


class Fleet:
    """asked: dict of fleet.json. Resumes by itself if the folder holds parts."""

    def __init__(self, folder, options, asked, progress):
        self.folder, self.o, self.asked, self.progress = folder, options, asked, progress
        self.done, self.troubles = set(), []

    def todo(self):
        """Batches of what no part has; parts that brought nothing are made again."""
        for part in parts(self.folder):
            self.done |= {t["n"] for t in trials_of(part)}
        return split([t for t in self.o.plan if t.n not in self.done], self.asked["batch"])

    def run(self, jobs=1, address=None):
        """Returns the summary; the exception that ended it early is raised after all was written."""
        plans.write(self.o.plan, self.folder / PLAN)
        self.progress.stage("trials", len(self.o.plan))
        waiting = self.todo()
        self.progress.skip(len(self.done))
        try:
            with cluster(jobs, address) as client:
                self.hand_out(client, waiting)
        finally:
            result = merge([self.folder], self.folder, len(self.o.plan))
        return result

    def hand_out(self, client, waiting):
        from distributed import as_completed
        sha = self.o.image_sha256()
        options = dataclasses.replace(self.o, plan=[], name=self.folder)

        def submit(batch):
            future = client.submit(run_batch, options, sha, batch, self.asked["fresh_boot"], pure=False)
            batches[future.key] = batch
            return future

        batches = {}
        running = as_completed([submit(batch) for batch in waiting])
        for future in running:
            rest = self.take(batches.pop(future.key), future)
            if rest:
                running.add(submit(rest))

    def take(self, batch, future):
        """Writes what a batch brought; returns what is left of it to do."""
        problem = future.exception()
        if isinstance(problem, (qemu.EnvironmentProblem, plans.UsageProblem)):
            raise problem
        done = set()
        if problem is None:
            done = self.keep(batch, future.result())
        else:
            self.troubles.append(f"batch {batch.name}: {type(problem).__name__}: {problem}")
        rest = batch.rest(done)
        if rest and rest.tries >= TRIES:
            raise RuntimeError(f"batch {batch.name} brought nothing {TRIES} times: {self.troubles[-1:]}")
        return rest

    def keep(self, batch, files):
        part = self.folder / "parts" / batch.name
        part.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key=lambda name: name == "run.json"):  # last: it says that the rest is there
            write(part / name, files[name])
        lines = trials_of(part)
        if not lines:
            facts = json.loads(files["run.json"])
            self.troubles.append(f"batch {batch.name}: {facts['trouble']}")
            shutil.rmtree(part)
        self.progress.batch(batch.name, lines)
        return {t["n"] for t in lines}


# --- merging --------------------------------------------------------------------------------------------------

def parts(folder):
    return sorted(path.parent for path in folder.glob("parts/*/run.json"))


def trials_of(part):
    path = part / "trials.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def merge(folders, out, wanted=None):
    """One run folder from the parts of several. wanted: trials of the whole plan. Raises UsageProblem if they are
    not of one campaign, or if a trial is in two of them."""
    asked = [read_asked(folder) for folder in folders]
    for folder, other in zip(folders[1:], asked[1:]):
        unlike = [key for key in ("seed", "kills", "driver", "fault", "image_sha256") if other[key] != asked[0][key]]
        if unlike:
            raise plans.UsageProblem(f"{folder}: not of the campaign in {folders[0]}: another {', '.join(unlike)}")
    found, where, facts = [], {}, []
    for folder in folders:
        for part in parts(folder):
            facts.append(json.loads((part / "run.json").read_text()))
            for t in trials_of(part):
                if t["n"] in where:
                    raise plans.UsageProblem(f"trial {t['n']} is in {where[t['n']]} and in {part}")
                where[t["n"]] = part
                found.append(t | {"replay": campaign.replay_line(out, t["n"])})
    found.sort(key=lambda t: t["n"])
    out.mkdir(parents=True, exist_ok=True)
    write(out / "trials.jsonl", "".join(json.dumps(t) + "\n" for t in found))
    planned = {t.n: t for folder in folders if (folder / PLAN).exists() for t in plans.read(folder / PLAN)}
    plans.write([planned[n] for n in sorted(planned)], out / PLAN)
    write(out / "run.json", json.dumps(merged_facts(asked[0], facts, len(found), wanted or asked[0]["kills"]), indent=2) + "\n")
    return summary.write(out)


def read_asked(folder):
    try:
        return json.loads((folder / FLEET).read_text())
    except FileNotFoundError:
        raise plans.UsageProblem(f"{folder / FLEET}: not there; this takes folders of `fi run` with batches or shards") from None
    except ValueError as problem:
        raise plans.UsageProblem(f"{folder / FLEET}: {problem}") from None


def merged_facts(asked, facts, trials, wanted):
    """run.json of the whole: sums, and what every boot had to fulfil."""
    first = facts[0] if facts else {}
    workload = collections.Counter()
    for f in facts:
        workload.update({k: v for k, v in (f["workload"] or {}).items() if k != "final"})
    outside = collections.Counter()
    for f in facts:
        outside.update(f["outside"])
    troubles = sorted({f["trouble"] for f in facts if f["trouble"]})
    return {
        "schema_version": summary.SCHEMA_VERSION,
        **{key: asked[key] for key in ("seed", "kills", "driver", "fault", "image_sha256", "started")},
        **{key: first.get(key) for key in ("accel", "iommu", "qemu", "smp", "mem", "qemu_extra", "tsc_hz", "services", "image")},
        **{key: sum(f[key] or 0 for f in facts) for key in SUMS},
        "boots": len(facts), "batch": asked["batch"], "fresh_boot": asked["fresh_boot"],
        "seconds": round(sum(f["seconds"] for f in facts), 1),
        "cpu_seconds": round(sum(f.get("cpu_seconds", 0) for f in facts), 2),
        "complete": trials == wanted, "verified": bool(facts) and all(f["verified"] for f in facts),
        "trouble": "; ".join(troubles) or None, "panic": next((f["panic"] for f in facts if f["panic"]), None),
        "workload": {"final": True, **workload} if facts and all(f["workload"] for f in facts) else None,
        "leaks_by_boot": [summary.leaks_of(f, []) for f in facts],
        "death_order": death.merged([f.get("death_order") for f in facts]),
        "rest_before": None, "rest_after": None, "disk": None, "outside": dict(outside), "bad_lines": [],
    }
