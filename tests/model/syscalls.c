/* SPDX-License-Identifier: BSD-2-Clause
 * Random system-call sequences against the reference model, on the host port. Each run is a seed: whichever
 * thread the kernel runs makes a random call with handles that are good, stale, of another type or made up;
 * the model says which refusals must come and what a success changes; then kernel and model are compared.
 * IPC is checked by its promises: each message arrives whole, each call ends exactly once and in an allowed
 * way. MODEL_SEED replays one run; MODEL_FIRST, MODEL_RUNS and MODEL_CALLS say which runs are made (make model). */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "tests/model/model.h"

#define RUNS_DEFAULT  60
#define CALLS_DEFAULT 20000
#define RW            (RIGHT_READ | RIGHT_WRITE)
#define GRANTABLE     (RW | RIGHT_GRANT)
#define MAP_BASE      USER_DYNAMIC
#define BUFFER        (USER_STACK_TOP - PAGE_SIZE) /* on the first stack: every process has it */

/* --- Chance ------------------------------------------------------------------------------------------- */

static uint64_t random_state;
static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 2685821657736338717ul;
}
static uint64_t below(uint64_t n) { return (random_next() >> 11) % n; }
static bool chance(unsigned percent) { return below(100) < percent; }

static int me; /* the process of the running thread */

/* A handle of the caller: preferably of the type, sometimes any, stale or made up. */
static handle_t random_handle(enum object_type type)
{
    int best[64], n = 0, any[64], m = 0;
    unsigned how = (unsigned)below(100);
    if (how < 3) return random_next();
    if (how < 6) return HANDLE_MAKE(below(64), below(8));
    for (int i = 0; i < model.caps && n < 64; i++) {
        const struct model_cap *k = &model.cap[i];
        if (!k->live || k->process != me) continue;
        if (model.object[k->object].type == type) best[n++] = i;
        if (m < 64) any[m++] = i;
    }
    if (n && how > 12) return model.cap[best[below((uint64_t)n)]].handle;
    return m ? model.cap[any[below((uint64_t)m)]].handle : below(200);
}

/* --- Calls in flight: the promises of IPC ------------------------------------------------------------------- */

#define CALLS_MAX (MODEL_PROCESSES * 8)
static struct flight {     /* one blocked caller */
    struct thread *caller; /* NULL: free */
    uint64_t id, w[MESSAGE_WORDS], badge, info;
    struct endpoint *endpoint;
    uint64_t deliveries;
} flight[CALLS_MAX];
static uint64_t last_id, replies_seen, replays_seen, restarts_seen;

static struct flight *flight_of(const struct thread *t)
{
    for (int i = 0; i < CALLS_MAX; i++)
        if (flight[i].caller == t) return &flight[i];
    return NULL;
}

static bool is_blocked(const struct thread *t) { return t->state == THREAD_SEND || t->state == THREAD_REPLY; }

/* A thread has received a message: it must be one in flight, whole, and marked if it was taken before. */
static void message_check(const struct thread *server)
{
    const struct context *c = &server->context;
    const struct thread *caller = server->client;
    must(caller, "a message without a caller");
    struct flight *f = flight_of(caller);
    must(f && f->id == c->w[0], "message %lu is not in flight", c->w[0]);
    must(caller->state == THREAD_REPLY && caller->server == server, "message %lu: the caller is in state %d",
         f->id, caller->state);
    must(c->handle == f->badge, "message %lu: badge %lx, sent with %lx", f->id, c->handle, f->badge);
    must(INFO_LABEL(c->info) == INFO_LABEL(f->info) && INFO_CAPS(c->info) == INFO_CAPS(f->info),
         "message %lu: info", f->id);
    must(!(c->info & INFO_REPLAYED) == !f->deliveries, "message %lu: delivered %lu times, replayed %lx",
         f->id, f->deliveries, c->info & INFO_REPLAYED);
    must(!f->deliveries || (f->info & INFO_REPLAYABLE), "message %lu: delivered again", f->id);
    for (unsigned i = 0; i < MESSAGE_WORDS - INFO_CAPS(c->info); i++)
        must(c->w[i] == f->w[i], "message %lu: word %u", f->id, i);
    replays_seen += f->deliveries > 0;
    f->deliveries++;
}

/* Capabilities that came with a message become the model's. */
static void message_caps(int from, int to, const uint64_t sent[], const uint64_t got[], uint64_t info)
{
    for (uint32_t i = MESSAGE_WORDS - INFO_CAPS(info); i < MESSAGE_WORDS; i++) {
        if (got[i] && !cap_lookup(model.process[to].kernel, got[i]))
            continue; /* its object died in this same step */
        int c = model_cap_find(from, sent[i]);
        bool may = c != NONE && (model.cap[c].rights & RIGHT_GRANT);
        must(may || !got[i], "word %u: a capability that may not be granted arrived", i);
        if (got[i]) model_cap_derive(to, got[i], c, model.cap[c].rights, 0);
    }
}

/* --- What to do ------------------------------------------------------------------------------------------------ */

struct call {
    unsigned number;
    uint64_t a[10]; /* handle, info, w0..w7 */
};

