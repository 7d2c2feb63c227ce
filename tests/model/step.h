/* SPDX-License-Identifier: BSD-2-Clause
 * One step of a random system: a call, an interrupt, time, a strike; then kernel and model are compared. */
#ifndef COPPICE_MODEL_STEP_H
#define COPPICE_MODEL_STEP_H

#include "tests/model/expect.h"

#define SHARED_FIRST \
    4 /* objects that the first process makes at boot and shares: endpoints, then notifications */
#define SHARED       6
#define HANDLES_MANY 40

static int processes_count(void)
{
    int n = 0;
    for (int i = 0; i < MODEL_PROCESSES; i++) n += model.process[i].state != ABSENT;
    return n;
}

/* Would a receive wait, as far as the caller can name an endpoint? */
static bool is_waiting(const struct call *c)
{
    if (c->number != SYS_recv && c->number != SYS_reply_recv && c->number != SYS_reply_recv_snapshot)
        return c->number == SYS_call || c->number == SYS_wait || c->number == SYS_signal_wait;
    if (model_decode(me, c->a[0], OBJECT_ENDPOINT, RIGHT_READ) != OK) return c->a[0] == 0;
    return list_empty(&((struct endpoint *)object_at(model.process[me].kernel, c->a[0]))->senders);
}

/* Would this call end the first process, stop it for ever, take its authority, or outgrow the model? */
static bool is_unwanted(const struct call *c)
{
    int o = object_of(c->a[0]);
    if (me == 0 && (is_waiting(c) || c->number == SYS_exit || (c->number == SYS_process_kill && !c->a[0])))
        return true;
    if (me == 0 && o != NONE && (o < SHARED_FIRST + SHARED || model.object[o].type == OBJECT_PROCESS) &&
        (c->number == SYS_cap_delete || c->number == SYS_cap_revoke))
        return o < SHARED_FIRST || chance(98); /* without the image nobody has text */
    if (c->number == SYS_process_create && processes_count() == MODEL_PROCESSES) return true;
    for (int i = 0; c->number == SYS_memory_map && i < MODEL_PROCESSES; i++)
        if (model.process[i].state != ABSENT && !model_mapping_room(i)) return true;
    return false;
}

/* The reply's words and capabilities reach the caller in the same step. */
static void answer_check(const struct call *c, const struct thread *caller, int caller_process)
{
    for (unsigned i = 0; i < MESSAGE_WORDS - INFO_CAPS(c->a[1]); i++)
        must(caller->context.w[i] == c->a[2 + i], "the answer's word %u", i);
    must(INFO_LABEL(caller->context.info) == INFO_LABEL(c->a[1]), "the answer's label");
    message_caps(me, caller_process, c->a + 2, caller->context.w, c->a[1]);
}

static struct thread *answered(const struct call *c, struct thread *t)
{
    if (c->number == SYS_reply || c->number == SYS_reply_recv || c->number == SYS_reply_recv_snapshot)
        return t->client;
    if (c->number == SYS_reply_to && model_decode(me, c->a[0], OBJECT_REPLY, RIGHT_WRITE) == OK)
        return ((struct reply *)object_at(t->process, c->a[0]))->caller;
    return NULL;
}

static void call_make(const struct call *c)
{
    struct thread *t = current(), *caller = answered(c, t);
    int caller_process = caller ? model_process_of(caller->process) : NONE;
    bool ends = c->number == SYS_exit;
    int own = model_thread_object(t);
    struct result r = system_call(c->number, c->a);
    if (ends) {
        must(r.state == THREAD_ENDED, "exit returned");
        model_process_stop(me);
        return;
    }
    if (r.state == THREAD_ENDED) { /* with its process, or with its first capability */
        must(c->number == SYS_process_kill || c->number == SYS_process_destroy || c->number == SYS_cap_delete,
             "%u: the caller is gone", c->number);
        success(c, NULL);
        must(model.process[me].state == DEAD || model.process[me].state == ABSENT ||
                 model.process[me].state == FALLEN || (own != NONE && model.object[own].type == OBJECT_NONE),
             "%u: the caller is gone, in the model it lives", c->number);
        return;
    }
    if (c->number == SYS_call && is_blocked(t)) {
        flight_begin(t, c);
        return;
    }
    if (caller && !is_blocked(caller))
        answer_check(c, caller, caller_process);
    else if (caller)
        must(r.status != OK || c->number == SYS_reply_recv || c->number == SYS_reply_recv_snapshot,
             "%u: nothing was answered", c->number);
    if (c->number == SYS_reply_recv_snapshot && (t->state == THREAD_RECV || r.status == OK))
        must(model.process[me].kept && t->process->thread_count == 1, "a snapshot that is of no use");
    if (t->state != THREAD_RUNNING && t->state != THREAD_READY) return; /* recv, wait */
    refusal_check(c, r.status);
    resource_check(c, r.status);
    limit_check(c, r.status);
    if (r.status == OK) success(c, &t->context);
}

