/* SPDX-License-Identifier: BSD-2-Clause
 * What a driver gone mad may write into what it shares with others: ledgers, hints, device rings, handles; and what
 * a stray write would do to its checkpoint in recovery's memory. One kind a fault of the family "protocol"
 * (faultinject/faults.py). */
#ifndef COPPICE_INJECTOR_CORRUPT_H
#define COPPICE_INJECTOR_CORRUPT_H

#include "view.h"

#define CHECKPOINT_MAGIC 0x31544b4843504f43ul /* recovery/core.h; a test compares */

bool corrupt_known(const char *kind);
/* at: what the kind needs to know of the program (the address of its device queue). E_NOT_FOUND: nothing to spoil at this
 * moment. */
status_t corrupt(const char *kind, struct view *v, uint64_t seed, uint64_t at, uint32_t *poked,
                 uint32_t *in_flight) MUST_USE;
/* Spoils the latest checkpoint of a service in recovery's memory. */
status_t corrupt_checkpoint(handle_t inject, handle_t recovery, uint32_t service, uint64_t seed,
                            uint32_t *poked) MUST_USE;

#endif
