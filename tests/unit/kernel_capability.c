/* SPDX-License-Identifier: BSD-2-Clause
 * Capabilities: handles, rights that only shrink, revocation of every descendant, deletion, tables that
 * fill up, and what is left of them when a process dies. */
#include <criterion/criterion.h>
#include "host_kernel.h"

TestSuite(capability, .init = boot);

Test(capability, info_tells_type_rights_and_badge)
{
    handle_t e = make(endpoint_create, 7);
    struct result r = sys(cap_info, e);
    expect_ok(r);
    cr_assert_eq(r.w[0], OBJECT_ENDPOINT);
    cr_assert_eq(r.w[1], RIGHT_READ | RIGHT_WRITE | RIGHT_GRANT);
    cr_assert_eq(r.w[2], 0);
}

Test(capability, derive_shrinks_rights)
{
    handle_t e = make(endpoint_create, 0);
    handle_t send = make(cap_derive, e, RIGHT_WRITE, 42);
    struct result r = sys(cap_info, send);
    cr_assert_eq(r.w[1], RIGHT_WRITE);
    cr_assert_eq(r.w[2], 42);
    expect_status(sys(cap_derive, send, RIGHT_WRITE | RIGHT_READ, 0), E_RIGHTS);
    expect_status(sys(cap_derive, send, 1ul << 40, 0), E_RIGHTS);
    expect_status(sys(recv, send), E_RIGHTS);
    handle_t nothing = make(cap_derive, e, 0, 0);
    expect_status(sys(call, nothing), E_RIGHTS);
}

Test(capability, a_badge_cannot_be_replaced)
{
    handle_t e = make(endpoint_create, 0);
    handle_t first = make(cap_derive, e, RIGHT_WRITE, 42);
    handle_t second = make(cap_derive, first, RIGHT_WRITE, 43);
    cr_assert_eq(sys(cap_info, second).w[2], 42);
}

Test(capability, stale_handle_is_refused_after_reuse_of_its_slot)
{
    handle_t old = make(notification_create, 0);
    expect_ok(sys(cap_delete, old));
    expect_status(sys(cap_info, old), E_HANDLE);
    handle_t new = make(notification_create, 0);
    cr_assert_eq(HANDLE_INDEX(new), HANDLE_INDEX(old), "the slot is used again");
    cr_assert_neq(new, old);
    expect_status(sys(signal, old, 1), E_HANDLE);
    expect_ok(sys(signal, new, 1));
}

Test(capability, no_number_but_the_given_one_is_a_handle)
{
    handle_t e = make(endpoint_create, 0);
    expect_status(sys(cap_info, 0), E_HANDLE);
    expect_status(sys(cap_info, ~0ul), E_HANDLE);
    for (unsigned bit = 0; bit < 64; bit++) {
        handle_t wrong = e ^ 1ul << bit;
        struct result r = sys(cap_info, wrong);
        if (r.status == OK)
            cr_assert(cap_lookup(process_root, wrong), "bit %u: %lx", bit, wrong);
        else
            cr_assert_eq(r.status, E_HANDLE);
        if (bit >= 16) cr_assert_eq(r.status, E_HANDLE, "bit %u", bit);
    }
}

Test(capability, handles_of_another_process_mean_nothing)
{
    struct child c = child_make(1);
    handle_t e = 0;
    for (unsigned i = 0; i < 20; i++) e = make(endpoint_create, 0);
    run_as(c.thread);
    expect_status(sys(cap_info, e), E_HANDLE);
}

Test(capability, revoke_deletes_every_descendant_and_keeps_the_top)
{
    struct child c = child_make(1);
    handle_t e = make(endpoint_create, 0);
    handle_t a = make(cap_derive, e, RIGHTS_ALL & (RIGHT_READ | RIGHT_WRITE | RIGHT_GRANT), 0);
    handle_t b = make(cap_derive, a, RIGHT_WRITE, 0);
    handle_t sibling = make(cap_derive, e, RIGHT_WRITE, 0);
    handle_t theirs = grant(&c, a, RIGHT_WRITE | RIGHT_READ, 0);
    run_as(c.thread);
    handle_t deep = theirs;
    for (unsigned i = 0; i < 40; i++) deep = make(cap_derive, deep, RIGHT_WRITE, 0);
    run_as(root_thread());
    expect_ok(sys(cap_revoke, a));
    expect_status(sys(cap_info, b), E_HANDLE);
    expect_ok(sys(cap_info, a));
    expect_ok(sys(cap_info, sibling));
    run_as(c.thread);
    expect_status(sys(cap_info, theirs), E_HANDLE);
    expect_status(sys(cap_info, deep), E_HANDLE);
    cr_assert_eq(c.process->handle_count, 0);
    account_check(process_root);
}

