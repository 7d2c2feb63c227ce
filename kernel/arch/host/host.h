/* SPDX-License-Identifier: BSD-2-Clause
 * What tests see and steer of the host port: a machine whose RAM is one mapping of the build machine,
 * whose clock moves only when told to, and whose devices are records. One machine a process: tests that
 * need a second one fork. Of several CPUs the test is one at a time (host_cpu); the others are in user mode, where
 * nobody may look at the registers of their threads (AddressSanitizer sees to it) before arch_stop. */
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
#define HOST_TLB         16u

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

struct host_page { /* an entry of a TLB */
    uint64_t va, pa;
    uint32_t prot;
};
struct host_cpu {
    uint64_t timer_deadline; /* ~0: off */
    struct process *space;   /* whose tables are loaded; NULL: the kernel's */
    bool kicked;             /* to call kernel_timer when the test comes to be this CPU */
    struct host_page tlb[HOST_TLB];
    unsigned tlb_next;
};

struct host {
    uint8_t *ram;
    uint64_t ram_bytes;
    uint64_t tsc;
    struct host_cpu cpu[CPUS_MAX];
    uint32_t here; /* the CPU that the test is */
    uint64_t timer_arms, space_switches, kicks, stops;
    bool deaf; /* arch_stop flushes nothing: tests that must notice */
    struct host_vector vector[HOST_VECTORS];
    uint32_t port_value[0x10000]; /* what a read returns */
    struct host_port_write port_last;
    uint64_t port_reads, port_writes;
    bool bus_master[0x10000];     /* by bdf */
    uint32_t decode;              /* bit n: function HOST_PCI_FIRST + 8n answers at its BARs */
    uint32_t iommu;               /* set before kernel_main: the machine has one */
    char log[HOST_LOG_BYTES + 1]; /* the debug port, from the last wrap; zero-terminated */
    size_t log_length;
};
extern struct host host;
extern uintptr_t host_stack_low; /* lowest stack address at which the port was asked for a frame's pointer */

/* Makes a machine with so many pages of RAM and one CPU (host_cpus: so many); the kernel is not started. */
void host_machine(uint64_t ram_pages);
void host_cpus(uint32_t count);
/* The test becomes this CPU, which answers first if it was kicked. */
void host_cpu(uint32_t id);
static inline struct host_cpu *host_here(void) { return &host.cpu[host.here]; }
/* The thread that runs here touches a page: the frame that it reaches, by the TLB or by the tables; 0: none. */
uint64_t host_touch(vaddr_t va, uint32_t prot);
/* No CPU that runs a thread could reach by its TLB what the tables do not say. */
bool host_tlbs_true(void);
/* What the CPU would find at va: the frame and rights, or v == 0 if not mapped. prot, device may be NULL. */
paddr_t host_translate(const struct process *p, vaddr_t va, uint32_t *prot, bool *device);
/* Frames that the tables of p take, the root included: by the port's account, and by walking them. */
uint64_t host_table_frames(const struct process *p);
uint64_t host_table_walk(const struct process *p);
/* Lets time pass; the timer interrupt fires at each deadline on the way, on the CPU it is for. */
void host_advance(uint64_t ticks);
/* A device's access: the frame and offset that it reaches, or v == 0: blocked (and reported, if it is watched). */
paddr_t host_dma(uint32_t bdf, iova_t at, bool write);
uint64_t host_iommu_drains(void);                         /* so far */
uint64_t host_domain_frames(const struct arch_domain *d); /* that its tables take */
/* An interrupt source raises its line: true if it got through to the kernel. */
bool host_irq_raise(enum irq_kind kind, uint32_t number_or_entry);
struct host_vector *host_irq_find(enum irq_kind kind, uint32_t number_or_entry); /* NULL: closed */

#endif
