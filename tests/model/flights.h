/* SPDX-License-Identifier: BSD-2-Clause
 * Calls in flight: the promises of IPC. Each message arrives whole, each call ends exactly once and in an
 * allowed way, and who is blocked on what is what threads say. Included once, after model.h. */
#ifndef COPPICE_MODEL_FLIGHTS_H
#define COPPICE_MODEL_FLIGHTS_H

#include "tests/model/model.h"

#define CALLS_MAX (MODEL_PROCESSES * 8)
static struct flight {     /* one blocked caller */
    struct thread *caller; /* NULL: free */
    uint64_t id, w[MESSAGE_WORDS], badge, info;
    struct endpoint *endpoint;
    int process;
    handle_t handle; /* it was made by */
    uint64_t deliveries;
} flight[CALLS_MAX];
static uint64_t last_id, replies_seen, replays_seen, restarts_seen;

static struct flight *flight_of(const struct thread *t)
{
    for (int i = 0; i < CALLS_MAX; i++)
        if (flight[i].caller == t) return &flight[i];
    return NULL;
}

static bool is_blocked(const struct thread *t) { return t->state == THREAD_SEND || t->state == THREAD_REPLY; }

/* A thread has received a message: it must be one in flight, whole, and marked if it was taken before. */
static void message_check(const struct thread *server)
{
    const struct context *c = &server->context;
    const struct thread *caller = server->client;
    must(caller, "a message without a caller");
    struct flight *f = flight_of(caller);
    must(f && f->id == c->w[0], "message %lu is not in flight", c->w[0]);
    must(caller->state == THREAD_REPLY && caller->server == server, "message %lu: the caller is in state %d",
         f->id, caller->state);
    must(c->handle == f->badge, "message %lu: badge %lx, sent with %lx", f->id, c->handle, f->badge);
    must(INFO_LABEL(c->info) == INFO_LABEL(f->info) && INFO_CAPS(c->info) == INFO_CAPS(f->info),
         "message %lu: info", f->id);
    must(!(c->info & INFO_REPLAYED) == !f->deliveries, "message %lu: delivered %lu times, replayed %lx",
         f->id, f->deliveries, c->info & INFO_REPLAYED);
    must(!f->deliveries || (f->info & INFO_REPLAYABLE), "message %lu: delivered again", f->id);
    for (unsigned i = 0; i < MESSAGE_WORDS - INFO_CAPS(c->info); i++)
        must(c->w[i] == f->w[i], "message %lu: word %u", f->id, i);
    replays_seen += f->deliveries > 0;
    f->deliveries++;
}

/* Capabilities that came with a message become the model's. */
static void message_caps(int from, int to, const uint64_t sent[], const uint64_t got[], uint64_t info)
{
    for (uint32_t i = MESSAGE_WORDS - INFO_CAPS(info); i < MESSAGE_WORDS; i++) {
        if (got[i] && !cap_lookup(model.process[to].kernel, got[i]))
            continue; /* its object died in this same step */
        if (got[i] && model_cap_find(to, got[i]) != NONE) continue;
        int c = model_cap_find(from, sent[i]);
        bool may = c != NONE && (model.cap[c].rights & RIGHT_GRANT);
        must(may || !got[i], "word %u: a capability that may not be granted arrived", i);
        if (got[i]) model_cap_derive(to, got[i], c, model.cap[c].rights, 0);
    }
}

/* --- IPC after each call: who is where now --------------------------------------------------------------------------- */

static struct thread *all[CALLS_MAX];
static unsigned all_count;

static void threads_gather(struct process *p)
{
    list_each(struct thread, t, &p->threads, of_process)
    {
        must(all_count < CALLS_MAX, "the model's threads run out");
        all[all_count++] = t;
    }
    list_each(struct process, child, &p->children, sibling) threads_gather(child);
}

static bool is_known(const struct thread *t)
{
    for (unsigned i = 0; i < all_count; i++)
        if (all[i] == t) return true;
    return false;
}

/* One death can deliver a message once more and then take its endpoint: who received it keeps what came. */
static void flight_delivered_last(const struct flight *f)
{
    for (unsigned i = 0; i < all_count && INFO_CAPS(f->info); i++) {
        const struct thread *t = all[i];
        if (t == f->caller || t->client || t->context.w[0] != f->id || t->context.status != OK) continue;
        message_caps(f->process, model_process_of(t->process), f->w, t->context.w, f->info);
    }
}

/* A call in flight that is over: answered, failed in an allowed way, or its caller died. */
static void flight_end(struct flight *f, bool endpoint_lives)
{
    flight_delivered_last(f);
    if (!is_known(f->caller) || (is_blocked(f->caller) && f->caller->context.w[0] != f->id)) {
        f->caller = NULL; /* the caller died */
        return;
    }
    const struct context *c = &f->caller->context;
    status_t s = (status_t)c->status;
    must(f->caller->state == THREAD_READY || f->caller->state == THREAD_RUNNING, "call %lu ended in state %d",
         f->id, f->caller->state);
    must(s == OK || s == E_PEER_RESTARTED || s == E_PEER_GONE, "call %lu ended with %d", f->id, s);
    must(s != E_PEER_RESTARTED || !(f->info & INFO_REPLAYABLE) ||
             model_cap_find(f->process, f->handle) == NONE,
         "replayable call %lu was told of the restart", f->id);
    /* E_PEER_RESTARTED and a lost endpoint come together when one death takes the server and then the endpoint. */
    must(s != OK || endpoint_lives, "call %lu was answered though its endpoint is gone", f->id);
    must(s == E_PEER_GONE || f->deliveries, "call %lu was answered and never delivered", f->id);
    replies_seen += s == OK;
    restarts_seen += s == E_PEER_RESTARTED;
    f->caller = NULL;
}

