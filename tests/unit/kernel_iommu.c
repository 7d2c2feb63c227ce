/* SPDX-License-Identifier: BSD-2-Clause
 * DMA domains behind an IOMMU: what a device reaches, what it costs, what happens when it reaches for more, and
 * that nothing is reused before accesses under way are drained. The host port plays the device (host_dma). */
#include <criterion/criterion.h>
#include "host_kernel.h"

#define RW  (RIGHT_READ | RIGHT_WRITE)
#define BDF HOST_PCI_FIRST

static void boot_iommu(void)
{
    struct handoff *h = handoff_make(HOST_RAM_PAGES);
    host.iommu = 1;
    kernel_main(h);
    cr_assert_not_null(kernel_resume());
    boot_handles();
}

TestSuite(iommu, .init = boot_iommu);

struct driver {
    struct child child;
    handle_t dma;
    uint32_t bdf;
};

static handle_t domain[0x100];

static struct driver driver_make(uint32_t bdf)
{
    struct driver d = {.child = child_make(bdf), .bdf = bdf};
    if (!domain[bdf]) domain[bdf] = make(dma_create, boot_root, bdf);
    d.dma = grant(&d.child, domain[bdf], RIGHT_MANAGE, 0);
    run_as(d.child.thread);
    expect_ok(sys(dma_attach, d.dma));
    return d;
}

static struct driver driver_ready(uint32_t bdf)
{
    struct driver d = driver_make(bdf);
    expect_ok(sys(dma_reset_done, d.dma));
    expect_ok(sys(dma_bus_master, d.dma, 1));
    return d;
}

static struct memory *memory_of(struct driver *d, handle_t h)
{
    return (struct memory *)object_at(d->child.process, h);
}

static bool reaches(const struct driver *d, uint64_t iova, bool write)
{
    return host_dma(d->bdf, (iova_t){iova}, write).v != 0;
}

Test(iommu, a_device_reaches_what_was_mapped_by_an_address_of_its_own)
{
    struct driver d = driver_ready(BDF);
    handle_t m = make(memory_create, 0, 3, MEMORY_DMA);
    uint64_t iova = make(dma_map, d.dma, m, 1, 2, RW), frame = memory_frame(memory_of(&d, m), 1).v;
    cr_assert_neq(iova, frame, "the address means nothing elsewhere");
    cr_assert_geq(iova, host.ram_bytes + HOST_RAM_BASE);
    cr_assert_eq(host_dma(BDF, (iova_t){iova + 5}, true).v, frame + 5);
    cr_assert_eq(host_dma(BDF, (iova_t){iova + PAGE_SIZE}, false).v, frame + PAGE_SIZE);
    cr_assert_eq(d.child.process->state, PROCESS_RUNNING);
}

Test(iommu, reading_and_writing_are_apart)
{
    struct driver d = driver_ready(BDF);
    handle_t m = make(memory_create, 0, 1, MEMORY_DMA);
    uint64_t ro = make(dma_map, d.dma, m, 0, 1, RIGHT_READ), wo = make(dma_map, d.dma, m, 0, 1, RIGHT_WRITE);
    cr_assert_neq(ro, wo);
    cr_assert(reaches(&d, ro, false) && reaches(&d, wo, true));
    cr_assert(!reaches(&d, ro, true));
    cr_assert_eq(d.child.process->state, PROCESS_DEAD);
    cr_assert_eq(d.child.process->cause, CAUSE_DMA_FAULT);
    cr_assert_eq(d.child.process->fault_address, ro);
}

