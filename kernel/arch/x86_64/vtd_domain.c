/* SPDX-License-Identifier: BSD-2-Clause
 * Domains: one context entry a PCI function and the second-level tables behind it (9.3, 9.7). Context tables, one
 * a bus, are the first process's and stay; second-level tables are charged to whoever maps, by prepare, so that
 * map and unmap cannot fail. A context entry is one of: silent (not present, faults not recorded: a function that
 * was fenced), watched (not present: every access is a fault), present.
 * Invariant: a table is freed only after drain, so no unit holds its address. */
#include "vtd.h"
#include "process.h"
#include "frame.h"
#include "print.h"

#define ENTRY_PRESENT 1ul
#define ENTRY_SILENT  2ul /* fault processing disabled; also looked at if not present */
#define ENTRY_ADDRESS 0x000ffffffffff000ul
#define SECOND_READ   1ul
#define SECOND_WRITE  2ul
#define ENTRIES       512u
#define DOMAINS       256u

#define CONTEXT_FUNCTION(d) (1ul | 3ul << 4 | (uint64_t)(d)->id << 16 | (uint64_t)(d)->bdf << 32)
#define IOTLB_DOMAIN(d)     (2ul | 2ul << 4 | 3ul << 6 | (uint64_t)(d)->id << 16) /* draining reads and writes */

static uint64_t taken[DOMAINS / 64] = {1}; /* domain 0 is reserved in caching mode (6.1) */

static volatile uint64_t *table_of(uint64_t entry) { return arch_direct((paddr_t){entry & ENTRY_ADDRESS}); }

static unsigned index_at(uint64_t iova, unsigned level) { return iova >> (3 + 9 * level) & (ENTRIES - 1); }

/* --- Context entries -------------------------------------------------------------------------------------------- */

static volatile struct vtd_request *context_of(uint32_t bdf)
{
    uint64_t bus = vtd.root[bdf >> 8 & 0xff].low;
    return bus & ENTRY_PRESENT ? (volatile void *)(table_of(bus) + 2 * (bdf & 0xff)) : NULL;
}

static void context_set(uint32_t bdf, uint64_t low, uint64_t high)
{
    volatile struct vtd_request *c = context_of(bdf);
    if (!c) return;
    c->low = c->low & ~ENTRY_PRESENT; /* never half of one and half of the other */
    c->high = high;
    c->low = low;
    vtd_flush(c, sizeof *c);
}

static status_t bus_open(uint32_t bus)
{
    if (vtd.root[bus].low & ENTRY_PRESENT) return OK;
    paddr_t table = frame_alloc(process_root); /* for ever */
    if (!table.v) return E_QUOTA;
    vtd_flush(arch_direct(table), PAGE_SIZE);
    vtd.root[bus].low = table.v | ENTRY_PRESENT;
    vtd_flush(&vtd.root[bus], sizeof vtd.root[bus]);
    return OK;
}

status_t arch_iommu_open(struct arch_domain *d, uint32_t bdf)
{
    if (!vtd_serves(bdf)) return E_UNSUPPORTED;
    status_t s = bus_open(bdf >> 8);
    if (s != OK) return s;
    for (uint32_t id = 1; id < DOMAINS && id < vtd.domains; id++) {
        if (taken[id / 64] >> id % 64 & 1) continue;
        taken[id / 64] |= 1ul << id % 64;
        *d = (struct arch_domain){.id = (uint16_t)id, .bdf = (uint16_t)bdf};
        context_set(bdf, ENTRY_SILENT, 0);
        return OK;
    }
    return E_NO_SLOTS;
}

void arch_iommu_close(struct arch_domain *d)
{
    assert(d->id && !d->root.v);
    taken[d->id / 64] &= ~(1ul << d->id % 64);
    d->id = 0;
}

void arch_iommu_watch(struct arch_domain *d)
{
    if (!d->root.v) context_set(d->bdf, 0, 0);
}

void arch_iommu_silence(uint32_t bdf)
{
    volatile struct vtd_request *c = context_of(bdf);
    if (c && !(c->low & ENTRY_PRESENT)) context_set(bdf, ENTRY_SILENT, 0);
}

/* --- Second-level tables ---------------------------------------------------------------------------------------- */

static bool table_make(struct process *payer, paddr_t *out)
{
    *out = frame_alloc(payer);
    if (out->v) vtd_flush(arch_direct(*out), PAGE_SIZE);
    return out->v;
}

