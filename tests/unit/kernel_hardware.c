/* SPDX-License-Identifier: BSD-2-Clause
 * Interrupts, ports, timers and DMA domains; and the order in which a driver's death takes them away. */
#include <criterion/criterion.h>
#include "host_kernel.h"

#define RW  (RIGHT_READ | RIGHT_WRITE)
#define BDF HOST_PCI_FIRST

TestSuite(hardware, .init = boot);

/* --- Interrupts -------------------------------------------------------------------------------------- */

static handle_t line(uint32_t gsi, handle_t n, uint64_t bits)
{
    handle_t i = make(irq_create, boot_root, IRQ_GSI, gsi);
    expect_ok(sys(irq_bind, i, n, bits));
    return i;
}

Test(hardware, a_level_interrupt_is_masked_until_acknowledged)
{
    handle_t n = make(notification_create, 0), i = make(irq_create, boot_root, IRQ_GSI, 4);
    cr_assert(!host_irq_raise(IRQ_GSI, 4), "masked until bound");
    expect_ok(sys(irq_bind, i, n, 16));
    cr_assert(host_irq_raise(IRQ_GSI, 4));
    cr_assert_eq(sys(poll, n).w[0], 16);
    cr_assert(!host_irq_raise(IRQ_GSI, 4), "masked until acknowledged");
    expect_ok(sys(irq_ack, i));
    cr_assert(host_irq_raise(IRQ_GSI, 4));
    cr_assert_eq(sys(poll, n).w[0], 16);
}

Test(hardware, an_edge_during_handling_is_not_lost)
{
    handle_t n = make(notification_create, 0),
             table = make(memory_create_device, boot_root, HOST_DEVICE_BASE, 1);
    handle_t i = make(irq_create, boot_root, IRQ_MSIX, 0, table, 3);
    expect_ok(sys(irq_bind, i, n, 1));
    cr_assert(host_irq_raise(IRQ_MSIX, 3));
    cr_assert_eq(sys(poll, n).w[0], 1);
    cr_assert(host_irq_raise(IRQ_MSIX, 3));
    cr_assert(host_irq_raise(IRQ_MSIX, 3));
    expect_status(sys(poll, n), E_WOULD_BLOCK);
    expect_ok(sys(irq_ack, i));
    cr_assert_eq(sys(poll, n).w[0], 1);
    expect_ok(sys(irq_ack, i));
    expect_status(sys(poll, n), E_WOULD_BLOCK);
}

Test(hardware, interrupts_that_are_refused)
{
    handle_t n = make(notification_create, 0), ram = make(memory_create, 0, 1, 0);
    handle_t table = make(memory_create_device, boot_root, HOST_DEVICE_BASE, 1);
    expect_status(sys(irq_create, n, IRQ_GSI, 4), E_TYPE);
    expect_status(sys(irq_create, boot_root, 2, 4), E_ARGUMENT);
    expect_status(sys(irq_create, boot_root, IRQ_GSI, HOST_GSIS), E_ARGUMENT);
    expect_status(sys(irq_create, boot_root, IRQ_GSI, 1ul << 32 | 4), E_ARGUMENT);
    expect_status(sys(irq_create, boot_root, IRQ_MSIX, 0, ram, 0), E_ARGUMENT);
    expect_status(sys(irq_create, boot_root, IRQ_MSIX, 0, table, 256), E_ARGUMENT);
    expect_status(sys(irq_create, boot_root, IRQ_MSIX, 0, 0, 0), E_HANDLE);
    handle_t i = make(irq_create, boot_root, IRQ_GSI, 4);
    uint32_t objects = process_root->object_count;
    expect_status(sys(irq_create, boot_root, IRQ_GSI, 4), E_BUSY);
    cr_assert_eq(process_root->object_count, objects);
    expect_status(sys(irq_bind, i, n, 0), E_ARGUMENT);
    expect_status(sys(irq_bind, n, n, 1), E_TYPE);
    expect_status(sys(irq_bind, i, i, 1), E_TYPE);
}

Test(hardware, vectors_run_out_cleanly)
{
    handle_t table = make(memory_create_device, boot_root, HOST_DEVICE_BASE, 1), last = 0;
    for (unsigned e = 0; e < HOST_VECTORS; e++) last = make(irq_create, boot_root, IRQ_MSIX, 0, table, e);
    expect_status(sys(irq_create, boot_root, IRQ_MSIX, 0, table, HOST_VECTORS), E_NO_SLOTS);
    expect_ok(sys(cap_delete, last));
    make(irq_create, boot_root, IRQ_MSIX, 0, table, HOST_VECTORS);
    account_check(process_root);
}

