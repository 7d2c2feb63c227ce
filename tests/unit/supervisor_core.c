/* SPDX-License-Identifier: BSD-2-Clause
 * The policy core: every rule of docs/SUPERVISION.md in a few lines each, and random schedules of
 * events in which the invariants hold after every step. SUPERVISOR_SEED=n repeats a random run. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "abi/syscall.h"
#include "abi/trace.h"
#include "supervisor/core.h"

#define MS       1000000ull
#define SERVICES 12

static struct { /* one system under test: tests run in processes of their own */
    struct manifest head;
    struct manifest_service service[SERVICES + 1];
} file __attribute__((aligned(8)));
static struct supervisor_state *state;
static struct supervisor_action action[6 * (SERVICES + 1) + 2];
static size_t actions;
static uint64_t now = 1000 * MS;
static char repeat[48]; /* how to repeat a random run */

static struct manifest_service *entry(uint32_t i) { return &file.head.service[i]; }

static void manifest_make(uint32_t services)
{
    memset(&file, 0, sizeof(file));
    file.head.magic = MANIFEST_MAGIC;
    file.head.version = MANIFEST_VERSION;
    file.head.service_size = sizeof(struct manifest_service);
    file.head.service_count = (uint16_t)(services + 1);
    file.head.size = (uint32_t)(sizeof(struct manifest) + (services + 1) * sizeof(struct manifest_service));
    for (uint32_t i = 0; i <= services; i++) {
        struct manifest_service *m = entry(i);
        snprintf(m->name, sizeof(m->name), "s%u", i);
        snprintf(m->image, sizeof(m->image), "program");
        m->group = MANIFEST_NONE;
        m->intensity = 3;
        m->period_ms = 1000;
        m->backoff_factor_pct = 200;
        m->start_timeout_ms = 100;
        m->probation_ms = 1000;
        m->priority = i ? 10 : 30;
        m->quota_pages = 100;
    }
}

static void depends(uint32_t i, uint32_t on, enum depend_kind kind)
{
    struct manifest_service *m = entry(i);
    m->depend[m->depend_count++] = (struct manifest_depend){(uint16_t)on, (uint16_t)kind};
}

static void group_rest_for_one(uint32_t first, uint32_t last)
{
    file.head.group_count = 1;
    strcpy(file.head.group[0].name, "g");
    file.head.group[0].strategy = STRATEGY_REST_FOR_ONE;
    for (uint32_t i = first; i <= last; i++) entry(i)->group = 0;
}

/* Judging everybody, not only those whom the core believes affected, would change nothing. */
static void nobody_was_forgotten(void)
{
    static uint8_t copy[sizeof(struct supervisor_state) + (SERVICES + 1) * sizeof(struct supervised)]
        __attribute__((aligned(8)));
    struct supervisor_action unused[sizeof(action) / sizeof(action[0])];
    struct supervisor_state *other = (void *)copy;
    if (state->phase == PHASE_NEW) return;
    memcpy(copy, state, supervisor_state_size(state->count));
    other->stale.summary = 1;
    other->stale.word[0] = (1ul << state->count) - 2;
    struct supervisor_event nothing = {.kind = SUPERVISOR_EVENT_READY, .service = 1, .generation = ~0u};
    size_t n = supervisor_step(other, &nothing, now, unused, sizeof(unused) / sizeof(unused[0]));
    cr_assert_eq(n, 0, "a verdict had changed and nobody looked%s", repeat);
    cr_assert_eq(memcmp(other->service, state->service, state->count * sizeof(struct supervised)), 0,
                 "a state would have changed and nobody looked%s", repeat);
}

static void step(struct supervisor_event event)
{
    actions = supervisor_step(state, &event, now, action, sizeof(action) / sizeof(action[0]));
    cr_assert(supervisor_invariants(state), "invariants after event %d of service %u%s", event.kind,
              event.service, repeat);
    nobody_was_forgotten();
}

static void boot(void)
{
    uint32_t where;
    const char *wrong = manifest_check(&file, file.head.size, &where);
    cr_assert_null(wrong, "service %d: %s", (int)where, wrong ? wrong : "");
    state = malloc(supervisor_state_size(file.head.service_count));
    supervisor_init(state, &file.head);
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_BOOT});
}

static uint32_t generation(uint32_t i) { return state->service[i].generation; }
static enum service_state state_of(uint32_t i) { return state->service[i].state; }
static void ready(uint32_t i)
{
    step(
        (struct supervisor_event){.kind = SUPERVISOR_EVENT_READY, .service = i, .generation = generation(i)});
}
static void death(uint32_t i, enum cause cause, uint64_t code)
{
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_DEATH,
                                   .service = i,
                                   .generation = generation(i),
                                   .cause = cause,
                                   .code = code});
}
static void tick(void) { step((struct supervisor_event){.kind = SUPERVISOR_EVENT_TICK}); }
static void boot_all(void)
{
    boot();
    for (uint32_t round = 0; round < SERVICES; round++)
        for (uint32_t i = 1; i < state->count; i++)
            if (state_of(i) == SERVICE_STATE_STARTING) ready(i);
    for (uint32_t i = 1; i < state->count; i++) cr_assert_eq(state_of(i), SERVICE_STATE_RUNNING);
}

/* "K3 M2 S2 " : kill 3, mark 2, start 2; T timer, R report, H halt, + and - a spare. */
static const char *acted(void)
{
    static char text[512];
    size_t n = 0;
    text[0] = 0;
    for (size_t i = 0; i < actions; i++) {
        if (action[i].kind == SUPERVISOR_ACTION_TIMER) continue;
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%c%u ", "SKTMRH+-"[action[i].kind],
                              action[i].service);
    }
    return text;
}
static uint64_t timer(void)
{
    for (size_t i = 0; i < actions; i++)
        if (action[i].kind == SUPERVISOR_ACTION_TIMER) return action[i].ns;
    return 0;
}

/* --- Order ---------------------------------------------------------------------------------- */
Test(supervisor_core, boot_starts_what_depends_on_nothing_then_the_rest)
{
    manifest_make(3);
    depends(2, 1, DEPEND_HOLD_AND_REPLAY);
    depends(3, 2, DEPEND_RESTART_WITH);
    boot();
    cr_assert_str_eq(acted(), "S1 ");
    ready(1);
    cr_assert_str_eq(acted(), "S2 ");
    ready(2);
    cr_assert_str_eq(acted(), "S3 ");
    ready(3);
    cr_assert_str_eq(acted(), "");
}

Test(supervisor_core, nothing_happens_before_boot)
{
    manifest_make(1);
    state = malloc(supervisor_state_size(2));
    supervisor_init(state, &file.head);
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_RESET, .service = 1});
    cr_assert_eq(actions, 0);
}

