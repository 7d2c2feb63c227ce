/* SPDX-License-Identifier: BSD-2-Clause
 * Recovery's shell, as recovery/main.c does it, in the world's terms: one message or one tick a turn. It can
 * die before it has looked at a message and after it has acted on it but not answered; in a world with
 * preserved memory its core's state stays then, otherwise the memory of all sessions goes with it. */
#include <string.h>
#include "sim.h"

#define TICK_NS (5 * MS)

static uint32_t pageset_of[SESSIONS_MAX];

/* The request in hand, as recovery keeps it: the first four with it, gone with its memory; and as the kernel does. */
static struct {
    struct hand is;
    status_t status;
    struct message reply;
} kept;
static struct {
    uint32_t from, generation, falls; /* falls: with it, and unanswered */
    bool replayed;
    struct message request;
} hand;

static handle_t doorbell_of(const struct rsession *s) { return HANDLE_DOORBELL + s->server; }

/* --- Life ------------------------------------------------------------------------------------------ */

void recovery_start(void)
{
    bool first = world.core.manifest == NULL;

    if (first) memset(&hand, 0, sizeof(hand));
    if (first || !plan.preserved) {
        memset(&kept, 0, sizeof(kept));
        memset(world.server, 0, sizeof(world.server));
        for (uint32_t i = 0; i < plan.services; i++) {
            for (int n = 0; n < 2; n++)
                memset(&world.checkpoint[i][n], 0, sizeof(struct checkpoint) - CHECKPOINT_MAX);
            world.committed[i][0] = world.committed[i][1] = 0;
            world.spoilt[i] = 0;
        }
        recovery_init(&world.core, &plan.file.head, world.server);
    } else {
        if (!recovery_resume(&world.core)) sim_fail("recovery finds what it kept not sound");
        sometimes(RECOVERY_RESUMED, world.core.sessions != 0);
    }
    world.recovery_ready = false;
    world.complaining = false;
    world.tick_ns = world.core.sessions ? world.now_ns + TICK_NS : NEVER;
    world.complaint = (struct message){.info = INFO_REPLAYABLE | SUPERVISOR_READY};
    world.process[RECOVERY].waiting = WAIT_REPLY;
    world.process[RECOVERY].callee = HANDLE_SUPERVISOR;
    queue_push(&world.calls[0], RECOVERY, false);
}

/* The kernel's rule for a call whose server died before it answered. */
static void orphan(void)
{
    uint32_t from = world.taken;

    world.taken = 0;
    if (from == 0) return;
    sometimes(CALL_ORPHANED, true);
    *world.process[from].call = hand.request;
    hand.replayed = true;
    hand.falls += !kept.is.answered;
    if (world.process[from].call->info & INFO_REPLAYABLE)
        queue_push(&world.calls[1], from, true);
    else
        reply(from, E_PEER_RESTARTED);
}

void recovery_ended(void)
{
    orphan();
    if (plan.preserved) return;
    for (uint32_t n = 0; n < world.pagesets; n++) world.pages[n].freed = true;
    for (uint32_t i = 2; i < plan.services; i++) {
        struct process *p = &world.process[i];
        if (p->alive && pagesets_mapped(p) != 0) p->doomed = true;
    }
    for (uint32_t c = 0; c < plan.services; c++)
        memset(&world.client[c].slot, 0, sizeof(world.client[c].slot));
}

/* --- Sessions ---------------------------------------------------------------------------------------- */

static void session_free(struct rsession *s)
{
    uint32_t set = pageset_of[s - world.core.session];

    for (uint32_t i = 2; i < plan.services; i++)
        if (world.process[i].alive && !world.process[i].doomed &&
            (pagesets_mapped(&world.process[i]) >> set & 1) && plan.role[i] == ROLE_DRIVER)
            sim_fail("session %lu is freed while service %u has it mapped", s->id, i);
    world.pages[set].freed = true;
    recovery_free(&world.core, s);
}

