/* SPDX-License-Identifier: BSD-2-Clause
 * What a step of the policy core costs with 1,024 services: not in time, but in whose state it looks at. The
 * state and the manifest lie in pages that cannot be accessed; each page that a step touches is counted when
 * it faults. A loop over all services would touch every page of them. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "supervisor/core.h"

#define MS        1000000ull
#define MANY      1024u
#define HOST_PAGE 4096u
#define AREA      (4u << 20)

/* The header of the state (sets, heap of deadlines), the service itself, its entry in the manifest, and a few
 * others on the heap's path. All services together: more than 300. */
#define PAGES_A_STEP 16u

static struct manifest *manifest;
static struct supervisor_state *state;
static struct supervisor_action action[6 * (MANY + 1) + 2];
static uint64_t now = 1000 * MS;
static volatile sig_atomic_t touched;

static void on_fault(int number, siginfo_t *info, void *context)
{
    uintptr_t at = (uintptr_t)info->si_addr, page = at & ~(uintptr_t)(HOST_PAGE - 1);
    bool ours = at - (uintptr_t)state < AREA || at - (uintptr_t)manifest < AREA;
    (void)number, (void)context;
    if (!ours || mprotect((void *)page, HOST_PAGE, PROT_READ | PROT_WRITE)) _Exit(99);
    touched++;
}

