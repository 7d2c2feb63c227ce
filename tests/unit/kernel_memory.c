/* SPDX-License-Identifier: BSD-2-Clause
 * Frames, memory objects, mappings, copies to and from processes: what is charged to whom, what a CPU would
 * find in the page tables, and what is refused. */
#include <criterion/criterion.h>
#include <signal.h>
#include "host_kernel.h"
#include "kernel/hide.h"

#define RW (RIGHT_READ | RIGHT_WRITE)
#define AT USER_DYNAMIC

TestSuite(memory, .init = boot);

/* --- Frames ---------------------------------------------------------------------------------------- */

Test(memory, the_first_process_has_all_that_is_free)
{
    cr_assert_eq(process_root->quota - process_root->used, frame_available());
    account_check(process_root);
    struct child c = child_make(1);
    make(memory_create, 0, 100, 0);
    cr_assert_eq(process_root->quota - process_root->used + (c.process->quota - c.process->used),
                 frame_available());
}

Test(memory, a_frame_is_zeroed_whatever_was_in_it)
{
    handle_t m = make(memory_create, 0, 20, 0);
    struct memory *o = (struct memory *)object_at(process_root, m);
    for (unsigned i = 0; i < 20; i++) memset(arch_direct(memory_frame(o, i)), 0xa5, PAGE_SIZE);
    expect_ok(sys(cap_delete, m));
    for (unsigned round = 0; round < 2; round++) {
        m = make(memory_create, 0, 20, round ? MEMORY_CONTIGUOUS : 0);
        o = (struct memory *)object_at(process_root, m);
        for (unsigned i = 0; i < 20; i++) {
            const uint8_t *page = arch_direct(memory_frame(o, i));
            for (unsigned b = 0; b < PAGE_SIZE; b++) cr_assert_eq(page[b], 0);
        }
    }
}

Test(memory, a_run_is_contiguous_and_returns)
{
    uint64_t before = frame_available();
    handle_t m = make(memory_create, 0, 100, MEMORY_CONTIGUOUS);
    struct memory *o = (struct memory *)object_at(process_root, m);
    for (unsigned i = 0; i < 100; i++) cr_assert_eq(memory_frame(o, i).v, o->base.v + i * PAGE_SIZE);
    cr_assert_leq(before - frame_available(), 101);
    expect_ok(sys(cap_delete, m));
    cr_assert_geq(frame_available() + 1, before);
    account_check(process_root);
}

Test(memory, no_run_of_that_length_is_free)
{
    uint64_t limit = frame_available() / 2 + 64;
    handle_t big = make(memory_create, 0, limit, MEMORY_CONTIGUOUS);
    expect_ok(sys(cap_delete, big));
    /* Fill with singles up to the middle, then leave holes of one frame. */
    static handle_t held[4096];
    unsigned n = 0;
    while (frame_available() > 600) held[n++] = make(memory_create, 0, 2, 0);
    while (frame_available() > 8) held[n++] = make(memory_create, 0, 1, 0);
    for (unsigned i = 0; i < n; i += 2) expect_ok(sys(cap_delete, held[i]));
    uint64_t used = process_root->used;
    expect_status(sys(memory_create, 0, 1000, MEMORY_CONTIGUOUS), E_NO_MEMORY);
    cr_assert_eq(process_root->used, used, "a failed call charges nothing");
    account_check(process_root);
    make(memory_create, 0, 1000, 0);
}

Test(memory, machine_without_room_for_its_frame_map, .init = NULL, .signal = SIGABRT)
{
    setenv("HOST_QUIET", "1", 1);
    struct handoff *h = handoff_make(64);
    h->range_count = 1;
    frame_init(h);
}

/* --- Quotas -------------------------------------------------------------------------------------------- */

