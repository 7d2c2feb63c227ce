/* SPDX-License-Identifier: BSD-2-Clause
 * A driver made with lib/ dies at its first step, its second, its third... until it gets through: every
 * request completes exactly once, and nobody sleeps for ever. */
#include <signal.h>
#include "tests/unit/driver_world.h"

#define REQUESTS 10u

static uint64_t run(unsigned seed, uint64_t kill_count, const uint64_t *kill_at, uint32_t room)
{
    struct block_session s;

    world_make(seed);
    world.room = room;
    world.kill_count = kill_count;
    for (uint64_t i = 0; i < kill_count; i++) world.kill_at[i] = kill_at[i];
    cr_assert_eq(block_open(&s, "disk", SLOTS, SLOTS * SECTOR_SIZE, 0), OK);
    uint32_t completed = world_write(&s, REQUESTS);
    cr_assert_not(world_lost, "everybody sleeps: killed at %lu", kill_count ? kill_at[0] : 0);
    cr_assert_eq(completed, REQUESTS);
    uint64_t deaths = world.deaths;
    world_end();
    return deaths;
}

Test(driver, lives_without_deaths) { cr_assert_eq(run(1, 0, NULL, SLOTS), 0); }

Test(driver, killed_at_every_step)
{
    for (uint64_t step = 1;; step++) {
        cr_assert_lt(step, 5000, "it never gets through");
        if (run((unsigned)step, 1, &step, SLOTS) == 0) break;
    }
}

Test(driver, killed_at_every_step_with_a_full_device)
{
    for (uint64_t step = 1;; step++)
        if (run((unsigned)step, 1, &step, 1) == 0) break;
}

/* Every pair: dies at its step `first`, its successor at `second`, from attach to the last report. */
Test(driver, killed_at_every_pair_of_steps, .timeout = 300)
{
    uint64_t runs = 0;

    for (uint64_t first = 1;; first++) {
        uint64_t at[2] = {first, 0}, deaths = 2;
        for (at[1] = 1; deaths == 2; at[1]++, runs++)
            deaths = run((unsigned)(first * 1000 + at[1]), 2, at, 1 + first % SLOTS);
        if (deaths == 0) break; /* first is past the end */
    }
    cr_assert_gt(runs, 10000, "%lu pairs", runs);
    fprintf(stderr, "driver: %lu pairs of deaths\n", runs);
}

/* And a third time in the recovery from the second, at each of its steps. */
Test(driver, killed_at_every_step_of_the_third_life, .timeout = 300)
{
    for (uint64_t first = 20; first <= 200; first += 20) {
        for (uint64_t second = 1; second <= 60; second += 6) {
            uint64_t at[3] = {first, second, 0}, deaths = 3;
            for (at[2] = 1; deaths == 3; at[2]++) deaths = run((unsigned)(first * second + at[2]), 3, at, 2);
        }
    }
}

Test(driver, killed_again_during_recovery, .timeout = 120)
{
    unsigned seed = 7;

    for (int i = 0; i < 3000; i++) {
        uint64_t at[4];
        for (int k = 0; k < 4; k++) at[k] = 1 + (uint64_t)rand_r(&seed) % (k == 0 ? 250 : 80);
        run(seed, 4, at, 1 + seed % SLOTS);
    }
}

static struct block_session *client;
static void submit_and_kick(void)
{
    if (block_submit(client, BLOCK_FLUSH, 0, 0, 0) >= 0) block_kick(client);
}

/* The client submits between any two of the driver's steps: its wake-up is never lost. */
Test(driver, no_wakeup_is_lost_driver_side)
{
    for (uint64_t step = 1; step < 250; step++) {
        struct block_session s;
        struct block_done done;
        uint32_t completed = 0;
        world_make((unsigned)step);
        world.client_first_at = step;
        world.interlude = submit_and_kick;
        client = &s;
        cr_assert_eq(block_open(&s, "disk", SLOTS, SLOTS * SECTOR_SIZE, 0), OK);
        submit_and_kick();
        while (s.busy != 0 || (world.interlude != NULL && completed < 8)) {
            if (s.busy == 0) submit_and_kick();
            completed += block_take(&s, &done, 1);
            if (s.busy != 0) block_wait(&s);
            cr_assert_not(world_lost, "step %lu", step);
        }
        world_end();
    }
}

