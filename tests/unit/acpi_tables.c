/* SPDX-License-Identifier: BSD-2-Clause
 * The kernel's ACPI parser over a small physical memory built here: a whole machine is read as it is;
 * damage of any one byte or any cut is survived and never believed; random damage under a right checksum
 * reaches no byte outside (the sanitizers watch). */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/arch/x86_64/acpi.c"

enum {
    RSDP = 0x10,
    RSDT = 0x100,
    XSDT = 0x200,
    MADT = 0x300,
    MCFG = 0x400,
    FADT = 0x500,
    DSDT = 0x700,
    MEMORY = 0x800
};

static void put(uint8_t *m, uint64_t at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) m[at + i] = (uint8_t)(value >> (8 * i));
}

static void seal(uint8_t *m, uint64_t table, uint64_t length, uint64_t checksum_at)
{
    uint8_t sum = 0;
    m[table + checksum_at] = 0;
    for (uint64_t i = 0; i < length; i++) sum = (uint8_t)(sum + m[table + i]);
    m[table + checksum_at] = (uint8_t)-sum;
}

static void table_seal(uint8_t *m, uint64_t at, const char *signature, uint32_t length)
{
    memcpy(m + at, signature, 4);
    put(m, at + 4, length, 4);
    seal(m, at, length, 9);
}

static void madt_build(uint8_t *m)
{
    static const uint8_t entries[] = {
        0, 8,  0, 0, 1,    0,    0,    0,                   /* CPU, enabled */
        0, 8,  1, 1, 0,    0,    0,    0,                   /* CPU, not enabled */
        1, 12, 0, 0, 0x00, 0x00, 0xc0, 0xfe, 0,    0, 0, 0, /* I/O APIC */
        2, 10, 0, 0, 2,    0,    0,    0,    0,    0,       /* IRQ 0 is GSI 2, as the bus does */
        2, 10, 0, 9, 9,    0,    0,    0,    0x0f, 0,       /* IRQ 9: level, active low */
    };
    put(m, MADT + 36, 0xfee00000, 4);
    memcpy(m + MADT + 44, entries, sizeof entries);
    table_seal(m, MADT, "APIC", 44 + sizeof entries);
}

static void fadt_build(uint8_t *m)
{
    put(m, FADT + 40, DSDT, 4);
    put(m, FADT + 48, 0xb2, 4);
    put(m, FADT + 52, 2, 1);
    put(m, FADT + 64, 0x604, 4);
    put(m, FADT + 76, 0x608, 4);
    put(m, FADT + 112, 1u << 10 | 1u << 8, 4);
    put(m, FADT + 116, 1, 1);
    put(m, FADT + 120, 0xcf9, 8);
    put(m, FADT + 128, 0xf, 1);
    table_seal(m, FADT, "FACP", 244);
    memcpy(m + DSDT + 40, "\x08_S5_\x12\x06\x04\x0a\x05\x0a\x03\x00\x00", 14);
    table_seal(m, DSDT, "DSDT", 64);
}

/* A machine in exactly MEMORY bytes. */
static uint8_t *machine(void)
{
    uint8_t *m = calloc(1, MEMORY);
    madt_build(m);
    fadt_build(m);
    put(m, MCFG + 44, 0xb0000000, 8);
    put(m, MCFG + 54, 0, 1);
    put(m, MCFG + 55, 0xff, 1);
    table_seal(m, MCFG, "MCFG", 60);
    for (unsigned i = 0; i < 3; i++) {
        static const uint32_t at[] = {MADT, MCFG, FADT};
        put(m, XSDT + 36 + 8 * i, at[i], 8);
        put(m, RSDT + 36 + 4 * i, at[i], 4);
    }
    table_seal(m, XSDT, "XSDT", 36 + 24);
    table_seal(m, RSDT, "RSDT", 36 + 12);
    memcpy(m + RSDP, "RSD PTR ", 8);
    m[RSDP + 15] = 2;
    put(m, RSDP + 16, RSDT, 4);
    put(m, RSDP + 20, 36, 4);
    put(m, RSDP + 24, XSDT, 8);
    seal(m, RSDP, 20, 8);
    seal(m, RSDP, 36, 32);
    return m;
}

static void machine_expect(const struct acpi *a)
{
    cr_expect_eq(a->cpus, 1);
    cr_expect_eq(a->lapic_paddr, 0xfee00000);
    cr_expect_eq(a->ioapics, 1);
    cr_expect_eq(a->ioapic[0].paddr, 0xfec00000);
    cr_expect_eq(a->overrides, 2);
    cr_expect(a->override[0].gsi == 2 && !a->override[0].level && !a->override[0].low);
    cr_expect(a->override[1].gsi == 9 && a->override[1].level && a->override[1].low);
    cr_expect_eq(a->ecam_paddr, 0xb0000000);
    cr_expect_eq(a->ecam_bus_last, 255);
    cr_expect_eq(a->pm_timer, 0x608);
    cr_expect_eq(a->pm_timer_mask, 0xffffffff);
    cr_expect_eq(a->pm1a_control, 0x604);
    cr_expect_eq(a->pm1b_control, 0);
    cr_expect(a->reset_supported && a->reset.space == 1 && a->reset.address == 0xcf9 &&
              a->reset_value == 0xf);
    cr_expect(a->s5_found && a->s5_type_a == 5 && a->s5_type_b == 3);
}

