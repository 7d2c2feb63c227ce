/* SPDX-License-Identifier: BSD-2-Clause
 * Intel VT-d (specification 3.4, legacy mode): what vtd.c (units, queued invalidation, faults), vtd_domain.c
 * (contexts and second-level tables) and vtd_remap.c (interrupts) share. All units use one root table and one
 * interrupt table, and every invalidation goes to every unit: which unit serves which function need not be
 * known. Everything runs under the kernel lock. */
#ifndef COPPICE_X86_VTD_H
#define COPPICE_X86_VTD_H

#include "x86.h"
#include "dmar.h"

#define IOVA_BITS 39u /* what a domain's tables can span at least */

struct vtd_request { /* one descriptor of the invalidation queue (6.5.2) */
    uint64_t low, high;
};

struct vtd {
    bool remaps;     /* interrupts go through the table */
    bool snoops;     /* the units see the CPU's caches */
    bool caches_all; /* caching mode: entries that are not present are cached too */
    unsigned levels; /* of second-level tables: 3 or 4 */
    uint32_t domains;
    volatile struct vtd_request *root;      /* 256 entries of two words */
    volatile struct vtd_request *interrupt; /* 256 entries: one a vector */
};
extern struct vtd vtd;

/* Carries out requests on every unit and waits until each says that they are done. Returns the number that the
 * units wrote back: never 0, never the same again. */
uint64_t vtd_invalidate(const struct vtd_request *request, unsigned count);
void vtd_flush(const volatile void *at, uint64_t bytes); /* out of the CPU's caches, before a unit looks */
bool vtd_serves(uint32_t bdf);                           /* a unit looks at what this function does */
bool vtd_frame(volatile void **out, paddr_t *at);        /* a zeroed frame of the kernel's own, at boot */

#endif
