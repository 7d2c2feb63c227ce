/* SPDX-License-Identifier: BSD-2-Clause
 * The recovery server: keeps sessions, ledgers and checkpoints of everybody, hands them to each new
 * incarnation, watches progress. Messages: abi/protocol.def, RECOVERY. The caller's tag is the badge of
 * its capability, made by the supervisor: it cannot be lied about.
 * It calls nobody but the supervisor, and that only after its own caller has been answered. It is kept: when it
 * falls, at whatever instruction, the next one finds core, objects and the request in hand (struct recovery_kept), makes
 * good what was half done and goes on; nobody but its callers notices, and they only that it takes longer. If what it
 * finds is not sound it exits with E_STATE. Then its memory goes: every service that has sessions depends on it with
 * restart-with. */
#include "abi/protocol.h"
#include "abi/trace.h"
#include "lib/bundle.h"
#include "recovery/shell.h"

#define TICK_BIT     1ul
#define TICK_MS_MIN  1ul
#define TICK_MS_MAX  5ul
#define NS_PER_MS    1000000ul
#define TICKS_A_TIME 8ul /* looks within a watchdog time: half of them between question and verdict */

#define keep ((struct recovery_kept *)USER_KEPT)
#define core (*keep->state)
static handle_t trace, supervisor, endpoint;
static bool again; /* the request was in hand when one fell */
static bool ticking;
static bool sweeps; /* not all services and capabilities have been looked at since a fall */

static const char *service_name(uint32_t service) { return core.manifest->service[service].name; }

static void mark(uint32_t kind, uint64_t value)
{
    (void)sys_trace_mark(trace, kind, value); /* the trace is poorer without it, no more */
}

static void unsound(void)
{
    log_line("recovery: what it kept is not sound: it begins anew, and with it all that have sessions");
    sys_exit(E_STATE);
}

/* Before anything is done with it: what a fall left of it half done is done. */
static void server_look(uint64_t service)
{
    if (service >= core.manifest->service_count) return; /* that is said where it is asked for */
    if (!recovery_server_resume(&core, service)) unsound();
    server_checkpoint_move(&keep->server_objects[service], &core.server[service]);
}

/* --- Sessions ---------------------------------------------------------------------------------- */

static struct session_objects *objects_of(const struct rsession *s)
{
    return &keep->session_objects[s - core.session];
}

static void session_free(struct rsession *s)
{
    session_objects_free(objects_of(s), s);
    recovery_free(&core, s);
}

/* Frees it now if its driver cannot have it mapped; else tells the driver, who lets go in SESSION_GET. */
static void session_close(struct rsession *s)
{
    recovery_close(s);
    if (recovery_session_releasable(&core, s))
        session_free(s);
    else
        (void)sys_signal(keep->server_objects[s->server].doorbell, DOORBELL_CHANGED);
}

static void sessions_release(struct server *v)
{
    for (uint64_t left = v->used; left != 0; left &= left - 1) {
        struct rsession *s = &core.session[v->session[__builtin_ctzl(left)]];
        if (recovery_session_releasable(&core, s)) session_free(s);
    }
}

/* Watching costs a timer interrupt a tick: only while there is a session, or something else to do then. */
static void watch_start(void)
{
    if (ticking || (core.sessions == 0 && !sweeps)) return;
    ticking = sys_timer_arm(keep->timer, clock_ns() + keep->tick_ns) == OK;
}

static status_t handle_open(tag_t caller, struct message *m)
{
    struct rsession *s;

    if (INFO_CAPS(m->info) != 1 || m->w[7] == 0) return E_ARGUMENT;
    for (struct rsession *old; (old = recovery_session_stale(&core, caller)) != NULL;) session_close(old);
    status_t status = recovery_open(&core, caller, m->w[0], m->w[1], m->w[2], m->w[3], &s);
    if (status != OK) return status;
    struct server_objects *v = &keep->server_objects[s->server];
    handle_t notification = m->w[7];
    m->w[7] = 0; /* taken */
    status = session_objects_make(objects_of(s), s, notification);
    if (status == OK) {
        status = server_doorbell_make(v, s->server);
        if (status != OK) session_objects_free(objects_of(s), s);
    }
    if (status != OK) {
        recovery_free(&core, s);
        return status;
    }
    keep->hand.opened = s->id;
    (void)sys_signal(v->doorbell, DOORBELL_CHANGED);
    watch_start();
    m->w[0] = s->id;
    m->w[1] = DOORBELL_SESSION(s->index);
    m->w[2] = DOORBELL_SESSION(s->id % DOORBELL_SESSIONS);
    for (int i = 0; i < PARTS; i++) m->w[3 + i] = objects_of(s)->client[i];
    m->w[7] = v->doorbell_client;
    m->info = INFO_MAKE(OK, 5);
    return OK;
}

