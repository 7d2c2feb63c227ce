/* SPDX-License-Identifier: BSD-2-Clause
 * A supervisor ended at every instruction of a step: the twin's states, found so, lead to the same as if it had not
 * been. Every instruction is met by single-stepping (the trap flag), none is sampled. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "supervisor/core_twin.h"
#include "abi/syscall.h"

#define SERVICES 5u
#define TRAP     0x100ul
#define ACTIONS  (6 * SERVICES + 2)

static struct manifest *manifest;
static struct supervisor_state *state[2], *expected;
static struct supervisor_action action[ACTIONS];
static struct twin twin;

static size_t bytes(void) { return supervisor_state_size(SERVICES); }

/* 1 and 2, 3 restarts with 1, 4 holds and replays. */
static void world_make(void)
{
    size_t size = sizeof(*manifest) + SERVICES * sizeof(struct manifest_service);
    manifest = calloc(1, size);
    manifest->service_count = SERVICES;
    for (uint32_t i = 0; i < SERVICES; i++)
        manifest->service[i] = (struct manifest_service){.group = MANIFEST_NONE,
                                                         .intensity = 5,
                                                         .period_ms = 1000,
                                                         .start_timeout_ms = 100,
                                                         .backoff_factor_pct = 100,
                                                         .stable_ms = 1000};
    manifest->service[3].depend_count = manifest->service[4].depend_count = 1;
    manifest->service[3].depend[0] = (struct manifest_depend){1, DEPEND_RESTART_WITH};
    manifest->service[4].depend[0] = (struct manifest_depend){1, DEPEND_HOLD_AND_REPLAY};
    for (int i = 0; i < 2; i++) state[i] = calloc(1, bytes());
    expected = calloc(1, bytes());
    supervisor_init(state[0], manifest);
    twin_init(&twin, state[0], state[1]);
}

static uint64_t now;

static void play(struct supervisor_event event)
{
    now += 1000000;
    (void)twin_step(&twin, &event, now, action, ACTIONS);
    twin_follow(&twin, action, ACTIONS);
}

static void all_serve(void)
{
    play((struct supervisor_event){.kind = SUPERVISOR_EVENT_BOOT});
    for (uint32_t i = 1; i < SERVICES; i++)
        play((struct supervisor_event){.kind = SUPERVISOR_EVENT_READY, .service = i, .generation = 1});
}

static void trap_on(void)
{
    __asm__ volatile("pushfq; orq %0, (%%rsp); popfq" : : "i"(TRAP) : "memory", "cc");
}
static void trap_off(void)
{
    __asm__ volatile("pushfq; andq %0, (%%rsp); popfq" : : "i"(~TRAP) : "memory", "cc");
}

/* What the last supervisor left, for its successor. */
struct left {
    struct twin twin;
    struct supervisor_state *state[2];
};
static struct left left_make(void)
{
    struct left l = {0};
    for (int i = 0; i < 2; i++) l.state[i] = calloc(1, bytes());
    return l;
}

static void left_take(struct left *l, const struct twin *from)
{
    l->twin = *from;
    for (int i = 0; i < 2; i++) {
        memcpy(l->state[i], from->state[i], bytes());
        l->twin.state[i] = l->state[i];
    }
}

static struct left copy, before;
static uint64_t instructions, repaired;
static const struct twin *watched;

/* Either the step was not written down, and nothing changed, or it was, and all of it is made. */
static void check(enum twin_found found)
{
    const void *want = copy.twin.steps == before.twin.steps ? (void *)before.state[0] : (void *)expected;
    cr_assert(found == TWIN_WHOLE || found == TWIN_REPAIRED, "after %lu instructions", instructions);
    cr_assert_eq(memcmp(copy.state[0], copy.state[1], bytes()), 0, "after %lu: they differ", instructions);
    cr_assert(supervisor_invariants(copy.state[0]), "after %lu instructions", instructions);
    cr_assert_eq(memcmp(copy.state[0], want, bytes()), 0, "after %lu: nobody decided this", instructions);
}

/* After each instruction: had it been the last, what would the successor make of it? */
static void on_step(int signal)
{
    (void)signal;
    struct supervisor_action scratch[ACTIONS];
    instructions++;
    left_take(&copy, watched);
    enum twin_found found = twin_recover(&copy.twin, manifest, scratch, ACTIONS);
    check(found);
    repaired += found == TWIN_REPAIRED;
}

static void traps_catch(void)
{
    struct sigaction a = {.sa_handler = on_step};
    sigaction(SIGTRAP, &a, NULL);
    copy = left_make();
    before = left_make();
}

