/* SPDX-License-Identifier: BSD-2-Clause
 * Random bits turned in the memory of a service that goes on running (flips.c). */
#ifndef COPPICE_INJECTOR_FLIPS_H
#define COPPICE_INJECTOR_FLIPS_H

#include "lib/runtime.h"

enum flip_area { FLIP_DATA, FLIP_HEAP, FLIP_STACK, FLIP_TEXT, FLIP_AREAS };
struct flips {
    const char *service;
    struct {
        uint64_t base, bytes;
    } area[FLIP_AREAS];
    uint64_t count, gap_us, seed;
    uint64_t
        cells_pct; /* of 100 flips of data, heap and stack: as a memory cell turns, in its snapshot as well */
};
void flips_run(handle_t inject, const struct flips *f);

#endif
