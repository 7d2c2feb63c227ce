/* SPDX-License-Identifier: BSD-2-Clause
 * The list of memory ranges handed to the kernel. Invariant after every paint: sorted by base, no
 * two overlap, neighbours that touch differ in kind. Pure; a list that does not fit says so
 * (overflow). */
#include "loader.h"

static uint64_t range_end(const struct handoff_range *r) { return r->base + r->pages * PAGE_SIZE; }

static void range_insert(struct ranges *r, uint32_t at, uint64_t base, uint64_t end, uint32_t kind)
{
    if (end <= base || r->overflow) return;
    if (r->count == HANDOFF_RANGES) {
        r->overflow = true;
        return;
    }
    for (uint32_t i = r->count; i > at; i--) r->range[i] = r->range[i - 1];
    r->range[at] = (struct handoff_range){base, (end - base) >> PAGE_SHIFT, kind, 0};
    r->count++;
}

static void range_remove(struct ranges *r, uint32_t at)
{
    r->count--;
    for (uint32_t i = at; i < r->count; i++) r->range[i] = r->range[i + 1];
}

/* Cuts [base, end) out of the list; returns where a range of that place belongs. */
static uint32_t ranges_cut(struct ranges *r, uint64_t base, uint64_t end)
{
    uint32_t i = 0;
    while (i < r->count && range_end(&r->range[i]) <= base) i++;
    while (i < r->count && r->range[i].base < end && !r->overflow) {
        struct handoff_range old = r->range[i];
        range_remove(r, i);
        if (old.base < base) range_insert(r, i++, old.base, base, old.kind);
        if (range_end(&old) > end) range_insert(r, i, end, range_end(&old), old.kind);
    }
    return i;
}

/* Joins the range at `at` with its successor if they touch and are of one kind. */
static void ranges_join(struct ranges *r, uint32_t at)
{
    if (at + 1 >= r->count) return;
    struct handoff_range *a = &r->range[at], *b = a + 1;
    if (range_end(a) != b->base || a->kind != b->kind) return;
    a->pages += b->pages;
    range_remove(r, at + 1);
}

void ranges_paint(struct ranges *r, uint64_t base, uint64_t pages, uint32_t kind)
{
    if (pages == 0) return;
    uint64_t end = base + pages * PAGE_SIZE;
    uint32_t at = ranges_cut(r, base, end);
    range_insert(r, at, base, end, kind);
    if (r->overflow) return;
    ranges_join(r, at);
    if (at > 0) ranges_join(r, at - 1);
}
