/* SPDX-License-Identifier: BSD-2-Clause
 * What must hold. After every step of the supervisor's core: its own invariants, and what this file knows by
 * itself about dependencies and budgets, from what really happened. After every call of recovery's core: one
 * table entry for each session. At rest: everybody is where he should be, and nobody waits in vain. */
#include <stdio.h>
#include <string.h>
#include "sim.h"

static const struct manifest_service *entry(uint32_t i) { return &plan.file.service[i]; }
static enum service_state state_of(uint32_t i) { return world.state->service[i].state; }

void check_reset(void)
{
    uint32_t where;
    const char *wrong = manifest_check(&plan.file, plan.file.head.size, &where);

    if (wrong) sim_fail("service %u of the plan: %s", where, wrong);
}

/* --- Budgets ------------------------------------------------------------------------------------------ */

static void death_counted(uint32_t i)
{
    uint32_t *n = &world.counted_count[i];

    if (*n == SUPERVISOR_INTENSITY_MAX + 2) {
        memmove(world.counted[i], world.counted[i] + 1, (*n - 1) * sizeof(uint64_t));
        (*n)--;
    }
    world.counted[i][(*n)++] = world.now_ns;
}

static void check_budget(uint32_t i)
{
    uint32_t within = 0;

    for (uint32_t n = 0; n < world.counted_count[i]; n++)
        within += world.now_ns - world.counted[i][n] <= entry(i)->period_ms * MS;
    if (within > entry(i)->intensity)
        sim_fail("service %u is restarted after %u deaths in its period, %u are allowed", i, within,
                 entry(i)->intensity);
}

/* --- The supervisor's steps ------------------------------------------------------------------------------ */

static bool serves_or_ended(uint32_t i)
{
    return state_of(i) == SERVICE_STATE_RUNNING || state_of(i) == SERVICE_STATE_DONE;
}

/* Nothing of i's process is left in anybody that must restart with it. */
static void check_followers(uint32_t i)
{
    bool follows[SERVICES_MAX] = {false};

    follows[i] = true;
    for (uint32_t j = i + 1; j < plan.services; j++) {
        for (uint32_t d = 0; d < entry(j)->depend_count; d++)
            follows[j] |=
                entry(j)->depend[d].kind == DEPEND_RESTART_WITH && follows[entry(j)->depend[d].service];
        follows[j] &= state_of(j) != SERVICE_STATE_DONE; /* ended for good: restarts with nobody */
        if (follows[j] && world.process[j].alive && state_of(j) != SERVICE_STATE_STOPPING)
            sim_fail("service %u starts while service %u, which restarts with it, lives", i, j);
    }
}

void check_started(uint32_t i)
{
    for (uint32_t d = 0; d < entry(i)->depend_count; d++)
        if (!serves_or_ended(entry(i)->depend[d].service))
            sim_fail("service %u starts before service %u serves", i, entry(i)->depend[d].service);
    if (world.process[i].alive) sim_fail("service %u starts twice", i);
    if (world.state->phase != PHASE_RUN) sim_fail("service %u starts in a system that stops", i);
    check_followers(i);
    check_groups_start(i);
    if (world.state->service[i].generation > 1) check_budget(i);
}

static void book_death(const struct supervisor_event *event, enum service_state was)
{
    uint32_t i = event->service;
    enum service_state is = state_of(i);

    if (event->generation != world.process[i].generation && event->cause != CAUSE_SPAWN) return;
    if (!supervisor_state_live(was)) return;
    sometimes(KILLED_STARTING, was == SERVICE_STATE_STARTING);
    sometimes(DIED_TWICE_STARTING, was == SERVICE_STATE_STARTING && world.state->service[i].restarts > 1);
    sometimes(FAILING_DIED_OTHERWISE, was == SERVICE_STATE_FAILING && event->cause == CAUSE_INJECTED);
    sometimes(STOPPING_DIED_OTHERWISE, was == SERVICE_STATE_STOPPING && event->cause == CAUSE_INJECTED);
    sometimes(START_TIMEOUT, event->cause == CAUSE_START_TIMEOUT);
    sometimes(HUNG_FOUND, event->cause == CAUSE_STALLED && plan.role[i] == ROLE_DRIVER);
    sometimes(ABSENT, is == SERVICE_STATE_ABSENT);
    bool back = world.rolled_back; /* and perhaps, in the same step, another version already */
    const struct supervised *s = &world.state->service[i];
    if (back && !s->on_probation && s->program != world.was_previous)
        sim_fail("service %u is rolled back to program %u instead of %u", i, s->program, world.was_previous);
    sometimes(ROLLED_BACK, back && world.was_on_probation);
    sometimes(FELL_BACK, back && !world.was_on_probation);
    if (world.was_on_probation && back) return; /* the version's, not counted */
    bool counts = was != SERVICE_STATE_STOPPING && is != SERVICE_STATE_DONE && is != SERVICE_STATE_ABSENT;
    if (counts) death_counted(i);
    check_groups(i, counts, back);
    if (back) world.counted_count[i] = 0; /* the previous version begins anew */
    bool escalated = (is == SERVICE_STATE_WAITING || is == SERVICE_STATE_STARTING) &&
                     was != SERVICE_STATE_STOPPING && s->window_count == 0;
    sometimes(ESCALATED, escalated && world.counted_count[i]);
    if (escalated) world.counted_count[i] = 0; /* counts below, from here on */
}

