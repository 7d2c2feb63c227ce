/* SPDX-License-Identifier: BSD-2-Clause
 * The injector's mechanism: strikes after an exact number of instructions, looks and pokes into a process,
 * code mapped into it. The test plays the CPU: kernel_step after each user instruction while stepping is on. */
#include <criterion/criterion.h>
#include "host_kernel.h"

#define RW (RIGHT_READ | RIGHT_WRITE)

static struct child target;

static void start(void)
{
    boot();
    target = child_make(5);
}

TestSuite(inject, .init = start);

static struct result inject(handle_t process, enum inject_op op, uint64_t a, uint64_t b, uint64_t c)
{
    return sys(inject, boot_inject, process, op, a, b, c);
}

/* Runs the current thread for so many instructions; false: it was stopped before. */
static bool run(unsigned instructions)
{
    struct thread *t = current();
    for (unsigned i = 0; i < instructions; i++) {
        t->context.arch.rip += 4;
        if (t->context.arch.step) kernel_step();
        if (current() != t) return false;
    }
    return true;
}

Test(inject, a_kill_lands_at_the_exact_instruction)
{
    for (unsigned n = 1; n < 50; n += 7) {
        run_as(root_thread());
        struct child c = child_make(1);
        expect_ok(inject(c.handle, INJECT_ARM, n, INJECT_KILL, 0));
        run_as(c.thread);
        uint64_t rip = c.thread->context.arch.rip;
        cr_assert(run(n - 1), "struck before instruction %u", n);
        cr_assert(!run(1));
        cr_assert_eq(c.process->state, PROCESS_DEAD);
        cr_assert_eq(c.process->cause, CAUSE_INJECTED);
        cr_assert_eq(c.process->fault_rip, rip + 4 * n);
    }
    account_check(process_root);
}

Test(inject, zero_strikes_at_the_next_instruction)
{
    expect_ok(inject(target.handle, INJECT_ARM, 0, INJECT_KILL, 0));
    run_as(target.thread);
    cr_assert(!run(1));
    cr_assert_eq(trace_count(TRACE_STRIKE), 1);
    cr_assert_eq(trace_count(TRACE_ARMED), 1);
}

Test(inject, a_jump_goes_on_elsewhere)
{
    expect_ok(inject(target.handle, INJECT_ARM, 3, INJECT_JUMP, 0x500000));
    run_as(target.thread);
    uint64_t rdi = target.thread->context.handle;
    cr_assert(run(3));
    cr_assert_eq(target.thread->context.arch.rip, 0x500000);
    cr_assert_eq(target.thread->context.handle, rdi);
    cr_assert(!target.thread->context.arch.step);
    cr_assert(run(100));
}

Test(inject, disarmed_in_time)
{
    expect_ok(inject(target.handle, INJECT_ARM, 10, INJECT_KILL, 0));
    run_as(target.thread);
    cr_assert(run(5));
    run_as(root_thread());
    cr_assert_eq(inject(target.handle, INJECT_DISARM, 0, 0, 0).w[0], 1);
    cr_assert_eq(inject(target.handle, INJECT_DISARM, 0, 0, 0).w[0], 0);
    run_as(target.thread);
    cr_assert(!target.thread->context.arch.step);
    cr_assert(run(100));
}

Test(inject, the_next_process_of_a_service_is_struck)
{
    expect_ok(sys(inject, boot_inject, 0, INJECT_ARM_TAG, 2, INJECT_KILL, 9ul << 32));
    struct child other = child_make(8);
    run_as(other.thread);
    cr_assert(run(10));
    run_as(root_thread());
    struct child c = child_make(9), d = child_make(9);
    run_as(c.thread);
    cr_assert(run(1));
    cr_assert(!run(1));
    cr_assert_eq(c.process->cause, CAUSE_INJECTED);
    run_as(d.thread);
    cr_assert(run(10), "only the next one");
}

Test(inject, as_many_of_the_next_processes_as_asked_for_are_struck)
{
    expect_ok(sys(inject, boot_inject, 0, INJECT_ARM_TAG, 2, INJECT_KILL, 9ul << 32 | 2));
    for (unsigned i = 0; i < 4; i++) {
        run_as(root_thread());
        struct child c = child_make(9);
        run_as(c.thread);
        cr_assert(run(1));
        cr_assert_eq(run(1), i == 3, "the %u. process", i + 1);
    }
}

