/* SPDX-License-Identifier: BSD-2-Clause
 * The first process: reads the manifest, makes what outlives its services (endpoints, ports,
 * interrupts), then waits for events, has the core decide and does as it says. Order within a
 * restart: what another process waits for comes first; burial of the dead, the journal and the
 * watch are chores for later. */
#include "shell.h"

static uint32_t unspawned_count;
static bool resuming; /* the core repeats what may have been done already */

static uint64_t timer_armed = SUPERVISOR_NEVER;

/* --- Chores --------------------------------------------------------------------------------- */
void chores_by(uint64_t ns)
{
    if (ns >= shell.chore_ns) return;
    shell.chore_ns = ns;
    if (sys_timer_arm(shell.chore_timer, ns) != OK) fatal("supervisor: its timer is refused");
}

/* Once: every service serves, or is known not to. */
static void say_settled(void)
{
    const uint32_t *in_state = shell.state->in_state;
    uint32_t running = in_state[SERVICE_STATE_RUNNING], down = in_state[SERVICE_STATE_GAVE_UP] +
                                                               in_state[SERVICE_STATE_ABSENT] +
                                                               in_state[SERVICE_STATE_DONE];
    if (running + down != shell.state->count - 1) return;
    uint64_t us = (rdtsc() - shell.boot_tsc) / (shell.tsc_hz / 1000000);
    shell.settled = true;
    log_line("supervisor: up, %u services serve, %u do not, %lu us after the loader began", running, down,
             us);
}

void chores(void)
{
    shell.chore_ns = SUPERVISOR_NEVER;
    chores_by(watch_look());
    uint64_t now_ns = clock_ns();
    chores_by(growth_look_at_some(now_ns));
    bool starting = shell.state->in_state[SERVICE_STATE_STARTING] != 0;
    bool busy = starting || now_ns < shell.quiet_ns;
    if (busy && !graves_pile_up()) { /* start timeouts bound how often this happens */
        chores_by(now_ns + CHORE_DELAY_NS);
        return;
    }
    bury_all();
    journal_flush();
    if (!shell.settled) say_settled();
}

/* --- The core's actions --------------------------------------------------------------------- */
static void halt(enum system_op op)
{
    journal_flush();
    log_line("supervisor: everything has ended, %s", op == SYSTEM_REBOOT ? "rebooting" : "powering off");
    status_t status = sys_system(shell.root, op);
    fatal("supervisor: the machine does not stop: status %u", status);
}

/* Its device could reach all memory, and nobody said that this is accepted. */
static bool refused(const struct manifest_service *m)
{
    return !shell.iommu && m->pci_count && !(m->flags & SERVICE_UNPROTECTED_DMA);
}

/* Who goes on from a snapshot is in the middle of serving, and says READY to nobody. */
static void started(const struct supervisor_action *a)
{
    uint64_t rollbacks;
    if (!spawned_back(a->service, &rollbacks)) return;
    shell.unspawned[unspawned_count++] = (struct supervisor_event){.kind = SUPERVISOR_EVENT_READY,
                                                                   .service = a->service,
                                                                   .generation = a->generation,
                                                                   .code = rollbacks};
}

static void start(const struct supervisor_action *a)
{
    bool no = refused(&shell.manifest->service[a->service]);
    if ((resuming && spawned(a->service, a->generation)) ||
        (!no && spawn(a->service, a->generation, a->value, a->fresh))) {
        started(a);
        return;
    }
    shell.unspawned[unspawned_count++] = (struct supervisor_event){.kind = SUPERVISOR_EVENT_DEATH,
                                                                   .service = a->service,
                                                                   .generation = a->generation,
                                                                   .cause = no ? CAUSE_REFUSED : CAUSE_SPAWN};
}

static void spare(const struct supervisor_action *a)
{
    if (spare_spawn(a->service, a->generation, a->value)) return;
    shell.unspawned[unspawned_count++] = (struct supervisor_event){
        .kind = SUPERVISOR_EVENT_SPARE_DEATH, .service = a->service, .generation = a->generation};
}

