/* SPDX-License-Identifier: BSD-2-Clause
 * Stalled endpoints: calls pending and none answered for the service's watchdog time. Progress, not pings: an
 * idle service is never asked anything. (Sessions are watched the same way by recovery, which owns them.) What a
 * look means is decided in core_watch.c. Every service is looked at once a period, BATCH at a time: a death does
 * not wait until a thousand were looked at. */
#include "shell.h"

#define BATCH      32
#define MS         1000000ul
#define SUSPECT_NS MS

static uint32_t next = 1; /* to be looked at in this round */
static uint64_t round_ns; /* when it began */
static uint32_t suspects; /* that are to be looked at again; no fewer than there are */

static bool watched(uint32_t i)
{
    const struct manifest_service *m = &shell.manifest->service[i];
    return m->watchdog_ms && shell.child[i].endpoint;
}

static uint64_t period_ns(void)
{
    static uint64_t period = SUPERVISOR_NEVER;
    if (period != SUPERVISOR_NEVER) return period;
    uint32_t shortest_ms = 0;
    for (uint32_t i = 1; i < shell.manifest->service_count; i++) {
        uint32_t ms = shell.manifest->service[i].watchdog_ms;
        if (watched(i) && (!shortest_ms || ms < shortest_ms)) shortest_ms = ms;
    }
    period = shortest_ms * MS / WATCH_LOOKS_PER_WATCHDOG;
    return period;
}

static bool stalled(uint32_t i)
{
    struct message m = {0};
    if (sys_endpoint_info(shell.child[i].endpoint, &m) != OK) return false;
    struct watch_look look = {.waiting = m.w[0] + m.w[1], .served = m.w[2]};
    return watch_stalled(&shell.child[i].watch, &look, period_ns(),
                         shell.manifest->service[i].watchdog_ms * MS);
}

bool watch_hangs(uint32_t i)
{
    struct process_info info;
    struct vitals vitals = {.generation = shell.state->service[i].generation};
    bool known = shell.child[i].process && sys_process_info(shell.child[i].process, &info) == OK;
    if (known) {
        vitals.runnable = info.runnable;
        vitals.cpu_ticks = info.cpu_tsc;
        vitals.interruptions = info.interruptions;
    }
    return watch_hang(&shell.child[i].suspicion, known ? &vitals : NULL, clock_ns(), shell.tsc_hz / 1000000);
}

/* It stands still: it hangs, or it is looked at again soon. */
static void suspect(uint32_t i)
{
    const struct supervised *s = &shell.state->service[i];
    bool hangs = watch_hangs(i);
    shell.child[i].suspect = hangs ? 0 : s->generation;
    if (!hangs) suspects++;
    if (hangs)
        happen(&(struct supervisor_event){.kind = SUPERVISOR_EVENT_COMPLAINT,
                                          .service = i,
                                          .generation = s->generation,
                                          .cause = CAUSE_STALLED});
}

static void look(uint32_t i)
{
    if (watched(i) && shell.state->service[i].state == SERVICE_STATE_RUNNING && stalled(i)) suspect(i);
}

/* The same incarnation, calls are pending, and none was answered since: it still stands still. */
static void look_again(uint32_t i)
{
    const struct supervised *s = &shell.state->service[i];
    struct message m = {0};
    bool still = s->state == SERVICE_STATE_RUNNING && s->generation == shell.child[i].suspect &&
                 sys_endpoint_info(shell.child[i].endpoint, &m) == OK && m.w[0] + m.w[1] &&
                 m.w[2] == shell.child[i].watch.served;
    shell.child[i].suspect = 0;
    if (still) suspect(i);
}

/* When they are looked at the next time. */
static uint64_t look_at_suspects(uint64_t now)
{
    static uint64_t last;
    if (!suspects) return SUPERVISOR_NEVER;
    if (now < last + SUSPECT_NS) return last + SUSPECT_NS;
    last = now;
    suspects = 0;
    for (uint32_t i = 1; i < shell.manifest->service_count; i++)
        if (shell.child[i].suspect) look_again(i);
    return suspects ? now + SUSPECT_NS : SUPERVISOR_NEVER;
}

static uint64_t look_at_all(uint64_t now)
{
    uint64_t period = period_ns();
    if (!period) return SUPERVISOR_NEVER;
    if (next == 1 && round_ns && now < round_ns + period) return round_ns + period;
    if (next == 1) round_ns = now;
    for (uint32_t n = 0; n < BATCH && next < shell.manifest->service_count; n++) look(next++);
    if (next < shell.manifest->service_count) return now;
    next = 1;
    return round_ns + period;
}

uint64_t watch_look(void)
{
    uint64_t now = clock_ns(), again = look_at_suspects(now), all = look_at_all(now);
    if (suspects && again == SUPERVISOR_NEVER) again = now + SUSPECT_NS;
    return again < all ? again : all;
}
