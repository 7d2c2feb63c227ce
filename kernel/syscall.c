/* SPDX-License-Identifier: BSD-2-Clause
 * System calls: each handler decodes and checks everything, then commits; nothing fails after the first
 * write. The list, arguments and results are abi/syscalls.def. A handler returns the caller's status; IPC
 * handlers may leave the caller blocked, whose status the waker writes. */
#include "process.h"
#include "endpoint.h"
#include "dma.h"
#include "irq.h"
#include "frame.h"
#include "inject.h"
#include "snapshot.h"
#include "trace.h"
#include "print.h"

#define LOG_LINE_MAX 512u
#define REVOKE_STEP  256u /* capabilities */

/* --- Decoding ------------------------------------------------------------------------------------------------ */

#define OBJECT_OF(type, c) ((struct type *)(c)->object)

static status_t decode(struct thread *t, handle_t h, enum object_type type, uint32_t rights, void *out)
{
    struct capability *c;
    status_t s = cap_get(t->process, h, type, rights, &c);
    if (s == OK) *(struct object **)out = c->object;
    return s;
}

/* A process argument: 0 is the caller itself. */
static status_t decode_process(struct thread *t, handle_t h, struct process **out)
{
    *out = t->process;
    return h ? decode(t, h, OBJECT_PROCESS, RIGHT_MANAGE, out) : OK;
}

/* The notification of a (handle, bits) pair that something will signal. */
static status_t decode_signal(struct thread *t, handle_t h, uint64_t bits, struct notification **out)
{
    if (!bits) return E_ARGUMENT;
    return decode(t, h, OBJECT_NOTIFICATION, RIGHT_WRITE, out);
}

/* Hands a new object's first capability to the caller: slot room was checked before it was made. */
static status_t give(struct thread *t, struct context *c, struct object *o, uint32_t rights)
{
    c->w[0] = cap_install(t->process, o, rights);
    return OK;
}

#define TRY(expression)                          \
    do {                                         \
        status_t try_status = (expression);      \
        if (try_status != OK) return try_status; \
    } while (0)
#define REQUIRE(condition, status)         \
    do {                                   \
        if (!(condition)) return (status); \
    } while (0)
#define ROOM(p) REQUIRE(cap_room(p), E_NO_SLOTS)

/* --- IPC --------------------------------------------------------------------------------------------------------- */

static status_t sys_null(struct thread *t, struct context *c)
{
    (void)t, (void)c;
    return OK;
}

static status_t sys_call(struct thread *t, struct context *c)
{
    struct capability *k;
    TRY(cap_get(t->process, c->handle, OBJECT_ENDPOINT, RIGHT_WRITE, &k));
    endpoint_call(OBJECT_OF(endpoint, k), t, k->badge);
    return OK;
}

static status_t recv_decode(struct thread *t, struct context *c, struct endpoint **e)
{
    *e = NULL;
    if (c->handle) return decode(t, c->handle, OBJECT_ENDPOINT, RIGHT_READ, e);
    return t->bound ? OK : E_ARGUMENT;
}

static status_t sys_recv(struct thread *t, struct context *c)
{
    struct endpoint *e;
    TRY(recv_decode(t, c, &e));
    REQUIRE(!t->client, E_STATE); /* the caller in hand is answered or saved first */
    endpoint_recv(e, t);
    return OK;
}

static status_t sys_reply_recv(struct thread *t, struct context *c)
{
    struct endpoint *e;
    TRY(recv_decode(t, c, &e));
    if (t->client) TRY(endpoint_reply(t));
    endpoint_recv(e, t);
    return OK;
}

static status_t sys_reply_recv_snapshot(struct thread *t, struct context *c)
{
    struct endpoint *e;
    TRY(recv_decode(t, c, &e));
    TRY(snapshot_prepare(t->process));
    snapshot_take(t);
    if (t->client) TRY(endpoint_reply(t)); /* there is one: it cannot fail */
    endpoint_recv(e, t);
    return OK;
}

static status_t sys_reply(struct thread *t, struct context *c)
{
    (void)c;
    return endpoint_reply(t);
}

static status_t sys_reply_save(struct thread *t, struct context *c)
{
    struct reply *r;
    ROOM(t->process);
    TRY(reply_save(t, &r));
    return give(t, c, &r->object, RIGHT_WRITE);
}

static status_t sys_reply_to(struct thread *t, struct context *c)
{
    struct reply *r;
    TRY(decode(t, c->handle, OBJECT_REPLY, RIGHT_WRITE, &r));
    reply_answer(r, t);
    object_destroy(&r->object);
    return OK;
}

