/* SPDX-License-Identifier: BSD-2-Clause
 * What holds of the policy core's state between any two steps. Read by tests after every step and
 * by the shell at boot; owns nothing, changes nothing. */
#include "core_index.h"
#include "core_step.h"

static bool waits_for_time(enum service_state state)
{
    return state == SERVICE_STATE_STARTING || state == SERVICE_STATE_BACKOFF;
}

/* A deadline exists exactly where time matters, and a TICK will come no later. */
static bool inv_deadline(const struct supervisor_state *state, const struct supervised *s)
{
    if (s->state == SERVICE_STATE_RUNNING)
        return s->deadline_ns == SUPERVISOR_NEVER || state->timer_ns <= s->deadline_ns;
    if (!waits_for_time(s->state)) return s->deadline_ns == SUPERVISOR_NEVER;
    return s->deadline_ns != SUPERVISOR_NEVER && state->timer_ns <= s->deadline_ns;
}

static bool inv_window(const struct manifest_service *m, const struct supervised *s)
{
    if (s->window_count > m->intensity + 1 || s->window_first > SUPERVISOR_INTENSITY_MAX) return false;
    if (s->window_count > m->intensity && s->state != SERVICE_STATE_GAVE_UP && s->state != SERVICE_STATE_DONE)
        return false;
    for (uint32_t n = 1; n < s->window_count; n++) {
        uint32_t ring = SUPERVISOR_INTENSITY_MAX + 1;
        if (s->window[(s->window_first + n - 1) % ring] > s->window[(s->window_first + n) % ring])
            return false;
    }
    return true;
}

/* A service holds nothing of a dead one: whatever it restarts with has a process, or ended for
 * good. */
static bool inv_follower(const struct supervisor_state *state, uint32_t i)
{
    const struct manifest_service *m = &state->manifest->service[i];
    enum service_state own = state->service[i].state;
    if (own != SERVICE_STATE_STARTING && own != SERVICE_STATE_RUNNING) return true;
    for (uint32_t d = 0; d < m->depend_count; d++) {
        enum service_state other = state->service[m->depend[d].service].state;
        bool held =
            other == SERVICE_STATE_RUNNING || other == SERVICE_STATE_FAILING || other == SERVICE_STATE_DONE;
        held = held || supervisor_keeps(state, m->depend[d].service);
        if (m->depend[d].kind == DEPEND_RESTART_WITH && !held) return false;
    }
    return true;
}

/* Where restarts go in order, nobody serves after a member that does not, unless that one is only failing. */
static bool inv_order(const struct supervisor_state *state, uint32_t i, uint16_t group)
{
    for (uint32_t j = 1; j < i; j++) {
        enum service_state other = state->service[j].state;
        bool held = other == SERVICE_STATE_RUNNING || other == SERVICE_STATE_FAILING ||
                    other == SERVICE_STATE_DONE || other == SERVICE_STATE_ABSENT;
        held = held || supervisor_keeps(state, j);
        if (state->manifest->service[j].group == group && !held) return false;
    }
    return true;
}

/* A one_for_all group is up as a whole or not at all, while nobody of it is only failing. */
static bool inv_all(const struct supervisor_state *state, uint16_t group)
{
    for (uint32_t j = 1; j < state->count; j++) {
        enum service_state other = state->service[j].state;
        bool down = other == SERVICE_STATE_STOPPING || other == SERVICE_STATE_BACKOFF ||
                    (other == SERVICE_STATE_GAVE_UP && state->service[j].reason != REASON_GENERATIONS &&
                     state->service[j].cause != CAUSE_DEPENDENCY);
        if (state->manifest->service[j].group == group && down && !supervisor_keeps(state, j)) return false;
    }
    return true;
}

