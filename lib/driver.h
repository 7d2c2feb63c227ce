/* SPDX-License-Identifier: BSD-2-Clause
 * The driver's side: a driver is its device code plus a struct driver_ops. driver_main owns the life of
 * an incarnation: attach to recovery, load and validate the checkpoint, reset the device, replay what is
 * unfinished, serve. Start and restart are one path: a first start is a restart with nothing to replay. */
#ifndef COPPICE_LIB_DRIVER_H
#define COPPICE_LIB_DRIVER_H

#include "../abi/session.h"
#include "runtime.h"

struct driver;
struct driver_session {
    uint64_t id; /* 0: none at this index */
    uint32_t index, class, slots;
    status_t refused; /* session_open failed: every request fails with this */
    uint64_t data_bytes;
    handle_t client; /* to signal */
    uint32_t owner;  /* the client's service */
    uint64_t client_bits;
    handle_t request_memory, ledger_memory, hint_memory;
    handle_t data_memory;                  /* RIGHT_DMA */
    const struct session_request *request; /* block class */
    struct session_ledger *ledger;
    struct session_hint *hint;
    const volatile struct session_stream_client *stream_client; /* stream class */
    struct session_stream_driver *stream_driver;
    uint8_t *data;                     /* stream class; else NULL until driver_data */
    iova_t data_iova;                  /* set by the driver's session_open */
    uint64_t issued;                   /* bit i: slot i is with the device */
    uint64_t deferred;                 /* bit i: slot i is pending and found no room */
    uint64_t suspects;                 /* bit i: slot i was in flight at a death and is not completed since */
    uint64_t done;                     /* bit i: slot i is completed, the client's hint is not set yet */
    struct session_stream_client seen; /* stream: what the last pump had before it */
    bool wake;                         /* signal the client, if it waits, after this round; pump sets it */
};

struct driver_ops {
    const char *name;
    enum session_class class; /* 0: serves only calls */
    uint32_t checkpoint_version, checkpoint_bytes;
    uint64_t checkpoint_age_ms; /* one committed longer ago is not used; 0: it does not age */
    /* The class's own rule for a checkpoint that passed version, length and checksum. NULL: always good. */
    bool (*checkpoint_valid)(const void *checkpoint);
    /* Another version's checkpoint, of so many bytes, becomes one of this version, in place; there is room for a page.
     * False: cannot. NULL: never. */
    bool (*migrate)(uint32_t version, uint32_t bytes, void *checkpoint);
    /* Claims and maps the device. No device access that changes it. */
    status_t (*attach)(struct driver *d); /* E_NOT_FOUND: no such device; may be NULL */
    /* Resets the device, confirms it (sys_dma_reset_done), initialises it from `checkpoint` (NULL: cold). */
    status_t (*reset)(struct driver *d, const void *checkpoint);          /* may be NULL */
    status_t (*session_open)(struct driver *d, struct driver_session *s); /* after reset; may be NULL */
    void (*session_close)(struct driver *d, struct driver_session *s);
    /* Block: gives a validated request to the device; false: no room now, it is offered again. */
    bool (*submit)(struct driver *d, struct driver_session *s, uint32_t slot,
                   const struct session_slot *request);
    void (*kick)(struct driver *d); /* after a round of submits; may be NULL */
    /* Stream: moves what can be moved. */
    void (*pump)(struct driver *d, struct driver_session *s);
    void (*interrupt)(struct driver *d, uint64_t doorbell_bits); /* DOORBELL_IRQ(i), DOORBELL_TIMER */
    /* A look at the device that takes nothing: something is done. Asked when work is with the device and others ring;
     * if it is so for IRQ_LOST_NS without an interrupt, recovery is told. Block class; NULL: cannot tell. */
    bool (*unheard)(struct driver *d);
    void (*call)(struct driver *d,
                 struct message *m); /* a call on the service's endpoint: writes the reply */
    uint64_t max_bytes;              /* block: largest request; 0: data size */
};

struct driver {
    const struct driver_ops *ops;
    handle_t recovery, supervisor, doorbell, endpoint; /* endpoint 0: has none */
    uint32_t generation;
    uint32_t checkpoint_source; /* 0 none, 1 latest, 2 previous, 3 of before an update */
    void *staging;              /* checkpoint staging area */
    uint64_t staging_bytes;
    uint64_t sectors;       /* block: capacity, set by reset; requests beyond it fail with E_ARGUMENT */
    struct block_info info; /* block: serial and flags, set by reset */

    /* The library's own. */
    uint64_t found[3]; /* checkpoint in the staging area: its bytes, source (0: none) and version */
    uint32_t sessions; /* length of recovery's table */
    uint64_t open;     /* bit i: session[i] is served */
    uint64_t closing;  /* bit i: session[i] is closed, its requests are still with the device */
    uint32_t in_flight, suspects; /* sums over the sessions */
    uint64_t rung;                /* bit i: somebody rang for session i since the last round */
    bool one_by_one;              /* some request was in flight at several deaths: suspects go alone */
    bool submitted;               /* the device was given something since the last kick */
    uint64_t unheard_ns; /* since when the device is known to be done, without an interrupt; 0: it is not */
    bool room;           /* something completed since deferred requests were offered last */
    bool shared;         /* more than one client has sessions: none has more than its share with the device */
    bool full;           /* this round: the device took no more */
    bool passed; /* this round: session `first` waits and got nothing, so the next round begins with it */
    uint32_t first;
    uint32_t most; /* requests with the device at which the session in hand gets no more */
    struct driver_session session[DOORBELL_SESSIONS];
    uint64_t message_sum; /* of the call as it came, or of its reply as it was made */
};

int driver_main(const struct driver_ops *ops); /* returns only if start-up failed: the status */
/* Block: a request that was submitted is done. Idempotent for a slot that is not issued: reports false. */
bool driver_complete(struct driver *d, struct driver_session *s, uint32_t slot, status_t status);
/* The session's data for the CPU, which a driver whose device does all the work never looks at: mapped when it is asked
 * for, not in the path of a restart. NULL: there is no room for it. */
uint8_t *driver_data(struct driver_session *s);
/* Commits ops->checkpoint_bytes as the newest checkpoint. */
status_t driver_checkpoint(struct driver *d, const void *checkpoint) MUST_USE;

#endif