Test(hardware, a_bound_interrupt_belongs_to_one_process)
{
    handle_t n = make(notification_create, 0), i = line(4, n, 1);
    struct child c = child_make(1);
    handle_t theirs = grant(&c, i, RIGHT_MANAGE, 0);
    run_as(c.thread);
    handle_t m = make(notification_create, 0);
    expect_status(sys(irq_bind, theirs, m, 1), E_BUSY);
}

Test(hardware, death_of_the_user_masks_the_line)
{
    struct child c = child_make(1);
    handle_t i = make(irq_create, boot_root, IRQ_GSI, 4), theirs = grant(&c, i, RIGHT_MANAGE, 0);
    run_as(c.thread);
    handle_t n = make(notification_create, 0);
    expect_ok(sys(irq_bind, theirs, n, 1));
    cr_assert(host_irq_raise(IRQ_GSI, 4));
    run_as(root_thread());
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    cr_assert(!host_irq_raise(IRQ_GSI, 4));
    cr_assert_eq(host_irq_find(IRQ_GSI, 4)->state, HOST_IRQ_MASKED);
    expect_status(sys(irq_ack, i), E_STATE); /* only its user's to acknowledge, and so to unmask */
    cr_assert_eq(host_irq_find(IRQ_GSI, 4)->state, HOST_IRQ_MASKED, "nobody uses it");
    struct child d = child_make(1);
    theirs = grant(&d, i, RIGHT_MANAGE, 0);
    run_as(d.thread);
    n = make(notification_create, 0);
    expect_ok(sys(irq_bind, theirs, n, 4));
    cr_assert(host_irq_raise(IRQ_GSI, 4));
    cr_assert_eq(sys(poll, n).w[0], 4);
}

Test(hardware, a_spurious_vector_is_ignored)
{
    kernel_irq(HOST_VECTOR_BASE + 7);
    kernel_irq(255);
    handle_t n = make(notification_create, 0), i = line(4, n, 1);
    uint8_t vector = (uint8_t)(HOST_VECTOR_BASE + (host_irq_find(IRQ_GSI, 4) - host.vector));
    expect_ok(sys(cap_delete, i));
    kernel_irq(vector);
    expect_status(sys(poll, n), E_WOULD_BLOCK);
    cr_assert_null(host_irq_find(IRQ_GSI, 4));
}

Test(hardware, an_interrupt_outlives_its_notification)
{
    handle_t n = make(notification_create, 0), i = line(4, n, 1);
    expect_ok(sys(cap_delete, n));
    host_irq_raise(IRQ_GSI, 4);
    expect_ok(sys(irq_ack, i));
    expect_ok(sys(cap_delete, i));
    account_check(process_root);
}

/* --- Ports ---------------------------------------------------------------------------------------------- */

Test(hardware, ports_are_read_and_written)
{
    handle_t p = make(ports_create, boot_root, 0x3f8, 8);
    host.port_value[0x3fd] = 0x12345678;
    cr_assert_eq(sys(port_in, p, 5 | 1ul << 16).w[0], 0x78);
    expect_status(sys(port_in, p, 5 | 4ul << 16), E_ARGUMENT);
    host.port_value[0x3fc] = 0x12345678;
    cr_assert_eq(sys(port_in, p, 4 | 4ul << 16).w[0], 0x12345678);
    cr_assert_eq(sys(port_in, p, 4 | 2ul << 16).w[0], 0x5678);
    expect_ok(sys(port_out, p, 0 | 1ul << 16, 0x41));
    cr_assert_eq(host.port_last.port, 0x3f8);
    cr_assert_eq(host.port_last.width, 1);
    cr_assert_eq(host.port_last.value, 0x41);
}

Test(hardware, an_access_and_its_index_are_one_step)
{
    vaddr_t at = buffer_make(USER_DYNAMIC);
    handle_t p = make(ports_create, boot_root, 0x3f8, 8);
    uint32_t index = 0;
    host.port_value[0x3f8] = 'x';
    expect_ok(sys(port_in, p, 1ul << 16, at.v + 17, at.v + 8, 77));
    char byte = 0;
    cr_assert_eq(user_read(process_root, &byte, (vaddr_t){at.v + 17}, 1), OK);
    cr_assert_eq(byte, 'x');
    cr_assert_eq(user_read(process_root, &index, (vaddr_t){at.v + 8}, 4), OK);
    cr_assert_eq(index, 77);
    expect_ok(sys(port_out, p, 1ul << 16, 'y', at.v + 8, 78));
    cr_assert_eq(user_read(process_root, &index, (vaddr_t){at.v + 8}, 4), OK);
    cr_assert_eq(index, 78);
    uint64_t reads = host.port_reads, writes = host.port_writes;
    expect_status(sys(port_in, p, 1ul << 16, at.v + PAGE_SIZE, 0, 0), E_ADDRESS);
    expect_status(sys(port_in, p, 1ul << 16, at.v, at.v + 2, 0), E_ADDRESS);
    expect_status(sys(port_in, p, 1ul << 16, ELF_TEXT, 0, 0), E_ADDRESS);
    expect_status(sys(port_out, p, 1ul << 16, 'y', at.v + PAGE_SIZE, 1), E_ADDRESS);
    expect_status(sys(port_out, p, 1ul << 16, 'y', at.v + 9, 1), E_ADDRESS);
    cr_assert_eq(host.port_reads, reads, "a refused call does not touch the device");
    cr_assert_eq(host.port_writes, writes);
}

