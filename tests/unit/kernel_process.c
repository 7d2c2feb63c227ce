/* SPDX-License-Identifier: BSD-2-Clause
 * Processes: made from images, started, ended by every road, and owning nothing afterwards. */
#include <criterion/criterion.h>
#include "host_kernel.h"

#define EVENTS USER_DYNAMIC /* a page for struct process_event */

TestSuite(process, .init = boot);

static struct process_event event_take(void)
{
    struct process_event e;
    expect_ok(sys(process_event, EVENTS));
    cr_assert_eq(user_read(current()->process, &e, (vaddr_t){EVENTS}, sizeof e), OK);
    return e;
}

static struct process_info info_of(handle_t h)
{
    struct process_info i;
    expect_ok(sys(process_info, h, EVENTS));
    cr_assert_eq(user_read(current()->process, &i, (vaddr_t){EVENTS}, sizeof i), OK);
    return i;
}

/* --- Birth --------------------------------------------------------------------------------------------- */

Test(process, the_first_process_is_as_the_image_says)
{
    uint8_t data[64];
    uint32_t prot;
    cr_assert_eq(root_thread()->context.arch.rip, ELF_TEXT + 0x10);
    cr_assert_eq(root_thread()->context.arch.rsp, USER_STACK_TOP);
    cr_assert_eq(user_read(process_root, data, (vaddr_t){ELF_DATA}, 64), OK);
    for (unsigned i = 0; i < 64; i++) cr_assert_eq(data[i], i + 1);
    cr_assert_eq(user_read(process_root, data, (vaddr_t){ELF_DATA + ELF_DATA_BYTES - 64}, 64), OK);
    for (unsigned i = 0; i < 64; i++) cr_assert_eq(data[i], 0);
    cr_assert(host_translate(process_root, (vaddr_t){ELF_TEXT}, &prot, NULL).v);
    cr_assert_eq(prot, RIGHT_READ | RIGHT_EXECUTE);
    cr_assert(host_translate(process_root, (vaddr_t){ELF_DATA}, &prot, NULL).v);
    cr_assert_eq(prot, RIGHT_READ | RIGHT_WRITE);
    cr_assert(host_translate(process_root, (vaddr_t){USER_STARTUP}, &prot, NULL).v);
    cr_assert_eq(prot, RIGHT_READ);
    cr_assert(host_translate(process_root, (vaddr_t){USER_STACK_TOP - 1}, NULL, NULL).v);
    cr_assert_eq(
        host_translate(process_root, (vaddr_t){USER_STACK_TOP - STACK_PAGES * PAGE_SIZE - 1}, NULL, NULL).v,
        0, "a guard page below the stack");
    cr_assert_eq(host_here()->space, process_root);
}

Test(process, text_of_the_image_is_shared_and_data_is_not)
{
    struct child c = child_make(1), d = child_make(2);
    paddr_t text = host_translate(c.process, (vaddr_t){ELF_TEXT}, NULL, NULL);
    cr_assert_eq(text.v, host_translate(d.process, (vaddr_t){ELF_TEXT}, NULL, NULL).v);
    cr_assert_neq(host_translate(c.process, (vaddr_t){ELF_DATA}, NULL, NULL).v,
                  host_translate(d.process, (vaddr_t){ELF_DATA}, NULL, NULL).v);
    uint8_t first = 0;
    cr_assert_eq(user_read(c.process, &first, (vaddr_t){ELF_DATA}, 1), OK);
    cr_assert_eq(first, 1);
    account_check(process_root);
}

