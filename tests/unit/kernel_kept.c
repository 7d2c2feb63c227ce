/* SPDX-License-Identifier: BSD-2-Clause
 * Kept processes: what of them stays when they fall, what is fenced and answered, and that they begin anew; and the
 * first process, which the kernel itself starts again. */
#include <criterion/criterion.h>
#include <signal.h>
#include "host_kernel.h"

#define EVENTS USER_DYNAMIC

TestSuite(kept, .init = boot);

static struct child kept_make(uint32_t service)
{
    struct child c = {.handle = make(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, TEST_QUOTA,
                                     TAG_MAKE(service, 1), TEST_SCHED, PROCESS_KEPT)};
    c.process = (struct process *)object_at(process_root, c.handle);
    child_start(&c);
    return c;
}

static uint8_t byte_at(struct process *p, uint64_t at)
{
    uint8_t value = 0;
    cr_assert_eq(user_read(p, &value, (vaddr_t){at}, 1), OK);
    return value;
}

static void byte_set(struct process *p, uint64_t at, uint8_t value)
{
    cr_assert_eq(user_write(p, (vaddr_t){at}, &value, 1), OK);
}

static void write_all(struct process *p)
{
    byte_set(p, ELF_DATA, 99);
    byte_set(p, ELF_DATA + ELF_DATA_BYTES - 1, 99);
    byte_set(p, USER_STACK_TOP - 1, 99);
}

/* As the program's file says, whatever was written there. */
static void image_is_new(struct process *p)
{
    cr_assert_eq(byte_at(p, ELF_DATA), 1);
    cr_assert_eq(byte_at(p, ELF_DATA + ELF_DATA_BYTES - 1), 0);
    cr_assert_eq(byte_at(p, USER_STACK_TOP - 1), 0);
}

Test(kept, what_it_has_stays_and_its_image_is_new)
{
    buffer_make(EVENTS);
    struct child c = kept_make(5);
    run_as(c.thread);
    handle_t e = make(endpoint_create, 0), m = make(memory_create, 0, 3, 0);
    expect_ok(sys(memory_map, 0, m, USER_KEPT, 0, 3, RIGHT_READ | RIGHT_WRITE));
    byte_set(c.process, USER_KEPT + PAGE_SIZE, 7);
    write_all(c.process);
    uint64_t used = c.process->used, pid = c.process->pid;
    c.thread->context.arch.rip = 0x123456;
    kernel_exception(CAUSE_PAGE_FAULT, 0xdead);
    cr_assert_eq(c.process->state, PROCESS_FALLEN);
    cr_assert_eq(c.process->thread_count, 0);
    account_check(process_root);
    struct process_event event;
    expect_ok(sys(process_event, EVENTS));
    cr_assert_eq(user_read(process_root, &event, (vaddr_t){EVENTS}, sizeof event), OK);
    cr_assert_eq(event.cause, CAUSE_PAGE_FAULT);
    cr_assert_eq(event.tag, TAG_MAKE(5, 1));
    expect_status(sys(process_kill, c.handle, CAUSE_KILLED), E_STATE);
    expect_ok(sys(process_start, c.handle, 4711, TAG_MAKE(5, 2)));
    cr_assert_eq(c.process->state, PROCESS_RUNNING);
    cr_assert_eq(c.process->object.tag, TAG_MAKE(5, 2));
    cr_assert_eq(c.process->pid, pid);
    cr_assert_eq(c.process->used, used);
    struct thread *t = thread_of(c.process);
    cr_assert_eq(t->context.arch.rip, ELF_TEXT + 0x10);
    cr_assert_eq(t->context.arch.rsp, USER_STACK_TOP);
    cr_assert_eq(t->context.handle, 4711);
    image_is_new(c.process);
    cr_assert_eq(byte_at(c.process, USER_KEPT + PAGE_SIZE), 7);
    run_as(t);
    expect_ok(sys(endpoint_info, e));
    expect_ok(sys(memory_info, m));
    run_as(root_thread());
    expect_ok(sys(process_destroy, c.handle));
    account_check(process_root);
}