static status_t handle_session_get(tag_t caller, struct message *m)
{
    struct rsession *s;
    uint64_t index = m->w[0], held = m->w[1];
    status_t status = recovery_session_get(&core, caller, index, held, &s);

    if (status != OK) return status;
    m->w[0] = 0;
    if (s == NULL) {
        sessions_release(&core.server[TAG_SERVICE(caller)]);
        return OK;
    }
    m->w[0] = s->id;
    if (held != 0) return OK;
    m->w[1] = s->class | (uint64_t)s->slots << 16 | (uint64_t)TAG_SERVICE(s->client) << 32;
    m->w[2] = s->data_bytes;
    for (int i = 0; i < PARTS; i++) m->w[3 + i] = objects_of(s)->driver[i];
    m->w[7] = objects_of(s)->notification;
    m->info = INFO_MAKE(OK, 5);
    return OK;
}

static status_t handle_close(tag_t caller, struct message *m)
{
    struct rsession *s;
    struct watch_sample sample = {.now_ns = clock_ns()};
    status_t status = recovery_session_of_client(&core, caller, m->w[0], &s);

    if (again && keep->hand.closed) return OK;
    if (status != OK) return status;
    ledger_sample(s, &sample);
    if (sample.pending != 0) return E_BUSY;
    keep->hand.closed = true;
    session_close(s);
    return OK;
}

/* --- Incarnations and checkpoints ---------------------------------------------------------------- */

static void checkpoint_log(const struct server *v, uint32_t service, uint32_t schema)
{
    static const char *const why[] = {"good",         "empty",        "wrong magic", "of another service",
                                      "wrong schema", "wrong length", "wrong sum",   "too old"};

    for (int i = 0; i < 2; i++) {
        enum checkpoint_verdict verdict =
            checkpoint_check(v->checkpoint[i], v->checkpoint_room, service, schema);
        if (verdict != CHECKPOINT_GOOD && verdict != CHECKPOINT_EMPTY)
            log_line("recovery: a checkpoint of %s is not used: %s", service_name(service), why[verdict]);
    }
}

/* Before it an age of limit_ms is exceeded; 0: there is no limit. */
static uint64_t oldest_of(uint64_t limit_ms)
{
    uint64_t now = clock_ns();

    return limit_ms != 0 && limit_ms < now / NS_PER_MS ? now - limit_ms * NS_PER_MS : 0;
}

/* The best that there is goes to the staging area; to[]: its bytes, source and schema version. */
static void checkpoint_load(uint32_t service, uint64_t limit_ms, uint64_t to[3])
{
    uint32_t schema = CHECKPOINT_ANY_SCHEMA;
    struct server *v = &core.server[service];
    enum checkpoint_source source;

    (void)checkpoint_expire(v, oldest_of(limit_ms)); /* the log says it below */
    int i = checkpoint_choose(v, service, schema, &source);
    if (v->checkpoint[0] != NULL && source != CHECKPOINT_LATEST) checkpoint_log(v, service, schema);
    to[0] = 0;
    to[1] = source;
    if (i < 0) return;
    checkpoint_keep(v, i);
    to[0] = v->checkpoint[i]->length;
    to[2] = v->checkpoint[i]->schema;
    memcpy(keep->server_objects[service].staging_at, v->checkpoint[i]->data, v->checkpoint[i]->length);
}