static void step_ended_everywhere(struct supervisor_event event)
{
    traps_catch();
    left_take(&before, &twin);
    static struct left dry;
    dry = left_make();
    left_take(&dry, &twin);
    (void)twin_step(&dry.twin, &event, now + 1, action, ACTIONS);
    memcpy(expected, dry.state[0], bytes());
    watched = &twin;
    trap_on();
    (void)twin_step(&twin, &event, now + 1, action, ACTIONS);
    twin_follow(&twin, action, ACTIONS);
    trap_off();
    cr_assert_gt(instructions, 500);
    cr_assert_gt(repaired, instructions / 2, "most instructions are within the step");
}

TestSuite(twin, .init = world_make, .timeout = 120);

Test(twin, a_death_ended_at_every_instruction)
{
    all_serve();
    step_ended_everywhere((struct supervisor_event){
        .kind = SUPERVISOR_EVENT_DEATH, .service = 1, .generation = 1, .cause = CAUSE_PAGE_FAULT});
}

Test(twin, a_resume_ended_at_every_instruction)
{
    all_serve();
    play((struct supervisor_event){.kind = SUPERVISOR_EVENT_KILL, .service = 1});
    step_ended_everywhere(
        (struct supervisor_event){.kind = SUPERVISOR_EVENT_RESUME, .generation = 2, .cause = CAUSE_INJECTED});
}

/* And whoever makes it good may be ended anywhere too: with the first state half way, and with the second. */
static void repair_ended_everywhere(unsigned half)
{
    struct supervisor_event event = {
        .kind = SUPERVISOR_EVENT_DEATH, .service = 1, .generation = 1, .cause = CAUSE_PAGE_FAULT};
    all_serve();
    traps_catch();
    left_take(&before, &twin);
    (void)twin_step(&twin, &event, now + 1, action, ACTIONS);
    memcpy(expected, state[0], bytes());
    memset(state[half], 0xa5, bytes()); /* whatever was in the middle of being written */
    if (half == 0) twin.done[0]--;
    watched = &twin;
    trap_on();
    enum twin_found found = twin_recover(&twin, manifest, action, ACTIONS);
    trap_off();
    cr_assert_eq(found, TWIN_REPAIRED);
    cr_assert_gt(repaired, 100);
}
Test(twin, a_repair_of_the_first_ended_at_every_instruction) { repair_ended_everywhere(0); }
Test(twin, a_repair_of_the_second_ended_at_every_instruction) { repair_ended_everywhere(1); }

Test(twin, an_impossible_state_is_not_believed)
{
    all_serve();
    struct supervisor_action *scratch = action;
    state[0]->service[2].state = SERVICE_STATES;
    cr_assert_eq(twin_recover(&twin, manifest, scratch, ACTIONS), TWIN_DIFFERENT);
    cr_assert(supervisor_invariants(state[0]));
    cr_assert_eq(memcmp(state[0], state[1], bytes()), 0);
    state[1]->in_state[SERVICE_STATE_RUNNING]++;
    cr_assert_eq(twin_recover(&twin, manifest, scratch, ACTIONS), TWIN_DIFFERENT);
    state[0]->count = 77;
    state[1]->count = 77;
    cr_assert_eq(twin_recover(&twin, manifest, scratch, ACTIONS), TWIN_LOST);
    state[0]->count = state[1]->count = SERVICES;
    twin.done[0] = twin.steps + 3;
    cr_assert_eq(twin_recover(&twin, manifest, scratch, ACTIONS), TWIN_LOST);
    twin.done[0] = twin.steps - 1;
    twin.done[1] = twin.steps - 2;
    cr_assert_eq(twin_recover(&twin, manifest, scratch, ACTIONS), TWIN_LOST);
}

/* Falls are deaths, and too many of them are the last rung. */
Test(twin, the_supervisor_falls_too_often)
{
    all_serve();
    manifest->service[0].intensity = 2;
    for (uint32_t g = 2; g < 5; g++) {
        cr_assert_eq(state[0]->phase, PHASE_RUN);
        play((struct supervisor_event){
            .kind = SUPERVISOR_EVENT_RESUME, .generation = g, .cause = CAUSE_INJECTED});
        cr_assert_eq(state[0]->service[0].generation, g);
        cr_assert_eq(state[0]->restarts, g - 1);
    }
    cr_assert_eq(state[0]->phase, PHASE_STOPPING);
    cr_assert_eq(state[0]->halt_code, SYSTEM_REBOOT);
}
