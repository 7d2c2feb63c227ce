/* SPDX-License-Identifier: BSD-2-Clause
 * Endpoints and replies: synchronous calls. The caller blocks with its message in its own registers until
 * it is answered, so a call marked replayable whose server dies goes back to the head of the queue as it
 * was; any other returns E_PEER_RESTARTED. The endpoint belongs to whoever made it and outlives servers.
 * States of a caller: SEND (queued) -> REPLY (taken by a server) -> READY. */
#ifndef COPPICE_KERNEL_ENDPOINT_H
#define COPPICE_KERNEL_ENDPOINT_H

#include "object.h"

struct thread;
struct context;
struct endpoint {
    struct object object;
    struct list senders;    /* threads in SEND, most urgent first, then oldest */
    struct list receivers;  /* threads in RECV */
    struct list taken;      /* threads in REPLY */
    struct process *server; /* last process that received here */
    struct list of_server;  /* in server->endpoints */
    uint32_t queued, in_service;
    uint32_t generation; /* deaths of servers */
    uint64_t served;
};
struct reply { /* one saved caller */
    struct object object;
    struct thread *caller;
};

status_t endpoint_create(struct process *owner, tag_t tag, struct endpoint **out) MUST_USE;
void endpoint_destroy(struct endpoint *e);
void endpoint_call(struct endpoint *e, struct thread *caller, uint64_t badge);
/* Takes the oldest caller or blocks; e may be NULL: only the bound notification. */
void endpoint_recv(struct endpoint *e, struct thread *server);
/* Answers with the message in server's context. */
status_t endpoint_reply(struct thread *server) MUST_USE;
status_t reply_save(struct thread *server, struct reply **out) MUST_USE;
void reply_answer(struct reply *r, struct thread *server);
void reply_destroy(struct reply *r);
/* The short way for messages without capabilities to a partner that waits already and may run at once;
 * all else goes the long way, through syscall_dispatch. Returns the context to resume. */
struct context *syscall_dispatch(struct thread *t); /* syscall.c */
struct context *endpoint_call_fast(struct thread *caller);
struct context *endpoint_reply_recv_fast(struct thread *server);
/* A thread leaves whatever IPC it is in, because it ends. Its own caller is replayed or told. */
void endpoint_abandon(struct thread *t);
/* A handle ends in p: who waits by it in a call not taken yet, a recv or a wait, waits no longer (E_PEER_GONE). */
void endpoint_revoke(struct process *p, handle_t h);
void endpoint_server_died(struct process *p); /* bumps the generation of all that it served */

#endif
