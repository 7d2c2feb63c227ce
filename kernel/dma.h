/* SPDX-License-Identifier: BSD-2-Clause
 * DMA domains: what one PCI function may reach, and the order of death (detach, quarantine, reset).
 * With an IOMMU the function reaches what is mapped here and nothing else, by addresses that the kernel chooses
 * in the domain's own window; an access beside them ends its driver. Without one a domain is identity-mapped: it
 * records what was given and controls bus-mastering, but cannot stop a stray access; the boot log says so.
 * States: FENCED (created, its driver died, or it faulted: no DMA until a reset is confirmed) -> READY
 * (dma_reset_done). */
#ifndef COPPICE_KERNEL_DMA_H
#define COPPICE_KERNEL_DMA_H

#include "arch/arch.h"
#include "object.h"
#include "memory.h"

struct orphan;
enum dma_state { DMA_FENCED, DMA_READY };

struct dma {
    struct object object;
    uint32_t bdf;
    enum dma_state state;
    tag_t last;           /* the driver that attached last, for the trace */
    struct process *user; /* the driver that attached */
    struct list of_user, live;
    struct list mappings; /* struct dma_mapping.of_domain, by address */
    struct arch_domain iommu;
    uint32_t mapping_count;
    struct orphan *orphan; /* dma.c: keeps the mappings when this object ends before its device is reset */
};
struct dma_mapping {
    struct list of_domain, of_memory;
    struct memory *memory;  /* NULL: destroyed since */
    struct dma *domain;     /* whose device reaches it; NULL: none any more, or there is no IOMMU to say so */
    struct capability *via; /* what it was made with: it ends with that */
    paddr_t held;           /* in quarantine: frames that have no other owner */
    uint64_t held_pages;
    struct process *lender; /* lives, and gets its quota back when they become free; NULL: nobody does */
    iova_t iova;
    uint64_t pages;
    uint32_t prot;
};

status_t dma_create(struct process *owner, uint32_t bdf, struct dma **out) MUST_USE;
void dma_destroy(struct dma *d);
status_t dma_attach(struct dma *d, struct process *user) MUST_USE;
/* At most 128 mappings a domain. E_NO_SLOTS: that is reached, or the window has no gap of this size. */
status_t dma_map(struct dma *d, struct memory *m, struct capability *via, uint64_t offset, uint64_t pages,
                 uint32_t prot, iova_t *out) MUST_USE;
status_t dma_unmap(struct dma *d, iova_t iova) MUST_USE;
void dma_reset_done(struct dma *d);
status_t dma_bus_master(struct dma *d, bool on) MUST_USE;
/* The function answers at its BARs' addresses, or not. The map of device memory changes, so no other CPU runs a
 * process meanwhile: QEMU before 8.1.1 lets the access that another CPU has under way miss its device (upstream
 * commit 0d58c66068). E_STATE: the caller did not create the domain. */
status_t dma_decode(struct dma *d, struct process *caller, bool on) MUST_USE;
void dma_bus_master_off(struct dma *d); /* step 3 of a death */
/* Step 4: the function reaches nothing; what the dying process owned in it goes into quarantine. Returns the
 * number of mappings; they end with the confirmed reset. */
uint32_t dma_detach(struct dma *d, struct process *dying, uint64_t *quarantined);
/* Step 5: nor is an access under way. The domain has no user. Returns the IOMMU's confirmation, 0: there is none. */
uint64_t dma_drain(struct dma *d);
void dma_revoke(struct memory *m,
                struct capability *via); /* via is about to go: so do mappings made with it */
void dma_memory_gone(struct memory *m);  /* a device may still reach it: its frames go into quarantine */
void dma_lender_gone(struct process *p); /* it ends before what it lent */
uint64_t dma_quarantined_pages(void);

#endif
