/* SPDX-License-Identifier: BSD-2-Clause
 * Block requests on the driver's side: from slot to device to ledger (rules: abi/session.h). Owns the
 * ledger while this incarnation lives. Invariants: issued_id is in the ledger before the device knows of
 * the request; status is there before completed_id; a slot is with the device at most once. The request
 * page belongs to a client that may be anything: a slot is copied once, and the copy is checked.
 * When the driver dies anywhere in here, recovery and the next incarnation go on from the ledger. */
#include "driver_block.h"
#include "atomic.h"

#define CLIENT_SHARE  16u /* enough to keep a device busy, few enough to wait for */
#define RANGE_MASK(n) ((n) >= 64 ? ~0ul : (1ul << (n)) - 1)

/* One look at memory that the client can change meanwhile. */
static void slot_copy(const struct session_slot *from, struct session_slot *to)
{
    to->id = shared_load(&from->id);
    to->op = shared_load(&from->op);
    to->length = shared_load(&from->length);
    to->sector = shared_load(&from->sector);
    to->offset = shared_load(&from->offset);
}

/* Read once more and compared: else one wrong instruction above could send any request anywhere. A client that writes
 * its slot at this moment is looked at again later. */
static bool slot_same(const struct session_slot *slot, const struct session_slot *copy)
{
    return shared_load(&slot->op) == shared_load(&copy->op) &&
           shared_load(&slot->length) == shared_load(&copy->length) &&
           shared_load(&slot->sector) == shared_load(&copy->sector) &&
           shared_load(&slot->offset) == shared_load(&copy->offset);
}

static uint32_t client_in_flight(const struct driver *d, uint32_t owner)
{
    uint32_t n = 0;

    for (uint64_t left = d->open | d->closing; left != 0; left &= left - 1) {
        const struct driver_session *s = &d->session[__builtin_ctzl(left)];
        for (uint64_t issued = s->owner == owner ? s->issued : 0; issued != 0; issued &= issued - 1) n++;
    }
    return n;
}

/* Before requests of a session are offered: what it gets no more of waits for a completion. Without a bound one client's
 * requests fill the device's ring, and everybody else waits behind them. */
static void turn_begin(struct driver *d, const struct driver_session *s)
{
    d->most = UINT32_MAX;
    if (!(d->shared | d->one_by_one | d->full)) return;
    if (d->shared) {
        uint32_t has = client_in_flight(d, s->owner);
        d->most = d->in_flight + (has < CLIENT_SHARE ? CLIENT_SHARE - has : 0);
    }
    if (d->one_by_one) d->most = 1;
    if (d->full) d->most = 0;
}

static bool slot_pending(const struct driver_session *s, uint32_t slot, uint64_t id)
{
    return id != 0 && s->ledger->entry[slot].completed_id != id;
}

static inline __attribute__((always_inline)) status_t
request_check(const struct driver *d, const struct driver_session *s, const struct session_slot *r)
{
    uint64_t max = d->ops->max_bytes != 0 ? d->ops->max_bytes : s->data_bytes;

    if (s->refused != OK) return s->refused;
    if (r->op > BLOCK_INFO) return E_ARGUMENT;
    if (r->op == BLOCK_FLUSH) return OK; /* has no buffer and no place */
    if (r->length == 0 || r->length % SECTOR_SIZE != 0) return E_ARGUMENT;
    if (r->offset > s->data_bytes || r->length > s->data_bytes - r->offset) return E_ARGUMENT;
    if (r->op == BLOCK_INFO) return OK;
    if (r->length > max) return E_ARGUMENT;
    if (r->sector > d->sectors || r->length / SECTOR_SIZE > d->sectors - r->sector) return E_ARGUMENT;
    if (r->op == BLOCK_WRITE && (d->info.flags & BLOCK_READ_ONLY) != 0) return E_RIGHTS;
    return OK;
}

/* A refusal is seldom, and checked by other instructions than those that came to it: a client is told only what
 * both find, or nothing, by a driver that ends here. */
static __attribute__((noinline)) status_t
request_refuse(const struct driver *d, const struct driver_session *s, const struct session_slot *r)
{
    status_t status = request_check(d, s, r);

    if (status == OK) fatal("%s: a good request was about to be refused", d->ops->name);
    return status;
}

static status_t info_write(const struct driver *d, struct driver_session *s, const struct session_slot *r)
{
    struct block_info info = d->info;
    uint8_t *data = driver_data(s);

    if (shared_load(&r->op) != BLOCK_INFO) fatal("%s: nobody asked for this", d->ops->name);
    if (data == NULL) return E_NO_MEMORY;
    info.sectors = d->sectors;
    if (info.max_bytes == 0)
        info.max_bytes = (uint32_t)(d->ops->max_bytes != 0 ? d->ops->max_bytes : s->data_bytes);
    memcpy(data + r->offset, &info, sizeof(info));
    return OK;
}

