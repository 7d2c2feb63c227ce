/* SPDX-License-Identifier: BSD-2-Clause
 * What a driver gets of a function: a copy of its configuration space, its DMA domain, the device
 * memory of its BARs, its MSI-X interrupts. Owns these objects and the function's configuration
 * registers. Invariants: nobody but the kernel reaches an MSI-X table or pending-bit array, because
 * a driver that did could raise any interrupt vector; bus-mastering is left to the DMA object;
 * memory decode is off while BARs are sized. A function whose registers make no sense is not handed
 * out. */
#include "pci.h"

static uint64_t page_down(uint64_t at) { return at & ~(PAGE_SIZE - 1); }

/* Firmware never saw the function. */
static uint64_t bar_assign(struct function *f, uint32_t at, bool wide, bool prefetch, uint64_t bytes)
{
    uint64_t paddr = window_take(f, wide, prefetch, bytes);
    if (paddr == 0) return 0;
    config_write32(f, at, (uint32_t)paddr);
    if (wide) config_write32(f, at + 4, (uint32_t)(paddr >> 32));
    return paddr;
}

/* Size and address of BAR n; returns how many registers it takes. Decode must be off. */
static uint32_t bar_size(struct function *f, uint32_t n, struct bar *bar)
{
    uint32_t at = PCI_BAR_0 + 4 * n;
    uint32_t low = config_read32(f, at), high = 0;
    bool wide = !(low & PCI_BAR_IO) && (low & PCI_BAR_KIND) == PCI_BAR_KIND_64;
    config_write32(f, at, ~0u);
    uint32_t mask_low = config_read32(f, at), mask_high = ~0u;
    config_write32(f, at, low);
    if (wide && n + 1 < BARS) {
        high = config_read32(f, at + 4);
        config_write32(f, at + 4, ~0u);
        mask_high = config_read32(f, at + 4);
        config_write32(f, at + 4, high);
    }
    if (low & PCI_BAR_IO || mask_low == 0 || (wide && n + 1 >= BARS)) return wide ? 2 : 1;
    uint64_t mask = (uint64_t)mask_high << 32 | (mask_low & PCI_BAR_MEM_MASK);
    uint64_t bytes = ~mask + 1;
    uint64_t paddr = (uint64_t)high << 32 | (low & PCI_BAR_MEM_MASK);
    bool sane = bytes != 0 && (bytes & (bytes - 1)) == 0;
    if (sane && paddr == 0) paddr = bar_assign(f, at, wide, low & PCI_BAR_PREFETCH, bytes);
    if (sane && paddr != 0 && paddr % bytes == 0) *bar = (struct bar){.paddr = paddr, .bytes = bytes};
    return wide ? 2 : 1;
}

static status_t bars_size(struct claim *c)
{
    status_t status = sys_dma_decode(c->made, false);
    if (status != OK) return status;
    for (uint32_t n = 0; n < BARS;) n += bar_size(c->function, n, &c->bar[n]);
    return sys_dma_decode(c->made, true);
}

uint32_t capability_find(const struct function *f, uint8_t id)
{
    if (!(config_read16(f, PCI_STATUS) & PCI_STATUS_CAPABILITIES)) return 0;
    uint32_t at = config_read8(f, PCI_CAPABILITIES) & ~3u;
    /* No list has more entries than fit into 256 bytes: one that loops ends here. */
    for (uint32_t n = 0; n < 48 && at >= PCI_CAP_FIRST && at <= PCI_CAP_LAST; n++) {
        if (config_read8(f, at) == id) return at;
        at = config_read8(f, at + 1) & ~3u;
    }
    return 0;
}

struct region {
    uint64_t paddr, bytes;
};

/* Where a structure that an MSI-X register names lies; false if not inside a memory BAR. */
static bool msix_region(const struct claim *c, uint32_t reg, uint64_t bytes, struct region *out)
{
    uint32_t value = config_read32(c->function, c->msix.capability + reg);
    uint32_t bar = value & MSIX_BAR_MASK;
    uint64_t offset = value & ~MSIX_BAR_MASK;
    if (bar >= BARS || offset + bytes > c->bar[bar].bytes) return false;
    *out = (struct region){c->bar[bar].paddr + offset, bytes};
    return true;
}

/* Every entry is masked before MSI-X goes on: the kernel unmasks those it has programmed. */
static status_t msix_enable(struct claim *c, const struct region *table)
{
    uint64_t start = page_down(table->paddr);
    uint64_t pages = PAGES_FOR(table->paddr + table->bytes - start);
    struct sys_result memory = sys_memory_create_device(root, (paddr_t){start}, pages);
    if (memory.status != OK) return memory.status;
    c->msix.table = memory.value;
    c->msix.first = (uint32_t)((table->paddr - start) / MSIX_ENTRY_BYTES);
    void *mapped;
    status_t status = map_new(memory.value, pages, RIGHT_READ | RIGHT_WRITE, &mapped);
    if (status != OK) return status;
    volatile uint8_t *entry = (volatile uint8_t *)mapped + (table->paddr - start);
    for (uint32_t i = 0; i < c->msix.entries; i++, entry += MSIX_ENTRY_BYTES)
        *(volatile uint32_t *)(entry + MSIX_ENTRY_CONTROL) = MSIX_ENTRY_MASKED;
    status = sys_memory_unmap(0, (uint64_t)mapped);
    if (status != OK) return status;
    uint32_t at = c->msix.capability + MSIX_CONTROL;
    uint16_t control = config_read16(c->function, at) & (uint16_t)~MSIX_CONTROL_MASKED;
    config_write16(c->function, at, control | MSIX_CONTROL_ENABLE);
    return OK;
}

