/* SPDX-License-Identifier: BSD-2-Clause
 * From a seed to a system and what happens to it. A plan depends on its seed alone; limits only take from it,
 * so that a part of a plan is a plan. Faults come in clusters: the next one is often near the last, in the
 * middle of what repairs it. */
#include <stdio.h>
#include <string.h>
#include "sim.h"

struct plan plan;
static uint64_t rng;

static uint32_t below(uint32_t n) { return sim_below(&rng, n); }
static bool one_in(uint32_t n) { return below(n) == 0; }

static struct manifest_service *entry(uint32_t i) { return &plan.file.service[i]; }

static void depend(uint32_t i, uint32_t on, enum depend_kind kind)
{
    struct manifest_service *m = entry(i);

    for (uint32_t d = 0; d < m->depend_count; d++)
        if (m->depend[d].service == on) return;
    if (m->depend_count < MANIFEST_DEPENDS)
        m->depend[m->depend_count++] = (struct manifest_depend){(uint16_t)on, (uint16_t)kind};
}

static enum depend_kind any_kind(void) { return one_in(2) ? DEPEND_RESTART_WITH : DEPEND_HOLD_AND_REPLAY; }

/* --- The system --------------------------------------------------------------------------------------- */

static void roles_choose(void)
{
    uint32_t n = 2;

    plan.role[0] = ROLE_SUPERVISOR;
    plan.role[RECOVERY] = ROLE_RECOVERY;
    for (uint32_t k = below(3); k > 0; k--) plan.role[n++] = ROLE_PLAIN;
    uint32_t drivers = n, driver_count = 1 + below(2);
    for (uint32_t k = 0; k < driver_count; k++) plan.role[n++] = ROLE_DRIVER;
    plan.first_client = n;
    for (uint32_t k = 1 + below(CLIENTS_MAX); k > 0; k--) {
        plan.serves[n] = drivers + below(driver_count);
        plan.role[n++] = ROLE_CLIENT;
    }
    for (uint32_t k = below(3); k > 0; k--) plan.role[n++] = ROLE_PLAIN;
    plan.services = n;
}

static void policy_choose(uint32_t i)
{
    struct manifest_service *m = entry(i);

    snprintf(m->name, sizeof(m->name), "s%u", i);
    snprintf(m->image, sizeof(m->image), "program");
    m->group = MANIFEST_NONE;
    m->restart = RESTART_PERMANENT;
    m->intensity = one_in(3) ? below(4) : 20;
    m->period_ms = 1 + below(one_in(2) ? 20 : 500);
    if (one_in(2)) m->backoff_initial_ms = 1 + below(10);
    m->backoff_max_ms = m->backoff_initial_ms * (1 + below(6));
    m->backoff_factor_pct = (uint16_t)(100 + below(300));
    m->backoff_jitter_pct = (uint16_t)(one_in(2) ? 0 : below(101));
    m->stable_ms = one_in(2) ? 0 : 1 + below(50);
    m->breaker = one_in(2) ? 0 : (uint16_t)(2 + below(3));
    m->on_give_up = one_in(16) ? GIVE_UP_REBOOT : one_in(3) ? GIVE_UP_ESCALATE : GIVE_UP_DEGRADED;
    m->start_timeout_ms = 50 + below(100); /* longer than recovery may be silent (LOOK_NS) */
    m->probation_ms = 1000;
    m->watchdog_ms = 8 + below(60);
    m->priority = i ? 10 : 30;
    m->quota_pages = 100;
}

static void edges_choose(uint32_t i)
{
    enum depend_kind on_recovery = plan.preserved ? DEPEND_HOLD_AND_REPLAY : DEPEND_RESTART_WITH;

    if (plan.role[i] == ROLE_DRIVER || plan.role[i] == ROLE_CLIENT) depend(i, RECOVERY, on_recovery);
    if (plan.role[i] == ROLE_CLIENT) {
        entry(i)->session_count = 1;
        entry(i)->session_pages = 64;
        entry(i)->session[0] = (uint16_t)plan.serves[i];
        depend(i, plan.serves[i], one_in(4) ? DEPEND_RESTART_WITH : DEPEND_HOLD_AND_REPLAY);
    }
    for (uint32_t d = 2; d < i; d++)
        if (one_in(plan.role[i] == ROLE_PLAIN ? 2 : 4) && plan.role[d] != ROLE_CLIENT)
            depend(i, d, any_kind());
}

