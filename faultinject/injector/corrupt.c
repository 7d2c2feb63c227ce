/* SPDX-License-Identifier: BSD-2-Clause
 * What is written is chosen by the trial's seed; where, by the structures that the target itself uses
 * (view.h). The target does not run meanwhile: the injector's priority is above that of every driver. */
#include "corrupt.h"

#define QUEUE_BYTES 0x1000u /* of a device queue's memory that are worth spoiling */
/* struct queue_memory, drivers/virtio_blk/device.h (queue.c asserts it): flags and idx of avail, its used_event; flags and idx of used. */
#define QUEUE_AVAIL      2048u
#define QUEUE_USED_EVENT 2308u
#define QUEUE_USED       2312u
#define GENERATION_BIT   16u /* of a handle: the lowest of its generation (abi/types.h) */
#define SCAN_PAGES       4096u
#define SCAN_GAP         64u

static uint64_t entry_at(const struct view_session *s, uint32_t slot, size_t field)
{
    return s->ledger + offsetof(struct session_ledger, entry) + slot * sizeof(struct session_entry) + field;
}

static struct session_entry entry_read(const struct view *v, const struct view_session *s, uint32_t slot)
{
    struct session_entry e = {0};

    (void)view_peek(v, entry_at(s, slot, offsetof(struct session_entry, issued_id)), &e.issued_id);
    (void)view_peek(v, entry_at(s, slot, offsetof(struct session_entry, completed_id)), &e.completed_id);
    return e;
}

/* Slots whose request is with the device. */
static uint64_t in_flight(const struct view *v, const struct view_session *s)
{
    uint64_t slots = 0;

    for (uint32_t i = 0; s->class == SESSION_BLOCK && i < s->slots; i++) {
        struct session_entry e = entry_read(v, s, i);
        if (e.issued_id != 0 && e.completed_id != e.issued_id) slots |= 1ul << i;
    }
    return slots;
}

static void announce(const struct view *v, const struct view_session *s, uint64_t slots, uint32_t *poked)
{
    uint64_t at = s->hint + offsetof(struct session_hint, complete), hints;

    if (view_peek(v, at, &hints)) view_poke(v, at, hints | slots, 8, poked);
}

/* --- Kinds: each spoils one session, of which `slots` are in flight ----------------------------------- */

typedef void spoiler(const struct view *v, const struct view_session *s, uint64_t slots, uint64_t seed,
                     uint32_t *poked);

/* The low byte of each id alone is written. */
static void truncated(const struct view *v, const struct view_session *s, uint64_t slots, uint64_t seed,
                      uint32_t *poked)
{
    (void)seed;
    for (uint64_t left = slots; left != 0; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctzl(left);
        struct session_entry e = entry_read(v, s, i);
        view_poke(v, entry_at(s, i, offsetof(struct session_entry, completed_id)), e.issued_id & 0xff, 8,
                  poked);
    }
    announce(v, s, slots, poked);
}

/* Everything is announced again: what was completed before, and what is in flight too. */
static void duplicated(const struct view *v, const struct view_session *s, uint64_t slots, uint64_t seed,
                       uint32_t *poked)
{
    (void)slots, (void)seed;
    announce(v, s, ~0ul, poked);
}

/* The completions of two requests are written into each other's slots. */
static void reordered(const struct view *v, const struct view_session *s, uint64_t slots, uint64_t seed,
                      uint32_t *poked)
{
    uint32_t a = (uint32_t)__builtin_ctzl(slots), b = 63u - (uint32_t)__builtin_clzl(slots);
    struct session_entry first = entry_read(v, s, a), last = entry_read(v, s, b);

    (void)seed;
    view_poke(v, entry_at(s, a, offsetof(struct session_entry, completed_id)), last.issued_id, 8, poked);
    view_poke(v, entry_at(s, b, offsetof(struct session_entry, completed_id)), first.issued_id, 8, poked);
    announce(v, s, slots, poked);
}

/* The driver forgets one request that the device has: its completion will be nobody's. */
static void unsent(const struct view *v, const struct view_session *s, uint64_t slots, uint64_t seed,
                   uint32_t *poked)
{
    uint64_t issued, at = s->at + offsetof(struct driver_session, issued);
    uint32_t skip = (uint32_t)(seed % (uint64_t)__builtin_popcountl(slots));

    for (; skip > 0; skip--) slots &= slots - 1;
    if (view_peek(v, at, &issued)) view_poke(v, at, issued & ~(slots & -slots), 8, poked);
}

/* A word of the ledger is another one. Whatever the driver has in there by right is overwritten in time. */
static void ledger(const struct view *v, const struct view_session *s, uint64_t slots, uint64_t seed,
                   uint32_t *poked)
{
    bool stream = s->class == SESSION_STREAM;
    uint64_t words =
        (stream ? sizeof(struct session_stream_driver) : offsetof(struct session_ledger, entry[s->slots])) /
        8;
    uint64_t at = s->ledger + seed % words * 8, was;

    (void)slots;
    if (view_peek(v, at, &was)) view_poke(v, at, was ^ (seed >> 8 | 1), 8, poked);
}

static void hint(const struct view *v, const struct view_session *s, uint64_t slots, uint64_t seed,
                 uint32_t *poked)
{
    (void)slots;
    view_poke(v, s->hint + offsetof(struct session_hint, submit), seed * 0x9e3779b97f4a7c15ul, 8, poked);
    view_poke(v, s->hint + offsetof(struct session_hint, complete), ~seed, 8, poked);
}