static status_t handle_attach(tag_t caller, struct message *m)
{
    uint32_t service = TAG_SERVICE(caller);
    struct attach_report *out = &keep->report;
    bool done = again && core.server[service].generation == TAG_GENERATION(caller); /* *out is good */
    status_t status = done ? OK : recovery_attach(&core, caller, m->w[0], out);

    if (status != OK) return status;
    struct attach_report report = *out;
    struct server_objects *v = &keep->server_objects[service];
    status = server_doorbell_make(v, service);
    if (status == OK) status = server_staging_make(v);
    if (status != OK) return status;
    sessions_release(&core.server[service]);
    watch_start();
    if (report.repaired != 0)
        log_line("recovery: %s left %u impossible ledger entries; their requests are pending again",
                 service_name(service), report.repaired);
    if (report.poisoned != 0) {
        mark(MARK_POISONED, report.poisoned_id);
        log_line("recovery: %u requests of %s are poisoned, the last is %lu: each was in flight at %u deaths",
                 report.poisoned, service_name(service), report.poisoned_id, SESSION_ATTEMPTS_MAX);
    }
    if (m->w[1] != 0) checkpoint_load(service, m->w[2], &m->w[3]);
    m->w[0] = server_table_length(&core.server[service]);
    m->w[1] = report.attempts_max;
    m->w[2] = 1;
    m->w[6] = v->doorbell_driver;
    m->w[7] = v->staging_driver;
    m->info = INFO_MAKE(OK, 2);
    mark(MARK_ATTACHED, report.in_flight | (uint64_t)caller << 32);
    return OK;
}

/* Another version of the driver begins to commit: what the last one wrote is kept for a while, for the case that it comes
 * back. Without memory for that it will start cold. */
static void set_aside(struct server_objects *o, struct server *v, uint32_t service, uint32_t schema)
{
    int n = checkpoint_to_set_aside(v, service, schema);

    if (n < 0 || server_aside_make(o, v) != OK) return;
    memcpy(v->aside, v->checkpoint[n], offsetof(struct checkpoint, data) + v->checkpoint[n]->length);
    v->aside_ns = clock_ns();
}

/* The driver could use neither of the two. */
static void load_aside(uint32_t service, struct message *m, uint64_t oldest_ns)
{
    const struct server *v = &core.server[service];

    *m = (struct message){.info = m->info};
    if (v->aside == NULL || clock_ns() - v->aside_ns > CHECKPOINT_ASIDE_NS) return;
    if (checkpoint_check(v->aside, CHECKPOINT_MAX, service, CHECKPOINT_ANY_SCHEMA) != CHECKPOINT_GOOD) return;
    if (v->aside->committed_ns < oldest_ns) return;
    memcpy(keep->server_objects[service].staging_at, v->aside->data, v->aside->length);
    m->w[0] = v->aside->length;
    m->w[1] = CHECKPOINT_ASIDE;
    m->w[2] = v->aside->schema;
}

static status_t handle_commit(tag_t caller, struct message *m)
{
    uint32_t service = TAG_SERVICE(caller);
    status_t status = recovery_attached(&core, caller);

    if (status != OK) return status;
    if (m->w[0] >= CHECKPOINT_ANY_SCHEMA || m->w[1] == 0 || m->w[1] > CHECKPOINT_MAX) return E_ARGUMENT;
    struct server *v = &core.server[service];
    status = server_checkpoint_make(&keep->server_objects[service], v, (uint32_t)m->w[1]);
    if (status != OK) return status;
    set_aside(&keep->server_objects[service], v, service, (uint32_t)m->w[0]);
    m->w[0] = checkpoint_commit(v, service, (uint32_t)m->w[0], keep->server_objects[service].staging_at,
                                (uint32_t)m->w[1], clock_ns());
    return OK;
}

static status_t handle_load(tag_t caller, struct message *m)
{
    uint32_t service = TAG_SERVICE(caller);
    status_t status = recovery_attached(&core, caller);

    if (status != OK) return status;
    if (m->w[1] == CHECKPOINT_ASIDE) {
        load_aside(service, m, oldest_of(m->w[2]));
        return OK;
    }
    uint64_t limit_ms = m->w[2];
    (void)checkpoint_expire(&core.server[service], oldest_of(limit_ms));
    if (m->w[1] == CHECKPOINT_PREVIOUS)
        checkpoint_drop_latest(&core.server[service], service, CHECKPOINT_ANY_SCHEMA);
    checkpoint_load(service, limit_ms, m->w);
    return OK;
}

/* --- Complaints and the watch -------------------------------------------------------------------- */

/* Once an incarnation, REPORTED ends the watch over it, unless the supervisor doubts the complaint. */
static void complain(uint32_t service, enum cause cause)
{
    struct server *v = &core.server[service];
    struct message m = {.w = {service, v->generation, cause}, .info = INFO_REPLAYABLE};

    v->watch.state = WATCH_REPORTED;
    mark(MARK_COMPLAINT, service);
    status_t status = service_call(supervisor, SUPERVISOR_COMPLAINT, &m);
    if (status == E_BUSY)
        watch_doubted(&v->watch);
    else if (status != OK)
        log_line("recovery: complaint about %s: status %d", service_name(service), status);
}

