/* SPDX-License-Identifier: BSD-2-Clause
 * More of everything than there is, for a time, from as many threads as we may have: what is attempted, where
 * it is refused. The kinds' numbers are in abi/protocol.def. */
#include "lib/session.h"
#include "abi/trace.h"
#include "hostile.h"

#define THREADS     7 /* beside the first: all that a process may have */
#define STACK_BYTES 4096
#define DEPTH       32u
#define BLOCK_BYTES 4096u

static struct {
    uint64_t until_ns, attempts, refused;
    uint64_t first_refusal; /* attempts before it */
    status_t status;        /* of the last refusal */
} tally;

static bool going(void) { return clock_ns() < tally.until_ns; }

static bool attempt(status_t status)
{
    uint64_t n = __atomic_fetch_add(&tally.attempts, 1, __ATOMIC_RELAXED);

    if (status == OK) return true;
    if (__atomic_fetch_add(&tally.refused, 1, __ATOMIC_RELAXED) == 0) tally.first_refusal = n;
    tally.status = status;
    return false;
}

/* From here on it can be measured what others feel. */
static void flooding(void) { log_line("{\"flooding\":{}}"); }

/* --- The kinds ---------------------------------------------------------------------------------------------- */

/* Children that make children, until nothing is left; then all go and it begins again. */
static void flood_spawn(void)
{
    static struct child c[64];
    uint64_t before = shared->calls;

    while (going() || tally.attempts + (shared->calls - before) < 10000) {
        for (uint32_t i = 0; i < 64; i++) {
            bool parent = i % 8 == 0; /* it makes children of its own as long as it lives */
            status_t status = child_make(&c[i], parent ? 2 * CHILD_PAGES : CHILD_PAGES, own_sched());
            if (!attempt(status)) continue;
            if (parent)
                parent =
                    sys_process_grant(c[i].process, child_image(), RIGHT_READ | RIGHT_EXECUTE, 0).status ==
                    OK;
            (void)child_start(&c[i], CHILD_ARG(parent ? CHILD_FORK : CHILD_EXIT, 0));
        }
        sys_yield();
        for (uint32_t i = 0; i < 64; i++) child_end(&c[i]);
    }
    tally.attempts += shared->calls - before; /* the children's own */
}

static void call_everybody(void)
{
    handle_t to[] = {cap_find("echo"), cap_find("supervisor"), cap_find("recovery")};

    for (uint64_t i = 0; going(); i++) {
        struct message m = {.w = {~0ul}};
        (void)attempt(service_call(to[i % 3], i % 3 ? 0xfff : ECHO_ECHO, &m));
    }
}

static void flood_signals(void)
{
    handle_t n = sys_notification_create(0).value;

    while (going())
        for (uint32_t i = 0; i < 64; i++) (void)attempt(sys_signal(n, i + 1));
    (void)sys_cap_delete(n);
}

/* A tree as deep and as wide as our quota, and its end. */
static void flood_capabilities(void)
{
    while (going()) {
        handle_t n = sys_notification_create(0).value, last = n;
        for (uint64_t i = 0;; i++) {
            struct sys_result r = sys_cap_derive(i % 16 ? last : n, RIGHT_READ, 0);
            if (!attempt(r.status)) break;
            last = r.value;
        }
        (void)sys_cap_delete(n);
    }
}

static void flood_memory(void)
{
    static handle_t held[512];

    while (going()) {
        uint32_t n = 0;
        for (; n < 512; n++) {
            struct sys_result r = sys_memory_create(0, 1 + n % 64, n % 4 == 3 ? MEMORY_CONTIGUOUS : 0);
            if (!attempt(r.status)) break;
            held[n] = r.value;
        }
        while (n) (void)sys_cap_delete(held[--n]);
    }
}

static void flood_timers(void)
{
    handle_t n = sys_notification_create(0).value, t[80];
    uint32_t made = 0;

    while (made < 80) {
        struct sys_result r = sys_timer_create(n, 1);
        if (!attempt(r.status)) break;
        t[made++] = r.value;
    }
    while (going())
        for (uint32_t i = 0; i < made; i++) (void)attempt(sys_timer_arm(t[i], clock_ns() + i * 1000));
    (void)sys_cap_delete(n);
    while (made) (void)sys_cap_delete(t[--made]);
}

static void flood_log(void)
{
    static char line[512];

    for (uint32_t i = 0; i < sizeof(line); i++) line[i] = 'x';
    while (going()) (void)attempt(sys_log(cap_find("log"), line, sizeof(line)));
}