Test(inject, peek_and_poke)
{
    uint64_t v = 0;
    expect_ok(inject(target.handle, INJECT_POKE, ELF_DATA + 8, 0x1122334455667788, 8));
    cr_assert_eq(inject(target.handle, INJECT_PEEK, ELF_DATA + 8, 0, 0).w[0], 0x1122334455667788);
    for (unsigned width = 1; width < 8; width *= 2) {
        expect_ok(inject(target.handle, INJECT_POKE, ELF_DATA + 8, ~0ul, width));
        cr_assert_eq(user_read(target.process, &v, (vaddr_t){ELF_DATA + 8}, 8), OK);
        uint64_t mask = ~0ul << 8 * width;
        cr_assert_eq(v, (0x1122334455667788 & mask) | ~mask);
    }
    expect_status(inject(target.handle, INJECT_POKE, ELF_DATA, 0, 3), E_ARGUMENT);
    expect_status(inject(target.handle, INJECT_POKE, ELF_TEXT, 0, 8), E_ADDRESS);
    expect_status(inject(target.handle, INJECT_POKE, 0, 0, 8), E_ADDRESS);
    expect_status(inject(target.handle, INJECT_PEEK, ELF_DATA + PAGE_SIZE - 4, 0, 0), E_ADDRESS);
    expect_status(inject(target.handle, INJECT_PEEK, KERNEL_BASE, 0, 0), E_ADDRESS);
    expect_ok(inject(target.handle, INJECT_PEEK, ELF_TEXT, 0, 0));
}

Test(inject, code_is_mapped_into_the_target)
{
    handle_t m = make(memory_create, 0, 2, 0);
    expect_ok(inject(target.handle, INJECT_MAP, m, USER_DYNAMIC, RIGHT_READ | RIGHT_EXECUTE));
    uint32_t prot;
    cr_assert(host_translate(target.process, (vaddr_t){USER_DYNAMIC + PAGE_SIZE}, &prot, NULL).v);
    cr_assert_eq(prot, RIGHT_READ | RIGHT_EXECUTE);
    expect_status(inject(target.handle, INJECT_MAP, m, USER_DYNAMIC, RW), E_EXISTS);
    expect_status(inject(target.handle, INJECT_MAP, m, USER_DYNAMIC + 0x10000, RW | RIGHT_EXECUTE),
                  E_ARGUMENT);
    expect_status(inject(target.handle, INJECT_MAP, 0, USER_DYNAMIC + 0x10000, RW), E_HANDLE);
    expect_status(inject(target.handle, INJECT_MAP, m, USER_DYNAMIC + 0x10000, RW), E_BUSY); /* W^X */
    handle_t keep = make(cap_derive, m, RIGHT_READ, 0);
    expect_status(inject(target.handle, INJECT_MAP, keep, USER_DYNAMIC + 0x10000, RIGHT_READ), E_RIGHTS);
    handle_t d = make(cap_derive, m, RIGHT_READ | RIGHT_GRANT, 0);
    expect_ok(inject(target.handle, INJECT_MAP, d, USER_DYNAMIC + 0x10000, RIGHT_READ));
    expect_ok(sys(cap_delete, d));
    cr_assert_null(mapping_find(target.process, (vaddr_t){USER_DYNAMIC + 0x10000}));
    cr_assert_not_null(mapping_find(target.process, (vaddr_t){USER_DYNAMIC}));
    account_check(process_root);
}

