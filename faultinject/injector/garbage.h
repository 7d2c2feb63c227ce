/* SPDX-License-Identifier: BSD-2-Clause
 * The garbage-reply fault: nonsense in the completion area of a block driver's session, as a driver gone
 * mad would write it. What passes for a well-formed completion that never happened is out of scope: nobody
 * but the device could tell. */
#ifndef COPPICE_INJECTOR_GARBAGE_H
#define COPPICE_INJECTOR_GARBAGE_H

#include "lib/runtime.h"

struct garbage {
    uint32_t poked;     /* words written */
    uint32_t in_flight; /* requests that the device had, as the ledger said before */
};

/* Finds the ledger in the process and, if at least `least` requests are in flight there, spoils it as
 * `seed` says. E_NOT_FOUND: no ledger with so many in flight at this moment. */
status_t garbage_strike(handle_t inject, handle_t process, uint32_t generation, uint64_t seed, uint32_t least,
                        struct garbage *out) MUST_USE;

#endif
