/* SPDX-License-Identifier: BSD-2-Clause
 * One trial: an order's words, and what came of it. The mechanisms (`how`) are those of faultinject/faults.py. */
#ifndef COPPICE_INJECTOR_STRIKE_H
#define COPPICE_INJECTOR_STRIKE_H

#include "garbage.h"
#include "target.h"

#define SITES_MAX 16u

struct trial {
    uint64_t n, instructions, delay_us, second, seed, limit_ms, watch_ms;
    uint64_t again;                   /* so many more successors are struck as the first of them is */
    const char *service, *how, *code; /* code: a snippet of gadgets.c, or a kind of corrupt.c */
    uint64_t a, b;                    /* the snippet's parameters */
    uint64_t text, pages, end;        /* the program's text, and the end of its image */
    uint64_t driver;                  /* its struct driver; 0: none */
    uint64_t at;                      /* where a strike waits for its target; 0: nowhere */
    bool sweep;                       /* then the workload reads back all that it has written */
    bool calm; /* of an enumeration: the strikes are taken back when what they were meant to hit is over */
    const char *other, *starting; /* of an update: who else is struck, and who at its start */
    const char *to, *back, *bad;  /* versions: to this, or if it is this, to that; not one to stay */
    const char *site[SITES_MAX];  /* changes of its text, in the order in which they are tried */
    uint32_t sites;
    uint32_t index;
    struct target before;
};
struct outcome {
    bool struck, second, died, settled, rescued, cleaned, stuck, answered;
    uint32_t wrong; /* answers that were not what was asked for */
    uint32_t poked; /* words written */
    uint32_t site;  /* of its text, from 1, that it came to; 0: none */
    uint32_t in_flight;
    const char *error;
};

/* Nested strikes (nested.c) */
#define VICTIM "virtio_blk" /* its recovery needs everybody */
void nested_end(const struct trial *t, handle_t process, struct outcome *o);
void nested_update(const struct trial *t, handle_t process, struct outcome *o);

/* True: it had not struck. */
bool strike_disarm(handle_t process);
status_t strike_kill(handle_t process, uint64_t instructions);
/* The next processes of a service, 1 + more, each so far into its start. */
status_t strike_next(uint32_t service, uint64_t instructions, uint64_t again) MUST_USE;
/* None is to be struck at its start any more. */
bool strike_next_forget(void);
bool strike_died(const struct trial *t);
/* An armed strike that the target may survive has struck, or the target is dead; false: neither, and it is taken back. */
bool strike_comes(const struct trial *t, handle_t process, struct outcome *o, uint64_t deadline_ns);
status_t strike_open(handle_t inject, handle_t trace) MUST_USE;
bool strike_known(const struct trial *t); /* its mechanism and its snippet */
void strike(struct trial *t, struct outcome *o);
/* A second strike that has not found its successor, or not yet, must not land in a later trial. */
void strike_second_disarm(const struct trial *t, struct outcome *o);
bool settle(void); /* false: the system does not come to rest */
/* Servers that only answer calls execute nothing until somebody calls. Returns how many answers were wrong. */
uint32_t press(const char *service, uint64_t seed);

#endif
