/* SPDX-License-Identifier: BSD-2-Clause
 * Memory objects, mappings and copies to and from processes. */
#include "memory.h"
#include "process.h"
#include "frame.h"
#include "dma.h"
#include "snapshot.h"
#include "print.h"

static bool memory_is_run(const struct memory *m)
{
    return m->flags & (MEMORY_CONTIGUOUS | MEMORY_DEVICE | MEMORY_KERNEL);
}

static uint32_t *memory_slot(struct memory *m, uint64_t page)
{
    if (m->pages <= MEMORY_FRAMES) return &m->frame[page];
    uint32_t *index = arch_direct((paddr_t){(uint64_t)m->frame[page / MEMORY_INDEX] << PAGE_SHIFT});
    return &index[page % MEMORY_INDEX];
}

paddr_t memory_frame(const struct memory *m, uint64_t page)
{
    assert(page < m->pages);
    if (memory_is_run(m)) return (paddr_t){m->base.v + page * PAGE_SIZE};
    return (paddr_t){(uint64_t)*memory_slot((struct memory *)m, page) << PAGE_SHIFT};
}

static uint64_t memory_index_pages(uint64_t pages)
{
    return pages <= MEMORY_FRAMES ? 0 : (pages + MEMORY_INDEX - 1) / MEMORY_INDEX;
}

uint64_t memory_cost(uint64_t pages) { return pages + memory_index_pages(pages) + 1; }

static struct memory *memory_new(struct process *owner, uint64_t pages, uint32_t flags)
{
    struct memory *m = cell_alloc(owner);
    if (!m) return NULL;
    object_init(&m->object, OBJECT_MEMORY, owner, owner->object.tag);
    m->pages = pages;
    m->flags = flags;
    list_init(&m->mappings);
    list_init(&m->dma_mappings);
    return m;
}

status_t memory_create(struct process *owner, uint64_t pages, uint32_t flags, struct memory **out)
{
    uint64_t index_pages = memory_index_pages(pages);
    bool run = flags & (MEMORY_CONTIGUOUS | MEMORY_DMA);
    if (pages == 0 || (flags & ~(MEMORY_CONTIGUOUS | MEMORY_DMA))) return E_ARGUMENT;
    if (!run && index_pages > MEMORY_FRAMES) return E_ARGUMENT;
    /* All is charged before anything is built: the loop below cannot fail. */
    if (pages > owner->quota || pages + (run ? 0 : index_pages) + 1 > owner->quota - owner->used)
        return E_QUOTA;
    paddr_t base = {0};
    if (run) {
        status_t s = frame_alloc_run(owner, pages, &base);
        if (s != OK) return s;
    }
    struct memory *m = memory_new(owner, pages, flags | (run ? MEMORY_CONTIGUOUS : 0));
    assert(m);
    m->base = base;
    if (run) {
        *out = m;
        return OK;
    }
    for (uint64_t i = 0; i < index_pages; i++) m->frame[i] = (uint32_t)(frame_alloc(owner).v >> PAGE_SHIFT);
    for (uint64_t i = 0; i < pages; i++) *memory_slot(m, i) = (uint32_t)(frame_alloc(owner).v >> PAGE_SHIFT);
    *out = m;
    return OK;
}

status_t memory_create_range(struct process *owner, paddr_t base, uint64_t pages, uint32_t flags,
                             struct memory **out)
{
    struct memory *m = memory_new(owner, pages, flags);
    if (!m) return E_QUOTA;
    m->base = base;
    *out = m;
    return OK;
}

void memory_destroy(struct memory *m)
{
    struct process *owner = m->object.owner;
    dma_memory_gone(m);
    list_each(struct mapping, map, &m->mappings, of_memory) mapping_destroy(map);
    if (m->flags & (MEMORY_DEVICE | MEMORY_KERNEL)) return;
    if (m->flags & MEMORY_CONTIGUOUS) {
        frame_free_run(owner, m->base, m->pages);
        return;
    }
    for (uint64_t i = 0; i < m->pages; i++) frame_free(owner, memory_frame(m, i));
    for (uint64_t i = 0; i < memory_index_pages(m->pages); i++)
        frame_free(owner, (paddr_t){(uint64_t)m->frame[i] << PAGE_SHIFT});
}

