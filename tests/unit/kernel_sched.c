/* SPDX-License-Identifier: BSD-2-Clause
 * Scheduling: priorities, slices among equals, budgets and their periods, and the timer that serves them. */
#include <criterion/criterion.h>
#include "host_kernel.h"

#define US        (HOST_TSC_HZ / 1000000)
#define BUDGET_US 1000ul
#define PERIOD_US 10000ul
#define SLICE_US  10000ul

static handle_t parked; /* the supervisor sleeps on it */

static struct child child_at(uint32_t service, uint32_t priority, uint64_t budget_us, uint64_t period_us)
{
    struct child c =
        child_create(TEST_QUOTA, TAG_MAKE(service, 1), SCHED_MAKE(priority, budget_us, period_us));
    child_start(&c);
    return c;
}

static void start(void)
{
    boot();
    parked = make(notification_create, 0);
}

static void park(void)
{
    cr_assert_eq(current(), root_thread());
    expect_state(sys(wait, parked), THREAD_WAIT);
}

TestSuite(sched, .init = start);

Test(sched, the_most_urgent_runs)
{
    struct child low = child_at(1, 5, 0, 0), high = child_at(2, 20, 0, 0);
    cr_assert_eq(current(), root_thread());
    park();
    cr_assert_eq(current(), high.thread);
    expect_ok(sys(yield));
    cr_assert_eq(current(), high.thread, "yield does not reach the less urgent");
    handle_t n = make(notification_create, 0);
    sys(wait, n);
    cr_assert_eq(current(), low.thread);
}

Test(sched, a_wake_of_the_more_urgent_preempts_at_once)
{
    handle_t n = make(notification_create, 0);
    struct child low = child_at(1, 8, 0, 0);
    struct child high = child_create(TEST_QUOTA, TAG_MAKE(2, 1), SCHED_MAKE(20, 0, 0));
    handle_t in = grant(&high, n, RIGHT_READ, 0), out = grant(&low, n, RIGHT_WRITE, 0);
    handle_t start = grant(&low, high.handle, RIGHT_MANAGE, 0);
    park();
    cr_assert_eq(current(), low.thread);
    struct result r = sys(process_start, start, 0);
    cr_assert_eq(r.state, THREAD_READY);
    cr_assert_eq(r.status, OK);
    cr_assert_eq(current()->process, high.process);
    expect_state(sys(wait, in), THREAD_WAIT);
    cr_assert_eq(current(), low.thread);
    r = sys(signal, out, 1);
    cr_assert_eq(r.state, THREAD_READY);
    cr_assert_eq(current()->process, high.process);
}

static struct result create_with(handle_t image, uint64_t sched)
{
    return sys(process_create, image, IMAGE_FILE, ELF_FILE_BYTES, 32, TAG_MAKE(9, 1), sched);
}

Test(sched, a_child_gets_no_higher_priority_than_its_parent)
{
    expect_status(create_with(boot_image, SCHED_MAKE(31, 0, 0)), E_ARGUMENT);
    expect_status(create_with(boot_image, SCHED_MAKE(31, 1000, 10000)), E_ARGUMENT);
    expect_ok(create_with(boot_image, SCHED_MAKE(30, 0, 0)));
    struct child c = child_create(TEST_QUOTA, TAG_MAKE(1, 1), SCHED_MAKE(12, 0, 0));
    handle_t image = grant(&c, boot_image, RIGHT_READ | RIGHT_EXECUTE, 0);
    child_start(&c);
    park();
    cr_assert_eq(current(), c.thread);
    expect_status(create_with(image, SCHED_MAKE(13, 0, 0)), E_ARGUMENT);
    expect_ok(create_with(image, SCHED_MAKE(12, 0, 0)));
    account_check(process_root);
}

