/* SPDX-License-Identifier: BSD-2-Clause
 * The reference model: what a system of processes and capabilities is, in plain arrays. It knows which
 * handle of which process names which object with which rights and badge, from which capability each was
 * derived, who owns which object, what is mapped where, and what dies with what. It knows nothing of how
 * the kernel does it. Included once, by tests/model/syscalls.c. */
#ifndef COPPICE_MODEL_H
#define COPPICE_MODEL_H

#include "tests/unit/host_kernel.h"

#ifndef MODEL_PROCESSES /* a short run needs less */
#define MODEL_PROCESSES 10
#define MODEL_CAPS      1024
#define MODEL_OBJECTS   768
#define MODEL_SLOTS     512 /* highest slot of a handle that a run reaches */
#define MODEL_MAPPINGS  32
#endif
#define NONE (-1)

struct model_object {
    enum object_type type; /* OBJECT_NONE: free */
    int owner;             /* process; NONE: the kernel */
    int root;              /* its first capability; NONE: deleted with its holder */
    int process;           /* a process object's; a thread's */
    struct thread *thread; /* a thread object's */
    uint64_t pages;
    uint64_t function; /* a DMA domain's */
};
struct model_cap {
    bool live;
    int process, object, parent;
    handle_t handle;
    uint32_t rights;
    uint64_t badge;
};
struct model_mapping {
    int object; /* NONE: free */
    uint64_t start, pages;
    int via; /* the capability it was made with and ends with */
};
struct model_process {
    enum { ABSENT, CREATED, RUNNING, DEAD, FALLEN } state;
    bool kept;
    struct process *kernel;
    int parent, object; /* object NONE: the first process, which nobody can name */
    uint64_t sched;
    int born; /* objects that came with it: its memory */
    int handles;
    int16_t slot[MODEL_SLOTS];        /* capability by handle index */
    uint64_t generation[MODEL_SLOTS]; /* of the last handle given there */
    struct model_mapping mapping[MODEL_MAPPINGS];
};

static struct model {
    struct model_process process[MODEL_PROCESSES];
    struct model_cap cap[MODEL_CAPS];
    struct model_object object[MODEL_OBJECTS];
    int caps, objects; /* high-water marks */
} model;

#define RW        (RIGHT_READ | RIGHT_WRITE)
#define GRANTABLE (RW | RIGHT_GRANT)

struct call {
    unsigned number;
    uint64_t a[10]; /* handle, info, w0..w7 */
};
static int me; /* the process of the running thread */