/* A call's first handle: type, rights, and whether 0 means the caller itself. */
static const struct rule {
    enum object_type type;
    uint32_t rights;
    bool zero;
} rules[SYSCALL_COUNT] = {
    [SYS_call] = {OBJECT_ENDPOINT, RIGHT_WRITE, false},
    [SYS_reply_to] = {OBJECT_REPLY, RIGHT_WRITE, false},
    [SYS_signal] = {OBJECT_NOTIFICATION, RIGHT_WRITE, false},
    [SYS_wait] = {OBJECT_NOTIFICATION, RIGHT_READ, false},
    [SYS_signal_wait] = {OBJECT_NOTIFICATION, RIGHT_WRITE, false},
    [SYS_poll] = {OBJECT_NOTIFICATION, RIGHT_READ, false},
    [SYS_bind] = {OBJECT_NOTIFICATION, RIGHT_READ, true},
    [SYS_recv] = {OBJECT_ENDPOINT, RIGHT_READ, true},
    [SYS_reply_recv] = {OBJECT_ENDPOINT, RIGHT_READ, true},
    [SYS_thread_create] = {OBJECT_PROCESS, RIGHT_MANAGE, true},
    [SYS_endpoint_info] = {OBJECT_ENDPOINT, 0, false},
    [SYS_memory_create] = {OBJECT_PROCESS, RIGHT_MANAGE, true},
    [SYS_memory_map] = {OBJECT_PROCESS, RIGHT_MANAGE, true},
    [SYS_memory_unmap] = {OBJECT_PROCESS, RIGHT_MANAGE, true},
    [SYS_process_create] = {OBJECT_MEMORY, RIGHT_READ | RIGHT_EXECUTE, false},
    [SYS_process_grant] = {OBJECT_PROCESS, RIGHT_MANAGE, false},
    [SYS_process_start] = {OBJECT_PROCESS, RIGHT_MANAGE, false},
    [SYS_process_kill] = {OBJECT_PROCESS, RIGHT_MANAGE, true},
    [SYS_process_destroy] = {OBJECT_PROCESS, RIGHT_MANAGE, false},
    [SYS_process_info] = {OBJECT_PROCESS, RIGHT_MANAGE, true},
    [SYS_event_bind] = {OBJECT_NOTIFICATION, RIGHT_WRITE, false},
    [SYS_irq_create] = {OBJECT_ROOT, 0, false},
    [SYS_irq_bind] = {OBJECT_IRQ, RIGHT_MANAGE, false},
    [SYS_irq_ack] = {OBJECT_IRQ, RIGHT_MANAGE, false},
    [SYS_ports_create] = {OBJECT_ROOT, 0, false},
    [SYS_port_in] = {OBJECT_PORTS, RIGHT_MANAGE, false},
    [SYS_timer_create] = {OBJECT_NOTIFICATION, RIGHT_WRITE, false},
    [SYS_timer_arm] = {OBJECT_TIMER, RIGHT_MANAGE, false},
    [SYS_dma_create] = {OBJECT_ROOT, 0, false},
    [SYS_dma_attach] = {OBJECT_DMA, RIGHT_MANAGE, false},
    [SYS_dma_map] = {OBJECT_DMA, RIGHT_MANAGE, false},
    [SYS_dma_unmap] = {OBJECT_DMA, RIGHT_MANAGE, false},
    [SYS_dma_reset_done] = {OBJECT_DMA, RIGHT_MANAGE, false},
    [SYS_dma_bus_master] = {OBJECT_DMA, RIGHT_MANAGE, false},
    [SYS_inject] = {OBJECT_INJECT, 0, false},
};

/* How often each call is made, of some thousand. */
static const uint16_t weights[SYSCALL_COUNT] = {
    [SYS_null] = 5,
    [SYS_call] = 90,
    [SYS_recv] = 60,
    [SYS_reply_recv] = 60,
    [SYS_reply] = 40,
    [SYS_reply_save] = 12,
    [SYS_reply_to] = 15,
    [SYS_signal] = 40,
    [SYS_wait] = 12,
    [SYS_signal_wait] = 12,
    [SYS_poll] = 20,
    [SYS_bind] = 10,
    [SYS_yield] = 60,
    [SYS_exit] = 3,
    [SYS_thread_create] = 8,
    [SYS_cap_derive] = 60,
    [SYS_cap_revoke] = 10,
    [SYS_cap_delete] = 60,
    [SYS_cap_info] = 20,
    [SYS_endpoint_create] = 15,
    [SYS_endpoint_info] = 10,
    [SYS_notification_create] = 15,
    [SYS_memory_create] = 30,
    [SYS_memory_map] = 40,
    [SYS_memory_unmap] = 25,
    [SYS_process_create] = 40,
    [SYS_process_grant] = 60,
    [SYS_process_start] = 40,
    [SYS_process_kill] = 4,
    [SYS_process_destroy] = 10,
    [SYS_process_info] = 5,
    [SYS_process_event] = 10,
    [SYS_event_bind] = 8,
    [SYS_irq_create] = 8,
    [SYS_irq_bind] = 12,
    [SYS_irq_ack] = 10,
    [SYS_ports_create] = 4,
    [SYS_port_in] = 4,
    [SYS_timer_create] = 10,
    [SYS_timer_arm] = 15,
    [SYS_clock] = 3,
    [SYS_dma_create] = 8,
    [SYS_dma_attach] = 15,
    [SYS_dma_map] = 20,
    [SYS_dma_unmap] = 8,
    [SYS_dma_reset_done] = 12,
    [SYS_dma_bus_master] = 8,
    [SYS_inject] = 6,
};

