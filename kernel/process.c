/* SPDX-License-Identifier: BSD-2-Clause
 * Processes: made from ELF images, ended in order. */
#include "process.h"
#include "endpoint.h"
#include "elf_image.h"
#include "dma.h"
#include "irq.h"
#include "frame.h"
#include "inject.h"
#include "snapshot.h"
#include "trace.h"
#include "print.h"

struct process *process_root;
static uint32_t last_pid;
static uint64_t live;

uint64_t process_count(void) { return live; }

/* --- Birth ----------------------------------------------------------------------------------------------- */

static struct process *process_alloc(struct process *parent, uint64_t quota)
{
    if (parent && quota > parent->quota - parent->used) return NULL;
    if (parent) parent->used += quota;
    paddr_t page = frame_alloc(NULL); /* charged below, once there is an account */
    struct process *p = arch_direct(page);
    p->quota = quota;
    p->used = 1;
    p->parent = parent;
    p->service = parent && parent->parent ? parent->service : p;
    p->pid = ++last_pid;
    list_init(&p->children);
    list_init(&p->sibling);
    list_init(&p->threads);
    list_init(&p->objects);
    list_init(&p->mappings);
    list_init(&p->endpoints);
    list_init(&p->irqs);
    list_init(&p->domains);
    list_init(&p->events);
    list_init(&p->event_link);
    list_init(&p->object.owned);
    source_init(&p->event_source);
    p->object.type = OBJECT_PROCESS;
    p->object.owner = parent;
    p->trace_credit = TRACE_CREDIT;
    p->signal_credit = SIGNAL_CREDIT;
    p->log_credit = LOG_BURST;
    if (parent) list_append(&parent->children, &p->sibling);
    live++;
    return p;
}

/* Copies what a writable page has in the file; the rest of it is zero. */
static void segment_fill(struct memory *m, const struct elf_segment *s, const uint8_t *file)
{
    uint64_t inside = s->vaddr % PAGE_SIZE, done = 0;
    for (uint64_t page = 0; done < s->file_bytes; page++) {
        uint64_t at = page ? 0 : inside, n = PAGE_SIZE - at;
        if (n > s->file_bytes - done) n = s->file_bytes - done;
        __builtin_memcpy((uint8_t *)arch_direct(memory_frame(m, page)) + at, file + s->offset + done, n);
        done += n;
    }
}

static void segment_zero(struct memory *m)
{
    for (uint64_t i = 0; i < m->pages; i++) __builtin_memset(arch_direct(memory_frame(m, i)), 0, PAGE_SIZE);
}

/* Read-only pages of an immutable image are shared; all others are the process's own copies. */
static status_t segment_map(struct process *p, struct memory *image, uint64_t offset,
                            const struct elf_segment *s)
{
    vaddr_t start = {s->vaddr & ~(PAGE_SIZE - 1)};
    uint64_t pages = PAGES_FOR(s->vaddr % PAGE_SIZE + s->memory_bytes);
    const uint8_t *file = (const uint8_t *)arch_direct(image->base) + offset;
    if (!(s->prot & RIGHT_WRITE) && (image->flags & MEMORY_IMMUTABLE) && s->file_bytes == s->memory_bytes)
        return mapping_create(p, image, start, (offset + s->offset) / PAGE_SIZE, pages, s->prot);
    struct memory *own;
    status_t status = memory_create(p, pages, 0, &own);
    if (status != OK) return status;
    own->flags |= MEMORY_IMAGE;
    segment_fill(own, s, file);
    return mapping_create(p, own, start, 0, pages, s->prot);
}

#define STACK_BOTTOM (USER_STACK_TOP - STACK_PAGES * PAGE_SIZE)

static status_t process_load(struct process *p, struct memory *image, uint64_t offset,
                             const struct elf_image *elf)
{
    status_t s = arch_space_create(p);
    for (uint32_t i = 0; s == OK && i < elf->segments; i++)
        s = segment_map(p, image, offset, &elf->segment[i]);
    if (s != OK) return s;
    struct memory *stack;
    s = memory_create(p, STACK_PAGES, 0, &stack);
    if (s != OK) return s;
    stack->flags |= MEMORY_IMAGE;
    s = mapping_create(p, stack, (vaddr_t){STACK_BOTTOM}, 0, STACK_PAGES, RIGHT_READ | RIGHT_WRITE);
    return s == OK && !cap_room(p) ? E_QUOTA : s;
}

