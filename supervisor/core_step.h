/* SPDX-License-Identifier: BSD-2-Clause
 * What the files of the policy core share while they make one step. Inside the core only. */
#ifndef COPPICE_SUPERVISOR_CORE_STEP_H
#define COPPICE_SUPERVISOR_CORE_STEP_H

#include "core.h"

#define NS_PER_MS         1000000ull
#define ASSERT(condition) ((condition) ? (void)0 : __builtin_trap())

struct step { /* one call of supervisor_step */
    struct supervisor_state *state;
    uint64_t now_ns;
    struct supervisor_action *action;
    size_t count, max;
};

static inline bool supervisor_serving(enum service_state state)
{
    return state == SERVICE_STATE_STARTING || state == SERVICE_STATE_RUNNING;
}

static inline const struct manifest_service *entry_of(const struct supervisor_state *state, uint32_t i)
{
    return &state->manifest->service[i];
}

/* core.c */
void step_enter(struct step *step, uint32_t i, enum service_state to, uint64_t deadline_ns);
void step_kill(struct step *step, uint32_t i, enum service_state to, enum cause cause);
void stop_followers(struct step *step, uint32_t i);
struct supervisor_action *step_act(struct step *step, enum supervisor_action_kind kind, uint32_t i);
void step_deadline(struct step *step, uint32_t i, uint64_t ns);

/* Whether a service may start, in order of precedence. */
enum verdict { VERDICT_START, VERDICT_WAIT, VERDICT_LEAVE, VERDICT_GIVE_UP };
static inline enum verdict verdict_worse(enum verdict a, enum verdict b) { return a > b ? a : b; }
enum verdict verdict_of_member(enum service_state state);
enum verdict verdict_of_partner(const struct supervised *s);

/* core_group.c */
uint16_t group_outer(const struct supervisor_state *state, uint16_t group); /* MANIFEST_NONE: it is in none */
bool group_within(const struct supervisor_state *state, uint16_t group, uint16_t outer); /* or is it */
/* What the other groups of its tree mean for a service. */
enum verdict verdict_of_tree(const struct supervisor_state *state, uint32_t i);
/* A death that counts. False: more than the policy of its group allows. */
bool group_count(struct step *step, uint32_t i);
void group_forget(struct supervisor_state *state, uint32_t i); /* what was counted in the groups of i */
/* The group of i fails because of it: it is stopped as a whole, all but i, with whoever the strategy of the group
 * around it says. False: there is none, or it has failed too often as well, up to the outermost. */
bool group_fail(struct step *step, uint32_t i, enum give_up_reason reason);

/* core_spare.c */
/* It serves: what stands by for it is to be made, if its manifest says so. */
void spare_due(struct step *step, uint32_t i);
void spare_on_tick(struct step *step, uint32_t i); /* RUNNING, and its deadline has come */
void spare_on_standby(struct step *step, uint32_t i, uint32_t generation);
void spare_on_death(struct step *step, uint32_t i, uint32_t generation);
/* The generation of the incarnation to be started; 0: they have run out. */
uint32_t spare_take(struct step *step, uint32_t i);
void spare_end(struct step *step, uint32_t i); /* whatever stands by for it, if anything does */
void spare_resume(struct step *step, uint32_t i);
/* Its program is to be another: that stands by first, then takes over. */
void version_update(struct step *step, uint32_t i, uint32_t program);
/* It failed: the previous version is its program again. False: there is none. */
bool version_roll_back(struct step *step, uint32_t i);
bool inv_spare(const struct supervisor_state *state, uint32_t i);

#endif