Test(iommu, a_stray_access_ends_its_driver_alone)
{
    struct driver one = driver_ready(BDF);
    handle_t m = make(memory_create, 0, 1, MEMORY_DMA);
    uint64_t mine = make(dma_map, one.dma, m, 0, 1, RW);
    run_as(root_thread());
    struct driver two = driver_ready(BDF + 8);
    handle_t n = make(memory_create, 0, 1, MEMORY_DMA);
    uint64_t theirs = make(dma_map, two.dma, n, 0, 1, RW);
    cr_assert_neq(mine, theirs);
    const struct trace_header *h = arch_direct(trace_paddr());
    const struct trace_entry *e = (const void *)((const uint8_t *)h + PAGE_SIZE);
    uint64_t at = h->head;
    cr_assert(!reaches(&one, theirs, true), "another driver's address");
    cr_assert_eq(e[at].event, TRACE_DMA_FAULT);
    cr_assert_eq(e[at].tag, one.child.process->object.tag);
    cr_assert_eq(e[at].a & 0xffff, BDF);
    cr_assert_eq(e[at].a >> 24, 1, "a write");
    cr_assert_eq(e[at].b, theirs);
    cr_assert_eq(one.child.process->state, PROCESS_DEAD);
    cr_assert_eq(two.child.process->state, PROCESS_RUNNING);
    cr_assert(!host.bus_master[BDF] && host.bus_master[BDF + 8]);
    cr_assert(reaches(&two, theirs, true));
}

Test(iommu, memory_by_its_physical_address_is_out_of_reach)
{
    struct driver d = driver_ready(BDF);
    handle_t m = make(memory_create, 0, 1, MEMORY_DMA);
    make(dma_map, d.dma, m, 0, 1, RW);
    cr_assert(!reaches(&d, memory_frame(memory_of(&d, m), 0).v, true), "its own frame, but not its address");
    cr_assert_eq(d.child.process->cause, CAUSE_DMA_FAULT);
}

Test(iommu, a_function_that_maps_nothing_reaches_nothing)
{
    struct driver d = driver_ready(BDF);
    cr_assert(!reaches(&d, IOVA_WINDOW(1), false));
    cr_assert_eq(d.child.process->cause, CAUSE_DMA_FAULT);
}

Test(iommu, a_function_without_a_driver_is_fenced_at_its_first_access)
{
    struct driver d = driver_ready(BDF);
    run_as(root_thread());
    expect_ok(sys(process_destroy, d.child.handle));
    host.bus_master[BDF] = true; /* a device that does not do as it was told */
    kernel_dma_fault(BDF, 0x1000, 1, true);
    cr_assert(!host.bus_master[BDF]);
    kernel_dma_fault(BDF + 16, 0x1000, 1, true); /* and one that nobody made a domain for */
    account_check(process_root);
}

Test(iommu, what_is_unmapped_is_out_of_reach_though_the_device_used_it)
{
    struct driver d = driver_ready(BDF);
    handle_t m = make(memory_create, 0, 2, MEMORY_DMA);
    uint64_t iova = make(dma_map, d.dma, m, 0, 2, RW);
    cr_assert(reaches(&d, iova, true) && reaches(&d, iova + PAGE_SIZE, true));
    expect_ok(sys(dma_unmap, d.dma, iova));
    expect_ok(sys(cap_delete, m));
    cr_assert_eq(dma_quarantined_pages(), 0);
    cr_assert(!reaches(&d, iova + PAGE_SIZE, true));
    cr_assert_eq(d.child.process->cause, CAUSE_DMA_FAULT);
    run_as(root_thread());
    account_check(process_root);
}

/* Somebody else's memory, lent to the driver: taking it back takes it from the device. */
static void revoked(bool whole)
{
    handle_t m = make(memory_create, 0, 2, MEMORY_DMA),
             lent = make(cap_derive, m, RW | RIGHT_DMA | RIGHT_GRANT, 0);
    struct driver d = driver_ready(BDF);
    run_as(root_thread());
    handle_t theirs = grant(&d.child, lent, RW | RIGHT_DMA, 0);
    run_as(d.child.thread);
    uint64_t iova = make(dma_map, d.dma, theirs, 0, 2, RW), own = make(memory_create, 0, 1, MEMORY_DMA);
    uint64_t kept = make(dma_map, d.dma, own, 0, 1, RW);
    cr_assert(reaches(&d, iova, true));
    run_as(root_thread());
    uint64_t drains = host_iommu_drains();
    expect_ok(whole ? sys(cap_delete, m) : sys(cap_revoke, lent));
    cr_assert_gt(host_iommu_drains(), drains);
    cr_assert_eq(dma_quarantined_pages(), whole ? 2 : 0);
    cr_assert(reaches(&d, kept, true), "what was not revoked stays");
    cr_assert(!reaches(&d, iova, true));
    cr_assert_eq(d.child.process->cause, CAUSE_DMA_FAULT);
    run_as(root_thread());
    account_check(process_root);
}
Test(iommu, revoking_memory_takes_it_from_the_device) { revoked(false); }
Test(iommu, deleting_memory_takes_it_from_the_device) { revoked(true); }

