/* SPDX-License-Identifier: BSD-2-Clause
 * The kernel's ACPI reader (kernel/arch/x86_64/acpi.c) on the memory of a damaged machine. Input: a byte
 * that says whether checksums are made good again, the length of memory (2), changes to the tables. What it
 * believes must be in the ranges that the kernel programs hardware with. */
#define _GNU_SOURCE /* memmem */
#include "fuzz.h"
#include "tests/unit/acpi_machine.h"
#include "kernel/arch/x86_64/acpi.c"

#define SMALL (DSDT + 0x80u) /* of memory: no table of the machine is beyond */

static void checksums_repair(void)
{
    static const uint16_t all[] = {XSDT, RSDT, MADT, MCFG, FADT, DSDT};
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++) {
        uint32_t length;
        memcpy(&length, memory + all[i] + 4, 4);
        if (length >= HEADER && length <= SMALL - all[i]) seal(all[i]);
    }
    rsdp_seal();
}

static bool bytes_sum_to_zero(const uint8_t *at, uint64_t bytes)
{
    uint8_t s = 0;
    while (bytes--) s = (uint8_t)(s + *at++);
    return s == 0;
}

/* Whether some place of memory holds a whole table of this signature with a right checksum. */
static bool table_exists(const uint8_t *m, uint64_t length, const char *signature)
{
    const uint8_t *at = m;
    while ((at = memmem(at + 1, length - (uint64_t)(at + 1 - m), signature, 4)) != NULL) {
        uint64_t left = length - (uint64_t)(at - m);
        uint32_t n;
        if (left < HEADER) return false;
        memcpy(&n, at + 4, 4);
        if (n >= HEADER && n <= left && bytes_sum_to_zero(at, n)) return true;
    }
    return false;
}

static void believed_check(const struct acpi *a, const uint8_t *m, uint64_t length)
{
    check(table_exists(m, length, "APIC"));
    check(a->ioapics <= ACPI_IOAPICS_MAX && a->overrides <= ACPI_OVERRIDES_MAX);
    check(a->pm_timer <= 0xfffc && a->pm1a_control <= 0xfffc && a->pm1b_control <= 0xfffc);
    if (a->ecam_paddr) {
        check(table_exists(m, length, "MCFG"));
        check(a->ecam_bus_first <= a->ecam_bus_last && a->ecam_bus_last <= 255);
        check(a->ecam_paddr % (1ul << 20) == 0 && a->ecam_paddr < (1ul << 52) + (256ul << 20));
    } else {
        check(a->ecam_bus_first == 0 && a->ecam_bus_last == 0);
    }
    if (a->s5_found) {
        check(table_exists(m, length, "DSDT") && table_exists(m, length, "FACP"));
        check(a->s5_type_a <= 7 && a->s5_type_b <= 7);
    }
    if (a->pm_timer || a->reset_supported || a->acpi_enable) check(table_exists(m, length, "FACP"));
    check(!a->pm_timer || a->pm_timer_mask == 0xffffff || a->pm_timer_mask == 0xffffffff);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct acpi a;
    static uint8_t good[SMALL];
    if (!memory) {
        tables_make();
        memcpy(good, memory, SMALL);
    }
    memcpy(memory, good, SMALL);
    bool repair = !(take(&in, 1) & 1);
    uint64_t cut = take(&in, 2), length = cut ? cut % (SMALL + 1) : SMALL;
    uint64_t rsdp = cut && in.left > 40 ? take(&in, 8) : RSDP;
    while (in.left) patch(&in, memory + RSDP, SMALL - RSDP);
    if (repair) checksums_repair();
    uint8_t *m = exact_copy(memory, length);
    const char *wrong = acpi_parse(m, length, rsdp, &a);
    check(memcmp(m, memory, length) == 0);
    if (!wrong) believed_check(&a, m, length);
    if (size == 0) check(!wrong && a.ioapics == 1 && a.s5_found && a.ecam_paddr);
    free(m);
    return 0;
}
