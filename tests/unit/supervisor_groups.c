/* SPDX-License-Identifier: BSD-2-Clause
 * Groups in groups: what a death, a failed group and too many of those mean for whom. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "abi/trace.h"
#include "supervisor/core.h"

#define MS       1000000ull
#define SERVICES 7u /* the supervisor included */

static struct {
    struct manifest head;
    struct manifest_service service[SERVICES];
} file __attribute__((aligned(8)));
static struct supervisor_state *state;
static struct supervisor_action action[6 * SERVICES + 2];
static size_t actions;
static uint64_t now = 1000 * MS;

static struct manifest_service *entry(uint32_t i) { return &file.head.service[i]; }

/* 1, 2 in group 0; 3, 4 in group 1 and 5 in group 2, both inside group 0; 6 in none. */
static void manifest_make(enum strategy outer, enum strategy inner)
{
    static const uint16_t group[SERVICES] = {MANIFEST_NONE, 0, 0, 1, 1, 2, MANIFEST_NONE};
    memset(&file, 0, sizeof(file));
    file.head =
        (struct manifest){.magic = MANIFEST_MAGIC,
                          .version = MANIFEST_VERSION,
                          .size = sizeof(struct manifest) + SERVICES * sizeof(struct manifest_service),
                          .service_size = sizeof(struct manifest_service),
                          .service_count = SERVICES,
                          .group_count = 3};
    for (uint16_t g = 0; g < 3; g++) {
        snprintf(file.head.group[g].name, MANIFEST_NAME_MAX, "g%u", g);
        file.head.group[g].strategy = (uint16_t)(g == 0 ? outer : inner);
        file.head.group[g].inside = g != 0;
    }
    file.head.group[0].intensity = 2;
    file.head.group[0].period_ms = 1000;
    for (uint32_t i = 0; i < SERVICES; i++) {
        struct manifest_service *m = entry(i);
        snprintf(m->name, sizeof(m->name), "s%u", i);
        snprintf(m->image, sizeof(m->image), "program");
        m->group = group[i];
        m->intensity = 3;
        m->period_ms = 1000;
        m->backoff_factor_pct = 200;
        m->start_timeout_ms = 100;
        m->priority = i ? 10 : 30;
        m->quota_pages = 100;
    }
}

/* Judging everybody, not only those whom the core believes affected, would change nothing. */
static void nobody_was_forgotten(void)
{
    static struct supervisor_action unused[6 * SERVICES + 2];
    size_t size = supervisor_state_size(SERVICES);
    struct supervisor_state *other = malloc(size);
    memcpy(other, state, size);
    other->stale.summary = 1;
    other->stale.word[0] = (1ul << SERVICES) - 2;
    struct supervisor_event nothing = {.kind = SUPERVISOR_EVENT_READY, .service = 1, .generation = ~0u};
    cr_assert_eq(supervisor_step(other, &nothing, now, unused, 6 * SERVICES + 2), 0, "nobody looked");
    free(other);
}

static void step(enum supervisor_event_kind kind, uint32_t i, enum cause cause)
{
    struct supervisor_event event = {
        .kind = kind, .service = i, .generation = state->service[i].generation, .cause = cause};
    actions = supervisor_step(state, &event, now, action, sizeof(action) / sizeof(action[0]));
    cr_assert(supervisor_invariants(state), "after event %d of service %u", kind, i);
    if (state->phase == PHASE_RUN) nobody_was_forgotten();
}
static enum service_state state_of(uint32_t i) { return state->service[i].state; }
static void ready(uint32_t i) { step(SUPERVISOR_EVENT_READY, i, 0); }
static void death(uint32_t i) { step(SUPERVISOR_EVENT_DEATH, i, CAUSE_INJECTED); }

static void all_ready(void)
{
    for (uint32_t round = 0; round < SERVICES; round++)
        for (uint32_t i = 1; i < SERVICES; i++)
            if (state_of(i) == SERVICE_STATE_STARTING) ready(i);
}

static void all_run(void)
{
    all_ready();
    for (uint32_t i = 1; i < SERVICES; i++) cr_assert_eq(state_of(i), SERVICE_STATE_RUNNING, "service %u", i);
}

static void boot(void)
{
    uint32_t where;
    const char *wrong = manifest_check(&file, file.head.size, &where);
    cr_assert_null(wrong, "%s", wrong);
    free(state);
    state = malloc(supervisor_state_size(SERVICES));
    supervisor_init(state, &file.head);
    step(SUPERVISOR_EVENT_BOOT, 0, 0);
}