static void session_close(struct rsession *s)
{
    recovery_close(s);
    if (recovery_session_releasable(&world.core, s)) {
        session_free(s);
    } else {
        sometimes(CLOSED_WHILE_HELD, true);
        signal_to(doorbell_of(s), DOORBELL_CHANGED);
    }
}

static void sessions_release(struct server *v)
{
    for (uint64_t left = v->used; left != 0; left &= left - 1) {
        struct rsession *s = &world.core.session[v->session[__builtin_ctzl(left)]];
        if (recovery_session_releasable(&world.core, s)) session_free(s);
    }
}

static status_t handle_open(tag_t caller, struct message *m)
{
    struct rsession *s;

    for (struct rsession *old; (old = recovery_session_stale(&world.core, caller)) != NULL;) {
        sometimes(STALE_SESSION, true);
        session_close(old);
    }
    status_t status = recovery_open(&world.core, caller, m->w[0], m->w[1], m->w[2], m->w[3], &s);
    if (status != OK) return status;
    if (world.pagesets == PAGESETS) { /* as when the machine has no more memory */
        sometimes(OUT_OF_MEMORY, true);
        recovery_free(&world.core, s);
        return E_NO_MEMORY;
    }
    uint32_t set = world.pagesets++;
    struct pageset *p = &world.pages[set];
    memset(p, 0, sizeof(*p));
    p->id = s->id;
    p->client = TAG_SERVICE(caller);
    pageset_of[s - world.core.session] = set;
    s->request = &p->request;
    s->ledger = &p->ledger;
    signal_to(doorbell_of(s), DOORBELL_CHANGED);
    if (world.tick_ns == NEVER) world.tick_ns = world.now_ns + TICK_NS;
    m->w[0] = s->id;
    m->w[1] = DOORBELL_SESSION(s->index);
    m->w[2] = DOORBELL_SESSION(s->id % DOORBELL_SESSIONS);
    for (uint32_t part = 0; part < 4; part++) m->w[3 + part] = HANDLE_MEMORY + set * 8 + part;
    m->w[7] = HANDLE_DOORBELL + s->server;
    return OK;
}

static status_t handle_session_get(tag_t caller, struct message *m)
{
    struct rsession *s;
    uint64_t held = m->w[1];
    status_t status = recovery_session_get(&world.core, caller, m->w[0], held, &s);

    if (status != OK) return status;
    m->w[0] = 0;
    if (s == NULL) {
        sessions_release(&world.server[TAG_SERVICE(caller)]);
        return OK;
    }
    m->w[0] = s->id;
    if (held != 0) return OK;
    uint32_t set = pageset_of[s - world.core.session];
    m->w[1] = s->class | (uint64_t)s->slots << 16 | (uint64_t)TAG_SERVICE(s->client) << 32;
    m->w[2] = s->data_bytes;
    for (uint32_t part = 0; part < 4; part++) m->w[3 + part] = HANDLE_MEMORY + set * 8 + part;
    m->w[7] = HANDLE_NOTIFICATION + TAG_SERVICE(s->client);
    return OK;
}

static status_t handle_close(tag_t caller, struct message *m)
{
    struct rsession *s;
    struct watch_sample sample = {.now_ns = world.now_ns};
    status_t status = recovery_session_of_client(&world.core, caller, m->w[0], &s);

    if (status != OK) return status;
    ledger_sample(s, &sample);
    if (sample.pending != 0) return E_BUSY;
    session_close(s);
    return OK;
}

/* --- Incarnations and checkpoints ------------------------------------------------------------------------ */

static status_t handle_commit(tag_t caller, struct message *m)
{
    uint32_t i = TAG_SERVICE(caller);
    struct server *v = &world.server[i];
    status_t status = recovery_attached(&world.core, caller);

    if (status != OK) return status;
    for (int n = 0; n < 2; n++) v->checkpoint[n] = &world.checkpoint[i][n];
    v->checkpoint_room = CHECKPOINT_MAX;
    m->w[0] = checkpoint_commit(v, i, (uint32_t)m->w[0], world.staging[i], (uint32_t)m->w[1], world.now_ns);
    for (uint32_t n = 0; n < 2; n++) {
        const struct checkpoint *c = &world.checkpoint[i][n];
        if (c->sequence != m->w[0] || checkpoint_check(c, CHECKPOINT_MAX, i, c->schema) != CHECKPOINT_GOOD)
            continue;
        world.committed[i][n] = world.staging[i][0];
        world.spoilt[i] &= ~(1ul << n);
    }
    return OK;
}