Test(hardware, ports_that_are_refused)
{
    handle_t n = make(notification_create, 0);
    expect_status(sys(ports_create, n, 0x3f8, 8), E_TYPE);
    expect_status(sys(ports_create, boot_root, 0x3f8, 0), E_ARGUMENT);
    expect_status(sys(ports_create, boot_root, 0x10000, 1), E_ARGUMENT);
    expect_status(sys(ports_create, boot_root, 0xffff, 2), E_ARGUMENT);
    expect_status(sys(ports_create, boot_root, 0, 1ul << 32), E_ARGUMENT);
    expect_status(sys(ports_create, boot_root, 1ul << 32, 1), E_ARGUMENT);
    expect_status(sys(ports_create, boot_root, 0xe9, 1), E_BUSY);
    expect_status(sys(ports_create, boot_root, 0, 0x10000), E_BUSY);
    handle_t p = make(ports_create, boot_root, 0x3f8, 8);
    static const uint64_t bad[] = {8 | 1ul << 16, 7 | 2ul << 16, 5 | 4ul << 16,         0,
                                   3ul << 16,     8ul << 16,     1ul << 16 | 1ul << 32, 0xffff | 1ul << 16};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        expect_status(sys(port_in, p, bad[i]), E_ARGUMENT);
        expect_status(sys(port_out, p, bad[i]), E_ARGUMENT);
    }
}

/* --- Timers ------------------------------------------------------------------------------------------------ */

static uint64_t now(void) { return sys(clock).w[0]; }

Test(hardware, a_timer_fires_at_its_deadline_and_once)
{
    handle_t n = make(notification_create, 0), t = make(timer_create, n, 2);
    expect_ok(sys(timer_arm, t, now() + 1000));
    host_advance(999);
    expect_status(sys(poll, n), E_WOULD_BLOCK);
    host_advance(1);
    cr_assert_eq(sys(poll, n).w[0], 2);
    host_advance(100000);
    expect_status(sys(poll, n), E_WOULD_BLOCK);
}

Test(hardware, timers_fire_in_order_whatever_the_order_of_arming)
{
    handle_t n = make(notification_create, 0), t[8];
    static const unsigned order[8] = {3, 7, 1, 0, 6, 2, 5, 4};
    for (unsigned i = 0; i < 8; i++) t[i] = make(timer_create, n, 1ul << i);
    uint64_t start = now();
    for (unsigned i = 0; i < 8; i++) expect_ok(sys(timer_arm, t[order[i]], start + 100 * (order[i] + 1)));
    expect_ok(sys(timer_arm, t[5], 0));
    for (unsigned i = 0; i < 8; i++) {
        host_advance(100);
        struct result r = sys(poll, n);
        if (i == 5)
            cr_assert_eq(r.status, E_WOULD_BLOCK, "disarmed");
        else
            cr_assert_eq(r.w[0], 1ul << i);
    }
}

Test(hardware, a_timer_is_armed_anew)
{
    handle_t n = make(notification_create, 0), t = make(timer_create, n, 1);
    expect_ok(sys(timer_arm, t, now() + 100));
    expect_ok(sys(timer_arm, t, now() + 500));
    host_advance(200);
    expect_status(sys(poll, n), E_WOULD_BLOCK);
    host_advance(300);
    cr_assert_eq(sys(poll, n).w[0], 1);
    expect_ok(sys(timer_arm, t, 1));
    host_advance(1);
    cr_assert_eq(sys(poll, n).w[0], 1, "a past deadline fires at once");
    expect_status(sys(timer_arm, t, ~0ul), E_ARGUMENT);
    expect_ok(sys(timer_arm, t, (1ul << 60) - 1));
    host_advance(1000000);
    expect_status(sys(poll, n), E_WOULD_BLOCK);
}

