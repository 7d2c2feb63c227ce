/* SPDX-License-Identifier: BSD-2-Clause
 * virtio block device, modern PCI transport (virtio 1.1, sections 2.6, 4.1 and 5.2): what pci.c,
 * queue.c and main.c share. Register and ring structures are Linux's (linux/virtio_*.h); what is
 * here is how this driver holds them. Register notes are in README.md. */
#ifndef COPPICE_VIRTIO_BLK_DEVICE_H
#define COPPICE_VIRTIO_BLK_DEVICE_H

#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include "lib/driver.h"

/* --- Transport (pci.c) --- */
#define TRANSPORT_BARS 6
/* A device that needs longer is broken: the reset is reported failed. */
#define RESET_WAIT_NS 1000000000ul

struct transport {
    handle_t pci; /* the pci service */
    handle_t dma; /* the function's DMA domain and bus-master switch */
    handle_t irq; /* MSI-X entry 0 */
    uint32_t bdf;
    volatile struct virtio_pci_common_cfg *common;
    volatile uint8_t *config; /* struct virtio_blk_config */
    uint64_t config_bytes;
    volatile uint8_t *notify;
    uint64_t notify_bytes;
    uint32_t notify_multiplier;
    uint8_t *bar[TRANSPORT_BARS]; /* mapped on first use */
    uint64_t bar_bytes[TRANSPORT_BARS];
};

/* Claims and maps; changes nothing in the device. */
status_t transport_attach(struct transport *t) MUST_USE;
/* On return the device reads reset and the kernel knows that DMA has stopped. */
status_t transport_reset(struct transport *t) MUST_USE;
uint64_t transport_features(struct transport *t);
/* Accepts `features`; E_UNSUPPORTED if the device does not agree. */
status_t transport_negotiate(struct transport *t, uint64_t features) MUST_USE;
/* Gives the rings to queue 0. On return *notify is its doorbell. */
status_t transport_queue_enable(struct transport *t, uint16_t entries, uint64_t desc, uint64_t avail,
                                uint64_t used, volatile uint16_t **notify) MUST_USE;
void transport_driver_ok(struct transport *t);
/* Device configuration: 0 past the end; 64 bits are two halves of one generation. */
uint32_t transport_config32(const struct transport *t, uint32_t offset);
uint64_t transport_config64(const struct transport *t, uint32_t offset);

/* --- Queue (queue.c) --- */
/* A power of two. Each entry is one request through an indirect table. */
#define QUEUE_ENTRIES 128

/* Whose request an entry carries, and what it asked for. */
struct token {
    uint8_t session, slot, op;
};
#define TOKEN_OWN 0xff /* session of the driver's own requests */

/* One request's device-visible part; lives in the queue's own DMA memory. */
struct queue_request {
    struct vring_desc table[3]; /* header, data, status */
    struct virtio_blk_outhdr header;
    uint8_t status;
    uint8_t pad[15];
};
_Static_assert(sizeof(struct queue_request) == 80, "tables stay 16-byte aligned");

struct queue_avail {
    uint16_t flags, idx, ring[QUEUE_ENTRIES], used_event;
};
struct queue_used {
    uint16_t flags, idx;
    struct vring_used_elem ring[QUEUE_ENTRIES];
    uint16_t avail_event;
};
struct queue_memory { /* all that the device reaches, besides the sessions' data */
    struct vring_desc desc[QUEUE_ENTRIES];
    struct queue_avail avail;
    uint16_t pad;
    struct queue_used used;
    uint8_t identity[VIRTIO_BLK_ID_BYTES];
    struct queue_request request[QUEUE_ENTRIES] __attribute__((aligned(16)));
};

struct queue {
    handle_t object; /* of memory; 0: there is none */
    volatile struct queue_memory *memory;
    uint64_t iova; /* of memory */
    volatile uint16_t *notify;
    uint16_t avail_idx; /* next to publish */
    uint16_t kicked;    /* avail_idx at the last kick */
    uint16_t used_seen; /* completions taken */
    uint16_t prepared;  /* entries ever used: their constant parts are written */
    uint16_t free_count;
    uint16_t free[QUEUE_ENTRIES];
    bool issued[QUEUE_ENTRIES];
    struct token token[QUEUE_ENTRIES];
};

void queue_prepare(struct queue *q); /* its memory, ahead of the device */
status_t queue_init(struct queue *q, struct transport *t) MUST_USE;
/* Puts one request into the ring; false: it is full. type: VIRTIO_BLK_T_*; length 0: no data. */
bool queue_add(struct queue *q, uint32_t type, uint64_t sector, uint64_t data, uint32_t length,
               struct token token);
/* The entry that was added last says this, read back from where the device will read it. */
bool queue_holds(const struct queue *q, uint32_t type, uint64_t sector, uint64_t data,
                 uint32_t length) MUST_USE;
void queue_kick(struct queue *q); /* publishes all that was added; at most one MMIO write */
/* Takes one completion. E_WOULD_BLOCK: none. E_PROTOCOL: the device's used ring makes no sense. */
status_t queue_take(struct queue *q, struct token *token, uint8_t *device_status) MUST_USE;
/* The device's status of the completion that was taken last, read again from where it wrote it. */
uint8_t queue_status(const struct queue *q);
/* Asks for an interrupt on the next completion; false: there already is one. */
bool queue_rearm(struct queue *q);
bool queue_done(const struct queue *q); /* there is a completion; it stays where it is */

#endif
