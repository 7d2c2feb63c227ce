/* SPDX-License-Identifier: BSD-2-Clause
 * Processes: made from templates, buried after the rush. Everything that is the same for all
 * incarnations of a service is made once: its ports and interrupts, its endpoint, its startup page
 * (one page of the supervisor's, mapped read-only into each incarnation; only tag and handles
 * change). A restart is one process_create, a process_grant for each capability, one mapping and
 * one start; or, of a service that has a spare, a process_grant for each capability that the spare was not
 * given ahead, and one reply. */
#include "shell.h"

#define GRAVES 64
struct grave {
    handle_t process, inject;
};
static struct grave grave[GRAVES];
static uint32_t graves;

static const struct manifest_service *entry_of(uint32_t i) { return &shell.manifest->service[i]; }

static struct startup *page_number(uint32_t n)
{
    return (struct startup *)((uint8_t *)shell.page + n * PAGE_SIZE);
}

static uint64_t number_of(const struct startup *page)
{
    return (uint64_t)((const uint8_t *)page - (const uint8_t *)shell.page) / PAGE_SIZE;
}

static void text_copy(char *to, const char *from, size_t size)
{
    size_t n = 0;
    for (; n + 1 < size && from[n]; n++) to[n] = from[n];
    memset(to + n, 0, size - n);
}

/* --- Templates ------------------------------------------------------------------------------ */
static struct startup_cap *slot_add(uint32_t i, const char *name, uint64_t value)
{
    struct startup *page = shell.child[i].page;
    if (page->cap_count == STARTUP_CAPS) fatal("supervisor: %s has too many capabilities", entry_of(i)->name);
    struct startup_cap *cap = &page->cap[page->cap_count++];
    text_copy(cap->name, name, sizeof(cap->name));
    cap->value = value;
    return cap;
}

static void grant_add(uint32_t i, const char *name, uint64_t value, handle_t source, uint32_t rights,
                      bool badged, bool ahead)
{
    struct child *child = &shell.child[i];
    if (child->grants == GRANTS_MAX) fatal("supervisor: %s has too many capabilities", entry_of(i)->name);
    struct startup_cap *cap = slot_add(i, name, value);
    child->grant[child->grants++] = (struct grant){.source = source,
                                                   .rights = rights,
                                                   .slot = (uint16_t)(cap - child->page->cap),
                                                   .badged = badged,
                                                   .ahead = ahead};
}

static handle_t need(struct sys_result r, uint32_t i, const char *what, uint32_t number)
{
    if (r.status != OK)
        fatal("supervisor: %s: no %s %x: status %u", entry_of(i)->name, what, number, r.status);
    return r.value;
}

static void grant_hardware(uint32_t i)
{
    const struct manifest_service *m = entry_of(i);
    char name[STARTUP_NAME_MAX];
    for (uint32_t n = 0; n < m->port_count; n++) {
        uint16_t base = m->port[n].base;
        handle_t ports = need(sys_ports_create(shell.root, base, m->port[n].count), i, "ports", base);
        format(name, sizeof(name), "port:0x%x", base);
        grant_add(i, name, base, ports, RIGHT_MANAGE, false, false);
    }
    for (uint32_t n = 0; n < m->irq_count; n++) {
        handle_t irq =
            need(sys_irq_create(shell.root, IRQ_GSI, m->irq[n], 0, 0, m->irq_limit), i, "irq", m->irq[n]);
        format(name, sizeof(name), "irq:%u", m->irq[n]);
        grant_add(i, name, m->irq[n], irq, RIGHT_MANAGE, false, false);
    }
}

