/* SPDX-License-Identifier: BSD-2-Clause
 * One device, several sessions, more requests than it takes: who gets what (lib/driver.c, lib/driver_block.c). */
#include "tests/unit/driver_world.h"

#define SESSIONS 3u
#define MANY     64u

static struct side {
    struct session_request request;
    struct session_ledger ledger;
    struct session_hint hint;
    uint64_t next_id, done;
} side[SESSIONS];
static struct driver d;
static uint32_t ring; /* requests that the device takes */
static struct {
    struct driver_session *s;
    uint32_t slot;
} with_device[SESSIONS * MANY];
static uint32_t device_has;

static bool ring_submit(struct driver *of, struct driver_session *s, uint32_t slot,
                        const struct session_slot *r)
{
    cr_assert_eq(of, &d);
    cr_assert_neq(r->id, 0);
    if (device_has == ring) return false;
    with_device[device_has].s = s;
    with_device[device_has++].slot = slot;
    return true;
}

static const struct driver_ops ring_ops = {.name = "ring", .class = SESSION_BLOCK, .submit = ring_submit};

/* As the client does, in every slot that is free. */
static void fill(uint32_t i, uint32_t slots)
{
    for (uint32_t n = 0; n < slots; n++) {
        struct session_slot *slot = &side[i].request.slot[n];
        if (slot->id != 0 && side[i].ledger.entry[n].completed_id != slot->id) continue;
        side[i].done += slot->id != 0;
        *slot = (struct session_slot){.id = ++side[i].next_id, .op = BLOCK_READ, .length = SECTOR_SIZE};
        side[i].hint.submit |= 1ul << n;
    }
}

static void device_completes(uint32_t n)
{
    for (; n > 0 && device_has > 0; n--) {
        cr_assert(driver_complete(&d, with_device[0].s, with_device[0].slot, OK));
        memmove(with_device, with_device + 1, --device_has * sizeof(with_device[0]));
    }
}

static void make(uint32_t room, const uint32_t owner[SESSIONS])
{
    memset(side, 0, sizeof(side));
    device_has = 0;
    ring = room;
    d = (struct driver){.ops = &ring_ops, .generation = 1, .sectors = SECTORS};
    for (uint32_t i = 0; i < SESSIONS; i++) {
        struct driver_session *s = &d.session[i];
        *s = (struct driver_session){.id = i + 1,
                                     .index = i,
                                     .class = SESSION_BLOCK,
                                     .slots = MANY,
                                     .data_bytes = SECTOR_SIZE,
                                     .client = CLIENT_NOTIFICATION,
                                     .owner = owner[i],
                                     .request = &side[i].request,
                                     .ledger = &side[i].ledger,
                                     .hint = &side[i].hint,
                                     .stream_client = (const void *)&side[i].request,
                                     .stream_driver = (void *)&side[i].ledger};
        (void)session_begin(&d, s);
    }
}

static uint32_t has(uint32_t i) { return (uint32_t)__builtin_popcountl(d.session[i].issued); }

/* The device takes 8; two sessions always have 64 for it; the last one asks once in a while. */
Test(share, who_waits_is_next_when_the_ring_is_full)
{
    make(8, (const uint32_t[]){1, 1, 1});
    for (int round = 0; round < 20; round++) {
        fill(0, MANY);
        fill(1, MANY);
        driver_round(&d);
    }
    for (int asked = 0; asked < 20; asked++) {
        uint32_t waited = 0;
        fill(2, 1);
        driver_round(&d);
        while ((side[2].request.slot[0].id != side[2].ledger.entry[0].completed_id)) {
            device_completes(1);
            fill(0, MANY);
            fill(1, MANY);
            driver_round(&d);
            cr_assert_lt(++waited, 32, "the others' requests go first for ever");
        }
    }
    cr_assert_gt(side[0].done, 10, "nor does the other starve");
    cr_assert_gt(side[1].done, 10);
}

Test(share, a_client_alone_has_the_device)
{
    make(2 * MANY, (const uint32_t[]){1, 1, 1});
    fill(0, MANY);
    fill(1, MANY);
    driver_round(&d);
    cr_assert_eq(has(0), MANY);
    cr_assert_eq(has(1), MANY);
}

/* Whatever it asks for, and however it asks: by hints, or by its bell alone. */
Test(share, a_client_has_no_more_than_its_share)
{
    make(SESSIONS * MANY, (const uint32_t[]){1, 1, 2});
    fill(0, MANY);
    side[1].hint.submit = 0;
    fill(1, MANY);
    driver_round(&d);
    cr_assert_eq(has(0) + has(1), CLIENT_SHARE);
    d.rung = 3;
    side[0].hint.submit = side[1].hint.submit = 0;
    driver_round(&d);
    cr_assert_eq(has(0) + has(1), CLIENT_SHARE);
    fill(2, 4);
    driver_round(&d);
    cr_assert_eq(has(2), 4, "the other client does not wait for it");
    for (int round = 0; round < 400; round++) { /* and its own sessions take turns */
        device_completes(1 + (uint32_t)round % 3);
        fill(0, MANY);
        fill(1, MANY);
        driver_round(&d);
        cr_assert_leq(has(0) + has(1), CLIENT_SHARE);
    }
    cr_assert_gt(side[0].done, 100);
    cr_assert_gt(side[1].done, 100);
}

/* What was put off is not forgotten. */
Test(share, all_that_was_asked_for_is_done)
{
    make(5, (const uint32_t[]){1, 2, 2});
    for (uint32_t i = 0; i < SESSIONS; i++) fill(i, MANY);
    for (int round = 0; round < 400; round++) {
        driver_round(&d);
        device_completes(1);
    }
    for (uint32_t i = 0; i < SESSIONS; i++)
        for (uint32_t n = 0; n < MANY; n++)
            cr_assert_eq(side[i].ledger.entry[n].completed_id, side[i].request.slot[n].id, "%u %u", i, n);
    cr_assert_eq(d.in_flight, 0);
}
