/* SPDX-License-Identifier: BSD-2-Clause
 * DMA domains and quarantine. */
#include "dma.h"
#include "process.h"
#include "frame.h"
#include "sched.h"
#include "trace.h"
#include "print.h"

#define MAPPINGS_MAX 128u /* a domain: their records are the first process's, not the driver's */
#define REASON_SHIFT 16   /* in TRACE_DMA_FAULT's first word, above the function's number */
#define WRITE_SHIFT  24

static uint64_t quarantined_total;

/* What a destroyed domain's device may still reach, until the function's next domain confirms a reset. */
struct orphan {
    struct list link;
    uint32_t bdf;
    struct list mappings;
};
static struct list orphans = {&orphans, &orphans};
static struct list domains = {&domains, &domains}; /* at most one a function */
_Static_assert(sizeof(struct orphan) <= CELL_BYTES, "an orphan fits a cell");

static void mappings_move(struct list *to, struct list *from)
{
    list_each(struct dma_mapping, map, from, of_domain)
    {
        list_remove(&map->of_domain);
        list_append(to, &map->of_domain);
    }
}

static void orphan_adopt(struct dma *d)
{
    list_each(struct orphan, o, &orphans, link)
    {
        if (o->bdf != d->bdf) continue;
        mappings_move(&d->mappings, &o->mappings);
        list_remove(&o->link);
        cell_free(process_root, o);
    }
}

uint64_t dma_quarantined_pages(void) { return quarantined_total; }

static struct dma *domain_of(uint32_t bdf)
{
    list_each(struct dma, d, &domains, live) if (d->bdf == bdf) return d;
    return NULL;
}

status_t dma_create(struct process *owner, uint32_t bdf, struct dma **out)
{
    if (!arch_pci_exists(bdf)) return E_NOT_FOUND;
    if (domain_of(bdf)) return E_BUSY;
    struct arch_domain iommu = {0};
    if (arch_platform.iommu) {
        status_t s = arch_iommu_open(&iommu, bdf);
        if (s != OK) return s;
    }
    struct orphan *o = cell_alloc(process_root); /* now, so that the domain's end cannot fail */
    struct dma *d = o ? cell_alloc(owner) : NULL;
    if (!d) {
        if (o) cell_free(process_root, o);
        if (arch_platform.iommu) arch_iommu_close(&iommu);
        return E_QUOTA;
    }
    d->orphan = o;
    d->iommu = iommu;
    object_init(&d->object, OBJECT_DMA, owner, owner->object.tag);
    d->bdf = bdf;
    d->state = DMA_FENCED; /* whatever ran before us may have left it active */
    list_init(&d->of_user);
    list_init(&d->mappings);
    list_append(&domains, &d->live);
    arch_bus_master(bdf, false);
    orphan_adopt(d);
    *out = d;
    return OK;
}

status_t dma_attach(struct dma *d, struct process *user)
{
    if (d->user && d->user != user) return E_BUSY;
    if (d->user == user) return OK;
    d->user = user;
    d->last = user->object.tag;
    list_append(&user->domains, &d->of_user);
    return OK;
}

/* The device may still write these pages: they leave their owner now and become free only when the reset
 * is confirmed. The first process pays meanwhile; the quotas between it and the owner shrink by as much,
 * so that this can never fail. An owner that lives then gets them back (quota_return). */
static uint64_t memory_quarantine(struct memory *m)
{
    if (m->flags & MEMORY_KERNEL) return 0; /* by another mapping of it */
    for (struct process *p = m->object.owner; p != process_root; p = p->parent) {
        assert(p->used >= m->pages && p->quota >= m->pages);
        p->used -= m->pages;
        p->quota -= m->pages;
    }
    m->flags |= MEMORY_KERNEL; /* its frames are no longer its own */
    quarantined_total += m->pages;
    return m->pages;
}

static void quota_return(struct process *owner, uint64_t pages)
{
    owner->quota += pages;
    for (struct process *p = owner->parent; p != process_root; p = p->parent) {
        p->used += pages;
        p->quota += pages;
    }
    process_root->used += pages;
}

static void lender_set(struct dma_mapping *map, struct process *p)
{
    if (map->lender) map->lender->lent--;
    map->lender = p;
    if (p) p->lent++;
}

