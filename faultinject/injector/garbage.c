/* SPDX-License-Identifier: BSD-2-Clause
 * A driver maps, for each session, the request page, the ledger and the hints side by side (lib/driver.c).
 * The ledger is found by its shape: nothing tells the injector where a process keeps what. The target does
 * not run meanwhile: the injector's priority is above that of every driver. */
#include "garbage.h"
#include "abi/session.h"

#define SCAN_PAGES 2048u /* from USER_IMAGE_BASE: what is mapped later follows the image */
#define SCAN_GAP   64u   /* unmapped pages in a row that end the scan */
#define FUTURE     1000000ul

enum garbage_kind { GARBAGE_FUTURE, GARBAGE_WRONG_SLOT, GARBAGE_STATUS, GARBAGE_EVERYWHERE, GARBAGE_KINDS };

struct victim {
    handle_t inject, process;
    uint32_t poked;
};

static bool peek(const struct victim *v, uint64_t at, uint64_t *out)
{
    struct sys_result r = sys_inject(v->inject, v->process, INJECT_PEEK, at, 0, 0);

    *out = r.value;
    return r.status == OK;
}

static void poke(struct victim *v, uint64_t at, uint64_t value, uint64_t width)
{
    if (sys_inject(v->inject, v->process, INJECT_POKE, at, value, width).status == OK) v->poked++;
}

static bool copy_out(const struct victim *v, uint64_t page, struct session_ledger *out)
{
    uint64_t *word = (uint64_t *)out;

    for (uint32_t i = 0; i < sizeof(*out) / 8; i++)
        if (!peek(v, page + 8ul * i, &word[i])) return false;
    return true;
}

static bool zero(const uint32_t *word, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (word[i] != 0) return false;
    return true;
}

/* Only what every ledger in use satisfies, one spoiled by an earlier trial too, and no other page does. */
static bool looks_like_ledger(const struct session_ledger *l, uint32_t generation)
{
    uint32_t of_now = 0;

    if (l->driver_waiting > 1 || l->irq_lost > generation) return false;
    if (!zero(l->reserved, sizeof(l->reserved) / sizeof(l->reserved[0]))) return false;
    for (uint32_t i = 0; i < SESSION_SLOTS_MAX; i++) {
        const struct session_entry *e = &l->entry[i];
        if (e->reserved != 0 || e->issued_gen > generation || e->issued_id > FUTURE * FUTURE) return false;
        if (e->issued_gen == generation && e->issued_id != 0) of_now++;
    }
    return of_now > 0;
}

/* Slots whose request this incarnation gave to the device and has not completed. */
static uint64_t in_flight(const struct session_ledger *l, uint32_t generation)
{
    uint64_t slots = 0;

    for (uint32_t i = 0; i < SESSION_SLOTS_MAX; i++) {
        const struct session_entry *e = &l->entry[i];
        if (e->issued_gen == generation && e->completed_id < e->issued_id) slots |= 1ul << i;
    }
    return slots;
}

static uint64_t ledger_find(const struct victim *v, uint32_t generation, uint32_t least,
                            struct session_ledger *l)
{
    uint32_t gap = 0;
    uint64_t first;

    for (uint32_t i = 0; i < SCAN_PAGES && gap < SCAN_GAP; i++) {
        uint64_t page = USER_IMAGE_BASE + i * PAGE_SIZE;
        gap++;
        if (!peek(v, page, &first)) continue;
        gap = 0;
        if ((uint32_t)first > 1 || !copy_out(v, page, l) || !looks_like_ledger(l, generation)) continue;
        if ((uint32_t)__builtin_popcountl(in_flight(l, generation)) >= least) return page;
    }
    return 0;
}

static uint64_t entry_at(uint64_t page, uint32_t slot, size_t field)
{
    return page + offsetof(struct session_ledger, entry) + slot * sizeof(struct session_entry) + field;
}

/* slots: those in flight. */
static void spoil(struct victim *v, uint64_t page, const struct session_ledger *l, uint64_t slots,
                  enum garbage_kind kind)
{
    uint64_t newest = 0, hints;
    uint64_t hint = page + PAGE_SIZE + offsetof(struct session_hint, complete);

    for (uint64_t left = slots; left != 0; left &= left - 1)
        if (l->entry[__builtin_ctzl(left)].issued_id > newest)
            newest = l->entry[__builtin_ctzl(left)].issued_id;
    for (uint32_t i = 0; i < SESSION_SLOTS_MAX; i++) {
        const struct session_entry *e = &l->entry[i];
        uint64_t completed = entry_at(page, i, offsetof(struct session_entry, completed_id));
        if (kind == GARBAGE_EVERYWHERE) poke(v, completed, e->issued_id + FUTURE + i, 8);
        if (!(slots >> i & 1)) continue;
        if (kind == GARBAGE_FUTURE) poke(v, completed, e->issued_id + FUTURE, 8);
        if (kind == GARBAGE_WRONG_SLOT && e->issued_id != newest) poke(v, completed, newest, 8);
        if (kind == GARBAGE_STATUS) {
            poke(v, entry_at(page, i, offsetof(struct session_entry, status)), 0xdead, 4);
            poke(v, completed, e->issued_id, 8);
        }
    }
    /* Hints already set stay: the client has yet to look at them. */
    if (peek(v, hint, &hints)) poke(v, hint, hints | slots, 8);
}

/* A wrong slot needs a younger request than its own: with one in flight that would be the truth, a lie
 * that nobody can see. */
status_t garbage_strike(handle_t inject, handle_t process, uint32_t generation, uint64_t seed, uint32_t least,
                        struct garbage *out)
{
    static struct session_ledger ledger;
    enum garbage_kind kind = (enum garbage_kind)(seed % GARBAGE_KINDS);
    struct victim v = {inject, process, 0};
    uint64_t page = ledger_find(&v, generation, least, &ledger);

    if (page == 0) return E_NOT_FOUND;
    uint64_t slots = in_flight(&ledger, generation);
    if (__builtin_popcountl(slots) < 2 && kind == GARBAGE_WRONG_SLOT) kind = GARBAGE_FUTURE;
    spoil(&v, page, &ledger, slots, kind);
    *out = (struct garbage){v.poked, (uint32_t)__builtin_popcountl(slots)};
    return OK;
}