static unsigned random_number(void)
{
    static unsigned total;
    for (unsigned i = 0; !total && i < SYSCALL_COUNT; i++)
        for (unsigned k = 0; k <= i; k++) total += i == SYSCALL_COUNT - 1 ? weights[k] : 0;
    uint64_t at = below(total);
    unsigned n = 0;
    while (at >= weights[n]) at -= weights[n++];
    return n;
}

static uint64_t random_rights(void)
{
    return chance(50) ? RIGHTS_ALL & random_next() : chance(70) ? GRANTABLE : RW;
}
static uint64_t random_page(void) { return MAP_BASE + below(24) * (chance(95) ? PAGE_SIZE : 0x200000); }

static void arguments_ipc(struct call *c)
{
    unsigned caps = chance(25) ? (unsigned)below(3) + 1 : 0;
    c->a[1] = INFO_MAKE(below(100), caps) | (chance(60) ? INFO_REPLAYABLE : 0);
    for (unsigned i = 0; i < MESSAGE_WORDS; i++) c->a[2 + i] = random_next();
    for (unsigned i = MESSAGE_WORDS - caps; i < MESSAGE_WORDS; i++)
        c->a[2 + i] = random_handle((enum object_type)(1 + below(OBJECT_TYPES - 1)));
    if (c->number == SYS_call) c->a[2] = ++last_id;
}

static void arguments_objects(struct call *c)
{
    switch (c->number) {
    case SYS_cap_derive:
    case SYS_cap_revoke:
    case SYS_cap_delete:
    case SYS_cap_info:
        c->a[0] = random_handle((enum object_type)(1 + below(OBJECT_TYPES - 1)));
        c->a[1] = random_rights();
        c->a[2] = chance(50) ? 0 : below(1000);
        break;
    case SYS_thread_create: c->a[1] = ELF_TEXT, c->a[2] = USER_STACK_TOP; break;
    case SYS_memory_create:
        c->a[1] = below(14);
        c->a[2] = chance(60) ? 0 : below(8);
        break;
    case SYS_memory_map:
        c->a[1] = random_handle(OBJECT_MEMORY);
        c->a[2] = random_page();
        c->a[3] = chance(70) ? 0 : below(6);
        c->a[4] = 1 + below(4);
        c->a[5] = chance(80) ? (chance(50) ? RW : RIGHT_READ) : below(16);
        break;
    case SYS_memory_unmap: c->a[1] = random_page(); break;
    case SYS_process_create:
        c->a[1] = chance(95) ? IMAGE_FILE : below(4) * PAGE_SIZE;
        c->a[2] = chance(95) ? ELF_FILE_BYTES : below(4 * PAGE_SIZE);
        c->a[3] = 14 + below(60);
        c->a[4] = TAG_MAKE(below(8), 1);
        c->a[5] = chance(90) ? TEST_SCHED : SCHED_MAKE(30 + below(2), below(4) * 500, 1000 + below(2) * 500);
        break;
    case SYS_process_grant:
        c->a[1] = random_handle((enum object_type)(1 + below(OBJECT_TYPES - 1)));
        c->a[2] = random_rights();
        c->a[3] = below(1000);
        break;
    case SYS_process_kill: c->a[1] = chance(90) ? CAUSE_KILLED : below(300); break;
    case SYS_process_info: c->a[1] = chance(90) ? BUFFER : random_page(); break;
    case SYS_process_event: c->a[0] = chance(90) ? BUFFER : random_page(); break;
    default: break;
    }
}

static void arguments_hardware(struct call *c)
{
    switch (c->number) {
    case SYS_irq_create: c->a[2] = below(HOST_GSIS + 2); break;
    case SYS_irq_bind:
        c->a[1] = random_handle(OBJECT_NOTIFICATION);
        c->a[2] = below(8);
        break;
    case SYS_ports_create: c->a[1] = below(0x400), c->a[2] = below(16); break;
    case SYS_port_in: c->a[1] = below(16) | (1ul << below(3)) << 16; break;
    case SYS_timer_arm: c->a[1] = chance(20) ? 0 : time_ns(host.tsc) + below(5000); break;
    case SYS_dma_create: c->a[1] = HOST_PCI_FIRST + 8 * below(5); break;
    case SYS_dma_map:
        c->a[1] = random_handle(OBJECT_MEMORY);
        c->a[2] = below(3);
        c->a[3] = 1 + below(4);
        c->a[4] = RW;
        break;
    case SYS_dma_unmap: c->a[1] = HOST_RAM_BASE + below(HOST_RAM_PAGES) * PAGE_SIZE; break;
    case SYS_dma_bus_master: c->a[1] = below(2); break;
    case SYS_inject:
        c->a[1] = random_handle(OBJECT_PROCESS);
        c->a[2] = below(7);
        c->a[3] = c->a[2] == INJECT_POKE || c->a[2] == INJECT_PEEK ? ELF_DATA + below(0x3000) : below(20);
        c->a[4] = below(3);
        c->a[5] = below(9);
        if (c->a[2] == INJECT_MAP) c->a[2] = INJECT_PEEK; /* mappings come by memory_map here */
        break;
    default: break;
    }
}

