/* SPDX-License-Identifier: BSD-2-Clause
 * The kernel's reader of the DMAR table (kernel/arch/x86_64/dmar.c). Input: changes to a good table up to a
 * record whose place is 0xffff, then bytes that follow it. What is accepted names exactly the units and
 * reserved regions of a second walk, with addresses that registers can have. */
#include "fuzz.h"
#include "kernel/arch/x86_64/dmar.c"

static const uint8_t good[] = {'D', 'M', 'A', 'R',  [36] = 38, 1,    [48] = 0, 0, 40, 0,    0,    0,    0,
                               0,   0,   0,   0xd9, 0xfe,      0,    0,        0, 0, /* unit */
                               3,   8,   0,   0,    2,         0xff, 0,        0, 1,  8,    0,    0,    0,
                               0,   3,   1,   2,    8,         0,    0,        0, 0,  4,    0, /* scopes */
                               0,   0,   16,  0,    1,         0,    0,        0, 0,  0x10, 0xd9, 0xfe, 0,
                               0,   0,   0, /* unit: all */
                               1,   0,   24,  0,    0,         0,    0,        0, 0,  0,    0,    7,    0,
                               0,   0,   0,   0xff, 0xff,      0xff, 7,        0, 0,  0,    0}; /* reserved */

static uint64_t number(const uint8_t *at, unsigned bytes)
{
    uint64_t v = 0;
    memcpy(&v, at, bytes);
    return v;
}

static void accepted_check(const struct dmar *d, const uint8_t *t, uint64_t length)
{
    uint32_t units = 0, reserved = 0;
    for (uint64_t at = 48; at < length; at += number(t + at + 2, 2)) {
        check(length - at >= 4 && number(t + at + 2, 2) >= 4 && number(t + at + 2, 2) <= length - at);
        if (number(t + at, 2) == 0 && number(t + at + 6, 2) == 0)
            check(units < d->units && d->unit[units++] == number(t + at + 8, 8));
        if (number(t + at, 2) == 1)
            check(reserved < d->reserved && d->region[reserved++].base == number(t + at + 8, 8));
    }
    check(units == d->units && units >= 1 && units <= DMAR_UNITS_MAX && reserved == d->reserved);
    check(d->ioapics <= DMAR_IOAPICS_MAX && d->scopes <= DMAR_SCOPES_MAX && reserved <= DMAR_RESERVED_MAX);
    for (uint32_t i = 0; i < units; i++) {
        check(d->unit[i] && d->unit[i] % 4096 == 0 && d->unit[i] < 1ul << 52);
        for (uint32_t k = 0; k < i; k++) check(d->unit[k] != d->unit[i]);
    }
    for (uint32_t i = 0; i < reserved; i++) check(d->region[i].base <= d->region[i].limit);
    check(d->remap == (t[37] & 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t whole[sizeof good + 256];
    struct input in = {data, size};
    struct dmar d;
    uint64_t length = sizeof good;
    memcpy(whole, good, sizeof good);
    while (in.left >= 2 && !(in.at[0] == 0xff && in.at[1] == 0xff)) patch(&in, whole, sizeof good);
    take(&in, 2);
    if (in.left && take(&in, 1) & 1) length = take(&in, 1) % (sizeof good + 1);
    while (in.left && length < sizeof whole) whole[length++] = (uint8_t)take(&in, 1);
    uint8_t *t = exact_copy(whole, length);
    const char *wrong = dmar_parse(t, length, &d);
    if (!wrong) accepted_check(&d, t, length);
    if (size == 0) check(!wrong && d.units == 2 && d.all && d.ioapics == 1 && d.scopes == 2);
    free(t);
    return 0;
}