static void act(const struct supervisor_action *a)
{
    switch (a->kind) {
    case SUPERVISOR_ACTION_START: start(a); break;
    case SUPERVISOR_ACTION_SPARE: spare(a); break;
    case SUPERVISOR_ACTION_SPARE_END: spare_drop(a->service); break;
    case SUPERVISOR_ACTION_KILL:
        /* No process: it could not be made, and that is queued. A failure: it died by itself
         * meanwhile. In each case its DEATH is on the way. */
        if (shell.child[a->service].process)
            (void)sys_process_kill(shell.child[a->service].process, a->cause);
        break;
    case SUPERVISOR_ACTION_TIMER:
        if (a->ns >= timer_armed) break;
        timer_armed = a->ns;
        if (sys_timer_arm(shell.timer, a->ns) != OK) fatal("supervisor: its timer is refused");
        break;
    case SUPERVISOR_ACTION_MARK:
        (void)sys_trace_mark(shell.trace, a->value, a->service); /* a trace that refuses stops nobody */
        if (a->value == MARK_UPDATED || a->value == MARK_ROLLED_BACK)
            journal_version(a->service, (enum mark)a->value);
        if (a->value == MARK_GROUP_FAILED) journal_group(a->service, (uint32_t)a->ns);
        break;
    case SUPERVISOR_ACTION_REPORT: journal_state(a->service, a); break;
    case SUPERVISOR_ACTION_HALT: halt((enum system_op)a->ns); break;
    }
}

static void step(const struct supervisor_event *event)
{
    size_t max = supervisor_actions_max(shell.state->count),
           n = twin_step(&shell.twin, event, clock_ns(), shell.action, max);
    resuming = event->kind == SUPERVISOR_EVENT_RESUME;
    for (size_t i = 0; i < n; i++) act(&shell.action[i]);
    twin_follow(&shell.twin, shell.action, max);
}

void happen(const struct supervisor_event *event)
{
    step(event);
    while (unspawned_count) {
        struct supervisor_event came = shell.unspawned[--unspawned_count];
        if (came.kind == SUPERVISOR_EVENT_READY) ready_note(came.service);
        step(&came);
        if (came.kind == SUPERVISOR_EVENT_READY) (void)sys_trace_mark(shell.trace, MARK_READY, came.service);
        if (came.kind != SUPERVISOR_EVENT_DEATH) continue; /* of a spare the log has said why */
        journal_death(came.service, came.generation, &(struct process_event){.cause = came.cause});
    }
}

/* --- Signals -------------------------------------------------------------------------------- */
static void on_spare_death(uint32_t i, const struct process_event *event)
{
    handle_t dead = shell.child[i].spare;
    journal_spare(i, event);
    happen(&(struct supervisor_event){
        .kind = SUPERVISOR_EVENT_SPARE_DEATH, .service = i, .generation = TAG_GENERATION(event->tag)});
    if (shell.child[i].spare == dead)
        spare_drop(i); /* last: who starts on this makes none of its generation */
}

/* A death that the core counts; what it starts in its place is written down before the dead is let go. */
void child_died(const struct process_event *event)
{
    uint32_t i = TAG_SERVICE(event->tag), generation = TAG_GENERATION(event->tag);
    struct child *child = &shell.child[i];
    handle_t dead = child->process, inject = child->inject;
    /* A death before READY belongs to the same outage. */
    if (!child->death_tsc) child->death_tsc = event->tsc;
    happen(&(struct supervisor_event){.kind = SUPERVISOR_EVENT_DEATH,
                                      .service = i,
                                      .generation = generation,
                                      .cause = (enum cause)event->cause,
                                      .code = event->code,
                                      .address = event->rip});
    bool kept = shell.manifest->service[i].flags & SERVICE_KEPT; /* spawn sees to it */
    if (child->process == dead && !kept) child->process = child->inject = 0;
    if (dead && !kept) grave_add(dead, inject);
    journal_death(i, generation, event);
}

