/* SPDX-License-Identifier: BSD-2-Clause
 * A driver as the injector sees it: through the struct driver of lib/driver.h in its memory, whose address the
 * order names (0: the target has none). Taken before a strike: afterwards nothing in there need be true. */
#ifndef COPPICE_INJECTOR_VIEW_H
#define COPPICE_INJECTOR_VIEW_H

#include "lib/driver.h"

#define VIEW_SESSIONS 4u

struct view_session {
    uint64_t at; /* of the struct driver_session */
    uint32_t class, slots;
    uint64_t request, ledger, hint, data, data_bytes; /* addresses in the target */
    handle_t client;
    uint64_t client_bits;
    uint64_t id[SESSION_SLOTS_MAX]; /* of view_await: requests that were not acknowledged */
    uint32_t tx_head;
};
struct view {
    handle_t inject, process;
    uint64_t driver, staging;
    uint32_t generation, sessions;
    struct view_session session[VIEW_SESSIONS];
};

bool view_peek(const struct view *v, uint64_t at, uint64_t *out);
/* Writes w bytes; counted in *poked. */
void view_poke(const struct view *v, uint64_t at, uint64_t value, uint64_t width, uint32_t *poked);
void view_take(struct view *v, handle_t inject, handle_t process, uint64_t driver);
/* Remembers what clients wait for now. */
void view_pending(struct view *v);
/* Clients have got all that; or the target is gone, and this is for its successor to see to. */
bool view_served(const struct view *v);
/* A page that the driver writes and that is not its clients' data: of its own allocations and of the sessions.
 * image_end: of its program. 0: none. */
uint64_t view_heap_page(const struct view *v, uint64_t image_end, uint64_t random);
/* A page of its clients' data; 0: none. */
uint64_t view_data_page(const struct view *v, uint64_t random);

#endif
