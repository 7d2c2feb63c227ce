/* SPDX-License-Identifier: BSD-2-Clause
 * The schedule: whoever can go on may be next, by the seed's dice; when nobody can, the clock goes to the next
 * moment at which somebody can. It ends when everything has settled (check.c) and nothing more will happen. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "sim.h"

#define STEPS_MAX  2000000u
#define TIME_MAX   (120000 * MS) /* of the machine's */
#define DEVICES_AT 100u
#define SPARES_AT  200u

struct world world;
bool sim_tracing;
char sim_failure[256];
jmp_buf sim_failed;

uint32_t sim_below(uint64_t *rng, uint32_t n)
{
    uint64_t z = (*rng += 0x9e3779b97f4a7c15ull);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (uint32_t)((((z ^ (z >> 31)) >> 32) * n) >> 32);
}

void sim_fail(const char *text, ...)
{
    va_list args;

    va_start(args, text);
    vsnprintf(sim_failure, sizeof(sim_failure), text, args);
    va_end(args);
    longjmp(sim_failed, 1);
}

void sim_trace(const char *text, ...)
{
    va_list args;

    printf("%10lu us %6lu  ", world.now_ns / 1000, world.steps);
    va_start(args, text);
    vprintf(text, args);
    va_end(args);
    printf("\n");
}

const struct fault *fault_due(uint32_t actor)
{
    uint64_t left = plan.limits.faults & ~world.fired & ((1ul << plan.fault_count) - 1);

    for (; left; left &= left - 1) {
        uint32_t n = (uint32_t)__builtin_ctzl(left);
        const struct fault *f = &plan.fault[n];
        if (f->actor != actor || world.own_steps[actor] < f->at) continue;
        world.fired |= 1ul << n;
        TRACE("  fault %u strikes %u", n, actor);
        return f;
    }
    return NULL;
}

/* False: nobody can go on. */
static bool turn(void)
{
    uint32_t who[3 * SERVICES_MAX + 2], n = 0;

    for (uint32_t i = 2; i < plan.services; i++) {
        if (process_runnable(i)) who[n++] = i;
        if (standby_runnable(i)) who[n++] = SPARES_AT + i;
        if (plan.role[i] == ROLE_DRIVER && device_runnable(i)) who[n++] = DEVICES_AT + i;
    }
    if (supervisor_runnable()) who[n++] = 0;
    if (recovery_runnable()) who[n++] = RECOVERY;
    if (n == 0) return false;
    uint32_t chosen = who[world_below(n)];
    world.now_ns += 200 + world_below(2000);
    world.turns++;
    if (chosen == 0)
        supervisor_turn();
    else if (chosen == RECOVERY)
        recovery_turn();
    else if (chosen >= SPARES_AT)
        standby_turn(chosen - SPARES_AT);
    else if (chosen >= DEVICES_AT)
        device_turn(chosen - DEVICES_AT);
    else
        process_resume(chosen);
    return true;
}

static void clock_advance(void)
{
    uint64_t next = supervisor_next_ns(), tick = recovery_next_ns();

    if (tick < next) next = tick;
    if (next == NEVER) sim_fail("nothing will ever happen, and %s", world_unsettled());
    if (next > world.now_ns) world.now_ns = next;
}

static void play(void)
{
    supervisor_start();
    for (;;) {
        if (turn()) {
            if (world.steps > STEPS_MAX) sim_fail("%u steps, and %s", STEPS_MAX, world_unsettled());
            continue;
        }
        if (world_settled()) return;
        if (world.now_ns > TIME_MAX) sim_fail("%llu s, and %s", TIME_MAX / MS / 1000, world_unsettled());
        clock_advance();
    }
}

bool world_run(void)
{
    sim_failure[0] = 0;
    memset(&world, 0, offsetof(struct world, pages)); /* pages and checkpoints are cleared when used */
    memset((uint8_t *)&world + offsetof(struct world, pagesets), 0,
           offsetof(struct world, core) - offsetof(struct world, pagesets));
    world.core.manifest = NULL;
    memset((uint8_t *)&world + offsetof(struct world, committed), 0,
           sizeof(world) - offsetof(struct world, committed));
    world.rng = plan.seed ^ 0x5bd1e9955bd1e995ull;
    world.now_ns = 1000 * MS;
    world.tick_ns = NEVER;
    if (setjmp(sim_failed)) return false;
    check_reset();
    play();
    return true;
}
