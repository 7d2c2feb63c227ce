/* SPDX-License-Identifier: BSD-2-Clause
 * DMA domains and quarantine. */
#include "dma.h"
#include "process.h"
#include "frame.h"
#include "trace.h"
#include "print.h"

#define MAPPINGS_MAX 128u /* a domain: their records are the first process's, not the driver's */

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

status_t dma_create(struct process *owner, uint32_t bdf, struct dma **out)
{
    if (!arch_pci_exists(bdf)) return E_NOT_FOUND;
    list_each(struct dma, other, &domains, live) if (other->bdf == bdf) return E_BUSY;
    struct orphan *o = cell_alloc(process_root); /* now, so that the domain's end cannot fail */
    if (!o) return E_QUOTA;
    struct dma *d = cell_alloc(owner);
    if (!d) {
        cell_free(process_root, o);
        return E_QUOTA;
    }
    d->orphan = o;
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
    list_append(&user->domains, &d->of_user);
    return OK;
}

/* The device may still write these pages: they leave their owner now and become free only when the reset
 * is confirmed. The first process pays meanwhile; the quotas between it and the owner shrink by as much,
 * so that this can never fail. */
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

/* Frames in quarantine become free with the last mapping of them: more than one device may reach them. */
static uint64_t mapping_end(struct dma_mapping *map)
{
    uint64_t pages = list_empty(&map->of_memory) ? map->held_pages : 0;
    list_remove(&map->of_memory);
    if (pages) {
        frame_free_run(process_root, map->held, pages);
        quarantined_total -= pages;
    }
    list_remove(&map->of_domain);
    cell_free(process_root, map);
    return pages;
}

status_t dma_map(struct dma *d, struct memory *m, uint64_t offset, uint64_t pages, uint32_t prot, iova_t *out)
{
    if (d->state != DMA_READY) return E_NOT_RESET;
    if (pages == 0 || offset > m->pages || pages > m->pages - offset) return E_ARGUMENT;
    if (!(m->flags & MEMORY_DMA)) return E_TYPE;
    if (d->mapping_count == MAPPINGS_MAX) return E_NO_SLOTS;
    struct dma_mapping *map = cell_alloc(process_root);
    if (!map) return E_QUOTA;
    d->mapping_count++;
    *map = (struct dma_mapping){.memory = m, .pages = pages, .prot = prot};
    map->iova.v = memory_frame(m, offset).v; /* identity: no IOMMU */
    list_append(&d->mappings, &map->of_domain);
    list_append(&m->dma_mappings, &map->of_memory);
    *out = map->iova;
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
    memory_quarantine(m);
    list_each(struct dma_mapping, map, &m->dma_mappings, of_memory)
    {
        map->memory = NULL;
        map->held = m->base;
        map->held_pages = m->pages;
    }
    list_remove(&m->dma_mappings); /* the mappings stay linked to each other */
}

status_t dma_bus_master(struct dma *d, bool on)
{
    if (on && d->state != DMA_READY) return E_NOT_RESET;
    arch_bus_master(d->bdf, on);
    if (on) trace(TRACE_BUS_MASTER_ON, d->user ? d->user->object.tag : 0, d->bdf, 0);
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
        if (map->memory && map->memory->object.owner == dying) *quarantined += memory_quarantine(map->memory);
    }
    list_remove(&d->of_user);
    d->user = NULL;
    return mappings;
}

void dma_reset_done(struct dma *d)
{
    uint64_t released = 0;
    list_each(struct dma_mapping, map, &d->mappings, of_domain) released += mapping_end(map);
    d->mapping_count = 0;
    d->state = DMA_READY;
    trace(TRACE_RESET_DONE, d->user ? d->user->object.tag : 0, d->bdf, released);
}

void dma_destroy(struct dma *d)
{
    dma_bus_master_off(d);
    list_remove(&d->live);
    list_remove(&d->of_user);
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
