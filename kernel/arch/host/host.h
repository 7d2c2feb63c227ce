/* SPDX-License-Identifier: BSD-2-Clause
 * What tests see and steer of the host port: a machine whose RAM is one mapping of the build machine,
 * whose clock moves only when told to, and whose devices are records. One machine a process: tests that
 * need a second one fork. */
#ifndef COPPICE_HOST_H
#define COPPICE_HOST_H

#include "../arch.h"

#define HOST_RAM_BASE    0x200000ul   /* physical address of the first byte of RAM */
#define HOST_TSC_HZ      1000000000ul /* a tick is a nanosecond */
#define HOST_TSC_BOOT    5000ul
#define HOST_GSIS        24u
#define HOST_MSIX_TABLE  2048u
#define HOST_VECTOR_BASE 0x30u
#define HOST_VECTORS     32u
#define HOST_DEVICE_BASE 0xe0000000ul /* where device memory may be made */
#define HOST_PCI_FIRST   0x10u        /* functions 0x10, 0x18, 0x20 and 0x28 exist */
#define HOST_PCI_LAST    0x28u
#define HOST_EXIT_OFF    40 /* exit code of a test whose kernel powered off, and rebooted */
#define HOST_EXIT_REBOOT 41
#define HOST_LOG_BYTES   65536u

struct host_vector { /* one opened interrupt source; transitions: arch_irq_* */
    enum { HOST_IRQ_CLOSED, HOST_IRQ_MASKED, HOST_IRQ_OPEN } state;
    uint8_t kind;
    uint32_t number, entry;
    uint64_t table;
};
struct host_port_write {
    uint16_t port;
    uint32_t width, value;
};

struct host {
    uint8_t *ram;
    uint64_t ram_bytes;
    uint64_t tsc;
    uint64_t timer_deadline; /* ~0: off */
    uint64_t timer_arms;
    struct process *space; /* whose tables are loaded; NULL: the kernel's */
    uint64_t space_switches;
    struct host_vector vector[HOST_VECTORS];
    uint32_t port_value[0x10000]; /* what a read returns */
    struct host_port_write port_last;
    uint64_t port_reads, port_writes;
    bool bus_master[0x10000];     /* by bdf */
    char log[HOST_LOG_BYTES + 1]; /* the debug port, from the last wrap; zero-terminated */
    size_t log_length;
};
extern struct host host;
extern uintptr_t host_stack_low; /* lowest stack address at which the port was asked for a frame's pointer */

/* Makes a machine with so many pages of RAM; the kernel is not started. */
void host_machine(uint64_t ram_pages);
/* What the CPU would find at va: the frame and rights, or v == 0 if not mapped. prot, device may be NULL. */
paddr_t host_translate(const struct process *p, vaddr_t va, uint32_t *prot, bool *device);
/* Frames that the tables of p take, the root included. */
uint64_t host_table_frames(const struct process *p);
/* Lets time pass; the timer interrupt fires at each deadline on the way. */
void host_advance(uint64_t ticks);
/* An interrupt source raises its line: true if it got through to the kernel. */
bool host_irq_raise(enum irq_kind kind, uint32_t number_or_entry);
struct host_vector *host_irq_find(enum irq_kind kind, uint32_t number_or_entry); /* NULL: closed */

#endif