/* The newest that was not corrupted is what must be found. */
static void checkpoint_expect(uint32_t i, int chosen)
{
    uint64_t newest = 0;

    for (uint32_t n = 0; n < 2; n++)
        if (!(world.spoilt[i] >> n & 1) && world.committed[i][n] > newest) newest = world.committed[i][n];
    uint64_t value = chosen < 0 ? 0 : world.committed[i][chosen];
    if (chosen >= 0 && (world.spoilt[i] >> chosen & 1))
        sim_fail("a corrupted checkpoint of service %u is believed", i);
    if (value != newest) sim_fail("driver %u gets checkpoint %lu; the newest good is %lu", i, value, newest);
}

static void load(uint32_t i, uint64_t to[3])
{
    struct server *v = &world.server[i];
    enum checkpoint_source source;
    int n = checkpoint_choose(v, i, CHECKPOINT_ANY_SCHEMA, &source);

    sometimes(CHECKPOINT_LATEST_USED, source == CHECKPOINT_LATEST);
    sometimes(CHECKPOINT_PREVIOUS_USED, source == CHECKPOINT_PREVIOUS);
    sometimes(CHECKPOINT_BOTH_LOST, source == CHECKPOINT_NONE && v->checkpoints > 1);
    checkpoint_expect(i, n);
    to[0] = 0;
    to[1] = source;
    if (n < 0) return;
    checkpoint_keep(v, n);
    to[0] = v->checkpoint[n]->length;
    to[2] = v->checkpoint[n]->schema;
    memcpy(world.staging[i], v->checkpoint[n]->data, v->checkpoint[n]->length);
}

static status_t handle_load(tag_t caller, struct message *m)
{
    uint32_t i = TAG_SERVICE(caller);
    status_t status = recovery_attached(&world.core, caller);

    if (status != OK) return status;
    if (m->w[1] == CHECKPOINT_ASIDE) { /* one schema here */
        m->w[0] = m->w[1] = 0;
        return OK;
    }
    if (m->w[1] == CHECKPOINT_PREVIOUS) checkpoint_drop_latest(&world.server[i], i, (uint32_t)m->w[0]);
    load(i, m->w);
    return OK;
}

static status_t handle_attach(tag_t caller, struct message *m)
{
    uint32_t i = TAG_SERVICE(caller);
    struct attach_report report;
    status_t status = recovery_attach(&world.core, caller, m->w[0], &report);

    TRACE("  attach %u.%u: status %u, %u in flight, %u repaired, %u poisoned", i, TAG_GENERATION(caller),
          status, report.in_flight, report.repaired, report.poisoned);
    if (status != OK) return status;
    sessions_release(&world.server[i]);
    sometimes(IN_FLIGHT_AT_DEATH, report.in_flight > 0);
    sometimes(IN_FLIGHT_SEVERAL, report.in_flight > 3);
    sometimes(SURVIVED_TWICE, report.attempts_max >= 2);
    sometimes(ALL_ALONE, report.attempts_max >= 3);
    sometimes(REPAIRED, report.repaired > 0);
    sometimes(POISONED, report.poisoned > 0);
    if (m->w[1] != 0) load(i, &m->w[3]);
    m->w[0] = server_table_length(&world.server[i]);
    m->w[1] = report.attempts_max;
    m->w[2] = 1;
    m->w[6] = HANDLE_DOORBELL + i;
    m->w[7] = HANDLE_STAGING + i;
    return OK;
}

/* --- The watch -------------------------------------------------------------------------------------------- */