Test(supervisor_core, holding_dependants_go_on)
{
    manifest_make(2);
    depends(2, 1, DEPEND_HOLD_AND_REPLAY);
    boot_all();
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_str_eq(acted(), "M1 S1 ");
    cr_assert_eq(action[0].value, MARK_DECIDED);
    cr_assert_eq(generation(1), 2);
    cr_assert_eq(state_of(2), SERVICE_STATE_RUNNING);
}

Test(supervisor_core, holding_dependant_that_dies_waits_for_its_dependency)
{
    manifest_make(2);
    depends(2, 1, DEPEND_HOLD_AND_REPLAY);
    boot_all();
    death(1, CAUSE_INJECTED, 0);
    death(2, CAUSE_INJECTED, 0);
    cr_assert_str_eq(acted(), "");
    cr_assert_eq(state_of(2), SERVICE_STATE_WAITING);
    ready(1);
    cr_assert_str_eq(acted(), "M2 S2 ");
}

Test(supervisor_core, restart_with_kills_in_reverse_and_starts_in_order)
{
    manifest_make(4);
    depends(2, 1, DEPEND_RESTART_WITH);
    depends(3, 2, DEPEND_RESTART_WITH);
    depends(4, 1, DEPEND_HOLD_AND_REPLAY);
    boot_all();
    death(1, CAUSE_PROTECTION, 0);
    cr_assert_str_eq(acted(), "K3 K2 M1 S1 ");
    cr_assert_eq(action[0].cause, CAUSE_DEPENDENCY);
    death(3, CAUSE_DEPENDENCY, 0);
    death(2, CAUSE_DEPENDENCY, 0);
    cr_assert_str_eq(acted(), "");
    ready(1);
    cr_assert_str_eq(acted(), "M2 S2 ");
    ready(2);
    cr_assert_str_eq(acted(), "M3 S3 ");
    cr_assert_eq(generation(4), 1);
}

Test(supervisor_core, restarting_with_another_is_not_counted)
{
    manifest_make(2);
    depends(2, 1, DEPEND_RESTART_WITH);
    entry(2)->intensity = 0;
    boot_all();
    for (int n = 0; n < 3; n++) {
        death(1, CAUSE_INJECTED, 0);
        death(2, CAUSE_DEPENDENCY, 0);
        ready(1);
        ready(2);
        cr_assert_eq(state_of(2), SERVICE_STATE_RUNNING);
    }
}

Test(supervisor_core, rest_for_one_restarts_what_was_started_after)
{
    manifest_make(4);
    group_rest_for_one(1, 3);
    boot();
    cr_assert_str_eq(acted(), "S1 S4 ");
    ready(1);
    cr_assert_str_eq(acted(), "S2 ");
    ready(2);
    ready(3);
    ready(4);
    death(2, CAUSE_DIVIDE, 0);
    cr_assert_str_eq(acted(), "K3 M2 S2 ");
    death(3, CAUSE_DEPENDENCY, 0);
    ready(2);
    cr_assert_str_eq(acted(), "M3 S3 ");
    cr_assert_eq(generation(1), 1);
    cr_assert_eq(generation(4), 1);
}

Test(supervisor_core, one_for_one_restarts_one)
{
    manifest_make(3);
    group_rest_for_one(1, 3);
    file.head.group[0].strategy = STRATEGY_ONE_FOR_ONE;
    boot_all();
    death(1, CAUSE_DIVIDE, 0);
    cr_assert_str_eq(acted(), "M1 S1 ");
}

/* --- Restart kinds -------------------------------------------------------------------------- */
Test(supervisor_core, transient_ends_with_code_0_and_restarts_otherwise)
{
    manifest_make(1);
    entry(1)->restart = RESTART_TRANSIENT;
    boot_all();
    death(1, CAUSE_EXIT, 1);
    cr_assert_str_eq(acted(), "M1 S1 ");
    ready(1);
    death(1, CAUSE_EXIT, 0);
    cr_assert_str_eq(acted(), "R1 ");
    cr_assert_eq(state_of(1), SERVICE_STATE_DONE);
}

Test(supervisor_core, permanent_restarts_after_code_0)
{
    manifest_make(1);
    boot_all();
    death(1, CAUSE_EXIT, 0);
    cr_assert_str_eq(acted(), "M1 S1 ");
}

Test(supervisor_core, temporary_never_restarts_and_keeps_nobody_waiting)
{
    manifest_make(2);
    entry(1)->restart = RESTART_TEMPORARY;
    depends(2, 1, DEPEND_RESTART_WITH);
    boot_all();
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_eq(state_of(1), SERVICE_STATE_DONE);
    death(2, CAUSE_PAGE_FAULT, 0);
    cr_assert_str_eq(acted(), "M2 S2 ");
}

/* --- Intensity and backoff ------------------------------------------------------------------ */
Test(supervisor_core, gives_up_at_one_more_than_intensity)
{
    manifest_make(1);
    boot_all();
    for (int n = 0; n < 3; n++) {
        death(1, CAUSE_PAGE_FAULT, 0);
        cr_assert_str_eq(acted(), "M1 S1 ");
        ready(1);
        now += 100 * MS;
    }
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_str_eq(acted(), "M1 R1 ");
    cr_assert_eq(action[0].value, MARK_GAVE_UP);
    cr_assert_eq(state_of(1), SERVICE_STATE_GAVE_UP);
    cr_assert_eq(state->service[1].restarts, 3);
}

static void four_deaths(uint64_t last_after_ns)
{
    manifest_make(1);
    boot_all();
    uint64_t first = now;
    for (int n = 0; n < 3; n++) {
        death(1, CAUSE_PAGE_FAULT, 0);
        ready(1);
    }
    now = first + last_after_ns;
    death(1, CAUSE_PAGE_FAULT, 0);
}
Test(supervisor_core, death_exactly_a_period_old_counts)
{
    four_deaths(1000 * MS);
    cr_assert_eq(state_of(1), SERVICE_STATE_GAVE_UP);
}
Test(supervisor_core, death_older_than_a_period_is_forgotten)
{
    four_deaths(1000 * MS + 1);
    cr_assert_eq(state_of(1), SERVICE_STATE_STARTING);
}

Test(supervisor_core, largest_intensity_fits_its_window)
{
    manifest_make(1);
    entry(1)->intensity = SUPERVISOR_INTENSITY_MAX;
    boot_all();
    for (uint32_t n = 0; n < SUPERVISOR_INTENSITY_MAX; n++) {
        death(1, CAUSE_INJECTED, 0);
        ready(1);
    }
    cr_assert_eq(state_of(1), SERVICE_STATE_RUNNING);
    death(1, CAUSE_INJECTED, 0);
    cr_assert_eq(state_of(1), SERVICE_STATE_GAVE_UP);
}

