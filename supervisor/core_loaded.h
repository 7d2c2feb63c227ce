/* SPDX-License-Identifier: BSD-2-Clause
 * Programs that came from a file and not with the system image: a few slots of memory of the supervisor's own. Pure, as
 * all of the core; the shell has the memory (programs.c). A slot is written only while no service is, was or is about to be
 * what it holds; so nothing need free it, and a death, a rollback or a start long after find the program that they mean.
 * Program numbers: 0 the manifest's, 1 to n the files of the system image, the slots from n + 1 on. */
#ifndef COPPICE_SUPERVISOR_CORE_LOADED_H
#define COPPICE_SUPERVISOR_CORE_LOADED_H

#include "core.h"

#define LOADED_SLOTS     4u
#define LOADED_BYTES_MAX (512u << 10)
#define LOADED_NONE      LOADED_SLOTS

struct loaded {
    char name[MANIFEST_NAME_MAX];
    uint32_t bytes, received; /* all; the first so many are there */
    tag_t loader;             /* whose last load this is; 0: nobody's */
    handle_t memory;          /* LOADED_BYTES_MAX, once it was needed */
    uint8_t *at;              /* NULL: it was not */
};

/* A service is this program, would go back to it, or is becoming it. */
bool loaded_in_use(const struct supervisor_state *state, uint32_t program);
/* Where the caller's next program goes: where its last one is, if nobody needs that, else to a slot that nobody needs and
 * no other loader that lives. LOADED_NONE: there is none. first: program number of slot 0. */
uint32_t loaded_choose(const struct loaded *slot, const struct supervisor_state *state, uint32_t first,
                       tag_t caller, bool (*lives)(tag_t tag));
/* From now on slot n is what this caller loads, and nothing else is. */
void loaded_begin(struct loaded *slot, uint32_t n, tag_t caller, const char name[MANIFEST_NAME_MAX],
                  uint32_t bytes);
/* The slot of the caller's last load. LOADED_NONE: it has none. */
uint32_t loaded_by(const struct loaded *slot, tag_t caller);
/* The next bytes, in order; what is there already may be said again. False: they do not follow, or are beyond the end. */
bool loaded_take(struct loaded *l, uint64_t offset, const void *data, uint32_t bytes);
static inline bool loaded_whole(const struct loaded *l) { return l->bytes && l->received == l->bytes; }

#endif
