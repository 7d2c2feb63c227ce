/* SPDX-License-Identifier: BSD-2-Clause
 * Notifications and what signals them. */
#include "notification.h"
#include "process.h"
#include "sched.h"
#include "trace.h"
#include "print.h"

status_t notification_create(struct process *owner, tag_t tag, struct notification **out)
{
    struct notification *n = cell_alloc(owner);
    if (!n) return E_QUOTA;
    object_init(&n->object, OBJECT_NOTIFICATION, owner, tag);
    list_init(&n->waiters);
    list_init(&n->sources);
    *out = n;
    return OK;
}

/* Gives the bits to a thread blocked in wait or recv. */
static struct thread *notification_hand_over(struct notification *n, struct thread *t, bool bound)
{
    t->context.status = OK;
    if (bound) {
        t->context.handle = n->bits;
        t->context.info = INFO_SIGNAL;
    } else {
        t->context.w[0] = n->bits;
    }
    n->bits = 0;
    return t;
}

struct thread *notification_wake(struct notification *n, uint64_t bits)
{
    n->bits |= bits;
    if (!n->bits) return NULL;
    if (!list_empty(&n->waiters))
        return notification_hand_over(n, container_of(n->waiters.next, struct thread, queue), false);
    return n->bound && n->bound->state == THREAD_RECV ? notification_hand_over(n, n->bound, true) : NULL;
}

void notification_signal(struct notification *n, uint64_t bits)
{
    struct thread *t = notification_wake(n, bits);
    if (t) thread_ready(t);
}

void notification_wait(struct notification *n, struct thread *t)
{
    if (n->bits) {
        t->context.w[0] = n->bits;
        n->bits = 0;
        return;
    }
    thread_block(t, THREAD_WAIT);
    list_append(&n->waiters, &t->queue);
}

void notification_bind(struct notification *n, struct thread *t)
{
    if (t->bound) t->bound->bound = NULL;
    t->bound = n;
    if (n) n->bound = t;
}

static void notification_unbind(struct notification *n)
{
    struct thread *b = n->bound;
    if (!b) return;
    notification_bind(NULL, b);
    if (b->state == THREAD_RECV && !b->endpoint) { /* nothing else could wake it */
        b->context.status = E_PEER_GONE;
        thread_ready(b);
    }
}

void notification_revoke(struct notification *n, const struct capability *via)
{
    if (n->bound && n->bound_via == via) notification_unbind(n);
    list_each(struct source, s, &n->sources, link) if (s->via == via) source_set(s, NULL, 0);
}

void notification_destroy(struct notification *n)
{
    notification_unbind(n);
    list_each(struct thread, t, &n->waiters, queue)
    {
        t->context.status = E_PEER_GONE;
        thread_ready(t);
    }
    list_each(struct source, s, &n->sources, link) source_set(s, NULL, 0);
}

void source_init(struct source *s)
{
    list_init(&s->link);
    s->notification = NULL;
    s->bits = 0;
}

void source_set(struct source *s, struct notification *n, uint64_t bits)
{
    list_remove(&s->link);
    s->notification = n;
    s->bits = bits;
    s->via = NULL;
    if (n) list_append(&n->sources, &s->link);
}

void source_signal(struct source *s)
{
    if (s->notification) notification_signal(s->notification, s->bits);
}
