/* SPDX-License-Identifier: BSD-2-Clause
 * Many kills, everything counted after each (leaks.c). */
#ifndef COPPICE_INJECTOR_LEAKS_H
#define COPPICE_INJECTOR_LEAKS_H

#include "lib/runtime.h"

void leaks_run(handle_t inject, uint64_t uncounted, uint64_t kills, uint64_t seed);

#endif
