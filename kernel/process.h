/* SPDX-License-Identifier: BSD-2-Clause
 * Processes: address space, capability table, quota, threads; and their death in order.
 * Life: CREATED (process_create; capabilities and mappings may be given) -> RUNNING (process_start) ->
 * DEAD (process_kill: exit, fault, kill; owns nothing but this page) -> gone (process_destroy). One that is kept
 * goes RUNNING -> FALLEN (process_kill: its threads are gone, all else stays) -> RUNNING (process_start: from its
 * snapshot, if it has one). The
 * parent learns of a death by an event; the first process, which has none, is started again by the kernel. Quota is taken out of the parent's and returned on destroy. */
#ifndef COPPICE_KERNEL_PROCESS_H
#define COPPICE_KERNEL_PROCESS_H

#include "arch/arch.h"
#include "capability.h"
#include "memory.h"
#include "notification.h"
#include "sched.h"

#define THREADS_MAX       8u
#define TIMERS_MAX        64u /* armed ones are one sorted list of everybody's */
#define STACK_PAGES       4u
#define PROCESS_PAGES_MIN 16u
#define BUDGET_MIN_US     50u /* what a budget costs the others is a timer interrupt or two a period */
#define TRACE_CREDIT      256u
#define SIGNAL_CREDIT     64u
#define LOG_BURST         (256u << 10) /* bytes of log lines a service may write at once, and again in a second */

struct strike {         /* what the injector armed */
    bool armed;         /* instructions are being counted */
    uint64_t remaining; /* of them */
    enum inject_action action;
    uint64_t target;
    uint64_t at;     /* the count begins when the breakpoint there is executed; 0: it has begun */
    uint8_t covered; /* by the breakpoint */
    uint64_t back;   /* a CALL is under way and returns to here; 0: none is */
};

struct snapshot { /* snapshot.h */
    bool taken;
    uint32_t rollbacks;    /* that it has gone back to this one */
    handle_t bound;        /* the notification that its thread was bound to; 0: none */
    struct context resume; /* what its thread goes on with */
};

struct process {          /* a page of its own */
    struct object object; /* owner: the parent */
    struct arch_space space;
    enum process_state state;
    uint32_t pid;
    struct process *parent;
    struct process *service; /* the ancestor that the first process made, or itself: credits below are its */
    struct list children, sibling;
    struct list threads;
    uint32_t thread_count, mapping_count, handle_count, object_count, timer_count;
    uint32_t lent;        /* struct dma_mapping whose lender it is */
    uint64_t quota, used; /* pages */

    struct list objects; /* struct object.owned */
    void *cells;         /* free cells, linked by their first word */
    paddr_t pool;        /* pages of cells, linked by their first word */
    uint64_t pool_pages;
    struct capability *slots; /* free capability slots */
    uint32_t chunk_count;
    struct list mappings; /* struct mapping.of_process, by address */
    struct mapping *last_mapping;

    struct list endpoints; /* it serves (struct endpoint.of_server) */
    struct list irqs;      /* it bound (struct irq.of_user) */
    struct list domains;   /* it attached (struct dma.of_user) */

    struct source event_source; /* signalled when a child's event arrives */
    struct list events;         /* children with events (struct process.event_link) */
    struct list event_link;     /* in parent->events */
    uint32_t event_mask;        /* bit per enum process_event_kind */

    enum cause cause;
    uint64_t fault_address, fault_rip, exit_code;
    uint64_t start_tsc, death_tsc, event_tsc, cpu_tsc, overruns, interruptions;
    uint64_t entry, sched;
    bool kept;
    uint32_t falls;       /* of the first process, since it heard of its children */
    const uint8_t *image; /* kept: its ELF file, which the kernel has for ever */
    uint64_t image_bytes;
    struct budget budget, *draws_on; /* sched.h */
    uint32_t cpus;                   /* bit n: its threads may run on cpus[n] */
    uint32_t trace_credit, signal_credit;
    uint64_t log_credit, log_ns, log_dropped; /* bytes, when they were counted, lines */
    struct strike strike;
    struct snapshot snapshot;
    struct thread first; /* of the threads it may have: a process with one thread needs no page for it */
    struct cap_chunk *chunk[CHUNKS_MAX];
};
_Static_assert(sizeof(struct process) <= PAGE_SIZE, "a process fits its page");
_Static_assert(sizeof(struct thread) <= PAGE_SIZE, "a thread fits its page");

/* NULL: no such capability (E_HANDLE). */
static inline struct capability *cap_lookup(struct process *p, handle_t h)
{
    uint32_t index = HANDLE_INDEX(h), chunk = index / CHUNK_SLOTS, slot = index % CHUNK_SLOTS;
    if (chunk >= p->chunk_count || slot == 0) return NULL;
    struct capability *c = &p->chunk[chunk]->slot[slot - 1];
    return c->object && c->generation == HANDLE_GENERATION(h) ? c : NULL;
}

/* image: contiguous memory holding the ELF file at offset. how: bit n for CPU n, of those that the parent may
 * use (none: all of these), and PROCESS_KEPT. */
status_t process_create(struct process *parent, struct memory *image, uint64_t offset, uint64_t length,
                        uint64_t quota, tag_t tag, uint64_t sched, uint64_t how,
                        struct process **out) MUST_USE;
/* tag: of one that fell, its new one; 0: the old. */
status_t process_start(struct process *p, uint64_t arg, tag_t tag) MUST_USE;
void process_kill(struct process *p, enum cause cause, uint64_t address, uint64_t rip);
void process_destroy(struct process *p);
void process_event_raise(struct process *p, enum process_event_kind kind);
bool process_event_take(struct process *parent, struct process_event *out);
void process_describe(const struct process *p, struct process_info *out);
uint64_t process_count(void);
extern struct process *process_root;   /* the first one */
void root_again(struct process *root); /* main.c */
/* An invariant (docs/INVARIANTS.md): a dead process owns zero of everything. */
bool inv_process_dead_owns_nothing(const struct process *p);

#endif