Test(memory, sizes_and_flags_that_are_refused)
{
    expect_status(sys(memory_create, 0, 0, 0), E_ARGUMENT);
    expect_status(sys(memory_create, 0, 1, MEMORY_DEVICE), E_ARGUMENT);
    expect_status(sys(memory_create, 0, 1, MEMORY_IMMUTABLE), E_ARGUMENT);
    expect_status(sys(memory_create, 0, 1, MEMORY_KERNEL), E_ARGUMENT);
    expect_status(sys(memory_create, 0, 1ul << 40, 0), E_ARGUMENT);
    expect_status(sys(memory_create, 0, ~0ul, 0), E_QUOTA);
    expect_status(sys(memory_create, 0, ~0ul, MEMORY_CONTIGUOUS), E_QUOTA);
    expect_status(sys(memory_create, 0, process_root->quota, 0), E_QUOTA);
    expect_status(sys(memory_create, 0, process_root->quota + 1, MEMORY_DMA), E_QUOTA);
    expect_status(sys(memory_create, boot_image, 1, 0), E_TYPE);
    account_check(process_root);
}

Test(memory, flags_that_do_not_fit_32_bits)
{
    struct result r = sys(memory_create, 0, 1, 1ul << 32);
    cr_assert_eq(r.status, E_ARGUMENT, "unknown flag accepted");
}

Test(memory, quota_is_exact)
{
    struct child c = child_make(1);
    run_as(c.thread);
    uint64_t left = c.process->quota - c.process->used;
    struct result r = sys(memory_create, 0, left, 0);
    cr_assert_eq(r.status, E_QUOTA);
    uint64_t got = 0;
    while (sys(memory_create, 0, 1, 0).status == OK) got++;
    cr_assert_geq(c.process->used + 2, c.process->quota);
    cr_assert_geq(got + 4, left);
    expect_status(sys(memory_create, 0, 1, 0), E_QUOTA);
    run_as(root_thread());
    account_check(process_root);
}

Test(memory, another_accounts_pays_and_owns)
{
    struct child c = child_make(1);
    uint64_t mine = process_root->used, theirs = c.process->used;
    handle_t m = make(memory_create, c.handle, 5, 0);
    cr_assert_eq(process_root->used, mine);
    cr_assert_geq(c.process->used, theirs + 5);
    expect_ok(sys(memory_map, 0, m, AT, 0, 5, RW));
    cr_assert_neq(host_translate(process_root, (vaddr_t){AT}, NULL, NULL).v, 0);
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    cr_assert_eq(host_translate(process_root, (vaddr_t){AT}, NULL, NULL).v, 0, "memory dies with its owner");
    expect_status(sys(memory_info, m), E_HANDLE);
    expect_status(sys(memory_create, c.handle, 1, 0), E_STATE);
    account_check(process_root);
}

Test(memory, large_scattered_memory_uses_index_pages)
{
    uint64_t before = process_root->used, pages = 3 * MEMORY_INDEX + 5;
    handle_t m = make(memory_create, 0, pages, 0);
    cr_assert_geq(process_root->used - before, pages + 4);
    struct memory *o = (struct memory *)object_at(process_root, m);
    paddr_t last = memory_frame(o, pages - 1);
    expect_ok(sys(memory_map, 0, m, AT, 0, pages, RW));
    cr_assert_eq(host_translate(process_root, (vaddr_t){AT + (pages - 1) * PAGE_SIZE}, NULL, NULL).v, last.v);
    account_check(process_root);
    expect_ok(sys(cap_delete, m));
    account_check(process_root);
    struct result r = sys(memory_info, m);
    cr_assert_eq(r.status, E_HANDLE);
}

/* --- Mappings -------------------------------------------------------------------------------------------- */