Test(supervisor_core, backoff_doubles_up_to_its_maximum_and_decays)
{
    const uint64_t expected[] = {10, 20, 40, 50};
    manifest_make(1);
    entry(1)->intensity = 10;
    entry(1)->backoff_initial_ms = 10;
    entry(1)->backoff_max_ms = 50;
    boot_all();
    for (int n = 0; n < 4; n++) {
        death(1, CAUSE_PAGE_FAULT, 0);
        cr_assert_eq(state_of(1), SERVICE_STATE_BACKOFF);
        cr_assert_eq(timer(), now + expected[n] * MS);
        now += expected[n] * MS - 1;
        tick();
        cr_assert_str_eq(acted(), "", "not a nanosecond early");
        now += 1;
        tick();
        cr_assert_str_eq(acted(), "M1 S1 ");
        ready(1);
    }
    now += 5000 * MS;
    tick();
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_eq(timer(), now + 10 * MS);
}

Test(supervisor_core, gave_up_takes_restart_with_along_and_leaves_holders)
{
    manifest_make(3);
    depends(2, 1, DEPEND_RESTART_WITH);
    depends(3, 1, DEPEND_HOLD_AND_REPLAY);
    entry(1)->intensity = 0;
    boot_all();
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_str_eq(acted(), "K2 M1 R1 ");
    death(2, CAUSE_DEPENDENCY, 0);
    cr_assert_str_eq(acted(), "R2 ");
    cr_assert_eq(state_of(2), SERVICE_STATE_GAVE_UP);
    cr_assert_eq(state_of(3), SERVICE_STATE_RUNNING);
    death(3, CAUSE_PAGE_FAULT, 0);
    cr_assert_eq(state_of(3), SERVICE_STATE_WAITING);
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_RESET, .service = 1});
    cr_assert_str_eq(acted(), "M1 S1 ");
    cr_assert_eq(state_of(2), SERVICE_STATE_WAITING);
    ready(1);
    cr_assert_str_eq(acted(), "M2 S2 M3 S3 ");
}

Test(supervisor_core, reset_starts_a_new_window)
{
    manifest_make(1);
    entry(1)->intensity = 1;
    boot_all();
    death(1, CAUSE_PAGE_FAULT, 0);
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_eq(state_of(1), SERVICE_STATE_GAVE_UP);
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_RESET, .service = 1});
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_eq(state_of(1), SERVICE_STATE_STARTING);
}

Test(supervisor_core, reset_of_a_running_service_does_nothing)
{
    manifest_make(1);
    boot_all();
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_RESET, .service = 1});
    cr_assert_eq(actions, 0);
}

/* --- Absent devices ------------------------------------------------------------------------- */
Test(supervisor_core, optional_without_device_is_absent_with_its_optional_dependants)
{
    manifest_make(3);
    entry(1)->flags = entry(2)->flags = SERVICE_OPTIONAL;
    depends(2, 1, DEPEND_HOLD_AND_REPLAY);
    depends(3, 1, DEPEND_HOLD_AND_REPLAY);
    boot();
    death(1, CAUSE_EXIT, E_NOT_FOUND);
    cr_assert_str_eq(acted(), "R1 R2 ");
    cr_assert_eq(state_of(1), SERVICE_STATE_ABSENT);
    cr_assert_eq(state_of(2), SERVICE_STATE_ABSENT);
    cr_assert_eq(state_of(3), SERVICE_STATE_WAITING);
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_RESET, .service = 1});
    ready(1);
    cr_assert_str_eq(acted(), "S2 S3 ");
}

static void device(uint32_t i, bool there)
{
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_DEVICE, .service = i, .code = there});
}

/* 2 restarts with 1, 3 only waits for its answers. */
Test(supervisor_core, unplugged_is_absent_until_the_device_is_back)
{
    manifest_make(3);
    depends(2, 1, DEPEND_RESTART_WITH);
    depends(3, 1, DEPEND_HOLD_AND_REPLAY);
    boot();
    ready(1), ready(2), ready(3);
    for (uint32_t round = 0; round < 2 * entry(1)->intensity; round++) {
        device(1, false);
        cr_assert_str_eq(acted(), "K1 ");
        death(1, CAUSE_UNPLUGGED, 0);
        cr_assert_str_eq(acted(), "K2 R1 ");
        cr_assert_eq(state_of(1), SERVICE_STATE_ABSENT, "not counted, however often");
        death(2, CAUSE_DEPENDENCY, 0);
        step((struct supervisor_event){.kind = SUPERVISOR_EVENT_RESET, .service = 1});
        cr_assert_eq(state_of(1), SERVICE_STATE_ABSENT, "an operator cannot plug it in");
        cr_assert(state_of(2) == SERVICE_STATE_WAITING && state_of(3) == SERVICE_STATE_RUNNING);
        device(1, true);
        cr_assert_eq(state_of(1), SERVICE_STATE_STARTING);
        ready(1), ready(2);
        cr_assert(state_of(1) == SERVICE_STATE_RUNNING && state_of(2) == SERVICE_STATE_RUNNING);
    }
}

Test(supervisor_core, unplugged_while_it_is_down_or_dies_of_something_else)
{
    manifest_make(1);
    entry(1)->backoff_initial_ms = entry(1)->backoff_max_ms = 10;
    boot();
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_eq(state_of(1), SERVICE_STATE_BACKOFF);
    device(1, false);
    device(1, false); /* said again, by a pci that fell */
    now += 10 * MS;
    tick();
    cr_assert_eq(state_of(1), SERVICE_STATE_ABSENT);
    device(1, true);
    device(1, true);
    ready(1);
    device(1, false);
    death(1, CAUSE_PAGE_FAULT, 0); /* it came before the kill */
    cr_assert_eq(state_of(1), SERVICE_STATE_ABSENT);
}

Test(supervisor_core, only_that_exit_while_starting_means_absent)
{
    manifest_make(2);
    entry(1)->flags = SERVICE_OPTIONAL;
    boot();
    death(1, CAUSE_EXIT, 1);
    cr_assert_eq(state_of(1), SERVICE_STATE_STARTING);
    ready(1);
    death(1, CAUSE_EXIT, E_NOT_FOUND);
    cr_assert_eq(state_of(1), SERVICE_STATE_STARTING);
    death(2, CAUSE_EXIT, E_NOT_FOUND);
    cr_assert_eq(state_of(2), SERVICE_STATE_STARTING);
}

/* --- Kills
 * ------------------------------------------------------------------------------------------------
 */
Test(supervisor_core, start_timeout_kills_and_counts)
{
    manifest_make(1);
    entry(1)->intensity = 0;
    boot();
    cr_assert_eq(timer(), now + 100 * MS);
    now += 100 * MS;
    tick();
    cr_assert_str_eq(acted(), "K1 ");
    cr_assert_eq(action[0].cause, CAUSE_START_TIMEOUT);
    ready(1);
    cr_assert_eq(state_of(1), SERVICE_STATE_FAILING, "READY after the kill is too late");
    death(1, CAUSE_START_TIMEOUT, 0);
    cr_assert_eq(state_of(1), SERVICE_STATE_GAVE_UP);
}

