/* SPDX-License-Identifier: BSD-2-Clause
 * Waiting, without missing an order that arrives meanwhile. */
#ifndef COPPICE_INJECTOR_CLOCK_H
#define COPPICE_INJECTOR_CLOCK_H

#include "lib/runtime.h"

#define BIT_LINE  1ul
#define BIT_TIMER 2ul

status_t clock_open(handle_t *notification) MUST_USE; /* that lines and the timer signal */
void sleep_us(uint64_t us);
/* Takes what the host sends meanwhile, the next order, so that it need not be waited for. Never between a strike and the
 * end of its recovery. */
void sleep_listening_us(uint64_t us);
bool lines_take(void); /* BIT_LINE came while we slept */
static inline bool before(uint64_t deadline_ns) { return clock_ns() < deadline_ns; }
static inline uint64_t in_ms(uint64_t ms) { return clock_ns() + ms * 1000000; }

#endif
