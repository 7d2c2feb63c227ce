/* SPDX-License-Identifier: BSD-2-Clause
 * The policy core (core.h). Owns the state of every service and nothing else.
 * Every state change goes through step_enter(); who makes which, by the state entered:
 *   WAITING   on_death (restart without backoff, or after STOPPING), on_tick (backoff over),
 * on_reset, on_device, judge (what it was down with is no longer down) STARTING  judge (all that it depends on
 * serves) RUNNING   on_ready FAILING   fail: on_complaint, on_device, on_kill, on_tick (start timeout)
 *   STOPPING  stop_followers (a service it restarts with died), on_stop
 *   BACKOFF   on_death
 *   GAVE_UP   on_death (intensity), judge (a service it restarts with gave up; generations ran out)
 *   ABSENT    on_death (optional, device not found; or refused), judge (optional, depends on an absent one; unplugged)
 *   DONE      on_death (restart kind), on_stop
 * A one_for_all group stops and starts as one (of groups in groups: core_group.c). A rest_for_one group is the same as restart-with edges from each member to all earlier members.
 * Services are sorted: what is depended on has the smaller index, so one pass forwards settles all, but for
 * one_for_all groups, whose members look at each other: passes go on until nobody is stale. The
 * pass visits only those whose verdict may have changed (core_index.h): a step costs as much as it affects.
 */
#include "core_index.h"
#include "core_step.h"
#include "abi/syscall.h"
#include "abi/trace.h"

bool supervisor_state_live(enum service_state state)
{
    return state == SERVICE_STATE_STARTING || state == SERVICE_STATE_RUNNING ||
           state == SERVICE_STATE_FAILING || state == SERVICE_STATE_STOPPING;
}

uint32_t supervisor_live(const struct supervisor_state *state)
{
    uint32_t live = 0;
    for (enum service_state s = 0; s < SERVICE_STATES; s++)
        if (supervisor_state_live(s)) live += state->in_state[s];
    return live;
}

struct supervisor_action *step_act(struct step *step, enum supervisor_action_kind kind, uint32_t i)
{
    ASSERT(step->count < step->max);
    struct supervisor_action *action = &step->action[step->count++];
    *action = (struct supervisor_action){.kind = kind, .service = i};
    action->generation = step->state->service[i].generation;
    return action;
}

static void ask_for_tick(struct step *step, uint64_t ns)
{
    /* A later deadline needs no new timer: the earlier TICK looks at all of them. */
    if (ns < step->state->timer_ns) step->state->timer_ns = ns;
}

void step_deadline(struct step *step, uint32_t i, uint64_t ns)
{
    deadline_set(step->state, i, ns);
    if (ns != SUPERVISOR_NEVER) ask_for_tick(step, ns);
}

static bool down_for_good(enum service_state state)
{
    return state == SERVICE_STATE_GAVE_UP || state == SERVICE_STATE_ABSENT || state == SERVICE_STATE_DONE;
}

void step_enter(struct step *step, uint32_t i, enum service_state to, uint64_t deadline_ns)
{
    struct supervisor_state *state = step->state;
    state->in_state[state->service[i].state]--;
    state->in_state[to]++;
    state->service[i].state = to;
    step_deadline(step, i, deadline_ns);
    if (down_for_good(to)) spare_end(step, i);
    index_entered(state, i);
}

static void report(struct step *step, uint32_t i)
{
    const struct supervised *s = &step->state->service[i];
    struct supervisor_action *action = step_act(step, SUPERVISOR_ACTION_REPORT, i);
    action->cause = s->cause;
    action->value = s->state;
    action->ns = s->deadline_ns;
    action->reason = s->reason;
}

/* Ends a live process; the death it leads to is handled by the state it dies in. */
void step_kill(struct step *step, uint32_t i, enum service_state to, enum cause cause)
{
    ASSERT(supervisor_serving(step->state->service[i].state));
    step_act(step, SUPERVISOR_ACTION_KILL, i)->cause = cause;
    step->state->service[i].condemned_for = cause;
    step_enter(step, i, to, SUPERVISOR_NEVER);
}

static void fail(struct step *step, uint32_t i, enum cause cause)
{
    step_kill(step, i, SERVICE_STATE_FAILING, cause);
}

