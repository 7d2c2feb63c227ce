/* SPDX-License-Identifier: BSD-2-Clause
 * Sessions: the memory through which a client gives a driver work, and which outlives both drivers and
 * replies. All of it belongs to recovery. Four memory objects a session:
 *   request   written by the client, read-only to the driver      struct session_request / session_stream_client
 *   ledger    written by the driver, read-only to the client      struct session_ledger  / session_stream_driver
 *   hint      written by both; wrong hints cost time, never truth struct session_hint
 *   data      buffers, written by both, reachable by the device   bytes (block class) or the byte rings
 *
 * Block class. A request lives in a slot. Truth is in ids alone: a slot is
 *   free       slot.id == 0
 *   pending    slot.id != 0 and ledger.completed_id != slot.id
 *   completed  slot.id != 0 and ledger.completed_id == slot.id
 * The client fills a free slot, stores id last (ids grow by one from 1 a session and are never reused),
 * sets the slot's hint bit and signals the driver. The driver validates every field of its own copy of
 * the slot, stores issued_gen and issued_id, gives the request to the device, and on completion stores
 * status, then completed_id, then the client's hint bit, and signals. The client acknowledges by
 * storing slot.id = 0. Nothing in hint is needed for correctness: a new incarnation takes all submit
 * bits as set, issues what is pending, and sets every complete bit once (and so does a living one that
 * is rung for and finds no hint); so no completion is lost or
 * repeated whatever the instruction it died at. Exactly-once completion over at-least-once execution.
 *
 * Stream class (characters). tx bytes are in data[0..STREAM_RING), rx bytes in data[STREAM_RING..2*STREAM_RING).
 * Indices count bytes modulo 2^32. The index that says "this byte is done" is stored by the kernel in
 * the same step as the port access (port_in, port_out), so a byte neither repeats nor vanishes. */
#ifndef COPPICE_ABI_SESSION_H
#define COPPICE_ABI_SESSION_H

#include "types.h"

#define SESSION_SLOTS_MAX    64
#define SESSION_ATTEMPTS_MAX 5 /* a request in flight at this many deaths is poisoned */
#define SESSION_DATA_MAX     (4ul << 20)
#define CHECKPOINT_MAX       4000u /* bytes a service may commit: one page with recovery's header */
#define SECTOR_SIZE          512

enum session_class { SESSION_BLOCK = 1, SESSION_STREAM = 2 };
enum block_op { BLOCK_READ = 0, BLOCK_WRITE = 1, BLOCK_FLUSH = 2, BLOCK_INFO = 3 };
/* BLOCK_INFO: the driver writes struct block_info into the request's buffer. */
struct block_info {
    uint64_t sectors;
    uint32_t max_bytes; /* largest request */
    uint32_t flags;     /* BLOCK_READ_ONLY */
    char serial[24];    /* zero-terminated */
};
#define BLOCK_READ_ONLY 1u

struct session_slot { /* 32 bytes; written by the client */
    uint64_t id;      /* 0: free; stored last */
    uint32_t op;      /* enum block_op */
    uint32_t length;  /* bytes, a multiple of SECTOR_SIZE */
    uint64_t sector;
    uint64_t offset; /* of the buffer in data */
};
struct session_request {
    uint32_t client_waiting; /* 1: the client sleeps, signal it */
    uint32_t reserved[15];
    struct session_slot slot[SESSION_SLOTS_MAX];
};
struct session_entry { /* 32 bytes; written by the driver */
    uint64_t issued_id;
    uint64_t completed_id;
    uint32_t issued_gen; /* incarnation that last issued it */
    uint32_t status;     /* status_t of the completion */
    uint64_t reserved;
};
struct session_ledger {
    uint32_t driver_waiting;  /* 1: the driver sleeps, signal it */
    uint32_t rounds;          /* grows each time the driver looks for work: answers recovery's question */
    uint64_t completed_total; /* progress counter of this incarnation's memory, never trusted */
    uint32_t irq_lost; /* the incarnation that found its device done and was not interrupted; 0: none has */
    uint32_t reserved[11];
    struct session_entry entry[SESSION_SLOTS_MAX];
};
struct session_hint {
    uint64_t submit; /* client: lock or; driver: xchg 0 */
    uint32_t pad0[14];
    uint64_t complete; /* driver: lock or; client: xchg 0 */
    uint32_t pad1[14];
};

#define STREAM_RING 4096u
struct session_stream_client {
    uint32_t client_waiting;
    uint32_t tx_head; /* bytes written by the client */
    uint32_t rx_tail; /* bytes taken by the client */
    uint32_t control; /* line settings the client asks for: STREAM_CONTROL */
};
struct session_stream_driver {
    uint32_t driver_waiting;
    uint32_t tx_tail; /* bytes that reached the device */
    uint32_t rx_head; /* bytes taken from the device */
    uint32_t rx_dropped;
    uint32_t control_done; /* line settings in force */
    uint32_t rounds;       /* as in struct session_ledger */
};

/* Line settings, the words `control` and `control_done`: STREAM_BAUD_BASE / speed, and the line control of a
 * 16550 (word length, stop bits, parity; data sheet table II). 0 asks for nothing. */
#define STREAM_BAUD_BASE              115200u
#define STREAM_8N1                    0x03u
#define STREAM_CONTROL(divisor, line) ((uint32_t)(divisor) | (uint32_t)(line) << 16)
#define STREAM_DIVISOR(control)       ((control)&0xffffu)
#define STREAM_LINE(control)          ((control) >> 16)

/* Bits of a service's doorbell notification: 0..47 session index, then the driver's own. A client may
 * signal any of them: a driver takes each as a hint to look. */
#define DOORBELL_SESSION(i) (1ul << (i))
#define DOORBELL_SESSIONS   48
#define DOORBELL_CHANGED    (1ul << 63)         /* the table of sessions changed */
#define DOORBELL_IRQ(i)     (1ul << (48 + (i))) /* 0..11 */
#define DOORBELL_TIMER      (1ul << 62)

#endif
