# SPDX-License-Identifier: BSD-2-Clause
"""The one place that knows QEMU's command line: `make run`, `make debug`, the fault-injection harness
and the system tests all start machines here.

Owns: a run folder (overlays of the boot disk and of the firmware's variables, so that no build output
is ever written) and the QEMU process it started. Channels are socket pairs made before QEMU starts:
nothing to connect to, no path-length limit, nothing left behind. If QEMU dies, reads return EOF.

    machine = Machine(image="build/image/chaos", run="build/chaos/x", disk="build/chaos/x/data.img")
    guest = start(machine)
    guest.log / guest.console / guest.channel   connected sockets: kernel log, COM1, COM2
    guest.qmp("query-status")                   the reply's "return"; events pile up in guest.events
    guest.stop()
"""
import argparse
import ctypes
import dataclasses
import json
import os
import pathlib
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import tty

ROOT = pathlib.Path(__file__).resolve().parent.parent
QEMU = "qemu-system-x86_64"
OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARS = "/usr/share/OVMF/OVMF_VARS_4M.fd"
LOADER_LINE = b"Coppice loader"
DATA_DISK_BYTES = 64 << 20
WRITE_LOG_BYTES = 16 << 30  # sparse
# A port whose slot is switched by its own registers, and not by ACPI.
SLOT = ["-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off", "-device", "pcie-root-port,id=disk-port,chassis=2,slot=1"]
PR_SET_PDEATHSIG = 1  # linux/prctl.h
PROBE_SECONDS = 20  # OVMF reaches the loader in 3.5 to 5 s even without hardware help


class EnvironmentProblem(Exception):
    """The machine we run on lacks something; callers exit with 3."""


class UsageProblem(Exception):
    """An option cannot be meant like that; callers exit with 2."""


@dataclasses.dataclass
class Machine:
    image: pathlib.Path                # folder with boot.img, e.g. build/image/chaos
    run: pathlib.Path                  # folder for this run's overlays and logs; made if absent
    disk: pathlib.Path | None = None   # data disk (service virtio_blk), written in place; raw or *.qcow2
    write_log: pathlib.Path | None = None  # of all that the data disk is given, in order (blklogwrites)
    user_disk: pathlib.Path | None = None  # the user's image (service virtio_disk): only an overlay is written
    smp: int = 1
    mem: str = "256M"
    accel: str = "tcg"                 # auto, tcg or kvm
    icount: str | None = None          # e.g. "shift=0" (TCG only)
    extra: list = dataclasses.field(default_factory=list)  # QEMU_EXTRA, already split
    log: str = "socket"                # the kernel log, beside run/kernel.log: socket, or file: that file is read as it grows
    console: str = "socket"            # COM1: socket, stdio (interactive, with monitor) or null
    iommu: bool = True                 # VT-d with interrupt remapping; virtio devices go through it
    slot: bool = False                 # the data disk is in a slot, where it may be unplugged (device_del data-disk)
    gdb: str | None = None             # "tcp:localhost:1234", or "socket"; the machine then waits for gdb
    incoming: pathlib.Path | None = None  # a saved machine (Guest.save) with the same options to go on from
    reboot: bool = False               # a guest reset restarts the machine instead of ending QEMU
    verbose: bool = dataclasses.field(default_factory=lambda: os.environ.get("V") == "1")

    def __post_init__(self):
        self.image = pathlib.Path(self.image)
        self.run = pathlib.Path(self.run)
        if isinstance(self.extra, str):
            self.extra = split_extra(self.extra)


def split_extra(text):
    """The words of QEMU_EXTRA."""
    try:
        return shlex.split(text)
    except ValueError as problem:
        raise UsageProblem(f"QEMU_EXTRA={text}: {problem}") from None


def qemu_version():
    out = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"version (\S+)", out).group(1)


def qemu_img(path, problem, *words):
    """Runs qemu-img; its failure is put down to the path."""
    try:
        out = subprocess.run(["qemu-img", *words], capture_output=True, text=True)
    except FileNotFoundError:
        raise EnvironmentProblem("qemu-img is missing: install the package qemu-utils (make deps)") from None
    if out.returncode != 0:
        raise EnvironmentProblem(f"{path}: {problem}: {out.stderr.strip()}")
    return out.stdout


def disk_info(path):
    """What qemu-img says of an image; force_share: somebody may have it open."""
    return json.loads(qemu_img(path, "not a readable disk image", "info", "-U", "--output=json", str(path)))


def disk_format(path):
    """raw, qcow2, ... as qemu-img sees it."""
    return disk_info(path)["format"]


