/* SPDX-License-Identifier: BSD-2-Clause
 * Which call is made next, with which arguments: handles that are good, stale, of another type or made up.
 * Whoever includes it defines what chance is: random_next, below(n), chance(percent). */
#ifndef COPPICE_MODEL_CHOOSE_H
#define COPPICE_MODEL_CHOOSE_H

#include "tests/model/flights.h"

#define MAP_BASE USER_DYNAMIC
#define BUFFER   (USER_STACK_TOP - PAGE_SIZE) /* on the first stack: every process has it */

/* A handle of the caller: preferably of the type, sometimes any, stale or made up. */
static handle_t random_handle(enum object_type type)
{
    int best[64], n = 0, any[64], m = 0;
    unsigned how = (unsigned)below(100);
    if (how < 3) return random_next();
    if (how < 6) return HANDLE_MAKE(below(64), below(8));
    for (int i = 0; i < model.caps && n < 64; i++) {
        const struct model_cap *k = &model.cap[i];
        if (!k->live || k->process != me) continue;
        if (model.object[k->object].type == type) best[n++] = i;
        if (m < 64) any[m++] = i;
    }
    if (n && how > 12) return model.cap[best[below((uint64_t)n)]].handle;
    return m ? model.cap[any[below((uint64_t)m)]].handle : below(200);
}

/* A call's first handle: type, rights, and whether 0 means the caller itself. */
static const struct rule {
    enum object_type type;
    uint32_t rights;
    bool zero;
} rules[SYSCALL_COUNT] = {
    [SYS_call] = {OBJECT_ENDPOINT, RIGHT_WRITE, false},
    [SYS_reply_to] = {OBJECT_REPLY, RIGHT_WRITE, false},
    [SYS_signal] = {OBJECT_NOTIFICATION, RIGHT_WRITE, false},
    [SYS_wait] = {OBJECT_NOTIFICATION, RIGHT_READ, false},
    [SYS_signal_wait] = {OBJECT_NOTIFICATION, RIGHT_WRITE, false},
    [SYS_poll] = {OBJECT_NOTIFICATION, RIGHT_READ, false},
    [SYS_bind] = {OBJECT_NOTIFICATION, RIGHT_READ, true},
    [SYS_recv] = {OBJECT_ENDPOINT, RIGHT_READ, true},
    [SYS_reply_recv] = {OBJECT_ENDPOINT, RIGHT_READ, true},
    [SYS_reply_recv_snapshot] = {OBJECT_ENDPOINT, RIGHT_READ, true},
    [SYS_thread_create] = {OBJECT_PROCESS, RIGHT_MANAGE, true},
    [SYS_endpoint_info] = {OBJECT_ENDPOINT, 0, false},
    [SYS_memory_create] = {OBJECT_PROCESS, RIGHT_MANAGE, true},
    [SYS_memory_map] = {OBJECT_PROCESS, RIGHT_MANAGE, true},
    [SYS_memory_unmap] = {OBJECT_PROCESS, RIGHT_MANAGE, true},
    [SYS_process_create] = {OBJECT_MEMORY, RIGHT_READ | RIGHT_EXECUTE, false},
    [SYS_process_grant] = {OBJECT_PROCESS, RIGHT_MANAGE, false},
    [SYS_process_start] = {OBJECT_PROCESS, RIGHT_MANAGE, false},
    [SYS_process_kill] = {OBJECT_PROCESS, RIGHT_MANAGE, true},
    [SYS_process_destroy] = {OBJECT_PROCESS, RIGHT_MANAGE, false},
    [SYS_process_info] = {OBJECT_PROCESS, RIGHT_MANAGE, true},
    [SYS_event_bind] = {OBJECT_NOTIFICATION, RIGHT_WRITE, false},
    [SYS_irq_create] = {OBJECT_ROOT, 0, false},
    [SYS_irq_bind] = {OBJECT_IRQ, RIGHT_MANAGE, false},
    [SYS_irq_ack] = {OBJECT_IRQ, RIGHT_MANAGE, false},
    [SYS_ports_create] = {OBJECT_ROOT, 0, false},
    [SYS_port_in] = {OBJECT_PORTS, RIGHT_MANAGE, false},
    [SYS_timer_create] = {OBJECT_NOTIFICATION, RIGHT_WRITE, false},
    [SYS_timer_arm] = {OBJECT_TIMER, RIGHT_MANAGE, false},
    [SYS_dma_create] = {OBJECT_ROOT, 0, false},
    [SYS_dma_attach] = {OBJECT_DMA, RIGHT_MANAGE, false},
    [SYS_dma_map] = {OBJECT_DMA, RIGHT_MANAGE, false},
    [SYS_dma_unmap] = {OBJECT_DMA, RIGHT_MANAGE, false},
    [SYS_dma_reset_done] = {OBJECT_DMA, RIGHT_MANAGE, false},
    [SYS_dma_bus_master] = {OBJECT_DMA, RIGHT_MANAGE, false},
    [SYS_dma_decode] = {OBJECT_DMA, RIGHT_MANAGE, false},
    [SYS_inject] = {OBJECT_INJECT, 0, false},
};