Test(hardware, a_timer_wakes_the_idle_machine)
{
    handle_t n = make(notification_create, 0), t = make(timer_create, n, 1);
    expect_ok(sys(timer_arm, t, now() + 5000));
    struct thread *me = current();
    expect_state(sys(wait, n), THREAD_WAIT);
    cr_assert_null(current());
    host_advance(4999);
    cr_assert_null(current());
    host_advance(1);
    cr_assert_eq(current(), me);
    cr_assert_geq(arch_cpu()->idle_tsc, 5000);
    cr_assert_eq(result_of(me).w[0], 1);
}

Test(hardware, an_armed_timer_dies_with_its_owner)
{
    struct child c = child_make(1);
    run_as(c.thread);
    handle_t n = make(notification_create, 0), t = make(timer_create, n, 1);
    expect_ok(sys(timer_arm, t, now() + 100));
    run_as(root_thread());
    expect_ok(sys(process_destroy, c.handle));
    cr_assert_eq(timer_next(), ~0ul);
    host_advance(1000);
    account_check(process_root);
}

Test(hardware, a_timer_whose_notification_is_gone_fires_in_vain)
{
    handle_t n = make(notification_create, 0), t = make(timer_create, n, 1);
    expect_ok(sys(timer_arm, t, now() + 100));
    expect_ok(sys(cap_delete, n));
    host_advance(1000);
    expect_ok(sys(cap_delete, t));
    account_check(process_root);
}

/* --- DMA --------------------------------------------------------------------------------------------------- */

struct driver {
    struct child child;
    handle_t dma; /* in its table */
};

static handle_t domain; /* the supervisor's handle */

static struct driver driver_make(void)
{
    struct driver d = {.child = child_make(1)};
    if (!domain) domain = make(dma_create, boot_root, BDF);
    d.dma = grant(&d.child, domain, RIGHT_MANAGE, 0);
    run_as(d.child.thread);
    expect_ok(sys(dma_attach, d.dma));
    return d;
}

Test(hardware, dma_needs_a_confirmed_reset)
{
    struct driver d = driver_make();
    handle_t m = make(memory_create, 0, 2, MEMORY_DMA);
    expect_status(sys(dma_map, d.dma, m, 0, 2, RW), E_NOT_RESET);
    expect_status(sys(dma_bus_master, d.dma, 1), E_NOT_RESET);
    expect_ok(sys(dma_bus_master, d.dma, 0));
    expect_ok(sys(dma_reset_done, d.dma));
    struct memory *o = (struct memory *)object_at(d.child.process, m);
    cr_assert_eq(make(dma_map, d.dma, m, 1, 1, RW), memory_frame(o, 1).v);
    expect_ok(sys(dma_bus_master, d.dma, 1));
    cr_assert(host.bus_master[BDF]);
}

Test(hardware, a_domains_creator_alone_moves_device_memory)
{
    struct driver d = driver_make();
    expect_ok(sys(dma_reset_done, d.dma));
    expect_status(sys(dma_decode, d.dma, 0), E_STATE);
    run_as(root_thread());
    expect_ok(sys(dma_decode, domain, 1));
    cr_assert_neq(host.decode, 0);
    expect_status(sys(dma_decode, make(cap_derive, domain, 0, 0), 0), E_RIGHTS);
    expect_status(sys(dma_decode, boot_root, 0), E_TYPE);
    cr_assert_neq(host.decode, 0);
}

Test(hardware, dma_that_is_refused)
{
    struct driver d = driver_make();
    expect_ok(sys(dma_reset_done, d.dma));
    handle_t m = make(memory_create, 0, 2, MEMORY_DMA), plain = make(memory_create, 0, 2, 0);
    handle_t none = make(cap_derive, m, RW, 0), ro = make(cap_derive, m, RIGHT_READ | RIGHT_DMA, 0);
    expect_status(sys(dma_map, d.dma, plain, 0, 1, RW), E_RIGHTS);
    expect_status(sys(dma_map, d.dma, none, 0, 1, RW), E_RIGHTS);
    expect_status(sys(dma_map, d.dma, ro, 0, 1, RW), E_RIGHTS);
    expect_status(sys(dma_map, d.dma, m, 0, 3, RW), E_ARGUMENT);
    expect_status(sys(dma_map, d.dma, m, 0, 0, RW), E_ARGUMENT);
    expect_status(sys(dma_map, d.dma, m, ~0ul, 2, RW), E_ARGUMENT);
    expect_status(sys(dma_map, d.dma, m, 0, 1, 0), E_ARGUMENT);
    expect_status(sys(dma_map, d.dma, m, 0, 1, RW | RIGHT_EXECUTE), E_ARGUMENT);
    expect_status(sys(dma_unmap, d.dma, 0x1234), E_NOT_FOUND);
    expect_status(sys(dma_map, m, m, 0, 1, RW), E_TYPE);
    run_as(root_thread());
    expect_status(sys(dma_create, boot_root, 0xff), E_NOT_FOUND);
    expect_status(sys(dma_create, boot_root, 1ul << 16 | BDF), E_ARGUMENT);
    expect_status(sys(dma_attach, domain), E_BUSY);
    expect_status(sys(dma_map, domain, m, 0, 1, RW), E_STATE);
    expect_status(sys(dma_bus_master, domain, 1), E_STATE);
    expect_status(sys(dma_reset_done, domain), E_STATE);
    expect_status(sys(dma_unmap, domain, 0), E_STATE);
}