static void *area(void)
{
    void *at = mmap(NULL, AREA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(at, MAP_FAILED);
    return at;
}

static void manifest_make(uint32_t services)
{
    manifest = area();
    state = area();
    cr_assert_leq(supervisor_state_size(services + 1), AREA);
    *manifest = (struct manifest){.magic = MANIFEST_MAGIC,
                                  .version = MANIFEST_VERSION,
                                  .service_size = sizeof(struct manifest_service),
                                  .service_count = (uint16_t)(services + 1)};
    manifest->size = (uint32_t)(sizeof(*manifest) + (services + 1) * sizeof(struct manifest_service));
    for (uint32_t i = 0; i <= services; i++) {
        struct manifest_service *m = &manifest->service[i];
        snprintf(m->name, sizeof(m->name), "s%u", i);
        snprintf(m->image, sizeof(m->image), "program");
        m->group = MANIFEST_NONE;
        m->intensity = 100;
        m->period_ms = 1000;
        m->backoff_factor_pct = 200;
        m->start_timeout_ms = 1000;
        m->priority = i ? 10 : 30;
        m->quota_pages = 100;
    }
}

static void depends(uint32_t i, uint32_t on, enum depend_kind kind)
{
    struct manifest_service *m = &manifest->service[i];
    m->depend[m->depend_count++] = (struct manifest_depend){(uint16_t)on, (uint16_t)kind};
}

static size_t step(enum supervisor_event_kind kind, uint32_t i, enum cause cause)
{
    struct supervisor_event event = {
        .kind = kind, .service = i, .generation = state->service[i].generation, .cause = cause};
    return supervisor_step(state, &event, now, action, sizeof(action) / sizeof(action[0]));
}

/* Pages of state and manifest that the step touches. */
static uint32_t cost(enum supervisor_event_kind kind, uint32_t i, enum cause cause)
{
    struct supervisor_event event = {
        .kind = kind, .service = i, .generation = state->service[i].generation, .cause = cause};
    struct sigaction catch = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigemptyset(&catch.sa_mask);
    cr_assert_eq(sigaction(SIGSEGV, &catch, NULL), 0);
    touched = 0;
    cr_assert_eq(mprotect(state, AREA, PROT_NONE) | mprotect(manifest, AREA, PROT_NONE), 0);
    (void)supervisor_step(state, &event, now, action, sizeof(action) / sizeof(action[0]));
    cr_assert_eq(mprotect(state, AREA, PROT_READ | PROT_WRITE), 0);
    cr_assert_eq(mprotect(manifest, AREA, PROT_READ | PROT_WRITE), 0);
    return (uint32_t)touched;
}

static void boot(void)
{
    uint32_t where;
    const char *wrong = manifest_check(manifest, manifest->size, &where);
    cr_assert_null(wrong, "service %d: %s", (int)where, wrong ? wrong : "");
    supervisor_init(state, manifest);
    (void)step(SUPERVISOR_EVENT_BOOT, 0, CAUSE_NONE);
    for (uint32_t i = 1; i < state->count; i++) (void)step(SUPERVISOR_EVENT_READY, i, CAUSE_NONE);
    cr_assert_eq(state->in_state[SERVICE_STATE_RUNNING], state->count - 1);
    cr_assert(supervisor_invariants(state));
}

static void restart_is_cheap(uint32_t i)
{
    uint32_t death = cost(SUPERVISOR_EVENT_DEATH, i, CAUSE_INJECTED);
    cr_assert_eq(state->service[i].state, SERVICE_STATE_STARTING);
    cr_assert_leq(death, PAGES_A_STEP, "death of %u: looked at %u pages", i, death);
    uint32_t ready = cost(SUPERVISOR_EVENT_READY, i, CAUSE_NONE);
    cr_assert_eq(state->service[i].state, SERVICE_STATE_RUNNING);
    cr_assert_leq(ready, PAGES_A_STEP, "READY of %u: looked at %u pages", i, ready);
    cr_assert(supervisor_invariants(state));
}

Test(supervisor_scale, a_restart_looks_at_nobody_else)
{
    manifest_make(MANY);
    boot();
    restart_is_cheap(1);
    restart_is_cheap(MANY / 2);
    restart_is_cheap(MANY);
}

Test(supervisor_scale, a_complaint_a_kill_and_a_reset_look_at_nobody_else)
{
    manifest_make(MANY);
    boot();
    cr_assert_leq(cost(SUPERVISOR_EVENT_COMPLAINT, 700, CAUSE_STALLED), PAGES_A_STEP);
    cr_assert_leq(cost(SUPERVISOR_EVENT_KILL, 701, CAUSE_NONE), PAGES_A_STEP);
    manifest->service[702].intensity = 0;
    (void)step(SUPERVISOR_EVENT_DEATH, 702, CAUSE_INJECTED);
    cr_assert_eq(state->service[702].state, SERVICE_STATE_GAVE_UP);
    cr_assert_leq(cost(SUPERVISOR_EVENT_RESET, 702, CAUSE_NONE), PAGES_A_STEP);
    cr_assert_eq(state->service[702].state, SERVICE_STATE_STARTING);
}

Test(supervisor_scale, a_tick_looks_at_those_whose_time_is_up)
{
    manifest_make(MANY);
    manifest->service[300].backoff_initial_ms = manifest->service[300].backoff_max_ms = 10;
    boot();
    (void)step(SUPERVISOR_EVENT_DEATH, 300, CAUSE_INJECTED);
    cr_assert_eq(state->service[300].state, SERVICE_STATE_BACKOFF);
    now += 10 * MS;
    cr_assert_leq(cost(SUPERVISOR_EVENT_TICK, 0, CAUSE_NONE), PAGES_A_STEP);
    cr_assert_eq(state->service[300].state, SERVICE_STATE_STARTING);
    cr_assert_leq(cost(SUPERVISOR_EVENT_TICK, 0, CAUSE_NONE), PAGES_A_STEP);
}

Test(supervisor_scale, a_death_looks_at_its_dependants_wherever_they_are)
{
    manifest_make(MANY);
    depends(500, 3, DEPEND_RESTART_WITH);
    depends(MANY, 500, DEPEND_RESTART_WITH);
    boot();
    cr_assert_leq(cost(SUPERVISOR_EVENT_DEATH, 3, CAUSE_INJECTED), 2 * PAGES_A_STEP);
    cr_assert_eq(state->service[500].state, SERVICE_STATE_STOPPING);
    cr_assert_eq(state->service[MANY].state, SERVICE_STATE_STOPPING);
}

/* All who depend on it go on without it: they are looked at when one of them waits for it. */
Test(supervisor_scale, a_restart_of_what_all_depend_on_looks_at_who_waits)
{
    manifest_make(MANY);
    for (uint32_t i = 2; i <= MANY; i++) depends(i, 1, DEPEND_HOLD_AND_REPLAY);
    boot();
    restart_is_cheap(1);
    (void)step(SUPERVISOR_EVENT_DEATH, 1, CAUSE_INJECTED);
    (void)step(SUPERVISOR_EVENT_DEATH, 700, CAUSE_INJECTED);
    cr_assert_eq(state->service[700].state, SERVICE_STATE_WAITING);
    cr_assert_leq(cost(SUPERVISOR_EVENT_READY, 1, CAUSE_NONE), PAGES_A_STEP);
    cr_assert_eq(state->service[700].state, SERVICE_STATE_STARTING);
    cr_assert(supervisor_invariants(state));
}

/* Everybody is affected: everybody is looked at. So the count above means something. */
Test(supervisor_scale, what_affects_all_is_seen_to_look_at_all)
{
    manifest_make(MANY);
    for (uint32_t i = 2; i <= MANY; i++) depends(i, 1, DEPEND_RESTART_WITH);
    boot();
    cr_assert_geq(cost(SUPERVISOR_EVENT_DEATH, 1, CAUSE_INJECTED),
                  MANY * sizeof(struct supervised) / HOST_PAGE);
    cr_assert_eq(state->in_state[SERVICE_STATE_STOPPING], MANY - 1);
}

Test(supervisor_scale, deadlines_in_any_order_fire_in_time)
{
    uint64_t random = 1;
    manifest_make(MANY);
    for (uint32_t i = 1; i <= MANY; i++) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        manifest->service[i].backoff_initial_ms = manifest->service[i].backoff_max_ms =
            1 + (uint32_t)(random >> 33) % 500;
    }
    boot();
    uint64_t start = now;
    for (uint32_t i = 1; i <= MANY; i++) (void)step(SUPERVISOR_EVENT_DEATH, i, CAUSE_INJECTED);
    cr_assert_eq(state->in_state[SERVICE_STATE_BACKOFF], MANY);
    while (state->in_state[SERVICE_STATE_BACKOFF]) {
        now = state->timer_ns;
        (void)step(SUPERVISOR_EVENT_TICK, 0, CAUSE_NONE);
        cr_assert(supervisor_invariants(state));
        for (uint32_t i = 1; i <= MANY; i++) {
            bool due = start + manifest->service[i].backoff_initial_ms * MS <= now;
            cr_assert_eq(state->service[i].state, due ? SERVICE_STATE_STARTING : SERVICE_STATE_BACKOFF);
        }
    }
}
