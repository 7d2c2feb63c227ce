/* SPDX-License-Identifier: BSD-2-Clause
 * The hardware side of the kernel: all that portable code asks of a port, and what a port calls in it.
 * Two ports: x86_64 (the machine) and host (unit, model and fuzz tests on the build machine). The kernel
 * runs with interrupts off and under one lock; it never blocks; a thread has no kernel stack. */
#ifndef COPPICE_KERNEL_ARCH_H
#define COPPICE_KERNEL_ARCH_H

#include "../../abi/types.h"
#include "../../abi/status.h"
#include "../context.h"

struct cpu;
struct process;
struct thread;
struct handoff;

/* --- Processors ------------------------------------------------------------------------------- */
#define CPUS_MAX 8u
struct cpu *arch_cpu(void); /* this CPU's structure (kernel/sched.h); x86_64: at gs:0 */
uint64_t arch_tsc(void);
void arch_timer_arm(uint64_t tsc_deadline); /* one-shot on this CPU; a past deadline fires at once; ~0: off */
void arch_lock(void);                       /* the kernel lock; taken by the port's entry code */
void arch_unlock(void);
void arch_kick(struct cpu *c); /* another CPU calls kernel_timer soon */
/* Bit n: cpus[n], not this one. When it returns each of them waits for the lock: the registers of the thread it
 * runs are in that thread's context, and its TLB has nothing of a process. leave: with the kernel's own
 * tables loaded. A CPU whose `current` was taken away meanwhile only chooses anew (kernel_resume). */
void arch_stop(uint32_t mask, bool leave);

/* --- Physical memory and address spaces -------------------------------------------------------- */
void *arch_direct(paddr_t p);             /* kernel pointer to RAM */
paddr_t arch_direct_paddr(const void *p); /* its inverse */
/* Tables are frames charged to the process (frame_alloc). prepare makes all tables that mapping
 * [va, va+pages) needs, so that map cannot fail. prot: rights READ/WRITE/EXECUTE. */
status_t arch_space_create(struct process *p) MUST_USE;
void arch_space_destroy(struct process *p); /* frees every table frame */
status_t arch_space_prepare(struct process *p, vaddr_t va, uint64_t pages) MUST_USE;
void arch_space_map(struct process *p, vaddr_t va, paddr_t pa, uint32_t prot, bool device);
void arch_space_unmap(struct process *p, vaddr_t va, uint64_t pages); /* and flushes this CPU's TLB */
bool arch_space_writable(struct process *p, vaddr_t va);              /* of a mapped page */
void arch_space_protect(struct process *p, vaddr_t va, bool write);   /* and flushes this CPU's TLB */
void arch_space_switch(struct process *p);

/* --- Register state ----------------------------------------------------------------------------- */
void arch_context_init(struct context *c, uint64_t entry, uint64_t stack_top, uint64_t arg);
void arch_context_step(struct context *c, bool on); /* trap after each user instruction */
#define ARCH_BREAKPOINT 0xccu /* the one byte of a breakpoint instruction; rip is then behind it */
void arch_context_jump(struct context *c, uint64_t target);
uint64_t arch_context_rip(const struct context *c);
void arch_context_again(
    struct context *c); /* after a system call: it is made again when the thread resumes */

/* --- Interrupts ---------------------------------------------------------------------------------- */
struct irq_line {   /* the port's hold on one interrupt source */
    uint8_t vector; /* index given to kernel_irq */
    uint8_t kind;   /* enum irq_kind */
    uint16_t entry;
    uint32_t gsi;
    volatile uint32_t *msix; /* the MSI-X table entry, kernel mapping */
};
/* Allocates a vector and programs the source, masked. E_BUSY: the source is taken; E_NO_SLOTS: vectors
 * ran out; E_ARGUMENT: no such source. table: physical address of the MSI-X table (entry 0). */
status_t arch_irq_open(struct irq_line *line, enum irq_kind kind, uint32_t number, paddr_t table,
                       uint32_t entry) MUST_USE;
void arch_irq_mask(struct irq_line *line);
void arch_irq_unmask(struct irq_line *line);
void arch_irq_close(struct irq_line *line); /* masks, frees the vector */

/* --- IOMMU: used only if arch_platform.iommu ------------------------------------------------------ */
/* A domain is what one PCI function may reach: nothing, then what was mapped into its window of addresses.
 * Tables are frames charged to the payer, the same from the first prepare to drain. prepare makes all tables
 * that mapping [at, at+pages) needs, so that map cannot fail. */
