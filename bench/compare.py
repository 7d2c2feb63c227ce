# SPDX-License-Identifier: BSD-2-Clause
"""What is compared with a peer that ran on the same machine in the same run, and how a ratio and its spread come
about. Pure: bench/peers.py measures.

Both systems are booted in pairs, again and again. In each pair each figure has one value a system (the median of
what that boot measured); the pair's ratio is ours over theirs. A row has the medians over the pairs, and as its
spread the lowest and the highest ratio of a pair.
"""
import dataclasses
import statistics

COPPICE = "coppice"


@dataclasses.dataclass(frozen=True)
class Comparison:
    name: str           # Coppice's figure
    unit: str
    theirs: str         # the peer's figure
    peer: str           # what it is
    system: str = "linux"
    p99: bool = False   # compares 99th percentiles instead of medians

    @property
    def row_name(self):
        return f"{self.name}_p99" if self.p99 else self.name

    def pair(self, figures):
        """Both values, if this pair has them. figures: {system: {name: Figure}}."""
        both = figures.get(COPPICE, {}).get(self.name), figures.get(self.system, {}).get(self.theirs)
        values = [getattr(f, "p99" if self.p99 else "value", None) for f in both]
        return None if None in values or values[1] == 0 else values


UNBIND, UIO = "Linux, unbind + bind", "Linux, UIO driver killed"
COMPARISONS = [
    Comparison("null_syscall", "insn", "null_syscall", "Linux, getppid"),
    Comparison("ipc_0w", "insn", "pipe_1b", "Linux, pipe, 1 byte"),
    Comparison("ipc_8w", "insn", "pipe_64b", "Linux, pipe, 64 bytes"),
    Comparison("ipc_8w", "insn", "seqpacket_64b", "Linux, SOCK_SEQPACKET, 64 bytes"),
    Comparison("read4k_qd1_insn", "insn", "read4k_qd1_insn", "Linux, pread"),
    Comparison("read4k_qd32_insn", "insn", "read4k_qd32_insn", "Linux, io_uring"),
    Comparison("read4k_qd1_iops", "1/s", "read4k_qd1_iops", "Linux, pread"),
    Comparison("read4k_qd32_iops", "1/s", "read4k_qd32_iops", "Linux, io_uring"),
    Comparison("recover_cold_insn", "insn", "rebind_insn", UNBIND),
    Comparison("recover_cold_insn", "insn", "uio_insn", UIO),
    Comparison("recover_cold_us", "us", "rebind_us", UNBIND),
    Comparison("recover_cold_us", "us", "uio_us", UIO),
    Comparison("recover_cold_us", "us", "uio_us", UIO, p99=True),
    Comparison("boot_read_us", "us", "boot_read_us", "Linux, minimal initramfs"),
    Comparison("boot_read_us", "us", "boot_kernel_us", "Linux, without loading and unpacking it"),
    Comparison("idle_memory_kib", "KiB", "idle_memory_kib", "Linux, RAM - MemAvailable"),
    Comparison("idle_memory_kib", "KiB", "idle_memory_total_kib", "Linux, MemTotal - MemAvailable"),
]
NO_IOMMU = "linux-noiommu"


def comparisons(iommu):
    """With an IOMMU in the machine Debian's Linux uses it, as Coppice does: that is the comparison of equals. What
    touches the device is then compared with intel_iommu=off as well, where Linux is fastest; a UIO driver only
    there, because uio_pci_generic maps nothing into the IOMMU."""
    if not iommu:
        return COMPARISONS
    off = [dataclasses.replace(c, system=NO_IOMMU, peer=c.peer.replace("Linux", "Linux intel_iommu=off"))
           for c in COMPARISONS if c.name.startswith(("read4k", "recover"))]
    return [c for c in COMPARISONS if c.peer != UIO] + off


def rounded(v):
    return round(v) if abs(v) >= 100 or v == int(v) else round(v, 2)


def row(comparison, pairs):
    """One row of bench.json, or None if no pair has the figure. pairs: [{system: {name: Figure}}]."""
    values = [v for v in map(comparison.pair, pairs) if v]
    if not values:
        return None
    ours, theirs = zip(*values)
    ratios = [a / b for a, b in values]
    return {"name": comparison.row_name, "unit": comparison.unit, "value": rounded(statistics.median(ours)),
            "peer": comparison.peer, "peer_value": rounded(statistics.median(theirs)),
            "ratio": round(statistics.median(ratios), 4), "n": len(values),
            "spread": [round(min(ratios), 4), round(max(ratios), 4)], "spread_of": "ratio",
            "value_spread": [rounded(min(ours)), rounded(max(ours))],
            "peer_spread": [rounded(min(theirs)), rounded(max(theirs))]}


def rows(compared, pairs):
    """The rows, and the names of those that lack a value in some pair."""
    made = [(c, row(c, pairs)) for c in compared]
    short = [f"{c.row_name} ({c.peer})" for c, r in made if r is None or r["n"] < len(pairs)]
    return [r for _, r in made if r], short


HEAD = ["figure", "Coppice", "peer's", "unit", "ratio", "lowest", "highest", "pairs", "peer"]


def cells(r):
    low, high = r["spread"]
    return [r["name"], f"{r['value']:,}", f"{r['peer_value']:,}", r["unit"], f"{r['ratio']:.3f}", f"{low:.3f}",
            f"{high:.3f}", str(r["n"]), r["peer"]]


def table(made):
    """For a terminal."""
    lines = [HEAD] + [cells(r) for r in made]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    left = {0, 3, 8}
    return "\n".join("  ".join(text.ljust(w) if i in left else text.rjust(w)
                               for i, (text, w) in enumerate(zip(line, widths))).rstrip() for line in lines)


def markdown(made):
    lines = [HEAD, ["---"] * len(HEAD)] + [cells(r) for r in made]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
