/* SPDX-License-Identifier: BSD-2-Clause
 * The simulator: supervisor core, recovery core, driver library and client library, the same sources as in
 * the guest, in a world of simulated processes, devices, messages and time. Everything that happens follows
 * from a seed. One schedule is one life of one random system under a random list of faults.
 *   plan.c       seed -> manifest, work, faults
 *   world.c      the schedule: who goes next, when; the clock
 *   process.c    processes as fibers; death; system calls of the library
 *   spare.c      processes that stand by
 *   supervise.c  the supervisor's shell: events to the core, the core's actions to the world
 *   recover.c    recovery's shell
 *   actors.c     what drivers, clients and other services do, with the real libraries; their disks
 *   growth.c     memory in use, and who is ended for it
 *   groups.c     of groups in groups, what must hold
 *   check.c      invariants after every step, and when all must have settled
 *   main.c       many seeds on several CPUs, shrinking, the report */
#ifndef COPPICE_TESTS_SIM_H
#define COPPICE_TESTS_SIM_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include "abi/protocol.h"
#include "abi/session.h"
#include "abi/syscall.h"
#include "recovery/core.h"
#include "recovery/core_hand.h"
#include "supervisor/core.h"

#define SERVICES_MAX 12u /* the supervisor included */
#define FAULTS_MAX   12u
#define GROUPS_MAX   3u
#define CLIENTS_MAX  3u
#define PAGESETS     48u /* sessions opened in one schedule: memory is never used twice */
#define SLOTS_MAX    8u
#define SECTORS      512u
#define OWN_SECTORS  16u /* of one client's incarnation */
#define REQUESTS_MAX 12u
#define MS           1000000ull
#define NEVER        UINT64_MAX

enum { RECOVERY = 1 }; /* its service index in every simulated system */
enum handle_base {     /* handles of simulated processes */
                   HANDLE_RECOVERY = 100,
                   HANDLE_SUPERVISOR = 101,
                   HANDLE_DOORBELL = 200,     /* + service */
                   HANDLE_NOTIFICATION = 300, /* + service */
                   HANDLE_STAGING = 400,      /* + service */
                   HANDLE_MEMORY = 1000,      /* + page set * 8 + enum part */
};
enum part { PART_REQUEST, PART_LEDGER, PART_HINT, PART_DATA };

/* --- The plan ------------------------------------------------------------------------------------- */

enum role { ROLE_SUPERVISOR, ROLE_RECOVERY, ROLE_DRIVER, ROLE_CLIENT, ROLE_PLAIN };
enum fault_kind {
#define FAULT(name, text) FAULT_##name,
#include "faults.def"
#undef FAULT
    FAULTS
};
struct fault {
    enum fault_kind kind;
    uint32_t actor; /* strikes at this service's (0: the supervisor's) step number `at` */
    uint32_t at;
    uint32_t target, arg;
};
struct limits {        /* what shrinking takes away from a plan */
    uint64_t faults;   /* bit n: fault n happens */
    uint32_t requests; /* of each client, at most */
    bool calm;         /* processes are preempted only where they wait */
};
struct plan {
    uint64_t seed;
    struct limits limits;
    uint32_t services; /* the supervisor included */
    enum role role[SERVICES_MAX];
    uint32_t first_client;
    uint32_t serves[SERVICES_MAX]; /* a client's driver */
    uint32_t requests[SERVICES_MAX], slots[SERVICES_MAX], room[SERVICES_MAX];
    uint32_t preempt_every; /* steps, on average; 0: never */
    bool preserved;         /* recovery's memory outlives it */
    uint32_t fault_count;
    struct fault fault[FAULTS_MAX];
    struct {
        struct manifest head;
        struct manifest_service service[SERVICES_MAX];
    } file __attribute__((aligned(8)));
};
extern struct plan plan;
void plan_make(uint64_t seed, const struct limits *limits);
void plan_print(void);

/* --- The world -------------------------------------------------------------------------------------- */

