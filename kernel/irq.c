/* SPDX-License-Identifier: BSD-2-Clause
 * Interrupts, ports and timers. Owns the table from vectors to interrupt objects and the list of armed
 * timers. */
#include "irq.h"
#include "process.h"
#include "sched.h"
#include "trace.h"
#include "print.h"

static struct irq *by_vector[256];

status_t irq_create(struct process *owner, enum irq_kind kind, uint32_t number, paddr_t table, uint32_t entry,
                    uint32_t limit, struct irq **out)
{
    struct irq *i = cell_alloc(owner);
    if (!i) return E_QUOTA;
    status_t s = arch_irq_open(&i->line, kind, number, table, entry);
    if (s != OK) {
        cell_free(owner, i);
        return s;
    }
    object_init(&i->object, OBJECT_IRQ, owner, owner->object.tag);
    i->limit = limit ? limit : IRQ_LIMIT;
    source_init(&i->source);
    list_init(&i->of_user);
    assert(!by_vector[i->line.vector]);
    by_vector[i->line.vector] = i;
    *out = i;
    return OK;
}

void irq_destroy(struct irq *i)
{
    irq_fence(i);
    arch_irq_close(&i->line);
    by_vector[i->line.vector] = NULL;
}

void irq_bind(struct irq *i, struct process *user, struct notification *n, uint64_t bits)
{
    source_set(&i->source, n, bits);
    list_remove(&i->of_user);
    i->user = user;
    list_append(&user->irqs, &i->of_user);
    i->outstanding = i->pending = i->storm = false;
    i->count = 0;
    i->window_tsc = arch_tsc();
    arch_irq_unmask(&i->line);
}

/* Looks at the clock only when the limit is reached: then it was a storm if the window is not over. */
static bool irq_storms(struct irq *i)
{
    if (i->count++ < i->limit) return false;
    uint64_t now = arch_tsc();
    bool storm = time_ns(now) - time_ns(i->window_tsc) < IRQ_WINDOW_NS;
    i->window_tsc = now;
    i->count = 1;
    return storm;
}

/* Unmasked again by whoever binds it next: the user's successor, if policy ends the user. */
static void irq_stop(struct irq *i)
{
    tag_t tag = i->user->object.tag;
    arch_irq_mask(&i->line);
    i->storm = true;
    trace(TRACE_IRQ_STORM, tag, i->line.vector, i->limit);
    kernel_log("kernel: interrupt storm: vector %u of [%u.%u]: more than %u within %u ms: masked",
               i->line.vector, TAG_SERVICE(tag), TAG_GENERATION(tag), i->limit, IRQ_WINDOW_NS / 1000000);
    process_event_raise(i->user, EVENT_IRQ_STORM);
}

struct thread *irq_deliver(uint8_t vector)
{
    struct irq *i = by_vector[vector];
    if (!i || !i->user || i->storm) return NULL; /* fenced while it was on its way */
    if (irq_storms(i)) {
        irq_stop(i);
        return NULL;
    }
    if (i->line.kind == IRQ_GSI) arch_irq_mask(&i->line);
    if (i->outstanding) {
        i->pending = true;
        return NULL;
    }
    i->outstanding = true;
    return i->source.notification ? notification_wake(i->source.notification, i->source.bits) : NULL;
}

void irq_ack(struct irq *i)
{
    i->outstanding = false;
    if (i->pending) { /* edge that came meanwhile */
        i->pending = false;
        i->outstanding = true;
        source_signal(&i->source);
    }
    if (i->line.kind == IRQ_GSI && i->user && !i->storm) arch_irq_unmask(&i->line);
}

void irq_fence(struct irq *i)
{
    arch_irq_mask(&i->line);
    list_remove(&i->of_user);
    i->user = NULL;
    source_set(&i->source, NULL, 0);
}

status_t ports_create(struct process *owner, uint32_t base, uint32_t count, struct ports **out)
{
    if (count == 0 || base > 0xffff || count > 0x10000 - base) return E_ARGUMENT;
    if (arch_port_reserved((uint16_t)base, count)) return E_BUSY;
    struct ports *p = cell_alloc(owner);
    if (!p) return E_QUOTA;
    object_init(&p->object, OBJECT_PORTS, owner, owner->object.tag);
    p->base = base;
    p->count = count;
    *out = p;
    return OK;
}

/* --- Timers ------------------------------------------------------------------------------------------------ */

status_t timer_create(struct process *owner, struct notification *n, uint64_t bits, struct timer **out)
{
    struct timer *t = owner->timer_count < TIMERS_MAX ? cell_alloc(owner) : NULL;
    if (!t) return E_QUOTA;
    owner->timer_count++;
    object_init(&t->object, OBJECT_TIMER, owner, owner->object.tag);
    source_init(&t->source);
    source_set(&t->source, n, bits);
    list_init(&t->armed);
    *out = t;
    return OK;
}

void timer_destroy(struct timer *t)
{
    t->object.owner->timer_count--;
    list_remove(&t->armed);
    source_set(&t->source, NULL, 0);
}

void timer_arm(struct timer *t, uint64_t deadline)
{
    list_remove(&t->armed);
    t->deadline_tsc = deadline;
    if (!deadline) return;
    struct list *armed = &arch_cpu()->timers, *at = armed->next;
    while (at != armed && container_of(at, struct timer, armed)->deadline_tsc <= deadline) at = at->next;
    list_append(at, &t->armed);
    sched_need_timer(timer_next());
}

void timer_expire(uint64_t now)
{
    list_each(struct timer, t, &arch_cpu()->timers, armed)
    {
        if (t->deadline_tsc > now) return;
        list_remove(&t->armed);
        source_signal(&t->source);
    }
}

uint64_t timer_next(void)
{
    struct list *armed = &arch_cpu()->timers;
    return list_empty(armed) ? ~0ul : container_of(armed->next, struct timer, armed)->deadline_tsc;
}