Test(memory, a_mapping_is_what_the_cpu_finds)
{
    handle_t m = make(memory_create, 0, 4, 0);
    struct memory *o = (struct memory *)object_at(process_root, m);
    expect_ok(sys(memory_map, 0, m, AT, 1, 2, RIGHT_READ));
    expect_ok(sys(memory_map, 0, m, AT + 0x10000, 0, 4, RW));
    uint32_t prot;
    bool device;
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_eq(host_translate(process_root, (vaddr_t){AT + i * PAGE_SIZE}, &prot, &device).v,
                     memory_frame(o, i + 1).v);
        cr_assert_eq(prot, RIGHT_READ);
        cr_assert(!device);
    }
    cr_assert_eq(host_translate(process_root, (vaddr_t){AT + 2 * PAGE_SIZE}, NULL, NULL).v, 0);
    host_translate(process_root, (vaddr_t){AT + 0x10000}, &prot, NULL);
    cr_assert_eq(prot, RW);
    expect_ok(sys(memory_unmap, 0, AT));
    cr_assert_eq(host_translate(process_root, (vaddr_t){AT}, NULL, NULL).v, 0);
    expect_status(sys(memory_unmap, 0, AT), E_NOT_FOUND);
    expect_status(sys(memory_unmap, 0, AT + 0x11000), E_NOT_FOUND);
    account_check(process_root);
}

Test(memory, mappings_that_are_refused)
{
    handle_t m = make(memory_create, 0, 4, 0), ro = make(cap_derive, m, RIGHT_READ, 0);
    expect_status(sys(memory_map, 0, m, AT, 0, 0, RW), E_ARGUMENT);
    expect_status(sys(memory_map, 0, m, AT, 0, 5, RW), E_ARGUMENT);
    expect_status(sys(memory_map, 0, m, AT, 5, 1, RW), E_ARGUMENT);
    expect_status(sys(memory_map, 0, m, AT, 4, 1, RW), E_ARGUMENT);
    expect_status(sys(memory_map, 0, m, AT, ~0ul, 1, RW), E_ARGUMENT);
    expect_status(sys(memory_map, 0, m, AT, 1, ~0ul, RW), E_ARGUMENT);
    expect_status(sys(memory_map, 0, m, AT, 0, 1, 0), E_ARGUMENT);
    expect_status(sys(memory_map, 0, m, AT, 0, 1, RIGHT_WRITE), E_ARGUMENT);
    expect_status(sys(memory_map, 0, m, AT, 0, 1, RW | RIGHT_EXECUTE), E_ARGUMENT);
    expect_status(sys(memory_map, 0, m, AT, 0, 1, RW | RIGHT_GRANT), E_ARGUMENT);
    expect_status(sys(memory_map, 0, m, AT, 0, 1, 1ul << 32 | RW), E_ARGUMENT);
    expect_status(sys(memory_map, 0, ro, AT, 0, 1, RW), E_RIGHTS);
    expect_status(sys(memory_map, 0, ro, AT, 0, 1, RIGHT_READ | RIGHT_EXECUTE), E_RIGHTS);
    expect_status(sys(memory_map, 0, m, AT + 1, 0, 1, RW), E_ADDRESS);
    expect_status(sys(memory_map, 0, m, 0, 0, 1, RW), E_ADDRESS);
    expect_status(sys(memory_map, 0, m, USER_BASE - PAGE_SIZE, 0, 1, RW), E_ADDRESS);
    expect_status(sys(memory_map, 0, m, USER_END, 0, 1, RW), E_ADDRESS);
    expect_status(sys(memory_map, 0, m, USER_END - PAGE_SIZE, 0, 2, RW), E_ADDRESS);
    expect_status(sys(memory_map, 0, m, DIRECT_MAP, 0, 1, RW), E_ADDRESS);
    expect_status(sys(memory_map, 0, m, ~0xffful, 0, 1, RW), E_ADDRESS);
    expect_status(sys(memory_map, 0, boot_image, AT, 0, 1, RW), E_RIGHTS);
    expect_ok(sys(memory_map, 0, m, USER_END - PAGE_SIZE, 0, 1, RW));
    expect_ok(sys(memory_map, 0, m, USER_BASE, 0, 1, RW));
    account_check(process_root);
}

Test(memory, mappings_do_not_overlap)
{
    handle_t m = make(memory_create, 0, 8, 0);
    expect_ok(sys(memory_map, 0, m, AT + 4 * PAGE_SIZE, 0, 4, RW));
    for (unsigned i = 1; i < 8; i++)
        expect_status(sys(memory_map, 0, m, AT + i * PAGE_SIZE, 0, 4, RW), E_EXISTS);
    expect_ok(sys(memory_map, 0, m, AT, 0, 4, RW));
    expect_ok(sys(memory_map, 0, m, AT + 8 * PAGE_SIZE, 0, 4, RW));
    expect_status(sys(memory_map, 0, m, ELF_TEXT, 0, 1, RW), E_EXISTS);
}