static void book_states(void)
{
    uint32_t in[SERVICE_STATES] = {0};

    for (uint32_t i = 1; i < plan.services; i++) {
        in[state_of(i)]++;
        bool by_dependency = world.state->service[i].cause == CAUSE_DEPENDENCY;
        sometimes(GAVE_UP_BY_DEPENDENCY, by_dependency && state_of(i) == SERVICE_STATE_GAVE_UP);
        sometimes(ABSENT_BY_DEPENDENCY, by_dependency && state_of(i) == SERVICE_STATE_ABSENT);
    }
    sometimes(BACKOFF, in[SERVICE_STATE_BACKOFF] > 0);
    sometimes(TWO_IN_BACKOFF, in[SERVICE_STATE_BACKOFF] > 1);
    sometimes(GAVE_UP, in[SERVICE_STATE_GAVE_UP] > 0);
    sometimes(GAVE_UP_RECOVERY, state_of(RECOVERY) == SERVICE_STATE_GAVE_UP);
    for (uint32_t i = 1; i < plan.services; i++) {
        const struct supervised *s = &world.state->service[i];
        sometimes(BREAKER, s->state == SERVICE_STATE_GAVE_UP && s->reason == REASON_BREAKER);
        sometimes(ALL_TOGETHER, s->state == SERVICE_STATE_STOPPING && entry(i)->group != MANIFEST_NONE &&
                                    plan.file.head.group[entry(i)->group].strategy == STRATEGY_ONE_FOR_ALL);
        sometimes(BACKED_OFF_FAR, s->state == SERVICE_STATE_BACKOFF && s->backoff_level > 3);
    }
    sometimes(REBOOTED, world.state->phase == PHASE_HALTED && world.state->halt_code == SYSTEM_REBOOT);
    sometimes(DONE, in[SERVICE_STATE_DONE] > 0);
    sometimes(STOPPED_WITH_ANOTHER, in[SERVICE_STATE_STOPPING] > 0 && world.state->phase == PHASE_RUN);
    sometimes(STOPPED_CHAIN, in[SERVICE_STATE_STOPPING] > 2 && world.state->phase == PHASE_RUN);
    sometimes(ALL_DOWN, in[SERVICE_STATE_RUNNING] + in[SERVICE_STATE_STARTING] == 0);
    sometimes(HALTED, world.state->phase == PHASE_HALTED);
}

/* --- Updates ---------------------------------------------------------------------------------------------- */

/* From the order until the new version serves, or the old one is what it is again. */
static bool updating(uint32_t i)
{
    const struct supervised *s = &world.state->service[i];

    return s->updating || (s->on_probation && s->state != SERVICE_STATE_RUNNING);
}

static uint32_t updated_driver(void) /* 0: none */
{
    for (uint32_t i = 2; i < plan.services; i++)
        if (plan.role[i] == ROLE_DRIVER && updating(i)) return i;
    return 0;
}

void combined_note(uint32_t i)
{
    uint32_t driver = updated_driver();

    if (driver == 0) return;
    world.supervisor_fell |= i == 0;
    world.other_fell |= i == RECOVERY || i == driver;
    sometimes(COMBINED, world.supervisor_fell && world.other_fell);
}

/* After a step for service i: an update that was under way is over. */
static void combined_look(uint32_t i)
{
    if (updated_driver() != 0) return;
    if (world.supervisor_fell && world.other_fell) {
        sometimes(COMBINED_HELD, world.state->service[i].on_probation);
        sometimes(COMBINED_BACK, world.state->service[i].rolled_back);
    }
    world.supervisor_fell = world.other_fell = false;
}

void check_event(const struct supervisor_event *event, enum service_state was)
{
    sometimes(UPDATED, world.state->service[event->service].on_probation && !world.was_on_probation);
    for (uint32_t i = 1; event->kind == SUPERVISOR_EVENT_TICK && i < plan.services; i++)
        sometimes(PROVEN, world.state->service[i].has_previous && !world.state->service[i].on_probation);
    combined_look(event->service);
    if (event->kind == SUPERVISOR_EVENT_DEATH) book_death(event, was);
    if (event->kind == SUPERVISOR_EVENT_RESET && was != state_of(event->service)) {
        sometimes(RESET_AFTER_GAVE_UP, was == SERVICE_STATE_GAVE_UP);
        world.counted_count[event->service] = 0;
    }
    bool down = was == SERVICE_STATE_GAVE_UP || was == SERVICE_STATE_ABSENT || was == SERVICE_STATE_DONE;
    if (event->kind == SUPERVISOR_EVENT_RESET && down && world.state->phase == PHASE_RUN)
        check_groups_reset(event->service); /* also where its dependencies keep it down */
    book_states();
}