/* --- Groups and dependencies ---------------------------------------------------------------- */
/* Last started, first killed. */
void stop_followers(struct step *step, uint32_t i)
{
    struct supervisor_state *state = step->state;
    index_followers(state, i);
    for (uint32_t j; (j = set_highest(&state->marked)) != SET_NONE;) {
        set_remove(&state->marked, j);
        if (supervisor_serving(state->service[j].state))
            step_kill(step, j, SERVICE_STATE_STOPPING, CAUSE_DEPENDENCY);
    }
}

static enum verdict verdict_of_edge(const struct supervisor_state *state, uint32_t i,
                                    const struct manifest_depend *edge)
{
    switch (state->service[edge->service].state) {
    case SERVICE_STATE_RUNNING:
    case SERVICE_STATE_DONE: return VERDICT_START;
    case SERVICE_STATE_GAVE_UP: return edge->kind == DEPEND_RESTART_WITH ? VERDICT_GIVE_UP : VERDICT_WAIT;
    case SERVICE_STATE_ABSENT:
        return entry_of(state, i)->flags & SERVICE_OPTIONAL ? VERDICT_LEAVE : VERDICT_WAIT;
    default: return VERDICT_WAIT;
    }
}

/* What an earlier member of a rest_for_one group means for later ones. */
enum verdict verdict_of_member(enum service_state state)
{
    switch (state) {
    case SERVICE_STATE_RUNNING:
    case SERVICE_STATE_DONE:
    case SERVICE_STATE_ABSENT: return VERDICT_START;
    case SERVICE_STATE_GAVE_UP: return VERDICT_GIVE_UP;
    default: return VERDICT_WAIT;
    }
}

/* What a member of a one_for_all group means for the others. */
enum verdict verdict_of_partner(const struct supervised *s)
{
    if (s->state == SERVICE_STATE_GAVE_UP && s->cause != CAUSE_DEPENDENCY) return VERDICT_GIVE_UP;
    bool down = s->state == SERVICE_STATE_FAILING || s->state == SERVICE_STATE_STOPPING ||
                s->state == SERVICE_STATE_BACKOFF;
    return down ? VERDICT_WAIT : VERDICT_START;
}

/* Members of a one_for_all group start together: not before the last of them is down and has waited. */
static enum verdict verdict_of_all(const struct supervisor_state *state, uint32_t i)
{
    enum verdict verdict = VERDICT_START;
    for (uint32_t j = index_first_of_all(state, i); j != SET_NONE; j = state->service[j].next_member)
        if (j != i) verdict = verdict_worse(verdict, verdict_of_partner(&state->service[j]));
    return verdict;
}

struct order { /* of a group's members: those before next have been looked at */
    uint32_t next;
    enum verdict verdict;
};

static enum verdict verdict_of_group(const struct supervisor_state *state, uint32_t i, struct order group[])
{
    uint16_t g = entry_of(state, i)->group;
    if (g == MANIFEST_NONE || state->manifest->group[g].strategy == STRATEGY_ONE_FOR_ONE)
        return VERDICT_START;
    if (state->manifest->group[g].strategy == STRATEGY_ONE_FOR_ALL) return verdict_of_all(state, i);
    struct order *o = &group[g];
    for (; o->next != i; o->next = state->service[o->next].next_member)
        o->verdict = verdict_worse(o->verdict, verdict_of_member(state->service[o->next].state));
    return o->verdict;
}

static enum verdict verdict_of(const struct supervisor_state *state, uint32_t i, struct order group[])
{
    const struct manifest_service *m = entry_of(state, i);
    enum verdict verdict = verdict_worse(verdict_of_group(state, i, group), verdict_of_tree(state, i));
    for (uint32_t d = 0; d < m->depend_count; d++)
        verdict = verdict_worse(verdict, verdict_of_edge(state, i, &m->depend[d]));
    return verdict;
}

static void on_stop(struct step *step, uint64_t code);

static void give_up(struct step *step, uint32_t i, enum give_up_reason reason)
{
    step->state->service[i].reason = reason;
    step_enter(step, i, SERVICE_STATE_GAVE_UP, SUPERVISOR_NEVER);
    step_act(step, SUPERVISOR_ACTION_MARK, i)->value = MARK_GAVE_UP;
    report(step, i);
    if (entry_of(step->state, i)->on_give_up == GIVE_UP_REBOOT) on_stop(step, SYSTEM_REBOOT);
}

