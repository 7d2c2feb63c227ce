/* SPDX-License-Identifier: BSD-2-Clause
 * What a kept process (PROCESS_KEPT, abi/syscall.h) finds again after it fell: an area of its own at USER_KEPT, with
 * this head. Everything else that it had is there too (mappings, capabilities), but its variables are not: what
 * it wants to know of it, it keeps here. A fall can come at any instruction, so what is written here is either made
 * good by whoever starts on it, or becomes true by one store. */
#ifndef COPPICE_LIB_KEPT_H
#define COPPICE_LIB_KEPT_H

#include "runtime.h"

struct kept {
    uint64_t magic, bytes; /* both right: this program's */
    handle_t memory;
    uint64_t mapped; /* map_range's: addresses behind the image that were given out */
    uint64_t phase;  /* the program's own; 0: nothing is built that is worth keeping */
};

/* bytes: of the program's structure, whose first member is struct kept. Makes the area at the first start; later it is
 * as it was. E_STATE: it is there, and not this program's. */
status_t kept_open(uint64_t bytes, struct kept **out) MUST_USE;

/* Capabilities that nothing knows any more, because their owner fell before it wrote down that it had them: mark all
 * that are known, then sweep; the startup capabilities and the area's memory are known. stray: called for each other one, deletes it. */
void caps_mark(handle_t h);
void caps_sweep(void (*stray)(handle_t h));
/* Which there are now, to be marked later. */
#define KEPT_CAPS_WORDS 256
void caps_save(uint64_t saved[KEPT_CAPS_WORDS]);
void caps_mark_saved(const uint64_t saved[KEPT_CAPS_WORDS]);

#endif