void check_supervisor(void)
{
    if (!supervisor_invariants(world.state)) sim_fail("an invariant of the supervisor's core does not hold");
}

/* --- Recovery's steps --------------------------------------------------------------------------------------- */

void check_recovery(void)
{
    uint32_t used = 0;

    for (uint32_t i = 0; i < plan.services; i++) {
        const struct server *v = &world.server[i];
        for (uint64_t left = v->used; left; left &= left - 1, used++) {
            uint32_t index = (uint32_t)__builtin_ctzl(left);
            const struct rsession *s = &world.core.session[v->session[index]];
            if (s->state == SESSION_FREE || s->server != i || s->index != index)
                sim_fail("session %lu is not where service %u's table says", s->id, i);
        }
    }
    if (used != world.core.sessions) sim_fail("%u sessions, %u in tables", world.core.sessions, used);
}

/* --- Rest ------------------------------------------------------------------------------------------------ */

static char unsettled[128];

static bool not_settled(uint32_t i, const char *what)
{
    snprintf(unsettled, sizeof(unsettled), "service %u %s", i, what);
    return false;
}

static bool down_for_good(uint32_t i)
{
    switch (state_of(i)) {
    case SERVICE_STATE_GAVE_UP:
    case SERVICE_STATE_ABSENT:
    case SERVICE_STATE_DONE: return true;
    case SERVICE_STATE_WAITING: break;
    default: return false;
    }
    for (uint32_t d = 0; d < entry(i)->depend_count; d++) {
        uint32_t on = entry(i)->depend[d].service;
        if (!serves_or_ended(on) && down_for_good(on)) return true;
    }
    return waits_for_group(i, down_for_good);
}

static uint32_t pending_at(uint32_t driver)
{
    struct watch_sample sample;

    recovery_sample(&world.core, &world.server[driver], world.now_ns, &sample);
    return sample.pending;
}

/* A session that it has not got, or does not know to be closed, as when its SESSION_GET was given up on: somebody waits
 * for a successor. */
static bool lacks_session(uint32_t driver)
{
    for (uint64_t left = world.server[driver].used; left != 0; left &= left - 1) {
        const struct rsession *s = &world.core.session[world.server[driver].session[__builtin_ctzl(left)]];
        if (s->state == SESSION_CLOSING || s->held_generation != world.process[driver].generation)
            return true;
    }
    return false;
}

/* It would have answered, had it been asked. */
bool check_idle(uint32_t driver)
{
    const struct process *p = &world.process[driver];

    return p->alive && !p->hung && p->waiting == WAIT_SIGNAL && pending_at(driver) == 0 &&
           !lacks_session(driver);
}

/* CAVEATS.md: a recovery that hangs while nobody calls it is not found, and finds nobody. */
static bool watcher_hangs(void)
{
    bool hangs = world.process[RECOVERY].hung && world.calls[1].count == 0 && world.taken == 0;

    sometimes(WATCHER_HANGS, hangs);
    return hangs;
}

/* A client has all its answers, or the one who owes them is down for good. */
static bool client_settled(uint32_t i)
{
    const struct process *p = &world.process[i];
    uint32_t driver = plan.serves[i];

    if (world.client[i].finished || p->hung) {
        sometimes(CLIENT_FINISHED, world.client[i].finished);
        return true;
    }
    if (down_for_good(driver) || down_for_good(RECOVERY)) {
        sometimes(CLIENT_STRANDED, true);
        return true;
    }
    if (watcher_hangs()) return true;
    return not_settled(i, p->waiting == WAIT_REPLY ? "waits for a reply" : "waits for completions");
}

static bool service_settled(uint32_t i)
{
    const struct process *p = &world.process[i];

    if (state_of(i) != SERVICE_STATE_RUNNING)
        return down_for_good(i) ? true : not_settled(i, "is neither up nor down for good");
    if (!p->alive) return not_settled(i, "is dead and called running");
    if (world.state->service[i].updating || world.state->service[i].on_probation)
        return not_settled(i, "has an update that does not end");
    if (!growth_settled(i)) return not_settled(i, "leaks, and nobody finds it");
    if (!standby_settled(i)) return not_settled(i, "has no spare");
    if (plan.role[i] == ROLE_CLIENT) return client_settled(i);
    if (plan.role[i] == ROLE_DRIVER && (p->hung || p->waiting != WAIT_SIGNAL) && pending_at(i) > 0 &&
        !down_for_good(RECOVERY) && !watcher_hangs())
        return not_settled(i, "has work and does nothing");
    if (i == RECOVERY && p->hung && (world.calls[1].count || world.taken))
        return not_settled(i, "hangs and has callers");
    return true;
}

bool world_settled(void)
{
    if (world.halted) return true;
    if (world.supervisor_down || world.events || world.calls[0].count) return not_settled(0, "has work");
    for (uint32_t i = 1; i < plan.services; i++)
        if (!service_settled(i)) return false;
    return true;
}

const char *world_unsettled(void)
{
    unsettled[0] = 0;
    return world_settled() ? "everything has settled" : unsettled;
}