Test(memory, tables_are_charged_and_returned)
{
    struct child c = child_make(1);
    handle_t m = make(memory_create, 0, 1, 0);
    uint64_t before = c.process->used;
    expect_ok(sys(memory_map, c.handle, m, 0x7f0000000000, 0, 1, RW));
    cr_assert_geq(c.process->used - before, 3, "three levels of tables");
    unsigned n = 0;
    struct result r;
    while ((r = sys(memory_map, c.handle, m, 0x100000000000 + n * 0x8000000000, 0, 1, RW)).status == OK) n++;
    cr_assert_eq(r.status, E_QUOTA);
    cr_assert_gt(n, 5);
    account_check(process_root);
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    account_check(process_root);
}

Test(memory, a_mapping_ends_with_the_memory)
{
    struct child c = child_make(1);
    handle_t m = make(memory_create, 0, 2, 0);
    expect_ok(sys(memory_map, 0, m, AT, 0, 2, RW));
    expect_ok(sys(memory_map, c.handle, m, AT, 0, 2, RIGHT_READ));
    uint32_t mappings = c.process->mapping_count;
    expect_ok(sys(cap_delete, m));
    cr_assert_eq(host_translate(process_root, (vaddr_t){AT}, NULL, NULL).v, 0);
    cr_assert_eq(host_translate(c.process, (vaddr_t){AT}, NULL, NULL).v, 0);
    cr_assert_eq(c.process->mapping_count, mappings - 1);
    account_check(process_root);
}

static bool is_mapped(struct process *p, uint64_t at)
{
    return host_translate(p, (vaddr_t){at}, NULL, NULL).v && mapping_find(p, (vaddr_t){at});
}

Test(memory, a_mapping_ends_with_the_capability_it_was_made_with)
{
    struct child c = child_make(1);
    handle_t m = make(memory_create, 0, 2, 0), d = make(cap_derive, m, RW | RIGHT_GRANT, 0);
    expect_ok(sys(memory_map, 0, m, AT, 0, 2, RW));
    expect_ok(sys(memory_map, 0, d, AT + 2 * PAGE_SIZE, 0, 2, RW));
    expect_ok(sys(memory_map, c.handle, d, AT, 0, 2, RIGHT_READ));
    uint32_t mine = process_root->mapping_count, theirs = c.process->mapping_count;
    expect_ok(sys(cap_delete, d));
    cr_assert(!is_mapped(process_root, AT + 2 * PAGE_SIZE));
    cr_assert(!is_mapped(process_root, AT + 3 * PAGE_SIZE));
    cr_assert(!is_mapped(c.process, AT));
    cr_assert(is_mapped(process_root, AT), "that one was made with another");
    cr_assert_eq(process_root->mapping_count, mine - 1);
    cr_assert_eq(c.process->mapping_count, theirs - 1);
    expect_ok(sys(memory_info, m));
    account_check(process_root);
}

Test(memory, revocation_unmaps_what_was_mapped_with_the_revoked)
{
    struct child c = child_make(1);
    uint8_t byte;
    handle_t m = make(memory_create, 0, 2, 0), theirs = grant(&c, m, RW | RIGHT_GRANT, 0);
    expect_ok(sys(memory_map, 0, m, AT, 0, 2, RW));
    run_as(c.thread);
    handle_t deep = make(cap_derive, theirs, RW, 0);
    expect_ok(sys(memory_map, 0, theirs, AT, 0, 2, RW));
    expect_ok(sys(memory_map, 0, deep, AT + 2 * PAGE_SIZE, 0, 2, RW));
    cr_assert_eq(user_read(c.process, &byte, (vaddr_t){AT}, 1), OK);
    run_as(root_thread());
    expect_ok(sys(cap_revoke, m));
    cr_assert(!is_mapped(c.process, AT) && !is_mapped(c.process, AT + 2 * PAGE_SIZE));
    cr_assert_eq(user_read(c.process, &byte, (vaddr_t){AT}, 1), E_ADDRESS);
    cr_assert(is_mapped(process_root, AT), "the revoked one's parent keeps what it mapped");
    account_check(process_root);
}