Test(sched, a_child_gets_no_larger_share_than_its_parent)
{
    struct child c = child_create(200, TAG_MAKE(1, 1), SCHED_MAKE(20, BUDGET_US, PERIOD_US));
    handle_t image = grant(&c, boot_image, RIGHT_READ | RIGHT_EXECUTE, 0);
    child_start(&c);
    park();
    cr_assert_eq(current(), c.thread);
    expect_status(create_with(image, SCHED_MAKE(20, 0, 0)), E_ARGUMENT); /* no budget: all of the CPU */
    expect_status(create_with(image, SCHED_MAKE(20, BUDGET_US + 1, PERIOD_US)), E_ARGUMENT);
    expect_status(create_with(image, SCHED_MAKE(20, BUDGET_US, PERIOD_US - 1)), E_ARGUMENT);
    expect_status(create_with(image, SCHED_MAKE(8, BUDGET_US / 10 + 1, PERIOD_US / 10)), E_ARGUMENT);
    expect_ok(create_with(image, SCHED_MAKE(20, BUDGET_US, PERIOD_US)));
    expect_ok(create_with(image, SCHED_MAKE(20, BUDGET_US / 10, PERIOD_US / 10)));
    expect_ok(create_with(image, SCHED_MAKE(20, 2 * BUDGET_US, 2 * PERIOD_US)));
    expect_ok(create_with(image, SCHED_MAKE(8, 50, (1u << 28) - 1)));
    expect_status(create_with(image, SCHED_MAKE(8, 49, (1u << 28) - 1)), E_ARGUMENT);
    account_check(process_root);
}

Test(sched, equals_take_turns_by_slices)
{
    struct child a = child_at(1, 8, 0, 0), b = child_at(2, 8, 0, 0), c = child_at(3, 8, 0, 0);
    park();
    struct thread *order[] = {a.thread, b.thread, c.thread};
    for (unsigned i = 0; i < 9; i++) {
        cr_assert_eq(current(), order[i % 3], "turn %u", i);
        host_advance(SLICE_US * US);
    }
}

Test(sched, a_lone_thread_needs_no_ticks)
{
    child_at(1, 8, 0, 0);
    park();
    cr_assert_eq(host_here()->timer_deadline, ~0ul);
    uint64_t arms = host.timer_arms;
    host_advance(1000000 * US);
    cr_assert_eq(host.timer_arms, arms);
}

Test(sched, a_call_to_an_equal_does_not_starve_a_third)
{
    handle_t e = make(endpoint_create, 0);
    struct child server = child_at(1, 8, 0, 0), client = child_at(2, 8, 0, 0), third = child_at(3, 8, 0, 0);
    handle_t in = grant(&server, e, RIGHT_READ, 0), out = grant(&client, e, RIGHT_WRITE, 0);
    park();
    cr_assert_eq(current(), server.thread);
    expect_state(sys(recv, in), THREAD_RECV);
    unsigned turns = 0, calls = 0;
    for (unsigned i = 0; i < 1000; i++) {
        if (current() == third.thread) {
            turns++;
            host_advance(SLICE_US * US);
        } else if (current() == server.thread) {
            sys(reply_recv, in, 0);
        } else {
            sys(call, out, 0);
            calls++;
        }
        host_advance(100 * US);
    }
    cr_assert_gt(turns, 3, "%u turns of the third beside %u calls", turns, calls);
    cr_assert_gt(calls, 3);
}

Test(sched, a_less_urgent_equal_of_a_client_is_not_starved_by_its_calls)
{
    handle_t e = make(endpoint_create, 0);
    struct child server = child_at(1, 20, 0, 0), client = child_at(2, 8, 0, 0), third = child_at(3, 8, 0, 0);
    handle_t in = grant(&server, e, RIGHT_READ, 0), out = grant(&client, e, RIGHT_WRITE, 0);
    park();
    expect_state(sys(recv, in), THREAD_RECV);
    unsigned turns = 0;
    for (unsigned i = 0; i < 1000; i++) {
        if (current() == third.thread) {
            turns++;
            host_advance(SLICE_US * US);
        } else if (current() == server.thread) {
            sys(reply_recv, in, 0);
        } else {
            sys(call, out, 0);
        }
        host_advance(100 * US);
    }
    cr_assert_gt(turns, 3, "%u turns", turns);
}

/* --- Budgets ----------------------------------------------------------------------------------------------- */

Test(sched, a_spinning_driver_starves_nobody)
{
    struct child spin = child_at(1, 20, BUDGET_US, PERIOD_US), low = child_at(2, 5, 0, 0);
    park();
    cr_assert_eq(current(), spin.thread);
    host_advance((BUDGET_US - 1) * US);
    cr_assert_eq(current(), spin.thread);
    host_advance(2 * US);
    cr_assert_eq(current(), low.thread, "the budget is used up");
    cr_assert_eq(spin.thread->priority, 0);
    host_advance(PERIOD_US * US);
    cr_assert_eq(current(), spin.thread, "a new period");
    uint64_t before = low.process->cpu_tsc;
    host_advance(100 * PERIOD_US * US);
    uint64_t share = (low.process->cpu_tsc - before) * 100 / (100 * PERIOD_US * US);
    cr_assert(share >= 80 && share <= 95, "the other got %lu %% of the time", share);
}

