/* SPDX-License-Identifier: BSD-2-Clause
 * The supervisor's shell, as supervisor/main.c, requests.c and watch.c do it, in the world's terms. Between
 * any two actions the supervisor can die: its state stays (preserved memory), what it had not done yet is
 * lost, and the next incarnation finds out from the core's state and from what processes there are. */
#include <string.h>
#include "abi/trace.h"
#include "sim.h"

#define LOOK_NS     (20 * MS)
#define DOUBT_STEPS 2000u /* a process that had as many since it was doubted had its chance */

static struct supervisor_action action[6 * SERVICES_MAX + 4];
static uint64_t state_memory[64 * 1024 / 8 * SERVICES_MAX / 8];
static bool spawn_fails; /* the next one */
static struct supervisor_event unspawned[2 * SERVICES_MAX];
static uint32_t unspawned_count;
static struct {
    uint32_t generation, steps;
} doubt[SERVICES_MAX];

void supervisor_hear(struct supervisor_event event)
{
    if (world.events == sizeof(world.event) / sizeof(world.event[0])) sim_fail("too many events wait");
    world.event[world.events++] = event;
}

void supervisor_hear_death(uint32_t i)
{
    const struct process *p = &world.process[i];

    supervisor_hear((struct supervisor_event){.kind = SUPERVISOR_EVENT_DEATH,
                                              .service = i,
                                              .generation = p->generation,
                                              .cause = p->cause,
                                              .code = p->code,
                                              .address = p->code});
}

/* What an operator or a confused peer sends; the supervisor's own faults. */
static void strike(const struct fault *f)
{
    uint32_t generation = world.state->service[f->target].generation;

    switch (f->kind) {
    case FAULT_SUPERVISOR_CRASH:
        world.supervisor_down = true;
        world.supervisor_up_ns = world.now_ns + f->arg * 1000;
        combined_note(0);
        break;
    case FAULT_SPAWN: spawn_fails = true; break;
    case FAULT_OPERATOR_KILL:
        supervisor_hear((struct supervisor_event){.kind = SUPERVISOR_EVENT_KILL, .service = f->target});
        break;
    case FAULT_OPERATOR_RESET:
        supervisor_hear((struct supervisor_event){.kind = SUPERVISOR_EVENT_RESET, .service = f->target});
        break;
    case FAULT_STALE:
        supervisor_hear((struct supervisor_event){.kind = f->arg % 2 ? SUPERVISOR_EVENT_COMPLAINT
                                                                     : SUPERVISOR_EVENT_DEATH,
                                                  .service = f->target,
                                                  .generation = generation ? generation - 1 : 0,
                                                  .cause = CAUSE_STALLED});
        break;
    case FAULT_UPDATE:
        supervisor_hear((struct supervisor_event){
            .kind = SUPERVISOR_EVENT_UPDATE, .service = f->target, .code = f->arg % 5});
        break;
    case FAULT_STRUCK:
        if (world.process[f->target].alive) process_die(f->target, CAUSE_INJECTED, 0);
        break;
    case FAULT_SPARE_KILL: standby_strike(f->target, false); break;
    case FAULT_SPARE_HANG: standby_strike(f->target, true); break;
    case FAULT_STOP:
        supervisor_hear((struct supervisor_event){.kind = SUPERVISOR_EVENT_STOP, .code = 1});
        break;
    default: process_strike(f->target, f); break;
    }
}

/* A step of the supervisor's. True: it died here. */
static bool supervisor_dies(void)
{
    const struct fault *f;

    world.steps++;
    world.own_steps[0]++;
    while ((f = fault_due(0)) != NULL) strike(f);
    return world.supervisor_down;
}

/* --- Actions --------------------------------------------------------------------------------------- */

static void start(uint32_t i, uint32_t generation, uint32_t program)
{
    struct process *p = &world.process[i];

    if (p->generation == generation) return; /* made before the supervisor died */
    check_started(i);
    if (standby_take(i, generation)) return;
    if (!spawn_fails) {
        generation_is_new(i, generation);
        process_start(i, generation);
        world.process[i].fuse = program_fuse(program);
        return;
    }
    spawn_fails = false;
    sometimes(SPAWN_FAILED, true);
    unspawned[unspawned_count++] = (struct supervisor_event){
        .kind = SUPERVISOR_EVENT_DEATH, .service = i, .generation = generation, .cause = CAUSE_SPAWN};
}

static void spare(uint32_t i, uint32_t generation, uint32_t program)
{
    bool fails = spawn_fails;

    if (standby_make(i, generation, program, fails)) return;
    spawn_fails = false;
    unspawned[unspawned_count++] = (struct supervisor_event){
        .kind = SUPERVISOR_EVENT_SPARE_DEATH, .service = i, .generation = generation};
}