/* A call that it had taken goes to the next incarnation, one that it had saved too; one that may not is told. */
Test(kept, calls_are_replayed)
{
    handle_t e = make(endpoint_create, 0);
    struct child s = kept_make(1), a = child_make(2), b = child_make(3), c = child_make(4);
    handle_t serve = grant(&s, e, RIGHT_READ, 0);
    struct child *caller[] = {&a, &b, &c};
    handle_t call[3];
    for (unsigned i = 0; i < 3; i++) call[i] = grant(caller[i], e, RIGHT_WRITE, i + 1);
    for (unsigned i = 0; i < 3; i++) {
        run_as(caller[i]->thread);
        sys(call, call[i], i == 2 ? 0 : INFO_REPLAYABLE, i);
        run_as(s.thread);
        expect_ok(sys(recv, serve));
        if (i < 2) make(reply_save);
    }
    expect_state(sys(exit, 3), THREAD_ENDED);
    cr_assert_eq(s.process->state, PROCESS_FALLEN);
    cr_assert_eq(c.thread->context.status, E_PEER_RESTARTED);
    cr_assert_eq(a.thread->state, THREAD_SEND);
    cr_assert_eq(b.thread->state, THREAD_SEND);
    run_as(root_thread());
    expect_ok(sys(process_start, s.handle, 0, 0));
    cr_assert_eq(s.process->object.tag, TAG_MAKE(1, 1), "no new tag was given");
    run_as(thread_of(s.process));
    for (unsigned i = 0; i < 2; i++) {
        struct result r = sys(recv, serve);
        cr_assert(r.info & INFO_REPLAYED);
        expect_ok(sys(reply, INFO_MAKE(OK, 0)));
    }
    account_check(process_root);
}

/* Devices do not work for one that does not run, and their interrupts are masked. */
Test(kept, what_it_drove_is_fenced)
{
    struct child c = kept_make(1);
    handle_t irq = grant(&c, make(irq_create, boot_root, IRQ_GSI, 4), RIGHT_MANAGE, 0);
    handle_t dma = grant(&c, make(dma_create, boot_root, HOST_PCI_FIRST), RIGHT_MANAGE, 0);
    run_as(c.thread);
    handle_t n = make(notification_create, 0);
    expect_ok(sys(irq_bind, irq, n, 1));
    expect_ok(sys(dma_attach, dma));
    expect_state(sys(exit, 0), THREAD_ENDED);
    cr_assert(list_empty(&c.process->irqs) && list_empty(&c.process->domains));
    cr_assert_eq(trace_count(TRACE_FENCE_DONE), 1);
    run_as(root_thread());
    expect_ok(sys(process_start, c.handle, 0, 0));
    run_as(thread_of(c.process));
    expect_ok(sys(irq_bind, irq, n, 1));
    expect_ok(sys(dma_attach, dma));
}

Test(kept, without_its_image_it_does_not_start)
{
    struct child c = kept_make(1);
    run_as(c.thread);
    expect_ok(sys(memory_unmap, 0, ELF_DATA));
    handle_t other = make(memory_create, 0, 2, 0);
    expect_ok(sys(memory_map, 0, other, ELF_DATA, 0, 2, RIGHT_READ | RIGHT_WRITE));
    byte_set(c.process, ELF_DATA, 55);
    expect_state(sys(exit, 0), THREAD_ENDED);
    run_as(root_thread());
    expect_status(sys(process_start, c.handle, 0, 0), E_STATE);
    cr_assert_eq(byte_at(c.process, ELF_DATA), 55, "memory of its own is not written");
    expect_ok(sys(process_destroy, c.handle));
    account_check(process_root);
}

