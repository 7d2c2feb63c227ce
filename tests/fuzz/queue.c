/* SPDX-License-Identifier: BSD-2-Clause
 * The virtqueue against a device that writes anything into the used ring (drivers/virtio_blk/queue.c). Input:
 * records that add, kick, take, or let the device complete in order or write nonsense. Each token comes
 * back at most once, only after it was given, with the status byte that is there. */
#include "runtime.h"

#define IOVA_BASE 0x100000ul

static void *ring; /* the queue's memory */

static struct sys_result sys_memory_create(handle_t account, uint64_t pages, uint32_t flags)
{
    (void)account, (void)flags;
    return (struct sys_result){OK, pages, 0};
}
static struct sys_result sys_dma_map(handle_t domain, handle_t m, uint64_t offset, uint64_t pages,
                                     uint32_t prot)
{
    check(domain == 0 && m == pages && offset == 0 && prot == (RIGHT_READ | RIGHT_WRITE));
    return (struct sys_result){OK, IOVA_BASE, 0};
}
static status_t map_new(handle_t memory, uint64_t pages, uint32_t prot, void **out)
{
    (void)memory, (void)prot;
    if (!ring) ring = aligned_alloc(PAGE_SIZE, pages * PAGE_SIZE);
    memset(ring, 0, pages * PAGE_SIZE);
    *out = ring;
    return OK;
}

#include "drivers/virtio_blk/queue.c"

static volatile uint16_t bell;
status_t transport_queue_enable(struct transport *t, uint16_t entries, uint64_t desc, uint64_t avail,
                                uint64_t used, volatile uint16_t **notify)
{
    (void)t;
    check(entries == QUEUE_ENTRIES && desc % 16 == 0 && avail % 2 == 0 && used % 4 == 0);
    *notify = &bell;
    return OK;
}

static struct queue q;
static bool given[QUEUE_ENTRIES]; /* by token: session is the number */
static unsigned outstanding, device_seen;
static uint8_t next;

static void add(unsigned what)
{
    struct token t = {next, (uint8_t)what, (uint8_t)(what >> 4)};
    if (given[next]) return;
    bool added =
        queue_add(&q, what & 1 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, what, 0x5000, what & 6 ? 512 : 0, t);
    check(added == (outstanding < QUEUE_ENTRIES));
    if (!added) return;
    given[next] = true;
    outstanding++;
    next = (uint8_t)((next + 1) % QUEUE_ENTRIES);
}

static void take_one(void)
{
    struct token t;
    uint8_t device_status;
    uint16_t head = q.memory->used.idx;
    status_t s = queue_take(&q, &t, &device_status);
    check(s == OK || s == E_WOULD_BLOCK || s == E_PROTOCOL);
    check((s == E_WOULD_BLOCK) == ((s == OK ? q.used_seen - 1 : q.used_seen) % 65536 == head));
    if (s != OK) return;
    check(t.session < QUEUE_ENTRIES && given[t.session]);
    given[t.session] = false;
    check(outstanding-- > 0);
}

/* The device as it should be: the next request of the avail ring is done. */
static void device_completes(void)
{
    if ((uint16_t)device_seen == q.memory->avail.idx) return;
    uint16_t id = q.memory->avail.ring[device_seen++ % QUEUE_ENTRIES];
    q.memory->used.ring[q.memory->used.idx % QUEUE_ENTRIES].id = id;
    q.memory->used.idx++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct transport t = {0};
    memset(&q, 0, sizeof q);
    memset(given, 0, sizeof given);
    outstanding = device_seen = next = 0;
    queue_prepare(&q);
    check(queue_init(&q, &t) == OK);
    while (in.left) {
        unsigned what = (unsigned)take(&in, 1);
        switch (what & 7) {
        case 0:
        case 1:
            for (unsigned n = what >> 3; n > 0; n--) add(what + n);
            break;
        case 2: queue_kick(&q); break;
        case 3: take_one(); break;
        case 4: device_completes(); break;
        case 5:
            patch(&in, (uint8_t *)ring + offsetof(struct queue_memory, used), sizeof(struct queue_used));
            break;
        case 6: q.memory->used.idx = (uint16_t)(q.memory->used.idx + (what >> 3) - 4); break;
        default: (void)queue_rearm(&q);
        }
        check((unsigned)q.prepared - q.free_count == outstanding && q.prepared <= QUEUE_ENTRIES);
    }
    unsigned issued = 0;
    for (unsigned i = 0; i < QUEUE_ENTRIES; i++) issued += q.issued[i];
    check(issued == outstanding);
    return 0;
}