/* Answers the client first: nobody waits for us while we wait for the supervisor. */
static status_t handle_complain(tag_t caller, struct message *m)
{
    struct rsession *s;
    status_t status = recovery_session_of_client(&core, caller, m->w[0], &s);

    if (status != OK) return status;
    if (!ledger_nonsense(s, m->w[1])) return E_NOT_FOUND;
    if (core.server[s->server].watch.state == WATCH_REPORTED) return OK;
    struct message reply = {.info = INFO_MAKE(OK, 0)};
    (void)sys_reply(&reply); /* the client may be gone */
    complain(s->server, CAUSE_PROTOCOL);
    return OK;
}

/* Clients whose driver does not tell them, because its capability of their notification is spoilt. */
static void clients_tell(const struct server *v)
{
    for (uint64_t left = v->used; left != 0; left &= left - 1) {
        struct rsession *s = &core.session[v->session[__builtin_ctzl(left)]];
        if (ledger_unheard(s)) /* who is gone hears nothing */
            (void)sys_signal(objects_of(s)->notification, DOORBELL_SESSION(s->id % DOORBELL_SESSIONS));
    }
}

static void watch_service(uint32_t service, uint64_t now)
{
    struct server *v = &core.server[service];
    struct watch_sample sample;

    if (v->generation == 0) return;
    clients_tell(v);
    recovery_sample(&core, v, now, &sample);
    if (sample.nonsense != 0 && v->watch.state != WATCH_REPORTED) {
        complain(service, CAUSE_PROTOCOL);
        return;
    }
    uint64_t watchdog_ns = core.manifest->service[service].watchdog_ms * NS_PER_MS;
    enum watch_verdict verdict = watch_step(&v->watch, &sample, now, watchdog_ns);
    if (verdict == WATCH_ASK) (void)sys_signal(keep->server_objects[service].doorbell, v->used);
    if (verdict == WATCH_STALLED) complain(service, CAUSE_STALLED);
    if (verdict == WATCH_LOST_IRQ) complain(service, CAUSE_LOST_IRQ);
}

static void stray(handle_t h) { (void)sys_cap_delete(h); /* or it went with another */ }

static void known_mark(void)
{
    caps_mark(keep->tables);
    caps_mark(keep->notification);
    caps_mark(keep->timer);
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        const struct session_objects *o = &keep->session_objects[i];
        for (int n = 0; n < PARTS; n++) {
            caps_mark(o->memory[n]);
            caps_mark(o->driver[n]);
            caps_mark(o->client[n]);
        }
        caps_mark(o->notification);
    }
    for (uint32_t i = 0; i < core.manifest->service_count; i++) {
        const struct server_objects *o = &keep->server_objects[i];
        const handle_t own[] = {o->doorbell,
                                o->doorbell_driver,
                                o->doorbell_client,
                                o->staging,
                                o->staging_driver,
                                o->checkpoint,
                                o->next,
                                o->aside};
        for (size_t n = 0; n < sizeof(own) / sizeof(own[0]); n++) caps_mark(own[n]);
    }
}

/* After a fall: services that nobody asked for since, and capabilities that nobody knows of. How long that takes goes with
 * the number of services, so it waits until recovery serves again; between two requests is as good as before the first. */
static void sweep(void)
{
    if (!sweeps) return;
    for (uint32_t i = 0; i < core.manifest->service_count; i++) server_look(i);
    known_mark();
    caps_sweep(stray);
    sweeps = false;
}

static void tick(void)
{
    uint64_t now = clock_ns();

    ticking = false;
    sweep();
    for (uint32_t i = 0; i < core.manifest->service_count; i++)
        if (core.server[i].used != 0) watch_service(i, now);
    watch_start();
}

static status_t handle_status(struct message *m)
{
    struct watch_sample sample;
    uint64_t service = m->w[0], submitted = 0;

    if (service >= core.manifest->service_count) return E_NOT_FOUND;
    struct server *v = &core.server[service];
    recovery_sample(&core, v, clock_ns(), &sample);
    m->w[0] = 0;
    for (uint64_t left = v->used; left != 0; left &= left - 1, m->w[0]++)
        submitted += core.session[v->session[__builtin_ctzl(left)]].id_seen;
    m->w[1] = sample.pending;
    m->w[2] = sample.issued;
    m->w[3] = submitted > sample.pending ? submitted - sample.pending : 0;
    m->w[4] = v->checkpoints;
    m->w[5] = v->poisoned;
    return OK;
}

