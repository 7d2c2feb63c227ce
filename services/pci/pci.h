/* SPDX-License-Identifier: BSD-2-Clause
 * The pci service: what enumerate.c finds, function.c makes of a claimed function, main.c serves. slot.c watches slots whose
 * devices come and go, window.c finds room for their registers.
 */
#ifndef COPPICE_PCI_H
#define COPPICE_PCI_H

#include "config.h"
#include "lib/kept.h"
#include "abi/manifest.h"

#define FUNCTIONS_MAX 256
#define BARS          6
#define WINDOWS       2 /* of a bridge: memory, prefetchable memory */
#define SLOTS_MAX     16
#define VENDOR_NONE   0xffffu
#define IRQS_MAX      16 /* MSI-X entries of a function that can be asked for */

struct function {
    volatile uint8_t *config; /* its 4 KiB of configuration space */
    uint16_t bdf;             /* bus<<8 | device<<3 | function */
    uint16_t vendor, device;  /* VENDOR_NONE: unplugged; the entry is for what comes in its place */
    uint16_t service;         /* who may claim it, MANIFEST_NONE: nobody */
    uint32_t class;           /* class<<16 | subclass<<8 | interface */
    uint8_t header;           /* enum of the header type, without the multifunction bit */
};

/* A function that the manifest gives to a service, with the objects that its driver gets. They are
 * made once; every incarnation of the driver is given the same ones. */
struct bar {
    uint64_t paddr, bytes; /* bytes 0: absent or unusable */
    handle_t memory;       /* 0: refused, see bars_prepare */
    handle_t made;         /* what it is derived from */
};
struct msix {
    uint32_t entries; /* 0: the function has none */
    uint32_t capability;
    uint32_t first; /* index of entry 0, counted from the start of `table` */
    handle_t table; /* the pages that hold the table */
};
struct claim {
    struct function *function; /* NULL: unused; written last */
    uint16_t service, index;   /* position in the service's pci list */
    handle_t config, dma;
    handle_t config_made, made; /* what config and dma are derived from */
    struct bar bar[BARS];
    struct msix msix;
    handle_t irq[IRQS_MAX];      /* made at the first request */
    handle_t irq_made[IRQS_MAX]; /* what they are derived from */
};

/* A slot of a port, whose device may come and go (slot.c). */
enum slot_state {
    SLOT_EMPTY,
    SLOT_STANDS,   /* something is in it, and power is off */
    SLOT_STARTING, /* power is on, the device not yet there */
    SLOT_SERVES,   /* the device can be claimed */
    SLOT_LEAVING,  /* drivers are ended, then power goes off */
    SLOT_COOLING,  /* power went off: nothing is done until it is surely gone */
};
struct slot {
    struct function *port;
    uint32_t express;         /* where its PCI Express capability is */
    volatile uint8_t *config; /* of the bus behind it */
    enum slot_state state;
    uint64_t since_ns;         /* power was switched */
    bool commanded;            /* the port has not yet said that this was done */
    uint64_t used_to[WINDOWS]; /* up to where its windows are given to devices that firmware did not see */
};

#define CLAIMS_MAX   28
#define PHASE_SERVES 1ul /* of kept.phase: all is found and made but interrupts */

/* What the next one finds after this one fell. */
struct pci_kept {
    struct kept kept;
    const struct manifest *manifest;
    bool iommu;
    uint32_t function_count, claim_count, slot_count;
    struct function function[FUNCTIONS_MAX];
    struct claim claim[CLAIMS_MAX];
    struct slot slot[SLOTS_MAX];
    handle_t notification, timer;           /* 0: there are no slots */
    uint64_t look_ns;                       /* when they are looked at next, whoever falls until then */
    uint64_t capabilities[KEPT_CAPS_WORDS]; /* when it began to serve */
};
_Static_assert(sizeof(struct pci_kept) <= 6 * PAGE_SIZE, "behind it the injector maps what it strikes with");
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

/* Looks again at device 0 of the bus, whose configuration space is at config: what is there, and what is not any more. */
void functions_look(volatile uint8_t *config, uint32_t bus);
volatile uint8_t *bus_config(uint32_t bus); /* NULL: not mapped by this process's enumeration */
uint32_t capability_find(const struct function *f, uint8_t id); /* its offset, 0: none */

/* Room for a BAR of a function behind a slot, 0: none. wide: it takes 64 bits. */
uint64_t window_take(const struct function *f, bool wide, bool prefetch, uint64_t bytes);

/* Finds the slots whose devices may come and go, and has them looked at from now on. */
status_t slots_find(void) MUST_USE;
status_t slots_begin(void) MUST_USE; /* of this process: their signal is heard */
void slots_look(void);

/* Makes the claims that the manifest wants and that can be made, but were not. */
void claims_prepare(void);
/* Those of functions on these buses: nobody drives them any more. */
void claims_release(uint32_t first_bus, uint32_t last_bus);

/* Prepares all objects of a claim but the interrupts. On failure nothing of it may be handed out.
 */
status_t claim_prepare(struct claim *c) MUST_USE;
/* The function answers no more, and all objects are gone. */
void claim_unprepare(struct claim *c);
/* The interrupt object of an MSI-X entry. */
status_t claim_irq(struct claim *c, uint64_t entry, handle_t *irq) MUST_USE;

#endif
