/* SPDX-License-Identifier: BSD-2-Clause
 * Random system calls. Each child has several threads that make them on the same handles, and siblings share
 * objects with it, so that on several CPUs every call meets every other. Nothing is expected of a single call
 * but that it harms nobody; a child ends when it hits something deadly, or after a while. */
#include "hostile.h"

#define CHILDREN     4
#define THREADS      3
#define LIFE_NS      (60 * MS)
#define HANDLES      12u /* given to each; their slots in a new table are 1 to HANDLES */
#define STACK_BYTES  4096
#define CALLS_A_LOOK 64

uint64_t chaos_children, chaos_deaths, chaos_causes[64];
static struct child children[CHILDREN];
static handle_t endpoint, notification, memory, text;

/* --- In the child --------------------------------------------------------------------------------------------- */

static uint8_t stacks[THREADS][STACK_BYTES] __attribute__((aligned(16)));

static uint64_t pick_handle(uint64_t *state)
{
    uint64_t r = random_next(state);

    switch (r % 8) {
    case 0: return HANDLE_MAKE(r >> 8 & 0x3f, r >> 20 & 3);
    case 1: return r;
    case 2: return 0;
    case 3: return HANDLE_MAKE(1 + (r >> 8) % 40, 1 + (r >> 20) % 8);
    default: return HANDLE_MAKE(1 + (r >> 8) % HANDLES, 1);
    }
}

static uint64_t pick_word(uint64_t *state)
{
    static const uint64_t odd[] = {0,
                                   1,
                                   2,
                                   7,
                                   64,
                                   4095,
                                   4096,
                                   ~0ul,
                                   1ul << 63,
                                   KERNEL_TEXT,
                                   USER_END,
                                   USER_BASE,
                                   SCRATCH_AT,
                                   NON_CANONICAL,
                                   USER_IMAGE_BASE,
                                   USER_STARTUP,
                                   USER_STACK_TOP,
                                   USER_DYNAMIC,
                                   1ul << 32};
    uint64_t r = random_next(state);

    switch (r % 8) {
    case 0: return r >> 8;
    case 1: return pick_handle(state);
    case 2: return odd[(r >> 8) % (sizeof(odd) / sizeof(odd[0]))] + (r >> 40) % 3 - 1;
    case 3: return SCRATCH_AT + (r >> 8) % 64 * PAGE_SIZE;
    case 4: return USER_IMAGE_BASE + (r >> 8) % 64 * 256;
    case 5: return INFO_MAKE(r >> 8 & 15, r >> 16 & 7) | (r & 1 ? INFO_REPLAYABLE : 0);
    default: return (r >> 8) % 16;
    }
}

static uint64_t pick_number(uint64_t *state)
{
    uint64_t r = random_next(state);

    for (;; r = random_next(state)) {
        uint64_t n = r % (SYSCALL_COUNT + 2);
        /* These end the thread or the child: often enough by accident, seldom on purpose. */
        bool stops = n == SYS_exit || n == SYS_call || n == SYS_recv || n == SYS_reply_recv ||
                     n == SYS_wait || n == SYS_process_kill;
        if (!stops || (r >> 32) % 16 == 0) return n;
    }
}

static void chaos_thread(uint64_t seed) __attribute__((noreturn));
static void chaos_thread(uint64_t seed)
{
    uint64_t state = seed * 0x9e3779b97f4a7c15ul | 1, made = 0;

    for (;;) {
        struct message m = {.badge = pick_handle(&state), .info = pick_word(&state)};
        uint64_t number = pick_number(&state);
        for (uint32_t i = 0; i < MESSAGE_WORDS; i++) m.w[i] = pick_word(&state);
        (void)sys_raw(number, &m);
        if (++made % CALLS_A_LOOK == 0)
            __atomic_fetch_add(&((struct shared *)SHARED_AT)->calls, CALLS_A_LOOK, __ATOMIC_RELAXED);
    }
}

void chaos_do(uint64_t seed)
{
    for (uint32_t i = 1; i < THREADS; i++)
        (void)sys_thread_create(0, (uint64_t)chaos_thread, (uint64_t)stacks[i] + STACK_BYTES - 8,
                                seed * 8 + i);
    chaos_thread(seed * 8);
}

/* --- In us ------------------------------------------------------------------------------------------------------ */

static bool objects_make(void)
{
    struct sys_result e = sys_endpoint_create(0), n = sys_notification_create(0),
                      m = sys_memory_create(0, 4, 0), t = sys_memory_create(0, 2, MEMORY_CONTIGUOUS);

    if (e.status != OK || n.status != OK || m.status != OK || t.status != OK) return false;
    endpoint = e.value;
    notification = n.value;
    memory = m.value;
    text = t.value;
    return true;
}

/* All that we hold, and objects that all children share. The shared page is not among it: calls are counted
 * there. A handle of the child itself, and one of a sibling, with all rights over them. */
static void furnish(struct child *c, const struct child *sibling)
{
    const struct {
        handle_t h;
        uint32_t rights;
    } give[HANDLES] = {
        {endpoint, RIGHT_READ | RIGHT_WRITE | RIGHT_GRANT},
        {notification, RIGHT_READ | RIGHT_WRITE | RIGHT_GRANT},
        {memory, RIGHT_READ | RIGHT_WRITE | RIGHT_EXECUTE | RIGHT_GRANT},
        {text, RIGHT_READ | RIGHT_WRITE | RIGHT_EXECUTE | RIGHT_GRANT},
        {child_image(), RIGHT_READ | RIGHT_EXECUTE | RIGHT_GRANT},
        {c->process, RIGHT_MANAGE | RIGHT_INJECT | RIGHT_GRANT},
        {cap_find("supervisor"), RIGHT_WRITE},
        {cap_find("recovery"), RIGHT_WRITE},
        {cap_find("echo"), RIGHT_WRITE},
        {cap_find("image"), RIGHT_READ},
        {cap_find("log"), 0}, /* to be shown wherever a handle is wanted; its lines would be noise */
        {sibling->process, RIGHT_MANAGE | RIGHT_GRANT},
    };

    for (uint32_t i = 0; i < HANDLES; i++)
        if (give[i].h) (void)sys_process_grant(c->process, give[i].h, give[i].rights, 0);
}

static void bury(struct child *c)
{
    struct process_info info;

    if (!c->process) return;
    if (sys_process_info(c->process, &info) == OK && info.state == PROCESS_DEAD) {
        chaos_deaths++;
        chaos_causes[info.cause % 64]++;
    }
    child_end(c);
}

static bool ended(const struct child *c)
{
    struct process_info info;

    return sys_process_info(c->process, &info) != OK || info.state == PROCESS_DEAD;
}

void chaos_keep(uint64_t *seed, uint64_t now_ns)
{
    if (!endpoint && !objects_make()) return;
    for (uint32_t i = 0; i < CHILDREN; i++) {
        struct child *c = &children[i];
        if (c->process && !ended(c) && now_ns - c->since_ns < LIFE_NS) continue;
        bury(c);
        if (child_make(c, 96, own_sched()) != OK) continue;
        furnish(c, &children[(i + 1) % CHILDREN]);
        (void)child_start(c, CHILD_ARG(CHILD_CHAOS, random_next(seed) >> 16));
        chaos_children++;
    }
}

void chaos_stop(void)
{
    for (uint32_t i = 0; i < CHILDREN; i++) bury(&children[i]);
    handle_t made[] = {endpoint, notification, memory, text};
    for (uint32_t i = 0; endpoint && i < 4; i++) (void)sys_cap_delete(made[i]);
    endpoint = 0;
}