static void act_start(struct step *step, uint32_t i)
{
    const struct supervised *s = &step->state->service[i];
    struct supervisor_action *action = step_act(step, SUPERVISOR_ACTION_START, i);
    action->value = s->program;
    action->fresh = s->fresh;
}

static void start(struct step *step, uint32_t i)
{
    struct supervised *s = &step->state->service[i];
    uint32_t generation = spare_take(step, i);
    if (generation == 0) {
        give_up(step, i, REASON_GENERATIONS);
        return;
    }
    bool again = s->generation != 0;
    s->generation = generation;
    s->ready_ns = 0;
    s->reason = REASON_NONE;
    if (again) {
        s->restarts++;
        step->state->restarts++;
        step_act(step, SUPERVISOR_ACTION_MARK, i)->value = MARK_DECIDED;
    }
    act_start(step, i);
    step_enter(step, i, SERVICE_STATE_STARTING,
               step->now_ns + entry_of(step->state, i)->start_timeout_ms * NS_PER_MS);
}

/* Down only because of another service: judged anew at each step. */
static bool down_by_dependency(const struct supervised *s)
{
    return (s->state == SERVICE_STATE_ABSENT || s->state == SERVICE_STATE_GAVE_UP) &&
           s->cause == CAUSE_DEPENDENCY;
}

/* Instead of a start. It is judged again when the device is back. */
static void leave_unplugged(struct step *step, uint32_t i)
{
    step->state->service[i].cause = CAUSE_UNPLUGGED;
    step_enter(step, i, SERVICE_STATE_ABSENT, SUPERVISOR_NEVER);
    report(step, i);
}

static void judge(struct step *step, uint32_t i, enum verdict verdict)
{
    static const enum service_state entered[] = {[VERDICT_WAIT] = SERVICE_STATE_WAITING,
                                                 [VERDICT_LEAVE] = SERVICE_STATE_ABSENT,
                                                 [VERDICT_GIVE_UP] = SERVICE_STATE_GAVE_UP};
    struct supervised *s = &step->state->service[i];
    if (verdict == VERDICT_START) {
        if (s->unplugged)
            leave_unplugged(step, i);
        else
            start(step, i);
        return;
    }
    if (s->state == entered[verdict]) return;
    step_enter(step, i, entered[verdict], SUPERVISOR_NEVER);
    if (verdict == VERDICT_WAIT) return;
    s->cause = CAUSE_DEPENDENCY;
    s->reason = REASON_DEPENDENCY;
    report(step, i);
}

/* Every service that waits, or is down by dependency, gets its verdict if that may have changed. */
static void settle_pass(struct step *step)
{
    struct supervisor_state *state = step->state;
    struct order group[sizeof(state->first_member) / sizeof(state->first_member[0])];
    for (size_t g = 0; g < sizeof(group) / sizeof(group[0]); g++)
        group[g] = (struct order){state->first_member[g], VERDICT_START};
    for (uint32_t i = 0; (i = set_after(&state->stale, i)) != SET_NONE;) {
        const struct supervised *s = &state->service[i];
        if (s->state == SERVICE_STATE_WAITING || down_by_dependency(s))
            judge(step, i, verdict_of(state, i, group));
        set_remove(&state->stale, i);
        if (state->phase != PHASE_RUN) return; /* one was given up that the system does not go on without */
    }
}

static void settle(struct step *step)
{
    while (step->state->phase == PHASE_RUN && step->state->stale.summary) settle_pass(step);
}

/* --- Intensity and backoff -----------------------------------------------------------------------
 */
/* Counts a death; false: more than intensity within the period. A death exactly one period old
 * counts. */
static bool window_count(struct step *step, uint32_t i)
{
    const struct manifest_service *m = entry_of(step->state, i);
    struct supervised *s = &step->state->service[i];
    const uint32_t ring = SUPERVISOR_INTENSITY_MAX + 1;
    while (s->window_count && step->now_ns - s->window[s->window_first] > m->period_ms * NS_PER_MS) {
        s->window_first = (s->window_first + 1) % ring;
        s->window_count--;
    }
    ASSERT(s->window_count < ring);
    s->window[(s->window_first + s->window_count++) % ring] = step->now_ns;
    return s->window_count <= m->intensity;
}