/* An overrun of its budget already cost the process its priority; whether it hangs, the watchdogs tell. An
 * interrupt storm ends the driver: the next one resets the device. */
static void on_child_event(const struct process_event *event)
{
    uint32_t i = TAG_SERVICE(event->tag), generation = TAG_GENERATION(event->tag);
    if (i == 0 || i >= shell.state->count) return;
    if (shell.child[i].spare && event->process == shell.child[i].spare && event->kind == EVENT_DEATH) {
        on_spare_death(i, event);
        return;
    }
    if (event->process != shell.child[i].process || generation != shell.state->service[i].generation) return;
    if (event->kind == EVENT_IRQ_STORM)
        happen(&(struct supervisor_event){.kind = SUPERVISOR_EVENT_COMPLAINT,
                                          .service = i,
                                          .generation = generation,
                                          .cause = CAUSE_IRQ_STORM});
    if (event->kind == EVENT_DEATH) child_died(event);
}

void children_hear(void)
{
    struct process_event event;
    while (sys_process_event(&event) == OK) on_child_event(&event);
}

static void on_signals(uint64_t bits)
{
    if (bits & SIGNAL_CHILD) children_hear();
    if (bits & SIGNAL_TIMER) {
        timer_armed = SUPERVISOR_NEVER;
        happen(&(struct supervisor_event){.kind = SUPERVISOR_EVENT_TICK});
    }
    if (bits & SIGNAL_CHORE) chores();
}

static void run(void)
{
    struct message m = {0};
    bool answering = false;
    for (;;) {
        handle_t own = shell.child[0].endpoint;
        status_t status = answering ? sys_reply_recv(own, &m) : sys_recv(own, &m);
        answering = false;
        if (status != OK) fatal("supervisor: cannot receive: status %u", status);
        if (m.info & INFO_SIGNAL) {
            on_signals(m.badge);
        } else {
            answering = serve(&m);
        }
    }
}

/* --- Start-up ------------------------------------------------------------------------------- */
static handle_t given(const char *name)
{
    handle_t h = cap_find(name);
    if (!h) fatal("supervisor: the kernel gave no capability \"%s\"", name);
    return h;
}

static handle_t made(struct sys_result r, const char *what)
{
    if (r.status != OK) fatal("supervisor: no %s: status %u", what, r.status);
    return r.value;
}

static void *memory_of_own(uint64_t bytes)
{
    void *at;
    handle_t memory = made(sys_memory_create(0, PAGES_FOR(bytes), 0), "memory");
    if (shell.owns == OWN_MEMORIES) fatal("supervisor: too many memories of its own");
    shell.own[shell.owns++] = memory;
    if (map_new(memory, PAGES_FOR(bytes), RIGHT_READ | RIGHT_WRITE, &at) != OK)
        fatal("supervisor: cannot map its memory");
    return at;
}

/* The manifest, checked in every field, and where each program is. */
static void image_read(void)
{
    const struct bundle *bundle;
    struct bundle_file file;
    void *at;
    uint32_t where;
    status_t status = bundle_map(shell.image, &bundle);
    if (status == OK) status = bundle_find(bundle, BUNDLE_MANIFEST, &file);
    if (status == OK)
        status = map_range(shell.image, file.offset / PAGE_SIZE, PAGES_FOR(file.length), RIGHT_READ, &at);
    if (status != OK)
        fatal("supervisor: the system image has no readable %s: status %u", BUNDLE_MANIFEST, status);
    shell.bundle = bundle;
    const char *wrong = manifest_check(at, file.length, &where);
    if (wrong) fatal("supervisor: %s is broken: service %d: %s", BUNDLE_MANIFEST, (int)where, wrong);
    shell.manifest = at;

    shell.child = memory_of_own(shell.manifest->service_count * sizeof(struct child));
    for (uint32_t i = 1; i < shell.manifest->service_count; i++) {
        const struct manifest_service *m = &shell.manifest->service[i];
        if (bundle_find(bundle, m->image, &shell.child[i].image) != OK)
            fatal("supervisor: service %s: the system image has no program \"%s\"", m->name, m->image);
    }
}