/* The running process writes where it may (and another CPU said so first), or may not for its snapshot's sake, or not
 * at all; or executes. */
static void fault_make(void)
{
    struct process *p = model.process[me].kernel;
    uint64_t at = chance(40) ? random_next() : chance(50) ? ELF_DATA + below(0x3000) : random_page();
    const struct mapping *map = mapping_find(p, (vaddr_t){at});
    uint32_t prot = RIGHT_WRITE;
    if (map) host_translate(p, (vaddr_t){at & ~(PAGE_SIZE - 1)}, &prot, NULL);
    bool writable = map && (map->prot & RIGHT_WRITE), copies = writable && !(prot & RIGHT_WRITE);
    must(!copies || (p->snapshot.taken && map->memory->saved), "page %lx is not writable", at);
    bool executes = chance(20);
    if (executes)
        kernel_exception(CAUSE_PAGE_FAULT, at);
    else
        kernel_write_fault(at);
    if (executes || !writable) {
        model_process_stop(me);
        return;
    }
    host_translate(p, (vaddr_t){at & ~(PAGE_SIZE - 1)}, &prot, NULL);
    must((prot & RIGHT_WRITE) && p->state == PROCESS_RUNNING, "page %lx is still not writable", at);
}

/* What happens beside calls: time, interrupts, exceptions. */
static void event_make(void)
{
    uint64_t what = below(40);
    if (what < 24)
        host_advance(below(3000));
    else if (what < 38)
        host_irq_raise(IRQ_GSI, (uint32_t)below(HOST_GSIS));
    else if (me != 0)
        fault_make();
}

/* The port's account of page tables, which account_check relies on, is that of a walk. */
static void tables_check(struct process *p)
{
    must(host_table_frames(p) == host_table_walk(p), "process %u: page tables", p->pid);
    list_each(struct process, child, &p->children, sibling) tables_check(child);
}

static void sources_check(struct process *p)
{
    if (p->event_source.notification) via_check(p->event_source.notification, p->event_source.via);
    list_each(struct object, o, &p->objects, owned)
    {
        const struct source *s = o->type == OBJECT_TIMER ? &((struct timer *)o)->source
                                 : o->type == OBJECT_IRQ ? &((struct irq *)o)->source
                                                         : NULL;
        if (s && s->notification) via_check(s->notification, s->via);
    }
    list_each(struct process, child, &p->children, sibling) sources_check(child);
}

/* Every invariant, after every call. */
static void compare(void)
{
    flights_update();
    compare_processes();
    compare_caps();
    for (int p = 0; p < MODEL_PROCESSES; p++)
        if (model.process[p].state != ABSENT) compare_mappings(p), compare_objects(p);
    sources_check(process_root);
    account_check(process_root);
    if (call_now % 512 == 0) tables_check(process_root);
}

