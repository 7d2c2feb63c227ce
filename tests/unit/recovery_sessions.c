/* SPDX-License-Identifier: BSD-2-Clause
 * Who may have which session, and when its memory may go (recovery/core.c). */
#include "tests/unit/recovery_fixture.h"

static struct fixture *f;

static void setup(void) { f = fixture_make(); }
TestSuite(sessions, .init = setup);

static status_t open_as(tag_t client, uint64_t service, uint64_t class, uint64_t slots, uint64_t bytes)
{
    struct rsession *s;

    return recovery_open(&f->core, client, service, class, slots, bytes, &s);
}

Test(sessions, only_with_services_of_the_manifest)
{
    cr_assert_eq(open_as(TAG_MAKE(CLIENT, 1), DISK, SESSION_BLOCK, 1, 512), OK);
    cr_assert_eq(open_as(TAG_MAKE(CLIENT, 1), SUPERVISOR, SESSION_BLOCK, 1, 512), E_RIGHTS);
    cr_assert_eq(open_as(TAG_MAKE(SERIAL, 1), DISK, SESSION_BLOCK, 1, 512), E_RIGHTS);
    cr_assert_eq(open_as(TAG_MAKE(CLIENT, 1), SERVICES, SESSION_BLOCK, 1, 512), E_ARGUMENT);
    cr_assert_eq(open_as(TAG_MAKE(CLIENT, 1), ~0ul, SESSION_BLOCK, 1, 512), E_ARGUMENT);
    cr_assert_eq(open_as(TAG_MAKE(SERVICES, 1), DISK, SESSION_BLOCK, 1, 512), E_ARGUMENT);
}

Test(sessions, shapes)
{
    tag_t c = TAG_MAKE(CLIENT, 1);

    cr_assert_eq(open_as(c, DISK, SESSION_BLOCK, 0, 512), E_ARGUMENT);
    cr_assert_eq(open_as(c, DISK, SESSION_BLOCK, SESSION_SLOTS_MAX + 1, 512), E_ARGUMENT);
    cr_assert_eq(open_as(c, DISK, SESSION_BLOCK, 1, 0), E_ARGUMENT);
    cr_assert_eq(open_as(c, DISK, SESSION_BLOCK, 1, SESSION_DATA_MAX + 1), E_ARGUMENT);
    cr_assert_eq(open_as(c, DISK, 0, 1, 512), E_ARGUMENT);
    cr_assert_eq(open_as(c, DISK, 3, 1, 512), E_ARGUMENT);
    cr_assert_eq(open_as(c, SERIAL, SESSION_STREAM, 1, 2 * STREAM_RING), E_ARGUMENT);
    cr_assert_eq(open_as(c, SERIAL, SESSION_STREAM, 0, STREAM_RING), E_ARGUMENT);
    cr_assert_eq(open_as(c, SERIAL, SESSION_STREAM, 0, 2 * STREAM_RING), OK);
}

Test(sessions, of_a_class_that_the_driver_does_not_serve)
{
    attach(f, DISK, 1, SESSION_BLOCK);
    cr_assert_eq(open_as(TAG_MAKE(CLIENT, 1), DISK, SESSION_STREAM, 0, 2 * STREAM_RING), E_ARGUMENT);
}

Test(sessions, quota_a_client)
{
    for (unsigned i = 0; i < CLIENT_SESSIONS_MAX; i++)
        cr_assert_eq(open_as(TAG_MAKE(CLIENT, 1), DISK, SESSION_BLOCK, 1, 512), OK);
    cr_assert_eq(open_as(TAG_MAKE(CLIENT, 1), DISK, SESSION_BLOCK, 1, 512), E_QUOTA);
}

static struct rsession *opened(uint64_t bytes)
{
    struct rsession *s = NULL;

    cr_assert_eq(recovery_open(&f->core, TAG_MAKE(CLIENT, 1), DISK, SESSION_BLOCK, 1, bytes, &s), OK);
    s->request = memset(f->pages[0], 0, PAGE_SIZE); /* whole */
    s->ledger = memset(f->pages[1], 0, PAGE_SIZE);
    return s;
}

Test(sessions, memory_a_client)
{
    f->manifest->service[CLIENT].session_pages = 2 * SESSION_OWN_PAGES + 1024 + 8;
    struct rsession *s = opened(SESSION_DATA_MAX);

    cr_assert_eq(open_as(TAG_MAKE(CLIENT, 1), DISK, SESSION_BLOCK, 1, SESSION_DATA_MAX), E_QUOTA);
    cr_assert_eq(open_as(TAG_MAKE(CLIENT, 1), SERIAL, SESSION_BLOCK, 1, 9 * PAGE_SIZE), E_QUOTA,
                 "the sum over all its servers");
    cr_assert_eq(open_as(TAG_MAKE(CLIENT, 1), SERIAL, SESSION_BLOCK, 1, 8 * PAGE_SIZE - 1), OK);
    cr_assert_eq(open_as(TAG_MAKE(CLIENT, 1), DISK, SESSION_BLOCK, 1, 1), E_QUOTA, "not one page more");
    recovery_free(&f->core, s);
    cr_assert_eq(open_as(TAG_MAKE(CLIENT, 1), DISK, SESSION_BLOCK, 1, SESSION_DATA_MAX), OK);
}