struct message {
    uint64_t badge, info, w[MESSAGE_WORDS];
};
enum waiting { WAIT_NOTHING, WAIT_REPLY, WAIT_SIGNAL };
#define SESSION_PARTS 4 /* request, ledger, hint, data */
struct process {        /* the newest incarnation of a service; the kernel's object outlives its death */
    bool alive, hung;
    uint32_t fuse; /* steps until a bad version dies; 0: it is good */
    bool leaks;    /* nearly all of its quota is in use */
    bool doomed;   /* its memory was taken away: it dies at its next step */
    uint32_t generation;
    enum cause cause; /* once dead */
    uint64_t code;
    enum waiting waiting;
    handle_t waits_for; /* a notification */
    struct message *call;
    handle_t callee;
    status_t call_status;
    uint64_t mapped[SESSION_PARTS]; /* bit n: that part of page set n */
    void *stack_pointer;
};
/* Page sets of which a process has any part mapped. */
static inline uint64_t pagesets_mapped(const struct process *p)
{
    uint64_t any = 0;

    for (int part = 0; part < SESSION_PARTS; part++) any |= p->mapped[part];
    return any;
}
struct spare { /* what stands by for a service; generation: of the last one made */
    bool alive, standing, hung;
    uint32_t generation, program;
};
struct letter { /* a call that waits to be taken */
    uint32_t from;
    uint32_t generation;
};
struct queue {
    uint32_t count;
    struct letter letter[4 * SERVICES_MAX];
};
struct request { /* on a device */
    uint32_t session_index, slot;
    uint64_t session, id;
    struct session_slot r;
    uint64_t *data;
    uint64_t value; /* of a write that the device holds since its driver died */
    bool captured, executed;
};
struct device {
    bool stuck, deaf; /* until reset: does nothing, interrupts nobody */
    uint32_t count;
    struct request queue[2 * SLOTS_MAX * 4];
};
struct pageset {
    uint64_t id; /* session; 0: never used */
    bool freed;
    uint32_t client;
    struct session_request request;
    struct session_ledger ledger;
    struct session_hint hint;
    uint64_t data[SLOTS_MAX * SECTOR_SIZE / 8];
};
struct client_memory { /* what a client knows of its work; the checker's book of the current incarnation */
    uint64_t session, first_id, submitted, completed;
    bool finished;
    uint64_t acknowledged[OWN_SECTORS]; /* value of the last completed write */
    struct {
        bool pending;
        enum block_op op;
        uint32_t sector;
        uint64_t value, id;
        uint64_t flushed[OWN_SECTORS]; /* a flush: what was acknowledged when it was submitted */
        uint32_t deaths;               /* of its driver while it was pending */
    } slot[SLOTS_MAX];
};

struct group_book { /* the checker's, of a group */
    uint32_t failures, count;
    uint64_t at[32]; /* of counted failures of its members since it failed last */
};

struct world {
    uint64_t now_ns, rng;
    uint64_t steps, turns;
    uint32_t own_steps[SERVICES_MAX]; /* over all incarnations */
    uint64_t fired;                   /* bit n: fault n has struck */
    int32_t quantum;
    uint32_t running; /* service whose fiber runs; 0: none */
    struct process process[SERVICES_MAX];
    struct spare spare[SERVICES_MAX];
    uint32_t made[SERVICES_MAX];       /* the newest generation that any process was given */
    uint64_t signals[2][SERVICES_MAX]; /* doorbells, notifications */
    struct queue calls[2];             /* to the supervisor, to recovery */
    struct device device[SERVICES_MAX];
    struct client_memory client[SERVICES_MAX];
    uint64_t disk[SECTORS], stable[SECTORS]; /* volatile and flushed contents */
    struct pageset pages[PAGESETS];
    uint32_t pagesets;

    /* The supervisor's shell. */
    struct supervisor_state *state;
    bool supervisor_down, halted;
    uint64_t supervisor_up_ns, timer_ns;
    uint32_t events; /* of the kernel's, in order */
    struct supervisor_event event[8 * SERVICES_MAX];
    uint64_t look_ns; /* at recovery's endpoint */
    uint64_t recovery_served;

    /* Recovery's shell. */
    struct recovery core;
    struct server server[SERVICES_MAX];
    struct checkpoint checkpoint[SERVICES_MAX][2];
    uint64_t staging[SERVICES_MAX][PAGE_SIZE / 8];
    uint64_t committed[SERVICES_MAX][2]; /* the value in each of two generations */
    uint64_t tick_ns;
    bool recovery_ready, complaining;
    bool lethal_next; /* the next request ends whoever takes it; lethal_tag: its caller, 0: none */
    tag_t lethal_tag;
    uint32_t taken; /* caller whose message it has and has not answered; 0: none */
    struct message complaint;

    /* The checker's book. */
    bool supervisor_fell, other_fell;                             /* while an update was under way */
    bool was_on_probation;                                        /* the service of the event, before it */
    bool rolled_back;                                             /* in this step, by its own mark */
    uint32_t was_previous;                                        /* its program to come back to */
    uint64_t counted[SERVICES_MAX][SUPERVISOR_INTENSITY_MAX + 2]; /* times of counted deaths since reset */
    uint32_t counted_count[SERVICES_MAX];
    struct group_book group[GROUPS_MAX];
    uint64_t spoilt[SERVICES_MAX]; /* bit n: checkpoint n was corrupted */
};
extern struct world world;

