/* SPDX-License-Identifier: BSD-2-Clause
 * What must come of a call: which refusals the model demands, and what a success changes in it. */
#ifndef COPPICE_MODEL_EXPECT_H
#define COPPICE_MODEL_EXPECT_H

#include "tests/model/choose.h"

/* Which refusals of the first handle must come. A call may look at other arguments first. */
static void refusal_check(const struct call *c, status_t got)
{
    const struct rule *r = &rules[c->number];
    if (!r->type || (r->zero && !c->a[0])) return;
    status_t want = model_decode(me, c->a[0], r->type, r->rights);
    if (want == OK) return;
    must(got == want || got == E_ARGUMENT, "%u: status %d for a handle that must be refused with %d",
         c->number, got, want);
}

/* A refusal for want of resources must have a reason: little left of a quota, or a full table. */
static void resource_check(const struct call *c, status_t got)
{
    if (got != E_QUOTA && got != E_NO_SLOTS) return;
    uint64_t need = c->number == SYS_process_create        ? c->a[3] + 24
                    : c->number == SYS_memory_create       ? c->a[1] + 8
                    : c->number == SYS_reply_recv_snapshot ? 200 /* once more what it has */
                                                           : 8;
    for (int i = 0; i < MODEL_PROCESSES; i++) {
        const struct model_process *p = &model.process[i];
        if (p->state == ABSENT || p->state == DEAD) continue;
        if (p->kernel->quota - p->kernel->used < need || p->kernel->thread_count == THREADS_MAX) return;
    }
    /* A new process's own quota may be what is too small; a machine's vectors and a domain's records end too. */
    must(c->number == SYS_process_create || c->number == SYS_irq_create || c->number == SYS_dma_map,
         "%u: refused with %d though there is room", c->number, got);
}

static int object_of(handle_t h)
{
    int c = model_cap_find(me, h);
    return c == NONE ? NONE : model.cap[c].object;
}
static int process_arg(handle_t h) { return h ? model.object[object_of(h)].process : me; }

/* Refusals by a limit on what is asked, when all else of the call is in order. */
static void limit_check(const struct call *c, status_t got)
{
    if (c->number == SYS_dma_create && got == E_BUSY)
        must(model_has_domain(c->a[1]), "function %lx has no domain", c->a[1]);
    if (c->number == SYS_process_create && got == E_ARGUMENT && c->a[1] == IMAGE_FILE &&
        c->a[2] == ELF_FILE_BYTES && c->a[3] >= PROCESS_PAGES_MIN && object_of(c->a[0]) == 1)
        must(SCHED_BUDGET_US(c->a[5]) > SCHED_PERIOD_US(c->a[5]) ||
                 !model_may_schedule(model.process[me].sched, c->a[5]),
             "a child of schedule %lx is refused", c->a[5]);
}

static void success_memory(const struct call *c, const struct context *out)
{
    int p = process_arg(c->a[0]), o;
    struct model_mapping *m;
    switch (c->number) {
    case SYS_memory_create:
        o = model_object_make(OBJECT_MEMORY, p, me, out->w[0],
                              GRANTABLE | RIGHT_EXECUTE | (c->a[2] & MEMORY_DMA ? RIGHT_DMA : 0));
        model.object[o].pages = c->a[1];
        break;
    case SYS_memory_map:
        must(model_decode(me, c->a[1], OBJECT_MEMORY, 0) == OK || object_of(c->a[1]) == 2,
             "mapped without a capability");
        must(!(c->a[5] & ~(uint64_t)model.cap[model_cap_find(me, c->a[1])].rights),
             "mapped with more rights than held");
        must(p == me || (model.cap[model_cap_find(me, c->a[1])].rights & RIGHT_GRANT),
             "mapped into another process without the right to give");
        must(model.process[p].state != DEAD, "mapped into a dead process");
        m = model_mapping_room(p);
        must(m, "the model's mappings run out");
        *m = (struct model_mapping){object_of(c->a[1]), c->a[2], c->a[4], model_cap_find(me, c->a[1])};
        break;
    case SYS_memory_unmap:
        m = model_mapping_find(p, c->a[1]);
        must(m, "unmapped what was not mapped");
        m->object = NONE;
        break;
    default: break;
    }
}

