# SPDX-License-Identifier: BSD-2-Clause
# gdb for a machine that waits at reset (`make debug`). Commands made here:
#   kernel          runs until the kernel's first C function
#   process NAME    adds the symbols of build/user/NAME.elf; all processes are linked at the same
#                   address, so the last one named wins: look at the current process before believing them
#   processes       the programs there are
# User code of process NAME: `process virtio_blk`, then `hbreak driver_main` (hardware breakpoints hold
# whatever address space is current).
set pagination off
set confirm off
set disassembly-flavor att
set architecture i386:x86-64

python
import glob
import os
import gdb

BUILD = os.environ.get("COPPICE_BUILD", "build")


class Kernel(gdb.Command):
    """Runs until kernel_main."""

    def __init__(self):
        super().__init__("kernel", gdb.COMMAND_RUNNING)

    def invoke(self, argument, from_tty):
        gdb.execute("thbreak kernel_main")
        gdb.execute("continue")


class Process(gdb.Command):
    """process NAME: adds the symbols of one program, in place of the one named before."""

    loaded = None

    def __init__(self):
        super().__init__("process", gdb.COMMAND_FILES)

    def invoke(self, argument, from_tty):
        path = f"{BUILD}/user/{argument.strip()}.elf"
        if not os.path.exists(path):
            raise gdb.GdbError(f"no program {argument!r}: {' '.join(programs())}")
        if Process.loaded:
            gdb.execute(f"remove-symbol-file {Process.loaded}")
        gdb.execute(f"add-symbol-file {path}")
        Process.loaded = path

    def complete(self, text, word):
        return [p for p in programs() if p.startswith(text)]


class Processes(gdb.Command):
    """Lists the programs whose symbols there are."""

    def __init__(self):
        super().__init__("processes", gdb.COMMAND_STATUS)

    def invoke(self, argument, from_tty):
        print("\n".join(programs()))


def programs():
    return sorted(os.path.basename(p)[:-4] for p in glob.glob(f"{BUILD}/user/*.elf"))


Kernel()
Process()
Processes()
gdb.execute(f"file {BUILD}/kernel/kernel.elf")
end
