/* SPDX-License-Identifier: BSD-2-Clause
 * A thread's saved user-mode registers, in the terms of the system-call convention (abi/syscalls.def).
 * The port's entry code stores and loads it; portable code reads arguments from it and writes results
 * to it, nothing else. Offsets used by assembly are asserted in the port. */
#ifndef COPPICE_KERNEL_CONTEXT_H
#define COPPICE_KERNEL_CONTEXT_H

#include "../abi/syscall.h"
#include "regs.h" /* struct arch_regs, from kernel/arch/<port>/ */

struct context {
    uint64_t status;           /* rax: call number in, status out */
    uint64_t handle;           /* rdi */
    uint64_t info;             /* rsi */
    uint64_t w[MESSAGE_WORDS]; /* rdx r10 r8 r9 r12 r13 r14 r15 */
    struct arch_regs arch;     /* the rest */
};

#endif
