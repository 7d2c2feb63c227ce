/* SPDX-License-Identifier: BSD-2-Clause
 * The loader's last instructions: from the firmware's address space into the kernel's. Runs from a copy in
 * a page that both map at the same address. rdi = PML4, rsi = stack top, rdx = handoff (direct map),
 * rcx = kernel entry. Interrupts are off; never returns. */
        .section .text
        .globl  enter_code, enter_code_end
        .hidden enter_code, enter_code_end
enter_code:
        cli
        cld
        movq    %rcx, %r8
        /* NX bits are reserved bits until EFER.NXE is set: before CR3. main.c saw that the CPU has it. */
        movl    $0xc0000080, %ecx
        movq    %rdx, %r9
        rdmsr
        orl     $(1 << 11), %eax
        wrmsr
        movq    %cr0, %rax
        orl     $(1 << 16), %eax        /* WP: read-only binds the kernel too */
        movq    %rax, %cr0
        movq    %cr4, %rax
        andq    $~(1 << 7), %rax        /* PGE off: drops the firmware's global TLB entries */
        movq    %rax, %cr4
        movq    %rdi, %cr3
        orq     $(1 << 7), %rax         /* and on: ours are global */
        movq    %rax, %cr4
        movq    %rsi, %rsp
        xorl    %ebp, %ebp
        movq    %r9, %rdi
        pushq   $0                      /* the entry sees a stack as after a call */
        jmpq    *%r8
enter_code_end:
        .section .note.GNU-stack, "", @progbits