Test(hardware, unmapped_memory_returns_at_once)
{
    struct driver d = driver_make();
    expect_ok(sys(dma_reset_done, d.dma));
    handle_t m = make(memory_create, 0, 2, MEMORY_DMA);
    uint64_t iova = make(dma_map, d.dma, m, 0, 2, RW);
    expect_ok(sys(dma_unmap, d.dma, iova));
    expect_status(sys(dma_unmap, d.dma, iova), E_NOT_FOUND);
    expect_ok(sys(cap_delete, m));
    cr_assert_eq(dma_quarantined_pages(), 0);
    account_check(process_root);
}

/* The order of death: masked, bus-master off, detached, and frames come back only with the reset. */
Test(hardware, quarantine_holds_until_the_next_driver_confirms_the_reset)
{
    struct driver d = driver_make();
    expect_ok(sys(dma_reset_done, d.dma));
    handle_t m = make(memory_create, 0, 5, MEMORY_DMA);
    paddr_t frames = memory_frame((struct memory *)object_at(d.child.process, m), 0);
    make(dma_map, d.dma, m, 0, 5, RW);
    expect_ok(sys(dma_bus_master, d.dma, 1));
    memset(arch_direct(frames), 0x5a, PAGE_SIZE);
    run_as(root_thread());
    uint64_t quota = d.child.process->quota;
    expect_ok(sys(process_kill, d.child.handle, CAUSE_KILLED));
    cr_assert(!host.bus_master[BDF]);
    cr_assert_eq(dma_quarantined_pages(), 5);
    cr_assert_eq(d.child.process->quota, quota - 5, "the first process pays for them now");
    account_check(process_root);
    expect_ok(sys(process_destroy, d.child.handle));
    account_check(process_root);
    handle_t all[64]; /* nothing that is given out now is in quarantine, and the device may still write */
    for (unsigned i = 0; i < 64; i++) {
        all[i] = make(memory_create, 0, 40, i % 2 ? MEMORY_CONTIGUOUS : 0);
        struct memory *o = (struct memory *)object_at(process_root, all[i]);
        for (unsigned p = 0; p < 40; p++) {
            uint64_t f = memory_frame(o, p).v;
            cr_assert(f < frames.v || f >= frames.v + 5 * PAGE_SIZE, "frame %lx is in quarantine", f);
        }
    }
    memset(arch_direct(frames), 0x77, PAGE_SIZE); /* the stray write: into memory that nobody has */
    struct driver next = driver_make();
    handle_t again = make(memory_create, 0, 5, MEMORY_DMA);
    expect_status(sys(dma_map, next.dma, again, 0, 5, RW), E_NOT_RESET);
    expect_status(sys(dma_bus_master, next.dma, 1), E_NOT_RESET);
    expect_ok(sys(dma_reset_done, next.dma));
    cr_assert_eq(dma_quarantined_pages(), 0);
    make(dma_map, next.dma, again, 0, 5, RW);
    expect_ok(sys(dma_bus_master, next.dma, 1));
    run_as(root_thread());
    account_check(process_root);
}

Test(hardware, the_fence_is_traced_in_order)
{
    struct driver d = driver_make();
    expect_ok(sys(dma_reset_done, d.dma));
    run_as(root_thread());
    handle_t i = make(irq_create, boot_root, IRQ_GSI, 4), theirs = grant(&d.child, i, RIGHT_MANAGE, 0);
    run_as(d.child.thread);
    handle_t n = make(notification_create, 0);
    expect_ok(sys(irq_bind, theirs, n, 1));
    handle_t m = make(memory_create, 0, 5, MEMORY_DMA);
    make(dma_map, d.dma, m, 0, 5, RW);
    const struct trace_header *h = arch_direct(trace_paddr());
    const struct trace_entry *e = (const void *)((const uint8_t *)h + PAGE_SIZE);
    uint64_t at = h->head;
    expect_state(sys(exit, 0), THREAD_ENDED);
    static const enum trace_event order[] = {
        TRACE_DEATH,        TRACE_FENCE_GENERATION, TRACE_FENCE_IRQ, TRACE_FENCE_BUS_MASTER,
        TRACE_FENCE_DOMAIN, TRACE_FENCE_DRAINED,    TRACE_FENCE_DONE};
    static const uint64_t count[] = {CAUSE_EXIT, 0, 1, 1, 1, 1};
    for (unsigned k = 0; k < 7; k++) {
        cr_assert_eq(e[at + k].event, order[k]);
        cr_assert_eq(e[at + k].tag, d.child.process->object.tag);
        if (k < 6) cr_assert_eq(e[at + k].a, count[k]);
    }
    cr_assert_eq(e[at + 6].b, 5, "pages quarantined");
}

