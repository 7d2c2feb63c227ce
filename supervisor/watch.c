/* SPDX-License-Identifier: BSD-2-Clause
 * Stalled endpoints: calls pending and none answered for the service's watchdog time. Progress, not
 * pings: an idle service is never asked anything. (Sessions are watched the same way by recovery,
 * which owns them.) Looks are counted, not time: after the whole machine stood still, only one look
 * was missed and the service gets to run before the next. */
#include "shell.h"

#define LOOKS_PER_WATCHDOG 2
#define MS                 1000000ul
#define HANG_CPU_US        500u       /* far more than any driver needs to answer */
#define SUSPICION_NS       (100 * MS) /* then it starts anew */

static bool watched(uint32_t i)
{
    const struct manifest_service *m = &shell.manifest->service[i];
    return m->watchdog_ms && shell.child[i].endpoint;
}

uint64_t watch_period_ns(void)
{
    static uint64_t period = SUPERVISOR_NEVER;
    if (period != SUPERVISOR_NEVER) return period;
    uint32_t shortest_ms = 0;
    for (uint32_t i = 1; i < shell.manifest->service_count; i++) {
        uint32_t ms = shell.manifest->service[i].watchdog_ms;
        if (watched(i) && (!shortest_ms || ms < shortest_ms)) shortest_ms = ms;
    }
    period = shortest_ms * MS / LOOKS_PER_WATCHDOG;
    return period;
}

/* True: the endpoint has been stalled for as long as its watchdog allows. */
static bool look(uint32_t i)
{
    struct watch *w = &shell.child[i].watch;
    struct message m = {0};
    if (sys_endpoint_info(shell.child[i].endpoint, &m) != OK) return false;
    bool pending = m.w[0] + m.w[1] > 0;
    bool stood_still = pending && w->pending && m.w[2] == w->served;
    w->pending = pending;
    w->served = m.w[2];
    w->strikes = stood_still ? w->strikes + 1 : 0;
    return w->strikes * watch_period_ns() >= shell.manifest->service[i].watchdog_ms * MS;
}

/* A process that waits for the CPU is not to blame for its silence: it may have lost its priority when the
 * host stood still, or something more urgent runs. It is believed to hang when nothing of it is runnable,
 * or when it has had HANG_CPU_US of CPU time since it was first suspected. */
bool watch_hangs(uint32_t i)
{
    struct suspicion *s = &shell.child[i].suspicion;
    uint32_t generation = shell.state->service[i].generation;
    struct process_info info;
    if (!shell.child[i].process || sys_process_info(shell.child[i].process, &info) != OK || !info.runnable)
        return true;
    uint64_t now = clock_ns();
    if (s->generation != generation || now - s->since_ns > SUSPICION_NS)
        *s = (struct suspicion){.generation = generation, .since_ns = now, .cpu_tsc = info.cpu_tsc};
    return info.cpu_tsc - s->cpu_tsc >= shell.tsc_hz / 1000000 * HANG_CPU_US;
}

void watch_look(void)
{
    for (uint32_t i = 1; i < shell.manifest->service_count; i++) {
        const struct supervised *s = &shell.state->service[i];
        if (!watched(i) || s->state != SERVICE_STATE_RUNNING || !look(i) || !watch_hangs(i)) continue;
        happen(&(struct supervisor_event){.kind = SUPERVISOR_EVENT_COMPLAINT,
                                          .service = i,
                                          .generation = s->generation,
                                          .cause = CAUSE_STALLED});
    }
}