static void signal_commit(struct thread *t, struct notification *n, uint64_t bits)
{
    struct process *s = t->process->service;
    if (s->signal_credit) {
        s->signal_credit--;
        trace(TRACE_SIGNAL, t->process->object.tag, n->object.tag, bits);
    }
    notification_signal(n, bits);
}

static status_t sys_signal(struct thread *t, struct context *c)
{
    struct notification *n;
    TRY(decode(t, c->handle, OBJECT_NOTIFICATION, RIGHT_WRITE, &n));
    signal_commit(t, n, c->info);
    return OK;
}

static status_t sys_signal_wait(struct thread *t, struct context *c)
{
    struct notification *n, *own;
    TRY(decode(t, c->handle, OBJECT_NOTIFICATION, RIGHT_WRITE, &n));
    TRY(decode(t, c->w[0], OBJECT_NOTIFICATION, RIGHT_READ, &own));
    signal_commit(t, n, c->info);
    c->handle = c->w[0]; /* what it waits by, as in wait: the wait ends with it */
    notification_wait(own, t);
    return OK;
}

static status_t sys_wait(struct thread *t, struct context *c)
{
    struct notification *n;
    TRY(decode(t, c->handle, OBJECT_NOTIFICATION, RIGHT_READ, &n));
    notification_wait(n, t);
    return OK;
}

static status_t sys_poll(struct thread *t, struct context *c)
{
    struct notification *n;
    TRY(decode(t, c->handle, OBJECT_NOTIFICATION, RIGHT_READ, &n));
    REQUIRE(n->bits, E_WOULD_BLOCK);
    c->w[0] = n->bits;
    n->bits = 0;
    return OK;
}

static status_t sys_bind(struct thread *t, struct context *c)
{
    struct notification *n = NULL;
    if (c->handle) TRY(decode(t, c->handle, OBJECT_NOTIFICATION, RIGHT_READ, &n));
    REQUIRE(!n || !n->bound || n->bound == t, E_BUSY);
    notification_bind(n, t);
    if (n) n->bound_via = cap_lookup(t->process, c->handle);
    return OK;
}

static status_t sys_yield(struct thread *t, struct context *c)
{
    (void)t, (void)c;
    sched_yield();
    return OK;
}

static status_t sys_exit(struct thread *t, struct context *c)
{
    t->process->exit_code = c->handle;
    process_kill(t->process, CAUSE_EXIT, 0, arch_context_rip(c));
    return OK;
}

static status_t sys_thread_create(struct thread *t, struct context *c)
{
    struct process *p;
    struct thread *made;
    TRY(decode_process(t, c->handle, &p));
    REQUIRE(p->state == PROCESS_RUNNING, E_STATE);
    REQUIRE(c->info < USER_END && c->w[0] <= USER_END, E_ADDRESS);
    ROOM(t->process);
    TRY(thread_create(p, c->info, c->w[0], c->w[1], p->sched, &made));
    thread_ready(made);
    return give(t, c, &made->object, RIGHT_MANAGE);
}

/* --- Capabilities -------------------------------------------------------------------------------------------------- */

static status_t sys_cap_derive(struct thread *t, struct context *c)
{
    struct capability *k = cap_lookup(t->process, c->handle);
    REQUIRE(k, E_HANDLE);
    REQUIRE(!(c->info & ~(uint64_t)k->rights), E_RIGHTS);
    ROOM(t->process);
    c->w[0] = cap_derive(t->process, k, (uint32_t)c->info, c->w[0]);
    return OK;
}

/* Deletes descendants, a bounded number at a time: between two steps interrupts and the other CPUs get in,
 * then the caller executes the same system call again. Who derives meanwhile adds one where a step deletes
 * many, so it ends. Returns OK, or what the caller's status word must hold to make the call once more. */
static status_t revoke_step(struct capability *k, struct context *c, enum syscall_number again)
{
    if (cap_revoke_some(k, REVOKE_STEP)) return OK;
    arch_context_again(c);
    return (status_t)again;
}

static status_t sys_cap_revoke(struct thread *t, struct context *c)
{
    struct capability *k = cap_lookup(t->process, c->handle);
    REQUIRE(k, E_HANDLE);
    return revoke_step(k, c, SYS_cap_revoke);
}

static status_t sys_cap_delete(struct thread *t, struct context *c)
{
    struct capability *k = cap_lookup(t->process, c->handle);
    REQUIRE(k, E_HANDLE);
    if (k->child) {
        status_t s = revoke_step(k, c, SYS_cap_delete);
        if (s != OK) return s;
    }
    cap_drop(k);
    return OK;
}