static void grant_calls(uint32_t i)
{
    const struct manifest_service *m = entry_of(i);
    uint32_t recovery = manifest_service_find(shell.manifest, "recovery");
    grant_add(i, "supervisor", 0, shell.child[0].endpoint, RIGHT_WRITE, true, true);
    if (recovery != MANIFEST_NONE && recovery != i && shell.child[recovery].endpoint)
        grant_add(i, "recovery", recovery, shell.child[recovery].endpoint, RIGHT_WRITE, true, false);
    if (shell.child[i].endpoint)
        grant_add(i, "endpoint", i, shell.child[i].endpoint, RIGHT_READ, false, false);
    for (uint32_t n = 0; n < m->call_count; n++)
        grant_add(i, entry_of(m->call[n])->name, m->call[n], shell.child[m->call[n]].endpoint, RIGHT_WRITE,
                  true, false);
    for (uint32_t n = 0; n < m->session_count; n++) slot_add(i, entry_of(m->session[n])->name, m->session[n]);
}

static void grant_flags(uint32_t i)
{
    const struct {
        uint32_t flag;
        const char *name;
        handle_t source;
        uint32_t rights;
        bool ahead;
    } row[] = {
        {SERVICE_LOG, "log", shell.trace, RIGHT_WRITE, true},
        {SERVICE_TRACE, "trace", shell.trace, RIGHT_READ | RIGHT_WRITE, true},
        {SERVICE_INJECT, "inject", shell.inject, RIGHT_MANAGE, false},
        {SERVICE_ROOT, "root", shell.root, RIGHT_MANAGE, false},
        {SERVICE_IMAGE, "image", shell.image, RIGHT_READ, true},
    };
    for (size_t n = 0; n < sizeof(row) / sizeof(row[0]); n++)
        if (entry_of(i)->flags & row[n].flag)
            grant_add(i, row[n].name, 0, row[n].source, row[n].rights, false, row[n].ahead);
}

/* What the page says is the same for both; they change places when the spare is taken. False: no page is left. */
static bool spare_prepare(uint32_t i)
{
    struct child *child = &shell.child[i];
    if (child->spare_page) return true;
    if (shell.spare_pages_used == shell.spare_pages) return false;
    child->spare_number = shell.manifest->service_count + shell.spare_pages_used++;
    struct startup *page = page_number(child->spare_number);
    memcpy(page, child->page, PAGE_SIZE);
    child->spare_page = page;
    return true;
}

void spawn_prepare(uint32_t i)
{
    struct startup *page = page_number(i);
    shell.child[i].page = page;
    page->magic = STARTUP_MAGIC;
    page->version = STARTUP_VERSION;
    page->tsc_hz = shell.tsc_hz;
    text_copy(page->name, entry_of(i)->name, sizeof(page->name));
    text_copy(page->args, entry_of(i)->args, sizeof(page->args));
    grant_calls(i);
    grant_flags(i);
    grant_hardware(i);
    if (entry_of(i)->flags & SERVICE_SPARE) (void)spare_prepare(i);
    if (entry_of(i)->cpus >> shell.cpus)
        log_line("supervisor: %s is for CPUs that are not all here: their numbers are taken modulo %u",
                 entry_of(i)->name, shell.cpus);
}

/* --- Birth ---------------------------------------------------------------------------------- */
/* A manifest is written for a machine with many CPUs; a smaller one shares out what it has. */
static uint64_t cpus_here(uint32_t wanted)
{
    uint64_t mask = 0;
    for (uint32_t n = 0; n < 32; n++)
        if (wanted >> n & 1) mask |= 1ul << n % shell.cpus;
    return mask;
}

static struct sys_result create(uint32_t i, uint32_t program, tag_t tag)
{
    const struct manifest_service *m = entry_of(i);
    struct program p;
    if (!program_find(i, program, &p)) return (struct sys_result){.status = E_IMAGE};
    uint64_t sched = SCHED_MAKE(m->priority, m->budget_us, m->budget_period_us);
    uint64_t cpus = cpus_here(m->cpus) | (m->flags & SERVICE_KEPT ? PROCESS_KEPT : 0);
    struct sys_result r = sys_process_create(p.memory, p.offset, p.length, m->quota_pages, tag, sched, cpus);
    if ((r.status == E_QUOTA || r.status == E_NO_MEMORY) && graves) {
        bury_all(); /* the dead still hold their quota */
        r = sys_process_create(p.memory, p.offset, p.length, m->quota_pages, tag, sched, cpus);
    }
    return r;
}