static bool object_lives(const struct process *p, const void *o)
{
    list_each(struct object, at, &p->objects, owned) if (at == o) return true;
    list_each(struct process, child, &p->children, sibling) if (object_lives(child, o)) return true;
    return false;
}

/* Deliveries since the last call: threads that hold a client whose message the model has not seen delivered. */
static struct {
    struct thread *server, *caller;
    uint64_t id;
} held[CALLS_MAX];

static void deliveries_find(void)
{
    for (unsigned i = 0; i < all_count; i++) {
        struct thread *server = all[i], *caller = server->client;
        if (!caller) continue;
        must(is_known(caller), "a server serves a dead caller");
        struct flight *f = flight_of(caller);
        must(f, "a server serves a call that is not in flight");
        bool seen = false;
        for (unsigned k = 0; k < CALLS_MAX; k++) seen |= held[k].server == server && held[k].id == f->id;
        if (seen) continue;
        uint64_t sent[MESSAGE_WORDS];
        memcpy(sent, f->w, sizeof sent);
        message_check(server);
        message_caps(model_process_of(caller->process), model_process_of(server->process), sent,
                     server->context.w, f->info);
    }
    memset(held, 0, sizeof held);
    for (unsigned i = 0; i < all_count; i++)
        if (all[i]->client)
            held[i].server = all[i], held[i].caller = all[i]->client,
            held[i].id = flight_of(all[i]->client)->id;
}

/* What signals, or is woken, does so by a capability that somebody still holds. */
static void via_check(const struct notification *n, const struct capability *via)
{
    must(via && via->object == &n->object &&
             model_cap_find(model_process_of(cap_process(via)), cap_handle(via)) != NONE,
         "a source outlives the capability that it was made with");
}

static void threads_check(void)
{
    for (unsigned i = 0; i < all_count; i++) {
        const struct thread *t = all[i];
        struct flight *f = flight_of(t);
        must(!is_blocked(t) == !f, "thread in state %d, call in flight: %d", t->state, !!f);
        if (t->state == THREAD_REPLY) must(!t->server != !t->reply, "a taken call is served or saved");
        if (t->server)
            must(t->server->client == t && is_known(t->server), "a caller's server serves another");
        if (t->reply)
            must(t->reply->caller == t && object_lives(process_root, t->reply),
                 "a saved call's reply is gone");
        if (t->state == THREAD_SEND)
            must(model_cap_find(f->process, f->handle) != NONE, "call %lu waits by what was revoked", f->id);
        if ((t->state == THREAD_RECV || t->state == THREAD_WAIT) && t->context.handle)
            must(model_cap_find(model_process_of(t->process), t->context.handle) != NONE,
                 "a thread waits by what was revoked: %lx", t->context.handle);
        if (t->state == THREAD_RUNNING) must(t == current(), "two threads run");
        if (t->bound) must(t->bound->bound == t, "a bound notification is bound to another");
        if (t->bound) via_check(t->bound, t->bound->bound_via);
        must(t->state != THREAD_CREATED && t->state != THREAD_ENDED, "a thread in state %d", t->state);
    }
}

static bool was_sent(int from, handle_t h)
{
    for (int i = 0; i < CALLS_MAX; i++)
        for (unsigned w = MESSAGE_WORDS - INFO_CAPS(flight[i].info); w < MESSAGE_WORDS; w++)
            if (flight[i].process == from && (flight[i].info & INFO_REPLAYABLE) && flight[i].w[w] == h)
                return true;
    return false;
}

/* A thread can take a replayed message and end in the same step: the next receiver gets it once more, and what
 * came to the first is its process's all the same, given by a holder who may give. */
static void lost_deliveries_find(int p)
{
    struct process *k = model.process[p].kernel;
    for (uint32_t at = 0; at < k->chunk_count * (CHUNK_SLOTS - 1); at++) {
        const struct capability *c = &k->chunk[at / (CHUNK_SLOTS - 1)]->slot[at % (CHUNK_SLOTS - 1)];
        if (!c->object || model_cap_find(p, cap_handle(c)) != NONE) continue;
        must(c->parent, "process %d: a capability from nowhere", p);
        int from = model_process_of(cap_process(c->parent)), m = model_cap_find(from, cap_handle(c->parent));
        must(m != NONE && (model.cap[m].rights & RIGHT_GRANT) && was_sent(from, model.cap[m].handle),
             "process %d: a capability that nobody gave", p);
        model_cap_derive(p, cap_handle(c), m, model.cap[m].rights, 0);
    }
}

static void flights_update(void)
{
    unsigned before = all_count;
    all_count = 0;
    threads_gather(process_root);
    for (int i = 0; i < CALLS_MAX; i++) {
        struct flight *f = &flight[i];
        if (f->caller && (!is_known(f->caller) || !is_blocked(f->caller)))
            flight_end(f, object_lives(process_root, f->endpoint));
    }
    deliveries_find();
    for (int p = 0; p < MODEL_PROCESSES && all_count < before; p++)
        if (model.process[p].state != ABSENT && model.process[p].state != DEAD) lost_deliveries_find(p);
    threads_check();
}

static void flight_begin(struct thread *t, const struct call *c)
{
    struct flight *f = flight_of(NULL);
    must(f, "the model's calls run out");
    int k = model_cap_find(me, c->a[0]);
    must(k != NONE, "called without a capability");
    *f = (struct flight){.caller = t,
                         .id = c->a[2],
                         .info = c->a[1],
                         .badge = model.cap[k].badge,
                         .process = me,
                         .handle = c->a[0],
                         .endpoint = (struct endpoint *)object_at(model.process[me].kernel, c->a[0])};
    memcpy(f->w, c->a + 2, sizeof f->w);
}

#endif