def overlay(base, path):
    """A new qcow2 at path that shows base and takes all writes; base itself is never written."""
    base = pathlib.Path(base).resolve()
    qemu_img(path, "the overlay cannot be made", "create", "-q", "-f", "qcow2", "-F", disk_format(base),
             "-b", str(base), str(path))
    return pathlib.Path(path)


def data_disk(path, size=DATA_DISK_BYTES):
    """A raw disk of zeros at path, unless one is there."""
    path = pathlib.Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as f:
            f.truncate(size)
    return path


def quote(path):
    """A file name as a value in a comma-separated QEMU option."""
    return str(path).replace(",", ",,")


def prepare(m):
    """Makes the run folder with fresh overlays of everything that QEMU may write."""
    if not (m.image / "boot.img").exists():
        raise EnvironmentProblem(f"{m.image}/boot.img is missing: run `make image`")
    for needed in (OVMF_CODE, OVMF_VARS):
        if not os.path.exists(needed):
            raise EnvironmentProblem(f"{needed} is missing: run `make deps`")
    m.run.mkdir(parents=True, exist_ok=True)
    overlay(m.image / "boot.img", m.run / "boot.qcow2")
    overlay(OVMF_VARS, m.run / "vars.qcow2")
    if m.user_disk:
        overlay(m.user_disk, m.run / "disk.qcow2")


def command(m, fds=None):
    """The command line. fds: {"console": fd, "channel": fd, "log": fd, "qmp": fd} of connected sockets;
    what is absent goes nowhere (the log always goes to run/kernel.log)."""
    fds = fds or {}
    # KVM's own interrupt controller does not go through QEMU's IOMMU.
    accel = "kvm,kernel-irqchip=split" if m.accel == "kvm" and m.iommu else m.accel
    line = [QEMU, "-nodefaults", "-no-user-config", "-machine", "q35", "-cpu", "max",
            "-accel", accel, "-smp", str(m.smp), "-m", m.mem, "-display", "none", "-boot", "menu=off"]
    if m.icount:
        line += ["-icount", m.icount]
    if m.iommu:
        line += ["-device", "intel-iommu,intremap=on"]  # before the devices that it serves
    virtio = virtio_options(m)
    if not m.reboot:
        line += ["-no-reboot"]
    line += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}",
             "-drive", f"if=pflash,unit=1,format=qcow2,file={quote(m.run / 'vars.qcow2')}",
             "-drive", f"if=none,id=boot,format=qcow2,file={quote(m.run / 'boot.qcow2')}",
             # Not AHCI: firmware leaves its engines running, and behind an IOMMU that knows nothing of them QEMU
             # then refuses to load a saved machine. In the last slots, so that other devices keep their addresses.
             "-device", f"virtio-scsi-pci,id=scsi,addr=1e,{virtio}", "-device", "scsi-hd,drive=boot,bus=scsi.0,bootindex=0"]
    if m.disk:
        kind = "qcow2" if str(m.disk).endswith(".qcow2") else "raw"
        # Nodes with names: a fault of the disk is put between them while the machine runs (faultinject/hardware.py).
        line += ["-blockdev", f"driver=file,node-name=data-file,filename={quote(m.disk)}",
                 *write_log(m),
                 "-blockdev", f"driver={kind},node-name=data,file={'data-log' if m.write_log else 'data-file'}",
                 *(SLOT if m.slot else []), "-device", data_disk_device(m)]
    if m.user_disk:
        line += ["-drive", f"if=none,id=user,format=qcow2,cache=writeback,file={quote(m.run / 'disk.qcow2')}",
                 "-device", f"virtio-blk-pci,drive=user,{virtio},serial=coppice-user"]
    for name in ("console", "channel"):  # the first -serial is COM1, the second COM2
        if name == "console" and m.console == "stdio":
            line += ["-serial", "mon:stdio"]
        elif name in fds:
            line += ["-chardev", f"socket,id={name},fd={fds[name]}", "-serial", f"chardev:{name}"]
        else:
            line += ["-serial", "null"]
    log = f"logfile={quote(m.run / 'kernel.log')},logappend=off"
    sink = f"socket,id=log,fd={fds['log']},{log}" if "log" in fds else f"null,id=log,{log}"
    if m.log == "file":  # each byte is a system call of its own: one instead of two
        sink = f"file,id=log,path={quote(m.run / 'kernel.log')}"
    line += ["-chardev", sink, "-device", "isa-debugcon,iobase=0xe9,chardev=log"]
    if "qmp" in fds:
        line += ["-chardev", f"socket,id=qmp,fd={fds['qmp']}", "-mon", "chardev=qmp,mode=control"]
    if "gdb" in fds:
        line += ["-chardev", f"socket,id=gdb,fd={fds['gdb']}", "-gdb", "chardev:gdb", "-S"]
    elif m.gdb:
        line += ["-gdb", m.gdb, "-S"]
    if m.incoming:
        line += ["-incoming", "defer"]
    return line + list(m.extra)


