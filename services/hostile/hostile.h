/* SPDX-License-Identifier: BSD-2-Clause
 * The hostile program's rooms:
 *   main.c     orders, the run, what is reported
 *   child.c    processes made of copies of this one: they die in the place of it
 *   lethal.c   one instruction or a few that must end a process, and it alone, with one known cause
 *   calls.c    system calls that must be refused, each with one known status
 *   chaos.c    random system calls, in children, several threads on shared objects
 *   flood.c    more of everything than there is
 *   longest.c  what keeps the kernel busy for longest */
#ifndef COPPICE_HOSTILE_H
#define COPPICE_HOSTILE_H

#include "abi/protocol.h"
#include "lib/runtime.h"

#define SHARED_AT     0x20000000ul /* the page that a child shares with us, in both */
#define SCRATCH_AT    0x30000000ul /* where attacks map things */
#define KERNEL_TEXT   0xffffffff80000000ul
#define NON_CANONICAL 0x0000800000000000ul
#define MS            1000000ul

struct shared {     /* written by children, read with suspicion */
    uint64_t calls; /* system calls made by all incarnations of this child */
    uint64_t words[64];
};

/* --- main.c --- */
uint64_t random_next(uint64_t *state);
void failed(const char *attack, const char *what, uint64_t got, uint64_t wanted);

/* --- child.c --- */
struct child {
    handle_t process;
    uint64_t since_ns;
};
enum child_kind { CHILD_LETHAL, CHILD_CHAOS, CHILD_EXIT, CHILD_FORK };
#define CHILD_PAGES 56
/* The argument of a child: what it is to do. */
#define CHILD_ARG(kind, value) ((uint64_t)(kind) | (uint64_t)(value) << 8)
bool child_image_make(void); /* once: the copy that children are made of */
handle_t child_image(void);
uint64_t child_image_bytes(void);
uint8_t *child_image_at(void);                                        /* our view of it */
status_t child_make(struct child *c, uint64_t pages, uint64_t sched); /* not started; shares the page */
status_t child_start(struct child *c, uint64_t arg);
void child_end(struct child *c); /* whatever state it is in */
uint64_t own_sched(void);
extern struct shared *shared; /* ours */

/* --- lethal.c --- */
uint32_t lethal_count(void);
void lethal_run(uint32_t i); /* in us: makes a child that does it, checks how it ended */
void lethal_do(uint32_t i) __attribute__((noreturn)); /* in the child */

/* --- calls.c --- */
uint32_t calls_count(void);
void calls_run(uint32_t i);

/* --- chaos.c --- */
void chaos_keep(uint64_t *seed, uint64_t now_ns); /* keeps the children going */
void chaos_stop(void);
void chaos_do(uint64_t seed) __attribute__((noreturn)); /* in the child */
extern uint64_t chaos_children, chaos_deaths, chaos_causes[64];

/* --- flood.c --- */
void flood_run(uint32_t kind, uint64_t ms);

/* --- longest.c --- */
void longest_run(void);

#endif
