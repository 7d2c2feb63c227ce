/* SPDX-License-Identifier: BSD-2-Clause
 * Physical memory in pages: one bitmap (1: free) over all RAM. Singles are taken from the bottom, runs
 * from the top, which keeps the two from cutting each other up. */
#include "frame.h"
#include "process.h"
#include "hide.h"
#include "print.h"

static uint64_t *bitmap; /* one bit a frame, from physical 0 */
static uint64_t words, hint, total, available;
static struct handoff_range ranges[HANDOFF_RANGES];
static uint32_t range_count;

static bool frame_is_free(uint64_t n) { return bitmap[n / 64] >> (n % 64) & 1; }
static void frame_set(uint64_t n) { bitmap[n / 64] |= 1ul << (n % 64); }
static void frame_clear(uint64_t n) { bitmap[n / 64] &= ~(1ul << (n % 64)); }

static void page_zero(paddr_t p)
{
    memory_show(arch_direct(p), PAGE_SIZE);
    __builtin_memset(arch_direct(p), 0, PAGE_SIZE);
}

static uint64_t range_end(const struct handoff_range *r) { return r->base + r->pages * PAGE_SIZE; }

/* The bitmap lives in the first free range above 1 MiB that holds it. */
static uint64_t bitmap_place(uint64_t bytes)
{
    for (uint32_t i = 0; i < range_count; i++)
        if (ranges[i].kind == RANGE_FREE && ranges[i].base >= 0x100000 && ranges[i].pages >= PAGES_FOR(bytes))
            return ranges[i].base;
    kernel_panic("no %lu KiB of free memory for the frame map", bytes / 1024);
}

void frame_init(const struct handoff *h)
{
    uint64_t top = 0;
    range_count = h->range_count;
    hint = total = available = 0;
    for (uint32_t i = 0; i < range_count; i++) {
        ranges[i] = h->range[i];
        if (ranges[i].kind == RANGE_FREE && range_end(&ranges[i]) > top) top = range_end(&ranges[i]);
    }
    words = (top / PAGE_SIZE + 63) / 64;
    uint64_t place = bitmap_place(words * 8);
    bitmap = arch_direct((paddr_t){place});
    __builtin_memset(bitmap, 0, words * 8);
    for (uint32_t i = 0; i < range_count; i++) {
        if (ranges[i].kind != RANGE_FREE) continue;
        for (uint64_t n = ranges[i].base / PAGE_SIZE; n < range_end(&ranges[i]) / PAGE_SIZE; n++) {
            /* Page 0 is never given out, so that a physical address of 0 can mean "none". */
            if (n == 0 || (n >= place / PAGE_SIZE && n < place / PAGE_SIZE + PAGES_FOR(words * 8))) continue;
            frame_set(n);
            total++;
        }
    }
    available = total;
}

static bool account_charge(struct process *owner, uint64_t pages)
{
    if (!owner) return pages <= available;
    if (pages > owner->quota - owner->used) return false;
    owner->used += pages;
    return true;
}

static void account_return(struct process *owner, uint64_t pages)
{
    if (!owner) return;
    assert(owner->used >= pages);
    owner->used -= pages;
}

paddr_t frame_alloc(struct process *owner)
{
    if (!account_charge(owner, 1)) return (paddr_t){0};
    assert(available > 0); /* quotas sum to less than the machine */
    while (!bitmap[hint]) hint = hint + 1 < words ? hint + 1 : 0;
    uint64_t n = hint * 64 + (uint64_t)__builtin_ctzl(bitmap[hint]);
    frame_clear(n);
    available--;
    paddr_t p = {n * PAGE_SIZE};
    page_zero(p);
    return p;
}

static void frame_release(paddr_t p)
{
    uint64_t n = p.v / PAGE_SIZE;
    assert(n && n / 64 < words && !frame_is_free(n));
    memory_hide(arch_direct(p), PAGE_SIZE);
    frame_set(n);
    available++;
    if (n / 64 < hint) hint = n / 64;
}

void frame_free(struct process *owner, paddr_t p)
{
    frame_release(p);
    account_return(owner, 1);
}

status_t frame_alloc_run(struct process *owner, uint64_t pages, paddr_t *out)
{
    assert(pages > 0);
    if (!account_charge(owner, pages)) return E_QUOTA;
    uint64_t have = 0;
    for (uint64_t n = words * 64; n-- > 1;) {
        if (n % 64 == 63 && (!bitmap[n / 64] || (bitmap[n / 64] == ~0ul && have + 64 < pages))) {
            have = bitmap[n / 64] ? have + 64 : 0; /* a whole word of one kind */
            n -= 63;
            continue;
        }
        have = frame_is_free(n) ? have + 1 : 0;
        if (have < pages) continue;
        for (uint64_t i = n; i < n + pages; i++) {
            frame_clear(i);
            page_zero((paddr_t){i * PAGE_SIZE});
        }
        available -= pages;
        *out = (paddr_t){n * PAGE_SIZE};
        return OK;
    }
    account_return(owner, pages);
    return E_NO_MEMORY;
}

void frame_free_run(struct process *owner, paddr_t base, uint64_t pages)
{
    for (uint64_t i = 0; i < pages; i++) frame_release((paddr_t){base.v + i * PAGE_SIZE});
    account_return(owner, pages);
}

uint64_t frame_total(void) { return total; }
uint64_t frame_available(void) { return available; }

bool frame_is_ram(paddr_t p, uint64_t pages)
{
    uint64_t end = p.v + pages * PAGE_SIZE;
    for (uint32_t i = 0; i < range_count; i++)
        if (ranges[i].kind != RANGE_RESERVED && p.v < range_end(&ranges[i]) && end > ranges[i].base)
            return true;
    return false;
}
