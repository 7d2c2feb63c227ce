/* SPDX-License-Identifier: BSD-2-Clause
 * Warm spares: the life of the process that stands by for a service whose manifest says spare = 1. Pure, as all of
 * the core. By the state entered:
 *   NONE      taken by a start; spare_on_death; spare_end (the service is down for good); spare_on_tick (it took too long)
 *   BUILDING  spare_on_tick: some time after its service became RUNNING, never on the path of a recovery
 *   READY     spare_on_standby
 * A spare has a generation of its own from the day it is made, so that no two processes ever have the same name; it
 * holds nothing of its service until it is taken. One that is still BUILDING is taken as well: it goes on when it
 * gets there, and the start timeout holds. The death of a spare is nobody's fault: it is not counted, and the next is
 * made later each time, until one has been of use. */
#include "core_index.h"
#include "core_step.h"

static struct supervised *service_of(const struct step *step, uint32_t i) { return &step->state->service[i]; }

static bool wanted(const struct supervisor_state *state, uint32_t i)
{
    return (entry_of(state, i)->flags & SERVICE_SPARE) != 0;
}

static void forget(struct step *step, uint32_t i, uint64_t deadline_ns)
{
    struct supervised *s = service_of(step, i);
    s->spare = SPARE_NONE;
    if (s->state == SERVICE_STATE_RUNNING) step_deadline(step, i, deadline_ns);
}

static uint64_t next_ns(const struct step *step, uint32_t i)
{
    uint32_t deaths = service_of(step, i)->spare_deaths;
    if (!wanted(step->state, i)) return SUPERVISOR_NEVER;
    return step->now_ns + (SUPERVISOR_SPARE_DELAY_NS << (deaths < 10 ? deaths : 10));
}

void spare_due(struct step *step, uint32_t i)
{
    ASSERT(service_of(step, i)->spare == SPARE_NONE);
    service_of(step, i)->spare_deaths = 0;
    step_deadline(step, i, next_ns(step, i));
}

static void build(struct step *step, uint32_t i)
{
    struct supervised *s = service_of(step, i);
    if (s->issued == SUPERVISOR_GENERATION_MAX) { /* its next start is its last, and cold */
        step_deadline(step, i, SUPERVISOR_NEVER);
        return;
    }
    s->spare = SPARE_BUILDING;
    s->spare_generation = ++s->issued;
    step_act(step, SUPERVISOR_ACTION_SPARE, i)->generation = s->spare_generation;
    step_deadline(step, i, step->now_ns + entry_of(step->state, i)->start_timeout_ms * NS_PER_MS);
}

static void died(struct step *step, uint32_t i)
{
    struct supervised *s = service_of(step, i);
    s->spare_deaths += s->spare_deaths < UINT16_MAX;
    forget(step, i, next_ns(step, i));
}

void spare_end(struct step *step, uint32_t i)
{
    struct supervised *s = service_of(step, i);
    if (s->spare == SPARE_NONE) return;
    step_act(step, SUPERVISOR_ACTION_SPARE_END, i)->generation = s->spare_generation;
    forget(step, i, SUPERVISOR_NEVER);
}

void spare_on_tick(struct step *step, uint32_t i)
{
    if (service_of(step, i)->spare == SPARE_NONE) {
        build(step, i);
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
    if (s->state == SERVICE_STATE_RUNNING) step_deadline(step, i, SUPERVISOR_NEVER);
}

void spare_on_death(struct step *step, uint32_t i, uint32_t generation)
{
    struct supervised *s = service_of(step, i);
    if (s->spare != SPARE_NONE && s->spare_generation == generation) died(step, i);
}

uint32_t spare_take(struct step *step, uint32_t i)
{
    struct supervised *s = service_of(step, i);
    if (s->spare != SPARE_NONE) {
        s->spare = SPARE_NONE;
        return s->spare_generation;
    }
    return s->issued == SUPERVISOR_GENERATION_MAX ? 0 : ++s->issued;
}

/* An order to end one may have been lost: it is given again. */
void spare_resume(struct step *step, uint32_t i)
{
    const struct supervised *s = service_of(step, i);
    bool none = s->spare == SPARE_NONE;
    if (none && !wanted(step->state, i)) return;
    step_act(step, none ? SUPERVISOR_ACTION_SPARE_END : SUPERVISOR_ACTION_SPARE, i)->generation =
        s->spare_generation;
}

/* A spare is newer than its service, and nobody stands by for what is down for good. While a service serves, time
 * matters exactly until its spare is ready. */
bool inv_spare(const struct supervisor_state *state, uint32_t i)
{
    const struct supervised *s = &state->service[i];
    bool down = s->state == SERVICE_STATE_GAVE_UP || s->state == SERVICE_STATE_ABSENT ||
                s->state == SERVICE_STATE_DONE;
    if (s->issued < s->generation || s->issued > SUPERVISOR_GENERATION_MAX) return false;
    if (s->spare > SPARE_READY || (s->spare != SPARE_NONE && (!wanted(state, i) || down))) return false;
    if (s->spare != SPARE_NONE && (s->spare_generation <= s->generation || s->spare_generation > s->issued))
        return false;
    if (s->state != SERVICE_STATE_RUNNING) return true;
    bool waits = wanted(state, i) && s->spare != SPARE_READY && s->issued < SUPERVISOR_GENERATION_MAX;
    return !waits || s->deadline_ns != SUPERVISOR_NEVER;
}