Test(sched, an_overrun_is_an_event_of_the_parent)
{
    handle_t n = make(notification_create, 0);
    expect_ok(sys(event_bind, n, 1));
    buffer_make(USER_DYNAMIC);
    struct child spin = child_at(1, 20, BUDGET_US, PERIOD_US);
    expect_state(sys(wait, n), THREAD_WAIT);
    host_advance((BUDGET_US + 1) * US);
    cr_assert_eq(current(), root_thread());
    cr_assert_eq(result_of(root_thread()).w[0], 1);
    expect_ok(sys(process_event, USER_DYNAMIC));
    struct process_event e;
    cr_assert_eq(user_read(process_root, &e, (vaddr_t){USER_DYNAMIC}, sizeof e), OK);
    cr_assert_eq(e.kind, EVENT_OVERRUN);
    cr_assert_eq(e.process, spin.handle);
    cr_assert_eq(spin.process->overruns, 1);
    cr_assert_eq(trace_count(TRACE_OVERRUN), 1);
    expect_ok(sys(process_kill, spin.handle, CAUSE_BUDGET));
    expect_ok(sys(process_event, USER_DYNAMIC));
    cr_assert_eq(user_read(process_root, &e, (vaddr_t){USER_DYNAMIC}, sizeof e), OK);
    cr_assert_eq(e.kind, EVENT_DEATH);
    account_check(process_root);
}

/* Alone on the machine it may run on at priority 0; with the new period its priority is back. */
Test(sched, an_exhausted_thread_that_goes_on_running_is_replenished)
{
    struct child spin = child_at(1, 20, BUDGET_US, PERIOD_US);
    park();
    host_advance((BUDGET_US + 1) * US);
    cr_assert_eq(current(), spin.thread);
    cr_assert_eq(spin.thread->priority, 0);
    host_advance(PERIOD_US * US);
    cr_assert_eq(spin.thread->priority, 20, "still without priority a period later");
    host_advance(BUDGET_US * US);
    cr_assert_eq(spin.thread->priority, 0);
    cr_assert_eq(spin.process->overruns, 2);
}

Test(sched, a_thread_within_its_budget_never_overruns)
{
    handle_t n = make(notification_create, 0), t = make(timer_create, n, 1);
    struct child c = child_at(1, 20, BUDGET_US, PERIOD_US);
    handle_t theirs = grant(&c, n, RIGHT_READ, 0);
    for (unsigned i = 0; i < 100; i++) {
        expect_ok(sys(timer_arm, t, sys(clock).w[0] + PERIOD_US * 1000));
        park();
        cr_assert_eq(current(), c.thread);
        host_advance(BUDGET_US * US / 4);
        expect_state(sys(wait, theirs), THREAD_WAIT);
        host_advance(PERIOD_US * US - BUDGET_US * US / 4);
        cr_assert_eq(current(), c.thread);
        notification_signal((struct notification *)object_at(process_root, parked), 1);
        kernel_resume();
        cr_assert_eq(current(), root_thread());
    }
    cr_assert_eq(c.process->overruns, 0);
}

/* Shares of the CPU over ten periods, in percent of the time. */
static uint64_t share_of(struct process *p)
{
    uint64_t before = p->cpu_tsc;
    host_advance(10 * PERIOD_US * US);
    return (p->cpu_tsc - before) * 100 / (10 * PERIOD_US * US);
}

Test(sched, the_threads_of_a_process_share_its_budget)
{
    struct child many = child_at(1, 20, BUDGET_US, PERIOD_US), low = child_at(2, 5, 0, 0);
    for (unsigned i = 0; i < THREADS_MAX - 1; i++)
        make(thread_create, many.handle, ELF_TEXT, USER_STACK_TOP, 0);
    park();
    cr_assert_eq(current()->process, many.process);
    uint64_t share = share_of(low.process);
    cr_assert(share >= 85 && share <= 95, "beside 8 threads with one budget the other got %lu %%", share);
    account_check(process_root);
}

