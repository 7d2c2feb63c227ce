/* SPDX-License-Identifier: BSD-2-Clause
 * Threads and the scheduler. The timer is armed for the soonest of: a timer object, the end of the running
 * thread's budget, its slice among equals, a used-up thread's next period. It is left alone when it is
 * already set to fire earlier: an early tick costs less than programming it at each switch. */
#include "sched.h"
#include "process.h"
#include "endpoint.h"
#include "irq.h"
#include "frame.h"
#include "trace.h"
#include "print.h"

#define SLICE_US 1000u /* among equals */

/* --- Time: TSC ticks <-> ns since boot -------------------------------------------------------- */

static uint64_t time_base_tsc; /* TSC at boot: set by sched_init of the first CPU */

static uint64_t scale(uint64_t value, uint64_t to, uint64_t from)
{
    return value / from * to + value % from * to / from; /* to, from < 2^33: no overflow */
}
uint64_t time_ns(uint64_t tsc) { return scale(tsc - time_base_tsc, 1000000000, arch_platform.tsc_hz); }
uint64_t time_tsc(uint64_t ns) { return time_base_tsc + scale(ns, arch_platform.tsc_hz, 1000000000); }
static uint64_t time_ticks(uint64_t us) { return scale(us, arch_platform.tsc_hz, 1000000); }

/* --- The ready queue ----------------------------------------------------------------------------------------- */

static struct list ready[PRIORITIES];

void sched_init(struct cpu *c, uint32_t id)
{
    c->id = id;
    c->bit = 1u << id;
    for (unsigned i = 0; id == 0 && i < PRIORITIES; i++) list_init(&ready[i]);
    list_init(&c->exhausted);
    list_init(&c->timers);
    c->armed_tsc = ~0ul;
    c->slice_tsc = time_ticks(SLICE_US);
    c->since_tsc = arch_tsc();
    if (id == 0) time_base_tsc = c->since_tsc;
}

/* The oldest thread of a priority that may run on c. */
static struct thread *queue_first(const struct cpu *c, uint32_t priority)
{
    list_each(struct thread, t, &ready[priority], queue) if (t->cpus & c->bit) return t;
    return NULL;
}

static void queue_put(struct thread *t, bool front)
{
    struct list *q = &ready[t->priority];
    if (front)
        list_prepend(q, &t->queue);
    else
        list_append(q, &t->queue);
    each_cpu(c) if (t->cpus & c->bit) c->ready_mask |= 1u << t->priority;
    t->state = THREAD_READY;
}

static void queue_take(struct thread *t)
{
    list_remove(&t->queue);
    cpus[t->home].coming = 0;
    each_cpu(c) if ((t->cpus & c->bit) && !queue_first(c, t->priority)) c->ready_mask &= ~(1u << t->priority);
}

/* --- Which CPU ------------------------------------------------------------------------------------------------- */

/* How urgent what a CPU does is: 0 if it idles or is about to choose, else 1 + priority. */
static uint32_t cpu_rank(const struct cpu *c)
{
    const struct thread *t = c->current;
    uint32_t rank = t && t->state == THREAD_RUNNING ? t->priority + 1 : 0;
    return rank > c->coming ? rank : c->coming;
}

static bool cpu_could_do_better(const struct cpu *c) { return (uint64_t)c->ready_mask >> cpu_rank(c); }

static void cpu_give(struct cpu *c, uint32_t rank)
{
    c->coming = rank;
    if (c != arch_cpu()) arch_kick(c);
}

/* The least busy CPU: this one if it is about to choose anyway, the one that knows the thread among equals. */
static struct cpu *cpu_for(const struct thread *t)
{
    struct cpu *self = arch_cpu(), *best = t->cpus & cpus[t->home].bit ? &cpus[t->home] : NULL;
    if ((t->cpus & self->bit) && !cpu_rank(self)) return self;
    each_cpu(c) if ((t->cpus & c->bit) && (!best || cpu_rank(c) < cpu_rank(best))) best = c;
    return best;
}

/* A thread became ready: the CPU that should run it, if any should, hears of it. */
static void thread_place(struct thread *t)
{
    if (arch_platform.cpus == 1) return;
    struct cpu *c = cpu_for(t);
    if (cpu_rank(c) > t->priority) return;
    t->home = c->id;
    cpu_give(c, t->priority + 1);
}

/* After this CPU chose, what it left in the queue may be more urgent than what another one does. */
static void cpus_spread(const struct cpu *self)
{
    each_cpu(c) if (c != self && cpu_could_do_better(c))
        cpu_give(c, 32u - (uint32_t)__builtin_clz(c->ready_mask));
}

