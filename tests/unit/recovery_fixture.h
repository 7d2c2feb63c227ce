/* SPDX-License-Identifier: BSD-2-Clause
 * A recovery core with four services and pages for sessions, for tests of recovery/core*.c. */
#ifndef COPPICE_TESTS_RECOVERY_FIXTURE_H
#define COPPICE_TESTS_RECOVERY_FIXTURE_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "recovery/core.h"

enum { SUPERVISOR, RECOVERY, DISK, CLIENT, SERIAL, SERVICES };

struct fixture {
    struct recovery core;
    struct server server[SERVICES];
    struct manifest *manifest;
    uint64_t pages[2 * SESSIONS_MAX][PAGE_SIZE / 8]; /* of the sessions */
};

static inline struct fixture *fixture_make(void)
{
    struct fixture *f = calloc(1, sizeof(*f));

    f->manifest = calloc(1, sizeof(struct manifest) + SERVICES * sizeof(struct manifest_service));
    f->manifest->service_count = SERVICES;
    f->manifest->service[CLIENT].session_count = 2;
    f->manifest->service[CLIENT].session_pages = 2048;
    f->manifest->service[CLIENT].session[0] = DISK;
    f->manifest->service[CLIENT].session[1] = SERIAL;
    recovery_init(&f->core, f->manifest, f->server);
    return f;
}

/* Opens and gives it pages, as the shell does. */
static inline struct rsession *fixture_open(struct fixture *f, uint32_t service, uint32_t class,
                                            uint32_t slots)
{
    struct rsession *s = NULL;
    uint64_t bytes = class == SESSION_STREAM ? 2 * STREAM_RING : PAGE_SIZE;

    cr_assert_eq(recovery_open(&f->core, TAG_MAKE(CLIENT, 1), service, class, slots, bytes, &s), OK);
    s->request = memset(f->pages[2 * (s - f->core.session)], 0, PAGE_SIZE);
    s->ledger = memset(f->pages[2 * (s - f->core.session) + 1], 0, PAGE_SIZE);
    s->stream_client = (const void *)s->request;
    s->stream_driver = (void *)s->ledger;
    return s;
}

static inline struct session_slot *slot_of(struct rsession *s, uint32_t i)
{
    return (struct session_slot *)&s->request->slot[i];
}

/* Slot i holds request id, issued by the incarnation gen (0: by none). */
static inline void request_put(struct rsession *s, uint32_t i, uint64_t id, uint32_t gen)
{
    slot_of(s, i)->id = id;
    s->ledger->entry[i].issued_id = gen != 0 ? id : 0;
    s->ledger->entry[i].issued_gen = gen;
}

static inline struct attach_report attach(struct fixture *f, uint32_t service, uint32_t gen, uint32_t class)
{
    struct attach_report report;

    cr_assert_eq(recovery_attach(&f->core, TAG_MAKE(service, gen), class, &report), OK);
    return report;
}

#endif
