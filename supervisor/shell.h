/* SPDX-License-Identifier: BSD-2-Clause
 * The acting shell around the policy core: what it holds of each service, and its rooms.
 *   main.c      start-up, the main loop, core actions
 *   spawn.c     making processes and their startup pages; burying dead ones
 *   requests.c  the messages of abi/protocol.def, SUPERVISOR section
 *   programs.c  which program a service is; programs from files
 *   watch.c     stalled endpoints
 *   growth.c    services that grow towards their quota
 *   journal.c   what is said about deaths, after they are dealt with
 *   again.c     what a supervisor does that finds a predecessor's state
 * The shell never calls another service: nothing that another process does can make it wait. If it falls, the
 * kernel starts it again, with its memory, capabilities and children as they were, but new variables. So all
 * that the next one must know is in struct shell, which is kept, or in memory that it points to. */
#ifndef COPPICE_SUPERVISOR_SHELL_H
#define COPPICE_SUPERVISOR_SHELL_H

#include "lib/bundle.h"
#include "abi/protocol.h"
#include "abi/trace.h"
#include "lib/kept.h"
#include "core_twin.h"
#include "core_watch.h"
#include "core_growth.h"
#include "core_loaded.h"

/* Bits of the supervisor's notification. */
#define SIGNAL_TIMER 1ul /* the core's */
#define SIGNAL_CHORE 2ul /* burials, journal, watch */
#define SIGNAL_CHILD 4ul /* a child's event */

#define CHORE_DELAY_NS 10000000ul /* chores wait this long after a death: they are not in a restart's path */
#define GRANTS_MAX     24
#define UPDATES_MAX    8 /* services that have no spare by their manifest and are updated all the same */

struct grant { /* one capability for every incarnation of a service */
    handle_t source;
    uint32_t rights;
    uint16_t slot; /* in startup.cap[] */
    bool badged;   /* with the child's tag */
    bool ahead;    /* a spare has it as well: it opens nothing of the service */
};
struct child {
    handle_t process;  /* 0: none; of a kept service also one that fell */
    uint32_t born;     /* generation that it was made as: its badge */
    handle_t inject;   /* what the injector is given of it; 0: not asked for yet */
    handle_t endpoint; /* 0: the manifest gives it none */
    struct bundle_file image;
    struct startup *page; /* of its incarnation */
    handle_t spare;       /* the process that stands by; 0: none */
    handle_t spare_call;  /* its call, to be answered when it is taken; 0: it has not got there */
    uint32_t spare_generation;
    struct startup *spare_page; /* NULL: its manifest wants none */
    uint32_t spare_number;      /* of the second of its two pages */
    uint64_t death_tsc;         /* of the last incarnation; 0: none died, or its successor serves */
    uint64_t recovery_ns;       /* last death to READY */
    struct watch watch;
    struct suspicion suspicion;
    struct growth growth;
    uint32_t suspect; /* the incarnation that stands still, but is not believed to hang yet; 0: none */
    uint32_t grants;
    struct grant grant[GRANTS_MAX];
};

/* The request in hand. Its caller, if it says that it may be served twice, comes back after a fall. */
struct request {
    uint64_t badge, info, w[MESSAGE_WORDS];
    status_t status; /* of the answer, known before anything is done */
    uint64_t steps;  /* the twin's, when it came */
    uint32_t falls;  /* with it in hand */
    bool judged;     /* by a successor: */
    bool done;       /* what it asked for has been done, only the answer is missing */
};

#define OWN_MEMORIES  8
#define JOURNAL_BYTES PAGE_SIZE
struct entry;                               /* growth.c */
uint64_t growth_look_at_some(uint64_t now); /* when the next are due, SUPERVISOR_NEVER: nobody is watched */

