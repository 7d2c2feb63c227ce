/* SPDX-License-Identifier: BSD-2-Clause
 * Recovery's core: what outlives a driver's death, as data and rules without a system call, so that the
 * same code runs in the guest and in unit tests. The shell (main.c) owns memory and capabilities.
 *   core.c             who has which session with whom
 *   core_ledger.c      what of a session's shared memory may be believed after a death
 *   core_checkpoint.c  two generations of a service's checkpoint
 *   core_watch.c       is a driver with pending work alive?
 * Everything in a session's pages may be written at any time by a process that is out of its mind: values
 * from there are loaded once, bounded, and never used as an index. What decides is private to recovery. */
#ifndef COPPICE_RECOVERY_CORE_H
#define COPPICE_RECOVERY_CORE_H

#include "../abi/manifest.h"
#include "../abi/session.h"
#include "../abi/status.h"

#define SESSIONS_MAX        128u
#define CLIENT_SESSIONS_MAX 16u
#define SESSION_OWN_PAGES \
    4u /* beside its data: request, ledger, hint; and the kernel's objects, less than a page */

/* FREE -> OPEN (recovery_open) -> CLOSING (recovery_close: the driver may still have it mapped) -> FREE
 * (recovery_free, once recovery_session_releasable). */
enum session_state { SESSION_FREE, SESSION_OPEN, SESSION_CLOSING };

struct rsession {
    enum session_state state;
    uint32_t index;  /* in its server's table */
    uint64_t id;     /* unique since boot, from 1 */
    uint32_t server; /* service index */
    tag_t client;
    uint32_t class, slots;
    uint64_t data_bytes;
    uint32_t held_generation; /* incarnation of the server that may have it mapped; 0: none */

    const struct session_request *request; /* block class; recovery's own mappings, set by the shell */
    struct session_ledger *ledger;
    const struct session_stream_client *stream_client; /* stream class */
    struct session_stream_driver *stream_driver;

    uint8_t attempts[SESSION_SLOTS_MAX];    /* deaths with request attempt_id[i] in flight, */
    uint32_t attempt_of[SESSION_SLOTS_MAX]; /* the last of this incarnation: it counts once */
    uint64_t attempt_id[SESSION_SLOTS_MAX];
    uint64_t pending_id[SESSION_SLOTS_MAX]; /* at the last look; 0: none */
    uint64_t progress; /* grows when a request that was pending at a look is not at the next */
    uint64_t id_seen;  /* largest request id seen: the number submitted */
    uint64_t oldest_id,
        oldest_ns; /* of the requests with the device, at the last look, and since when; 0: none */
    uint32_t tx_tail_good, rx_head_good; /* stream: last indices that could be */
    uint32_t rounds_seen;                /* of the present incarnation, at the last look */
    bool unheard;                        /* at the last look its client slept, with something to take */
};

enum watch_state {
    WATCH_STARTING, /* attached, its main loop has not run yet: the supervisor's start timeout holds */
    WATCH_QUIET,    /* nothing pending, and it sleeps */
    WATCH_BUSY,     /* pending since, or progressed or answered at, the times below */
    WATCH_ASKED,    /* no progress, or quiet for long: its doorbell was rung */
    WATCH_REPORTED, /* this incarnation is given up */
};
struct watch {
    enum watch_state state;
    uint32_t rounds, scans; /* at the question; looks since the question */
    uint32_t overdue;       /* looks in a row at which a request was out for too long */
    uint64_t progress, progress_ns, answer_ns;
};
struct watch_sample { /* of all sessions of a service */
    uint32_t pending, issued, rounds, nonsense;
    uint32_t irq_lost; /* sessions whose driver, the present incarnation, says that an interrupt never came */
    uint32_t awake;    /* sessions whose driver does not say that it sleeps */
    uint64_t progress; /* differs if anything that was pending completed */
    uint64_t now_ns;   /* set before */
    uint64_t oldest_ns; /* for so long the same request has been the oldest of its session with the device */
};
enum watch_verdict { WATCH_FINE, WATCH_ASK, WATCH_STALLED, WATCH_LOST_IRQ };

