/* SPDX-License-Identifier: BSD-2-Clause
 * The split virtqueue (virtio 1.1, section 2.6) of one block device. Owns the queue's DMA memory:
 * rings, one indirect table, header and status byte an entry. Data is never copied: descriptors
 * point into the sessions' memory. Invariants: an entry is in the free stack, above `prepared`, or
 * issued; avail_idx - used_seen = issued entries. The device writes used and status at will, so
 * each is read once and checked; what does not fit is E_PROTOCOL and the caller gives up, because
 * only a reset repairs a device that lost its rules. Constant parts of an entry are written at its
 * first use, which keeps a restart short. */
#include "device.h"
#include "lib/atomic.h"

#define barrier() __asm__ volatile("" ::: "memory") /* x86: stores are seen in order, loads too */

#define IOVA(q, member) ((q)->iova + offsetof(struct queue_memory, member))

#define QUEUE_PAGES PAGES_FOR(sizeof(struct queue_memory))

void queue_prepare(struct queue *q)
{
    struct sys_result memory = sys_memory_create(0, QUEUE_PAGES, MEMORY_DMA | MEMORY_CONTIGUOUS);
    void *at = NULL;
    if (memory.status == OK && map_new(memory.value, QUEUE_PAGES, RIGHT_READ | RIGHT_WRITE, &at) == OK)
        q->object = memory.value;
    q->memory = at;
}

status_t queue_init(struct queue *q, struct transport *t)
{
    if (q->object == 0) return E_NO_MEMORY;
    struct sys_result iova = sys_dma_map(t->dma, q->object, 0, QUEUE_PAGES, RIGHT_READ | RIGHT_WRITE);
    if (iova.status != OK) return iova.status;
    q->iova = iova.value;
    return transport_queue_enable(t, QUEUE_ENTRIES, IOVA(q, desc), IOVA(q, avail), IOVA(q, used), &q->notify);
}

static void entry_prepare(struct queue *q, uint16_t id)
{
    volatile struct queue_request *r = &q->memory->request[id];
    uint64_t at = IOVA(q, request[0]) + (uint64_t)id * sizeof(*r);
    r->table[0].addr = at + offsetof(struct queue_request, header);
    r->table[0].len = sizeof(r->header);
    r->table[0].flags = VRING_DESC_F_NEXT;
    r->table[1].next = 2;
    r->table[2].addr = at + offsetof(struct queue_request, status);
    r->table[2].len = sizeof(r->status);
    r->table[2].flags = VRING_DESC_F_WRITE;
    volatile struct vring_desc *d = &q->memory->desc[id];
    d->addr = at;
    d->len = sizeof(r->table);
    d->flags = VRING_DESC_F_INDIRECT;
}

bool queue_add(struct queue *q, uint32_t type, uint64_t sector, uint64_t data, uint32_t length,
               struct token token)
{
    uint16_t id;
    if (q->free_count > 0) {
        id = q->free[--q->free_count];
    } else if (q->prepared < QUEUE_ENTRIES) {
        id = q->prepared++;
        entry_prepare(q, id);
    } else {
        return false;
    }
    volatile struct queue_request *r = &q->memory->request[id];
    r->header.type = type;
    r->header.sector = sector;
    r->status = 0xff; /* no status of the standard: it is not done yet, whoever says so */
    r->table[0].next = length > 0 ? 1 : 2;
    r->table[1].addr = data;
    r->table[1].len = length;
    r->table[1].flags = type == VIRTIO_BLK_T_OUT ? VRING_DESC_F_NEXT : VRING_DESC_F_NEXT | VRING_DESC_F_WRITE;
    q->token[id] = token;
    q->issued[id] = true;
    q->memory->avail.ring[q->avail_idx++ % QUEUE_ENTRIES] = id;
    return true;
}