Test(sched, children_draw_on_the_budget_of_their_parent)
{
    struct child parent = child_create(400, TAG_MAKE(1, 1), SCHED_MAKE(20, BUDGET_US, PERIOD_US));
    struct child low = child_at(2, 5, 0, 0);
    handle_t image = grant(&parent, boot_image, RIGHT_READ | RIGHT_EXECUTE, 0);
    child_start(&parent);
    park();
    cr_assert_eq(current(), parent.thread);
    for (unsigned i = 0; i < 5; i++) {
        handle_t c = make(process_create, image, IMAGE_FILE, ELF_FILE_BYTES, 40, TAG_MAKE(9, 1),
                          SCHED_MAKE(20, BUDGET_US, PERIOD_US));
        expect_ok(sys(process_start, c, 0));
    }
    uint64_t share = share_of(low.process);
    cr_assert(share >= 85 && share <= 95, "beside a family with one budget the other got %lu %%", share);
    account_check(process_root);
}

Test(sched, a_child_with_less_is_held_to_less)
{
    struct child parent = child_create(400, TAG_MAKE(1, 1), SCHED_MAKE(20, 5 * BUDGET_US, PERIOD_US));
    struct child low = child_at(2, 5, 0, 0);
    handle_t image = grant(&parent, boot_image, RIGHT_READ | RIGHT_EXECUTE, 0);
    child_start(&parent);
    park();
    handle_t c = make(process_create, image, IMAGE_FILE, ELF_FILE_BYTES, 40, TAG_MAKE(9, 1),
                      SCHED_MAKE(20, BUDGET_US, PERIOD_US));
    struct process *child = (struct process *)object_at(parent.process, c);
    expect_ok(sys(process_start, c, 0));
    handle_t n = make(notification_create, 0);
    expect_state(sys(wait, n), THREAD_WAIT);
    cr_assert_eq(current()->process, child);
    uint64_t share = share_of(low.process);
    cr_assert(share >= 85 && share <= 95, "beside a tenth the other got %lu %%", share);
}

/* A server has no budget and works 10 us for each call of 1 us: its clients' budget is what limits them. */
Test(sched, who_has_others_work_for_him_pays)
{
    handle_t e = make(endpoint_create, 0);
    struct child server = child_at(1, 25, 0, 0), client = child_at(2, 20, BUDGET_US, PERIOD_US);
    struct child low = child_at(3, 5, 0, 0);
    handle_t in = grant(&server, e, RIGHT_READ, 0), out = grant(&client, e, RIGHT_WRITE, 0);
    park();
    expect_state(sys(recv, in), THREAD_RECV);
    uint64_t before = host.tsc;
    while (host.tsc - before < 10 * PERIOD_US * US) {
        if (current() == server.thread) {
            host_advance(10 * US);
            if (current() == server.thread) sys(reply_recv, in, 0);
        } else if (current() == client.thread && client.thread->priority) {
            host_advance(US);
            if (current() == client.thread) sys(call, out, 0);
        } else {
            host_advance(US);
        }
    }
    uint64_t share = (server.process->cpu_tsc + client.process->cpu_tsc) * 100 / (host.tsc - before);
    cr_assert(share >= 8 && share <= 12, "a client with a tenth and its server got %lu %%", share);
    cr_assert_lt(low.process->cpu_tsc, host.tsc);
    cr_assert_gt(server.process->cpu_tsc, 5 * client.process->cpu_tsc);
}

Test(sched, a_sleeper_keeps_its_budget)
{
    struct child c = child_at(1, 20, BUDGET_US, PERIOD_US), low = child_at(2, 5, 0, 0);
    handle_t n = make(notification_create, 0), theirs = grant(&c, n, RIGHT_READ, 0),
             other = grant(&low, n, RIGHT_WRITE, 0);
    park();
    host_advance(BUDGET_US * US / 2);
    expect_state(sys(wait, theirs), THREAD_WAIT);
    cr_assert_eq(current(), low.thread);
    host_advance(5 * PERIOD_US * US);
    sys(signal, other, 1);
    cr_assert_eq(current(), c.thread);
    host_advance((BUDGET_US - 10) * US);
    cr_assert_eq(current(), c.thread, "a period begins with use");
}

