/* SPDX-License-Identifier: BSD-2-Clause
 * drivers/virtio_blk/queue.c against a device of our own: one that obeys the standard, and ones that lie. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/sys_types.h"

static struct sys_result sys_memory_create(handle_t account, uint64_t pages, uint32_t flags)
{
    cr_assert_eq(flags, MEMORY_DMA | MEMORY_CONTIGUOUS);
    return (struct sys_result){OK, account + pages, 0};
}
#define IOVA_BASE 0x100000ul
static struct sys_result sys_dma_map(handle_t d, handle_t m, uint64_t offset, uint64_t pages, uint32_t prot)
{
    cr_assert(offset == 0 && m == pages && d == 0 && prot == (RIGHT_READ | RIGHT_WRITE));
    return (struct sys_result){OK, IOVA_BASE, 0};
}

#include "drivers/virtio_blk/queue.c"

static volatile uint16_t bell;
static uint64_t given_desc, given_avail, given_used;
status_t map_new(handle_t memory, uint64_t pages, uint32_t prot, void **out)
{
    (void)memory, (void)prot;
    *out = aligned_alloc(PAGE_SIZE, pages * PAGE_SIZE);
    memset(*out, 0, pages * PAGE_SIZE);
    return OK;
}
status_t transport_queue_enable(struct transport *t, uint16_t entries, uint64_t desc, uint64_t avail,
                                uint64_t used, volatile uint16_t **notify)
{
    (void)t;
    cr_assert_eq(entries, QUEUE_ENTRIES);
    cr_assert(desc % 16 == 0 && avail % 2 == 0 && used % 4 == 0, "alignments of virtio 1.1, 2.6");
    given_desc = desc, given_avail = avail, given_used = used;
    *notify = &bell;
    return OK;
}

static struct queue q;
static uint16_t device_seen; /* avail entries that the device has taken */

static void setup(void)
{
    struct transport t = {0};
    queue_prepare(&q);
    cr_assert_eq(queue_init(&q, &t), OK);
    bell = 0xffff;
}

/* What the device reads at an address of its own. */
static void *device_at(uint64_t iova, uint64_t bytes)
{
    cr_assert(iova >= IOVA_BASE && iova + bytes <= IOVA_BASE + sizeof(struct queue_memory));
    return (uint8_t *)q.memory + (iova - IOVA_BASE);
}

/* The device takes the next entry and follows its chain; returns its id. */
static uint16_t device_take(struct virtio_blk_outhdr *header, struct vring_desc *data)
{
    struct queue_avail *avail = device_at(given_avail, sizeof(*avail));
    struct vring_desc *desc = device_at(given_desc, sizeof(*desc) * QUEUE_ENTRIES);
    cr_assert_neq(device_seen, avail->idx);
    uint16_t id = avail->ring[device_seen++ % QUEUE_ENTRIES];
    cr_assert_eq(desc[id].flags, VRING_DESC_F_INDIRECT);
    cr_assert_eq(desc[id].len, 48);
    struct vring_desc *table = device_at(desc[id].addr, 48);
    cr_assert(table[0].len == sizeof(*header) && (table[0].flags & VRING_DESC_F_NEXT));
    memcpy(header, device_at(table[0].addr, sizeof(*header)), sizeof(*header));
    *data = (struct vring_desc){0};
    uint16_t last = table[0].next;
    if (last == 1) *data = table[1], last = table[1].next;
    cr_assert(last == 2 && table[2].len == 1 && table[2].flags == VRING_DESC_F_WRITE);
    return id;
}

static void device_finish(uint16_t id, uint8_t status)
{
    struct queue_used *used = device_at(given_used, sizeof(*used));
    q.memory->request[id].status = status;
    used->ring[used->idx % QUEUE_ENTRIES] = (struct vring_used_elem){id, 1};
    used->idx++;
}

static void add_one(uint32_t type, uint32_t length)
{
    cr_assert(queue_add(&q, type, 7, 0x5000, length, (struct token){1, 2, 3}));
    queue_kick(&q);
}

