# SPDX-License-Identifier: BSD-2-Clause
"""From a trial to the order that the guest gets: where exactly it strikes, chosen by the trial's seed in the programs of
the image. The same trial and the same image give the same order."""
import random

from faultinject import combination, faults, mutation, plan, programs

SITES = 16          # changes of a text that are tried in turn, until one is executed
REGISTERS = ("r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8", "rbp", "rdi", "rsi", "rdx", "rcx", "rbx", "rax", "flags", "rsp")
FLAGS = (0, 2, 4, 6, 7, 10, 11)  # CF PF AF ZF SF DF OF: a process can change no others
HELD_UP_US = (500, 20_000)
TEXT_LIMIT_MS = 25   # in which a target comes to one of the sites
NOWHERE = 0x7000_0000_0000
HEAP, BUFFER = 0, 1  # addresses that the injector chooses by the seed


def order(trial, image, tsc_hz=1):
    """(order, where it strikes in words)"""
    fault = faults.BY_NAME[trial.fault]
    out = {"op": "trial", "n": trial.n, "service": trial.service, "how": fault.how, "code": fault.code, "seed": trial.seed,
           "delay_us": trial.delay_us, "instructions": trial.instructions, "second": trial.second, "again": trial.again,
           "watch_ms": fault.watch_ms}
    if fault.how == "update":
        fields = combination.chosen(trial)
        return {k: v for k, v in (out | fields).items() if v not in (0, "")}, combination.text(fields)
    rng = random.Random(f"coppice aim {trial.seed}")
    fields, text = {}, ""
    if fault.how == "text" or fault.at:
        program = programs.of_service(image, trial.service)
        fields, text = sites(rng, program, fault)
    elif fault.how in ("call", "corrupt"):
        fields, text = word(rng, image, trial.service, fault)
    if fault.how == "starve":
        fields["a"], text = starved_us(trial), f"{starved_us(trial)} us"
    if fault.code == "spin":
        us = rng.randint(*HELD_UP_US)
        fields["a"], text = us * tsc_hz // 1_000_000, f"{us} us"
    if spoils(trial):
        fields["sweep"] = 1
    if fault.how in ("call", "corrupt", "text", "starve") or fault.code == "flood":
        fields["driver"] = programs.of_service(image, trial.service).objects.get("driver", 0)
    return {k: v for k, v in (out | fields).items() if v not in (0, "")}, text


def starved_us(trial):
    return random.Random(f"coppice starve {trial.seed}").randint(*plan.STARVE_US)


def spoils(trial):
    """It may live and write what it should not to the workload's disk, which is read back then."""
    return trial.service == "virtio_blk" and faults.BY_NAME[trial.fault].lives


def reached(text, report):
    """Of several places that were tried in turn, the one that the target came to."""
    places = text.split("; ")
    site = report.get("site", 0)
    return places[site - 1] if 0 < site <= len(places) else text


def text_of(program):
    return {"text": program.text_start, "pages": program.text_pages}


def sites(rng, program, fault):
    if fault.at:
        return text_of(program) | {"at": program.address(fault.at), "instructions": 0}, ""
    chosen = mutation.of(program).choose(rng, fault.code, SITES)
    fields = {f"s{n:x}": change.site() for n, change in enumerate(chosen)}
    return text_of(program) | fields | {"limit_ms": TEXT_LIMIT_MS}, "; ".join(change.text for change in chosen)


def word(rng, image, service, fault):
    """A register, or a word of memory, and what becomes of it."""
    program = programs.of_service(image, service)
    mask, end = 1 << rng.randrange(64), {"end": program.end}
    if fault.code == "flip_register":
        n = rng.randrange(len(REGISTERS))
        if REGISTERS[n] == "flags":
            mask = 1 << rng.choice(FLAGS)
        return {"a": n, "b": mask}, f"{REGISTERS[n]} ^ {mask:#x}"
    if fault.code == "flip_stack":
        return {"a": rng.getrandbits(30), "b": mask}, f"a word of the stack ^ {mask:#x}"
    if fault.code in ("ring", "deaf"):
        return {"a": program.objects["queue"] + programs.member_offset(program.path, "queue", "memory")}, ""
    region = fault.region if fault.region != "wild" else rng.choice(("data", "heap", "text", "nowhere"))
    value = mask if fault.code == "flip_word" else rng.getrandbits(63)
    verb = "^" if fault.code == "flip_word" else "="
    if region == "heap":
        return end | {"a": HEAP, "b": value}, f"a word of what it has mapped {verb} {value:#x}"
    if region == "buffer":
        return end | {"a": BUFFER, "b": value}, f"a word of its clients' data {verb} {value:#x}"
    if region in ("data", "text", "nowhere"):
        low, high = {"data": (program.data_start, program.end - 8), "text": (program.text_start, program.text_start + len(program.text) - 8),
                     "nowhere": (NOWHERE, NOWHERE + (1 << 30))}[region]
        address = rng.randrange(low, high) & ~7
        return {"a": address, "b": value}, f"{region} {address:#x} {verb} {value:#x}"
    return {}, ""
