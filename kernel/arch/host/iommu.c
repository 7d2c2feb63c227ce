/* SPDX-License-Identifier: BSD-2-Clause
 * The host port's IOMMU: tables as data in the domains' own frames, and a cache of translations that forgets only
 * when it is told to, as hardware's does; so a test sees a kernel that frees or reuses memory before it drained.
 * host_dma is a device's access; what hardware would let pass in silence aborts the test. */
#include <string.h>
#include "host.h"
#include "../../frame.h"
#include "../../process.h"
#include "../../print.h"

#define LEVELS      3u
#define ENTRIES     512u
#define IDS         64u
#define PTE_FRAME   (~0xffful)
#define PTE_PRESENT 4ul /* RIGHT_READ and RIGHT_WRITE are bits 0 and 1 */
#define CACHED      64u

struct function {
    struct arch_domain *domain; /* present */
    bool watched;
};
static struct function functions[0x10000];
static bool taken[IDS];
static struct { /* translations that a device has used since the last drain */
    uint32_t bdf;
    uint64_t iova, entry;
} cached[CACHED];
static unsigned cached_next;
static uint64_t confirmed;

void arch_iommu_start(void)
{
    memset(functions, 0, sizeof functions);
    arch_platform.iommu = host.iommu;
}

static struct arch_domain *domain_check(struct arch_domain *d)
{
    if (!d->id || !taken[d->id]) kernel_panic("host: a domain that is not open");
    return d;
}

status_t arch_iommu_open(struct arch_domain *d, uint32_t bdf)
{
    for (uint16_t id = 1; id < IDS; id++) {
        if (taken[id]) continue;
        taken[id] = true;
        *d = (struct arch_domain){.id = id, .bdf = (uint16_t)bdf};
        functions[bdf] = (struct function){0};
        return OK;
    }
    return E_NO_SLOTS;
}

void arch_iommu_close(struct arch_domain *d)
{
    if (domain_check(d)->root.v) kernel_panic("host: domain %u is closed and was not drained", d->id);
    taken[d->id] = false;
    d->id = 0;
}

void arch_iommu_watch(struct arch_domain *d) { functions[domain_check(d)->bdf].watched = true; }
void arch_iommu_silence(uint32_t bdf) { functions[bdf].watched = false; }

static uint64_t *table_at(uint64_t entry) { return arch_direct((paddr_t){entry & PTE_FRAME}); }

static uint64_t *entry_of(const struct arch_domain *d, uint64_t iova, struct process *payer)
{
    uint64_t table = d->root.v;
    for (unsigned level = LEVELS - 1; level > 0; level--) {
        uint64_t *entry = &table_at(table)[iova >> (PAGE_SHIFT + 9 * level) & (ENTRIES - 1)];
        if (!*entry && payer) *entry = frame_alloc(payer).v;
        if (!*entry) return NULL;
        table = *entry;
    }
    return &table_at(table)[iova >> PAGE_SHIFT & (ENTRIES - 1)];
}

status_t arch_iommu_prepare(struct arch_domain *d, struct process *payer, iova_t at, uint64_t pages)
{
    if (at.v < IOVA_WINDOW(domain_check(d)->id) ||
        at.v + pages * PAGE_SIZE > IOVA_WINDOW(d->id) + IOVA_WINDOW_BYTES)
        kernel_panic("host: %lx is not in the window of domain %u", at.v, d->id);
    if (!d->root.v) d->root = frame_alloc(payer);
    for (uint64_t i = 0; d->root.v && i < pages; i++)
        if (!entry_of(d, at.v + i * PAGE_SIZE, payer)) return E_QUOTA;
    return d->root.v ? OK : E_QUOTA;
}