/* The driver runs between any two of the client's steps. */
Test(driver, no_wakeup_is_lost_client_side)
{
    for (uint64_t step = 1; step < 250; step++) {
        struct block_session s;
        world_make((unsigned)step);
        cr_assert_eq(block_open(&s, "disk", SLOTS, SLOTS * SECTOR_SIZE, 0), OK);
        world.driver_first_at = world.client_steps + step;
        cr_assert_eq(world_write(&s, REQUESTS), REQUESTS);
        cr_assert_not(world_lost, "step %lu", step);
        world_end();
    }
}

/* A request that kills its driver is given up alone; the others in flight with it complete. */
Test(driver, poisoned_request_fails_alone)
{
    struct block_session s;
    uint32_t poisoned = 0, good = 0;

    world_make(3);
    world.deadly = true;
    cr_assert_eq(block_open(&s, "disk", SLOTS, SLOTS * SECTOR_SIZE, 0), OK);
    const uint64_t sector[SLOTS] = {5, 6, 7, 8};
    for (uint32_t i = 0; i < SLOTS; i++)
        cr_assert_eq(block_submit(&s, BLOCK_WRITE, sector[i], SECTOR_SIZE, i * SECTOR_SIZE), (int)i);
    while (s.busy != 0) {
        struct block_done done;
        if (block_take(&s, &done, 1) == 0) {
            block_wait(&s);
            cr_assert_not(world_lost);
            continue;
        }
        if (done.slot == 2)
            cr_assert_eq(done.status, E_POISONED);
        else
            cr_assert_eq(done.status, OK);
        if (done.status == OK)
            good++;
        else
            poisoned++;
    }
    cr_assert_eq(good, SLOTS - 1);
    cr_assert_eq(poisoned, 1);
    cr_assert_eq(world.deaths, SESSION_ATTEMPTS_MAX);
    world_end();
}

/* --- Requests that a mad client writes ------------------------------------------------------------------ */

static status_t answer(enum block_op op, uint64_t sector, uint32_t length, uint64_t offset)
{
    struct block_session s;
    status_t status;

    world_make(1);
    cr_assert_eq(block_open(&s, "disk", 1, 4 * SECTOR_SIZE, 0), OK);
    status = block_do(&s, op, sector, length, offset);
    world_end();
    return status;
}

Test(driver, validates_requests)
{
    cr_assert_eq(answer(BLOCK_READ, 0, SECTOR_SIZE, 0), OK);
    cr_assert_eq(answer(BLOCK_READ, SECTORS - 1, SECTOR_SIZE, 3 * SECTOR_SIZE), OK);
    cr_assert_eq(answer(BLOCK_FLUSH, ~0ul, 3, ~0ul), OK);
    cr_assert_eq(answer((enum block_op)4, 0, SECTOR_SIZE, 0), E_ARGUMENT);
    cr_assert_eq(answer((enum block_op)0xffffffff, 0, SECTOR_SIZE, 0), E_ARGUMENT);
    cr_assert_eq(answer(BLOCK_READ, 0, 0, 0), E_ARGUMENT);
    cr_assert_eq(answer(BLOCK_READ, 0, SECTOR_SIZE - 1, 0), E_ARGUMENT);
    cr_assert_eq(answer(BLOCK_READ, 0, 5 * SECTOR_SIZE, 0), E_ARGUMENT);
    cr_assert_eq(answer(BLOCK_READ, 0, SECTOR_SIZE, 3 * SECTOR_SIZE + 1), E_ARGUMENT);
    cr_assert_eq(answer(BLOCK_READ, 0, SECTOR_SIZE, ~0ul), E_ARGUMENT);
    cr_assert_eq(answer(BLOCK_READ, 0, SECTOR_SIZE, ~0ul - SECTOR_SIZE + 1), E_ARGUMENT);
    cr_assert_eq(answer(BLOCK_READ, SECTORS, SECTOR_SIZE, 0), E_ARGUMENT);
    cr_assert_eq(answer(BLOCK_READ, ~0ul, SECTOR_SIZE, 0), E_ARGUMENT);
    cr_assert_eq(answer(BLOCK_WRITE, SECTORS - 1, 2 * SECTOR_SIZE, 0), E_ARGUMENT);
    cr_assert_eq(answer(BLOCK_INFO, 0, SECTOR_SIZE, 0), OK);
    cr_assert_eq(answer(BLOCK_INFO, 0, SECTOR_SIZE, 4 * SECTOR_SIZE), E_ARGUMENT);
}

