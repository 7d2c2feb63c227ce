/* SPDX-License-Identifier: BSD-2-Clause
 * Random system calls, kills, timers and memory accesses on several simulated CPUs (the host port), with what must hold
 * between them checked after each step: nobody more urgent waits for a CPU that he may use, no thread runs twice,
 * no TLB knows what the tables do not, the accounts add up. Registers of threads that run on other CPUs are hidden
 * from AddressSanitizer, so the kernel dies if it looks at them before it stopped the CPU.
 * Environment: MODEL_SEED, MODEL_RUNS, MODEL_CALLS; a failure names the seed of its run. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdlib.h>
#include "../unit/host_kernel.h"

#define CHILDREN 6u
#define PAGES    3u
#define AT       0x500000000ul /* page n of everybody: AT + n pages */

static uint64_t state, seed;
static uint64_t below(uint64_t n)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state % n;
}
static bool chance(unsigned percent) { return below(100) < percent; }

/* --- The world: the supervisor, and children that hold each other ------------------------------------------ */

struct actor {
    struct process *process; /* NULL: buried */
    handle_t handle;         /* the supervisor's */
    handle_t endpoint, notification, memory;
    handle_t other[CHILDREN]; /* what it holds of the others */
};
static struct actor actors[CHILDREN];
static handle_t endpoint, notification, memory, shared; /* the supervisor's; shared derives from memory */

static struct actor *actor_of(const struct process *p)
{
    for (unsigned i = 0; i < CHILDREN; i++)
        if (actors[i].process == p) return &actors[i];
    return NULL;
}

static void actor_make(unsigned i)
{
    uint32_t priority = 1 + (uint32_t)below(29);
    uint64_t budget = chance(30) ? 50 + below(200) : 0;
    struct result r =
        sys(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, 48, TAG_MAKE(i + 1, 1),
            SCHED_MAKE(priority, budget, budget ? budget + below(1000) : 0),
            (chance(50) ? 0 : 1 + below((1u << arch_platform.cpus) - 1)) | (chance(50) ? PROCESS_KEPT : 0));
    if (r.status != OK) return;
    struct actor *a = &actors[i];
    *a = (struct actor){.handle = r.w[0]};
    a->process = (struct process *)object_at(process_root, a->handle);
    a->endpoint = make(process_grant, a->handle, endpoint, RIGHT_READ | RIGHT_WRITE, 0);
    a->notification = make(process_grant, a->handle, notification, RIGHT_READ | RIGHT_WRITE, 0);
    a->memory = make(process_grant, a->handle, shared, RIGHT_READ | RIGHT_WRITE, 0);
    for (unsigned k = 0; k < CHILDREN; k++)
        if (actors[k].process)
            a->other[k] = make(process_grant, a->handle, actors[k].handle, RIGHT_MANAGE, 0);
    expect_ok(sys(process_start, a->handle, 0));
}

static void shared_make(void)
{
    shared = make(cap_derive, memory, RIGHT_READ | RIGHT_WRITE | RIGHT_GRANT, 0);
}

/* --- Steps -------------------------------------------------------------------------------------------------- */

/* The supervisor never blocks and never ends. */
static void step_supervisor(void)
{
    unsigned i = (unsigned)below(CHILDREN);
    struct actor *a = &actors[i];
    switch (below(10)) {
    case 0:
    case 1:
        if (!a->process)
            actor_make(i);
        else if (a->process->state == PROCESS_FALLEN)
            expect_ok(sys(process_start, a->handle, 0));
        break;
    case 2:
        if (!a->process || a->process->state < PROCESS_DEAD) break;
        sys(process_destroy, a->handle);
        a->process = NULL;
        break;
    case 3:
        if (a->process && chance(30)) sys(process_kill, a->handle, CAUSE_KILLED);
        break;
    case 4:
        if (a->process)
            sys(memory_map, a->handle, shared, AT + below(PAGES) * PAGE_SIZE, 0, 1, 1 + below(2) * 2);
        break;
    case 5:
        if (a->process && a->process->state != PROCESS_DEAD)
            sys(memory_unmap, a->handle, AT + below(PAGES) * PAGE_SIZE);
        break;
    case 6:
        if (!chance(30)) break;
        expect_ok(sys(cap_revoke, memory));
        shared_make();
        break;
    case 7:
        if (a->process) sys(inject, boot_inject, a->handle, INJECT_ARM, below(4), INJECT_KILL);
        break;
    case 8: sys(signal, notification, 1 + below(3)); break;
    default: sys(yield);
    }
}

