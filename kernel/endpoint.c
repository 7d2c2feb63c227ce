/* SPDX-License-Identifier: BSD-2-Clause
 * Endpoints and replies. A caller's registers stay as they were until it is answered; only then are they
 * overwritten. */
#include "endpoint.h"
#include "process.h"
#include "handover.h"
#include "trace.h"
#include "print.h"

status_t endpoint_create(struct process *owner, tag_t tag, struct endpoint **out)
{
    struct endpoint *e = cell_alloc(owner);
    if (!e) return E_QUOTA;
    object_init(&e->object, OBJECT_ENDPOINT, owner, tag);
    list_init(&e->senders);
    list_init(&e->receivers);
    list_init(&e->taken);
    list_init(&e->of_server);
    *out = e;
    return OK;
}

/* Copies the capabilities of a message; a full table gets 0 handles, never part of the words. */
static void message_grant(struct context *to, const struct context *from, struct process *receiver,
                          struct process *sender)
{
    uint32_t n = INFO_CAPS(from->info);
    for (uint32_t i = MESSAGE_WORDS - n; i < MESSAGE_WORDS; i++) {
        struct capability *c = cap_lookup(sender, from->w[i]);
        to->w[i] =
            c && (c->rights & RIGHT_GRANT) && cap_room(receiver) ? cap_derive(receiver, c, c->rights, 0) : 0;
    }
}

static inline void message_copy(struct context *to, const struct context *from, uint64_t info)
{
    to->status = OK;
    to->info = info;
#pragma GCC unroll 8
    for (uint32_t i = 0; i < MESSAGE_WORDS; i++) to->w[i] = from->w[i];
}

#define INFO_MESSAGE 0x7fffful /* label and capability count */

static inline void endpoint_deliver(struct endpoint *e, struct thread *caller, struct thread *server)
{
    uint64_t info = caller->context.info & INFO_MESSAGE;
    if (caller->replayed) info |= INFO_REPLAYED;
    message_copy(&server->context, &caller->context, info);
    server->context.handle = caller->badge;
    if (INFO_CAPS(info)) message_grant(&server->context, &caller->context, server->process, caller->process);
    server->client = caller;
    caller->server = server;
    caller->state = THREAD_REPLY;
    list_append(&e->taken, &caller->queue);
    e->in_service++;
}

static void endpoint_serve(struct endpoint *e, struct process *p)
{
    if (e->server == p) return;
    list_remove(&e->of_server);
    e->server = p;
    list_append(&p->endpoints, &e->of_server);
}

/* The most urgent first, equals in the order they came: whoever floods an endpoint delays nobody above him.
 * A caller that goes back to the queue after its server's death stays at the head. */
static void sender_queue(struct endpoint *e, struct thread *caller)
{
    struct list *at = &e->senders;
    while (at->prev != &e->senders) {
        const struct thread *before = container_of(at->prev, struct thread, queue);
        if (before->replayed || before->priority >= caller->priority) break;
        at = at->prev;
    }
    list_append(at, &caller->queue);
    e->queued++;
}

void endpoint_call(struct endpoint *e, struct thread *caller, uint64_t badge)
{
    caller->badge = badge;
    caller->endpoint = e;
    caller->replayed = false;
    if (list_empty(&e->receivers)) {
        thread_block(caller, THREAD_SEND);
        sender_queue(e, caller);
        return;
    }
    struct thread *server = container_of(e->receivers.next, struct thread, queue);
    thread_block(caller, THREAD_REPLY);
    endpoint_deliver(e, caller, server);
    thread_ready(server);
}

void endpoint_recv(struct endpoint *e, struct thread *server)
{
    struct notification *n = server->bound;
    if (n && n->bits) {
        server->context.handle = n->bits;
        server->context.info = INFO_SIGNAL;
        server->context.status = OK;
        n->bits = 0;
        return;
    }
    if (e) endpoint_serve(e, server->process);
    if (e && !list_empty(&e->senders)) {
        struct thread *caller = container_of(e->senders.next, struct thread, queue);
        list_remove(&caller->queue);
        e->queued--;
        endpoint_deliver(e, caller, server);
        return;
    }
    server->endpoint = e;
    thread_block(server, THREAD_RECV);
    if (e) list_append(&e->receivers, &server->queue);
}

/* The call is over for the endpoint. */
static inline void caller_release(struct thread *caller)
{
    struct endpoint *e = caller->endpoint;
    e->in_service--;
    e->served++;
    list_remove(&caller->queue);
    caller->server = NULL;
    caller->reply = NULL;
    caller->endpoint = NULL;
}

static void caller_answer(struct thread *caller, const struct context *message, struct process *from)
{
    uint64_t info = message->info & INFO_MESSAGE;
    caller_release(caller);
    message_copy(&caller->context, message, info);
    if (INFO_CAPS(info)) message_grant(&caller->context, message, caller->process, from);
    thread_ready(caller);
}

status_t endpoint_reply(struct thread *server)
{
    struct thread *caller = server->client;
    if (!caller) return E_STATE;
    server->client = NULL;
    caller_answer(caller, &server->context, server->process);
    return OK;
}

status_t reply_save(struct thread *server, struct reply **out)
{
    if (!server->client) return E_STATE;
    struct reply *r = cell_alloc(server->process);
    if (!r) return E_QUOTA;
    object_init(&r->object, OBJECT_REPLY, server->process, server->client->process->object.tag);
    r->caller = server->client;
    r->caller->server = NULL;
    r->caller->reply = r;
    server->client = NULL;
    *out = r;
    return OK;
}

