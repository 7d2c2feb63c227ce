/* SPDX-License-Identifier: BSD-2-Clause
 * The record: one 4 KiB block that says what it is, which write it is, where it belongs and of which
 * run, so that a lost, torn, misplaced or stale block cannot pass for a good one. Pure: no system call.
 * The same layout is read on the host by faultinject/verify.py. */
#ifndef COPPICE_WORKLOAD_RECORD_H
#define COPPICE_WORKLOAD_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#define RECORD_BYTES 4096u
#define RECORD_WORDS (RECORD_BYTES / 8)
#define RECORD_MAGIC 0x3144524f43504f43ul /* "COPCORD1" */
/* Prime, so that places of consecutive writes are spread and every place is met once in `places` writes. */
#define RECORD_STRIDE 2654435761ul

struct record {
    uint64_t magic;
    uint64_t seq;   /* from 1, one a write */
    uint64_t place; /* block number on the disk */
    uint64_t seed;  /* of the run */
    uint64_t sum;   /* of all words, the two sums taken as 0 */
    uint64_t sum2;  /* of all partial sums: order matters */
    uint64_t fill[RECORD_WORDS - 6];
};
_Static_assert(sizeof(struct record) == RECORD_BYTES, "a record is a block");

static inline uint64_t record_place(uint64_t seq, uint64_t places) { return seq * RECORD_STRIDE % places; }
void record_make(struct record *r, uint64_t seq, uint64_t place, uint64_t seed);
bool record_good(const struct record *r, uint64_t seq, uint64_t place, uint64_t seed);

#endif
