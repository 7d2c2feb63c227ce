/* SPDX-License-Identifier: BSD-2-Clause
 * Two states, one of them always between steps (core_twin.h). Invariant: done[1] <= done[0] <= steps <= done[1] + 1,
 * and whichever counter is behind says that its state may be half way. Each counter changes by one store, after
 * what it counts and before what follows. */
#include "core_twin.h"

static void count(uint64_t *counter, uint64_t value) { __atomic_store_n(counter, value, __ATOMIC_SEQ_CST); }

static void copy(struct twin *t, unsigned to)
{
    __builtin_memcpy(t->state[to], t->state[!to], supervisor_state_size(t->state[!to]->count));
    count(&t->done[to], t->done[!to]);
}

void twin_init(struct twin *t, struct supervisor_state *first, struct supervisor_state *second)
{
    *t = (struct twin){.state = {first, second}};
    copy(t, 1);
}

static size_t make(struct twin *t, unsigned which, struct supervisor_action *action, size_t max)
{
    size_t n = supervisor_step(t->state[which], &t->event, t->now_ns, action, max);
    count(&t->done[which], t->steps);
    return n;
}

size_t twin_step(struct twin *t, const struct supervisor_event *event, uint64_t now_ns,
                 struct supervisor_action *action, size_t max)
{
    t->event = *event;
    t->now_ns = now_ns;
    count(&t->steps, t->steps + 1);
    return make(t, 0, action, max);
}

void twin_follow(struct twin *t, struct supervisor_action *scratch, size_t max)
{
    (void)make(t, 1, scratch, max);
}

static bool possible(const struct supervisor_state *state, const struct manifest *manifest)
{
    return state->manifest == manifest && state->count == manifest->service_count &&
           state->deadlines <= MANIFEST_SERVICES && supervisor_invariants(state);
}

static enum twin_found whole(struct twin *t, const struct manifest *manifest)
{
    bool good[2] = {possible(t->state[0], manifest), possible(t->state[1], manifest)};
    if (!good[0] && !good[1]) return TWIN_LOST;
    bool equal =
        good[0] && good[1] &&
        __builtin_memcmp(t->state[0], t->state[1], supervisor_state_size(manifest->service_count)) == 0;
    if (equal) return TWIN_WHOLE;
    copy(t, good[0]);
    return TWIN_DIFFERENT;
}

enum twin_found twin_recover(struct twin *t, const struct manifest *manifest,
                             struct supervisor_action *scratch, size_t max)
{
    if (t->done[0] == t->steps && t->done[1] == t->steps) return whole(t, manifest);
    if (t->done[1] + 1 != t->steps || t->done[0] + 1 < t->steps || t->done[0] > t->steps) return TWIN_LOST;
    bool first_done = t->done[0] == t->steps;
    if (!possible(t->state[!first_done], manifest)) return TWIN_LOST;
    if (!first_done) {
        copy(t, 0); /* leaves done[0] as it is: one behind */
        (void)make(t, 0, scratch, max);
    }
    copy(t, 1);
    return TWIN_REPAIRED;
}
