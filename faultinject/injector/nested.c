/* SPDX-License-Identifier: BSD-2-Clause
 * Strikes within a recovery, each trial one step later than the one before: who is to be struck must have nothing to do
 * but that recovery, so whether it is over is asked of somebody else. And strikes at several while a driver is updated. */
#include "abi/bundle.h"
#include "abi/protocol.h"
#include "clock.h"
#include "strike.h"

#define POLL_US          500u
#define PATIENT_MS       5000u
#define PROGRAM_UPDATING 2u /* of SUPERVISOR_PROGRAM's w3 */
#define TAIL_MS          12u /* the supervisor's burials and journal: what is done when nobody waits any more */

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

/* --- During a live update ------------------------------------------------------------------------------------ */

static status_t program_now(uint32_t service, char name[BUNDLE_NAME_MAX], uint64_t *how)
{
    struct message m = {.info = INFO_REPLAYABLE, .w = {service}};
    status_t status = service_call(cap_find("supervisor"), SUPERVISOR_PROGRAM, &m);

    if (status != OK) return status;
    memcpy(name, m.w, BUNDLE_NAME_MAX);
    name[BUNDLE_NAME_MAX - 1] = 0;
    *how = m.w[3];
    return OK;
}

static void words_of(uint64_t words[3], const char *text)
{
    memset(words, 0, 3 * sizeof(words[0]));
    memcpy(words, text, strlen(text) < 3 * sizeof(words[0]) ? strlen(text) : 3 * sizeof(words[0]) - 1);
}

/* Another version, or, if that is what it is, the other one. */
static status_t update(const struct trial *t, uint32_t victim, const char **to)
{
    char is_now[BUNDLE_NAME_MAX];
    uint64_t how;
    struct message m = {.info = INFO_REPLAYABLE};
    status_t status = program_now(victim, is_now, &how);

    *to = is(is_now, t->to) ? t->back : t->to;
    if (status != OK) return status;
    words_of(&m.w[0], VICTIM);
    words_of(&m.w[3], *to);
    return service_call(cap_find("supervisor"), SUPERVISOR_UPDATE, &m);
}

/* The update held or did not, everybody serves, and a version that is to be rolled back has been. */
static bool updated(uint32_t victim, const char *bad, uint64_t deadline_ns)
{
    char is_now[BUNDLE_NAME_MAX];
    uint64_t how;

    for (; before(deadline_ns); sleep_us(2 * POLL_US))
        if (program_now(victim, is_now, &how) == OK && !(how & PROGRAM_UPDATING) && !is(is_now, bad) &&
            targets_settled())
            return true;
    return false;
}

static void strike_forget(uint32_t service)
{
    handle_t process;

    if (target_process(service, &process) != OK) return; /* nothing runs that it could be armed on */
    (void)strike_disarm(process);
    (void)sys_cap_delete(process); /* gone already, if the process object is */
}

/* process: of t->service, which is struck on its way through the update; t->other, and who starts, as well. */
void nested_update(const struct trial *t, handle_t process, struct outcome *o)
{
    uint32_t victim = target_find(VICTIM), other = target_find(t->other), starting = target_find(t->starting);
    const char *to = "";
    handle_t second = 0;

    if (victim == TARGET_NONE || starting == TARGET_NONE || target_process(other, &second) != OK) {
        o->error = "a target has no process";
        return;
    }
    if (strike_next(starting, t->second, t->again) != OK || strike_kill(process, t->instructions) != OK)
        o->error = "a strike was refused";
    status_t status = update(t, victim, &to);
    o->answered = status == OK;
    if (status != OK) o->error = "the update was refused";
    sleep_us(t->a);
    (void)strike_kill(second, t->b); /* it may be dead */
    o->stuck = !updated(victim, t->bad, in_ms(PATIENT_MS));
    o->struck = !strike_disarm(process);
    if (!strike_next_forget()) o->error = "the strikes to come cannot be taken back";
    strike_forget(other);
    strike_forget(starting);
    (void)sys_cap_delete(second); /* gone already, if the process object is */
}
