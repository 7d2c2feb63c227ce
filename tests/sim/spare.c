/* SPDX-License-Identifier: BSD-2-Clause
 * Processes that stand by: what supervisor/spawn.c makes of SPARE, SPARE_END and the START of a spare's generation. A
 * spare does one thing in its life, it says that it stands; it can die or hang before that and after. Taken, it is a
 * process like any other. */
#include "sim.h"

/* No two processes of a service ever have the same generation. */
void generation_is_new(uint32_t i, uint32_t generation)
{
    if (generation <= world.made[i]) sim_fail("generation %u of service %u is used twice", generation, i);
    world.made[i] = generation;
}

bool standby_make(uint32_t i, uint32_t generation, uint32_t program, bool fails)
{
    struct spare *s = &world.spare[i];

    if (s->generation == generation) return true; /* made before the supervisor died */
    standby_drop(i);
    if (fails) return false;
    generation_is_new(i, generation);
    TRACE("  spare %u.%u starts", i, generation);
    *s = (struct spare){.alive = true, .generation = generation, .program = program};
    return true;
}

void standby_drop(uint32_t i)
{
    sometimes(SPARE_ENDED, world.spare[i].alive);
    world.spare[i] = (struct spare){.generation = world.spare[i].generation};
}

/* False: what is to be started is no spare. */
bool standby_take(uint32_t i, uint32_t generation)
{
    struct spare s = world.spare[i];

    if (s.generation != generation) {
        standby_drop(i);
        return false;
    }
    sometimes(SPARE_TAKEN, s.standing && s.alive);
    sometimes(SPARE_TAKEN_UNREADY, !s.standing && s.alive);
    sometimes(SPARE_TAKEN_DEAD, !s.alive);
    world.spare[i] = (struct spare){.generation = generation};
    process_start(i, generation);
    world.process[i].fuse = program_fuse(s.program);
    if (!s.alive)
        process_die(i, CAUSE_PAGE_FAULT, 0);
    else if (s.hung && i != RECOVERY)
        world.process[i].hung = true;
    return true;
}

bool standby_runnable(uint32_t i)
{
    const struct spare *s = &world.spare[i];

    return s->alive && !s->standing && !s->hung;
}

void standby_turn(uint32_t i)
{
    world.steps++;
    world.spare[i].standing = true;
    supervisor_hear((struct supervisor_event){
        .kind = SUPERVISOR_EVENT_STANDBY, .service = i, .generation = world.spare[i].generation});
}

void standby_strike(uint32_t i, bool hangs)
{
    struct spare *s = &world.spare[i];

    if (!s->alive) return;
    sometimes(SPARE_HUNG, hangs && !s->standing);
    if (hangs) {
        s->hung = true;
        return;
    }
    s->alive = false;
    sometimes(SPARE_DIED, true);
    supervisor_hear((struct supervisor_event){
        .kind = SUPERVISOR_EVENT_SPARE_DEATH, .service = i, .generation = s->generation});
}

/* Every service that wants one has one, and nobody else. */
bool standby_settled(uint32_t i)
{
    const struct supervised *s = &world.state->service[i];
    const struct spare *spare = &world.spare[i];
    bool wanted = s->state == SERVICE_STATE_RUNNING && (plan.file.service[i].flags & SERVICE_SPARE) != 0;

    if (s->spare == SPARE_NONE && spare->alive && s->state != SERVICE_STATE_RUNNING)
        sim_fail("service %u is down, and somebody stands by for it", i);
    if (!wanted) return true;
    return s->spare == SPARE_READY && spare->alive && spare->generation == s->spare_generation;
}