/* What entry_prepare wrote is as it was: the device finds header, data and status where they are. */
static bool entry_whole(const struct queue *q, uint16_t id)
{
    const volatile struct queue_request *r = &q->memory->request[id];
    const volatile struct vring_desc *d = &q->memory->desc[id], *t = r->table;
    uint64_t at = IOVA(q, request) + (uint64_t)id * sizeof(*r);
    return d->addr == at && d->len == sizeof(r->table) && d->flags == VRING_DESC_F_INDIRECT &&
           t[0].addr == at + offsetof(struct queue_request, header) && t[0].len == sizeof(r->header) &&
           t[0].flags == VRING_DESC_F_NEXT && t[1].next == 2 &&
           t[2].addr == at + offsetof(struct queue_request, status) && t[2].len == sizeof(r->status) &&
           t[2].flags == VRING_DESC_F_WRITE;
}

bool queue_holds(const struct queue *q, uint32_t type, uint64_t sector, uint64_t data, uint32_t length)
{
    uint16_t id = q->memory->avail.ring[(uint16_t)(q->avail_idx - 1) % QUEUE_ENTRIES];
    if (id >= QUEUE_ENTRIES || !q->issued[id] || !entry_whole(q, id)) return false;
    const volatile struct queue_request *r = &q->memory->request[id];
    if (r->header.type != type || r->header.sector != sector) return false;
    if (length == 0) return r->table[0].next == 2;
    uint16_t flags = type == VIRTIO_BLK_T_IN ? VRING_DESC_F_NEXT | VRING_DESC_F_WRITE : VRING_DESC_F_NEXT;
    return r->table[0].next == 1 && r->table[1].addr == data && r->table[1].len == length &&
           r->table[1].flags == flags;
}

void queue_kick(struct queue *q)
{
    if (q->avail_idx == q->kicked) return;
    barrier();
    q->memory->avail.idx = q->avail_idx;
    device_fence(); /* the store must be visible before the device's wish is read */
    if (vring_need_event(q->memory->used.avail_event, q->avail_idx, q->kicked)) *q->notify = 0;
    q->kicked = q->avail_idx;
}

status_t queue_take(struct queue *q, struct token *token, uint8_t *device_status)
{
    uint16_t done = (uint16_t)(q->memory->used.idx - q->used_seen);
    if (done == 0) return E_WOULD_BLOCK;
    if (done > (uint16_t)(q->kicked - q->used_seen)) return E_PROTOCOL;
    barrier();
    uint32_t id = q->memory->used.ring[q->used_seen % QUEUE_ENTRIES].id;
    if (id >= QUEUE_ENTRIES || !q->issued[id]) return E_PROTOCOL;
    uint8_t status = q->memory->request[id].status;
    if (status > VIRTIO_BLK_S_UNSUPP) return E_PROTOCOL; /* it is not done, or not this one */
    if (status != VIRTIO_BLK_S_OK && !entry_whole(q, (uint16_t)id)) return E_PROTOCOL; /* no wonder */
    q->used_seen++;
    q->issued[id] = false;
    q->free[q->free_count++] = (uint16_t)id;
    *token = q->token[id];
    *device_status = status;
    return OK;
}

uint8_t queue_status(const struct queue *q)
{
    return q->memory->request[q->free[(q->free_count - 1u) % QUEUE_ENTRIES]].status;
}

bool queue_rearm(struct queue *q)
{
    q->memory->avail.used_event = q->used_seen;
    device_fence(); /* our wish must be visible before we look for the last time */
    return q->memory->used.idx == q->used_seen;
}

/* The injector writes there (faultinject/injector/corrupt.c). */
_Static_assert(offsetof(struct queue_memory, avail.idx) == 2050, "behind QUEUE_AVAIL");
_Static_assert(offsetof(struct queue_memory, avail.used_event) == 2308, "QUEUE_USED_EVENT");
_Static_assert(offsetof(struct queue_memory, used.idx) == 2314, "behind QUEUE_USED");

bool queue_done(const struct queue *q) { return q->memory->used.idx != q->used_seen; }
