/* SPDX-License-Identifier: BSD-2-Clause
 * The longest system calls that a process of our quota can make: each holds the kernel lock and keeps interrupts
 * off for as long. Best of a few, because others may run in between; under -icount shift=0 a tick is an
 * instruction. */
#include "hostile.h"

#define TRIES 3
#define PAGES 1000u
#define CAPS  16000u /* a full table has 16,128 */

static uint64_t best(uint64_t so_far, uint64_t since)
{
    uint64_t ticks = rdtsc() - since;

    return ticks < so_far ? ticks : so_far;
}

static void say(const char *name, uint64_t amount, uint64_t ticks)
{
    log_line("{\"longest\":{\"name\":\"%s\",\"amount\":%lu,\"ticks\":%lu}}", name, amount, ticks);
}

static void longest_memory(uint32_t flags, const char *create, const char *destroy)
{
    uint64_t t, made = ~0ul, gone = ~0ul, mapped = ~0ul, unmapped = ~0ul;

    for (uint32_t i = 0; i < TRIES; i++) {
        t = rdtsc();
        handle_t m = sys_memory_create(0, PAGES, flags).value;
        made = best(made, t);
        t = rdtsc();
        (void)sys_memory_map(0, m, SCRATCH_AT, 0, PAGES, RIGHT_READ | RIGHT_WRITE);
        mapped = best(mapped, t);
        t = rdtsc();
        (void)sys_memory_unmap(0, SCRATCH_AT);
        unmapped = best(unmapped, t);
        t = rdtsc();
        (void)sys_cap_delete(m);
        gone = best(gone, t);
    }
    say(create, PAGES, made);
    say(destroy, PAGES, gone);
    if (flags) return;
    say("memory_map", PAGES, mapped);
    say("memory_unmap", PAGES, unmapped);
}

/* 256 capabilities: one step of a revocation, however large the tree is. */
static void longest_revoke(void)
{
    uint64_t ticks = ~0ul;

    for (uint32_t i = 0; i < TRIES; i++) {
        handle_t n = sys_notification_create(0).value, last = n;
        for (uint32_t k = 0; k < 256; k++) last = sys_cap_derive(last, RIGHT_READ, 0).value;
        uint64_t t = rdtsc();
        (void)sys_cap_revoke(n);
        ticks = best(ticks, t);
        (void)sys_cap_delete(n);
    }
    say("cap_revoke, a step", 256, ticks);
}

/* The death of a process whose quota is all in one thing. */
static void longest_death(uint32_t caps, uint32_t pages, uint32_t mappings, const char *name)
{
    uint64_t t, ticks = ~0ul, made = ~0ul;
    handle_t n = sys_notification_create(0).value, m = sys_memory_create(0, 1, 0).value;

    for (uint32_t i = 0; i < TRIES; i++) {
        struct child c = {0};
        t = rdtsc();
        struct sys_result r =
            sys_process_create(child_image(), 0, child_image_bytes(), PAGES, 0, own_sched(), 0);
        made = best(made, t);
        c.process = r.value;
        if (r.status != OK) break;
        for (uint32_t k = 0; k < caps; k++) (void)sys_process_grant(c.process, n, RIGHT_READ, 0);
        if (pages) (void)sys_memory_create(c.process, pages, 0);
        for (uint64_t k = 0; k < mappings; k++)
            (void)sys_memory_map(c.process, m, SCRATCH_AT + k * PAGE_SIZE, 0, 1, RIGHT_READ);
        t = rdtsc();
        child_end(&c);
        ticks = best(ticks, t);
    }
    say(name, caps + pages + mappings, ticks);
    if (!caps && !pages && !mappings) say("process_create", child_image_bytes() / PAGE_SIZE, made);
    (void)sys_cap_delete(n);
    (void)sys_cap_delete(m);
}

void longest_run(void)
{
    longest_memory(0, "memory_create", "memory destroyed");
    longest_memory(MEMORY_CONTIGUOUS, "memory_create, a run", "a run destroyed");
    longest_revoke();
    longest_death(0, 0, 0, "process_destroy");
    longest_death(CAPS, 0, 0, "process_destroy, capabilities");
    longest_death(0, 900, 0, "process_destroy, memory");
    longest_death(0, 0, 4000, "process_destroy, mappings");
}
