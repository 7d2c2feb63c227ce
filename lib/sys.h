/* SPDX-License-Identifier: BSD-2-Clause
 * System calls as C functions. `sys` passes up to ten words and returns status and results; everything
 * else is a wrapper. Register convention: abi/syscalls.def. */
#ifndef COPPICE_LIB_SYS_H
#define COPPICE_LIB_SYS_H

#include "../abi/syscall.h"

struct message {    /* one IPC message, or one call's results */
    uint64_t badge; /* in: handle; out: badge or signal bits */
    uint64_t info;
    uint64_t w[MESSAGE_WORDS];
};

/* The raw call: m->badge, info, w are loaded into rdi, rsi, w0..w7 and all are written back. */
static inline status_t sys_raw(uint64_t number, struct message *m)
{
    register uint64_t w1 __asm__("r10") = m->w[1];
    register uint64_t w2 __asm__("r8") = m->w[2];
    register uint64_t w3 __asm__("r9") = m->w[3];
    register uint64_t w4 __asm__("r12") = m->w[4];
    register uint64_t w5 __asm__("r13") = m->w[5];
    register uint64_t w6 __asm__("r14") = m->w[6];
    register uint64_t w7 __asm__("r15") = m->w[7];
    uint64_t status = number;
    __asm__ volatile("syscall"
                     : "+a"(status), "+D"(m->badge), "+S"(m->info), "+d"(m->w[0]), "+r"(w1), "+r"(w2),
                       "+r"(w3), "+r"(w4), "+r"(w5), "+r"(w6), "+r"(w7)
                     :
                     : "rcx", "r11", "memory");
    m->w[1] = w1;
    m->w[2] = w2;
    m->w[3] = w3;
    m->w[4] = w4;
    m->w[5] = w5;
    m->w[6] = w6;
    m->w[7] = w7;
    return (status_t)status;
}

/* Calls other than IPC: seven arguments (handle, info, w0..w4); w0 and w1 out. Registers that the call
 * does not use are preserved by the kernel, except rcx and r11. */
