/* SPDX-License-Identifier: BSD-2-Clause
 * What lib/sys.h, lib/runtime.h and lib/atomic.h are in the simulator: every access to shared memory and
 * every system call is a step (sim.h, process_step) at which the process may be preempted, killed or hung. To be
 * included before the library's sources. */
#ifndef COPPICE_TESTS_SIM_USER_H
#define COPPICE_TESTS_SIM_USER_H

#include <string.h>
#include "sim.h"

#define COPPICE_LIB_ATOMIC_H
#define shared_load(p)     (process_step(), *(p))
#define shared_store(p, v) (process_step(), (void)(*(p) = (v)))
#define shared_or(p, bits) (process_step(), (void)(*(p) |= (bits)))
#define shared_take(p)     (process_step(), user_take(p))
#define memory_fence()     process_step()
static inline uint64_t user_take(uint64_t *p)
{
    uint64_t v = *p;

    *p = 0;
    return v;
}

#define COPPICE_LIB_SYS_H
#define COPPICE_LIB_RUNTIME_H
#include "abi/startup.h"
#include "abi/syscall.h"
struct sys_result {
    status_t status;
    uint64_t value, value1;
};

const struct startup *startup(void);
const struct startup_cap *cap_entry(const char *name);
handle_t cap_find(const char *name);
status_t map_new(handle_t memory, uint64_t pages, uint32_t prot, void **out) MUST_USE;
status_t service_call(handle_t endpoint, uint16_t label, struct message *m) MUST_USE;
status_t sys_recv(handle_t endpoint, struct message *m);
status_t sys_signal(handle_t notification, uint64_t bits);
struct sys_result sys_wait(handle_t notification);
struct sys_result sys_signal_wait(handle_t notification, uint64_t bits, handle_t own);
struct sys_result sys_poll(handle_t notification);
status_t sys_memory_unmap(handle_t process, uint64_t at);

static inline status_t sys_reply_recv(handle_t endpoint, struct message *m) { return sys_recv(endpoint, m); }
static inline status_t sys_reply(struct message *m) { return m ? OK : E_STATE; }
static inline status_t sys_bind(handle_t n) { return n ? OK : E_HANDLE; }
static inline status_t sys_trace_mark(handle_t t, uint32_t mark, uint64_t value)
{
    (void)t, (void)mark, (void)value;
    process_step();
    return OK;
}
static inline uint64_t clock_ns(void) { return world.now_ns; }
static inline status_t sys_cap_delete(handle_t h) { return h ? OK : E_HANDLE; }
static inline struct sys_result sys_notification_create(tag_t tag)
{
    return (struct sys_result){OK, HANDLE_NOTIFICATION + TAG_SERVICE(tag), 0};
}
static inline struct sys_result sys_cap_derive(handle_t h, uint32_t rights, uint64_t badge)
{
    (void)rights, (void)badge;
    return (struct sys_result){OK, h, 0};
}
static inline void log_line(const char *text, ...) { (void)text; }
static inline void fatal(const char *text, ...)
{
    (void)text;
    process_exit(1);
}

#endif