/* Of its own group and of those around it: what their own members do concerns all that is inside. */
static bool inv_group(const struct supervisor_state *state, uint32_t i)
{
    uint16_t group = state->manifest->service[i].group;
    if (!supervisor_serving(state->service[i].state)) return true;
    for (; group != MANIFEST_NONE; group = group_outer(state, group)) {
        uint16_t strategy = state->manifest->group[group].strategy;
        if (strategy == STRATEGY_REST_FOR_ONE && !inv_order(state, i, group)) return false;
        if (strategy == STRATEGY_ONE_FOR_ALL && !inv_all(state, group)) return false;
    }
    return true;
}

/* No group has more failures counted than its policy allows, unless nobody around it could deal with them. */
static bool inv_failures(const struct supervisor_state *state)
{
    for (uint16_t g = 0; g < state->manifest->group_count; g++) {
        const struct manifest_group *m = &state->manifest->group[g];
        if (state->group[g].count > m->intensity + (state->group[g].gave_up ? 1 : 0)) return false;
    }
    return true;
}

/* Nobody waits whose dependencies all serve (groups aside). */
static bool inv_not_forgotten(const struct supervisor_state *state, uint32_t i)
{
    const struct manifest_service *m = &state->manifest->service[i];
    if (state->phase != PHASE_RUN || state->service[i].state != SERVICE_STATE_WAITING) return true;
    if (m->group != MANIFEST_NONE) return true;
    for (uint32_t d = 0; d < m->depend_count; d++) {
        enum service_state other = state->service[m->depend[d].service].state;
        if (other != SERVICE_STATE_RUNNING && other != SERVICE_STATE_DONE) return true;
    }
    return false;
}

/* A set says in its summary which words are not 0, and has no members past the end. */
static bool inv_set(const struct service_set *set, uint32_t members)
{
    uint32_t found = 0;
    for (uint32_t w = 0; w < MANIFEST_SERVICES / 64; w++) {
        if ((set->word[w] != 0) != (set->summary >> w & 1)) return false;
        found += (uint32_t)__builtin_popcountll(set->word[w]);
    }
    return found == members && set->summary >> (MANIFEST_SERVICES / 64 - 1) <= 1;
}

/* What core_index.c keeps says the same as the services do. */
static bool inv_index(const struct supervisor_state *state)
{
    uint32_t in_state[SERVICE_STATES] = {0}, deadlines = 0, idle = 0;
    for (uint32_t i = 1; i < state->count; i++) {
        const struct supervised *s = &state->service[i];
        uint32_t slot = s->deadline_slot;
        in_state[s->state]++;
        idle += index_is_idle(s->state);
        if (set_has(&state->idle, i) != index_is_idle(s->state)) return false;
        if ((s->deadline_ns != SUPERVISOR_NEVER) != (slot != 0)) return false;
        if (!slot) continue;
        deadlines++;
        if (slot > state->deadlines || state->deadline[slot] != i) return false;
        if (slot > 1 && state->service[state->deadline[slot / 2]].deadline_ns > s->deadline_ns) return false;
    }
    for (uint32_t s = 0; s < SERVICE_STATES; s++)
        if (in_state[s] != state->in_state[s]) return false;
    if (!inv_set(&state->idle, idle)) return false;
    if (state->marked.summary || (state->phase == PHASE_RUN && state->stale.summary)) return false;
    return deadlines == state->deadlines;
}

bool supervisor_invariants(const struct supervisor_state *state)
{
    if (state->service[0].state != SERVICE_STATE_RUNNING) return false;
    for (uint32_t i = 1; i < state->count; i++) {
        const struct supervised *s = &state->service[i];
        if (s->state >= SERVICE_STATES || s->restarts > s->generation) return false;
        if (supervisor_state_live(s->state) && s->generation == 0) return false;
        if (state->phase == PHASE_HALTED && s->state != SERVICE_STATE_DONE) return false;
        if (!inv_deadline(state, s) || !inv_window(&state->manifest->service[i], s)) return false;
        if (!inv_follower(state, i) || !inv_group(state, i) || !inv_not_forgotten(state, i) ||
            !inv_spare(state, i))
            return false;
    }
    return inv_failures(state) && inv_index(state);
}