Test(process, what_is_refused_leaves_nothing)
{
    uint64_t used = process_root->used, live = process_count(), free = frame_available();
    expect_status(
        sys(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, PROCESS_PAGES_MIN - 1, 1, TEST_SCHED),
        E_ARGUMENT);
    expect_status(sys(process_create, boot_image, IMAGE_FILE + 8, ELF_FILE_BYTES, 64, 1, TEST_SCHED),
                  E_ARGUMENT);
    expect_status(sys(process_create, boot_image, IMAGE_FILE, 4 * PAGE_SIZE, 64, 1, TEST_SCHED), E_ARGUMENT);
    expect_status(sys(process_create, boot_image, ~0xffful, ELF_FILE_BYTES, 64, 1, TEST_SCHED), E_ARGUMENT);
    expect_status(sys(process_create, boot_image, IMAGE_FILE, ~0ul, 64, 1, TEST_SCHED), E_ARGUMENT);
    expect_status(sys(process_create, boot_image, 0, PAGE_SIZE, 64, 1, TEST_SCHED), E_IMAGE);
    expect_status(sys(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES - 1, 64, 1, TEST_SCHED),
                  E_IMAGE);
    expect_status(sys(process_create, boot_image, IMAGE_FILE, 0, 64, 1, TEST_SCHED), E_IMAGE);
    expect_status(sys(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, 64, 1, SCHED_MAKE(0, 0, 0)),
                  E_ARGUMENT);
    expect_status(sys(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, 64, 1, SCHED_MAKE(32, 0, 0)),
                  E_ARGUMENT);
    expect_status(
        sys(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, 64, 1, SCHED_MAKE(8, 2000, 1000)),
        E_ARGUMENT);
    expect_status(
        sys(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, process_root->quota, 1, TEST_SCHED),
        E_QUOTA);
    expect_status(sys(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, ~0ul, 1, TEST_SCHED), E_QUOTA);
    handle_t m = make(memory_create, 0, 4, 0);
    expect_status(sys(process_create, m, 0, PAGE_SIZE, 64, 1, TEST_SCHED), E_ARGUMENT);
    handle_t r = make(cap_derive, boot_image, RIGHT_READ, 0);
    expect_status(sys(process_create, r, IMAGE_FILE, ELF_FILE_BYTES, 64, 1, TEST_SCHED), E_RIGHTS);
    expect_ok(sys(cap_delete, r));
    expect_ok(sys(cap_delete, m));
    cr_assert_eq(process_count(), live);
    cr_assert_leq(process_root->used, used + 1, "at most a page of cells more");
    cr_assert_leq(free - frame_available(), 1);
    account_check(process_root);
}

/* Every quota from the least to one that suffices: creation fails cleanly at whichever allocation. */
Test(process, creation_fails_cleanly_at_every_allocation)
{
    unsigned failed = 0;
    handle_t m = make(memory_create, 0, 16, MEMORY_CONTIGUOUS);
    struct memory *o = (struct memory *)object_at(process_root, m);
    uint8_t *file = arch_direct(o->base);
    elf_make(file);
    struct test_elf *e = (void *)file;
    for (uint64_t bytes = PAGE_SIZE; bytes < 40 * PAGE_SIZE; bytes += PAGE_SIZE) {
        e->segment[1].p_memsz = bytes; /* needs more than 16 pages from some size on */
        uint64_t live = process_count();
        struct result r = sys(process_create, m, 0, ELF_FILE_BYTES, PROCESS_PAGES_MIN, 1, TEST_SCHED);
        if (r.status == OK) {
            expect_ok(sys(process_destroy, r.w[0]));
        } else {
            cr_assert_eq(r.status, E_QUOTA);
            failed++;
        }
        cr_assert_eq(process_count(), live);
        account_check(process_root);
    }
    cr_assert_gt(failed, 20);
}

Test(process, it_starts_once)
{
    struct child c = child_create(TEST_QUOTA, TAG_MAKE(1, 1), TEST_SCHED);
    expect_status(sys(thread_create, c.handle, ELF_TEXT, USER_STACK_TOP, 0), E_STATE);
    expect_ok(sys(process_start, c.handle, 4711));
    cr_assert_eq(thread_of(c.process)->context.handle, 4711);
    expect_status(sys(process_start, c.handle, 0), E_STATE);
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    expect_status(sys(process_start, c.handle, 0), E_STATE);
    expect_status(sys(process_kill, c.handle, CAUSE_KILLED), E_STATE);
}

