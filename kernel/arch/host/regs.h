/* SPDX-License-Identifier: BSD-2-Clause
 * What the host port keeps in a thread's context, an address space and a CPU. */
#ifndef COPPICE_HOST_REGS_H
#define COPPICE_HOST_REGS_H

#include "abi/types.h"

/* POSIX has functions of these names, and the test runner calls them: the kernel's get others here. */
#define timer_create(...) kernel_timer_create(__VA_ARGS__)
#define sched_yield(...)  kernel_sched_yield(__VA_ARGS__)

struct arch_regs {
    uint64_t rip, rsp;
    bool step;  /* arch_context_step */
    bool again; /* arch_context_again: who plays the thread makes the call once more */
};
struct arch_space {
    paddr_t root;    /* v == 0: none. Four levels of 512 entries, as the machine has */
    uint64_t frames; /* of all its tables */
};
struct arch_domain { /* of the IOMMU: three levels of tables */
    paddr_t root;
    uint16_t id, bdf;
};
struct arch_cpu {
    uint64_t reserved;
};

#endif
