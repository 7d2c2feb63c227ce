/* SPDX-License-Identifier: BSD-2-Clause
 * Version 2 of what the driver keeps: how many completions its interrupts bring. It takes over from version 1. */
#include "drivers/virtio_blk/record.h"

static bool migrate(uint32_t version, uint32_t bytes, void *checkpoint)
{
    struct record *r = checkpoint;

    if (version != 1 || bytes != offsetof(struct record, interrupts)) return false;
    r->interrupts = r->batch_max = 0;
    return true;
}

const struct record_schema record_schema = {.version = 2, .bytes = sizeof(struct record), .migrate = migrate};

void record_count(struct record *r, enum block_op op, status_t status)
{
    record_count_request(r, op, status);
}

void record_batch(struct record *r, uint32_t taken)
{
    r->interrupts += taken > 0;
    if (taken > r->batch_max) r->batch_max = taken;
}