Test(capability, deleting_the_first_destroys_the_object)
{
    struct child c = child_make(1);
    handle_t e = make(endpoint_create, 0);
    handle_t theirs = grant(&c, e, RIGHT_WRITE, 0);
    uint32_t objects = process_root->object_count;
    expect_ok(sys(cap_delete, e));
    cr_assert_eq(process_root->object_count, objects - 1);
    run_as(c.thread);
    expect_status(sys(call, theirs), E_HANDLE);
}

Test(capability, deleting_a_derived_one_keeps_the_object)
{
    handle_t e = make(endpoint_create, 0);
    handle_t d = make(cap_derive, e, RIGHT_WRITE, 0);
    expect_ok(sys(cap_delete, d));
    expect_ok(sys(endpoint_info, e));
}

Test(capability, the_kernels_own_objects_survive_deletion_of_their_capabilities)
{
    handle_t all[] = {boot_root, boot_trace, boot_inject};
    for (unsigned i = 0; i < 3; i++) {
        expect_ok(sys(cap_delete, all[i]));
        expect_status(sys(cap_info, all[i]), E_HANDLE);
    }
    expect_ok(sys(trace_mark, 0, MARK_BENCH, 0));
    account_check(process_root);
}

Test(capability, a_grant_needs_manage_and_no_more_rights_than_held)
{
    struct child c = child_make(1), d = child_make(2);
    handle_t e = make(endpoint_create, 0);
    handle_t weak = make(cap_derive, c.handle, RIGHT_INJECT, 0);
    handle_t send = make(cap_derive, e, RIGHT_WRITE, 0);
    expect_status(sys(process_grant, weak, e, RIGHT_WRITE, 0), E_RIGHTS);
    expect_status(sys(process_grant, d.handle, send, RIGHT_READ, 0), E_RIGHTS);
    expect_status(sys(process_grant, e, e, RIGHT_WRITE, 0), E_TYPE);
    expect_status(sys(process_grant, d.handle, 0, 0, 0), E_HANDLE);
    handle_t h = grant(&d, e, RIGHT_WRITE, 9);
    run_as(d.thread);
    struct result r = sys(cap_info, h);
    cr_assert_eq(r.w[1], RIGHT_WRITE);
    cr_assert_eq(r.w[2], 9);
}

Test(capability, without_the_right_to_give_nothing_leaves_a_process)
{
    struct child c = child_make(1);
    handle_t m = make(memory_create, 0, 1, 0), keep = make(cap_derive, m, RIGHT_READ | RIGHT_WRITE, 0);
    expect_status(sys(process_grant, c.handle, keep, RIGHT_READ, 0), E_RIGHTS);
    expect_status(sys(process_grant, c.handle, keep, 0, 0), E_RIGHTS);
    expect_status(sys(memory_map, c.handle, keep, USER_DYNAMIC, 0, 1, RIGHT_READ), E_RIGHTS);
    expect_ok(sys(memory_map, 0, keep, USER_DYNAMIC, 0, 1, RIGHT_READ));
    handle_t ring = make(cap_derive, boot_trace, RIGHT_READ, 0);
    expect_status(sys(memory_map, c.handle, ring, USER_DYNAMIC, 0, 1, RIGHT_READ), E_RIGHTS);
    expect_ok(sys(memory_map, c.handle, boot_trace, USER_DYNAMIC, 0, 1, RIGHT_READ));
    expect_ok(sys(memory_map, c.handle, m, USER_DYNAMIC + PAGE_SIZE, 0, 1, RIGHT_READ));
    expect_ok(sys(process_grant, c.handle, m, RIGHT_READ, 0));
}

Test(capability, a_dead_process_is_granted_nothing)
{
    struct child c = child_make(1);
    handle_t e = make(endpoint_create, 0);
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    expect_status(sys(process_grant, c.handle, e, RIGHT_WRITE, 0), E_STATE);
    account_check(process_root);
}