def data_disk_device(m):
    """What -device is given, or device_add after a device_del."""
    where = ",bus=disk-port" if m.slot else ""
    return f"virtio-blk-pci,id=data-disk,drive=data,{virtio_options(m)},serial=coppice-data{where}"


def virtio_options(m):
    return "disable-legacy=on,iommu_platform=" + ("on" if m.iommu else "off")


def write_log(m):
    """Between image format and file: what is written goes to both."""
    if not m.write_log:
        return []
    with open(m.write_log, "wb") as f:
        f.truncate(WRITE_LOG_BYTES)
    return ["-blockdev", f"driver=file,node-name=data-log-file,filename={quote(m.write_log)}",
            "-blockdev", "driver=blklogwrites,node-name=data-log,file=data-file,log=data-log-file"]


class LogFile:
    """run/kernel.log, read as a socket is: recv waits for what QEMU writes next, and returns b"" when QEMU has ended."""
    LOOK_SECONDS = 0.001

    def __init__(self, path, process):
        self.file, self.process = open(path, "rb", buffering=0), process

    def recv(self, size):
        while True:
            ended = self.process.poll() is not None  # before the look: what it wrote last is seen
            data = self.file.read(size)
            if data or ended:
                return data
            time.sleep(self.LOOK_SECONDS)

    def close(self):
        """Whoever reads reads to the end: the file goes with the last of us who knows it."""


class Guest:
    """A running machine. log, console, channel, gdb: sockets (None if not asked for)."""

    def __init__(self, machine, process, sockets, line):
        self.machine, self.process, self.line = machine, process, line
        self.log, self.console, self.channel, self.gdb = (
            sockets.get(n) for n in ("log", "console", "channel", "gdb"))
        self._qmp = sockets["qmp"]
        self._input, self._commands = b"", 0
        self.events = []
        self._message()  # the greeting
        self.qmp("qmp_capabilities")

    def _message(self):
        """The next message. The buffer is ours: what a Ctrl-C finds half read is still there afterwards."""
        while b"\n" not in self._input:
            try:
                data = self._qmp.recv(65536)
            except ConnectionResetError:  # it ended with our command unread
                data = b""
            if not data:
                error = (self.machine.run / "qemu.err").read_text(errors="replace").strip()
                raise EnvironmentProblem(f"QEMU ended: {error or 'no message'}")
            self._input += data
        line, self._input = self._input.split(b"\n", 1)
        return json.loads(line)

    def qmp(self, execute, **arguments):
        """The command's result. A reply to an earlier command, given up by a Ctrl-C, is dropped."""
        self._commands += 1
        number = self._commands
        self._qmp.sendall(json.dumps({"execute": execute, "arguments": arguments, "id": number}).encode() + b"\n")
        while True:
            message = self._message()
            if "event" not in message and message.get("id") != number:
                continue
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise RuntimeError(f"QMP {execute}: {message['error']['desc']}")
            self.events.append(message)

    def _migrate(self, execute, uri):
        """Migration to or from a file: the whole machine but its disks (QEMU, docs/devel/migration.rst)."""
        self.qmp("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        self.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.qmp(execute, uri=uri)
        while True:
            state = next((e["data"]["status"] for e in self.events if e.get("event") == "MIGRATION"
                          and e["data"]["status"] in ("completed", "failed")), None)
            if state == "completed":
                return
            if state:
                raise EnvironmentProblem(f"{uri}: the machine's state was not written or not accepted")
            self.events.append(self._message())

    def save(self, path):
        """Stops the machine and writes its state, without its disks, for Machine.incoming. It does not go on."""
        self.qmp("stop")
        self._migrate("migrate", f"exec:cat > {shlex.quote(str(path))}")

    def load(self, path):
        self._migrate("migrate-incoming", f"exec:cat {shlex.quote(str(path))}")
        self.qmp("cont")

    def hmp(self, text):
        """A command of QEMU's human monitor (savevm, loadvm, pmemsave, ...); returns what it printed."""
        return self.qmp("human-monitor-command", **{"command-line": text})

    def wait(self, timeout=None):
        """Waits for QEMU to end by itself (guest power-off); returns its exit code."""
        return self.process.wait(timeout)

    def wait_event(self, name, seconds, **data):
        """The next event of this name and with these data; None: it did not come in time. Looked at 100 times a second."""
        deadline = time.monotonic() + seconds
        while True:
            self.qmp("query-status")  # events come with a reply
            for i, event in enumerate(self.events):
                if event["event"] == name and data.items() <= event["data"].items():
                    return self.events.pop(i)
            if time.monotonic() > deadline:
                return None
            time.sleep(0.01)

    def stop(self):
        """Ends QEMU, flushing its disks, and closes the channels. May be called twice."""
        if self.process.poll() is None:
            self.process.terminate()  # QEMU takes SIGTERM as `quit`: disks are flushed and closed
            try:
                self.process.wait(20)
            except BaseException as problem:  # too slow, or a second Ctrl-C: it ends all the same
                self.process.kill()
                self.process.wait()
                if not isinstance(problem, subprocess.TimeoutExpired):
                    raise
        for s in (self.log, self.console, self.channel, self.gdb, self._qmp):
            if s:
                s.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


_libc = ctypes.CDLL(None, use_errno=True)


def _end_with_parent(parent):
    """For the child between fork and exec: the kernel kills it when the thread that started it ends, even by
    SIGKILL. The group and session that start_new_session makes do not matter to that."""
    if _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent:
        os._exit(127)  # the parent may have ended before the call


def start(m, resolve=True):
    """Starts the machine; returns a Guest. Raises EnvironmentProblem if QEMU does not come up."""
    if resolve:
        m.accel = resolve_accel(m.accel, m.image)
    prepare(m)
    names = ["qmp", "channel"] + (["log"] if m.log == "socket" else []) + (["console"] if m.console == "socket" else [])
    names += ["gdb"] if m.gdb == "socket" else []
    ours, theirs = {}, {}
    for name in names:
        ours[name], theirs[name] = socket.socketpair()
    line = command(m, {name: s.fileno() for name, s in theirs.items()})
    if m.verbose:
        print(shlex.join(line), file=sys.stderr, flush=True)
    parent = os.getpid()
    with open(m.run / "qemu.err", "wb") as errors:
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                                   pass_fds=[s.fileno() for s in theirs.values()],
                                   preexec_fn=lambda: _end_with_parent(parent),
                                   start_new_session=True)  # our Ctrl-C is ours to handle
    for s in theirs.values():
        s.close()
    try:
        guest = Guest(m, process, ours, line)
        if m.log == "file":
            guest.log = LogFile(m.run / "kernel.log", process)
        if m.incoming:
            guest.load(m.incoming)
        return guest
    except BaseException:
        process.kill()
        process.wait()
        raise