static uint64_t seed_now, call_now; /* of the run, for messages */
#define must(condition, format, ...)                                                                        \
    cr_assert(condition, "call %lu (replay: MODEL_SEED=%lu build/tests/model/syscalls): " format, call_now, \
              seed_now, ##__VA_ARGS__)

/* --- Looking ----------------------------------------------------------------------------------------- */

static int model_process_of(const struct process *p)
{
    for (int i = 0; i < MODEL_PROCESSES; i++)
        if (model.process[i].state != ABSENT && model.process[i].kernel == p) return i;
    return NONE;
}

/* The capability that a handle names in a process, or NONE. */
static int model_cap_find(int process, handle_t h)
{
    if (HANDLE_INDEX(h) >= MODEL_SLOTS) return NONE;
    int c = model.process[process].slot[HANDLE_INDEX(h)];
    return c != NONE && model.cap[c].handle == h ? c : NONE;
}

/* What the kernel must say of a handle that is to name an object of a type with some rights. */
static status_t model_decode(int process, handle_t h, enum object_type type, uint32_t rights)
{
    int c = model_cap_find(process, h);
    if (c == NONE) return E_HANDLE;
    if (model.object[model.cap[c].object].type != type) return E_TYPE;
    return (model.cap[c].rights & rights) == rights ? OK : E_RIGHTS;
}

/* --- Capabilities -------------------------------------------------------------------------------------- */

static int model_cap_add(int process, handle_t h, int object, uint32_t rights, uint64_t badge, int parent)
{
    int c = 0;
    while (c < model.caps && model.cap[c].live) c++;
    must(c < MODEL_CAPS, "the model's capabilities run out");
    if (c == model.caps) model.caps++;
    must(HANDLE_INDEX(h) < MODEL_SLOTS, "handle %lx: slot too high", h);
    must(model.process[process].slot[HANDLE_INDEX(h)] == NONE, "handle %lx: its slot is in use", h);
    must(HANDLE_GENERATION(h) > model.process[process].generation[HANDLE_INDEX(h)],
         "handle %lx was given before", h);
    model.process[process].generation[HANDLE_INDEX(h)] = HANDLE_GENERATION(h);
    model.cap[c] = (struct model_cap){true, process, object, parent, h, rights, badge};
    model.process[process].slot[HANDLE_INDEX(h)] = (int16_t)c;
    model.process[process].handles++;
    return c;
}

static void model_cap_revoke(int c);

static void model_cap_delete(int c)
{
    struct model_cap *k = &model.cap[c];
    model_cap_revoke(c);
    model.process[k->process].slot[HANDLE_INDEX(k->handle)] = NONE;
    model.process[k->process].handles--;
    if (model.object[k->object].root == c) model.object[k->object].root = NONE;
    for (int p = 0; p < MODEL_PROCESSES; p++)
        for (int i = 0; model.process[p].state != ABSENT && i < MODEL_MAPPINGS; i++)
            if (model.process[p].mapping[i].object != NONE && model.process[p].mapping[i].via == c)
                model.process[p].mapping[i].object = NONE;
    k->live = false;
}

static void model_cap_revoke(int c)
{
    for (int i = 0; i < model.caps; i++)
        if (model.cap[i].live && model.cap[i].parent == c) model_cap_delete(i);
}

static int model_cap_derive(int process, handle_t h, int parent, uint32_t rights, uint64_t badge)
{
    const struct model_cap *k = &model.cap[parent];
    return model_cap_add(process, h, k->object, rights & k->rights, k->badge ? k->badge : badge, parent);
}

/* --- Objects --------------------------------------------------------------------------------------------- */

static int model_object_add(enum object_type type, int owner)
{
    int o = 0;
    while (o < model.objects && model.object[o].type != OBJECT_NONE) o++;
    must(o < MODEL_OBJECTS, "the model's objects run out");
    if (o == model.objects) model.objects++;
    model.object[o] = (struct model_object){.type = type, .owner = owner, .root = NONE, .process = NONE};
    return o;
}

/* A new object and its first capability. */
static int model_object_make(enum object_type type, int owner, int holder, handle_t h, uint32_t rights)
{
    int o = model_object_add(type, owner);
    model.object[o].root = model_cap_add(holder, h, o, rights, 0, NONE);
    return o;
}

static void model_process_end(int p);

static void model_object_destroy(int o)
{
    struct model_object *k = &model.object[o];
    if (k->type == OBJECT_PROCESS) {
        model_process_end(k->process);
        model.process[k->process].state = ABSENT;
    }
    for (int i = 0; i < model.caps; i++)
        if (model.cap[i].live && model.cap[i].object == o) model_cap_delete(i);
    for (int p = 0; k->type == OBJECT_MEMORY && p < MODEL_PROCESSES; p++)
        for (int i = 0; model.process[p].state != ABSENT && i < MODEL_MAPPINGS; i++)
            if (model.process[p].mapping[i].object == o) model.process[p].mapping[i].object = NONE;
    k->type = OBJECT_NONE;
}

static bool model_is_forever(int o)
{
    enum object_type t = model.object[o].type;
    return t == OBJECT_TRACE || t == OBJECT_ROOT || t == OBJECT_INJECT;
}

/* A holder gives a capability up: with the first of an object goes the object. */
static void model_cap_drop(int c)
{
    int o = model.cap[c].object;
    if (model.object[o].root == c && !model_is_forever(o))
        model_object_destroy(o);
    else
        model_cap_delete(c);
}

/* --- Processes -------------------------------------------------------------------------------------------- */

static int objects_count(const struct process *p)
{
    int n = 0;
    list_each(struct object, o, &p->objects, owned) n++;
    return n;
}

static int model_process_add(struct process *kernel, int parent, int object)
{
    int p = 0;
    while (p < MODEL_PROCESSES && model.process[p].state != ABSENT) p++;
    must(p < MODEL_PROCESSES, "the model's processes run out");
    struct model_process *k = &model.process[p];
    *k = (struct model_process){.state = CREATED, .kernel = kernel, .parent = parent, .object = object};
    k->born = objects_count(kernel);
    for (int i = 0; i < MODEL_SLOTS; i++) k->slot[i] = NONE;
    for (int i = 0; i < MODEL_MAPPINGS; i++) k->mapping[i].object = NONE;
    return p;
}

/* A process ends and owns nothing: its children, objects, capabilities and mappings are gone, and what it
 * had made in the name of others. */
static void model_process_end(int p)
{
    struct model_process *k = &model.process[p];
    if (k->state == DEAD) return;
    k->state = DEAD;
    for (int i = 0; i < MODEL_PROCESSES; i++)
        if (model.process[i].state != ABSENT && model.process[i].parent == p)
            model_object_destroy(model.process[i].object);
    for (int o = 0; o < model.objects; o++)
        if (model.object[o].type != OBJECT_NONE && model.object[o].type != OBJECT_PROCESS &&
            model.object[o].owner == p)
            model_object_destroy(o);
    for (int i = 0; i < model.caps; i++)
        if (model.cap[i].live && model.cap[i].process == p) model_cap_drop(i);
    for (int i = 0; i < MODEL_MAPPINGS; i++) k->mapping[i].object = NONE;
}

/* It dies, or, if it is kept and ran, falls: its threads and saved replies are gone, all else stays. */
static void model_process_stop(int p)
{
    struct model_process *k = &model.process[p];
    if (!k->kept || k->state != RUNNING) {
        model_process_end(p);
        return;
    }
    k->state = FALLEN;
    for (int o = 0; o < model.objects; o++)
        if ((model.object[o].type == OBJECT_THREAD || model.object[o].type == OBJECT_REPLY) &&
            model.object[o].owner == p)
            model_object_destroy(o);
}

/* May a process of this priority and CPU share have a child of that? */
static bool model_may_schedule(uint64_t parent, uint64_t child)
{
    uint64_t all = SCHED_BUDGET_US(parent), asked = SCHED_BUDGET_US(child);
    double share = all ? (double)all / (double)SCHED_PERIOD_US(parent) : 1.0;
    double wanted = asked ? (double)asked / (double)SCHED_PERIOD_US(child) : 1.0;
    return SCHED_PRIORITY(child) <= SCHED_PRIORITY(parent) && wanted <= share;
}

static bool model_has_domain(uint64_t function)
{
    for (int o = 0; o < model.objects; o++)
        if (model.object[o].type == OBJECT_DMA && model.object[o].function == function) return true;
    return false;
}

static int model_thread_object(const struct thread *t)
{
    for (int o = 0; o < model.objects; o++)
        if (model.object[o].type == OBJECT_THREAD && model.object[o].thread == t) return o;
    return NONE;
}

static struct model_mapping *model_mapping_find(int p, uint64_t start)
{
    for (int i = 0; i < MODEL_MAPPINGS; i++) {
        struct model_mapping *m = &model.process[p].mapping[i];
        if (m->object != NONE && m->start == start) return m;
    }
    return NULL;
}

static struct model_mapping *model_mapping_room(int p)
{
    for (int i = 0; i < MODEL_MAPPINGS; i++)
        if (model.process[p].mapping[i].object == NONE) return &model.process[p].mapping[i];
    return NULL;
}

/* --- The kernel against the model ---------------------------------------------------------------------------- */

static void compare_caps(void)
{
    for (int i = 0; i < model.caps; i++) {
        const struct model_cap *k = &model.cap[i];
        if (!k->live) continue;
        const struct capability *c = cap_lookup(model.process[k->process].kernel, k->handle);
        must(c, "handle %lx of process %d is lost", k->handle, k->process);
        must(c->object->type == model.object[k->object].type && c->rights == k->rights &&
                 c->badge == k->badge,
             "handle %lx of process %d: type %u rights %x badge %lx; the model has %u %x %lx", k->handle,
             k->process, c->object->type, c->rights, c->badge, model.object[k->object].type, k->rights,
             k->badge);
        must(!c->parent == (k->parent == NONE), "handle %lx: parent", k->handle);
        if (c->parent) {
            must(cap_handle(c->parent) == model.cap[k->parent].handle, "handle %lx: another parent",
                 k->handle);
            must(!(c->rights & ~c->parent->rights), "handle %lx has more rights than its parent", k->handle);
            must(c->object == c->parent->object, "handle %lx: another object than its parent's", k->handle);
        } else {
            must(c->object->root == c, "handle %lx is not the first of its object", k->handle);
        }
    }
}

/* Nothing outlives its first capability: what a process owns is what the model knows of, what it was born
 * with and, while it runs, its first thread. */
static void compare_objects(int p)
{
    const struct model_process *k = &model.process[p];
    int n = k->state == DEAD ? 0 : k->born + (k->state == RUNNING);
    for (int o = 0; o < model.objects; o++)
        n += model.object[o].type != OBJECT_NONE && model.object[o].type != OBJECT_PROCESS &&
             model.object[o].owner == p;
    must(objects_count(k->kernel) == n, "process %d owns %d objects, the model has %d", p,
         objects_count(k->kernel), n);
}

static void compare_processes(void)
{
    uint64_t live = 0;
    for (int i = 0; i < MODEL_PROCESSES; i++) {
        const struct model_process *k = &model.process[i];
        if (k->state == ABSENT) continue;
        const struct process *p = k->kernel;
        live += k->state != DEAD;
        must((int)p->handle_count == k->handles, "process %d: %u handles, the model has %d", i,
             p->handle_count, k->handles);
        must((int)p->state == (int)k->state - 1, "process %d: state %d, the model has %d", i, p->state,
             k->state - 1);
        must(p->used <= p->quota, "process %d uses %lu of %lu pages", i, p->used, p->quota);
        if (k->state == DEAD)
            must(inv_process_dead_owns_nothing(p), "process %d is dead and owns something", i);
    }
    must(process_count() == live, "%lu processes live, the model has %lu", process_count(), live);
}

static void compare_mappings(int p)
{
    unsigned n = 0;
    for (int i = 0; i < MODEL_MAPPINGS; i++) {
        const struct model_mapping *m = &model.process[p].mapping[i];
        if (m->object == NONE) continue;
        n++;
        const struct mapping *k = mapping_find(model.process[p].kernel, (vaddr_t){m->start});
        must(k && k->start.v == m->start && k->pages == m->pages, "process %d: mapping at %lx", p, m->start);
        for (uint64_t page = 0; page < m->pages; page++) {
            paddr_t at =
                host_translate(model.process[p].kernel, (vaddr_t){m->start + page * PAGE_SIZE}, NULL, NULL);
            must(at.v == memory_frame(k->memory, k->offset + page).v, "process %d: page table at %lx", p,
                 m->start);
        }
    }
    if (model.process[p].state !=
        DEAD) /* text, data and stack come with the process; root has its startup page */
        must(model.process[p].kernel->mapping_count == n + 3 + (p == 0),
             "process %d: %u mappings, the model has %u", p, model.process[p].kernel->mapping_count,
             n + 3 + (p == 0));
}

#endif
