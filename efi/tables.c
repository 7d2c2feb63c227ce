/* SPDX-License-Identifier: BSD-2-Clause
 * The page tables the kernel starts on (layout: abi/handoff.h). Bits: Intel SDM vol. 3A, tables
 * 4-15 to 4-20. Invariants: no page is writable and executable, in either of its mappings; what the
 * direct map shows of the kernel's text and rodata is read-only; everything but text and enter.S is
 * NX. */
#include "loader.h"

#define PRESENT    1ul
#define WRITABLE   2ul
#define UNCACHED   (8ul | 16ul) /* PWT, PCD: PAT entry 3, strong uncacheable at reset and under UEFI */
#define LARGE      (1ul << 7)
#define GLOBAL     (1ul << 8)
#define NO_EXEC    (1ul << 63)
#define LARGE_PAGE (2ul << 20)
#define GIB        (1ul << 30)

/* PML4, one PDPT each for direct map, kernel and identity page, with PDs and PTs below, and one PT
 * that splits the direct map over the kernel. */
uint64_t tables_frames(uint64_t direct_map_bytes)
{
    uint64_t direct_pdpts = (direct_map_bytes + 512 * GIB - 1) / (512 * GIB);
    return 1 + direct_pdpts + direct_map_bytes / GIB + 1 /* split */ + 3 /* kernel */ + 3 /* identity */;
}

static uint64_t *table_of(uint64_t entry) { return (uint64_t *)(entry & 0x000ffffffffff000ul); }

/* The entry for va in a table of this level (4 = PML4 ... 1 = PT), with tables on the way made. */
static uint64_t *table_walk(struct table_plan *p, uint64_t pml4, uint64_t va, int level)
{
    uint64_t *table = table_of(pml4);
    for (int at = 4;; at--) {
        uint64_t *entry = &table[(va >> (3 + 9 * at)) & 511];
        if (at == level) return entry;
        if (!(*entry & PRESENT)) {
            *entry = p->next | PRESENT | WRITABLE; /* rights are decided by leaves */
            p->next += PAGE_SIZE;
        }
        table = table_of(*entry);
    }
}

/* Direct map of the kernel's own 2 MiB: by 4 KiB, so that text and rodata have no writable alias.
 */
static void map_kernel_alias(struct table_plan *p, uint64_t pml4)
{
    for (uint64_t i = 0; i < 512; i++) {
        bool owned = i < p->kernel->pages && p->kernel->rights[i] != 0;
        bool writable = !owned || (p->kernel->rights[i] & RIGHT_WRITE);
        uint64_t pa = p->kernel_paddr + i * PAGE_SIZE;
        *table_walk(p, pml4, DIRECT_MAP + pa, 1) =
            pa | PRESENT | GLOBAL | NO_EXEC | (writable ? WRITABLE : 0);
    }
}

static void map_direct(struct table_plan *p, uint64_t pml4)
{
    for (uint64_t pa = 0; pa < p->direct_map_bytes; pa += LARGE_PAGE) {
        if (pa == p->kernel_paddr) {
            map_kernel_alias(p, pml4);
            continue;
        }
        uint64_t cache = p->cached(p->context, pa) ? 0 : UNCACHED;
        *table_walk(p, pml4, DIRECT_MAP + pa, 2) = pa | PRESENT | WRITABLE | LARGE | GLOBAL | NO_EXEC | cache;
    }
}

static void map_kernel(struct table_plan *p, uint64_t pml4)
{
    for (uint64_t i = 0; i < p->kernel->pages; i++) {
        uint8_t rights = p->kernel->rights[i];
        if (!rights) continue; /* a hole between segments stays a hole */
        uint64_t bits = PRESENT | GLOBAL;
        if (rights & RIGHT_WRITE) bits |= WRITABLE;
        if (!(rights & RIGHT_EXECUTE)) bits |= NO_EXEC;
        *table_walk(p, pml4, KERNEL_BASE + i * PAGE_SIZE, 1) = (p->kernel_paddr + i * PAGE_SIZE) | bits;
    }
}

uint64_t tables_build(struct table_plan *p)
{
    uint64_t pml4 = p->next;
    p->next += PAGE_SIZE;
    map_direct(p, pml4);
    map_kernel(p, pml4);
    *table_walk(p, pml4, p->identity_page, 1) = p->identity_page | PRESENT; /* read and execute */
    return pml4;
}
