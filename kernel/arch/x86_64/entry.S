/* SPDX-License-Identifier: BSD-2-Clause
 * Ways into the kernel and out: SYSCALL, interrupts and exceptions, idle. Every way in saves the user's
 * registers straight into the running thread's context (gs:8), takes the kernel lock and calls C on this
 * CPU's one stack from its top; C returns the context to resume, or NULL to idle. The lock is dropped when
 * nothing of the context is needed any more. Who has to wait for the lock may find, once he has it, that the
 * thread he came for was ended meanwhile (arch_stop): then he only chooses anew.
 * Invariants: interrupts are off everywhere but at the hlt below; nothing of a stack survives between two
 * entries; gs is the kernel's in kernel mode. An exception in kernel mode is a panic.
 *
 * SYSRET with a non-canonical rcx would fault in kernel mode on the user's stack (CVE-2012-0217). It cannot
 * happen: a context with WAY_SYSRET holds the rip that SYSCALL saved, no page at or above USER_END is ever
 * mapped for a process, so that rip is at most USER_END; arch_context_jump, which sets a rip, asks for IRET
 * and lets no non-canonical address through. */
#include "offsets.h"

        .section .text

        /* bts also tests: the common case is two instructions. Keeps edi. */
        .macro  lock_kernel
        lock btsl $0, kernel_lock(%rip)
        jc      71f
72:
        .subsection 1
71:     pushq   %rsi
        pushq   %rdi
        call    lock_wait
        popq    %rdi
        popq    %rsi
        jmp     72b
        .previous
        .endm

        .macro  save_words base
        movq    %rsi, CONTEXT_RSI(\base)
        movq    %rdx, CONTEXT_RDX(\base)
        movq    %r10, CONTEXT_R10(\base)
        movq    %r8, CONTEXT_R8(\base)
        movq    %r9, CONTEXT_R9(\base)
        movq    %r12, CONTEXT_R12(\base)
        movq    %r13, CONTEXT_R13(\base)
        movq    %r14, CONTEXT_R14(\base)
        movq    %r15, CONTEXT_R15(\base)
        movq    %rbx, CONTEXT_RBX(\base)
        movq    %rbp, CONTEXT_RBP(\base)
        .endm

        .macro  load_words base
        movq    CONTEXT_RDI(\base), %rdi
        movq    CONTEXT_RSI(\base), %rsi
        movq    CONTEXT_RDX(\base), %rdx
        movq    CONTEXT_R10(\base), %r10
        movq    CONTEXT_R8(\base), %r8
        movq    CONTEXT_R9(\base), %r9
        movq    CONTEXT_R12(\base), %r12
        movq    CONTEXT_R13(\base), %r13
        movq    CONTEXT_R14(\base), %r14
        movq    CONTEXT_R15(\base), %r15
        movq    CONTEXT_RBX(\base), %rbx
        movq    CONTEXT_RBP(\base), %rbp
        .endm

/* --- SYSCALL ------------------------------------------------------------------------------------- */
/* rcx = rip, r11 = rflags; IF, TF, DF, AC, NT are cleared by SFMASK. */
        .globl  syscall_entry
        .type   syscall_entry, @function
        .balign 64
syscall_entry:
        swapgs
        movq    %rsp, %gs:CPU_SCRATCH
        movq    %gs:CPU_CONTEXT, %rsp
        movq    %rax, CONTEXT_RAX(%rsp)
        movq    %rdi, CONTEXT_RDI(%rsp)
        save_words %rsp
        movq    %rcx, CONTEXT_RIP(%rsp)
        movq    %r11, CONTEXT_RFLAGS(%rsp)
        movq    $WAY_SYSRET, CONTEXT_WAY(%rsp)
        movq    %gs:CPU_SCRATCH, %rax
        movq    %rax, CONTEXT_RSP(%rsp)
        movq    %gs:CPU_STACK, %rsp
        lock btsl $0, kernel_lock(%rip)
        jc      syscall_wait
syscall_locked:
        call    *enter_syscall(%rip)

/* --- Out: rax = context, lock held, rsp = this CPU's stack top ------------------------------------- */
        .globl  context_resume
        .type   context_resume, @function
context_resume:
        testq   %rax, %rax
        jz      cpu_idle
        movq    %rax, %gs:CPU_CONTEXT
        cmpb    $WAY_SYSRET, CONTEXT_WAY(%rax)
        jne     context_resume_iret
        movq    CONTEXT_RIP(%rax), %rcx
        movq    CONTEXT_RFLAGS(%rax), %r11
        load_words %rax
        movq    CONTEXT_RSP(%rax), %rsp
        movq    CONTEXT_RAX(%rax), %rax
        movl    $0, kernel_lock(%rip)
        swapgs
        sysretq

