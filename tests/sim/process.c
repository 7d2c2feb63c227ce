/* SPDX-License-Identifier: BSD-2-Clause
 * Processes: each runs the real library on a stack of its own (a fiber) and gives way at its steps. A death
 * takes the fiber's stack away wherever it stands. The system calls of tests/sim/user.h are here. */
#include "user.h"

#define STACK_BYTES (64u << 10)

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define stack_clean(stack) __asan_unpoison_memory_region(stack, STACK_BYTES)
#else
#define stack_clean(stack) (void)(stack)
#endif

static uint8_t stacks[SERVICES_MAX][STACK_BYTES] __attribute__((aligned(16)));
static void *scheduler_pointer;
static struct startup page; /* of whoever asks: every process has the same */

void fiber_switch(void **save, void *load);
__asm__(".text\n.globl fiber_switch\nfiber_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");

static void give_way(void) { fiber_switch(&world.process[world.running].stack_pointer, scheduler_pointer); }

static void fiber_main(void)
{
    actor_main(world.running);
    sim_fail("a process came back from its main function");
}

/* --- Life and death --------------------------------------------------------------------------------- */

void process_start(uint32_t i, uint32_t generation)
{
    struct process *p = &world.process[i];
    uint64_t *top = (uint64_t *)(stacks[i] + STACK_BYTES);

    *p = (struct process){.alive = true, .generation = generation};
    TRACE("  process %u.%u starts", i, generation);
    if (i == RECOVERY) {
        recovery_start();
        return;
    }
    stack_clean(stacks[i]);
    *--top = 0; /* so that the stack is aligned as after a call */
    *--top = (uint64_t)fiber_main;
    top -= 6;
    memset(top, 0, 6 * sizeof(*top));
    p->stack_pointer = top;
    world.signals[0][i] = 0;
    world.signals[1][i] = 0;
    if (plan.role[i] == ROLE_CLIENT) client_born(i);
}

static void count_death(uint32_t driver)
{
    for (uint32_t c = 0; c < plan.services; c++)
        for (uint32_t n = 0; plan.serves[c] == driver && n < SLOTS_MAX; n++)
            if (world.client[c].slot[n].pending) world.client[c].slot[n].deaths++;
}

void process_die(uint32_t i, enum cause cause, uint64_t code)
{
    struct process *p = &world.process[i];

    if (!p->alive) sim_fail("service %u dies twice", i);
    TRACE("  process %u.%u dies, cause %u code %lu", i, p->generation, cause, code);
    p->alive = false;
    p->cause = cause;
    p->code = code;
    if (cause != CAUSE_UPDATED) combined_note(i);
    memset(p->mapped, 0, sizeof(p->mapped));
    queue_drop(&world.calls[0], i);
    queue_drop(&world.calls[1], i);
    if (world.taken == i) world.taken = 0;
    if (plan.role[i] == ROLE_DRIVER) {
        count_death(i);
        device_died(i);
    }
    if (i == RECOVERY) recovery_ended();
    supervisor_hear_death(i);
}

bool process_runnable(uint32_t i)
{
    const struct process *p = &world.process[i];

    if (i == RECOVERY || !p->alive || p->hung) return false;
    if (p->waiting == WAIT_NOTHING) return true;
    if (p->waiting == WAIT_REPLY) return false;
    if (p->doomed) return true;
    bool doorbell = p->waits_for < HANDLE_NOTIFICATION;
    return world.signals[!doorbell][p->waits_for - (doorbell ? HANDLE_DOORBELL : HANDLE_NOTIFICATION)] != 0;
}

void process_resume(uint32_t i)
{
    world.running = i;
    world.quantum = plan.preempt_every ? 1 + (int32_t)world_below(2 * plan.preempt_every) : INT32_MAX;
    fiber_switch(&scheduler_pointer, world.process[i].stack_pointer);
    world.running = 0;
}

