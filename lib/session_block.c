/* SPDX-License-Identifier: BSD-2-Clause
 * The client's side of a block session. Owns the request page (slots) and a private account of it: which
 * slots are busy, which the driver is not told about yet, which were reported complete. A driver may die
 * at any point of this; nothing here knows. Invariants: ids grow by one and are never reused; a slot is
 * freed only after its completion was seen with its own id; each request is delivered once.
 * What the driver wrote is believed in one case only: issued_id and completed_id equal the slot's id and
 * the status is a known one. Everything else is either old (ignored) or cannot be (recovery hears of it). */
#include "session.h"
#include "../abi/protocol.h"
#include "atomic.h"

#define RANGE_MASK(n) ((n) >= 64 ? ~0ul : (1ul << (n)) - 1)

static status_t part_map(handle_t memory, uint64_t bytes, uint32_t prot, void **out)
{
    return memory == 0 ? E_NO_SLOTS : map_new(memory, PAGES_FOR(bytes), prot, out);
}

static status_t block_map(struct block_session *s, const struct message *m)
{
    void *request, *ledger, *hint, *data;
    status_t status = part_map(m->w[3], sizeof(*s->request), RIGHT_READ | RIGHT_WRITE, &request);

    if (status == OK) status = part_map(m->w[4], sizeof(*s->ledger), RIGHT_READ, &ledger);
    if (status == OK) status = part_map(m->w[5], sizeof(*s->hint), RIGHT_READ | RIGHT_WRITE, &hint);
    if (status == OK) status = part_map(m->w[6], s->data_bytes, RIGHT_READ | RIGHT_WRITE, &data);
    if (status != OK) return status;
    s->request = request;
    s->ledger = ledger;
    s->hint = hint;
    s->data = data;
    return OK;
}

/* Our notification, as a capability that may be sent and only signalled. */
status_t session_notification(handle_t *notification, handle_t *to_send)
{
    struct sys_result r;

    if (*notification == 0) {
        r = sys_notification_create(startup()->tag);
        if (r.status != OK) return r.status;
        *notification = r.value;
    }
    r = sys_cap_derive(*notification, RIGHT_WRITE | RIGHT_GRANT, 0);
    *to_send = r.value;
    return r.status;
}

status_t block_open(struct block_session *s, const char *service, uint32_t slots, uint64_t data_bytes,
                    handle_t notification)
{
    const struct startup_cap *entry = cap_entry(service);
    struct message m = {.info = INFO_MAKE(0, 1) | INFO_REPLAYABLE};

    if (entry == NULL) return E_NOT_FOUND;
    if (slots == 0 || slots > SESSION_SLOTS_MAX) return E_ARGUMENT;
    *s = (struct block_session){
        .slots = slots, .data_bytes = data_bytes, .next_id = 1, .notification = notification};
    m.w[0] = entry->value;
    m.w[1] = SESSION_BLOCK;
    m.w[2] = slots;
    m.w[3] = data_bytes;
    status_t status = session_notification(&s->notification, &m.w[7]);
    s->ends = notification == 0 ? s->notification : m.w[7];
    if (status == OK) status = service_call(cap_find("recovery"), RECOVERY_OPEN, &m);
    if (status != OK) {
        if (s->ends != 0) (void)sys_cap_delete(s->ends);
        return status;
    }
    s->id = m.w[0];
    s->driver_bit = m.w[1];
    s->bits = m.w[2];
    s->doorbell = m.w[7];
    return block_map(s, &m);
}

int block_submit(struct block_session *s, enum block_op op, uint64_t sector, uint32_t length, uint64_t offset)
{
    uint64_t free = ~s->busy & RANGE_MASK(s->slots);

    if (free == 0) return -1;
    int i = __builtin_ctzl(free);
    struct session_slot *slot = &s->request->slot[i];
    slot->op = op;
    slot->length = length;
    slot->sector = sector;
    slot->offset = offset;
    shared_store(&slot->id, s->next_id++); /* from here on it is pending, and survives us too */
    s->busy |= 1ul << i;
    s->submitted |= 1ul << i;
    s->complained &= ~(1ul << i);
    return i;
}

/* Returns whether the driver sleeps and must be signalled. shared_or orders the hint before the look at
 * driver_waiting; the driver sets that, fences and looks at the hint once more before it sleeps: one of the
 * two sees the other. */