Test(kept, only_from_the_system_image)
{
    handle_t m = make(memory_create, 0, 4, MEMORY_CONTIGUOUS);
    elf_make(arch_direct(((struct memory *)object_at(process_root, m))->base));
    expect_status(
        sys(process_create, m, 0, ELF_FILE_BYTES, TEST_QUOTA, TAG_MAKE(1, 1), TEST_SCHED, PROCESS_KEPT),
        E_ARGUMENT);
    expect_status(
        sys(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, TEST_QUOTA, 1, TEST_SCHED, 1ul << 33),
        E_ARGUMENT);
    struct child c = child_make(1);
    run_as(c.thread);
    expect_state(sys(exit, 0), THREAD_ENDED);
    cr_assert_eq(c.process->state, PROCESS_DEAD, "who is not kept is dead");
}

Test(kept, each_capability_once_and_no_other)
{
    handle_t made[200], h = 0;
    for (unsigned i = 0; i < 200; i++) made[i] = make(notification_create, 0);
    for (unsigned i = 0; i < 200; i += 3) expect_ok(sys(cap_delete, made[i]));
    uint32_t seen = 0, of_groups = 0;
    for (struct result r; (r = sys(cap_next, h)).status == OK; h = r.w[0]) {
        cr_assert(cap_lookup(process_root, r.w[0]));
        cr_assert_gt(HANDLE_INDEX(r.w[0]), HANDLE_INDEX(h));
        uint64_t group = HANDLE_INDEX(r.w[0]) / 64;
        if (group != HANDLE_INDEX(h) / 64 || h == 0) of_groups += (uint32_t)__builtin_popcountl(r.w[1]);
        cr_assert(r.w[1] >> HANDLE_INDEX(r.w[0]) % 64 & 1);
        seen++;
    }
    cr_assert_eq(seen, process_root->handle_count);
    cr_assert_eq(of_groups, seen);
    expect_status(sys(cap_next, ~0ul), E_NOT_FOUND);
}

/* --- The first process ----------------------------------------------------------------------------------- */

Test(kept, the_first_process_is_started_again)
{
    buffer_make(EVENTS);
    handle_t n = make(notification_create, 0), e = make(endpoint_create, 0);
    struct child c = child_make(5);
    handle_t call = grant(&c, e, RIGHT_WRITE, 1);
    run_as(c.thread);
    sys(call, call, INFO_REPLAYABLE, 1);
    expect_ok(sys(recv, e));
    write_all(process_root);
    uint64_t used = process_root->used, live = process_count();
    sys(exit, 1);
    cr_assert_eq(current(), root_thread());
    cr_assert_eq(process_root->object.tag, TAG_MAKE(0, 2));
    cr_assert_eq(process_root->used, used);
    cr_assert_eq(process_count(), live);
    cr_assert_eq(c.process->state, PROCESS_RUNNING);
    cr_assert_eq(root_thread()->context.handle, CAUSE_EXIT);
    image_is_new(process_root);
    struct startup s;
    cr_assert_eq(user_read(process_root, &s, (vaddr_t){USER_STARTUP}, sizeof s), OK);
    cr_assert_eq(s.tag, TAG_MAKE(0, 2));
    cr_assert(sys(recv, e).info & INFO_REPLAYED);
    expect_ok(sys(event_bind, n, 4));
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    expect_ok(sys(process_event, EVENTS));
    account_check(process_root);
}

Test(kept, the_first_process_may_fall_as_often_as_it_comes_back)
{
    handle_t n = make(notification_create, 0);
    uint64_t free = frame_available();
    for (unsigned i = 0; i < 100; i++) {
        sys(process_kill, 0, CAUSE_KILLED);
        expect_ok(sys(event_bind, n, 1));
    }
    cr_assert_eq(frame_available(), free);
    account_check(process_root);
}

Test(kept, the_first_process_that_never_comes_back_is_the_end, .signal = SIGABRT)
{
    setenv("HOST_QUIET", "1", 1);
    for (unsigned i = 0; i < 9; i++) sys(exit, 1);
}

