/* SPDX-License-Identifier: BSD-2-Clause
 * Block driver for virtio: the operations table that lib/driver.c drives. Owns one PCI function,
 * one queue and the record of who the disk is. Sessions, ledger, replay and validation of clients
 * are the library's; a request that is not complete when this process ends is issued again by the
 * next one. Fails by ending: a device that does not reset, refuses the features or breaks the
 * ring's rules is not worked around; the supervisor starts the next incarnation, which begins with
 * a reset. */
#include "device.h"
#include "record.h"
#include "lib/atomic.h"

#define BLOCK_BYTES_MAX (1u << 20)
/* Completions between commits: the counters may be that stale. The first commit after a restart
 * comes sooner, so that a restart that nobody asked for is counted. */
#define CHECKPOINT_EVERY 4096
#define CHECKPOINT_SOON  256
#define IDENTITY_WAIT_NS 2000000000ul

static struct transport transport;
static struct queue queue;
static struct record disk;
static uint64_t features; /* negotiated */
static uint32_t until_checkpoint;
static uint64_t data_iova_not[DOORBELL_SESSIONS]; /* inverted, beside the session's own */

static const uint64_t features_wanted = 1ul << VIRTIO_F_VERSION_1 | 1ul << VIRTIO_F_ACCESS_PLATFORM |
                                        1ul << VIRTIO_RING_F_INDIRECT_DESC | 1ul << VIRTIO_RING_F_EVENT_IDX |
                                        1ul << VIRTIO_BLK_F_FLUSH | 1ul << VIRTIO_BLK_F_BLK_SIZE |
                                        1ul << VIRTIO_BLK_F_RO | 1ul << VIRTIO_BLK_F_SIZE_MAX;

static const uint64_t features_needed =
    1ul << VIRTIO_F_VERSION_1 | 1ul << VIRTIO_RING_F_INDIRECT_DESC | 1ul << VIRTIO_RING_F_EVENT_IDX;

static bool has(uint32_t feature) { return features >> feature & 1; }

static bool record_valid(const void *checkpoint)
{
    const struct record *r = checkpoint;
    return r->sectors > 0 && r->block_bytes >= SECTOR_SIZE && (r->block_bytes & (r->block_bytes - 1)) == 0 &&
           (r->offered & features_needed) == features_needed && r->serial[sizeof(r->serial) - 1] == 0;
}

static status_t blk_attach(struct driver *d)
{
    status_t status = transport_attach(&transport);
    if (status != OK) return status;
    return sys_irq_bind(transport.irq, d->doorbell, DOORBELL_IRQ(0));
}

/* What the device says of itself, without its serial number. */
static struct record identity_read(uint64_t offered)
{
    struct record now = {.offered = offered, .bdf = transport.bdf};
    now.sectors = transport_config64(&transport, offsetof(struct virtio_blk_config, capacity));
    now.block_bytes = SECTOR_SIZE;
    if (has(VIRTIO_BLK_F_BLK_SIZE))
        now.block_bytes = transport_config32(&transport, offsetof(struct virtio_blk_config, blk_size));
    return now;
}

/* Asks for the serial number: the one request that costs a round trip, so only a cold start does
 * it. Polled, because the main loop that takes interrupts does not run yet. A device without one
 * keeps it empty. */
