/* SPDX-License-Identifier: BSD-2-Clause
 * What entry.S calls: sorts interrupts and exceptions into the kernel's entry points. An exception of the
 * kernel itself, an NMI, a double fault and a machine check are panics. Also a context's registers. */
#include "x86.h"
#include "sched.h"
#include "print.h"

#define DR6_STEP (1ul << 14)
#define DR6_NONE 0xffff0ff0ul

#define RFLAGS_FIXED (1ul << 1)
#define RFLAGS_TF    (1ul << 8)
#define RFLAGS_IF    (1ul << 9)

#define PAGE_FAULT_WRITE 2u /* in the error code; SDM vol. 3, 4.7 */

struct trap_frame { /* pushed by trap_fatal_entry, the stubs and the CPU */
    uint64_t rdx, rcx, rax;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

void trap_fatal(const struct trap_frame *f) __attribute__((noreturn));

/* SDM vol. 3A, table 6-1. */
static const uint8_t cause_of[32] = {
    [0] = CAUSE_DIVIDE,         [1] = CAUSE_DEBUG,      [3] = CAUSE_BREAKPOINT, [4] = CAUSE_OVERFLOW,
    [6] = CAUSE_INVALID_OPCODE, [7] = CAUSE_NO_FPU,     [12] = CAUSE_STACK,     [13] = CAUSE_PROTECTION,
    [14] = CAUSE_PAGE_FAULT,    [17] = CAUSE_ALIGNMENT,
};

struct context *trap_interrupt(uint32_t vector)
{
    struct context *next;
    switch (vector) {
    case VECTOR_SPURIOUS: /* the APIC's own wants no EOI (SDM vol. 3A, 10.9); a message with its number blocks all else */
        if (apic_in_service(VECTOR_SPURIOUS)) apic_eoi();
        return kernel_resume();
    case VECTOR_KICK:
    case VECTOR_TIMER: next = kernel_timer(); break;
    case VECTOR_IOMMU:
        vtd_faults();
        next = kernel_resume();
        break;
    case VECTOR_ERROR:
        apic_error();
        next = kernel_resume();
        break;
    default: next = interrupt_arrived((uint8_t)vector) ? kernel_irq((uint8_t)vector) : kernel_resume();
    }
    apic_eoi(); /* after the kernel masked a level-triggered line, or it would come again at once */
    return next;
}

static struct context *trap_debug(void)
{
    uint64_t why = dr6_read();
    dr6_write(DR6_NONE);
    return why & DR6_STEP ? kernel_step() : kernel_exception(CAUSE_DEBUG, 0);
}

/* error: of the exceptions that have one, else 0. */
struct context *trap_user(uint32_t vector, uint32_t error)
{
    if (vector >= 32) return trap_interrupt(vector);
    if (!arch_cpu()->current) return kernel_resume(); /* ended while this CPU waited for the lock */
    if (vector == 1) return trap_debug();
    if (vector == 14 && (error & PAGE_FAULT_WRITE)) return kernel_write_fault(cr2_read());
    enum cause cause = cause_of[vector] ? cause_of[vector] : CAUSE_EXCEPTION;
    return kernel_exception(cause, vector == 14 ? cr2_read() : 0);
}

void trap_fatal(const struct trap_frame *f)
{
    arch_freeze(); /* does not return if that is what this NMI is for */
    if (f->vector == VECTOR_NMI) kernel_panic("NMI at %p", (void *)f->rip);
    kernel_panic("exception %lu in %s, error 0x%lx, rip %p, rsp %p, cr2 %p", f->vector,
                 f->cs & 3 ? "user mode" : "the kernel", f->error, (void *)f->rip, (void *)f->rsp,
                 (void *)cr2_read());
}

void arch_backtrace(void (*line)(uint64_t rip))
{
    extern const uint8_t kernel_text[], kernel_text_end[];
    const uint64_t *frame = __builtin_frame_address(0);
    /* The limit ends loops; frames may go from a trap's stack to the main one, so order proves nothing. */
    for (unsigned depth = 0; depth < 32; depth++) {
        if ((uint64_t)frame % 8 || !cpu_stack_holds((uint64_t)frame, 16)) return;
        uint64_t rip = frame[1];
        if (rip < (uint64_t)kernel_text || rip >= (uint64_t)kernel_text_end) return;
        line(rip);
        frame = (const uint64_t *)frame[0];
    }
}

/* --- Contexts ------------------------------------------------------------------------------------------- */

/* IRET to a non-canonical address faults in the kernel; USER_END faults in the process, as it should. */
static uint64_t rip_safe(uint64_t rip)
{
    return (uint64_t)((int64_t)(rip << 16) >> 16) == rip ? rip : USER_END;
}

void arch_context_init(struct context *c, uint64_t entry, uint64_t stack_top, uint64_t arg)
{
    *c = (struct context){.handle = arg};
    c->arch.rip = rip_safe(entry);
    c->arch.rsp = stack_top;
    c->arch.rflags = RFLAGS_FIXED | RFLAGS_IF; /* user mode can change neither IF nor IOPL: they stay so */
    c->arch.way = WAY_IRET;
}

void arch_context_step(struct context *c, bool on)
{
    if (on)
        c->arch.rflags |= RFLAGS_TF;
    else
        c->arch.rflags &= ~RFLAGS_TF;
}

void arch_context_jump(struct context *c, uint64_t target)
{
    c->arch.rip = rip_safe(target);
    c->arch.way = WAY_IRET;
}

uint64_t arch_context_rip(const struct context *c) { return c->arch.rip; }
void arch_context_again(struct context *c) { c->arch.rip -= 2; } /* the length of SYSCALL */