Test(memory, a_mapping_ends_with_the_holder_of_its_capability)
{
    struct child c = child_make(1), d = child_make(2);
    handle_t m = make(memory_create, 0, 1, 0), into = grant(&c, d.handle, RIGHT_MANAGE, 0);
    handle_t theirs = grant(&c, m, RW | RIGHT_GRANT, 0), other = grant(&d, m, RIGHT_READ, 0);
    run_as(d.thread);
    expect_ok(sys(memory_map, 0, other, AT + PAGE_SIZE, 0, 1, RIGHT_READ));
    run_as(c.thread);
    expect_ok(sys(memory_map, into, theirs, AT, 0, 1, RW));
    run_as(root_thread());
    cr_assert(is_mapped(d.process, AT));
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    cr_assert(!is_mapped(d.process, AT));
    cr_assert(is_mapped(d.process, AT + PAGE_SIZE), "made with its own capability");
    expect_ok(sys(memory_info, m));
    account_check(process_root);
}

Test(memory, a_mapping_of_the_trace_ends_with_its_capability)
{
    struct child c = child_make(1);
    handle_t theirs = grant(&c, boot_trace, RIGHT_READ, 0);
    expect_ok(sys(memory_map, 0, boot_trace, AT, 0, 1, RIGHT_READ));
    run_as(c.thread);
    expect_ok(sys(memory_map, 0, theirs, AT, 0, 1, RIGHT_READ));
    run_as(root_thread());
    expect_ok(sys(cap_revoke, boot_trace));
    cr_assert(!is_mapped(c.process, AT));
    cr_assert(is_mapped(process_root, AT));
    expect_ok(sys(cap_delete, boot_trace));
    cr_assert(!is_mapped(process_root, AT));
    account_check(process_root);
}

Test(memory, a_mapping_ends_with_its_process_and_the_memory_stays)
{
    struct child c = child_make(1);
    handle_t m = make(memory_create, 0, 2, 0);
    expect_ok(sys(memory_map, c.handle, m, AT, 0, 2, RW));
    expect_ok(sys(process_destroy, c.handle));
    expect_ok(sys(memory_map, 0, m, AT, 0, 2, RW));
    expect_status(sys(memory_map, c.handle, m, AT, 0, 2, RW), E_HANDLE);
    account_check(process_root);
}

Test(memory, a_dead_process_is_mapped_nothing)
{
    struct child c = child_make(1);
    handle_t m = make(memory_create, 0, 2, 0);
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    expect_status(sys(memory_map, c.handle, m, AT, 0, 2, RW), E_STATE);
    expect_status(sys(memory_unmap, c.handle, USER_IMAGE_BASE), E_NOT_FOUND);
}

Test(memory, device_memory)
{
    handle_t m = make(memory_create_device, boot_root, HOST_DEVICE_BASE, 2);
    struct result r = sys(memory_info, m);
    cr_assert_eq(r.w[0], 2);
    cr_assert_eq(r.w[1], MEMORY_DEVICE);
    uint64_t before = process_root->used;
    bool device;
    expect_ok(sys(memory_map, 0, m, AT, 0, 2, RW));
    cr_assert_eq(host_translate(process_root, (vaddr_t){AT + PAGE_SIZE}, NULL, &device).v,
                 HOST_DEVICE_BASE + PAGE_SIZE);
    cr_assert(device);
    expect_status(sys(log, boot_trace, AT, 4), E_ADDRESS);
    expect_ok(sys(cap_delete, m));
    cr_assert_leq(process_root->used, before + 4);
    account_check(process_root);
}

