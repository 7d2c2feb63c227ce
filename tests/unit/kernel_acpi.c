/* SPDX-License-Identifier: BSD-2-Clause
 * ACPI tables: what the kernel reads out of good ones, and that damaged ones are refused or ignored
 * without a read outside the memory given. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/arch/x86_64/acpi.c"

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
static struct acpi out;

static void put(uint64_t at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) memory[at + i] = (uint8_t)(value >> 8 * i);
}

static uint8_t sum(uint64_t at, uint64_t bytes)
{
    uint8_t s = 0;
    for (uint64_t i = 0; i < bytes; i++) s = (uint8_t)(s + memory[at + i]);
    return s;
}

static void seal(uint64_t at) /* recomputes a table's checksum */
{
    uint32_t length;
    memcpy(&length, memory + at + 4, 4);
    memory[at + 9] = 0;
    memory[at + 9] = (uint8_t)-sum(at, length);
}

static void table(uint64_t at, const char *signature, uint32_t length)
{
    memcpy(memory + at, signature, 4);
    put(at + 4, length, 4);
}

static void rsdp_seal(void)
{
    memory[RSDP + 8] = memory[RSDP + 32] = 0;
    memory[RSDP + 8] = (uint8_t)-sum(RSDP, 20);
    memory[RSDP + 32] = (uint8_t)-sum(RSDP, 36);
}

static void tables_make(void)
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

static const char *parse(void) { return acpi_parse(memory, MEMORY, RSDP, &out); }

TestSuite(acpi, .init = tables_make);

Test(acpi, everything_is_read)
{
    cr_assert_null(parse());
    cr_assert_eq(out.cpus, 1);
    cr_assert_eq(out.reachable, 1);
    cr_assert_eq(out.apic_id[0], 7);
    cr_assert_eq(out.lapic_paddr, 0x1fee00000);
    cr_assert_eq(out.ioapics, 1);
    cr_assert_eq(out.ioapic[0].paddr, 0xfec00000);
    cr_assert_eq(out.ioapic[0].gsi_base, 16);
    cr_assert_eq(out.overrides, 1);
    cr_assert_eq(out.override[0].source, 9);
    cr_assert_eq(out.override[0].gsi, 20);
    cr_assert(out.override[0].level && out.override[0].low);
    cr_assert_eq(out.ecam_paddr, 0xb0200000, "bus 2's, above bus 0's base");
    cr_assert_eq(out.ecam_bus_first, 2);
    cr_assert_eq(out.ecam_bus_last, 255);
    cr_assert_eq(out.pm_timer, 0x608);
    cr_assert_eq(out.pm_timer_mask, 0xffffffff);
    cr_assert_eq(out.pm1a_control, 0x1604);
    cr_assert_eq(out.pm1b_control, 0);
    cr_assert_eq(out.smi_command, 0xb2);
    cr_assert_eq(out.acpi_enable, 0xa1);
    cr_assert(out.reset_supported);
    cr_assert_eq(out.reset.space, 1);
    cr_assert_eq(out.reset.address, 0xcf9);
    cr_assert_eq(out.reset_value, 0x0f);
    cr_assert(out.s5_found);
    cr_assert_eq(out.s5_type_a, 5);
    cr_assert_eq(out.s5_type_b, 1);
}

Test(acpi, a_damaged_xsdt_falls_back_to_the_rsdt)
{
    memory[XSDT + 10] ^= 1;
    cr_assert_null(parse());
    cr_assert_eq(out.ioapics, 1);
}

Test(acpi, version_one_has_only_the_rsdt)
{
    memory[RSDP + 15] = 0;
    rsdp_seal();
    put(RSDP + 24, 0, 8);
    memory[RSDP + 8] = 0, memory[RSDP + 8] = (uint8_t)-sum(RSDP, 20);
    cr_assert_null(parse());
    cr_assert(out.s5_found);
}