Test(process, threads_have_a_limit)
{
    struct child c = child_make(1);
    run_as(c.thread);
    for (unsigned i = 1; i < THREADS_MAX; i++) make(thread_create, 0, ELF_TEXT, USER_STACK_TOP, i);
    expect_status(sys(thread_create, 0, ELF_TEXT, USER_STACK_TOP, 0), E_NO_SLOTS);
    cr_assert_eq(c.process->thread_count, THREADS_MAX);
}

Test(process, a_thread_starts_as_asked)
{
    handle_t h = make(thread_create, 0, ELF_TEXT + 4, USER_STACK_TOP - 64, 99);
    struct thread *t = (struct thread *)object_at(process_root, h);
    cr_assert_eq(t->context.arch.rip, ELF_TEXT + 4);
    cr_assert_eq(t->context.arch.rsp, USER_STACK_TOP - 64);
    cr_assert_eq(t->context.handle, 99);
    run_as(t);
    expect_status(sys(thread_create, 0, USER_END, USER_STACK_TOP, 0), E_ADDRESS);
    expect_status(sys(thread_create, 0, ELF_TEXT, USER_END + 1, 0), E_ADDRESS);
    expect_status(sys(thread_create, 0, ~0ul, 0, 0), E_ADDRESS);
}

Test(process, a_thread_ends_with_its_capability)
{
    handle_t h = make(thread_create, 0, ELF_TEXT, USER_STACK_TOP, 0);
    struct thread *t = (struct thread *)object_at(process_root, h);
    expect_ok(sys(cap_delete, h));
    cr_assert(!thread_lives(t));
    h = make(thread_create, 0, ELF_TEXT, USER_STACK_TOP, 0);
    t = (struct thread *)object_at(process_root, h);
    run_as(t);
    expect_state(sys(cap_delete, h), THREAD_ENDED); /* itself */
    cr_assert_eq(current(), root_thread());
    account_check(process_root);
}

/* --- Death by every road ----------------------------------------------------------------------------------- */

static struct child watched(void)
{
    buffer_make(EVENTS);
    struct child c = child_make(5);
    run_as(c.thread);
    make(endpoint_create, 0);
    handle_t n = make(notification_create, 0);
    make(timer_create, n, 1);
    make(memory_create, 0, 3, 0);
    buffer_make(USER_DYNAMIC);
    return c;
}

static void dead(struct child *c, enum cause cause, uint64_t code)
{
    run_as(root_thread());
    cr_assert_eq(c->process->state, PROCESS_DEAD);
    cr_assert(inv_process_dead_owns_nothing(c->process));
    account_check(process_root);
    struct process_event e = event_take();
    cr_assert_eq(e.kind, EVENT_DEATH);
    cr_assert_eq(e.cause, cause);
    cr_assert_eq(e.code, code);
    cr_assert_eq(e.tag, c->process->object.tag);
    cr_assert_eq(e.pid, c->process->pid);
    cr_assert_eq(e.process, c->handle);
    expect_status(sys(process_event, EVENTS), E_WOULD_BLOCK);
    cr_assert_eq(info_of(c->handle).state, PROCESS_DEAD);
    cr_assert_eq(info_of(c->handle).used_pages, 1);
    cr_assert_eq(trace_count(TRACE_DEATH), 1);
    cr_assert_eq(trace_count(TRACE_FENCE_DONE), 1);
    cr_assert_eq(trace_count(TRACE_LEAK), 0);
    expect_ok(sys(process_destroy, c->handle));
    cr_assert_eq(sys(process_info, c->handle, EVENTS).status, E_HANDLE);
    account_check(process_root);
}

Test(process, ends_by_exit)
{
    struct child c = watched();
    expect_state(sys(exit, 42), THREAD_ENDED);
    dead(&c, CAUSE_EXIT, 42);
}

Test(process, ends_by_exception)
{
    struct child c = watched();
    c.thread->context.arch.rip = 0x123456;
    kernel_exception(CAUSE_PAGE_FAULT, 0xdeadbeef);
    run_as(root_thread());
    cr_assert_eq(info_of(c.handle).fault_address, 0xdeadbeef);
    cr_assert_eq(info_of(c.handle).fault_rip, 0x123456);
    dead(&c, CAUSE_PAGE_FAULT, 0);
}