static void flood_mappings(void)
{
    handle_t m = sys_memory_create(0, 256, 0).value;

    while (going()) {
        uint64_t n = 0;
        while (n < 4096 && attempt(sys_memory_map(0, m, SCRATCH_AT + n * 3 * PAGE_SIZE, n % 256, 1,
                                                  RIGHT_READ | RIGHT_WRITE)))
            n++;
        while (n--) (void)sys_memory_unmap(0, SCRATCH_AT + n * 3 * PAGE_SIZE);
        (void)attempt(sys_memory_map(0, m, SCRATCH_AT, 0, 256, RIGHT_READ | RIGHT_WRITE));
        (void)sys_memory_unmap(0, SCRATCH_AT);
    }
    (void)sys_cap_delete(m);
}

static void flood_marks(void)
{
    while (going() || !tally.refused) (void)attempt(sys_trace_mark(0, MARK_BENCH, 0));
}

/* Reads of a disk through more slots than its ring has room for, all busy. Its data are not ours to write. */
static void flood_requests(void)
{
    static struct block_session s[8];
    uint32_t open = 0;

    while (open < 8 && attempt(block_open(&s[open], "virtio_blk", DEPTH, DEPTH * BLOCK_BYTES, 0))) open++;
    flooding();
    for (uint64_t sector = 0; going() && open;) {
        for (uint32_t i = 0; i < open; i++) {
            struct block_done done[DEPTH];
            int slot;
            (void)block_take(&s[i], done, DEPTH);
            for (uint32_t k = 0; k < DEPTH; k++, sector += 8) {
                slot = block_submit(&s[i], BLOCK_READ, sector % 65536, BLOCK_BYTES, k * BLOCK_BYTES);
                if (slot < 0) break;
                (void)attempt(OK);
            }
            block_kick(&s[i]);
        }
        sys_yield();
    }
    while (open) {
        struct block_done done[DEPTH];
        open--;
        while (block_close(&s[open]) == E_BUSY) {
            block_wait(&s[open]);
            (void)block_take(&s[open], done, DEPTH);
        }
    }
}

/* As much of recovery's memory as we are given, in large sessions and small ones, held while we ask for more. */
static void flood_sessions(void)
{
    static struct block_session s[16], more;
    uint32_t open = 0;

    for (bool told = false; going(); told = true) {
        for (uint64_t bytes = SESSION_DATA_MAX; bytes >= BLOCK_BYTES; bytes /= 4) {
            struct block_session *to = open < 16 ? &s[open] : &more;
            if (attempt(block_open(to, "virtio_blk", 1, bytes, 0)) && to != &more) open++;
        }
        if (!told) flooding();
    }
    while (open)
        if (block_close(&s[--open]) != OK) log_line("hostile: an idle session does not close");
}

/* --- The run -------------------------------------------------------------------------------------------------- */

static void (*const kinds[])(void) = {
    [FLOOD_LONGEST] = longest_run,     [FLOOD_SPAWN] = flood_spawn,
    [FLOOD_SIGNALS] = flood_signals,   [FLOOD_CAPABILITIES] = flood_capabilities,
    [FLOOD_MEMORY] = flood_memory,     [FLOOD_TIMERS] = flood_timers,
    [FLOOD_LOG] = flood_log,           [FLOOD_MAPPINGS] = flood_mappings,
    [FLOOD_MARKS] = flood_marks,       [FLOOD_REQUESTS] = flood_requests,
    [FLOOD_SESSIONS] = flood_sessions,
};

/* A thread does not return: it waits until it is deleted. */
static void calls_thread(uint64_t notification)
{
    call_everybody();
    (void)sys_wait(notification);
}

static void flood_calls(void)
{
    handle_t n = sys_notification_create(0).value;
    static uint8_t stacks[THREADS][STACK_BYTES] __attribute__((aligned(16)));
    handle_t t[THREADS];

    for (uint32_t i = 0; i < THREADS; i++)
        t[i] = sys_thread_create(0, (uint64_t)calls_thread, (uint64_t)stacks[i] + STACK_BYTES - 8, n).value;
    call_everybody();
    for (uint32_t i = 0; i < THREADS; i++) (void)sys_cap_delete(t[i]);
    (void)sys_cap_delete(n);
}

void flood_run(uint32_t kind, uint64_t ms)
{
    memset(&tally, 0, sizeof(tally));
    tally.until_ns = clock_ns() + ms * MS;
    if (kind != FLOOD_REQUESTS && kind != FLOOD_SESSIONS) flooding();
    if (kind == FLOOD_CALLS)
        flood_calls();
    else if (kind < sizeof(kinds) / sizeof(kinds[0]) && kinds[kind])
        kinds[kind]();
    log_line("{\"flood\":{\"kind\":%u,\"attempts\":%lu,\"refused\":%lu,\"first_refusal\":%lu,\"status\":%u}}",
             kind, tally.attempts, tally.refused, tally.first_refusal, (uint32_t)tally.status);
}