Test(memory, device_memory_that_is_refused)
{
    handle_t e = make(endpoint_create, 0);
    expect_status(sys(memory_create_device, e, HOST_DEVICE_BASE, 1), E_TYPE);
    expect_status(sys(memory_create_device, boot_root, HOST_DEVICE_BASE + 1, 1), E_ARGUMENT);
    expect_status(sys(memory_create_device, boot_root, HOST_DEVICE_BASE, 0), E_ARGUMENT);
    expect_status(sys(memory_create_device, boot_root, 1ul << 52, 1), E_ARGUMENT);
    expect_status(sys(memory_create_device, boot_root, (1ul << 52) - PAGE_SIZE, 2), E_ARGUMENT);
    expect_status(sys(memory_create_device, boot_root, 0, ~0ul), E_ARGUMENT);
    expect_status(sys(memory_create_device, boot_root, HOST_RAM_BASE, 1), E_BUSY);
    expect_status(sys(memory_create_device, boot_root, HOST_RAM_BASE - PAGE_SIZE, 2), E_BUSY);
    expect_status(
        sys(memory_create_device, boot_root, HOST_RAM_BASE + HOST_RAM_PAGES * PAGE_SIZE - PAGE_SIZE, 1),
        E_BUSY);
    expect_status(sys(memory_create_device, boot_root, 0xfee00000, 1), E_BUSY);
}

Test(memory, the_trace_is_mapped_read_only)
{
    expect_status(sys(memory_map, 0, boot_trace, AT, 0, 1, RW), E_RIGHTS);
    expect_ok(sys(memory_map, 0, boot_trace, AT, 0, trace_pages(), RIGHT_READ));
    struct trace_header h;
    cr_assert_eq(user_read(process_root, &h, (vaddr_t){AT}, sizeof h), OK);
    cr_assert_eq(h.magic, TRACE_MAGIC);
    cr_assert_eq(sys(memory_info, boot_trace).w[0], trace_pages());
}

/* --- Copies ------------------------------------------------------------------------------------------------ */

Test(memory, copies_cross_pages_of_different_mappings)
{
    handle_t a = make(memory_create, 0, 1, 0), b = make(memory_create, 0, 1, 0);
    expect_ok(sys(memory_map, 0, a, AT, 0, 1, RW));
    expect_ok(sys(memory_map, 0, b, AT + PAGE_SIZE, 0, 1, RW));
    char in[300], out[300];
    for (unsigned i = 0; i < sizeof in; i++) in[i] = (char)(i * 7);
    vaddr_t at = {AT + PAGE_SIZE - 150};
    cr_assert_eq(user_write(process_root, at, in, sizeof in), OK);
    cr_assert_eq(user_read(process_root, out, at, sizeof out), OK);
    cr_assert_eq(memcmp(in, out, sizeof in), 0);
}

Test(memory, copies_that_are_refused_write_nothing)
{
    handle_t a = make(memory_create, 0, 2, 0);
    expect_ok(sys(memory_map, 0, a, AT, 0, 1, RW));
    expect_ok(sys(memory_map, 0, a, AT + PAGE_SIZE, 1, 1, RIGHT_READ));
    uint8_t bytes[64] = {1, 2, 3}, got[64];
    cr_assert_eq(user_write(process_root, (vaddr_t){AT + PAGE_SIZE - 32}, bytes, 64), E_ADDRESS);
    cr_assert_eq(user_read(process_root, got, (vaddr_t){AT + PAGE_SIZE - 32}, 64), OK);
    for (unsigned i = 0; i < 64; i++) cr_assert_eq(got[i], 0);
    cr_assert_eq(user_read(process_root, got, (vaddr_t){AT + 2 * PAGE_SIZE - 32}, 64), E_ADDRESS);
    cr_assert_eq(user_read(process_root, got, (vaddr_t){AT + 2 * PAGE_SIZE}, 1), E_ADDRESS);
    cr_assert_eq(user_read(process_root, got, (vaddr_t){~0ul - 8}, 64), E_ADDRESS);
    cr_assert_eq(user_read(process_root, got, (vaddr_t){AT}, ~0ul), E_ADDRESS);
    cr_assert_eq(user_read(process_root, got, (vaddr_t){USER_END - 1}, 2), E_ADDRESS);
    cr_assert_eq(user_read(process_root, got, (vaddr_t){DIRECT_MAP}, 8), E_ADDRESS);
    cr_assert_eq(user_read(process_root, got, (vaddr_t){0}, 8), E_ADDRESS);
}