Test(hardware, another_owners_memory_stays_alive_through_the_drivers_death)
{
    handle_t m = make(memory_create, 0, 4, MEMORY_DMA);
    struct driver d = driver_make();
    run_as(root_thread());
    handle_t theirs = grant(&d.child, m, RW | RIGHT_DMA, 0);
    run_as(d.child.thread);
    expect_ok(sys(dma_reset_done, d.dma));
    make(dma_map, d.dma, theirs, 0, 4, RW);
    run_as(root_thread());
    expect_ok(sys(process_destroy, d.child.handle));
    cr_assert_eq(dma_quarantined_pages(), 0);
    expect_ok(sys(memory_info, m));
    expect_ok(sys(cap_delete, m)); /* the device was not reset since */
    cr_assert_eq(dma_quarantined_pages(), 4);
    account_check(process_root);
    expect_ok(sys(dma_reset_done, driver_make().dma));
    cr_assert_eq(dma_quarantined_pages(), 0);
    run_as(root_thread());
    account_check(process_root);
}

/* A living owner's quota comes back with the pages: recovery gives away one buffer after the other. */
Test(hardware, quarantine_is_lent_by_an_owner_that_lives)
{
    struct driver d = driver_make();
    struct process *p = d.child.process;
    uint64_t quota = p->quota, all = process_root->used;
    expect_ok(sys(dma_reset_done, d.dma));
    for (unsigned round = 0; round < 3; round++) {
        handle_t m = make(memory_create, 0, 5, MEMORY_DMA);
        make(dma_map, d.dma, m, 0, 5, RW);
        expect_ok(sys(cap_delete, m));
        cr_assert_eq(dma_quarantined_pages(), 5);
        cr_assert_eq(p->quota, quota - 5);
        cr_assert_eq(p->lent, 1);
        account_check(process_root);
        if (round == 2) break;
        expect_ok(sys(dma_reset_done, d.dma));
        cr_assert_eq(dma_quarantined_pages(), 0);
        cr_assert_eq(p->quota, quota);
        cr_assert_eq(process_root->used, all);
        cr_assert_eq(p->lent, 0);
        account_check(process_root);
    }
    run_as(root_thread()); /* and one that ends first gets nothing */
    expect_ok(sys(process_destroy, d.child.handle));
    cr_assert_eq(dma_quarantined_pages(), 5);
    account_check(process_root);
    expect_ok(sys(dma_reset_done, driver_make().dma));
    cr_assert_eq(dma_quarantined_pages(), 0);
    run_as(root_thread());
    account_check(process_root);
}

Test(hardware, memory_in_two_domains_waits_for_both_resets)
{
    handle_t second = make(dma_create, boot_root, BDF + 8);
    struct driver d = driver_make();
    run_as(root_thread());
    handle_t d2 = grant(&d.child, second, RIGHT_MANAGE, 0);
    run_as(d.child.thread);
    expect_ok(sys(dma_attach, d2));
    expect_ok(sys(dma_reset_done, d.dma));
    expect_ok(sys(dma_reset_done, d2));
    handle_t m = make(memory_create, 0, 3, MEMORY_DMA);
    make(dma_map, d.dma, m, 0, 3, RW);
    make(dma_map, d2, m, 0, 3, RW);
    run_as(root_thread());
    expect_ok(sys(process_destroy, d.child.handle));
    cr_assert_eq(dma_quarantined_pages(), 3);
    account_check(process_root);
    expect_ok(sys(dma_attach, domain));
    expect_ok(sys(dma_attach, second));
    for (unsigned order = 0; order < 2; order++) {
        cr_assert_eq(dma_quarantined_pages(), 3, "one device may still write them");
        expect_ok(sys(dma_reset_done, order ? second : domain));
    }
    cr_assert_eq(dma_quarantined_pages(), 0);
    account_check(process_root);
}

Test(hardware, the_same_memory_mapped_twice_is_quarantined_once)
{
    struct driver d = driver_make();
    expect_ok(sys(dma_reset_done, d.dma));
    handle_t m = make(memory_create, 0, 3, MEMORY_DMA);
    make(dma_map, d.dma, m, 0, 3, RW);
    make(dma_map, d.dma, m, 1, 1, RW);
    run_as(root_thread());
    expect_ok(sys(process_destroy, d.child.handle));
    cr_assert_eq(dma_quarantined_pages(), 3);
    expect_ok(sys(dma_attach, domain));
    expect_ok(sys(dma_reset_done, domain));
    cr_assert_eq(dma_quarantined_pages(), 0);
    account_check(process_root);
}

