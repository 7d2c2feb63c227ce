/* SPDX-License-Identifier: BSD-2-Clause
 * The acting half of recovery: memory and capabilities behind the core's sessions and services.
 *   main.c     messages and the watch's clock
 *   objects.c  what a session and a service consist of, made and unmade */
#ifndef COPPICE_RECOVERY_SHELL_H
#define COPPICE_RECOVERY_SHELL_H

#include "lib/kept.h"
#include "recovery/core.h"
#include "recovery/core_hand.h"

enum session_part { PART_REQUEST, PART_LEDGER, PART_HINT, PART_DATA, PARTS };

struct session_objects {
    handle_t memory[PARTS]; /* recovery's own: deleting one destroys the memory */
    handle_t driver[PARTS]; /* what the driver gets of it */
    handle_t client[PARTS]; /* what the client gets of it */
    handle_t notification;  /* the client's, to be passed to the driver */
    void *place[2]; /* where request and ledger are mapped: kept from session to session, or every 512th
                               would cost a page table */
};
struct server_objects {
    handle_t doorbell, doorbell_driver, doorbell_client; /* 0: not made yet */
    handle_t staging, staging_driver;
    void *staging_at;
    handle_t checkpoint, aside;
    void *checkpoint_at;
    handle_t next; /* a larger one that the checkpoints are moving to; 0: none */
    void *next_at;
    uint32_t next_bytes;
};

#define PHASE_SERVES 1ul /* of kept.phase: the tables are there */

/* What the next one finds after this one fell. */
struct recovery_kept {
    struct kept kept;
    struct recovery *state;
    struct session_objects *session_objects;
    struct server_objects *server_objects; /* one for each service */
    handle_t tables, notification, timer;
    uint64_t tick_ns; /* how often the watch looks */
    struct hand hand;
    struct message reply;        /* to it, once it is answered */
    struct attach_report report; /* ATTACH: good once the server has the caller's generation */
};

/* Makes and maps what the session needs and sets its pointers; all or nothing. Takes notification over
 * in both cases. */
status_t session_objects_make(struct session_objects *o, struct rsession *s, handle_t notification) MUST_USE;
void session_objects_free(struct session_objects *o, struct rsession *s);
status_t server_doorbell_make(struct server_objects *o, uint32_t service) MUST_USE;
status_t server_staging_make(struct server_objects *o) MUST_USE;
/* Room for checkpoints of this length: what was committed is kept. */
void server_checkpoint_move(struct server_objects *o,
                            struct server *v); /* goes on with it, if it was begun */
status_t server_aside_make(struct server_objects *o,
                           struct server *v) MUST_USE; /* room for one more of these */
status_t server_checkpoint_make(struct server_objects *o, struct server *v, uint32_t length) MUST_USE;

#endif