void sched_interrupt(const struct process *p)
{
    each_cpu(c) if (c != arch_cpu() && c->current && c->current->process == p) arch_kick(c);
}

bool inv_sched_nobody_waits(const struct cpu *c) { return !cpu_could_do_better(c); }

void thread_ready(struct thread *t)
{
    list_remove(&t->queue); /* an endpoint's or a notification's list */
    queue_put(t, false);
    thread_place(t);
}

void thread_block(struct thread *t, enum thread_state why)
{
    assert(t->state == THREAD_RUNNING);
    t->state = why;
    t->slice_tsc = 0;
}

static void timer_want(struct cpu *c, uint64_t tsc)
{
    if (tsc >= c->armed_tsc) return;
    c->armed_tsc = tsc;
    arch_timer_arm(tsc);
}

void sched_need_timer(uint64_t tsc) { timer_want(arch_cpu(), tsc); }

static struct cpu *cpu_running(const struct thread *t)
{
    each_cpu(c) if (c->current == t) return c;
    return NULL;
}

/* --- Budgets ------------------------------------------------------------------------------------------------------ */

/* What a process draws on: its own budget if it has one, or its parent's. */
struct budget *sched_budget_init(struct process *p)
{
    struct budget *outer = p->parent ? p->parent->draws_on : NULL;
    if (!SCHED_BUDGET_US(p->sched)) return outer;
    p->budget = (struct budget){.outer = outer,
                                .limit_tsc = time_ticks(SCHED_BUDGET_US(p->sched)),
                                .period_tsc = time_ticks(SCHED_PERIOD_US(p->sched))};
    return &p->budget;
}

/* overtime: it ran at priority 0, because nobody else would: not at a new period's cost. */
void sched_charge_budget(struct budget *b, bool overtime, uint64_t ticks, uint64_t now)
{
    for (; b; b = b->outer) {
        if (now >= b->period_end_tsc) {
            b->period_end_tsc = now + b->period_tsc;
            b->used_tsc = 0;
            if (overtime) continue;
        }
        b->used_tsc += ticks;
    }
}

/* When the last of its used-up budgets begins anew; 0: none is used up. */
static uint64_t budget_exhausted(const struct thread *t, uint64_t now)
{
    uint64_t end = 0;
    for (const struct budget *b = t->budget; b; b = b->outer)
        if (b->used_tsc >= b->limit_tsc && now < b->period_end_tsc && b->period_end_tsc > end)
            end = b->period_end_tsc;
    return end;
}

static inline void thread_charge(struct thread *t, uint64_t ticks, uint64_t now)
{
    t->process->cpu_tsc += ticks;
    t->slice_tsc += ticks;
    if (t->budget) sched_charge_budget(t->budget, !t->priority, ticks, now);
    sched_charge_clients(t, ticks, now);
}

static inline void account(struct cpu *c, uint64_t now)
{
    uint64_t ticks = now - c->since_tsc;
    c->since_tsc = now;
    if (c->current)
        thread_charge(c->current, ticks, now);
    else
        c->idle_tsc += ticks;
}

/* Other CPUs may run threads that draw on the same budgets: what they used until now counts. */
static void account_all(uint64_t now) { each_cpu(c) account(c, now); }

static uint64_t budget_drains(const struct budget *b)
{
    uint64_t n = 0;
    each_cpu(c) for (const struct budget *d = c->current ? c->current->budget : NULL; d; d = d->outer) n +=
        d == b;
    return n ? n : 1;
}

void sched_watch_budget(struct cpu *c, struct thread *t, uint64_t now)
{
    if (!t->priority) return;
    if (arch_platform.cpus > 1) account_all(now);
    for (struct budget *b = t->budget; b; b = b->outer) {
        uint64_t used = now < b->period_end_tsc ? b->used_tsc : 0,
                 left = b->limit_tsc > used ? b->limit_tsc - used : 0;
        /* Rounded up: a deadline that is over already would come again and again. */
        uint64_t drains = arch_platform.cpus > 1 ? budget_drains(b) : 1;
        timer_want(c, now + (left + drains - 1) / drains);
    }
}

/* Priority 0 until the budget begins anew. */
static void thread_demote(struct cpu *c, struct thread *t, uint64_t end)
{
    t->priority = 0;
    t->exhausted_end_tsc = end;
    list_append(&c->exhausted, &t->exhausted);
    timer_want(c, end);
}

/* The running thread used up a budget; the others that draw on it lose their priority when it is their turn, those
 * that run on other CPUs now. */
