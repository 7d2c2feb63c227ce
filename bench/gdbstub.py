# SPDX-License-Identifier: BSD-2-Clause
"""The few packets of gdb's remote protocol that stepping a QEMU machine takes (GDB manual, appendix E; QEMU
7.2 gdbstub.c). One instruction a step; QEMU keeps interrupts and timers out of a step unless told otherwise."""

RIP, RSP = 16, 7  # QEMU's numbers of x86_64 registers
REGISTER_BYTES = 8


class StubProblem(Exception):
    """QEMU's stub said something else than it should."""


def packet(text):
    data = text.encode()
    return b"$" + data + b"#%02x" % (sum(data) % 256)


class Stub:
    def __init__(self, connection, timeout=60):
        self.connection, self.input = connection, b""
        connection.settimeout(timeout)
        self.ask("qXfer:features:read:target.xml:0,ffb")  # single registers are only for who has read this

    def _more(self):
        try:
            data = self.connection.recv(65536)
        except TimeoutError:
            raise StubProblem("no answer from QEMU's gdb stub in time") from None
        if not data:
            raise StubProblem("QEMU's gdb stub is gone")
        self.input += data

    def receive(self):
        """The next packet's text. Acknowledgements are passed over; ours goes out."""
        while True:
            start = self.input.find(b"$")
            end = self.input.find(b"#", start + 1) if start >= 0 else -1
            if end >= 0 and len(self.input) >= end + 3:
                text = self.input[start + 1:end]
                self.input = self.input[end + 3:]
                self.connection.sendall(b"+")
                return text.decode("latin-1")
            self._more()

    def ask(self, text, expect=None):
        self.connection.sendall(packet(text))
        answer = self.receive()
        if expect is not None and answer != expect:
            raise StubProblem(f"{text}: {answer!r} instead of {expect!r}")
        return answer

    def register(self, number):
        answer = self.ask(f"p{number:x}")
        if len(answer) != 2 * REGISTER_BYTES:
            raise StubProblem(f"register {number}: {answer!r}")
        return int.from_bytes(bytes.fromhex(answer), "little")

    def memory(self, address, size):
        answer = self.ask(f"m{address:x},{size:x}")
        if len(answer) != 2 * size:
            raise StubProblem(f"{size} bytes at {address:#x}: {answer!r}")
        return bytes.fromhex(answer)

    def word(self, address):
        return int.from_bytes(self.memory(address, 8), "little")

    def interrupts_in_steps(self, on):
        """Of devices: timers stand still, or under stepping they would fire faster than anybody can serve them."""
        self.ask(f"Qqemu.sstep={5 if on else 7:x}", "OK")

    def run_until(self, happened):
        """Runs at full speed, without breakpoints, until happened() returns; then stops the machine."""
        self.connection.sendall(packet("c"))
        happened()
        self.connection.sendall(b"\x03")
        self.receive()

    def run(self, timeout):
        """Runs to a breakpoint; returns rip."""
        self.connection.settimeout(timeout)
        answer = self.ask("c")
        if not answer.startswith(("T05", "S05")):
            raise StubProblem(f"the machine stopped for another reason: {answer!r}")
        return self.register(RIP)

    def run_to(self, addresses, timeout):
        """Runs to one of these addresses, whoever's address space it is."""
        for address in addresses:
            self.ask(f"Z1,{address:x},1", "OK")
        rip = self.run(timeout)
        for address in addresses:
            self.ask(f"z1,{address:x},1", "OK")
        return rip

    def step(self):
        """Executes one instruction; returns the next one's address."""
        self.ask("s")
        return self.register(RIP)
