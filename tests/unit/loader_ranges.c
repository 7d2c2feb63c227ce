/* SPDX-License-Identifier: BSD-2-Clause
 * The loader's memory map: painting keeps it sorted, free of overlaps and coalesced, whatever the
 * order. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "efi/loader.h"

static struct handoff_range store[HANDOFF_RANGES];
static struct ranges list;

static void setup(void) { list = (struct ranges){.range = store}; }

TestSuite(loader_ranges, .init = setup);

static void expect(uint32_t i, uint64_t base_page, uint64_t pages, uint32_t kind)
{
    cr_assert_eq(store[i].base, base_page * PAGE_SIZE, "base of %u: %lx", i, store[i].base);
    cr_assert_eq(store[i].pages, pages, "pages of %u: %lu", i, store[i].pages);
    cr_assert_eq(store[i].kind, kind, "kind of %u", i);
}

static void paint(uint64_t base_page, uint64_t pages, uint32_t kind)
{
    ranges_paint(&list, base_page * PAGE_SIZE, pages, kind);
}

Test(loader_ranges, neighbours_of_one_kind_join_in_any_order)
{
    paint(20, 10, RANGE_FREE);
    paint(0, 10, RANGE_FREE);
    paint(10, 10, RANGE_FREE);
    cr_assert_eq(list.count, 1);
    expect(0, 0, 30, RANGE_FREE);
}

Test(loader_ranges, neighbours_of_other_kinds_and_gaps_stay)
{
    paint(0, 4, RANGE_FREE);
    paint(4, 4, RANGE_ACPI);
    paint(9, 1, RANGE_ACPI);
    cr_assert_eq(list.count, 3);
}

Test(loader_ranges, painting_inside_splits)
{
    paint(0, 100, RANGE_FREE);
    paint(40, 5, RANGE_KERNEL);
    cr_assert_eq(list.count, 3);
    expect(0, 0, 40, RANGE_FREE);
    expect(1, 40, 5, RANGE_KERNEL);
    expect(2, 45, 55, RANGE_FREE);
}

Test(loader_ranges, painting_over_several_replaces_them)
{
    paint(0, 10, RANGE_FREE);
    paint(10, 10, RANGE_ACPI);
    paint(20, 10, RANGE_RESERVED);
    paint(5, 20, RANGE_BOOT);
    cr_assert_eq(list.count, 3);
    expect(0, 0, 5, RANGE_FREE);
    expect(1, 5, 20, RANGE_BOOT);
    expect(2, 25, 5, RANGE_RESERVED);
}

Test(loader_ranges, too_many_are_reported)
{
    for (uint64_t i = 0; i < HANDOFF_RANGES; i++) paint(2 * i, 1, RANGE_FREE);
    cr_assert_not(list.overflow);
    paint(2 * HANDOFF_RANGES, 1, RANGE_FREE);
    cr_assert(list.overflow);
}

Test(loader_ranges, agrees_with_a_page_array_on_random_paints)
{
    enum { PAGES = 200, NONE = 9 };
    srand(1);
    for (int round = 0; round < 300; round++) {
        uint8_t model[PAGES];
        memset(model, NONE, sizeof(model));
        setup();
        for (int step = 0; step < 40; step++) {
            uint64_t base = (uint64_t)rand() % PAGES, pages = (uint64_t)rand() % (PAGES - base);
            uint32_t kind = (uint32_t)rand() % 5;
            paint(base, pages, kind);
            memset(model + base, (int)kind, pages);
        }
        uint64_t at = 0;
        for (uint32_t i = 0; i < list.count; i++) {
            uint64_t first = store[i].base / PAGE_SIZE;
            cr_assert_geq(first, at);
            if (i && first == at) cr_assert_neq(store[i].kind, store[i - 1].kind, "not coalesced");
            for (; at < first; at++) cr_assert_eq(model[at], NONE);
            for (; at < first + store[i].pages; at++) cr_assert_eq(model[at], store[i].kind);
        }
        for (; at < PAGES; at++) cr_assert_eq(model[at], NONE);
    }
}
