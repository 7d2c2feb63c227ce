/* SPDX-License-Identifier: BSD-2-Clause
 * Boots the portable kernel on the host port with a synthetic handoff and a system image whose "supervisor"
 * is the smallest acceptable ELF, and issues system calls as whichever thread the kernel runs: arguments
 * go into its context, then kernel_syscall. Criterion gives each test its own process, so each boots its
 * own machine. Include <criterion/criterion.h> first. */
#ifndef COPPICE_TEST_HOST_KERNEL_H
#define COPPICE_TEST_HOST_KERNEL_H

#include <string.h>
#include "kernel/arch/host/host.h"
#include "kernel/process.h"
#include "kernel/endpoint.h"
#include "kernel/dma.h"
#include "kernel/irq.h"
#include "kernel/frame.h"
#include "kernel/inject.h"
#include "kernel/trace.h"
#include "abi/bundle.h"
#include "abi/startup.h"
#include "tests/unit/elf_file.h"

#define HOST_RAM_PAGES 8192ul    /* 32 MiB */
#define IMAGE_FILE     PAGE_SIZE /* offset of the supervisor in the image */
#define TEST_QUOTA     64ul
#define TEST_SCHED     SCHED_MAKE(30, 0, 0) /* equal to the supervisor: yield reaches everybody */

/* --- Boot ----------------------------------------------------------------------------------------------- */

static handle_t boot_root, boot_image, boot_trace, boot_inject, boot_self; /* the supervisor's own handles */

static inline void boot_handles(void)
{
    struct startup s;
    status_t status = user_read(process_root, &s, (vaddr_t){USER_STARTUP}, sizeof s);
    cr_assert_eq(status, OK);
    cr_assert_eq(s.magic, STARTUP_MAGIC);
    for (uint32_t i = 0; i < s.cap_count; i++) {
        if (!strcmp(s.cap[i].name, "root")) boot_root = s.cap[i].handle;
        if (!strcmp(s.cap[i].name, "image")) boot_image = s.cap[i].handle;
        if (!strcmp(s.cap[i].name, "trace")) boot_trace = s.cap[i].handle;
        if (!strcmp(s.cap[i].name, "inject")) boot_inject = s.cap[i].handle;
        if (!strcmp(s.cap[i].name, "self")) boot_self = s.cap[i].handle;
    }
    cr_assert(boot_root && boot_image && boot_trace && boot_inject && boot_self,
              "the supervisor's capabilities");
}

#define BOOT_PAGES 8u /* handoff: 2; then the image: 4 */

static inline struct handoff *handoff_make(uint64_t ram_pages)
{
    host_machine(ram_pages);
    struct handoff *h = (void *)host.ram;
    struct bundle *b = (void *)(host.ram + 2 * PAGE_SIZE);
    *b = (struct bundle){
        .magic = BUNDLE_MAGIC, .version = BUNDLE_VERSION, .count = 1, .length = 4 * PAGE_SIZE};
    b->entry[0] = (struct bundle_entry){.name = BUNDLE_INIT, .offset = IMAGE_FILE, .length = ELF_FILE_BYTES};
    elf_make((uint8_t *)b + IMAGE_FILE);
    *h = (struct handoff){.magic = HANDOFF_MAGIC,
                          .version = HANDOFF_VERSION,
                          .size = sizeof *h,
                          .loader_tsc = 1000,
                          .image_paddr = HOST_RAM_BASE + 2 * PAGE_SIZE,
                          .image_bytes = 4 * PAGE_SIZE,
                          .kernel_file_paddr = HOST_RAM_BASE,
                          .kernel_file_bytes = 0,
                          .range_count = 2};
    h->range[0] = (struct handoff_range){.base = HOST_RAM_BASE, .pages = BOOT_PAGES, .kind = RANGE_BOOT};
    h->range[1] = (struct handoff_range){
        .base = HOST_RAM_BASE + BOOT_PAGES * PAGE_SIZE, .pages = ram_pages - BOOT_PAGES, .kind = RANGE_FREE};
    return h;
}