static struct call random_call(void)
{
    static const unsigned answers[] = {SYS_reply, SYS_reply, SYS_reply_recv, SYS_reply_recv, SYS_reply_save};
    struct call c = {.number = current()->client && chance(50) ? answers[below(5)] : random_number()};
    const struct rule *r = &rules[c.number];
    if (r->type) c.a[0] = r->zero && chance(40) ? 0 : random_handle(r->type);
    switch (c.number) {
    case SYS_call:
    case SYS_reply:
    case SYS_reply_recv:
    case SYS_reply_to: arguments_ipc(&c); break;
    case SYS_signal_wait: c.a[2] = random_handle(OBJECT_NOTIFICATION); /* fall through */
    case SYS_signal:
    case SYS_event_bind:
    case SYS_timer_create: c.a[1] = below(16); break;
    default: arguments_objects(&c); arguments_hardware(&c);
    }
    return c;
}

/* --- What must come of it ------------------------------------------------------------------------------------------ */

/* Which refusals of the first handle must come. A call may look at other arguments first. */
static void refusal_check(const struct call *c, status_t got)
{
    const struct rule *r = &rules[c->number];
    if (!r->type || (r->zero && !c->a[0])) return;
    status_t want = model_decode(me, c->a[0], r->type, r->rights);
    if (want == OK) return;
    must(got == want || got == E_ARGUMENT, "%u: status %d for a handle that must be refused with %d",
         c->number, got, want);
}

/* A refusal for want of resources must have a reason: little left of a quota, or a full table. */
static void resource_check(const struct call *c, status_t got)
{
    if (got != E_QUOTA && got != E_NO_SLOTS) return;
    uint64_t need = c->number == SYS_process_create  ? c->a[3] + 24
                    : c->number == SYS_memory_create ? c->a[1] + 8
                                                     : 8;
    for (int i = 0; i < MODEL_PROCESSES; i++) {
        const struct model_process *p = &model.process[i];
        if (p->state == ABSENT || p->state == DEAD) continue;
        if (p->kernel->quota - p->kernel->used < need || p->kernel->thread_count == THREADS_MAX) return;
    }
    /* A new process's own quota may be what is too small; a machine's vectors and a domain's records end too. */
    must(c->number == SYS_process_create || c->number == SYS_irq_create || c->number == SYS_dma_map,
         "%u: refused with %d though there is room", c->number, got);
}

static int object_of(handle_t h)
{
    int c = model_cap_find(me, h);
    return c == NONE ? NONE : model.cap[c].object;
}
static int process_arg(handle_t h) { return h ? model.object[object_of(h)].process : me; }

/* Refusals by a limit on what is asked, when all else of the call is in order. */
static void limit_check(const struct call *c, status_t got)
{
    if (c->number == SYS_dma_create && got == E_BUSY)
        must(model_has_domain(c->a[1]), "function %lx has no domain", c->a[1]);
    if (c->number == SYS_process_create && got == E_ARGUMENT && c->a[1] == IMAGE_FILE &&
        c->a[2] == ELF_FILE_BYTES && c->a[3] >= PROCESS_PAGES_MIN && object_of(c->a[0]) == 1)
        must(SCHED_BUDGET_US(c->a[5]) > SCHED_PERIOD_US(c->a[5]) ||
                 !model_may_schedule(model.process[me].sched, c->a[5]),
             "a child of schedule %lx is refused", c->a[5]);
}

static void success_memory(const struct call *c, const struct context *out)
{
    int p = process_arg(c->a[0]), o;
    struct model_mapping *m;
    switch (c->number) {
    case SYS_memory_create:
        o = model_object_make(OBJECT_MEMORY, p, me, out->w[0],
                              GRANTABLE | RIGHT_EXECUTE | (c->a[2] & MEMORY_DMA ? RIGHT_DMA : 0));
        model.object[o].pages = c->a[1];
        break;
    case SYS_memory_map:
        must(model_decode(me, c->a[1], OBJECT_MEMORY, 0) == OK || object_of(c->a[1]) == 2,
             "mapped without a capability");
        must(!(c->a[5] & ~(uint64_t)model.cap[model_cap_find(me, c->a[1])].rights),
             "mapped with more rights than held");
        must(model.process[p].state != DEAD, "mapped into a dead process");
        m = model_mapping_room(p);
        must(m, "the model's mappings run out");
        *m = (struct model_mapping){object_of(c->a[1]), c->a[2], c->a[4], model_cap_find(me, c->a[1])};
        break;
    case SYS_memory_unmap:
        m = model_mapping_find(p, c->a[1]);
        must(m, "unmapped what was not mapped");
        m->object = NONE;
        break;
    default: break;
    }
}