/* One, or up to three of which each may be inside an earlier one. */
static void groups_choose(void)
{
    struct manifest *m = &plan.file.head;

    m->group_count = (uint16_t)(one_in(2) ? 1 : 2 + below(GROUPS_MAX - 1));
    for (uint32_t g = 0; g < m->group_count; g++) {
        snprintf(m->group[g].name, sizeof(m->group[g].name), "g%u", g);
        m->group[g].strategy = (uint16_t)below(3);
        m->group[g].inside = (uint16_t)(g && !one_in(4) ? 1 + below(g) : 0);
        m->group[g].period_ms = one_in(2) ? 0 : 1 + below(200);
        m->group[g].intensity = below(4);
    }
    for (uint32_t i = 2; i < plan.services; i++)
        if (one_in(m->group_count > 1 ? 2 : 3)) entry(i)->group = (uint16_t)below(m->group_count);
}

static void system_choose(void)
{
    roles_choose();
    plan.preserved = one_in(2);
    struct manifest *m = &plan.file.head;
    m->magic = MANIFEST_MAGIC;
    m->version = MANIFEST_VERSION;
    m->service_size = sizeof(struct manifest_service);
    m->service_count = (uint16_t)plan.services;
    m->size = (uint32_t)(sizeof(*m) + plan.services * sizeof(struct manifest_service));
    for (uint32_t i = 0; i < plan.services; i++) policy_choose(i);
    for (uint32_t i = 2; i < plan.services; i++) edges_choose(i);
    if (one_in(3)) groups_choose();
    for (uint32_t i = 2; i < plan.services; i++) {
        bool worker = plan.role[i] == ROLE_DRIVER;
        if (one_in(worker ? 12 : 4)) entry(i)->restart = (uint16_t)(1 + below(2));
        if (one_in(4)) entry(i)->flags = SERVICE_OPTIONAL;
        if (one_in(worker ? 2 : 4)) entry(i)->flags |= SERVICE_SPARE;
        plan.slots[i] = 1 + below(SLOTS_MAX);
        plan.room[i] = 1 + below(2 * SLOTS_MAX);
        plan.requests[i] = 1 + below(REQUESTS_MAX);
    }
}

/* --- Faults -------------------------------------------------------------------------------------------- */

static uint32_t any_service(void) { return 1 + below(plan.services - 1); }

static uint32_t any_driver(void)
{
    uint32_t d = 2 + below(plan.services - 2);

    while (plan.role[d] != ROLE_DRIVER) d = d + 1 < plan.services ? d + 1 : 2;
    return d;
}

static void argument_choose(struct fault *f)
{
    const uint32_t codes[] = {0, 1, E_NOT_FOUND};

    f->target = any_service();
    f->arg = below(0x10000);
    switch (f->kind) {
    case FAULT_CRASH: f->arg %= 3; break; /* the address: the same one comes again */
    case FAULT_EXIT: f->arg = codes[below(3)]; break;
    case FAULT_CLOCK_JUMP: f->arg = 1 + below(300); break;
    case FAULT_SUPERVISOR_CRASH: f->arg = below(2) ? below(20) : below(5000); break;
    case FAULT_SCRIBBLE:
    case FAULT_IRQ_LOST:
    case FAULT_DEVICE_STUCK: f->actor = any_driver(); break;
    case FAULT_LETHAL: f->actor = RECOVERY; break;
    case FAULT_CHECKPOINT: f->target = any_driver(); break;
    default: break;
    }
}

static bool is_the_supervisors(enum fault_kind kind)
{
    return kind == FAULT_SUPERVISOR_CRASH || kind == FAULT_SPAWN || kind == FAULT_OPERATOR_KILL ||
           kind == FAULT_OPERATOR_RESET || kind == FAULT_STALE || kind == FAULT_STOP ||
           kind == FAULT_SPARE_KILL || kind == FAULT_UPDATE || kind == FAULT_SPARE_HANG ||
           kind == FAULT_STRUCK;
}

