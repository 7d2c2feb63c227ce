/* SPDX-License-Identifier: BSD-2-Clause
 * Groups in groups. A group is a member of the group that it is inside of. What happens to a service concerns its own
 * group, and whatever is nested in that, by the group's strategy (core_index.c finds them, core.c judges those of the same
 * group). It concerns the groups further out only once its own group fails: when more deaths are counted in it than its
 * policy allows, or a service that escalates is given up. Then all of the group is stopped, and the group around it deals
 * with that as with the death of one member, and counts it as one. Nothing of a tree of groups starts before all that was
 * stopped by such a failure is down. Owns state->group[]. */
#include "core_index.h"
#include "core_step.h"
#include "abi/trace.h"

uint16_t group_outer(const struct supervisor_state *state, uint16_t group)
{
    uint16_t inside = state->manifest->group[group].inside;
    return inside ? (uint16_t)(inside - 1) : MANIFEST_NONE;
}

/* The way outwards ends: a group comes after the one that it is inside of (manifest_check). */
bool group_within(const struct supervisor_state *state, uint16_t group, uint16_t outer)
{
    while (group != outer && group != MANIFEST_NONE) group = group_outer(state, group);
    return group == outer;
}

/* The innermost that both are within; MANIFEST_NONE: they have nothing to do with each other. */
static uint16_t common(const struct supervisor_state *state, uint16_t a, uint16_t b)
{
    while (a != MANIFEST_NONE && !group_within(state, b, a)) a = group_outer(state, a);
    return a;
}

/* --- Verdicts -------------------------------------------------------------------------------- */
static bool on_its_way(enum service_state state)
{
    return state != SERVICE_STATE_RUNNING && state != SERVICE_STATE_GAVE_UP &&
           state != SERVICE_STATE_ABSENT && state != SERVICE_STATE_DONE;
}

static bool falls_with_group(const struct supervised *s)
{
    return s->state == SERVICE_STATE_STOPPING && s->condemned_for == CAUSE_ESCALATED;
}

/* What j, of another group of the same tree, means for i. In a group that restarts in order, a service that was given up
 * takes what comes after it with it, a nested group that lost one does not: it has not failed. */
static enum verdict verdict_of_other(const struct supervisor_state *state, uint32_t i, uint32_t j)
{
    const struct supervised *other = &state->service[j];
    uint16_t own = entry_of(state, i)->group, theirs = entry_of(state, j)->group;
    uint16_t shared = common(state, own, theirs);
    enum strategy strategy = (enum strategy)state->manifest->group[shared].strategy;
    if (falls_with_group(other)) return VERDICT_WAIT;
    if (strategy == STRATEGY_REST_FOR_ONE && j < i && theirs == shared)
        return verdict_of_member(other->state);
    if (strategy == STRATEGY_REST_FOR_ONE && j < i)
        return on_its_way(other->state) ? VERDICT_WAIT : VERDICT_START;
    if (strategy == STRATEGY_ONE_FOR_ALL && theirs == shared) return verdict_of_partner(other);
    return VERDICT_START;
}

enum verdict verdict_of_tree(const struct supervisor_state *state, uint32_t i)
{
    uint16_t own = entry_of(state, i)->group;
    enum verdict verdict = VERDICT_START;
    if (own == MANIFEST_NONE) return VERDICT_START;
    for (uint16_t g = 0; g < state->manifest->group_count; g++) {
        if (g == own || common(state, own, g) == MANIFEST_NONE) continue;
        for (uint32_t j = state->first_member[g]; j != SET_NONE; j = state->service[j].next_member)
            verdict = verdict_worse(verdict, verdict_of_other(state, i, j));
    }
    for (uint32_t j = state->first_member[own]; j != SET_NONE; j = state->service[j].next_member)
        if (j != i && falls_with_group(&state->service[j])) verdict = verdict_worse(verdict, VERDICT_WAIT);
    return verdict;
}

