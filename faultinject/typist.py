# SPDX-License-Identifier: BSD-2-Clause
"""Somebody types on the console while its serial driver is struck, and compares the echo: the driver has
work, and a character that vanishes or comes twice is seen."""
import random
import threading
import time

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
LINE = 16               # characters, or fewer if it is to rest, then ^U: the line is never run
PAUSE = 0.002           # seconds between characters
ECHO_SECONDS = 4.0      # an echo may wait for one recovery
CLEAR = "\x15"


class Typist(threading.Thread):
    def __init__(self, console, seed):
        super().__init__(daemon=True)
        self.console, self.rng = console, random.Random(f"typist {seed}")
        self.working, self.ending = threading.Event(), threading.Event()
        self.idle = threading.Event()
        self.idle.set()
        self.typed = 0
        self.problems = []
        self.start()

    def work(self):
        self.idle.clear()
        self.working.set()

    def rest(self):
        """Returns when the line being typed is complete, echoed and cleared."""
        self.working.clear()
        self.idle.wait()

    def end(self):
        self.ending.set()
        self.working.set()
        self.join(2 * ECHO_SECONDS)

    def run(self):
        try:
            self.drain()
            while True:
                if not self.working.is_set():
                    self.idle.set()
                self.working.wait()
                if self.ending.is_set():
                    break
                self.line()
        except OSError:
            pass  # QEMU ended; whoever ended it knows
        finally:
            self.idle.set()

    def drain(self):
        """Throws away what the console said at its start."""
        self.console.settimeout(0.2)
        try:
            while self.console.recv(4096):
                pass
        except TimeoutError:
            pass

    def line(self):
        text = ""
        while len(text) < LINE and (self.working.is_set() or not text):
            text += self.rng.choice(LETTERS)
            self.console.sendall(text[-1].encode())
            time.sleep(PAUSE)
        if self.expect(text):
            self.console.sendall(CLEAR.encode())
            self.expect("\b \b" * len(text))
        self.typed += len(text)

    def expect(self, wanted):
        """The echo must be exactly this. After a mistake: note it, and begin anew on a cleared line."""
        got, deadline = "", time.monotonic() + ECHO_SECONDS
        while len(got) < len(wanted) and time.monotonic() < deadline:
            self.console.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self.console.recv(4096)
            except TimeoutError:
                break
            if not data:
                raise OSError("closed")
            got += data.decode(errors="replace")
        if got == wanted:
            return True
        self.problems.append({"typed": wanted, "echoed": got})
        self.console.sendall(CLEAR.encode())
        self.drain()
        return False