/* Called on the process's own stack, or by the scheduler for a process that waits. */
void process_strike(uint32_t i, const struct fault *fault)
{
    struct process *p = &world.process[i];

    switch (fault->kind) {
    case FAULT_KILL: process_die(i, CAUSE_INJECTED, 0); break;
    case FAULT_CRASH: process_die(i, CAUSE_PAGE_FAULT, fault->arg); break;
    case FAULT_EXIT: process_die(i, CAUSE_EXIT, fault->arg); break;
    case FAULT_HANG: p->hung = true; break;
    case FAULT_LETHAL: world.lethal_next = true; break;
    case FAULT_LEAK: p->leaks = true; break;
    case FAULT_SCRIBBLE:
        if (ledger_scribble(i, fault->arg)) process_die(i, CAUSE_PAGE_FAULT, 0);
        break;
    case FAULT_DEVICE_STUCK: world.device[i].stuck = true; break;
    case FAULT_IRQ_LOST: world.device[i].deaf = true; break;
    case FAULT_CHECKPOINT: {
        struct checkpoint *c = &world.checkpoint[fault->target][fault->arg % 2];
        if (c->sequence == 0 || (world.spoilt[fault->target] >> fault->arg % 2 & 1)) break;
        ((uint8_t *)c)[fault->arg % (sizeof(struct checkpoint) - CHECKPOINT_MAX + 16)] ^= 0x40;
        world.spoilt[fault->target] |= 1u << fault->arg % 2;
        break;
    }
    case FAULT_CLOCK_JUMP: world.now_ns += fault->arg * MS; break;
    default: break; /* the supervisor's */
    }
}

void process_step(void)
{
    uint32_t i = world.running;
    struct process *p = &world.process[i];
    const struct fault *fault;

    world.steps++;
    world.own_steps[i]++;
    if (p->doomed) process_die(i, CAUSE_PAGE_FAULT, 0);
    while (p->alive && (fault = fault_due(i)) != NULL) process_strike(i, fault);
    /* One that has been taken for good by then is: a crash now and then for ever is nobody's to mend. */
    if (p->alive && p->fuse && --p->fuse == 0 && world.state->service[i].on_probation)
        process_die(i, CAUSE_PAGE_FAULT, 3);
    if (!p->alive || p->hung || --world.quantum <= 0) give_way();
    if (!p->doomed) return;
    process_die(i, CAUSE_PAGE_FAULT, 0); /* while it was preempted */
    give_way();
}

void process_exit(uint64_t code)
{
    process_die(world.running, CAUSE_EXIT, code);
    give_way();
}

/* --- System calls -------------------------------------------------------------------------------------- */

const struct startup *startup(void)
{
    page.tag = TAG_MAKE(world.running, world.process[world.running].generation);
    return &page;
}

handle_t cap_find(const char *name)
{
    return strcmp(name, "recovery") == 0     ? HANDLE_RECOVERY
           : strcmp(name, "supervisor") == 0 ? HANDLE_SUPERVISOR
                                             : 0;
}

const struct startup_cap *cap_entry(const char *name)
{
    static struct startup_cap cap;

    cap.value = plan.serves[world.running];
    return strcmp(name, "disk") == 0 ? &cap : NULL;
}

static void *pageset_part(struct pageset *s, uint32_t part)
{
    void *const at[SESSION_PARTS] = {&s->request, &s->ledger, &s->hint, s->data};
    return at[part];
}

status_t map_new(handle_t memory, uint64_t pages, uint32_t prot, void **out)
{
    uint32_t i = world.running;

    (void)pages, (void)prot;
    process_step();
    if (memory >= HANDLE_STAGING && memory < HANDLE_STAGING + SERVICES_MAX) {
        *out = world.staging[memory - HANDLE_STAGING];
        return OK;
    }
    uint32_t set = (uint32_t)(memory - HANDLE_MEMORY) / 8;
    struct pageset *s = &world.pages[set];
    if (memory < HANDLE_MEMORY || set >= world.pagesets || s->freed) return E_HANDLE;
    uint32_t part = (uint32_t)(memory - HANDLE_MEMORY) % 8;
    *out = pageset_part(s, part);
    world.process[i].mapped[part] |= 1ul << set;
    return OK;
}

