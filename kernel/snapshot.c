/* SPDX-License-Identifier: BSD-2-Clause
 * Copy-on-write snapshots (snapshot.h). The page in use keeps its frame; what is copied is its content, into a frame
 * that waits for it: no page table but for the right to write ever changes, and to go back is to copy back. */
#include "snapshot.h"
#include "trace.h"
#include "print.h"

static struct mapping *only_mapping(const struct memory *m)
{
    struct list *first = m->mappings.next;
    bool one = first != &m->mappings && first->next == &m->mappings;
    return one ? container_of(first, struct mapping, of_memory) : NULL;
}

/* The mapping of memory that can be covered, or NULL. */
static struct mapping *coverable(struct object *o)
{
    struct memory *m = (struct memory *)o;
    if (o->type != OBJECT_MEMORY || (m->flags & ~MEMORY_IMAGE)) return NULL;
    struct mapping *map = only_mapping(m);
    return map && map->process == o->owner && (map->prot & RIGHT_WRITE) ? map : NULL;
}

static vaddr_t page_at(const struct mapping *map, uint64_t page)
{
    return (vaddr_t){map->start.v + page * PAGE_SIZE};
}

static void page_copy(const struct memory *to, const struct memory *from, uint64_t page)
{
    __builtin_memcpy(arch_direct(memory_frame(to, page)), arch_direct(memory_frame(from, page)), PAGE_SIZE);
}

static void flush_others(struct process *p)
{
    if (arch_platform.cpus > 1) sched_flush(p);
}

status_t snapshot_prepare(struct process *p)
{
    uint64_t need = 0;
    if (!p->kept || p->thread_count != 1 || object_has_replies(p)) return E_STATE;
    if (!list_empty(&p->irqs) || !list_empty(&p->domains)) return E_STATE;
    list_each(struct object, o, &p->objects, owned)
    {
        const struct mapping *map = coverable(o);
        if (map && !map->memory->saved) need += memory_cost(map->memory->pages);
    }
    if (need > p->quota - p->used) return E_QUOTA;
    list_each(struct object, q, &p->objects, owned)
    {
        struct mapping *map = coverable(q);
        if (!map || map->memory->saved) continue;
        status_t s = memory_create(p, map->memory->pages, 0, &map->memory->saved);
        assert(s == OK);
        list_remove(&map->memory->saved->object.owned); /* it goes with the memory, and by no other way */
    }
    return OK;
}

void snapshot_take(struct thread *t)
{
    struct process *p = t->process;
    struct snapshot *s = &p->snapshot;
    list_each(struct object, o, &p->objects, owned)
    {
        const struct mapping *map = coverable(o);
        for (uint64_t i = 0; map && i < map->pages; i++)
            if (arch_space_writable(p, page_at(map, i))) arch_space_protect(p, page_at(map, i), false);
    }
    flush_others(p);
    *s = (struct snapshot){.taken = true, .bound = t->bound ? cap_handle(t->bound->bound_via) : 0};
    s->resume = t->context;
    s->resume.status = SYS_recv;
    arch_context_again(&s->resume);
}

void snapshot_touch(struct mapping *map, uint64_t page)
{
    struct memory *m = map->memory;
    if (arch_space_writable(map->process, page_at(map, page))) return;
    page_copy(m->saved, m, map->offset + page); /* first: it may run on another CPU */
    arch_space_protect(map->process, page_at(map, page), true);
    flush_others(map->process);
}

bool snapshot_fault(struct process *p, vaddr_t at)
{
    struct mapping *map = mapping_find(p, at);
    if (!map || !(map->prot & RIGHT_WRITE)) return false;
    if (map->memory->saved) snapshot_touch(map, (at.v - map->start.v) / PAGE_SIZE);
    return true;
}

static uint64_t pages_restore(struct process *p)
{
    uint64_t restored = 0;
    list_each(struct object, o, &p->objects, owned)
    {
        const struct memory *m = (const struct memory *)o;
        const struct mapping *map = coverable(o);
        for (uint64_t i = 0; map && m->saved && i < map->pages; i++) {
            if (!arch_space_writable(p, page_at(map, i))) continue;
            page_copy(m, m->saved, map->offset + i);
            arch_space_protect(p, page_at(map, i), false);
            restored++;
        }
    }
    flush_others(p);
    return restored;
}

void snapshot_restore(struct process *p, struct thread *t)
{
    struct snapshot *s = &p->snapshot;
    struct capability *k = cap_lookup(p, s->bound);
    struct notification *n = k ? (struct notification *)k->object : NULL;
    uint64_t pages = pages_restore(p);
    t->context = s->resume;
    if (n && !n->bound) {
        notification_bind(n, t);
        n->bound_via = k;
    }
    trace_process(TRACE_ROLLBACK, p, ++s->rollbacks, pages);
}

void snapshot_release(struct memory *m)
{
    struct memory *saved = m->saved;
    if (!saved) return;
    m->saved = NULL;
    memory_destroy(saved);
    cell_free(m->object.owner, saved);
}

void snapshot_share(struct memory *m)
{
    struct mapping *map = m->saved ? only_mapping(m) : NULL;
    for (uint64_t i = 0; map && i < map->pages; i++)
        if (!arch_space_writable(map->process, page_at(map, i)))
            arch_space_protect(map->process, page_at(map, i), true);
    if (map) flush_others(map->process);
    snapshot_release(m);
}