Test(iommu, a_revoked_mapping_is_unmapped_once)
{
    handle_t m = make(memory_create, 0, 2, MEMORY_DMA),
             lent = make(cap_derive, m, RW | RIGHT_DMA | RIGHT_GRANT, 0);
    struct driver d = driver_ready(BDF);
    run_as(root_thread());
    handle_t theirs = grant(&d.child, lent, RW | RIGHT_DMA, 0);
    run_as(d.child.thread);
    uint64_t iova = make(dma_map, d.dma, theirs, 0, 2, RW);
    run_as(root_thread());
    expect_ok(sys(cap_revoke, lent));
    run_as(d.child.thread);
    expect_ok(sys(dma_unmap, d.dma, iova));
    expect_status(sys(dma_unmap, d.dma, iova), E_NOT_FOUND);
    run_as(root_thread());
    expect_ok(sys(cap_delete, m));
    cr_assert_eq(dma_quarantined_pages(), 0);
    account_check(process_root);
}

Test(iommu, the_driver_pays_for_the_tables)
{
    struct driver d = driver_ready(BDF);
    handle_t m = make(memory_create, 0, 1, MEMORY_DMA), more = make(memory_create, 0, 20, MEMORY_DMA);
    uint64_t used = d.child.process->used;
    make(dma_map, d.dma, m, 0, 1, RW);
    cr_assert_eq(d.child.process->used, used + 3);
    for (unsigned i = 0; i < 20; i++) make(dma_map, d.dma, more, 0, 20, RW);
    cr_assert_eq(d.child.process->used, used + 3, "one table of the last level spans 512 pages");
    for (unsigned i = 0; i < 10; i++) make(dma_map, d.dma, more, 0, 20, RW);
    cr_assert_eq(d.child.process->used, used + 4);
    run_as(root_thread());
    account_check(process_root);
    expect_ok(sys(process_kill, d.child.handle, CAUSE_KILLED));
    account_check(process_root);
}

Test(iommu, a_map_that_the_quota_does_not_cover_changes_nothing)
{
    struct driver d = driver_ready(BDF);
    handle_t m = make(memory_create, 0, 1, MEMORY_DMA);
    struct process *p = d.child.process;
    make(memory_create, 0, p->quota - p->used - 2, 0); /* two frames are left, three are needed */
    expect_status(sys(dma_map, d.dma, m, 0, 1, RW), E_QUOTA);
    struct dma *o = (struct dma *)object_at(p, d.dma);
    cr_assert(list_empty(&o->mappings) && o->mapping_count == 0);
    cr_assert(!reaches(&d, IOVA_WINDOW(1), true));
    cr_assert_eq(p->cause, CAUSE_DMA_FAULT);
    run_as(root_thread());
    account_check(process_root);
}

Test(iommu, a_gap_in_the_window_is_used_again)
{
    struct driver d = driver_ready(BDF);
    handle_t m = make(memory_create, 0, 4, MEMORY_DMA);
    uint64_t a = make(dma_map, d.dma, m, 0, 4, RW), b = make(dma_map, d.dma, m, 0, 2, RW),
             c = make(dma_map, d.dma, m, 0, 4, RW);
    cr_assert(b == a + 4 * PAGE_SIZE && c == b + 2 * PAGE_SIZE);
    expect_ok(sys(dma_unmap, d.dma, b));
    cr_assert_eq(make(dma_map, d.dma, m, 0, 3, RW), c + 4 * PAGE_SIZE, "too small a gap");
    cr_assert_eq(make(dma_map, d.dma, m, 0, 1, RW), b);
    cr_assert_eq(make(dma_map, d.dma, m, 1, 1, RW), b + PAGE_SIZE);
    expect_ok(sys(dma_unmap, d.dma, a));
    cr_assert_eq(make(dma_map, d.dma, m, 0, 4, RW), a);
    cr_assert(reaches(&d, c + 3 * PAGE_SIZE, true));
}

