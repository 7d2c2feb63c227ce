/* SPDX-License-Identifier: BSD-2-Clause
 * Interrupt objects: one source each, delivered as a signal. At most one delivery is outstanding until
 * irq_ack; a level-triggered line stays masked meanwhile. The process that bound it is its user; its
 * death masks the source. A source that interrupts more often than its limit is masked until it is bound
 * again, and the creator of its user gets an event. Also I/O port ranges and timers, the other two small hardware objects. */
#ifndef COPPICE_KERNEL_IRQ_H
#define COPPICE_KERNEL_IRQ_H

#include "arch/arch.h"
#include "notification.h"

/* An interrupt costs the CPU about a microsecond before any process pays for it: 100,000 a second are a tenth
 * of it. No device that we know asks for more. */
#define IRQ_LIMIT     1000u
#define IRQ_WINDOW_NS 10000000u

struct irq {
    struct object object;
    struct irq_line line;
    bool outstanding, pending, storm;
    uint32_t limit, count; /* interrupts within a window: the most, and since it began */
    uint64_t window_tsc;
    struct source source;
    struct process *user;
    struct list of_user;
};
struct ports {
    struct object object;
    uint32_t base, count;
};
struct timer {
    struct object object;
    struct source source;
    uint64_t deadline_tsc;
    struct list armed; /* in the list of armed timers, soonest first */
};

/* limit: interrupts within IRQ_WINDOW_NS that are not yet a storm; 0: IRQ_LIMIT. */
status_t irq_create(struct process *owner, enum irq_kind kind, uint32_t number, paddr_t table, uint32_t entry,
                    uint32_t limit, struct irq **out) MUST_USE;
void irq_destroy(struct irq *i);
void irq_bind(struct irq *i, struct process *user, struct notification *n, uint64_t bits);
void irq_ack(struct irq *i);
struct thread *irq_deliver(uint8_t vector) MUST_USE; /* whom it wakes, for sched_wake; NULL: nobody */
void irq_fence(struct irq *i);                       /* masks, forgets its user */

status_t ports_create(struct process *owner, uint32_t base, uint32_t count, struct ports **out) MUST_USE;

status_t timer_create(struct process *owner, struct notification *n, uint64_t bits,
                      struct timer **out) MUST_USE;
void timer_destroy(struct timer *t);
void timer_arm(struct timer *t, uint64_t deadline_tsc); /* 0: disarm */
void timer_expire(uint64_t now_tsc);
uint64_t timer_next(void); /* ~0: none */

#endif