static status_t region_prepare(struct arch_domain *d, struct process *payer, uint64_t iova)
{
    volatile uint64_t *table = arch_direct(d->root);
    for (unsigned level = vtd.levels; level > 1; level--) {
        volatile uint64_t *entry = &table[index_at(iova, level)];
        if (!*entry) {
            paddr_t frame;
            if (!table_make(payer, &frame)) return E_QUOTA;
            *entry = frame.v | SECOND_READ | SECOND_WRITE; /* rights are in the last level */
            vtd_flush(entry, sizeof *entry);
            d->tables += level == 2;
        }
        table = table_of(*entry);
    }
    return OK;
}

status_t arch_iommu_prepare(struct arch_domain *d, struct process *payer, iova_t at, uint64_t pages)
{
    uint64_t end = at.v + pages * PAGE_SIZE;
    assert(pages && end > at.v && end <= 1ul << IOVA_BITS);
    if (!d->root.v && !table_make(payer, &d->root)) return E_QUOTA;
    for (uint64_t region = at.v >> 21; region <= (end - 1) >> 21; region++) {
        status_t s = region_prepare(d, payer, region << 21);
        if (s != OK) return s;
    }
    return OK;
}

/* Writes the entries of [at, at + pages): value and, for each page, step more. */
static void entries_set(struct arch_domain *d, uint64_t at, uint64_t pages, uint64_t value, uint64_t step)
{
    while (pages) {
        volatile uint64_t *table = arch_direct(d->root);
        for (unsigned level = vtd.levels; level > 1; level--) table = table_of(table[index_at(at, level)]);
        unsigned first = index_at(at, 1), end = pages < ENTRIES - first ? first + (unsigned)pages : ENTRIES;
        for (unsigned i = first; i < end; i++, value += step) {
            assert(!table[i] == (step != 0));
            table[i] = value;
        }
        vtd_flush(&table[first], (end - first) * sizeof *table);
        at += (end - first) * PAGE_SIZE;
        pages -= end - first;
    }
}

void arch_iommu_map(struct arch_domain *d, iova_t at, paddr_t to, uint64_t pages, uint32_t prot)
{
    uint64_t rights = (prot & RIGHT_READ ? SECOND_READ : 0) | (prot & RIGHT_WRITE ? SECOND_WRITE : 0);
    volatile struct vtd_request *c = context_of(d->bdf);
    struct vtd_request request[] = {{CONTEXT_FUNCTION(d), 0}, {IOTLB_DOMAIN(d), 0}};
    assert(rights);
    entries_set(d, at.v, pages, to.v | rights, PAGE_SIZE);
    if (!(c->low & ENTRY_PRESENT))
        context_set(d->bdf, d->root.v | ENTRY_PRESENT, (uint64_t)d->id << 8 | (vtd.levels - 2));
    if (vtd.caches_all) vtd_invalidate(request, 2);
}

void arch_iommu_unmap(struct arch_domain *d, iova_t at, uint64_t pages)
{
    struct vtd_request request = {IOTLB_DOMAIN(d), 0};
    entries_set(d, at.v, pages, 0, 0);
    vtd_invalidate(&request, 1);
}

void arch_iommu_detach(struct arch_domain *d) { context_set(d->bdf, ENTRY_SILENT, 0); }

/* All of a domain's addresses are in one entry of level 3 (IOVA_WINDOW): one path down to it. */
static void tables_free(struct arch_domain *d, struct process *payer)
{
    uint64_t at = d->root.v;
    for (unsigned level = vtd.levels; at && level > 2; level--) {
        uint64_t next = table_of(at)[index_at(IOVA_WINDOW(d->id), level)];
        frame_free(payer, (paddr_t){at & ENTRY_ADDRESS});
        at = next;
    }
    for (unsigned i = 0; at && i < ENTRIES && d->tables; i++) {
        if (!table_of(at)[i]) continue;
        frame_free(payer, (paddr_t){table_of(at)[i] & ENTRY_ADDRESS});
        d->tables--;
    }
    if (at) frame_free(payer, (paddr_t){at & ENTRY_ADDRESS});
    assert(!d->tables);
    d->root.v = 0;
}

uint64_t arch_iommu_drain(struct arch_domain *d, struct process *payer)
{
    struct vtd_request request[] = {{CONTEXT_FUNCTION(d), 0}, {IOTLB_DOMAIN(d), 0}};
    uint64_t number = vtd_invalidate(request, 2);
    tables_free(d, payer);
    return number;
}