/* A step of recovery's. True: it died or hung here. */
static bool ends_here(void)
{
    const struct fault *f;

    world.steps++;
    world.own_steps[RECOVERY]++;
    while (world.process[RECOVERY].alive && (f = fault_due(RECOVERY)) != NULL) process_strike(RECOVERY, f);
    return !world.process[RECOVERY].alive || world.process[RECOVERY].hung;
}

/* Recovery waits for the answer; supervise.c takes the letter, answered() has it. */
static void complain(uint32_t i, enum cause cause)
{
    world.server[i].watch.state = WATCH_REPORTED;
    world.complaint = (struct message){.w = {i, world.server[i].generation, cause},
                                       .info = INFO_REPLAYABLE | SUPERVISOR_COMPLAINT};
    world.complaining = true;
    world.process[RECOVERY].waiting = WAIT_REPLY;
    queue_push(&world.calls[0], RECOVERY, false);
}

static void answered(void)
{
    if (!world.recovery_ready) {
        world.recovery_ready = world.process[RECOVERY].call_status == OK;
        if (!world.recovery_ready) process_die(RECOVERY, CAUSE_EXIT, 1);
        return;
    }
    world.complaining = false;
    if (world.process[RECOVERY].call_status == E_BUSY)
        watch_doubted(&world.server[world.complaint.w[0]].watch);
}

static status_t handle_complain(tag_t caller, struct message *m)
{
    struct rsession *s;
    status_t status = recovery_session_of_client(&world.core, caller, m->w[0], &s);

    if (status != OK) return status;
    if (!ledger_nonsense(s, m->w[1])) return E_NOT_FOUND;
    if (world.server[s->server].watch.state == WATCH_REPORTED) return OK;
    sometimes(CLIENT_COMPLAINED, true);
    complain(s->server, CAUSE_PROTOCOL);
    return OK;
}

static void watch_service(uint32_t i)
{
    struct server *v = &world.server[i];
    struct watch_sample sample;

    if (v->generation == 0 || world.complaining) return;
    recovery_sample(&world.core, v, world.now_ns, &sample);
    if (sample.nonsense != 0 && v->watch.state != WATCH_REPORTED) {
        sometimes(WATCH_SAW_NONSENSE, true);
        complain(i, CAUSE_PROTOCOL);
        return;
    }
    enum watch_verdict verdict =
        watch_step(&v->watch, &sample, world.now_ns, plan.file.service[i].watchdog_ms * MS);
    sometimes(WATCH_ASKED_BUSY, verdict == WATCH_ASK && sample.pending > 0);
    sometimes(WATCH_ASKED_QUIET, verdict == WATCH_ASK && sample.pending == 0);
    sometimes(WATCH_VERDICT, verdict == WATCH_STALLED);
    if (verdict != WATCH_FINE && ends_here()) return;
    if (verdict == WATCH_ASK) signal_to(HANDLE_DOORBELL + i, v->used);
    if (verdict == WATCH_STALLED) complain(i, CAUSE_STALLED);
    if (verdict == WATCH_LOST_IRQ) complain(i, CAUSE_LOST_IRQ);
}

static void server_look(uint64_t i)
{
    if (!recovery_server_resume(&world.core, i)) sim_fail("recovery finds what it kept of %lu not sound", i);
}

static void tick(void)
{
    for (uint32_t i = 2; i < plan.services; i++) server_look(i);
    for (uint32_t i = 2; i < plan.services && world.process[RECOVERY].alive && !world.process[RECOVERY].hung;
         i++)
        if (world.server[i].used != 0) watch_service(i);
    world.tick_ns = world.core.sessions ? world.now_ns + TICK_NS : NEVER;
}

/* --- Turns -------------------------------------------------------------------------------------------------- */

