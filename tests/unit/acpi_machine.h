/* SPDX-License-Identifier: BSD-2-Clause
 * ACPI tables of a small machine, for the unit tests and the fuzz target of kernel/arch/x86_64/acpi.c. */
#ifndef COPPICE_TESTS_ACPI_MACHINE_H
#define COPPICE_TESTS_ACPI_MACHINE_H

#include <stdlib.h>
#include <string.h>
#include "kernel/arch/x86_64/acpi.h"

/* A small physical memory with the tables at fixed places; its end is guarded by the sanitizer. */
#define MEMORY 0x2000u
enum place {
    RSDP = 0x100,
    XSDT = 0x200,
    RSDT = 0x280,
    MADT = 0x300,
    MCFG = 0x400,
    FADT = 0x500,
    DSDT = 0x700
};

static uint8_t *memory;

static inline void put(uint64_t at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) memory[at + i] = (uint8_t)(value >> 8 * i);
}

static inline uint8_t sum(uint64_t at, uint64_t bytes)
{
    uint8_t s = 0;
    for (uint64_t i = 0; i < bytes; i++) s = (uint8_t)(s + memory[at + i]);
    return s;
}

static inline void seal(uint64_t at) /* recomputes a table's checksum */
{
    uint32_t length;
    memcpy(&length, memory + at + 4, 4);
    memory[at + 9] = 0;
    memory[at + 9] = (uint8_t)-sum(at, length);
}

static inline void table(uint64_t at, const char *signature, uint32_t length)
{
    memcpy(memory + at, signature, 4);
    put(at + 4, length, 4);
}

static inline void rsdp_seal(void)
{
    memory[RSDP + 8] = memory[RSDP + 32] = 0;
    memory[RSDP + 8] = (uint8_t)-sum(RSDP, 20);
    memory[RSDP + 32] = (uint8_t)-sum(RSDP, 36);
}

static inline void tables_make(void)
{
    memory = calloc(1, MEMORY);
    memcpy(memory + RSDP, "RSD PTR ", 8);
    memory[RSDP + 15] = 2;
    put(RSDP + 16, RSDT, 4);
    put(RSDP + 20, 36, 4);
    put(RSDP + 24, XSDT, 8);
    rsdp_seal();
    table(XSDT, "XSDT", 36 + 3 * 8);
    put(XSDT + 36, MADT, 8), put(XSDT + 44, MCFG, 8), put(XSDT + 52, FADT, 8);
    table(RSDT, "RSDT", 36 + 3 * 4);
    put(RSDT + 36, MADT, 4), put(RSDT + 40, MCFG, 4), put(RSDT + 44, FADT, 4);

    table(MADT, "APIC", 44 + 8 + 8 + 12 + 10 + 12);
    put(MADT + 36, 0xfee00000, 4);
    uint64_t e = MADT + 44;
    put(e, 0x0800, 2), put(e + 3, 7, 1), put(e + 4, 1, 4), e += 8;            /* a CPU */
    put(e, 0x0800, 2), put(e + 4, 0, 4), e += 8;                              /* one that is off */
    put(e, 0x0c01, 2), put(e + 4, 0xfec00000, 4), put(e + 8, 16, 4), e += 12; /* I/O APIC */
    put(e, 0x0a02, 2), put(e + 2, 0, 1), put(e + 3, 9, 1), put(e + 4, 20, 4), put(e + 8, 15, 2), e += 10;
    put(e, 0x0c05, 2), put(e + 4, 0x1fee00000, 8); /* LAPIC address */

    table(MCFG, "MCFG", 44 + 16);
    put(MCFG + 44, 0xb0000000, 8), put(MCFG + 54, 2, 1), put(MCFG + 55, 255, 1);

    table(FADT, "FACP", 244);
    put(FADT + 40, DSDT, 4), put(FADT + 48, 0xb2, 4), put(FADT + 52, 0xa1, 1), put(FADT + 64, 0x604, 4),
        put(FADT + 76, 0x608, 4);
    put(FADT + 112, 1u << 8 | 1u << 10, 4);
    put(FADT + 116, 1, 1), put(FADT + 117, 8, 1), put(FADT + 120, 0xcf9, 8), put(FADT + 128, 0x0f, 1);
    put(FADT + 140, DSDT, 8);
    put(FADT + 172, 1, 1), put(FADT + 176, 0x1604, 8); /* the 64-bit PM1a wins */

    static const uint8_t s5[] = {0x08, '_', 'S', '5', '_', 0x12, 0x08, 0x04, 0x0a, 0x05, 0x01, 0x00, 0x00};
    table(DSDT, "DSDT", 36 + 16 + sizeof s5);
    memcpy(memory + DSDT + 52, s5, sizeof s5);
    static const enum place all[] = {XSDT, RSDT, MADT, MCFG, FADT, DSDT};
    for (unsigned i = 0; i < 6; i++) seal(all[i]);
}

#endif