/* How often each call is made, of some thousand. */
static const uint16_t weights[SYSCALL_COUNT] = {
    [SYS_null] = 5,           [SYS_call] = 90,
    [SYS_recv] = 60,          [SYS_reply_recv] = 60,
    [SYS_reply] = 40,         [SYS_reply_save] = 12,
    [SYS_reply_to] = 15,      [SYS_signal] = 40,
    [SYS_wait] = 12,          [SYS_signal_wait] = 12,
    [SYS_poll] = 20,          [SYS_bind] = 10,
    [SYS_yield] = 60,         [SYS_exit] = 3,
    [SYS_thread_create] = 8,  [SYS_cap_derive] = 60,
    [SYS_cap_revoke] = 10,    [SYS_cap_delete] = 60,
    [SYS_cap_info] = 20,      [SYS_endpoint_create] = 15,
    [SYS_endpoint_info] = 10, [SYS_notification_create] = 15,
    [SYS_memory_create] = 30, [SYS_memory_map] = 40,
    [SYS_memory_unmap] = 25,  [SYS_process_create] = 40,
    [SYS_process_grant] = 60, [SYS_process_start] = 40,
    [SYS_process_kill] = 4,   [SYS_process_destroy] = 10,
    [SYS_process_info] = 5,   [SYS_process_event] = 10,
    [SYS_event_bind] = 8,     [SYS_irq_create] = 8,
    [SYS_irq_bind] = 12,      [SYS_irq_ack] = 10,
    [SYS_ports_create] = 4,   [SYS_port_in] = 4,
    [SYS_timer_create] = 10,  [SYS_timer_arm] = 15,
    [SYS_clock] = 3,          [SYS_dma_create] = 8,
    [SYS_dma_attach] = 15,    [SYS_dma_map] = 20,
    [SYS_dma_unmap] = 8,      [SYS_dma_reset_done] = 12,
    [SYS_dma_bus_master] = 8, [SYS_inject] = 6,
    [SYS_dma_decode] = 5,     [SYS_reply_recv_snapshot] = 30,
};

static unsigned random_number(void)
{
    static unsigned total;
    for (unsigned i = 0; !total && i < SYSCALL_COUNT; i++)
        for (unsigned k = 0; k <= i; k++) total += i == SYSCALL_COUNT - 1 ? weights[k] : 0;
    uint64_t at = below(total);
    unsigned n = 0;
    while (at >= weights[n]) at -= weights[n++];
    return n;
}

static uint64_t random_rights(void)
{
    return chance(50) ? RIGHTS_ALL & random_next() : chance(70) ? GRANTABLE : RW;
}
static uint64_t random_page(void) { return MAP_BASE + below(24) * (chance(95) ? PAGE_SIZE : 0x200000); }

static void arguments_ipc(struct call *c)
{
    unsigned caps = chance(25) ? (unsigned)below(3) + 1 : 0;
    c->a[1] = INFO_MAKE(below(100), caps) | (chance(60) ? INFO_REPLAYABLE : 0);
    for (unsigned i = 0; i < MESSAGE_WORDS; i++) c->a[2 + i] = random_next();
    for (unsigned i = MESSAGE_WORDS - caps; i < MESSAGE_WORDS; i++)
        c->a[2 + i] = random_handle((enum object_type)(1 + below(OBJECT_TYPES - 1)));
    if (c->number == SYS_call) c->a[2] = ++last_id;
}

