/* SPDX-License-Identifier: BSD-2-Clause
 * Cells of kernel objects, charged to processes, and the end of any object. */
#include "process.h"
#include "frame.h"
#include "endpoint.h"
#include "dma.h"
#include "irq.h"
#include "inject.h"
#include "trace.h"
#include "hide.h"
#include "print.h"

_Static_assert(sizeof(struct endpoint) <= CELL_BYTES, "endpoint fits a cell");
_Static_assert(sizeof(struct reply) <= CELL_BYTES, "reply fits a cell");
_Static_assert(sizeof(struct notification) <= CELL_BYTES, "notification fits a cell");
_Static_assert(sizeof(struct memory) <= CELL_BYTES, "memory fits a cell");
_Static_assert(sizeof(struct mapping) <= CELL_BYTES, "mapping fits a cell");
_Static_assert(sizeof(struct dma) <= CELL_BYTES, "dma fits a cell");
_Static_assert(sizeof(struct dma_mapping) <= CELL_BYTES, "dma mapping fits a cell");
_Static_assert(sizeof(struct irq) <= CELL_BYTES, "irq fits a cell");
_Static_assert(sizeof(struct ports) <= CELL_BYTES, "ports fits a cell");
_Static_assert(sizeof(struct timer) <= CELL_BYTES, "timer fits a cell");

/* A page of cells: its first cell only links the pages of the pool. */
void *cell_alloc(struct process *p)
{
    if (!p->cells) {
        paddr_t page = frame_alloc(p);
        if (!page.v) return NULL;
        uint8_t *base = arch_direct(page);
        *(paddr_t *)(void *)base = p->pool;
        p->pool = page;
        p->pool_pages++;
        for (uint64_t at = PAGE_SIZE - CELL_BYTES; at >= CELL_BYTES; at -= CELL_BYTES) {
            *(void **)(void *)(base + at) = p->cells;
            p->cells = base + at;
        }
    }
    void *cell = p->cells;
    p->cells = *(void **)cell;
    memory_show(cell, CELL_BYTES);
    p->object_count++;
    __builtin_memset(cell, 0, CELL_BYTES);
    return cell;
}

void cell_free(struct process *p, void *cell)
{
    assert(p->object_count > 0);
    p->object_count--;
    *(void **)cell = p->cells;
    p->cells = cell;
    memory_hide((uint8_t *)cell + sizeof(void *), CELL_BYTES - sizeof(void *));
}

void pool_destroy(struct process *p)
{
    assert(p->object_count == 0);
    while (p->pool.v) {
        paddr_t page = p->pool;
        p->pool = *(paddr_t *)arch_direct(page);
        frame_free(p, page);
    }
    p->pool_pages = 0;
    p->cells = NULL;
}

void object_init(struct object *o, enum object_type type, struct process *owner, tag_t tag)
{
    o->type = (uint8_t)type;
    o->tag = tag;
    o->owner = owner;
    if (type == OBJECT_REPLY) /* object_has_replies */
        list_prepend(&owner->objects, &o->owned);
    else
        list_append(&owner->objects, &o->owned);
}

bool object_has_replies(const struct process *p)
{
    const struct object *first = container_of(p->objects.next, struct object, owned);
    return !list_empty(&p->objects) && first->type == OBJECT_REPLY;
}

/* Frees what only this object holds; the type's own links were undone by its destroy. */
static void object_end(struct object *o)
{
    struct process *owner = o->owner;
    list_remove(&o->owned);
    o->type = OBJECT_NONE;
    cell_free(owner, o);
}

void object_destroy(struct object *o)
{
    if (o->root) cap_delete(o->root);
    switch ((enum object_type)o->type) {
    case OBJECT_PROCESS: process_destroy((struct process *)o); return;
    case OBJECT_THREAD: thread_destroy((struct thread *)o); return;
    case OBJECT_ENDPOINT: endpoint_destroy((struct endpoint *)o); break;
    case OBJECT_REPLY: reply_destroy((struct reply *)o); break;
    case OBJECT_NOTIFICATION: notification_destroy((struct notification *)o); break;
    case OBJECT_MEMORY: memory_destroy((struct memory *)o); break;
    case OBJECT_DMA: dma_destroy((struct dma *)o); break;
    case OBJECT_IRQ: irq_destroy((struct irq *)o); break;
    case OBJECT_PORTS: break;
    case OBJECT_TIMER: timer_destroy((struct timer *)o); break;
    case OBJECT_TRACE: return; /* these three belong to the kernel for ever */
    case OBJECT_ROOT: return;
    case OBJECT_INJECT: return;
    case OBJECT_NONE:
    case OBJECT_TYPES: kernel_panic("object of type %u destroyed", o->type);
    }
    object_end(o);
}
