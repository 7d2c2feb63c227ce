/* SPDX-License-Identifier: BSD-2-Clause
 * The page a process finds, read-only, at USER_STARTUP: who it is and which capabilities it was given.
 * Written by its creator (by the kernel for the supervisor). */
#ifndef COPPICE_ABI_STARTUP_H
#define COPPICE_ABI_STARTUP_H

#include "types.h"

#define STARTUP_MAGIC    0x50555452415453ul /* "STARTUP" */
#define STARTUP_VERSION  1
#define STARTUP_CAPS     40
#define STARTUP_NAME_MAX 24

struct startup_cap {             /* 40 bytes */
    char name[STARTUP_NAME_MAX]; /* "recovery", "supervisor", "pci", "port:0x3f8", "irq:4", ... */
    handle_t handle;
    uint64_t value; /* meaning by name: service index for services, base for ports */
};
struct startup {
    uint64_t magic;
    uint32_t version, cap_count;
    tag_t tag;
    uint32_t
        standby; /* 1: call SUPERVISOR_STANDBY before main: what is not given ahead has handle 0 until it returns */
    char name[STARTUP_NAME_MAX];
    uint64_t tsc_hz;
    char args[256]; /* the manifest's args string */
    struct startup_cap cap[STARTUP_CAPS];
};
/* Names of capabilities that every supervised process gets:
 *   "supervisor"  endpoint, calls; badge = tag
 *   "recovery"    endpoint, calls; badge = tag   (not recovery itself)
 *   "endpoint"    its own service endpoint, to receive (only if the manifest says endpoint = true)
 * By manifest: one entry named as the service for each entry of `calls` (endpoint, calls, badge = tag),
 *   for each `sessions` entry (handle 0, value = service index), "port:0x3f8", "irq:4", "trace" (READ|WRITE),
 *   "log" (WRITE), "inject", "root", "image" (READ), "events" .
 * The supervisor gets from the kernel: "root", "image", "trace", "inject". */

#endif