static void slot_issue(struct driver *d, struct driver_session *s, uint32_t slot,
                       const struct session_slot *r)
{
    struct session_entry *entry = &s->ledger->entry[slot];
    status_t status = request_check(d, s, r);

    if (status != OK && !slot_same(&s->request->slot[slot], r)) { /* no longer what was asked for */
        s->deferred |= 1ul << slot;
        return;
    }
    if (status != OK) status = request_refuse(d, s, r);
    entry->issued_gen = d->generation;
    shared_store(&entry->issued_id, r->id);
    s->issued |= 1ul << slot;
    d->in_flight++;
    if (status != OK || r->op == BLOCK_INFO) {
        if (status == OK) status = info_write(d, s, r);
        driver_complete(d, s, slot, status);
    } else if (d->ops->submit(d, s, slot, r)) {
        d->submitted = true;
    } else {
        shared_store(&entry->issued_id, 0);
        s->issued &= ~(1ul << slot);
        s->deferred |= 1ul << slot;
        d->in_flight--;
        d->full = true;
        d->most = 0;
    }
}

/* A wrong hint costs a look, no more. */
static void slot_offer(struct driver *d, struct driver_session *s, uint32_t slot)
{
    struct session_slot r;

    if ((s->issued >> slot & 1) != 0) return;
    slot_copy(&s->request->slot[slot], &r);
    if (!slot_pending(s, slot, r.id)) return;
    if (d->in_flight >= d->most || !slot_same(&s->request->slot[slot], &r))
        s->deferred |= 1ul << slot;
    else
        slot_issue(d, s, slot, &r);
}

bool driver_complete(struct driver *d, struct driver_session *s, uint32_t slot, status_t status)
{
    uint64_t bit = 1ul << (slot % SESSION_SLOTS_MAX);

    if (slot >= s->slots || (s->issued & bit) == 0) return false;
    struct session_entry *entry = &s->ledger->entry[slot];
    entry->status = status;
    shared_store(&entry->completed_id, entry->issued_id); /* the moment it is done, for everybody */
    s->ledger->completed_total++;
    s->issued &= ~bit;
    s->done |= bit;
    d->in_flight--;
    d->room = true;
    if ((s->suspects & bit) != 0) {
        s->suspects &= ~bit;
        if (--d->suspects == 0) d->one_by_one = false;
    }
    return true;
}

#ifdef COPPICE_NO_REPLAY
/* The switch that shows that the chaos check can fail: what the dead incarnation left is forgotten. */
static bool slot_replay(struct driver *d, struct driver_session *s, uint32_t slot)
{
    (void)d, (void)s, (void)slot;
    return false;
}
bool block_look(struct driver *d, struct driver_session *s) { return d == NULL || s == NULL; }
#else
static bool slot_replay(struct driver *d, struct driver_session *s, uint32_t slot)
{
    slot_offer(d, s, slot);
    return (s->issued >> slot & 1) != 0;
}

bool block_look(struct driver *d, struct driver_session *s)
{
    uint64_t had = s->issued | s->done;

    turn_begin(d, s);
    for (uint32_t i = 0; i < s->slots; i++) {
        uint64_t id = shared_load(&s->request->slot[i].id);
        if (id == 0) continue;
        if (s->ledger->entry[i].completed_id == id)
            s->done |= 1ul << i;
        else
            slot_offer(d, s, i);
    }
    return (s->issued | s->done) != had;
}
#endif

uint32_t block_replay(struct driver *d, struct driver_session *s)
{
    uint32_t issued = 0;

    (void)shared_take(&s->hint->submit); /* every slot is looked at anyway */
    turn_begin(d, s);
    for (uint32_t i = 0; i < s->slots; i++) {
        const struct session_entry *entry = &s->ledger->entry[i];
        uint64_t id = shared_load(&s->request->slot[i].id);
        if (id == 0) continue;
        if (entry->completed_id == id) {
            s->done |= 1ul << i; /* told once more: the death may have come before the hint */
            continue;
        }
        if (entry->issued_id == id) {
            s->suspects |= 1ul << i;
            d->suspects++;
        }
        if (slot_replay(d, s, i) && issued++ == 0 && d->ops->kick != NULL)
            d->ops->kick(d); /* the device begins with it while we issue the others */
    }
    return issued;
}

bool block_serve(struct driver *d, struct driver_session *s, bool room)
{
    uint64_t bits = room ? s->deferred : 0;

    if (shared_load(&s->hint->submit) != 0) bits |= shared_take(&s->hint->submit);
    bits &= RANGE_MASK(s->slots);
    if (bits == 0) return false;
    uint32_t before = d->in_flight;
    s->deferred &= ~bits;
    turn_begin(d, s);
    for (; bits != 0; bits &= bits - 1) slot_offer(d, s, (uint32_t)__builtin_ctzl(bits));
    if (s->deferred != 0 && d->in_flight == before && !d->passed) {
        d->passed = true;
        d->first = s->index;
    }
    return true;
}

void block_report(struct driver_session *s)
{
    if (s->done == 0) return;
    shared_or(&s->hint->complete, s->done); /* orders completed_id before the look at client_waiting */
    s->done = 0;
    s->wake = true;
}
