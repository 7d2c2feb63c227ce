/* SPDX-License-Identifier: BSD-2-Clause
 * Ends processes and takes memory away from them while they run on other CPUs, and looks whether what the kernel
 * promised when the call returned is true on every CPU (README.md). Goes on until it is stopped; says in the log
 * what it counted, every ROUNDS_A_LINE rounds, and at once what did not hold.
 * Invariants: after a round no victim, no memory and no capability of it is left: the account is as before. */
#include "abi/protocol.h"
#include "victim.h"

#define COUNTS        0x50000000ul /* where this process has the counters */
#define TARGET        0x51000000ul /* and what is taken away from victims */
#define TARGET_PAGES  4u
#define ROWS          6u
#define POISON        0x5a5a5a5a5a5a5a5aul
#define ROUNDS_A_LINE 50u
#define REST_NS       30000ul
#define RUN_NS        30000000000ul /* a victim that has not run, or not died, for so long, never will */
#define WORDS         (PAGE_SIZE / sizeof(uint64_t))

enum action { KILL, UNMAP, REVOKE, DESTROY, LEAVE, THREAD, CALLS, ACTIONS };
static const char *const action_name[ACTIONS] = {"kill",  "unmap",  "revoke", "destroy",
                                                 "leave", "thread", "calls"};

static uint64_t seed, ended[ACTIONS], violations, rounds;
static uint32_t cpus;
static handle_t counts_memory, notification, timer;
static volatile uint64_t *const count = (volatile uint64_t *)COUNTS;
static volatile uint64_t *const target = (volatile uint64_t *)TARGET;

static uint64_t below(uint64_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % n;
}

static void violation(enum action a, const char *what, uint64_t got, uint64_t wanted)
{
    violations++;
    log_line("{\"stress\":{\"violation\":\"%s\",\"action\":\"%s\",\"round\":%lu,\"got\":%lu,\"wanted\":%lu}}",
             what, action_name[a], rounds, got, wanted);
}

/* What must work. The stress is over if it does not. */
static void must(status_t status, const char *what)
{
    if (status != OK)
        fatal("{\"fatal\":\"stress: %s: status %u in round %lu\"}", what, (uint32_t)status, rounds);
}
static uint64_t made(struct sys_result r, const char *what)
{
    must(r.status, what);
    return r.value;
}

/* Gives way to the victims, which are less urgent and may need the very CPU that we are on. */
static void rest(void)
{
    must(sys_timer_arm(timer, clock_ns() + REST_NS), "a timer");
    must(sys_wait(notification).status, "a rest");
}

static void spin_us(uint64_t us)
{
    uint64_t until = rdtsc() + us * (startup()->tsc_hz / 1000000);
    while (rdtsc() < until) {}
}

/* --- Victims ------------------------------------------------------------------------------------------------ */

struct victim {
    handle_t process, thread; /* thread: its second, 0: none */
    uint32_t row, rows;       /* counters that it uses */
};

static uint64_t some_cpus(void) { return below(2) ? 0 : below((1ul << cpus) - 1) + 1; }

static struct victim victim_make(const uint8_t *routine, uint32_t row)
{
    struct victim v = {
        .process = made(victim_create(routine, some_cpus()), "a process"), .row = row, .rows = 1};
    count[row] = 0;
    must(sys_memory_map(v.process, counts_memory, VICTIM_COUNTS, 0, 1, RIGHT_READ | RIGHT_WRITE),
         "its counters");
    return v;
}

static void thread_add(struct victim *v, const uint8_t *routine)
{
    uint32_t row = v->row + v->rows++;
    count[row] = 0;
    v->thread =
        made(sys_thread_create(v->process, victim_address(routine), VICTIM_SECOND, VICTIM_ARG(row, 0)),
             "a thread");
}

static void await_running(enum action a, const struct victim *v)
{
    uint64_t limit = clock_ns() + RUN_NS;
    for (uint32_t i = v->row; i < v->row + v->rows; i++) {
        while (count[i] == 0 && clock_ns() < limit) rest();
        if (count[i] == 0) violation(a, "a thread does not run", i, 0);
    }
}

/* Waits for the death of one of our processes: its cause. */
static struct process_event await_death(enum action a, const struct victim *v)
{
    struct process_event e = {0};
    uint64_t limit = clock_ns() + RUN_NS;
    status_t status = E_WOULD_BLOCK;
    while (status == E_WOULD_BLOCK && clock_ns() < limit) {
        status = sys_process_event(&e);
        if (status == OK && (e.kind != EVENT_DEATH || e.process != v->process)) status = E_WOULD_BLOCK;
        if (status == E_WOULD_BLOCK) rest();
    }
    if (status != OK) violation(a, "it does not die", 0, 0);
    return e;
}