static void fault_choose(struct fault *f, const struct fault *last)
{
    f->kind = one_in(2) ? FAULT_KILL : (enum fault_kind)below(FAULTS);
    if (f->kind == FAULT_STOP && !one_in(6)) f->kind = FAULT_CRASH;
    f->actor = one_in(2) ? any_driver() : any_service();
    if (last && one_in(2) && last->actor != 0) f->actor = last->actor;
    argument_choose(f);
    if (is_the_supervisors(f->kind)) f->actor = 0;
    uint32_t span = f->actor == 0 ? 60 : f->actor == RECOVERY ? 80 : 1u << (4 + below(6));
    f->at = 1 + below(span);
    if (last && f->actor == last->actor && !one_in(3)) f->at = last->at + below(one_in(2) ? 12 : 80);
}

/* A driver is updated; meanwhile it or recovery is ended, and the supervisor, and one of them again. */
static void combination_choose(void)
{
    uint32_t driver = any_driver(), at = 8 + below(60);
    struct fault *f = plan.fault;

    f[0] = (struct fault){FAULT_UPDATE, 0, at, driver, below(5)};
    f[1] = (struct fault){FAULT_STRUCK, 0, at + 1 + below(10), one_in(2) ? driver : RECOVERY, 0};
    f[2] = (struct fault){FAULT_SUPERVISOR_CRASH, 0, at + 1 + below(10), any_service(), below(20)};
    f[3] = f[1 + below(2)];
    f[3].at = at + 1 + below(30);
    if (plan.fault_count < 4) plan.fault_count = 4;
}

void plan_make(uint64_t seed, const struct limits *limits)
{
    memset(&plan, 0, sizeof(plan));
    plan.seed = seed;
    plan.limits = *limits;
    rng = seed * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull;
    system_choose();
    plan.preempt_every = one_in(4) ? 0 : 1u << below(7);
    plan.fault_count = 1 + below(FAULTS_MAX);
    for (uint32_t n = 0; n < plan.fault_count; n++)
        fault_choose(&plan.fault[n], n ? &plan.fault[n - 1] : NULL);
    if (one_in(8)) combination_choose();
    if (limits->calm) plan.preempt_every = 0;
    for (uint32_t i = 0; i < plan.services; i++)
        if (plan.requests[i] > limits->requests) plan.requests[i] = limits->requests;
}

void plan_print(void)
{
    static const char *const role[] = {"supervisor", "recovery", "driver", "client", "plain"};
    static const char *const restart[] = {"permanent", "transient", "temporary"};
    static const char *const fault[] = {
#define FAULT(name, text) #name,
#include "faults.def"
#undef FAULT
    };

    printf("seed %lu: %u services, recovery's memory is %s, preempted every %u steps\n", plan.seed,
           plan.services, plan.preserved ? "preserved" : "lost with it", plan.preempt_every);
    for (uint32_t g = 0; g < plan.file.head.group_count; g++) {
        const struct manifest_group *m = &plan.file.head.group[g];
        printf("  group %u of strategy %u, inside %d, intensity %u in %u ms\n", g, m->strategy, m->inside - 1,
               m->intensity, m->period_ms);
    }
    for (uint32_t i = 1; i < plan.services; i++) {
        const struct manifest_service *m = entry(i);
        printf("  %2u %-8s %-9s intensity %u in %u ms%s", i, role[plan.role[i]], restart[m->restart],
               m->intensity, m->period_ms, m->flags & SERVICE_OPTIONAL ? ", optional" : "");
        if (m->flags & SERVICE_SPARE) printf(", a spare");
        if (m->group != MANIFEST_NONE) printf(", group %u", m->group);
        for (uint32_t d = 0; d < m->depend_count; d++)
            printf(", %s %u", m->depend[d].kind == DEPEND_RESTART_WITH ? "with" : "holds",
                   m->depend[d].service);
        if (plan.role[i] == ROLE_CLIENT)
            printf(", %u requests to %u, %u at once", plan.requests[i], plan.serves[i], plan.slots[i]);
        printf("\n");
    }
    for (uint32_t n = 0; n < plan.fault_count; n++) {
        const struct fault *f = &plan.fault[n];
        if (!(plan.limits.faults >> n & 1)) continue;
        printf("  fault %u: %s at step %u of %u, target %u, arg %u\n", n, fault[f->kind], f->at, f->actor,
               f->target, f->arg);
    }
}
