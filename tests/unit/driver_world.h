/* SPDX-License-Identifier: BSD-2-Clause
 * A world of one client, one block driver, the recovery core and a disk, to run lib/'s both sides of a
 * session against each other on the build machine. The driver is a thread that runs only while the client
 * waits for it (a baton), so runs repeat exactly. Every access to shared memory and every system call of
 * the driver is a numbered step, at which the world can kill it or let the client run first; every step of
 * the client is one at which the driver can run first.
 * The disk executes requests while the driver sleeps; what it had not done at a death it does or does not. */
#ifndef COPPICE_TESTS_DRIVER_WORLD_H
#define COPPICE_TESTS_DRIVER_WORLD_H

#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void world_step(void);

/* lib/atomic.h, each access a step. */
#define COPPICE_LIB_ATOMIC_H
#define shared_load(p)     (world_step(), *(p))
#define shared_store(p, v) (world_step(), (void)(*(p) = (v)))
#define shared_or(p, bits) (world_step(), (void)(*(p) |= (bits)))
#define shared_take(p)     (world_step(), world_take(p))
#define memory_fence()     world_step()
static inline uint64_t world_take(uint64_t *p)
{
    uint64_t v = *p;

    *p = 0;
    return v;
}

/* lib/sys.h and lib/runtime.h. */
#define COPPICE_LIB_SYS_H
#define COPPICE_LIB_RUNTIME_H
#include "abi/syscall.h"
#include "abi/protocol.h"
#include "abi/startup.h"
struct message {
    uint64_t badge, info, w[MESSAGE_WORDS];
};
struct sys_result {
    status_t status;
    uint64_t value, value1;
};
static struct startup world_startup;
static inline const struct startup *startup(void) { return &world_startup; }
static status_t service_call(handle_t endpoint, uint16_t label, struct message *m) MUST_USE;
static status_t sys_signal(handle_t n, uint64_t bits);
static struct sys_result sys_wait(handle_t n);
static inline struct sys_result sys_signal_wait(handle_t n, uint64_t bits, handle_t own)
{
    (void)sys_signal(n, bits);
    return sys_wait(own);
}
static struct sys_result sys_poll(handle_t n);
static status_t sys_recv(handle_t endpoint, struct message *m);
static inline status_t sys_reply_recv(handle_t endpoint, struct message *m) { return sys_recv(endpoint, m); }
static inline status_t sys_reply(struct message *m) { return m ? OK : E_STATE; }
static inline status_t sys_bind(handle_t n) { return n ? OK : E_HANDLE; }
static inline status_t sys_trace_mark(handle_t t, uint32_t mark, uint64_t value)
{
    return (t | mark | value) ? OK : OK;
}
static inline status_t sys_memory_unmap(handle_t p, uint64_t at) { return p == 0 && at ? OK : E_ADDRESS; }
static uint64_t world_ns;
static inline uint64_t clock_ns(void) { return world_ns; }
static inline status_t sys_cap_delete(handle_t h) { return h ? OK : E_HANDLE; }
static inline struct sys_result sys_notification_create(tag_t tag)
{
    return (struct sys_result){OK, tag ? 2 : 2, 0};
}
static inline struct sys_result sys_cap_derive(handle_t h, uint32_t r, uint64_t b)
{
    return (struct sys_result){OK, h, r + b};
}
static status_t map_new(handle_t memory, uint64_t pages, uint32_t prot, void **out) MUST_USE;
static inline handle_t cap_find(const char *name) { return name[0] == 'r' ? 100 : name[0] == 's' ? 101 : 0; }
static const struct startup_cap world_cap = {.name = "disk", .value = 2};
static inline const struct startup_cap *cap_entry(const char *name) { return name ? &world_cap : NULL; }
static inline void log_line(const char *text, ...) { (void)text; }
static inline void fatal(const char *text, ...)
{
    (void)text;
    abort();
}

#include "lib/driver.c"
#include "lib/driver_block.c"
#undef RANGE_MASK
#include "lib/session_block.c"
#include "recovery/core.h"

enum {
    DISK = 2,
    CLIENT = 3,
    SERVICES = 4,
    DOORBELL = 1,
    CLIENT_NOTIFICATION = 2,
    REQUEST = 10,
    LEDGER,
    HINT,
    DATA,
    STAGING
};
#define SECTORS 64u
#define SLOTS   4u

static struct {
    struct recovery core;
    struct server server[SERVICES];
    struct manifest *manifest;
    struct rsession *session;
    uint64_t page[5][2048]; /* request, ledger, hint, data, staging */
    uint64_t bits[3];       /* notifications */
    sem_t go, yield;
    pthread_t thread;
    bool running, dead, driver_turn; /* driver_turn: the driver's thread holds the baton */
    uint32_t generation, deaths;
    uint64_t driver_steps, client_steps;
    uint64_t kill_at[4], kill_count;           /* steps of the incarnation 1, 2, ... */
    uint64_t client_first_at, driver_first_at; /* steps at which the other side runs first */
    void (*interlude)(void);                   /* what the client does at client_first_at */
    uint64_t disk[SECTORS], executed;
    struct {
        struct driver_session *s;
        uint32_t slot;
        struct session_slot r;
    } queue[SLOTS];
    uint32_t queued, room;
    uint32_t complaints;
    bool deadly; /* whoever touches sector 7 dies */
    unsigned seed;
} world;

