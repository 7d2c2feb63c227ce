/* SPDX-License-Identifier: BSD-2-Clause
 * Stall detection: verdicts over time (recovery/core_watch.c). Times in milliseconds. */
#include "tests/unit/recovery_fixture.h"

#define MS       1000000ul
#define WATCHDOG (8 * MS)

static struct watch w;
static struct watch_sample now;
static uint64_t clock_ms;

static void setup(void)
{
    watch_reset(&w);
    now = (struct watch_sample){.rounds = 1};
    clock_ms = 1000;
}
TestSuite(watch, .init = setup);

static enum watch_verdict look(void)
{
    clock_ms += 1;
    return watch_step(&w, &now, clock_ms * MS, WATCHDOG);
}

/* Looks until a verdict that is not FINE; returns the milliseconds it took. */
static uint64_t until(enum watch_verdict expected)
{
    uint64_t from = clock_ms;

    for (int i = 0; i < 10000; i++) {
        enum watch_verdict verdict = look();
        if (verdict == WATCH_FINE) continue;
        cr_assert_eq(verdict, expected);
        return clock_ms - from;
    }
    cr_assert_fail("no verdict");
    return 0;
}

Test(watch, idle_driver_is_asked_seldom)
{
    unsigned asked = 0;

    for (int i = 0; i < 10000; i++) {
        enum watch_verdict verdict = look();
        cr_assert_neq(verdict, WATCH_STALLED);
        if (verdict != WATCH_ASK) continue;
        asked++;
        now.rounds++;
    }
    cr_assert(asked > 100 && asked < 1250, "%u times in 10 s", asked);
}

Test(watch, driver_that_hangs_while_it_says_that_it_sleeps_is_found)
{
    cr_assert_leq(until(WATCH_ASK) + until(WATCH_STALLED), 3 * 8);
}

Test(watch, progress_is_fine)
{
    now.pending = 3;
    for (int i = 0; i < 10000; i++) {
        now.progress++;
        cr_assert_eq(look(), WATCH_FINE);
    }
}

Test(watch, hung_driver_is_stalled_within_its_time)
{
    now.pending = 1;
    uint64_t took = until(WATCH_ASK) + until(WATCH_STALLED);
    cr_assert_leq(took, 10);
}

Test(watch, stalled_is_said_once_an_incarnation)
{
    now.pending = 1;
    until(WATCH_ASK);
    until(WATCH_STALLED);
    for (int i = 0; i < 10000; i++) cr_assert_eq(look(), WATCH_FINE);
    watch_reset(&w);
    until(WATCH_ASK);
    until(WATCH_STALLED);
}

Test(watch, answering_driver_with_a_slow_device_lives)
{
    now.pending = 1;
    for (int i = 0; i < 100; i++) {
        until(WATCH_ASK);
        now.rounds++;
        cr_assert_eq(look(), WATCH_FINE);
    }
}

/* Milliseconds until a driver that answers is given up. */
static uint64_t patience_ms(uint64_t watchdog_ms)
{
    setup();
    now.pending = 1;
    for (int i = 0; i < 200000; i++) {
        clock_ms++;
        enum watch_verdict verdict = watch_step(&w, &now, clock_ms * MS, watchdog_ms * MS);
        if (verdict == WATCH_ASK) now.rounds++;
        if (verdict == WATCH_STALLED) return clock_ms - 1000;
    }
    cr_assert_fail("a dead device is waited for for ever");
    return 0;
}

Test(watch, device_limit_ends_patience)
{
    cr_assert_eq(patience_ms(1) / 10, 100, "never less than 1 s");
    cr_assert_eq(patience_ms(8) / 10, 160);
    cr_assert_eq(patience_ms(500) / 10, 500, "never more than 5 s");
}

Test(watch, a_request_that_is_forgotten_while_others_complete_is_found)
{
    now.pending = 2;
    for (int i = 0; i < 3000; i++) {
        now.progress++;
        now.oldest_ns += MS;
        if (look() != WATCH_STALLED) continue;
        cr_assert_geq(i, 1600);
        cr_assert_leq(i, 1620);
        return;
    }
    cr_assert_fail("it is waited for for ever");
}

/* The host stopped the whole machine, and the device is done soon after. */
Test(watch, a_request_that_is_overdue_once_is_not_forgotten)
{
    now.pending = 2;
    for (int i = 0; i < 100; i++) {
        now.progress++;
        now.oldest_ns = i % 4 != 0 ? 9000 * MS : 0;
        cr_assert_eq(look(), WATCH_FINE);
    }
}

Test(watch, late_looks_are_no_verdict)
{
    now.pending = 1;
    until(WATCH_ASK);
    for (int i = 0; i < 3; i++) {
        clock_ms += 500; /* the host stopped the whole machine */
        cr_assert_eq(look(), WATCH_FINE);
    }
    now.rounds++;
    cr_assert_eq(look(), WATCH_FINE);
}

Test(watch, starting_driver_is_left_to_the_start_timeout)
{
    now.pending = 1;
    now.rounds = 0;
    for (int i = 0; i < 1000; i++) cr_assert_eq(look(), WATCH_FINE);
    now.rounds = 1;
    cr_assert_leq(until(WATCH_ASK) + until(WATCH_STALLED), 10);
}

Test(watch, driver_that_never_looks_at_its_first_session_is_found)
{
    now.rounds = 0;
    for (int i = 0; i < 10000; i++) cr_assert_eq(look(), WATCH_FINE);
    now.pending = 1;
    cr_assert_leq(until(WATCH_STALLED), 2000);
}

Test(watch, spinning_driver_that_starves_its_clients_is_stalled)
{
    now.awake = 1; /* nothing pending: nobody else runs */
    cr_assert_leq(until(WATCH_ASK) + until(WATCH_STALLED), 10);
}

Test(watch, busy_driver_is_fine)
{
    now.awake = 1;
    for (int i = 0; i < 1000; i++) {
        now.rounds++;
        now.progress += i % 7 == 0;
        now.awake = i % 3 != 0;
        cr_assert_neq(look(), WATCH_STALLED);
    }
}

Test(watch, a_lost_interrupt_is_said_at_once_and_once)
{
    look();
    now.pending = now.issued = 1;
    until(WATCH_ASK);
    now.irq_lost = 1; /* the answer */
    cr_assert_eq(look(), WATCH_LOST_IRQ);
    for (int i = 0; i < 10000; i++) cr_assert_eq(look(), WATCH_FINE);
    watch_reset(&w);
    now.irq_lost = 0;
    now.pending = now.issued = 0;
    for (int i = 0; i < 10; i++) cr_assert_neq(look(), WATCH_LOST_IRQ, "the next incarnation begins anew");
}

Test(watch, a_question_that_may_not_have_been_asked_is_asked_again)
{
    (void)until(WATCH_ASK); /* recovery fell before it rang */
    watch_resume(&w);
    (void)until(WATCH_ASK);
    (void)until(WATCH_STALLED);
}

Test(watch, a_complaint_that_may_not_have_been_made_is_made_again)
{
    (void)until(WATCH_ASK);
    (void)until(WATCH_STALLED);
    watch_resume(&w);
    cr_assert_eq(look(), WATCH_STALLED);
}

Test(watch, zero_is_not_watched)
{
    now.pending = 1;
    for (int i = 0; i < 10000; i++) {
        clock_ms += 100;
        cr_assert_eq(watch_step(&w, &now, clock_ms * MS, 0), WATCH_FINE);
    }
}