status_t sys_memory_unmap(handle_t process, uint64_t at)
{
    (void)process;
    process_step();
    for (uint32_t n = 0; n < world.pagesets; n++)
        for (uint32_t part = 0; part < SESSION_PARTS; part++)
            if (at == (uint64_t)pageset_part(&world.pages[n], part))
                world.process[world.running].mapped[part] &= ~(1ul << n);
    return OK;
}

void signal_to(handle_t notification, uint64_t bits)
{
    if (notification >= HANDLE_NOTIFICATION)
        world.signals[1][notification - HANDLE_NOTIFICATION] |= bits;
    else
        world.signals[0][notification - HANDLE_DOORBELL] |= bits;
}

status_t sys_signal(handle_t notification, uint64_t bits)
{
    process_step();
    signal_to(notification, bits);
    return OK;
}

static uint64_t signal_take(handle_t notification, bool waits)
{
    struct process *p = &world.process[world.running];
    bool doorbell = notification < HANDLE_NOTIFICATION;
    uint64_t *bits =
        &world.signals[!doorbell][notification - (doorbell ? HANDLE_DOORBELL : HANDLE_NOTIFICATION)];

    process_step();
    while (waits && *bits == 0) {
        p->waiting = WAIT_SIGNAL;
        p->waits_for = notification;
        give_way();
        p->waiting = WAIT_NOTHING;
        process_step();
    }
    return user_take(bits);
}

struct sys_result sys_wait(handle_t notification)
{
    return (struct sys_result){OK, signal_take(notification, true), 0};
}

struct sys_result sys_signal_wait(handle_t notification, uint64_t bits, handle_t own)
{
    (void)sys_signal(notification, bits);
    return sys_wait(own);
}

struct sys_result sys_poll(handle_t notification)
{
    uint64_t bits = signal_take(notification, false);

    return (struct sys_result){bits ? OK : E_WOULD_BLOCK, bits, 0};
}

/* A driver's endpoint gets no calls here: it hears its doorbell. */
status_t sys_recv(handle_t endpoint, struct message *m)
{
    (void)endpoint;
    m->info = INFO_SIGNAL;
    m->badge = signal_take(HANDLE_DOORBELL + world.running, true);
    return OK;
}

status_t service_call(handle_t endpoint, uint16_t label, struct message *m)
{
    struct process *p = &world.process[world.running];

    m->info = (m->info & ~0xfffful) | label;
    process_step();
    p->call = m;
    p->callee = endpoint;
    p->waiting = WAIT_REPLY;
    queue_push(&world.calls[endpoint == HANDLE_RECOVERY], world.running, false);
    give_way();
    p->call = NULL;
    status_t status = p->call_status;
    process_step();
    return status;
}

void reply(uint32_t i, status_t status)
{
    struct process *p = &world.process[i];

    p->call_status = status;
    p->waiting = WAIT_NOTHING;
}

/* --- Calls that wait ------------------------------------------------------------------------------------- */

void queue_push(struct queue *q, uint32_t from, bool first)
{
    struct letter l = {from, world.process[from].generation};

    if (q->count == sizeof(q->letter) / sizeof(q->letter[0])) sim_fail("a queue of calls overflows");
    if (first) {
        memmove(q->letter + 1, q->letter, q->count * sizeof(l));
        q->letter[0] = l;
    } else {
        q->letter[q->count] = l;
    }
    q->count++;
}

bool queue_take(struct queue *q, uint32_t *from)
{
    if (q->count == 0) return false;
    *from = q->letter[0].from;
    memmove(q->letter, q->letter + 1, --q->count * sizeof(q->letter[0]));
    return true;
}

void queue_drop(struct queue *q, uint32_t from)
{
    uint32_t kept = 0;

    for (uint32_t n = 0; n < q->count; n++)
        if (q->letter[n].from != from) q->letter[kept++] = q->letter[n];
    q->count = kept;
}
