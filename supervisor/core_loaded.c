/* SPDX-License-Identifier: BSD-2-Clause
 * Which slot a program from a file goes to, and how it gets there: core_loaded.h. The supervisor can fall at any store, and
 * the message in hand then comes again: so each function may be carried out twice. */
#include "core_loaded.h"

bool loaded_in_use(const struct supervisor_state *state, uint32_t program)
{
    for (uint32_t i = 1; i < state->count; i++) {
        const struct supervised *s = &state->service[i];
        if (s->program == program || (s->has_previous && s->previous == program) ||
            (s->spare != SPARE_NONE && s->spare_program == program))
            return true;
    }
    return false;
}

uint32_t loaded_choose(const struct loaded *slot, const struct supervisor_state *state, uint32_t first,
                       tag_t caller, bool (*lives)(tag_t tag))
{
    uint32_t last = loaded_by(slot, caller);
    if (last != LOADED_NONE && !loaded_in_use(state, first + last)) return last;
    for (uint32_t n = 0; n < LOADED_SLOTS; n++) {
        bool another = slot[n].loader && slot[n].loader != caller && lives(slot[n].loader);
        if (!another && !loaded_in_use(state, first + n)) return n;
    }
    return LOADED_NONE;
}

void loaded_begin(struct loaded *slot, uint32_t n, tag_t caller, const char name[MANIFEST_NAME_MAX],
                  uint32_t bytes)
{
    struct loaded *l = &slot[n];
    for (uint32_t k = 0; k < LOADED_SLOTS; k++)
        if (k == n || slot[k].loader == caller) slot[k].loader = 0;
    l->received = 0;
    l->bytes = bytes;
    for (uint32_t i = 0; i < MANIFEST_NAME_MAX; i++) l->name[i] = i + 1 < MANIFEST_NAME_MAX ? name[i] : 0;
    __atomic_store_n(&l->loader, caller, __ATOMIC_SEQ_CST); /* last: from here on it is the caller's */
}

uint32_t loaded_by(const struct loaded *slot, tag_t caller)
{
    for (uint32_t n = 0; n < LOADED_SLOTS; n++)
        if (slot[n].loader == caller) return n;
    return LOADED_NONE;
}

bool loaded_take(struct loaded *l, uint64_t offset, const void *data, uint32_t bytes)
{
    if (offset > l->received || bytes > l->bytes - offset) return false;
    if (offset + bytes <= l->received) return true;
    __builtin_memcpy(l->at + offset, data, bytes);
    __atomic_store_n(&l->received, (uint32_t)(offset + bytes), __ATOMIC_SEQ_CST);
    return true;
}
