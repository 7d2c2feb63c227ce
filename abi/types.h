/* SPDX-License-Identifier: BSD-2-Clause
 * Scalar types and constants that kernel, loader, processes and host tools share.
 * Owns nothing; depends on nothing but the freestanding headers. */
#ifndef COPPICE_ABI_TYPES_H
#define COPPICE_ABI_TYPES_H

#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>

#define PAGE_SIZE  4096ul
#define PAGE_SHIFT 12

/* One-field structs: mixing address kinds does not compile. */
typedef struct {
    uint64_t v;
} paddr_t; /* physical address */
typedef struct {
    uint64_t v;
} vaddr_t; /* user virtual address: never dereferenced by the kernel */
typedef struct {
    uint64_t v;
} iova_t; /* address as a device sees it, valid in one DMA domain */

/* A handle names a capability of the calling process only: bits 0..15 are the slot, bits 16..63 the
 * slot's generation, which grows at each reuse, so a stale handle never names a new object. 0 is
 * never valid. */
typedef uint64_t handle_t;
#define HANDLE_INDEX(h)         ((uint32_t)((h)&0xffff))
#define HANDLE_GENERATION(h)    ((uint64_t)(h) >> 16)
#define HANDLE_MAKE(index, gen) (((uint64_t)(gen) << 16) | (uint64_t)(index))

/* A tag names one incarnation of one service in traces and badges: bits 0..11 the service's index in
 * the manifest, bits 12..31 its generation (1 for the first start). */
typedef uint32_t tag_t;
#define TAG_MAKE(service, gen) ((tag_t)(((uint32_t)(gen) << 12) | ((uint32_t)(service)&0xfff)))
#define TAG_SERVICE(tag)       ((uint32_t)(tag)&0xfff)
#define TAG_GENERATION(tag)    ((uint32_t)(tag) >> 12)

/* Layout of a process's address space. ELF images are linked at USER_IMAGE_BASE. All that a small process has
 * lies within 2 MiB, so that one page table maps it: the runtime places its mappings behind its image. */
#define USER_BASE       0x0000000000010000ul /* lowest mappable address */
#define USER_STARTUP    0x0000000000400000ul /* the read-only struct startup */
#define USER_KEPT       0x0000000000402000ul /* what a kept process finds again: 6 pages, then GADGET_BASE */
#define USER_STACK_TOP  0x0000000000420000ul /* first thread's stack ends here; guard page below it */
#define USER_IMAGE_BASE 0x0000000000420000ul
#define USER_DYNAMIC    0x0000000040000000ul /* no image reaches as far */
#define USER_END        0x00007ffffffff000ul /* first address that no process may map */

#define PAGES_FOR(bytes) (((uint64_t)(bytes) + PAGE_SIZE - 1) >> PAGE_SHIFT)

#endif
