/* SPDX-License-Identifier: BSD-2-Clause
 * Is a silent service dead (supervisor/core_watch.h)? Who hangs is found in time; who is only starved of the CPU,
 * slow, idle or restarted is left alone, however long the host stands still. */
#include <criterion/criterion.h>
#include "supervisor/core_watch.h"

#define MS       1000000ull
#define WATCHDOG (8 * MS)
#define PERIOD   (WATCHDOG / WATCH_LOOKS_PER_WATCHDOG)
#define PER_US   2600ull /* ticks */

static struct watch watch;
static struct suspicion suspicion;

static bool look(uint64_t waiting, uint64_t served)
{
    struct watch_look l = {waiting, served};
    return watch_stalled(&watch, &l, PERIOD, WATCHDOG);
}

static bool hang(uint32_t generation, uint64_t runnable, uint64_t cpu_us, uint64_t now_ns)
{
    static uint64_t interruptions;
    interruptions += WATCH_HANG_INTERRUPTIONS; /* each look finds it running, unless a test says otherwise */
    struct vitals v = {generation, runnable, cpu_us * PER_US, interruptions};
    return watch_hang(&suspicion, &v, now_ns, PER_US);
}

/* --- Progress --------------------------------------------------------------------------------- */
Test(supervisor_watch, calls_pending_and_none_answered_for_a_watchdog_time)
{
    cr_assert_not(look(1, 7), "now it is seen for the first time");
    cr_assert_not(look(1, 7), "half the time");
    cr_assert(look(1, 7));
    cr_assert(look(2, 7), "and on");
}

Test(supervisor_watch, an_answer_in_between_starts_anew)
{
    for (uint64_t n = 0; n < 100; n++) {
        cr_assert_not(look(1, n));
        cr_assert_not(look(1, n));
    }
}

Test(supervisor_watch, who_has_nothing_to_do_is_never_stalled)
{
    for (int n = 0; n < 100; n++) cr_assert_not(look(0, 7));
    cr_assert_not(look(1, 7), "a call that came just now");
    cr_assert_not(look(0, 8));
    cr_assert_not(look(1, 8));
}

/* Looks are counted. A host that stands still for an hour between two of them is one missed look. */
Test(supervisor_watch, a_pause_of_the_host_is_one_look)
{
    cr_assert_not(look(1, 7));
    cr_assert_not(look(1, 7));
    cr_assert_not(look(1, 8), "it ran before this look, and answered");
    cr_assert_not(look(1, 8));
}

/* --- Whose fault ------------------------------------------------------------------------------ */
Test(supervisor_watch, blocked_or_gone_is_hanging_at_once)
{
    cr_assert(hang(1, 0, 0, 1000 * MS), "nothing of it is runnable");
    cr_assert(watch_hang(&suspicion, NULL, 1000 * MS, PER_US), "no process");
}

Test(supervisor_watch, a_driver_that_spins_is_found_when_it_had_the_cpu)
{
    cr_assert_not(hang(1, 1, 5000, 1000 * MS), "first suspicion: what it used before does not count");
    cr_assert_not(hang(1, 1, 5000 + WATCH_HANG_CPU_US - 1, 1004 * MS));
    cr_assert(hang(1, 1, 5000 + WATCH_HANG_CPU_US, 1008 * MS));
}

/* Its CPU is one of several, and the host takes it away for longer than any watchdog: the time goes on. */
Test(supervisor_watch, time_on_a_cpu_that_the_host_took_away_proves_nothing)
{
    struct vitals v = {.generation = 1, .runnable = 1, .cpu_ticks = 5000 * PER_US, .interruptions = 7};
    for (uint64_t n = 0; n < 50; n++) {
        cr_assert_not(watch_hang(&suspicion, &v, 1000 * MS + n * MS, PER_US));
        v.cpu_ticks += 1000 * PER_US;
        if (n % 20 == 0) v.interruptions++; /* it is back for a moment */
    }
}

Test(supervisor_watch, a_driver_that_spins_on_another_cpu_is_found_by_asking_that_cpu)
{
    struct vitals v = {.generation = 1, .runnable = 1};
    for (uint64_t n = 0; n < WATCH_HANG_INTERRUPTIONS; n++) {
        cr_assert_not(watch_hang(&suspicion, &v, 1000 * MS + n * MS, PER_US));
        v.cpu_ticks += 1000 * PER_US;
        v.interruptions++;
    }
    cr_assert(watch_hang(&suspicion, &v, 1010 * MS, PER_US));
}

Test(supervisor_watch, an_innocent_driver_starved_of_the_cpu_is_never_killed)
{
    for (uint64_t n = 0; n < 100000; n++) cr_assert_not(hang(1, 1, 5000, 1000 * MS + n * PERIOD));
}

Test(supervisor_watch, an_innocent_driver_that_gets_a_trickle_is_never_killed)
{
    uint64_t cpu_us = 0;
    for (uint64_t now = 1000 * MS; now < 20000 * MS; now += PERIOD) {
        cr_assert_not(hang(1, 1, cpu_us, now));
        cpu_us += 15; /* in WATCH_SUSPICION_NS: 375 us, less than what a hang must have had */
    }
}

/* What it did between two times without the CPU does not show that it hangs in the second. */
Test(supervisor_watch, a_driver_that_answered_meanwhile_is_suspected_anew)
{
    uint64_t now = 1000 * MS;

    for (int n = 0; n < 5; n++) cr_assert_not(hang(1, 1, 5000, now += MS));
    now += 40 * MS;
    for (int n = 0; n < 5; n++)
        cr_assert_not(hang(1, 1, 15000, now += MS), "it has had 10 ms, when nobody suspected it");
    cr_assert(hang(1, 1, 16000, now += MS), "it has 1 ms, and is silent");
}

/* The host stops for a second while the driver is served a call; then the driver is behind others for a while, then
 * it answers. Looks and verdicts in the order in which the supervisor makes them. */
Test(supervisor_watch, a_host_pause_kills_nobody)
{
    uint64_t now = 1000 * MS, served = 41, cpu_us = 700;
    bool killed = false;

    for (int n = 0; n < 50; n++) {
        now += n == 2 ? 1000 * MS : PERIOD;
        if (n == 40) { /* at last it has the CPU */
            cpu_us += 30;
            served++;
        }
        if (look(n < 40 ? 1 : 0, served)) killed |= hang(3, 1, cpu_us, now);
    }
    cr_assert_not(killed);
    for (int n = 0; n < 8; n++) { /* the same, but this one spins */
        now += PERIOD;
        cpu_us += 400;
        if (look(1, served)) killed |= hang(3, 1, cpu_us, now);
    }
    cr_assert(killed);
}

Test(supervisor_watch, a_new_incarnation_is_a_new_suspicion)
{
    cr_assert_not(hang(1, 1, 100, 1000 * MS));
    cr_assert_not(hang(2, 1, 9000, 1001 * MS), "the time of its predecessor, or its own start");
    cr_assert(hang(2, 1, 9000 + WATCH_HANG_CPU_US, 1002 * MS));
}