#define CHECKPOINT_MAGIC 0x31544b4843504f43ul /* "COPCHKT1" */
struct checkpoint {                           /* fills no more than a page */
    uint64_t magic;
    uint32_t service, schema; /* schema: the driver's version of the data */
    uint64_t sequence;
    uint32_t length, reserved;
    uint64_t committed_ns; /* recovery's clock */
    uint64_t sum[2];       /* of all fields above and the data */
    uint8_t data[CHECKPOINT_MAX];
};
enum checkpoint_verdict {
    CHECKPOINT_GOOD,
    CHECKPOINT_EMPTY,
    CHECKPOINT_BAD_MAGIC,
    CHECKPOINT_BAD_SERVICE,
    CHECKPOINT_BAD_SCHEMA,
    CHECKPOINT_BAD_LENGTH,
    CHECKPOINT_BAD_SUM,
    CHECKPOINT_TOO_OLD,
};
enum checkpoint_source { CHECKPOINT_NONE, CHECKPOINT_LATEST, CHECKPOINT_PREVIOUS, CHECKPOINT_ASIDE };
#define CHECKPOINT_ANY_SCHEMA UINT32_MAX /* the reader says what he makes of it */
#define CHECKPOINT_ASIDE_NS \
    10000000000ull /* what was put aside is of use to a version that comes back soon */

struct server {                         /* one for each service of the manifest */
    uint32_t generation;                /* incarnation that attached last; 0: none yet */
    uint32_t class;                     /* of its sessions; 0: not known yet or none */
    uint64_t used;                      /* bit i: session[i] is not free */
    uint8_t session[DOORBELL_SESSIONS]; /* indices into recovery.session */
    struct watch watch;
    /* Signs of life that no open session shows: the rounds of those that are gone, and each SESSION_GET since the first
     * round. Without them a driver that answers while its sessions come and go would seem not to. */
    uint32_t answers;
    struct checkpoint *checkpoint[2]; /* in the shell's memory; NULL before the first commit */
    struct checkpoint
        *aside;        /* the newest of another schema, from before the first commit of this one; or NULL */
    uint64_t aside_ns; /* when it was put there */
    uint32_t checkpoint_room; /* bytes of data that each of the two can hold */
    uint32_t checkpoint_kept; /* 1 + which of the two the next commit leaves alone; 0: none yet */
    uint64_t checkpoints;     /* committed since boot: the last sequence number */
    uint32_t poisoned;        /* requests given up since boot */
    uint32_t falls;           /* recovery.falls when it was last made good */
};

struct recovery {
    const struct manifest *manifest;
    struct server *server; /* manifest->service_count */
    uint64_t last_session_id;
    uint32_t sessions; /* not free */
    uint32_t falls;    /* of this process, with this state */
    struct rsession session[SESSIONS_MAX];
};

/* server: zeroed, one for each service. */
void recovery_init(struct recovery *r, const struct manifest *manifest, struct server *server);

/* What a shell finds that takes over from one which fell at any instruction: could this be a core's state? */
bool recovery_sound(const struct recovery *r, const struct manifest *manifest);
/* Then: sessions half made or half freed (without `request`) are free, and the servers of all sessions are made good.
 * False: what is found of one of them is not sound. */
bool recovery_resume(struct recovery *r);
/* Every other server is to be made good before anything is done with it, which is nothing the second time: its table says
 * what the sessions say, and a complaint that was on its way may be lost and is made again. A fall costs as much as there
 * are sessions, and not as there are services. False: it is not sound. */
bool recovery_server_resume(struct recovery *r, uint64_t service);

/* --- Sessions (core.c) --------------------------------------------------------------------------- */

/* A free session for this client, all fields but the mappings filled. E_RIGHTS: the manifest does not
 * name the service; E_ARGUMENT: sizes or class; E_QUOTA: too many of the client's, or more pages in them than the
 * manifest gives it; E_NO_SLOTS. A closed session counts until its driver let go of it: its memory is still there. */
status_t recovery_open(struct recovery *r, tag_t client, uint64_t service, uint64_t class, uint64_t slots,
                       uint64_t data_bytes, struct rsession **out) MUST_USE;
void recovery_close(struct rsession *s);
void recovery_free(struct recovery *r, struct rsession *s);
/* Nobody can have a closed session mapped any more. */
bool recovery_session_releasable(const struct recovery *r, const struct rsession *s);
/* An open session of an older incarnation of this client, or NULL. */
struct rsession *recovery_session_stale(struct recovery *r, tag_t client);
/* The open session of this id, if the caller is its client. E_NOT_FOUND */
status_t recovery_session_of_client(struct recovery *r, tag_t client, uint64_t id,
                                    struct rsession **out) MUST_USE;