struct sys_result {
    status_t status;
    uint64_t value, value1;
};
static inline struct sys_result sys(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                                    uint64_t e, uint64_t f)
{
    register uint64_t r10 __asm__("r10") = d;
    register uint64_t r8 __asm__("r8") = e;
    register uint64_t r9 __asm__("r9") = f;
    uint64_t status = number;
    __asm__ volatile("syscall"
                     : "+a"(status), "+D"(a), "+S"(b), "+d"(c), "+r"(r10)
                     : "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return (struct sys_result){(status_t)status, c, r10};
}

static inline status_t sys_null(void) { return sys(SYS_null, 0, 0, 0, 0, 0, 0).status; }
static inline status_t sys_call(handle_t endpoint, struct message *m)
{
    m->badge = endpoint;
    return sys_raw(SYS_call, m);
}
static inline status_t sys_recv(handle_t endpoint, struct message *m)
{
    m->badge = endpoint;
    return sys_raw(SYS_recv, m);
}
static inline status_t sys_reply_recv(handle_t endpoint, struct message *m)
{
    m->badge = endpoint;
    return sys_raw(SYS_reply_recv, m);
}
static inline status_t sys_reply_recv_snapshot(handle_t endpoint, struct message *m)
{
    m->badge = endpoint;
    return sys_raw(SYS_reply_recv_snapshot, m);
}
static inline status_t sys_reply(struct message *m) { return sys_raw(SYS_reply, m); }
static inline struct sys_result sys_reply_save(void) { return sys(SYS_reply_save, 0, 0, 0, 0, 0, 0); }
static inline status_t sys_reply_to(handle_t reply, struct message *m)
{
    m->badge = reply;
    return sys_raw(SYS_reply_to, m);
}
static inline status_t sys_signal(handle_t n, uint64_t bits)
{
    return sys(SYS_signal, n, bits, 0, 0, 0, 0).status;
}
static inline struct sys_result sys_wait(handle_t n) { return sys(SYS_wait, n, 0, 0, 0, 0, 0); }
static inline struct sys_result sys_signal_wait(handle_t n, uint64_t bits, handle_t own)
{
    return sys(SYS_signal_wait, n, bits, own, 0, 0, 0);
}
static inline struct sys_result sys_poll(handle_t n) { return sys(SYS_poll, n, 0, 0, 0, 0, 0); }
static inline status_t sys_bind(handle_t n) { return sys(SYS_bind, n, 0, 0, 0, 0, 0).status; }
static inline void sys_yield(void) { (void)sys(SYS_yield, 0, 0, 0, 0, 0, 0); }
static inline __attribute__((noreturn)) void sys_exit(uint64_t code)
{
    for (;;) (void)sys(SYS_exit, code, 0, 0, 0, 0, 0);
}
static inline struct sys_result sys_thread_create(handle_t process, uint64_t entry, uint64_t stack_top,
                                                  uint64_t arg)
{
    return sys(SYS_thread_create, process, entry, stack_top, arg, 0, 0);
}

static inline struct sys_result sys_cap_derive(handle_t h, uint32_t rights, uint64_t badge)
{
    return sys(SYS_cap_derive, h, rights, badge, 0, 0, 0);
}
static inline status_t sys_cap_revoke(handle_t h) { return sys(SYS_cap_revoke, h, 0, 0, 0, 0, 0).status; }
static inline status_t sys_cap_delete(handle_t h) { return sys(SYS_cap_delete, h, 0, 0, 0, 0, 0).status; }

static inline struct sys_result sys_endpoint_create(tag_t tag)
{
    return sys(SYS_endpoint_create, tag, 0, 0, 0, 0, 0);
}
static inline status_t sys_endpoint_info(handle_t e, struct message *m)
{
    m->badge = e;
    return sys_raw(SYS_endpoint_info, m);
}
static inline struct sys_result sys_notification_create(tag_t tag)
{
    return sys(SYS_notification_create, tag, 0, 0, 0, 0, 0);
}
static inline struct sys_result sys_memory_create(handle_t account, uint64_t pages, uint32_t flags)
{
    return sys(SYS_memory_create, account, pages, flags, 0, 0, 0);
}
static inline struct sys_result sys_memory_create_device(handle_t root, paddr_t p, uint64_t pages)
{
    return sys(SYS_memory_create_device, root, p.v, pages, 0, 0, 0);
}
static inline status_t sys_memory_map(handle_t process, handle_t memory, uint64_t vaddr,
                                      uint64_t offset_pages, uint64_t pages, uint32_t prot)
{
    return sys(SYS_memory_map, process, memory, vaddr, offset_pages, pages, prot).status;
}
static inline status_t sys_memory_unmap(handle_t process, uint64_t vaddr)
{
    return sys(SYS_memory_unmap, process, vaddr, 0, 0, 0, 0).status;
}
static inline struct sys_result sys_memory_info(handle_t m) { return sys(SYS_memory_info, m, 0, 0, 0, 0, 0); }

static inline struct sys_result sys_cap_next(handle_t h) { return sys(SYS_cap_next, h, 0, 0, 0, 0, 0); }

/* cpus: bit n for CPU n (none: all that the caller may use), and PROCESS_KEPT. */
static inline struct sys_result sys_process_create(handle_t image, uint64_t offset, uint64_t length,
                                                   uint64_t quota_pages, tag_t tag, uint64_t sched,
                                                   uint64_t cpus)
{
    struct message m = {image, offset, {length, quota_pages, tag, sched, cpus}};
    status_t status = sys_raw(SYS_process_create, &m);
    return (struct sys_result){status, m.w[0], m.w[1]};
}
static inline struct sys_result sys_process_grant(handle_t process, handle_t h, uint32_t rights,
                                                  uint64_t badge)
{
    return sys(SYS_process_grant, process, h, rights, badge, 0, 0);
}
static inline status_t sys_process_start(handle_t process, uint64_t arg)
{
    return sys(SYS_process_start, process, arg, 0, 0, 0, 0).status;
}
static inline status_t sys_process_again(handle_t process, uint64_t arg, tag_t tag) /* one that fell */
{
    return sys(SYS_process_start, process, arg, tag, 0, 0, 0).status;
}
static inline status_t sys_process_kill(handle_t process, enum cause cause)
{
    return sys(SYS_process_kill, process, cause, 0, 0, 0, 0).status;
}
static inline status_t sys_process_destroy(handle_t process)
{
    return sys(SYS_process_destroy, process, 0, 0, 0, 0, 0).status;
}
static inline status_t sys_process_info(handle_t process, struct process_info *i)
{
    return sys(SYS_process_info, process, (uint64_t)i, 0, 0, 0, 0).status;
}
static inline status_t sys_process_event(struct process_event *e)
{
    return sys(SYS_process_event, (uint64_t)e, 0, 0, 0, 0, 0).status;
}
static inline status_t sys_event_bind(handle_t n, uint64_t bits)
{
    return sys(SYS_event_bind, n, bits, 0, 0, 0, 0).status;
}

static inline struct sys_result sys_irq_create(handle_t root, enum irq_kind kind, uint32_t number,
                                               handle_t table, uint32_t entry, uint32_t limit)
{
    return sys(SYS_irq_create, root, kind, number, table, entry, limit);
}
static inline status_t sys_irq_bind(handle_t irq, handle_t n, uint64_t bits)
{
    return sys(SYS_irq_bind, irq, n, bits, 0, 0, 0).status;
}
static inline status_t sys_irq_ack(handle_t irq) { return sys(SYS_irq_ack, irq, 0, 0, 0, 0, 0).status; }
static inline struct sys_result sys_ports_create(handle_t root, uint16_t base, uint32_t count)
{
    return sys(SYS_ports_create, root, base, count, 0, 0, 0);
}
static inline struct sys_result sys_port_in(handle_t ports, uint32_t offset, uint32_t width, uint8_t *value,
                                            uint32_t *index_at, uint32_t index)
{
    return sys(SYS_port_in, ports, offset | width << 16, (uint64_t)value, (uint64_t)index_at, index, 0);
}
static inline status_t sys_port_out(handle_t ports, uint32_t offset, uint32_t width, uint32_t value,
                                    uint32_t *index_at, uint32_t index)
{
    return sys(SYS_port_out, ports, offset | width << 16, value, (uint64_t)index_at, index, 0).status;
}
static inline struct sys_result sys_timer_create(handle_t n, uint64_t bits)
{
    return sys(SYS_timer_create, n, bits, 0, 0, 0, 0);
}
static inline status_t sys_timer_arm(handle_t t, uint64_t deadline_ns)
{
    return sys(SYS_timer_arm, t, deadline_ns, 0, 0, 0, 0).status;
}
static inline struct sys_result sys_clock(void) { return sys(SYS_clock, 0, 0, 0, 0, 0, 0); }

static inline struct sys_result sys_dma_create(handle_t root, uint32_t bdf)
{
    return sys(SYS_dma_create, root, bdf, 0, 0, 0, 0);
}
static inline status_t sys_dma_attach(handle_t d) { return sys(SYS_dma_attach, d, 0, 0, 0, 0, 0).status; }
static inline struct sys_result sys_dma_map(handle_t d, handle_t memory, uint64_t offset_pages,
                                            uint64_t pages, uint32_t prot)
{
    return sys(SYS_dma_map, d, memory, offset_pages, pages, prot, 0);
}
static inline status_t sys_dma_unmap(handle_t d, iova_t iova)
{
    return sys(SYS_dma_unmap, d, iova.v, 0, 0, 0, 0).status;
}
static inline status_t sys_dma_reset_done(handle_t d)
{
    return sys(SYS_dma_reset_done, d, 0, 0, 0, 0, 0).status;
}
static inline status_t sys_dma_decode(handle_t d, bool on)
{
    return sys(SYS_dma_decode, d, on, 0, 0, 0, 0).status;
}
static inline status_t sys_dma_bus_master(handle_t d, bool on)
{
    return sys(SYS_dma_bus_master, d, on, 0, 0, 0, 0).status;
}

static inline status_t sys_trace_mark(handle_t trace, uint32_t mark, uint64_t value)
{
    return sys(SYS_trace_mark, trace, mark, value, 0, 0, 0).status;
}
static inline status_t sys_log(handle_t trace, const char *text, size_t length)
{
    return sys(SYS_log, trace, (uint64_t)text, length, 0, 0, 0).status;
}
static inline struct sys_result sys_inject(handle_t inject, handle_t process, enum inject_op op, uint64_t a,
                                           uint64_t b, uint64_t c)
{
    return sys(SYS_inject, inject, process, op, a, b, c);
}
static inline status_t sys_system(handle_t root, enum system_op op)
{
    return sys(SYS_system, root, op, 0, 0, 0, 0).status;
}
static inline status_t sys_system_info(struct system_info *i)
{
    return sys(SYS_system_info, (uint64_t)i, 0, 0, 0, 0, 0).status;
}

#endif
