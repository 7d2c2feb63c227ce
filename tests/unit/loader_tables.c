/* SPDX-License-Identifier: BSD-2-Clause
 * The kernel's first page tables, read as the CPU reads them: W^X, no writable alias of the
 * kernel's text and rodata, uncached where there is no RAM, and exactly as many frames as counted.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "efi/loader.h"

#define LARGE    (2ul << 20)
#define GIB      (1ul << 30)
#define WRITABLE 2ul
#define UNCACHED 0x18ul
#define NO_EXEC  (1ul << 63)

static struct kernel_layout kernel = {
    .pages = 6,
    .rights = {RIGHT_READ | RIGHT_EXECUTE, RIGHT_READ | RIGHT_EXECUTE, RIGHT_READ, 0,
               RIGHT_READ | RIGHT_WRITE, RIGHT_READ | RIGHT_WRITE},
};
static struct table_plan plan;
static uint64_t pml4;

static bool below_256_mib(void *context, uint64_t paddr)
{
    (void)context;
    return paddr < 256ul << 20;
}

static void build(void)
{
    uint64_t frames = tables_frames(4 * GIB);
    void *memory = aligned_alloc(PAGE_SIZE, frames * PAGE_SIZE);
    memset(memory, 0, frames * PAGE_SIZE);
    plan = (struct table_plan){.next = (uint64_t)memory,
                               .end = (uint64_t)memory + frames * PAGE_SIZE,
                               .direct_map_bytes = 4 * GIB,
                               .kernel_paddr = 16 * LARGE,
                               .kernel = &kernel,
                               .identity_page = 0x7654000,
                               .cached = below_256_mib};
    pml4 = tables_build(&plan);
}

static void release(void) { free((void *)pml4); /* the first frame taken */ }

TestSuite(loader_tables, .init = build, .fini = release);

/* The leaf that maps va, with the physical address of va in its place; 0: not mapped. */
static uint64_t leaf(uint64_t va)
{
    const uint64_t address = 0x000ffffffffff000ul;
    uint64_t entry = pml4 | 1;
    for (int shift = 39; shift >= 12; shift -= 9) {
        entry = ((uint64_t *)(entry & address))[(va >> shift) & 511];
        if (!(entry & 1)) return 0;
        if (shift == 12 || (entry & 0x80)) {
            uint64_t size = 1ul << shift;
            return (entry & ~address) | ((entry & address) + (va & (size - 1) & ~0xffful));
        }
    }
    return 0;
}

static uint64_t target(uint64_t va) { return leaf(va) & 0x000ffffffffff000ul; }

Test(loader_tables, frames_are_counted_exactly) { cr_assert_eq(plan.next, plan.end); }

Test(loader_tables, kernel_pages_have_their_segments_rights)
{
    for (uint64_t i = 0; i < kernel.pages; i++) {
        uint64_t va = KERNEL_BASE + i * PAGE_SIZE, entry = leaf(va);
        if (kernel.rights[i] == 0) {
            cr_assert_eq(entry, 0, "hole %lu is mapped", i);
            continue;
        }
        cr_assert_eq(target(va), plan.kernel_paddr + i * PAGE_SIZE);
        cr_assert_eq(!!(entry & WRITABLE), !!(kernel.rights[i] & RIGHT_WRITE));
        cr_assert_eq(!(entry & NO_EXEC), !!(kernel.rights[i] & RIGHT_EXECUTE));
    }
    cr_assert_eq(leaf(KERNEL_BASE + kernel.pages * PAGE_SIZE), 0, "mapped past the end");
}

Test(loader_tables, direct_map_is_complete_and_never_executable)
{
    for (uint64_t pa = 0; pa < 4 * GIB; pa += LARGE / 2) {
        cr_assert_eq(target(DIRECT_MAP + pa), pa);
        cr_assert(leaf(DIRECT_MAP + pa) & NO_EXEC);
        cr_assert_eq(leaf(DIRECT_MAP + pa) & UNCACHED, below_256_mib(NULL, pa) ? 0 : UNCACHED);
    }
    cr_assert_eq(leaf(DIRECT_MAP + 4 * GIB), 0);
}

Test(loader_tables, direct_map_shows_text_and_rodata_read_only)
{
    for (uint64_t i = 0; i < 512; i++) {
        uint64_t entry = leaf(DIRECT_MAP + plan.kernel_paddr + i * PAGE_SIZE);
        bool constant = i < 3;
        cr_assert_eq(!(entry & WRITABLE), constant, "page %lu", i);
    }
}

Test(loader_tables, one_page_is_identity_mapped_to_run_from)
{
    uint64_t entry = leaf(plan.identity_page);
    cr_assert_eq(target(plan.identity_page), plan.identity_page);
    cr_assert_not(entry & WRITABLE);
    cr_assert_not(entry & NO_EXEC);
    cr_assert_eq(leaf(plan.identity_page + PAGE_SIZE), 0);
}