static status_t msix_prepare(struct claim *c, struct region *table, struct region *pba)
{
    c->msix.capability = capability_find(c->function, PCI_CAP_MSIX);
    if (c->msix.capability == 0 || c->msix.capability + MSIX_BYTES > 256) return OK;
    uint32_t entries =
        (config_read16(c->function, c->msix.capability + MSIX_CONTROL) & MSIX_CONTROL_SIZE) + 1;
    if (!msix_region(c, MSIX_TABLE, (uint64_t)entries * MSIX_ENTRY_BYTES, table) ||
        !msix_region(c, MSIX_PBA, (entries + 63) / 64 * 8ul, pba) || table->paddr % MSIX_ENTRY_BYTES != 0)
        return E_UNSUPPORTED;
    c->msix.entries = entries;
    return msix_enable(c, table);
}

static bool pages_meet(const struct bar *bar, const struct region *r)
{
    return r->bytes > 0 && page_down(bar->paddr) < r->paddr + r->bytes &&
           page_down(r->paddr) < bar->paddr + bar->bytes;
}

/* Device memory for each BAR, but not where its pages hold an MSI-X structure or another function.
 */
static status_t bars_prepare(struct claim *c, const struct region *table, const struct region *pba)
{
    for (uint32_t n = 0; n < BARS; n++) {
        struct bar *bar = &c->bar[n];
        if (bar->bytes == 0) continue;
        uint64_t start = page_down(bar->paddr), pages = PAGES_FOR(bar->paddr + bar->bytes - start);
        if (pages_meet(bar, table) || pages_meet(bar, pba)) continue;
        if (functions_share(c->function, start, pages)) continue;
        struct sys_result memory = sys_memory_create_device(root, (paddr_t){start}, pages);
        if (memory.status != OK) return memory.status;
        bar->made = memory.value;
        struct sys_result shared = sys_cap_derive(memory.value, RIGHT_READ | RIGHT_WRITE | RIGHT_GRANT, 0);
        if (shared.status != OK) return shared.status;
        bar->memory = shared.value;
    }
    return OK;
}

static status_t config_copy(struct claim *c)
{
    struct sys_result memory = sys_memory_create(0, 1, 0);
    if (memory.status != OK) return memory.status;
    c->config_made = memory.value;
    void *mapped;
    status_t status = map_new(memory.value, 1, RIGHT_READ | RIGHT_WRITE, &mapped);
    if (status != OK) return status;
    for (uint32_t at = 0; at < PAGE_SIZE; at += 4)
        *(uint32_t *)((uint8_t *)mapped + at) = config_read32(c->function, at);
    status = sys_memory_unmap(0, (uint64_t)mapped);
    if (status != OK) return status;
    struct sys_result shared = sys_cap_derive(memory.value, RIGHT_READ | RIGHT_GRANT, 0);
    c->config = shared.value;
    return shared.status;
}

static status_t dma_prepare(struct claim *c)
{
    struct sys_result dma = sys_dma_create(root, c->function->bdf);
    if (dma.status != OK) return dma.status;
    c->made = dma.value;
    struct sys_result shared = sys_cap_derive(dma.value, RIGHT_MANAGE | RIGHT_GRANT, 0);
    c->dma = shared.value;
    return shared.status;
}

status_t claim_prepare(struct claim *c)
{
    struct region table = {0, 0}, pba = {0, 0};
    if (c->function->header != PCI_HEADER_DEVICE) return E_UNSUPPORTED;
    status_t status = dma_prepare(c); /* first: it turns bus-mastering off */
    if (status != OK) return status;
    status = bars_size(c);
    if (status != OK) return status;
    status = msix_prepare(c, &table, &pba);
    if (status != OK) return status;
    status = bars_prepare(c, &table, &pba);
    if (status != OK) return status;
    return config_copy(c);
}

/* With the first capability of an object the object goes, and all that was derived from it. */
static void let_go(handle_t made)
{
    if (made != 0) (void)sys_cap_delete(made); /* or it went before this process fell */
}

void claim_unprepare(struct claim *c)
{
    if (c->made != 0)
        (void)sys_dma_decode(c->made, false); /* what answers where changes now, and not with power */
    for (uint32_t n = 0; n < IRQS_MAX; n++) let_go(c->irq_made[n]);
    for (uint32_t n = 0; n < BARS; n++) let_go(c->bar[n].made);
    let_go(c->msix.table);
    let_go(c->config_made);
    let_go(c->made);
}

status_t claim_irq(struct claim *c, uint64_t entry, handle_t *irq)
{
    if (entry >= c->msix.entries || entry >= IRQS_MAX) return E_ARGUMENT;
    if (c->irq[entry] == 0) {
        struct sys_result made = sys_irq_create(root, IRQ_MSIX, c->function->bdf, c->msix.table,
                                                c->msix.first + (uint32_t)entry, 0);
        if (made.status != OK) return made.status;
        c->irq_made[entry] = made.value;
        struct sys_result shared = sys_cap_derive(made.value, RIGHT_MANAGE | RIGHT_GRANT, 0);
        if (shared.status != OK) {
            (void)sys_cap_delete(made.value); /* the next request makes it again */
            return shared.status;
        }
        c->irq[entry] = shared.value;
    }
    *irq = c->irq[entry];
    return OK;
}