Test(supervisor_core, complaint_kills_once_with_its_cause)
{
    struct supervisor_event complaint = {
        .kind = SUPERVISOR_EVENT_COMPLAINT, .service = 1, .generation = 1, .cause = CAUSE_STALLED};
    manifest_make(1);
    boot_all();
    step(complaint);
    cr_assert_str_eq(acted(), "K1 ");
    cr_assert_eq(action[0].cause, CAUSE_STALLED);
    step(complaint);
    cr_assert_str_eq(acted(), "");
    death(1, CAUSE_STALLED, 0);
    cr_assert_str_eq(acted(), "M1 S1 ");
}

Test(supervisor_core, operator_kill_restarts_by_policy)
{
    manifest_make(1);
    boot_all();
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_KILL, .service = 1});
    cr_assert_str_eq(acted(), "K1 ");
    death(1, CAUSE_KILLED, 0);
    cr_assert_str_eq(acted(), "M1 S1 ");
}

Test(supervisor_core, stale_events_change_nothing)
{
    manifest_make(1);
    boot_all();
    death(1, CAUSE_INJECTED, 0);
    size_t size = supervisor_state_size(state->count);
    void *before = malloc(size);
    memcpy(before, state, size);
    for (int kind = SUPERVISOR_EVENT_READY; kind <= SUPERVISOR_EVENT_COMPLAINT; kind++) {
        step((struct supervisor_event){
            .kind = (enum supervisor_event_kind)kind, .service = 1, .generation = 1});
        cr_assert_eq(actions, 0);
        step((struct supervisor_event){
            .kind = (enum supervisor_event_kind)kind, .service = 7, .generation = 1});
        step((struct supervisor_event){
            .kind = (enum supervisor_event_kind)kind, .service = 0, .generation = 1});
        cr_assert_eq(actions, 0);
    }
    cr_assert_eq(memcmp(before, state, size), 0);
    free(before);
}

Test(supervisor_core, generations_run_out_before_a_tag_wraps)
{
    manifest_make(1);
    boot_all();
    state->service[1].generation = state->service[1].issued = SUPERVISOR_GENERATION_MAX;
    death(1, CAUSE_INJECTED, 0);
    cr_assert_eq(state_of(1), SERVICE_STATE_GAVE_UP);
}

Test(supervisor_core, stop_ends_all_in_reverse_then_halts)
{
    manifest_make(3);
    depends(2, 1, DEPEND_HOLD_AND_REPLAY);
    boot_all();
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_STOP, .code = 1});
    cr_assert_str_eq(acted(), "K3 K2 K1 ");
    cr_assert_eq(action[0].cause, CAUSE_SHUTDOWN);
    death(3, CAUSE_SHUTDOWN, 0);
    death(2, CAUSE_SHUTDOWN, 0);
    cr_assert_str_eq(acted(), "");
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_str_eq(acted(), "H0 ");
    cr_assert_eq(action[0].ns, 1);
}

/* --- one_for_all, breaker, backoff, the last rung ---------------------------------------------- */
static void group_one_for_all(uint32_t first, uint32_t last)
{
    group_rest_for_one(first, last);
    file.head.group[0].strategy = STRATEGY_ONE_FOR_ALL;
}

Test(supervisor_core, one_for_all_stops_and_starts_as_one)
{
    manifest_make(5);
    group_one_for_all(1, 3);
    depends(5, 1, DEPEND_RESTART_WITH);
    boot_all();
    death(3, CAUSE_PAGE_FAULT, 0);
    cr_assert_str_eq(acted(), "K5 K2 K1 ", "followers of members too, last started first");
    death(5, CAUSE_DEPENDENCY, 0);
    death(1, CAUSE_DEPENDENCY, 0);
    cr_assert_str_eq(acted(), "");
    death(2, CAUSE_DEPENDENCY, 0);
    cr_assert_str_eq(acted(), "M1 S1 M2 S2 M3 S3 ", "when the last of them is down");
    ready(1);
    cr_assert_str_eq(acted(), "M5 S5 ");
    cr_assert_eq(generation(4), 1);
}

Test(supervisor_core, one_for_all_waits_out_the_backoff_together_and_gives_up_together)
{
    manifest_make(2);
    group_one_for_all(1, 2);
    entry(2)->backoff_initial_ms = entry(2)->backoff_max_ms = 10;
    entry(2)->intensity = 1;
    boot_all();
    death(2, CAUSE_PAGE_FAULT, 0);
    death(1, CAUSE_DEPENDENCY, 0);
    cr_assert_str_eq(acted(), "");
    now += 10 * MS;
    tick();
    cr_assert_str_eq(acted(), "M1 S1 M2 S2 ");
    ready(1);
    ready(2);
    death(2, CAUSE_PAGE_FAULT, 0);
    death(1, CAUSE_DEPENDENCY, 0);
    cr_assert_eq(state_of(2), SERVICE_STATE_GAVE_UP);
    cr_assert_eq(state_of(1), SERVICE_STATE_GAVE_UP);
    cr_assert_eq(state->service[1].reason, REASON_DEPENDENCY);
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_RESET, .service = 2});
    cr_assert_str_eq(acted(), "M1 S1 M2 S2 ");
}

static void crash(uint32_t i, enum cause cause, uint64_t address)
{
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_DEATH,
                                   .service = i,
                                   .generation = generation(i),
                                   .cause = cause,
                                   .address = address});
    if (state_of(i) == SERVICE_STATE_STARTING) ready(i);
}

Test(supervisor_core, breaker_trips_at_the_same_crash_only)
{
    manifest_make(1);
    entry(1)->intensity = 50;
    entry(1)->breaker = 3;
    boot_all();
    crash(1, CAUSE_PAGE_FAULT, 0x1000);
    crash(1, CAUSE_PAGE_FAULT, 0x1000);
    crash(1, CAUSE_PAGE_FAULT, 0x2000); /* another address */
    crash(1, CAUSE_PAGE_FAULT, 0x2000);
    crash(1, CAUSE_PROTECTION, 0x2000); /* another cause */
    crash(1, CAUSE_PROTECTION, 0x2000);
    crash(1, CAUSE_INJECTED, 0x2000); /* not a crash: counts for nothing */
    cr_assert_eq(state_of(1), SERVICE_STATE_RUNNING);
    crash(1, CAUSE_PROTECTION, 0x2000);
    cr_assert_eq(state_of(1), SERVICE_STATE_GAVE_UP);
    cr_assert_eq(state->service[1].reason, REASON_BREAKER);
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_RESET, .service = 1});
    crash(1, CAUSE_PROTECTION, 0x2000);
    cr_assert_eq(state_of(1), SERVICE_STATE_RUNNING, "reset forgets");
}

Test(supervisor_core, breaker_forgets_after_a_stable_time)
{
    manifest_make(1);
    entry(1)->breaker = 2;
    entry(1)->stable_ms = 100;
    boot_all();
    crash(1, CAUSE_PAGE_FAULT, 0x1000);
    now += 100 * MS;
    crash(1, CAUSE_PAGE_FAULT, 0x1000);
    cr_assert_eq(state_of(1), SERVICE_STATE_RUNNING);
    now += 99 * MS;
    crash(1, CAUSE_PAGE_FAULT, 0x1000);
    cr_assert_eq(state_of(1), SERVICE_STATE_GAVE_UP);
}

