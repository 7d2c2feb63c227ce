/* SPDX-License-Identifier: BSD-2-Clause
 * What the parts of the in-guest bench share: time, samples, second processes, the order of suites.
 * All times are TSC ticks. Under `-icount shift=0` a tick is an instruction; which of the two this run
 * is, is found out by counting a loop (ticks_are_instructions). */
#ifndef COPPICE_BENCH_H
#define COPPICE_BENCH_H

#include "lib/runtime.h"
#include "peer.h"
#include "window.h"

#define SAMPLES_MAX 2048

static inline uint64_t ticks(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* The same where a measured window begins or ends (window.h). */
#define ticks_at(kind, name)                                                          \
    ({                                                                                \
        uint32_t low, high;                                                           \
        __asm__ volatile("9:\trdtsc\n\t" WINDOW(kind, name) : "=a"(low), "=d"(high)); \
        (uint64_t) high << 32 | low;                                                  \
    })

/* --- Samples: collected, then written to the kernel log as one JSON line ------------------------------- */
struct samples {
    uint32_t n;
    uint64_t v[SAMPLES_MAX];
};
void samples_add(struct samples *s, uint64_t value); /* the first SAMPLES_MAX; more are an error */
/* Logs and forgets them. `each`: how many of the named thing one sample holds. */
void samples_report(struct samples *s, const char *name, uint64_t each);

/* Ends the bench with {"bench":{"error":...}} unless the status is OK. */
void check(status_t status, const char *what);
handle_t check_value(struct sys_result r, const char *what);

bool ticks_are_instructions(void);

/* Ticks in which this machine had nothing to do: the kernel's idle time, or what a spinner of the lowest
 * priority counted while one runs. Only differences mean something. */
uint64_t idle_ticks(void);
uint64_t switches(void); /* times that another thread was given the CPU, this one's own included */
/* From here on the CPU never idles: time that nobody needs is counted by instruction, and the kernel's
 * path out of idle is not hidden in it. */
void spinner_start(void);

/* --- Suites ---------------------------------------------------------------------------------------------- */
uint64_t suite_boot(void);           /* ticks from the loader's first instruction to the first block read */
void suite_kernel(void);             /* system calls, IPC, interrupts, processes, pages */
void suite_reads(bool instructions); /* 4 KiB reads through the block driver */
void suite_recovery(uint32_t kills); /* kills the block driver under load */
/* What deaths cost the throughput: each round reads for a while without kills, then with one a second, then ten. */
void suite_load(uint64_t rounds);

#endif
