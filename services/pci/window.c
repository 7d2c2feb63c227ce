/* SPDX-License-Identifier: BSD-2-Clause
 * Addresses for the registers of a device that was plugged in after firmware had numbered everything: out of what the
 * bridge above it passes on. Firmware left room there, or the device stays without. Owns slot.used_to. */
#include "pci.h"

struct window {
    uint64_t first, last; /* first 0: there is none */
};

/* 32: one register with the upper 16 bits of base and limit. */
static struct window window_read(const struct function *port, uint32_t at)
{
    uint32_t both = config_read32(port, at);
    struct window w = {(uint64_t)(both & PCI_WINDOW_MASK) << 16,
                       (uint64_t)(both >> 16 & PCI_WINDOW_MASK) << 16 | 0xfffff};
    if (at == PCI_PREFETCH && both & PCI_WINDOW_64) {
        w.first |= (uint64_t)config_read32(port, PCI_PREFETCH_BASE) << 32;
        w.last |= (uint64_t)config_read32(port, PCI_PREFETCH_LIMIT) << 32;
    }
    return w.first <= w.last ? w : (struct window){0, 0};
}

/* In whole pages: a driver is given pages. */
static uint64_t take(struct slot *s, uint32_t which, bool wide, uint64_t bytes)
{
    struct window w = window_read(s->port, which == 0 ? PCI_MEMORY_WINDOW : PCI_PREFETCH);
    uint64_t align = bytes < PAGE_SIZE ? PAGE_SIZE : bytes;
    uint64_t from = s->used_to[which] > w.first ? s->used_to[which] : w.first;
    uint64_t at = (from + align - 1) & ~(align - 1);
    if (w.first == 0 || at < from || at > w.last || align - 1 > w.last - at) return 0;
    if (!wide && at + align > 1ul << 32) return 0;
    s->used_to[which] = at + align;
    return at;
}

uint64_t window_take(const struct function *f, bool wide, bool prefetch, uint64_t bytes)
{
    for (uint32_t i = 0; i < pci->slot_count; i++) {
        struct slot *s = &pci->slot[i];
        if (s->state != SLOT_STARTING || config_read8(s->port, PCI_SECONDARY_BUS) != f->bdf >> 8) continue;
        uint64_t at = prefetch ? take(s, 1, wide, bytes) : 0;
        return at != 0 ? at : take(s, 0, wide, bytes);
    }
    return 0;
}
