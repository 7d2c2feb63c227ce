/* SPDX-License-Identifier: BSD-2-Clause
 * The services of the system as the injector sees them, through the supervisor. */
#ifndef COPPICE_INJECTOR_TARGET_H
#define COPPICE_INJECTOR_TARGET_H

#include "abi/manifest.h"
#include "lib/runtime.h"

#define TARGETS_MAX 64u
#define TARGET_NONE (~0u)

struct target {
    char name[MANIFEST_NAME_MAX];
    uint32_t state, flags; /* enum service_state, enum service_flags */
    uint64_t generation;
    uint64_t recovery_ns; /* the last one's, from death to READY */
};

/* One row now; E_NOT_FOUND past the end. */
status_t target_read(uint32_t service, struct target *out) MUST_USE;
uint32_t target_find(const char *name); /* service index or TARGET_NONE */
/* Nothing is on its way: every service runs, or is down for good. */
bool targets_settled(void);
/* The process capability of the running incarnation: to be deleted after use. */
status_t target_process(uint32_t service, handle_t *out) MUST_USE;
status_t target_reset(const char *name) MUST_USE; /* svc reset */
status_t target_kill(const char *name) MUST_USE;  /* as an operator would */
void targets_log(void);                           /* one JSON line a service */

#endif