Test(virtio_queue, shapes_of_requests, .init = setup)
{
    struct virtio_blk_outhdr header;
    struct vring_desc data;

    add_one(VIRTIO_BLK_T_IN, 4096);
    add_one(VIRTIO_BLK_T_OUT, 512);
    add_one(VIRTIO_BLK_T_FLUSH, 0);
    device_take(&header, &data);
    cr_assert(header.type == VIRTIO_BLK_T_IN && header.sector == 7);
    cr_assert(data.addr == 0x5000 && data.len == 4096 &&
              data.flags == (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE));
    device_take(&header, &data);
    cr_assert(header.type == VIRTIO_BLK_T_OUT && data.len == 512 && data.flags == VRING_DESC_F_NEXT);
    device_take(&header, &data);
    cr_assert(header.type == VIRTIO_BLK_T_FLUSH && data.len == 0);
}

/* 200,000 requests in random order, so that all 16-bit indices wrap: each comes back once, with its own token. */
Test(virtio_queue, every_request_comes_back_once, .init = setup, .timeout = 60)
{
    static uint32_t out[1 << 16]; /* by token: how often it is with the device */
    uint16_t held[QUEUE_ENTRIES];
    uint32_t held_count = 0, flying = 0, added = 0, taken = 0;
    struct virtio_blk_outhdr header;
    struct vring_desc data;
    struct token token;
    uint8_t status;

    srand(1);
    while (taken < 200000) {
        for (int n = rand() % 8; n > 0; n--, added++) {
            struct token t = {(uint8_t)added, (uint8_t)(added >> 8), 1};
            bool took = queue_add(&q, VIRTIO_BLK_T_IN, added, 0, 4096, t);
            cr_assert_eq(took, flying < QUEUE_ENTRIES, "refused only when full");
            if (!took) break;
            out[(uint16_t)added]++;
            flying++;
        }
        queue_kick(&q);
        while (device_seen != q.memory->avail.idx) held[held_count++] = device_take(&header, &data);
        for (int n = rand() % 8; n > 0 && held_count > 0; n--) {
            uint32_t pick = (uint32_t)rand() % held_count;
            device_finish(held[pick], (uint8_t)(held[pick] & 1));
            held[pick] = held[--held_count];
        }
        while (queue_take(&q, &token, &status) == OK) {
            uint16_t name = (uint16_t)(token.session | token.slot << 8);
            cr_assert_eq(out[name]--, 1);
            flying--;
            taken++;
        }
    }
}

Test(virtio_queue, notifies_only_when_the_device_asks, .init = setup)
{
    struct virtio_blk_outhdr header;
    struct vring_desc data;

    add_one(VIRTIO_BLK_T_IN, 512);
    cr_assert_eq(bell, 0, "avail_event 0: the first entry is announced");
    bell = 0xffff;
    add_one(VIRTIO_BLK_T_IN, 512);
    cr_assert_eq(bell, 0xffff, "the device has not asked again");
    device_take(&header, &data);
    device_take(&header, &data);
    q.memory->used.avail_event = device_seen; /* it sleeps */
    for (int i = 0; i < 3; i++) queue_add(&q, VIRTIO_BLK_T_IN, 0, 0, 512, (struct token){0, 0, 0});
    queue_kick(&q);
    cr_assert_eq(bell, 0, "one notification for a batch");
    bell = 0xffff;
    queue_kick(&q);
    cr_assert_eq(bell, 0xffff, "nothing new, no notification");
}

/* Device and driver both sleep unless an event index says that the other wants to hear: whatever the batches
 * and wherever the 16-bit indices wrap, nobody sleeps on work that is there. */
