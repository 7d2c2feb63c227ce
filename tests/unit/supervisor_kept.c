/* SPDX-License-Identifier: BSD-2-Clause
 * Kept services in the policy core: who goes on with what it had, and when it is lost after all. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include "supervisor/core.h"

#define SERVICES 4u
#define MS       1000000ull

static struct manifest *manifest;
static struct supervisor_state *state;
static struct supervisor_action action[64];
static size_t actions;
static uint64_t now;

/* 1 is kept; 2 restarts with it; 3 has nothing to do with them. */
static void world_make(void)
{
    manifest = calloc(1, sizeof(*manifest) + SERVICES * sizeof(struct manifest_service));
    manifest->service_count = SERVICES;
    for (uint32_t i = 0; i < SERVICES; i++)
        manifest->service[i] = (struct manifest_service){.group = MANIFEST_NONE,
                                                         .intensity = 8,
                                                         .period_ms = 1000,
                                                         .start_timeout_ms = 100,
                                                         .backoff_factor_pct = 100};
    manifest->service[1].flags = SERVICE_KEPT;
    manifest->service[2].depend_count = 1;
    manifest->service[2].depend[0] = (struct manifest_depend){1, DEPEND_RESTART_WITH};
    state = calloc(1, supervisor_state_size(SERVICES));
    supervisor_init(state, manifest);
}

static void happen(enum supervisor_event_kind kind, uint32_t i, enum cause cause, uint64_t code)
{
    struct supervisor_event e = {
        .kind = kind, .service = i, .generation = state->service[i].generation, .cause = cause, .code = code};
    now += MS;
    actions = supervisor_step(state, &e, now, action, 64);
    cr_assert(supervisor_invariants(state));
}

static const struct supervisor_action *done(enum supervisor_action_kind kind, uint32_t i)
{
    for (size_t n = 0; n < actions; n++)
        if (action[n].kind == kind && action[n].service == i) return &action[n];
    return NULL;
}

static void all_serve(void)
{
    happen(SUPERVISOR_EVENT_BOOT, 0, 0, 0);
    for (uint32_t i = 1; i < SERVICES; i++) happen(SUPERVISOR_EVENT_READY, i, 0, 0);
}

TestSuite(kept, .init = world_make);

Test(kept, nobody_restarts_with_it)
{
    all_serve();
    for (unsigned n = 0; n < 3; n++) {
        happen(SUPERVISOR_EVENT_DEATH, 1, CAUSE_PAGE_FAULT, 0);
        cr_assert_null(done(SUPERVISOR_ACTION_KILL, 2));
        const struct supervisor_action *start = done(SUPERVISOR_ACTION_START, 1);
        cr_assert(start && !start->fresh);
        cr_assert_eq(state->service[2].state, SERVICE_STATE_RUNNING);
    }
    happen(SUPERVISOR_EVENT_READY, 1, 0, 0);
    cr_assert_eq(state->service[2].generation, 1);
}

static void lost(void)
{
    cr_assert(done(SUPERVISOR_ACTION_KILL, 2));
    const struct supervisor_action *start = done(SUPERVISOR_ACTION_START, 1);
    cr_assert(start && start->fresh, "not with what it kept");
    happen(SUPERVISOR_EVENT_DEATH, 2, CAUSE_DEPENDENCY, 0);
    happen(SUPERVISOR_EVENT_RESUME, 0, 0, 0);
    start = done(SUPERVISOR_ACTION_START, 1);
    cr_assert(start && start->fresh, "said again as it was");
    happen(SUPERVISOR_EVENT_READY, 1, 0, 0);
    cr_assert_eq(state->service[2].state, SERVICE_STATE_STARTING);
    cr_assert_not(state->service[1].fresh);
}

Test(kept, what_it_finds_is_not_sound)
{
    all_serve();
    happen(SUPERVISOR_EVENT_DEATH, 1, CAUSE_EXIT, E_STATE);
    lost();
}

Test(kept, it_cannot_be_made_to_go_on)
{
    all_serve();
    happen(SUPERVISOR_EVENT_DEATH, 1, CAUSE_PAGE_FAULT, 0);
    happen(SUPERVISOR_EVENT_DEATH, 1, CAUSE_SPAWN, 0);
    lost();
}

Test(kept, it_dies_of_what_it_finds)
{
    all_serve();
    for (unsigned n = 0; n < 1 + SUPERVISOR_UNREADY_MAX; n++) {
        happen(SUPERVISOR_EVENT_DEATH, 1, CAUSE_PAGE_FAULT, 0);
        cr_assert_null(done(SUPERVISOR_ACTION_KILL, 2), "death %u", n);
    }
    happen(SUPERVISOR_EVENT_DEATH, 1, CAUSE_PAGE_FAULT, 0);
    lost();
}

Test(kept, given_up_it_takes_its_followers_along)
{
    all_serve();
    manifest->service[1].intensity = 1;
    happen(SUPERVISOR_EVENT_DEATH, 1, CAUSE_PAGE_FAULT, 0);
    happen(SUPERVISOR_EVENT_READY, 1, 0, 0);
    happen(SUPERVISOR_EVENT_DEATH, 1, CAUSE_PAGE_FAULT, 0);
    cr_assert_eq(state->service[1].state, SERVICE_STATE_GAVE_UP);
    cr_assert(done(SUPERVISOR_ACTION_KILL, 2));
    cr_assert_eq(state->service[3].state, SERVICE_STATE_RUNNING);
}

/* Who goes on from a snapshot serves at once. Only the snapshot can tell whether that is of use: it may be spoilt. */
Test(kept, a_snapshot_is_gone_back_to_a_few_times)
{
    all_serve();
    for (unsigned n = 0; n < 20; n++) { /* each time another one */
        happen(SUPERVISOR_EVENT_DEATH, 1, CAUSE_PAGE_FAULT, 0);
        now += 1000 * MS;
        cr_assert(!done(SUPERVISOR_ACTION_START, 1)->fresh);
        happen(SUPERVISOR_EVENT_READY, 1, 0, 1);
        cr_assert_eq(state->service[1].state, SERVICE_STATE_RUNNING);
    }
    for (unsigned n = 2; n <= SUPERVISOR_UNREADY_MAX + 1; n++) { /* the same again and again */
        happen(SUPERVISOR_EVENT_DEATH, 1, CAUSE_EXIT, 1);
        now += 1000 * MS;
        cr_assert(!done(SUPERVISOR_ACTION_START, 1)->fresh, "after %u", n);
        happen(SUPERVISOR_EVENT_READY, 1, 0, n);
    }
    happen(SUPERVISOR_EVENT_DEATH, 1, CAUSE_EXIT, 1);
    lost();
}