Test(driver, info_is_in_the_buffer)
{
    struct block_session s;

    world_make(1);
    cr_assert_eq(block_open(&s, "disk", 1, 4 * SECTOR_SIZE, 0), OK);
    cr_assert_eq(block_do(&s, BLOCK_INFO, 0, SECTOR_SIZE, SECTOR_SIZE), OK);
    const struct block_info *info = (const void *)(s.data + SECTOR_SIZE);
    cr_assert_eq(info->sectors, SECTORS);
    cr_assert_eq(info->max_bytes, 4 * SECTOR_SIZE);
    world_end();
}

static void call_answer(struct driver *d, struct message *m) { m->info = INFO_MAKE(d ? OK : E_STATE, 0); }

/* The driver answers a call; then a bit of this word of its answer turns round. */
static void reply_after_flip(uint32_t word)
{
    static const struct driver_ops ops = {.name = "answers", .call = call_answer};
    static struct driver d = {.ops = &ops};
    struct message m = {.info = INFO_MAKE(ECHO_ECHO, 0), .w = {1, 2, 3, 4, 5, 6, 7, 8}};

    d.message_sum = message_sum(&m);
    cr_assert(driver_message(&d, &m));
    message_check(&d, &m);
    m.w[word] ^= 1ul << 40;
    message_check(&d, &m);
}

Test(driver, a_reply_that_changed_is_not_sent_first, .signal = SIGABRT) { reply_after_flip(0); }
Test(driver, a_reply_that_changed_is_not_sent_last, .signal = SIGABRT)
{
    reply_after_flip(MESSAGE_WORDS - 1);
}

Test(driver, a_call_that_changed_is_not_answered, .signal = SIGABRT)
{
    static const struct driver_ops ops = {.name = "answers", .call = call_answer};
    static struct driver d = {.ops = &ops};
    struct message m = {.info = INFO_MAKE(ECHO_ECHO, 0), .w = {1}};

    d.message_sum = message_sum(&m);
    m.w[0] = 3;
    (void)driver_message(&d, &m);
}

/* The driver's own copy of a request is not what the client wrote: that is no reason to refuse the request. */
Test(driver, a_spoilt_copy_is_looked_at_again)
{
    static struct session_request request;
    static struct session_ledger ledger;
    static const struct driver_ops ops = {.name = "copies"};
    static struct driver d = {.ops = &ops, .sectors = SECTORS};
    struct driver_session s = {.slots = 1, .data_bytes = SECTOR_SIZE, .request = &request, .ledger = &ledger};
    struct session_slot copy = {.id = 1, .op = BLOCK_READ, .length = SECTOR_SIZE};

    world_make(1);
    request.slot[0] = copy;
    copy.sector = 1ul << 40;
    slot_issue(&d, &s, 0, &copy);
    cr_assert_eq(s.deferred, 1);
    cr_assert_eq(ledger.entry[0].issued_id, 0);
    request.slot[0].sector = copy.sector;
    slot_issue(&d, &s, 0, &copy);
    cr_assert_eq(ledger.entry[0].completed_id, 1, "asked for, and refused");
    cr_assert_eq(ledger.entry[0].status, E_ARGUMENT);
    world_end();
}