Test(inject, what_is_refused)
{
    handle_t manage = make(cap_derive, target.handle, RIGHT_MANAGE, 0);
    expect_status(inject(manage, INJECT_ARM, 1, INJECT_KILL, 0), E_RIGHTS);
    expect_status(sys(inject, target.handle, target.handle, INJECT_ARM, 1, INJECT_KILL, 0), E_TYPE);
    expect_status(inject(target.handle, INJECT_ARM, 1, INJECT_ACTIONS, 0), E_ARGUMENT);
    expect_status(inject(target.handle, INJECT_AT, ELF_TEXT, 0, 0), E_STATE);
    expect_ok(inject(target.handle, INJECT_ARM, 1, INJECT_NOTE, 0));
    expect_status(inject(target.handle, INJECT_AT, ELF_TEXT, 0, 0), E_ADDRESS); /* everybody's */
    expect_status(inject(target.handle, INJECT_AT, ELF_DATA, 0, 0), E_ADDRESS);
    expect_status(inject(target.handle, INJECT_POKE, ELF_TEXT, 0, 1), E_ADDRESS);
    expect_status(inject(target.handle, INJECT_UNMAP, ELF_TEXT + PAGE_SIZE, 0, 0), E_NOT_FOUND);
    expect_status(inject(target.handle, INJECT_ARM, 1, INJECT_JUMP, USER_END), E_ARGUMENT);
    expect_status(inject(target.handle, 10, 1, 0, 0), E_ARGUMENT);
    expect_status(inject(target.handle, INJECT_PROBE, ELF_TEXT, 0, 0), E_ADDRESS); /* everybody's */
    expect_status(inject(target.handle, INJECT_PROBE, ELF_TEXT, INJECT_PROBES, 0), E_ARGUMENT);
    expect_status(sys(inject, boot_inject, target.handle, 1ul << 32, 1, 0, 0), E_ARGUMENT);
    expect_status(sys(inject, boot_inject, 0, INJECT_ARM_TAG, 2, INJECT_JUMP, 9ul << 32), E_ARGUMENT);
    expect_status(sys(inject, boot_inject, 0, INJECT_ARM_TAG, 2, INJECT_KILL, 4096ul << 32), E_ARGUMENT);
    struct child created = child_create(TEST_QUOTA, 1, TEST_SCHED);
    expect_status(inject(created.handle, INJECT_ARM, 1, INJECT_KILL, 0), E_STATE);
    expect_ok(sys(process_kill, target.handle, CAUSE_KILLED));
    expect_status(inject(target.handle, INJECT_ARM, 1, INJECT_KILL, 0), E_STATE);
    expect_status(inject(target.handle, INJECT_PEEK, ELF_DATA, 0, 0), E_STATE);
}

#define OWN_TEXT USER_DYNAMIC

/* Text that the target shares with nobody, no-operations throughout. */
static void own_text(void)
{
    handle_t m = make(memory_create, 0, 1, 0);
    expect_ok(inject(target.handle, INJECT_MAP, m, OWN_TEXT, RIGHT_READ | RIGHT_EXECUTE));
    for (uint64_t i = 0; i < 16; i++) expect_ok(inject(target.handle, INJECT_POKE, OWN_TEXT + i, 0x90, 1));
}

static uint8_t text_at(uint64_t address)
{
    return *(uint8_t *)user_pointer(target.process, (vaddr_t){address}, 1, RIGHT_READ);
}

/* The target executes the instruction at address, which is a breakpoint; false: it died of it. */
static bool executes_breakpoint(uint64_t address)
{
    run_as(target.thread);
    target.thread->context.arch.rip = address + 1;
    kernel_exception(CAUSE_BREAKPOINT, 0);
    return target.process->state == PROCESS_RUNNING;
}

Test(inject, a_strike_waits_for_its_instruction)
{
    own_text();
    expect_ok(inject(target.handle, INJECT_ARM, 0, INJECT_NOTE, 0));
    expect_ok(inject(target.handle, INJECT_AT, OWN_TEXT + 5, 0, 0));
    cr_assert_eq(text_at(OWN_TEXT + 5), ARCH_BREAKPOINT);
    run_as(target.thread);
    cr_assert(run(100) && trace_count(TRACE_STRIKE) == 0, "nothing happens elsewhere");
    cr_assert(executes_breakpoint(OWN_TEXT + 5));
    cr_assert_eq(text_at(OWN_TEXT + 5), 0x90);
    cr_assert_eq(target.thread->context.arch.rip, OWN_TEXT + 5, "what was covered is executed next");
    cr_assert_eq(trace_count(TRACE_STRIKE), 1);
    cr_assert(!target.thread->context.arch.step);
    cr_assert_not(executes_breakpoint(OWN_TEXT + 5), "the next one is nobody's");
}

Test(inject, it_counts_from_there)
{
    own_text();
    expect_ok(inject(target.handle, INJECT_ARM, 3, INJECT_KILL, 0));
    expect_ok(inject(target.handle, INJECT_AT, OWN_TEXT + 1, 0, 0));
    cr_assert(executes_breakpoint(OWN_TEXT + 1));
    cr_assert(run(2));
    cr_assert(!run(1));
    cr_assert_eq(target.process->cause, CAUSE_INJECTED);
}

Test(inject, what_waits_is_disarmed)
{
    own_text();
    expect_ok(inject(target.handle, INJECT_ARM, 3, INJECT_KILL, 0));
    expect_ok(inject(target.handle, INJECT_AT, OWN_TEXT + 1, 0, 0));
    cr_assert_eq(inject(target.handle, INJECT_DISARM, 0, 0, 0).w[0], 1);
    cr_assert_eq(text_at(OWN_TEXT + 1), 0x90);
    expect_ok(inject(target.handle, INJECT_ARM, 3, INJECT_KILL, 0));
    expect_ok(inject(target.handle, INJECT_AT, OWN_TEXT + 2, 0, 0));
    expect_ok(inject(target.handle, INJECT_ARM, 1, INJECT_NOTE, 0)); /* the last word holds */
    cr_assert_eq(text_at(OWN_TEXT + 2), 0x90);
}