static void success_process(const struct call *c, const struct context *out)
{
    int o, p, k;
    switch (c->number) {
    case SYS_process_create:
        must(model_may_schedule(model.process[me].sched, c->a[5]), "a child with more CPU than its parent");
        o = model_object_make(OBJECT_PROCESS, me, me, out->w[0], RIGHT_MANAGE | RIGHT_INJECT | RIGHT_GRANT);
        p = model_process_add((struct process *)object_at(model.process[me].kernel, out->w[0]), me, o);
        model.object[o].process = p;
        model.process[p].sched = c->a[5];
        model.process[p].kept = c->a[6] & PROCESS_KEPT;
        break;
    case SYS_process_grant:
        p = process_arg(c->a[0]);
        k = model_cap_find(me, c->a[1]);
        must(k != NONE && (model.cap[k].rights & RIGHT_GRANT) &&
                 !(c->a[2] & ~(uint64_t)model.cap[k].rights) && model.process[p].state != DEAD,
             "granted what may not be");
        model_cap_derive(p, out->w[0], k, (uint32_t)c->a[2], c->a[3]);
        break;
    case SYS_process_start:
        p = process_arg(c->a[0]);
        must(model.process[p].state == CREATED || model.process[p].state == FALLEN, "started in state %d",
             model.process[p].state);
        model.process[p].state = RUNNING;
        break;
    case SYS_thread_create:
        p = process_arg(c->a[0]);
        must(model.process[p].state == RUNNING, "a thread in a process of state %d", model.process[p].state);
        o = model_object_make(OBJECT_THREAD, p, me, out->w[0], RIGHT_MANAGE);
        model.object[o].thread = (struct thread *)object_at(model.process[me].kernel, out->w[0]);
        break;
    case SYS_process_kill: model_process_stop(process_arg(c->a[0])); break;
    case SYS_process_destroy: model_object_destroy(object_of(c->a[0])); break;
    default: break;
    }
}

static void success_cap(const struct call *c, const struct context *out)
{
    int k = model_cap_find(me, c->a[0]);
    must(k != NONE, "%u: success with a handle that names nothing", c->number);
    switch (c->number) {
    case SYS_cap_derive:
        must(!(c->a[1] & ~(uint64_t)model.cap[k].rights), "derived more rights than held");
        model_cap_derive(me, out->w[0], k, (uint32_t)c->a[1], c->a[2]);
        break;
    case SYS_cap_revoke: model_cap_revoke(k); break;
    case SYS_cap_delete: model_cap_drop(k); break;
    case SYS_cap_info:
        must(out->w[0] == model.object[model.cap[k].object].type && out->w[1] == model.cap[k].rights &&
                 out->w[2] == model.cap[k].badge,
             "cap_info of %lx", c->a[0]);
        break;
    default: break;
    }
}

static void success(const struct call *c, const struct context *out)
{
    int o;
    switch (c->number) {
    case SYS_endpoint_create: model_object_make(OBJECT_ENDPOINT, me, me, out->w[0], GRANTABLE); break;
    case SYS_notification_create: model_object_make(OBJECT_NOTIFICATION, me, me, out->w[0], GRANTABLE); break;
    case SYS_reply_save: model_object_make(OBJECT_REPLY, me, me, out->w[0], RIGHT_WRITE); break;
    case SYS_reply_to: model_object_destroy(object_of(c->a[0])); break;
    case SYS_irq_create: model_object_make(OBJECT_IRQ, me, me, out->w[0], RIGHT_MANAGE | RIGHT_GRANT); break;
    case SYS_ports_create:
        model_object_make(OBJECT_PORTS, me, me, out->w[0], RIGHT_MANAGE | RIGHT_GRANT);
        break;
    case SYS_timer_create: model_object_make(OBJECT_TIMER, me, me, out->w[0], RIGHT_MANAGE); break;
    case SYS_dma_create:
        must(!model_has_domain(c->a[1]), "a second domain of function %lx", c->a[1]);
        o = model_object_make(OBJECT_DMA, me, me, out->w[0], RIGHT_MANAGE | RIGHT_GRANT);
        model.object[o].function = c->a[1];
        break;
    case SYS_memory_create:
    case SYS_memory_map:
    case SYS_memory_unmap: success_memory(c, out); break;
    case SYS_process_create:
    case SYS_process_grant:
    case SYS_process_start:
    case SYS_thread_create:
    case SYS_process_kill:
    case SYS_process_destroy: success_process(c, out); break;
    case SYS_cap_derive:
    case SYS_cap_revoke:
    case SYS_cap_delete:
    case SYS_cap_info: success_cap(c, out); break;
    default: break;
    }
}

#endif