/* --- Mappings --------------------------------------------------------------------------------------- */

static struct mapping *mapping_of(struct list *link)
{
    return container_of(link, struct mapping, of_process);
}

/* A process's mappings are in the order of their addresses. The last that starts at or below `at` (NULL: none), sought
 * from both ends, the program's and that where the runtime puts new ones, or from the one last found. */
static struct mapping *mapping_below(struct process *p, vaddr_t at)
{
    struct list *head = &p->mappings, *low = head, *high = head;
    if (p->last_mapping) *(p->last_mapping->start.v <= at.v ? &low : &high) = &p->last_mapping->of_process;
    while (low->next != high && mapping_of(low->next)->start.v <= at.v) {
        low = low->next;
        if (low->next == high) break;
        high = high->prev;
        if (mapping_of(high)->start.v <= at.v) return mapping_of(high);
    }
    return low == head ? NULL : mapping_of(low);
}

static bool mapping_overlaps(struct process *p, vaddr_t start, uint64_t pages)
{
    struct mapping *map = mapping_below(p, (vaddr_t){start.v + (pages - 1) * PAGE_SIZE});
    return map && map->start.v + map->pages * PAGE_SIZE > start.v;
}

/* W^X holds for the memory, not for one mapping: nobody writes what somebody executes. */
static bool mapping_breaks_wx(const struct memory *m, uint32_t prot)
{
    return ((prot & RIGHT_WRITE) && m->executers) || ((prot & RIGHT_EXECUTE) && m->writers);
}

static void mapping_count(struct memory *m, uint32_t prot, uint32_t by)
{
    if (prot & RIGHT_WRITE) m->writers += by;
    if (prot & RIGHT_EXECUTE) m->executers += by;
}

status_t mapping_create(struct process *p, struct memory *m, vaddr_t start, uint64_t offset, uint64_t pages,
                        uint32_t prot)
{
    if (pages == 0 || offset > m->pages || pages > m->pages - offset) return E_ARGUMENT;
    if (!(prot & RIGHT_READ) || (prot & ~(uint32_t)(RIGHT_READ | RIGHT_WRITE | RIGHT_EXECUTE)))
        return E_ARGUMENT;
    if ((prot & RIGHT_WRITE) && (prot & RIGHT_EXECUTE)) return E_ARGUMENT;
    if ((prot & RIGHT_EXECUTE) && (m->flags & MEMORY_DEVICE)) return E_ARGUMENT;
    if ((prot & RIGHT_WRITE) && (m->flags & MEMORY_IMMUTABLE)) return E_RIGHTS;
    if (start.v % PAGE_SIZE || start.v < USER_BASE || start.v >= USER_END ||
        pages > (USER_END - start.v) / PAGE_SIZE)
        return E_ADDRESS;
    if (mapping_overlaps(p, start, pages)) return E_EXISTS;
    if (mapping_breaks_wx(m, prot)) return E_BUSY;
    status_t s = arch_space_prepare(p, start, pages);
    if (s != OK) return s;
    struct mapping *map = cell_alloc(p), *below = mapping_below(p, start);
    if (!map) return E_QUOTA;
    snapshot_share(m);
    *map = (struct mapping){
        .process = p, .memory = m, .start = start, .pages = pages, .offset = offset, .prot = prot};
    list_prepend(below ? &below->of_process : &p->mappings, &map->of_process);
    list_append(&m->mappings, &map->of_memory);
    p->mapping_count++;
    p->last_mapping = map; /* it is looked for next */
    mapping_count(m, prot, 1);
    for (uint64_t i = 0; i < pages; i++)
        arch_space_map(p, (vaddr_t){start.v + i * PAGE_SIZE}, memory_frame(m, offset + i), prot,
                       m->flags & MEMORY_DEVICE);
    return OK;
}

