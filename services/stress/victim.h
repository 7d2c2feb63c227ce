/* SPDX-License-Identifier: BSD-2-Clause
 * The processes that are ended: position-independent routines (victim.S) in an ELF file made in memory.
 * A routine begins with rdi = VICTIM_ARG(row, handle): the row of the shared page in which it counts its
 * rounds, and a handle of its own. */
#ifndef COPPICE_STRESS_VICTIM_H
#define COPPICE_STRESS_VICTIM_H

#define VICTIM_COUNTS 0x600000 /* page: a counter a thread, 8 bytes each */
#define VICTIM_TARGET 0x700000 /* the pages that are taken away */
#define VICTIM_SECOND 0x680000 /* stack top of further threads: not used, not mapped */

/* System calls by number, for the assembler; asserted against abi/syscalls.def in victim.c. */
#define NR_null       0
#define NR_call       1
#define NR_recv       2
#define NR_reply_recv 3
#define NR_yield      11
#define NR_exit       12

#ifndef __ASSEMBLER__
#include "lib/runtime.h"

#define VICTIM_ARG(row, handle) ((uint64_t)(row) | (uint64_t)(handle) << 3)

extern const uint8_t victim_begin[], victim_end[];
extern const uint8_t victim_write[];  /* counts and writes the target, for ever */
extern const uint8_t victim_enter[];  /* the same, entering the kernel each round */
extern const uint8_t victim_yield[];  /* the same, giving way each round */
extern const uint8_t victim_leave[];  /* counts to 2000, then exits */
extern const uint8_t victim_caller[]; /* counts calls to its handle */
extern const uint8_t victim_server[]; /* counts and answers calls on its handle */

status_t victim_image_make(void) MUST_USE;
uint64_t victim_address(const uint8_t *routine);
/* A process that will run `routine` on the CPUs in the mask (0: all). */
struct sys_result victim_create(const uint8_t *routine, uint64_t cpus);
#endif

#endif