Test(capability, a_table_that_the_quota_does_not_cover_is_full)
{
    struct child c = child_make(1);
    run_as(c.thread);
    handle_t e = make(endpoint_create, 0);
    struct result r;
    unsigned made = 0;
    while ((r = sys(cap_derive, e, RIGHT_WRITE, 0)).status == OK) made++;
    cr_assert_eq(r.status, E_NO_SLOTS);
    cr_assert_geq(made, (CHUNK_SLOTS - 1) * 4, "%u made", made);
    cr_assert_eq(c.process->used, c.process->quota);
    account_check(process_root);
    expect_ok(sys(cap_revoke, e));
    expect_ok(sys(cap_derive, e, RIGHT_WRITE, 0));
}

Test(capability, a_table_has_a_last_slot)
{
    struct child c = child_create(1024, TAG_MAKE(1, 1), TEST_SCHED);
    child_start(&c);
    run_as(c.thread);
    handle_t e = make(endpoint_create, 0);
    uint64_t made = 1;
    while (sys(cap_derive, e, RIGHT_WRITE, 0).status == OK) made++;
    cr_assert_eq(made, CHUNKS_MAX * (CHUNK_SLOTS - 1));
    expect_status(sys(notification_create, 0), E_NO_SLOTS);
    expect_status(sys(memory_create, 0, 1, 0), E_NO_SLOTS);
    run_as(root_thread());
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    account_check(process_root);
}

Test(capability, what_a_dead_process_passed_on_is_gone)
{
    struct child c = child_make(1), d = child_make(2);
    handle_t e = make(endpoint_create, 0);
    handle_t mine = grant(&c, e, RIGHT_READ | RIGHT_WRITE | RIGHT_GRANT, 0);
    handle_t other = grant(&d, e, RIGHT_READ, 0);
    run_as(c.thread);
    handle_t derived = make(cap_derive, mine, RIGHT_WRITE | RIGHT_GRANT, 5);
    expect_state(sys(call, mine, INFO_MAKE(1, 1), 0, 0, 0, 0, 0, 0, 0, derived), THREAD_SEND);
    run_as(d.thread);
    struct result r = sys(recv, other);
    expect_ok(r);
    handle_t got = r.w[7];
    cr_assert_eq(sys(cap_info, got).w[2], 5);
    run_as(root_thread());
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    run_as(d.thread);
    expect_status(sys(cap_info, got), E_HANDLE);
}

/* A thread's capability in its creator's table, when the thread's process dies. */
Test(capability, a_dead_thread_leaves_no_capability_behind)
{
    struct child c = child_make(1);
    uint32_t before = process_root->handle_count;
    handle_t h = make(thread_create, c.handle, ELF_TEXT, USER_STACK_TOP, 0);
    expect_ok(sys(cap_info, h));
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    expect_status(sys(cap_info, h), E_HANDLE);
    cr_assert_eq(process_root->handle_count, before);
    account_check(process_root);
}

Test(capability, a_thread_with_capabilities_in_its_own_table_dies)
{
    struct child c = child_make(1);
    run_as(c.thread);
    handle_t h = make(thread_create, 0, ELF_TEXT, USER_STACK_TOP, 0);
    make(cap_derive, h, RIGHT_MANAGE, 0);
    run_as(root_thread());
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    expect_ok(sys(process_destroy, c.handle));
    account_check(process_root);
}

/* What a process made in another's name and account. */
Test(capability, the_objects_whose_first_capability_a_process_held_die_with_it)
{
    struct child c = child_make(1), owner = child_make(2);
    handle_t theirs = grant(&c, owner.handle, RIGHT_MANAGE, 0);
    handle_t shared = make(memory_create, 0, 1, 0);
    grant(&c, shared, RIGHT_READ, 0); /* not the first: the object stays */
    uint32_t objects = owner.process->object_count, threads = owner.process->thread_count;
    uint64_t used = owner.process->used;
    run_as(c.thread);
    handle_t m = make(memory_create, theirs, 7, 0);
    handle_t t = make(thread_create, theirs, ELF_TEXT, USER_STACK_TOP, 0);
    struct thread *thread = (struct thread *)object_at(c.process, t);
    make(cap_derive, m, RIGHT_READ, 0);
    cr_assert_geq(owner.process->used, used + 8);
    run_as(root_thread());
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    cr_assert(!thread_lives(thread));
    cr_assert_eq(owner.process->object_count, objects);
    cr_assert_eq(owner.process->thread_count, threads);
    cr_assert_leq(owner.process->used, used + 1, "at most a page of cells more");
    cr_assert_neq(owner.process->state, PROCESS_DEAD);
    expect_ok(sys(memory_info, shared));
    account_check(process_root);
}