#define REFUSED(name, change)                       \
    Test(acpi, name)                                \
    {                                               \
        cr_assert_null(parse());                    \
        change;                                     \
        cr_assert_not_null(parse(), "%s", #change); \
    }
REFUSED(rsdp_signature, memory[RSDP] = 'X')
REFUSED(rsdp_checksum, memory[RSDP + 8]++)
REFUSED(rsdp_past_the_end, cr_assert_not_null(acpi_parse(memory, RSDP + 19, RSDP, &out)); memory[RSDP] = 0)
REFUSED(no_root_table, (memory[XSDT] = 'Y', memory[RSDT] = 'Y', seal(XSDT), seal(RSDT)))
REFUSED(root_tables_damaged, (memory[XSDT + 12]++, memory[RSDT + 12]++))
REFUSED(no_madt, (memory[MADT] = 'B', seal(MADT)))
REFUSED(madt_checksum, memory[MADT + 44]++)
REFUSED(madt_too_short, (put(MADT + 4, 40, 4), seal(MADT)))
REFUSED(madt_length_past_memory, (put(MADT + 4, MEMORY, 4)))
REFUSED(madt_entry_of_no_length, (memory[MADT + 45] = 0, seal(MADT)))
REFUSED(madt_entry_past_the_table, (memory[MADT + 45] = 0xff, seal(MADT)))

Test(acpi, a_rsdp_anywhere_is_safe)
{
    for (uint64_t at = MEMORY - 64; at < MEMORY + 64; at++)
        cr_assert_not_null(acpi_parse(memory, MEMORY, at, &out));
    cr_assert_not_null(acpi_parse(memory, MEMORY, ~0ul, &out));
    cr_assert_not_null(acpi_parse(memory, MEMORY, ~0ul - 10, &out));
    cr_assert_not_null(acpi_parse(memory, 0, 0, &out));
}

Test(acpi, what_is_optional_may_be_absent_or_damaged)
{
    memory[MCFG + 20]++, memory[FADT + 20]++;
    cr_assert_null(parse());
    cr_assert_eq(out.ecam_paddr, 0);
    cr_assert_eq(out.pm_timer, 0);
    cr_assert(!out.s5_found);
    cr_assert_eq(out.cpus, 1);
}

Test(acpi, configuration_space_that_is_refused)
{
    static const struct {
        unsigned offset;
        uint64_t value;
        unsigned bytes;
    } bad[] = {{44, 0, 8}, {44, 0xb0000001, 8}, {44, 1ul << 60, 8}, {52, 1, 2}, {55, 1, 1}};
    for (unsigned i = 0; i < 5; i++) {
        free(memory);
        tables_make();
        put(MCFG + bad[i].offset, bad[i].value, bad[i].bytes);
        seal(MCFG);
        cr_assert_null(parse());
        cr_assert_eq(out.ecam_paddr, 0, "case %u", i);
    }
}

Test(acpi, more_entries_than_there_is_room_for)
{
    uint64_t length = 44 + 40 * 12 + 40 * 10;
    uint64_t at = 0x1000;
    table(at, "APIC", (uint32_t)length);
    uint64_t e = at + 44;
    for (unsigned i = 0; i < 40; i++, e += 12) put(e, 0x0c01, 2), put(e + 8, i * 24, 4);
    for (unsigned i = 0; i < 40; i++, e += 10) put(e, 0x0a02, 2), put(e + 4, i, 4);
    seal(at);
    put(XSDT + 36, at, 8);
    seal(XSDT);
    cr_assert_null(parse());
    cr_assert_eq(out.ioapics, ACPI_IOAPICS_MAX);
    cr_assert_eq(out.overrides, ACPI_OVERRIDES_MAX);
}

Test(acpi, s5_cut_off_at_every_byte)
{
    for (uint32_t length = 36; length < 36 + 16 + 13; length++) {
        table(DSDT, "DSDT", length);
        seal(DSDT);
        cr_assert_null(parse());
        if (out.s5_found) cr_assert_geq(length, 36 + 16 + 11);
    }
}

/* Any damage, with checksums made good again so that it reaches the parsers: no read outside, and counts in range. */
Test(acpi, random_damage)
{
    static const enum place all[] = {XSDT, RSDT, MADT, MCFG, FADT, DSDT};
    uint64_t seed = 88172645463325252ul, good = 0;
    for (unsigned round = 0; round < 100000; round++) {
        if (round % 16 == 0) free(memory), tables_make();
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        enum place p = all[seed % 6];
        memory[p + 4 + (seed >> 8) % 140] = (uint8_t)(seed >> 40);
        uint32_t length;
        memcpy(&length, memory + p + 4, 4);
        if (length >= 36 && p + (uint64_t)length <= MEMORY) seal(p);
        if (parse()) continue;
        good++;
        cr_assert(out.reachable <= ACPI_CPUS_MAX && out.reachable <= out.cpus);
        cr_assert(out.ioapics <= ACPI_IOAPICS_MAX && out.overrides <= ACPI_OVERRIDES_MAX);
        cr_assert(out.ecam_paddr == 0 || out.ecam_bus_first <= out.ecam_bus_last);
        cr_assert(!out.s5_found || (out.s5_type_a < 8 && out.s5_type_b < 8));
    }
    cr_assert_gt(good, 1000);
}
