/* SPDX-License-Identifier: BSD-2-Clause
 * The snippets. Those that never come back may use only registers and system calls: the state of the target is
 * what it was at the instruction where it was struck. Those that do come back (INJECT_CALL) save every
 * register below the stack's red zone and end with a breakpoint. Their names are the `code` of rows in
 * faultinject/faults.py. */
#include "gadgets.h"

#define CALL_SIGNAL "7"  /* SYS_signal */
#define CALL_WAIT   "8"  /* SYS_wait */
#define CALL_YIELD  "11" /* SYS_yield */
#define CALL_CREATE "20" /* SYS_notification_create */
#define CALL_MEMORY "21" /* SYS_memory_create */
_Static_assert(SYS_notification_create == 20 && SYS_wait == 8 && SYS_signal == 7 && SYS_yield == 11 &&
                   SYS_memory_create == 21,
               "the numbers in the snippets below");

#define PARAMETERS_AT 0x800
#define PARAMETER_0   "0x408800"
#define PARAMETER_1   "0x408808"
#define STACK_TOP     "0x420000"
_Static_assert(GADGET_BASE + PARAMETERS_AT == 0x408800 && USER_STACK_TOP == 0x420000, "the addresses below");

/* Saved registers, from the stack pointer up: r15 r14 r13 r12 r11 r10 r9 r8 rbp rdi rsi rdx rcx rbx rax flags. */
#define SAVED "16*8"
#define ENTER                                                                                                \
    "leaq -128(%rsp), %rsp; pushfq; pushq %rax; pushq %rbx; pushq %rcx; pushq %rdx; pushq %rsi; pushq %rdi;" \
    "pushq %rbp; pushq %r8; pushq %r9; pushq %r10; pushq %r11; pushq %r12; pushq %r13; pushq %r14;"          \
    "pushq %r15; cld;"
#define RESTORE                                                                                        \
    "popq %r15; popq %r14; popq %r13; popq %r12; popq %r11; popq %r10; popq %r9; popq %r8; popq %rbp;" \
    "popq %rdi; popq %rsi; popq %rdx; popq %rcx; popq %rbx; popq %rax; popfq; leaq 128(%rsp), %rsp;"
#define LEAVE RESTORE "int3\n"

