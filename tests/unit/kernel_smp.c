/* SPDX-License-Identifier: BSD-2-Clause
 * Several CPUs on the host port: who runs where, and what is stopped before it is touched. The port hides the
 * registers of threads that run on other CPUs: a kernel that looked would be caught by AddressSanitizer. */
#include <criterion/criterion.h>
#include "host_kernel.h"

#define CPUS 4u
#define AT   0x500000000ul

static void boot_four(void) { boot_cpus(CPUS); }
TestSuite(smp, .init = boot_four);

static struct child child_on(uint32_t service, uint32_t priority, uint64_t mask)
{
    struct child c;
    c.handle = make(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, TEST_QUOTA, TAG_MAKE(service, 1),
                    SCHED_MAKE(priority, 0, 0), mask);
    c.process = (struct process *)object_at(current()->process, c.handle);
    child_start(&c);
    return c;
}

/* Every CPU that was kicked comes to choose; the test is CPU 0 afterwards. */
static void settle(void)
{
    for (uint32_t i = CPUS; i-- > 0;) host_cpu(i);
    each_cpu(c) cr_assert(inv_sched_nobody_waits(c) && !c->coming);
    cr_assert(host_tlbs_true());
}

Test(smp, idle_cpus_take_what_becomes_ready)
{
    struct child a = child_on(1, 10, 0), b = child_on(2, 10, 0), c = child_on(3, 10, 0),
                 d = child_on(4, 10, 0);
    settle();
    unsigned running = 0;
    const struct child *all[] = {&a, &b, &c, &d};
    for (unsigned i = 0; i < 4; i++) running += all[i]->thread->state == THREAD_RUNNING;
    cr_assert_eq(running, 3);
    cr_assert_eq(d.thread->state, THREAD_READY); /* the supervisor, more urgent, has the fourth */
    for (unsigned i = 0; i < CPUS; i++) cr_assert_not_null(cpus[i].current);
}

Test(smp, the_most_urgent_run_and_the_least_urgent_waits)
{
    struct child low = child_on(1, 5, 0);
    settle();
    cr_assert_eq(low.thread->state, THREAD_RUNNING);
    child_on(2, 10, 0), child_on(3, 10, 0), child_on(4, 10, 0);
    settle();
    cr_assert_eq(low.thread->state, THREAD_READY);
}

Test(smp, a_thread_stays_on_its_cpus)
{
    struct child pinned = child_on(1, 10, 1u << 2), other = child_on(2, 10, 1u << 2);
    settle();
    cr_assert_eq(cpus[2].current, pinned.thread);
    cr_assert_eq(other.thread->state, THREAD_READY, "two other CPUs idle, but it may not use them");
    cr_assert_null(cpus[1].current);
    expect_ok(sys(process_kill, pinned.handle, CAUSE_KILLED));
    settle();
    cr_assert_eq(cpus[2].current, other.thread);
}

Test(smp, a_child_has_no_cpu_that_its_parent_has_not)
{
    process_root->cpus = 3;
    struct child c = child_on(1, 10, 6);
    cr_assert_eq(c.process->cpus, 2);
    cr_assert_eq(child_on(2, 10, 0).process->cpus, 3);
    expect_status(sys(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, TEST_QUOTA, 1, TEST_SCHED, 4),
                  E_ARGUMENT);
}

Test(smp, a_process_that_runs_elsewhere_is_stopped_before_it_dies)
{
    struct child c = child_on(1, 10, 1u << 1);
    settle();
    cr_assert_eq(cpus[1].space, c.process);
    uint64_t stops = host.stops;
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    cr_assert_eq(host.stops, stops + 1);
    cr_assert_null(cpus[1].current);
    cr_assert_null(cpus[1].space);
    cr_assert_null(host.cpu[1].space);
    settle();
}

Test(smp, nobody_else_runs_while_device_memory_moves)
{
    child_on(1, 10, 1u << 1), child_on(2, 10, 1u << 3);
    settle();
    handle_t domain = make(dma_create, boot_root, HOST_PCI_FIRST + 8);
    uint64_t stops = host.stops;
    expect_ok(sys(dma_decode, domain, 1));
    cr_assert_eq(host.stops, stops + 2, "CPU 2 is idle");
    cr_assert_eq(host.decode, 1u << 1);
    expect_ok(sys(dma_decode, domain, 0));
    cr_assert_eq(host.decode, 0);
    settle();
}

