/* SPDX-License-Identifier: BSD-2-Clause
 * The DMAR table: what the kernel reads out of a good one, and that each kind of damage is refused in words,
 * without a read outside the bytes given. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/arch/x86_64/dmar.c"

enum place {
    UNIT = 48,
    IOAPIC = UNIT + 16,
    FUNCTION = IOAPIC + 8,
    BRIDGE = FUNCTION + 8,
    SECOND = BRIDGE + 10,
    RESERVED = SECOND + 16,
    UNKNOWN = RESERVED + 32,
    END = UNKNOWN + 8
};

static uint8_t *table;
static uint64_t length;
static struct dmar out;

static void put(uint64_t at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) table[at + i] = (uint8_t)(value >> 8 * i);
}

static void scope(uint64_t at, unsigned type, unsigned bytes, unsigned id, unsigned bus, unsigned device,
                  unsigned fn)
{
    put(at, type, 1), put(at + 1, bytes, 1), put(at + 4, id, 1), put(at + 5, bus, 1);
    put(at + 6, device, 1), put(at + 7, fn, 1);
}

static void table_make(void)
{
    length = END;
    table = calloc(1, length); /* its end is guarded by the sanitizer */
    memcpy(table, "DMAR", 4);
    put(36, 38, 1), put(37, 1, 1);
    put(UNIT, 0, 2), put(UNIT + 2, SECOND - UNIT, 2), put(UNIT + 8, 0xfed90000, 8);
    scope(IOAPIC, 3, 8, 2, 0xff, 0, 0);
    scope(FUNCTION, 1, 8, 0, 0, 3, 1);
    scope(BRIDGE, 2, 10, 0, 0, 4, 0); /* a path of two steps: nothing that is understood */
    put(SECOND, 0, 2), put(SECOND + 2, 16, 2), put(SECOND + 4, 1, 1), put(SECOND + 8, 0xfed91000, 8);
    put(RESERVED, 1, 2), put(RESERVED + 2, 32, 2), put(RESERVED + 8, 0x7000000, 8),
        put(RESERVED + 16, 0x7ffffff, 8);
    scope(RESERVED + 24, 1, 8, 0, 0, 0x1d, 0);
    put(UNKNOWN, 77, 2), put(UNKNOWN + 2, 8, 2);
}

static const char *parse(void) { return dmar_parse(table, length, &out); }

TestSuite(dmar, .init = table_make);

Test(dmar, everything_is_read)
{
    cr_assert_null(parse());
    cr_assert(out.units == 2 && out.unit[0] == 0xfed90000 && out.unit[1] == 0xfed91000);
    cr_assert(out.all && out.remap);
    cr_assert(out.ioapics == 1 && out.ioapic[0].id == 2 && out.ioapic[0].source == 0xff00);
    cr_assert(out.scopes == 1 && out.scope[0].bdf == 0x19 && !out.scope[0].bridge);
    cr_assert(out.reserved == 1 && out.region[0].base == 0x7000000 && out.region[0].limit == 0x7ffffff);
}

Test(dmar, flags_are_read)
{
    put(37, 0, 1), put(SECOND + 4, 0, 1);
    scope(BRIDGE, 2, 8, 0, 0, 4, 0),
        put(BRIDGE + 8, 0x0a09, 2); /* the last two bytes: a scope that is cut off */
    cr_assert_not_null(parse());
    put(UNIT + 2, BRIDGE + 8 - UNIT, 2), memmove(table + BRIDGE + 8, table + SECOND, END - SECOND),
        length -= 2;
    cr_assert_null(parse());
    cr_assert(!out.all && !out.remap && out.scopes == 2 && out.scope[1].bridge && out.scope[1].bdf == 0x20);
}

Test(dmar, a_unit_of_another_segment_is_not_ours)
{
    put(SECOND + 6, 1, 2);
    cr_assert_null(parse());
    cr_assert(out.units == 1 && !out.all);
    put(UNIT + 6, 1, 2);
    cr_assert_str_eq(parse(), "it names no remapping unit");
}

