/* SPDX-License-Identifier: BSD-2-Clause
 * The pci service: what enumerate.c finds, function.c makes of a claimed function, main.c serves.
 */
#ifndef COPPICE_PCI_H
#define COPPICE_PCI_H

#include "config.h"
#include "lib/kept.h"
#include "abi/manifest.h"

#define FUNCTIONS_MAX 256
#define BARS          6
#define IRQS_MAX      16 /* MSI-X entries of a function that can be asked for */

struct function {
    volatile uint8_t *config; /* its 4 KiB of configuration space */
    uint16_t bdf;             /* bus<<8 | device<<3 | function */
    uint16_t vendor, device;
    uint16_t service; /* who may claim it, MANIFEST_NONE: nobody */
    uint32_t class;   /* class<<16 | subclass<<8 | interface */
    uint8_t header;   /* enum of the header type, without the multifunction bit */
};

/* A function that the manifest gives to a service, with the objects that its driver gets. They are
 * made once; every incarnation of the driver is given the same ones. */
struct bar {
    uint64_t paddr, bytes; /* bytes 0: absent or unusable */
    handle_t memory;       /* 0: refused, see claim_bars */
};
struct msix {
    uint32_t entries; /* 0: the function has none */
    uint32_t capability;
    uint32_t first; /* index of entry 0, counted from the start of `table` */
    handle_t table; /* the pages that hold the table */
};
struct claim {
    struct function *function;
    uint16_t service, index; /* position in the service's pci list */
    handle_t config, dma;
    handle_t made; /* what dma is derived from */
    struct bar bar[BARS];
    struct msix msix;
    handle_t irq[IRQS_MAX];      /* made at the first request */
    handle_t irq_made[IRQS_MAX]; /* what they are derived from */
};

#define CLAIMS_MAX   32
#define PHASE_SERVES 1ul /* of kept.phase: all is found and made but interrupts */

/* What the next one finds after this one fell. */
struct pci_kept {
    struct kept kept;
    uint32_t function_count, claim_count;
    struct function function[FUNCTIONS_MAX];
    struct claim claim[CLAIMS_MAX];
    uint64_t capabilities[KEPT_CAPS_WORDS]; /* when it began to serve */
};
extern struct pci_kept *pci;

extern handle_t root;

static inline uint8_t config_read8(const struct function *f, uint32_t at) { return f->config[at]; }
static inline uint16_t config_read16(const struct function *f, uint32_t at)
{
    return *(const volatile uint16_t *)(f->config + at);
}
static inline uint32_t config_read32(const struct function *f, uint32_t at)
{
    return *(const volatile uint32_t *)(f->config + at);
}
static inline void config_write16(struct function *f, uint32_t at, uint16_t value)
{
    *(volatile uint16_t *)(f->config + at) = value;
}
static inline void config_write32(struct function *f, uint32_t at, uint32_t value)
{
    *(volatile uint32_t *)(f->config + at) = value;
}

/* Finds every function behind the host bridge; returns how many. */
uint32_t functions_enumerate(const struct system_info *info);
struct function *function_get(uint32_t n);                                       /* NULL past the end */
struct function *function_match(uint16_t vendor, uint16_t device, uint16_t nth); /* NULL: absent */
/* True if another function's BAR starts in these pages: they cannot be handed out alone. */
bool functions_share(const struct function *but, uint64_t paddr, uint64_t pages);

/* Prepares all objects of a claim but the interrupts. On failure nothing of it may be handed out.
 */
status_t claim_prepare(struct claim *c) MUST_USE;
/* The interrupt object of an MSI-X entry. */
status_t claim_irq(struct claim *c, uint64_t entry, handle_t *irq) MUST_USE;

#endif