static uint64_t waited_ms(void)
{
    death(1, CAUSE_KILLED, 0);
    cr_assert_eq(state_of(1), SERVICE_STATE_BACKOFF);
    uint64_t ms = (state->service[1].deadline_ns - now) / MS;
    now = state->service[1].deadline_ns;
    tick();
    ready(1);
    return ms;
}

Test(supervisor_core, backoff_has_a_factor_and_decays_while_stable)
{
    manifest_make(1);
    entry(1)->intensity = 100;
    entry(1)->backoff_initial_ms = 10;
    entry(1)->backoff_max_ms = 1000;
    entry(1)->backoff_factor_pct = 300;
    entry(1)->stable_ms = 50;
    boot_all();
    cr_assert_eq(waited_ms(), 10);
    cr_assert_eq(waited_ms(), 30);
    cr_assert_eq(waited_ms(), 90);
    now += 100 * MS; /* two stable times: two steps forgiven, one more for the death itself */
    cr_assert_eq(waited_ms(), 30);
    cr_assert_eq(waited_ms(), 90);
    cr_assert_eq(waited_ms(), 270);
    cr_assert_eq(waited_ms(), 810);
    cr_assert_eq(waited_ms(), 1000);
    now += 5000 * MS;
    cr_assert_eq(waited_ms(), 10);
}

Test(supervisor_core, jitter_lengthens_and_repeats)
{
    uint64_t first[8], differ = 0;
    for (int run = 0; run < 2; run++) {
        now = 1000 * MS;
        manifest_make(1);
        entry(1)->intensity = 100;
        entry(1)->backoff_initial_ms = 100;
        entry(1)->backoff_max_ms = 1000;
        entry(1)->backoff_factor_pct = 100;
        entry(1)->backoff_jitter_pct = 50;
        boot_all();
        for (int n = 0; n < 8; n++) {
            uint64_t ms = waited_ms();
            cr_assert(ms >= 100 && ms <= 150);
            if (run == 0) first[n] = ms;
            cr_assert_eq(ms, first[n], "the same in each run");
            differ += ms != first[0];
        }
        free(state);
    }
    cr_assert_gt(differ, 4);
}

Test(supervisor_core, some_services_the_system_does_not_go_on_without)
{
    manifest_make(2);
    entry(1)->intensity = 0;
    entry(1)->on_give_up = GIVE_UP_REBOOT;
    boot_all();
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_str_eq(acted(), "M1 R1 K2 ");
    cr_assert_eq(state->phase, PHASE_STOPPING);
    death(2, CAUSE_SHUTDOWN, 0);
    cr_assert_str_eq(acted(), "H0 ");
    cr_assert_eq(action[0].ns, SYSTEM_REBOOT);
}

Test(supervisor_core, escalates_to_what_it_restarts_with_and_no_further_than_its_budget)
{
    manifest_make(3);
    depends(2, 1, DEPEND_RESTART_WITH);
    depends(3, 2, DEPEND_RESTART_WITH);
    entry(1)->intensity = 1;
    entry(2)->intensity = 0;
    entry(2)->on_give_up = GIVE_UP_ESCALATE;
    boot_all();
    death(2, CAUSE_PAGE_FAULT, 0);
    cr_assert_str_eq(acted(), "K3 K1 R2 ");
    cr_assert_eq(action[1].cause, CAUSE_ESCALATED);
    death(3, CAUSE_DEPENDENCY, 0);
    death(1, CAUSE_ESCALATED, 0);
    cr_assert_str_eq(acted(), "M1 S1 ");
    ready(1);
    ready(2);
    ready(3);
    death(2, CAUSE_PAGE_FAULT, 0);
    death(1, CAUSE_ESCALATED, 0);
    cr_assert_eq(state_of(1), SERVICE_STATE_GAVE_UP, "its budget is used up");
    cr_assert_eq(state_of(2), SERVICE_STATE_GAVE_UP);
    cr_assert_eq(state->service[2].reason, REASON_DEPENDENCY);
}

/* --- Spares ---------------------------------------------------------------------------------- */
static void spare_says(enum supervisor_event_kind kind, uint32_t i)
{
    step((struct supervisor_event){
        .kind = kind, .service = i, .generation = state->service[i].spare_generation});
}

static void with_spare(uint32_t i)
{
    now = state->service[i].deadline_ns;
    tick();
    spare_says(SUPERVISOR_EVENT_STANDBY, i);
    cr_assert_eq(state->service[i].spare, SPARE_READY);
}

Test(supervisor_core, a_spare_is_made_later_and_taken_at_the_death)
{
    manifest_make(2);
    entry(1)->flags = SERVICE_SPARE;
    depends(2, 1, DEPEND_RESTART_WITH);
    boot_all();
    cr_assert_eq(state->service[1].deadline_ns, now + SUPERVISOR_SPARE_DELAY_NS);
    tick();
    cr_assert_str_eq(acted(), "", "too early");
    now += SUPERVISOR_SPARE_DELAY_NS;
    tick();
    cr_assert_str_eq(acted(), "+1 ");
    cr_assert_eq(action[0].generation, 2);
    spare_says(SUPERVISOR_EVENT_STANDBY, 1);
    cr_assert_str_eq(acted(), "");
    cr_assert_eq(state->service[1].deadline_ns, SUPERVISOR_NEVER);
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_str_eq(acted(), "K2 M1 S1 ");
    cr_assert_eq(generation(1), 2, "the spare's");
    cr_assert_eq(state->service[1].restarts, 1);
    ready(1);
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_eq(generation(1), 3, "none was there: a new process");
}

Test(supervisor_core, a_spare_that_does_not_stand_yet_is_taken_too)
{
    manifest_make(1);
    entry(1)->flags = SERVICE_SPARE;
    boot_all();
    now += SUPERVISOR_SPARE_DELAY_NS;
    tick();
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_str_eq(acted(), "M1 S1 ");
    cr_assert_eq(generation(1), 2);
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_STANDBY, .service = 1, .generation = 2});
    cr_assert_eq(state->service[1].spare, SPARE_NONE, "it is the service now");
}

Test(supervisor_core, spares_that_die_are_not_counted_and_come_later_each_time)
{
    manifest_make(1);
    entry(1)->flags = SERVICE_SPARE;
    entry(1)->intensity = 0;
    boot_all();
    for (uint32_t n = 1; n <= 20; n++) {
        now = state->service[1].deadline_ns;
        tick();
        cr_assert_str_eq(acted(), "+1 ");
        spare_says(SUPERVISOR_EVENT_SPARE_DEATH, 1);
        cr_assert_eq(state->service[1].deadline_ns - now, SUPERVISOR_SPARE_DELAY_NS << (n < 10 ? n : 10));
    }
    cr_assert_eq(state_of(1), SERVICE_STATE_RUNNING);
    cr_assert_eq(state->deaths, 0);
    now = state->service[1].deadline_ns;
    tick();
    now += 100 * MS; /* its start timeout */
    tick();
    cr_assert_str_eq(acted(), "-1 ", "too slow to be of use");
    with_spare(1);
    cr_assert_eq(generation(1), 1);
}