static void success_process(const struct call *c, const struct context *out)
{
    int o, p, k;
    switch (c->number) {
    case SYS_process_create:
        must(model_may_schedule(model.process[me].sched, c->a[5]), "a child with more CPU than its parent");
        o = model_object_make(OBJECT_PROCESS, me, me, out->w[0], RIGHT_MANAGE | RIGHT_INJECT | RIGHT_GRANT);
        p = model_process_add((struct process *)object_at(model.process[me].kernel, out->w[0]), me, o);
        model.object[o].process = p;
        model.process[p].sched = c->a[5];
        break;
    case SYS_process_grant:
        p = process_arg(c->a[0]);
        k = model_cap_find(me, c->a[1]);
        must(k != NONE && !(c->a[2] & ~(uint64_t)model.cap[k].rights) && model.process[p].state != DEAD,
             "granted what may not be");
        model_cap_derive(p, out->w[0], k, (uint32_t)c->a[2], c->a[3]);
        break;
    case SYS_process_start:
        p = process_arg(c->a[0]);
        must(model.process[p].state == CREATED, "started in state %d", model.process[p].state);
        model.process[p].state = RUNNING;
        break;
    case SYS_thread_create:
        p = process_arg(c->a[0]);
        must(model.process[p].state == RUNNING, "a thread in a process of state %d", model.process[p].state);
        o = model_object_make(OBJECT_THREAD, p, me, out->w[0], RIGHT_MANAGE);
        model.object[o].thread = (struct thread *)object_at(model.process[me].kernel, out->w[0]);
        break;
    case SYS_process_kill: model_process_end(process_arg(c->a[0])); break;
    case SYS_process_destroy: model_object_destroy(object_of(c->a[0])); break;
    default: break;
    }
}

static void success_cap(const struct call *c, const struct context *out)
{
    int k = model_cap_find(me, c->a[0]);
    must(k != NONE, "%u: success with a handle that names nothing", c->number);
    switch (c->number) {
    case SYS_cap_derive:
        must(!(c->a[1] & ~(uint64_t)model.cap[k].rights), "derived more rights than held");
        model_cap_derive(me, out->w[0], k, (uint32_t)c->a[1], c->a[2]);
        break;
    case SYS_cap_revoke: model_cap_revoke(k); break;
    case SYS_cap_delete: model_cap_drop(k); break;
    case SYS_cap_info:
        must(out->w[0] == model.object[model.cap[k].object].type && out->w[1] == model.cap[k].rights &&
                 out->w[2] == model.cap[k].badge,
             "cap_info of %lx", c->a[0]);
        break;
    default: break;
    }
}

static void success(const struct call *c, const struct context *out)
{
    int o;
    switch (c->number) {
    case SYS_endpoint_create: model_object_make(OBJECT_ENDPOINT, me, me, out->w[0], GRANTABLE); break;
    case SYS_notification_create: model_object_make(OBJECT_NOTIFICATION, me, me, out->w[0], GRANTABLE); break;
    case SYS_reply_save: model_object_make(OBJECT_REPLY, me, me, out->w[0], RIGHT_WRITE); break;
    case SYS_reply_to: model_object_destroy(object_of(c->a[0])); break;
    case SYS_irq_create: model_object_make(OBJECT_IRQ, me, me, out->w[0], RIGHT_MANAGE | RIGHT_GRANT); break;
    case SYS_ports_create:
        model_object_make(OBJECT_PORTS, me, me, out->w[0], RIGHT_MANAGE | RIGHT_GRANT);
        break;
    case SYS_timer_create: model_object_make(OBJECT_TIMER, me, me, out->w[0], RIGHT_MANAGE); break;
    case SYS_dma_create:
        must(!model_has_domain(c->a[1]), "a second domain of function %lx", c->a[1]);
        o = model_object_make(OBJECT_DMA, me, me, out->w[0], RIGHT_MANAGE | RIGHT_GRANT);
        model.object[o].function = c->a[1];
        break;
    case SYS_memory_create:
    case SYS_memory_map:
    case SYS_memory_unmap: success_memory(c, out); break;
    case SYS_process_create:
    case SYS_process_grant:
    case SYS_process_start:
    case SYS_thread_create:
    case SYS_process_kill:
    case SYS_process_destroy: success_process(c, out); break;
    case SYS_cap_derive:
    case SYS_cap_revoke:
    case SYS_cap_delete:
    case SYS_cap_info: success_cap(c, out); break;
    default: break;
    }
}

/* --- IPC after each call: who is where now --------------------------------------------------------------------------- */

static struct thread *all[CALLS_MAX];
static unsigned all_count;

static void threads_gather(struct process *p)
{
    list_each(struct thread, t, &p->threads, of_process)
    {
        must(all_count < CALLS_MAX, "the model's threads run out");
        all[all_count++] = t;
    }
    list_each(struct process, child, &p->children, sibling) threads_gather(child);
}

static bool is_known(const struct thread *t)
{
    for (unsigned i = 0; i < all_count; i++)
        if (all[i] == t) return true;
    return false;
}

/* A call in flight that is over: answered, failed in an allowed way, or its caller died. */
static void flight_end(struct flight *f, bool endpoint_lives)
{
    if (!is_known(f->caller) || (is_blocked(f->caller) && f->caller->context.w[0] != f->id)) {
        f->caller = NULL; /* the caller died */
        return;
    }
    const struct context *c = &f->caller->context;
    status_t s = (status_t)c->status;
    must(f->caller->state == THREAD_READY || f->caller->state == THREAD_RUNNING, "call %lu ended in state %d",
         f->id, f->caller->state);
    must(s == OK || s == E_PEER_RESTARTED || s == E_PEER_GONE, "call %lu ended with %d", f->id, s);
    must(s != E_PEER_RESTARTED || !(f->info & INFO_REPLAYABLE), "replayable call %lu was told of the restart",
         f->id);
    /* E_PEER_RESTARTED and a lost endpoint come together when one death takes the server and then the endpoint. */
    must(s != OK || endpoint_lives, "call %lu was answered though its endpoint is gone", f->id);
    must(s == E_PEER_GONE || f->deliveries, "call %lu was answered and never delivered", f->id);
    replies_seen += s == OK;
    restarts_seen += s == E_PEER_RESTARTED;
    f->caller = NULL;
}