Test(memory, a_stale_lookup_is_not_used_after_unmap)
{
    vaddr_t at = buffer_make(AT);
    uint64_t v = 1;
    cr_assert_eq(user_write(process_root, at, &v, 8), OK);
    expect_ok(sys(memory_unmap, 0, AT));
    cr_assert_eq(user_write(process_root, at, &v, 8), E_ADDRESS);
    cr_assert_null(mapping_find(process_root, at));
}

Test(memory, what_one_place_writes_none_executes)
{
    handle_t m = make(memory_create, 0, 2, 0);
    struct child c = child_make(1);
    handle_t theirs = grant(&c, m, RIGHT_READ | RIGHT_EXECUTE, 0);
    expect_ok(sys(memory_map, 0, m, USER_DYNAMIC, 0, 1, RW));
    expect_status(sys(memory_map, 0, m, USER_DYNAMIC + 0x10000, 0, 1, RIGHT_READ | RIGHT_EXECUTE), E_BUSY);
    run_as(c.thread);
    expect_status(sys(memory_map, 0, theirs, USER_DYNAMIC, 0, 1, RIGHT_READ | RIGHT_EXECUTE), E_BUSY);
    run_as(root_thread());
    expect_ok(sys(memory_unmap, 0, USER_DYNAMIC));
    run_as(c.thread);
    expect_ok(sys(memory_map, 0, theirs, USER_DYNAMIC, 0, 1, RIGHT_READ | RIGHT_EXECUTE));
    run_as(root_thread());
    expect_status(sys(memory_map, 0, m, USER_DYNAMIC, 0, 1, RW), E_BUSY);
    expect_ok(sys(memory_map, 0, m, USER_DYNAMIC, 0, 1, RIGHT_READ));
}

/* --- Mappings in the order of their addresses ------------------------------------------------------------ */

static bool taken(const uint8_t *map, uint64_t at, uint64_t pages)
{
    for (uint64_t i = at; i < at + pages; i++)
        if (map[i]) return true;
    return false;
}

/* What is mapped, overlaps and is found, whatever the order: against an array of pages. */
Test(memory, mappings_made_and_ended_in_any_order_are_found)
{
    enum { PAGES = 400 };
    static uint8_t owner[PAGES + 8]; /* 0: nothing is mapped */
    uint64_t random = 7;
    handle_t m = make(memory_create, 0, 8, 0);
    for (unsigned n = 0; n < 20000; n++) {
        random = random * 6364136223846793005ul + 1442695040888963407ul;
        uint64_t at = (random >> 33) % PAGES, pages = 1 + (random >> 20) % 4;
        if (random >> 60 & 1) {
            status_t expected = taken(owner, at, pages) ? E_EXISTS : OK;
            expect_status(sys(memory_map, 0, m, AT + at * PAGE_SIZE, 0, pages, RW), expected);
            if (expected == OK) memset(owner + at, (int)(n % 255 + 1), pages);
        } else {
            struct mapping *found = mapping_find(process_root, (vaddr_t){AT + at * PAGE_SIZE});
            cr_assert_eq(found != NULL, owner[at] != 0, "page %lu", at);
            if (!found) continue;
            uint64_t first = (found->start.v - AT) / PAGE_SIZE;
            cr_assert(at >= first && at < first + found->pages);
            memset(owner + first, 0, found->pages);
            expect_ok(sys(memory_unmap, 0, found->start.v));
        }
        const struct mapping *before = NULL;
        if (n % 500) continue;
        list_each(struct mapping, map, &process_root->mappings, of_process)
        {
            if (before) cr_assert_leq(before->start.v + before->pages * PAGE_SIZE, map->start.v);
            before = map;
        }
    }
}