static status_t sys_cap_info(struct thread *t, struct context *c)
{
    struct capability *k = cap_lookup(t->process, c->handle);
    REQUIRE(k, E_HANDLE);
    c->w[0] = k->object->type;
    c->w[1] = k->rights;
    c->w[2] = k->badge;
    return OK;
}

static status_t sys_cap_next(struct thread *t, struct context *c)
{
    uint64_t taken;
    handle_t next = cap_next(t->process, c->handle, &taken);
    REQUIRE(next, E_NOT_FOUND);
    c->w[0] = next;
    c->w[1] = taken;
    return OK;
}

/* --- Objects ------------------------------------------------------------------------------------------------------- */

static status_t sys_endpoint_create(struct thread *t, struct context *c)
{
    struct endpoint *e;
    ROOM(t->process);
    TRY(endpoint_create(t->process, (tag_t)c->handle, &e));
    return give(t, c, &e->object, RIGHT_READ | RIGHT_WRITE | RIGHT_GRANT);
}

static status_t sys_endpoint_info(struct thread *t, struct context *c)
{
    struct endpoint *e;
    TRY(decode(t, c->handle, OBJECT_ENDPOINT, 0, &e));
    c->w[0] = e->queued;
    c->w[1] = e->in_service;
    c->w[2] = e->served;
    c->w[3] = e->generation;
    return OK;
}

static status_t sys_notification_create(struct thread *t, struct context *c)
{
    struct notification *n;
    ROOM(t->process);
    TRY(notification_create(t->process, (tag_t)c->handle, &n));
    return give(t, c, &n->object, RIGHT_READ | RIGHT_WRITE | RIGHT_GRANT);
}

static status_t sys_memory_create(struct thread *t, struct context *c)
{
    struct process *account;
    struct memory *m;
    TRY(decode_process(t, c->handle, &account));
    REQUIRE(account->state != PROCESS_DEAD, E_STATE);
    REQUIRE(!(c->w[0] >> 32), E_ARGUMENT);
    ROOM(t->process);
    TRY(memory_create(account, c->info, (uint32_t)c->w[0], &m));
    return give(t, c, &m->object,
                RIGHT_READ | RIGHT_WRITE | RIGHT_EXECUTE | RIGHT_GRANT |
                    (m->flags & MEMORY_DMA ? RIGHT_DMA : 0));
}

static status_t sys_memory_create_device(struct thread *t, struct context *c)
{
    struct object *root;
    struct memory *m;
    paddr_t base = {c->info};
    uint64_t pages = c->w[0], limit = 1ul << 52;
    TRY(decode(t, c->handle, OBJECT_ROOT, 0, &root));
    REQUIRE(base.v % PAGE_SIZE == 0 && base.v < limit && pages > 0 && pages <= (limit - base.v) / PAGE_SIZE,
            E_ARGUMENT);
    REQUIRE(!frame_is_ram(base, pages) && !arch_device_reserved(base, pages), E_BUSY);
    ROOM(t->process);
    TRY(memory_create_range(t->process, base, pages, MEMORY_DEVICE, &m));
    return give(t, c, &m->object, RIGHT_READ | RIGHT_WRITE | RIGHT_GRANT);
}

/* A memory argument; the trace object stands for its rings, read-only. */
static status_t decode_memory(struct thread *t, handle_t h, uint32_t rights, struct memory **out)
{
    struct trace *ring;
    status_t s = decode(t, h, OBJECT_MEMORY, rights, out);
    if (s != E_TYPE) return s;
    TRY(decode(t, h, OBJECT_TRACE, RIGHT_READ | (rights & RIGHT_GRANT), &ring));
    REQUIRE(!(rights & ~(uint32_t)(RIGHT_READ | RIGHT_GRANT)), E_RIGHTS);
    *out = ring->memory;
    return OK;
}

static status_t sys_memory_map(struct thread *t, struct context *c)
{
    struct process *p;
    struct memory *m;
    uint64_t prot = c->w[3];
    TRY(decode_process(t, c->handle, &p));
    REQUIRE(p->state != PROCESS_DEAD, E_STATE);
    REQUIRE(!(prot & ~(uint64_t)(RIGHT_READ | RIGHT_WRITE | RIGHT_EXECUTE)), E_ARGUMENT);
    /* Into another process it is a gift. */
    TRY(decode_memory(t, c->info, (uint32_t)prot | (p == t->process ? 0 : RIGHT_GRANT), &m));
    TRY(mapping_create(p, m, (vaddr_t){c->w[0]}, c->w[1], c->w[2], (uint32_t)prot));
    mapping_bind(mapping_find(p, (vaddr_t){c->w[0]}), cap_lookup(t->process, c->info));
    return OK;
}