static void objects_make(void)
{
    struct system_info system;
    if (sys_system_info(&system) != OK) fatal("supervisor: no system_info");
    shell.tsc_hz = system.tsc_hz;
    shell.iommu = system.iommu != 0;
    shell.boot_tsc = system.boot_tsc;
    shell.cpus = system.cpus;
    shell.ns_per_tick = (1000000000ul << 32) / system.tsc_hz;
    shell.notification = made(sys_notification_create(0), "notification");
    shell.timer = made(sys_timer_create(shell.notification, SIGNAL_TIMER), "timer");
    shell.chore_timer = made(sys_timer_create(shell.notification, SIGNAL_CHORE), "timer");
    if (sys_bind(shell.notification) != OK || sys_event_bind(shell.notification, SIGNAL_CHILD) != OK)
        fatal("supervisor: cannot hear of its children");
    for (uint32_t i = 0; i < shell.manifest->service_count; i++)
        if (i == 0 || shell.manifest->service[i].flags & SERVICE_ENDPOINT)
            shell.child[i].endpoint = made(sys_endpoint_create(i), "endpoint");
}

static uint32_t spares_wanted(void)
{
    uint32_t n = 0;
    for (uint32_t i = 1; i < shell.manifest->service_count; i++)
        n += (shell.manifest->service[i].flags & SERVICE_SPARE) != 0;
    return n;
}

static void clear_stray(handle_t h) { (void)sys_cap_delete(h); /* or it went with another */ }

/* Nothing is kept but the area itself: what a predecessor made that fell before the core heard BOOT, is unmade. */
static void clear(void)
{
    uint64_t head = sizeof(shell.kept);
    memset((uint8_t *)&shell + head, 0, sizeof(shell) - head);
    caps_sweep(clear_stray);
}

static void boot(void)
{
    clear();
    shell.chore_ns = SUPERVISOR_NEVER;
    shell.root = given("root");
    shell.image = given("image");
    shell.trace = given("trace");
    shell.inject = given("inject");
    image_read();
    uint32_t count = shell.manifest->service_count;
    objects_make();
    shell.spare_pages = spares_wanted() + UPDATES_MAX;
    shell.page = memory_of_own((count + shell.spare_pages) * PAGE_SIZE);
    shell.pages = shell.own[shell.owns - 1];
    for (uint32_t i = 1; i < count; i++) spawn_prepare(i);

    shell.action = memory_of_own(supervisor_actions_max(count) * sizeof(*shell.action));
    shell.unspawned = memory_of_own(2 * count * sizeof(*shell.unspawned)); /* a start and a spare each */
    shell.journal = memory_of_own(JOURNAL_BYTES);
    shell.state = memory_of_own(supervisor_state_size(count));
    supervisor_init(shell.state, shell.manifest);
    twin_init(&shell.twin, shell.state, memory_of_own(supervisor_state_size(count)));
    shell.kept.phase = PHASE_SERVES;
    log_line("supervisor: %u services", count - 1);
    happen(&(struct supervisor_event){.kind = SUPERVISOR_EVENT_BOOT});
}

int main(void)
{
    struct kept *kept;
    status_t status = kept_open(sizeof(shell), &kept);
    if (status != OK && status != E_STATE) fatal("supervisor: no memory to keep: status %u", status);
    if (status == OK && kept->phase == 0)
        boot();
    else
        resume(status == OK);
    chores_by(clock_ns() + CHORE_DELAY_NS);
    run();
    return 1;
}
