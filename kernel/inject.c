/* SPDX-License-Identifier: BSD-2-Clause
 * Striking processes. A strike is armed on a process's first thread; single-stepping counts its
 * instructions, so it lands at one exact instruction. */
#include "inject.h"
#include "trace.h"

static struct inject the_inject = {.object = {.type = OBJECT_INJECT}};

struct inject *inject_object(void) { return &the_inject; }

static struct thread *first_thread(struct process *p)
{
    return list_empty(&p->threads) ? NULL : container_of(p->threads.next, struct thread, of_process);
}

uint8_t *inject_text(struct process *p, uint64_t address)
{
    struct mapping *map = mapping_find(p, (vaddr_t){address});
    if (!map || (map->memory->flags & MEMORY_IMMUTABLE)) return NULL;
    return user_pointer(p, (vaddr_t){address}, 1, RIGHT_EXECUTE);
}

static bool breakpoint_remove(struct process *p)
{
    if (!p->strike.at) return false;
    uint8_t *text = inject_text(p, p->strike.at);
    if (text) *text = p->strike.covered;
    p->strike.at = 0;
    return true;
}

void inject_arm(struct process *p, uint64_t instructions, enum inject_action action, uint64_t target)
{
    struct thread *t = first_thread(p);
    if (!t) return;
    thread_stop(t);
    (void)breakpoint_remove(p);
    p->strike = (struct strike){.armed = true, .remaining = instructions, .action = action, .target = target};
    arch_context_step(&t->context, true);
    trace(TRACE_ARMED, p->object.tag, instructions, action);
}

void inject_at(struct process *p, uint64_t address)
{
    uint8_t *text = inject_text(p, address);
    (void)inject_disarm(p);
    p->strike.at = address;
    p->strike.covered = *text;
    *text = ARCH_BREAKPOINT;
}

uint64_t inject_disarm(struct process *p)
{
    struct thread *t = first_thread(p);
    bool was = breakpoint_remove(p) || p->strike.armed;
    p->strike.armed = false;
    if (!t) return was;
    thread_stop(t);
    arch_context_step(&t->context, false);
    return was;
}

static void probe_remove(struct process *p, unsigned n)
{
    uint8_t *text = the_inject.probe[n].at ? inject_text(p, the_inject.probe[n].at) : NULL;
    if (text) *text = the_inject.probe[n].covered;
    the_inject.probe[n].at = 0;
}

/* Probes of a process that is no more are in nobody's text. */
void inject_probe(struct process *p, uint64_t address, uint64_t n)
{
    if (the_inject.probed != p->pid) {
        __builtin_memset(the_inject.probe, 0, sizeof the_inject.probe);
        the_inject.hits = 0;
    }
    the_inject.probed = p->pid;
    probe_remove(p, (unsigned)n);
    the_inject.hits &= ~(1ul << n);
    uint8_t *text = inject_text(p, address);
    the_inject.probe[n].at = address;
    the_inject.probe[n].covered = *text;
    *text = ARCH_BREAKPOINT;
}

uint64_t inject_probed(struct process *p, bool forget)
{
    if (the_inject.probed != p->pid) return 0;
    uint64_t hits = the_inject.hits;
    for (unsigned n = 0; forget && n < INJECT_PROBES; n++) probe_remove(p, n);
    if (forget) the_inject.probed = 0;
    return hits;
}

static bool probe_hit(struct process *p, uint64_t at)
{
    for (unsigned n = 0; n < INJECT_PROBES && the_inject.probed == p->pid; n++) {
        if (the_inject.probe[n].at != at) continue;
        probe_remove(p, n);
        the_inject.hits |= 1ul << n;
        return true;
    }
    return false;
}

void inject_process_started(struct process *p)
{
    if (!the_inject.pending || TAG_SERVICE(p->object.tag) != the_inject.service) return;
    the_inject.pending--;
    inject_arm(p, the_inject.instructions, INJECT_KILL, 0);
}

static void strike(struct thread *t)
{
    struct process *p = t->process;
    uint64_t rip = arch_context_rip(&t->context);
    p->strike.armed = false;
    arch_context_step(&t->context, false);
    trace(TRACE_STRIKE, p->object.tag, p->strike.action, rip);
    if (p->strike.action == INJECT_KILL) process_kill(p, CAUSE_INJECTED, 0, rip);
    if (p->strike.action == INJECT_CALL) p->strike.back = rip;
    if (p->strike.action == INJECT_CALL || p->strike.action == INJECT_JUMP)
        arch_context_jump(&t->context, p->strike.target);
}

void inject_step(struct thread *t)
{
    struct process *p = t->process;
    if (!p->strike.armed)
        arch_context_step(&t->context, false);
    else if (p->strike.remaining > 1)
        p->strike.remaining--;
    else
        strike(t);
}

bool inject_breakpoint(struct thread *t)
{
    struct process *p = t->process;
    uint64_t at = arch_context_rip(&t->context) - 1; /* it has been executed */
    if (p->strike.at && p->strike.at == at) {
        (void)breakpoint_remove(p);
        arch_context_jump(&t->context, at);
        p->strike.armed = true;
        arch_context_step(&t->context, true);
        if (!p->strike.remaining) strike(t);
        return true;
    }
    if (probe_hit(p, at)) {
        arch_context_jump(&t->context, at);
        return true;
    }
    if (!p->strike.back) return false;
    arch_context_jump(&t->context, p->strike.back);
    p->strike.back = 0;
    return true;
}
