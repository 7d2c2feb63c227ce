/* SPDX-License-Identifier: BSD-2-Clause
 * The loader's parts. verify.c and ranges.c and tables.c are pure (no firmware calls): the same
 * code runs in unit tests. main.c, files.c and memory.c talk to the firmware; enter.S is the last
 * code to run. */
#ifndef COPPICE_EFI_LOADER_H
#define COPPICE_EFI_LOADER_H

#include "abi/handoff.h"
#include "abi/status.h"

/* What the build put into this loader: the only two files it accepts. Generated (tools/mkimage.py).
 */
struct expected_file {
    uint64_t bytes;
    uint8_t sha256[32];
};
extern const struct expected_file expected_kernel, expected_image;

/* --- verify.c: each returns NULL, or what is wrong in a few words
 * ------------------------------------ */
const char *verify_kernel(const void *file, uint64_t bytes, const struct expected_file *expected);
const char *verify_image(const void *file, uint64_t bytes, const struct expected_file *expected);
bool digest_matches(const void *data, uint64_t bytes, const uint8_t sha256[32]);

/* A verified kernel, as it is to lie in memory. Rights of each page: RIGHT_READ/WRITE/EXECUTE. */
#define KERNEL_PAGES_MAX \
    512 /* 2 MiB: one page table, and twice the size that would be a failure \
                              */
struct kernel_layout {
    uint64_t entry, pages;
    uint8_t rights[KERNEL_PAGES_MAX];
};
/* Only for a file that verify_kernel accepted. */
void kernel_layout(const void *file, struct kernel_layout *layout);
void kernel_place(const void *file, void *memory); /* copies segments, zeroes the rest */

/* --- ranges.c: the memory map as a sorted list of coalesced ranges
 * ------------------------------------ */
struct ranges {
    uint32_t count;
    bool overflow; /* more than HANDOFF_RANGES were needed: the list is useless */
    struct handoff_range *range;
};
/* [base, base+pages) is of this kind from now, whatever it was before. */
void ranges_paint(struct ranges *r, uint64_t base, uint64_t pages, uint32_t kind);

/* --- tables.c: the kernel's first page tables
 * ----------------------------------------------------------- */
struct table_plan {
    uint64_t next, end;        /* physical run of zeroed frames that tables are taken from */
    uint64_t direct_map_bytes; /* a multiple of 1 GiB */
    uint64_t kernel_paddr;     /* 2 MiB-aligned */
    const struct kernel_layout *kernel;
    uint64_t identity_page;                        /* the page that enter.S runs from */
    bool (*cached)(void *context, uint64_t paddr); /* has this 2 MiB page any RAM? */
    void *context;
};
uint64_t tables_frames(uint64_t direct_map_bytes); /* how many frames tables_build takes */
uint64_t tables_build(struct table_plan *plan);    /* returns the PML4's physical address */

/* --- enter.S
 * --------------------------------------------------------------------------------------------- */
/* Position-independent code between these two, copied to the identity-mapped page and called there.
 */
extern const uint8_t enter_code[], enter_code_end[];
typedef void enter_fn(uint64_t page_table, uint64_t stack_top, uint64_t handoff, uint64_t entry);

#endif
