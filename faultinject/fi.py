# SPDX-License-Identifier: BSD-2-Clause
"""fi: kill drivers under load, check from outside that nothing was lost, measure the recovery.

Exit codes: 0 targets met, 1 a target missed, 2 usage, 3 environment, 4 the harness itself failed
or was interrupted (Ctrl-C, SIGTERM, SIGHUP; QEMU is stopped, and what there is is written)."""
import argparse
import dataclasses
import datetime
import errno
import json
import os
import pathlib
import shutil
import signal
import sys
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from faultinject import (campaign, death, faults, fleet, hardware, media, minimise, plan, powercut, replay, report, spent,  # noqa: E402
                         summary, trace, verify)
from faultinject.reports import compare, exports, perfetto, run as runs  # noqa: E402
from tools import qemu  # noqa: E402

MET, MISSED, USAGE, ENVIRONMENT, HARNESS = range(5)
SEED, KILLS = 1, 200
KILLS_MAX = 1_000_000
POINTS_MAX = 20_000
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(USAGE, f"fi: {message}\n")

    def refuse(self, words):
        known = sorted(o for a in self._actions for o in a.option_strings if o.startswith("--"))
        self.error(f"unknown: {' '.join(words)}. Allowed: {', '.join(known)}")


def whole(low, high):
    def number(text):
        try:
            value = int(text, 0)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not from {low} to {high}")
        return value
    return number


def add_choice_options(p, kills=KILLS):
    p.add_argument("--seed", type=whole(0, 2**63 - 1), default=SEED, help=f"of the plan (default {SEED})")
    p.add_argument("--kills", type=whole(1, KILLS_MAX), default=kills, help=f"trials (default {kills})")
    p.add_argument("--driver", default="mix", help="a driver, all (evenly) or mix (default: mostly virtio_blk)")
    p.add_argument("--fault", default="mix", help="a fault, exception (any) or mix (default); see `fi list faults`")


def add_machine_options(p, disk=True):
    if disk:
        p.add_argument("--disk", type=pathlib.Path, help="an image of your own: read whole through the driver, never written")
    p.add_argument("--smp", type=whole(1, 16), default=1)
    p.add_argument("--mem", default="256M")
    p.add_argument("--accel", default="tcg", help="tcg, kvm or auto")
    p.add_argument("--iommu", type=whole(0, 1), default=1, help="0: a machine without one")
    p.add_argument("--qemu-extra", default="", help="more words for QEMU's command line")
    p.add_argument("--image", type=pathlib.Path, default=build() / "image/chaos", help="folder of the boot disk")
    p.add_argument("--out", type=pathlib.Path, default=build() / "chaos", help="where run folders go")
    p.add_argument("--verbose", action="store_true", default=os.environ.get("V") == "1", help="print QEMU's command")


def add_replay_options(p):
    p.add_argument("--image", type=pathlib.Path, help="another build (default: the very image of the run)")
    p.add_argument("--fresh-boot", action="store_true", help="boot from the firmware each time, not from a saved state")
    p.add_argument("--out", type=pathlib.Path, help="where run folders go (default: replays/ beside the run folder)")


def before(text):
    return None if text == "all" else whole(0, KILLS_MAX)(text)


def add_fleet_options(p):
    p.add_argument("-j", "--jobs", type=whole(1, 1024), help="QEMUs at once, on this machine")
    p.add_argument("--dask", metavar="ADDRESS", help="hand the batches to a Dask cluster (tcp://host:8786)")
    p.add_argument("--batch", type=whole(1, KILLS_MAX), help=f"trials a boot (default {fleet.BATCH})")
    p.add_argument("--fresh-boot", action="store_true", help="every batch boots from the firmware, not from a saved state")
    p.add_argument("--shard", type=shard, metavar="I/N", help="only every N-th trial, from the I-th; see merge")
    p.add_argument("--resume", type=pathlib.Path, metavar="DIR", help="go on with a campaign that was interrupted")