static void thread_exhaust(struct cpu *c, struct thread *t, uint64_t end)
{
    thread_demote(c, t, end);
    each_cpu(o) if (o != c && o->current && o->current->priority &&
                    budget_exhausted(o->current, c->since_tsc)) arch_kick(o);
    t->process->overruns++;
    trace_process(TRACE_OVERRUN, t->process, scale(t->budget->used_tsc, 1000000000, arch_platform.tsc_hz), 0);
    process_event_raise(t->process, EVENT_OVERRUN);
}

static void thread_replenish(struct thread *t)
{
    list_remove(&t->exhausted);
    bool queued = t->state == THREAD_READY;
    struct cpu *c = cpu_running(t);
    if (queued) queue_take(t);
    t->priority = t->base_priority;
    if (queued) queue_put(t, false);
    if (queued) thread_place(t);
    if (c && c != arch_cpu()) arch_kick(c); /* to watch its new budget */
}

/* --- Other CPUs ----------------------------------------------------------------------------------------------------- */

/* Its thread is no more: c, which holds or awaits the lock, chooses anew. */
static void cpu_take(struct cpu *c)
{
    account(c, arch_tsc());
    c->current = NULL;
}

void thread_stop(struct thread *t)
{
    struct cpu *c = cpu_running(t);
    if (c && c != arch_cpu()) arch_stop(c->bit, false);
}

void sched_stop(void)
{
    uint32_t mask = 0;
    each_cpu(c) if (c->current && c != arch_cpu()) mask |= c->bit;
    if (mask) arch_stop(mask, false);
}

void sched_leave(struct process *p)
{
    uint32_t mask = 0;
    each_cpu(c) if (c->space == p && c != arch_cpu()) mask |= c->bit;
    if (!mask) return;
    arch_stop(mask, true);
    each_cpu(d)
    {
        if (!(mask & d->bit)) continue;
        if (d->current) cpu_take(d);
        d->space = NULL;
    }
}

void sched_flush(struct process *p)
{
    uint32_t mask = 0;
    each_cpu(c)
    {
        if (c->space != p || c == arch_cpu()) continue;
        if (c->current)
            mask |= c->bit;
        else
            c->stale = true; /* no thread runs there before it has the lock */
    }
    if (mask) arch_stop(mask, false);
}

/* --- Choosing ------------------------------------------------------------------------------------------------------- */

void sched_yield(void)
{
    struct cpu *c = arch_cpu();
    struct thread *t = c->current;
    if (!(c->ready_mask >> t->priority)) return;
    queue_put(t, false);
}

static struct thread *queue_pick(struct cpu *c, uint64_t now)
{
    while (c->ready_mask) {
        struct thread *t = queue_first(c, 31u - (unsigned)__builtin_clz(c->ready_mask));
        queue_take(t);
        t->home = c->id;
        uint64_t end = t->budget && t->priority ? budget_exhausted(t, now) : 0;
        if (!end) return t;
        thread_demote(c, t, end); /* another thread of its process, or a relative, used the budget up */
        queue_put(t, false);
    }
    return NULL;
}

static inline void thread_deadlines(struct cpu *c, struct thread *t, uint64_t now)
{
    if (t->budget) sched_watch_budget(c, t, now);
    c->slicing = c->ready_mask >> t->priority & 1;
    if (c->slicing) timer_want(c, now + (c->slice_tsc > t->slice_tsc ? c->slice_tsc - t->slice_tsc : 0));
}

static inline struct context *thread_resume(struct cpu *c, struct thread *t)
{
    if (c->space != t->process || c->stale) {
        c->space = t->process;
        c->stale = false;
        arch_space_switch(t->process);
    }
    if (__builtin_expect(t->first_run, 0)) {
        t->first_run = false;
        trace_process(TRACE_PROCESS_FIRST, t->process, t->process->pid, 0);
    }
    return &t->context;
}

static bool slice_over(struct cpu *c, struct thread *t)
{
    if (t->slice_tsc < c->slice_tsc) return false;
    t->slice_tsc = 0;
    return true;
}

