/* SPDX-License-Identifier: BSD-2-Clause
 * After a death: what is counted, what is repaired, what is poisoned (recovery/core_ledger.c). */
#include "tests/unit/recovery_fixture.h"

static struct fixture *f;
static struct rsession *s;

static void setup(void)
{
    f = fixture_make();
    s = fixture_open(f, DISK, SESSION_BLOCK, 8);
    attach(f, DISK, 1, SESSION_BLOCK);
}
TestSuite(ledger, .init = setup);

Test(ledger, first_attach_has_nothing_in_flight)
{
    cr_assert_eq(attach(f, DISK, 2, SESSION_BLOCK).in_flight, 0);
}

Test(ledger, in_flight_is_what_the_dead_incarnation_issued)
{
    request_put(s, 0, 1, 1);
    request_put(s, 1, 2, 0); /* submitted only */
    request_put(s, 2, 3, 1);
    s->ledger->entry[2].completed_id = 3;
    cr_assert_eq(attach(f, DISK, 2, SESSION_BLOCK).in_flight, 1);
}

Test(ledger, issued_by_an_earlier_incarnation_is_not_counted_again)
{
    request_put(s, 0, 1, 1);
    cr_assert_eq(attach(f, DISK, 2, SESSION_BLOCK).attempts_max, 1);
    struct attach_report r = attach(f, DISK, 3, SESSION_BLOCK); /* generation 2 died before it issued */
    cr_assert_eq(r.in_flight, 0);
    cr_assert_eq(s->attempts[0], 1);
}

Test(ledger, poisoned_at_the_fifth_death_and_alone)
{
    request_put(s, 0, 1, 1);
    for (uint32_t gen = 2; gen <= SESSION_ATTEMPTS_MAX; gen++) {
        struct attach_report r = attach(f, DISK, gen, SESSION_BLOCK);
        cr_assert_eq(r.poisoned, 0);
        cr_assert_eq(r.attempts_max, gen - 1);
        request_put(s, 0, 1, gen);
    }
    request_put(s, 1, 2, SESSION_ATTEMPTS_MAX);
    struct attach_report r = attach(f, DISK, SESSION_ATTEMPTS_MAX + 1, SESSION_BLOCK);
    cr_assert_eq(r.poisoned, 1);
    cr_assert_eq(r.poisoned_id, 1);
    cr_assert_eq(s->ledger->entry[0].completed_id, 1);
    cr_assert_eq(s->ledger->entry[0].status, E_POISONED);
    cr_assert_neq(s->ledger->entry[1].completed_id, 2);
    cr_assert_not(ledger_nonsense(s, 0), "recovery's own completion is believed");
}

/* The next incarnation takes the poisoning back in the ledger, which it may write, and dies with it: 300 times. */
Test(ledger, poisoned_stays_poisoned)
{
    for (uint32_t gen = 1; gen < 300; gen++) {
        request_put(s, 0, 1, gen);
        s->ledger->entry[0].completed_id = 0;
        struct attach_report r = attach(f, DISK, gen + 1, SESSION_BLOCK);
        cr_assert_eq(r.poisoned, gen >= SESSION_ATTEMPTS_MAX, "death %u", gen);
    }
}

Test(ledger, attempts_start_anew_with_a_new_request)
{
    request_put(s, 0, 1, 1);
    attach(f, DISK, 2, SESSION_BLOCK);
    request_put(s, 0, 9, 2);
    cr_assert_eq(attach(f, DISK, 3, SESSION_BLOCK).attempts_max, 1);
}

Test(ledger, completion_of_the_future_is_cleared)
{
    request_put(s, 0, 1, 1);
    s->ledger->entry[0].completed_id = 7;
    cr_assert(ledger_nonsense(s, 0));
    cr_assert_eq(attach(f, DISK, 2, SESSION_BLOCK).repaired, 1);
    cr_assert_eq(s->ledger->entry[0].completed_id, 0);
}

Test(ledger, completion_without_issue_is_cleared)
{
    request_put(s, 0, 4, 0);
    s->ledger->entry[0].completed_id = 4;
    cr_assert(ledger_nonsense(s, 0));
    cr_assert_eq(attach(f, DISK, 2, SESSION_BLOCK).repaired, 1);
    cr_assert_eq(s->ledger->entry[0].completed_id, 0);
}

Test(ledger, completion_with_unknown_status_is_cleared)
{
    request_put(s, 0, 4, 1);
    s->ledger->entry[0].completed_id = 4;
    s->ledger->entry[0].status = STATUS_COUNT;
    cr_assert(ledger_nonsense(s, 0));
    cr_assert_eq(attach(f, DISK, 2, SESSION_BLOCK).repaired, 1);
}