_probed = {}


def resolve_accel(name, image):
    """auto -> kvm or tcg. That /dev/kvm opens proves nothing: firmware may hang or abort under it. So a
    probe machine must reach the loader's line within a time limit."""
    if name not in ("auto", "tcg", "kvm"):
        raise EnvironmentProblem(f"ACCEL={name}: allowed are auto, tcg, kvm")
    if name == "tcg":
        return "tcg"
    if name not in _probed:
        works, why = _probe_kvm(pathlib.Path(image))
        if name == "kvm" and not works:
            raise EnvironmentProblem(f"ACCEL=kvm does not work here: {why}")
        _probed[name] = "kvm" if works else "tcg"
        print(f"accelerator: {_probed[name]} ({why})", file=sys.stderr, flush=True)
    return _probed[name]


def _probe_kvm(image):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False, "/dev/kvm cannot be opened"
    with tempfile.TemporaryDirectory(prefix="coppice-probe-") as folder:
        try:
            guest = start(Machine(image, folder, accel="kvm"), resolve=False)
        except EnvironmentProblem as problem:
            return False, str(problem).splitlines()[0]
        with guest:
            seen, deadline = b"", time.monotonic() + PROBE_SECONDS
            while LOADER_LINE not in seen:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([guest.console], [], [], left)[0]:
                    return False, f"the probe guest did not start within {PROBE_SECONDS} s under KVM"
                data = guest.console.recv(4096)
                if not data:
                    return False, "the probe guest's QEMU ended under KVM"
                seen += data
            return True, "the probe guest started under KVM"


# --- command line -------------------------------------------------------------------------------------

def machine_of(args, run):
    disk = data_disk(args.data or pathlib.Path(args.run) / "data.img")
    return Machine(image=args.image, run=run, disk=disk, user_disk=args.disk or None, smp=args.smp,
                   mem=args.mem, accel=resolve_accel(args.accel, args.image), iommu=bool(args.iommu), extra=args.qemu_extra,
                   console="stdio", reboot=True, verbose=args.verbose)


