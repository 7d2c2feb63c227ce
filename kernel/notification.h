/* SPDX-License-Identifier: BSD-2-Clause
 * Notifications: 64 bits, set by signals, taken by one waiter. A thread may wait on it alone (wait) or
 * bind it, so that its recv also returns the bits. Sources (timers, interrupts, child events) hold a
 * struct source; destroying the notification, or the capability that a source was made with, unhooks it. */
#ifndef COPPICE_KERNEL_NOTIFICATION_H
#define COPPICE_KERNEL_NOTIFICATION_H

#include "object.h"

struct thread;
struct notification {
    struct object object;
    uint64_t bits;
    struct thread *bound;
    struct capability *bound_via; /* what it was bound with */
    struct list waiters;          /* threads in wait */
    struct list sources;          /* struct source.link */
};
struct source { /* something in the kernel that signals */
    struct list link;
    struct notification *notification; /* NULL: none */
    uint64_t bits;
    struct capability *via; /* what it was set with: it ends with that; NULL: the kernel's own */
};

status_t notification_create(struct process *owner, tag_t tag, struct notification **out) MUST_USE;
void notification_destroy(struct notification *n);
void notification_signal(struct notification *n, uint64_t bits);
/* The same, but whom it wakes is left to the caller: thread_ready or sched_wake. NULL: nobody. */
struct thread *notification_wake(struct notification *n, uint64_t bits) MUST_USE;
void notification_wait(struct notification *n, struct thread *t); /* takes the bits or blocks */
void notification_bind(struct notification *n, struct thread *t); /* n NULL: unbinds */
void source_init(struct source *s);
void source_set(struct source *s, struct notification *n, uint64_t bits);
void source_signal(struct source *s);
/* A capability of n ends: whatever signals or is bound by it ends too. */
void notification_revoke(struct notification *n, const struct capability *via);

#endif
