/* SPDX-License-Identifier: BSD-2-Clause
 * Second processes: each is a small ELF file made in memory around one of the routines in peer.S, in an
 * address space of its own, so that what is measured between two processes is the kernel and little else.
 * Owns the image memory. A peer is the bench's child and ends with it. */
#ifndef COPPICE_BENCH_PEER_H
#define COPPICE_BENCH_PEER_H

#define PEER_PAGE    0x600000 /* where a peer finds its struct peer_page */
#define PEER_HANDLE0 0
#define PEER_HANDLE1 8
#define PEER_COUNT   16
#define PEER_TSC     24

/* System calls by number, for the assembler; asserted against abi/syscalls.def in peer.c. */
#define NR_null       0
#define NR_call       1
#define NR_recv       2
#define NR_reply_recv 3
#define NR_signal     7
#define NR_wait       8
#define NR_exit       12

#define SPINNER_INSTRUCTIONS 2 /* of one round of peer_spin */

#ifndef __ASSEMBLER__
#include "lib/runtime.h"

struct peer_page {           /* shared with the peer */
    handle_t handle[2];      /* the peer's own handles */
    volatile uint64_t count; /* peer_spin: rounds */
    volatile uint32_t tsc;   /* peer_stamp: the low half of the TSC, all the time */
};
_Static_assert(offsetof(struct peer_page, handle[1]) == PEER_HANDLE1, "peer.S");
_Static_assert(offsetof(struct peer_page, count) == PEER_COUNT, "peer.S");
_Static_assert(offsetof(struct peer_page, tsc) == PEER_TSC, "peer.S");

/* Routines a peer can run: position-independent code between peer_begin and peer_end. */
extern const uint8_t peer_begin[], peer_end[];
extern const uint8_t peer_server[]; /* answers calls on handle 0 with their own words */
extern const uint8_t peer_pong[];   /* waits for handle 0, signals handle 1, for ever */
extern const uint8_t peer_rest[];   /* signals handle 1, then waits for handle 0 for ever */
extern const uint8_t peer_leave[];  /* exits at once */
extern const uint8_t peer_spin[];   /* counts */
extern const uint8_t peer_stamp[];  /* stores the time */

struct peer {
    handle_t process, memory;
    struct peer_page *page;
    uint32_t handles;
};

void peer_image_make(void);
/* The bare call that is measured: a process that runs `routine` once started. */
struct sys_result peer_create(const uint8_t *routine, uint32_t priority);
/* A peer with its page, not started: gets capabilities by peer_give, then peer_start. */
void peer_open(struct peer *p, const uint8_t *routine, uint32_t priority);
void peer_give(struct peer *p, handle_t h, uint32_t rights);
void peer_start(struct peer *p);
void peer_close(struct peer *p);

/* Timed stubs (stubs.S): ticks from before the system call to after it; nothing is subtracted. */
uint32_t timed_nothing(void);
uint32_t timed_null(void);
uint32_t timed_call_0w(handle_t endpoint, uint64_t *status);
uint32_t timed_call_8w(handle_t endpoint, uint64_t *status, uint64_t words[8]);
uint32_t timed_ping(handle_t to_peer, handle_t from_peer);
uint32_t wait_then_tsc(handle_t notification); /* low half of the TSC at the first instruction after */
#endif

#endif
