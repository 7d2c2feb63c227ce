/* SPDX-License-Identifier: BSD-2-Clause
 * The verdicts of core_watch.h. */
#include "core_watch.h"

bool watch_stalled(struct watch *w, const struct watch_look *look, uint64_t period_ns, uint64_t watchdog_ns)
{
    bool pending = look->waiting > 0;
    bool stood_still = pending && w->pending && look->served == w->served;

    w->pending = pending;
    w->served = look->served;
    w->strikes = stood_still ? w->strikes + 1 : 0;
    return w->strikes * period_ns >= watchdog_ns;
}

bool watch_hang(struct suspicion *s, const struct vitals *v, uint64_t now_ns, uint64_t ticks_per_us)
{
    if (!v || !v->runnable) return true;
    if (s->generation != v->generation || now_ns - s->since_ns > WATCH_SUSPICION_NS ||
        now_ns - s->last_ns > WATCH_SILENCE_NS)
        *s = (struct suspicion){.generation = v->generation,
                                .since_ns = now_ns,
                                .cpu_ticks = v->cpu_ticks,
                                .interruptions = v->interruptions};
    s->last_ns = now_ns;
    return v->cpu_ticks - s->cpu_ticks >= WATCH_HANG_CPU_US * ticks_per_us &&
           v->interruptions - s->interruptions >= WATCH_HANG_INTERRUPTIONS;
}