def cmd_run(args):
    m = machine_of(args, pathlib.Path(args.run))
    prepare(m)
    line = command(m)
    if m.verbose:
        print(shlex.join(line), flush=True)
    print(f"Coppice in QEMU ({m.accel}, {m.smp} CPU, {m.mem}). Leave with Ctrl-A X. "
          f"Kernel log: {m.run}/kernel.log", flush=True)
    os.execvp(QEMU, line)


def cmd_debug(args):
    """QEMU stopped at reset behind gdb's port; gdb in this terminal; the console on a socket."""
    m = machine_of(args, pathlib.Path(args.run))
    m.console, m.gdb = "null", f"tcp:127.0.0.1:{args.port}"
    prepare(m)
    address = m.run / "console.sock"
    address.unlink(missing_ok=True)
    line = command(m)
    at = line.index("-serial")
    line[at:at + 2] = ["-chardev", f"socket,id=console,path={quote(os.path.relpath(address))},server=on,wait=off",
                       "-serial", "chardev:console"]
    if m.verbose:
        print(shlex.join(line), flush=True)
    process = subprocess.Popen(line, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait_for_port(process, args.port)
        print(f"console: /usr/bin/python3 tools/qemu.py attach {os.path.relpath(address)}", flush=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is gdb's
        os.environ["COPPICE_BUILD"] = str(args.build)
        gdb = ["gdb", "-q", "-ex", f"set $port = {args.port}", "-x", str(ROOT / "tools/coppice.gdb"),
               "-ex", f"target remote 127.0.0.1:{args.port}"]
        return subprocess.run(gdb + args.gdb_arg).returncode
    finally:
        process.terminate()
        process.wait()


def _wait_for_port(process, port):
    while process.poll() is None:
        # Reads the kernel's table instead of connecting: QEMU would take a connection for gdb.
        listening = any(row.split()[3] == "0A" and row.split()[1].endswith(f":{port:04X}")
                        for row in open("/proc/net/tcp").readlines()[1:])
        if listening:
            return
        time.sleep(0.02)
    raise EnvironmentProblem(f"QEMU ended with code {process.returncode}")


def cmd_attach(args):
    """Connects this terminal to a machine's console; Ctrl-] leaves."""
    s = socket.socket(socket.AF_UNIX)
    s.connect(args.socket)
    old = termios.tcgetattr(0)
    print("attached; leave with Ctrl-]", flush=True)
    tty.setraw(0)
    try:
        while True:
            ready = select.select([0, s], [], [])[0]
            if 0 in ready:
                data = os.read(0, 1024)
                if not data or b"\x1d" in data:
                    return 0
                s.sendall(data)
            if s in ready:
                data = s.recv(4096)
                if not data:
                    return 0
                os.write(1, data)
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, old)
        print()


def cmd_probe(args):
    print(resolve_accel(args.accel, args.image))


def parser():
    p = argparse.ArgumentParser(prog="qemu.py", description=__doc__.splitlines()[0])
    sub = p.add_subparsers(dest="action", required=True)
    for name in ("run", "debug"):
        s = sub.add_parser(name)
        s.add_argument("--image", required=True)
        s.add_argument("--run", required=True, help="folder of this run")
        s.add_argument("--data", help="data disk; default: data.img in the run folder")
        s.add_argument("--disk", help="an image of your own, attached behind an overlay")
        s.add_argument("--smp", type=int, default=1)
        s.add_argument("--mem", default="256M")
        s.add_argument("--accel", default="tcg")
        s.add_argument("--iommu", type=int, choices=(0, 1), default=1)
        s.add_argument("--qemu-extra", default="")
        s.add_argument("--verbose", action="store_true")
        s.set_defaults(function=cmd_run if name == "run" else cmd_debug)
        if name == "debug":
            s.add_argument("--port", type=int, default=1234)
            s.add_argument("--build", default="build")
            s.add_argument("gdb_arg", nargs="*", default=[])
    s = sub.add_parser("attach")
    s.add_argument("socket")
    s.set_defaults(function=cmd_attach)
    s = sub.add_parser("probe")
    s.add_argument("--accel", default="auto")
    s.add_argument("--image", required=True)
    s.set_defaults(function=cmd_probe)
    return p


def main():
    args = parser().parse_args()
    if not shutil.which(QEMU):
        raise EnvironmentProblem(f"{QEMU} is missing: run `make deps`")
    return args.function(args)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EnvironmentProblem as problem:
        print(f"qemu.py: {problem}", file=sys.stderr)
        sys.exit(3)
    except UsageProblem as problem:
        print(f"qemu.py: {problem}", file=sys.stderr)
        sys.exit(2)
