/* SPDX-License-Identifier: BSD-2-Clause
 * Threads and fixed-priority preemptive scheduling with budgets. A budget is a process's: all its threads,
 * its children and theirs draw on it, so no number of them has more of the CPU than it. A thread whose
 * process, or an ancestor, has used its budget in its period runs at priority 0 until the period ends: a
 * spinning driver starves nobody.
 * One ready queue for all CPUs (docs/decisions/0008-smp.md); the running threads are in no queue. Invariant:
 * whenever a CPU leaves the kernel, no ready thread is more urgent than what runs on a CPU that it may use,
 * unless that CPU has been kicked and will choose again (inv_sched_nobody_waits). */
#ifndef COPPICE_KERNEL_SCHED_H
#define COPPICE_KERNEL_SCHED_H

#include "arch/arch.h"
#include "object.h"

/* Transitions: thread_start (CREATED->READY), sched_switch (READY<->RUNNING), endpoint_call (->SEND),
 * endpoint.c (SEND->REPLY->READY), endpoint_recv (->RECV), notification_wait (->WAIT), thread_ready (blocked->READY),
 * thread_destroy (any->ENDED). */
enum thread_state {
    THREAD_CREATED,
    THREAD_READY,
    THREAD_RUNNING,
    THREAD_SEND,
    THREAD_REPLY,
    THREAD_RECV,
    THREAD_WAIT,
    THREAD_ENDED
};

struct budget {           /* CPU time of a process and its descendants */
    struct budget *outer; /* the nearest ancestor's; NULL: none has one */
    uint64_t limit_tsc, period_tsc;
    uint64_t used_tsc, period_end_tsc; /* periods start with use: who sleeps costs nothing */
};

struct thread { /* a page of its own, but for a process's first */
    struct object object;
    struct context context;
    struct process *process;
    struct list of_process;
    struct list queue; /* ready queue, an endpoint's lists or waiters, by state */
    enum thread_state state;
    uint32_t priority; /* now; 0 while the budget is used up */
    uint32_t base_priority;
    bool replayed; /* its message was delivered to a server that died */
    bool first_run;
    uint32_t cpus;             /* bit n: may run on cpus[n] */
    uint32_t home;             /* the CPU that it was last given to; a hint */
    uint64_t badge;            /* of the call it is in */
    struct endpoint *endpoint; /* SEND, REPLY, RECV */
    struct thread *server;     /* REPLY: who serves it, unless saved */
    struct reply *reply;       /* REPLY: where it was saved */
    struct thread *client;     /* the caller it serves now */
    struct notification *bound;
    uint64_t slice_tsc;         /* of its slice, used so far */
    struct budget *budget;      /* the innermost that it draws on; NULL: none */
    uint64_t exhausted_end_tsc; /* when its priority comes back */
    struct list exhausted;      /* in cpu->exhausted until then */
};

#define CLIENTS_CHARGED 4u /* a longer chain than any system has */

struct trace_header;
struct cpu {
    struct arch_cpu arch;   /* first: entry code reaches it through gs */
    struct thread *current; /* NULL: idle */
    struct process *space;  /* whose address space is loaded; NULL: the kernel's */
    uint32_t id, bit;       /* bit: 1 << id */
    uint32_t ready_mask;    /* bit p: a ready thread of priority p may run here */
    uint32_t coming;        /* 1 + priority of the thread that it was kicked for; 0: none */
    bool stale;             /* idle, and its address space changed: to be loaded again */
    struct list exhausted;
    struct list timers; /* armed here (struct timer.armed) */
    uint64_t since_tsc; /* current runs (or the CPU idles) since */
    uint64_t armed_tsc; /* deadline in the timer hardware; ~0: none */
    uint64_t slice_tsc; /* length of a slice */
    bool slicing;       /* the timer looks after current's slice: an equal is ready */
    uint64_t idle_tsc, switches;
    struct trace_header *trace; /* this CPU's ring */
};

extern struct cpu cpus[CPUS_MAX]; /* the port's; arch_platform.cpus of them run */
#define each_cpu(c) for (struct cpu *c = cpus; c < cpus + arch_platform.cpus; c++)

void sched_init(struct cpu *c, uint32_t id);
struct budget *sched_budget_init(struct process *p); /* its own, its parent's, or NULL */
status_t thread_create(struct process *p, uint64_t entry, uint64_t stack_top, uint64_t arg, uint64_t sched,
                       struct thread **out) MUST_USE;
void thread_destroy(struct thread *t);
void thread_stop(struct thread *t);  /* its registers are in its context, whatever CPU runs it */
void thread_ready(struct thread *t); /* runnable from now; its status word is set */
void thread_block(struct thread *t, enum thread_state why); /* the running thread stops */
void sched_yield(void);
void sched_timer(void);              /* the hardware timer fired */
void sched_need_timer(uint64_t tsc); /* a deadline outside scheduling */
void sched_stop(void);               /* no other CPU runs a process until the caller lets the lock go */
/* No other CPU runs p's threads or holds its address space; or the TLB entries of what was just unmapped. */
void sched_leave(struct process *p);
void sched_flush(struct process *p);
/* The other CPUs that run p look up from it soon (process_info.interruptions). */
void sched_interrupt(const struct process *p);
bool inv_sched_nobody_waits(const struct cpu *c); /* unless it was kicked */
/* Out of an interrupt: `to` is ready. It runs at once, past the queue, if nothing as urgent is ready. */
struct context *sched_wake(struct thread *to);
struct context *sched_switch(void); /* chooses who runs; the context to resume, NULL: idle */
/* For handover.h. */
void sched_charge_budget(struct budget *b, bool overtime, uint64_t ticks, uint64_t now);
/* A server works at its client's expense too, and at that of its client's client: a process has no more of the
 * CPU because others work for it. */
static inline void sched_charge_clients(const struct thread *t, uint64_t ticks, uint64_t now)
{
    unsigned depth = CLIENTS_CHARGED;
    for (const struct thread *c = t->client; c && depth; c = c->client, depth--)
        if (c->budget) sched_charge_budget(c->budget, false, ticks, now);
}
void sched_watch_budget(struct cpu *c, struct thread *t, uint64_t now); /* fire when it will be used up */
/* The current thread still runs and nothing that is ready wants its place. */
static inline bool sched_quiet(const struct cpu *c, const struct thread *t)
{
    return t->state == THREAD_RUNNING && !(c->ready_mask >> t->priority >> c->slicing);
}
static inline struct thread *current(void) { return arch_cpu()->current; }

uint64_t time_ns(uint64_t tsc); /* TSC ticks since boot to ns */
uint64_t time_tsc(uint64_t ns);

#endif
