# SPDX-License-Identifier: BSD-2-Clause
"""What must be on the disk, and what is. The acknowledgements came over the log; the records are read
from the image by the host: no driver, no guest takes part. Record layout: services/workload/record.h."""
import array
import dataclasses
import hashlib
import itertools
import sys

from tools import qemu

RECORD_BYTES = 4096
MAGIC = 0x3144524F43504F43  # "COPCORD1"
MASK = (1 << 64) - 1
MULTIPLIER, INCREMENT, SPREAD = 6364136223846793005, 1442695040888963407, 0x9E3779B97F4A7C15


def words_of(block):
    words = array.array("Q", block)
    if sys.byteorder == "big":
        words.byteswap()
    return words


def sums(words):
    words = words[:]
    words[4] = words[5] = 0
    return sum(words) & MASK, sum(itertools.accumulate(words)) & MASK


def make_record(seq, place, seed):
    words = array.array("Q", [MAGIC, seq, place, seed, 0, 0])
    x = seed ^ seq * SPREAD & MASK
    for _ in range(RECORD_BYTES // 8 - 6):
        x = (x * MULTIPLIER + INCREMENT) & MASK
        words.append(x)
    words[4], words[5] = sums(words)
    return words.tobytes()


def record_seq(block, place, seed):
    """The sequence number of a good record of this place and run; None for anything else."""
    words = words_of(block)
    if (words[0], words[2], words[3]) != (MAGIC, place, seed) or sums(words) != (words[4], words[5]):
        return None
    return words[1]


def stray_seq(block, seed):
    """The sequence number of a good record of this run, wherever it belongs."""
    return record_seq(block, words_of(block)[2], seed) if len(block) == RECORD_BYTES else None


@dataclasses.dataclass
class Acks:
    """Acknowledged writes as they arrive. `trial` is the trial during which an acknowledgement came."""
    places: int = 0
    stride: int = 0
    seed: int = 0
    count: int = 0
    last: dict = dataclasses.field(default_factory=dict)   # place -> (seq, trial)
    repeated: list = dataclasses.field(default_factory=list)
    trials: array.array = dataclasses.field(default_factory=lambda: array.array("i"))  # by seq: 1 + trial; 0: not acknowledged

    def start(self, places, stride, seed):
        self.places, self.stride, self.seed = places, stride, seed

    def add(self, ranges, trial):
        for first, last in ranges:
            for seq in range(first, last + 1):
                self.add_one(seq, trial)

    def add_one(self, seq, trial):
        if seq >= len(self.trials):
            self.trials.frombytes(bytes(4 * max(65536, seq + 1 - len(self.trials))))
        if self.trials[seq]:
            self.repeated.append(seq)
        self.trials[seq] = 1 + trial
        self.count += 1
        place = seq * self.stride % self.places
        if seq > self.last.get(place, (0, 0))[0]:
            self.last[place] = (seq, trial)


    def trial_of(self, seq):
        """During which seq was acknowledged; 0: none."""
        return max(0, self.trials[seq] - 1) if seq is not None and 0 <= seq < len(self.trials) else 0


@dataclasses.dataclass
class Finding:
    kind: str   # "lost": an older record is there; "corrupt": no record of this place is there
    place: int
    seq: int    # that was acknowledged last
    found: int | None
    trial: int  # during which it was acknowledged

    def text(self):
        there = f"record {self.found}" if self.found is not None else "no valid record"
        return f"place {self.place}: write {self.seq} was acknowledged, the image holds {there}"


def check_disk(path, acks):
    """Every place with an acknowledged write must hold that record or a later one. [] = nothing lost."""
    findings = []
    with open(path, "rb") as image:
        for place, (seq, trial) in sorted(acks.last.items()):
            image.seek(place * RECORD_BYTES)
            block = image.read(RECORD_BYTES)
            found = record_seq(block, place, acks.seed) if len(block) == RECORD_BYTES else None
            if found is None or found * acks.stride % acks.places != place:
                findings.append(Finding("corrupt", place, seq, None, acks.trial_of(stray_seq(block, acks.seed)) or trial))
            elif found < seq:
                findings.append(Finding("lost", place, seq, found, trial))
    return findings


def file_sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def image_sha256(path, image_format, scratch):
    """(SHA-256, bytes) of what a disk image shows to a machine, whatever its format; only read. scratch:
    a file name for an unpacked copy, removed again."""
    size, flat = qemu.disk_info(path)["virtual-size"], path
    if image_format != "raw":
        qemu.qemu_img(scratch, f"{path} cannot be unpacked", "convert", "-U", "-f", image_format, "-O", "raw",
                      str(path), str(scratch))
        flat = scratch
    digest, done = hashlib.sha256(), 0
    with open(flat, "rb") as f:
        while chunk := f.read(min(1 << 20, size - done)):
            digest.update(chunk)
            done += len(chunk)
    digest.update(bytes(size - done))  # QEMU shows a cut-off last sector as padded with zeros
    if flat is not path:
        scratch.unlink()
    return digest.hexdigest(), size