static void act(const struct supervisor_action *a)
{
    TRACE("  action %u service %u generation %u cause %u value %u ns %lu", a->kind, a->service, a->generation,
          a->cause, a->value, a->ns);
    switch (a->kind) {
    case SUPERVISOR_ACTION_START: start(a->service, a->generation, a->value); break;
    case SUPERVISOR_ACTION_SPARE: spare(a->service, a->generation, a->value); break;
    case SUPERVISOR_ACTION_SPARE_END: standby_drop(a->service); break;
    case SUPERVISOR_ACTION_KILL:
        if (world.process[a->service].alive && world.process[a->service].generation == a->generation)
            process_die(a->service, a->cause, 0);
        break;
    case SUPERVISOR_ACTION_TIMER:
        if (a->ns < world.timer_ns) world.timer_ns = a->ns;
        break;
    case SUPERVISOR_ACTION_HALT:
        world.halted = true;
        for (uint32_t i = 1; i < plan.services; i++)
            if (world.process[i].alive || world.spare[i].alive)
                sim_fail("halted while service %u is alive", i);
        break;
    default: break;
    }
}

/* False: the supervisor died inside. */
static bool step(const struct supervisor_event *event)
{
    enum service_state was = world.state->service[event->service].state;

    TRACE("event %u service %u generation %u cause %u (state %u)", event->kind, event->service,
          event->generation, event->cause, was);
    world.was_on_probation = world.state->service[event->service].on_probation;
    world.was_previous = world.state->service[event->service].previous;
    size_t n = supervisor_step(world.state, event, world.now_ns, action, sizeof(action) / sizeof(action[0]));
    world.rolled_back = false;
    for (size_t k = 0; k < n; k++)
        world.rolled_back |= action[k].kind == SUPERVISOR_ACTION_MARK &&
                             action[k].service == event->service && action[k].value == MARK_ROLLED_BACK;
    check_event(event, was);
    check_supervisor();
    for (size_t k = 0; k < n; k++) {
        if (supervisor_dies()) {
            sometimes(SUPERVISOR_DIED_BETWEEN_ACTIONS, true);
            return false;
        }
        act(&action[k]);
    }
    return !supervisor_dies();
}

static bool happen(struct supervisor_event event)
{
    unspawned_count = 0;
    if (!step(&event)) return false;
    while (unspawned_count) {
        struct supervisor_event failed = unspawned[--unspawned_count];
        if (!step(&failed)) return false;
    }
    return true;
}

/* --- Start, and start again --------------------------------------------------------------------------- */

static bool death_is_known(uint32_t i)
{
    for (uint32_t n = 0; n < world.events; n++)
        if (world.event[n].kind == SUPERVISOR_EVENT_DEATH && world.event[n].service == i &&
            world.event[n].generation == world.process[i].generation)
            return true;
    return false;
}

/* What a new supervisor does on the state of its predecessor. */
static void resume(void)
{
    struct supervisor_event event = {.kind = SUPERVISOR_EVENT_RESUME};

    world.supervisor_down = false;
    world.timer_ns = NEVER;
    world.look_ns = NEVER;
    sometimes(SUPERVISOR_RESUMED, true);
    if (!happen(event)) {
        sometimes(SUPERVISOR_DIED_RESUMING, true);
        return;
    }
    for (uint32_t i = 1; i < plan.services; i++) {
        const struct supervised *s = &world.state->service[i];
        const struct process *p = &world.process[i];
        if (!supervisor_state_live(s->state)) continue;
        if (p->generation != s->generation)
            supervisor_hear((struct supervisor_event){.kind = SUPERVISOR_EVENT_DEATH,
                                                      .service = i,
                                                      .generation = s->generation,
                                                      .cause = CAUSE_SPAWN});
        else if (!p->alive && !death_is_known(i))
            supervisor_hear_death(i);
    }
}

void supervisor_start(void)
{
    spawn_fails = false;
    memset(doubt, 0, sizeof(doubt));
    world.timer_ns = world.look_ns = NEVER;
    growth_begin();
    world.state = (struct supervisor_state *)state_memory;
    if (supervisor_state_size(plan.services) > sizeof(state_memory)) sim_fail("the state does not fit");
    supervisor_init(world.state, &plan.file.head);
    (void)happen((struct supervisor_event){.kind = SUPERVISOR_EVENT_BOOT});
}

/* --- Messages and turns ---------------------------------------------------------------------------------- */

static bool caller_is_current(uint32_t i)
{
    const struct supervised *s = &world.state->service[i];

    return supervisor_state_live(s->state) && s->generation == world.process[i].generation;
}

/* supervisor/watch.c, watch_hangs: whoever could run and has not had much of the CPU since the first doubt. */
static bool waits_for_cpu(uint32_t i)
{
    if (!process_runnable(i)) return false;
    if (doubt[i].generation != world.process[i].generation)
        doubt[i].generation = world.process[i].generation, doubt[i].steps = world.own_steps[i];
    return world.own_steps[i] - doubt[i].steps < DOUBT_STEPS;
}