/* 0 to pct, the same in every run: services that died together do not come back together. */
static uint64_t dice(uint32_t i, uint32_t generation, uint32_t pct)
{
    uint64_t z = ((uint64_t)i << 32 | generation) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    return pct ? (z >> 32) % (pct + 1) : 0;
}

static void forget_deaths(struct supervised *s)
{
    s->window_count = s->crashes = 0;
    s->backoff_level = 0;
}

/* Whatever it restarts with is restarted, which counts there and not here. False: nothing such serves. */
static bool subtree_restart(struct step *step, uint32_t i)
{
    const struct manifest_service *m = entry_of(step->state, i);
    bool any = false;
    for (uint32_t d = m->depend_count; d-- > 0;) {
        uint32_t below = m->depend[d].service;
        bool serves = supervisor_serving(step->state->service[below].state);
        if (m->depend[d].kind != DEPEND_RESTART_WITH || !serves) continue;
        fail(step, below, CAUSE_ESCALATED);
        any = true;
    }
    return any;
}

/* The next rungs: the subtree, then the group. False: there is neither, or its policy wants no such thing. */
static bool escalate(struct step *step, uint32_t i, enum give_up_reason reason)
{
    bool of_group = reason == REASON_GROUP;
    if (!of_group && entry_of(step->state, i)->on_give_up != GIVE_UP_ESCALATE) return false;
    if ((of_group || !subtree_restart(step, i)) && !group_fail(step, i, reason)) return false;
    forget_deaths(&step->state->service[i]);
    report(step, i);
    return true;
}

static uint64_t backoff_ns(const struct supervisor_state *state, uint32_t i)
{
    const struct manifest_service *m = entry_of(state, i);
    uint32_t level = m->stable_ms ? state->service[i].backoff_level : state->service[i].window_count - 1u;
    uint64_t ns = m->backoff_initial_ms * NS_PER_MS, max_ns = m->backoff_max_ms * NS_PER_MS;
    for (; level > 0 && ns < max_ns; level--) ns = ns / 100 * m->backoff_factor_pct;
    ns += ns / 100 * dice(i, state->service[i].generation, m->backoff_jitter_pct);
    return ns < max_ns ? ns : max_ns;
}

/* The time that it served without a fault forgives steps of its backoff, and what it crashed of before. */
static void forgive(struct step *step, uint32_t i)
{
    struct supervised *s = &step->state->service[i];
    uint64_t stable_ns = entry_of(step->state, i)->stable_ms * NS_PER_MS;
    if (!stable_ns || !s->ready_ns) return;
    uint64_t steps = (step->now_ns - s->ready_ns) / stable_ns;
    if (steps) s->crashes = 0;
    s->backoff_level = s->backoff_level > steps ? s->backoff_level - (uint32_t)steps : 0;
}

/* Counts a crash; false: the same one as often in a row as the breaker allows. */
static bool crash_count(struct step *step, uint32_t i, const struct supervisor_event *event)
{
    struct supervised *s = &step->state->service[i];
    uint16_t breaker = entry_of(step->state, i)->breaker;
    if (event->cause == CAUSE_NONE || event->cause >= CAUSE_EXIT) return true; /* not by its own code */
    bool same = s->crashes && s->crash_cause == event->cause && s->crash_address == event->address;
    s->crashes = same ? s->crashes + (s->crashes < UINT16_MAX) : 1;
    s->crash_cause = event->cause;
    s->crash_address = event->address;
    return breaker == 0 || s->crashes < breaker;
}

/* Counts a death. REASON_NONE: it is tried again as it is. */
static enum give_up_reason death_count(struct step *step, uint32_t i, const struct supervisor_event *event)
{
    forgive(step, i);
    bool within = window_count(step, i), new = crash_count(step, i, event), held = group_count(step, i);
    if (!held) return REASON_GROUP;
    return !within ? REASON_INTENSITY : !new ? REASON_BREAKER : REASON_NONE;
}

