/* SPDX-License-Identifier: BSD-2-Clause
 * Is a driver alive? Owns a service's struct watch. Progress, not pings: while what clients wait for completes nobody
 * is asked anything. Work is what is pending, and also whatever keeps a driver awake: one that spins
 * starves its clients, who then have nothing pending. A driver without progress for half its watchdog
 * time is asked once, by ringing its doorbell; a live one wakes, looks for work and so counts a round.
 * One that does not is stalled when its whole time is over. One that does is waiting for a slow device
 * (a flush on the host can take long) and gets the device's limit: killing it would not make the device
 * faster, and each death counts against the requests in flight. One that says that it sleeps is asked
 * too, once in its watchdog time: it may have hung between saying so and sleeping. No single request may be
 * with the device for longer than that limit either, whatever else completes: it is forgotten.
 *
 *   STARTING -> QUIET            its first round
 *   QUIET    -> BUSY             something is pending, or it does not sleep
 *   QUIET    -> ASKED            quiet for QUIET_TIMES its time                verdict ASK
 *   BUSY     -> QUIET            nothing is pending, and it sleeps
 *   BUSY     -> ASKED            half the time without progress or answer      verdict ASK
 *   ASKED    -> BUSY             progress, or a round: it answered
 *   ASKED    -> REPORTED         the time is over, and it had four chances     verdict STALLED
 *   BUSY     -> REPORTED         it answers, but the device limit is over      verdict STALLED
 *   any      -> REPORTED         one request, at five looks, out for longer     verdict STALLED
 *   STARTING -> REPORTED         pending, no round ever, device limit over     verdict STALLED
 *   any      -> REPORTED         the driver says that an interrupt was lost      verdict LOST_IRQ
 *   REPORTED -> ASKED            the driver has not had the CPU (watch_doubted)  again at the next look
 * After a fall (watch_resume) REPORTED leads to ASKED, and ASKED to STARTING.
 * watch_reset (attach) leads to STARTING from everywhere. */
#include "core.h"

/* Longer than a flush takes on a loaded host, short enough for a person to wait. Whoever gives a driver a short watchdog
 * time has a device that is as much quicker. */
#define DEVICE_LIMIT_NS     5000000000ul
#define DEVICE_LIMIT_NS_MIN 1000000000ul
#define DEVICE_TIMES        200ul
/* Between question and verdict the driver must have had the CPU. If the host holds the machine for a
 * while, a look follows the question at once; four in a row do not. */
#define SCANS_BEFORE_VERDICT 4
/* A question costs an idle driver a round for nothing; its watchdog time says how often. */
#define QUIET_TIMES 1

static uint64_t device_limit_ns(uint64_t watchdog_ns)
{
    uint64_t ns = DEVICE_TIMES * watchdog_ns;

    if (ns < DEVICE_LIMIT_NS_MIN) return DEVICE_LIMIT_NS_MIN;
    return ns < DEVICE_LIMIT_NS ? ns : DEVICE_LIMIT_NS;
}

void watch_reset(struct watch *w) { *w = (struct watch){.state = WATCH_STARTING}; }

static enum watch_verdict watch_report(struct watch *w)
{
    w->state = WATCH_REPORTED;
    return WATCH_STALLED;
}

void watch_doubted(struct watch *w) { w->state = WATCH_ASKED; }

void watch_resume(struct watch *w)
{
    if (w->state == WATCH_ASKED)
        watch_reset(w);
    else if (w->state == WATCH_REPORTED)
        watch_doubted(w);
}

static enum watch_verdict watch_ask(struct watch *w, const struct watch_sample *sample)
{
    w->state = WATCH_ASKED;
    w->rounds = sample->rounds;
    w->scans = 0;
    return WATCH_ASK;
}

/* It may have hung while it served nobody, before its first session: the long limit holds then. */
static enum watch_verdict watch_starting(struct watch *w, const struct watch_sample *sample, uint64_t now_ns,
                                         uint64_t watchdog_ns)
{
    if (sample->pending == 0 || w->progress_ns == 0) w->progress_ns = now_ns;
    return now_ns - w->progress_ns >= device_limit_ns(watchdog_ns) ? watch_report(w) : WATCH_FINE;
}

static enum watch_verdict watch_asked(struct watch *w, const struct watch_sample *sample, uint64_t now_ns,
                                      uint64_t watchdog_ns)
{
    if (sample->rounds != w->rounds || sample->progress != w->progress) {
        w->state = WATCH_BUSY; /* progress itself is seen at the next look */
        w->answer_ns = now_ns;
        return WATCH_FINE;
    }
    w->scans++;
    return w->scans >= SCANS_BEFORE_VERDICT && now_ns - w->answer_ns >= watchdog_ns ? watch_report(w)
                                                                                    : WATCH_FINE;
}

static enum watch_verdict watch_quiet(struct watch *w, const struct watch_sample *sample, uint64_t now_ns,
                                      uint64_t watchdog_ns)
{
    if (w->state != WATCH_QUIET || sample->rounds != w->rounds) {
        w->state = WATCH_QUIET;
        w->rounds = sample->rounds;
        w->answer_ns = now_ns;
    }
    if (now_ns - w->answer_ns < QUIET_TIMES * watchdog_ns) return WATCH_FINE;
    w->progress = sample->progress;
    w->progress_ns = w->answer_ns = now_ns; /* its whole time begins with the question */
    return watch_ask(w, sample);
}

static enum watch_verdict watch_busy(struct watch *w, const struct watch_sample *sample, uint64_t now_ns,
                                     uint64_t watchdog_ns)
{
    if (w->state == WATCH_QUIET || sample->progress != w->progress) {
        w->state = WATCH_BUSY;
        w->progress = sample->progress;
        w->progress_ns = w->answer_ns = now_ns;
        return WATCH_FINE;
    }
    if (now_ns - w->progress_ns >= device_limit_ns(watchdog_ns)) return watch_report(w);
    return now_ns - w->answer_ns >= watchdog_ns / 2 ? watch_ask(w, sample) : WATCH_FINE;
}

/* A host that held the machine for a while lets the device go on between two looks. */
static bool watch_overdue(struct watch *w, const struct watch_sample *sample, uint64_t watchdog_ns)
{
    w->overdue = sample->oldest_ns < device_limit_ns(watchdog_ns) ? 0 : w->overdue + 1;
    return w->overdue > SCANS_BEFORE_VERDICT;
}

enum watch_verdict watch_step(struct watch *w, const struct watch_sample *sample, uint64_t now_ns,
                              uint64_t watchdog_ns)
{
    if (watchdog_ns == 0 || w->state == WATCH_REPORTED) return WATCH_FINE;
    if (sample->irq_lost != 0) {
        w->state = WATCH_REPORTED;
        return WATCH_LOST_IRQ;
    }
    if (watch_overdue(w, sample, watchdog_ns)) return watch_report(w);
    if (w->state == WATCH_STARTING) {
        if (sample->rounds == 0) return watch_starting(w, sample, now_ns, watchdog_ns);
        w->state = WATCH_QUIET;
        w->answer_ns = now_ns;
    }
    if (w->state == WATCH_ASKED) return watch_asked(w, sample, now_ns, watchdog_ns);
    if (sample->pending == 0 && sample->awake == 0) return watch_quiet(w, sample, now_ns, watchdog_ns);
    return watch_busy(w, sample, now_ns, watchdog_ns);
}
