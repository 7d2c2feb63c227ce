/* SPDX-License-Identifier: BSD-2-Clause
 * The policy core: a pure function from (state, event, time) to (state, actions). No system call,
 * no allocation, no clock: the same object code runs in the guest, in unit tests and in simulators.
 * Rules in words: docs/SUPERVISION.md. The shell (main.c) turns what happens into events and
 * carries out actions. */
#ifndef COPPICE_SUPERVISOR_CORE_H
#define COPPICE_SUPERVISOR_CORE_H

#include "abi/manifest.h"
#include "abi/status.h"

#define SUPERVISOR_INTENSITY_MAX  100u /* so that the window of deaths has a fixed size */
#define SUPERVISOR_NEVER          UINT64_MAX
#define SUPERVISOR_UNREADY_MAX    3u
#define SUPERVISOR_GENERATION_MAX 0xfffffu /* what a tag_t can say */
/* From READY to the order for the next spare: far behind everything that a client waits for. */
#define SUPERVISOR_SPARE_DELAY_NS 10000000ull

enum supervisor_event_kind {
    SUPERVISOR_EVENT_BOOT, /* once, first */
    SUPERVISOR_EVENT_READY, /* service, generation: says that it serves. code: it went on from its last snapshot,
                                   so often from this one */
    SUPERVISOR_EVENT_DEATH,     /* service, generation, cause, code: its process is no more */
    SUPERVISOR_EVENT_COMPLAINT, /* service, generation, cause: somebody who is believed found it
                                   broken */
    SUPERVISOR_EVENT_TICK,      /* the timer asked for fired, or it is just a good moment to look */
    SUPERVISOR_EVENT_KILL,      /* service: the operator ends its process; policy decides what follows */
    SUPERVISOR_EVENT_RESET,     /* service: the operator clears gave-up, absent or done */
    SUPERVISOR_EVENT_DEVICE,    /* service, code: 0: its device is being taken away; 1: it is there */
    SUPERVISOR_EVENT_STOP,      /* code: enum system_op; ends everything, then HALT */
    SUPERVISOR_EVENT_RESUME,    /* the shell is new and the state is not: says again all that may not have
                                   been done. A START of what was made, a KILL of what is dead are to be
                                   skipped; deaths that were not told are to follow as DEATH events.
                                   generation, cause: the new shell's own, what its predecessor ended of */
    SUPERVISOR_EVENT_STANDBY,   /* service, generation: its spare is as far as it gets without the device */
    SUPERVISOR_EVENT_UPDATE, /* service, code: the program that it is to be from now on; 0: the manifest's */
    SUPERVISOR_EVENT_SPARE_DEATH, /* service, generation: its spare is no more, or could not be made */
};
struct supervisor_event {
    enum supervisor_event_kind kind;
    uint32_t service;
    uint32_t generation;
    enum cause cause;
    uint64_t code;    /* DEATH by EXIT: the exit code; READY: above */
    uint64_t address; /* DEATH by an exception: of the instruction */
};

enum supervisor_action_kind {
    SUPERVISOR_ACTION_START, /* service, generation: make its process, or take the spare of this generation */
    SUPERVISOR_ACTION_KILL,  /* service, generation, cause: end it; a DEATH event will follow */
    SUPERVISOR_ACTION_TIMER, /* ns: a TICK is wanted then */
    SUPERVISOR_ACTION_MARK,  /* service, mark: into the trace */
    SUPERVISOR_ACTION_REPORT,    /* service, generation, state entered, cause: for people */
    SUPERVISOR_ACTION_HALT,      /* code: everything has ended */
    SUPERVISOR_ACTION_SPARE,     /* service, generation: make a process that stands by. It has nothing of its
                                 service yet; a spare that another START or SPARE left behind is to be ended */
    SUPERVISOR_ACTION_SPARE_END, /* service, generation: end it; nothing follows */
};
struct supervisor_action {
    enum supervisor_action_kind kind;
    uint32_t service;
    uint32_t generation;
    enum cause cause;
    enum give_up_reason reason; /* REPORT of GAVE_UP */
    bool fresh;                 /* START: not with what it kept */
    uint32_t value;             /* MARK: enum mark; REPORT: enum service_state; START, SPARE: program */
    uint64_t ns; /* TIMER: when; REPORT of BACKOFF: until when; HALT: code; MARK of GROUP_FAILED: which */
};

