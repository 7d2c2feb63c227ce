/* SPDX-License-Identifier: BSD-2-Clause
 * Snippets of code that a struck process is made to run. One page, position-dependent, mapped readable
 * and executable into the target at GADGET_BASE, where no process has anything of its own; the second half
 * of the page holds the snippet's parameters. */
#ifndef COPPICE_INJECTOR_GADGETS_H
#define COPPICE_INJECTOR_GADGETS_H

#include "lib/runtime.h"

/* Beside the startup page and the stack: mapping it needs no page table of its own. */
#define GADGET_BASE       0x408000ul
#define GADGET_PARAMETERS 4u
#define WINDOW            0x50000000ul /* where code is written, in this process, before the target has it */
_Static_assert(GADGET_BASE > USER_STARTUP && GADGET_BASE < USER_STACK_TOP - 0x10000, "in the gap");

/* Makes the page, in this process's memory; returns its handle in *out. */
status_t gadgets_make(const uint64_t parameter[GADGET_PARAMETERS], handle_t *out) MUST_USE;
/* Address in the target of the snippet of this name; 0: no such snippet. */
uint64_t gadget_address(const char *name);

#endif
