/* SPDX-License-Identifier: BSD-2-Clause
 * Strikes within a recovery, each trial one step later than the one before: who is to be struck must have nothing to do
 * but that recovery, so whether it is over is asked of somebody else. */
#include "abi/protocol.h"
#include "clock.h"
#include "strike.h"

#define POLL_US    500u
#define PATIENT_MS 5000u
#define TAIL_MS    12u /* the supervisor's burials and journal: what is done when nobody waits any more */

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

/* Requests that the victim's clients got back, by recovery's count. */
static bool completed(uint32_t victim, uint64_t *out)
{
    struct message m = {.info = INFO_REPLAYABLE, .w = {victim}};

    if (service_call(cap_find("recovery"), RECOVERY_STATUS, &m) != OK) return false;
    *out = m.w[3];
    return true;
}

/* It is dead: the first completion from now on is its successor's. */
static bool completes(uint32_t victim, uint64_t deadline_ns)
{
    uint64_t then, now;

    if (!completed(victim, &then)) return false;
    for (; before(deadline_ns); sleep_us(POLL_US))
        if (completed(victim, &now) && now > then) return true;
    return false;
}

static bool runs(uint32_t victim, uint64_t deadline_ns)
{
    struct target now;

    for (; before(deadline_ns); sleep_us(POLL_US))
        if (target_read(victim, &now) == OK && now.state == SERVICE_STATE_RUNNING) return true;
    return false;
}

/* The victim was killed; its recovery takes its course, with the strikes that are armed. */
void nested_end(const struct trial *t, handle_t process, struct outcome *o)
{
    static uint32_t victim = TARGET_NONE; /* asked for once: the question is work for the supervisor */
    uint64_t deadline = in_ms(PATIENT_MS);

    if (victim == TARGET_NONE) victim = target_find(VICTIM);
    bool supervisor = is(t->service, "supervisor");
    o->answered = supervisor ? completes(victim, deadline) : runs(victim, deadline);
    if (supervisor) sleep_us(TAIL_MS * 1000);
    if (!strike_next_forget()) o->error = "the strikes to come cannot be taken back";
    bool left = strike_disarm(process); /* the first, or one of those after it */
    o->died = strike_died(t);
    o->struck = o->died || !left;
    o->second = t->second != 0 && o->struck && !left;
}
