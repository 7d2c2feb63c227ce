/* SPDX-License-Identifier: BSD-2-Clause
 * DMA domains: what one PCI function may reach, and the order of death (detach, quarantine, reset).
 * Without an IOMMU a domain is identity-mapped: it records what was given and controls bus-mastering,
 * but cannot stop a stray access; the boot log says so.
 * States: FENCED (created, or its driver died: no DMA until a reset is confirmed) -> READY (dma_reset_done). */
#ifndef COPPICE_KERNEL_DMA_H
#define COPPICE_KERNEL_DMA_H

#include "object.h"
#include "memory.h"

struct orphan;
enum dma_state { DMA_FENCED, DMA_READY };

struct dma {
    struct object object;
    uint32_t bdf;
    enum dma_state state;
    struct process *user; /* the driver that attached */
    struct list of_user, live;
    struct list mappings; /* struct dma_mapping.of_domain */
    uint32_t mapping_count;
    struct orphan *orphan; /* dma.c: keeps the mappings when this object ends before its device is reset */
};
struct dma_mapping {
    struct list of_domain, of_memory;
    struct memory *memory; /* NULL: destroyed since */
    paddr_t held;          /* in quarantine: frames that have no other owner */
    uint64_t held_pages;
    iova_t iova;
    uint64_t pages;
    uint32_t prot;
};

status_t dma_create(struct process *owner, uint32_t bdf, struct dma **out) MUST_USE;
void dma_destroy(struct dma *d);
status_t dma_attach(struct dma *d, struct process *user) MUST_USE;
status_t dma_map(struct dma *d, struct memory *m, uint64_t offset, uint64_t pages, uint32_t prot,
                 iova_t *out) MUST_USE;
status_t dma_unmap(struct dma *d, iova_t iova) MUST_USE;
void dma_reset_done(struct dma *d);
status_t dma_bus_master(struct dma *d, bool on) MUST_USE;
void dma_bus_master_off(struct dma *d); /* step 3 of a death */
/* Step 4: the domain has no user; what the dying process owned in it goes into quarantine. Returns the
 * number of mappings; they end with the confirmed reset. */
uint32_t dma_detach(struct dma *d, struct process *dying, uint64_t *quarantined);
void dma_memory_gone(struct memory *m); /* a device may still reach it: its frames go into quarantine */
uint64_t dma_quarantined_pages(void);

#endif
