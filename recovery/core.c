/* SPDX-License-Identifier: BSD-2-Clause
 * Who has which session with whom. Owns the table of sessions. Invariants: a session that is not free is
 * at exactly one index of exactly one server's table; ids are never reused; a session's memory stays as
 * long as a living incarnation may have it mapped. */
#include "core.h"

void recovery_init(struct recovery *r, const struct manifest *manifest, struct server *server)
{
    r->manifest = manifest;
    r->server = server;
    r->last_session_id = 0;
    r->sessions = 0;
    r->falls = 0;
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) r->session[i].state = SESSION_FREE;
}

bool recovery_sound(const struct recovery *r, const struct manifest *manifest)
{
    uint64_t taken[DOORBELL_SESSIONS] = {0};

    if (r->manifest != manifest) return false;
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        const struct rsession *s = &r->session[i];
        if (s->state == SESSION_FREE || s->request == NULL) continue;
        if (s->state > SESSION_CLOSING || s->server >= manifest->service_count ||
            s->index >= DOORBELL_SESSIONS || s->slots > SESSION_SLOTS_MAX || s->class < SESSION_BLOCK ||
            s->class > SESSION_STREAM || s->id == 0 || s->id > r->last_session_id || s->ledger == NULL ||
            TAG_SERVICE(s->client) >= manifest->service_count)
            return false;
        for (uint64_t left = taken[s->index]; left != 0; left &= left - 1)
            if (i < 64 && r->session[__builtin_ctzl(left)].server == s->server) return false;
        if (i < 64) taken[s->index] |= 1ul << i;
    }
    return true;
}

bool recovery_resume(struct recovery *r)
{
    r->falls++;
    r->sessions = 0;
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        struct rsession *s = &r->session[i];
        if (s->request == NULL) s->state = SESSION_FREE;
        r->sessions += s->state != SESSION_FREE;
    }
    for (uint32_t i = 0; i < SESSIONS_MAX;
         i++) /* the free ones too: of what they were, the rest may be left */
        if (!recovery_server_resume(r, r->session[i].server)) return false;
    return true;
}

bool recovery_server_resume(struct recovery *r, uint64_t service)
{
    if (service >= r->manifest->service_count || r->server[service].falls == r->falls) return true;
    struct server *v = &r->server[service];
    if (v->watch.state > WATCH_REPORTED || v->class > SESSION_STREAM || v->checkpoint_room > CHECKPOINT_MAX)
        return false;
    v->used = 0;
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        const struct rsession *s = &r->session[i];
        if (s->state == SESSION_FREE || s->server != service) continue;
        v->used |= 1ul << s->index;
        v->session[s->index] = (uint8_t)i;
    }
    watch_resume(&v->watch);
    __atomic_store_n(&v->falls, r->falls, __ATOMIC_SEQ_CST); /* last: until then it can be done again */
    return true;
}

static bool manifest_allows(const struct manifest *m, uint32_t client, uint64_t service)
{
    const struct manifest_service *c = &m->service[client];

    for (uint32_t i = 0; i < c->session_count && i < MANIFEST_DEPENDS; i++)
        if (c->session[i] == service) return true;
    return false;
}

static bool session_shape_valid(uint64_t class, uint64_t slots, uint64_t data_bytes)
{
    if (class == SESSION_STREAM) return slots == 0 && data_bytes == 2 * STREAM_RING;
    return class == SESSION_BLOCK && slots >= 1 && slots <= SESSION_SLOTS_MAX && data_bytes >= 1 &&
           data_bytes <= SESSION_DATA_MAX;
}

/* All of it is recovery's to pay: without this rule a client could take what belongs to everybody. */
static bool client_may_hold(const struct recovery *r, uint32_t client, uint64_t data_bytes)
{
    uint64_t pages = SESSION_OWN_PAGES + PAGES_FOR(data_bytes);
    uint32_t n = 0;

    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        const struct rsession *s = &r->session[i];
        if (s->state == SESSION_FREE || TAG_SERVICE(s->client) != client) continue;
        pages += SESSION_OWN_PAGES + PAGES_FOR(s->data_bytes);
        n++;
    }
    return n < CLIENT_SESSIONS_MAX && pages <= r->manifest->service[client].session_pages;
}

static struct rsession *session_free_find(struct recovery *r)
{
    for (uint32_t i = 0; i < SESSIONS_MAX; i++)
        if (r->session[i].state == SESSION_FREE) return &r->session[i];
    return NULL;
}