Test(sched, an_exhausted_thread_dies)
{
    struct child spin = child_at(1, 20, BUDGET_US, PERIOD_US);
    handle_t n = make(notification_create, 0);
    expect_ok(sys(event_bind, n, 1));
    expect_state(sys(wait, n), THREAD_WAIT);
    host_advance((BUDGET_US + 1) * US);
    cr_assert_eq(current(), root_thread());
    expect_ok(sys(process_destroy, spin.handle));
    host_advance(PERIOD_US * US);
    account_check(process_root);
}

Test(sched, time_is_counted_once)
{
    struct child a = child_at(1, 8, 0, 0), b = child_at(2, 8, 0, 0);
    park();
    host_advance(1234567);
    run_as(a.thread);
    sys(exit, 0);
    run_as(b.thread);
    sys(exit, 0);
    cr_assert_null(current());
    host_advance(777);
    kernel_resume();
    uint64_t all = a.process->cpu_tsc + b.process->cpu_tsc + process_root->cpu_tsc + arch_cpu()->idle_tsc;
    cr_assert_eq(all, host.tsc - HOST_TSC_BOOT);
}

Test(sched, the_address_space_follows_the_thread)
{
    struct child a = child_make(1), b = child_make(2);
    for (unsigned i = 0; i < 10; i++) {
        run_as(i % 2 ? a.thread : b.thread);
        cr_assert_eq(host_here()->space, current()->process);
    }
    uint64_t switches = host.space_switches;
    for (unsigned i = 0; i < 10; i++) expect_ok(sys(null));
    cr_assert_eq(host.space_switches, switches);
}

/* A thread that waits for interrupt 4. */
static struct child handler_at(uint32_t priority, uint64_t budget_us, handle_t *n)
{
    struct child c = child_at(9, priority, budget_us, budget_us ? PERIOD_US : 0);
    handle_t own = make(notification_create, 0), i = make(irq_create, boot_root, IRQ_GSI, 4);
    *n = grant(&c, own, RIGHT_READ, 0);
    expect_ok(sys(irq_bind, i, own, 1));
    return c;
}

Test(sched, whom_an_interrupt_wakes_runs_at_once)
{
    handle_t n;
    struct child handler = handler_at(20, 0, &n);
    struct child first = child_at(1, 10, 0, 0), second = child_at(2, 10, 0, 0);
    park();
    run_as(handler.thread);
    expect_state(sys(wait, n), THREAD_WAIT);
    run_as(first.thread);
    cr_assert_eq(second.thread->state, THREAD_READY);
    uint64_t switches = arch_cpu()->switches;
    cr_assert(host_irq_raise(IRQ_GSI, 4));
    cr_assert_eq(current(), handler.thread);
    cr_assert_eq(handler.thread->context.w[0], 1);
    cr_assert_eq(arch_cpu()->switches, switches + 1);
    cr_assert_eq(first.thread->state, THREAD_READY);
    expect_state(sys(wait, n), THREAD_WAIT);
    cr_assert_eq(current(), first.thread, "who was interrupted goes on before his equals");
}

Test(sched, whom_an_interrupt_wakes_waits_for_the_more_urgent)
{
    handle_t n;
    struct child handler = handler_at(8, 0, &n), busy = child_at(1, 10, 0, 0);
    handle_t work = make(notification_create, 0), theirs = grant(&busy, work, RIGHT_READ, 0);
    struct notification *object = (struct notification *)object_at(process_root, work);
    park();
    expect_state(sys(wait, theirs), THREAD_WAIT);
    expect_state(sys(wait, n), THREAD_WAIT);
    notification_signal(object, 1);
    kernel_resume();
    cr_assert(host_irq_raise(IRQ_GSI, 4));
    cr_assert_eq(current(), busy.thread);
    cr_assert_eq(handler.thread->state, THREAD_READY);
    sys(exit, 0);
    cr_assert_eq(current(), handler.thread);
}

Test(sched, whom_an_interrupt_wakes_has_no_more_than_his_budget)
{
    handle_t n;
    struct child handler = handler_at(20, BUDGET_US, &n), busy = child_at(1, 10, 0, 0);
    park();
    run_as(handler.thread);
    handler.process->budget.used_tsc = handler.process->budget.limit_tsc;
    handler.process->budget.period_end_tsc = host.tsc + PERIOD_US * US;
    expect_state(sys(wait, n), THREAD_WAIT);
    run_as(busy.thread);
    cr_assert(host_irq_raise(IRQ_GSI, 4));
    cr_assert_eq(current(), busy.thread);
    cr_assert_eq(handler.thread->priority, 0);
}
