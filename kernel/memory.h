/* SPDX-License-Identifier: BSD-2-Clause
 * Memory objects and the mappings of them into address spaces. RAM is zeroed, charged to the owner, and
 * scattered unless asked to be contiguous; device memory is a physical range that no RAM backs.
 * Destroying a memory object removes every mapping of it; a mapping never outlives its process. */
#ifndef COPPICE_KERNEL_MEMORY_H
#define COPPICE_KERNEL_MEMORY_H

#include "object.h"
#include "../abi/syscall.h"

#define MEMORY_IMMUTABLE 8u  /* the system image: text is mapped from it, never copied */
#define MEMORY_KERNEL    16u /* frames belong to the kernel for ever (image, trace rings) */
#define MEMORY_IMAGE     32u /* writable pages of a program's image, and its stack */
#define MEMORY_FRAMES    9u
#define MEMORY_INDEX     (PAGE_SIZE / sizeof(uint32_t)) /* frame numbers in an index page */

struct memory {
    struct object object;
    uint64_t pages;
    uint32_t flags;
    struct list mappings;          /* struct mapping.of_memory */
    struct list dma_mappings;      /* struct dma_mapping.of_memory */
    uint32_t writers, executers;   /* of the mappings: one of the two is 0 */
    paddr_t base;                  /* contiguous */
    struct memory *saved;          /* snapshot.h: its pages as they were; NULL: not covered */
    uint32_t frame[MEMORY_FRAMES]; /* scattered: frame numbers, or index pages if pages > MEMORY_FRAMES */
};

struct mapping {
    struct list of_process, of_memory;
    struct process *process;
    struct memory *memory;
    struct mapping **via,
        *via_next; /* in capability.mappings of what it was made with; NULL: the kernel's own */
    vaddr_t start;
    uint64_t pages, offset; /* offset in pages of the memory */
    uint32_t prot;          /* RIGHT_READ | RIGHT_WRITE | RIGHT_EXECUTE */
};

status_t memory_create(struct process *owner, uint64_t pages, uint32_t flags, struct memory **out) MUST_USE;
/* Memory that the kernel already has or that is a device; nothing is charged but the cell. */
status_t memory_create_range(struct process *owner, paddr_t base, uint64_t pages, uint32_t flags,
                             struct memory **out) MUST_USE;
paddr_t memory_frame(const struct memory *m, uint64_t page);
uint64_t memory_cost(uint64_t pages); /* of scattered memory: what create needs of a quota at most */
void memory_destroy(struct memory *m);

status_t mapping_create(struct process *p, struct memory *m, vaddr_t start, uint64_t offset, uint64_t pages,
                        uint32_t prot) MUST_USE;
struct mapping *mapping_find(struct process *p, vaddr_t at);    /* NULL: not mapped */
void mapping_destroy(struct mapping *map);                      /* and unmaps the pages */
void mapping_bind(struct mapping *map, struct capability *via); /* it ends with this capability */
void mapping_forget_all(struct process *p);                     /* the address space itself is about to go */

/* Copies between the kernel and a process through its mappings, never through user addresses.
 * E_ADDRESS names nothing written. */
status_t user_read(struct process *p, void *to, vaddr_t from, uint64_t length) MUST_USE;
status_t user_write(struct process *p, vaddr_t to, const void *from, uint64_t length) MUST_USE;
/* A kernel pointer to length bytes inside one page, or NULL. */
void *user_pointer(struct process *p, vaddr_t at, uint64_t length, uint32_t prot);

#endif