/* journal.c */
struct shell {
    struct kept kept; /* phase: 0 until the core has heard BOOT */
    struct twin twin; /* its first state is `state` */
    struct request request;
    handle_t own[OWN_MEMORIES]; /* memory of what is pointed to below */
    uint32_t owns;
    struct supervisor_action *action;
    struct supervisor_event
        *unspawned; /* what came of starts that the core has to hear of, a queue: deaths at birth,
                                           and READY of who went back to a snapshot */
    struct entry *journal;
    uint32_t journal_noted, journal_written;
    const struct bundle *bundle; /* the table of files in the system image */
    const struct manifest *manifest;
    struct supervisor_state *state;
    struct child *child;  /* per service; [0] is unused but for its endpoint */
    struct startup *page; /* a page for each service, then one for each spare: read-only in the process */
    uint32_t spare_pages, spare_pages_used; /* how many of the latter */
    handle_t pages;                         /* the memory object of `page` */
    handle_t root, image, trace, inject, notification, timer, chore_timer;
    struct loaded loaded[LOADED_SLOTS]; /* programs from files */
    uint64_t tsc_hz, boot_tsc;
    uint32_t cpus;
    uint64_t ns_per_tick;  /* in 1/2^32 */
    uint64_t leaked_pages; /* of all dead processes */
    uint64_t quiet_ns;     /* a death was dealt with: before this, only watches */
    uint64_t chore_ns;     /* when chores are due; SUPERVISOR_NEVER: none */
    bool iommu;
    bool settled; /* said that everything is up */
};
#define shell        (*(struct shell *)USER_KEPT)
#define PHASE_SERVES 1ul /* of kept.phase */

/* main.c */
void happen(const struct supervisor_event *event); /* event -> core -> actions, until nothing is left */
void chores_by(uint64_t ns);                       /* no later than this */
void chores(void);
void child_died(const struct process_event *event);
void children_hear(void); /* of all that happened to them */

/* spawn.c */
void spawn_prepare(uint32_t i); /* once a service: hardware objects and startup page */
/* Makes a process, or takes the spare of this generation, or has the kept one go on, unless it is to be a fresh one.
 * program: a number of core_loaded.h. */
bool spawn(uint32_t i, uint32_t generation, uint32_t program, bool fresh);
bool spawned(uint32_t i, uint32_t generation); /* has been carried out: its process is there, alive or not */
/* It goes on from its last snapshot, so often from this one; false: it began at its beginning. */
bool spawned_back(uint32_t i, uint64_t *rollbacks);
bool spare_spawn(uint32_t i, uint32_t generation, uint32_t program);
/* Whether a process of this service can be made of it: one is, and is unmade. */
status_t spawn_try(uint32_t i, uint32_t program) MUST_USE;
void spare_drop(uint32_t i);  /* ends it if it lives; to be buried later */
void spare_again(uint32_t i); /* a new supervisor: its call is to come again */
bool graves_pile_up(void);
void grave_add(handle_t process, handle_t inject); /* dead: to be buried later */
void bury_all(void);

/* again.c */
void resume(bool whole); /* what is kept is of this program */

/* requests.c */
bool serve(struct message *m); /* turns the request in m into its reply; false: it is answered later */
void ready_note(uint32_t i);   /* the core is about to hear READY: how long it was away */
/* Before anything is done: if this supervisor falls over it, the next one knows the answer. */
void answer(struct message *m, status_t status);
bool caller_is(tag_t tag);               /* a living incarnation */
uint32_t named(const struct message *m); /* the service in w0..w2; 0 (the supervisor) if there is none */

/* programs.c */
struct program { /* an ELF file in memory that nobody can change */
    handle_t memory;
    uint64_t offset, length;
};
bool program_find(uint32_t i, uint32_t program, struct program *out);
const char *program_name(uint32_t i, uint32_t program);
bool program_is_loaded(uint32_t program);
void on_update(struct message *m);
void on_program(struct message *m);
void on_load(struct message *m);
void on_load_data(struct message *m);
void on_update_loaded(struct message *m);

/* watch.c */
bool watch_hangs(uint32_t i); /* silent, and not for want of the CPU */
uint64_t watch_look(void);    /* at some; when the next are due, SUPERVISOR_NEVER: nothing is watched */

/* journal.c */
void journal_death(uint32_t i, uint32_t generation, const struct process_event *event);
void journal_spare(uint32_t i, const struct process_event *event);
void journal_version(uint32_t i, enum mark what);
void journal_group(uint32_t i, uint32_t group); /* failed because of i */
void journal_state(uint32_t i, const struct supervisor_action *report);
void journal_flush(void);
const char *cause_text(uint32_t cause);

#endif