static status_t dispatch(tag_t caller, struct message *m)
{
    server_look(TAG_SERVICE(caller));
    if (INFO_LABEL(m->info) == RECOVERY_OPEN) server_look(m->w[0]);
    switch (INFO_LABEL(m->info)) {
    case RECOVERY_OPEN: return handle_open(caller, m);
    case RECOVERY_ATTACH: return handle_attach(caller, m);
    case RECOVERY_SESSION_GET: return handle_session_get(caller, m);
    case RECOVERY_COMMIT: return handle_commit(caller, m);
    case RECOVERY_LOAD: return handle_load(caller, m);
    case RECOVERY_COMPLAIN: return handle_complain(caller, m);
    case RECOVERY_CLOSE: return handle_close(caller, m);
    default: return E_UNSUPPORTED;
    }
}

/* The request that ends whoever takes it (FAULT_LETHAL), here and now. */
static bool lethal(enum hand_verdict verdict)
{
    if (verdict == HAND_NEW && world.lethal_next) {
        world.lethal_next = false;
        world.lethal_tag = TAG_MAKE(hand.from, hand.generation);
    } else if (world.lethal_tag != TAG_MAKE(hand.from, hand.generation) || verdict != HAND_AGAIN) {
        return false;
    }
    process_die(RECOVERY, CAUSE_PAGE_FAULT, 4);
    if (!plan.preserved) world.lethal_tag = 0; /* that it came before is lost as well */
    return true;
}

/* By the book: so many fell with it, not one more and not one less. */
static void check_verdict(enum hand_verdict verdict)
{
    if (verdict == HAND_NEW) hand.falls = 0;
    if (!plan.preserved) return;
    if (verdict == HAND_POISONED && hand.falls < HAND_TRIES_MAX)
        sim_fail("a request of service %u is poisoned after %u falls", hand.from, hand.falls);
    if (verdict == HAND_AGAIN && hand.falls >= HAND_TRIES_MAX)
        sim_fail("a request of service %u is tried again after %u falls", hand.from, hand.falls);
    sometimes(REQUEST_POISONED, verdict == HAND_POISONED);
    sometimes(REQUEST_POISONED_ALONE, verdict == HAND_POISONED && world.core.sessions != 0);
}

static void serve(void)
{
    uint32_t from;

    if (!queue_take(&world.calls[1], &from)) return;
    world.taken = from;
    struct message *call = world.process[from].call;
    uint32_t generation = world.process[from].generation;
    bool replayed = hand.replayed && hand.from == from && hand.generation == generation;
    hand.replayed = false;
    hand.from = from;
    hand.generation = generation;
    hand.request = *call;
    enum hand_verdict verdict =
        hand_take(&kept.is, TAG_MAKE(from, generation), INFO_LABEL(call->info), call->w, replayed);
    check_verdict(verdict);
    if (ends_here() || lethal(verdict)) return;
    if (verdict != HAND_ANSWERED) {
        kept.status = verdict == HAND_POISONED ? E_POISONED : dispatch(TAG_MAKE(from, hand.generation), call);
        kept.reply = *call;
        hand_answered(&kept.is);
    }
    *call = kept.reply;
    status_t status = kept.status;
    check_recovery();
    if (ends_here()) {
        sometimes(RECOVERY_ENDED_BEFORE_REPLY, true);
        return;
    }
    world.taken = 0;
    reply(from, status);
}

uint64_t recovery_next_ns(void)
{
    const struct process *p = &world.process[RECOVERY];

    return p->alive && !p->hung && p->waiting == WAIT_NOTHING && world.recovery_ready ? world.tick_ns : NEVER;
}

bool recovery_runnable(void)
{
    const struct process *p = &world.process[RECOVERY];

    if (!p->alive || p->hung || p->waiting == WAIT_REPLY) return false;
    return !world.recovery_ready || world.complaining || world.calls[1].count ||
           world.tick_ns <= world.now_ns;
}

void recovery_turn(void)
{
    if (ends_here()) return;
    if (!world.recovery_ready || world.complaining)
        answered();
    else if (world.calls[1].count && (world.tick_ns > world.now_ns || world_below(2)))
        serve();
    else if (world.tick_ns <= world.now_ns)
        tick();
}
