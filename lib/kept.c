/* SPDX-License-Identifier: BSD-2-Clause
 * The area of a kept process and the capabilities that it lost sight of (kept.h). */
#include "kept.h"

#define KEPT_MAGIC 0x5450454b504f43ul      /* "COPKEPT" */
#define SLOTS      (KEPT_CAPS_WORDS * 64u) /* a capability table has no more */

static uint64_t marked[SLOTS / 64];

status_t kept_open(uint64_t bytes, struct kept **out)
{
    struct kept *kept = (struct kept *)USER_KEPT;
    uint64_t pages = PAGES_FOR(bytes);
    struct sys_result memory = sys_memory_create(0, pages, 0);

    *out = kept;
    if (memory.status != OK) return memory.status;
    status_t status = sys_memory_map(0, memory.value, USER_KEPT, 0, pages, RIGHT_READ | RIGHT_WRITE);
    if (status == E_EXISTS) {
        status = sys_cap_delete(memory.value);
        if (status == OK && kept->magic != 0 && (kept->magic != KEPT_MAGIC || kept->bytes != bytes))
            return E_STATE;
    } else if (status == OK) {
        kept->memory = memory.value;
    }
    if (status != OK) return status;
    kept->bytes = bytes;
    kept->magic = KEPT_MAGIC;
    map_position_keep(&kept->mapped);
    return OK;
}

void caps_mark(handle_t h)
{
    if (h != 0) marked[HANDLE_INDEX(h) % SLOTS / 64] |= 1ul << HANDLE_INDEX(h) % 64;
}

void caps_mark_saved(const uint64_t saved[KEPT_CAPS_WORDS])
{
    for (uint32_t i = 0; i < KEPT_CAPS_WORDS; i++) marked[i] |= saved[i];
}

/* Which capabilities there are of the next 64 indices, from *base on, that have any; false: those were all. A call of
 * the kernel for each of thousands would be most of a restart. */
static bool caps_next(uint32_t *base, uint64_t *there)
{
    struct sys_result r = sys_cap_next(*base == 0 ? 0 : HANDLE_MAKE(*base - 1, 0));

    *base = HANDLE_INDEX(r.value) % SLOTS / 64 * 64;
    *there = r.value1;
    return r.status == OK;
}

/* One that was swept may have taken others with it. */
static void caps_sweep_one(uint32_t index, void (*stray)(handle_t h))
{
    struct sys_result r = sys_cap_next(HANDLE_MAKE(index - 1, 0));

    if (r.status == OK && HANDLE_INDEX(r.value) == index) stray(r.value);
}

void caps_save(uint64_t saved[KEPT_CAPS_WORDS])
{
    uint64_t there;

    for (uint32_t base = 0; caps_next(&base, &there); base += 64) marked[base / 64] |= there;
    memcpy(saved, marked, sizeof(marked));
    memset(marked, 0, sizeof(marked));
}

void caps_sweep(void (*stray)(handle_t h))
{
    const struct startup *s = startup();
    uint64_t there;

    caps_mark(((struct kept *)USER_KEPT)->memory);
    for (uint32_t i = 0; i < s->cap_count && i < STARTUP_CAPS; i++) caps_mark(s->cap[i].handle);
    for (uint32_t base = 0; caps_next(&base, &there); base += 64)
        for (uint64_t left = there & ~marked[base / 64]; left != 0; left &= left - 1)
            caps_sweep_one(base + (uint32_t)__builtin_ctzl(left), stray);
    memset(marked, 0, sizeof(marked));
}