/* It is no use to restart it alone. It waits meanwhile: others that are stopped do not take it with them. */
static void climb(struct step *step, uint32_t i, enum give_up_reason reason)
{
    step_enter(step, i, SERVICE_STATE_WAITING, SUPERVISOR_NEVER);
    if (escalate(step, i, reason)) return;
    if (version_roll_back(step, i)) {
        forget_deaths(&step->state->service[i]);
        group_forget(step->state, i);
        return;
    }
    step->state->service[i].fresh = true;
    stop_followers(step, i); /* of one that was to go on */
    give_up(step, i, reason);
}

/* --- Events --------------------------------------------------------------------------------- */
static void on_boot(struct step *step)
{
    if (step->state->phase == PHASE_NEW) step->state->phase = PHASE_RUN;
}

static void on_ready(struct step *step, uint32_t i, uint64_t rollbacks)
{
    if (step->state->service[i].state != SERVICE_STATE_STARTING) return;
    step->state->service[i].ready_ns = step->now_ns;
    step->state->service[i].fresh = false;
    step->state->service[i].unready = rollbacks < UINT16_MAX ? (uint16_t)rollbacks : UINT16_MAX;
    step_enter(step, i, SERVICE_STATE_RUNNING, SUPERVISOR_NEVER);
    spare_due(step, i);
}

static void halt_if_all_ended(struct step *step)
{
    struct supervisor_state *state = step->state;
    if (supervisor_live(state)) return;
    state->phase = PHASE_HALTED;
    step_act(step, SUPERVISOR_ACTION_HALT, 0)->ns = state->halt_code;
}

/* A kept process goes on with what it had, so nobody restarts with it: unless it says itself that what it finds is
 * not sound (exit code E_STATE), or does not come as far as READY with it, or falls again and again from one snapshot. */
static bool goes_on(struct step *step, uint32_t i, const struct supervisor_event *event)
{
    struct supervised *s = &step->state->service[i];
    if (!(entry_of(step->state, i)->flags & SERVICE_KEPT)) return false;
    bool unsound = event->cause == CAUSE_EXIT && event->code == E_STATE;
    if (!s->ready_ns) s->unready++;
    if (unsound || event->cause == CAUSE_SPAWN || s->unready > SUPERVISOR_UNREADY_MAX) s->fresh = true;
    return !s->fresh;
}

/* The end of a process that nothing else explains: what its restart kind and policy say. */
static void on_failure(struct step *step, uint32_t i, const struct supervisor_event *event)
{
    const struct manifest_service *m = entry_of(step->state, i);
    bool by_itself = event->cause == CAUSE_EXIT;
    bool was_starting = step->state->service[i].state == SERVICE_STATE_STARTING;

    bool not_found = by_itself && was_starting && event->code == E_NOT_FOUND;

    if (step->state->service[i].on_probation) { /* the version's fault and not the service's: not counted */
        stop_followers(step, i);
        (void)version_roll_back(step, i);
        step_enter(step, i, SERVICE_STATE_WAITING, SUPERVISOR_NEVER);
        return;
    }

    if (step->state->service[i].unplugged) { /* not its fault: not counted */
        stop_followers(step, i);
        step_enter(step, i, SERVICE_STATE_WAITING, SUPERVISOR_NEVER);
        return;
    }
    if (event->cause == CAUSE_REFUSED || (not_found && (m->flags & SERVICE_OPTIONAL))) {
        step_enter(step, i, SERVICE_STATE_ABSENT, SUPERVISOR_NEVER);
        report(step, i);
        return;
    }
    if (m->restart == RESTART_TEMPORARY ||
        (m->restart == RESTART_TRANSIENT && by_itself && event->code == 0)) {
        step_enter(step, i, SERVICE_STATE_DONE, SUPERVISOR_NEVER);
        report(step, i);
        return;
    }
    /* Followers are fenced before the service they hold things of is made again. */
    if (!goes_on(step, i, event)) stop_followers(step, i);
    enum give_up_reason reason = death_count(step, i, event);
    if (reason != REASON_NONE) {
        climb(step, i, reason);
        return;
    }
    uint64_t wait_ns = backoff_ns(step->state, i);
    step->state->service[i].backoff_level++;
    if (wait_ns) {
        step_enter(step, i, SERVICE_STATE_BACKOFF, step->now_ns + wait_ns);
        report(step, i);
    } else {
        step_enter(step, i, SERVICE_STATE_WAITING, SUPERVISOR_NEVER);
    }
}

