/* SPDX-License-Identifier: BSD-2-Clause
 * Memory in use, as far as the supervisor looks at it (supervisor/growth.c): a process has half its quota in use, or nearly
 * all from the moment that it leaks. Whoever leaks, and was seen before, is ended for it; nobody else ever is. */
#include <string.h>
#include "sim.h"
#include "supervisor/core_growth.h"

#define WARN_PCT 95u

static struct growth growth[SERVICES_MAX];
static uint64_t next_ns;

void growth_begin(void)
{
    memset(growth, 0, sizeof(growth));
    next_ns = NEVER;
}

/* One look at a service that serves. True: it is to be ended. */
static bool look(uint32_t i)
{
    const struct process *p = &world.process[i];
    uint64_t quota = plan.file.service[i].quota_pages, used = p->leaks ? quota - 1 : quota / 2;

    if (!p->alive || world.state->service[i].state != SERVICE_STATE_RUNNING) return false;
    bool grown = growth_look(&growth[i], p->generation, used, quota, WARN_PCT);
    if (grown && !p->leaks) sim_fail("service %u is said to leak, and does not", i);
    sometimes(LEAK_FOUND, grown);
    return grown;
}

void growth_ready(uint32_t i) { (void)look(i); }

static bool to_be_found(uint32_t i)
{
    const struct process *p = &world.process[i];

    return p->alive && p->leaks && growth[i].was_below && growth[i].generation == p->generation &&
           world.state->service[i].state == SERVICE_STATE_RUNNING;
}

uint64_t growth_next_ns(void)
{
    bool any = false;

    for (uint32_t i = 1; i < plan.services; i++) any |= to_be_found(i);
    if (!any) return next_ns = NEVER;
    if (next_ns == NEVER) next_ns = world.now_ns + GROWTH_PERIOD_NS;
    return next_ns;
}

/* The services that are to be ended, one bit each. */
uint32_t growth_looks(void)
{
    uint32_t found = 0;

    next_ns = NEVER;
    for (uint32_t i = 1; i < plan.services; i++)
        if (look(i)) found |= 1u << i;
    return found;
}

bool growth_settled(uint32_t i) { return !to_be_found(i); }