Test(hardware, a_new_driver_cannot_unmap_what_the_dead_one_mapped)
{
    handle_t m = make(memory_create, 0, 4, MEMORY_DMA);
    struct driver d = driver_make();
    run_as(root_thread());
    handle_t theirs = grant(&d.child, m, RW | RIGHT_DMA, 0);
    run_as(d.child.thread);
    expect_ok(sys(dma_reset_done, d.dma));
    uint64_t iova = make(dma_map, d.dma, theirs, 0, 4, RW);
    run_as(root_thread());
    expect_ok(sys(process_destroy, d.child.handle));
    struct driver next = driver_make();
    expect_status(sys(dma_unmap, next.dma, iova), E_NOT_RESET);
    expect_ok(sys(dma_reset_done, next.dma));
    expect_status(sys(dma_unmap, next.dma, iova), E_NOT_FOUND);
}

Test(hardware, a_domain_has_room_for_so_many_mappings)
{
    struct driver d = driver_make();
    expect_ok(sys(dma_reset_done, d.dma));
    handle_t m = make(memory_create, 0, 2, MEMORY_DMA);
    unsigned n = 0;
    struct result r;
    while ((r = sys(dma_map, d.dma, m, 0, 1, RW)).status == OK) n++;
    cr_assert_eq(r.status, E_NO_SLOTS);
    cr_assert_geq(n, 64);
    expect_ok(sys(dma_unmap, d.dma, memory_frame((struct memory *)object_at(d.child.process, m), 0).v));
    make(dma_map, d.dma, m, 1, 1, RW);
    run_as(root_thread());
    expect_ok(sys(process_destroy, d.child.handle));
    cr_assert_eq(dma_quarantined_pages(), 2);
    account_check(process_root);
}

Test(hardware, a_destroyed_domain_leaves_its_quarantine_to_the_next_of_the_function)
{
    struct driver d = driver_make();
    expect_ok(sys(dma_reset_done, d.dma));
    handle_t m = make(memory_create, 0, 3, MEMORY_DMA);
    make(dma_map, d.dma, m, 0, 3, RW);
    expect_ok(sys(dma_bus_master, d.dma, 1));
    run_as(root_thread());
    expect_ok(sys(process_kill, d.child.handle, CAUSE_KILLED));
    expect_ok(sys(cap_delete, domain));
    cr_assert(!host.bus_master[BDF]);
    cr_assert_eq(dma_quarantined_pages(), 3);
    account_check(process_root);
    handle_t other = make(dma_create, boot_root, BDF + 8);
    expect_ok(sys(dma_attach, other));
    expect_ok(sys(dma_reset_done, other));
    cr_assert_eq(dma_quarantined_pages(), 3, "another function's reset says nothing");
    handle_t same = make(dma_create, boot_root, BDF);
    cr_assert_eq(dma_quarantined_pages(), 3);
    expect_ok(sys(dma_attach, same));
    expect_ok(sys(dma_reset_done, same));
    cr_assert_eq(dma_quarantined_pages(), 0);
    account_check(process_root);
}

Test(hardware, a_function_has_one_domain_at_a_time)
{
    struct child c = child_make(1);
    handle_t root = grant(&c, boot_root, 0, 0), first = make(dma_create, boot_root, BDF);
    uint32_t objects = process_root->object_count, handles = process_root->handle_count;
    expect_status(sys(dma_create, boot_root, BDF), E_BUSY);
    cr_assert_eq(process_root->object_count, objects);
    cr_assert_eq(process_root->handle_count, handles);
    run_as(c.thread);
    expect_status(sys(dma_create, root, BDF), E_BUSY);
    make(dma_create, root, BDF + 8);
    run_as(root_thread());
    expect_status(sys(dma_create, boot_root, BDF + 8), E_BUSY);
    expect_ok(sys(cap_delete, first));
    make(dma_create, boot_root, BDF);
    expect_ok(sys(process_kill, c.handle, CAUSE_KILLED));
    make(dma_create, boot_root, BDF + 8);
    account_check(process_root);
}

Test(hardware, a_domain_is_destroyed_under_its_driver)
{
    struct driver d = driver_make();
    expect_ok(sys(dma_reset_done, d.dma));
    handle_t m = make(memory_create, 0, 3, MEMORY_DMA);
    make(dma_map, d.dma, m, 0, 3, RW);
    expect_ok(sys(dma_bus_master, d.dma, 1));
    run_as(root_thread());
    expect_ok(sys(cap_delete, domain));
    cr_assert(!host.bus_master[BDF]);
    expect_ok(sys(process_destroy, d.child.handle));
    account_check(process_root);
}