static void on_death(struct step *step, uint32_t i, const struct supervisor_event *event)
{
    struct supervised *s = &step->state->service[i];
    s->cause = event->cause;
    step->state->deaths++;
    if (step->state->phase == PHASE_STOPPING) {
        step_enter(step, i, SERVICE_STATE_DONE, SUPERVISOR_NEVER);
        halt_if_all_ended(step);
        return;
    }
    if (s->state == SERVICE_STATE_STOPPING)
        step_enter(step, i, SERVICE_STATE_WAITING, SUPERVISOR_NEVER); /* not its fault: not counted */
    else
        on_failure(step, i, event);
}

static void on_complaint(struct step *step, uint32_t i, enum cause cause)
{
    if (supervisor_serving(step->state->service[i].state)) fail(step, i, cause);
}

static void on_tick(struct step *step)
{
    struct supervisor_state *state = step->state;
    state->timer_ns = SUPERVISOR_NEVER;
    for (uint32_t i; (i = deadline_first(state)) != SET_NONE;) {
        const struct supervised *s = &state->service[i];
        if (s->deadline_ns > step->now_ns) {
            ask_for_tick(step, s->deadline_ns);
            break;
        }
        if (s->state == SERVICE_STATE_STARTING) {
            fail(step, i, CAUSE_START_TIMEOUT);
        } else if (s->state == SERVICE_STATE_RUNNING) {
            spare_on_tick(step, i);
        } else {
            ASSERT(s->state == SERVICE_STATE_BACKOFF);
            step_enter(step, i, SERVICE_STATE_WAITING, SUPERVISOR_NEVER);
        }
    }
}

static void on_reset(struct step *step, uint32_t i)
{
    struct supervisor_state *state = step->state;
    enum service_state was = state->service[i].state;
    if (state->phase != PHASE_RUN) return; /* DONE is for good in a system that stops */
    if (was != SERVICE_STATE_GAVE_UP && was != SERVICE_STATE_ABSENT && was != SERVICE_STATE_DONE) return;
    stop_followers(step, i); /* of a service that was DONE */
    forget_deaths(&state->service[i]);
    group_forget(state, i);
    step_enter(step, i, SERVICE_STATE_WAITING, SUPERVISOR_NEVER);
}

static void on_device(struct step *step, uint32_t i, bool there)
{
    struct supervised *s = &step->state->service[i];
    s->unplugged = !there;
    if (there && s->state == SERVICE_STATE_ABSENT) on_reset(step, i);
    if (!there && supervisor_serving(s->state)) fail(step, i, CAUSE_UNPLUGGED);
}

static void on_stop(struct step *step, uint64_t code)
{
    struct supervisor_state *state = step->state;
    if (state->phase == PHASE_STOPPING || state->phase == PHASE_HALTED) return;
    state->phase = PHASE_STOPPING;
    state->halt_code = code;
    for (uint32_t i = state->count - 1; i > 0; i--) {
        if (supervisor_serving(state->service[i].state))
            step_kill(step, i, SERVICE_STATE_STOPPING, CAUSE_SHUTDOWN);
        else if (!supervisor_state_live(state->service[i].state))
            step_enter(step, i, SERVICE_STATE_DONE, SUPERVISOR_NEVER);
    }
    halt_if_all_ended(step);
}

/* What the last shell was told and may not have done. Nothing here changes the state of a service. */
static void on_resume(struct step *step, const struct supervisor_event *event)
{
    struct supervisor_state *state = step->state;
    if (event->generation > state->service[0].generation) {
        state->service[0].generation = event->generation;
        state->service[0].cause = event->cause;
        state->service[0].restarts++;
        state->deaths++;
        state->restarts++;
        if (!window_count(step, 0)) on_stop(step, SYSTEM_REBOOT);
    }
    state->timer_ns = SUPERVISOR_NEVER;
    for (uint32_t i = state->count - 1; i > 0; i--) {
        const struct supervised *s = &state->service[i];
        if (s->state == SERVICE_STATE_FAILING || s->state == SERVICE_STATE_STOPPING)
            step_act(step, SUPERVISOR_ACTION_KILL, i)->cause = s->condemned_for;
    }
    for (uint32_t i = 1; i < state->count; i++) {
        const struct supervised *s = &state->service[i];
        if (s->state == SERVICE_STATE_STARTING) act_start(step, i);
        spare_resume(step, i);
        if (s->deadline_ns != SUPERVISOR_NEVER) ask_for_tick(step, s->deadline_ns);
    }
    if (state->phase == PHASE_HALTED) step_act(step, SUPERVISOR_ACTION_HALT, 0)->ns = state->halt_code;
}