/* world.c */
bool world_run(void); /* one schedule from plan; false: it failed, sim_failure says why */
uint32_t sim_below(uint64_t *rng, uint32_t n);
static inline uint32_t world_below(uint32_t n) { return sim_below(&world.rng, n); }
void sim_fail(const char *text, ...) __attribute__((format(printf, 1, 2), noreturn));
void sim_trace(const char *text, ...) __attribute__((format(printf, 1, 2)));
#define TRACE(...)                               \
    do {                                         \
        if (sim_tracing) sim_trace(__VA_ARGS__); \
    } while (0)
extern bool sim_tracing;
extern char sim_failure[256];
extern jmp_buf sim_failed;
/* The next fault of this actor at its present step, or NULL; marks it as fired. */
const struct fault *fault_due(uint32_t actor);

/* process.c */
void process_step(void); /* of the running process */
void process_exit(uint64_t code);
void process_start(uint32_t i, uint32_t generation);
void process_die(uint32_t i, enum cause cause, uint64_t code);
void process_resume(uint32_t i); /* runs it until it waits, is preempted or dies */
bool process_runnable(uint32_t i);
void process_strike(uint32_t i, const struct fault *fault);
void reply(uint32_t i, status_t status);
void signal_to(handle_t notification, uint64_t bits);
void queue_push(struct queue *q, uint32_t from, bool first);
bool queue_take(struct queue *q, uint32_t *from);
void queue_drop(struct queue *q, uint32_t from);

/* supervise.c */
void supervisor_start(void);
bool supervisor_runnable(void);
void supervisor_turn(void);
uint64_t supervisor_next_ns(void);
void supervisor_hear_death(uint32_t i);
void supervisor_hear(struct supervisor_event event);

/* spare.c */
void generation_is_new(uint32_t i, uint32_t generation);
bool standby_make(uint32_t i, uint32_t generation, uint32_t program, bool fails);
#define FUSE_STEPS 40u /* a bad version, one with an even number, lives so long */
static inline uint32_t program_fuse(uint32_t program) { return program && program % 2 == 0 ? FUSE_STEPS : 0; }
void standby_drop(uint32_t i);
bool standby_take(uint32_t i, uint32_t generation);
bool standby_runnable(uint32_t i);
void standby_turn(uint32_t i);
void standby_strike(uint32_t i, bool hangs);
bool standby_settled(uint32_t i);

/* recover.c */
void recovery_start(void); /* a new incarnation is there */
void recovery_ended(void); /* it died */
bool recovery_runnable(void);
void recovery_turn(void);
uint64_t recovery_next_ns(void);

/* actors.c */
void actor_main(uint32_t i);
void device_died(uint32_t i); /* its driver */
bool device_runnable(uint32_t i);
void device_turn(uint32_t i);
void client_born(uint32_t i);
bool ledger_scribble(uint32_t i, uint32_t arg); /* whether it dies of it at once */

/* check.c */
void check_reset(void);
void check_supervisor(void);
bool check_idle(uint32_t driver);
void check_recovery(void);
void check_started(uint32_t i);
void combined_note(uint32_t i); /* it ends, whatever of; 0: the supervisor */
void check_event(const struct supervisor_event *event, enum service_state was);
bool world_settled(void);
const char *world_unsettled(void); /* what is not */

/* growth.c */
void growth_begin(void);
void growth_ready(uint32_t i);
uint64_t growth_next_ns(void); /* when the supervisor looks again; NEVER: nobody is to be found */
uint32_t growth_looks(void);
bool growth_settled(uint32_t i);

/* groups.c */
void check_groups(uint32_t i, bool counts, bool rolled_back); /* after a death */
void check_groups_reset(uint32_t i);
void check_groups_start(uint32_t i);
/* It is at rest because of its groups: something that it comes after is down for good. */
bool waits_for_group(uint32_t i, bool (*down)(uint32_t));

/* Interesting states: counted, so that a run can say which were never reached. */
enum sometimes {
#define SOMETIMES(name, text) SOMETIMES_##name,
#include "sometimes.def"
#undef SOMETIMES
    SOMETIMES_COUNT
};
extern uint64_t *sim_reached; /* SOMETIMES_COUNT counters */
#define sometimes(name, condition)                      \
    do {                                                \
        if (condition) sim_reached[SOMETIMES_##name]++; \
    } while (0)

#endif
