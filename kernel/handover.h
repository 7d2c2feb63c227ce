/* SPDX-License-Identifier: BSD-2-Clause
 * The short way from a thread that just blocked to the one it woke: no queue is touched. Inline, because
 * every call and every reply goes through here; sched.c has the long way and the rules. */
#ifndef COPPICE_KERNEL_HANDOVER_H
#define COPPICE_KERNEL_HANDOVER_H

#include "process.h"

/* Only if nothing as urgent is ready: past an equal, a client and its server would keep the CPU for ever. */
static inline bool sched_may_hand_over(const struct thread *to)
{
    const struct cpu *c = arch_cpu();
    return !(c->ready_mask >> to->priority) && (to->cpus & c->bit);
}

/* client: whom from has just answered, and so worked for until now; NULL: nobody. */
static inline struct context *sched_hand_over(struct thread *from, struct thread *to, struct thread *client)
{
    struct cpu *c = arch_cpu();
    struct process *p = to->process;
    uint64_t now = arch_tsc(), ticks = now - c->since_tsc;
    c->since_tsc = now;
    from->process->cpu_tsc += ticks;
    from->slice_tsc = 0;
    if (from->budget) sched_charge_budget(from->budget, !from->priority, ticks, now);
    if (client) {
        if (client->budget) sched_charge_budget(client->budget, false, ticks, now);
    } else if (__builtin_expect(from->client != NULL, 0)) {
        sched_charge_clients(from, ticks, now);
    }
    to->state = THREAD_RUNNING;
    c->current = to;
    c->switches++;
    c->slicing = false;
    if (to->budget) sched_watch_budget(c, to, now);
    if (c->space != p) {
        c->space = p;
        arch_space_switch(p);
    }
    return &to->context; /* it has run before: it was in a system call */
}

#endif