Test(kept, the_first_process_cannot_destroy_itself)
{
    expect_status(sys(process_kill, boot_self, CAUSE_KILLED), E_RIGHTS);
    expect_ok(sys(cap_delete, boot_self));
    cr_assert_eq(process_root->state, PROCESS_RUNNING);
}

/* Somebody gave it another program's text: the next one would run that. */
Test(kept, with_another_text_it_does_not_start)
{
    struct child c = kept_make(1);
    run_as(c.thread);
    expect_ok(sys(memory_unmap, 0, ELF_TEXT));
    handle_t other = make(memory_create, 0, 1, 0);
    expect_ok(sys(memory_map, 0, other, ELF_TEXT, 0, 1, RIGHT_READ | RIGHT_EXECUTE));
    expect_state(sys(exit, 0), THREAD_ENDED);
    run_as(root_thread());
    expect_status(sys(process_start, c.handle, 0, 0), E_STATE);
}

/* --- Memory that a device could still write ------------------------------------------------------------------------- */

static handle_t fall_with_dma(struct child *c, handle_t *dma)
{
    *dma = grant(c, make(dma_create, boot_root, HOST_PCI_FIRST), RIGHT_MANAGE, 0);
    run_as(c->thread);
    expect_ok(sys(dma_attach, *dma));
    expect_ok(sys(dma_reset_done, *dma));
    handle_t m = make(memory_create, 0, 4, MEMORY_DMA);
    expect_ok(sys(memory_map, 0, m, 0x500000000ul, 0, 4, RIGHT_READ | RIGHT_WRITE));
    make(dma_map, *dma, m, 0, 4, RIGHT_READ | RIGHT_WRITE);
    expect_state(sys(exit, 0), THREAD_ENDED);
    cr_assert_eq(c->process->state, PROCESS_FALLEN);
    return m;
}

/* It is still the process's own, so it is not quarantined; nor is it once the reset is confirmed. */
Test(kept, what_a_device_of_the_fallen_could_write_stays_its_own)
{
    uint64_t before = frame_available();
    struct child c = kept_make(1);
    handle_t dma, m = fall_with_dma(&c, &dma);
    cr_assert_eq(dma_quarantined_pages(), 0);
    run_as(root_thread());
    expect_ok(sys(process_start, c.handle, 0, 0));
    c.thread = thread_of(c.process);
    run_as(c.thread);
    expect_ok(sys(dma_attach, dma));
    expect_ok(sys(dma_reset_done, dma));
    expect_ok(sys(cap_delete, m));
    cr_assert_eq(dma_quarantined_pages(), 0);
    run_as(root_thread());
    expect_ok(sys(process_destroy, c.handle));
    cr_assert_eq(dma_quarantined_pages(), 0);
    cr_assert_eq(frame_available(), before);
}

/* Given back before the reset is confirmed, it waits for that like everybody's. */
Test(kept, what_the_fallen_gives_back_too_soon_is_quarantined)
{
    struct child c = kept_make(1);
    handle_t dma, m = fall_with_dma(&c, &dma);
    run_as(root_thread());
    expect_ok(sys(process_start, c.handle, 0, 0));
    c.thread = thread_of(c.process);
    run_as(c.thread);
    expect_ok(sys(cap_delete, m));
    cr_assert_eq(dma_quarantined_pages(), 4);
    expect_ok(sys(dma_attach, dma));
    expect_ok(sys(dma_reset_done, dma));
    cr_assert_eq(dma_quarantined_pages(), 0);
}

/* The same for one that is ended for good before anybody reset the device. */
Test(kept, what_the_fallen_leaves_at_its_end_is_quarantined)
{
    struct child c = kept_make(1);
    handle_t dma;
    (void)fall_with_dma(&c, &dma);
    run_as(root_thread());
    expect_ok(sys(process_destroy, c.handle));
    cr_assert_eq(dma_quarantined_pages(), 4);
}