Test(smp, what_is_unmapped_is_gone_from_every_tlb)
{
    struct child c = child_on(1, 10, 1u << 1);
    handle_t m = make(memory_create, 0, 2, 0);
    expect_ok(sys(memory_map, c.handle, m, AT, 0, 2, RIGHT_READ | RIGHT_WRITE));
    settle();
    host_cpu(1);
    cr_assert_neq(host_touch((vaddr_t){AT}, RIGHT_WRITE), 0);
    host_cpu(0);
    expect_ok(sys(memory_unmap, c.handle, AT));
    cr_assert(host_tlbs_true());
    host_cpu(1);
    cr_assert_eq(host_touch((vaddr_t){AT}, RIGHT_READ), 0);
}

Test(smp, without_the_shootdown_that_would_be_noticed)
{
    struct child c = child_on(1, 10, 1u << 1);
    handle_t m = make(memory_create, 0, 1, 0);
    expect_ok(sys(memory_map, c.handle, m, AT, 0, 1, RIGHT_READ));
    settle();
    host_cpu(1);
    cr_assert_neq(host_touch((vaddr_t){AT}, RIGHT_READ), 0);
    host_cpu(0);
    host.deaf = true;
    expect_ok(sys(cap_delete, m));
    cr_assert(!host_tlbs_true());
}

Test(smp, an_idle_cpu_is_not_stopped_for_a_page_but_loads_the_space_again)
{
    struct child c = child_on(1, 10, 1u << 1);
    handle_t m = make(memory_create, 0, 1, 0), n = make(notification_create, 7);
    expect_ok(sys(memory_map, c.handle, m, AT, 0, 1, RIGHT_READ));
    handle_t theirs = grant(&c, n, RIGHT_READ, 0);
    settle();
    host_cpu(1);
    host_touch((vaddr_t){AT}, RIGHT_READ);
    expect_state(sys(wait, theirs), THREAD_WAIT);
    cr_assert_null(cpus[1].current);
    host_cpu(0);
    uint64_t stops = host.stops;
    expect_ok(sys(memory_unmap, c.handle, AT));
    cr_assert_eq(host.stops, stops);
    expect_ok(sys(signal, n, 1));
    settle();
    cr_assert_eq(cpus[1].current, c.thread);
    host_cpu(1);
    cr_assert_eq(host_touch((vaddr_t){AT}, RIGHT_READ), 0);
}

Test(smp, a_strike_is_armed_in_the_registers_that_its_thread_comes_back_with)
{
    struct child c = child_on(1, 10, 1u << 1);
    settle();
    uint64_t stops = host.stops;
    expect_ok(sys(inject, boot_inject, c.handle, INJECT_ARM, 1, INJECT_KILL));
    cr_assert_eq(host.stops, stops + 1);
    host_cpu(1);
    cr_assert(c.thread->context.arch.step);
    kernel_step();
    cr_assert_eq(c.process->state, PROCESS_DEAD);
}

Test(smp, a_call_to_a_pinned_server_goes_to_its_cpu)
{
    struct child server = child_on(1, 10, 1u << 3);
    handle_t e = make(endpoint_create, 5);
    handle_t theirs = grant(&server, e, RIGHT_READ, 0);
    settle();
    host_cpu(3);
    expect_state(sys(recv, theirs), THREAD_RECV);
    host_cpu(0);
    struct thread *root = root_thread();
    expect_state(sys(call, e, INFO_MAKE(9, 0)), THREAD_REPLY);
    cr_assert_neq(current(), server.thread);
    settle();
    cr_assert_eq(cpus[3].current, server.thread);
    host_cpu(3);
    cr_assert_eq(INFO_LABEL(server.thread->context.info), 9);
    expect_ok(sys(reply));
    settle();
    cr_assert_eq(root->state, THREAD_RUNNING);
}

Test(smp, a_budget_ends_and_begins_again_on_any_cpu)
{
    struct child c;
    c.handle = make(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, TEST_QUOTA, TAG_MAKE(1, 1),
                    SCHED_MAKE(20, 100, 1000), 1u << 1);
    c.process = (struct process *)object_at(process_root, c.handle);
    child_start(&c);
    struct child other = child_on(2, 5, 1u << 1);
    settle();
    cr_assert_eq(cpus[1].current, c.thread);
    host_advance(time_tsc(150000) - time_tsc(0));
    cr_assert_eq(c.thread->priority, 0);
    cr_assert_eq(cpus[1].current, other.thread);
    cr_assert_eq(c.process->overruns, 1);
    host_advance(time_tsc(900000) - time_tsc(0));
    settle();
    cr_assert_eq(cpus[1].current, c.thread);
}