void dma_lender_gone(struct process *p)
{
    if (!p->lent) return;
    list_each(struct dma, d, &domains, live) list_each(struct dma_mapping, map, &d->mappings,
                                                       of_domain) if (map->lender == p) lender_set(map, NULL);
    list_each(struct orphan, o, &orphans, link)
        list_each(struct dma_mapping, map, &o->mappings, of_domain) if (map->lender == p)
            lender_set(map, NULL);
}

/* The device reaches it no more, nor is an access under way. */
static void mapping_unreach(struct dma_mapping *map)
{
    if (map->domain) arch_iommu_unmap(&map->domain->iommu, map->iova, map->pages);
    map->domain = NULL;
}

/* Frames in quarantine become free with the last mapping of them: more than one device may reach them. */
static uint64_t mapping_end(struct dma_mapping *map)
{
    uint64_t pages = list_empty(&map->of_memory) ? map->held_pages : 0;
    mapping_unreach(map);
    list_remove(&map->of_memory);
    if (pages) {
        frame_free_run(process_root, map->held, pages);
        quarantined_total -= pages;
        if (map->lender) quota_return(map->lender, pages);
    }
    lender_set(map, NULL);
    list_remove(&map->of_domain);
    cell_free(process_root, map);
    return pages;
}

/* The lowest gap of the domain's window, and the mapping above it. */
static bool iova_find(const struct dma *d, uint64_t pages, iova_t *out, struct list **above)
{
    uint64_t at = IOVA_WINDOW(d->iommu.id), end = at + IOVA_WINDOW_BYTES;
    list_each(struct dma_mapping, map, &d->mappings, of_domain)
    {
        *above = &map->of_domain;
        out->v = at;
        if (map->iova.v - at >= pages * PAGE_SIZE) return true;
        at = map->iova.v + map->pages * PAGE_SIZE;
    }
    *above = (struct list *)&d->mappings;
    out->v = at;
    return pages <= (end - at) / PAGE_SIZE;
}

/* Where the device will find it, and all that the IOMMU needs for that. */
static status_t iova_prepare(struct dma *d, uint64_t pages, iova_t *iova, struct list **above)
{
    if (!iova_find(d, pages, iova, above)) return E_NO_SLOTS;
    return arch_iommu_prepare(&d->iommu, d->user, *iova, pages);
}

status_t dma_map(struct dma *d, struct memory *m, struct capability *via, uint64_t offset, uint64_t pages,
                 uint32_t prot, iova_t *out)
{
    if (d->state != DMA_READY) return E_NOT_RESET;
    if (pages == 0 || offset > m->pages || pages > m->pages - offset) return E_ARGUMENT;
    if (!(m->flags & MEMORY_DMA)) return E_TYPE;
    if (d->mapping_count == MAPPINGS_MAX) return E_NO_SLOTS;
    paddr_t frames = memory_frame(m, offset); /* one run: MEMORY_DMA */
    iova_t iova = {frames.v};
    struct list *above = &d->mappings;
    status_t s = arch_platform.iommu ? iova_prepare(d, pages, &iova, &above) : OK;
    if (s != OK) return s;
    struct dma_mapping *map = cell_alloc(process_root);
    if (!map) return E_QUOTA;
    d->mapping_count++;
    *map = (struct dma_mapping){.memory = m, .via = via, .iova = iova, .pages = pages, .prot = prot};
    list_append(above, &map->of_domain);
    list_append(&m->dma_mappings, &map->of_memory);
    if (arch_platform.iommu) {
        map->domain = d;
        arch_iommu_map(&d->iommu, iova, frames, pages, prot);
    }
    *out = iova;
    return OK;
}

status_t dma_unmap(struct dma *d, iova_t iova)
{
    if (d->state != DMA_READY) return E_NOT_RESET; /* the mapping is an earlier driver's */
    list_each(struct dma_mapping, map, &d->mappings, of_domain)
    {
        if (map->iova.v != iova.v || map->held_pages) continue;
        mapping_end(map);
        d->mapping_count--;
        return OK;
    }
    return E_NOT_FOUND;
}

