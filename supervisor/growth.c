/* SPDX-License-Identifier: BSD-2-Clause
 * Services whose memory grows towards their quota, found before they reach it. What a look means is decided in
 * core_growth.c. Everybody is looked at once a period, BATCH at a time, and whoever is new soon after it is ready: that
 * is what the later looks are compared with. A kept service is left alone: its end would free nothing. */
#include "shell.h"

#define BATCH 32

static uint32_t next = 1; /* to be looked at in this round */
static uint64_t round_ns; /* when it began */

static bool watched(uint32_t i)
{
    const struct manifest_service *m = &shell.manifest->service[i];
    return m->memory_warn_pct && !(m->flags & SERVICE_KEPT);
}

static void look(uint32_t i)
{
    const struct supervised *s = &shell.state->service[i];
    struct process_info info;
    if (!watched(i) || s->state != SERVICE_STATE_RUNNING || !shell.child[i].process) return;
    if (sys_process_info(shell.child[i].process, &info) != OK) return; /* it died, and that is queued */
    if (growth_look(&shell.child[i].growth, s->generation, info.used_pages, info.quota_pages,
                    shell.manifest->service[i].memory_warn_pct))
        happen(&(struct supervisor_event){.kind = SUPERVISOR_EVENT_COMPLAINT,
                                          .service = i,
                                          .generation = s->generation,
                                          .cause = CAUSE_QUOTA_GROWTH});
}

static bool anybody(void)
{
    static uint32_t known; /* 1: nobody; 2: somebody */
    for (uint32_t i = 1; !known && i < shell.manifest->service_count; i++)
        if (watched(i)) known = 2;
    if (!known) known = 1;
    return known == 2;
}

uint64_t growth_look_at_some(uint64_t now)
{
    if (!anybody()) return SUPERVISOR_NEVER;
    for (uint32_t i = 1; i < shell.manifest->service_count; i++)
        if (shell.child[i].growth.generation != shell.state->service[i].generation) look(i);
    if (next == 1 && round_ns && now < round_ns + GROWTH_PERIOD_NS) return round_ns + GROWTH_PERIOD_NS;
    if (next == 1) round_ns = now;
    for (uint32_t n = 0; n < BATCH && next < shell.manifest->service_count; n++) look(next++);
    if (next < shell.manifest->service_count) return now;
    next = 1;
    return round_ns + GROWTH_PERIOD_NS;
}
