/* SPDX-License-Identifier: BSD-2-Clause
 * The client's side of sessions against a driver that writes anything (lib/session_*.c). */
#include "tests/unit/driver_world.h"
#include "lib/session_stream.c"

static struct block_session s;
static struct block_done done[SLOTS];

static void setup(void)
{
    world_make(1);
    cr_assert_eq(block_open(&s, "disk", SLOTS, SLOTS * SECTOR_SIZE, 0), OK);
}
TestSuite(client, .init = setup, .fini = world_end);

static struct session_entry *entry(uint32_t i) { return (struct session_entry *)&s.ledger->entry[i]; }

static void complete(uint32_t i, uint64_t id, uint32_t status)
{
    *entry(i) = (struct session_entry){.issued_id = id, .completed_id = id, .status = status};
    s.hint->complete |= 1ul << i;
}

Test(client, takes_each_completion_once)
{
    cr_assert_eq(block_submit(&s, BLOCK_FLUSH, 0, 0, 0), 0);
    complete(0, 1, E_IO);
    cr_assert_eq(block_take(&s, done, SLOTS), 1);
    cr_assert_eq(done[0].id, 1);
    cr_assert_eq(done[0].status, E_IO);
    s.hint->complete = ~0ul;
    cr_assert_eq(block_take(&s, done, SLOTS), 0);
    cr_assert_eq(s.violations, 0);
}

Test(client, wrong_hints_cost_only_time)
{
    block_submit(&s, BLOCK_FLUSH, 0, 0, 0);
    s.hint->complete = ~0ul;
    cr_assert_eq(block_take(&s, done, SLOTS), 0);
    complete(0, 1, OK);
    cr_assert_eq(block_take(&s, done, SLOTS), 1);
    cr_assert_eq(s.violations, 0);
}

/* Recovery signals a client that sleeps over a completion; the driver may not have set a hint either. */
Test(client, woken_without_a_hint_it_looks_at_the_ledger)
{
    block_submit(&s, BLOCK_FLUSH, 0, 0, 0);
    cr_assert(block_arm(&s), "it sleeps now");
    complete(0, 1, OK);
    s.hint->complete = 0;
    cr_assert_eq(block_take(&s, done, SLOTS), 1);
    cr_assert_eq(s.violations, 0);
}

Test(client, slots_beyond_its_own_are_refused)
{
    for (uint32_t i = 0; i < SLOTS; i++) cr_assert_eq(block_submit(&s, BLOCK_FLUSH, 0, 0, 0), (int)i);
    cr_assert_eq(block_submit(&s, BLOCK_FLUSH, 0, 0, 0), -1);
    cr_assert_eq(block_do(&s, BLOCK_FLUSH, 0, 0, 0), E_BUSY);
    cr_assert_eq(block_close(&s), E_BUSY);
}

Test(client, takes_no_more_than_asked_and_keeps_the_rest)
{
    for (uint32_t i = 0; i < SLOTS; i++) {
        block_submit(&s, BLOCK_FLUSH, 0, 0, 0);
        complete(i, i + 1, OK);
    }
    cr_assert_eq(block_take(&s, done, 3), 3);
    cr_assert_eq(block_take(&s, done, 3), 1);
    cr_assert_eq(s.busy, 0);
}

static void refuses_and_complains(void)
{
    s.hint->complete = 1;
    cr_assert_eq(block_take(&s, done, SLOTS), 0);
    s.hint->complete = 1;
    cr_assert_eq(block_take(&s, done, SLOTS), 0);
    cr_assert_eq(s.violations, 2);
    cr_assert_eq(world.complaints, 1, "recovery is told once");
    cr_assert_eq(s.busy, 1, "the request stays pending");
    complete(0, 1, OK);
    cr_assert_eq(block_take(&s, done, SLOTS), 1);
}

Test(client, completion_of_the_future)
{
    block_submit(&s, BLOCK_FLUSH, 0, 0, 0);
    complete(0, 99, OK);
    refuses_and_complains();
}

Test(client, completion_of_what_was_not_issued)
{
    block_submit(&s, BLOCK_FLUSH, 0, 0, 0);
    complete(0, 1, OK);
    entry(0)->issued_id = 0;
    refuses_and_complains();
}

Test(client, unknown_status)
{
    block_submit(&s, BLOCK_FLUSH, 0, 0, 0);
    complete(0, 1, STATUS_COUNT);
    refuses_and_complains();
}

Test(client, poisoned_is_delivered)
{
    block_submit(&s, BLOCK_FLUSH, 0, 0, 0);
    complete(0, 1, E_POISONED);
    cr_assert_eq(block_take(&s, done, SLOTS), 1);
    cr_assert_eq(done[0].status, E_POISONED);
}

/* --- Streams: the same pages seen as rings ---------------------------------------------------------------- */

static struct stream_session t;
static struct session_stream_driver *device;

static void stream_setup(void)
{
    static struct session_stream_client client;
    static struct session_stream_driver driver_page;
    static uint8_t rings[2 * STREAM_RING];

    setup();
    device = &driver_page;
    t = (struct stream_session){
        .id = s.id, .client = &client, .driver = &driver_page, .tx = rings, .rx = rings + STREAM_RING};
}
TestSuite(stream, .init = stream_setup, .fini = world_end);

Test(stream, write_takes_what_fits)
{
    static uint8_t bytes[STREAM_RING + 10];

    for (unsigned i = 0; i < sizeof(bytes); i++) bytes[i] = (uint8_t)i;
    t.client->tx_head = device->tx_tail = 0xfffffff0u; /* wraps inside */
    cr_assert_eq(stream_write(&t, bytes, sizeof(bytes)), STREAM_RING);
    cr_assert_eq(stream_write(&t, bytes, 1), 0);
    for (uint32_t i = 0; i < STREAM_RING; i++)
        cr_assert_eq(t.tx[(0xfffffff0u + i) % STREAM_RING], (uint8_t)i);
    device->tx_tail += 3;
    cr_assert_eq(stream_write(&t, bytes, 5), 3);
}

Test(stream, read_takes_what_is_there)
{
    uint8_t bytes[8];

    memcpy(t.rx, "hello", 5);
    device->rx_head = 5;
    cr_assert_eq(stream_read(&t, bytes, 2), 2);
    cr_assert_eq(stream_read(&t, bytes, 8), 3);
    cr_assert_eq(memcmp(bytes, "llo", 3), 0);
    cr_assert_eq(stream_read(&t, bytes, 8), 0);
}

Test(stream, impossible_indices_move_nothing)
{
    uint8_t bytes[8];

    device->rx_head = STREAM_RING + 1;
    cr_assert_eq(stream_read(&t, bytes, 8), 0);
    device->tx_tail = 1;
    cr_assert_eq(stream_write(&t, bytes, 8), 0);
    cr_assert_eq(t.violations, 2);
    cr_assert_eq(world.complaints, 1);
}

Test(stream, sleeps_only_without_input)
{
    cr_assert(stream_arm(&t));
    cr_assert_eq(t.client->client_waiting, 1);
    device->rx_head = 1;
    cr_assert_not(stream_arm(&t));
}
