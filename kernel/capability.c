/* SPDX-License-Identifier: BSD-2-Clause
 * Capability tables and the derivation tree. */
#include "capability.h"
#include "process.h"
#include "dma.h"
#include "endpoint.h"
#include "trace.h"
#include "frame.h"
#include "print.h"

_Static_assert(sizeof(struct capability) == 64, "a capability is 64 bytes");
_Static_assert(sizeof(struct cap_chunk) == PAGE_SIZE, "a chunk is a page");

static struct cap_chunk *chunk_of(const struct capability *c)
{
    return (struct cap_chunk *)((uintptr_t)c & ~(PAGE_SIZE - 1));
}

struct process *cap_process(const struct capability *c) { return chunk_of(c)->process; }
handle_t cap_handle(const struct capability *c)
{
    const struct cap_chunk *k = chunk_of(c);
    return HANDLE_MAKE(k->first + (uint64_t)(c - k->slot), c->generation);
}

/* Of a chunk's slots, those that are taken: bit i is the index i more than a multiple of 64. */
static uint64_t chunk_taken(const struct cap_chunk *k)
{
    uint64_t taken = 0;
    for (uint32_t i = 1; i < CHUNK_SLOTS; i++) taken |= (uint64_t)(k->slot[i - 1].object != NULL) << i;
    return taken;
}

handle_t cap_next(struct process *p, handle_t h, uint64_t *taken)
{
    for (uint32_t i = HANDLE_INDEX(h) + 1; i < p->chunk_count * CHUNK_SLOTS; i++) {
        if (i % CHUNK_SLOTS == 0) continue;
        const struct capability *c = &p->chunk[i / CHUNK_SLOTS]->slot[i % CHUNK_SLOTS - 1];
        if (!c->object) continue;
        *taken = chunk_taken(p->chunk[i / CHUNK_SLOTS]);
        return cap_handle(c);
    }
    return 0;
}

status_t cap_get(struct process *p, handle_t h, enum object_type type, uint32_t rights,
                 struct capability **out)
{
    struct capability *c = cap_lookup(p, h);
    if (!c) return E_HANDLE;
    if (c->object->type != type) return E_TYPE;
    if ((c->rights & rights) != rights) return E_RIGHTS;
    *out = c;
    return OK;
}

bool cap_room(struct process *p)
{
    if (p->slots) return true;
    if (p->chunk_count == CHUNKS_MAX) return false;
    paddr_t page = frame_alloc(p);
    if (!page.v) return false;
    struct cap_chunk *k = arch_direct(page);
    k->process = p;
    k->first = p->chunk_count * CHUNK_SLOTS + 1;
    for (uint32_t i = CHUNK_SLOTS - 1; i-- > 0;) {
        k->slot[i].next = p->slots;
        p->slots = &k->slot[i];
    }
    p->chunk[p->chunk_count++] = k;
    return true;
}

static struct capability *slot_take(struct process *p)
{
    struct capability *c = p->slots;
    assert(c && !c->object);
    p->slots = c->next;
    p->handle_count++;
    c->generation++; /* 48 bits: never wraps in a machine's life */
    c->next = c->prev = c->parent = c->child = NULL;
    return c;
}

handle_t cap_install(struct process *p, struct object *o, uint32_t rights)
{
    assert(!o->root);
    struct capability *c = slot_take(p);
    c->object = o;
    c->rights = rights & 0xffff;
    c->badge = 0;
    o->root = c;
    return cap_handle(c);
}

handle_t cap_derive(struct process *p, struct capability *parent, uint32_t rights, uint64_t badge)
{
    struct capability *c = slot_take(p);
    c->object = parent->object;
    c->rights = rights & parent->rights & 0xffff;
    c->badge = parent->badge ? parent->badge : badge;
    c->parent = parent;
    c->next = parent->child;
    if (c->next) c->next->prev = c;
    parent->child = c;
    return cap_handle(c);
}

/* Frees one capability without children. */
static void slot_release(struct capability *c)
{
    struct process *p = cap_process(c);
    assert(!c->child);
    while (c->mappings) mapping_destroy(c->mappings);
    if (c->object->type == OBJECT_MEMORY) dma_revoke((struct memory *)c->object, c);
    if (c->object->type == OBJECT_NOTIFICATION) notification_revoke((struct notification *)c->object, c);
    if (c->object->type == OBJECT_NOTIFICATION || c->object->type == OBJECT_ENDPOINT)
        endpoint_revoke(p, cap_handle(c));
    if (c->prev)
        c->prev->next = c->next;
    else if (c->parent)
        c->parent->child = c->next;
    if (c->next) c->next->prev = c->prev;
    if (c->object->root == c) c->object->root = NULL;
    c->object = NULL;
    c->parent = c->prev = NULL;
    c->rights = 0;
    c->next = p->slots;
    p->slots = c;
    assert(p->handle_count > 0);
    p->handle_count--;
}

/* Leaves first, without recursion and without coming back to the top: how deep and how wide the tree is, is
 * its processes' choice. */
bool cap_revoke_some(struct capability *top, uint32_t most)
{
    struct capability *c = top;
    for (;;) {
        while (c->child) c = c->child;
        if (c == top) return true;
        if (!most--) return false;
        struct capability *parent = c->parent;
        slot_release(c);
        c = parent;
    }
}

void cap_revoke(struct capability *top)
{
    bool done = cap_revoke_some(top, ~0u);
    assert(done);
}

void cap_delete(struct capability *c)
{
    cap_revoke(c);
    slot_release(c);
}

static bool cap_is_first(const struct capability *c)
{
    return c->object->root == c && c->object->owner; /* else it is the kernel's for ever */
}

void cap_drop(struct capability *c)
{
    if (!c->object) return;
    if (cap_is_first(c))
        object_destroy(c->object);
    else
        cap_delete(c);
}

void cap_table_destroy(struct process *p)
{
    for (uint32_t k = 0; k < p->chunk_count; k++)
        for (uint32_t i = 0; i < CHUNK_SLOTS - 1 && p->handle_count; i++) cap_drop(&p->chunk[k]->slot[i]);
    assert(p->handle_count == 0);
    while (p->chunk_count) {
        struct cap_chunk *k = p->chunk[--p->chunk_count];
        frame_free(p, arch_direct_paddr(k));
    }
    p->slots = NULL;
}
