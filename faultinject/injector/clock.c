/* SPDX-License-Identifier: BSD-2-Clause
 * One notification for orders and for the timer. */
#include "clock.h"
#include "com2.h"

static handle_t both, timer;
static uint64_t lines_waiting;

status_t clock_open(handle_t *notification)
{
    struct sys_result r = sys_notification_create(startup()->tag);

    if (r.status != OK) return r.status;
    both = *notification = r.value;
    r = sys_timer_create(both, BIT_TIMER);
    timer = r.value;
    return r.status;
}

static void sleep_for(uint64_t us, bool listen)
{
    if (listen) com2_pull();
    if (us == 0 || sys_timer_arm(timer, clock_ns() + us * 1000) != OK) return;
    for (uint64_t bits = 0; !(bits & BIT_TIMER);) {
        struct sys_result r = sys_wait(both);
        if (r.status != OK) return;
        bits = r.value;
        lines_waiting |= bits & BIT_LINE;
        if (listen && bits & BIT_LINE) com2_pull();
    }
}

void sleep_us(uint64_t us) { sleep_for(us, false); }
void sleep_listening_us(uint64_t us) { sleep_for(us, true); }

bool lines_take(void)
{
    bool were = lines_waiting != 0;

    lines_waiting = 0;
    return were;
}
