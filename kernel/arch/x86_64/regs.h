/* SPDX-License-Identifier: BSD-2-Clause
 * What the x86_64 port keeps inside portable structures: saved registers (struct context), per-CPU fields
 * (struct cpu), an address space (struct process). Also the port's functions that must cost no call.
 * Assembly reads these by the offsets in offsets.h; cpu.c asserts that they agree. */
#ifndef COPPICE_X86_REGS_H
#define COPPICE_X86_REGS_H

#include "../../../abi/types.h"
#include "../../../abi/handoff.h"

struct arch_regs {
    uint64_t rbx, rbp, rcx, r11;
    uint64_t rip, rsp, rflags;
    uint64_t way; /* WAY_IRET or WAY_SYSRET: offsets.h */
};

struct cpu;
struct context;
struct arch_cpu { /* at gs:0 in kernel mode */
    struct cpu *self;
    struct context *context; /* where the running thread's registers go; NULL while idle */
    uint64_t stack_top;      /* 16-byte aligned; every entry starts here */
    uint64_t scratch;
    uint64_t root;    /* the PML4 in CR3 */
    uint64_t guard;   /* gs:40 is where gcc's stack protector looks (-mcmodel=kernel) */
    uint64_t request; /* the PML4 that another CPU wants loaded, to which this one answers by 0; 0: none */
    uint32_t apic_id;
};

struct arch_space {
    paddr_t root;           /* PML4; 0: none */
    uint32_t tables[4];     /* table frames below the PML4, by level: 1 = page tables ... 3 */
    uint64_t region;        /* va >> 21 of the page table found last; ~0: none */
    uint64_t *region_table; /* tables stay until the space goes, so this stays true */
};

struct arch_domain {  /* of the IOMMU */
    paddr_t root;     /* second-level table; 0: none yet */
    uint32_t tables;  /* of the last level */
    uint16_t id, bdf; /* id 0: closed */
};

static inline struct cpu *arch_cpu(void)
{
    struct cpu *c;
    __asm__("movq %%gs:0, %0" : "=r"(c));
    return c;
}

static inline uint64_t arch_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static inline void *arch_direct(paddr_t p) { return (void *)(DIRECT_MAP + p.v); }
static inline paddr_t arch_direct_paddr(const void *p) { return (paddr_t){(uint64_t)p - DIRECT_MAP}; }

/* One lock for the whole kernel; entry.S takes it on the way in and drops it on the way out, when the registers of
 * the thread that goes on have been loaded. */
extern uint32_t kernel_lock;
void lock_wait(void); /* takes it, and answers other CPUs' requests until then: lock.c */
static inline void arch_lock(void)
{
    if (__atomic_exchange_n(&kernel_lock, 1, __ATOMIC_ACQUIRE)) lock_wait();
}
static inline void arch_unlock(void) { __atomic_store_n(&kernel_lock, 0, __ATOMIC_RELEASE); }

#endif
