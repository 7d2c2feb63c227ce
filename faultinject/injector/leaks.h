/* SPDX-License-Identifier: BSD-2-Clause
 * Many kills, everything counted after each (leaks.c). */
#ifndef COPPICE_INJECTOR_LEAKS_H
#define COPPICE_INJECTOR_LEAKS_H

#include "lib/runtime.h"

void leaks_run(handle_t inject, uint64_t uncounted, uint64_t kills, uint64_t seed);

/* main.c */
void sleep_us(uint64_t us);
bool settle(void); /* false: the system does not come to rest */
/* Has a server that only answers calls execute something. */
void press(const char *service);

#endif
