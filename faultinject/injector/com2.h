/* SPDX-License-Identifier: BSD-2-Clause
 * The line orders come in on: the second 16550, driven by the injector itself because no driver that it
 * may kill can stand between it and the host. Input only: answers go to the kernel log. */
#ifndef COPPICE_INJECTOR_COM2_H
#define COPPICE_INJECTOR_COM2_H

#include "lib/runtime.h"

#define COM2_LINE_MAX 1024u

/* The interrupt signals `bits` on the notification. */
status_t com2_open(handle_t notification, uint64_t bits) MUST_USE;
/* Takes what has arrived, for com2_line to find. */
void com2_pull(void);
/* A whole line has arrived: copied without its end. False: not yet; the interrupt is armed again.
 * *cut: the line was longer than COM2_LINE_MAX and is refused. */
bool com2_line(char line[COM2_LINE_MAX], bool *cut);

#endif
