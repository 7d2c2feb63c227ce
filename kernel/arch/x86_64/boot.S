/* SPDX-License-Identifier: BSD-2-Clause
 * The kernel's first instructions: from the loader's stack to the boot CPU's own, with gs and the stack
 * protector's guard set before any C runs. rdi = handoff. Interrupts are off. */
#include "offsets.h"

        .section .text
        .globl  kernel_entry
        .type   kernel_entry, @function
kernel_entry:
        cli
        cld
        movq    %rdi, %r15
        leaq    cpus(%rip), %r14
        movq    $boot_stack_top, %rsp
        xorl    %ebp, %ebp              /* backtraces end here */
        xorl    %eax, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %fs
        movl    %eax, %gs
        movl    $MSR_GS_BASE, %ecx
        movq    %r14, %rax
        movq    %r14, %rdx
        shrq    $32, %rdx
        wrmsr
        movq    %r14, (%r14)
        movq    %rsp, CPU_STACK(%r14)

        /* The guard: the clock, and the random generator where there is one. */
        rdtsc
        shlq    $32, %rdx
        orq     %rax, %rdx
        movabsq $0x9e3779b97f4a7c15, %r13
        imulq   %rdx, %r13
        movl    $1, %eax
        cpuid
        btl     $30, %ecx               /* RDRAND */
        jnc     1f
        rdrand  %rax
        jnc     1f                      /* it may have nothing to give */
        xorq    %rax, %r13
1:      xorb    %r13b, %r13b            /* a zero byte stops overflowing strings */
        movq    %r13, CPU_GUARD(%r14)

        movq    %r15, %rdi
        call    arch_start              /* returns the first context */
        jmp     context_resume
        .size   kernel_entry, . - kernel_entry
        .section .note.GNU-stack, "", @progbits