static status_t memory_unmap(struct process *p, uint64_t at)
{
    struct mapping *map = mapping_find(p, (vaddr_t){at});
    REQUIRE(map && map->start.v == at, E_NOT_FOUND);
    mapping_destroy(map);
    return OK;
}

static status_t sys_memory_unmap(struct thread *t, struct context *c)
{
    struct process *p;
    TRY(decode_process(t, c->handle, &p));
    return memory_unmap(p, c->info);
}

static status_t sys_memory_info(struct thread *t, struct context *c)
{
    struct memory *m;
    TRY(decode_memory(t, c->handle, 0, &m));
    c->w[0] = m->pages;
    c->w[1] = m->flags & (MEMORY_CONTIGUOUS | MEMORY_DMA | MEMORY_DEVICE);
    return OK;
}

/* --- Processes ------------------------------------------------------------------------------------------------------- */

static status_t sys_process_create(struct thread *t, struct context *c)
{
    struct memory *image;
    struct process *p;
    TRY(decode(t, c->handle, OBJECT_MEMORY, RIGHT_READ | RIGHT_EXECUTE, &image));
    REQUIRE(!(c->w[4] & ~(PROCESS_KEPT | UINT32_MAX)), E_ARGUMENT);
    ROOM(t->process);
    TRY(process_create(t->process, image, c->info, c->w[0], c->w[1], (tag_t)c->w[2], c->w[3], c->w[4], &p));
    return give(t, c, &p->object, RIGHT_MANAGE | RIGHT_INJECT | RIGHT_GRANT);
}

static status_t sys_process_grant(struct thread *t, struct context *c)
{
    struct process *p;
    TRY(decode(t, c->handle, OBJECT_PROCESS, RIGHT_MANAGE, &p));
    struct capability *k = cap_lookup(t->process, c->info);
    REQUIRE(k, E_HANDLE);
    REQUIRE((k->rights & RIGHT_GRANT) && !(c->w[0] & ~(uint64_t)k->rights), E_RIGHTS);
    REQUIRE(p->state != PROCESS_DEAD, E_STATE);
    ROOM(p);
    c->w[0] = cap_derive(p, k, (uint32_t)c->w[0], c->w[1]);
    return OK;
}

static status_t sys_process_start(struct thread *t, struct context *c)
{
    struct process *p;
    TRY(decode(t, c->handle, OBJECT_PROCESS, RIGHT_MANAGE, &p));
    return process_start(p, c->info, (tag_t)c->w[0]);
}

static status_t sys_process_kill(struct thread *t, struct context *c)
{
    struct process *p;
    TRY(decode_process(t, c->handle, &p));
    REQUIRE(c->info > 0 && c->info < 256, E_ARGUMENT);
    REQUIRE(p->state < PROCESS_DEAD, E_STATE);
    process_kill(p, (enum cause)c->info, 0, 0);
    return OK;
}

static status_t sys_process_destroy(struct thread *t, struct context *c)
{
    struct process *p;
    TRY(decode(t, c->handle, OBJECT_PROCESS, RIGHT_MANAGE, &p));
    REQUIRE(p->parent == t->process, E_STATE);
    process_destroy(p);
    return OK;
}

static status_t sys_process_info(struct thread *t, struct context *c)
{
    struct process *p;
    struct process_info info;
    TRY(decode_process(t, c->handle, &p));
    process_describe(p, &info);
    TRY(user_write(t->process, (vaddr_t){c->info}, &info, sizeof info));
    sched_interrupt(p);
    return OK;
}

static status_t sys_process_event(struct thread *t, struct context *c)
{
    struct process_event event;
    uint8_t probe[sizeof event];
    TRY(user_read(t->process, probe, (vaddr_t){c->handle}, sizeof probe));
    TRY(user_write(t->process, (vaddr_t){c->handle}, probe,
                   sizeof probe)); /* writable: the event is not lost */
    REQUIRE(process_event_take(t->process, &event), E_WOULD_BLOCK);
    return user_write(t->process, (vaddr_t){c->handle}, &event, sizeof event);
}

static status_t sys_event_bind(struct thread *t, struct context *c)
{
    struct notification *n;
    TRY(decode_signal(t, c->handle, c->info, &n));
    source_set(&t->process->event_source, n, c->info);
    t->process->event_source.via = cap_lookup(t->process, c->handle);
    t->process->falls = 0;
    if (!list_empty(&t->process->events)) source_signal(&t->process->event_source);
    return OK;
}

/* --- Hardware ------------------------------------------------------------------------------------------------------------ */

