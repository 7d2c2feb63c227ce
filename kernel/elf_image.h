/* SPDX-License-Identifier: BSD-2-Clause
 * Reads an ELF64 executable (System V ABI, ch. 4 and 5; x86-64 psABI). Pure: no state, every field is
 * checked against the file's length and against what a process may map. */
#ifndef COPPICE_KERNEL_ELF_IMAGE_H
#define COPPICE_KERNEL_ELF_IMAGE_H

#include "../abi/types.h"
#include "../abi/status.h"

#define ELF_SEGMENTS_MAX 8u
struct elf_segment {
    uint64_t vaddr, memory_bytes; /* vaddr may be inside a page */
    uint64_t offset, file_bytes;  /* offset = vaddr modulo PAGE_SIZE */
    uint32_t prot;                /* RIGHT_* */
};
struct elf_image {
    uint64_t entry;
    uint32_t segments;
    struct elf_segment segment[ELF_SEGMENTS_MAX]; /* ascending, on disjoint pages */
};
/* E_IMAGE if anything is malformed, writable and executable, or outside [USER_IMAGE_BASE, USER_DYNAMIC). */
status_t elf_parse(const uint8_t *file, uint64_t length, struct elf_image *out) MUST_USE;

#endif