Test(virtio_queue, nobody_sleeps_on_work_across_the_wrap, .init = setup, .timeout = 60)
{
    struct virtio_blk_outhdr header;
    struct vring_desc data;
    struct token token;
    uint8_t status;
    uint16_t held[QUEUE_ENTRIES], signalled = 0;
    uint32_t held_count = 0, flying = 0, taken = 0;
    bool device_awake = false;

    srand(2);
    cr_assert(queue_rearm(&q));
    while (taken < 200000) {
        for (int n = 1 + rand() % 20; n > 0 && flying < QUEUE_ENTRIES; n--, flying++)
            queue_add(&q, VIRTIO_BLK_T_IN, 0, 0, 512, (struct token){0, 0, 0});
        bell = 0xffff;
        queue_kick(&q);
        device_awake |= bell == 0;
        cr_assert(device_awake || device_seen == q.memory->avail.idx, "a lost doorbell at %u", device_seen);
        while (device_awake && device_seen != q.memory->avail.idx) {
            held[held_count++] = device_take(&header, &data);
            if (rand() % 64 == 0) break; /* it stays awake with the rest */
        }
        if (device_seen == q.memory->avail.idx) {
            q.memory->used.avail_event = device_seen;
            device_awake = false;
        }
        for (int n = rand() % 20; n > 0 && held_count > 0; n--) device_finish(held[--held_count], 0);
        uint16_t now = q.memory->used.idx;
        bool interrupt = vring_need_event(q.memory->avail.used_event, now, signalled);
        signalled = now;
        cr_assert(interrupt || now == q.used_seen, "a lost interrupt at %u", now);
        if (!interrupt) continue;
        do {
            for (; queue_take(&q, &token, &status) == OK; taken++) flying--;
        } while (!queue_rearm(&q));
    }
}

Test(virtio_queue, rearm_sees_what_came_meanwhile, .init = setup)
{
    struct virtio_blk_outhdr header;
    struct vring_desc data;
    struct token token;
    uint8_t status;

    add_one(VIRTIO_BLK_T_IN, 512);
    cr_assert(queue_rearm(&q));
    cr_assert_not(queue_done(&q));
    device_finish(device_take(&header, &data), VIRTIO_BLK_S_IOERR);
    cr_assert_not(queue_rearm(&q));
    cr_assert(queue_done(&q), "and a look takes nothing");
    cr_assert(queue_done(&q));
    cr_assert_eq(queue_take(&q, &token, &status), OK);
    cr_assert(status == VIRTIO_BLK_S_IOERR && token.session == 1 && token.slot == 2 && token.op == 3);
    cr_assert(queue_rearm(&q));
    cr_assert_eq(q.memory->avail.used_event, 1);
}

Test(virtio_queue, a_request_without_a_status_is_not_done, .init = setup)
{
    struct virtio_blk_outhdr header;
    struct vring_desc data;
    struct token token;
    uint8_t status;

    add_one(VIRTIO_BLK_T_IN, 512);
    uint16_t id = device_take(&header, &data);
    device_finish(id, q.memory->request[id].status);
    cr_assert_eq(queue_take(&q, &token, &status), E_PROTOCOL);
    q.memory->request[id].status = VIRTIO_BLK_S_UNSUPP;
    cr_assert_eq(queue_take(&q, &token, &status), OK);
}