void arch_iommu_map(struct arch_domain *d, iova_t at, paddr_t to, uint64_t pages, uint32_t prot)
{
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t *entry = entry_of(d, at.v + i * PAGE_SIZE, NULL);
        if (!entry || *entry)
            kernel_panic("host: iova %lx: %s", at.v, entry ? "already mapped" : "not prepared");
        (void)arch_direct((paddr_t){to.v + i * PAGE_SIZE});
        *entry = (to.v + i * PAGE_SIZE) | PTE_PRESENT | (prot & (RIGHT_READ | RIGHT_WRITE));
    }
    functions[domain_check(d)->bdf].domain = d;
}

static void cache_drop(uint32_t bdf)
{
    for (unsigned i = 0; i < CACHED; i++)
        if (cached[i].bdf == bdf) cached[i].entry = 0;
    confirmed++;
}

void arch_iommu_unmap(struct arch_domain *d, iova_t at, uint64_t pages)
{
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t *entry = entry_of(domain_check(d), at.v + i * PAGE_SIZE, NULL);
        if (!entry || !*entry) kernel_panic("host: iova %lx is unmapped and was not mapped", at.v);
        *entry = 0;
    }
    cache_drop(d->bdf);
}

void arch_iommu_detach(struct arch_domain *d) { functions[domain_check(d)->bdf] = (struct function){0}; }

static void tables_free(struct process *payer, uint64_t table, unsigned level)
{
    for (unsigned i = 0; level > 0 && i < ENTRIES; i++)
        if (table_at(table)[i]) tables_free(payer, table_at(table)[i], level - 1);
    frame_free(payer, (paddr_t){table & PTE_FRAME});
}

uint64_t arch_iommu_drain(struct arch_domain *d, struct process *payer)
{
    if (functions[domain_check(d)->bdf].domain) kernel_panic("host: drained before it was detached");
    cache_drop(d->bdf);
    if (d->root.v) tables_free(payer, d->root.v, LEVELS - 1);
    d->root.v = 0;
    return confirmed;
}

static uint64_t translate(uint32_t bdf, uint64_t iova)
{
    for (unsigned i = 0; i < CACHED; i++)
        if (cached[i].entry && cached[i].bdf == bdf && cached[i].iova == iova) return cached[i].entry;
    struct arch_domain *d = functions[bdf].domain;
    uint64_t *entry = d && iova < 1ul << 39 ? entry_of(d, iova, NULL) : NULL;
    if (!entry || !*entry) return 0;
    unsigned at = cached_next++ % CACHED;
    cached[at].bdf = bdf;
    cached[at].iova = iova;
    cached[at].entry = *entry;
    return *entry;
}

/* As the fault event's interrupt does. */
static void host_iommu_fault(uint32_t bdf, uint64_t address, uint32_t reason, bool write)
{
    kernel_dma_fault(bdf, address, reason, write);
    (void)kernel_resume();
}

paddr_t host_dma(uint32_t bdf, iova_t at, bool write)
{
    if (!host.bus_master[bdf]) return (paddr_t){0};
    if (!arch_platform.iommu) return (paddr_t){at.v};
    uint64_t entry = translate(bdf, at.v & PTE_FRAME);
    if (entry & (write ? RIGHT_WRITE : RIGHT_READ)) return (paddr_t){(entry & PTE_FRAME) | at.v % PAGE_SIZE};
    if (functions[bdf].domain || functions[bdf].watched)
        host_iommu_fault(bdf, at.v & PTE_FRAME, entry ? (write ? 5 : 6) : 1, write);
    return (paddr_t){0};
}

uint64_t host_iommu_drains(void) { return confirmed; }

static uint64_t tables_count(uint64_t table, unsigned level)
{
    uint64_t n = 1;
    for (unsigned i = 0; level > 0 && i < ENTRIES; i++)
        if (table_at(table)[i]) n += tables_count(table_at(table)[i], level - 1);
    return n;
}

uint64_t host_domain_frames(const struct arch_domain *d)
{
    return d->root.v ? tables_count(d->root.v, LEVELS - 1) : 0;
}