static status_t sys_irq_create(struct thread *t, struct context *c)
{
    struct object *root;
    struct memory *table = NULL;
    struct irq *i;
    TRY(decode(t, c->handle, OBJECT_ROOT, 0, &root));
    REQUIRE((c->info == IRQ_GSI || c->info == IRQ_MSIX) && c->w[0] <= UINT32_MAX && c->w[3] <= UINT32_MAX,
            E_ARGUMENT);
    if (c->info == IRQ_MSIX) {
        TRY(decode(t, c->w[1], OBJECT_MEMORY, RIGHT_WRITE, &table));
        REQUIRE((table->flags & MEMORY_DEVICE) && c->w[2] < table->pages * (PAGE_SIZE / 16) && c->w[2] < 2048,
                E_ARGUMENT);
    }
    ROOM(t->process);
    TRY(irq_create(t->process, (enum irq_kind)c->info, (uint32_t)c->w[0], table ? table->base : (paddr_t){0},
                   (uint32_t)c->w[2], (uint32_t)c->w[3], &i));
    return give(t, c, &i->object, RIGHT_MANAGE | RIGHT_GRANT);
}

static status_t sys_irq_bind(struct thread *t, struct context *c)
{
    struct irq *i;
    struct notification *n;
    TRY(decode(t, c->handle, OBJECT_IRQ, RIGHT_MANAGE, &i));
    TRY(decode_signal(t, c->info, c->w[0], &n));
    REQUIRE(!i->user || i->user == t->process, E_BUSY);
    irq_bind(i, t->process, n, c->w[0]);
    i->source.via = cap_lookup(t->process, c->info);
    return OK;
}

static status_t sys_irq_ack(struct thread *t, struct context *c)
{
    struct irq *i;
    TRY(decode(t, c->handle, OBJECT_IRQ, RIGHT_MANAGE, &i));
    REQUIRE(i->user == t->process, E_STATE);
    irq_ack(i);
    return OK;
}

static status_t sys_ports_create(struct thread *t, struct context *c)
{
    struct object *root;
    struct ports *p;
    TRY(decode(t, c->handle, OBJECT_ROOT, 0, &root));
    REQUIRE(c->info <= 0xffff && c->w[0] <= 0x10000, E_ARGUMENT);
    ROOM(t->process);
    TRY(ports_create(t->process, (uint32_t)c->info, (uint32_t)c->w[0], &p));
    return give(t, c, &p->object, RIGHT_MANAGE | RIGHT_GRANT);
}

static status_t decode_port(struct thread *t, struct context *c, uint16_t *port, uint32_t *width)
{
    struct ports *p;
    uint32_t offset = (uint32_t)(c->info & 0xffff);
    *width = (uint32_t)(c->info >> 16);
    TRY(decode(t, c->handle, OBJECT_PORTS, RIGHT_MANAGE, &p));
    REQUIRE(*width == 1 || *width == 2 || *width == 4, E_ARGUMENT);
    REQUIRE(offset < p->count && *width <= p->count - offset, E_ARGUMENT);
    *port = (uint16_t)(p->base + offset);
    return OK;
}

/* Where to store what must be stored in the same step as the access; NULL if the address is 0. */
static status_t decode_commit(struct thread *t, uint64_t address, uint64_t width, void **out)
{
    *out = NULL;
    if (!address) return OK;
    REQUIRE(address % width == 0, E_ADDRESS);
    *out = user_pointer(t->process, (vaddr_t){address}, width, RIGHT_READ | RIGHT_WRITE);
    return *out ? OK : E_ADDRESS;
}

static status_t sys_port_in(struct thread *t, struct context *c)
{
    uint16_t port;
    uint32_t width;
    void *value_at, *index_at;
    TRY(decode_port(t, c, &port, &width));
    TRY(decode_commit(t, c->w[0], 1, &value_at));
    TRY(decode_commit(t, c->w[1], 4, &index_at));
    uint32_t value = arch_port_in(port, width);
    if (value_at) *(uint8_t *)value_at = (uint8_t)value;
    if (index_at) __atomic_store_n((uint32_t *)index_at, (uint32_t)c->w[2], __ATOMIC_RELEASE);
    c->w[0] = value;
    return OK;
}

static status_t sys_port_out(struct thread *t, struct context *c)
{
    uint16_t port;
    uint32_t width;
    void *index_at;
    TRY(decode_port(t, c, &port, &width));
    TRY(decode_commit(t, c->w[1], 4, &index_at));
    arch_port_out(port, width, (uint32_t)c->w[0]);
    if (index_at) __atomic_store_n((uint32_t *)index_at, (uint32_t)c->w[2], __ATOMIC_RELEASE);
    return OK;
}