Test(hardware, a_process_has_only_so_many)
{
    handle_t n = make(notification_create, 0), last = 0;
    for (unsigned i = 0; i < TIMERS_MAX; i++) last = make(timer_create, n, 1);
    expect_status(sys(timer_create, n, 1), E_QUOTA);
    expect_ok(sys(cap_delete, last));
    make(timer_create, n, 1);
    account_check(process_root);
}

/* --- Interrupt storms -------------------------------------------------------------------------------- */

struct storm {
    struct child driver;
    handle_t irq; /* the driver's */
};

static struct storm storm_make(enum irq_kind kind, uint32_t limit)
{
    handle_t table = make(memory_create_device, boot_root, HOST_DEVICE_BASE, 1);
    handle_t i = kind == IRQ_GSI ? make(irq_create, boot_root, IRQ_GSI, 4, 0, 0, limit)
                                 : make(irq_create, boot_root, IRQ_MSIX, 0, table, 3, limit);
    handle_t events = make(notification_create, 0);
    expect_ok(sys(event_bind, events, 1));
    buffer_make(USER_DYNAMIC);
    struct storm s = {.driver = child_make(1)};
    s.irq = grant(&s.driver, i, RIGHT_MANAGE, 0);
    run_as(s.driver.thread);
    handle_t n = make(notification_create, 0);
    expect_ok(sys(irq_bind, s.irq, n, 1));
    return s;
}

static void event_expect(const struct storm *s, enum process_event_kind kind, enum cause cause)
{
    struct process_event e;
    expect_ok(sys(process_event, USER_DYNAMIC));
    cr_assert_eq(user_read(process_root, &e, (vaddr_t){USER_DYNAMIC}, sizeof e), OK);
    cr_assert_eq(e.kind, (unsigned)kind);
    cr_assert_eq(e.cause, (unsigned)cause);
    cr_assert_eq(e.process, s->driver.handle);
}

Test(hardware, a_storm_is_masked_and_reported)
{
    struct storm s = storm_make(IRQ_MSIX, 0);
    host.log_length = 0;
    for (unsigned i = 0; i < IRQ_LIMIT; i++) cr_assert(host_irq_raise(IRQ_MSIX, 3), "interrupt %u", i);
    cr_assert_eq(trace_count(TRACE_IRQ_STORM), 0);
    host_irq_raise(IRQ_MSIX, 3);
    cr_assert(!host_irq_raise(IRQ_MSIX, 3), "it goes on");
    cr_assert_eq(trace_count(TRACE_IRQ_STORM), 1);
    cr_assert(strstr(host.log, "interrupt storm") && strstr(host.log, "[1.1]"), "%s", host.log);
    expect_ok(sys(irq_ack, s.irq));
    cr_assert(!host_irq_raise(IRQ_MSIX, 3), "an acknowledgement unmasks it");
    run_as(root_thread());
    event_expect(&s, EVENT_IRQ_STORM, CAUSE_NONE);
    expect_ok(sys(process_kill, s.driver.handle, CAUSE_IRQ_STORM));
    event_expect(&s, EVENT_DEATH, CAUSE_IRQ_STORM);
    account_check(process_root);
}

/* A level-triggered line that its device never lowers comes again at each acknowledgement. */
Test(hardware, a_line_that_stays_up_is_a_storm)
{
    struct storm s = storm_make(IRQ_GSI, 50);
    unsigned came = 0;
    while (host_irq_raise(IRQ_GSI, 4) && came < 1000) {
        came++;
        expect_ok(sys(irq_ack, s.irq));
        host_advance(10000);
    }
    cr_assert_eq(came, 51);
    cr_assert_eq(host_irq_find(IRQ_GSI, 4)->state, HOST_IRQ_MASKED);
    handle_t n = make(notification_create, 0);
    expect_ok(sys(irq_bind, s.irq, n, 1));
    cr_assert(host_irq_raise(IRQ_GSI, 4), "who binds it anew gets interrupts again");
}

Test(hardware, a_busy_interrupt_is_no_storm)
{
    struct storm s = storm_make(IRQ_MSIX, 0);
    for (unsigned i = 0; i < 20 * IRQ_LIMIT; i++) {
        cr_assert(host_irq_raise(IRQ_MSIX, 3), "masked after %u", i);
        run_as(s.driver.thread);
        expect_ok(sys(irq_ack, s.irq));
        host_advance(IRQ_WINDOW_NS / IRQ_LIMIT + 1);
    }
    cr_assert_eq(trace_count(TRACE_IRQ_STORM), 0);
}
