/* SPDX-License-Identifier: BSD-2-Clause
 * Does a service leak? Pure. Its memory in use, kernel objects included, is looked at when it has become ready and
 * then once a period. It is believed to leak when it was below the mark of its manifest, and has since been above it
 * at GROWTH_LOOKS looks in a row. What is as large as that from the start is meant to be; what comes back under the
 * mark in between frees what it takes. */
#ifndef COPPICE_SUPERVISOR_CORE_GROWTH_H
#define COPPICE_SUPERVISOR_CORE_GROWTH_H

#include "abi/types.h"

#define GROWTH_LOOKS     3u
#define GROWTH_PERIOD_NS 1000000000ull

struct growth {
    uint32_t generation; /* that was looked at last */
    uint32_t looks;      /* above the mark, in a row */
    bool was_below;      /* this generation, at some look */
};
/* warn_pct: the mark, in percent of the quota; 0: none. */
bool growth_look(struct growth *g, uint32_t generation, uint64_t used_pages, uint64_t quota_pages,
                 uint32_t warn_pct);

#endif