static void bury(const struct victim *v) { must(sys_process_destroy(v->process), "burial"); }

/* No instruction runs any more, on no CPU: the counters stand still from now on. */
static void check_still(enum action a, uint32_t first, uint32_t rows)
{
    uint64_t was[ROWS];
    for (uint32_t i = 0; i < rows; i++) was[i] = count[first + i];
    spin_us(5 + below(60));
    for (uint32_t i = 0; i < rows; i++)
        if (count[first + i] != was[i]) violation(a, "it runs after its end", count[first + i], was[i]);
}

/* --- Memory that is taken away --------------------------------------------------------------------------------- */

static handle_t target_make(enum action a, uint64_t pages)
{
    handle_t m = made(sys_memory_create(0, pages, 0), "memory");
    must(sys_memory_map(0, m, TARGET, 0, pages, RIGHT_READ | RIGHT_WRITE), "a mapping of our own");
    for (uint64_t i = 0; i < pages; i++)
        if (target[i * WORDS]) violation(a, "fresh memory is not zero", target[i * WORDS], 0);
    return m;
}

static void target_poison(uint64_t pages)
{
    for (uint64_t i = 0; i < pages * WORDS; i++) target[i] = POISON;
}

static void check_poison(enum action a, uint64_t pages)
{
    for (uint64_t i = 0; i < pages * WORDS; i++)
        if (target[i] != POISON) {
            violation(a, "memory was written after it was taken away", target[i], POISON);
            return;
        }
}

/* --- Rounds ------------------------------------------------------------------------------------------------------- */

static const uint8_t *writer(void)
{
    const uint8_t *const all[] = {victim_write, victim_enter, victim_yield};
    return all[below(3)];
}

/* A victim of one to three threads that write the target, on whatever CPUs. */
static struct victim writers_start(enum action a, handle_t memory, uint64_t pages)
{
    struct victim v = victim_make(writer(), 0);
    must(sys_memory_map(v.process, memory, VICTIM_TARGET, 0, pages, RIGHT_READ | RIGHT_WRITE), "its target");
    must(sys_process_start(v.process, VICTIM_ARG(0, 0)), "its start");
    for (uint64_t n = below(3); n > 0; n--) thread_add(&v, writer());
    await_running(a, &v);
    spin_us(below(100));
    return v;
}

static void kill_check(enum action a, const struct victim *v)
{
    must(sys_process_kill(v->process, CAUSE_KILLED), "a kill");
    check_still(a, v->row, v->rows);
    struct process_event e = await_death(a, v);
    if (e.cause != CAUSE_KILLED) violation(a, "another cause of death", e.cause, CAUSE_KILLED);
    bury(v);
}

static void round_kill(enum action a)
{
    uint64_t pages = 1 + below(TARGET_PAGES);
    handle_t m = target_make(a, pages);
    struct victim v = writers_start(a, m, pages);
    kill_check(a, &v);
    target_poison(pages);
    check_poison(a, pages);
    must(sys_cap_delete(m), "memory's end");
}

/* It dies of the first access after the call; nothing that it wrote later arrives anywhere. */
static void round_take(enum action a)
{
    uint64_t pages = 1 + below(TARGET_PAGES);
    handle_t m = target_make(a, pages),
             shared = made(sys_cap_derive(m, RIGHT_READ | RIGHT_WRITE | RIGHT_GRANT, 0), "a child");
    struct victim v = writers_start(a, shared, pages);
    if (a == UNMAP)
        must(sys_memory_unmap(v.process, VICTIM_TARGET), "unmap");
    else if (a == REVOKE)
        must(sys_cap_revoke(m), "revoke");
    else {
        must(sys_cap_delete(m), "memory's end");
        m = target_make(a, pages); /* likely of the same frames */
    }
    target_poison(pages);
    struct process_event e = await_death(a, &v);
    if (e.cause != CAUSE_PAGE_FAULT || e.address != VICTIM_TARGET)
        violation(a, "another cause of death", e.cause, CAUSE_PAGE_FAULT);
    check_still(a, v.row, v.rows);
    check_poison(a, pages);
    bury(&v);
    must(sys_cap_delete(m), "memory's end");
}