Test(supervisor_core, nobody_stands_by_for_what_is_down_for_good)
{
    manifest_make(1);
    entry(1)->flags = SERVICE_SPARE;
    entry(1)->intensity = 0;
    boot_all();
    with_spare(1);
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_str_eq(acted(), "-1 M1 R1 ");
    cr_assert_eq(state_of(1), SERVICE_STATE_GAVE_UP);
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_RESET, .service = 1});
    ready(1);
    with_spare(1);
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_STOP, .code = 1});
    death(1, CAUSE_SHUTDOWN, 0);
    cr_assert_str_eq(acted(), "-1 H0 ");
}

/* --- Live update ----------------------------------------------------------------------------- */
static void update(uint32_t i, uint64_t program)
{
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_UPDATE, .service = i, .code = program});
}

/* The new version stands by, the old one is stopped, the new one serves. */
static void updated(uint32_t i, uint32_t program)
{
    update(i, program);
    cr_assert_str_eq(acted(), "+1 ");
    cr_assert_eq(action[0].value, program);
    spare_says(SUPERVISOR_EVENT_STANDBY, i);
    cr_assert_str_eq(acted(), "K1 ");
    cr_assert_eq(action[0].cause, CAUSE_UPDATED);
    death(i, CAUSE_UPDATED, 0);
    cr_assert_str_eq(acted(), "M1 M1 S1 ");
    cr_assert_eq(action[2].value, program);
    ready(i);
    cr_assert_eq(state->service[i].program, program);
}

Test(supervisor_core, an_update_takes_over_and_is_proven_in_time)
{
    manifest_make(1);
    entry(1)->intensity = 0;
    boot_all();
    updated(1, 7);
    cr_assert(state->service[1].on_probation);
    cr_assert_eq(state->service[1].restarts, 1);
    now += entry(1)->probation_ms * MS;
    tick();
    cr_assert_not(state->service[1].on_probation);
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_eq(state->service[1].program, 0, "too many deaths: the rung before degraded");
    cr_assert_str_eq(acted(), "M1 M1 S1 ");
    cr_assert(state->service[1].rolled_back);
    ready(1);
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_eq(state_of(1), SERVICE_STATE_GAVE_UP, "there is no other");
}

Test(supervisor_core, how_long_probation_is_says_the_manifest)
{
    manifest_make(2);
    entry(1)->probation_ms = 20;
    entry(2)->probation_ms = 0;
    boot_all();
    updated(1, 7);
    now += 19 * MS;
    tick();
    cr_assert(state->service[1].on_probation);
    now += MS;
    tick();
    cr_assert_not(state->service[1].on_probation);
    update(2, 7);
    spare_says(SUPERVISOR_EVENT_STANDBY, 2);
    death(2, CAUSE_UPDATED, 0);
    ready(2);
    tick();
    cr_assert_not(state->service[2].on_probation, "it is what it is from its READY");
    cr_assert_eq(state->service[2].program, 7);
}

Test(supervisor_core, a_version_that_fails_on_probation_is_rolled_back_and_not_counted)
{
    manifest_make(2);
    entry(1)->intensity = 0;
    depends(2, 1, DEPEND_RESTART_WITH);
    boot_all();
    update(1, 7);
    spare_says(SUPERVISOR_EVENT_STANDBY, 1);
    cr_assert_str_eq(acted(), "K2 K1 ");
    death(2, CAUSE_DEPENDENCY, 0);
    death(1, CAUSE_UPDATED, 0);
    now += 100 * MS;
    tick();
    cr_assert_eq(action[0].cause, CAUSE_START_TIMEOUT, "not ready in time");
    death(1, CAUSE_START_TIMEOUT, 0);
    cr_assert_eq(state->service[1].program, 0);
    cr_assert_str_eq(acted(), "M1 M1 S1 ");
    cr_assert_eq(state->service[1].window_count, 0);
    ready(1);
    cr_assert_eq(state_of(2), SERVICE_STATE_STARTING);
}

Test(supervisor_core, on_probation_the_previous_version_stands_by)
{
    manifest_make(1);
    entry(1)->flags = SERVICE_SPARE;
    boot_all();
    updated(1, 7);
    with_spare(1);
    cr_assert_eq(state->service[1].spare_program, 0);
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_eq(state->service[1].program, 0);
    cr_assert_eq(generation(1), state->service[1].issued, "the spare");
    ready(1);
    with_spare(1);
    update(1, 8);
    cr_assert_str_eq(acted(), "-1 +1 ");
    spare_says(SUPERVISOR_EVENT_STANDBY, 1);
    death(1, CAUSE_UPDATED, 0);
    ready(1);
    with_spare(1);
    now = state->service[1].probation_ns;
    tick();
    cr_assert_str_eq(acted(), "-1 ", "proven: it stands by for itself");
    with_spare(1);
    cr_assert_eq(state->service[1].spare_program, 8);
}

Test(supervisor_core, an_update_that_does_not_get_there_changes_nothing)
{
    manifest_make(1);
    boot_all();
    update(1, 7);
    update(1, 8);
    cr_assert_eq(actions, 0, "one at a time");
    spare_says(SUPERVISOR_EVENT_SPARE_DEATH, 1);
    cr_assert_str_eq(acted(), "M1 ");
    cr_assert_eq(state_of(1), SERVICE_STATE_RUNNING);
    cr_assert_eq(generation(1), 1);
    cr_assert(state->service[1].rolled_back);
    updated(1, 7);
    updated(1, 8);
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_eq(state->service[1].program, 0, "7 was not proven either");
}

/* --- A new shell on the old state ----------------------------------------------------------- */
Test(supervisor_core, resume_says_again_what_may_not_have_been_done)
{
    manifest_make(4);
    depends(3, 2, DEPEND_RESTART_WITH);
    boot_all();
    step((struct supervisor_event){
        .kind = SUPERVISOR_EVENT_COMPLAINT, .service = 1, .generation = 1, .cause = CAUSE_STALLED});
    death(2, CAUSE_PAGE_FAULT, 0);
    cr_assert_str_eq(acted(), "K3 M2 S2 ");
    step((struct supervisor_event){.kind = SUPERVISOR_EVENT_RESUME});
    cr_assert_str_eq(acted(), "K3 K1 S2 ");
    cr_assert_eq(action[0].cause, CAUSE_DEPENDENCY);
    cr_assert_eq(action[1].cause, CAUSE_STALLED);
    cr_assert_eq(action[2].generation, 2);
    cr_assert_eq(timer(), now + 100 * MS, "its start timeout");
    cr_assert_eq(generation(2), 2);
    cr_assert_eq(state->restarts, 1);
}

