/* SPDX-License-Identifier: BSD-2-Clause
 * Validation of the compiled manifest. Pure. After manifest_check said NULL, everybody in the
 * process may index with what the manifest says. A manifest that fails it stops the boot: it was
 * checked with the image's digest, so it was compiled wrong. */
#include "core.h"

static bool text_good(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (text[i] == 0) return i > 0;
    return false;
}

static bool names_differ(const char *a, const char *b)
{
    for (size_t i = 0; i < MANIFEST_NAME_MAX; i++) {
        if (a[i] != b[i]) return true;
        if (a[i] == 0) return false;
    }
    return false;
}

static const char *check_groups(const struct manifest *m)
{
    for (uint32_t g = 0; g < m->group_count; g++) {
        if (!text_good(m->group[g].name, MANIFEST_NAME_MAX)) return "a group without a name";
        if (m->group[g].strategy > STRATEGY_ONE_FOR_ALL) return "unknown strategy";
        if (m->group[g].inside > g) return "a group inside itself or a later one";
        if (m->group[g].intensity > SUPERVISOR_INTENSITY_MAX || m->group[g].period_ms > 3600000)
            return "intensity or period of a group out of range";
    }
    return NULL;
}

static const char *check_header(const struct manifest *m, size_t bytes)
{
    if (bytes < sizeof(*m) || ((uintptr_t)m & 7)) return "shorter than its header, or misaligned";
    if (m->magic != MANIFEST_MAGIC) return "wrong magic";
    if (m->version != MANIFEST_VERSION) return "another version";
    if (m->service_size != sizeof(struct manifest_service)) return "another size of service entries";
    if (m->service_count < 1 || m->service_count > MANIFEST_SERVICES)
        return "number of services out of range";
    if (m->group_count > MANIFEST_GROUPS) return "too many groups";
    if (m->size != bytes || bytes != sizeof(*m) + (size_t)m->service_count * sizeof(struct manifest_service))
        return "truncated, or longer than its services";
    return check_groups(m);
}

static const char *check_policy(const struct manifest_service *s)
{
    if (s->restart > RESTART_TEMPORARY) return "unknown restart kind";
    if (s->intensity > SUPERVISOR_INTENSITY_MAX) return "intensity out of range";
    if (s->period_ms == 0 || s->period_ms > 3600000) return "period out of range";
    if (s->backoff_initial_ms > s->backoff_max_ms || s->backoff_max_ms > 3600000)
        return "backoff out of range";
    if (s->backoff_factor_pct < 100 || s->backoff_factor_pct > 1000 || s->backoff_jitter_pct > 100)
        return "backoff factor or jitter out of range";
    if (s->stable_ms > 3600000) return "stable time out of range";
    if (s->on_give_up > GIVE_UP_ESCALATE) return "unknown end of the ladder";
    if (s->start_timeout_ms == 0 || s->start_timeout_ms > 3600000) return "start timeout out of range";
    if (s->probation_ms > 3600000) return "probation out of range";
    if (s->watchdog_ms > 3600000) return "watchdog out of range";
    if (s->priority == 0 || s->priority >= 30) return "priority out of range";
    if (s->budget_us > s->budget_period_us || s->budget_period_us >= 1u << 28) return "budget out of range";
    if (s->memory_warn_pct > 100) return "memory_warn_pct out of range";
    if (s->quota_pages == 0 || s->quota_pages > 1u << 20) return "quota out of range";
    if (s->session_pages > 1u << 20) return "session_pages out of range";
    return NULL;
}

static const char *check_lists(const struct manifest *m, const struct manifest_service *s, uint32_t i)
{
    if (s->depend_count > MANIFEST_DEPENDS || s->call_count > MANIFEST_DEPENDS ||
        s->session_count > MANIFEST_DEPENDS)
        return "too many dependencies, calls or sessions";
    if (s->port_count > MANIFEST_PORTS || s->irq_count > MANIFEST_IRQS || s->pci_count > MANIFEST_PCI)
        return "too many ports, interrupts or pci functions";
    for (uint32_t d = 0; d < s->depend_count; d++) {
        if (s->depend[d].service == 0 || s->depend[d].service >= i)
            return "depends on a service that does not come before it";
        if (s->depend[d].kind > DEPEND_RESTART_WITH) return "unknown kind of dependency";
    }
    for (uint32_t c = 0; c < s->call_count; c++)
        if (s->call[c] >= m->service_count || !(m->service[s->call[c]].flags & SERVICE_ENDPOINT))
            return "calls a service that has no endpoint";
    for (uint32_t c = 0; c < s->session_count; c++)
        if (s->session[c] == 0 || s->session[c] >= m->service_count) return "sessions with no such service";
    for (uint32_t p = 0; p < s->port_count; p++)
        if (s->port[p].count == 0 || s->port[p].base + s->port[p].count > 0x10000)
            return "ports out of range";
    return NULL;
}

static const char *check_service(const struct manifest *m, uint32_t i)
{
    const struct manifest_service *s = &m->service[i];
    const char *wrong;
    if (!text_good(s->name, MANIFEST_NAME_MAX)) return "no name";
    if (!text_good(s->image, MANIFEST_NAME_MAX)) return "no image";
    if (s->args[sizeof(s->args) - 1] != 0) return "args too long";
    for (uint32_t j = 0; j < i; j++)
        if (!names_differ(m->service[j].name, s->name)) return "a name used before";
    if (s->group != MANIFEST_NONE && s->group >= m->group_count) return "no such group";
    if (i == 0) return s->depend_count ? "the supervisor depends on something" : NULL;
    if ((wrong = check_policy(s))) return wrong;
    return check_lists(m, s, i);
}

const char *manifest_check(const void *manifest, size_t bytes, uint32_t *service)
{
    const struct manifest *m = manifest;
    *service = ~0u;
    const char *wrong = check_header(m, bytes);
    for (uint32_t i = 0; !wrong && i < m->service_count; i++) {
        wrong = check_service(m, i);
        if (wrong) *service = i;
    }
    return wrong;
}