#define IOVA_WINDOW(id)   ((256ul + (id)) << 30) /* differs by domain, and is nobody's physical address */
#define IOVA_WINDOW_BYTES (1ul << 30)
struct arch_domain; /* kernel/arch/PORT/regs.h; has the domain's id */
void arch_iommu_start(
    void); /* once frames can be had: nothing reaches memory from now; sets arch_platform.iommu */
/* Silent: accesses are blocked, nobody hears of it. E_UNSUPPORTED: no unit serves this function; E_NO_SLOTS; E_QUOTA: the first process pays for tables of a
 * bus, once. */
status_t arch_iommu_open(struct arch_domain *d, uint32_t bdf) MUST_USE;
void arch_iommu_close(struct arch_domain *d);
void arch_iommu_watch(struct arch_domain *d); /* from silent: accesses are blocked and reported */
void arch_iommu_silence(uint32_t bdf);        /* the function is in no domain that reaches anything */
status_t arch_iommu_prepare(struct arch_domain *d, struct process *payer, iova_t at, uint64_t pages) MUST_USE;
void arch_iommu_map(struct arch_domain *d, iova_t at, paddr_t to, uint64_t pages, uint32_t prot);
void arch_iommu_unmap(struct arch_domain *d, iova_t at, uint64_t pages); /* and drains */
void arch_iommu_detach(struct arch_domain *d); /* silent; accesses under way may still end */
/* On return no access is under way, and the tables are free. Returns the number of the hardware's confirmation. */
uint64_t arch_iommu_drain(struct arch_domain *d, struct process *payer);

/* --- Devices and platform ------------------------------------------------------------------------ */
uint32_t arch_port_in(uint16_t port, uint32_t width); /* width 1, 2 or 4 bytes */
void arch_port_out(uint16_t port, uint32_t width, uint32_t value);
bool arch_port_reserved(uint16_t base, uint32_t count); /* the kernel's own: debug port, PIC, PIT, ACPI */
bool arch_device_reserved(paddr_t p, uint64_t pages);   /* RAM, APICs: never given to a process */
bool arch_pci_exists(uint32_t bdf);                     /* bdf: bus<<8 | device<<3 | function */
void arch_bus_master(uint32_t bdf, bool on);            /* PCI command register, bit 2 */
/* Bits 0 and 1, and INTx off: the function answers at its BARs' addresses, or not. No other CPU runs a process. */
void arch_pci_decode(uint32_t bdf, bool on);
void arch_debug_write(const char *text, size_t length);
void arch_power(enum system_op op) __attribute__((noreturn));
void arch_freeze(void);                          /* all other CPUs stop for good: a panic speaks alone */
void arch_halt(void) __attribute__((noreturn));  /* stops this CPU and all others */
void arch_backtrace(void (*line)(uint64_t rip)); /* calls line for each frame, innermost first */

struct platform { /* filled by the port before kernel_main */
    uint64_t tsc_hz;
    uint64_t ecam_paddr;
    uint32_t ecam_bus_first, ecam_bus_last;
    uint32_t cpus, iommu; /* cpus: that run, at most CPUS_MAX */
};
extern struct platform arch_platform;

/* --- What a port calls ------------------------------------------------------------------------------ */
/* Once, on the boot CPU, with arch_platform filled, lock held: builds memory, objects, first process. The other
 * CPUs then take the lock and call kernel_resume. */
void kernel_main(const struct handoff *handoff);
/* Entry points: the current thread's registers are saved in its context, the lock is held. Each returns
 * the context to resume after choosing a thread and switching address space, or NULL to idle
 * (arch: unlock, enable interrupts, hlt; an interrupt taken while idle calls the same functions). */
struct context *kernel_syscall(void);
struct context *kernel_irq(uint8_t vector);
struct context *kernel_timer(void);
struct context *kernel_exception(enum cause cause, uint64_t address); /* in user mode */
struct context *kernel_write_fault(uint64_t address);                 /* a page fault that is one */
struct context *kernel_step(void);                                    /* single-step trap, user mode */
/* A function's access was blocked: fences it and ends its driver; then call kernel_resume. */
void kernel_dma_fault(uint32_t bdf, uint64_t address, uint32_t reason, bool write);
struct context *kernel_resume(void); /* just choose a thread (first entry, spurious interrupt) */
void kernel_panic(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