static bool object_lives(const struct process *p, const void *o)
{
    list_each(struct object, at, &p->objects, owned) if (at == o) return true;
    list_each(struct process, child, &p->children, sibling) if (object_lives(child, o)) return true;
    return false;
}

/* Deliveries since the last call: threads that hold a client whose message the model has not seen delivered. */
static struct {
    struct thread *server, *caller;
    uint64_t id;
} held[CALLS_MAX];

static void deliveries_find(void)
{
    for (unsigned i = 0; i < all_count; i++) {
        struct thread *server = all[i], *caller = server->client;
        if (!caller) continue;
        must(is_known(caller), "a server serves a dead caller");
        struct flight *f = flight_of(caller);
        must(f, "a server serves a call that is not in flight");
        bool seen = false;
        for (unsigned k = 0; k < CALLS_MAX; k++) seen |= held[k].server == server && held[k].id == f->id;
        if (seen) continue;
        uint64_t sent[MESSAGE_WORDS];
        memcpy(sent, f->w, sizeof sent);
        message_check(server);
        message_caps(model_process_of(caller->process), model_process_of(server->process), sent,
                     server->context.w, f->info);
    }
    memset(held, 0, sizeof held);
    for (unsigned i = 0; i < all_count; i++)
        if (all[i]->client)
            held[i].server = all[i], held[i].caller = all[i]->client,
            held[i].id = flight_of(all[i]->client)->id;
}

static void threads_check(void)
{
    for (unsigned i = 0; i < all_count; i++) {
        const struct thread *t = all[i];
        struct flight *f = flight_of(t);
        must(!is_blocked(t) == !f, "thread in state %d, call in flight: %d", t->state, !!f);
        if (t->state == THREAD_REPLY) must(!t->server != !t->reply, "a taken call is served or saved");
        if (t->server)
            must(t->server->client == t && is_known(t->server), "a caller's server serves another");
        if (t->reply)
            must(t->reply->caller == t && object_lives(process_root, t->reply),
                 "a saved call's reply is gone");
        if (t->state == THREAD_RUNNING) must(t == current(), "two threads run");
        if (t->bound) must(t->bound->bound == t, "a bound notification is bound to another");
        must(t->state != THREAD_CREATED && t->state != THREAD_ENDED, "a thread in state %d", t->state);
    }
}

static void flights_update(void)
{
    all_count = 0;
    threads_gather(process_root);
    for (int i = 0; i < CALLS_MAX; i++) {
        struct flight *f = &flight[i];
        if (f->caller && (!is_known(f->caller) || !is_blocked(f->caller)))
            flight_end(f, object_lives(process_root, f->endpoint));
    }
    deliveries_find();
    threads_check();
}

static void flight_begin(struct thread *t, const struct call *c)
{
    struct flight *f = flight_of(NULL);
    must(f, "the model's calls run out");
    int k = model_cap_find(me, c->a[0]);
    must(k != NONE, "called without a capability");
    *f = (struct flight){.caller = t,
                         .id = c->a[2],
                         .info = c->a[1],
                         .badge = model.cap[k].badge,
                         .endpoint = (struct endpoint *)object_at(model.process[me].kernel, c->a[0])};
    memcpy(f->w, c->a + 2, sizeof f->w);
}

/* --- One step ------------------------------------------------------------------------------------------------------------ */

#define SHARED_FIRST \
    4 /* objects that the first process makes at boot and shares: endpoints, then notifications */
#define SHARED       6
#define HANDLES_MANY 40

static int processes_count(void)
{
    int n = 0;
    for (int i = 0; i < MODEL_PROCESSES; i++) n += model.process[i].state != ABSENT;
    return n;
}

/* Would a receive wait, as far as the caller can name an endpoint? */
static bool is_waiting(const struct call *c)
{
    if (c->number != SYS_recv && c->number != SYS_reply_recv)
        return c->number == SYS_call || c->number == SYS_wait || c->number == SYS_signal_wait;
    if (model_decode(me, c->a[0], OBJECT_ENDPOINT, RIGHT_READ) != OK) return c->a[0] == 0;
    return list_empty(&((struct endpoint *)object_at(model.process[me].kernel, c->a[0]))->senders);
}

/* Would this call end the first process, stop it for ever, take its authority, or outgrow the model? */
static bool is_unwanted(const struct call *c)
{
    int o = object_of(c->a[0]);
    if (me == 0 && (is_waiting(c) || c->number == SYS_exit || (c->number == SYS_process_kill && !c->a[0])))
        return true;
    if (me == 0 && o != NONE && (o < SHARED_FIRST + SHARED || model.object[o].type == OBJECT_PROCESS) &&
        (c->number == SYS_cap_delete || c->number == SYS_cap_revoke))
        return o < SHARED_FIRST || chance(98); /* without the image nobody has text */
    if (c->number == SYS_process_create && processes_count() == MODEL_PROCESSES) return true;
    for (int i = 0; c->number == SYS_memory_map && i < MODEL_PROCESSES; i++)
        if (model.process[i].state != ABSENT && !model_mapping_room(i)) return true;
    return false;
}

