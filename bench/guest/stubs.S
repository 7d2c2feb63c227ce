/* SPDX-License-Identifier: BSD-2-Clause
 * Timed system calls without a compiler's spills. All arguments that can be in place before the first
 * rdtsc are: what is between the two is the call number, rdx (which rdtsc destroys), SYSCALL itself, the
 * kernel, the other process, and the saving of the status. Nothing is subtracted: timed_nothing says what
 * the two rdtsc cost by themselves. */
#include "peer.h"
#include "window.h"

    .macro WINDOW kind, name /* window.h */
    .pushsection .debug_windows, "", @progbits
    .quad 9b, \kind
8:  .ascii "\name"
    .fill 48 - (. - 8b), 1, 0
    .popsection
    .endm
    .macro BEGIN name
9:  rdtsc
    WINDOW WINDOW_BEGIN, \name
    mov %eax, %ebx
    .endm
    .macro END name /* eax = low half of the difference */
9:  rdtsc
    WINDOW WINDOW_END, \name
    sub %ebx, %eax
    .endm

    .text
    .globl timed_nothing, timed_null, timed_call_0w, timed_call_8w, timed_ping, wait_then_tsc

timed_nothing:
    push %rbx
    BEGIN nothing
    END nothing
    pop %rbx
    ret

timed_null:
    push %rbx
    BEGIN null_syscall
    mov $NR_null, %eax
    syscall
    END null_syscall
    pop %rbx
    ret

timed_call_0w: /* rdi = endpoint, rsi = where the status goes */
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsi, %rbp
    xor %esi, %esi
    BEGIN ipc_0w
    mov $NR_call, %eax
    syscall
    mov %rax, (%rbp)
    END ipc_0w
    jmp restore

timed_call_8w: /* rdi = endpoint, rsi = where the status goes, rdx = the words, replaced by the reply's */
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdx
    mov %rsi, %rbp
    mov 8(%rdx), %r10
    mov 16(%rdx), %r8
    mov 24(%rdx), %r9
    mov 32(%rdx), %r12
    mov 40(%rdx), %r13
    mov 48(%rdx), %r14
    mov 56(%rdx), %r15
    xor %esi, %esi
    BEGIN ipc_8w
    mov (%rsp), %rdx
    mov (%rdx), %rdx
    mov $NR_call, %eax
    syscall
    mov %rax, (%rbp)
    mov %rdx, %rbp /* w0: rdtsc destroys it */
    END ipc_8w
    pop %rdx
    mov %rbp, (%rdx)
    mov %r10, 8(%rdx)
    mov %r8, 16(%rdx)
    mov %r9, 24(%rdx)
    mov %r12, 32(%rdx)
    mov %r13, 40(%rdx)
    mov %r14, 48(%rdx)
    mov %r15, 56(%rdx)
restore:
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

timed_ping: /* rdi = to the peer, rsi = from the peer */
    push %rbx
    push %rbp
    mov %rsi, %rbp
    mov $1, %esi
    BEGIN ping_pong
    mov $NR_signal, %eax
    syscall
    mov %rbp, %rdi
    mov $NR_wait, %eax
    syscall
    END ping_pong
    pop %rbp
    pop %rbx
    ret

wait_then_tsc:
    mov $NR_wait, %eax
    syscall
9:  rdtsc
    WINDOW WINDOW_END, irq_to_user
    ret

    .section .note.GNU-stack,"",@progbits