/* The services of the last step's actions of this kind, in order. */
static const char *acted(enum supervisor_action_kind kind)
{
    static char text[64];
    size_t n = 0;
    text[0] = 0;
    for (size_t a = 0; a < actions; a++)
        if (action[a].kind == kind)
            n += (size_t)snprintf(text + n, sizeof(text) - n, "%u", action[a].service);
    return text;
}
static const char *killed(void) { return acted(SUPERVISOR_ACTION_KILL); }
static const char *started(void) { return acted(SUPERVISOR_ACTION_START); }

/* They die, the first named first; nobody starts before the last is down. */
static void fall(const char *services)
{
    for (; *services; services++) {
        cr_assert_eq(state_of((uint32_t)(*services - '0')), SERVICE_STATE_STOPPING, "service %c", *services);
        cr_assert_str_eq(started(), "", "before %c is down", *services);
        step(SUPERVISOR_EVENT_DEATH, (uint32_t)(*services - '0'), CAUSE_ESCALATED);
    }
}

/* So often that its policy gives it up. */
static void dies_too_often(uint32_t i)
{
    for (uint32_t n = 0; n < 4; n++) {
        death(i);
        if (n < 3) ready(i);
    }
}

Test(supervisor_groups, a_death_of_a_nested_service_concerns_its_own_group)
{
    manifest_make(STRATEGY_ONE_FOR_ALL, STRATEGY_ONE_FOR_ONE);
    boot();
    all_run();
    death(3);
    cr_assert_str_eq(killed(), "");
    cr_assert_str_eq(started(), "3");
    manifest_make(STRATEGY_ONE_FOR_ONE, STRATEGY_ONE_FOR_ALL);
    boot();
    all_run();
    death(3);
    cr_assert_str_eq(killed(), "4");
}

Test(supervisor_groups, a_death_of_a_member_concerns_what_is_nested_beside_it)
{
    manifest_make(STRATEGY_ONE_FOR_ALL, STRATEGY_ONE_FOR_ONE);
    boot();
    all_run();
    death(2);
    cr_assert_str_eq(killed(), "5431");
    for (uint32_t i = 5; i > 0; i--)
        if (i != 2) death(i);
    cr_assert_str_eq(started(), "12345", "all at once, when the last was down");
    manifest_make(STRATEGY_REST_FOR_ONE, STRATEGY_ONE_FOR_ONE);
    boot();
    all_run();
    death(2);
    cr_assert_str_eq(killed(), "543");
    manifest_make(STRATEGY_ONE_FOR_ONE, STRATEGY_ONE_FOR_ALL);
    boot();
    all_run();
    death(2);
    cr_assert_str_eq(killed(), "");
}

Test(supervisor_groups, a_group_starts_after_the_group_before_it)
{
    manifest_make(STRATEGY_REST_FOR_ONE, STRATEGY_ONE_FOR_ONE);
    boot();
    cr_assert_str_eq(started(), "16");
    ready(1);
    ready(2);
    cr_assert_str_eq(started(), "34", "both of a group in which order does not matter");
    ready(4);
    cr_assert_str_eq(started(), "", "5 waits for the whole group before it");
    ready(3);
    cr_assert_str_eq(started(), "5");
}

Test(supervisor_groups, a_service_that_escalates_fails_its_group_in_the_one_around_it)
{
    static const struct {
        enum strategy outer;
        const char *killed;
    } row[] = {{STRATEGY_ONE_FOR_ONE, "3"}, {STRATEGY_REST_FOR_ONE, "53"}, {STRATEGY_ONE_FOR_ALL, "5312"}};
    for (uint32_t n = 0; n < 3; n++) {
        manifest_make(row[n].outer, STRATEGY_ONE_FOR_ONE);
        file.head.group[0].intensity = 20;
        entry(4)->on_give_up = GIVE_UP_ESCALATE;
        boot();
        all_run();
        dies_too_often(4);
        cr_assert_eq(strlen(killed()), strlen(row[n].killed), "strategy %u: %s", row[n].outer, killed());
        for (const char *k = row[n].killed; *k; k++)
            cr_assert_not_null(strchr(killed(), *k), "strategy %u: %s", row[n].outer, killed());
        cr_assert_eq(state_of(6), SERVICE_STATE_RUNNING, "it is in no group");
        cr_assert_eq(state->group[1].failures, 1);
        cr_assert_eq(state->group[1].last, 4);
        cr_assert_eq(state->group[1].reason, REASON_INTENSITY);
        cr_assert_not(state->group[1].gave_up);
        fall(row[n].killed);
        all_run();
        cr_assert_eq(state->service[4].window_count, 0, "it begins anew");
        cr_assert_eq(state->service[3].window_count, 0, "it did nothing");
    }
}

