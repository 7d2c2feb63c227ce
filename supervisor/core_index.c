/* SPDX-License-Identifier: BSD-2-Clause
 * Sets, reverse edges and deadlines of the policy core (core_index.h). */
#include "core_index.h"
#include "core_step.h"

_Static_assert(MANIFEST_SERVICES <= 64 * 64, "a set has two levels");
_Static_assert(MANIFEST_SERVICES *MANIFEST_DEPENDS <= UINT16_MAX, "an edge has a 16-bit name");

/* --- Sets ----------------------------------------------------------------------------------- */
void set_add(struct service_set *set, uint32_t i)
{
    set->word[i / 64] |= 1ull << i % 64;
    set->summary |= 1ull << i / 64;
}

void set_remove(struct service_set *set, uint32_t i)
{
    set->word[i / 64] &= ~(1ull << i % 64);
    if (!set->word[i / 64]) set->summary &= ~(1ull << i / 64);
}

bool set_has(const struct service_set *set, uint32_t i) { return set->word[i / 64] >> i % 64 & 1; }

static uint64_t above(uint64_t bits, uint32_t n) { return n == 63 ? 0 : bits & ~0ull << (n + 1); }

uint32_t set_after(const struct service_set *set, uint32_t i)
{
    uint32_t w = i / 64;
    uint64_t rest = above(set->word[w], i % 64);
    if (!rest) {
        uint64_t words = above(set->summary, w);
        if (!words) return SET_NONE;
        w = (uint32_t)__builtin_ctzll(words);
        rest = set->word[w];
    }
    return w * 64 + (uint32_t)__builtin_ctzll(rest);
}

static void set_add_all(struct service_set *set, const struct service_set *more)
{
    for (uint64_t left = more->summary; left; left &= left - 1) {
        uint32_t w = (uint32_t)__builtin_ctzll(left);
        set->word[w] |= more->word[w];
    }
    set->summary |= more->summary;
}

uint32_t set_highest(const struct service_set *set)
{
    if (!set->summary) return SET_NONE;
    uint32_t w = 63 - (uint32_t)__builtin_clzll(set->summary);
    return w * 64 + 63 - (uint32_t)__builtin_clzll(set->word[w]);
}

/* --- Who depends on whom -------------------------------------------------------------------- */
/* An edge is named by the service it is written at and its place there; 0 names none, because the
 * supervisor depends on nothing. */
static const struct manifest_depend *edge_of(const struct supervisor_state *state, uint16_t edge)
{
    return &state->manifest->service[edge / MANIFEST_DEPENDS].depend[edge % MANIFEST_DEPENDS];
}

static uint16_t *next_edge(struct supervisor_state *state, uint16_t edge)
{
    return &state->service[edge / MANIFEST_DEPENDS].next_edge[edge % MANIFEST_DEPENDS];
}

static bool group_is(const struct supervisor_state *state, uint32_t i, enum strategy strategy)
{
    uint16_t group = state->manifest->service[i].group;
    return group != MANIFEST_NONE && state->manifest->group[group].strategy == strategy;
}

/* The group's member after i if it restarts in order, else SET_NONE. */
static uint32_t next_in_order(const struct supervisor_state *state, uint32_t i)
{
    return group_is(state, i, STRATEGY_REST_FOR_ONE) ? state->service[i].next_member : SET_NONE;
}

uint32_t index_first_of_all(const struct supervisor_state *state, uint32_t i)
{
    if (!group_is(state, i, STRATEGY_ONE_FOR_ALL)) return SET_NONE;
    return state->first_member[state->manifest->service[i].group];
}

static bool nested(const struct supervisor_state *state, uint16_t group, uint16_t outer)
{
    return group != outer && group_within(state, group, outer);
}

/* All of a tree of several groups. */
static void affect_tree(struct supervisor_state *state, uint16_t own)
{
    uint16_t root = own;
    uint32_t groups = 0;
    while (group_outer(state, root) != MANIFEST_NONE) root = group_outer(state, root);
    for (uint16_t g = 0; g < state->manifest->group_count; g++) groups += group_within(state, g, root);
    for (uint16_t g = 0; groups > 1 && g < state->manifest->group_count; g++)
        for (uint32_t j = group_within(state, g, root) ? state->first_member[g] : SET_NONE; j != SET_NONE;
             j = state->service[j].next_member)
            set_add(&state->stale, j);
}

bool index_is_idle(enum service_state state)
{
    return state == SERVICE_STATE_WAITING || state == SERVICE_STATE_GAVE_UP || state == SERVICE_STATE_ABSENT;
}

static uint32_t idle_count(const struct supervisor_state *state)
{
    return state->in_state[SERVICE_STATE_WAITING] + state->in_state[SERVICE_STATE_GAVE_UP] +
           state->in_state[SERVICE_STATE_ABSENT];
}

/* Of all that are idle, or of all that have to do with i, the fewer. */
static void affected(struct supervisor_state *state, uint32_t i)
{
    if (idle_count(state) <= state->service[i].dependents) {
        set_add_all(&state->stale, &state->idle);
        return;
    }
    for (uint16_t edge = state->service[i].first_edge; edge; edge = *next_edge(state, edge))
        set_add(&state->stale, edge / MANIFEST_DEPENDS);
    for (uint32_t j = next_in_order(state, i); j != SET_NONE; j = next_in_order(state, j))
        set_add(&state->stale, j);
    for (uint32_t j = index_first_of_all(state, i); j != SET_NONE; j = state->service[j].next_member)
        set_add(&state->stale, j);
    if (state->manifest->service[i].group != MANIFEST_NONE)
        affect_tree(state, state->manifest->service[i].group);
}