static const struct {
    const char *name;
    spoiler *spoil;
    int least; /* requests in flight */
} kinds[] = {{"truncated", truncated, 1}, {"duplicated", duplicated, 0}, {"reordered", reordered, 2},
             {"unsent", unsent, 1},       {"ledger", ledger, 0},         {"hint", hint, 0}};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* --- Kinds that are not of a session ------------------------------------------------------------------- */

/* A handle that was good is one of an earlier life of its slot. */
static status_t stale_handle(const struct view *v, uint64_t seed, uint32_t *poked)
{
    uint64_t at[4 + VIEW_SESSIONS], handle;
    uint32_t n = 0;

    at[n++] = v->driver + offsetof(struct driver, recovery);
    at[n++] = v->driver + offsetof(struct driver, supervisor);
    at[n++] = v->driver + offsetof(struct driver, doorbell);
    at[n++] = v->driver + offsetof(struct driver, endpoint);
    for (uint32_t i = 0; i < v->sessions; i++)
        at[n++] = v->session[i].at + offsetof(struct driver_session, client);
    uint64_t which = at[seed % n];
    if (v->driver == 0 || !view_peek(v, which, &handle) || handle == 0) return E_NOT_FOUND;
    view_poke(v, which, handle ^ 1ul << GENERATION_BIT, 8, poked);
    return OK;
}

/* queue: address of the pointer to the memory that driver and device share. */
static status_t ring(const struct view *v, uint64_t queue, uint64_t seed, uint32_t *poked)
{
    uint64_t memory, was;

    if (queue == 0 || !view_peek(v, queue, &memory)) return E_NOT_FOUND;
    uint64_t at = memory + seed % (QUEUE_BYTES / 8) * 8;
    if (!view_peek(v, at, &was)) return E_NOT_FOUND;
    view_poke(v, at, was ^ (seed >> 8 | 1), 8, poked);
    return OK;
}

/* The device is asked to interrupt again only after some 50,000 completions more; while requests are with it, and no
 * interrupt is due yet, after which the driver would ask anew. */
static status_t deaf(const struct view *v, uint64_t queue, uint32_t *poked)
{
    uint64_t memory, avail, event, used;

    if (queue == 0 || !view_peek(v, queue, &memory)) return E_NOT_FOUND;
    if (!view_peek(v, memory + QUEUE_AVAIL, &avail) || !view_peek(v, memory + QUEUE_USED_EVENT - 4, &event) ||
        !view_peek(v, memory + QUEUE_USED, &used))
        return E_NOT_FOUND;
    uint16_t published = (uint16_t)(avail >> 16), asked = (uint16_t)(event >> 32),
             done = (uint16_t)(used >> 16);
    if (asked != done || published == done) return E_NOT_FOUND;
    view_poke(v, memory + QUEUE_USED_EVENT, (uint16_t)(done - 0x4000), 2, poked);
    return OK;
}

bool corrupt_known(const char *kind)
{
    for (uint32_t i = 0; i < KINDS; i++)
        if (strcmp(kind, kinds[i].name) == 0) return true;
    return strcmp(kind, "stale_handle") == 0 || strcmp(kind, "ring") == 0 || strcmp(kind, "deaf") == 0;
}

status_t corrupt(const char *kind, struct view *v, uint64_t seed, uint64_t at, uint32_t *poked,
                 uint32_t *flight)
{
    if (strcmp(kind, "stale_handle") == 0) return stale_handle(v, seed, poked);
    if (strcmp(kind, "ring") == 0) return ring(v, at, seed, poked);
    if (strcmp(kind, "deaf") == 0) return deaf(v, at, poked);
    for (uint32_t i = 0; i < KINDS; i++) {
        if (strcmp(kind, kinds[i].name) != 0 || v->sessions == 0) continue;
        const struct view_session *s = &v->session[seed % v->sessions];
        uint64_t slots = in_flight(v, s);
        *flight = (uint32_t)__builtin_popcountl(slots);
        if ((int)*flight < kinds[i].least) return E_NOT_FOUND;
        kinds[i].spoil(v, s, slots, seed / VIEW_SESSIONS, poked);
        return OK;
    }
    return E_NOT_FOUND;
}

/* --- Checkpoints ------------------------------------------------------------------------------------------- */

/* The head of recovery's struct checkpoint: magic, service and schema, sequence. */
static bool is_checkpoint(const struct view *v, uint64_t at, uint32_t service, uint64_t *sequence)
{
    uint64_t word;

    return view_peek(v, at, &word) && word == CHECKPOINT_MAGIC && view_peek(v, at + 8, &word) &&
           (uint32_t)word == service && view_peek(v, at + 16, sequence);
}

status_t corrupt_checkpoint(handle_t inject, handle_t recovery, uint32_t service, uint64_t seed,
                            uint32_t *poked)
{
    struct view v = {.inject = inject, .process = recovery};
    uint64_t latest = 0, newest = 0, sequence, word;
    uint32_t gap = 0;

    for (uint32_t i = 0; i < SCAN_PAGES && gap < SCAN_GAP; i++) {
        uint64_t page = USER_IMAGE_BASE + i * PAGE_SIZE;
        gap = view_peek(&v, page, &word) ? 0 : gap + 1;
        for (uint64_t at = page; at < page + PAGE_SIZE; at += PAGE_SIZE / 2) {
            if (!is_checkpoint(&v, at, service, &sequence) || sequence < newest) continue;
            latest = at;
            newest = sequence;
        }
    }
    if (latest == 0) return E_NOT_FOUND;
    uint64_t at = latest + 24 + seed % 5 * 8; /* length, time, sums, the first word of the data */
    if (!view_peek(&v, at, &word)) return E_NOT_FOUND;
    view_poke(&v, at, word ^ (seed >> 8 | 1), 8, poked);
    return OK;
}