Test(ledger, good_completion_stays)
{
    request_put(s, 0, 4, 1);
    s->ledger->entry[0].completed_id = 4;
    s->ledger->entry[0].status = E_IO;
    cr_assert_eq(attach(f, DISK, 2, SESSION_BLOCK).repaired, 0);
    cr_assert_eq(s->ledger->entry[0].completed_id, 4);
    cr_assert_eq(s->ledger->entry[0].status, E_IO);
}

Test(ledger, free_slot_cannot_name_a_request_to_come)
{
    s->ledger->entry[3].issued_id = s->ledger->entry[3].completed_id = 12;
    attach(f, DISK, 2, SESSION_BLOCK);
    cr_assert_eq(s->ledger->entry[3].completed_id, 0);
    cr_assert_eq(s->ledger->entry[3].issued_id, 0);
}

Test(ledger, slots_beyond_the_session_are_not_looked_at)
{
    request_put(s, 8, 1, 1);
    cr_assert_eq(attach(f, DISK, 2, SESSION_BLOCK).in_flight, 0);
    cr_assert_not(ledger_nonsense(s, 8));
    cr_assert_not(ledger_nonsense(s, ~0ul));
}

Test(ledger, sample_counts_pending_issued_and_progress)
{
    struct watch_sample a, b;

    request_put(s, 0, 1, 1);
    request_put(s, 1, 2, 0);
    recovery_sample(&f->core, &f->server[DISK], 1, &a);
    cr_assert_eq(a.pending, 2);
    cr_assert_eq(a.issued, 1);
    cr_assert_eq(a.nonsense, 0);
    s->ledger->entry[0].completed_id = 1;
    s->ledger->completed_total = 1000; /* believed by nobody */
    recovery_sample(&f->core, &f->server[DISK], 1, &b);
    cr_assert_eq(b.pending, 1);
    cr_assert_neq(a.progress, b.progress);
    cr_assert_eq(s->id_seen, 2);
}

/* A driver gone wrong that issues and completes under other numbers, for ever. */
Test(ledger, other_ids_are_no_progress)
{
    struct watch_sample a, b;

    request_put(s, 0, 7, 1);
    recovery_sample(&f->core, &f->server[DISK], 1, &a);
    for (uint64_t id = 1; id < 7; id++) {
        s->ledger->entry[0].issued_id = s->ledger->entry[0].completed_id = id;
        s->ledger->entry[1].completed_id = id; /* a free slot */
        recovery_sample(&f->core, &f->server[DISK], 1, &b);
        cr_assert_eq(a.progress, b.progress);
    }
    s->ledger->entry[0].issued_id = s->ledger->entry[0].completed_id = 7;
    recovery_sample(&f->core, &f->server[DISK], 1, &b);
    cr_assert_neq(a.progress, b.progress);
}

Test(ledger, what_its_client_has_taken_between_two_looks_was_progress)
{
    struct watch_sample a, b;

    for (uint64_t id = 1; id < 10; id += 2) {
        s->ledger->entry[0].completed_id = id - 1;
        request_put(s, 0, id, 1);
        recovery_sample(&f->core, &f->server[DISK], 1, &b);
        cr_assert(id == 1 || a.progress != b.progress);
        a = b;
    }
}

/* Slot 1 is forgotten while slot 0 completes one request after the other; what the driver never took is not with the device. */
Test(ledger, sample_tells_how_long_the_oldest_request_is_out)
{
    struct watch_sample sample;

    request_put(s, 1, 1, 1);
    request_put(s, 2, 2, 0);
    for (uint64_t id = 3; id < 10; id++) {
        request_put(s, 0, id, 1);
        recovery_sample(&f->core, &f->server[DISK], id * 100, &sample);
        cr_assert_eq(sample.oldest_ns, (id - 3) * 100);
        s->ledger->entry[0].completed_id = id;
    }
    s->ledger->entry[1].completed_id = 1;
    recovery_sample(&f->core, &f->server[DISK], 1000, &sample);
    cr_assert_eq(sample.oldest_ns, 0, "slot 2 is not issued");
    request_put(s, 3, 10, 1);
    recovery_sample(&f->core, &f->server[DISK], 2000, &sample);
    recovery_sample(&f->core, &f->server[DISK], 2500, &sample);
    cr_assert_eq(sample.oldest_ns, 500);
    attach(f, DISK, 2, SESSION_BLOCK);
    s->ledger->entry[3].issued_id = 10;
    recovery_sample(&f->core, &f->server[DISK], 9000, &sample);
    cr_assert_eq(sample.oldest_ns, 0, "the next driver has all its time");
}