static status_t sys_timer_create(struct thread *t, struct context *c)
{
    struct notification *n;
    struct timer *made;
    TRY(decode_signal(t, c->handle, c->info, &n));
    ROOM(t->process);
    TRY(timer_create(t->process, n, c->info, &made));
    made->source.via = cap_lookup(t->process, c->handle);
    return give(t, c, &made->object, RIGHT_MANAGE);
}

static status_t sys_timer_arm(struct thread *t, struct context *c)
{
    struct timer *timer;
    TRY(decode(t, c->handle, OBJECT_TIMER, RIGHT_MANAGE, &timer));
    REQUIRE(c->info < 1ul << 60, E_ARGUMENT); /* 36 years: no overflow in ticks */
    timer_arm(timer, c->info ? time_tsc(c->info) : 0);
    return OK;
}

static status_t sys_clock(struct thread *t, struct context *c)
{
    (void)t;
    c->w[1] = arch_tsc();
    c->w[0] = time_ns(c->w[1]);
    return OK;
}

static status_t sys_dma_create(struct thread *t, struct context *c)
{
    struct object *root;
    struct dma *d;
    TRY(decode(t, c->handle, OBJECT_ROOT, 0, &root));
    REQUIRE(c->info <= 0xffff, E_ARGUMENT);
    ROOM(t->process);
    TRY(dma_create(t->process, (uint32_t)c->info, &d));
    return give(t, c, &d->object, RIGHT_MANAGE | RIGHT_GRANT);
}

static status_t sys_dma_attach(struct thread *t, struct context *c)
{
    struct dma *d;
    TRY(decode(t, c->handle, OBJECT_DMA, RIGHT_MANAGE, &d));
    return dma_attach(d, t->process);
}

/* Only the process that attached, and so will be fenced, may change a domain. */
static status_t decode_domain(struct thread *t, handle_t h, struct dma **out)
{
    TRY(decode(t, h, OBJECT_DMA, RIGHT_MANAGE, out));
    return (*out)->user == t->process ? OK : E_STATE;
}

static status_t sys_dma_map(struct thread *t, struct context *c)
{
    struct dma *d;
    struct capability *k;
    iova_t iova;
    REQUIRE(c->w[2] && !(c->w[2] & ~(uint64_t)(RIGHT_READ | RIGHT_WRITE)), E_ARGUMENT);
    TRY(decode_domain(t, c->handle, &d));
    TRY(cap_get(t->process, c->info, OBJECT_MEMORY, RIGHT_DMA | (uint32_t)c->w[2], &k));
    TRY(dma_map(d, OBJECT_OF(memory, k), k, c->w[0], c->w[1], (uint32_t)c->w[2], &iova));
    c->w[0] = iova.v;
    return OK;
}

static status_t sys_dma_unmap(struct thread *t, struct context *c)
{
    struct dma *d;
    TRY(decode_domain(t, c->handle, &d));
    return dma_unmap(d, (iova_t){c->info});
}

static status_t sys_dma_reset_done(struct thread *t, struct context *c)
{
    struct dma *d;
    TRY(decode_domain(t, c->handle, &d));
    dma_reset_done(d);
    return OK;
}

static status_t sys_dma_bus_master(struct thread *t, struct context *c)
{
    struct dma *d;
    TRY(decode_domain(t, c->handle, &d));
    return dma_bus_master(d, c->info != 0);
}

static status_t sys_dma_decode(struct thread *t, struct context *c)
{
    struct dma *d;
    TRY(decode(t, c->handle, OBJECT_DMA, RIGHT_MANAGE, &d));
    return dma_decode(d, t->process, c->info != 0);
}

/* --- Trace, faults, system ---------------------------------------------------------------------------------------------- */

static status_t sys_trace_mark(struct thread *t, struct context *c)
{
    struct trace *ring;
    struct process *p = t->process;
    if (c->handle)
        TRY(decode(t, c->handle, OBJECT_TRACE, RIGHT_WRITE, &ring));
    else
        REQUIRE(p->service->trace_credit, E_QUOTA);
    if (!c->handle) p->service->trace_credit--;
    trace(TRACE_MARK, p->object.tag, c->info, c->w[0]);
    return OK;
}

/* The debug port takes a line byte by byte with the kernel lock held: who writes too much loses lines, not the
 * others their time. */
static bool log_take(struct process *s, uint64_t bytes)
{
    uint64_t now = time_ns(arch_tsc()), earned = (now - s->log_ns) / (1000000000 / LOG_BURST);
    s->log_credit = earned < LOG_BURST - s->log_credit ? s->log_credit + earned : LOG_BURST;
    s->log_ns = now;
    bool granted = s->log_credit >= bytes;
    if (granted) s->log_credit -= bytes;
    return granted;
}