void index_entered(struct supervisor_state *state, uint32_t i)
{
    enum service_state now = state->service[i].state;
    if (index_is_idle(now))
        set_add(&state->idle, i);
    else
        set_remove(&state->idle, i);
    affected(state, i);
    if (now == SERVICE_STATE_WAITING) set_add(&state->stale, i);
}

/* What is DONE restarts with nobody any more, and nobody with it. */
static bool is_done(const struct supervisor_state *state, uint32_t i)
{
    return state->service[i].state == SERVICE_STATE_DONE;
}

/* True: it was not marked yet, and the walk upwards from `leader` will not come by it. */
static bool mark(struct supervisor_state *state, uint32_t leader, uint32_t i)
{
    if (is_done(state, i) || set_has(&state->marked, i)) return false;
    set_add(&state->marked, i);
    return i < leader;
}

/* What is nested in the group of the leader restarts with it, by the group's strategy. */
static bool mark_nested(struct supervisor_state *state, uint32_t leader)
{
    uint16_t own = state->manifest->service[leader].group;
    bool again = false, all = group_is(state, leader, STRATEGY_ONE_FOR_ALL);
    if (!all && !group_is(state, leader, STRATEGY_REST_FOR_ONE)) return false;
    for (uint16_t g = 0; g < state->manifest->group_count; g++)
        for (uint32_t j = nested(state, g, own) ? state->first_member[g] : SET_NONE; j != SET_NONE;
             j = state->service[j].next_member)
            if (all || j > leader) again |= mark(state, leader, j);
    return again;
}

static bool mark_followers_of(struct supervisor_state *state, uint32_t leader)
{
    bool again = false;
    for (uint16_t edge = state->service[leader].first_edge;
         edge && edge_of(state, edge)->kind == DEPEND_RESTART_WITH; edge = *next_edge(state, edge))
        again |= mark(state, leader, edge / MANIFEST_DEPENDS);
    uint32_t member = next_in_order(state, leader);
    while (member != SET_NONE && is_done(state, member)) member = next_in_order(state, member);
    if (member != SET_NONE) again |= mark(state, leader, member);
    for (uint32_t j = index_first_of_all(state, leader); j != SET_NONE; j = state->service[j].next_member)
        again |= mark(state, leader, j);
    return mark_nested(state, leader) || again;
}

/* Followers come after what they follow, but for the members of a one_for_all group. */
void index_followers(struct supervisor_state *state, uint32_t i)
{
    bool again = mark_followers_of(state, i);
    for (uint32_t j = again ? 0 : i; (j = set_after(&state->marked, j)) != SET_NONE;)
        if (mark_followers_of(state, j)) j = 0;
    set_remove(&state->marked, i);
}

static void edges_of_kind(struct supervisor_state *state, uint32_t i, enum depend_kind kind)
{
    const struct manifest_service *m = &state->manifest->service[i];
    for (uint32_t d = 0; d < m->depend_count; d++) {
        if (m->depend[d].kind != kind) continue;
        uint16_t edge = (uint16_t)(i * MANIFEST_DEPENDS + d);
        struct supervised *on = &state->service[m->depend[d].service];
        *next_edge(state, edge) = on->first_edge;
        on->first_edge = edge;
        on->dependents++;
    }
}

void index_init(struct supervisor_state *state)
{
    /* Each time put in front, so downwards: lists ascend. */
    for (uint32_t i = state->count - 1; i > 0; i--) edges_of_kind(state, i, DEPEND_HOLD_AND_REPLAY);
    for (uint32_t i = state->count - 1; i > 0; i--) {
        const struct manifest_service *m = &state->manifest->service[i];
        edges_of_kind(state, i, DEPEND_RESTART_WITH);
        if (m->group != MANIFEST_NONE) {
            state->service[i].next_member = state->first_member[m->group];
            state->first_member[m->group] = (uint16_t)i;
        }
        set_add(&state->stale, i);
        set_add(&state->idle, i);
    }
}

/* --- Deadlines: a binary heap, soonest first, lower index first among equals ---------------- */
static bool sooner(const struct supervisor_state *state, uint32_t a, uint32_t b)
{
    uint64_t at = state->service[a].deadline_ns, bt = state->service[b].deadline_ns;
    return at < bt || (at == bt && a < b);
}

static void place(struct supervisor_state *state, uint32_t slot, uint32_t i)
{
    state->deadline[slot] = (uint16_t)i;
    state->service[i].deadline_slot = (uint16_t)slot;
}

/* Slot is free or holds i: moves others until i fits into it, or into one it freed. */
static void sift(struct supervisor_state *state, uint32_t slot, uint32_t i)
{
    for (; slot > 1 && sooner(state, i, state->deadline[slot / 2]); slot /= 2)
        place(state, slot, state->deadline[slot / 2]);
    for (;;) {
        uint32_t child = 2 * slot;
        if (child > state->deadlines) break;
        if (child < state->deadlines && sooner(state, state->deadline[child + 1], state->deadline[child]))
            child++;
        if (!sooner(state, state->deadline[child], i)) break;
        place(state, slot, state->deadline[child]);
        slot = child;
    }
    place(state, slot, i);
}

void deadline_set(struct supervisor_state *state, uint32_t i, uint64_t ns)
{
    struct supervised *s = &state->service[i];
    uint32_t slot = s->deadline_slot;
    s->deadline_ns = ns;
    if (ns != SUPERVISOR_NEVER) {
        sift(state, slot ? slot : ++state->deadlines, i);
    } else if (slot) {
        uint32_t last = state->deadline[state->deadlines--];
        s->deadline_slot = 0;
        if (last != i) sift(state, slot, last);
    }
}

uint32_t deadline_first(const struct supervisor_state *state)
{
    return state->deadlines ? state->deadline[1] : SET_NONE;
}