/* The event is about this incarnation: not about an older one, nor about one whose end is known. */
static bool is_current(const struct supervisor_state *state, const struct supervisor_event *event)
{
    const struct supervised *s = &state->service[event->service];
    return s->generation == event->generation && supervisor_state_live(s->state);
}

static void dispatch(struct step *step, const struct supervisor_event *event)
{
    uint32_t i = event->service;
    switch (event->kind) {
    case SUPERVISOR_EVENT_BOOT: on_boot(step); break;
    case SUPERVISOR_EVENT_TICK: on_tick(step); break;
    case SUPERVISOR_EVENT_STOP: on_stop(step, event->code); break;
    case SUPERVISOR_EVENT_READY:
        if (is_current(step->state, event)) on_ready(step, i, event->code);
        break;
    case SUPERVISOR_EVENT_DEATH:
        if (is_current(step->state, event)) on_death(step, i, event);
        break;
    case SUPERVISOR_EVENT_COMPLAINT:
        if (is_current(step->state, event)) on_complaint(step, i, event->cause);
        break;
    case SUPERVISOR_EVENT_STANDBY: spare_on_standby(step, i, event->generation); break;
    case SUPERVISOR_EVENT_SPARE_DEATH: spare_on_death(step, i, event->generation); break;
    case SUPERVISOR_EVENT_UPDATE: version_update(step, i, (uint32_t)event->code); break;
    case SUPERVISOR_EVENT_KILL: on_complaint(step, i, CAUSE_KILLED); break;
    case SUPERVISOR_EVENT_RESET: on_reset(step, i); break;
    case SUPERVISOR_EVENT_DEVICE: on_device(step, i, event->code != 0); break;
    case SUPERVISOR_EVENT_RESUME: on_resume(step, event); break;
    }
}

size_t supervisor_step(struct supervisor_state *state, const struct supervisor_event *event, uint64_t now_ns,
                       struct supervisor_action *action, size_t max)
{
    struct step step = {.state = state, .now_ns = now_ns, .action = action, .max = max};
    bool rearm = event->kind == SUPERVISOR_EVENT_TICK || event->kind == SUPERVISOR_EVENT_RESUME;
    uint64_t timer_ns = rearm ? SUPERVISOR_NEVER : state->timer_ns;
    ASSERT(max >= supervisor_actions_max(state->count));
    bool about_service = event->kind != SUPERVISOR_EVENT_BOOT && event->kind != SUPERVISOR_EVENT_TICK &&
                         event->kind != SUPERVISOR_EVENT_STOP && event->kind != SUPERVISOR_EVENT_RESUME;
    if (about_service && (event->service == 0 || event->service >= state->count)) return 0;
    if (state->phase == PHASE_NEW && event->kind != SUPERVISOR_EVENT_BOOT) return 0;
    dispatch(&step, event);
    settle(&step);
    if (state->timer_ns < timer_ns) step_act(&step, SUPERVISOR_ACTION_TIMER, 0)->ns = state->timer_ns;
    return step.count;
}

void supervisor_init(struct supervisor_state *state, const struct manifest *manifest)
{
    *state = (struct supervisor_state){.manifest = manifest, .count = manifest->service_count};
    state->timer_ns = SUPERVISOR_NEVER;
    for (uint32_t i = 0; i < state->count; i++)
        state->service[i] = (struct supervised){.state = SERVICE_STATE_WAITING,
                                                .deadline_ns = SUPERVISOR_NEVER,
                                                .spare_ns = SUPERVISOR_NEVER,
                                                .probation_ns = SUPERVISOR_NEVER};
    state->service[0].state = SERVICE_STATE_RUNNING;
    state->service[0].generation = 1;
    state->in_state[SERVICE_STATE_WAITING] = state->count - 1;
    index_init(state);
}
