# SPDX-License-Identifier: BSD-2-Clause
"""The two halves of the harness's channel: the kernel log (guest to host; a line that starts with '{' is
for us) and COM2 (host to guest; orders for the injector). A process's line begins with "[service.generation] ",
put there by the kernel; a line without it is the kernel's own."""
import json
import queue
import re
import threading
import time


GATHER_SECONDS = 0.0005  # QEMU hands the log over byte by byte: to wake up for each costs more than all else that we do

WRITER = re.compile(r"\[(\d+)\.(\d+)\] ")


def split_writer(line):
    """(index of the service that wrote it, or None for the kernel; the line without that)."""
    found = WRITER.match(line)
    return (int(found[1]), line[found.end():]) if found else (None, line)


class GuestGone(Exception):
    """QEMU ended, or the guest has been silent for too long. `panic` tells the kernel's last words."""

    def __init__(self, message, panic=None):
        super().__init__(message)
        self.panic = panic


class LogReader(threading.Thread):
    """Reads the log socket to its end, so that the guest never waits for us. Lines that are objects go
    to `events`; on_event sees each first, in order, on this thread; on_line(writer, text) all others."""

    def __init__(self, log, on_event=lambda event: None, on_line=lambda writer, line: None):
        super().__init__(daemon=True)
        self.log, self.on_event, self.on_line = log, on_event, on_line
        self.events = queue.Queue()
        self.panic = None
        self.bad_lines = []
        self.start()

    def run(self):
        rest = b""
        while True:
            try:
                data = self.log.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            time.sleep(GATHER_SECONDS)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self.take(line.decode(errors="replace").strip("\r"))
        self.events.put(None)

    def take(self, line):
        writer, line = split_writer(line)
        if writer is None and line.startswith("KERNEL PANIC"):
            self.panic = line
            self.events.put({"panic": line})
        if not line.startswith("{"):
            self.on_line(writer, line)
            return
        try:
            event = json.loads(line)
        except ValueError:
            self.bad_lines.append(line)
            return
        event["writer"] = writer
        self.on_event(event)
        if "ack" not in event:
            self.events.put(event)

    def next(self, seconds, what="word"):
        """The next event. Raises GuestGone at the end of the log, at a panic, at a fatal error."""
        try:
            event = self.events.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise GuestGone(f"no {what} from the guest in time", self.panic) from None
        if event is None:
            self.events.put(None)
            raise GuestGone("QEMU ended", self.panic)
        if "panic" in event:
            raise GuestGone("the kernel panicked", event["panic"])
        if "fatal" in event:
            raise GuestGone(event["fatal"], self.panic)
        return event

    def wait(self, key, seconds, accept=lambda value: True):
        """The value of the next event that has key and is accepted; others are dropped (on_event saw them)."""
        deadline = time.monotonic() + seconds
        while True:
            event = self.next(deadline - time.monotonic(), f"'{key}'")
            if key in event and accept(event[key]):
                return event[key]


class Orders:
    def __init__(self, channel):
        self.channel = channel

    def send(self, order):
        try:
            self.channel.sendall(json.dumps(order, separators=(",", ":")).encode() + b"\n")
        except OSError as problem:
            raise GuestGone(f"the order channel is closed: {problem}") from None