/* A child may not have more of the CPU than its parent: no higher priority, no larger share. */
static bool sched_within(uint64_t sched, const struct process *parent)
{
    uint64_t budget = SCHED_BUDGET_US(sched), period = SCHED_PERIOD_US(sched);
    if (SCHED_PRIORITY(sched) < 1 || SCHED_PRIORITY(sched) >= PRIORITIES || budget > period) return false;
    if (budget && budget < BUDGET_MIN_US) return false;
    if (!parent) return true;
    if (SCHED_PRIORITY(sched) > SCHED_PRIORITY(parent->sched)) return false;
    uint64_t most = SCHED_BUDGET_US(parent->sched);
    return !most || (budget && budget * SCHED_PERIOD_US(parent->sched) <= most * period);
}

status_t process_create(struct process *parent, struct memory *image, uint64_t offset, uint64_t length,
                        uint64_t quota, tag_t tag, uint64_t sched, uint64_t how, struct process **out)
{
    uint64_t tsc = arch_tsc();
    uint32_t within = parent ? parent->cpus : (1u << arch_platform.cpus) - 1;
    uint32_t allowed = (uint32_t)how ? (uint32_t)how & within : within;
    struct elf_image elf;
    if (!(image->flags & (MEMORY_CONTIGUOUS | MEMORY_KERNEL)) || offset % PAGE_SIZE ||
        length > image->pages * PAGE_SIZE || offset > image->pages * PAGE_SIZE - length)
        return E_ARGUMENT;
    if ((how & PROCESS_KEPT) && !(image->flags & MEMORY_KERNEL)) return E_ARGUMENT;
    if (quota < PROCESS_PAGES_MIN || !sched_within(sched, parent) || !allowed) return E_ARGUMENT;
    status_t s = elf_parse((const uint8_t *)arch_direct(image->base) + offset, length, &elf);
    if (s != OK) return s;
    struct process *p = process_alloc(parent, quota);
    if (!p) return E_QUOTA;
    p->object.tag = p->service == p ? tag : p->service->object.tag; /* its deeds are its service's */
    p->entry = elf.entry;
    p->sched = sched;
    p->draws_on = sched_budget_init(p);
    p->cpus = allowed;
    p->kept = how & PROCESS_KEPT;
    p->image = (const uint8_t *)arch_direct(image->base) + offset;
    p->image_bytes = length;
    s = process_load(p, image, offset, &elf);
    if (s != OK) {
        process_destroy(p);
        return s;
    }
    trace_process(TRACE_PROCESS_CREATE, p, p->pid, tsc);
    *out = p;
    return OK;
}

/* What process_load made of a writable segment, if the process has it mapped still; else NULL. */
static struct memory *image_memory(struct process *p, uint64_t vaddr)
{
    vaddr_t start = {vaddr & ~(PAGE_SIZE - 1)};
    struct mapping *map = mapping_find(p, start);
    if (!map || map->start.v != start.v || !(map->memory->flags & MEMORY_IMAGE)) return NULL;
    return map->memory;
}

/* What is only read is as process_load mapped it: of the system image, or a copy that nobody writes. */
static bool image_shared(struct process *p, const struct elf_segment *s)
{
    vaddr_t start = {s->vaddr & ~(PAGE_SIZE - 1)};
    struct mapping *map = mapping_find(p, start);
    if (!map || map->start.v != start.v) return false;
    const uint8_t *there = arch_direct(memory_frame(map->memory, map->offset));
    bool same = there == (const uint8_t *)((uintptr_t)(p->image + s->offset) & ~(PAGE_SIZE - 1));
    return same || (map->memory->flags & MEMORY_IMAGE);
}

/* Writable pages of a fallen process's image and its stack, as they were before its first instruction. */
static status_t image_renew(struct process *p)
{
    struct elf_image elf;
    struct memory *stack = image_memory(p, STACK_BOTTOM), *own[ELF_SEGMENTS_MAX];
    status_t status = elf_parse(p->image, p->image_bytes, &elf);
    if (status != OK) return status;
    for (uint32_t i = 0; i < elf.segments; i++) {
        bool writable = elf.segment[i].prot & RIGHT_WRITE;
        if (!writable && !image_shared(p, &elf.segment[i])) return E_STATE;
        own[i] = writable ? image_memory(p, elf.segment[i].vaddr) : NULL;
        if (writable && !own[i]) return E_STATE;
    }
    if (!stack) return E_STATE;
    segment_zero(stack);
    for (uint32_t i = 0; i < elf.segments; i++) {
        if (!own[i]) continue;
        segment_zero(own[i]);
        segment_fill(own[i], &elf.segment[i], p->image);
    }
    return OK;
}

