/* SPDX-License-Identifier: BSD-2-Clause
 * Attacks of a few instructions. Each runs in a child, whose creator checks how it ended: by exactly the
 * cause named here, or, where flags and registers are only to be survived, by an exit with SURVIVED. */
#include "hostile.h"

#define SURVIVED    42u
#define YIELDS      8u           /* others of the family take a slice of the CPU at each */
#define END_WAIT_NS (10000 * MS) /* this long without an end is a failure: emulated CPUs can be slow */

struct lethal {
    const char *name;
    enum cause cause, or_cause; /* or_cause: CPUs differ, and QEMU checks no alignment */
    void (*run)(void);
};

/* Naked: registers and stack are as the text leaves them; what it does not end returns. */
#define RUN(name, text) \
    static __attribute__((naked)) void name(void) { __asm__ volatile(text "; ret"); }

RUN(do_ud2, "ud2")
RUN(do_hlt, "hlt")
RUN(do_cli, "cli")
RUN(do_sti, "sti")
RUN(do_in, "movw $0x60, %dx; inb %dx, %al")
RUN(do_out_debug, "movb $'K', %al; outb %al, $0xe9")
RUN(do_outs, "movw $0xe9, %dx; movl $4, %ecx; leaq 0x400000, %rsi; rep outsb")
RUN(do_pci_config, "movw $0xcf8, %dx; movl $0x80000000, %eax; outl %eax, %dx")
RUN(do_wrmsr, "movl $0xc0000082, %ecx; xorl %eax, %eax; xorl %edx, %edx; wrmsr")
RUN(do_rdmsr, "movl $0xc0000082, %ecx; rdmsr")
RUN(do_read_cr3, "movq %cr3, %rax")
RUN(do_write_cr0, "xorl %eax, %eax; movq %rax, %cr0")
RUN(do_write_cr4, "xorl %eax, %eax; movq %rax, %cr4")
RUN(do_write_dr7, "movl $0x403, %eax; movq %rax, %dr7")
RUN(do_write_cr8, "xorl %eax, %eax; movq %rax, %cr8")
RUN(do_lgdt, "subq $16, %rsp; lgdt (%rsp)")
RUN(do_lidt, "subq $16, %rsp; lidt (%rsp)")
RUN(do_lldt, "xorl %eax, %eax; lldt %ax")
RUN(do_ltr, "movl $0x28, %eax; ltr %ax")
RUN(do_lmsw, "xorl %eax, %eax; lmsw %ax")
RUN(do_sgdt, "subq $16, %rsp; sgdt (%rsp)")
RUN(do_sidt, "subq $16, %rsp; sidt (%rsp)")
RUN(do_sldt, "sldt %ax")
RUN(do_str, "str %ax")
RUN(do_smsw, "smsw %ax")
RUN(do_invlpg, "invlpg 0x400000")
RUN(do_wbinvd, "wbinvd")
RUN(do_invd, "invd")
RUN(do_clts, "clts")
RUN(do_swapgs, "swapgs")
RUN(do_sysret, "leaq 1f(%rip), %rcx; movl $0x202, %r11d; sysretq; 1: nop")
RUN(do_sysexit, "sysexitl")
RUN(do_sysenter, "sysenter")
RUN(do_rdpmc, "xorl %ecx, %ecx; rdpmc")
RUN(do_xsetbv, "xorl %ecx, %ecx; xorl %eax, %eax; xorl %edx, %edx; xsetbv")
RUN(do_wrgsbase, "movq $-0x80000000, %rax; wrgsbase %rax")
RUN(do_int_timer, "int $0x20")
RUN(do_int_device, "int $0x30")
RUN(do_int_nmi, "int $2")
RUN(do_int_double_fault, "int $8")
RUN(do_int_page_fault, "int $14")
RUN(do_int_machine_check, "int $18")
RUN(do_int_80, "int $0x80")
RUN(do_int_ff, "int $0xff")
RUN(do_int3, "int3")
RUN(do_int_4, "int $4")
RUN(do_into, ".byte 0xce")
RUN(do_lock_nop, ".byte 0xf0, 0x90")
RUN(do_long, ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90")
RUN(do_divide, "xorl %ecx, %ecx; movl $1, %eax; xorl %edx, %edx; divl %ecx")
RUN(do_divide_overflow, "movl $1, %ecx; movl $1, %edx; xorl %eax, %eax; divl %ecx")
RUN(do_sse, "xorps %xmm0, %xmm0")
RUN(do_x87, "fninit")
RUN(do_avx, ".byte 0xc5, 0xf8, 0x57, 0xc0")
RUN(do_read_null, "movq 0, %rax")
RUN(do_read_kernel, "movq $-0x80000000, %rax; movq (%rax), %rax")
RUN(do_write_kernel, "movq $-0x80000000, %rax; movq %rax, (%rax)")
RUN(do_read_direct_map, "movq $0xffff800000000000, %rax; movq (%rax), %rax")
RUN(do_read_window, "movq $0xffffff0000000000, %rax; movq (%rax), %rax")
RUN(do_jump_kernel, "movq $-0x80000000, %rax; jmp *%rax")
RUN(do_call_direct_map, "movq $0xffff800000100000, %rax; call *%rax")
RUN(do_ret_kernel, "pushq $-0x80000000; ret")
RUN(do_jump_end, "movq $0x00007ffffffff000, %rax; jmp *%rax")
RUN(do_jump_non_canonical, "movq $0x0000800000000000, %rax; jmp *%rax")
RUN(do_read_non_canonical, "movq $0x0000800000000000, %rax; movq (%rax), %rax")
RUN(do_push_non_canonical, "movq $0x0000800000000008, %rsp; pushq %rax")
RUN(do_push_kernel, "movq $-0x7ffffff0, %rsp; pushq %rax")
RUN(do_write_text, "leaq 0f(%rip), %rax; 0: movb $0x90, (%rax)")
RUN(do_run_stack, "subq $64, %rsp; movb $0xc3, (%rsp); call *%rsp")
RUN(do_run_data, "movq $0x20000100, %rax; movb $0xc3, (%rax); call *%rax")
RUN(do_stack_overflow, "1: pushq %rax; jmp 1b")
RUN(do_iret_ring0, "movq %rsp, %rax; pushq $0x10; pushq %rax; pushq $0x202; pushq $8; pushq $0x400000; iretq")
RUN(do_lret_ring0, "pushq $8; pushq $0x400000; lretq")
RUN(do_iret_iopl, "movq %rsp, %rax; movl %ss, %ecx; pushq %rcx; pushq %rax; pushq $0x3002; movl %cs, %ecx;"
                  "pushq %rcx; leaq 1f(%rip), %rcx; pushq %rcx; iretq; 1: cli")
RUN(do_iret_nt, "pushfq; orq $0x4000, (%rsp); popfq; iretq")
RUN(do_ss_ring0, "movl $0x10, %eax; movl %eax, %ss")
RUN(do_ds_tss, "movl $0x28, %eax; movl %eax, %ds")
RUN(do_gs_null, "xorl %eax, %eax; movl %eax, %gs; movq %gs:0, %rax")
RUN(do_gs_kernel_base, "movl %ss, %eax; movl %eax, %gs; movq %gs:8, %rax")
RUN(do_popf_iopl_in, "pushq $0x3202; popfq; inb $0x60, %al")
RUN(do_popf_if_cli, "pushq $0x3002; popfq; cli")
RUN(do_ac_unaligned, "pushfq; orq $0x40000, (%rsp); popfq; movq 1(%rsp), %rax")

/* To be survived: the kernel is entered with odd flags, stacks and registers. */
#define LEAVE "movl $12, %eax; movl $42, %edi; syscall" /* SYS_exit, SURVIVED */
#define CALL  "xorl %eax, %eax; syscall; "
RUN(do_flag_tf, "pushfq; orq $0x100, (%rsp); popfq; nop; " CALL LEAVE)
RUN(do_flag_nt, "pushfq; orq $0x4000, (%rsp); popfq; " CALL LEAVE)
RUN(do_flag_ac, "pushfq; orq $0x40000, (%rsp); popfq; " CALL LEAVE)
RUN(do_flag_df, "std; " CALL LEAVE)
RUN(do_flag_all, "pushq $0x254dd7; popfq; " CALL LEAVE)
RUN(do_rsp_kernel, "movq $-0x80000000, %rsp; " CALL LEAVE)
RUN(do_rsp_zero, "xorl %esp, %esp; " CALL LEAVE)
RUN(do_rsp_non_canonical, "movq $0x0000800000000000, %rsp; " CALL LEAVE)
RUN(do_rbp_kernel, "movq $-1, %rbp; " CALL LEAVE)
RUN(do_rsp_and_fault, "movq $-0x80000000, %rsp; ud2")
RUN(do_ss_then_syscall, "pushfq; orq $0x100, (%rsp); popfq; movl %ss, %ecx; movl %ecx, %ss; " CALL LEAVE)
RUN(do_numbers,
    "movl $0x1000, %ebx; 1: movl %ebx, %eax; syscall; addl $0x1234567, %ebx; jnc 1b; movq $-1, %rax;"
    "syscall; movq $0x100000000, %rax; syscall; " LEAVE)

/* The kernel returns to the first address that cannot be: SYSRET must not fault in kernel mode. */
static void do_syscall_at_the_end(void)
{
    struct sys_result r = sys_memory_create(0, 1, 0);
    uint64_t at = USER_END - PAGE_SIZE;

    (void)sys_memory_map(0, r.value, at, 0, 1, RIGHT_READ | RIGHT_WRITE);
    memset((void *)at, 0x90, PAGE_SIZE);
    *(uint16_t *)(USER_END - 2) = 0x050f; /* syscall */
    (void)sys_memory_unmap(0, at);
    (void)sys_memory_map(0, r.value, at, 0, 1, RIGHT_READ | RIGHT_EXECUTE);
    __asm__ volatile("xorl %%eax, %%eax; jmp *%0" : : "r"(USER_END - 2) : "rax", "rcx", "r11");
}

static void do_unmap_stack(void)
{
    (void)sys_memory_unmap(0, USER_STACK_TOP - 4 * PAGE_SIZE);
    __asm__ volatile("pushq %rax");
}

static void do_unmap_text(void) { (void)sys_memory_unmap(0, USER_IMAGE_BASE); }

static void spin_on(uint64_t page)
{
    for (;;) (void)*(volatile uint64_t *)page;
}

/* Another thread reads a page on another CPU, or here, while it goes. */
static void do_unmap_under_a_thread(void)
{
    struct sys_result r = sys_memory_create(0, 1, 0);

    (void)sys_memory_map(0, r.value, SCRATCH_AT, 0, 1, RIGHT_READ | RIGHT_WRITE);
    (void)sys_thread_create(0, (uint64_t)spin_on, USER_STACK_TOP - 2 * PAGE_SIZE - 8, SCRATCH_AT);
    for (uint32_t i = 0; i < YIELDS; i++) sys_yield();
    (void)sys_memory_unmap(0, SCRATCH_AT);
    for (;;) sys_yield();
}

/* As before, but what it was mapped with is revoked. */
static void do_revoke_under_a_thread(void)
{
    struct sys_result r = sys_memory_create(0, 1, 0),
                      d = sys_cap_derive(r.value, RIGHT_READ | RIGHT_WRITE, 0);

    (void)sys_memory_map(0, d.value, SCRATCH_AT, 0, 1, RIGHT_READ | RIGHT_WRITE);
    (void)sys_thread_create(0, (uint64_t)spin_on, USER_STACK_TOP - 2 * PAGE_SIZE - 8, SCRATCH_AT);
    for (uint32_t i = 0; i < YIELDS; i++) sys_yield();
    (void)sys_cap_revoke(r.value);
    for (;;) sys_yield();
}

static void do_thread_nowhere(void)
{
    (void)sys_thread_create(0, USER_END - 1, 8, 0);
    for (;;) sys_yield();
}

static void do_all_threads(void) /* the last thread ends them all */
{
    for (uint32_t i = 0; i < 16; i++)
        (void)sys_thread_create(0, (uint64_t)do_ud2, USER_STACK_TOP - 2 * PAGE_SIZE - 8, 0);
    for (;;) sys_yield();
}

static void do_kill_itself(void) { (void)sys_process_kill(0, CAUSE_DMA_FAULT); }

/* QEMU 7.2 reads the stack of IRET and far RET as the kernel would, and SMAP refuses that. */
#define FAR CAUSE_PROTECTION, CAUSE_PAGE_FAULT
#define GP  CAUSE_PROTECTION, CAUSE_NONE
#define UD  CAUSE_INVALID_OPCODE, CAUSE_NONE
#define PF  CAUSE_PAGE_FAULT, CAUSE_NONE
#define ODD CAUSE_EXIT, CAUSE_NONE
static const struct lethal lethal[] = {
#define L(name, ...)                  \
    {                                 \
#name, __VA_ARGS__, do_##name \
    }
    L(ud2, UD),
    L(hlt, GP),
    L(cli, GP),
    L(sti, GP),
    L(in, GP),
    L(out_debug, GP),
    L(outs, GP),
    L(pci_config, GP),
    L(wrmsr, GP),
    L(rdmsr, GP),
    L(read_cr3, GP),
    L(write_cr0, GP),
    L(write_cr4, GP),
    L(write_dr7, GP),
    L(write_cr8, GP),
    L(lgdt, GP),
    L(lidt, GP),
    L(lldt, GP),
    L(ltr, GP),
    L(lmsw, GP),
    L(sgdt, GP),
    L(sidt, GP),
    L(sldt, GP),
    L(str, GP),
    L(smsw, GP),
    L(invlpg, GP),
    L(wbinvd, GP),
    L(invd, GP),
    L(clts, GP),
    L(swapgs, GP),
    L(sysret, GP),
    L(sysexit, CAUSE_PROTECTION, CAUSE_INVALID_OPCODE),
    L(sysenter, CAUSE_PROTECTION, CAUSE_INVALID_OPCODE),
    L(rdpmc, GP),
    L(xsetbv, CAUSE_PROTECTION, CAUSE_INVALID_OPCODE),
    L(wrgsbase, UD),
    L(int_timer, GP),
    L(int_device, GP),
    L(int_nmi, GP),
    L(int_double_fault, GP),
    L(int_page_fault, GP),
    L(int_machine_check, GP),
    L(int_80, GP),
    L(int_ff, GP),
    L(int3, CAUSE_BREAKPOINT, CAUSE_NONE),
    L(int_4, CAUSE_OVERFLOW, CAUSE_NONE),
    L(into, UD),
    L(lock_nop, UD),
    L(long, GP),
    L(divide, CAUSE_DIVIDE, CAUSE_NONE),
    L(divide_overflow, CAUSE_DIVIDE, CAUSE_NONE),
    L(sse, CAUSE_NO_FPU, CAUSE_NONE),
    L(x87, CAUSE_NO_FPU, CAUSE_NONE),
    L(avx, UD),
    L(read_null, PF),
    L(read_kernel, PF),
    L(write_kernel, PF),
    L(read_direct_map, PF),
    L(read_window, PF),
    L(jump_kernel, PF),
    L(call_direct_map, PF),
    L(ret_kernel, PF),
    L(jump_end, PF),
    L(jump_non_canonical, GP),
    L(read_non_canonical, GP),
    L(push_non_canonical, CAUSE_STACK, CAUSE_PROTECTION),
    L(push_kernel, PF),
    L(write_text, PF),
    L(run_stack, PF),
    L(run_data, PF),
    L(stack_overflow, PF),
    L(iret_ring0, FAR),
    L(lret_ring0, FAR),
    L(iret_iopl, FAR),
    L(iret_nt, GP),
    L(ss_ring0, GP),
    L(ds_tss, GP),
    L(gs_null, PF),
    L(gs_kernel_base, PF),
    L(popf_iopl_in, GP),
    L(popf_if_cli, GP),
    L(ac_unaligned, CAUSE_ALIGNMENT, CAUSE_EXIT),
    L(flag_tf, ODD),
    L(flag_nt, ODD),
    L(flag_ac, ODD),
    L(flag_df, ODD),
    L(flag_all, ODD),
    L(rsp_kernel, ODD),
    L(rsp_zero, ODD),
    L(rsp_non_canonical, ODD),
    L(rbp_kernel, ODD),
    L(rsp_and_fault, UD),
    L(ss_then_syscall, ODD),
    L(numbers, ODD),
    L(syscall_at_the_end, PF),
    L(unmap_stack, PF),
    L(unmap_text, PF),
    L(unmap_under_a_thread, PF),
    L(revoke_under_a_thread, PF),
    L(thread_nowhere, PF),
    L(all_threads, UD),
    L(kill_itself, CAUSE_DMA_FAULT, CAUSE_NONE),
#undef L
};

uint32_t lethal_count(void) { return sizeof(lethal) / sizeof(lethal[0]); }

void lethal_do(uint32_t i)
{
    lethal[i].run();
    sys_exit(SURVIVED + 1); /* it went on after what should have ended it */
}

void lethal_run(uint32_t i)
{
    const struct lethal *l = &lethal[i];
    struct child c;
    struct process_info info;
    status_t status = child_make(&c, CHILD_PAGES, own_sched());

    if (status == OK) status = child_start(&c, CHILD_ARG(CHILD_LETHAL, i));
    if (status != OK) {
        failed(l->name, "it cannot be tried", status, OK);
        return;
    }
    do {
        sys_yield();
        status = sys_process_info(c.process, &info);
    } while (status == OK && info.state != PROCESS_DEAD && clock_ns() - c.since_ns < END_WAIT_NS);
    if (info.state != PROCESS_DEAD)
        failed(l->name, "it lives", info.state, PROCESS_DEAD);
    else if (info.cause != l->cause && (info.cause != l->or_cause || !l->or_cause))
        failed(l->name, "it ended by", info.cause, l->cause);
    child_end(&c);
}