Test(sessions, memory_that_a_driver_still_has_is_its_clients)
{
    f->manifest->service[CLIENT].session_pages = 2 * (SESSION_OWN_PAGES + 1);
    struct rsession *s = opened(PAGE_SIZE);

    attach(f, DISK, 1, SESSION_BLOCK);
    cr_assert_eq(recovery_session_get(&f->core, TAG_MAKE(DISK, 1), 0, 0, &s), OK);
    recovery_close(s);
    cr_assert_eq(open_as(TAG_MAKE(CLIENT, 2), DISK, SESSION_BLOCK, 1, PAGE_SIZE), OK,
                 "room for the next one's");
    cr_assert_eq(open_as(TAG_MAKE(CLIENT, 2), DISK, SESSION_BLOCK, 1, PAGE_SIZE), E_QUOTA);
}

Test(sessions, ids_are_never_reused)
{
    uint64_t last = 0;

    for (int i = 0; i < 100; i++) {
        struct rsession *s = fixture_open(f, DISK, SESSION_BLOCK, 1);
        cr_assert_gt(s->id, last);
        last = s->id;
        recovery_close(s);
        cr_assert(recovery_session_releasable(&f->core, s));
        recovery_free(&f->core, s);
    }
    cr_assert_eq(f->core.sessions, 0);
}

static struct rsession *get(uint32_t gen, uint64_t index, uint64_t held, status_t expected)
{
    struct rsession *s;

    cr_assert_eq(recovery_session_get(&f->core, TAG_MAKE(DISK, gen), index, held, &s), expected);
    return s;
}

Test(sessions, table_as_the_driver_sees_it)
{
    struct rsession *a = fixture_open(f, DISK, SESSION_BLOCK, 1),
                    *b = fixture_open(f, DISK, SESSION_BLOCK, 1);

    get(1, 0, 0, E_STATE);
    attach(f, DISK, 1, SESSION_BLOCK);
    cr_assert_eq(get(1, 0, 0, OK), a);
    cr_assert_eq(get(1, 1, 0, OK), b);
    get(1, 2, 0, E_NOT_FOUND);
    get(1, ~0ul, 0, E_NOT_FOUND);
    get(2, 0, 0, E_STATE);
}

Test(sessions, memory_stays_while_the_driver_may_have_it_mapped)
{
    struct rsession *a = fixture_open(f, DISK, SESSION_BLOCK, 1);

    attach(f, DISK, 1, SESSION_BLOCK);
    get(1, 0, 0, OK);
    recovery_close(a);
    cr_assert_not(recovery_session_releasable(&f->core, a));
    cr_assert_null(get(1, 0, a->id, OK), "closed");
    cr_assert_not(recovery_session_releasable(&f->core, a), "it only learned of it");
    cr_assert_null(get(1, 0, 0, OK));
    cr_assert(recovery_session_releasable(&f->core, a), "it let go");
}

Test(sessions, memory_of_a_dead_driver_may_go)
{
    struct rsession *a = fixture_open(f, DISK, SESSION_BLOCK, 1);

    attach(f, DISK, 1, SESSION_BLOCK);
    get(1, 0, 0, OK);
    recovery_close(a);
    attach(f, DISK, 2, SESSION_BLOCK);
    cr_assert(recovery_session_releasable(&f->core, a));
}

Test(sessions, a_restarted_client_loses_the_old_ones)
{
    struct rsession *a = fixture_open(f, DISK, SESSION_BLOCK, 1), *out;

    cr_assert_null(recovery_session_stale(&f->core, TAG_MAKE(CLIENT, 1)));
    cr_assert_eq(recovery_session_stale(&f->core, TAG_MAKE(CLIENT, 2)), a);
    cr_assert_null(recovery_session_stale(&f->core, TAG_MAKE(SERIAL, 2)));
    cr_assert_eq(recovery_session_of_client(&f->core, TAG_MAKE(CLIENT, 1), a->id, &out), OK);
    cr_assert_eq(recovery_session_of_client(&f->core, TAG_MAKE(CLIENT, 2), a->id, &out), E_NOT_FOUND);
    recovery_close(a);
    cr_assert_null(recovery_session_stale(&f->core, TAG_MAKE(CLIENT, 2)));
}