status_t spawn_try(uint32_t i, uint32_t program)
{
    struct sys_result r = create(i, program, TAG_MAKE(i, shell.state->service[i].generation));
    if (r.status == OK) (void)sys_process_destroy(r.value); /* it never ran; nothing else can go wrong */
    return r.status;
}

/* All that a service is given, or that part which a spare has ahead, or the rest. */
enum part { PART_ALL, PART_AHEAD, PART_REST };

static status_t give(uint32_t i, handle_t process, tag_t tag, struct startup *page, enum part part)
{
    const struct child *child = &shell.child[i];
    for (uint32_t n = 0; n < child->grants; n++) {
        const struct grant *g = &child->grant[n];
        if (part == PART_REST && g->ahead) continue;
        if (part == PART_AHEAD && !g->ahead) {
            page->cap[g->slot].handle = 0;
            continue;
        }
        struct sys_result r = sys_process_grant(process, g->source, g->rights, g->badged ? tag : 0);
        if (r.status != OK) return r.status;
        page->cap[g->slot].handle = r.value;
    }
    return OK;
}

static status_t furnish(uint32_t i, handle_t process, tag_t tag, struct startup *page, enum part part)
{
    status_t status = give(i, process, tag, page, part);
    if (status != OK) return status;
    page->tag = tag;
    page->standby = part == PART_AHEAD;
    status = sys_memory_map(process, shell.pages, USER_STARTUP, number_of(page), 1, RIGHT_READ);
    return status == OK ? sys_process_start(process, 0) : status;
}

/* 0: nothing was made, and why is in the log. */
static handle_t make(uint32_t i, uint32_t generation, uint32_t program, struct startup *page, enum part part)
{
    tag_t tag = TAG_MAKE(i, generation);
    struct sys_result r = create(i, program, tag);
    status_t status = r.status;
    if (status == OK) {
        status = furnish(i, r.value, tag, page, part);
        if (status != OK) (void)sys_process_destroy(r.value); /* it never ran; nothing else can go wrong */
    }
    if (status == OK) return r.value;
    log_line("supervisor: %s: no process: status %u", entry_of(i)->name, status);
    return 0;
}

static void serves_next(uint32_t i, handle_t process)
{
    struct child *child = &shell.child[i];
    child->process = process;
    child->inject = 0;
    child->watch = (struct watch){0};
}

/* Everything that the spare does not have yet, then the answer that it waits for. One that died meanwhile is the
 * service all the same: its death is on the way. */
static void spare_take(uint32_t i)
{
    struct child *child = &shell.child[i];
    tag_t tag = TAG_MAKE(i, child->spare_generation);
    struct startup *page = child->page->tag == tag ? child->page : child->spare_page;
    struct message go = {.info = INFO_MAKE(OK, 0)};
    status_t status = give(i, child->spare, tag, page, PART_REST);
    child->born = child->spare_generation;
    serves_next(i, child->spare);
    if (page != child->page) {
        child->spare_page = child->page;
        child->page = page;
    }
    if (status != OK) {
        (void)sys_process_kill(child->process, CAUSE_SPAWN); /* it is dead, or has no room for them */
    } else if (child->spare_call) {
        (void)sys_reply_to(child->spare_call, &go);
    }
    child->spare_call = 0;
    child->spare = 0; /* last: until then it is taken again by the next supervisor, to the same end */
    (void)sys_trace_mark(shell.trace, MARK_TAKEN, i); /* a trace that refuses stops nobody */
}

/* A kept process that fell begins anew with what it had. False: it is no more, and a new one is to be made. */
static bool go_on(uint32_t i, uint32_t generation, bool fresh)
{
    struct child *child = &shell.child[i];
    tag_t tag = TAG_MAKE(i, generation);
    if (!fresh) {
        child->page->tag = tag;
        child->watch = (struct watch){0};
        status_t status = sys_process_again(child->process, 1, tag);
        if (status == OK) return true;
        log_line("supervisor: %s cannot go on: status %u", entry_of(i)->name, status);
    }
    log_line("supervisor: %s begins without what it kept", entry_of(i)->name);
    grave_add(child->process, child->inject);
    child->process = child->inject = 0;
    bury_all();    /* whatever it owned is free before its successor wants it */
    return !fresh; /* then its followers have to go first: the core hears of it */
}