struct supervised { /* what the core knows of one service */
    enum service_state state;
    uint32_t generation; /* of its last start; 0: never started */
    uint32_t issued;     /* the last generation that any process of it was given */
    enum spare_state spare;
    uint32_t spare_generation, spare_program;
    uint32_t program, previous; /* what it is; what it was before. The shell knows what the numbers mean */
    bool has_previous;
    bool updating; /* what stands by, or will, is the new version */
    bool
        on_probation; /* the program has not shown yet that it is good; if it fails it is the previous again */
    bool rolled_back;                /* the last update did not hold */
    uint64_t spare_ns, probation_ns; /* while RUNNING: deadlines, SUPERVISOR_NEVER: none */
    uint16_t spare_deaths;           /* in a row, since a spare was of use */
    uint32_t restarts;               /* starts after the first */
    enum cause cause;                /* of its last death */
    enum cause condemned_for;        /* FAILING, STOPPING: why it was killed */
    uint64_t deadline_ns;            /* STARTING: start timeout; BACKOFF: end of the wait; RUNNING: when its
                                 spare is to be made, or must stand; else SUPERVISOR_NEVER */
    /* core_index.c: so that a step looks at those it affects only */
    uint16_t first_edge;                  /* of those that depend on it, restart-with first; 0: none */
    uint16_t dependents;                  /* how many edges lead on from there */
    uint16_t next_edge[MANIFEST_DEPENDS]; /* the next with the same target as its own edge d */
    uint16_t next_member;                 /* of its group; 0: none */
    uint16_t deadline_slot;               /* in deadline[]; 0: none */
    enum give_up_reason reason;           /* GAVE_UP: why */
    bool unplugged;                       /* its device is not there: it is ABSENT instead of STARTING */
    uint64_t ready_ns;                    /* of this incarnation; 0: not yet */
    bool fresh;             /* of a kept service: what it kept is lost, its next process is a new one */
    uint16_t unready;       /* deaths of a kept service in a row without READY in between; or that it went
                               back to one snapshot and has served nobody since */
    uint32_t backoff_level; /* waits since it was forgiven all */
    uint16_t crashes;       /* in a row with the signature crash_cause, crash_address */
    enum cause crash_cause;
    uint64_t crash_address;
    uint16_t window_count, window_first;
    uint64_t window[SUPERVISOR_INTENSITY_MAX + 1]; /* times of counted deaths within the period, a ring */
};
struct service_set {
    uint64_t summary; /* bit w: word[w] is not 0 */
    uint64_t word[MANIFEST_SERVICES / 64];
};
struct group_state {            /* core_group.c */
    uint32_t failures;          /* how often it failed in the group around it */
    uint32_t last;              /* the service whose death was one too many, the last time */
    enum give_up_reason reason; /* why, of that one */
    bool gave_up;               /* there was no group around it to fail in, or all have failed */
    uint32_t count;
    uint64_t at[SUPERVISOR_INTENSITY_MAX + 1]; /* times of counted failures of its members */
};
enum supervisor_phase { PHASE_NEW, PHASE_RUN, PHASE_STOPPING, PHASE_HALTED };
struct supervisor_state {
    const struct manifest *manifest; /* checked by manifest_check: sorted, in range */
    uint32_t count;
    enum supervisor_phase phase;
    uint64_t timer_ns; /* the earliest TIMER asked for and not answered by a TICK */
    uint64_t halt_code;
    uint32_t deaths, restarts;
    uint32_t in_state[SERVICE_STATES];      /* how many services, [0] aside */
    struct service_set idle;                /* WAITING, GAVE_UP or ABSENT: a verdict moves nobody else */
    struct service_set stale;               /* may need another verdict; empty between steps of PHASE_RUN */
    struct service_set marked;              /* scratch of one step; empty between steps */
    uint16_t first_member[MANIFEST_GROUPS]; /* of each group; 0: none */
    struct group_state group[MANIFEST_GROUPS];
    uint32_t deadlines;
    uint16_t deadline[MANIFEST_SERVICES + 1]; /* a heap of services from [1] on, the soonest first */
    struct supervised service[];              /* [0] is the supervisor itself */
};

static inline size_t supervisor_state_size(uint32_t count)
{
    return sizeof(struct supervisor_state) + count * sizeof(struct supervised);
}
/* No step makes more actions than this: KILL or START with three MARKs (a fourth instead of SPARE_END), REPORT and SPARE_END a service; TIMER; HALT. */
static inline size_t supervisor_actions_max(uint32_t count) { return 6 * (size_t)count + 2; }

/* state: supervisor_state_size(manifest->service_count) bytes; manifest outlives it. */
void supervisor_init(struct supervisor_state *state, const struct manifest *manifest);
/* Returns the number of actions, to be carried out in order. max >= supervisor_actions_max. Events
 * about an older generation, and events that do not fit the state, change nothing. */
size_t supervisor_step(struct supervisor_state *state, const struct supervisor_event *event, uint64_t now_ns,
                       struct supervisor_action *action, size_t max);
/* Holds between any two steps. */
bool supervisor_invariants(const struct supervisor_state *state);
/* Its process exists, as far as the core knows. */
bool supervisor_state_live(enum service_state state);
/* Whatever its state, those that restart with it hold what is still there. */
static inline bool supervisor_keeps(const struct supervisor_state *state, uint32_t i)
{
    return (state->manifest->service[i].flags & SERVICE_KEPT) && !state->service[i].fresh;
}
/* How many services, the supervisor aside, have a process. */
uint32_t supervisor_live(const struct supervisor_state *state);

/* NULL: good. Otherwise what is wrong, and in *service the entry (~0: the header). Every field that
 * anybody will index or divide with is checked. */
const char *manifest_check(const void *manifest, size_t bytes, uint32_t *service);

#endif
