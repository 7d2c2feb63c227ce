/* SPDX-License-Identifier: BSD-2-Clause
 * A process's own copy of its program text: the system's copy is shared by all incarnations and never
 * written. The copy belongs to the injector and takes the place of the shared pages until text_drop, which
 * pulls it from under a process that still lives. */
#ifndef COPPICE_INJECTOR_TEXT_H
#define COPPICE_INJECTOR_TEXT_H

#include "lib/runtime.h"

#define TEXT_PAGES_MAX 16u
#define TEXT_SITE_MAX  15u /* bytes: the longest instruction */

/* start, pages: of the mapping. E_ARGUMENT: not a text of at most TEXT_PAGES_MAX pages. */
status_t text_own(handle_t inject, handle_t process, uint64_t start, uint64_t pages) MUST_USE;
void text_drop(void);
uint64_t text_address(const char *site); /* of what text_change would change */
/* "address:bytes", both in hexadecimal: writes the bytes there. *at: the address; *bytes: how many. */
status_t text_change(handle_t inject, handle_t process, const char *site, uint64_t *at,
                     uint32_t *bytes) MUST_USE;
status_t text_restore(handle_t inject, handle_t process, uint64_t at, uint32_t bytes) MUST_USE;

#endif
