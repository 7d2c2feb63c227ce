/* SPDX-License-Identifier: BSD-2-Clause
 * Snapshots: what a kept process's own memory and registers were at its last request boundary, so that it goes on from
 * there when it is started after a fall (docs/decisions/0022-snapshots.md).
 * Covered is memory that the process pays for, maps writable once, and that nobody else maps and no device reaches:
 * its data, its stack, what it made for itself. The copies' frames are charged when the snapshot is asked for, so
 * that neither a write nor going back can fail; a page is copied when it is first written after the snapshot.
 * Invariant: of covered memory a page is mapped writable exactly if it was copied since the snapshot.
 * Handles, kernel objects, signals and shared memory stay as they are. */
#ifndef COPPICE_KERNEL_SNAPSHOT_H
#define COPPICE_KERNEL_SNAPSHOT_H

#include "process.h"

/* Makes room for copies of all that is covered. E_STATE: the process is not kept, or has several threads, saved
 * replies or hardware, none of which can go back; E_QUOTA: the copies cannot be paid. */
status_t snapshot_prepare(struct process *p) MUST_USE;
/* Needs prepare. t: its thread, in a system call that receives; what it goes on with is recv. */
void snapshot_take(struct thread *t);
/* Somebody is about to write this page of covered memory (map->memory->saved). */
void snapshot_touch(struct mapping *map, uint64_t page);
/* The running thread was not allowed to write at an address; true: now it is. Another CPU may have seen to that while
 * this one waited for the kernel. */
bool snapshot_fault(struct process *p, vaddr_t at);
/* Its memory and t, its new thread, are what they were. */
void snapshot_restore(struct process *p, struct thread *t);
void snapshot_share(struct memory *m);   /* is about to be mapped once more: is covered no longer */
void snapshot_release(struct memory *m); /* the copies of memory that is mapped no longer */

#endif
