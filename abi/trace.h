/* SPDX-License-Identifier: BSD-2-Clause
 * Layout of the trace rings: what the kernel writes, and readers inside and outside the guest parse.
 * One ring a CPU, one after the other, of the same size each. A reader copies entries below `head` and drops those that may have been overwritten
 * meanwhile (head advanced by `entries` or more). */
#ifndef COPPICE_ABI_TRACE_H
#define COPPICE_ABI_TRACE_H

#include "types.h"

#define TRACE_MAGIC   0x4543415254504f43ul /* "COPTRACE" */
#define TRACE_VERSION 2
#define LOCK_BUCKETS  40

struct trace_entry { /* 32 bytes */
    uint64_t tsc;
    uint16_t event; /* enum trace_event */
    uint16_t cpu;
    tag_t tag;
    uint64_t a, b;
};

struct lock_times {               /* of one CPU; counted only where several run */
    uint64_t count[LOCK_BUCKETS]; /* n: that took 2^n to 2^(n+1) - 1 TSC ticks, the last also more */
    uint64_t most, sum;           /* ticks */
};

struct trace_header { /* first page of a ring; entries start at the next page */
    uint64_t magic;
    uint32_t version, cpu;
    uint64_t entries; /* capacity, a power of two */
    uint64_t tsc_hz;
    uint64_t head;            /* entries written since boot; entry n is at index n % entries */
    struct lock_times held;   /* the kernel lock, by each entry into the kernel */
    struct lock_times waited; /* for it, where it was not free */
};

enum trace_event {
#define EVENT(name, number, a, b, text) TRACE_##name = number,
#include "trace.def"
#undef EVENT
};
enum mark {
#define MARK(name, number, value, text) MARK_##name = number,
#include "marks.def"
#undef MARK
};

#endif
