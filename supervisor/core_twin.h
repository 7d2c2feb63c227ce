/* SPDX-License-Identifier: BSD-2-Clause
 * The core's state twice, so that the supervisor can be ended at any instruction of a step and its successor knows
 * what is true. A step is written down first, made on one state, carried out, then made on the other. The core
 * is a pure function: both come to the same. At each moment one of the two is between steps, and `done` says
 * which. No system call, no allocation. */
#ifndef COPPICE_SUPERVISOR_CORE_TWIN_H
#define COPPICE_SUPERVISOR_CORE_TWIN_H

#include "core.h"

struct twin {
    uint64_t steps;                /* written down */
    uint64_t done[2];              /* made on each state */
    struct supervisor_event event; /* the last written down */
    uint64_t now_ns;
    struct supervisor_state *state[2];
};

/* What was found of a twin whose supervisor fell. */
enum twin_found {
    TWIN_WHOLE,     /* between steps */
    TWIN_REPAIRED,  /* within a step, which has now been made as a whole */
    TWIN_DIFFERENT, /* the two differed although no step was under way; one that is possible was taken */
    TWIN_LOST,      /* neither state can be: nothing was changed */
};

/* Both states between steps and equal; copies the first, which was initialised. */
void twin_init(struct twin *t, struct supervisor_state *first, struct supervisor_state *second);
/* As supervisor_step, on the first state. To be followed by twin_follow, once the actions were carried out. */
size_t twin_step(struct twin *t, const struct supervisor_event *event, uint64_t now_ns,
                 struct supervisor_action *action, size_t max);
void twin_follow(struct twin *t, struct supervisor_action *scratch, size_t max);
/* Afterwards both are equal and the step that was written down last is made; its actions are lost, which
 * SUPERVISOR_EVENT_RESUME makes good. It may itself be ended anywhere, and made again. */
enum twin_found twin_recover(struct twin *t, const struct manifest *manifest,
                             struct supervisor_action *scratch, size_t max);

#endif