Test(supervisor_groups, deaths_of_all_members_count_together)
{
    manifest_make(STRATEGY_ONE_FOR_ONE, STRATEGY_ONE_FOR_ONE);
    file.head.group[1].intensity = 2;
    file.head.group[1].period_ms = 100;
    boot();
    all_run();
    death(3);
    ready(3);
    death(4);
    ready(4);
    now += 101 * MS; /* both are forgotten */
    death(3);
    ready(3);
    death(4);
    ready(4);
    now += 100 * MS; /* and count to the last instant */
    cr_assert_eq(state->group[1].failures, 0);
    death(3);
    cr_assert_str_eq(killed(), "4");
    cr_assert_eq(state->group[1].failures, 1);
    cr_assert_eq(state->group[1].reason, REASON_GROUP);
    cr_assert_eq(state->group[0].count, 1, "as one, in the group around it");
    size_t marks = 0;
    for (size_t a = 0; a < actions; a++) {
        if (action[a].kind != SUPERVISOR_ACTION_MARK || action[a].value != MARK_GROUP_FAILED) continue;
        cr_assert_eq(action[a].ns, 1);
        marks++;
    }
    cr_assert_eq(marks, 1, "said once");
    fall("4");
    all_run();
}

Test(supervisor_groups, a_group_that_fails_too_often_fails_the_next_and_the_outermost_gives_up)
{
    manifest_make(STRATEGY_ONE_FOR_ONE, STRATEGY_ONE_FOR_ONE);
    file.head.group[1].intensity = 0;
    file.head.group[1].period_ms = 1000;
    boot();
    all_run();
    for (uint32_t n = 0; n < 2; n++) { /* the intensity of the group around it */
        death(4);
        fall("3");
        all_run();
    }
    death(4);
    cr_assert_eq(state_of(4), SERVICE_STATE_GAVE_UP);
    cr_assert_eq(state->service[4].reason, REASON_GROUP);
    cr_assert_eq(state_of(3), SERVICE_STATE_RUNNING, "the rest goes on");
    cr_assert(state->group[0].gave_up);
    cr_assert_eq(state->group[0].last, 4);
    step(SUPERVISOR_EVENT_RESET, 4, 0);
    all_run();
    cr_assert_not(state->group[0].gave_up);
    cr_assert_eq(state->group[0].count, 0);
}

Test(supervisor_groups, three_deep)
{
    manifest_make(STRATEGY_ONE_FOR_ALL, STRATEGY_ONE_FOR_ONE);
    file.head.group[2].inside = 2; /* 5's group is inside that of 3 and 4 now */
    file.head.group[1].intensity = 0;
    file.head.group[1].period_ms = 1000;
    file.head.group[2].intensity = 0;
    file.head.group[2].period_ms = 1000;
    boot();
    all_run();
    death(5);
    cr_assert_eq(strlen(killed()), 4, "its group, the next, and by the outermost's strategy all: %s",
                 killed());
    cr_assert_eq(state->group[2].failures, 1);
    cr_assert_eq(state->group[1].failures, 1);
    cr_assert_eq(state->group[1].reason, REASON_GROUP);
    for (uint32_t i = 4; i > 0; i--) death(i);
    all_run();
    cr_assert_eq(state->group[0].count, 1);
}

Test(supervisor_groups, who_died_and_who_fails_is_repeated_for_a_new_supervisor)
{
    manifest_make(STRATEGY_ONE_FOR_ALL, STRATEGY_ONE_FOR_ALL);
    file.head.group[1].intensity = 0;
    file.head.group[1].period_ms = 1000;
    boot();
    all_run();
    death(4);
    cr_assert_eq(state_of(3), SERVICE_STATE_STOPPING, "by the death, and by the group's failure");
    step(SUPERVISOR_EVENT_RESUME, 0, 0);
    cr_assert_eq(strlen(killed()), 4, "%s", killed());
    for (uint32_t i = 5; i > 0; i--)
        if (i != 4) death(i);
    all_run();
}

