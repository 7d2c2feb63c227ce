/* SPDX-License-Identifier: BSD-2-Clause
 * The compiled manifest and the policy core that runs on it (supervisor/core*.c). Input: changes to a good
 * manifest of six services, three of them in nested groups, up to a record whose place is 0xffff, then events of two bytes. An accepted
 * manifest keeps every promise that its readers index and divide by, and no schedule of events on it
 * breaks an invariant of the core. */
#include "fuzz.h"
#include "supervisor/core.h"

#define SERVICES    6u
#define ACTIONS_MAX (6 * SERVICES + 2) /* supervisor_actions_max */
#define MS          1000000ul

static struct file {
    struct manifest head;
    struct manifest_service service[SERVICES];
} good, file;

static void manifest_make(void)
{
    good.head = (struct manifest){.magic = MANIFEST_MAGIC,
                                  .version = MANIFEST_VERSION,
                                  .size = sizeof good,
                                  .service_size = sizeof(struct manifest_service),
                                  .service_count = SERVICES,
                                  .group_count = 2,
                                  .group = {{.name = "group", .strategy = STRATEGY_REST_FOR_ONE},
                                            {.name = "inner",
                                             .strategy = STRATEGY_ONE_FOR_ALL,
                                             .inside = 1,
                                             .intensity = 1,
                                             .period_ms = 50}}};
    for (uint32_t i = 0; i < SERVICES; i++) {
        struct manifest_service *m = &good.service[i];
        *m = (struct manifest_service){.name = "s0",
                                       .image = "program",
                                       .flags = SERVICE_ENDPOINT,
                                       .group = i >= 3 ? i >= 4 : MANIFEST_NONE,
                                       .intensity = 2,
                                       .period_ms = 100,
                                       .backoff_max_ms = 8,
                                       .backoff_factor_pct = 200,
                                       .start_timeout_ms = 50,
                                       .probation_ms = 50,
                                       .priority = 10,
                                       .quota_pages = 100};
        m->name[1] = (char)('0' + i);
        for (uint32_t d = 1; d < i && d < 3; d++)
            m->depend[m->depend_count++] = (struct manifest_depend){(uint16_t)d, (uint16_t)(d & 1)};
    }
}

static bool terminated(const char *text, size_t size) { return text[0] && memchr(text, 0, size); }

/* What readers of an accepted manifest take for granted. */
static void service_check(const struct manifest *m, uint32_t i)
{
    const struct manifest_service *s = &m->service[i];
    check(terminated(s->name, sizeof s->name) && terminated(s->image, sizeof s->image));
    check(memchr(s->args, 0, sizeof s->args));
    for (uint32_t j = 0; j < i; j++) check(strcmp(m->service[j].name, s->name) != 0);
    check(i > 0 || s->depend_count == 0);
    if (i == 0) return; /* the supervisor itself: nobody reads the rest */
    check(s->restart <= RESTART_TEMPORARY && (s->group == MANIFEST_NONE || s->group < m->group_count));
    check(s->intensity <= SUPERVISOR_INTENSITY_MAX && s->period_ms && s->start_timeout_ms);
    check(s->probation_ms <= 3600000);
    check(s->backoff_initial_ms <= s->backoff_max_ms && s->backoff_factor_pct >= 100);
    check(s->priority >= 1 && s->priority < 30 && s->quota_pages >= 1 && s->quota_pages <= 1u << 20);
    check(s->budget_us <= s->budget_period_us && s->budget_period_us < 1u << 28);
    check(s->depend_count <= MANIFEST_DEPENDS && s->call_count <= MANIFEST_DEPENDS);
    check(s->session_count <= MANIFEST_DEPENDS && s->port_count <= MANIFEST_PORTS);
    check(s->irq_count <= MANIFEST_IRQS && s->pci_count <= MANIFEST_PCI);
    for (uint32_t d = 0; d < s->depend_count; d++) check(s->depend[d].service && s->depend[d].service < i);
    for (uint32_t c = 0; c < s->call_count; c++) check(s->call[c] < m->service_count);
    for (uint32_t c = 0; c < s->session_count; c++) check(s->session[c] && s->session[c] < m->service_count);
    for (uint32_t p = 0; p < s->port_count; p++) check(s->port[p].base + s->port[p].count <= 0x10000);
}

static void actions_check(const struct supervisor_state *state, const struct supervisor_action *a, size_t n)
{
    check(n <= supervisor_actions_max(state->count) && supervisor_actions_max(SERVICES) == ACTIONS_MAX);
    for (size_t i = 0; i < n; i++) {
        check(a[i].kind <= SUPERVISOR_ACTION_SPARE_END && a[i].service < state->count);
        check(a[i].kind != SUPERVISOR_ACTION_START || a[i].service > 0);
        check(a[i].kind != SUPERVISOR_ACTION_KILL || a[i].service > 0);
    }
}

static void schedule_run(struct input *in, const struct manifest *m)
{
    static uint64_t
        room[sizeof(struct supervisor_state) / 8 + SERVICES * (sizeof(struct supervised) / 8 + 1)];
    static const enum cause cause[] = {CAUSE_PAGE_FAULT, CAUSE_EXIT, CAUSE_STALLED, CAUSE_KILLED};
    struct supervisor_state *state = (void *)room;
    struct supervisor_action action[ACTIONS_MAX];
    struct supervisor_event event = {.kind = SUPERVISOR_EVENT_BOOT};
    uint64_t now = 1000 * MS;
    supervisor_init(state, m);
    for (;;) {
        size_t n = supervisor_step(state, &event, now, action, sizeof action / sizeof action[0]);
        actions_check(state, action, n);
        check(supervisor_invariants(state));
        if (!in->left) return;
        uint64_t what = take(in, 1), who = take(in, 1) % (SERVICES + 2);
        event = (struct supervisor_event){
            .kind = (enum supervisor_event_kind)((what & 7) % (SUPERVISOR_EVENT_STOP + 1)),
            .service = (uint32_t)who,
            .generation = who < state->count ? state->service[who].generation - (what >> 3 & 1) : 1,
            .cause = cause[what >> 4 & 3],
            .code = what >> 6 & 1};
        now += (what >> 6) * 7 * MS;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    uint32_t where;
    if (!good.head.magic) manifest_make();
    file = good;
    while (in.left >= 2 && !(in.at[0] == 0xff && in.at[1] == 0xff)) patch(&in, (uint8_t *)&file, sizeof file);
    take(&in, 2);
    size_t bytes = file.head.size <= sizeof file ? file.head.size : sizeof file;
    struct manifest *m = (void *)exact_copy(&file, bytes);
    const char *wrong = manifest_check(m, bytes, &where);
    check(memcmp(m, &file, bytes) == 0);
    if (wrong) check(where == ~0u || where < m->service_count);
    if (!wrong) {
        check(bytes == sizeof(*m) + m->service_count * sizeof(struct manifest_service));
        check(m->service_count >= 1 && m->service_count <= SERVICES && m->group_count <= 16);
        for (uint32_t g = 0; g < m->group_count; g++) check(m->group[g].inside <= g);
        for (uint32_t i = 0; i < m->service_count; i++) service_check(m, i);
        schedule_run(&in, m);
    }
    if (size == 0) check(!wrong);
    free(m);
    return 0;
}