static void arguments_objects(struct call *c)
{
    switch (c->number) {
    case SYS_cap_derive:
    case SYS_cap_revoke:
    case SYS_cap_delete:
    case SYS_cap_info:
        c->a[0] = random_handle((enum object_type)(1 + below(OBJECT_TYPES - 1)));
        c->a[1] = random_rights();
        c->a[2] = chance(50) ? 0 : below(1000);
        break;
    case SYS_thread_create: c->a[1] = ELF_TEXT, c->a[2] = USER_STACK_TOP; break;
    case SYS_memory_create:
        c->a[1] = below(14);
        c->a[2] = chance(60) ? 0 : below(8);
        break;
    case SYS_memory_map:
        c->a[1] = random_handle(OBJECT_MEMORY);
        c->a[2] = random_page();
        c->a[3] = chance(70) ? 0 : below(6);
        c->a[4] = 1 + below(4);
        c->a[5] = chance(80) ? (chance(50) ? RW : RIGHT_READ) : below(16);
        break;
    case SYS_memory_unmap: c->a[1] = random_page(); break;
    case SYS_process_create:
        c->a[1] = chance(95) ? IMAGE_FILE : below(4) * PAGE_SIZE;
        c->a[2] = chance(95) ? ELF_FILE_BYTES : below(4 * PAGE_SIZE);
        c->a[3] = 14 + below(60);
        c->a[4] = TAG_MAKE(below(8), 1);
        c->a[5] = chance(90) ? TEST_SCHED : SCHED_MAKE(30 + below(2), below(4) * 500, 1000 + below(2) * 500);
        c->a[6] = chance(40) ? PROCESS_KEPT : 0;
        break;
    case SYS_process_grant:
        c->a[1] = random_handle((enum object_type)(1 + below(OBJECT_TYPES - 1)));
        c->a[2] = random_rights();
        c->a[3] = below(1000);
        break;
    case SYS_process_kill: c->a[1] = chance(90) ? CAUSE_KILLED : below(300); break;
    case SYS_process_info: c->a[1] = chance(90) ? BUFFER : random_page(); break;
    case SYS_process_event: c->a[0] = chance(90) ? BUFFER : random_page(); break;
    default: break;
    }
}

static void arguments_hardware(struct call *c)
{
    switch (c->number) {
    case SYS_irq_create: c->a[2] = below(HOST_GSIS + 2); break;
    case SYS_irq_bind:
        c->a[1] = random_handle(OBJECT_NOTIFICATION);
        c->a[2] = below(8);
        break;
    case SYS_ports_create: c->a[1] = below(0x400), c->a[2] = below(16); break;
    case SYS_port_in: c->a[1] = below(16) | (1ul << below(3)) << 16; break;
    case SYS_timer_arm: c->a[1] = chance(20) ? 0 : time_ns(host.tsc) + below(5000); break;
    case SYS_dma_create: c->a[1] = HOST_PCI_FIRST + 8 * below(5); break;
    case SYS_dma_map:
        c->a[1] = random_handle(OBJECT_MEMORY);
        c->a[2] = below(3);
        c->a[3] = 1 + below(4);
        c->a[4] = RW;
        break;
    case SYS_dma_unmap: c->a[1] = HOST_RAM_BASE + below(HOST_RAM_PAGES) * PAGE_SIZE; break;
    case SYS_dma_decode:
    case SYS_dma_bus_master: c->a[1] = below(2); break;
    case SYS_inject:
        c->a[1] = random_handle(OBJECT_PROCESS);
        c->a[2] = below(8);
        c->a[3] = c->a[2] == INJECT_POKE || c->a[2] == INJECT_PEEK ? ELF_DATA + below(0x3000) : below(20);
        c->a[4] = below(INJECT_ACTIONS);
        c->a[5] = below(9);
        if (c->a[2] == INJECT_MAP) c->a[2] = INJECT_PEEK; /* mappings come by memory_map here */
        break;
    default: break;
    }
}

static struct call random_call(void)
{
    static const unsigned answers[] = {SYS_reply, SYS_reply, SYS_reply_recv, SYS_reply_recv, SYS_reply_save};
    struct call c = {.number = current()->client && chance(50) ? answers[below(5)] : random_number()};
    const struct rule *r = &rules[c.number];
    if (r->type) c.a[0] = r->zero && chance(40) ? 0 : random_handle(r->type);
    switch (c.number) {
    case SYS_call:
    case SYS_reply:
    case SYS_reply_recv:
    case SYS_reply_recv_snapshot:
    case SYS_reply_to: arguments_ipc(&c); break;
    case SYS_signal_wait: c.a[2] = random_handle(OBJECT_NOTIFICATION); /* fall through */
    case SYS_signal:
    case SYS_event_bind:
    case SYS_timer_create: c.a[1] = below(16); break;
    default: arguments_objects(&c); arguments_hardware(&c);
    }
    return c;
}

#endif