static status_t serial_read(char serial[24])
{
    uint64_t at = queue.iova + offsetof(struct queue_memory, identity);
    struct token token;
    uint8_t device_status;
    status_t status;
    queue_add(&queue, VIRTIO_BLK_T_GET_ID, 0, at, VIRTIO_BLK_ID_BYTES, (struct token){TOKEN_OWN, 0, 0});
    queue_kick(&queue);
    uint64_t deadline = clock_ns() + IDENTITY_WAIT_NS;
    while ((status = queue_take(&queue, &token, &device_status)) == E_WOULD_BLOCK)
        if (clock_ns() > deadline) return E_IO;
    if (status != OK) return status;
    if (!queue_rearm(&queue)) return E_PROTOCOL; /* a completion of nothing */
    if (device_status != VIRTIO_BLK_S_OK) return OK;
    for (uint32_t i = 0; i < VIRTIO_BLK_ID_BYTES; i++) {
        char c = (char)queue.memory->identity[i];
        if (c == 0) break;
        serial[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    return OK;
}

static bool identity_same(const struct record *a, const struct record *b)
{
    return a->sectors == b->sectors && a->offered == b->offered && a->bdf == b->bdf &&
           a->block_bytes == b->block_bytes;
}

/* Cold: asks the disk and starts a new record. */
static status_t identity_ask(struct driver *d, struct record now)
{
    disk = now;
    disk.resets = 1;
    until_checkpoint = CHECKPOINT_EVERY;
    status_t status = serial_read(disk.serial);
    if (status != OK) return status;
    if (!record_valid(&disk)) return E_UNSUPPORTED;
    log_line("%s: %lu sectors, blocks of %u, serial '%s'%s%s", startup()->name, disk.sectors,
             disk.block_bytes, disk.serial, has(VIRTIO_BLK_F_RO) ? ", read-only" : "",
             has(VIRTIO_BLK_F_FLUSH) ? "" : ", no flush");
    return driver_checkpoint(d, &disk);
}

/* Warm: the checkpoint is about this very disk, go on counting. */
static status_t identity_restore(struct driver *d, struct record now, const struct record *old)
{
    if (old != NULL && identity_same(old, &now)) {
        disk = *old;
        until_checkpoint = CHECKPOINT_SOON;
        disk.resets++;
        return OK;
    }
    if (old != NULL)
        log_line("%s: checkpoint is of another disk (%lu sectors, now %lu): cold start", startup()->name,
                 old->sectors, now.sectors);
    return identity_ask(d, now);
}

static struct driver_ops operations;

static void limits_set(struct driver *d)
{
    uint32_t max = BLOCK_BYTES_MAX; /* data is contiguous for the device, hence one segment */
    if (has(VIRTIO_BLK_F_SIZE_MAX)) {
        uint32_t size_max = transport_config32(&transport, offsetof(struct virtio_blk_config, size_max));
        size_max -= size_max % SECTOR_SIZE;
        if (size_max > 0 && size_max < max) max = size_max;
    }
    operations.max_bytes = max;
    d->sectors = disk.sectors;
    d->info.flags = has(VIRTIO_BLK_F_RO) ? BLOCK_READ_ONLY : 0;
    memcpy(d->info.serial, disk.serial, sizeof(d->info.serial));
}

static status_t blk_reset(struct driver *d, const void *checkpoint)
{
    status_t status = transport_reset(&transport);
    if (status != OK) return status;
    status = sys_dma_bus_master(transport.dma, true);
    if (status != OK) return status;
    uint64_t offered = transport_features(&transport);
    features = offered & features_wanted;
    if ((features & features_needed) != features_needed) return E_UNSUPPORTED;
    status = transport_negotiate(&transport, features);
    if (status != OK) return status;
    status = queue_init(&queue, &transport);
    if (status != OK) return status;
    struct record now = identity_read(offered);
    transport_driver_ok(&transport);
    status = identity_restore(d, now, checkpoint);
    if (status != OK) return status;
    limits_set(d);
    return OK;
}

static status_t blk_session_open(struct driver *d, struct driver_session *s)
{
    (void)d;
    struct sys_result iova =
        sys_dma_map(transport.dma, s->data_memory, 0, PAGES_FOR(s->data_bytes), RIGHT_READ | RIGHT_WRITE);
    s->data_iova.v = iova.value;
    data_iova_not[s->index] = ~iova.value;
    return iova.status;
}

static bool request_add(struct driver_session *s, const struct session_slot *r, struct token token)
{
    uint64_t data = s->data_iova.v + r->offset;
    switch (r->op) {
    case BLOCK_READ: return queue_add(&queue, VIRTIO_BLK_T_IN, r->sector, data, r->length, token);
    case BLOCK_WRITE: return queue_add(&queue, VIRTIO_BLK_T_OUT, r->sector, data, r->length, token);
    default: return queue_add(&queue, VIRTIO_BLK_T_FLUSH, 0, 0, 0, token);
    }
}

/* By other instructions than those that added it: a program with one wrong instruction ends here, before the device
 * reads or writes where nobody asked it to. r is ours, so no client can bring this about. */
static bool request_holds(const struct driver_session *s, const struct session_slot *r)
{
    static const uint8_t type[] = {VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH};
    uint32_t op = shared_load(&r->op);
    if (op > BLOCK_FLUSH) return false;
    if (op == BLOCK_FLUSH) return queue_holds(&queue, type[op], 0, 0, 0);
    uint64_t data = ~data_iova_not[s->index % DOORBELL_SESSIONS] + shared_load(&r->offset);
    return queue_holds(&queue, type[op], shared_load(&r->sector), data, shared_load(&r->length));
}

static bool blk_submit(struct driver *d, struct driver_session *s, uint32_t slot,
                       const struct session_slot *r)
{
    if (r->op == BLOCK_FLUSH && !has(VIRTIO_BLK_F_FLUSH)) {
        driver_complete(d, s, slot, OK); /* without the feature every write is durable (5.2.6.2) */
        return true;
    }
    if (!request_add(s, r, (struct token){(uint8_t)s->index, (uint8_t)slot, (uint8_t)r->op})) return false;
    if (!request_holds(s, r)) fatal("%s: this is not what was asked for", startup()->name);
    return true;
}

static void blk_kick(struct driver *d)
{
    (void)d;
    queue_kick(&queue);
}

/* Reports everything that the device has completed; returns how much that was. */
static uint32_t completions_take(struct driver *d)
{
    struct token token;
    uint8_t device_status;
    status_t status;
    uint32_t taken = 0;
    do {
        while ((status = queue_take(&queue, &token, &device_status)) == OK) {
            status_t result = device_status == VIRTIO_BLK_S_OK ? OK : E_IO;
            if (result != OK && queue_status(&queue) == VIRTIO_BLK_S_OK)
                fatal("%s: the device has reported no error", startup()->name); /* as request_holds */
            record_count(&disk, token.op, result);
            driver_complete(d, &d->session[token.session], token.slot, result);
            taken++;
        }
        if (status == E_PROTOCOL) fatal("%s: the device's used ring makes no sense", startup()->name);
    } while (!queue_rearm(&queue));
    return taken;
}

static void blk_interrupt(struct driver *d, uint64_t doorbell_bits)
{
    (void)doorbell_bits;
    if (sys_irq_ack(transport.irq) != OK) fatal("%s: the interrupt is gone", startup()->name);
    uint32_t taken = completions_take(d);
    record_batch(&disk, taken);
    if (taken < until_checkpoint) {
        until_checkpoint -= taken;
    } else if (driver_checkpoint(d, &disk) == OK) {
        until_checkpoint = CHECKPOINT_EVERY;
    }
}

static bool blk_unheard(struct driver *d)
{
    (void)d;
    return queue_done(&queue);
}

/* The library calls this once the device has none of the session's requests left. */
static void blk_session_close(struct driver *d, struct driver_session *s)
{
    (void)d;
    if (sys_dma_unmap(transport.dma, s->data_iova) != OK)
        log_line("%s: session %u was not mapped", startup()->name, s->index);
}

static struct driver_ops operations = {
    .class = SESSION_BLOCK,
    .checkpoint_valid = record_valid,
    .attach = blk_attach,
    .reset = blk_reset,
    .session_open = blk_session_open,
    .session_close = blk_session_close,
    .submit = blk_submit,
    .kick = blk_kick,
    .interrupt = blk_interrupt,
    .unheard = blk_unheard,
    .max_bytes = BLOCK_BYTES_MAX,
};

/* What a spare does before there is a device for it. */
void program_prepare(void) { queue_prepare(&queue); }

int main(void)
{
    operations.name = startup()->name; /* one program, several services */
    operations.checkpoint_version = record_schema.version;
    operations.checkpoint_bytes = record_schema.bytes;
    operations.migrate = record_schema.migrate;
    return driver_main(&operations);
}
