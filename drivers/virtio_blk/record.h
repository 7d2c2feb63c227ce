/* SPDX-License-Identifier: BSD-2-Clause
 * What outlives an incarnation: who the disk is (a restart then asks nothing but compares) and how much was done
 * with it. Versions of this driver differ in what they keep: record.c of each says how much of this structure is its
 * checkpoint. A new version adds fields at the end and makes one of its own of an older one (record_schema.migrate). */
#ifndef COPPICE_VIRTIO_BLK_RECORD_H
#define COPPICE_VIRTIO_BLK_RECORD_H

#include "lib/driver.h"

struct record {
    uint64_t sectors;
    uint64_t offered; /* feature bits of the device */
    uint32_t bdf, block_bytes;
    char serial[24];
    uint64_t reads, writes, flushes, errors, resets;
    /* from version 2 on */
    uint64_t interrupts, batch_max; /* interrupts that brought completions; most that one brought */
};

extern const struct record_schema {
    uint32_t version, bytes;
    bool (*migrate)(uint32_t version, uint32_t bytes, void *checkpoint);
} record_schema;
void record_count(struct record *r, enum block_op op, status_t status); /* a request is done */
void record_batch(struct record *r, uint32_t taken);                    /* an interrupt was handled */

static inline void record_count_request(struct record *r, enum block_op op, status_t status)
{
    if (status != OK)
        r->errors++;
    else if (op == BLOCK_READ)
        r->reads++;
    else if (op == BLOCK_WRITE)
        r->writes++;
    else
        r->flushes++;
}

#endif
