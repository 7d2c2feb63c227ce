/* SPDX-License-Identifier: BSD-2-Clause
 * Without replay a death loses requests, and the checks see it: the tests of driver_crash.c can fail. */
#define COPPICE_NO_REPLAY
#include "tests/unit/driver_world.h"

Test(driver_no_replay, requests_are_lost)
{
    uint32_t lost = 0;

    for (uint64_t step = 1; step < 100; step++) {
        struct block_session s;
        world_make((unsigned)step);
        world.kill_count = 1;
        world.kill_at[0] = step;
        cr_assert_eq(block_open(&s, "disk", SLOTS, SLOTS * SECTOR_SIZE, 0), OK);
        if (world_write(&s, 10) < 10) lost++;
        world_end();
    }
    cr_assert_gt(lost, 20);
}