static status_t disk_do(const struct session_slot *r)
{
    uint64_t *data = world.page[DATA - REQUEST] + r->offset / 8;

    world.executed++;
    if (r->op == BLOCK_WRITE) world.disk[r->sector] = *data;
    if (r->op == BLOCK_READ) *data = world.disk[r->sector];
    return OK;
}

static void driver_dies(void);

static bool disk_submit(struct driver *d, struct driver_session *s, uint32_t slot,
                        const struct session_slot *r)
{
    (void)d;
    if (world.deadly && r->sector == 7) driver_dies();
    if (world.queued == world.room) return false;
    world.queue[world.queued].s = s;
    world.queue[world.queued].slot = slot;
    world.queue[world.queued++].r = *r;
    return true;
}

static void disk_interrupt(struct driver *d, uint64_t bits)
{
    (void)bits;
    for (uint32_t n = world.queued, i = 0; i < n; i++) {
        disk_do(&world.queue[i].r);
        cr_assert(driver_complete(d, world.queue[i].s, world.queue[i].slot, OK));
        cr_assert_not(driver_complete(d, world.queue[i].s, world.queue[i].slot, OK), "a second completion");
    }
    world.queued = 0;
}

static status_t disk_reset(struct driver *d, const void *checkpoint)
{
    (void)checkpoint;
    d->sectors = SECTORS;
    world.queued = 0;
    return OK;
}

static const struct driver_ops disk_ops = {.name = "disk",
                                           .class = SESSION_BLOCK,
                                           .reset = disk_reset,
                                           .submit = disk_submit,
                                           .interrupt = disk_interrupt};

/* --- The baton ------------------------------------------------------------------------------------- */

static void driver_dies(void)
{
    for (uint32_t i = 0; i < world.queued; i++)
        if (rand_r(&world.seed) % 2) disk_do(&world.queue[i].r); /* done, and nobody told */
    world.queued = 0;
    world.dead = true;
    world.deaths++;
    world.driver_turn = false;
    sem_post(&world.yield);
    pthread_exit(NULL);
}

static void *driver_thread(void *unused)
{
    (void)unused;
    sem_wait(&world.go);
    driver_main(&disk_ops);
    abort(); /* start-up cannot fail here */
}

/* Runs the driver until it sleeps, dies or hands over. Starts one if there is none. */
static void driver_run(void)
{
    if (!world.running) {
        memset(&driver, 0, sizeof(driver));
        world_startup.tag = TAG_MAKE(DISK, ++world.generation);
        world.driver_steps = 0;
        world.dead = false;
        world.running = true;
        cr_assert_eq(pthread_create(&world.thread, NULL, driver_thread, NULL), 0);
    }
    world.driver_turn = true;
    sem_post(&world.go);
    sem_wait(&world.yield);
    if (!world.dead) return;
    pthread_join(world.thread, NULL);
    world.running = false;
}

static void driver_yields(void)
{
    world.driver_turn = false;
    sem_post(&world.yield);
    sem_wait(&world.go);
}

static void world_step(void)
{
    if (!world.driver_turn) {
        if (++world.client_steps != world.driver_first_at) return;
        for (int i = 0; i < 3; i++) driver_run(); /* it takes the requests, the disk does them, it tells */
        return;
    }
    world.driver_steps++;
    if (world.generation <= world.kill_count && world.driver_steps == world.kill_at[world.generation - 1])
        driver_dies();
    if (world.driver_steps == world.client_first_at && world.interlude != NULL) {
        void (*interlude)(void) = world.interlude;
        world.interlude = NULL;
        world.driver_turn = false;
        interlude();
        world.driver_turn = true;
    }
}

/* --- System calls ------------------------------------------------------------------------------------ */

static status_t map_new(handle_t memory, uint64_t pages, uint32_t prot, void **out)
{
    (void)prot;
    if (memory < REQUEST || memory > STAGING || pages > 4) return E_HANDLE;
    *out = world.page[memory - REQUEST];
    return OK;
}

static status_t sys_signal(handle_t n, uint64_t bits)
{
    world_step();
    world.bits[n] |= bits;
    return OK;
}

static struct sys_result sys_poll(handle_t n)
{
    world_step();
    uint64_t bits = world_take(&world.bits[n]);
    return (struct sys_result){bits ? OK : E_WOULD_BLOCK, bits, 0};
}

/* The driver sleeps until its doorbell has bits; the disk works meanwhile. */
static status_t sys_recv(handle_t endpoint, struct message *m)
{
    (void)endpoint;
    world_step();
    while (world.bits[DOORBELL] == 0) {
        driver_yields();
        if (world.queued != 0) world.bits[DOORBELL] |= DOORBELL_IRQ(0);
    }
    m->info = INFO_SIGNAL;
    m->badge = world_take(&world.bits[DOORBELL]);
    return OK;
}