/* The session at this index of the caller's table (NULL: none). E_STATE: the caller is not the attached
 * incarnation; E_NOT_FOUND: past the end. held: session id that the driver has there, 0: none. */
status_t recovery_session_get(struct recovery *r, tag_t server, uint64_t index, uint64_t held,
                              struct rsession **out) MUST_USE;
uint32_t server_table_length(const struct server *v);

struct attach_report {
    uint32_t in_flight;    /* issued by the dead incarnation and not completed */
    uint32_t attempts_max; /* deaths survived by the most unlucky of them */
    uint32_t repaired;     /* values that could not be */
    uint32_t poisoned;     /* requests given up now */
    uint64_t poisoned_id;  /* the last of them */
};
/* A new incarnation takes over. E_STATE: it is not newer than the last. */
status_t recovery_attach(struct recovery *r, tag_t server, uint64_t class,
                         struct attach_report *out) MUST_USE;
/* Status_t of a caller that must be the attached incarnation of its service. */
status_t recovery_attached(const struct recovery *r, tag_t server) MUST_USE;

/* --- Ledger (core_ledger.c) ------------------------------------------------------------------------ */

/* After the death of the incarnation dead_generation, before the next may look: makes every entry one
 * that can be, counts attempts, completes what is poisoned. */
void ledger_take_over(struct rsession *s, uint32_t dead_generation, struct attach_report *report);
bool ledger_nonsense(const struct rsession *s, uint64_t slot);    /* an entry that no sane driver writes */
void ledger_sample(struct rsession *s, struct watch_sample *sum); /* adds */
bool ledger_irq_lost(const struct rsession *s,
                     uint32_t generation); /* its driver, of this generation, says so */
/* One look: true if its client sleeps with something to take, now and at the look before: its driver should have
 * signalled it, and it can be that this driver never will. */
bool ledger_unheard(struct rsession *s);

/* --- Checkpoints (core_checkpoint.c) ----------------------------------------------------------------- */

/* room: bytes of data that can be behind c. */
enum checkpoint_verdict checkpoint_check(const struct checkpoint *c, uint32_t room, uint32_t service,
                                         uint32_t schema);
/* Bytes of memory for two generations with so much data each: a page if they fit, or two. */
uint32_t checkpoint_bytes(uint32_t length);
/* From now on both are in zeroed memory of checkpoint_bytes(...) bytes, with what they held. */
void checkpoint_place(struct server *v, void *memory, uint32_t bytes);
/* Which of the two (0, 1) is newest good; source says how it is called. -1: none. */
int checkpoint_choose(const struct server *v, uint32_t service, uint32_t schema,
                      enum checkpoint_source *source);
/* Copies data over the one that was not committed, or kept, last. Returns the sequence number. length is at
 * most checkpoint_room; data is read once, and others may write to it meanwhile. */
uint64_t checkpoint_commit(struct server *v, uint32_t service, uint32_t schema, const void *data,
                           uint32_t length, uint64_t now_ns);
void checkpoint_keep(struct server *v, int n); /* a driver works with it: the next commit leaves it alone */
/* What was committed before that is not chosen any more. Returns how many of the two. */
uint32_t checkpoint_expire(struct server *v, uint64_t oldest_ns);
/* Which generation (0, 1) is to be put aside before a commit of this schema: the newest, if it is of another. -1: none. */
int checkpoint_to_set_aside(const struct server *v, uint32_t service, uint32_t schema);
/* The driver found the latest unusable: the next choice is the previous one. */
void checkpoint_drop_latest(struct server *v, uint32_t service, uint32_t schema);

/* --- Watch (core_watch.c) ------------------------------------------------------------------------------ */

void watch_reset(struct watch *w);
void watch_doubted(struct watch *w); /* STALLED was not believed: the driver waits for the CPU */
/* Recovery fell between two of its instructions: what it was about to do may not have been done. A question is asked
 * again, for a driver that was never asked owes no answer; a complaint is made again. */
void watch_resume(struct watch *w);
enum watch_verdict watch_step(struct watch *w, const struct watch_sample *sample, uint64_t now_ns,
                              uint64_t watchdog_ns);
/* All sessions of a service. */
void recovery_sample(struct recovery *r, struct server *v, uint64_t now_ns, struct watch_sample *out);

#endif