struct context *sched_switch(void)
{
    struct cpu *c = arch_cpu();
    struct thread *old = c->current;
    bool running = old && old->state == THREAD_RUNNING;
    /* Nothing more urgent, and no equal that became ready since the slice was last looked at. */
    if (__builtin_expect(running && !(c->ready_mask >> old->priority >> c->slicing), 1)) return &old->context;
    uint64_t now = arch_tsc();
    account(c, now);
    c->coming = 0;
    if (running && !(c->ready_mask >> old->priority >> 1)) {
        thread_deadlines(c, old, now);
        return &old->context;
    }
    /* Preempted: it keeps the rest of its slice, but no more, or equals would starve behind it. */
    if (running) queue_put(old, !slice_over(c, old));
    struct thread *next = queue_pick(c, now);
    c->current = next;
    if (next) next->state = THREAD_RUNNING;
    if (arch_platform.cpus > 1) cpus_spread(c);
    if (!next) return NULL;
    c->switches++;
    thread_deadlines(c, next, now);
    return thread_resume(c, next);
}

struct context *sched_wake(struct thread *to)
{
    struct cpu *c = arch_cpu();
    struct thread *old = c->current;
    uint64_t now = arch_tsc();
    bool at_once = old ? arch_platform.cpus == 1 && old->priority < to->priority : true;
    if (!at_once || c->ready_mask >> to->priority || !(to->cpus & c->bit) ||
        (to->budget && budget_exhausted(to, now))) {
        thread_ready(to);
        return sched_switch();
    }
    account(c, now);
    c->coming = 0;
    if (old) queue_put(old, !slice_over(c, old));
    list_remove(&to->queue);
    to->state = THREAD_RUNNING;
    to->home = c->id;
    c->current = to;
    c->switches++;
    thread_deadlines(c, to, now);
    return thread_resume(c, to);
}

void sched_timer(void)
{
    struct cpu *c = arch_cpu();
    uint64_t now = arch_tsc();
    c->armed_tsc = ~0ul;
    c->coming = 0;
    account_all(now);
    list_each(struct thread, t, &c->exhausted, exhausted)
    {
        if (now >= t->exhausted_end_tsc)
            thread_replenish(t);
        else
            timer_want(c, t->exhausted_end_tsc);
    }
    struct thread *t = c->current;
    if (t) t->process->interruptions++;
    uint64_t end = t && t->budget && t->priority ? budget_exhausted(t, now) : 0;
    if (end) thread_exhaust(c, t, end);
    timer_expire(now);
    uint64_t next = timer_next();
    if (next != ~0ul) timer_want(c, next);
    c->coming = 0; /* what was given to this CPU just now, it looks at now */
    if (!t || t->state != THREAD_RUNNING) return;
    if (arch_platform.cpus > 1)
        cpus_spread(c); /* what it was kicked for, if it does something more urgent by now */
    if ((c->ready_mask >> t->priority & 1) && slice_over(c, t))
        sched_yield();
    else
        thread_deadlines(c, t, now);
}

/* --- Threads ----------------------------------------------------------------------------------------------------------- */

/* The process's page has room for one; zeroed. NULL: over quota. */
static struct thread *thread_alloc(struct process *p)
{
    if (p->first.object.type == OBJECT_NONE) {
        __builtin_memset(&p->first, 0, sizeof p->first);
        return &p->first;
    }
    paddr_t page = frame_alloc(p);
    return page.v ? arch_direct(page) : NULL;
}

status_t thread_create(struct process *p, uint64_t entry, uint64_t stack_top, uint64_t arg, uint64_t sched,
                       struct thread **out)
{
    if (p->thread_count == THREADS_MAX) return E_NO_SLOTS;
    struct thread *t = thread_alloc(p);
    if (!t) return E_QUOTA;
    object_init(&t->object, OBJECT_THREAD, p, p->object.tag);
    t->process = p;
    list_append(&p->threads, &t->of_process);
    list_init(&t->queue);
    list_init(&t->exhausted);
    t->state = THREAD_CREATED;
    t->cpus = p->cpus;
    t->home = (uint32_t)__builtin_ctz(t->cpus);
    t->base_priority = t->priority = SCHED_PRIORITY(sched);
    t->budget = p->draws_on;
    p->thread_count++;
    arch_context_init(&t->context, entry, stack_top, arg);
    *out = t;
    return OK;
}

void thread_destroy(struct thread *t)
{
    struct process *p = t->process;
    struct cpu *c = cpu_running(t);
    thread_stop(t);
    if (t->state == THREAD_READY) queue_take(t);
    endpoint_abandon(t);
    if (t->bound) notification_bind(NULL, t);
    if (t->object.root) cap_delete(t->object.root); /* it may be in another process's table */
    list_remove(&t->exhausted);
    if (c) cpu_take(c);
    t->state = THREAD_ENDED;
    list_remove(&t->of_process);
    list_remove(&t->object.owned);
    t->object.type = OBJECT_NONE;
    p->thread_count--;
    if (t != &p->first) frame_free(p, arch_direct_paddr(t));
}
