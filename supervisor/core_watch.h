/* SPDX-License-Identifier: BSD-2-Clause
 * Is a service that is silent dead? Pure: what the shell reads from the kernel goes in, a verdict comes out. Two
 * questions, asked one after the other: has the endpoint stood still for as long as its watchdog allows
 * (watch_stalled), and is the process to blame for that (watch_hang)?
 * Looks are counted, not time: after the whole machine stood still, only one look was missed and the service
 * gets to run before the next. */
#ifndef COPPICE_SUPERVISOR_CORE_WATCH_H
#define COPPICE_SUPERVISOR_CORE_WATCH_H

#include "abi/types.h"

#define WATCH_LOOKS_PER_WATCHDOG 2
#define WATCH_HANG_CPU_US        500u         /* far more than any driver needs to answer */
#define WATCH_HANG_INTERRUPTIONS 4u           /* what makes those microseconds believable */
#define WATCH_SUSPICION_NS       100000000ull /* then it starts anew, */
#define WATCH_SILENCE_NS         30000000ull /* and if nobody suspected it for so long: it has answered meanwhile */

struct watch { /* progress of the calls on a service's endpoint; zeroed for each incarnation */
    uint64_t served;
    uint32_t strikes; /* looks in a row at pending calls with nothing answered in between */
    bool pending;
};
struct watch_look {           /* what the endpoint says */
    uint64_t waiting, served; /* calls queued or taken; calls answered so far */
};
/* One look, period_ns after the last. True: stalled for as long as watchdog_ns allows. */
bool watch_stalled(struct watch *w, const struct watch_look *look, uint64_t period_ns, uint64_t watchdog_ns);

struct suspicion { /* of hanging: it waits for the CPU, so it gets some first */
    uint32_t generation;
    uint64_t since_ns, last_ns, cpu_ticks, interruptions;
};
struct vitals { /* what the kernel says of its process */
    uint32_t generation;
    uint64_t runnable, cpu_ticks; /* threads that run or wait for the CPU only; time it has had so far */
    uint64_t
        interruptions; /* how often its CPU looked up from it: each look makes it, if it runs elsewhere */
};
/* A process that waits for the CPU is not to blame for its silence: it may have lost its priority when the host
 * stood still, or something more urgent runs. It is believed to hang when nothing of it is runnable, or when it
 * has had WATCH_HANG_CPU_US since it was first suspected, in WATCH_HANG_INTERRUPTIONS pieces: one CPU of a virtual
 * machine may stand still while the others go on, and the time that this takes is charged to whoever runs there.
 * NULL: it has no process. */
bool watch_hang(struct suspicion *s, const struct vitals *v, uint64_t now_ns, uint64_t ticks_per_us);

#endif
