/* SPDX-License-Identifier: BSD-2-Clause
 * Where every process begins. The kernel starts the first thread with rdi = the argument of
 * process_start and rsp = USER_STACK_TOP; nothing has been relocated or constructed, and .bss is zero.
 * main's result is the exit code that the creator finds in the process's event. */
#include "runtime.h"

void runtime_start(void) __attribute__((noreturn, used));

__asm__(".section .text.start,\"ax\",@progbits\n"
        ".globl _start\n"
        ".type _start, @function\n"
        "_start:\n"
        "    xorl %ebp, %ebp\n" /* ends backtraces */
        "    andq $-16, %rsp\n"
        "    call runtime_start\n"
        "    ud2\n"
        ".size _start, . - _start\n"
        ".text\n");

void runtime_start(void) { sys_exit((uint64_t)(int64_t)main()); }