/* Nobody will ever tell its client: the watch must see it. */
Test(ledger, sample_sees_a_completion_with_unknown_status)
{
    struct watch_sample sample;

    request_put(s, 0, 1, 1);
    s->ledger->entry[0].completed_id = 1;
    s->ledger->entry[0].status = STATUS_COUNT;
    recovery_sample(&f->core, &f->server[DISK], 1, &sample);
    cr_assert_eq(sample.nonsense, 1);
    cr_assert_eq(sample.pending, 1);
}

/* A driver that completes and never tells: the client is told by recovery, at the second look. */
Test(ledger, a_client_that_sleeps_over_a_completion_is_unheard)
{
    uint32_t *waiting = &((struct session_request *)s->request)->client_waiting;

    request_put(s, 0, 1, 1);
    *waiting = 1;
    cr_assert_not(ledger_unheard(s));
    cr_assert_not(ledger_unheard(s), "nothing is completed");
    s->ledger->entry[0].completed_id = 1;
    cr_assert_not(ledger_unheard(s), "its signal may be on the way");
    cr_assert(ledger_unheard(s));
    *waiting = 0;
    cr_assert_not(ledger_unheard(s), "it is awake");
    *waiting = 1;
    cr_assert_not(ledger_unheard(s));
    ((struct session_request *)s->request)->slot[0].id = 0;
    cr_assert_not(ledger_unheard(s), "it has taken it");
}

static struct rsession *stream_open(void)
{
    struct rsession *t = fixture_open(f, SERIAL, SESSION_STREAM, 0);

    attach(f, SERIAL, 1, SESSION_STREAM);
    return t;
}

Test(ledger, stream_indices_survive)
{
    struct rsession *t = stream_open();
    ((struct session_stream_client *)t->stream_client)->tx_head = 100;
    t->stream_driver->tx_tail = 40;
    struct attach_report r = attach(f, SERIAL, 2, SESSION_STREAM);
    cr_assert_eq(r.in_flight, 60);
    cr_assert_eq(r.repaired, 0);
    cr_assert_eq(t->stream_driver->tx_tail, 40);
}

Test(ledger, stream_nonsense_falls_back_to_the_last_good_index)
{
    struct rsession *t = stream_open();
    struct watch_sample sample;
    ((struct session_stream_client *)t->stream_client)->tx_head = 100;
    t->stream_driver->tx_tail = 40;
    recovery_sample(&f->core, &f->server[SERIAL], 1, &sample);
    t->stream_driver->tx_tail = 101; /* ahead of the head */
    cr_assert(ledger_nonsense(t, 0));
    recovery_sample(&f->core, &f->server[SERIAL], 1, &sample);
    cr_assert_eq(sample.nonsense, 1);
    cr_assert_eq(attach(f, SERIAL, 2, SESSION_STREAM).repaired, 1);
    cr_assert_eq(t->stream_driver->tx_tail, 40);
}

Test(ledger, stream_indices_wrap)
{
    struct rsession *t = stream_open();
    ((struct session_stream_client *)t->stream_client)->tx_head = 5;
    t->stream_driver->tx_tail = 0xfffffff0u;
    cr_assert_not(ledger_nonsense(t, 0));
    cr_assert_eq(attach(f, SERIAL, 2, SESSION_STREAM).in_flight, 21);
}

/* Whatever a mad driver wrote: afterwards no entry is nonsense, and nothing unissued is complete. */
Test(ledger, random_ledgers_become_possible)
{
    srand(1);
    for (int round = 0; round < 20000; round++) {
        for (uint32_t i = 0; i < 8; i++) {
            slot_of(s, i)->id = (uint64_t)rand() % 6;
            s->ledger->entry[i] = (struct session_entry){.issued_id = (uint64_t)rand() % 6,
                                                         .completed_id = (uint64_t)rand() % 6,
                                                         .issued_gen = (uint32_t)rand() % 4,
                                                         .status = (uint32_t)rand() % (STATUS_COUNT + 2)};
        }
        attach(f, DISK, 2 + (uint32_t)round, SESSION_BLOCK);
        for (uint32_t i = 0; i < 8; i++) {
            const struct session_entry *e = &s->ledger->entry[i];
            cr_assert_not(ledger_nonsense(s, i));
            cr_assert(e->completed_id == 0 || e->completed_id <= slot_of(s, i)->id);
        }
    }
}