context_resume_iret:
        pushq   $USER_SS
        pushq   CONTEXT_RSP(%rax)
        pushq   CONTEXT_RFLAGS(%rax)
        pushq   $USER_CS
        pushq   CONTEXT_RIP(%rax)
        load_words %rax
        movq    CONTEXT_RCX(%rax), %rcx
        movq    CONTEXT_R11(%rax), %r11
        movq    CONTEXT_RAX(%rax), %rax
        movl    $0, kernel_lock(%rip)
        swapgs
        iretq

syscall_wait:
        call    lock_wait
        cmpq    $0, %gs:CPU_CURRENT
        jne     syscall_locked
        call    kernel_resume
        jmp     context_resume

cpu_idle:
        movq    %rax, %gs:CPU_CONTEXT
        movl    $0, kernel_lock(%rip)
1:      sti
        hlt                             /* sti takes effect after this: no wake-up is lost */
cpu_woken:                              /* the rip of every interrupt taken in kernel mode */
        jmp     1b
        .size   context_resume, . - context_resume

/* --- Interrupts and exceptions --------------------------------------------------------------------- */
/* Stack here: vector, error code, then rip, cs, rflags, rsp, ss by the CPU. */
        .type   trap_common, @function
trap_common:
        testb   $3, 24(%rsp)
        jz      trap_in_kernel
        swapgs
        movq    %rax, %gs:CPU_SCRATCH
        movq    %gs:CPU_CONTEXT, %rax
        movq    %rdi, CONTEXT_RDI(%rax)
        save_words %rax
        movq    %rcx, CONTEXT_RCX(%rax)
        movq    %r11, CONTEXT_R11(%rax)
        movq    $WAY_IRET, CONTEXT_WAY(%rax)
        movq    %gs:CPU_SCRATCH, %rcx
        movq    %rcx, CONTEXT_RAX(%rax)
        movq    16(%rsp), %rcx
        movq    %rcx, CONTEXT_RIP(%rax)
        movq    32(%rsp), %rcx
        movq    %rcx, CONTEXT_RFLAGS(%rax)
        movq    40(%rsp), %rcx
        movq    %rcx, CONTEXT_RSP(%rax)
        movl    (%rsp), %edi
        movl    8(%rsp), %esi
        movq    %gs:CPU_STACK, %rsp
        pushq   $2                      /* the user's AC (it would switch off SMAP) and DF go */
        popfq
        lock_kernel
        call    *enter_user_trap(%rip)
        jmp     context_resume

trap_in_kernel:
        cmpq    $cpu_woken, 16(%rsp)    /* interrupts are on at the hlt only */
        jne     trap_fatal_entry
        cmpl    $32, (%rsp)
        jb      trap_fatal_entry
        movl    (%rsp), %edi
        movq    %gs:CPU_STACK, %rsp
        lock_kernel
        call    *enter_interrupt(%rip)
        jmp     context_resume

/* NMI, double fault and machine check come here on stacks of their own, from any point: gs may be either
 * side's. Never returns. The pushes make a struct trap_frame, then a frame that links the interrupted
 * function into the backtrace. */
trap_fatal_entry:
        pushq   %rax
        pushq   %rcx
        pushq   %rdx
        movl    $MSR_GS_BASE, %ecx
        rdmsr
        testl   %edx, %edx
        js      1f
        swapgs
1:      pushq   $2
        popfq
        movq    %rsp, %rdi
        pushq   40(%rsp)                /* rip */
        pushq   %rbp
        movq    %rsp, %rbp
        andq    $-16, %rsp
        call    trap_fatal
        .size   trap_common, . - trap_common

/* 256 stubs of 16 bytes. */
        .globl  trap_stubs
        .type   trap_stubs, @function
        .balign 16
trap_stubs:
        .set    vector, 0
        .rept   256
        .balign 16
        .if     !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector == 29 || vector == 30)
        pushq   $0
        .endif
        pushq   $vector
        .if     vector == VECTOR_NMI || vector == VECTOR_DOUBLE_FAULT || vector == VECTOR_MACHINE_CHECK
        jmp     trap_fatal_entry
        .else
        jmp     trap_common
        .endif
        .set    vector, vector + 1
        .endr
        .size   trap_stubs, . - trap_stubs

        .section .bss
        .globl  kernel_lock
        .type   kernel_lock, @object
        .balign 64
kernel_lock:
        .skip   64
        .size   kernel_lock, 64
        .section .note.GNU-stack, "", @progbits