Test(process, ends_by_kill)
{
    struct child c = watched();
    run_as(root_thread());
    expect_ok(sys(process_kill, c.handle, CAUSE_STALLED));
    dead(&c, CAUSE_STALLED, 0);
}

Test(process, ends_by_its_own_kill)
{
    struct child c = watched();
    expect_state(sys(process_kill, 0, CAUSE_PROTOCOL), THREAD_ENDED);
    dead(&c, CAUSE_PROTOCOL, 0);
}

Test(process, ends_by_destroy_without_an_event)
{
    struct child c = watched();
    run_as(root_thread());
    expect_ok(sys(process_destroy, c.handle));
    expect_status(sys(process_event, EVENTS), E_WOULD_BLOCK);
    account_check(process_root);
}

Test(process, ends_with_its_capability)
{
    struct child c = watched();
    run_as(root_thread());
    uint64_t live = process_count();
    expect_ok(sys(cap_delete, c.handle));
    cr_assert_eq(process_count(), live - 1);
    account_check(process_root);
}

Test(process, causes_that_are_refused)
{
    struct child c = child_make(1);
    expect_status(sys(process_kill, c.handle, 0), E_ARGUMENT);
    expect_status(sys(process_kill, c.handle, 256), E_ARGUMENT);
    handle_t weak = make(cap_derive, c.handle, RIGHT_INJECT | RIGHT_GRANT, 0);
    expect_status(sys(process_kill, weak, CAUSE_KILLED), E_RIGHTS);
    expect_status(sys(process_destroy, weak), E_RIGHTS);
}

Test(process, only_the_parent_destroys)
{
    struct child c = child_make(1), d = child_make(2);
    handle_t h = grant(&c, d.handle, RIGHT_MANAGE, 0);
    run_as(c.thread);
    expect_status(sys(process_destroy, h), E_STATE);
    expect_ok(sys(process_kill, h, CAUSE_KILLED));
    run_as(root_thread());
    expect_ok(sys(process_destroy, d.handle));
    account_check(process_root);
}

/* --- Families -------------------------------------------------------------------------------------------------- */

/* A chain of processes, each the child of the one before. */
static unsigned chain(struct process *family[], unsigned most, uint64_t quota)
{
    struct child c = child_create(quota, TAG_MAKE(1, 1), TEST_SCHED);
    handle_t image = grant(&c, boot_image, RIGHT_READ | RIGHT_EXECUTE | RIGHT_GRANT, 0);
    child_start(&c);
    run_as(c.thread);
    family[0] = c.process;
    for (unsigned n = 1; n < most; n++) {
        struct process *p = family[n - 1];
        struct result r = sys(process_create, image, IMAGE_FILE, ELF_FILE_BYTES, p->quota - p->used - 2,
                              TAG_MAKE(n + 1, 1), TEST_SCHED);
        if (r.status != OK) return n;
        family[n] = (struct process *)object_at(p, r.w[0]);
        struct result g = sys(process_grant, r.w[0], image, RIGHT_READ | RIGHT_EXECUTE | RIGHT_GRANT, 0);
        if (g.status != OK || sys(process_start, r.w[0], 0).status != OK) return n + 1;
        image = g.w[0];
        run_as(thread_of(family[n]));
    }
    return most;
}

Test(process, a_family_dies_with_its_head)
{
    static struct process *family[64];
    unsigned n = chain(family, 64, 1200);
    cr_assert_gt(n, 30, "%u deep", n);
    account_check(process_root);
    uint64_t live = process_count();
    run_as(root_thread());
    process_kill(family[0], CAUSE_KILLED, 0, 0);
    cr_assert_eq(process_count(), live - n);
    account_check(process_root);
}

