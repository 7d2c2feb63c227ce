/* SPDX-License-Identifier: BSD-2-Clause
 * Capability tables and the derivation tree. A capability lives in a slot of one process's table; its
 * parent is the capability it was derived or transferred from. Rights only shrink along the tree;
 * deleting a capability deletes its descendants wherever they are; deleting the first capability of an
 * object destroys the object.
 * Invariants: rights(child) subset of rights(parent); same object along the tree; a free slot has no
 * object and no links; a handle's generation matches at most one capability ever. */
#ifndef COPPICE_KERNEL_CAPABILITY_H
#define COPPICE_KERNEL_CAPABILITY_H

#include "object.h"

struct capability {        /* 64 bytes */
    struct object *object; /* NULL: free */
    uint64_t rights : 16, generation : 48;
    uint64_t badge;
    struct mapping *mappings;                        /* made with it; they end with it */
    struct capability *parent, *child, *next, *prev; /* next: also the free list */
};

#define CHUNK_SLOTS 64u /* slot 0 is the chunk's head, so index 0 is never a capability */
#define CHUNKS_MAX  256u

struct cap_chunk { /* one page */
    struct process *process;
    uint64_t first; /* index of slot[0] */
    uint64_t reserved[6];
    struct capability slot[CHUNK_SLOTS - 1];
};

/* Looks up (cap_lookup, process.h) and checks type and rights. */
status_t cap_get(struct process *p, handle_t h, enum object_type type, uint32_t rights,
                 struct capability **out) MUST_USE;
bool cap_room(struct process *p); /* makes sure that one slot is free; charges a page if needed */
/* Installs the first capability of an object. Needs cap_room. */
handle_t cap_install(struct process *p, struct object *o, uint32_t rights);
/* Installs a child of parent. Needs cap_room. rights is masked by the parent's. */
handle_t cap_derive(struct process *p, struct capability *parent, uint32_t rights, uint64_t badge);
void cap_revoke(struct capability *c); /* descendants only */
/* The same, but no more than so many of them; true: none is left. */
bool cap_revoke_some(struct capability *c, uint32_t most) MUST_USE;
void cap_delete(struct capability *c);     /* with descendants; the object stays */
void cap_drop(struct capability *c);       /* cap_delete, and the object too if this is its first */
void cap_table_destroy(struct process *p); /* every capability and page of a dead process */
handle_t cap_handle(const struct capability *c);
/* Behind h in the table, 0: from its start; 0: none. *taken: which of the 64 indices around it are (HANDLE_INDEX % 64). */
handle_t cap_next(struct process *p, handle_t h, uint64_t *taken);
struct process *cap_process(const struct capability *c);

#endif