static bool block_hint(struct block_session *s)
{
    if (s->submitted == 0) return false;
    shared_or(&s->hint->submit, s->submitted);
    s->submitted = 0;
    return shared_load(&s->ledger->driver_waiting) != 0;
}

void block_kick(struct block_session *s)
{
    if (block_hint(s)) (void)sys_signal(s->doorbell, s->driver_bit);
}

/* The driver wrote what cannot be. Recovery looks itself and has the driver restarted; the slot stays
 * pending and is completed by the next incarnation. */
static void block_complain(struct block_session *s, uint32_t slot)
{
    struct message m = {.info = INFO_REPLAYABLE, .w = {s->id, slot, E_PROTOCOL}};

    s->violations++;
    if (s->complained >> slot & 1) return;
    s->complained |= 1ul << slot;
    if (service_call(cap_find("recovery"), RECOVERY_COMPLAIN, &m) != OK) return; /* not upheld: wait on */
}

static bool block_take_slot(struct block_session *s, uint32_t i, struct block_done *done)
{
    const struct session_entry *entry = &s->ledger->entry[i];
    struct session_slot *slot = &s->request->slot[i];
    uint64_t id = slot->id, completed = shared_load(&entry->completed_id);
    uint32_t status = shared_load(&entry->status);

    if (completed < id) return false; /* an earlier request's, or a wrong hint */
    if (completed > id || shared_load(&entry->issued_id) != id || status >= STATUS_COUNT) {
        block_complain(s, i);
        return false;
    }
    *done = (struct block_done){i, (status_t)status, id};
    shared_store(&slot->id, 0);
    s->busy &= ~(1ul << i);
    return true;
}

uint32_t block_take(struct block_session *s, struct block_done *done, uint32_t max)
{
    uint32_t n = 0;

    bool slept = s->request->client_waiting != 0;
    if (slept) shared_store(&s->request->client_waiting, 0);
    if (shared_load(&s->hint->complete) != 0)
        s->ready |= shared_take(&s->hint->complete);
    else if (slept)
        s->ready =
            s->busy; /* woken for nothing, or by recovery: a driver need not set hints for us to go on */
    s->ready &= s->busy;
    while (s->ready != 0 && n < max) {
        uint32_t i = (uint32_t)__builtin_ctzl(s->ready);
        s->ready &= s->ready - 1;
        if (block_take_slot(s, i, &done[n])) n++;
    }
    return n;
}

/* Asks to be signalled; false: there is something to take already. */
static bool block_announce(struct block_session *s)
{
    if (s->ready != 0 || shared_load(&s->hint->complete) != 0) return false;
    shared_store(&s->request->client_waiting, 1);
    memory_fence();
    if (shared_load(&s->hint->complete) == 0) return true;
    shared_store(&s->request->client_waiting, 0);
    return false;
}

bool block_arm(struct block_session *s)
{
    block_kick(s);
    return block_announce(s);
}

/* Where the driver must be woken too, both in one call: it is more urgent, so a signal alone would switch to
 * it and back for nothing but our wait. Whatever wakes us, the caller looks. */
void block_wait(struct block_session *s)
{
    bool asleep = block_hint(s), wait = block_announce(s);

    if (asleep && wait)
        (void)sys_signal_wait(s->doorbell, s->driver_bit, s->notification);
    else if (asleep)
        (void)sys_signal(s->doorbell, s->driver_bit);
    else if (wait)
        (void)sys_wait(s->notification);
}

status_t block_do(struct block_session *s, enum block_op op, uint64_t sector, uint32_t length,
                  uint64_t offset)
{
    struct block_done done;

    if (block_submit(s, op, sector, length, offset) < 0) return E_BUSY;
    while (block_take(s, &done, 1) == 0) block_wait(s);
    return done.status;
}

status_t block_close(struct block_session *s)
{
    struct message m = {.info = INFO_REPLAYABLE, .w = {s->id}};

    if (s->busy != 0) return E_BUSY;
    status_t status = service_call(cap_find("recovery"), RECOVERY_CLOSE, &m);
    if (status != OK) return status;
    (void)sys_cap_delete(s->doorbell);
    (void)sys_cap_delete(s->ends);
    return OK;
}
