/* SPDX-License-Identifier: BSD-2-Clause
 * Warm spares: the life of the process that stands by for a service whose manifest says spare = 1. Pure, as all of
 * the core. By the state entered:
 *   NONE      taken by a start; spare_on_death; spare_end (the service is down for good); spare_on_tick (it took too long)
 *   BUILDING  spare_on_tick: some time after its service became RUNNING, never on the path of a recovery
 *   READY     spare_on_standby
 * A spare has a generation of its own from the day it is made, so that no two processes ever have the same name; it
 * holds nothing of its service until it is taken. One that is still BUILDING is taken as well: it goes on when it
 * gets there, and the start timeout holds. The death of a spare is nobody's fault: it is not counted, and the next is
 * made later each time, until one has been of use.
 * A live update is a spare of another program: it stands by, its service is stopped, it is taken. It is on probation then,
 * and what stands by meanwhile is the version before. */
#include "core_index.h"
#include "core_step.h"
#include "abi/trace.h"

static struct supervised *service_of(const struct step *step, uint32_t i) { return &step->state->service[i]; }

static bool wanted(const struct supervisor_state *state, uint32_t i)
{
    return (entry_of(state, i)->flags & SERVICE_SPARE) != 0;
}

static void deadlines(struct step *step, uint32_t i, uint64_t spare_ns)
{
    struct supervised *s = service_of(step, i);
    s->spare_ns = spare_ns;
    if (s->state != SERVICE_STATE_RUNNING) return;
    step_deadline(step, i, spare_ns < s->probation_ns ? spare_ns : s->probation_ns);
}

static uint64_t next_ns(const struct step *step, uint32_t i)
{
    uint32_t deaths = service_of(step, i)->spare_deaths;
    if (!wanted(step->state, i)) return SUPERVISOR_NEVER;
    return step->now_ns + (SUPERVISOR_SPARE_DELAY_NS << (deaths < 10 ? deaths : 10));
}

void spare_due(struct step *step, uint32_t i)
{
    struct supervised *s = service_of(step, i);
    ASSERT(s->spare == SPARE_NONE);
    s->spare_deaths = 0;
    uint64_t probation_ns = entry_of(step->state, i)->probation_ms * NS_PER_MS;
    s->probation_ns = s->on_probation ? step->now_ns + probation_ns : SUPERVISOR_NEVER;
    deadlines(step, i, next_ns(step, i));
}

static void build(struct step *step, uint32_t i, uint32_t program)
{
    struct supervised *s = service_of(step, i);
    if (s->issued == SUPERVISOR_GENERATION_MAX) { /* its next start is its last, and cold */
        s->updating = false;
        deadlines(step, i, SUPERVISOR_NEVER);
        return;
    }
    s->spare = SPARE_BUILDING;
    s->spare_program = program;
    s->spare_generation = ++s->issued;
    struct supervisor_action *action = step_act(step, SUPERVISOR_ACTION_SPARE, i);
    action->generation = s->spare_generation;
    action->value = program;
    deadlines(step, i, step->now_ns + entry_of(step->state, i)->start_timeout_ms * NS_PER_MS);
}

static void update_failed(struct step *step, uint32_t i)
{
    struct supervised *s = service_of(step, i);
    if (!s->updating) return;
    s->updating = false;
    s->rolled_back = true;
    step_act(step, SUPERVISOR_ACTION_MARK, i)->value = MARK_ROLLED_BACK;
}

static void died(struct step *step, uint32_t i)
{
    struct supervised *s = service_of(step, i);
    update_failed(step, i);
    s->spare = SPARE_NONE;
    s->spare_deaths += s->spare_deaths < UINT16_MAX;
    deadlines(step, i, next_ns(step, i));
}

void spare_end(struct step *step, uint32_t i)
{
    struct supervised *s = service_of(step, i);
    if (s->spare == SPARE_NONE) return;
    update_failed(step, i);
    step_act(step, SUPERVISOR_ACTION_SPARE_END, i)->generation = s->spare_generation;
    s->spare = SPARE_NONE;
    deadlines(step, i, SUPERVISOR_NEVER);
}

/* While a version is on probation the one before it stands by: it would take over. */
static uint32_t program_to_stand_by(const struct supervised *s)
{
    return s->on_probation ? s->previous : s->program;
}

/* It has shown that it is good: what stands by is to be like it. */
static void proven(struct step *step, uint32_t i)
{
    struct supervised *s = service_of(step, i);
    s->on_probation = false;
    s->probation_ns = SUPERVISOR_NEVER;
    if (s->spare != SPARE_NONE && !s->updating) {
        spare_end(step, i);
        deadlines(step, i, next_ns(step, i));
    } else {
        deadlines(step, i, s->spare_ns);
    }
}