/* --- The server ---------------------------------------------------------------------------------- */

static status_t dispatch(tag_t caller, struct message *m)
{
    uint16_t label = INFO_LABEL(m->info);

    if (TAG_SERVICE(caller) >= core.manifest->service_count || TAG_GENERATION(caller) == 0) return E_RIGHTS;
    server_look(TAG_SERVICE(caller));
    if (label == RECOVERY_OPEN || label == RECOVERY_STATUS)
        server_look(m->w[0]); /* the service that it is about */
    if (label == RECOVERY_OPEN) return handle_open(caller, m);
    m->info = INFO_MAKE(OK, 0); /* handlers that answer with capabilities say so */
    switch (label) {
    case RECOVERY_ATTACH: return handle_attach(caller, m);
    case RECOVERY_SESSION_GET: return handle_session_get(caller, m);
    case RECOVERY_COMMIT: return handle_commit(caller, m);
    case RECOVERY_LOAD: return handle_load(caller, m);
    case RECOVERY_COMPLAIN: return handle_complain(caller, m);
    case RECOVERY_STATUS: return handle_status(m);
    case RECOVERY_CLOSE: return handle_close(caller, m);
    default: return E_UNSUPPORTED;
    }
}

/* Turns the message into its reply. Capabilities that came with it and were not taken are deleted: a
 * caller must not fill our table. */
static void serve_new(struct message *m)
{
    uint64_t caps = INFO_CAPS(m->info);
    bool opens = INFO_LABEL(m->info) == RECOVERY_OPEN;
    handle_t came[MESSAGE_WORDS];

    for (uint64_t i = MESSAGE_WORDS - caps; i < MESSAGE_WORDS; i++) came[i] = m->w[i];
    status_t status = dispatch((tag_t)m->badge, m);
    /* handle_open clears the word of what it took, and on success puts another capability there. */
    bool taken = opens && caps == 1 && (status == OK || m->w[7] == 0);
    for (uint64_t i = MESSAGE_WORDS - caps; i < MESSAGE_WORDS; i++)
        if (came[i] != 0 && !taken) (void)sys_cap_delete(came[i]);
    if (status != OK) m->info = INFO_MAKE(status, 0);
}

static void drop_caps(const struct message *m)
{
    for (uint64_t i = MESSAGE_WORDS - INFO_CAPS(m->info); i < MESSAGE_WORDS; i++)
        if (m->w[i] != 0) (void)sys_cap_delete(m->w[i]);
}

/* Whoever fell with it left its work to sessions_look and server_look, as with any other. */
static void serve_poisoned(struct message *m)
{
    log_line("recovery: request %u of service %u is poisoned: %u fell with it in hand", INFO_LABEL(m->info),
             TAG_SERVICE((tag_t)m->badge), HAND_TRIES_MAX);
    drop_caps(m);
    m->info = INFO_MAKE(E_POISONED, 0);
}

static void serve(struct message *m)
{
    enum hand_verdict verdict =
        hand_take(&keep->hand, m->badge, INFO_LABEL(m->info), m->w, (m->info & INFO_REPLAYED) != 0);

    again = verdict != HAND_NEW;
    if (verdict == HAND_ANSWERED) {
        drop_caps(m); /* they came once before */
        *m = keep->reply;
        return;
    }
    if (verdict == HAND_POISONED)
        serve_poisoned(m);
    else
        serve_new(m);
    keep->reply = *m;
    hand_answered(&keep->hand);
}

static uint64_t tick_choose(const struct manifest *manifest)
{
    uint64_t least = 0;

    for (uint32_t i = 0; i < manifest->service_count; i++) {
        uint64_t ms = manifest->service[i].watchdog_ms;
        if (ms != 0 && (least == 0 || ms < least)) least = ms;
    }
    if (least == 0) return TICK_MS_MAX * NS_PER_MS; /* ledgers are still looked at */
    uint64_t ms = least / TICKS_A_TIME;
    return (ms < TICK_MS_MIN ? TICK_MS_MIN : ms > TICK_MS_MAX ? TICK_MS_MAX : ms) * NS_PER_MS;
}