/* The other CPUs come after the first process is ready; the test is CPU 0. */
static inline void boot_cpus(uint32_t count)
{
    struct handoff *h = handoff_make(HOST_RAM_PAGES);
    host_cpus(count);
    kernel_main(h);
    cr_assert_not_null(kernel_resume());
    for (uint32_t i = 1; i < count; i++) {
        host_cpu(i);
        cr_assert_null(kernel_resume());
    }
    host_cpu(0);
    boot_handles();
}
static inline void boot_with(uint64_t ram_pages)
{
    kernel_main(handoff_make(ram_pages));
    cr_assert_not_null(kernel_resume());
    cr_assert_eq(current()->process, process_root);
    boot_handles();
}
static inline void boot(void) { boot_with(HOST_RAM_PAGES); }

/* --- System calls ------------------------------------------------------------------------------------------ */

struct result {
    status_t status;
    handle_t handle;
    uint64_t info, w[MESSAGE_WORDS];
    struct thread *thread;   /* who called */
    enum thread_state state; /* what became of it; THREAD_ENDED: it is gone */
};

static inline bool thread_lives_in(const struct process *p, const struct thread *t)
{
    list_each(struct thread, at, &p->threads, of_process) if (at == t) return true;
    list_each(struct process, child, &p->children, sibling) if (thread_lives_in(child, t)) return true;
    return false;
}
static inline bool thread_lives(const struct thread *t) { return thread_lives_in(process_root, t); }

/* What a thread finds in its registers when it runs again. */
static inline struct result result_of(struct thread *t)
{
    if (!thread_lives(t)) return (struct result){.thread = t, .state = THREAD_ENDED};
    const struct context *c = &t->context;
    struct result r = {
        .status = (status_t)c->status, .handle = c->handle, .info = c->info, .thread = t, .state = t->state};
    memcpy(r.w, c->w, sizeof r.w);
    return r;
}

/* argument: handle, info, w0..w7 */
static inline struct result system_call(uint64_t number, const uint64_t argument[10])
{
    struct thread *t = current();
    cr_assert_not_null(t, "no thread runs");
    struct context *c = &t->context;
    c->status = number;
    c->handle = argument[0];
    c->info = argument[1];
    for (unsigned i = 0; i < MESSAGE_WORDS; i++) c->w[i] = argument[2 + i];
    do {
        c->arch.again = false;
        kernel_syscall();
    } while (current() == t && c->arch.again);
    return result_of(t);
}
#define sys(name, ...) system_call(SYS_##name, (const uint64_t[10]){__VA_ARGS__})