void reply_answer(struct reply *r, struct thread *server)
{
    struct thread *caller = r->caller;
    r->caller = NULL;
    if (caller) caller_answer(caller, &server->context, server->process);
}

/* --- The short way --------------------------------------------------------------------------------------- */

static inline struct capability *fast_endpoint(struct thread *t, uint32_t right)
{
    struct capability *k = cap_lookup(t->process, t->context.handle);
    return k && k->object->type == OBJECT_ENDPOINT && (k->rights & right) ? k : NULL;
}

struct context *endpoint_call_fast(struct thread *caller)
{
    struct capability *k = fast_endpoint(caller, RIGHT_WRITE);
    if (!k || INFO_CAPS(caller->context.info)) return syscall_dispatch(caller);
    struct endpoint *e = (struct endpoint *)k->object;
    if (list_empty(&e->receivers)) return syscall_dispatch(caller);
    struct thread *server = container_of(e->receivers.next, struct thread, queue);
    if (!sched_may_hand_over(server)) return syscall_dispatch(caller);
    list_remove(&server->queue);
    caller->badge = k->badge;
    caller->endpoint = e;
    caller->replayed = false;
    endpoint_deliver(e, caller, server);
    return sched_hand_over(caller, server, NULL);
}

struct context *endpoint_reply_recv_fast(struct thread *server)
{
    struct thread *caller = server->client;
    struct capability *k = fast_endpoint(server, RIGHT_READ);
    if (!k || !caller || INFO_CAPS(server->context.info) || !sched_may_hand_over(caller))
        return syscall_dispatch(server);
    struct endpoint *e = (struct endpoint *)k->object;
    if (!list_empty(&e->senders) || e->server != server->process || (server->bound && server->bound->bits))
        return syscall_dispatch(server);
    server->client = NULL;
    caller_release(caller);
    message_copy(&caller->context, &server->context, server->context.info & INFO_MESSAGE);
    server->endpoint = e;
    server->state = THREAD_RECV;
    list_append(&e->receivers, &server->queue);
    return sched_hand_over(server, caller, caller);
}

/* The server of a taken call is gone: the call waits for the next one, or fails. */
static void caller_orphaned(struct thread *caller)
{
    struct endpoint *e = caller->endpoint;
    e->in_service--;
    list_remove(&caller->queue);
    caller->server = NULL;
    caller->reply = NULL;
    /* Delivered once more by what was revoked meanwhile it is not. */
    if (!(caller->context.info & INFO_REPLAYABLE) || !cap_lookup(caller->process, caller->context.handle)) {
        trace_process(TRACE_PEER_RESTARTED, caller->process, caller->process->object.tag, e->object.tag);
        caller->endpoint = NULL;
        caller->context.status = E_PEER_RESTARTED;
        caller->context.w[0] = e->generation;
        thread_ready(caller);
        return;
    }
    trace_process(TRACE_CALL_REPLAYED, caller->process, caller->process->object.tag, e->object.tag);
    caller->replayed = true;
    if (!list_empty(&e->receivers)) {
        struct thread *server = container_of(e->receivers.next, struct thread, queue);
        endpoint_deliver(e, caller, server);
        thread_ready(server);
        return;
    }
    caller->state = THREAD_SEND;
    list_prepend(&e->senders, &caller->queue);
    e->queued++;
}

void reply_destroy(struct reply *r)
{
    if (r->caller) caller_orphaned(r->caller);
    r->caller = NULL;
}

void endpoint_abandon(struct thread *t)
{
    if (t->state == THREAD_SEND) t->endpoint->queued--;
    if (t->state == THREAD_REPLY) {
        t->endpoint->in_service--;
        if (t->server) t->server->client = NULL;
        if (t->reply) t->reply->caller = NULL;
    }
    list_remove(&t->queue);
    t->server = NULL;
    t->reply = NULL;
    t->endpoint = NULL;
    if (t->client) {
        struct thread *caller = t->client;
        t->client = NULL;
        caller_orphaned(caller);
    }
}

void endpoint_server_died(struct process *p)
{
    list_each(struct endpoint, e, &p->endpoints, of_server)
    {
        e->generation++;
        e->server = NULL;
        list_remove(&e->of_server);
    }
}

void endpoint_revoke(struct process *p, handle_t h)
{
    list_each(struct thread, t, &p->threads, of_process)
    {
        if (t->context.handle != h || t->state < THREAD_SEND || t->state == THREAD_REPLY) continue;
        if (t->state == THREAD_SEND) t->endpoint->queued--;
        t->endpoint = NULL;
        t->context.status = E_PEER_GONE;
        thread_ready(t); /* leaves the list that it is in */
    }
}

static void caller_stranded(struct thread *t)
{
    if (t->server) t->server->client = NULL;
    if (t->reply) t->reply->caller = NULL;
    t->server = NULL;
    t->reply = NULL;
    t->endpoint = NULL;
    list_remove(&t->queue);
    t->context.status = E_PEER_GONE;
    thread_ready(t);
}

void endpoint_destroy(struct endpoint *e)
{
    list_each(struct thread, t, &e->senders, queue) caller_stranded(t);
    list_each(struct thread, r, &e->receivers, queue) caller_stranded(r);
    list_each(struct thread, c, &e->taken, queue) caller_stranded(c);
    list_remove(&e->of_server);
}