/* --- Start, and start again ------------------------------------------------------------------------ */

static void *part_of(void *tables, uint64_t *used, uint64_t bytes)
{
    void *at = (uint8_t *)tables + *used;

    *used += PAGES_FOR(bytes) * PAGE_SIZE;
    return at;
}

static status_t tables_make(const struct manifest *manifest)
{
    uint64_t count = manifest->service_count, used = 0;
    uint64_t pages = PAGES_FOR(count * sizeof(struct server)) +
                     PAGES_FOR(count * sizeof(struct server_objects)) + PAGES_FOR(sizeof(struct recovery)) +
                     PAGES_FOR(SESSIONS_MAX * sizeof(struct session_objects));
    void *at;
    struct sys_result r = sys_memory_create(0, pages, 0);
    status_t status = r.status;

    if (status == OK) status = map_new(r.value, pages, RIGHT_READ | RIGHT_WRITE, &at);
    if (status != OK) return status;
    keep->tables = r.value;
    void *servers = part_of(at, &used, count * sizeof(struct server));
    keep->server_objects = part_of(at, &used, count * sizeof(struct server_objects));
    keep->state = part_of(at, &used, sizeof(struct recovery));
    keep->session_objects = part_of(at, &used, SESSIONS_MAX * sizeof(struct session_objects));
    recovery_init(&core, manifest, servers);
    return OK;
}

static status_t begin(void)
{
    const struct manifest *manifest;

    caps_sweep(stray);
    keep->hand = (struct hand){0};
    status_t status = manifest_map(cap_find("image"), &manifest);
    if (status == OK) status = tables_make(manifest);
    if (status != OK) return status;
    struct sys_result r = sys_notification_create(startup()->tag);
    if (r.status != OK) return r.status;
    keep->notification = r.value;
    r = sys_timer_create(keep->notification, TICK_BIT);
    if (r.status != OK) return r.status;
    keep->timer = r.value;
    keep->tick_ns = tick_choose(manifest);
    __atomic_store_n(&keep->kept.phase, PHASE_SERVES, __ATOMIC_SEQ_CST);
    return OK;
}

/* A session that its client was not told of is closed: the client asks for one again. */
static void sessions_look(void)
{
    const struct hand *h = &keep->hand;

    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        struct rsession *s = &core.session[i];
        struct session_objects *o = &keep->session_objects[i];
        if (s->state == SESSION_FREE && (o->memory[0] != 0 || o->notification != 0))
            session_objects_free(o, s);
        if (s->state == SESSION_OPEN && s->id == h->opened && !h->answered) recovery_close(s);
        if (s->state == SESSION_CLOSING) session_close(s);
    }
}

static status_t go_on(void)
{
    const struct manifest *manifest = core.manifest;

    bool sound = keep->kept.phase == PHASE_SERVES && manifest->magic == MANIFEST_MAGIC &&
                 keep->tick_ns >= TICK_MS_MIN * NS_PER_MS && keep->tick_ns <= TICK_MS_MAX * NS_PER_MS;
    if (!sound || !recovery_sound(&core, manifest) || !recovery_resume(&core)) unsound();
    sweeps = true;
    sessions_look();
    log_line("recovery: goes on with %u sessions", core.sessions);
    return OK;
}

static status_t start(void)
{
    struct message ready = {.info = INFO_REPLAYABLE};
    struct kept *kept;
    status_t status = kept_open(sizeof(*keep), &kept);

    if (status != OK) sys_exit(status);
    trace = cap_find("trace");
    supervisor = cap_find("supervisor");
    endpoint = cap_find("endpoint");
    status = kept->phase == 0 ? begin() : go_on();
    if (status != OK) return status;
    status = sys_bind(keep->notification);
    watch_start();
    return status != OK ? status : service_call(supervisor, SUPERVISOR_READY, &ready);
}

int main(void)
{
    struct message m = {0};
    status_t status = start();

    if (status != OK) fatal("recovery: cannot start: status %d", status);
    status = sys_recv(endpoint, &m);
    for (;;) {
        if (status != OK) fatal("recovery: recv: status %d", status);
        if ((m.info & INFO_SIGNAL) != 0) {
            tick();
            status = sys_recv(endpoint, &m);
        } else {
            serve(&m);
            status = sys_reply_recv(endpoint, &m);
        }
    }
}
