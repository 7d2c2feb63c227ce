/* SPDX-License-Identifier: BSD-2-Clause
 * A version with a fault in it, to be rolled back: it understands what version 1 kept, commits what nobody else
 * understands, and dies of its CRASH_AT-th completion. */
#include "drivers/virtio_blk/record.h"

#define CRASH_AT 300u

static bool migrate(uint32_t version, uint32_t bytes, void *checkpoint)
{
    (void)checkpoint;
    return version == 1 && bytes == offsetof(struct record, interrupts);
}

const struct record_schema record_schema = {.version = 3, .bytes = sizeof(struct record), .migrate = migrate};

void record_count(struct record *r, enum block_op op, status_t status)
{
    static uint32_t counted;

    record_count_request(r, op, status);
    if (++counted == CRASH_AT) __builtin_trap();
}

void record_batch(struct record *r, uint32_t taken) { (void)r, (void)taken; }