/* The reply's words and capabilities reach the caller in the same step. */
static void answer_check(const struct call *c, const struct thread *caller, int caller_process)
{
    for (unsigned i = 0; i < MESSAGE_WORDS - INFO_CAPS(c->a[1]); i++)
        must(caller->context.w[i] == c->a[2 + i], "the answer's word %u", i);
    must(INFO_LABEL(caller->context.info) == INFO_LABEL(c->a[1]), "the answer's label");
    message_caps(me, caller_process, c->a + 2, caller->context.w, c->a[1]);
}

static struct thread *answered(const struct call *c, struct thread *t)
{
    if (c->number == SYS_reply || c->number == SYS_reply_recv) return t->client;
    if (c->number == SYS_reply_to && model_decode(me, c->a[0], OBJECT_REPLY, RIGHT_WRITE) == OK)
        return ((struct reply *)object_at(t->process, c->a[0]))->caller;
    return NULL;
}

static void call_make(const struct call *c)
{
    struct thread *t = current(), *caller = answered(c, t);
    int caller_process = caller ? model_process_of(caller->process) : NONE;
    bool ends = c->number == SYS_exit;
    int own = model_thread_object(t);
    struct result r = system_call(c->number, c->a);
    if (ends) {
        must(r.state == THREAD_ENDED, "exit returned");
        model_process_end(me);
        return;
    }
    if (r.state == THREAD_ENDED) { /* with its process, or with its first capability */
        must(c->number == SYS_process_kill || c->number == SYS_process_destroy || c->number == SYS_cap_delete,
             "%u: the caller is gone", c->number);
        success(c, NULL);
        must(model.process[me].state == DEAD || model.process[me].state == ABSENT ||
                 (own != NONE && model.object[own].type == OBJECT_NONE),
             "%u: the caller is gone, in the model it lives", c->number);
        return;
    }
    if (c->number == SYS_call && is_blocked(t)) {
        flight_begin(t, c);
        return;
    }
    if (caller && !is_blocked(caller))
        answer_check(c, caller, caller_process);
    else if (caller)
        must(r.status != OK || c->number == SYS_reply_recv, "%u: nothing was answered", c->number);
    if (t->state != THREAD_RUNNING && t->state != THREAD_READY) return; /* recv, wait */
    refusal_check(c, r.status);
    resource_check(c, r.status);
    limit_check(c, r.status);
    if (r.status == OK) success(c, &t->context);
}

/* What happens beside calls: time, interrupts, exceptions. */
static void event_make(void)
{
    uint64_t what = below(40);
    if (what < 24)
        host_advance(below(3000));
    else if (what < 38)
        host_irq_raise(IRQ_GSI, (uint32_t)below(HOST_GSIS));
    else if (me != 0) {
        int p = me;
        kernel_exception(CAUSE_PAGE_FAULT, random_next());
        model_process_end(p);
    }
}

/* The port's account of page tables, which account_check relies on, is that of a walk. */
static void tables_check(struct process *p)
{
    must(host_table_frames(p) == host_table_walk(p), "process %u: page tables", p->pid);
    list_each(struct process, child, &p->children, sibling) tables_check(child);
}

/* Every invariant, after every call. */
static void compare(void)
{
    flights_update();
    compare_processes();
    compare_caps();
    for (int p = 0; p < MODEL_PROCESSES; p++)
        if (model.process[p].state != ABSENT) compare_mappings(p), compare_objects(p);
    account_check(process_root);
    if (call_now % 512 == 0) tables_check(process_root);
}

/* The first process keeps the system populated: a child with some of what is shared. */
static void nursery(void)
{
    struct call c = {SYS_process_create,
                     {boot_image, IMAGE_FILE, ELF_FILE_BYTES, 24 + below(60), TAG_MAKE(1 + below(7), 1),
                      chance(85) ? TEST_SCHED : SCHED_MAKE(30, 500, 1000)}};
    uint64_t before = (uint64_t)processes_count();
    call_make(&c);
    if ((uint64_t)processes_count() == before) return;
    handle_t child = root_thread()->context.w[0];
    compare();
    for (int i = 0; i < SHARED + 2; i++) {
        int o = i < SHARED    ? SHARED_FIRST + i
                : i == SHARED ? 1
                              : 0; /* the image and the root authority too, at times */
        if (model.object[o].root == NONE || chance(i < SHARED ? 25 : 70)) continue;
        const struct model_cap *k = &model.cap[model.object[o].root];
        call_make(&(struct call){
            SYS_process_grant,
            {child, k->handle, k->rights & (chance(60) ? RIGHTS_ALL : random_rights()), below(1000)}});
        compare();
    }
    if (chance(40)) { /* power over another: to kill it, or to make things in its name */
        call_make(&(struct call){SYS_process_grant, {child, random_handle(OBJECT_PROCESS), RIGHT_MANAGE, 0}});
        compare();
    }
    call_make(&(struct call){SYS_process_start, {child, 0}});
}

