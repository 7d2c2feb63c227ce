/* SPDX-License-Identifier: BSD-2-Clause
 * What of a session's shared memory may be believed. Owns nothing: judges and, between two incarnations,
 * repairs the ledger page, which only the dead one could write. The client goes on writing its own page
 * meanwhile; each rule below holds for whatever moment it is read at.
 *   free slot                    the entry means nothing: cleared, so that it cannot name a request to come
 *   completed_id > id            a completion of the future: cleared, the request is pending
 *   completed_id == id           believed only with issued_id == id and a known status, else cleared
 *   anything else                pending; in flight if this incarnation issued it
 * A cleared completion is executed once more and completed once: the client takes nothing from an entry
 * of this kind either (lib/session_block.c has the same rule). */
#include "core.h"

#define load(p)     __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

static bool entry_nonsense(const struct session_entry *e, uint64_t completed, uint64_t id)
{
    if (id == 0 || completed < id) return false;
    return completed > id || load(&e->issued_id) != id || load(&e->status) >= STATUS_COUNT;
}

/* Index that no ring of STREAM_RING bytes can have between a writer and a reader. */
static bool span_nonsense(uint32_t head, uint32_t tail) { return head - tail > STREAM_RING; }

static bool stream_nonsense(const struct rsession *s)
{
    return span_nonsense(load(&s->stream_client->tx_head), load(&s->stream_driver->tx_tail)) ||
           span_nonsense(load(&s->stream_driver->rx_head), load(&s->stream_client->rx_tail));
}

/* On several CPUs the client may free and fill the slot between our loads: nonsense counts only if it is
 * the same request afterwards. completed_id first: ids only grow. */
bool ledger_nonsense(const struct rsession *s, uint64_t slot)
{
    if (s->class == SESSION_STREAM) return stream_nonsense(s);
    if (slot >= s->slots) return false;
    const struct session_entry *e = &s->ledger->entry[slot];
    uint64_t completed = load(&e->completed_id), id = load(&s->request->slot[slot].id);
    return entry_nonsense(e, completed, id) && load(&s->request->slot[slot].id) == id;
}

static void slot_clear(struct session_entry *e)
{
    store(&e->completed_id, 0);
    store(&e->issued_id, 0);
}

static void slot_in_flight(struct rsession *s, uint32_t slot, uint64_t id, uint32_t dead_generation,
                           struct attach_report *report)
{
    struct session_entry *e = &s->ledger->entry[slot];

    if (s->attempt_id[slot] != id) s->attempts[slot] = s->attempt_of[slot] = 0;
    s->attempt_id[slot] = id;
    if (s->attempt_of[slot] != dead_generation && s->attempts[slot] < SESSION_ATTEMPTS_MAX)
        s->attempts[slot]++; /* a hostile driver can take a poisoning back */
    s->attempt_of[slot] = dead_generation;
    report->in_flight++;
    if (s->attempts[slot] >= SESSION_ATTEMPTS_MAX) {
        store(&e->status, E_POISONED);
        store(&e->completed_id, id);
        report->poisoned++;
        report->poisoned_id = id;
    } else if (s->attempts[slot] > report->attempts_max) {
        report->attempts_max = s->attempts[slot];
    }
}

static void slot_take_over(struct rsession *s, uint32_t slot, uint32_t dead_generation,
                           struct attach_report *report)
{
    struct session_entry *e = &s->ledger->entry[slot];
    uint64_t id = load(&s->request->slot[slot].id), completed = load(&e->completed_id);

    if (id == 0) {
        slot_clear(e);
        return;
    }
    if (entry_nonsense(e, completed, id)) {
        slot_clear(e);
        report->repaired++;
        return;
    }
    if (completed != id && load(&e->issued_id) == id && load(&e->issued_gen) == dead_generation)
        slot_in_flight(s, slot, id, dead_generation, report);
}

/* The kernel stores an index in one step with the port access, so a sane driver's are exact. Nonsense is
 * replaced by the last value that could be, or, if that is out of reach by now, by "all is done". */
static void stream_take_over(struct rsession *s, struct attach_report *report)
{
    struct session_stream_driver *d = s->stream_driver;
    uint32_t tx_head = load(&s->stream_client->tx_head), rx_tail = load(&s->stream_client->rx_tail);

    if (span_nonsense(tx_head, load(&d->tx_tail))) {
        store(&d->tx_tail, span_nonsense(tx_head, s->tx_tail_good) ? tx_head : s->tx_tail_good);
        report->repaired++;
    }
    if (span_nonsense(load(&d->rx_head), rx_tail)) {
        store(&d->rx_head, span_nonsense(s->rx_head_good, rx_tail) ? rx_tail : s->rx_head_good);
        report->repaired++;
    }
    report->in_flight += tx_head - load(&d->tx_tail);
    store(&d->driver_waiting, 0);
    store(&d->rounds, 0);
}

