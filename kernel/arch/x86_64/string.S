/* SPDX-License-Identifier: BSD-2-Clause
 * The four functions that gcc calls by itself (GCC manual, 2.1). By 8 bytes, the rest by single ones: fast
 * on every CPU without vector registers, which the kernel does not touch. */
        .section .text

        .macro  function name
        .globl  \name
        .type   \name, @function
        .balign 16
\name:
        .endm

        .macro  move_forward            /* rdx bytes from rsi to rdi */
        movq    %rdx, %rcx
        shrq    $3, %rcx
        rep movsq
        movl    %edx, %ecx
        andl    $7, %ecx
        rep movsb
        .endm

function memset
        movq    %rdi, %r8
        movzbl  %sil, %eax
        movabsq $0x0101010101010101, %rcx
        imulq   %rcx, %rax
        movq    %rdx, %rcx
        shrq    $3, %rcx
        rep stosq
        movl    %edx, %ecx
        andl    $7, %ecx
        rep stosb
        movq    %r8, %rax
        ret
        .size   memset, . - memset

function memcpy
        movq    %rdi, %rax
        move_forward
        ret
        .size   memcpy, . - memcpy

function memmove
        movq    %rdi, %rax
        movq    %rdi, %rcx
        subq    %rsi, %rcx
        cmpq    %rdx, %rcx              /* unsigned: to is inside from's bytes */
        jb      1f
        move_forward
        ret
1:      leaq    -1(%rdi, %rdx), %rdi
        leaq    -1(%rsi, %rdx), %rsi
        movq    %rdx, %rcx
        std
        rep movsb
        cld
        ret
        .size   memmove, . - memmove

function memcmp
        xorl    %eax, %eax
        movq    %rdx, %rcx
        cmpq    %rcx, %rcx              /* equal if there is nothing to compare */
        repe cmpsb
        je      1f
        movzbl  -1(%rdi), %ecx
        movzbl  -1(%rsi), %eax
        subl    %ecx, %eax
1:      ret
        .size   memcmp, . - memcmp
        .section .note.GNU-stack, "", @progbits
