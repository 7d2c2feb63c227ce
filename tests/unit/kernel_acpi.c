/* SPDX-License-Identifier: BSD-2-Clause
 * ACPI tables: what the kernel reads out of good ones, and that damaged ones are refused or ignored
 * without a read outside the memory given. */
#include <criterion/criterion.h>
#include "tests/unit/acpi_machine.h"
#include "kernel/arch/x86_64/acpi.c"

static struct acpi out;

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

Test(acpi, every_cut_is_survived)
{
    for (uint64_t length = 0; length < DSDT; length++) {
        uint8_t *cut = malloc(length ? length : 1);
        memcpy(cut, memory, length);
        const char *wrong = acpi_parse(cut, length, RSDP, &out);
        cr_expect(wrong || length >= MADT + 44, "cut at %lu", length);
        free(cut);
    }
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
