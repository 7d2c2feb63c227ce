# SPDX-License-Identifier: BSD-2-Clause
"""Reads the lists in abi/*.def for tools outside the C compiler: documents, harness, trace readers.

    read("trace")            -> [{"macro": "EVENT", "args": ["BOOT", 1, "version", "", "..."]}, ...]
    names("errors")          -> {0: "OK", 1: "E_HANDLE", ...}     number -> name
    numbers("trace")         -> {"BOOT": 1, ...}                  name -> number
"""
import pathlib
import re

ABI = pathlib.Path(__file__).resolve().parent.parent / "abi"
TOKEN = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|([A-Za-z_]\w*)|(0x[0-9a-fA-F]+|\d+)|([(),]))')


def comment_of(text):
    """The opening comment, without its decoration and licence line."""
    body = re.match(r"/\*(.*?)\*/", text, re.S).group(1)
    lines = [re.sub(r"^ \*? ?", "", line).rstrip() for line in body.splitlines()]
    return "\n".join(line for line in lines if not line.startswith("SPDX") and line).strip()


def tokens(text):
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    at = 0
    while text[at:].strip():
        found = TOKEN.match(text, at)
        if not found:
            raise ValueError(f"unexpected text: {text[at:at + 30]!r}")
        at = found.end()
        yield found.groups()


def check(name, entries):
    """Each number means one thing in its list; in protocol.def, of one service."""
    seen = {}
    for entry in entries:
        number = next((a for a in entry["args"] if isinstance(a, int)), None)
        key = (entry["args"][0] if entry["macro"] == "MESSAGE" else entry["macro"], number)
        other = seen.setdefault(key, entry)
        if other is not entry:
            raise ValueError(f"abi/{name}.def: {number} is {other['args'][:2]} and {entry['args'][:2]}")
    return entries


def read(name):
    """All entries of abi/NAME.def in order: numbers as int, adjacent strings joined."""
    entries, macro, args, fresh = [], None, None, True
    for string, word, number, mark in tokens((ABI / f"{name}.def").read_text()):
        if args is None:
            if word:
                macro = word
            elif mark == "(":
                args, fresh = [], True
            continue
        if mark == ")":
            entries.append({"macro": macro, "args": args})
            args = None
        elif mark == ",":
            fresh = True
        else:
            value = word if word else int(number, 0) if number else string[1:-1].replace('\\"', '"')
            if fresh:
                args.append(value)
            else:
                args[-1] += value
            fresh = False
    return check(name, entries)


def header(name):
    return comment_of((ABI / f"{name}.def").read_text())


def names(name):
    """number -> name; the order of the two in an entry differs between lists."""
    pairs = {}
    for entry in read(name):
        a, b = entry["args"][:2]
        pairs[a if isinstance(a, int) else b] = b if isinstance(a, int) else a
    return pairs


def numbers(name):
    return {v: k for k, v in names(name).items()}