Test(capability, a_thread_kills_the_process_that_holds_its_first_capability)
{
    struct child c = child_make(1), owner = child_make(2);
    handle_t theirs = grant(&c, owner.handle, RIGHT_MANAGE, 0);
    handle_t maker = grant(&owner, c.handle, RIGHT_MANAGE, 0);
    run_as(c.thread);
    handle_t t = make(thread_create, theirs, ELF_TEXT, USER_STACK_TOP, 0);
    run_as((struct thread *)object_at(c.process, t));
    cr_assert_eq(current()->process, owner.process);
    expect_state(sys(process_kill, maker, CAUSE_KILLED), THREAD_ENDED);
    cr_assert_eq(c.process->state, PROCESS_DEAD);
    cr_assert_eq(owner.process->state, PROCESS_RUNNING);
    cr_assert_eq(owner.process->thread_count, 1);
    run_as(owner.thread);
    account_check(process_root);
}

/* One kernel entry deletes a bounded number, however deep the tree is; then the caller makes its call again. */
Test(capability, a_long_chain_is_revoked_in_steps)
{
    handle_t top = make(notification_create, 0), last = top;
    for (unsigned i = 0; i < 2000; i++) last = make(cap_derive, last, RIGHT_READ, 0);
    uint32_t before = process_root->handle_count;
    struct context *c = &root_thread()->context;
    unsigned entries = 0;
    do {
        uint32_t held = process_root->handle_count;
        c->arch.again = false;
        c->status = SYS_cap_revoke;
        c->handle = top;
        kernel_syscall();
        cr_assert_leq(held - process_root->handle_count, 256);
        if (c->arch.again) cr_assert_eq(c->status, SYS_cap_revoke, "it would make another call");
        entries++;
    } while (c->arch.again);
    cr_assert_eq(c->status, OK);
    cr_assert_eq(before - process_root->handle_count, 2000);
    cr_assert_eq(entries, 2000 / 256 + 1);
    account_check(process_root);
}

Test(capability, a_wide_tree_is_deleted_in_steps)
{
    handle_t top = make(notification_create, 0), middle = make(cap_derive, top, RIGHT_READ, 0);
    uint32_t before = process_root->handle_count;
    for (unsigned i = 0; i < 1000; i++) make(cap_derive, i % 2 ? top : middle, RIGHT_READ, 0);
    expect_ok(sys(cap_delete, middle));
    cr_assert_eq(process_root->handle_count, before - 1 + 500);
    expect_ok(sys(cap_delete, top));
    cr_assert_eq(process_root->handle_count, before - 2);
    account_check(process_root);
}

/* Mappings end with the capability that they were made with, no others, in whatever order. */
Test(capability, each_mapping_ends_with_its_own_capability)
{
    enum { N = 40 };
    handle_t m = make(memory_create, 0, 1, 0), via[N];
    for (unsigned i = 0; i < N; i++) {
        via[i] = make(cap_derive, m, RIGHT_READ, 0);
        for (unsigned k = 0; k < 3; k++)
            expect_ok(sys(memory_map, 0, via[i], USER_DYNAMIC + (i * 3 + k) * PAGE_SIZE, 0, 1, RIGHT_READ));
    }
    uint32_t mapped = process_root->mapping_count;
    for (unsigned n = 0; n < N; n++) {
        unsigned i = n * 7 % N;
        expect_ok(sys(memory_unmap, 0, USER_DYNAMIC + (i * 3 + n % 3) * PAGE_SIZE));
        expect_ok(sys(cap_delete, via[i]));
        for (unsigned k = 0; k < 3; k++)
            cr_assert_eq(
                host_translate(process_root, (vaddr_t){USER_DYNAMIC + (i * 3 + k) * PAGE_SIZE}, NULL, NULL).v,
                0);
        cr_assert_eq(process_root->mapping_count, mapped - 3 * (n + 1));
    }
    expect_ok(sys(memory_map, 0, m, USER_DYNAMIC, 0, 1, RIGHT_READ | RIGHT_WRITE));
    expect_status(sys(memory_map, 0, m, USER_DYNAMIC + PAGE_SIZE, 0, 1, RIGHT_READ | RIGHT_EXECUTE), E_BUSY);
    account_check(process_root);
}