Test(sessions, attach_is_for_newer_incarnations)
{
    struct attach_report r;

    attach(f, DISK, 5, SESSION_BLOCK);
    cr_assert_eq(recovery_attach(&f->core, TAG_MAKE(DISK, 5), SESSION_BLOCK, &r), E_STATE);
    cr_assert_eq(recovery_attach(&f->core, TAG_MAKE(DISK, 4), SESSION_BLOCK, &r), E_STATE);
    cr_assert_eq(recovery_attach(&f->core, TAG_MAKE(DISK, 6), 9, &r), E_ARGUMENT);
    cr_assert_eq(recovery_attach(&f->core, TAG_MAKE(SERVICES, 6), SESSION_BLOCK, &r), E_ARGUMENT);
    cr_assert_eq(recovery_attached(&f->core, TAG_MAKE(DISK, 5)), OK);
}

/* --- Signs of life ---------------------------------------------------------------------------------------------------- */

static uint32_t rounds_of(uint32_t service)
{
    struct watch_sample sample;

    recovery_sample(&f->core, &f->core.server[service], 0, &sample);
    return sample.rounds;
}

Test(sessions, an_answer_is_not_forgotten_with_its_session)
{
    struct rsession *s = fixture_open(f, DISK, SESSION_BLOCK, 1), *other;
    struct server *v = &f->core.server[DISK];

    attach(f, DISK, 1, SESSION_BLOCK);
    cr_assert_eq(recovery_session_get(&f->core, TAG_MAKE(DISK, 1), 0, 0, &other), OK);
    cr_assert_eq(rounds_of(DISK), 0, "until its first round it has not begun");
    s->ledger->rounds = 7;
    cr_assert_eq(rounds_of(DISK), 7);
    v->watch.state = WATCH_ASKED;
    recovery_close(s);
    cr_assert_eq(rounds_of(DISK), 7);
    cr_assert_eq(recovery_session_get(&f->core, TAG_MAKE(DISK, 1), 0, s->id, &other), OK);
    recovery_free(&f->core, s);
    cr_assert_eq(rounds_of(DISK), 8, "who lets go of a session answers");
    (void)fixture_open(f, DISK, SESSION_BLOCK, 1);
    cr_assert_eq(rounds_of(DISK), 8);
    attach(f, DISK, 2, SESSION_BLOCK);
    cr_assert_eq(rounds_of(DISK), 0, "its successor has not");
}

/* --- After a fall ------------------------------------------------------------------------------------------------------ */

/* A session half made, one half freed and one whole: the tables say what is there, in whatever order they are looked at. */
Test(sessions, a_fall_leaves_the_sessions_that_were_whole)
{
    struct rsession *whole = fixture_open(f, DISK, SESSION_BLOCK, 1),
                    *half = fixture_open(f, DISK, SESSION_BLOCK, 1);
    struct rsession *freed = fixture_open(f, SERIAL, SESSION_STREAM, 0);
    struct server *disk = &f->core.server[DISK], *serial = &f->core.server[SERIAL];

    half->request = NULL;
    recovery_free(&f->core, freed);
    serial->used = 1; /* it fell before that was written */
    disk->used &= ~1ul;
    cr_assert(recovery_sound(&f->core, f->manifest));
    cr_assert(recovery_resume(&f->core));
    cr_assert_eq(f->core.sessions, 1u);
    cr_assert_eq(disk->used, 1ul << whole->index);
    cr_assert_eq(&f->core.session[disk->session[whole->index]], whole);
    cr_assert_eq(serial->used, 0u);
}

Test(sessions, a_server_without_sessions_is_made_good_when_it_is_needed)
{
    struct server *v = &f->core.server[CLIENT];

    attach(f, CLIENT, 1, SESSION_BLOCK);
    v->watch.state = WATCH_ASKED;
    v->used = 1ul << 5;
    cr_assert(recovery_resume(&f->core));
    cr_assert_eq(v->watch.state, WATCH_ASKED, "nobody looked at it yet");
    cr_assert(recovery_server_resume(&f->core, CLIENT));
    cr_assert_eq(v->watch.state, WATCH_STARTING);
    cr_assert_eq(v->used, 0u);
    v->watch.state = WATCH_ASKED;
    cr_assert(recovery_server_resume(&f->core, CLIENT));
    cr_assert_eq(v->watch.state, WATCH_ASKED, "once a fall");
    cr_assert(recovery_resume(&f->core));
    cr_assert(recovery_server_resume(&f->core, CLIENT));
    cr_assert_eq(v->watch.state, WATCH_STARTING, "and after the next fall again");
    cr_assert(recovery_server_resume(&f->core, SERVICES),
              "who asks for what there is not, is told so elsewhere");
}

Test(sessions, a_server_that_cannot_be_is_not_believed)
{
    (void)fixture_open(f, DISK, SESSION_BLOCK, 1);
    f->core.server[DISK].checkpoint_room = CHECKPOINT_MAX + 1;
    cr_assert_not(recovery_resume(&f->core), "it has a session");
    f->core.server[DISK].checkpoint_room = 0;
    f->core.server[CLIENT].class = SESSION_STREAM + 1;
    cr_assert(recovery_resume(&f->core));
    cr_assert_not(recovery_server_resume(&f->core, CLIENT));
}
