/* SPDX-License-Identifier: BSD-2-Clause
 * What makes a step cost as much as it affects, and not as much as there are services: sets of services, who
 * depends on whom, and the deadlines in order. Inside the core only. */
#ifndef COPPICE_SUPERVISOR_CORE_INDEX_H
#define COPPICE_SUPERVISOR_CORE_INDEX_H

#include "core.h"

#define SET_NONE 0u /* the supervisor itself is in no set */

void set_add(struct service_set *set, uint32_t i);
void set_remove(struct service_set *set, uint32_t i);
bool set_has(const struct service_set *set, uint32_t i);
uint32_t set_after(const struct service_set *set, uint32_t i); /* the lowest above i, or SET_NONE */
uint32_t set_highest(const struct service_set *set);           /* or SET_NONE */

/* Edges backwards, members of groups, deadlines: of a state whose services are filled in. */
void index_init(struct supervisor_state *state);
/* The first member of the group of i if that is one_for_all, else SET_NONE; next_member leads on. */
uint32_t index_first_of_all(const struct supervisor_state *state, uint32_t i);
/* The state of i is another one: adds to stale whoever's verdict may change with it. While all serve that is nobody, however
 * many depend on it. */
void index_entered(struct supervisor_state *state, uint32_t i);
/* A verdict may move a service that is in this state. */
bool index_is_idle(enum service_state state);
/* Adds to marked all that restart with i, directly or through others; i itself aside. */
void index_followers(struct supervisor_state *state, uint32_t i);

void deadline_set(struct supervisor_state *state, uint32_t i, uint64_t ns); /* SUPERVISOR_NEVER: none */
uint32_t deadline_first(const struct supervisor_state *state);              /* or SET_NONE */

#endif