/* The order of death: detached, drained, then nothing of it is reachable, and a reset makes memory reusable. */
Test(iommu, death_detaches_and_drains)
{
    struct driver d = driver_ready(BDF);
    handle_t m = make(memory_create, 0, 5, MEMORY_DMA);
    uint64_t iova = make(dma_map, d.dma, m, 0, 5, RW);
    cr_assert(reaches(&d, iova, true));
    const struct trace_header *h = arch_direct(trace_paddr());
    const struct trace_entry *e = (const void *)((const uint8_t *)h + PAGE_SIZE);
    uint64_t at = h->head;
    run_as(root_thread());
    expect_ok(sys(process_kill, d.child.handle, CAUSE_KILLED));
    static const enum trace_event order[] = {
        TRACE_DEATH,        TRACE_FENCE_GENERATION, TRACE_FENCE_IRQ, TRACE_FENCE_BUS_MASTER,
        TRACE_FENCE_DOMAIN, TRACE_FENCE_DRAINED,    TRACE_FENCE_DONE};
    for (unsigned i = 0; i < 7; i++) cr_assert_eq(e[at + i].event, order[i]);
    cr_assert_eq(e[at + 5].a, 1, "functions");
    cr_assert_eq(e[at + 5].b, host_iommu_drains(), "the IOMMU said so");
    host.bus_master[BDF] = true; /* a device that does not do as it was told */
    cr_assert(!reaches(&d, iova, true));
    cr_assert_eq(dma_quarantined_pages(), 5);
    at = h->head;
    struct driver next = driver_make(BDF);
    expect_ok(sys(dma_reset_done, next.dma));
    while (e[at].event != TRACE_RESET_DONE) at++;
    cr_assert_eq(e[at + 1].event, TRACE_REUSABLE);
    cr_assert_eq(e[at + 1].b, 5);
    cr_assert_eq(dma_quarantined_pages(), 0);
    expect_ok(sys(dma_bus_master, next.dma, 1));
    cr_assert(!reaches(&next, iova, true), "the dead driver's address");
    cr_assert_eq(next.child.process->cause, CAUSE_DMA_FAULT);
    run_as(root_thread());
    account_check(process_root);
}

Test(iommu, a_domain_is_destroyed_under_its_driver)
{
    struct driver d = driver_ready(BDF);
    handle_t m = make(memory_create, 0, 3, MEMORY_DMA);
    uint64_t iova = make(dma_map, d.dma, m, 0, 3, RW);
    cr_assert(reaches(&d, iova, true));
    run_as(root_thread());
    expect_ok(sys(cap_delete, domain[BDF]));
    host.bus_master[BDF] = true;
    cr_assert(!reaches(&d, iova, true));
    account_check(process_root);
    expect_ok(sys(process_destroy, d.child.handle));
    account_check(process_root);
    cr_assert_eq(dma_quarantined_pages(), 3);
    handle_t again = make(dma_create, boot_root, BDF);
    expect_ok(sys(dma_attach, again));
    expect_ok(sys(dma_reset_done, again));
    cr_assert_eq(dma_quarantined_pages(), 0);
    account_check(process_root);
}

Test(iommu, domains_run_out_and_come_back)
{
    handle_t first = make(dma_create, boot_root, BDF);
    for (unsigned i = 0; i < 200; i++) {
        expect_ok(sys(cap_delete, first));
        first = make(dma_create, boot_root, BDF);
    }
    account_check(process_root);
}