/* The first process keeps the system populated: a child with some of what is shared. */
static void nursery(void)
{
    struct call c = {SYS_process_create,
                     {boot_image, IMAGE_FILE, ELF_FILE_BYTES, 24 + below(60), TAG_MAKE(1 + below(7), 1),
                      chance(85) ? TEST_SCHED : SCHED_MAKE(30, 500, 1000), chance(50) ? PROCESS_KEPT : 0}};
    uint64_t before = (uint64_t)processes_count();
    call_make(&c);
    if ((uint64_t)processes_count() == before) return;
    handle_t child = root_thread()->context.w[0];
    compare();
    for (int i = 0; i < SHARED + 2; i++) {
        int o = i < SHARED    ? SHARED_FIRST + i
                : i == SHARED ? 1
                              : 0; /* the image and the root authority too, at times */
        if (model.object[o].root == NONE || chance(i < SHARED ? 25 : 70)) continue;
        const struct model_cap *k = &model.cap[model.object[o].root];
        call_make(&(struct call){
            SYS_process_grant,
            {child, k->handle, k->rights & (chance(60) ? RIGHTS_ALL : random_rights()), below(1000)}});
        compare();
    }
    if (chance(40)) { /* power over another: to kill it, or to make things in its name */
        call_make(&(struct call){SYS_process_grant, {child, random_handle(OBJECT_PROCESS), RIGHT_MANAGE, 0}});
        compare();
    }
    call_make(&(struct call){SYS_process_start, {child, 0}});
}

/* Everybody sleeps but the first process: it serves, signals, makes and ends others. */
static struct call awakening(void)
{
    struct call c = random_call();
    static const unsigned ways[] = {
        SYS_recv,         SYS_recv,  SYS_signal,       SYS_signal, SYS_process_destroy,
        SYS_process_kill, SYS_reply, SYS_process_start};
    c.number = ways[below(8)];
    bool process = c.number >= SYS_process_start && c.number <= SYS_process_destroy;
    c.a[0] = random_handle(process                  ? OBJECT_PROCESS
                           : c.number == SYS_signal ? OBJECT_NOTIFICATION
                                                    : OBJECT_ENDPOINT);
    c.a[1] = process ? CAUSE_KILLED : c.number == SYS_signal ? 1 + below(15) : INFO_MAKE(below(9), 0);
    return c;
}

static void call_random(void)
{
    struct call c = random_call();
    if (me == 0 && !arch_cpu()->ready_mask && chance(60)) c = awakening();
    if (model.process[me].handles > HANDLES_MANY && chance(60))
        c = (struct call){SYS_cap_delete, {random_handle((enum object_type)(1 + below(OBJECT_TYPES - 1)))}};
    if (is_unwanted(&c) || (me == 0 && chance(40))) c = (struct call){.number = SYS_yield};
    call_make(&c);
}

static void step_make(void)
{
    struct thread *t = current();
    must(t, "nothing runs");
    me = model_process_of(t->process);
    must(me != NONE, "a process that the model does not know runs");
    if (t->context.arch.step && chance(30)) {
        struct process *p = t->process;
        kernel_step();
        if (p->state != PROCESS_RUNNING) model_process_stop(me);
    } else if (chance(4)) {
        event_make();
    } else if (me == 0 && processes_count() < MODEL_PROCESSES - 1 &&
               chance(arch_cpu()->ready_mask ? 10 : 40)) {
        nursery();
    } else {
        call_random();
    }
}

static void step(void)
{
    step_make();
    compare();
}

/* The machine as booted: the model's objects 0 to 3 are the supervisor's, object 2 is the trace. */
static void model_boot(void)
{
    boot();
    expect_ok(sys(cap_delete, boot_self)); /* to the first process itself: the model knows no such thing */
    memset(&model, 0, sizeof model);
    me = model_process_add(process_root, NONE, NONE);
    model.process[0].state = RUNNING;
    model.process[0].kept = true;
    model.process[0].sched = process_root->sched;
    model.process[0].born -= 2; /* the image and the first thread are counted for themselves */
    model_object_make(OBJECT_ROOT, NONE, 0, boot_root, RIGHT_MANAGE | RIGHT_GRANT);
    model_object_make(OBJECT_MEMORY, 0, 0, boot_image, RIGHT_READ | RIGHT_EXECUTE | RIGHT_GRANT);
    model_object_make(OBJECT_TRACE, NONE, 0, boot_trace, RW | RIGHT_GRANT);
    model_object_make(OBJECT_INJECT, NONE, 0, boot_inject, RIGHT_MANAGE | RIGHT_GRANT);
    for (int i = 0; i < SHARED; i++) {
        call_make(&(struct call){.number = i < SHARED / 2 ? SYS_endpoint_create : SYS_notification_create});
        compare();
    }
}

#endif
