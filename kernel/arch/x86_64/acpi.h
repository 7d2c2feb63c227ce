/* SPDX-License-Identifier: BSD-2-Clause
 * What the kernel needs of the ACPI tables (ACPI 6.5, ch. 5). Pure: reads one byte range that stands for
 * physical memory from address 0, checks every length and checksum, touches nothing else. */
#ifndef COPPICE_X86_ACPI_H
#define COPPICE_X86_ACPI_H

#include "../../../abi/types.h"

#define ACPI_IOAPICS_MAX   8u
#define ACPI_OVERRIDES_MAX 24u
#define ACPI_CPUS_MAX      64u

struct acpi_ioapic {
    uint64_t paddr;
    uint32_t gsi_base;
    uint8_t id;
};
struct acpi_override {
    uint32_t gsi;
    uint8_t source;
    bool level, low;
};
struct acpi_register {
    uint8_t space, width;
    uint64_t address;
}; /* space: 0 memory, 1 port, 2 PCI */

struct acpi {
    uint32_t cpus;      /* enabled in the MADT */
    uint32_t reachable; /* of these, those that an xAPIC interrupt can name */
    uint8_t apic_id[ACPI_CPUS_MAX];
    uint64_t lapic_paddr;
    uint32_t ioapics, overrides;
    struct acpi_ioapic ioapic[ACPI_IOAPICS_MAX];
    struct acpi_override override[ACPI_OVERRIDES_MAX];
    uint64_t ecam_paddr; /* segment 0: address of bus ecam_bus_first; 0: none */
    uint32_t ecam_bus_first, ecam_bus_last;
    uint16_t pm_timer; /* port; 0: none */
    uint32_t pm_timer_mask;
    uint16_t pm1a_control, pm1b_control; /* ports; 0: none */
    uint16_t smi_command;
    uint8_t acpi_enable;
    bool reset_supported;
    struct acpi_register reset;
    uint8_t reset_value;
    bool s5_found;
    uint8_t s5_type_a, s5_type_b; /* SLP_TYP for soft off */
    const uint8_t *dmar;          /* the table of IOMMUs, for dmar_parse; NULL: none */
    uint64_t dmar_bytes;
};

/* What went wrong, or NULL. A table that is damaged is as good as absent; only RSDP, root table and MADT
 * are errors. */
const char *acpi_parse(const uint8_t *memory, uint64_t length, uint64_t rsdp, struct acpi *out);

#endif
