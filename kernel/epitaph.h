/* SPDX-License-Identifier: BSD-2-Clause
 * The epitaph (abi/epitaph.h): what the last kernel said when it panicked, and what this one will say. */
#ifndef COPPICE_KERNEL_EPITAPH_H
#define COPPICE_KERNEL_EPITAPH_H

#include "../abi/epitaph.h"

void epitaph_init(struct epitaph *at); /* NULL: none. Prints and forgets what is there. */
void epitaph_begin(void);              /* every line of the log from now on */
void epitaph_add(const char *text, size_t bytes);

#endif