void ledger_take_over(struct rsession *s, uint32_t dead_generation, struct attach_report *report)
{
    if (s->class == SESSION_STREAM) {
        stream_take_over(s, report);
        return;
    }
    for (uint32_t i = 0; i < s->slots; i++) slot_take_over(s, i, dead_generation, report);
    s->oldest_id = 0; /* the next one has all its time */
    store(&s->ledger->driver_waiting, 0);
    store(&s->ledger->rounds, 0);
}

/* Progress is what a client waited for and waits for no more: done, or done and taken. That the driver writes other
 * ids into its ledger is none, or one gone wrong could do so for ever. */
static void slot_progress(struct rsession *s, uint32_t slot, uint64_t id, uint64_t completed, bool done)
{
    uint64_t waited = s->pending_id[slot];

    if (waited != 0 && completed >= waited && (id != waited || done)) s->progress++;
    s->pending_id[slot] = done ? 0 : id;
}

/* Returns the id of a request that the driver says is with the device; 0: none is. */
static uint64_t slot_sample(struct rsession *s, uint32_t slot, struct watch_sample *sum)
{
    const struct session_entry *e = &s->ledger->entry[slot];
    uint64_t completed = load(&e->completed_id), id = load(&s->request->slot[slot].id);
    bool done = completed == id && load(&e->issued_id) == id && load(&e->status) < STATUS_COUNT;

    slot_progress(s, slot, id, completed, done);
    if (id == 0) return 0;
    if (id > s->id_seen) s->id_seen = id;
    if (done) return 0;
    if (ledger_nonsense(s, slot)) sum->nonsense++;
    sum->pending++;
    if (load(&e->issued_id) != id) return 0;
    sum->issued++;
    return id;
}

/* Ids grow: whatever a session completes while its oldest request does not was asked for later. */
static void oldest_sample(struct rsession *s, uint64_t id, struct watch_sample *sum)
{
    if (id != s->oldest_id) s->oldest_ns = sum->now_ns;
    s->oldest_id = id;
    if (id != 0 && sum->now_ns - s->oldest_ns > sum->oldest_ns) sum->oldest_ns = sum->now_ns - s->oldest_ns;
}

static void stream_sample(struct rsession *s, struct watch_sample *sum)
{
    uint32_t tx_head = load(&s->stream_client->tx_head), tx_tail = load(&s->stream_driver->tx_tail);
    uint32_t rx_head = load(&s->stream_driver->rx_head);

    sum->rounds += load(&s->stream_driver->rounds);
    sum->awake += load(&s->stream_driver->driver_waiting) == 0;
    if (stream_nonsense(s)) {
        sum->nonsense++;
        return;
    }
    s->tx_tail_good = tx_tail;
    s->rx_head_good = rx_head;
    sum->progress += tx_tail;
    sum->pending += tx_head - tx_tail;
    sum->issued += tx_head - tx_tail;
}

void ledger_sample(struct rsession *s, struct watch_sample *sum)
{
    if (s->class == SESSION_STREAM) {
        stream_sample(s, sum);
        return;
    }
    uint64_t oldest = 0;
    for (uint32_t i = 0; i < s->slots; i++) {
        uint64_t id = slot_sample(s, i, sum);
        if (id != 0 && (oldest == 0 || id < oldest)) oldest = id;
    }
    oldest_sample(s, oldest, sum);
    sum->progress += s->progress;
    sum->rounds += load(&s->ledger->rounds);
    sum->awake += load(&s->ledger->driver_waiting) == 0;
}

bool ledger_irq_lost(const struct rsession *s, uint32_t generation)
{
    return s->class == SESSION_BLOCK && load(&s->ledger->irq_lost) == generation;
}

static bool something_to_take(const struct rsession *s)
{
    if (s->class == SESSION_STREAM)
        return load(&s->stream_driver->rx_head) != load(&s->stream_client->rx_tail);
    for (uint32_t i = 0; i < s->slots; i++) {
        uint64_t id = load(&s->request->slot[i].id);
        if (id != 0 && load(&s->ledger->entry[i].completed_id) == id) return true;
    }
    return false;
}

/* client_waiting is the first word of the page in both classes. */
bool ledger_unheard(struct rsession *s)
{
    bool before = s->unheard;

    s->unheard = load(&s->stream_client->client_waiting) != 0 && something_to_take(s);
    return before && s->unheard;
}