void dma_memory_gone(struct memory *m)
{
    if (list_empty(&m->dma_mappings)) return;
    struct process *owner = m->object.owner;
    memory_quarantine(m);
    list_each(struct dma_mapping, map, &m->dma_mappings, of_memory)
    {
        if (owner->state != PROCESS_DEAD && owner != process_root) lender_set(map, owner);
        mapping_unreach(map);
        map->memory = NULL;
        map->via = NULL;
        map->held = m->base;
        map->held_pages = m->pages;
    }
    list_remove(&m->dma_mappings); /* the mappings stay linked to each other */
}

/* The record stays until the driver unmaps or a reset is confirmed: without an IOMMU the device still reaches it. */
void dma_revoke(struct memory *m, struct capability *via)
{
    list_each(struct dma_mapping, map, &m->dma_mappings, of_memory)
    {
        if (map->via != via) continue;
        mapping_unreach(map);
        map->via = NULL;
    }
}

status_t dma_bus_master(struct dma *d, bool on)
{
    if (on && d->state != DMA_READY) return E_NOT_RESET;
    arch_bus_master(d->bdf, on);
    if (on) trace(TRACE_BUS_MASTER_ON, d->user ? d->user->object.tag : 0, d->bdf, 0);
    return OK;
}

status_t dma_decode(struct dma *d, struct process *caller, bool on)
{
    if (d->object.owner != caller) return E_STATE;
    sched_stop();
    arch_pci_decode(d->bdf, on);
    return OK;
}

void dma_bus_master_off(struct dma *d)
{
    arch_bus_master(d->bdf, false);
    d->state = DMA_FENCED;
}

uint32_t dma_detach(struct dma *d, struct process *dying, uint64_t *quarantined)
{
    uint32_t mappings = 0;
    list_each(struct dma_mapping, map, &d->mappings, of_domain)
    {
        mappings++;
        map->domain = NULL;
        if (map->memory && map->memory->object.owner == dying) *quarantined += memory_quarantine(map->memory);
    }
    if (arch_platform.iommu) arch_iommu_detach(&d->iommu);
    return mappings;
}

uint64_t dma_drain(struct dma *d)
{
    uint64_t confirmed = arch_platform.iommu ? arch_iommu_drain(&d->iommu, d->user) : 0;
    list_remove(&d->of_user);
    d->user = NULL;
    return confirmed;
}

void dma_reset_done(struct dma *d)
{
    uint64_t released = 0;
    trace(TRACE_RESET_DONE, d->last, d->bdf, 0);
    list_each(struct dma_mapping, map, &d->mappings, of_domain) released += mapping_end(map);
    d->mapping_count = 0;
    d->state = DMA_READY;
    if (arch_platform.iommu) arch_iommu_watch(&d->iommu);
    trace(TRACE_REUSABLE, d->last, d->bdf, released);
}

/* Its bus-master bit goes off first: however many faults it has under way, they end here. */
void kernel_dma_fault(uint32_t bdf, uint64_t address, uint32_t reason, bool write)
{
    struct dma *d = domain_of(bdf);
    trace(TRACE_DMA_FAULT, d ? d->last : 0, bdf | reason << REASON_SHIFT | (uint32_t)write << WRITE_SHIFT,
          address);
    arch_bus_master(bdf, false);
    if (d && d->user) {
        process_kill(d->user, CAUSE_DMA_FAULT, address, 0);
        return;
    }
    arch_iommu_silence(bdf);
    if (d) d->state = DMA_FENCED;
    kernel_log("kernel: %02x:%02x.%x, which nobody drives, is fenced: it tried to %s 0x%lx, reason %u",
               bdf >> 8, bdf >> 3 & 31, bdf & 7, write ? "write" : "read", address, reason);
}

void dma_destroy(struct dma *d)
{
    uint64_t unused, confirmed = 0;
    dma_bus_master_off(d);
    if (d->user) {
        (void)dma_detach(d, NULL, &unused);
        confirmed = dma_drain(d);
    }
    trace(TRACE_DOMAIN_GONE, d->last, d->bdf, confirmed);
    if (arch_platform.iommu) arch_iommu_close(&d->iommu);
    list_remove(&d->live);
    struct orphan *o = d->orphan;
    if (list_empty(&d->mappings)) {
        cell_free(process_root, o);
        return;
    }
    o->bdf = d->bdf;
    list_init(&o->mappings);
    mappings_move(&o->mappings, &d->mappings);
    list_append(&orphans, &o->link);
}