def shard(text):
    i, _, n = text.partition("/")
    if not (i.isdigit() and n.isdigit() and 1 <= int(i) <= int(n)):
        raise argparse.ArgumentTypeError(f"'{text}' is not I/N with I from 1 to N")
    return int(i), int(n)


def build():
    """make hands its BUILD down, relative to the repository."""
    folder = ROOT / (os.environ.get("BUILD") or "build")
    return pathlib.Path(os.path.relpath(folder))


def parser():
    p = Parser(prog="fi", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    sub = p.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    s = sub.add_parser("run", help="run a campaign", allow_abbrev=False)
    add_choice_options(s)
    s.add_argument("--each", type=whole(1, 10_000), metavar="N", help="N trials of each driver with each fault, instead of --kills")
    s.add_argument("--enumerate", type=whole(1, 1000), metavar="STRIDE", nargs="?", const=1,
                   help="strike one request after 1, 2, 3... (times STRIDE) instructions of the driver, until it passes untouched")
    add_fleet_options(s)
    add_machine_options(s)
    s.set_defaults(function=cmd_run)
    s = sub.add_parser("replay", help="run one trial of a run folder again, and say how often it ended alike", allow_abbrev=False)
    s.add_argument("trial", metavar="TRIAL", help="DIR:N, trial N of a run folder; or N, of the latest")
    s.add_argument("-k", type=whole(1, 100), default=1, help="so many times (default 1), each from the same saved boot")
    s.add_argument("--before", type=before, default=0, metavar="N", help="with the N trials before it; all: with those of its boot")
    s.add_argument("--gdb", type=whole(0, 65535), nargs="?", const=1234, metavar="PORT",
                   help="stop before the trial and wait for gdb (default port 1234)")
    add_replay_options(s)
    s.set_defaults(function=cmd_replay)
    s = sub.add_parser("minimise", help="find the shortest schedule and the smallest numbers with which a trial still fails",
                       allow_abbrev=False)
    s.add_argument("trial", metavar="TRIAL", help="as for replay")
    s.add_argument("--runs", type=whole(1, 10000), default=60, help="at most so many replays (default 60)")
    add_replay_options(s)
    s.set_defaults(function=cmd_minimise)
    s = sub.add_parser("hardware", help="faults of the disk, of interrupts and of the machine, done by QEMU: one boot a fault",
                       allow_abbrev=False)
    s.add_argument("faults", nargs="*", metavar="FAULT", help="default: all; `fi list faults`")
    s.add_argument("--times", type=whole(1, 10000), default=1, help="each so many times (default 1)")
    s.add_argument("--seed", type=whole(0, 2**63 - 1), default=SEED)
    add_machine_options(s, disk=False)
    s.set_defaults(function=cmd_hardware)
    s = sub.add_parser("powercut", help="a campaign whose disk is cut off after every single write, on paper",
                       allow_abbrev=False)
    add_choice_options(s, kills=50)
    add_machine_options(s, disk=False)
    s.set_defaults(function=cmd_powercut)
    s = sub.add_parser("bias", help="do saved boots bias what is measured? the same trials on both kinds, a permutation test",
                       allow_abbrev=False)
    s.add_argument("--pairs", type=whole(8, 1000), default=10, help="of boots, one of each kind (default 10)")
    add_choice_options(s, kills=60)
    add_machine_options(s, disk=False)
    s.set_defaults(function=cmd_bias)
    s = sub.add_parser("media", help="start from damaged boot disks: the loader must say what is wrong, or all must run",
                       allow_abbrev=False)
    s.add_argument("--runs", type=whole(1, KILLS_MAX), default=20, help="machines started (default 20)")
    s.add_argument("--seed", type=whole(0, 2**63 - 1), default=SEED)
    s.add_argument("--image", type=pathlib.Path, default=build() / "image/chaos", help="folder of the boot disk")
    s.set_defaults(function=cmd_media)
    s = sub.add_parser("merge", help="one run folder from the shards of a campaign", allow_abbrev=False)
    s.add_argument("folders", type=pathlib.Path, nargs="+", metavar="DIR")
    s.add_argument("-o", "--out", type=pathlib.Path, required=True, help="the folder to make")
    s.set_defaults(function=cmd_merge)
    s = sub.add_parser("plan", help="print a plan, run nothing", allow_abbrev=False)
    add_choice_options(s)
    s.set_defaults(function=cmd_plan)
    s = sub.add_parser("summarise", help="make DIR/summary.json again from run.json and trials.jsonl", allow_abbrev=False)
    s.add_argument("folder", type=pathlib.Path)
    s.set_defaults(function=cmd_summarise)
    s = sub.add_parser("verify", help="check DIR/data.img again against the acknowledgements in DIR/kernel.log",
                       allow_abbrev=False)
    s.add_argument("folder", type=pathlib.Path)
    s.set_defaults(function=cmd_verify)
    s = sub.add_parser("spent", help="where the time of DIR's trials went (a run of one boot)", allow_abbrev=False)
    s.add_argument("folder", type=pathlib.Path)
    s.set_defaults(function=cmd_spent)
    s = sub.add_parser("report", help="make DIR/report.html, and files for CI, Prometheus, HdrHistogram and Perfetto",
                       allow_abbrev=False)
    s.add_argument("folder", type=pathlib.Path)
    s.set_defaults(function=cmd_report)
    s = sub.add_parser("trace", help="make DIR/trial-N.trace.json of one trial, for ui.perfetto.dev", allow_abbrev=False)
    s.add_argument("folder", type=pathlib.Path)
    s.add_argument("trial", type=whole(1, KILLS_MAX))
    s.set_defaults(function=cmd_trace)
    s = sub.add_parser("compare", help="two run folders side by side", allow_abbrev=False)
    s.add_argument("a", type=pathlib.Path, metavar="A")
    s.add_argument("b", type=pathlib.Path, metavar="B")
    s.add_argument("--fail-if", action="append", default=[], metavar="CONDITION",
                   help="exit 1 if B is worse than A: p99+20%%, recovered-0.1%%; may be given several times")
    s.set_defaults(function=cmd_compare)
    s = sub.add_parser("list", help="what can be injected, and into whom", allow_abbrev=False)
    s.add_argument("what", choices=("faults", "drivers"))
    s.add_argument("--markdown", action="store_true", help="faults: as the table in docs/FAULTS.md")
    s.set_defaults(function=cmd_list)
    return p, sub.choices


def parse(argv):
    p, commands = parser()
    args, unknown = p.parse_known_args(argv)
    if unknown:
        commands[args.command].refuse(unknown)
    return args


# --- commands ----------------------------------------------------------------------------------------------

def check_tools():
    for tool in (qemu.QEMU, "qemu-img"):
        if not shutil.which(tool):
            raise qemu.EnvironmentProblem(f"{tool} is missing: run `make deps`")


def check_environment(args):
    check_tools()
    disk = getattr(args, "disk", None)
    if disk and not os.access(args.disk, os.R_OK):
        raise qemu.EnvironmentProblem(f"{disk}: cannot be read")
    if disk and qemu.disk_info(disk)["virtual-size"] == 0:
        raise plan.UsageProblem(f"{disk}: the image is empty (0 bytes); DISK= takes one with something on it")
    if not (args.image / "boot.img").is_file():
        raise qemu.EnvironmentProblem(f"{args.image}/boot.img is missing: run `make image`")


def chosen(args):
    if args.enumerate:
        if args.each or args.disk or any((args.resume, args.jobs, args.dask, args.batch, args.shard, args.fresh_boot)):
            raise plan.UsageProblem("--enumerate is one boot, without --each, --disk and batches")
        return plan.make_points(args.seed, POINTS_MAX, args.enumerate, args.driver, args.fault)
    if args.each:
        return plan.make_each(args.seed, args.each, args.driver, args.fault, bool(args.disk))
    return plan.make_plan(args.seed, args.kills, args.driver, args.fault, bool(args.disk))


def cmd_run(args):
    trials = chosen(args)
    check_environment(args)
    options = dataclasses.replace(machine_options(args, trials, args.out), enumerate=args.enumerate or 0)
    if args.resume or args.jobs or args.dask or args.batch or args.shard or args.fresh_boot or (len(trials) > fleet.ONE_BOOT and not args.enumerate):
        return run_fleet(args, options)
    progress = report.make()
    try:
        c = campaign.Campaign(options, progress)
        result = c.run()
    finally:
        progress.close()
    report.print_summary(result, summary.load(c.folder)[1], c.folder)
    return summary.exit_code(result)


def run_fleet(args, options):
    if args.disk:
        raise plan.UsageProblem("a campaign of several boots takes no --disk")
    if args.resume:
        folder, asked = args.resume, fleet.read_asked(args.resume)
        options = resumed(options, asked, folder)
    else:
        started = datetime.datetime.now(datetime.timezone.utc)
        folder = campaign.make_folder(args.out, started, args.seed)
        asked = {"schema_version": fleet.SCHEMA_VERSION, "seed": args.seed, "kills": len(options.plan), "each": args.each,
                 "driver": args.driver,
                 "fault": args.fault, "smp": args.smp, "mem": args.mem, "accel": args.accel, "iommu": bool(args.iommu),
                 "qemu_extra": args.qemu_extra,
                 "shard": args.shard, "batch": args.batch or fleet.BATCH, "fresh_boot": args.fresh_boot,
                 "image_sha256": options.image_sha256(), "started": started.isoformat(timespec="seconds")}
        fleet.write(folder / fleet.FLEET, json.dumps(asked, indent=2) + "\n")
    if asked["shard"]:
        options.plan = fleet.shard(options.plan, *asked["shard"])
    options.accel = qemu.resolve_accel(options.accel, options.image)
    progress = report.make()
    try:
        result = fleet.Fleet(folder, options, asked, progress).run(args.jobs or 1, args.dask)
    except KeyboardInterrupt:
        print(f"\nfi: interrupted; go on with: faultinject/fi run --resume {folder}", file=sys.stderr)
        raise
    finally:
        progress.close()
    report.print_summary(result, summary.load(folder)[1], folder)
    return summary.exit_code(result)


def resumed(options, asked, folder):
    """The options of the campaign in folder; only where it runs is this command's."""
    if asked["image_sha256"] != options.image_sha256():
        raise plan.UsageProblem(f"{folder}: was begun with another image; its trials and new ones cannot be one campaign")
    make, size = (plan.make_each, asked["each"]) if asked.get("each") else (plan.make_plan, asked["kills"])
    trials = make(asked["seed"], size, asked["driver"], asked["fault"])
    return dataclasses.replace(options, plan=trials, **{key: asked[key] for key in ("seed", "driver", "fault", "smp", "mem",
                                                                                    "accel", "iommu", "qemu_extra")})


def cmd_replay(args):
    source, options = replay_source(args)
    if args.gdb is not None:
        options = dataclasses.replace(options, before_last=replay.debugger(args.gdb))
    with replay.saved(options, args.fresh_boot) as options:
        return MET if replay.times(options, source.ending(args.before), source.outcome, args.k) else MISSED


def replay_source(args):
    source = replay.load(args.trial, build() / "chaos/latest")
    check_tools()
    return source, replay.options(source, args.image, args.out)


def cmd_minimise(args):
    source, options = replay_source(args)
    if not replay.failed(source.outcome or "recovered"):
        raise plan.UsageProblem(f"{args.trial}: ended as {source.outcome or 'nothing'}: only a trial that failed can be shrunk")
    with replay.saved(options, args.fresh_boot) as options:
        return MET if minimise.run(options, source, args.runs) else MISSED


def machine_options(args, trials, out):
    qemu.split_extra(args.qemu_extra)
    return campaign.Options(
        seed=args.seed, plan=trials, driver=getattr(args, "driver", "mix"), fault=getattr(args, "fault", "mix"), image=args.image,
        out=out, disk=getattr(args, "disk", None), smp=args.smp, mem=args.mem, accel=args.accel, iommu=bool(args.iommu),
        qemu_extra=args.qemu_extra, verbose=args.verbose)


def cmd_hardware(args):
    chosen = hardware.find(args.faults)
    check_environment(args)
    options = machine_options(args, [], args.out / "hardware")
    lines = hardware.run(options, chosen, args.seed, args.times, lambda line: print(hardware.line_text(line), flush=True))
    runs.write(options.out / "results.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    right = sum(line["as_it_must"] for line in lines)
    print(f"{len(lines)} faults, {sum(line['activated'] for line in lines)} activated, {right} ended as they must; "
          f"details in {options.out}/results.jsonl")
    return MET if right == len(lines) else MISSED


def cmd_media(args):
    check_environment(args)

    def show(n, damage, outcome, line):
        verdict = "as it must" if outcome in media.GOOD else "NOT AS IT MUST"
        print(f"{n:>5}  {damage.text():<70} {outcome:<10} {verdict}  {line}", flush=True)
    good = media.run(args.image, args.seed, args.runs, show)
    print(f"{args.runs} damaged disks, {good} ended as they must")
    return MET if good == args.runs else MISSED


def cmd_powercut(args):
    trials = plan.make_plan(args.seed, args.kills, args.driver, args.fault)
    check_environment(args)
    progress = report.make()
    try:
        c = powercut.Run(machine_options(args, trials, args.out / "powercut"), progress)
        result, cuts = c.run()
    finally:
        progress.close()
    report.print_summary(result, summary.load(c.folder)[1], c.folder)
    print("\n".join(powercut.result_text(cuts)))
    return max(summary.exit_code(result), MISSED if cuts.violations or not cuts.promised else MET)


def cmd_bias(args):
    try:
        from faultinject import bias
    except ImportError as problem:
        raise qemu.EnvironmentProblem(f"{problem.name} is missing: run `make deps`") from None
    check_environment(args)
    plans = [plan.make_plan(args.seed + i, args.kills, args.driver, args.fault) for i in range(args.pairs)]
    options = machine_options(args, [], args.out / "bias")
    pairs = bias.sample(options, plans, args.seed, lambda n: print(f"fi: pair {n} of {args.pairs}", flush=True))
    verdict = bias.test(pairs, args.seed)
    print("\n".join(bias.text(verdict)))
    return MET if verdict.alike else MISSED


def cmd_merge(args):
    result = fleet.merge(args.folders, args.out)
    report.print_summary(result, summary.load(args.out)[1], args.out)
    return summary.exit_code(result)


def cmd_plan(args):
    for trial in plan.make_plan(args.seed, args.kills, args.driver, args.fault):
        print(json.dumps({"schema_version": plan.SCHEMA_VERSION} | dataclasses.asdict(trial)))
    return MET


def cmd_summarise(args):
    for name in ("run.json", "trials.jsonl"):
        if not (args.folder / name).is_file():
            raise plan.UsageProblem(f"{args.folder / name}: not there; summarise takes a run folder")
    result = summary.write(args.folder)
    report.print_summary(result, summary.load(args.folder)[1], args.folder)
    return summary.exit_code(result)


def cmd_verify(args):
    for name in ("kernel.log", "data.img"):
        if not (args.folder / name).is_file():
            raise plan.UsageProblem(f"{args.folder / name}: not there; verify takes a run folder")
    order = death_order(args.folder)
    acks = campaign.load_acks(args.folder)
    if not acks.count:
        raise plan.UsageProblem(f"{args.folder / 'kernel.log'}: holds no acknowledgement: nothing to verify")
    findings = verify.check_disk(args.folder / "data.img", acks)
    for finding in findings:
        print(finding.text())
    print(f"{acks.count} writes acknowledged, {len(acks.last)} places checked, {len(findings)} lost")
    return MISSED if findings or (order and not death.met(order)) else MET


def death_order(folder):
    """Of a run of one boot, from its copy of the trace; None: there is none."""
    if not (folder / "trace.bin").is_file():
        return None
    run = json.loads((folder / "run.json").read_text())
    entries = trace.parse_entries((folder / "trace.bin").read_bytes())
    order = death.check(entries, run.get("iommu", False), run.get("trace_lost", 0), not run.get("panic"))
    for violation in order["violations"]:
        print(violation)
    print(f"{order['ended']} deaths in the trace, {order['violated']} steps out of order")
    return order


def cmd_spent(args):
    for name in ("run.json", "trials.jsonl", "trace.bin"):
        if not (args.folder / name).is_file():
            raise plan.UsageProblem(f"{args.folder / name}: not there; spent takes a run folder of one boot")
    print("\n".join(spent.lines(args.folder)))
    return MET


def cmd_report(args):
    r = runs.load(args.folder)
    try:
        from faultinject.reports import html
        page = html.render(r)
        written = [runs.write(args.folder / "metrics.prom", exports.prometheus(r))]
    except ImportError as problem:
        raise qemu.EnvironmentProblem(f"{problem.name} is missing: run `make deps`") from None
    written += [runs.write(args.folder / "report.html", page), runs.write(args.folder / "junit.xml", exports.junit(r)),
                runs.write(args.folder / "recovery.hgrm", exports.hgrm(r.recovery_times()))]
    for n in html.noteworthy(r):
        text = perfetto.trial(r, n)
        if text:
            written.append(runs.write(args.folder / f"trial-{n}.trace.json", text))
    for path in written:
        print(path)
    return MET


def cmd_trace(args):
    r = runs.load(args.folder)
    text = perfetto.trial(r, args.trial)
    if text is None:
        raise plan.UsageProblem(f"{args.folder}: holds no trace of trial {args.trial}")
    print(runs.write(args.folder / f"trial-{args.trial}.trace.json", text))
    return MET


def cmd_compare(args):
    conditions = [(text, compare.parse_condition(text)) for text in args.fail_if]
    a, b = runs.load(args.a), runs.load(args.b)
    rows = compare.compare(a, b)
    print("\n".join(compare.table(rows)))
    for line in compare.differences(a, b):
        print(f"differs: {line}")
    worse = [text for text, condition in conditions if compare.holds(condition, rows)]
    for text in worse:
        print(f"worse: {text}")
    return MISSED if worse else MET


def cmd_list(args):
    if args.what == "drivers" and args.markdown:
        raise plan.UsageProblem("--markdown is for faults")
    if args.what == "drivers":
        lines = faults.list_drivers()
    elif args.markdown:
        lines = [*faults.markdown(), "", *hardware.markdown()]
    else:
        lines = [*faults.list_faults(), "", *hardware.list_faults()]
    print("\n".join(lines))
    return MET


def interrupt(*_):
    raise KeyboardInterrupt


def catch_signals():
    """SIGTERM and SIGHUP end a campaign as Ctrl-C does. What the caller ignores (nohup) stays ignored."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupt)


def main(argv=None):
    args = parse(argv)
    try:
        catch_signals()
        return args.function(args)
    except (plan.UsageProblem, qemu.UsageProblem) as problem:
        print(f"fi: {problem}", file=sys.stderr)
        return USAGE
    except qemu.EnvironmentProblem as problem:
        print(f"fi: {problem}", file=sys.stderr)
        return ENVIRONMENT
    except KeyboardInterrupt:
        print("\nfi: interrupted: QEMU is stopped; what there is was written to "
              f"{getattr(args, 'out', build() / 'chaos')}/latest", file=sys.stderr)
        return HARNESS
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return HARNESS
    except Exception as problem:
        if isinstance(problem, OSError) and problem.errno in NO_ROOM:
            print(f"fi: {problem.filename or getattr(args, 'out', '')}: {problem.strerror}", file=sys.stderr)
            return ENVIRONMENT
        traceback.print_exc()
        print("fi: the harness failed; this is a bug in faultinject/", file=sys.stderr)
        return HARNESS


if __name__ == "__main__":
    sys.exit(main())