Test(supervisor_core, what_is_done_is_not_restarted_and_nobody_with_it)
{
    manifest_make(3);
    depends(2, 1, DEPEND_RESTART_WITH);
    depends(3, 2, DEPEND_RESTART_WITH);
    entry(2)->restart = RESTART_TEMPORARY;
    boot_all();
    death(2, CAUSE_EXIT, 0);
    death(1, CAUSE_PAGE_FAULT, 0);
    cr_assert_str_eq(acted(), "M1 S1 ");
}

/* --- Any schedule --------------------------------------------------------------------------- */
static uint64_t seed;
static uint32_t below(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)(seed >> 32) % n;
}

static void manifest_random(void)
{
    manifest_make(1 + below(SERVICES));
    if (below(2)) {
        group_rest_for_one(1, 1);
        for (uint32_t i = 1; i < file.head.service_count; i++)
            if (below(3) == 0) entry(i)->group = 0;
        file.head.group[0].strategy = (uint16_t)below(3);
    }
    for (uint32_t i = 1; i < file.head.service_count; i++) {
        struct manifest_service *m = entry(i);
        m->restart = (uint16_t)(below(4) ? RESTART_PERMANENT : below(3));
        m->intensity = below(6);
        m->period_ms = 1 + below(200);
        m->backoff_initial_ms = below(2) ? 0 : 1 + below(20);
        m->backoff_max_ms = m->backoff_initial_ms * (1 + below(8));
        m->backoff_factor_pct = (uint16_t)(100 + below(300));
        m->backoff_jitter_pct = (uint16_t)below(101);
        m->stable_ms = below(2) ? 0 : 1 + below(50);
        m->breaker = (uint16_t)(below(2) ? 0 : 2 + below(4));
        m->on_give_up = (uint16_t)(below(12) == 0 ? GIVE_UP_REBOOT : below(2) * GIVE_UP_ESCALATE);
        m->flags = (below(3) ? 0 : SERVICE_OPTIONAL) | (below(2) ? 0 : SERVICE_SPARE);
        for (uint32_t d = 1; d < i && m->depend_count < MANIFEST_DEPENDS; d++)
            if (below(3) == 0) depends(i, d, (enum depend_kind)below(2));
    }
}

/* What really exists, kept beside the core by believing its actions alone. */
static bool alive[SERVICES + 1], condemned[SERVICES + 1], halted;
static uint32_t spare[SERVICES + 1],
    made[SERVICES + 1]; /* generation of what stands by, 0: nobody; the newest made */
static enum cause fate[SERVICES + 1];

static void world_apply(void)
{
    for (size_t n = 0; n < actions; n++) {
        uint32_t i = action[n].service;
        if (action[n].kind == SUPERVISOR_ACTION_START) {
            cr_assert(!alive[i], "started twice: %u%s", i, repeat);
            cr_assert_eq(action[n].generation, generation(i));
            if (spare[i])
                cr_assert_eq(action[n].generation, spare[i], "service %u: its spare is not taken%s", i,
                             repeat);
            else
                cr_assert_gt(action[n].generation, made[i], "service %u: a generation twice%s", i, repeat);
            made[i] = action[n].generation;
            spare[i] = 0;
            alive[i] = true;
            condemned[i] = false;
        }
        if (action[n].kind == SUPERVISOR_ACTION_KILL) {
            cr_assert(alive[i] && !condemned[i], "killed twice, or dead: %u%s", i, repeat);
            condemned[i] = true;
            fate[i] = action[n].cause;
        }
        if (action[n].kind == SUPERVISOR_ACTION_SPARE) {
            cr_assert(!spare[i] && action[n].generation > made[i], "service %u has a spare%s", i, repeat);
            spare[i] = made[i] = action[n].generation;
        }
        if (action[n].kind == SUPERVISOR_ACTION_SPARE_END) {
            cr_assert(spare[i] && spare[i] == action[n].generation, "service %u has none%s", i, repeat);
            spare[i] = 0;
        }
        if (action[n].kind == SUPERVISOR_ACTION_HALT) halted = true;
    }
    for (uint32_t i = 1; i < state->count; i++)
        cr_assert_eq(alive[i], supervisor_state_live(state_of(i)), "service %u: core and world differ%s", i,
                     repeat);
    if (halted)
        for (uint32_t i = 1; i < state->count; i++) cr_assert(!alive[i] && !spare[i]);
}

static struct supervisor_event world_event(bool may_stop)
{
    const enum cause cause[] = {CAUSE_PAGE_FAULT, CAUSE_EXIT, CAUSE_INJECTED, CAUSE_SPAWN};
    const uint64_t code[] = {0, 1, E_NOT_FOUND};
    struct supervisor_event e = {.service = 1 + below(state->count - 1u)};
    e.generation = generation(e.service) - (below(8) == 0 && generation(e.service));
    if (spare[e.service] && below(4) == 0) {
        e.kind = below(3) ? SUPERVISOR_EVENT_STANDBY : SUPERVISOR_EVENT_SPARE_DEATH;
        e.generation = spare[e.service];
        if (e.kind == SUPERVISOR_EVENT_SPARE_DEATH) spare[e.service] = 0;
        return e;
    }
    if (below(12) == 0) {
        e.kind = SUPERVISOR_EVENT_UPDATE;
        e.code = below(4);
        return e;
    }
    if (below(16) == 0) {
        e.kind = SUPERVISOR_EVENT_DEVICE;
        e.code = below(2);
        return e;
    }
    switch (below(may_stop ? 10 : 9)) {
    case 0:
    case 1:
    case 2: e.kind = SUPERVISOR_EVENT_READY; break;
    case 3:
    case 4:
        e.kind = SUPERVISOR_EVENT_DEATH;
        e.cause = condemned[e.service] ? fate[e.service] : cause[below(4)];
        e.code = code[below(3)];
        if (e.generation == generation(e.service)) alive[e.service] = condemned[e.service] = false;
        break;
    case 5:
        e.kind = SUPERVISOR_EVENT_COMPLAINT;
        e.cause = CAUSE_STALLED;
        break;
    case 6: e.kind = SUPERVISOR_EVENT_KILL; break;
    case 7: e.kind = SUPERVISOR_EVENT_RESET; break;
    case 8: e.kind = SUPERVISOR_EVENT_TICK; break;
    default: e.kind = SUPERVISOR_EVENT_STOP; break;
    }
    return e;
}

