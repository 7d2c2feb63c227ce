/* SPDX-License-Identifier: BSD-2-Clause
 * Memory and capabilities of sessions and services. Everything is recovery's and paid by it, so that it
 * outlives drivers and clients. Invariant: what is in a table of handles exists; a part that could not be
 * made leaves nothing behind. */
#include "recovery/shell.h"

#define RW (RIGHT_READ | RIGHT_WRITE)

static void handle_drop(handle_t *h)
{
    if (*h != 0) (void)sys_cap_delete(*h); /* it may have gone with its owner */
    *h = 0;
}

static status_t handle_derive(handle_t from, uint32_t rights, handle_t *out)
{
    struct sys_result r = sys_cap_derive(from, rights | RIGHT_GRANT, 0);

    if (r.status == OK) *out = r.value;
    return r.status;
}

static status_t part_make(struct session_objects *o, enum session_part part, uint64_t pages)
{
    static const uint32_t driver[PARTS] = {RIGHT_READ, RW, RW, RW | RIGHT_DMA};
    static const uint32_t client[PARTS] = {RW, RIGHT_READ, RW, RW};
    struct sys_result r = sys_memory_create(0, pages, part == PART_DATA ? MEMORY_DMA | MEMORY_CONTIGUOUS : 0);

    if (r.status != OK) return r.status;
    o->memory[part] = r.value;
    status_t status = handle_derive(r.value, driver[part], &o->driver[part]);
    if (status == OK) status = handle_derive(r.value, client[part], &o->client[part]);
    return status;
}

static status_t part_map(struct session_objects *o, enum session_part part, uint32_t prot, void **out)
{
    void **place = &o->place[part];
    status_t status = *place == NULL ? map_new(o->memory[part], 1, prot, place)
                                     : sys_memory_map(0, o->memory[part], (uint64_t)*place, 0, 1, prot);

    if (status == OK) *out = *place;
    return status;
}

status_t session_objects_make(struct session_objects *o, struct rsession *s, handle_t notification)
{
    void *request = NULL, *ledger = NULL;
    status_t status = part_make(o, PART_REQUEST, PAGES_FOR(sizeof(struct session_request)));

    o->notification = notification;
    if (status == OK) status = part_make(o, PART_LEDGER, PAGES_FOR(sizeof(struct session_ledger)));
    if (status == OK) status = part_make(o, PART_HINT, PAGES_FOR(sizeof(struct session_hint)));
    if (status == OK) status = part_make(o, PART_DATA, PAGES_FOR(s->data_bytes));
    if (status == OK) status = part_map(o, PART_REQUEST, RIGHT_READ, &request);
    if (status == OK) status = part_map(o, PART_LEDGER, RW, &ledger);
    s->ledger = ledger;
    s->stream_client = request;
    s->stream_driver = ledger;
    if (status == OK) __atomic_store_n(&s->request, request, __ATOMIC_SEQ_CST); /* last: it is whole */
    if (status != OK) session_objects_free(o, s);
    return status;
}

void session_objects_free(struct session_objects *o, struct rsession *s)
{
    __atomic_store_n(&s->request, NULL, __ATOMIC_SEQ_CST); /* first: it is not whole */
    for (int i = 0; i < 2; i++)                            /* E_NOT_FOUND: it never was */
        if (o->place[i] != NULL) (void)sys_memory_unmap(0, (uint64_t)o->place[i]);
    for (int i = 0; i < PARTS; i++) handle_drop(&o->memory[i]); /* with all that is derived from it */
    handle_drop(&o->notification);
    *o = (struct session_objects){.place = {o->place[0], o->place[1]}};
    s->ledger = NULL;
}

/* The tag's generation is 0: the doorbell belongs to the service, not to an incarnation. */
status_t server_doorbell_make(struct server_objects *o, uint32_t service)
{
    if (o->doorbell_client != 0) return OK;
    struct sys_result r = sys_notification_create(TAG_MAKE(service, 0));
    if (r.status != OK) return r.status;
    o->doorbell = r.value;
    status_t status = handle_derive(o->doorbell, RW, &o->doorbell_driver);
    if (status == OK) status = handle_derive(o->doorbell, RIGHT_WRITE, &o->doorbell_client);
    if (status != OK) handle_drop(&o->doorbell);
    return status;
}

status_t server_staging_make(struct server_objects *o)
{
    if (o->staging_at != NULL) return OK;
    struct sys_result r = sys_memory_create(0, 1, 0);
    if (r.status != OK) return r.status;
    o->staging = r.value;
    status_t status = handle_derive(o->staging, RW, &o->staging_driver);
    if (status == OK) status = map_new(o->staging, 1, RW, &o->staging_at);
    if (status != OK) handle_drop(&o->staging);
    return status;
}

status_t server_checkpoint_make(struct server_objects *o, struct server *v, uint32_t length)
{
    uint32_t bytes = checkpoint_bytes(length);
    void *at;

    if (length <= v->checkpoint_room) return OK;
    struct sys_result r = sys_memory_create(0, PAGES_FOR(bytes), 0);
    if (r.status != OK) return r.status;
    status_t status = map_new(r.value, PAGES_FOR(bytes), RW, &at);
    if (status != OK) {
        handle_drop(&r.value);
        return status;
    }
    o->next_at = at;
    o->next_bytes = bytes;
    __atomic_store_n(&o->next, r.value, __ATOMIC_SEQ_CST);
    server_checkpoint_move(o, v);
    return OK;
}

/* Each step can be made twice: what has moved already is copied onto itself. */
void server_checkpoint_move(struct server_objects *o, struct server *v)
{
    if (o->next == 0) return;
    checkpoint_place(v, o->next_at, o->next_bytes);
    if (o->checkpoint != o->next) {
        if (o->checkpoint_at != NULL) (void)sys_memory_unmap(0, (uint64_t)o->checkpoint_at);
        handle_drop(&o->checkpoint);
    }
    o->checkpoint_at = o->next_at;
    o->checkpoint = o->next;
    __atomic_store_n(&o->next, 0, __ATOMIC_SEQ_CST);
}

status_t server_aside_make(struct server_objects *o, struct server *v)
{
    void *at;

    if (v->aside != NULL) return OK;
    struct sys_result r = sys_memory_create(0, 1, 0);
    if (r.status != OK) return r.status;
    status_t status = map_new(r.value, 1, RIGHT_READ | RIGHT_WRITE, &at);
    if (status != OK) {
        handle_drop(&r.value);
        return status;
    }
    o->aside = r.value;
    v->aside = at;
    return OK;
}
