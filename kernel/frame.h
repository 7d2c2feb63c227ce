/* SPDX-License-Identifier: BSD-2-Clause
 * Physical memory in pages. Owns the bitmap of free frames and every process's account: a frame is
 * always charged to one process (NULL: the kernel), and quotas are handed down from parent to child, so
 * that the sum of all quotas never exceeds the machine and a covered single-frame request cannot fail. */
#ifndef COPPICE_KERNEL_FRAME_H
#define COPPICE_KERNEL_FRAME_H

#include "../abi/handoff.h"
#include "../abi/status.h"

struct process;

void frame_init(const struct handoff *handoff);
/* One zeroed frame; v == 0 if the owner's quota does not cover it. */
paddr_t frame_alloc(struct process *owner);
void frame_free(struct process *owner, paddr_t frame);
/* A zeroed physically contiguous run. E_QUOTA, E_NO_MEMORY. */
status_t frame_alloc_run(struct process *owner, uint64_t pages, paddr_t *out) MUST_USE;
void frame_free_run(struct process *owner, paddr_t base, uint64_t pages);
uint64_t frame_total(void); /* frames the kernel manages */
uint64_t frame_available(void);
bool frame_is_ram(paddr_t p, uint64_t pages); /* any of them is RAM known to the firmware's map */

#endif