/* It ends itself while it is killed. */
static void round_leave(enum action a)
{
    struct victim v = victim_make(victim_leave, 0);
    must(sys_process_start(v.process, VICTIM_ARG(0, 0)), "its start");
    uint32_t row = v.row + v.rows;
    count[row] = 0;
    status_t second =
        sys_thread_create(v.process, victim_address(victim_leave), VICTIM_SECOND, VICTIM_ARG(row, 0)).status;
    if (second == OK)
        v.rows++;
    else if (second != E_STATE) /* gone already */
        must(second, "a thread");
    spin_us(below(50));
    status_t status = sys_process_kill(v.process, CAUSE_KILLED);
    if (status != OK && status != E_STATE) must(status, "a kill");
    check_still(a, v.row, v.rows);
    struct process_event e = await_death(a, &v);
    if (e.cause != CAUSE_EXIT && e.cause != CAUSE_KILLED)
        violation(a, "another cause of death", e.cause, CAUSE_EXIT);
    bury(&v);
}

/* One of its threads ends; the others go on. */
static void round_thread(enum action a)
{
    handle_t m = target_make(a, 1);
    struct victim v = victim_make(writer(), 0);
    must(sys_memory_map(v.process, m, VICTIM_TARGET, 0, 1, RIGHT_READ | RIGHT_WRITE), "its target");
    must(sys_process_start(v.process, VICTIM_ARG(0, 0)), "its start");
    thread_add(&v, writer());
    await_running(a, &v);
    must(sys_cap_delete(v.thread), "a thread's end");
    check_still(a, 1, 1);
    count[0] = 0;
    v.rows = 1;
    await_running(a, &v);
    kill_check(a, &v);
    must(sys_cap_delete(m), "memory's end");
}

/* A caller and a server on whatever CPUs; one of them ends in the middle, then the other. */
static void round_calls(enum action a)
{
    handle_t e = made(sys_endpoint_create(0), "an endpoint");
    struct victim server = victim_make(victim_server, 0), caller = victim_make(victim_caller, 1);
    handle_t to = made(sys_process_grant(caller.process, e, RIGHT_WRITE, 0), "the caller's handle");
    handle_t from = made(sys_process_grant(server.process, e, RIGHT_READ, 0), "the server's handle");
    must(sys_process_start(server.process, VICTIM_ARG(0, from)), "its start");
    must(sys_process_start(caller.process, VICTIM_ARG(1, to)), "its start");
    await_running(a, &server);
    await_running(a, &caller);
    spin_us(below(100));
    bool server_first = below(2);
    kill_check(a, server_first ? &server : &caller);
    kill_check(a, server_first ? &caller : &server);
    must(sys_cap_delete(e), "the endpoint's end");
}

static uint64_t pages_used(void)
{
    struct process_info info;
    must(sys_process_info(0, &info), "process_info");
    return info.used_pages;
}

static void round_run(void)
{
    enum action a = (enum action)below(ACTIONS);
    switch (a) {
    case KILL: round_kill(a); break;
    case LEAVE: round_leave(a); break;
    case THREAD: round_thread(a); break;
    case CALLS: round_calls(a); break;
    default: round_take(a);
    }
    ended[a] += a == CALLS ? 2 : 1;
    rounds++;
}

static void report(uint64_t pages)
{
    uint64_t all = 0;
    for (unsigned i = 0; i < ACTIONS; i++) all += ended[i];
    log_line("{\"stress\":{\"instance\":\"%s\",\"ended\":%lu,\"kill\":%lu,\"unmap\":%lu,\"revoke\":%lu,"
             "\"destroy\":%lu,"
             "\"leave\":%lu,\"thread\":%lu,\"calls\":%lu,\"violations\":%lu,\"pages\":%lu}}",
             startup()->name, all, ended[KILL], ended[UNMAP], ended[REVOKE], ended[DESTROY], ended[LEAVE],
             ended[THREAD], ended[CALLS], violations, pages);
}

int main(void)
{
    struct system_info info;
    struct message m = {0};
    must(sys_system_info(&info), "system_info");
    cpus = info.cpus;
    seed = (arg_number("seed", 1) + TAG_SERVICE(startup()->tag)) * 0x9e3779b97f4a7c15ul;
    counts_memory = made(sys_memory_create(0, 1, 0), "memory");
    must(sys_memory_map(0, counts_memory, COUNTS, 0, 1, RIGHT_READ | RIGHT_WRITE), "the counters");
    notification = made(sys_notification_create(0), "a notification");
    timer = made(sys_timer_create(notification, 1), "a timer");
    must(victim_image_make(), "an image");
    if (service_call(cap_find("supervisor"), SUPERVISOR_READY, &m) != OK)
        fatal("stress: not accepted as ready");
    for (unsigned i = 0; i < 20; i++) round_run(); /* from here on the account has all that it keeps */
    for (uint64_t pages = pages_used();;) {
        for (unsigned i = 0; i < ROUNDS_A_LINE; i++) {
            round_run();
            if (pages_used() != pages) violation(KILL, "pages are missing", pages_used(), pages);
        }
        report(pages);
    }
}