Test(process, a_grandchild_kills_its_own_ancestor)
{
    struct child c = child_create(1000, TAG_MAKE(1, 1), TEST_SCHED);
    handle_t image = grant(&c, boot_image, RIGHT_READ | RIGHT_EXECUTE, 0);
    handle_t self = grant(&c, c.handle, RIGHT_MANAGE | RIGHT_GRANT, 0); /* to itself, to be passed on */
    child_start(&c);
    run_as(c.thread);
    handle_t h = make(process_create, image, IMAGE_FILE, ELF_FILE_BYTES, 200, TAG_MAKE(2, 1), TEST_SCHED);
    struct process *grandchild = (struct process *)object_at(c.process, h);
    handle_t ancestor = make(process_grant, h, self, RIGHT_MANAGE, 0);
    expect_ok(sys(process_start, h, 0));
    run_as(thread_of(grandchild));
    expect_state(sys(process_kill, ancestor, CAUSE_KILLED), THREAD_ENDED);
    cr_assert_eq(current(), root_thread());
    cr_assert_eq(c.process->state, PROCESS_DEAD);
    account_check(process_root);
}

/* A very deep family: its end must not need kernel stack for each generation. */
Test(process, a_deep_family_does_not_need_a_deep_stack)
{
    static struct process *family[600];
    unsigned n = chain(family, 600, 7000);
    cr_assert_gt(n, 200, "%u deep", n);
    run_as(root_thread());
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    host_stack_low = here;
    process_kill(family[0], CAUSE_KILLED, 0, 0);
    cr_assert_lt(here - host_stack_low, 6000, "%lu bytes of stack for %u generations", here - host_stack_low,
                 n);
    account_check(process_root);
}

/* --- Events ------------------------------------------------------------------------------------------------------- */

Test(process, events_arrive_in_order_and_signal)
{
    buffer_make(EVENTS);
    handle_t n = make(notification_create, 0);
    struct child c = child_make(1), d = child_make(2);
    expect_ok(sys(event_bind, n, 8));
    expect_status(sys(poll, n), E_WOULD_BLOCK);
    expect_ok(sys(process_kill, d.handle, CAUSE_KILLED));
    expect_ok(sys(process_kill, c.handle, CAUSE_STALLED));
    cr_assert_eq(sys(poll, n).w[0], 8);
    cr_assert_eq(event_take().process, d.handle);
    cr_assert_eq(event_take().process, c.handle);
    expect_status(sys(process_event, EVENTS), E_WOULD_BLOCK);
}

Test(process, a_late_bind_is_signalled_at_once)
{
    handle_t n = make(notification_create, 0);
    struct child c = child_make(1);
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    expect_ok(sys(event_bind, n, 2));
    cr_assert_eq(sys(poll, n).w[0], 2);
}

Test(process, an_event_is_not_lost_to_a_bad_buffer)
{
    buffer_make(EVENTS);
    handle_t ro = make(memory_create, 0, 1, 0);
    expect_ok(sys(memory_map, 0, ro, EVENTS + 0x10000, 0, 1, RIGHT_READ));
    struct child c = child_make(1);
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    expect_status(sys(process_event, 0), E_ADDRESS);
    expect_status(sys(process_event, EVENTS + 0x10000), E_ADDRESS);
    expect_status(sys(process_event, EVENTS + PAGE_SIZE - 8), E_ADDRESS);
    cr_assert_eq(event_take().process, c.handle);
}

Test(process, an_event_of_a_destroyed_child_is_gone)
{
    buffer_make(EVENTS);
    struct child c = child_make(1);
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    expect_ok(sys(process_destroy, c.handle));
    expect_status(sys(process_event, EVENTS), E_WOULD_BLOCK);
}

Test(process, a_thousand_births_and_deaths_cost_nothing)
{
    struct child warm = child_make(1);
    expect_ok(sys(process_destroy, warm.handle));
    uint64_t used = process_root->used, free = frame_available();
    for (unsigned i = 0; i < 1000; i++) {
        struct child c = child_make(1);
        if (i % 2) expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
        expect_ok(sys(process_destroy, c.handle));
    }
    cr_assert_eq(process_root->used, used);
    cr_assert_eq(frame_available(), free);
}