static status_t sys_log(struct thread *t, struct context *c)
{
    struct trace *ring;
    char line[LOG_LINE_MAX + 1];
    uint64_t n = c->w[0];
    TRY(decode(t, c->handle, OBJECT_TRACE, RIGHT_WRITE, &ring));
    REQUIRE(n <= LOG_LINE_MAX, E_ARGUMENT);
    TRY(user_read(t->process, line, (vaddr_t){c->info}, n));
    for (uint64_t i = 0; i < n; i++)
        if ((uint8_t)line[i] < ' ' || line[i] == 0x7f) line[i] = '?'; /* a line stays one line */
    line[n] = 0;
    struct process *s = t->process->service;
    tag_t tag = s->object.tag;
    if (!log_take(s, n)) {
        s->log_dropped++;
        return E_QUOTA;
    }
    if (s->log_dropped)
        kernel_log("kernel: [%u.%u] writes too much: %lu lines dropped", TAG_SERVICE(tag),
                   TAG_GENERATION(tag), s->log_dropped);
    s->log_dropped = 0;
    kernel_log("[%u.%u] %s", TAG_SERVICE(tag), TAG_GENERATION(tag),
               line); /* who says it, by the kernel's word */
    return OK;
}

static status_t inject_memory(struct process *p, struct context *c, bool poke)
{
    uint64_t width = poke ? c->w[3] & ~(uint64_t)INJECT_CELL : 8;
    bool cell = poke && (c->w[3] & INJECT_CELL);
    REQUIRE(width == 1 || width == 2 || width == 4 || width == 8, E_ARGUMENT);
    void *at = user_pointer(p, (vaddr_t){c->w[1]}, width, poke && !cell ? RIGHT_WRITE : RIGHT_READ);
    if (at && cell) REQUIRE(mapping_find(p, (vaddr_t){c->w[1]})->prot & RIGHT_WRITE, E_ADDRESS);
    if (!at && poke && width == 1) at = inject_text(p, c->w[1]);
    REQUIRE(at, E_ADDRESS);
    if (poke) {
        __builtin_memcpy(at, &c->w[2], width);
        trace(TRACE_POKED, p->object.tag, c->w[1], c->w[2]);
    } else {
        __builtin_memcpy(&c->w[0], at, 8);
    }
    return OK;
}

static status_t inject_arm_tag(struct context *c, struct inject *i)
{
    REQUIRE(c->w[2] == INJECT_KILL && c->w[3] >> 32 < 4096, E_ARGUMENT);
    i->pending = 1 + (uint64_t)(uint32_t)c->w[3];
    i->service = (uint32_t)(c->w[3] >> 32);
    i->instructions = c->w[1];
    return OK;
}

static status_t sys_inject(struct thread *t, struct context *c)
{
    struct inject *i;
    struct process *p;
    struct memory *m;
    TRY(decode(t, c->handle, OBJECT_INJECT, 0, &i));
    if (c->w[0] == INJECT_ARM_TAG) return inject_arm_tag(c, i);
    TRY(decode(t, c->info, OBJECT_PROCESS, RIGHT_INJECT, &p));
    REQUIRE(p->state == PROCESS_RUNNING, E_STATE);
    switch (c->w[0]) {
    case INJECT_ARM:
        REQUIRE(c->w[2] < INJECT_ACTIONS && c->w[3] < USER_END, E_ARGUMENT);
        inject_arm(p, c->w[1], (enum inject_action)c->w[2], c->w[3]);
        return OK;
    case INJECT_PEEK: return inject_memory(p, c, false);
    case INJECT_POKE: return inject_memory(p, c, true);
    case INJECT_MAP:
        REQUIRE(!(c->w[3] & ~(uint64_t)(RIGHT_READ | RIGHT_WRITE | RIGHT_EXECUTE)), E_ARGUMENT);
        TRY(decode(t, c->w[1], OBJECT_MEMORY, (uint32_t)c->w[3] | RIGHT_GRANT, &m));
        TRY(mapping_create(p, m, (vaddr_t){c->w[2]}, 0, m->pages, (uint32_t)c->w[3]));
        mapping_bind(mapping_find(p, (vaddr_t){c->w[2]}), cap_lookup(t->process, c->w[1]));
        return OK;
    case INJECT_DISARM: c->w[0] = inject_disarm(p); return OK;
    case INJECT_UNMAP: return memory_unmap(p, c->w[1]);
    case INJECT_AT:
        REQUIRE(p->strike.armed, E_STATE);
        REQUIRE(inject_text(p, c->w[1]), E_ADDRESS);
        inject_at(p, c->w[1]);
        return OK;
    case INJECT_PROBE:
        REQUIRE(c->w[2] < INJECT_PROBES, E_ARGUMENT);
        REQUIRE(inject_text(p, c->w[1]) && *inject_text(p, c->w[1]) != ARCH_BREAKPOINT, E_ADDRESS);
        inject_probe(p, c->w[1], c->w[2]);
        return OK;
    case INJECT_PROBED: c->w[0] = inject_probed(p, c->w[3] != 0); return OK;
    default: return E_ARGUMENT;
    }
}