/* If nothing fails any more, everything that is not down for a reason comes up. */
static void world_calms_down(void)
{
    for (uint32_t round = 0; round < 4 * SERVICES; round++) {
        for (uint32_t i = 1; i < state->count; i++) {
            if (condemned[i]) {
                alive[i] = condemned[i] = false;
                death(i, fate[i], 0);
                world_apply();
            } else if (state_of(i) == SERVICE_STATE_STARTING) {
                ready(i);
                world_apply();
            }
        }
        bool starting = false;
        for (uint32_t i = 1; i < state->count; i++) starting |= state_of(i) == SERVICE_STATE_STARTING;
        if (starting) continue; /* says READY in the next round, before its time is out */
        if (state->timer_ns != SUPERVISOR_NEVER && state->timer_ns > now) now = state->timer_ns;
        tick();
        world_apply();
    }
    for (uint32_t i = 1; i < state->count; i++) {
        enum service_state s = state_of(i);
        bool settled = s == SERVICE_STATE_RUNNING || s == SERVICE_STATE_GAVE_UP ||
                       s == SERVICE_STATE_ABSENT || s == SERVICE_STATE_DONE || s == SERVICE_STATE_WAITING;
        cr_assert(settled, "service %u is still in state %d%s", i, s, repeat);
    }
}

static void world_run(uint64_t run_seed)
{
    snprintf(repeat, sizeof(repeat), "; repeat with SUPERVISOR_SEED=%lu", run_seed);
    seed = run_seed * 0x9e3779b97f4a7c15u + 1;
    memset(alive, 0, sizeof(alive));
    memset(condemned, 0, sizeof(condemned));
    memset(spare, 0, sizeof(spare));
    memset(made, 0, sizeof(made));
    halted = false;
    manifest_random();
    bool may_stop = below(4) == 0;
    boot();
    world_apply();
    for (int n = 0; n < 400; n++) {
        now += below(10) * MS;
        step(world_event(may_stop && n > 300));
        world_apply();
    }
    if (state->phase == PHASE_RUN) world_calms_down();
    free(state);
}

Test(supervisor_core, invariants_hold_in_any_schedule, .timeout = 120)
{
    const char *given = getenv("SUPERVISOR_SEED");
    if (given) {
        world_run(strtoull(given, NULL, 0));
        return;
    }
    for (uint64_t n = 1; n <= 3000; n++) world_run(n);
}

Test(supervisor_core, same_schedule_same_actions)
{
    uint64_t sum[2] = {0, 0};
    for (int run = 0; run < 2; run++) {
        seed = 42;
        now = 1000 * MS;
        memset(alive, 0, sizeof(alive));
        memset(condemned, 0, sizeof(condemned));
        memset(spare, 0, sizeof(spare));
        memset(made, 0, sizeof(made));
        manifest_random();
        boot();
        world_apply();
        for (int n = 0; n < 1000; n++) {
            now += below(10) * MS;
            step(world_event(false));
            for (size_t a = 0; a < actions; a++)
                sum[run] = sum[run] * 31 + action[a].kind * 7 + action[a].service * 3 + action[a].generation;
            world_apply();
        }
        free(state);
    }
    cr_assert_eq(sum[0], sum[1]);
}

/* --- The compiled manifest ------------------------------------------------------------------ */
static void refused(const char *what)
{
    uint32_t where;
    const char *wrong = manifest_check(&file, file.head.size, &where);
    cr_assert_not_null(wrong, "accepted: %s", what);
}
#define REFUSED(change)   \
    do {                  \
        manifest_make(2); \
        change;           \
        refused(#change); \
    } while (0)

Test(supervisor_manifest, accepts_a_good_one_and_refuses_each_bad_field)
{
    uint32_t where;
    manifest_make(2);
    cr_assert_null(manifest_check(&file, file.head.size, &where));
    REFUSED(file.head.magic++);
    REFUSED(file.head.version++);
    REFUSED(file.head.service_size++);
    REFUSED(file.head.service_count++);
    REFUSED(file.head.service_count = 0);
    REFUSED(file.head.group_count = 17);
    REFUSED(file.head.size--);
    REFUSED(file.head.group_count = 1);
    REFUSED(group_rest_for_one(1, 2); file.head.group[0].strategy = 3);
    REFUSED(entry(1)->backoff_factor_pct = 99);
    REFUSED(entry(1)->backoff_factor_pct = 1001);
    REFUSED(entry(1)->backoff_jitter_pct = 101);
    REFUSED(entry(1)->stable_ms = 3600001);
    REFUSED(entry(1)->on_give_up = 3);
    REFUSED(memset(entry(1)->name, 'x', sizeof(entry(1)->name)));
    REFUSED(entry(1)->name[0] = 0);
    REFUSED(strcpy(entry(2)->name, entry(1)->name));
    REFUSED(entry(1)->image[0] = 0);
    REFUSED(memset(entry(1)->args, 'x', sizeof(entry(1)->args)));
    REFUSED(entry(1)->restart = 3);
    REFUSED(entry(1)->group = 0);
    REFUSED(entry(0)->group = 0);
    REFUSED(entry(1)->intensity = SUPERVISOR_INTENSITY_MAX + 1);
    REFUSED(entry(1)->period_ms = 0);
    REFUSED(entry(1)->backoff_initial_ms = 1);
    REFUSED(entry(1)->start_timeout_ms = 0);
    REFUSED(entry(1)->probation_ms = 3600001);
    REFUSED(entry(1)->priority = 30);
    REFUSED(entry(1)->priority = 0);
    REFUSED(entry(1)->budget_us = 1);
    REFUSED(entry(1)->quota_pages = 0);
    REFUSED(entry(1)->depend_count = MANIFEST_DEPENDS + 1);
    REFUSED(entry(1)->call_count = MANIFEST_DEPENDS + 1);
    REFUSED(entry(1)->session_count = MANIFEST_DEPENDS + 1);
    REFUSED(entry(1)->port_count = MANIFEST_PORTS + 1);
    REFUSED(entry(1)->irq_count = MANIFEST_IRQS + 1);
    REFUSED(entry(1)->pci_count = MANIFEST_PCI + 1);
    REFUSED(depends(1, 1, DEPEND_RESTART_WITH));
    REFUSED(depends(1, 2, DEPEND_RESTART_WITH));
    REFUSED(depends(1, 0, DEPEND_RESTART_WITH));
    REFUSED(depends(2, 1, (enum depend_kind)2));
    REFUSED(entry(1)->call_count = 1; entry(1)->call[0] = 2);
    REFUSED(entry(1)->call_count = 1; entry(1)->call[0] = 9);
    REFUSED(entry(1)->session_count = 1; entry(1)->session[0] = 3);
    REFUSED(entry(1)->port_count = 1);
    REFUSED(entry(1)->port_count = 1; entry(1)->port[0] = ((struct manifest_ports){0xffff, 2}));
}

Test(supervisor_manifest, refuses_every_truncation)
{
    uint32_t where;
    manifest_make(2);
    uint32_t whole = file.head.size;
    for (uint32_t bytes = 0; bytes < whole; bytes++) {
        void *copy = malloc(bytes + 8);
        memcpy(copy, &file, bytes);
        cr_assert_not_null(manifest_check(copy, bytes, &where));
        free(copy);
    }
}
