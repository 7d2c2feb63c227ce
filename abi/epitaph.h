/* SPDX-License-Identifier: BSD-2-Clause
 * The last words of a kernel that panicked, in memory that a warm reset leaves alone: written by the kernel, line by
 * line, found by the next boot's loader, which stores them on the volume that it came from, and printed by the next
 * kernel, which then forgets them. */
#ifndef COPPICE_ABI_EPITAPH_H
#define COPPICE_ABI_EPITAPH_H

#include "types.h"

/* Where the loader asks the firmware for it: free memory on every machine of 128 MiB or more, far from both ends,
 * where firmware works. Each boot finds the same place, or none. */
#define EPITAPH_PADDR 0x4000000ul
#define EPITAPH_PAGES 4ul
#define EPITAPH_MAGIC 0x4850415449504543ul /* "CEPITAPH" */

struct epitaph {
    uint64_t magic; /* set by the first line */
    uint64_t sum;   /* of text[0..bytes); memory that was without power says something else */
    uint32_t bytes;
    uint32_t stored; /* the loader has written it to disk */
    char text[EPITAPH_PAGES * PAGE_SIZE - 24];
};
_Static_assert(sizeof(struct epitaph) == EPITAPH_PAGES * PAGE_SIZE, "an epitaph fills its pages");

#define EPITAPH_SUM_START 0xcbf29ce484222325ul /* FNV-1a */
static inline uint64_t epitaph_sum(uint64_t sum, const char *text, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i++) sum = (sum ^ (uint8_t)text[i]) * 0x100000001b3ul;
    return sum;
}

static inline bool epitaph_good(const struct epitaph *e)
{
    return e->magic == EPITAPH_MAGIC && e->bytes > 0 && e->bytes <= sizeof(e->text) &&
           epitaph_sum(EPITAPH_SUM_START, e->text, e->bytes) == e->sum;
}

#endif