/* A fallen process becomes the next incarnation of its service. */
static status_t process_renew(struct process *p, tag_t tag)
{
    uint64_t tsc = arch_tsc();
    status_t s = p->snapshot.taken ? OK : image_renew(p);
    if (s != OK) return s;
    if (tag && p->service == p) p->object.tag = tag;
    p->trace_credit = TRACE_CREDIT;
    p->signal_credit = SIGNAL_CREDIT;
    p->exit_code = 0;
    trace_process(TRACE_PROCESS_CREATE, p, p->pid, tsc);
    return OK;
}

status_t process_start(struct process *p, uint64_t arg, tag_t tag)
{
    struct thread *t;
    status_t s = p->state == PROCESS_FALLEN    ? process_renew(p, tag)
                 : p->state == PROCESS_CREATED ? OK
                                               : E_STATE;
    if (s == OK) s = thread_create(p, p->entry, USER_STACK_TOP, arg, p->sched, &t);
    if (s != OK) return s;
    if (p->snapshot.taken) snapshot_restore(p, t);
    p->state = PROCESS_RUNNING;
    p->start_tsc = arch_tsc();
    t->first_run = true;
    trace_process(TRACE_PROCESS_START, p, p->pid, 0);
    thread_ready(t);
    inject_process_started(p);
    return OK;
}

/* --- Death, in the order that makes it safe (docs/ARCHITECTURE.md, the life of a crash) --------------------- */

static void death_stop(struct process *p)
{
    uint64_t endpoints = 0;
    p->state = PROCESS_DEAD;
    list_each(struct endpoint, e, &p->endpoints, of_server) endpoints++;
    endpoint_server_died(p); /* new generation before anybody hears of the death */
    trace_process(TRACE_FENCE_GENERATION, p, endpoints, 0);
    list_each(struct thread, t, &p->threads, of_process) thread_destroy(t);
}

/* gives_up: whose memory goes with it, and waits in quarantine for the devices' resets; NULL: nobody's. */
static uint64_t death_fence(struct process *p, struct process *gives_up)
{
    uint64_t irqs = 0, functions = 0, mappings = 0, quarantined = 0, confirmed = 0;
    list_each(struct irq, i, &p->irqs, of_user)
    {
        irq_fence(i);
        irqs++;
    }
    trace_process(TRACE_FENCE_IRQ, p, irqs, 0);
    list_each(struct dma, d, &p->domains, of_user)
    {
        dma_bus_master_off(d);
        functions++;
    }
    trace_process(TRACE_FENCE_BUS_MASTER, p, functions, 0);
    list_each(struct dma, e, &p->domains, of_user) mappings += dma_detach(e, gives_up, &quarantined);
    trace_process(TRACE_FENCE_DOMAIN, p, mappings, quarantined);
    list_each(struct dma, f, &p->domains, of_user) confirmed = dma_drain(f);
    trace_process(TRACE_FENCE_DRAINED, p, functions, confirmed);
    return quarantined;
}

/* Youngest generation first, without recursion: how deep a family goes is its processes' choice. */
static void children_destroy(struct process *p)
{
    struct process *child = p;
    for (;;) {
        while (!list_empty(&child->children))
            child = container_of(child->children.next, struct process, sibling);
        if (child == p) return;
        struct process *up = child->parent;
        process_destroy(child);
        child = up;
    }
}

static void death_release(struct process *p)
{
    children_destroy(p);
    list_each(struct object, o, &p->objects, owned) object_destroy(o);
    dma_lender_gone(p);
    source_set(&p->event_source, NULL, 0);
    mapping_forget_all(p);
    cap_table_destroy(p);
    arch_space_destroy(p);
    pool_destroy(p);
}

bool inv_process_dead_owns_nothing(const struct process *p)
{
    return p->used == 1 && p->thread_count == 0 && p->mapping_count == 0 && p->handle_count == 0 &&
           p->object_count == 0 && p->chunk_count == 0 && p->lent == 0 && list_empty(&p->children) &&
           list_empty(&p->objects) && list_empty(&p->endpoints) && list_empty(&p->irqs) &&
           list_empty(&p->domains) && !p->pool.v;
}

/* What ends a process of any state, and runs nowhere else; the object page stays. */
static void process_end(struct process *p)
{
    struct cpu *c = arch_cpu();
    uint64_t used = p->used;
    death_stop(p);
    uint64_t quarantined = death_fence(p, p);
    death_release(p);
    if (c->space == p) c->space = NULL;
    live--;
    trace_process(TRACE_FENCE_DONE, p, used - p->used - quarantined, quarantined);
    if (!inv_process_dead_owns_nothing(p)) {
        trace(TRACE_LEAK, p->object.tag, p->used - 1, p->object_count + p->handle_count);
        kernel_panic("process %u (%x) is dead and owns %lu pages, %u objects, %u handles", p->pid,
                     p->object.tag, p->used - 1, p->object_count, p->handle_count);
    }
}

