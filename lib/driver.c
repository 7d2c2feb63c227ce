/* SPDX-License-Identifier: BSD-2-Clause
 * The life of a driver's incarnation: attach to recovery, restore, reset the device, replay, serve. Owns
 * the table of sessions as this incarnation sees it. Start and restart are one path.
 * It sleeps in one place only (driver_sleep), after it has told every client so and looked once more:
 * no wake-up is lost. When it dies, anywhere, all that it must not lose is in recovery's memory. */
#include "driver.h"
#include "driver_block.h"
#include "atomic.h"
#include "../abi/protocol.h"
#include "../abi/trace.h"

#define ROUNDS_WITHOUT_SLEEP 16 /* then interrupts are looked for: clients must not starve the device */
#define DEATHS_TOGETHER      3  /* a request that survived as many is issued alone, to find the culprit */

#define each_session(d, s, mask)                                              \
    for (uint64_t s##_left = (mask); s##_left != 0; s##_left &= s##_left - 1) \
        for (struct driver_session *s = &(d)->session[__builtin_ctzl(s##_left)]; s; s = NULL)

static void driver_mark(uint32_t mark, uint64_t value)
{
    (void)sys_trace_mark(0, mark, value); /* without credit left the trace is poorer, no more */
}

static status_t driver_attach(struct driver *d, const struct driver_ops *ops)
{
    struct message m = {.info = INFO_REPLAYABLE,
                        .w = {ops->class, ops->checkpoint_bytes != 0, ops->checkpoint_age_ms}};

    d->ops = ops;
    d->recovery = cap_find("recovery");
    d->supervisor = cap_find("supervisor");
    d->endpoint = cap_find("endpoint");
    d->generation = TAG_GENERATION(startup()->tag);
    status_t status = service_call(d->recovery, RECOVERY_ATTACH, &m);
    if (status != OK) return status;
    if (m.w[6] == 0 || m.w[7] == 0) return E_NO_SLOTS;
    d->sessions = (uint32_t)m.w[0];
    d->one_by_one = m.w[1] >= DEATHS_TOGETHER;
    d->staging_bytes = m.w[2] * PAGE_SIZE;
    memcpy(d->found, &m.w[3], sizeof(d->found));
    d->doorbell = m.w[6];
    status = sys_bind(d->doorbell);
    if (status == OK) status = map_new(m.w[7], m.w[2], RIGHT_READ | RIGHT_WRITE, &d->staging);
    if (status == OK && ops->attach != NULL) status = ops->attach(d);
    return status;
}

/* --- Checkpoints ------------------------------------------------------------------------------- */

/* What recovery gave us is of our version, or becomes so, and means what it must. */
static bool checkpoint_accept(struct driver *d, uint32_t version, uint64_t bytes)
{
    const struct driver_ops *ops = d->ops;

    if (version != ops->checkpoint_version) {
        if (ops->migrate == NULL || !ops->migrate(version, (uint32_t)bytes, d->staging)) return false;
    } else if (bytes != ops->checkpoint_bytes) {
        return false;
    }
    return ops->checkpoint_valid == NULL || ops->checkpoint_valid(d->staging);
}

static status_t checkpoint_other(struct driver *d, uint64_t choice)
{
    struct message m = {.info = INFO_REPLAYABLE,
                        .w = {d->ops->checkpoint_version, choice, d->ops->checkpoint_age_ms}};
    status_t status = service_call(d->recovery, RECOVERY_LOAD, &m);

    if (status == OK) memcpy(d->found, m.w, sizeof(d->found));
    return status;
}

/* Latest, which came with ATTACH, else previous, else what was put aside at an update, else none: length and checksum
 * are recovery's to check, the meaning ours. */
static status_t checkpoint_load(struct driver *d, const void **out)
{
    const uint64_t *bytes = &d->found[0], *source = &d->found[1], *version = &d->found[2];
    status_t status = OK;

    *out = NULL;
    if (d->ops->checkpoint_bytes == 0 || *source == 0) return OK; /* there never was one */
    for (uint64_t choice = 2; status == OK; choice++) {
        if (*source != 0 && checkpoint_accept(d, (uint32_t)*version, *bytes)) {
            d->checkpoint_source = (uint32_t)*source;
            *out = d->staging;
            return OK;
        }
        if (choice > 3) return OK;
        status = checkpoint_other(d, choice);
    }
    return status;
}

status_t driver_checkpoint(struct driver *d, const void *checkpoint)
{
    struct message m = {.info = INFO_REPLAYABLE, .w = {d->ops->checkpoint_version, d->ops->checkpoint_bytes}};

    if (d->ops->checkpoint_bytes > d->staging_bytes) return E_ARGUMENT;
    memcpy(d->staging, checkpoint, d->ops->checkpoint_bytes);
    return service_call(d->recovery, RECOVERY_COMMIT, &m);
}

/* --- Sessions ---------------------------------------------------------------------------------- */

uint8_t *driver_data(struct driver_session *s)
{
    void *data = s->data;

    if (data == NULL &&
        map_new(s->data_memory, PAGES_FOR(s->data_bytes), RIGHT_READ | RIGHT_WRITE, &data) == OK)
        s->data = data;
    return s->data;
}

static status_t session_map(struct driver_session *s)
{
    void *request = NULL, *ledger = NULL, *hint = NULL;
    uint32_t rw = RIGHT_READ | RIGHT_WRITE;
    status_t status = map_new(s->request_memory, 1, RIGHT_READ, &request);

    if (status == OK) status = map_new(s->ledger_memory, 1, rw, &ledger);
    if (status == OK) status = map_new(s->hint_memory, 1, rw, &hint);
    s->request = request;
    s->ledger = ledger;
    s->stream_client = request;
    s->stream_driver = ledger;
    s->hint = hint;
    if (status == OK && s->class == SESSION_STREAM && driver_data(s) == NULL) status = E_NO_MEMORY;
    return status;
}

static void session_release(struct driver_session *s)
{
    const void *mapped[] = {s->request, s->ledger, s->hint, s->data};
    handle_t held[] = {s->request_memory, s->ledger_memory, s->hint_memory, s->data_memory, s->client};

    for (uint32_t i = 0; i < 4; i++)
        if (mapped[i] != NULL) (void)sys_memory_unmap(0, (uint64_t)mapped[i]);
    for (uint32_t i = 0; i < 5; i++)
        if (held[i] != 0) (void)sys_cap_delete(held[i]); /* the client's is gone if the client is */
    *s = (struct driver_session){.index = s->index};
}

/* Takes what recovery has at this index, if it is new to us. */
static status_t session_get(struct driver *d, uint32_t index)
{
    struct driver_session *s = &d->session[index];
    struct message m = {.info = INFO_REPLAYABLE, .w = {index, 0}};
    status_t status = service_call(d->recovery, RECOVERY_SESSION_GET, &m);

    if (status != OK) return status;
    if (m.w[0] == 0) return OK;
    *s = (struct driver_session){.id = m.w[0], .index = index};
    s->class = (uint32_t)(m.w[1] & 0xffff);
    s->slots = (uint32_t)(m.w[1] >> 16 & 0xffff);
    s->owner = (uint32_t)(m.w[1] >> 32);
    s->data_bytes = m.w[2];
    s->request_memory = m.w[3];
    s->ledger_memory = m.w[4];
    s->hint_memory = m.w[5];
    s->data_memory = m.w[6];
    s->client = m.w[7];
    s->client_bits = DOORBELL_SESSION(s->id % DOORBELL_SESSIONS);
    status = session_map(s);
    if (status != OK) session_release(s);
    return status;
}

static void stream_pump(struct driver *d, struct driver_session *s)
{
    s->seen = (struct session_stream_client){0, s->stream_client->tx_head, s->stream_client->rx_tail,
                                             s->stream_client->control};
    d->ops->pump(d, s);
}

static void clients_count(struct driver *d)
{
    uint32_t owner = d->open == 0 ? 0 : d->session[__builtin_ctzl(d->open)].owner;

    d->shared = false;
    each_session(d, s, d->open) if (s->owner != owner) d->shared = true;
}

/* The device is ready: it learns of the session, and of everything unfinished in it. */
static uint32_t session_begin(struct driver *d, struct driver_session *s)
{
    if (d->ops->session_open != NULL) s->refused = d->ops->session_open(d, s);
    d->open |= 1ul << s->index;
    clients_count(d);
    if (s->class == SESSION_BLOCK) return block_replay(d, s);
    stream_pump(d, s);
    s->wake = true;
    return 0;
}

static void session_end(struct driver *d, struct driver_session *s)
{
    for (; s->suspects != 0; s->suspects &= s->suspects - 1) d->suspects--;
    if (d->suspects == 0) d->one_by_one = false;
    if (d->ops->session_close != NULL && s->refused == OK) d->ops->session_close(d, s);
    session_release(s);
}

/* The session at this index is not the one that we hold: let go of ours, look again. */
static status_t session_change(struct driver *d, struct driver_session *s)
{
    if (s->id != 0) {
        d->open &= ~(1ul << s->index);
        clients_count(d);
        d->closing |= 1ul << s->index;
        if (s->issued != 0) return OK; /* the device still has requests: when they are done */
        d->closing &= ~(1ul << s->index);
        session_end(d, s);
    }
    status_t status = session_get(d, s->index);
    if (status == OK && s->id != 0) (void)session_begin(d, s);
    return status;
}

static void sessions_refresh(struct driver *d)
{
    for (uint32_t i = 0; i < DOORBELL_SESSIONS; i++) {
        struct driver_session *s = &d->session[i];
        struct message m = {.info = INFO_REPLAYABLE, .w = {i, s->id}};
        s->index = i;
        if (s->id == 0) {
            status_t status = session_change(d, s);
            if (status == E_NOT_FOUND) return; /* past the end of the table */
            if (status != OK) log_line("%s: session %u: status %d", d->ops->name, i, status);
            continue;
        }
        if (service_call(d->recovery, RECOVERY_SESSION_GET, &m) != OK || m.w[0] == s->id) continue;
        if (session_change(d, s) != OK) log_line("%s: session %u is not taken", d->ops->name, i);
    }
}

static status_t sessions_restore(struct driver *d)
{
    for (uint32_t i = 0; i < d->sessions && i < DOORBELL_SESSIONS; i++) {
        d->session[i].index = i;
        status_t status = session_get(d, i);
        if (status != OK) return status;
    }
    return OK;
}

/* --- Serving ----------------------------------------------------------------------------------- */

static void sessions_tell(struct driver *d)
{
    each_session(d, s, d->open)
    {
        if (s->class == SESSION_BLOCK) block_report(s);
        if (!s->wake) continue;
        s->wake = false;
        if (s->class == SESSION_STREAM) memory_fence(); /* indices before the look at client_waiting */
        /* client_waiting is the first word of the page in both classes. */
        if (s->stream_client->client_waiting != 0) (void)sys_signal(s->client, s->client_bits);
    }
}

static void sessions_report(struct driver *d)
{
    if (d->submitted && d->ops->kick != NULL) d->ops->kick(d);
    d->submitted = false;
    sessions_tell(d);
}

static bool stream_changed(const struct driver_session *s)
{
    return s->stream_client->tx_head != s->seen.tx_head || s->stream_client->rx_tail != s->seen.rx_tail ||
           s->stream_client->control != s->seen.control;
}

/* Counts the round where recovery sees it: the answer to "are you alive?". */
static void session_count_round(struct driver_session *s)
{
    uint32_t *rounds = s->class == SESSION_BLOCK ? &s->ledger->rounds : &s->stream_driver->rounds;

    shared_store(rounds, *rounds + 1);
}

/* One look at every session, beginning with one that was passed over. Returns whether there was work. */
static bool driver_round(struct driver *d)
{
    bool worked = false, room = d->room;
    uint32_t first = d->first;

    d->room = false; /* set again by what completes from here on */
    d->full = d->passed = false;
    for (uint64_t left = d->open >> first | d->open << (-first & 63); left != 0; left &= left - 1) {
        struct driver_session *s = &d->session[(first + (uint32_t)__builtin_ctzl(left)) % 64];
        session_count_round(s);
        if (s->class == SESSION_BLOCK) {
            worked |= block_serve(d, s, room) || ((d->rung >> s->index & 1) != 0 && block_look(d, s));
        } else if (stream_changed(s)) {
            stream_pump(d, s);
            worked = true;
        }
    }
    d->rung = 0;
    sessions_report(d);
    each_session(d, c, d->closing)
    {
        if (session_change(d, c) != OK) log_line("%s: session %u is not taken", d->ops->name, c->index);
    }
    return worked || d->room;
}

static void driver_waiting_set(struct driver *d, uint32_t value)
{
    /* driver_waiting is the first word of the page in both classes. */
    each_session(d, s, d->open) shared_store(&s->stream_driver->driver_waiting, value);
}

/* Tells every client that we sleep, and looks once more. */
static bool driver_may_sleep(struct driver *d)
{
    driver_waiting_set(d, 1);
    memory_fence();
    each_session(d, s, d->open)
    {
        bool work = s->class == SESSION_BLOCK ? shared_load(&s->hint->submit) != 0 : stream_changed(s);
        if (!work) continue;
        driver_waiting_set(d, 0);
        return false;
    }
    return true;
}

/* Longer than an interrupt is on its way, also where the host holds up what is to deliver it; shorter than the time between
 * two of recovery's questions, as watchdog times go. */
#define IRQ_LOST_NS 100000000ul

/* Somebody rings, and not the device. Recovery does, when nothing was completed for a while. */
static void driver_listen(struct driver *d)
{
    if (d->ops->unheard == NULL || d->in_flight == 0 || !d->ops->unheard(d)) {
        d->unheard_ns = 0;
        return;
    }
    uint64_t now = clock_ns();
    if (d->unheard_ns == 0) d->unheard_ns = now;
    if (now - d->unheard_ns < IRQ_LOST_NS) return;
    each_session(d, s, d->open) shared_store(&s->ledger->irq_lost, d->generation);
}

static void driver_signals(struct driver *d, uint64_t bits)
{
    uint64_t device = bits & ~(DOORBELL_CHANGED | (DOORBELL_IRQ(0) - 1));

    d->rung |= bits & (DOORBELL_IRQ(0) - 1);
    if (device != 0) d->unheard_ns = 0;
    if (device != 0 && d->ops->interrupt != NULL) d->ops->interrupt(d, device);
    if (device == 0) driver_listen(d);
    if ((bits & DOORBELL_CHANGED) != 0) sessions_refresh(d);
    if (d->ops->pump == NULL || device == 0) return;
    each_session(d, s, d->open) stream_pump(d, s);
}

/* Between a call's arrival and its handling, and between that and the reply, this process does other things: what those do to
 * the words by mistake nobody has asked for, and is no answer. */
static __attribute__((noinline)) uint64_t message_sum(const struct message *m)
{
    uint64_t sum = m->info;

    for (uint32_t i = 0; i < MESSAGE_WORDS; i++) sum = sum * 0x9e3779b97f4a7c15ul + m->w[i];
    return sum;
}

static void message_check(const struct driver *d, const struct message *m)
{
    if (message_sum(m) != d->message_sum) fatal("%s: a message is not what it was", d->ops->name);
}

/* Returns whether m is now a reply to be sent. */
static bool driver_message(struct driver *d, struct message *m)
{
    if ((m->info & INFO_SIGNAL) != 0) {
        driver_signals(d, m->badge);
        return false;
    }
    for (uint32_t n = INFO_CAPS(m->info), i = MESSAGE_WORDS - n; i < MESSAGE_WORDS; i++)
        if (m->w[i] != 0)
            (void)sys_cap_delete(m->w[i]); /* nobody asked for them: they must not fill our table */
    message_check(d, m);
    if (d->ops->call != NULL)
        d->ops->call(d, m);
    else
        m->info = INFO_MAKE(E_UNSUPPORTED, 0);
    d->message_sum = message_sum(m);
    return true;
}

static void driver_poll(struct driver *d)
{
    struct sys_result r = sys_poll(d->doorbell);

    if (r.status == OK) driver_signals(d, r.value);
}

/* The first request that was issued again may be done: its client hears of it before the device is given the others. It
 * serves from here on, so it counts a round: recovery knows then what to expect of it. */
static void driver_begin(struct driver *d)
{
    each_session(d, s, d->open) session_count_round(s);
    driver_poll(d);
}

static void driver_serve(struct driver *d)
{
    struct message m;
    bool reply = false;
    uint32_t rounds = 0;

    driver_begin(d);
    for (;;) {
        bool worked = driver_round(d);
        bool go_on = worked || !driver_may_sleep(d);
        if (reply) message_check(d, &m); /* the last thing before it goes */
        if (go_on) {
            if (reply) (void)sys_reply(&m); /* who called may be gone */
            reply = false;
            if (++rounds % ROUNDS_WITHOUT_SLEEP != 0) continue;
            driver_poll(d);
            continue;
        }
        status_t status = reply ? sys_reply_recv(d->endpoint, &m) : sys_recv(d->endpoint, &m);
        if ((m.info & INFO_SIGNAL) == 0) d->message_sum = message_sum(&m);
        driver_waiting_set(d, 0);
        if (status != OK) fatal("%s: recv: status %d", d->ops->name, status);
        reply = driver_message(d, &m);
    }
}

static status_t driver_start(struct driver *d, const struct driver_ops *ops)
{
    const void *checkpoint;
    uint32_t replayed = 0;
    struct message ready = {.info = INFO_REPLAYABLE};
    status_t status = driver_attach(d, ops);

    if (status == OK) status = checkpoint_load(d, &checkpoint);
    if (status == OK) status = sessions_restore(d);
    if (status != OK) return status;
    driver_mark(MARK_RESTORED, d->checkpoint_source);

    if (ops->reset != NULL) status = ops->reset(d, checkpoint);
    if (status != OK) return status;
    driver_mark(MARK_RESET, 0);

    for (uint32_t i = 0; i < d->sessions && i < DOORBELL_SESSIONS; i++)
        if (d->session[i].id != 0) replayed += session_begin(d, &d->session[i]);
    if (d->suspects == 0) d->one_by_one = false;
    sessions_tell(d); /* of what a predecessor completed and could not say */
    driver_mark(MARK_REPLAYED, replayed);
    return service_call(d->supervisor, SUPERVISOR_READY, &ready);
}

static struct driver driver;

int driver_main(const struct driver_ops *ops)
{
    status_t status = driver_start(&driver, ops);

    if (status == OK) driver_serve(&driver);
    log_line("%s: cannot start: status %d", ops->name, status);
    return (int)status;
}