__asm__(".section .rodata.gadgets,\"a\",@progbits\n"
        "gadgets_begin:\n"
        "gadget_ud2: ud2\n"
        "gadget_divide: xorl %ecx, %ecx; xorl %edx, %edx; movl $1, %eax; divl %ecx\n"
        "gadget_page_fault: xorl %eax, %eax; movq (%rax), %rax\n"
        "gadget_protection: hlt\n"
        "gadget_noncanonical: movabsq $0x8000000000000000, %rax; movq (%rax), %rax\n"
        "gadget_breakpoint: int3\n"
        "gadget_stack_overflow: pushq %rax; jmp gadget_stack_overflow\n"
        "gadget_loop: jmp gadget_loop\n"
        "gadget_block: movl $" CALL_CREATE ", %eax; xorl %edi, %edi; syscall\n" /* w0 (rdx) = notification */
        "1: movq %rdx, %rdi; movl $" CALL_WAIT ", %eax; syscall\n"
        "   jmp 1b\n" /* nobody can signal it: wait does not come back */
        "gadget_livelock: movl $" CALL_YIELD ", %eax; syscall; jmp gadget_livelock\n"
        /* handle, bits */
        "gadget_flood: movq " PARAMETER_0 ", %rdi; movq " PARAMETER_1 ", %rsi; movl $" CALL_SIGNAL
        ", %eax; syscall; jmp gadget_flood\n"

        /* index of a saved register (16: the stack pointer), mask */
        "gadget_flip_register: " ENTER "movq " PARAMETER_0 ", %rax; movq " PARAMETER_1 ", %rcx\n"
        "   cmpq $16, %rax; je 1f; xorq %rcx, (%rsp,%rax,8)\n" LEAVE "1: " RESTORE "xorq " PARAMETER_1
        ", %rsp; int3\n"
        /* a number, by which a word of the stack in use is chosen; mask */
        "gadget_flip_stack: " ENTER "leaq 128+" SAVED "(%rsp), %rbx; movl $" STACK_TOP
        ", %ecx; subq %rbx, %rcx; shrq $3, %rcx; jz 1f\n"
        "   movq " PARAMETER_0 ", %rax; xorl %edx, %edx; divq %rcx; movq " PARAMETER_1
        ", %rcx; xorq %rcx, (%rbx,%rdx,8)\n"
        "1: " LEAVE
        /* address, mask */
        "gadget_flip_word: " ENTER "movq " PARAMETER_0 ", %rax; movq " PARAMETER_1
        ", %rcx; xorq %rcx, (%rax)\n" LEAVE
        /* address, value */
        "gadget_store: " ENTER "movq " PARAMETER_0 ", %rax; movq " PARAMETER_1
        ", %rcx; movq %rcx, (%rax)\n" LEAVE
        /* ticks of the time-stamp counter */
        "gadget_spin: " ENTER "rdtsc; shlq $32, %rdx; orq %rax, %rdx; movq %rdx, %rbx\n"
        "1: rdtsc; shlq $32, %rdx; orq %rax, %rdx; subq %rbx, %rdx; cmpq " PARAMETER_0 ", %rdx; jb 1b\n" LEAVE
        "gadget_leak_memory: " ENTER "1: movl $" CALL_MEMORY
        ", %eax; xorl %edi, %edi; movl $1, %esi; xorl %edx, %edx\n"
        "   syscall; testq %rax, %rax; jz 1b\n" LEAVE "gadget_leak_handles: " ENTER "1: movl $" CALL_CREATE
        ", %eax; xorl %edi, %edi; syscall; testq %rax, %rax; jz 1b\n" LEAVE "gadgets_end:\n"
        ".previous\n");

extern const char gadgets_begin[], gadgets_end[];
#define EXCEPTIONS(X) \
    X(ud2) X(divide) X(page_fault) X(protection) X(noncanonical) X(breakpoint) X(stack_overflow)
#define HANGS(X)      X(loop) X(block) X(livelock) X(flood)
#define CHANGES(X)    X(flip_register) X(flip_stack) X(flip_word) X(store) X(spin) X(leak_memory) X(leak_handles)
#define GADGETS(X)    EXCEPTIONS(X) HANGS(X) CHANGES(X)
#define DECLARE(name) extern const char gadget_##name[];
GADGETS(DECLARE)
#undef DECLARE

static const struct {
    const char *name, *code;
} gadget[] = {
#define ENTRY(name) {#name, gadget_##name},
    GADGETS(ENTRY)
#undef ENTRY
};

status_t gadgets_make(const uint64_t parameter[GADGET_PARAMETERS], handle_t *out)
{
    struct sys_result memory = sys_memory_create(0, 1, 0);
    uint8_t *page = (uint8_t *)WINDOW;

    if (memory.status != OK) return memory.status;
    status_t status = sys_memory_map(0, memory.value, WINDOW, 0, 1, RIGHT_READ | RIGHT_WRITE);
    if (status != OK) return status;
    memcpy(page, gadgets_begin, (uintptr_t)gadgets_end - (uintptr_t)gadgets_begin);
    memcpy(page + PARAMETERS_AT, parameter, GADGET_PARAMETERS * sizeof(*parameter));
    *out = memory.value;
    return sys_memory_unmap(0, WINDOW); /* written once: W^X holds for it too */
}

uint64_t gadget_address(const char *name)
{
    for (uint32_t i = 0; i < sizeof(gadget) / sizeof(gadget[0]); i++)
        if (strcmp(name, gadget[i].name) == 0)
            return GADGET_BASE + ((uintptr_t)gadget[i].code - (uintptr_t)gadgets_begin);
    return 0;
}
