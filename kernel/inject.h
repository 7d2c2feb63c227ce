/* SPDX-License-Identifier: BSD-2-Clause
 * The fault injector's mechanism: strike a process after a number of its instructions, look into and
 * write its memory, give it code to run. Held by one process of chaos systems; no policy here. */
#ifndef COPPICE_KERNEL_INJECT_H
#define COPPICE_KERNEL_INJECT_H

#include "process.h"

struct inject {
    struct object object;
    uint64_t pending; /* so many of the next processes of a service are to be struck */
    uint32_t service;
    uint64_t instructions;
    uint32_t probed; /* pid of whom the probes are; 0: of nobody */
    uint64_t hits;   /* probes that it came to */
    struct {
        uint64_t at; /* 0: none, or it came there */
        uint8_t covered;
    } probe[INJECT_PROBES];
};
struct inject *inject_object(void); /* the only one */
void inject_arm(struct process *p, uint64_t instructions, enum inject_action action, uint64_t target);
uint64_t inject_disarm(struct process *p);
void inject_process_started(struct process *p);
void inject_at(struct process *p,
               uint64_t address);         /* an armed strike counts from there; inject_text holds */
void inject_step(struct thread *t);       /* one instruction of it has run */
bool inject_breakpoint(struct thread *t); /* it executed one; false: not ours */
void inject_probe(struct process *p, uint64_t address, uint64_t n); /* inject_text holds; n < INJECT_PROBES */
uint64_t inject_probed(struct process *p, bool forget);             /* bit n: it came there */
/* A byte of text that the process shares with nobody, or NULL. */
uint8_t *inject_text(struct process *p, uint64_t address);

#endif
