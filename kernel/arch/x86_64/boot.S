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

/* Another processor, from the trampoline: rbx = its struct cpu, filled. Interrupts are off. */
        .globl  cpu_entry
        .type   cpu_entry, @function
cpu_entry:
        movq    CPU_ROOT(%rbx), %rax
        movq    %rax, %cr3
        movq    CPU_STACK(%rbx), %rsp
        xorl    %ebp, %ebp
        xorl    %eax, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %fs
        movl    %eax, %gs
        movl    $MSR_GS_BASE, %ecx
        movq    %rbx, %rax
        movq    %rbx, %rdx
        shrq    $32, %rdx
        wrmsr
        call    smp_entered             /* returns the first context, with the lock */
        jmp     context_resume
        .size   cpu_entry, . - cpu_entry

/* A processor's first instructions, copied to a page below 1 MiB: from real mode at PAGE:0 straight to 64-bit
 * mode (SDM vol. 3A, 10.8.5: paging, protection and long mode may be switched on in one step). The two
 * pointers into the copy itself are made from cs; the other words are filled in by smp.c. */
        .section .rodata
        .globl  trampoline, trampoline_layout
        .balign 16
        .code16
trampoline:
        cli
        cld
        movw    %cs, %ax
        movw    %ax, %ds
        movzwl  %ax, %ebx
        shll    $4, %ebx
        leal    (trampoline_gdt - trampoline)(%ebx), %eax
        movl    %eax, trampoline_gdtr - trampoline + 2
        leal    (trampoline_long - trampoline)(%ebx), %eax
        movl    %eax, trampoline_far - trampoline
        lgdtl   trampoline_gdtr - trampoline
        movl    $CR4_PAE, %eax
        movl    %eax, %cr4
        movl    trampoline_root - trampoline, %eax
        movl    %eax, %cr3
        movl    $MSR_EFER, %ecx
        xorl    %edx, %edx
        movl    $(EFER_LME | EFER_NXE), %eax
        wrmsr
        movl    $CR0_START, %eax
        movl    %eax, %cr0
        ljmpl   *(trampoline_far - trampoline)
        .code64
trampoline_long:
        xorl    %eax, %eax
        movl    %eax, %ss
        movq    trampoline_cpu(%rip), %rbx
        movq    $cpu_entry, %rax
        jmp     *%rax
        .balign 8
trampoline_gdt:
        .quad   0, 0x00af9a000000ffff   /* KERNEL_CS */
trampoline_gdtr:
        .word   15
        .long   0
        .balign 4
trampoline_far:
        .long   0
        .word   KERNEL_CS
        .balign 8
trampoline_root:
        .quad   0
trampoline_cpu:
        .quad   0
trampoline_end:
        .balign 4
trampoline_layout:                      /* struct trampoline_layout of smp.c */
        .long   trampoline_end - trampoline
        .long   trampoline_root - trampoline
        .long   trampoline_cpu - trampoline
        .section .note.GNU-stack, "", @progbits