static bool world_lost; /* everybody sleeps and something is pending */

/* The client sleeps: the driver runs until it has woken the client. */
static struct sys_result sys_wait(handle_t n)
{
    for (int idle = 0; world.bits[n] == 0; idle++) {
        if (idle == 50) {
            world_lost = true;
            break;
        }
        driver_run();
    }
    return (struct sys_result){OK, world_take(&world.bits[n]), 0};
}

static status_t recovery_serves(uint16_t label, struct message *m)
{
    struct attach_report report;
    struct rsession *s;
    status_t status;

    switch (label) {
    case RECOVERY_ATTACH:
        status = recovery_attach(&world.core, world_startup.tag, m->w[0], &report);
        *m = (struct message){.w = {server_table_length(&world.server[DISK]), report.attempts_max, 1, 0, 0, 0,
                                    DOORBELL, STAGING}};
        return status;
    case RECOVERY_SESSION_GET:
        status = recovery_session_get(&world.core, world_startup.tag, m->w[0], m->w[1], &s);
        if (status != OK || s == NULL) {
            m->w[0] = 0;
            return status;
        }
        *m = (struct message){.w = {s->id, s->class | (uint64_t)s->slots << 16 | (uint64_t)CLIENT << 32,
                                    s->data_bytes, REQUEST, LEDGER, HINT, DATA, CLIENT_NOTIFICATION}};
        return OK;
    case RECOVERY_OPEN:
        status = recovery_open(&world.core, TAG_MAKE(CLIENT, 1), m->w[0], m->w[1], m->w[2], m->w[3], &s);
        world.session = s;
        s->request = (void *)world.page[0];
        s->ledger = (void *)world.page[1];
        s->stream_client = (void *)world.page[0];
        s->stream_driver = (void *)world.page[1];
        *m = (struct message){.w = {s->id, DOORBELL_SESSION(s->index),
                                    DOORBELL_SESSION(s->id % DOORBELL_SESSIONS), REQUEST, LEDGER, HINT, DATA,
                                    DOORBELL}};
        return status;
    case RECOVERY_COMPLAIN:
        world.complaints++;
        return ledger_nonsense(world.session, m->w[1]) ? OK : E_NOT_FOUND;
    default: return E_UNSUPPORTED;
    }
}

static status_t service_call(handle_t endpoint, uint16_t label, struct message *m)
{
    world_step(); /* on the way in */
    status_t status = endpoint == 100 ? recovery_serves(label, m) : OK;
    world_step(); /* and on the way out */
    return status;
}

/* --- The client's work ---------------------------------------------------------------------------------- */

static __attribute__((unused)) void world_make(unsigned seed)
{
    memset(&world, 0, sizeof(world));
    world_lost = false;
    world.seed = seed;
    world.room = SLOTS;
    world_startup.tag = TAG_MAKE(CLIENT, 1);
    world.manifest = calloc(1, sizeof(struct manifest) + SERVICES * sizeof(struct manifest_service));
    world.manifest->service_count = SERVICES;
    world.manifest->service[CLIENT].session_count = 1;
    world.manifest->service[CLIENT].session_pages = 2048;
    world.manifest->service[CLIENT].session[0] = DISK;
    recovery_init(&world.core, world.manifest, world.server);
    sem_init(&world.go, 0, 0);
    sem_init(&world.yield, 0, 0);
}

static __attribute__((unused)) void world_end(void)
{
    if (world.running) {
        pthread_cancel(world.thread); /* it sleeps in sem_wait */
        pthread_join(world.thread, NULL);
    }
    free(world.manifest);
}

/* Writes `requests` values to as many sectors, SLOTS at a time. Returns how many completed; each was
 * checked to complete once, with OK, and not before the disk has it. */
static __attribute__((unused)) uint32_t world_write(struct block_session *s, uint32_t requests)
{
    uint32_t submitted = 0, completed = 0, completions[SECTORS + 1] = {0};
    uint64_t first_id = s->next_id;

    while (completed < requests && !world_lost) {
        struct block_done done[SLOTS];
        while (submitted < requests && s->busy != (1u << SLOTS) - 1) {
            uint32_t free = (uint32_t)__builtin_ctzl(~s->busy);
            world.page[DATA - REQUEST][free * SECTOR_SIZE / 8] = first_id + submitted;
            cr_assert_geq(block_submit(s, BLOCK_WRITE, submitted % SECTORS, SECTOR_SIZE, free * SECTOR_SIZE),
                          0);
            submitted++;
        }
        uint32_t n = block_take(s, done, SLOTS);
        for (uint32_t i = 0; i < n; i++) {
            uint64_t which = done[i].id - first_id;
            cr_assert_lt(which, submitted);
            cr_assert_eq(++completions[which], 1, "request %lu completed twice", done[i].id);
            cr_assert_eq(done[i].status, OK);
            cr_assert_eq(world.disk[which % SECTORS], done[i].id, "an acknowledged write is not on the disk");
        }
        completed += n;
        if (n == 0) block_wait(s);
    }
    cr_assert_eq(s->violations, 0);
    return completed;
}

#endif
