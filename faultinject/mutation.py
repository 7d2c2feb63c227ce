# SPDX-License-Identifier: BSD-2-Clause
"""Changed programs: for each instruction, the changes of each class that one could make of it. The classes are those of
the fault injectors of Rio (Ng and Chen), Nooks and MINIX 3: mistakes that programmers make, as they look in machine code.

A change has the length of what it replaces. Most are one bit of the encoding: all are tried, decoded, and put into the
class that tells what became of the instruction; so every class means what it says, and nothing is assembled."""
import dataclasses

from tools import qemu

NOP = 0x90
ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
BEFORE_CALL = 4  # instructions in which a call's arguments are looked for
# Condition codes that differ by whether equality counts: below, above, less, greater.
OFF_BY_ONE = {0x2: 0x6, 0x6: 0x2, 0x3: 0x7, 0x7: 0x3, 0xC: 0xE, 0xE: 0xC, 0xD: 0xF, 0xF: 0xD}
CLASSES = {  # code of a row in faults.TABLE -> what is changed
    "source": "an operand that is read is another one",
    "destination": "the result goes to another register",
    "pointer": "an address is computed wrong: another base, index or displacement",
    "branch": "a condition that leads forward is turned round",
    "loop": "a condition that leads backward is turned round",
    "off_by_one": "a comparison is off by one: < for <=, or an immediate one more or less",
    "initialise": "a variable is not set to its first value",
    "interface": "an argument of a call is not set",
    "delete": "an instruction is left out",
    "bit": "a bit of the text is turned round",
}
ONE_BIT = ("source", "destination", "pointer", "off_by_one", "bit")


@dataclasses.dataclass(frozen=True)
class Change:
    address: int
    code: bytes      # that replaces what is there
    text: str        # for people

    def site(self):
        return f"{self.address:x}:{self.code.hex()}"


def decoder():
    try:
        import capstone
    except ImportError:
        raise qemu.EnvironmentProblem("python3-capstone is missing: run `make deps`") from None
    md = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    md.detail = True
    return md


def words(i):
    return f"{i.mnemonic} {i.op_str}".strip()


def condition_at(i):
    """Index of the byte that holds a conditional jump's condition, or None."""
    first = i.bytes[0]
    if 0x70 <= first <= 0x7F:
        return 0
    return 1 if first == 0x0F and len(i.bytes) > 1 and 0x80 <= i.bytes[1] <= 0x8F else None


def operands(i):
    """Each as something that compares."""
    import capstone.x86 as x86
    out = []
    for o in i.operands:
        if o.type == x86.X86_OP_MEM:
            out.append(("mem", o.mem.segment, o.mem.base, o.mem.index, o.mem.scale, o.mem.disp, o.size))
        else:
            out.append(("reg", o.reg, o.size) if o.type == x86.X86_OP_REG else ("imm", o.imm))
    return out


def written_first(i):
    """Whether the first operand is only read (cmp, test, push, jumps)."""
    return i.mnemonic not in ("cmp", "test", "push", "call", "jmp") and condition_at(i) is None


def class_of(old, new):
    """What a change of one bit made of the instruction; None: something else altogether."""
    a, b = operands(old), operands(new)
    if new.mnemonic != old.mnemonic or len(a) != len(b) or condition_at(old) is not None or old.mnemonic in ("call", "jmp"):
        return None
    changed = [n for n, (x, y) in enumerate(zip(a, b)) if x != y]
    if len(changed) != 1:
        return None
    n = changed[0]
    x, y = a[n], b[n]
    if x[0] != y[0] or x[-1] != y[-1] and x[0] != "imm":
        return None
    if x[0] == "mem":
        return "pointer"
    if x[0] == "imm" and old.mnemonic == "cmp" and abs(x[1] - y[1]) == 1:
        return "off_by_one"
    return "destination" if n == 0 and written_first(old) else "source"


def one_bit(md, i):
    """(class or None, new bytes, new instruction or None) for each bit of the encoding."""
    for bit in range(8 * i.size):
        code = bytearray(i.bytes)
        code[bit // 8] ^= 1 << bit % 8
        code = bytes(code)
        new = next(md.disasm(code, i.address, 1), None)
        same = new is not None and new.size == i.size
        yield (class_of(i, new) if same else None), code, new if same else None


def branches(i):
    at = condition_at(i)
    if at is None:
        return
    target = i.operands[0].imm
    code = bytearray(i.bytes)
    code[at] ^= 1
    yield ("loop" if target <= i.address else "branch"), bytes(code)
    other = OFF_BY_ONE.get(i.bytes[at] & 15)
    if other is not None:
        code = bytearray(i.bytes)
        code[at] = code[at] & 0xF0 | other
        yield "off_by_one", bytes(code)


def left_out(instructions, n):
    """Classes in which this instruction is left out."""
    i = instructions[n]
    if i.mnemonic in ("ret", "ud2", "endbr64"):
        return
    yield "delete"
    ops = operands(i)
    if i.mnemonic == "mov" and ops[1][0] == "imm" or i.mnemonic == "xor" and ops[0] == ops[1]:
        yield "initialise"
    follows = instructions[n + 1:n + 1 + BEFORE_CALL]
    if any(f.mnemonic == "call" for f in follows) and ops and ops[0][0] == "reg" and written_first(i) and is_argument(i):
        yield "interface"


def is_argument(i):
    name = i.reg_name(i.operands[0].reg)
    family = {"edi": "rdi", "esi": "rsi", "edx": "rdx", "ecx": "rcx", "r8d": "r8", "r9d": "r9"}
    return family.get(name, name) in ARGUMENTS


def changes_of(md, program, instructions, n, kind):
    """The changes of one class of one instruction."""
    i = instructions[n]
    if i.mnemonic == "nop":
        return
    old = f"{program.where(i.address)}: {words(i)} -> "
    if kind in ONE_BIT and (kind != "off_by_one" or i.mnemonic == "cmp"):
        for found, code, new in one_bit(md, i):
            if kind in (found, "bit"):
                yield Change(i.address, code, old + (words(new) if new else "nothing that has this length"))
    for found, code in branches(i):
        new = next(md.disasm(code, i.address, 1), None)
        if found == kind and new:
            yield Change(i.address, code, old + words(new))
    if kind in left_out(instructions, n):
        yield Change(i.address, bytes([NOP]) * i.size, old + "nothing")


class Changes:
    """Of one program, found as they are asked for: decoding all neighbours of all instructions takes seconds."""

    def __init__(self, program):
        self.program, self.md = program, decoder()
        self.places = []  # (instructions of a function, index)
        for start, size, _ in program.functions:
            instructions = list(self.md.disasm(program.code(start, size), start))
            self.places += [(instructions, n) for n in range(len(instructions))]
        self.known = {}

    def at(self, place, kind):
        key = place, kind
        if key not in self.known:
            self.known[key] = list(changes_of(self.md, self.program, *self.places[place], kind))
        return self.known[key]

    def all(self, kind):
        """One list for each instruction that has such changes."""
        return [some for place in range(len(self.places)) if (some := self.at(place, kind))]

    def choose(self, rng, kind, count):
        """count changes of a class, each of another instruction; each instruction is as likely as another."""
        chosen = []
        for place in rng.sample(range(len(self.places)), len(self.places)):
            some = self.at(place, kind)
            if some:
                chosen.append(rng.choice(some))
            if len(chosen) == count:
                break
        return chosen


_known = {}  # text -> Changes


def of(program):
    if program.text not in _known:
        _known[program.text] = Changes(program)
    return _known[program.text]