struct mapping *mapping_find(struct process *p, vaddr_t at)
{
    struct mapping *map = p->last_mapping;
    if (map && at.v >= map->start.v && at.v - map->start.v < map->pages * PAGE_SIZE) return map;
    map = mapping_below(p, at);
    if (!map || at.v - map->start.v >= map->pages * PAGE_SIZE) return NULL;
    p->last_mapping = map;
    return map;
}

static void mapping_forget(struct mapping *map)
{
    struct process *p = map->process;
    list_remove(&map->of_process);
    list_remove(&map->of_memory);
    mapping_count(map->memory, map->prot, ~0u);
    if (map->via) {
        *map->via = map->via_next;
        if (map->via_next) map->via_next->via = map->via;
    }
    snapshot_release(map->memory);
    if (p->last_mapping == map) p->last_mapping = NULL;
    p->mapping_count--;
    cell_free(p, map);
}

void mapping_destroy(struct mapping *map)
{
    arch_space_unmap(map->process, map->start, map->pages);
    if (arch_platform.cpus > 1) sched_flush(map->process);
    mapping_forget(map);
}

void mapping_bind(struct mapping *map, struct capability *via)
{
    map->via = &via->mappings;
    map->via_next = via->mappings;
    if (map->via_next) map->via_next->via = &map->via_next;
    via->mappings = map;
}

void mapping_forget_all(struct process *p)
{
    list_each(struct mapping, map, &p->mappings, of_process) mapping_forget(map);
    assert(p->mapping_count == 0);
}

/* --- Copies ------------------------------------------------------------------------------------------- */

void *user_pointer(struct process *p, vaddr_t at, uint64_t length, uint32_t prot)
{
    struct mapping *map = mapping_find(p, at);
    if (!map || (map->prot & prot) != prot || (map->memory->flags & MEMORY_DEVICE)) return NULL;
    uint64_t page = (at.v - map->start.v) / PAGE_SIZE, inside = at.v % PAGE_SIZE;
    if (length > PAGE_SIZE - inside) return NULL;
    if ((prot & RIGHT_WRITE) && map->memory->saved) snapshot_touch(map, page);
    return (uint8_t *)arch_direct(memory_frame(map->memory, map->offset + page)) + inside;
}

static status_t user_check(struct process *p, vaddr_t at, uint64_t length, uint32_t prot)
{
    if (length > USER_END || at.v > USER_END - length) return E_ADDRESS;
    for (uint64_t v = at.v & ~(PAGE_SIZE - 1); v < at.v + length; v += PAGE_SIZE)
        if (!user_pointer(p, (vaddr_t){v}, 1, prot)) return E_ADDRESS;
    return OK;
}

static void user_copy(struct process *p, vaddr_t user, uint8_t *kernel, uint64_t length, bool out)
{
    while (length) {
        uint64_t inside = PAGE_SIZE - user.v % PAGE_SIZE, n = length < inside ? length : inside;
        void *at = user_pointer(p, user, n, RIGHT_READ);
        if (out)
            __builtin_memcpy(at, kernel, n);
        else
            __builtin_memcpy(kernel, at, n);
        user.v += n;
        kernel += n;
        length -= n;
    }
}

status_t user_read(struct process *p, void *to, vaddr_t from, uint64_t length)
{
    status_t s = user_check(p, from, length, RIGHT_READ);
    if (s == OK) user_copy(p, from, to, length, false);
    return s;
}

status_t user_write(struct process *p, vaddr_t to, const void *from, uint64_t length)
{
    status_t s = user_check(p, to, length, RIGHT_READ | RIGHT_WRITE);
    if (s == OK) user_copy(p, to, (uint8_t *)(uintptr_t)from, length, true);
    return s;
}