static status_t serve(uint32_t from, struct message *m, bool *died)
{
    struct supervisor_event event = {.service = from, .generation = world.process[from].generation};

    if (!caller_is_current(from)) return E_RIGHTS;
    if (INFO_LABEL(m->info) == SUPERVISOR_READY) {
        event.kind = SUPERVISOR_EVENT_READY;
    } else {
        if (m->w[2] == CAUSE_STALLED && waits_for_cpu((uint32_t)m->w[0])) {
            sometimes(STALL_DOUBTED, true);
            return E_BUSY;
        }
        event = (struct supervisor_event){.kind = SUPERVISOR_EVENT_COMPLAINT,
                                          .service = (uint32_t)m->w[0],
                                          .generation = (uint32_t)m->w[1],
                                          .cause = (enum cause)m->w[2]};
        sometimes(COMPLAINT_STALLED, m->w[2] == CAUSE_STALLED);
        sometimes(COMPLAINT_PROTOCOL, m->w[2] == CAUSE_PROTOCOL);
        sometimes(LOST_IRQ_FOUND, m->w[2] == CAUSE_LOST_IRQ);
        uint32_t about = (uint32_t)m->w[0];
        if (m->w[2] == CAUSE_LOST_IRQ && world.process[about].generation == m->w[1] &&
            world.process[about].alive && !world.device[about].deaf)
            sim_fail("service %u is said to hear no interrupts, and its device sends them", about);
        if (m->w[2] == CAUSE_STALLED && world.process[about].generation == m->w[1] && check_idle(about))
            sim_fail("service %u is said to stall, and it sleeps with nothing to do", about);
    }
    *died = !happen(event);
    if (event.kind == SUPERVISOR_EVENT_READY) growth_ready(from);
    return OK;
}

static void take_call(void)
{
    uint32_t from;
    bool died = false;

    if (!queue_take(&world.calls[0], &from)) return;
    uint32_t generation = world.process[from].generation;
    struct message *m = from == RECOVERY ? &world.complaint : world.process[from].call;
    status_t status = serve(from, m, &died);
    if (!world.process[from].alive || world.process[from].generation != generation) return;
    if (!died)
        reply(from, status);
    else if (m->info & INFO_REPLAYABLE)
        queue_push(&world.calls[0], from, true);
    else
        reply(from, E_PEER_RESTARTED);
    sometimes(CALL_REPLAYED_TO_SUPERVISOR, died);
}

/* Calls pending at recovery and none answered since the last look. */
static void look(void)
{
    world.look_ns = NEVER;
    const struct supervised *s = &world.state->service[RECOVERY];
    if ((world.calls[1].count == 0 && world.taken == 0) || s->state != SERVICE_STATE_RUNNING ||
        !world.process[RECOVERY].hung)
        return;
    sometimes(RECOVERY_STALLED, true);
    (void)happen((struct supervisor_event){.kind = SUPERVISOR_EVENT_COMPLAINT,
                                           .service = RECOVERY,
                                           .generation = s->generation,
                                           .cause = CAUSE_STALLED});
}

static void growth_turn(void)
{
    for (uint32_t found = growth_looks(); found; found &= found - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(found);
        if (!happen((struct supervisor_event){.kind = SUPERVISOR_EVENT_COMPLAINT,
                                              .service = i,
                                              .generation = world.state->service[i].generation,
                                              .cause = CAUSE_QUOTA_GROWTH}))
            return;
    }
}

uint64_t supervisor_next_ns(void)
{
    if (world.halted) return NEVER;
    if (world.supervisor_down) return world.supervisor_up_ns;
    if (world.look_ns == NEVER && (world.calls[1].count || world.taken) && world.process[RECOVERY].hung)
        world.look_ns = world.now_ns + LOOK_NS;
    uint64_t next = world.timer_ns < world.look_ns ? world.timer_ns : world.look_ns, grown = growth_next_ns();
    return grown < next ? grown : next;
}

bool supervisor_runnable(void)
{
    if (world.halted) return false;
    if (world.supervisor_down) return world.now_ns >= world.supervisor_up_ns;
    return world.events || world.calls[0].count || supervisor_next_ns() <= world.now_ns;
}

void supervisor_turn(void)
{
    if (world.supervisor_down) {
        resume();
        return;
    }
    if (supervisor_dies()) return;
    if (world.events && (world.calls[0].count == 0 || world_below(2))) {
        struct supervisor_event event = world.event[0];
        memmove(world.event, world.event + 1, --world.events * sizeof(event));
        (void)happen(event);
    } else if (world.calls[0].count) {
        take_call();
    } else if (world.timer_ns <= world.now_ns) {
        world.timer_ns = NEVER;
        (void)happen((struct supervisor_event){.kind = SUPERVISOR_EVENT_TICK});
    } else if (world.look_ns <= world.now_ns) {
        look();
    } else {
        growth_turn();
    }
}
