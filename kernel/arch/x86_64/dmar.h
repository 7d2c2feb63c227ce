/* SPDX-License-Identifier: BSD-2-Clause
 * What the kernel needs of the ACPI table DMAR (Intel VT-d specification, ch. 8). Pure, as acpi.h: reads the
 * bytes given, checks every length, touches nothing else. */
#ifndef COPPICE_X86_DMAR_H
#define COPPICE_X86_DMAR_H

#include "../../../abi/types.h"

#define DMAR_UNITS_MAX    8u
#define DMAR_IOAPICS_MAX  8u
#define DMAR_SCOPES_MAX   128u
#define DMAR_RESERVED_MAX 16u

struct dmar_ioapic { /* how an I/O APIC signs its interrupt messages */
    uint8_t id;      /* as in the MADT */
    uint16_t source; /* bus<<8 | device<<3 | function */
};
struct dmar_scope { /* a PCI function that a unit serves, or a bridge with all that is behind it */
    bool bridge;
    uint16_t bdf;
};
struct dmar_reserved { /* memory that firmware wants a device to reach (RMRR) */
    uint64_t base, limit;
};
struct dmar {
    uint32_t units, ioapics, scopes, reserved;
    uint64_t unit[DMAR_UNITS_MAX]; /* physical addresses of the register sets of segment 0 */
    bool all;                      /* one of them serves every function that no scope names */
    bool remap;                    /* the platform supports interrupt remapping */
    struct dmar_ioapic ioapic[DMAR_IOAPICS_MAX];
    struct dmar_scope scope[DMAR_SCOPES_MAX];
    struct dmar_reserved region[DMAR_RESERVED_MAX];
};

/* What is wrong, or NULL. A table that is only partly understood is wrong: half an IOMMU protects nobody. */
const char *dmar_parse(const uint8_t *table, uint64_t length, struct dmar *out);

#endif
