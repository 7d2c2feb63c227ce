/* SPDX-License-Identifier: BSD-2-Clause
 * The client's side of sessions (layout and rules: abi/session.h). The session survives its driver: a
 * client sees only latency. Fields of driver-written memory are validated before use; what breaks the
 * protocol is reported to recovery and otherwise ignored. */
#ifndef COPPICE_LIB_SESSION_H
#define COPPICE_LIB_SESSION_H

#include "../abi/session.h"
#include "runtime.h"

/* *notification (made if 0) and a capability to send along that may only signal it. */
status_t session_notification(handle_t *notification, handle_t *to_send) MUST_USE;

struct block_session {
    uint64_t id, driver_bit, next_id;
    handle_t doorbell;     /* the driver's notification, to signal */
    handle_t notification; /* ours */
    uint64_t bits;         /* our bits in it */
    handle_t ends; /* with the session: the notification if it is of our making, or what was sent of it */
    uint32_t slots;
    uint64_t busy;       /* bit i: slot i is pending or not yet taken */
    uint64_t submitted;  /* bit i: slot i is filled and the driver not told yet */
    uint64_t ready;      /* bit i: slot i was reported complete and not looked at yet */
    uint64_t complained; /* bit i: recovery was told about slot i's request */
    uint64_t data_bytes;
    struct session_request *request;
    const struct session_ledger *ledger;
    struct session_hint *hint;
    uint8_t *data;
    uint64_t violations; /* completions that did not fit what is outstanding */
};
struct block_done {
    uint32_t slot;
    status_t status;
    uint64_t id;
};

/* slots <= SESSION_SLOTS_MAX. notification: one of the caller's with READ|WRITE; 0: makes its own. */
status_t block_open(struct block_session *s, const char *service, uint32_t slots, uint64_t data_bytes,
                    handle_t notification) MUST_USE;
/* Puts a request into a free slot; returns the slot, or -1 if all are busy. Nothing is signalled yet. */
int block_submit(struct block_session *s, enum block_op op, uint64_t sector, uint32_t length,
                 uint64_t offset);
/* Tells the driver about all submitted. Not needed before block_wait and block_arm, which do it, at less
 * cost: for a client that goes on with other work. */
void block_kick(struct block_session *s);
/* Takes up to max completions without waiting; frees their slots. Each request is returned once. */
uint32_t block_take(struct block_session *s, struct block_done *done, uint32_t max);
void block_wait(struct block_session *s); /* sleeps until there may be something to take */
/* For a caller that waits by itself, for several things at once: true: nothing to take, and s->bits will
 * be signalled when there is. The next block_take ends the announcement. */
bool block_arm(struct block_session *s) MUST_USE;
/* Ends the session: nothing may be pending (E_BUSY). Its memory is gone after this. */
status_t block_close(struct block_session *s) MUST_USE;
/* One request, waits for it. For a session with nothing else outstanding. */
status_t block_do(struct block_session *s, enum block_op op, uint64_t sector, uint32_t length,
                  uint64_t offset) MUST_USE;

struct stream_session {
    uint64_t id, driver_bit, bits;
    handle_t doorbell, notification;
    struct session_stream_client *client;
    const volatile struct session_stream_driver *driver;
    uint8_t *tx, *rx;
    uint64_t violations; /* indices that cannot be */
    bool complained;
};
status_t stream_open(struct stream_session *s, const char *service, handle_t notification) MUST_USE;
size_t stream_write(struct stream_session *s, const void *data, size_t n); /* what fits; never waits */
size_t stream_read(struct stream_session *s, void *data, size_t n);        /* what is there; never waits */
void stream_control(struct stream_session *s, uint32_t settings);          /* line settings */
void stream_wait(struct stream_session *s);         /* sleeps until there may be input or room */
bool stream_arm(struct stream_session *s) MUST_USE; /* as block_arm: false: there is input to read */

#endif
