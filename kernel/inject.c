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

void inject_arm(struct process *p, uint64_t instructions, enum inject_action action, uint64_t target)
{
    struct thread *t = first_thread(p);
    if (!t) return;
    thread_stop(t);
    p->strike = (struct strike){.armed = true, .remaining = instructions, .action = action, .target = target};
    arch_context_step(&t->context, true);
    trace(TRACE_ARMED, p->object.tag, instructions, action);
}

uint64_t inject_disarm(struct process *p)
{
    struct thread *t = first_thread(p);
    bool was = p->strike.armed;
    p->strike.armed = false;
    if (!t) return was;
    thread_stop(t);
    arch_context_step(&t->context, false);
    return was;
}

void inject_process_started(struct process *p)
{
    if (!the_inject.pending || TAG_SERVICE(p->object.tag) != the_inject.service) return;
    the_inject.pending = false;
    inject_arm(p, the_inject.instructions, INJECT_KILL, 0);
}

void inject_step(struct thread *t)
{
    struct process *p = t->process;
    if (!p->strike.armed) {
        arch_context_step(&t->context, false);
        return;
    }
    if (p->strike.remaining > 1) {
        p->strike.remaining--;
        return;
    }
    uint64_t rip = arch_context_rip(&t->context);
    p->strike.armed = false;
    arch_context_step(&t->context, false);
    trace(TRACE_STRIKE, p->object.tag, p->strike.action, rip);
    if (p->strike.action == INJECT_JUMP)
        arch_context_jump(&t->context, p->strike.target);
    else
        process_kill(p, CAUSE_INJECTED, 0, rip);
}
