/* SPDX-License-Identifier: BSD-2-Clause
 * Uses up the CPU for as long as the injector says: the fault `starve`. It answers first, so that who asked can watch.
 * Its marks STARVING are the proof: nothing less urgent ran on its CPU between them. */
#include "abi/protocol.h"
#include "abi/trace.h"
#include "lib/runtime.h"

#define LONGEST_US 1000000u

int main(void)
{
    handle_t endpoint = cap_find("endpoint");
    struct message m = {.info = INFO_REPLAYABLE};

    if (service_call(cap_find("supervisor"), SUPERVISOR_READY, &m) != OK) fatal("hog: not accepted as ready");
    while (sys_recv(endpoint, &m) == OK) {
        uint64_t us = m.w[0];
        bool known = INFO_LABEL(m.info) == HOG_SPIN && us <= LONGEST_US;
        m.info = INFO_MAKE(known ? OK : E_ARGUMENT, 0);
        (void)sys_reply(&m); /* a caller that died needs no answer */
        if (!known) continue;
        (void)sys_trace_mark(0, MARK_STARVING, us);
        for (uint64_t end = clock_ns() + us * 1000; clock_ns() < end;) {}
        (void)sys_trace_mark(0, MARK_STARVING, 0);
    }
    return 1;
}
