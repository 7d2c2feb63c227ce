/* SPDX-License-Identifier: BSD-2-Clause
 * Changed programs: of the places of a trial, those that the target comes to, and then their changes, one after the other,
 * until one is executed. The text is the target's own by then (text.h). */
#include "changes.h"
#include "clock.h"
#include "text.h"

#define POLL_US     100u
#define AGAIN_TIMES 4u /* where it came once while it was looked at, it is waited for so many times as long */
_Static_assert(SITES_MAX <= INJECT_PROBES, "a probe for each place");

static uint64_t probed(handle_t inject, handle_t process, bool forget)
{
    struct sys_result r = sys_inject(inject, process, INJECT_PROBED, 0, 0, forget);

    return r.status == OK ? r.value : 0; /* dead: it comes nowhere any more */
}

/* The first of all as soon as it comes there, or what there is when the time is over. Without a change, all at once: a place
 * that it never comes to would be waited for in vain. */
static uint64_t places_reached(handle_t inject, handle_t process, const struct trial *t, struct outcome *o)
{
    uint64_t deadline = in_ms(t->limit_ms), hits = 0;

    for (uint32_t i = 0; i < t->sites; i++)
        if (sys_inject(inject, process, INJECT_PROBE, text_address(t->site[i]), i, 0).status != OK)
            o->error = "a place of its text cannot be looked at";
    while (!(hits & 1) && before(deadline) && !strike_died(t)) {
        o->wrong += press(t->service, t->seed);
        sleep_us(POLL_US);
        hits = probed(inject, process, false);
    }
    return probed(inject, process, true);
}

/* False: refused. */
static bool change(handle_t inject, handle_t process, struct trial *t, uint32_t site, uint32_t *bytes)
{
    status_t status = text_change(inject, process, t->site[site], &t->at, bytes);

    if (status == OK) status = sys_inject(inject, process, INJECT_ARM, 0, INJECT_NOTE, 0).status;
    if (status == OK) status = sys_inject(inject, process, INJECT_AT, t->at, 0, 0).status;
    return status == OK;
}

void changes_run(handle_t inject, handle_t process, struct trial *t, struct outcome *o)
{
    uint64_t hits = places_reached(inject, process, t, o);

    for (; hits != 0 && !o->struck && !strike_died(t); hits &= hits - 1) {
        uint32_t site = (uint32_t)__builtin_ctzl(hits), bytes = 0;
        if (!change(inject, process, t, site, &bytes)) {
            o->error = "a change of its text was refused";
            return;
        }
        o->struck = strike_comes(t, process, o, in_ms(AGAIN_TIMES * t->limit_ms));
        if (!o->struck && text_restore(inject, process, t->at, bytes) != OK)
            o->error = "its text cannot be restored";
        if (o->struck) o->site = site + 1;
    }
}