/* What is about to be published is read back; one wrong word of it is found. */
Test(virtio_queue, what_the_device_will_read_is_compared, .init = setup)
{
    static const uint32_t type[] = {VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};

    for (int i = 0; i < 2; i++) {
        cr_assert(queue_add(&q, type[i], 7, 0x5000, 512, (struct token){1, 2, 3}));
        volatile struct queue_request *r = &q.memory->request[i];
        cr_assert(queue_holds(&q, type[i], 7, 0x5000, 512));
        cr_assert_not(queue_holds(&q, type[1 - i], 7, 0x5000, 512));
        cr_assert_not(queue_holds(&q, type[i], 8, 0x5000, 512));
        cr_assert_not(queue_holds(&q, type[i], 7, 0x5200, 512));
        cr_assert_not(queue_holds(&q, type[i], 7, 0x5000, 1024));
        cr_assert_not(queue_holds(&q, type[i], 7, 0, 0));
        r->table[1].flags ^= VRING_DESC_F_WRITE;
        cr_assert_not(queue_holds(&q, type[i], 7, 0x5000, 512));
        r->table[1].flags ^= VRING_DESC_F_WRITE;
        r->table[0].next = 2;
        cr_assert_not(queue_holds(&q, type[i], 7, 0x5000, 512));
    }
    cr_assert(queue_add(&q, VIRTIO_BLK_T_FLUSH, 0, 0, 0, (struct token){1, 2, 3}));
    cr_assert(queue_holds(&q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
    q.memory->avail.ring[2] = 9;
    cr_assert_not(queue_holds(&q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
}

/* The parts of an entry that are written once. */
Test(virtio_queue, a_spoilt_entry_is_found, .init = setup)
{
    volatile struct queue_request *r = &q.memory->request[0];
    volatile __virtio64 *word[] = {&q.memory->desc[0].addr, &r->table[0].addr, &r->table[2].addr};

    add_one(VIRTIO_BLK_T_IN, 512);
    uint64_t sector = r->header.sector, data = r->table[1].addr;
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned half = 0; half < 2; half++) { /* address; length, flags and next */
            word[i][half] ^= 1;
            cr_assert_not(queue_holds(&q, VIRTIO_BLK_T_IN, sector, data, 512), "%u, %u", i, half);
            word[i][half] ^= 1;
        }
    }
    cr_assert(queue_holds(&q, VIRTIO_BLK_T_IN, sector, data, 512));
}

/* The device reports an error, and it was asked for nonsense. */
static status_t take_error(uint64_t flip)
{
    struct token token;
    uint8_t status;

    add_one(VIRTIO_BLK_T_OUT, 512);
    queue_kick(&q);
    q.memory->request[0].table[0].addr ^= flip;
    q.memory->request[0].status = VIRTIO_BLK_S_IOERR;
    q.memory->used.ring[0].id = 0;
    q.memory->used.idx = 1;
    return queue_take(&q, &token, &status);
}
Test(virtio_queue, an_error_is_the_devices, .init = setup)
{
    cr_assert_eq(take_error(0), OK);
    cr_assert_eq(queue_status(&q), VIRTIO_BLK_S_IOERR);
    q.memory->request[0].status = VIRTIO_BLK_S_OK;
    cr_assert_eq(queue_status(&q), VIRTIO_BLK_S_OK, "from where the device wrote it");
}
Test(virtio_queue, an_error_of_a_spoilt_entry_is_not, .init = setup)
{
    cr_assert_eq(take_error(0x40), E_PROTOCOL);
}

static status_t take_after_lie(uint32_t id, uint16_t idx)
{
    struct token token;
    uint8_t status;

    add_one(VIRTIO_BLK_T_IN, 512);
    q.memory->used.ring[0].id = id;
    q.memory->used.idx = idx;
    return queue_take(&q, &token, &status);
}

Test(virtio_queue, lie_id_out_of_range, .init = setup)
{
    cr_assert_eq(take_after_lie(QUEUE_ENTRIES, 1), E_PROTOCOL);
}
Test(virtio_queue, lie_id_huge, .init = setup) { cr_assert_eq(take_after_lie(0xffffffff, 1), E_PROTOCOL); }
Test(virtio_queue, lie_id_not_issued, .init = setup) { cr_assert_eq(take_after_lie(1, 1), E_PROTOCOL); }
Test(virtio_queue, lie_more_than_was_published, .init = setup)
{
    cr_assert_eq(take_after_lie(0, 2), E_PROTOCOL);
}
Test(virtio_queue, lie_index_runs_backwards, .init = setup)
{
    cr_assert_eq(take_after_lie(0, 0xffff), E_PROTOCOL);
}

Test(virtio_queue, lie_the_same_twice, .init = setup)
{
    struct virtio_blk_outhdr header;
    struct vring_desc data;
    struct token token;
    uint8_t status;

    add_one(VIRTIO_BLK_T_IN, 512);
    add_one(VIRTIO_BLK_T_IN, 512);
    uint16_t id = device_take(&header, &data);
    device_finish(id, 0);
    device_finish(id, 0);
    cr_assert_eq(queue_take(&q, &token, &status), OK);
    cr_assert_eq(queue_take(&q, &token, &status), E_PROTOCOL);
}
