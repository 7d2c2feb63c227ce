/* SPDX-License-Identifier: BSD-2-Clause
 * The kernel lock where it is not free, what CPUs ask of each other, and for how long the lock is held.
 * Owns kernel_lock with entry.S. Who holds the lock may make another CPU stop (arch_stop): it posts a request
 * and an interrupt and waits. The other one is in user mode, or idle, and comes by the interrupt; or it is on
 * its way to the lock already; either way it ends up in lock_wait, with its thread's registers saved, and
 * answers there. It has no other duty: no CPU ever waits for one that waits for it.
 * If the lock is free no request is open: the holder does not let go before all have answered. */
#include "x86.h"
#include "sched.h"
#include "../../../abi/trace.h"
#include "print.h"

static void times_add(struct lock_times *l, uint64_t ticks)
{
    unsigned bucket = 63u - (unsigned)__builtin_clzl(ticks | 1);
    l->count[bucket < LOCK_BUCKETS ? bucket : LOCK_BUCKETS - 1]++;
    l->sum += ticks;
    if (ticks > l->most) l->most = ticks;
}

static void request_answer(struct arch_cpu *a)
{
    uint64_t root = __atomic_load_n(&a->request, __ATOMIC_ACQUIRE);
    if (!root) return;
    cr3_write(root); /* and so flushes all of a process's pages: they are not global */
    __atomic_store_n(&a->request, 0, __ATOMIC_RELEASE);
}

void lock_wait(void)
{
    struct cpu *c = arch_cpu();
    bool counted = c->trace; /* not while the machine starts */
    uint64_t since = arch_tsc();
    do {
        while (__atomic_load_n(&kernel_lock, __ATOMIC_RELAXED)) {
            request_answer(&c->arch);
            __builtin_ia32_pause();
        }
    } while (__atomic_exchange_n(&kernel_lock, 1, __ATOMIC_ACQUIRE));
    assert(!c->arch.request);
    if (counted) times_add(&c->trace->waited, arch_tsc() - since);
}

void arch_stop(uint32_t mask, bool leave)
{
    assert(!(mask & arch_cpu()->bit));
    each_cpu(c)
    {
        if (!(mask & c->bit)) continue;
        if (leave) c->arch.root = space_kernel_root();
        __atomic_store_n(&c->arch.request, c->arch.root, __ATOMIC_RELEASE);
        arch_kick(c);
    }
    each_cpu(d) while ((mask & d->bit) && __atomic_load_n(&d->arch.request, __ATOMIC_ACQUIRE))
        __builtin_ia32_pause();
}

void arch_kick(struct cpu *c) { apic_send(c->arch.apic_id, VECTOR_KICK); }

/* --- How long -------------------------------------------------------------------------------------------- */

/* What entry.S calls with the lock held. One CPU has nothing to wait for and pays nothing for the figures. */
struct context *(*enter_syscall)(void) = kernel_syscall;
struct context *(*enter_user_trap)(uint32_t vector, uint32_t error) = trap_user;
struct context *(*enter_interrupt)(uint32_t vector) = trap_interrupt;

static struct context *timed(struct context *next, uint64_t since)
{
    times_add(&arch_cpu()->trace->held, arch_tsc() - since);
    return next;
}

static struct context *syscall_timed(void)
{
    uint64_t since = arch_tsc();
    return timed(kernel_syscall(), since);
}

static struct context *user_trap_timed(uint32_t vector, uint32_t error)
{
    uint64_t since = arch_tsc();
    return timed(trap_user(vector, error), since);
}

static struct context *interrupt_timed(uint32_t vector)
{
    uint64_t since = arch_tsc();
    return timed(trap_interrupt(vector), since);
}

void lock_times_start(void)
{
    enter_syscall = syscall_timed;
    enter_user_trap = user_trap_timed;
    enter_interrupt = interrupt_timed;
}