bool spawn(uint32_t i, uint32_t generation, uint32_t program, bool fresh)
{
    if ((entry_of(i)->flags & SERVICE_KEPT) && shell.child[i].process) {
        if (go_on(i, generation, fresh)) return shell.child[i].process != 0;
    }
    if (shell.child[i].spare && shell.child[i].spare_generation == generation) {
        spare_take(i);
        return true;
    }
    spare_drop(i); /* nobody will ask for it any more */
    handle_t process = make(i, generation, program, shell.child[i].page, PART_ALL);
    shell.child[i].born = generation;
    if (process) serves_next(i, process);
    return process != 0;
}

bool spare_spawn(uint32_t i, uint32_t generation, uint32_t program)
{
    struct child *child = &shell.child[i];
    if (child->spare && child->spare_generation == generation) return true;
    spare_drop(i);
    if (!spare_prepare(i)) return false;
    child->spare_generation = generation; /* first: what is written down below is of this one */
    child->spare = make(i, generation, program, child->spare_page, PART_AHEAD);
    return child->spare != 0;
}

bool spawned(uint32_t i, uint32_t generation)
{
    struct process_info info;
    handle_t process = shell.child[i].process;
    if (shell.child[i].spare && shell.child[i].spare_generation == generation)
        return false; /* not all of it */
    return process && sys_process_info(process, &info) == OK && info.tag == TAG_MAKE(i, generation) &&
           info.state != PROCESS_CREATED;
}

bool spawned_back(uint32_t i, uint64_t *rollbacks)
{
    struct process_info info = {0};
    if (!(entry_of(i)->flags & SERVICE_KEPT) || !shell.child[i].process) return false;
    if (sys_process_info(shell.child[i].process, &info) != OK || !info.snapshot) return false;
    *rollbacks = info.snapshot - 1;
    return true;
}

/* The calls of spares wait in the queue again; and its two pages may have been changing places. */
void spare_again(uint32_t i)
{
    struct child *child = &shell.child[i];
    child->spare_call = 0;
    if (!child->spare_page || child->spare_page != child->page) return;
    struct startup *own = page_number(i), *other = page_number(child->spare_number);
    child->spare_page = child->page == own ? other : own;
}

/* --- Burial --------------------------------------------------------------------------------- */
/* A dead process owns nothing but its own page. */
#define DEAD_PAGES 1

static void bury(const struct grave *g)
{
    struct process_info info;
    if (sys_process_info(g->process, &info) == OK && info.state == PROCESS_DEAD &&
        info.used_pages > DEAD_PAGES) {
        shell.leaked_pages += info.used_pages - DEAD_PAGES;
        log_line("supervisor: leak: pid %u, dead, holds %lu pages", info.pid, info.used_pages - DEAD_PAGES);
    }
    if (g->inject) (void)sys_cap_delete(g->inject); /* E_HANDLE if it went with the process */
    if (sys_process_destroy(g->process) != OK) log_line("supervisor: a dead process cannot be destroyed");
}

void bury_all(void)
{
    while (graves) bury(&grave[--graves]);
}

/* Deaths come faster than it ever gets quiet: the dead would cost capabilities and pages without need. */
bool graves_pile_up(void) { return graves >= GRAVES / 8; }

void grave_add(handle_t process, handle_t inject)
{
    if (graves == GRAVES) bury_all();
    grave[graves++] = (struct grave){process, inject};
}

void spare_drop(uint32_t i)
{
    struct child *child = &shell.child[i];
    if (!child->spare) return;
    (void)sys_process_kill(child->spare, CAUSE_NOT_NEEDED); /* it may be dead */
    if (child->spare_call) (void)sys_cap_delete(child->spare_call);
    grave_add(child->spare, 0);
    child->spare = child->spare_call = 0;
}
