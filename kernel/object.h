/* SPDX-License-Identifier: BSD-2-Clause
 * The head of every kernel object, and the pools they come from. An object lives in a page charged to its
 * owner, dies with its owner or by cap_delete of its first capability, and takes every capability to it
 * along: a dead process owns nothing. */
#ifndef COPPICE_KERNEL_OBJECT_H
#define COPPICE_KERNEL_OBJECT_H

#include "../abi/types.h"
#include "../abi/status.h"

struct process;
struct capability;

struct list {
    struct list *next, *prev;
};
static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline void list_remove(struct list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->next = n->prev = n;
}
static inline void list_append(struct list *l, struct list *n)
{
    n->prev = l->prev;
    n->next = l;
    l->prev->next = n;
    l->prev = n;
}
static inline void list_prepend(struct list *l, struct list *n) { list_append(l->next, n); }
#define container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))
#define list_each(type, var, head, member)                                \
    for (type *var = container_of((head)->next, type, member),            \
              *var##_next = container_of(var->member.next, type, member); \
         &var->member != (head);                                          \
         var = var##_next, var##_next = container_of(var->member.next, type, member))

struct object {
    uint8_t type; /* enum object_type */
    uint8_t reserved[3];
    tag_t tag;               /* given by the creator, for the trace */
    struct process *owner;   /* pays; NULL: the kernel itself */
    struct list owned;       /* in owner->objects */
    struct capability *root; /* the first capability; all others derive from it */
};

/* Cells of this size come from pages charged to one process and stay in its pool until it dies, so that
 * nothing another process does can keep them from being freed. Processes and threads take a page each. */
#define CELL_BYTES 160u

/* A zeroed cell from the owner's pool, or NULL: over quota. */
void *cell_alloc(struct process *owner);
void cell_free(struct process *owner, void *cell);
void pool_destroy(struct process *owner); /* every page of the pool; no cell of it may be in use */

/* Makes a cell (or page) an object of its owner. */
void object_init(struct object *o, enum object_type type, struct process *owner, tag_t tag);
/* Replies stand in front of all else that a process owns: if there are any, the first object is one. */
bool object_has_replies(const struct process *p);
/* Ends an object of any type: its capabilities everywhere, its links to others, its memory. */
void object_destroy(struct object *o);

#endif