void spare_on_tick(struct step *step, uint32_t i)
{
    struct supervised *s = service_of(step, i);
    if (s->probation_ns <= step->now_ns) proven(step, i);
    if (s->spare_ns > step->now_ns) return;
    if (s->spare == SPARE_NONE) {
        build(step, i, program_to_stand_by(s));
        return;
    }
    spare_end(step, i);
    died(step, i);
}

void spare_on_standby(struct step *step, uint32_t i, uint32_t generation)
{
    struct supervised *s = service_of(step, i);
    if (s->spare == SPARE_NONE || s->spare_generation != generation) return;
    s->spare = SPARE_READY;
    deadlines(step, i, SUPERVISOR_NEVER);
    if (!s->updating || s->state != SERVICE_STATE_RUNNING) return;
    stop_followers(step, i);
    step_kill(step, i, SERVICE_STATE_STOPPING, CAUSE_UPDATED); /* its start takes what stands by */
}

void spare_on_death(struct step *step, uint32_t i, uint32_t generation)
{
    struct supervised *s = service_of(step, i);
    if (s->spare != SPARE_NONE && s->spare_generation == generation) died(step, i);
}

/* The new version is there. What is itself on probation is nothing to come back to. */
static void updated(struct step *step, uint32_t i)
{
    struct supervised *s = service_of(step, i);
    if (!s->on_probation) s->previous = s->program;
    s->program = s->spare_program;
    s->has_previous = s->on_probation = true;
    s->updating = s->rolled_back = false;
    step_act(step, SUPERVISOR_ACTION_MARK, i)->value = MARK_UPDATED;
}

uint32_t spare_take(struct step *step, uint32_t i)
{
    struct supervised *s = service_of(step, i);
    if (s->spare != SPARE_NONE && s->spare_program != s->program && !s->updating) spare_end(step, i);
    if (s->spare != SPARE_NONE) {
        if (s->updating) updated(step, i);
        s->spare = SPARE_NONE;
        return s->spare_generation;
    }
    return s->issued == SUPERVISOR_GENERATION_MAX ? 0 : ++s->issued;
}

void version_update(struct step *step, uint32_t i, uint32_t program)
{
    struct supervised *s = service_of(step, i);
    if (s->state != SERVICE_STATE_RUNNING || s->updating || step->state->phase != PHASE_RUN) return;
    spare_end(step, i);
    s->updating = true;
    build(step, i, program);
}

bool version_roll_back(struct step *step, uint32_t i)
{
    struct supervised *s = service_of(step, i);
    if (!s->has_previous) return false;
    s->program = s->previous;
    s->has_previous = s->on_probation = false;
    s->probation_ns = SUPERVISOR_NEVER;
    s->rolled_back = true;
    step_act(step, SUPERVISOR_ACTION_MARK, i)->value = MARK_ROLLED_BACK;
    return true;
}

/* An order to end one may have been lost: it is given again. */
void spare_resume(struct step *step, uint32_t i)
{
    const struct supervised *s = service_of(step, i);
    bool none = s->spare == SPARE_NONE;
    if (none && s->spare_generation == 0) return;
    struct supervisor_action *action =
        step_act(step, none ? SUPERVISOR_ACTION_SPARE_END : SUPERVISOR_ACTION_SPARE, i);
    action->generation = s->spare_generation;
    action->value = s->spare_program;
}

/* A spare is newer than its service, and nobody stands by for what is down for good. While a service serves, time
 * matters exactly until its spare is ready. */
bool inv_spare(const struct supervisor_state *state, uint32_t i)
{
    const struct supervised *s = &state->service[i];
    bool down = s->state == SERVICE_STATE_GAVE_UP || s->state == SERVICE_STATE_ABSENT ||
                s->state == SERVICE_STATE_DONE;
    if (s->issued < s->generation || s->issued > SUPERVISOR_GENERATION_MAX) return false;
    if (s->spare > SPARE_READY || (s->spare != SPARE_NONE && ((!wanted(state, i) && !s->updating) || down)))
        return false;
    if (s->on_probation && !s->has_previous) return false;
    if (s->spare != SPARE_NONE && (s->spare_generation <= s->generation || s->spare_generation > s->issued))
        return false;
    if (s->state != SERVICE_STATE_RUNNING) return true;
    if (s->deadline_ns != (s->spare_ns < s->probation_ns ? s->spare_ns : s->probation_ns)) return false;
    if (s->on_probation != (s->probation_ns != SUPERVISOR_NEVER)) return false;
    bool waits =
        (wanted(state, i) || s->updating) && s->spare != SPARE_READY && s->issued < SUPERVISOR_GENERATION_MAX;
    return !waits || s->spare_ns != SUPERVISOR_NEVER;
}