Test(inject, probes_say_where_it_comes_to)
{
    own_text();
    for (uint64_t n = 0; n < INJECT_PROBES; n++)
        expect_ok(inject(target.handle, INJECT_PROBE, OWN_TEXT + n, n, 0));
    expect_status(inject(target.handle, INJECT_PROBE, OWN_TEXT + 3, 4, 0), E_ADDRESS); /* one is there */
    cr_assert(executes_breakpoint(OWN_TEXT + 5));
    cr_assert_eq(target.thread->context.arch.rip, OWN_TEXT + 5, "what was covered is executed next");
    cr_assert_eq(text_at(OWN_TEXT + 5), 0x90);
    cr_assert(executes_breakpoint(OWN_TEXT + 15));
    cr_assert_eq(trace_count(TRACE_STRIKE), 0);
    run_as(root_thread());
    cr_assert_eq(inject(target.handle, INJECT_PROBED, 0, 0, 0).w[0], 1ul << 5 | 1ul << 15);
    cr_assert_eq(text_at(OWN_TEXT + 6), ARCH_BREAKPOINT, "the others wait on");
    cr_assert_eq(inject(target.handle, INJECT_PROBED, 0, 0, 1).w[0], 1ul << 5 | 1ul << 15);
    for (uint64_t n = 0; n < INJECT_PROBES; n++) cr_assert_eq(text_at(OWN_TEXT + n), 0x90);
    cr_assert_eq(inject(target.handle, INJECT_PROBED, 0, 0, 1).w[0], 0, "none are left");
    cr_assert_not(executes_breakpoint(OWN_TEXT + 6), "the next one is nobody's");
}

/* The text of the dead one is gone, and what it covered with it. */
Test(inject, probes_of_the_dead_are_nobodys)
{
    own_text();
    expect_ok(inject(target.handle, INJECT_PROBE, OWN_TEXT + 1, 0, 0));
    expect_ok(inject(target.handle, INJECT_PROBE, OWN_TEXT + 2, 1, 0));
    cr_assert(executes_breakpoint(OWN_TEXT + 1));
    run_as(root_thread());
    expect_ok(sys(process_kill, target.handle, CAUSE_KILLED));
    target = child_make(5);
    own_text();
    cr_assert_eq(inject(target.handle, INJECT_PROBED, 0, 0, 0).w[0], 0);
    expect_ok(inject(target.handle, INJECT_PROBE, OWN_TEXT + 3, 2, 0));
    cr_assert_not(executes_breakpoint(OWN_TEXT + 2), "that was the dead one's");
}

Test(inject, a_call_comes_back)
{
    expect_ok(inject(target.handle, INJECT_ARM, 2, INJECT_CALL, 0x500000));
    run_as(target.thread);
    uint64_t rip = target.thread->context.arch.rip;
    cr_assert(run(2));
    cr_assert_eq(target.thread->context.arch.rip, 0x500000);
    cr_assert(executes_breakpoint(0x500010));
    cr_assert_eq(target.thread->context.arch.rip, rip + 8);
    cr_assert_not(executes_breakpoint(0x500010), "once");
}

Test(inject, text_is_exchanged)
{
    own_text();
    expect_ok(inject(target.handle, INJECT_UNMAP, OWN_TEXT, 0, 0));
    cr_assert_null(mapping_find(target.process, (vaddr_t){OWN_TEXT}));
    own_text();
    account_check(process_root);
}

/* A strike while the target waits in a call: it is struck when it runs again. */
Test(inject, a_blocked_target_is_struck_when_it_returns)
{
    handle_t n = make(notification_create, 0), theirs = grant(&target, n, RIGHT_READ, 0);
    run_as(target.thread);
    expect_state(sys(wait, theirs), THREAD_WAIT);
    expect_ok(inject(target.handle, INJECT_ARM, 1, INJECT_KILL, 0));
    expect_ok(sys(signal, n, 1));
    run_as(target.thread);
    cr_assert(!run(1));
    cr_assert_eq(target.process->cause, CAUSE_INJECTED);
    account_check(process_root);
}
