/* SPDX-License-Identifier: BSD-2-Clause
 * Between driver.c and driver_block.c: the requests of block sessions. */
#ifndef COPPICE_LIB_DRIVER_BLOCK_H
#define COPPICE_LIB_DRIVER_BLOCK_H

#include "driver.h"

/* A session in hand: offers all that is pending, reports all that is completed. Returns requests issued. */
uint32_t block_replay(struct driver *d, struct driver_session *s);
/* Offers what the client announced and, if there may be room now, what was deferred. Returns whether there
 * was anything. */
bool block_serve(struct driver *d, struct driver_session *s, bool room);
/* Somebody rang and left no hint: recovery asks, or a hint was lost. Looks at every slot, so that a hint is
 * never needed. Returns whether there was anything. */
bool block_look(struct driver *d, struct driver_session *s);
/* Makes completions visible to the client. */
void block_report(struct driver_session *s);

#endif