Test(supervisor_groups, what_a_manifest_may_not_say)
{
    uint32_t where;
    manifest_make(STRATEGY_ONE_FOR_ONE, STRATEGY_ONE_FOR_ONE);
    file.head.group[0].inside = 1;
    cr_assert_not_null(manifest_check(&file, file.head.size, &where), "inside itself");
    file.head.group[0].inside = 2;
    cr_assert_not_null(manifest_check(&file, file.head.size, &where), "inside a later one");
    file.head.group[0].inside = 0;
    file.head.group[2].intensity = SUPERVISOR_INTENSITY_MAX + 1;
    cr_assert_not_null(manifest_check(&file, file.head.size, &where), "intensity");
    file.head.group[2].intensity = 0;
    cr_assert_null(manifest_check(&file, file.head.size, &where));
}

/* Random manifests of groups, random events: the invariants hold after every step, and all that died comes up or is
 * given up. SUPERVISOR_SEED=n repeats a run. */
static uint64_t rng;
static uint32_t below(uint32_t n)
{
    rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
    return (uint32_t)(rng >> 33) % n;
}

static void random_manifest(void)
{
    manifest_make((enum strategy)below(3), (enum strategy)below(3));
    for (uint16_t g = 0; g < 3; g++) {
        file.head.group[g].strategy = (uint16_t)below(3);
        file.head.group[g].inside = (uint16_t)below(g + 1u);
        file.head.group[g].period_ms = below(2) ? 1 + below(50) : 0;
        file.head.group[g].intensity = below(4);
    }
    for (uint32_t i = 1; i < SERVICES; i++) {
        entry(i)->group = below(4) ? (uint16_t)below(3) : MANIFEST_NONE;
        entry(i)->on_give_up = below(2) ? GIVE_UP_ESCALATE : GIVE_UP_DEGRADED;
        entry(i)->backoff_initial_ms = entry(i)->backoff_max_ms = below(3) ? 0 : 1 + below(20);
        for (uint32_t d = 1; d < i; d++)
            if (below(4) == 0)
                entry(i)->depend[entry(i)->depend_count++] =
                    (struct manifest_depend){(uint16_t)d, (uint16_t)below(2)};
    }
}

static void random_event(void)
{
    uint32_t i = 1 + below(SERVICES - 1);
    now += below(3) ? 0 : below(30) * MS;
    switch (below(8)) {
    case 0: step(SUPERVISOR_EVENT_KILL, i, 0); break;
    case 1: step(SUPERVISOR_EVENT_RESET, i, 0); break;
    case 2: step(SUPERVISOR_EVENT_TICK, 0, 0); break;
    case 3:
    case 4: ready(i); break;
    default: death(i); break;
    }
}

static void come_to_rest(void)
{
    for (uint32_t round = 0; round < 40; round++) {
        for (uint32_t i = 1; i < SERVICES; i++)
            if (state_of(i) == SERVICE_STATE_FAILING || state_of(i) == SERVICE_STATE_STOPPING) death(i);
        now += 1000 * MS;
        all_ready();
        step(SUPERVISOR_EVENT_TICK, 0, 0);
    }
    for (uint32_t i = 1; i < SERVICES; i++) {
        bool rests = state_of(i) == SERVICE_STATE_RUNNING || state_of(i) == SERVICE_STATE_GAVE_UP ||
                     state_of(i) == SERVICE_STATE_WAITING;
        cr_assert(rests, "service %u is in state %u", i, state_of(i));
    }
    if (state->in_state[SERVICE_STATE_GAVE_UP] == 0) all_run();
}

Test(supervisor_groups, random_trees_hold)
{
    const char *chosen = getenv("SUPERVISOR_SEED");
    uint64_t first = chosen ? strtoull(chosen, NULL, 0) : 1, last = chosen ? first : 3000;
    uint32_t failures = 0, gave_up = 0;
    for (uint64_t seed = first; seed <= last; seed++) {
        rng = seed * 0x9e3779b97f4a7c15u + 1;
        random_manifest();
        boot();
        for (uint32_t n = 0; n < 60; n++) random_event();
        for (uint16_t g = 0; g < 3; g++)
            failures += state->group[g].failures, gave_up += state->group[g].gave_up;
        come_to_rest();
    }
    if (chosen) return;
    cr_assert_gt(failures, 500u, "%u", failures);
    cr_assert_gt(gave_up, 300u, "%u", gave_up);
}
