/* SPDX-License-Identifier: BSD-2-Clause
 * What the bench's second processes run. Data to the bench itself (it is copied into their image), so it
 * lies in .rodata and must be position-independent. Each begins with rdi = its struct peer_page.
 * The kernel preserves rbx and rbp across calls. */
#include "peer.h"

    .section .rodata.peer,"a",@progbits
    .globl peer_begin, peer_end, peer_server, peer_pong, peer_rest, peer_leave, peer_spin, peer_stamp
    .balign 16
peer_begin:

peer_server:
    mov PEER_HANDLE0(%rdi), %rbx
    mov %rbx, %rdi
    mov $NR_recv, %eax
    syscall
1:  mov %rbx, %rdi
    mov $NR_reply_recv, %eax
    syscall
    jmp 1b

peer_pong:
    mov PEER_HANDLE0(%rdi), %rbx
    mov PEER_HANDLE1(%rdi), %rbp
1:  mov %rbx, %rdi
    mov $NR_wait, %eax
    syscall
    mov %rbp, %rdi
    mov $1, %esi
    mov $NR_signal, %eax
    syscall
    jmp 1b

peer_rest:
    mov PEER_HANDLE0(%rdi), %rbx
    mov PEER_HANDLE1(%rdi), %rdi
    mov $1, %esi
    mov $NR_signal, %eax
    syscall
1:  mov %rbx, %rdi
    mov $NR_wait, %eax
    syscall
    jmp 1b

peer_leave:
    xor %edi, %edi
    mov $NR_exit, %eax
    syscall
    ud2

peer_spin: /* SPINNER_INSTRUCTIONS a round */
1:  incq PEER_COUNT(%rdi)
    jmp 1b

peer_stamp:
1:  rdtsc
    mov %eax, PEER_TSC(%rdi)
    jmp 1b

peer_end:
    .section .note.GNU-stack,"",@progbits
