/* SPDX-License-Identifier: BSD-2-Clause
 * Where every process begins. The kernel starts the first thread with rdi = the argument of
 * process_start and rsp = USER_STACK_TOP; nothing has been relocated or constructed, and .bss is zero.
 * main's result is the exit code that the creator finds in the process's event. */
#include "runtime.h"
#include "../abi/protocol.h"

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

__attribute__((weak)) void program_prepare(void) {}

/* A spare waits here: the call is answered when it is the service. A new supervisor hears it again. */
static void standby(void)
{
    struct message m = {.info = INFO_REPLAYABLE};

    if (startup()->standby == 0) return;
    status_t status = service_call(cap_find("supervisor"), SUPERVISOR_STANDBY, &m);
    if (status != OK) sys_exit(status);
}

void runtime_start(void)
{
    program_prepare();
    standby();
    sys_exit((uint64_t)(int64_t)main());
}
