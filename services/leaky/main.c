/* SPDX-License-Identifier: BSD-2-Clause
 * A service that leaks: the first incarnations (args: leaks=N) take page after page, and say so when there are none left.
 * The supervisor should end each before that; the one after those takes nothing. */
#include "abi/protocol.h"
#include "lib/runtime.h"

#define PAUSE_NS 20000000ul

int main(void)
{
    struct message m = {.info = INFO_REPLAYABLE};
    handle_t n = sys_notification_create(0).value, timer = sys_timer_create(n, 1).value;
    bool leaks = TAG_GENERATION(startup()->tag) <= arg_number("leaks", 0);

    if (service_call(cap_find("supervisor"), SUPERVISOR_READY, &m) != OK)
        fatal("leaky: not accepted as ready");
    while (leaks) {
        if (sys_memory_create(0, 1, 0).status != OK) fatal("leaky: came to the end of its quota");
        if (sys_timer_arm(timer, clock_ns() + PAUSE_NS) != OK) fatal("leaky: no timer");
        (void)sys_wait(n);
    }
    for (;;) (void)sys_wait(n); /* for nobody */
}
