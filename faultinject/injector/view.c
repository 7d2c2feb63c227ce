/* SPDX-License-Identifier: BSD-2-Clause
 * Reading a driver's structures, word by word. */
#include "view.h"

#define SCAN_PAGES 2048u /* from the end of the image: what is mapped later follows it */
#define SCAN_GAP   64u   /* unmapped pages in a row that end the scan */

bool view_peek(const struct view *v, uint64_t at, uint64_t *out)
{
    struct sys_result r = sys_inject(v->inject, v->process, INJECT_PEEK, at, 0, 0);

    *out = r.value;
    return r.status == OK;
}

void view_poke(const struct view *v, uint64_t at, uint64_t value, uint64_t width, uint32_t *poked)
{
    if (sys_inject(v->inject, v->process, INJECT_POKE, at, value, width).status == OK) ++*poked;
}

/* size: a multiple of 8 */
static bool copy_out(const struct view *v, uint64_t at, void *to, uint64_t size)
{
    for (uint64_t i = 0; i < size; i += 8)
        if (!view_peek(v, at + i, (uint64_t *)((uint8_t *)to + i))) return false;
    return true;
}

static bool session_take(const struct view *v, struct view_session *out)
{
    static struct driver_session s;
    _Static_assert(sizeof(s) % 8 == 0, "copied by words");

    if (!copy_out(v, out->at, &s, sizeof(s)) || s.id == 0) return false;
    out->class = s.class;
    out->slots = s.slots;
    out->request = (uint64_t)s.request;
    out->ledger = (uint64_t)s.ledger;
    out->hint = (uint64_t)s.hint;
    out->data = (uint64_t)s.data;
    out->data_bytes = s.data_bytes;
    out->client = s.client;
    out->client_bits = s.client_bits;
    return true;
}

void view_take(struct view *v, handle_t inject, handle_t process, uint64_t driver)
{
    uint64_t open = 0, generation = 0;

    *v = (struct view){.inject = inject, .process = process, .driver = driver};
    if (driver == 0 || !view_peek(v, driver + offsetof(struct driver, open), &open)) return;
    (void)view_peek(v, driver + offsetof(struct driver, generation), &generation);
    (void)view_peek(v, driver + offsetof(struct driver, staging), &v->staging);
    v->generation = (uint32_t)generation;
    for (; open != 0 && v->sessions < VIEW_SESSIONS; open &= open - 1) {
        struct view_session *s = &v->session[v->sessions];
        s->at = driver + offsetof(struct driver, session) +
                (uint64_t)__builtin_ctzl(open) * sizeof(struct driver_session);
        if (session_take(v, s)) v->sessions++;
    }
}

static uint64_t slot_id(const struct view *v, const struct view_session *s, uint32_t slot)
{
    uint64_t id = 0;

    (void)view_peek(
        v, s->request + offsetof(struct session_request, slot) + slot * sizeof(struct session_slot), &id);
    return id;
}

static uint32_t stream_word(const struct view *v, uint64_t at)
{
    uint64_t word = 0;

    (void)view_peek(v, at, &word);
    return (uint32_t)word;
}

void view_pending(struct view *v)
{
    for (uint32_t i = 0; i < v->sessions; i++) {
        struct view_session *s = &v->session[i];
        s->tx_head = stream_word(v, s->request + offsetof(struct session_stream_client, tx_head));
        for (uint32_t k = 0; s->class == SESSION_BLOCK && k < s->slots; k++) s->id[k] = slot_id(v, s, k);
    }
}

/* A process that has ended cannot be peeked into: nothing is found. */
bool view_served(const struct view *v)
{
    for (uint32_t i = 0; i < v->sessions; i++) {
        const struct view_session *s = &v->session[i];
        uint64_t tail;
        for (uint32_t k = 0; s->class == SESSION_BLOCK && k < s->slots; k++)
            if (s->id[k] != 0 && slot_id(v, s, k) == s->id[k]) return false;
        if (s->class != SESSION_STREAM ||
            !view_peek(v, s->ledger + offsetof(struct session_stream_driver, tx_tail), &tail))
            continue;
        if (s->tx_head - (uint32_t)tail - 1 < STREAM_RING) return false;
    }
    return true;
}

static bool is_own(const struct view *v, uint64_t page)
{
    for (uint32_t i = 0; i < v->sessions; i++) {
        const struct view_session *s = &v->session[i];
        if (page == s->request || (page >= s->data && page < s->data + s->data_bytes)) return false;
    }
    return true;
}

uint64_t view_heap_page(const struct view *v, uint64_t image_end, uint64_t random)
{
    static uint64_t found[SCAN_PAGES];
    uint32_t count = 0, gap = 0;
    uint64_t word;

    for (uint32_t i = 0; i < SCAN_PAGES && gap < SCAN_GAP; i++) {
        uint64_t page = PAGES_FOR(image_end) * PAGE_SIZE + i * PAGE_SIZE;
        gap++;
        if (!view_peek(v, page, &word)) continue;
        gap = 0;
        if (is_own(v, page)) found[count++] = page;
    }
    return count == 0 ? 0 : found[random % count];
}

uint64_t view_data_page(const struct view *v, uint64_t random)
{
    if (v->sessions == 0) return 0;
    const struct view_session *s = &v->session[random % v->sessions];
    uint64_t pages = s->data_bytes / PAGE_SIZE;
    return pages == 0 ? 0 : s->data + random / VIEW_SESSIONS % pages * PAGE_SIZE;
}