status_t recovery_open(struct recovery *r, tag_t client, uint64_t service, uint64_t class, uint64_t slots,
                       uint64_t data_bytes, struct rsession **out)
{
    uint32_t who = TAG_SERVICE(client);

    if (who >= r->manifest->service_count || service >= r->manifest->service_count) return E_ARGUMENT;
    if (!manifest_allows(r->manifest, who, service)) return E_RIGHTS;
    if (!session_shape_valid(class, slots, data_bytes)) return E_ARGUMENT;
    struct server *v = &r->server[service];
    if (v->generation != 0 && v->class != class) return E_ARGUMENT;
    if (!client_may_hold(r, who, data_bytes)) return E_QUOTA;
    struct rsession *s = session_free_find(r);
    uint64_t room = ~v->used & ((1ul << DOORBELL_SESSIONS) - 1);
    if (s == NULL || room == 0) return E_NO_SLOTS;

    uint32_t index = (uint32_t)__builtin_ctzl(room);
    *s = (struct rsession){.state = SESSION_OPEN,
                           .index = index,
                           .id = ++r->last_session_id,
                           .server = (uint32_t)service,
                           .client = client,
                           .class = (uint32_t) class,
                           .slots = (uint32_t)slots,
                           .data_bytes = data_bytes};
    v->used |= 1ul << index;
    v->session[index] = (uint8_t)(s - r->session);
    r->sessions++;
    *out = s;
    return OK;
}

void recovery_close(struct rsession *s) { s->state = SESSION_CLOSING; }

bool recovery_session_releasable(const struct recovery *r, const struct rsession *s)
{
    return s->state == SESSION_CLOSING &&
           (s->held_generation == 0 || s->held_generation != r->server[s->server].generation);
}

void recovery_free(struct recovery *r, struct rsession *s)
{
    r->server[s->server].answers += s->rounds_seen;
    r->server[s->server].used &= ~(1ul << s->index);
    s->state = SESSION_FREE;
    r->sessions--;
}

struct rsession *recovery_session_stale(struct recovery *r, tag_t client)
{
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        struct rsession *s = &r->session[i];
        if (s->state == SESSION_OPEN && TAG_SERVICE(s->client) == TAG_SERVICE(client) &&
            TAG_GENERATION(s->client) < TAG_GENERATION(client))
            return s;
    }
    return NULL;
}

status_t recovery_session_of_client(struct recovery *r, tag_t client, uint64_t id, struct rsession **out)
{
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        struct rsession *s = &r->session[i];
        if (s->state != SESSION_OPEN || s->id != id || s->client != client) continue;
        *out = s;
        return OK;
    }
    return E_NOT_FOUND;
}

uint32_t server_table_length(const struct server *v)
{
    return v->used == 0 ? 0 : 64 - (uint32_t)__builtin_clzl(v->used);
}

status_t recovery_attached(const struct recovery *r, tag_t server)
{
    if (TAG_SERVICE(server) >= r->manifest->service_count) return E_ARGUMENT;
    return r->server[TAG_SERVICE(server)].generation == TAG_GENERATION(server) ? OK : E_STATE;
}

status_t recovery_session_get(struct recovery *r, tag_t server, uint64_t index, uint64_t held,
                              struct rsession **out)
{
    status_t status = recovery_attached(r, server);
    struct server *v = &r->server[TAG_SERVICE(server)];

    *out = NULL;
    if (status != OK) return status;
    if (v->watch.state != WATCH_STARTING) v->answers++;
    if (index >= server_table_length(v)) return E_NOT_FOUND;
    if ((v->used >> index & 1) == 0) return OK;
    struct rsession *s = &r->session[v->session[index]];
    if (held != s->id) s->held_generation = 0; /* it let go of this one, or never had it */
    if (s->state != SESSION_OPEN || s->class != v->class) return OK;
    if (held == 0) s->held_generation = TAG_GENERATION(server);
    *out = s;
    return OK;
}

static void session_take_over(struct rsession *s, uint32_t dead_generation, struct attach_report *out)
{
    ledger_take_over(s, dead_generation, out);
    s->rounds_seen = 0;
}

status_t recovery_attach(struct recovery *r, tag_t server, uint64_t class, struct attach_report *out)
{
    uint32_t generation = TAG_GENERATION(server);

    *out = (struct attach_report){0};
    if (TAG_SERVICE(server) >= r->manifest->service_count || class > SESSION_STREAM) return E_ARGUMENT;
    struct server *v = &r->server[TAG_SERVICE(server)];
    if (generation <= v->generation) return E_STATE;
    for (uint64_t left = v->used; left != 0; left &= left - 1)
        session_take_over(&r->session[v->session[__builtin_ctzl(left)]], v->generation, out);
    v->class = (uint32_t) class;
    v->answers = 0;
    watch_reset(&v->watch);
    v->poisoned += out->poisoned;
    __atomic_store_n(&v->generation, generation,
                     __ATOMIC_SEQ_CST); /* last: until then it can be done again */
    return OK;
}

void recovery_sample(struct recovery *r, struct server *v, uint64_t now_ns, struct watch_sample *out)
{
    *out = (struct watch_sample){.now_ns = now_ns, .rounds = v->answers};
    for (uint64_t left = v->used; left != 0; left &= left - 1) {
        struct rsession *s = &r->session[v->session[__builtin_ctzl(left)]];
        uint32_t before = out->rounds;
        if (s->state != SESSION_OPEN) {
            out->rounds += s->rounds_seen;
            continue;
        }
        ledger_sample(s, out);
        s->rounds_seen = out->rounds - before;
        out->irq_lost += ledger_irq_lost(s, v->generation);
    }
}
