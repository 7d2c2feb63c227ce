/* SPDX-License-Identifier: BSD-2-Clause
 * Strikes by a changed program. */
#ifndef COPPICE_INJECTOR_CHANGES_H
#define COPPICE_INJECTOR_CHANGES_H

#include "strike.h"

/* Tries t->site in turn; o: whether one was executed, and which. */
void changes_run(handle_t inject, handle_t process, struct trial *t, struct outcome *o);

#endif