/* Everybody sleeps but the first process: it serves, signals, makes and ends others. */
static struct call awakening(void)
{
    struct call c = random_call();
    static const unsigned ways[] = {SYS_recv,         SYS_recv, SYS_signal, SYS_signal, SYS_process_destroy,
                                    SYS_process_kill, SYS_reply};
    c.number = ways[below(7)];
    bool process = c.number == SYS_process_destroy || c.number == SYS_process_kill;
    c.a[0] = random_handle(process                  ? OBJECT_PROCESS
                           : c.number == SYS_signal ? OBJECT_NOTIFICATION
                                                    : OBJECT_ENDPOINT);
    c.a[1] = process ? CAUSE_KILLED : c.number == SYS_signal ? 1 + below(15) : INFO_MAKE(below(9), 0);
    return c;
}

static void call_random(void)
{
    struct call c = random_call();
    if (me == 0 && !arch_cpu()->ready_mask && chance(60)) c = awakening();
    if (model.process[me].handles > HANDLES_MANY && chance(60))
        c = (struct call){SYS_cap_delete, {random_handle((enum object_type)(1 + below(OBJECT_TYPES - 1)))}};
    if (is_unwanted(&c) || (me == 0 && chance(40))) c = (struct call){.number = SYS_yield};
    call_make(&c);
}

static void step(void)
{
    struct thread *t = current();
    must(t, "nothing runs");
    me = model_process_of(t->process);
    must(me != NONE, "a process that the model does not know runs");
    if (t->context.arch.step && chance(30)) {
        struct process *p = t->process;
        kernel_step();
        if (p->state == PROCESS_DEAD) model_process_end(me);
    } else if (chance(4)) {
        event_make();
    } else if (me == 0 && processes_count() < MODEL_PROCESSES - 1 &&
               chance(arch_cpu()->ready_mask ? 10 : 40)) {
        nursery();
    } else {
        call_random();
    }
    compare();
}

/* The machine as booted: the model's objects 0 to 3 are the supervisor's, object 2 is the trace. */
static void model_boot(void)
{
    boot();
    memset(&model, 0, sizeof model);
    me = model_process_add(process_root, NONE, NONE);
    model.process[0].state = RUNNING;
    model.process[0].sched = process_root->sched;
    model.process[0].born -= 2; /* the image and the first thread are counted for themselves */
    model_object_make(OBJECT_ROOT, NONE, 0, boot_root, RIGHT_MANAGE | RIGHT_GRANT);
    model_object_make(OBJECT_MEMORY, 0, 0, boot_image, RIGHT_READ | RIGHT_EXECUTE | RIGHT_GRANT);
    model_object_make(OBJECT_TRACE, NONE, 0, boot_trace, RW | RIGHT_GRANT);
    model_object_make(OBJECT_INJECT, NONE, 0, boot_inject, RIGHT_MANAGE | RIGHT_GRANT);
    for (int i = 0; i < SHARED; i++) {
        call_make(&(struct call){.number = i < SHARED / 2 ? SYS_endpoint_create : SYS_notification_create});
        compare();
    }
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

/* A sanitizer's report or a panic ends the run without a failed assertion: name the run all the same. */
static void replay_print(void)
{
    char text[160];
    int n = snprintf(
        text, sizeof text,
        "model: died at call %lu; replay: MODEL_SEED=%lu MODEL_CALLS=%lu build/tests/model/syscalls\n",
        call_now, seed_now, call_now);
    if (write(2, text, (size_t)n) < 0) _exit(1);
}

static void replay_abort(int number)
{
    replay_print();
    signal(number, SIG_DFL);
    raise(number);
}

ParameterizedTestParameters(model, random_calls)
{
    static uint64_t seeds[100000];
    uint64_t one = number_from("MODEL_SEED", 0), runs = one ? 1 : number_from("MODEL_RUNS", RUNS_DEFAULT);
    if (runs > 100000) runs = 100000;
    uint64_t first = number_from("MODEL_FIRST", 1);
    for (uint64_t i = 0; i < runs; i++) seeds[i] = one ? one : first + i;
    return cr_make_param_array(uint64_t, seeds, runs);
}

ParameterizedTest(uint64_t *seed, model, random_calls)
{
    seed_now = *seed;
    random_state = *seed * 0x9e3779b97f4a7c15ul + 1;
    uint64_t calls = number_from("MODEL_CALLS", CALLS_DEFAULT);
    __sanitizer_set_death_callback(replay_print);
    signal(SIGABRT, replay_abort);
    model_boot();
    for (call_now = 1; call_now <= calls; call_now++) step();
    if (getenv("MODEL_SEED"))
        fprintf(stderr, "%lu answers, %lu replays, %lu told of a restart\n", replies_seen, replays_seen,
                restarts_seen);
    if (calls >= CALLS_DEFAULT)
        must(replies_seen > 20 && replays_seen + restarts_seen > 0,
             "a run without substance: %lu answers, %lu replays, %lu restarts", replies_seen, replays_seen,
             restarts_seen);
    /* Everything ends; nothing is left but the first process. */
    list_each(struct process, child, &process_root->children, sibling) process_destroy(child);
    account_check(process_root);
    must(process_count() == 1, "%lu processes are left", process_count());
}
