/* SPDX-License-Identifier: BSD-2-Clause
 * The snippets. They may use only registers and system calls: the state of the target is what it was at
 * the instruction where it was struck. Their names are the `code` of rows in
 * faultinject/faults.py. */
#include "gadgets.h"

#define CALL_CREATE "20" /* SYS_notification_create */
#define CALL_WAIT   "8"  /* SYS_wait */
_Static_assert(SYS_notification_create == 20 && SYS_wait == 8, "the numbers in the snippet below");

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
        "gadgets_end:\n"
        ".previous\n");

extern const char gadgets_begin[], gadgets_end[];
#define GADGETS(X) \
    X(ud2)         \
    X(divide) X(page_fault) X(protection) X(noncanonical) X(breakpoint) X(stack_overflow) X(loop) X(block)
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

status_t gadgets_make(handle_t *out)
{
    struct sys_result memory = sys_memory_create(0, 1, 0);
    void *page = NULL;

    if (memory.status != OK) return memory.status;
    status_t status = map_new(memory.value, 1, RIGHT_READ | RIGHT_WRITE, &page);
    if (status != OK) return status;
    memcpy(page, gadgets_begin, (uintptr_t)gadgets_end - (uintptr_t)gadgets_begin);
    *out = memory.value;
    return sys_memory_unmap(0, (uint64_t)page); /* written once: W^X holds for it too */
}

uint64_t gadget_address(const char *name)
{
    for (uint32_t i = 0; i < sizeof(gadget) / sizeof(gadget[0]); i++)
        if (strcmp(name, gadget[i].name) == 0)
            return GADGET_BASE + ((uintptr_t)gadget[i].code - (uintptr_t)gadgets_begin);
    return 0;
}