/* --- Failures -------------------------------------------------------------------------------- */
/* A failure of a member of the group. False: more than its policy allows. Exactly one period old still counts. */
static bool failure_count(struct step *step, uint16_t group)
{
    const struct manifest_group *m = &step->state->manifest->group[group];
    struct group_state *g = &step->state->group[group];
    uint32_t kept = 0;
    if (m->period_ms == 0) return true;
    for (uint32_t n = 0; n < g->count; n++)
        if (step->now_ns - g->at[n] <= m->period_ms * NS_PER_MS) g->at[kept++] = g->at[n];
    if (kept > m->intensity) /* it failed before, and nobody around it could help */
        for (kept = 0; kept < m->intensity; kept++) g->at[kept] = g->at[kept + 1];
    g->at[kept++] = step->now_ns;
    g->count = kept;
    return kept <= m->intensity;
}

bool group_count(struct step *step, uint32_t i)
{
    uint16_t group = entry_of(step->state, i)->group;
    return group == MANIFEST_NONE || failure_count(step, group);
}

void group_forget(struct supervisor_state *state, uint32_t i)
{
    uint16_t group = entry_of(state, i)->group;
    for (; group != MANIFEST_NONE; group = group_outer(state, group)) {
        state->group[group].count = 0;
        state->group[group].gave_up = false;
    }
}

/* In the order of the outer group's members a nested group stands where its first service does. */
static uint32_t first_of(const struct supervisor_state *state, uint16_t group)
{
    for (uint32_t i = 1; i < state->count; i++)
        if (group_within(state, entry_of(state, i)->group, group)) return i;
    return SET_NONE;
}

/* The member of `outer` that a service is, or is within: where that stands. */
static uint32_t place_in(const struct supervisor_state *state, uint32_t i, uint16_t outer)
{
    uint16_t member = entry_of(state, i)->group;
    if (member == outer) return i;
    while (group_outer(state, member) != outer) member = group_outer(state, member);
    return first_of(state, member);
}

/* Stopped, or already stopping because of a death in the group that is its last: they wait for each other. */
static void stop(struct step *step, uint32_t i)
{
    struct supervised *s = &step->state->service[i];
    if (s->state == SERVICE_STATE_STOPPING) s->condemned_for = CAUSE_ESCALATED;
    if (!supervisor_serving(s->state)) return;
    stop_followers(step, i);
    step_kill(step, i, SERVICE_STATE_STOPPING, CAUSE_ESCALATED);
}

/* Last started, first stopped. */
static void group_stop(struct step *step, uint16_t failed, uint16_t outer, uint32_t i)
{
    const struct supervisor_state *state = step->state;
    uint16_t strategy = state->manifest->group[outer].strategy;
    uint32_t first = first_of(state, failed);
    for (uint32_t j = state->count - 1; j > 0; j--) {
        uint16_t theirs = entry_of(state, j)->group;
        if (j == i || !group_within(state, theirs, outer)) continue;
        if (group_within(state, theirs, failed) || strategy == STRATEGY_ONE_FOR_ALL ||
            (strategy == STRATEGY_REST_FOR_ONE && place_in(state, j, outer) > first))
            stop(step, j);
    }
}

/* It begins anew, with all that is in it. */
static void group_failed(struct step *step, uint16_t group, uint32_t i, enum give_up_reason reason)
{
    struct supervisor_state *state = step->state;
    state->group[group].failures++;
    state->group[group].last = i;
    state->group[group].reason = reason;
    for (uint16_t g = 0; g < state->manifest->group_count; g++)
        if (group_within(state, g, group)) state->group[g].count = 0;
}

bool group_fail(struct step *step, uint32_t i, enum give_up_reason reason)
{
    const struct supervisor_state *state = step->state;
    uint16_t group = entry_of(state, i)->group, outer;
    for (; group != MANIFEST_NONE; group = outer) {
        outer = group_outer(state, group);
        if (outer == MANIFEST_NONE) {
            step->state->group[group].last = i;
            step->state->group[group].reason = reason;
            step->state->group[group].gave_up = true;
            return false;
        }
        group_failed(step, group, i, reason);
        if (failure_count(step, outer)) {
            struct supervisor_action *mark = step_act(step, SUPERVISOR_ACTION_MARK, i);
            mark->value = MARK_GROUP_FAILED;
            mark->ns = group;
            group_stop(step, group, outer, i);
            return true;
        }
        reason = REASON_GROUP;
    }
    return false;
}