static void step_child(struct actor *a)
{
    handle_t other = a->other[below(CHILDREN)];
    switch (below(15)) {
    case 13: sys(reply_recv_snapshot, a->endpoint); break;
    case 0: sys(recv, a->endpoint); break;
    case 1: sys(reply_recv, a->endpoint); break;
    case 2:
    case 3: sys(call, a->endpoint, INFO_MAKE(1, 0) | (chance(50) ? INFO_REPLAYABLE : 0)); break;
    case 4: sys(reply); break;
    case 5: sys(signal, a->notification, 1 + below(7)); break;
    case 6: sys(wait, a->notification); break;
    case 7: sys(bind, chance(80) ? a->notification : 0); break;
    case 8:
        sys(memory_map, chance(50) ? other : 0, a->memory, AT + below(PAGES) * PAGE_SIZE, 0, 1,
            1 + below(2) * 2);
        break;
    case 9: sys(memory_unmap, chance(50) ? other : 0, AT + below(PAGES) * PAGE_SIZE); break;
    case 10:
        if (other && chance(20)) sys(process_kill, other, CAUSE_KILLED);
        break;
    case 11:
        if (chance(10)) sys(exit, 0);
        break;
    case 12: sys(thread_create, 0, ELF_TEXT, USER_STACK_TOP, 0); break;
    default: sys(yield);
    }
}

/* What a process may write it can write, sooner or later. */
static void user_writes(struct process *p)
{
    vaddr_t at = {chance(50) ? ELF_DATA : USER_STACK_TOP - PAGE_SIZE};
    if (host_touch(at, RIGHT_WRITE)) return;
    cr_assert(p->snapshot.taken, "seed %lu: a page of its own is not writable", seed);
    kernel_write_fault(at.v);
    if (current() && current()->process == p) /* nobody more urgent came meanwhile */
        cr_assert(host_touch(at, RIGHT_WRITE), "seed %lu: still not writable", seed);
}

static void step(void)
{
    host_cpu((uint32_t)below(arch_platform.cpus));
    if (chance(10)) host_advance(below(100000));
    struct thread *t = current();
    if (!t) return;
    if (t->process != process_root && chance(50)) user_writes(t->process);
    if (!(t = current())) return;
    for (unsigned n = 0; n < PAGES; n++) host_touch((vaddr_t){AT + n * PAGE_SIZE}, RIGHT_READ);
    if (t->context.arch.step)
        kernel_step();
    else if (t->process == process_root)
        step_supervisor();
    else if (chance(3))
        kernel_exception(CAUSE_PAGE_FAULT, AT);
    else
        step_child(actor_of(t->process));
}

/* --- What must hold ---------------------------------------------------------------------------------------------- */

static void check(void)
{
    bool kicked = false; /* a CPU is on its way to a thread that others could run too */
    each_cpu(k) kicked |= host.cpu[k->id].kicked;
    each_cpu(c)
    {
        const struct host_cpu *h = &host.cpu[c->id];
        const struct thread *t = c->current;
        cr_assert(kicked || inv_sched_nobody_waits(c), "seed %lu: CPU %u could do better", seed, c->id);
        cr_assert(h->kicked || !c->coming || c == arch_cpu(), "seed %lu: CPU %u was not kicked", seed, c->id);
        if (!t) continue;
        cr_assert_eq(t->state, THREAD_RUNNING, "seed %lu: CPU %u runs a thread in state %d", seed, c->id,
                     t->state);
        cr_assert(t->cpus & c->bit, "seed %lu: CPU %u is not for this thread", seed, c->id);
        cr_assert_eq(c->space, t->process, "seed %lu: CPU %u has another address space", seed, c->id);
        cr_assert_eq(h->space, t->process, "seed %lu: CPU %u has other tables", seed, c->id);
        each_cpu(d) cr_assert(d == c || d->current != t, "seed %lu: a thread runs twice", seed);
    }
    cr_assert(host_tlbs_true(), "seed %lu: a TLB knows what the tables do not", seed);
    account_check(process_root);
}

static void run(uint64_t calls)
{
    state = seed * 0x9e3779b97f4a7c15ul + 1;
    boot_cpus(2 + (uint32_t)below(CPUS_MAX - 1));
    endpoint = make(endpoint_create, 1);
    notification = make(notification_create, 1);
    memory = make(memory_create, 0, 1, 0);
    shared_make();
    for (uint64_t n = 0; n < calls; n++) {
        step();
        check();
    }
}

static uint64_t setting(const char *name, uint64_t fallback)
{
    const char *value = getenv(name);
    return value ? strtoul(value, NULL, 0) : fallback;
}

ParameterizedTestParameters(smp_model, random_calls_on_several_cpus)
{
    static uint64_t seeds[10000];
    uint64_t runs = setting("MODEL_RUNS", 24), first = setting("MODEL_SEED", 1);
    if (runs > 10000) runs = 10000;
    for (uint64_t i = 0; i < runs; i++) seeds[i] = first + i;
    return cr_make_param_array(uint64_t, seeds, runs);
}

ParameterizedTest(uint64_t *of_run, smp_model, random_calls_on_several_cpus)
{
    seed = *of_run;
    run(setting("MODEL_CALLS", 2000));
}