static status_t sys_system(struct thread *t, struct context *c)
{
    struct object *root;
    TRY(decode(t, c->handle, OBJECT_ROOT, 0, &root));
    REQUIRE(c->info == SYSTEM_POWER_OFF || c->info == SYSTEM_REBOOT, E_ARGUMENT);
    kernel_log("kernel: %s", c->info == SYSTEM_REBOOT ? "reboot" : "power off");
    arch_power((enum system_op)c->info);
}

extern uint64_t boot_tsc, boot_pages; /* main.c */

static status_t sys_system_info(struct thread *t, struct context *c)
{
    uint64_t now = arch_tsc(), idle = 0, switches = 0;
    each_cpu(cpu)
    {
        idle += cpu->idle_tsc + (cpu->current ? 0 : now - cpu->since_tsc);
        switches += cpu->switches;
    }
    struct system_info info = {.tsc_hz = arch_platform.tsc_hz,
                               .pages_total = boot_pages,
                               .pages_free = frame_available(),
                               .pages_kernel = boot_pages - frame_total(),
                               .boot_tsc = boot_tsc,
                               .idle_tsc = idle,
                               .trace_paddr = trace_paddr().v,
                               .trace_pages = trace_pages(),
                               .ecam_paddr = arch_platform.ecam_paddr,
                               .ecam_bus_first = arch_platform.ecam_bus_first,
                               .ecam_bus_last = arch_platform.ecam_bus_last,
                               .cpus = arch_platform.cpus,
                               .iommu = arch_platform.iommu,
                               .switches = switches,
                               .quarantined_pages = dma_quarantined_pages(),
                               .processes = process_count()};
    return user_write(t->process, (vaddr_t){c->handle}, &info, sizeof info);
}

/* --- Dispatch ------------------------------------------------------------------------------------------------------------ */

typedef status_t handler(struct thread *t, struct context *c);
static handler *const handlers[SYSCALL_COUNT] = {
#define SYSCALL(number, name, arguments, results, text) [number] = sys_##name,
#include "../abi/syscalls.def"
#undef SYSCALL
};

/* No handler switches threads, so who runs after it is the caller, or nobody: it ended itself. Asking again
 * is shorter than remembering. */
struct context *syscall_dispatch(struct thread *t)
{
    uint64_t number = t->context.status;
    status_t s = E_SYSCALL;
    if (__builtin_expect(number < SYSCALL_COUNT, 1)) s = handlers[number](t, &t->context);
    struct cpu *cpu = arch_cpu();
    t = cpu->current;
    if (__builtin_expect(!t, 0)) return sched_switch();
    t->context.status = s;
    return sched_quiet(cpu, t) ? &t->context : sched_switch();
}

/* Jumps only: what the common calls do not need is not saved. */
struct context *kernel_syscall(void)
{
    struct thread *t = current();
    if (t->context.status == SYS_call) return endpoint_call_fast(t);
    if (t->context.status == SYS_reply_recv) return endpoint_reply_recv_fast(t);
    return syscall_dispatch(t);
}

struct context *kernel_irq(uint8_t vector)
{
    struct thread *woken = irq_deliver(vector);
    return woken ? sched_wake(woken) : sched_switch();
}

struct context *kernel_timer(void)
{
    sched_timer();
    return sched_switch();
}

struct context *kernel_exception(enum cause cause, uint64_t address)
{
    struct thread *t = current();
    bool goes_on = cause == CAUSE_BREAKPOINT && inject_breakpoint(t);
    if (!goes_on) process_kill(t->process, cause, address, arch_context_rip(&t->context));
    return sched_switch();
}

struct context *kernel_write_fault(uint64_t address)
{
    if (!snapshot_fault(current()->process, (vaddr_t){address}))
        return kernel_exception(CAUSE_PAGE_FAULT, address);
    return sched_switch();
}

struct context *kernel_step(void)
{
    inject_step(current());
    return sched_switch();
}

struct context *kernel_resume(void) { return sched_switch(); }
