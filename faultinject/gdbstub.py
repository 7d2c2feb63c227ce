# SPDX-License-Identifier: BSD-2-Clause
"""Changes code of the running kernel through QEMU's gdb stub, to see that a test notices: the remote protocol of
gdb, as much of it as writing memory needs."""
import re
import socket
import subprocess

RET = bytes((0xC3,))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Stub:
    """The machine stands still while this is open."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ask("D")  # and the machine goes on
        self.socket.close()

    def packet(self):
        while not (found := re.search(rb"\$([^#]*)#..", self.rest)):
            data = self.socket.recv(4096)
            if not data:
                raise RuntimeError("the gdb stub is gone")
            self.rest += data
        self.rest = self.rest[found.end():]
        self.socket.sendall(b"+")
        return found[1].decode()

    def ask(self, text):
        self.socket.sendall(f"${text}#{sum(text.encode()) % 256:02x}".encode())
        while (answer := self.packet()).startswith("T"):  # it also says that the machine has stopped
            pass
        return answer

    def write(self, address, data):
        if self.ask(f"M{address:x},{len(data):x}:{data.hex()}") != "OK":
            raise RuntimeError(f"the gdb stub does not write at {address:#x}")


def function(elf, name):
    for line in subprocess.run(["nm", str(elf)], check=True, capture_output=True, text=True).stdout.splitlines():
        address, _, symbol = line.split()[-3:]
        if symbol == name:
            return int(address, 16)
    raise RuntimeError(f"{elf} has no function {name}")


def switch_off(guest, elf, name):
    """A function of the kernel, of no result, returns at once from now on."""
    port = free_port()
    guest.hmp(f"gdbserver tcp:127.0.0.1:{port}")
    with Stub(port) as stub:
        stub.write(function(elf, name), RET)