#define REFUSED(name, change)                       \
    Test(dmar, name)                                \
    {                                               \
        cr_assert_null(parse());                    \
        change;                                     \
        cr_assert_not_null(parse(), "%s", #change); \
    }
REFUSED(an_empty_table, length = 48)
REFUSED(a_table_without_its_header, length = 47)
REFUSED(no_table, length = 0)
REFUSED(a_structure_of_no_length, put(UNKNOWN + 2, 0, 2))
REFUSED(a_structure_of_three_bytes, put(UNKNOWN + 2, 3, 2))
REFUSED(a_structure_past_the_end, put(UNKNOWN + 2, 9, 2))
REFUSED(a_structure_header_past_the_end, length -= 5)
REFUSED(a_unit_cut_off, (put(UNIT + 2, 8, 2), put(UNIT + 8, 0, 2), put(UNIT + 10, SECOND - UNIT - 8, 2)))
REFUSED(a_unit_at_no_address, put(UNIT + 8, 0, 8))
REFUSED(a_unit_across_pages, put(UNIT + 8, 0xfed90010, 8))
REFUSED(a_unit_beyond_the_bus, put(UNIT + 8, 1ul << 60, 8))
REFUSED(a_unit_listed_twice, put(SECOND + 8, 0xfed90000, 8))
REFUSED(a_scope_of_no_length, put(FUNCTION + 1, 0, 1))
REFUSED(a_scope_of_odd_length, put(FUNCTION + 1, 7, 1))
REFUSED(a_scope_past_its_structure, put(BRIDGE + 1, 12, 1))
REFUSED(a_scope_of_no_device, put(FUNCTION + 6, 32, 1))
REFUSED(a_scope_of_no_function, put(IOAPIC + 7, 8, 1))
REFUSED(a_region_that_ends_before_it_begins, put(RESERVED + 16, 0x6ffffff, 8))
REFUSED(a_region_cut_off, (put(RESERVED + 2, 20, 2), put(RESERVED + 20, 1, 2), put(RESERVED + 22, 12, 2)))

/* So many of each that there is no room. */
static void crowd(uint16_t type, uint16_t bytes, unsigned count)
{
    free(table);
    length = 48 + (uint64_t)count * bytes;
    table = calloc(1, length);
    for (unsigned i = 0; i < count; i++) {
        uint64_t at = 48 + (uint64_t)i * bytes;
        put(at, type, 2), put(at + 2, bytes, 2), put(at + 8, 0x1000ul * (i + 1), 8);
        if (bytes >= 24) put(at + 16, ~0ul, 8);
    }
}

Test(dmar, more_than_there_is_room_for)
{
    crowd(0, 16, DMAR_UNITS_MAX);
    cr_assert_null(parse());
    crowd(0, 16, DMAR_UNITS_MAX + 1);
    cr_assert_str_eq(parse(), "too many remapping units");
    crowd(1, 24, DMAR_RESERVED_MAX + 1);
    cr_assert_str_eq(parse(), "too many reserved regions");
    crowd(9, 24, 300);
    cr_assert_str_eq(parse(), "too many structures");
    for (unsigned type = 1; type <= 3; type += 2) {
        crowd(0, 16 + 8 * (DMAR_SCOPES_MAX + 1), 1);
        for (unsigned i = 0; i <= DMAR_SCOPES_MAX; i++) scope(64 + 8ul * i, type, 8, 0, 0, 0, 0);
        cr_assert_str_eq(parse(), type == 1 ? "too many device scopes" : "too many I/O APICs");
    }
}

/* Any damage: no read outside the table, and counts in range. */
Test(dmar, random_damage)
{
    uint64_t seed = 88172645463325252ul, good = 0;
    for (unsigned round = 0; round < 200000; round++) {
        if (round % 16 == 0) free(table), table_make();
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        table[36 + (seed >> 8) % (END - 36)] = (uint8_t)(seed >> 40);
        if (parse()) continue;
        good++;
        cr_assert(out.units >= 1 && out.units <= DMAR_UNITS_MAX && out.ioapics <= DMAR_IOAPICS_MAX &&
                  out.scopes <= DMAR_SCOPES_MAX && out.reserved <= DMAR_RESERVED_MAX);
    }
    cr_assert_gt(good, 1000);
}