#define expect_status(expression, expected)                                                     \
    do {                                                                                        \
        struct result expect_result = (expression);                                             \
        cr_assert(expect_result.state == THREAD_RUNNING || expect_result.state == THREAD_READY, \
                  "%s: the caller is in state %d", #expression, expect_result.state);           \
        cr_assert_eq(expect_result.status, expected, "%s: status %d, not %s", #expression,      \
                     (int)expect_result.status, #expected);                                     \
    } while (0)
#define expect_ok(expression) expect_status(expression, OK)
#define expect_state(expression, expected)                                                                \
    do {                                                                                                  \
        struct result expect_result = (expression);                                                       \
        cr_assert_eq(expect_result.state, expected, "%s: the caller is in state %d, not %s", #expression, \
                     expect_result.state, #expected);                                                     \
    } while (0)

static inline handle_t value_of(struct result r)
{
    cr_assert_eq(r.status, OK, "status %d", (int)r.status);
    return r.w[0];
}
#define make(name, ...) value_of(sys(name, __VA_ARGS__)) /* a call that must succeed; its w0 */

/* Makes t the running thread by yielding; all threads of a test have one priority. */
static inline void run_as(struct thread *t)
{
    for (unsigned i = 0; current() != t && i < 4096; i++) {
        cr_assert_not_null(current(), "idle: thread %p cannot run", (void *)t);
        expect_ok(sys(yield));
    }
    cr_assert_eq(current(), t, "the thread does not get to run: state %d",
                 thread_lives(t) ? (int)t->state : -1);
}

static inline struct thread *thread_of(struct process *p)
{
    cr_assert(!list_empty(&p->threads));
    return container_of(p->threads.next, struct thread, of_process);
}
static inline struct thread *root_thread(void) { return thread_of(process_root); }

/* --- Children ------------------------------------------------------------------------------------------------- */

struct child {
    handle_t handle; /* in its parent's table */
    struct process *process;
    struct thread *thread; /* NULL: not started */
};

static inline struct object *object_at(struct process *p, handle_t h)
{
    struct capability *c = cap_lookup(p, h);
    cr_assert_not_null(c, "handle %lx", h);
    return c->object;
}

/* The running thread makes a process; only the supervisor holds an image to make it from. */
static inline struct child child_create(uint64_t quota, tag_t tag, uint64_t sched)
{
    struct process *parent = current()->process;
    struct child c = {.handle =
                          make(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, quota, tag, sched)};
    c.process = (struct process *)object_at(parent, c.handle);
    return c;
}

static inline void child_start(struct child *c)
{
    expect_ok(sys(process_start, c->handle, 0));
    c->thread = thread_of(c->process);
}

static inline struct child child_make(uint32_t service)
{
    struct child c = child_create(TEST_QUOTA, TAG_MAKE(service, 1), TEST_SCHED);
    child_start(&c);
    return c;
}

/* The running thread gives a child one of its capabilities. */
static inline handle_t grant(struct child *to, handle_t h, uint32_t rights, uint64_t badge)
{
    return make(process_grant, to->handle, h, rights, badge);
}

/* A page of memory in the running process's space, to hand buffers to calls. */
static inline vaddr_t buffer_make(uint64_t at)
{
    handle_t m = make(memory_create, 0, 1, 0);
    expect_ok(sys(memory_map, 0, m, at, 0, 1, RIGHT_READ | RIGHT_WRITE));
    return (vaddr_t){at};
}

/* --- What must always hold ---------------------------------------------------------------------------------------- */

/* Entries of an event in the trace since boot. */
static inline uint64_t trace_count(enum trace_event event)
{
    const struct trace_header *h = arch_direct(trace_paddr());
    const struct trace_entry *e = (const void *)((const uint8_t *)h + PAGE_SIZE);
    uint64_t n = 0;
    cr_assert_lt(h->head, h->entries, "the ring wrapped");
    for (uint64_t i = 0; i < h->head; i++) n += e[i].event == event;
    return n;
}

static inline uint64_t memory_frames(const struct memory *m)
{
    bool indexed = !(m->flags & MEMORY_CONTIGUOUS) && m->pages > MEMORY_FRAMES;
    return m->pages + (indexed ? (m->pages + MEMORY_INDEX - 1) / MEMORY_INDEX : 0);
}

static inline uint64_t process_frames(struct process *p) /* what it and its descendants hold, by walking */
{
    uint64_t n = 1 + p->chunk_count;
    for (paddr_t page = p->pool; page.v; page = *(paddr_t *)arch_direct(page)) n++;
    if (p->state == PROCESS_DEAD) return n;
    n += host_table_frames(p) + p->thread_count - (p->first.object.type != OBJECT_NONE);
    list_each(struct dma, d, &p->domains, of_user) n += host_domain_frames(&d->iommu);
    list_each(struct object, o, &p->objects, owned)
    {
        const struct memory *m = (const struct memory *)o;
        if (o->type != OBJECT_MEMORY || (m->flags & (MEMORY_DEVICE | MEMORY_KERNEL))) continue;
        n += memory_frames(m) + (m->saved ? memory_frames(m->saved) : 0);
    }
    return n;
}

/* The account of p equals what it holds plus the quotas it handed down. */
static inline void account_check(struct process *p)
{
    uint64_t n = process_frames(p);
    list_each(struct process, child, &p->children, sibling)
    {
        n += child->quota;
        account_check(child);
    }
    if (p == process_root) n += dma_quarantined_pages();
    cr_assert_eq(p->used, n, "process %u: account says %lu pages, it holds %lu", p->pid, p->used, n);
    cr_assert_leq(p->used, p->quota);
    if (p->state == PROCESS_DEAD)
        cr_assert(inv_process_dead_owns_nothing(p), "dead process %u owns something", p->pid);
}

#endif