Test(acpi, reads_a_machine_through_the_xsdt)
{
    struct acpi a;
    uint8_t *m = machine();
    put(m, RSDP + 16, 0, 4); /* there is no RSDT to fall back to */
    seal(m, RSDP, 20, 8);
    seal(m, RSDP, 36, 32);
    cr_assert_null(acpi_parse(m, MEMORY, RSDP, &a));
    machine_expect(&a);
    free(m);
}

Test(acpi, reads_a_machine_through_the_rsdt)
{
    struct acpi a;
    uint8_t *m = machine();
    m[RSDP + 15] = 0;
    seal(m, RSDP, 20, 8);
    cr_assert_null(acpi_parse(m, MEMORY, RSDP, &a));
    machine_expect(&a);
    free(m);
}

Test(acpi, a_damaged_madt_is_an_error)
{
    struct acpi a;
    for (unsigned i = 0; i < 44; i++) {
        uint8_t *m = machine();
        m[MADT + i] ^= 0x40;
        cr_expect_not_null(acpi_parse(m, MEMORY, RSDP, &a), "byte %u", i);
        free(m);
    }
}

Test(acpi, a_damaged_optional_table_is_absent)
{
    struct acpi a;
    uint8_t *m = machine();
    m[MCFG + 50] ^= 1;
    m[FADT + 100] ^= 1;
    cr_assert_null(acpi_parse(m, MEMORY, RSDP, &a));
    cr_expect_eq(a.ecam_paddr, 0);
    cr_expect_eq(a.pm_timer, 0);
    cr_expect_not(a.s5_found);
    free(m);
}

Test(acpi, a_madt_entry_of_length_zero_ends)
{
    struct acpi a;
    uint8_t *m = machine();
    m[MADT + 44 + 1] = 0;
    table_seal(m, MADT, "APIC", 44 + 48);
    cr_expect_not_null(acpi_parse(m, MEMORY, RSDP, &a));
    free(m);
}

Test(acpi, every_cut_is_survived)
{
    uint8_t *whole = machine();
    for (uint64_t length = 0; length < MEMORY; length++) {
        struct acpi a;
        uint8_t *m = malloc(length ? length : 1);
        memcpy(m, whole, length);
        const char *wrong = acpi_parse(m, length, RSDP, &a);
        cr_expect(wrong || length >= MADT + 44, "cut at %lu", length);
        free(m);
    }
    free(whole);
}

Test(acpi, addresses_at_the_end_of_the_range_are_survived)
{
    struct acpi a;
    uint8_t *m = machine();
    static const uint64_t at[] = {MEMORY - 1, MEMORY - 20, MEMORY - 36, MEMORY, ~0ul, ~0ul - 19};
    for (unsigned i = 0; i < sizeof at / sizeof at[0]; i++)
        cr_expect_not_null(acpi_parse(m, MEMORY, at[i], &a));
    free(m);
}

/* Seeded: trial n is the same on every run. */
Test(acpi, random_damage_under_right_checksums_is_survived)
{
    static const uint32_t table[] = {RSDT, XSDT, MADT, MCFG, FADT, DSDT};
    uint64_t state = 0x9e3779b97f4a7c15;
    unsigned accepted = 0;
    for (unsigned n = 0; n < 20000; n++) {
        struct acpi a;
        uint8_t *m = machine();
        for (unsigned hits = 1 + n % 4; hits; hits--) {
            state = state * 6364136223846793005ul + 1442695040888963407ul;
            uint32_t at = table[(state >> 33) % 6];
            m[at + 4 + (state >> 40) % 120] = (uint8_t)(state >> 56);
        }
        for (unsigned i = 0; i < 6; i++) {
            uint64_t length = m[table[i] + 4] | (uint64_t)m[table[i] + 5] << 8;
            if (length >= HEADER && table[i] + length <= MEMORY) seal(m, table[i], length, 9);
        }
        accepted += acpi_parse(m, MEMORY, RSDP, &a) == NULL;
        cr_assert(a.ioapics <= ACPI_IOAPICS_MAX && a.overrides <= ACPI_OVERRIDES_MAX);
        cr_assert(a.s5_type_a <= 7 && a.s5_type_b <= 7);
        free(m);
    }
    cr_expect(accepted > 1000, "only %u of the damaged machines got past the checksums", accepted);
}