/* The same for one that is kept, as far as it ran: nobody waits for an answer of its threads, no device works for
 * it. What it made and was given is as it left it. */
static void process_fall(struct process *p)
{
    death_stop(p);
    uint64_t quarantined = death_fence(p, NULL);
    while (object_has_replies(p)) object_destroy(container_of(p->objects.next, struct object, owned));
    source_set(&p->event_source, NULL, 0);
    p->strike.armed = false;
    p->state = PROCESS_FALLEN;
    trace_process(TRACE_FENCE_DONE, p, 0, quarantined);
}

void process_kill(struct process *p, enum cause cause, uint64_t address, uint64_t rip)
{
    if (p->state >= PROCESS_DEAD) return;
    bool falls = p->kept && p->state == PROCESS_RUNNING;
    sched_leave(p);
    p->death_tsc = arch_tsc();
    p->cause = cause;
    p->fault_address = address;
    p->fault_rip = rip;
    trace_process(TRACE_DEATH, p, cause, rip);
    if (falls)
        process_fall(p);
    else
        process_end(p);
    if (p == process_root)
        root_again(p);
    else
        process_event_raise(p, EVENT_DEATH);
}

void process_destroy(struct process *p)
{
    struct process *parent = p->parent;
    if (p->state != PROCESS_DEAD) {
        p->cause = CAUSE_PARENT;
        sched_leave(p);
        process_end(p);
    }
    if (p->object.root) cap_delete(p->object.root);
    trace_process(TRACE_PROCESS_DESTROY, p, p->pid, 0);
    list_remove(&p->event_link);
    list_remove(&p->sibling);
    assert(parent->used >= p->quota);
    parent->used -= p->quota;
    frame_free(NULL, arch_direct_paddr(p));
}

/* --- Events to the parent -------------------------------------------------------------------------------------- */

void process_event_raise(struct process *p, enum process_event_kind kind)
{
    struct process *parent = p->parent;
    if (!parent) return;
    if (!p->event_mask) list_append(&parent->events, &p->event_link);
    p->event_mask |= 1u << kind;
    p->event_tsc = kind == EVENT_DEATH ? p->death_tsc : arch_tsc();
    source_signal(&parent->event_source);
}

bool process_event_take(struct process *parent, struct process_event *out)
{
    if (list_empty(&parent->events)) return false;
    struct process *p = container_of(parent->events.next, struct process, event_link);
    enum process_event_kind kind = EVENT_DEATH; /* last: the others were before it */
    if (p->event_mask & (1u << EVENT_OVERRUN)) kind = EVENT_OVERRUN;
    if (p->event_mask & (1u << EVENT_IRQ_STORM)) kind = EVENT_IRQ_STORM;
    p->event_mask &= ~(1u << kind);
    if (!p->event_mask) list_remove(&p->event_link);
    *out = (struct process_event){
        .tag = p->object.tag,
        .pid = p->pid,
        .kind = kind,
        .cause = p->cause,
        .tsc = p->event_tsc,
        .address = p->fault_address,
        .rip = p->fault_rip,
        .code = p->exit_code,
        .process = p->object.root && cap_process(p->object.root) == parent ? cap_handle(p->object.root) : 0};
    return true;
}

static uint64_t process_runnable(const struct process *p)
{
    uint64_t n = 0;
    list_each(struct thread, t, &p->threads, of_process) n +=
        t->state == THREAD_READY || t->state == THREAD_RUNNING;
    return n;
}

void process_describe(const struct process *p, struct process_info *out)
{
    *out = (struct process_info){.tag = p->object.tag,
                                 .pid = p->pid,
                                 .state = p->state,
                                 .cause = p->cause,
                                 .quota_pages = p->quota,
                                 .used_pages = p->used,
                                 .handles = p->handle_count,
                                 .threads = p->thread_count,
                                 .mappings = p->mapping_count,
                                 .priority = SCHED_PRIORITY(p->sched),
                                 .cpu_tsc = p->cpu_tsc,
                                 .start_tsc = p->start_tsc,
                                 .death_tsc = p->death_tsc,
                                 .fault_address = p->fault_address,
                                 .fault_rip = p->fault_rip,
                                 .overruns = p->overruns,
                                 .runnable = process_runnable(p),
                                 .objects = p->object_count,
                                 .interruptions = p->interruptions,
                                 .exit_code = p->exit_code,
                                 .snapshot = p->snapshot.taken ? 1 + p->snapshot.rollbacks : 0,
                                 .room_pages = p->pool_pages + p->chunk_count};
}
