/* SPDX-License-Identifier: BSD-2-Clause
 * What the stress service's processes run (victim.h). Copied into their image, so position-independent. The
 * kernel preserves the registers that a call does not use, except rcx and r11. */
#include "victim.h"

    .section .rodata.victim,"a",@progbits
    .globl victim_begin, victim_end, victim_write, victim_enter, victim_yield, victim_leave
    .globl victim_caller, victim_server
    .balign 16

    /* rbx = its counter, rbp = its handle, r14 = the target */
    .macro arguments
    mov %edi, %eax
    and $7, %eax
    lea VICTIM_COUNTS(,%rax,8), %rbx
    mov %rdi, %rbp
    shr $3, %rbp
    mov $VICTIM_TARGET, %r14d
    .endm

victim_begin:

victim_write:
    arguments
1:  incq (%rbx)
    mov %rbx, (%r14)
    jmp 1b

victim_enter:
    arguments
1:  incq (%rbx)
    mov %rbx, (%r14)
    mov $NR_null, %eax
    syscall
    jmp 1b

victim_yield:
    arguments
1:  incq (%rbx)
    mov %rbx, (%r14)
    mov $NR_yield, %eax
    syscall
    jmp 1b

victim_leave:
    arguments
    mov $2000, %r15d
1:  incq (%rbx)
    dec %r15d
    jnz 1b
    xor %edi, %edi
    mov $NR_exit, %eax
    syscall
    ud2

victim_caller:
    arguments
1:  incq (%rbx)
    mov %rbp, %rdi
    xor %esi, %esi
    mov $NR_call, %eax
    syscall
    jmp 1b

victim_server:
    arguments
    mov %rbp, %rdi
    mov $NR_recv, %eax
    syscall
1:  incq (%rbx)
    mov %rbp, %rdi
    xor %esi, %esi
    mov $NR_reply_recv, %eax
    syscall
    jmp 1b

victim_end:
    .section .note.GNU-stack,"",@progbits
