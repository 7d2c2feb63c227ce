/* SPDX-License-Identifier: BSD-2-Clause
 * What must hold of groups in groups, from the plan and from what happened: an account of each group's failures of its own,
 * who is down when a group has failed, and what nobody may start beside. */
#include <string.h>
#include "sim.h"

static const struct manifest_group *group(uint16_t g) { return &plan.file.head.group[g]; }
static uint16_t outer_of(uint16_t g)
{
    return group(g)->inside ? (uint16_t)(group(g)->inside - 1) : MANIFEST_NONE;
}
static enum service_state state_of(uint32_t i) { return world.state->service[i].state; }

static bool is_in(uint32_t i, uint16_t g)
{
    uint16_t own = plan.file.service[i].group;

    while (own != g && own != MANIFEST_NONE) own = outer_of(own);
    return own == g;
}

static bool is_within(uint16_t inner, uint16_t g)
{
    while (inner != g && inner != MANIFEST_NONE) inner = outer_of(inner);
    return inner == g;
}

/* One more failure of a member. True: more than allowed. */
static bool book(uint16_t g)
{
    struct group_book *b = &world.group[g];
    uint32_t within = 0;

    if (group(g)->period_ms == 0) return false;
    for (uint32_t n = 0; n < b->count; n++)
        if (world.now_ns - b->at[n] <= group(g)->period_ms * MS) b->at[within++] = b->at[n];
    if (within == sizeof(b->at) / sizeof(b->at[0])) sim_fail("group %u fails too often to be counted", g);
    b->at[within++] = world.now_ns;
    b->count = within;
    return within > group(g)->intensity;
}

/* All of it has been stopped. */
static void check_down(uint16_t failed, uint32_t because)
{
    for (uint32_t i = 1; i < plan.services; i++)
        if (i != because && is_in(i, failed) && state_of(i) == SERVICE_STATE_RUNNING)
            sim_fail("service %u runs on in group %u, which has failed", i, failed);
}

/* What was counted inside it, itself included. */
static void forget_within(uint16_t failed)
{
    for (uint16_t g = 0; g < plan.file.head.group_count; g++)
        if (is_within(g, failed)) world.group[g].count = 0;
}

static void forget(uint32_t i)
{
    for (uint16_t g = plan.file.service[i].group; g != MANIFEST_NONE; g = outer_of(g))
        world.group[g].count = 0;
}

void check_groups(uint32_t i, bool counts, bool rolled_back)
{
    uint16_t g = plan.file.service[i].group;
    bool given_up = state_of(i) == SERVICE_STATE_GAVE_UP || state_of(i) == SERVICE_STATE_DONE;
    bool over = counts && g != MANIFEST_NONE && book(g);

    for (; g != MANIFEST_NONE; g = outer_of(g)) {
        bool failed = world.state->group[g].failures != world.group[g].failures;
        world.group[g].failures = world.state->group[g].failures;
        if (over && !failed && !given_up && !rolled_back)
            sim_fail("group %u goes on after more failures than it may have", g);
        if (!failed) break;
        sometimes(GROUP_FAILED, true);
        uint16_t outer = outer_of(g);
        if (outer == MANIFEST_NONE) sim_fail("group %u fails in no group", g);
        if (!given_up && !rolled_back) check_down(g, i);
        forget_within(g);
        over = book(outer);
        sometimes(GROUP_FAILED_OUTWARDS, over);
    }
    sometimes(GROUP_GAVE_UP, over && given_up);
    if (rolled_back) forget(i);
}

void check_groups_reset(uint32_t i) { forget(i); }

/* Nobody of a tree starts while some of it are being stopped with a group, nor before its turn. */
void check_groups_start(uint32_t i)
{
    for (uint16_t g = plan.file.service[i].group; g != MANIFEST_NONE; g = outer_of(g))
        for (uint32_t j = 1; j < plan.services; j++) {
            const struct supervised *s = &world.state->service[j];
            bool direct = plan.file.service[j].group == g;
            if (j == i || !is_in(j, g)) continue;
            if (s->state == SERVICE_STATE_STOPPING && s->condemned_for == CAUSE_ESCALATED)
                sim_fail("service %u starts while its group is still being stopped", i);
            if (group(g)->strategy != STRATEGY_REST_FOR_ONE || j > i || !direct) continue;
            if (s->state != SERVICE_STATE_RUNNING && s->state != SERVICE_STATE_DONE &&
                s->state != SERVICE_STATE_ABSENT)
                sim_fail("service %u starts before service %u, which comes before it in group %u", i, j, g);
        }
}

/* Nothing of an earlier member, or it serves: of a nested one that lost services the rest is enough. */
bool waits_for_group(uint32_t i, bool (*down)(uint32_t))
{
    for (uint16_t g = plan.file.service[i].group; g != MANIFEST_NONE; g = outer_of(g)) {
        if (group(g)->strategy != STRATEGY_REST_FOR_ONE) continue;
        for (uint32_t j = 1; j < i; j++)
            if (is_in(j, g) && state_of(j) != SERVICE_STATE_RUNNING && state_of(j) != SERVICE_STATE_DONE &&
                down(j))
                return true;
    }
    return false;
}