Test(smp, two_cpus_use_up_one_budget_twice_as_fast)
{
    struct child c;
    c.handle = make(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, TEST_QUOTA, TAG_MAKE(1, 1),
                    SCHED_MAKE(20, 100, 1000), 6);
    c.process = (struct process *)object_at(process_root, c.handle);
    child_start(&c);
    handle_t h = make(thread_create, c.handle, ELF_TEXT, USER_STACK_TOP - 0x1000, 0);
    struct thread *second = (struct thread *)object_at(process_root, h);
    settle();
    cr_assert_eq(c.thread->state, THREAD_RUNNING);
    cr_assert_eq(second->state, THREAD_RUNNING);
    host_advance(time_tsc(45000) - time_tsc(0));
    settle();
    cr_assert_eq(c.thread->priority, 20);
    host_advance(time_tsc(10000) - time_tsc(0));
    settle();
    cr_assert_eq(c.thread->priority, 0);
    cr_assert_eq(second->priority, 0);
}

static struct child child_with(uint32_t service, uint32_t priority, uint64_t mask)
{
    struct child c;
    c.handle = make(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, TEST_QUOTA, TAG_MAKE(service, 1),
                    SCHED_MAKE(priority, 0, 0), mask);
    c.process = (struct process *)object_at(current()->process, c.handle);
    return c;
}

/* Who is kicked may kick another in turn. */
static void settle_kicked(void)
{
    for (uint32_t i = CPUS; i-- > 0;) host_cpu(i);
    settle();
}

/* It was kicked for a thread while it waited for the lock, with an interrupt that gave it something more urgent. */
Test(smp, who_was_kicked_and_found_better_work_passes_it_on)
{
    handle_t own = make(notification_create, 0), irq = make(irq_create, boot_root, IRQ_GSI, 4);
    struct child to = child_with(1, 20, 6);
    handle_t n = grant(&to, own, RIGHT_READ, 0);
    expect_ok(sys(irq_bind, irq, own, 1));
    child_start(&to);
    settle();
    unsigned at = cpus[1].current == to.thread ? 1 : 2;
    host_cpu(at);
    expect_state(sys(wait, n), THREAD_WAIT);
    host_cpu(0);
    struct child x = child_with(2, 5, 6);
    child_start(&x);
    unsigned kicked = host.cpu[1].kicked ? 1 : 2, idle = 3 - kicked;
    cr_assert(host.cpu[kicked].kicked && !host.cpu[idle].kicked);
    host.cpu[kicked].kicked = false; /* not yet: the interrupt was there before */
    host_cpu(kicked);
    cr_assert(host_irq_raise(IRQ_GSI, 4));
    cr_assert_eq(cpus[kicked].current, to.thread);
    host.cpu[kicked].kicked = true;
    settle_kicked();
    cr_assert_eq(cpus[idle].current, x.thread);
}

/* The same by the short way of a call. */
Test(smp, who_was_kicked_and_handed_over_passes_it_on)
{
    handle_t e = make(endpoint_create, 0);
    struct child s = child_with(1, 20, 1u << 1), a = child_with(2, 5, 1u << 1), b = child_with(3, 6, 1u << 2);
    handle_t es = grant(&s, e, RIGHT_READ, 0), ea = grant(&a, e, RIGHT_WRITE, 0);
    child_start(&s);
    settle();
    host_cpu(1);
    expect_state(sys(recv, es), THREAD_RECV);
    host_cpu(0);
    child_start(&a);
    child_start(&b);
    settle();
    struct child x = child_with(4, 10, 6);
    child_start(&x); /* more urgent than both: the less urgent one's CPU is kicked */
    cr_assert(host.cpu[1].kicked && !host.cpu[2].kicked);
    host.cpu[1].kicked = false;
    host_cpu(1);
    expect_state(sys(call, ea, 0), THREAD_REPLY);
    cr_assert_eq(current(), s.thread);
    host.cpu[1].kicked = true;
    settle_kicked();
    cr_assert_eq(cpus[2].current, x.thread);
}
