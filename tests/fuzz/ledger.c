/* SPDX-License-Identifier: BSD-2-Clause
 * What recovery believes of a session's pages after a death (recovery/core_ledger.c, core.c). Input:
 * records that change the client's page, the driver's page, or let an incarnation die and the next attach,
 * on a block session or, by the first byte, a stream session. */
#include <criterion/criterion.h>
#include "tests/unit/recovery_fixture.h"

#define SLOTS 6u

static struct fixture world;
static struct rsession *s;
static uint32_t generation;

static void world_make(bool stream)
{
    static uint64_t manifest[(sizeof(struct manifest) + SERVICES * sizeof(struct manifest_service)) / 8 + 1];
    world.manifest = (void *)manifest;
    world.manifest->service_count = SERVICES;
    world.manifest->service[CLIENT].session_count = 2;
    world.manifest->service[CLIENT].session_pages = 2048;
    world.manifest->service[CLIENT].session[0] = DISK;
    world.manifest->service[CLIENT].session[1] = SERIAL;
    memset(world.server, 0, sizeof world.server);
    recovery_init(&world.core, world.manifest, world.server);
    s = fixture_open(&world, stream ? SERIAL : DISK, stream ? SESSION_STREAM : SESSION_BLOCK,
                     stream ? 0 : SLOTS);
    generation = 1;
    attach(&world, s->server, generation, s->class);
}

/* No entry is left that could complete a request that was not completed. */
static void slots_check(const struct session_entry *before, const struct attach_report *r)
{
    uint32_t in_flight = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        const struct session_entry *e = &s->ledger->entry[i];
        uint64_t id = slot_of(s, i)->id;
        bool was_done =
            before[i].completed_id == id && before[i].issued_id == id && before[i].status < STATUS_COUNT;
        bool lost = id && !was_done && before[i].completed_id < id && before[i].issued_id == id &&
                    before[i].issued_gen == generation;
        check(!ledger_nonsense(s, i));
        in_flight += lost;
        if (id == 0) check(e->completed_id == 0 && e->issued_id == 0);
        if (id && e->completed_id == id) check(was_done || (e->status == E_POISONED && lost));
        if (id && was_done) check(e->completed_id == id && e->status == before[i].status);
        check(s->attempts[i] <= SESSION_ATTEMPTS_MAX);
    }
    check(r->in_flight == in_flight && r->poisoned <= in_flight && r->repaired <= SLOTS);
    check(r->attempts_max < SESSION_ATTEMPTS_MAX && s->ledger->driver_waiting == 0);
}

static void stream_check(const struct attach_report *r)
{
    uint32_t tx = s->stream_client->tx_head - s->stream_driver->tx_tail;
    uint32_t rx = s->stream_driver->rx_head - s->stream_client->rx_tail;
    check(tx <= STREAM_RING && rx <= STREAM_RING && r->in_flight == tx && r->repaired <= 2);
}

static void death(void)
{
    struct session_entry before[SLOTS];
    struct attach_report r;
    memcpy(before, s->ledger->entry, sizeof before);
    check(recovery_attach(&world.core, TAG_MAKE(s->server, generation), s->class, &r) == E_STATE);
    check(recovery_attach(&world.core, TAG_MAKE(s->server, generation + 1), s->class, &r) == OK);
    if (s->class == SESSION_BLOCK)
        slots_check(before, &r);
    else
        stream_check(&r);
    generation++;
}

static void look(void)
{
    struct watch_sample sum;
    recovery_sample(&world.core, &world.server[s->server], 1, &sum);
    check(sum.issued <= sum.pending && sum.nonsense <= (s->class == SESSION_BLOCK ? SLOTS : 1));
    if (s->class == SESSION_STREAM) check(sum.pending <= STREAM_RING);
    if (s->class == SESSION_BLOCK) check(sum.pending <= SLOTS);
    for (uint32_t i = 0; i < SESSION_SLOTS_MAX + 2; i += 13) (void)ledger_nonsense(s, i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    world_make(take(&in, 1) & 1);
    while (in.left) {
        unsigned what = (unsigned)take(&in, 1) % 8;
        uint32_t slot = (uint32_t)take(&in, 1) % SLOTS;
        uint64_t id = take(&in, 1) % 4;
        switch (s->class == SESSION_STREAM && what < 5 ? 5 : what) {
        case 0: slot_of(s, slot)->id = id; break;
        case 1: request_put(s, slot, id, generation); break;
        case 2: s->ledger->entry[slot].completed_id = s->ledger->entry[slot].issued_id; break;
        case 3: s->ledger->entry[slot].status = (uint32_t)id; break;
        case 4: patch(&in, (uint8_t *)s->ledger->entry, SLOTS * sizeof s->ledger->entry[0]); break;
        case 5:
            patch(&in, (uint8_t *)(slot & 1 ? (void *)s->stream_driver : (void *)s->stream_client), 24);
            break;
        case 6: look(); break;
        default: death(); break;
        }
    }
    look();
    death();
    return 0;
}
