/* SPDX-License-Identifier: BSD-2-Clause
 * The verdict of core_growth.h. */
#include "core_growth.h"

bool growth_look(struct growth *g, uint32_t generation, uint64_t used_pages, uint64_t quota_pages,
                 uint32_t warn_pct)
{
    bool near = used_pages * 100 >= quota_pages * warn_pct;

    if (g->generation != generation) *g = (struct growth){.generation = generation};
    if (!near) {
        g->was_below = true;
        g->looks = 0;
        return false;
    }
    return warn_pct != 0 && g->was_below && ++g->looks >= GROWTH_LOOKS;
}
