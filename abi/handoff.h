/* SPDX-License-Identifier: BSD-2-Clause
 * What the loader hands to the kernel in rdi: a direct-map pointer, valid until the kernel has copied
 * it. Interrupts off, paging on with the tables described here, stack of at least 16 KiB. */
#ifndef COPPICE_ABI_HANDOFF_H
#define COPPICE_ABI_HANDOFF_H

#include "types.h"

#define HANDOFF_MAGIC   0x464f444e41484f43ul /* "COHANDOF" */
#define HANDOFF_VERSION 2
#define HANDOFF_RANGES  256

/* The kernel is an ELF64 ET_EXEC linked at KERNEL_BASE; p_paddr is ignored, the loader places it in one
 * physically contiguous 2 MiB-aligned run, mapped with 4 KiB pages by segment rights (W^X, NX).
 * DIRECT_MAP maps [0, direct_map_bytes) physical, NX; read-only over the kernel's text and rodata;
 * uncached (PCD|PWT) where the memory map has no RAM; write-back elsewhere. Covers at least 4 GiB.
 * PML4 entry 0 maps one page, read and execute, that the loader left from: the kernel clears it. */
#define KERNEL_BASE 0xffffffff80000000ul
#define DIRECT_MAP  0xffff800000000000ul

enum range_kind {
    RANGE_FREE,
    RANGE_KERNEL,
    RANGE_BOOT /* tables, handoff, kernel file, image */,
    RANGE_ACPI,
    RANGE_RESERVED
};
struct handoff_range { /* sorted by base, not overlapping; RAM only (no MMIO except as RESERVED) */
    uint64_t base, pages;
    uint32_t kind, reserved;
};

struct handoff {
    uint64_t magic;
    uint32_t version, size; /* sizeof(struct handoff) */
    uint64_t loader_tsc;    /* TSC at efi_main's first instruction */
    uint64_t rsdp;          /* physical address of the ACPI RSDP */
    uint64_t page_table;    /* physical address of the PML4 */
    uint64_t direct_map_bytes;
    uint64_t kernel_paddr, kernel_pages;           /* the placed segments */
    uint64_t kernel_file_paddr, kernel_file_bytes; /* the whole ELF file, for its symbol table */
    uint64_t image_paddr, image_bytes;             /* the system image, page-aligned */
    uint64_t epitaph_paddr;                        /* abi/epitaph.h; 0: this machine has no place for one */
    uint8_t kernel_sha256[32], image_sha256[32];
    uint32_t range_count, reserved;
    struct handoff_range range[HANDOFF_RANGES];
};

#endif
