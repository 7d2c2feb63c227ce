/* SPDX-License-Identifier: BSD-2-Clause
 * Every system call with bad arguments: handles of each type where another is wanted, capabilities without
 * rights, extreme numbers in every register. Refusals change nothing. And boot, the log, the trace, info. */
#include <criterion/criterion.h>
#include <signal.h>
#include "host_kernel.h"

TestSuite(syscall, .init = boot);

static const char *const names[SYSCALL_COUNT] = {
#define SYSCALL(number, name, arguments, results, text) [number] = #name,
#include "abi/syscalls.def"
#undef SYSCALL
};

/* One capability of each type, and each of them with no rights at all. */
static handle_t full[OBJECT_TYPES], bare[OBJECT_TYPES];

static void handles_make(void)
{
    full[OBJECT_PROCESS] = child_make(1).handle;
    full[OBJECT_THREAD] = make(thread_create, full[OBJECT_PROCESS], ELF_TEXT, USER_STACK_TOP, 0);
    full[OBJECT_ENDPOINT] = make(endpoint_create, 0);
    full[OBJECT_NOTIFICATION] = make(notification_create, 0);
    full[OBJECT_MEMORY] = make(memory_create, 0, 2, MEMORY_DMA);
    full[OBJECT_DMA] = make(dma_create, boot_root, HOST_PCI_FIRST);
    full[OBJECT_IRQ] = make(irq_create, boot_root, IRQ_GSI, 4);
    full[OBJECT_PORTS] = make(ports_create, boot_root, 0x3f8, 8);
    full[OBJECT_TIMER] = make(timer_create, full[OBJECT_NOTIFICATION], 1);
    full[OBJECT_TRACE] = boot_trace;
    full[OBJECT_ROOT] = boot_root;
    full[OBJECT_INJECT] = boot_inject;
    struct child client = child_make(2); /* a saved caller, for the reply */
    handle_t end = grant(&client, full[OBJECT_ENDPOINT], RIGHT_WRITE, 0);
    struct thread *me = current();
    run_as(client.thread);
    sys(call, end, 0);
    run_as(me);
    expect_ok(sys(recv, full[OBJECT_ENDPOINT]));
    full[OBJECT_REPLY] = make(reply_save);
    for (unsigned i = 1; i < OBJECT_TYPES; i++) bare[i] = make(cap_derive, full[i], 0, 0);
}

/* What a call wants in its handle register; OBJECT_NONE: something else. */
static enum object_type wanted(unsigned number)
{
    switch (number) {
    case SYS_call:
    case SYS_recv:
    case SYS_reply_recv:
    case SYS_endpoint_info: return OBJECT_ENDPOINT;
    case SYS_reply_to: return OBJECT_REPLY;
    case SYS_signal:
    case SYS_signal_wait:
    case SYS_wait:
    case SYS_poll:
    case SYS_bind:
    case SYS_event_bind:
    case SYS_timer_create: return OBJECT_NOTIFICATION;
    case SYS_thread_create:
    case SYS_memory_create:
    case SYS_memory_map:
    case SYS_memory_unmap:
    case SYS_process_grant:
    case SYS_process_start:
    case SYS_process_kill:
    case SYS_process_destroy:
    case SYS_process_info: return OBJECT_PROCESS;
    case SYS_memory_info:
    case SYS_process_create: return OBJECT_MEMORY;
    case SYS_memory_create_device:
    case SYS_irq_create:
    case SYS_ports_create:
    case SYS_dma_create:
    case SYS_system: return OBJECT_ROOT;
    case SYS_irq_bind:
    case SYS_irq_ack: return OBJECT_IRQ;
    case SYS_port_in:
    case SYS_port_out: return OBJECT_PORTS;
    case SYS_timer_arm: return OBJECT_TIMER;
    case SYS_dma_attach:
    case SYS_dma_map:
    case SYS_dma_unmap:
    case SYS_dma_reset_done:
    case SYS_dma_decode:
    case SYS_dma_bus_master: return OBJECT_DMA;
    case SYS_trace_mark:
    case SYS_log: return OBJECT_TRACE;
    case SYS_inject: return OBJECT_INJECT;
    default: return OBJECT_NONE;
    }
}

static bool takes_trace_as_memory(unsigned number) { return number == SYS_memory_info; }

/* Arguments that pass the checks a call makes before it looks at its handle. */
static void arguments(unsigned number, uint64_t w[10])
{
    memset(w, 0, 10 * sizeof w[0]);
    if (number == SYS_event_bind || number == SYS_timer_create || number == SYS_dma_map) w[1] = 1;
    if (number == SYS_dma_map) w[4] = RIGHT_READ;
}

Test(syscall, numbers_that_do_not_exist)
{
    static const uint64_t none[10];
    cr_assert_eq(system_call(SYSCALL_COUNT, none).status, E_SYSCALL);
    cr_assert_eq(system_call(~0ul, none).status, E_SYSCALL);
    cr_assert_eq(system_call(1ul << 32, none).status, E_SYSCALL);
    expect_ok(sys(null));
}

Test(syscall, a_handle_of_another_type_is_refused_everywhere)
{
    handles_make();
    for (unsigned n = 0; n < SYSCALL_COUNT; n++) {
        enum object_type type = wanted(n);
        if (type == OBJECT_NONE) continue;
        for (unsigned i = 1; i < OBJECT_TYPES; i++) {
            if (i == type || (i == OBJECT_TRACE && takes_trace_as_memory(n))) continue;
            uint64_t w[10];
            arguments(n, w);
            w[0] = full[i];
            struct result r = system_call(n, w);
            cr_assert_eq(r.status, E_TYPE, "%s with an object of type %u: %d", names[n], i, (int)r.status);
        }
    }
    account_check(process_root);
}

Test(syscall, a_stale_handle_is_refused_everywhere)
{
    handle_t stale = make(endpoint_create, 0);
    expect_ok(sys(cap_delete, stale));
    for (unsigned n = 0; n < SYSCALL_COUNT; n++) {
        if (wanted(n) == OBJECT_NONE && n != SYS_cap_derive && n != SYS_cap_revoke && n != SYS_cap_delete &&
            n != SYS_cap_info)
            continue;
        uint64_t w[10];
        arguments(n, w);
        w[0] = stale;
        struct result r = system_call(n, w);
        cr_assert_eq(r.status, E_HANDLE, "%s: %d", names[n], (int)r.status);
    }
    account_check(process_root);
}

Test(syscall, a_capability_without_rights_is_refused_where_rights_are_needed)
{
    handles_make();
    for (unsigned n = 0; n < SYSCALL_COUNT; n++) {
        enum object_type type = wanted(n);
        /* root and inject are authority by themselves; the two infos tell what anybody may know */
        if (type == OBJECT_NONE || type == OBJECT_ROOT || type == OBJECT_INJECT || n == SYS_endpoint_info ||
            n == SYS_memory_info)
            continue;
        uint64_t w[10];
        arguments(n, w);
        w[0] = bare[type];
        struct result r = system_call(n, w);
        cr_assert_eq(r.status, E_RIGHTS, "%s: %d", names[n], (int)r.status);
    }
    account_check(process_root);
}

/* Every call with extreme numbers in every register: any status, but the kernel's books stay right. */
Test(syscall, extreme_numbers_in_every_register)
{
    static const uint64_t extreme[] = {0,
                                       1,
                                       7,
                                       0xfff,
                                       0x1000,
                                       0xffff,
                                       0x10000,
                                       USER_IMAGE_BASE,
                                       USER_END - 1,
                                       USER_END,
                                       DIRECT_MAP,
                                       KERNEL_BASE,
                                       1ul << 31,
                                       1ul << 32,
                                       1ul << 52,
                                       1ul << 63,
                                       ~0ul - PAGE_SIZE,
                                       ~0ul};
    handles_make();
    unsigned count = sizeof extreme / sizeof extreme[0];
    struct child actor = child_make(3);
    for (unsigned n = 0; n < SYSCALL_COUNT; n++) {
        for (unsigned at = 0; at < 10; at++) {
            for (unsigned x = 0; x < count; x++) {
                if (current() != actor.thread) { /* it ended or sleeps: another takes its place */
                    run_as(root_thread());
                    if (!thread_lives(actor.thread) || actor.thread->state != THREAD_READY) {
                        sys(process_destroy, actor.handle);
                        actor = child_make(3);
                    }
                    run_as(actor.thread);
                }
                uint64_t w[10];
                arguments(n, w);
                w[at] = extreme[x];
                system_call(n, w);
            }
        }
        account_check(process_root);
    }
}

/* --- The small calls ------------------------------------------------------------------------------------- */

Test(syscall, a_log_line_stays_one_line)
{
    vaddr_t at = buffer_make(USER_DYNAMIC);
    char text[600];
    memset(text, 'x', sizeof text);
    memcpy(text, "{\"a\":1}\nfake\x7f", 14);
    cr_assert_eq(user_write(process_root, at, text, sizeof text), OK);
    host.log_length = 0;
    expect_ok(sys(log, boot_trace, at.v, 13));
    cr_assert_str_eq(host.log, "[0.1] {\"a\":1}?fake?\n");
    expect_ok(sys(log, boot_trace, at.v, 512));
    expect_ok(sys(log, boot_trace, at.v, 0));
    expect_status(sys(log, boot_trace, at.v, 513), E_ARGUMENT);
    expect_status(sys(log, boot_trace, at.v, ~0ul), E_ARGUMENT);
    expect_status(sys(log, boot_trace, at.v + PAGE_SIZE - 4, 8), E_ADDRESS);
    expect_status(sys(log, boot_trace, 0, 8), E_ADDRESS);
}

Test(syscall, marks_need_credit_or_the_trace)
{
    struct child c = child_make(1);
    run_as(c.thread);
    for (unsigned i = 0; i < TRACE_CREDIT; i++) expect_ok(sys(trace_mark, 0, MARK_BENCH, i));
    expect_status(sys(trace_mark, 0, MARK_BENCH, 0), E_QUOTA);
    run_as(root_thread());
    handle_t t = grant(&c, boot_trace, RIGHT_WRITE, 0);
    run_as(c.thread);
    expect_ok(sys(trace_mark, t, MARK_BENCH, 0));
    cr_assert_eq(trace_count(TRACE_MARK), TRACE_CREDIT + 1);
}

Test(syscall, the_ring_wraps)
{
    const struct trace_header *h = arch_direct(trace_paddr());
    for (uint64_t i = 0; i < TRACE_ENTRIES + 10; i++) trace(TRACE_MARK, 7, i, 0);
    const struct trace_entry *e = (const void *)((const uint8_t *)h + PAGE_SIZE);
    cr_assert_gt(h->head, TRACE_ENTRIES);
    cr_assert_eq(e[(h->head - 1) % TRACE_ENTRIES].a, TRACE_ENTRIES + 9);
}

Test(syscall, the_system_tells_about_itself)
{
    vaddr_t at = buffer_make(USER_DYNAMIC);
    struct system_info i;
    expect_ok(sys(system_info, at.v));
    cr_assert_eq(user_read(process_root, &i, at, sizeof i), OK);
    cr_assert_eq(i.tsc_hz, HOST_TSC_HZ);
    cr_assert_eq(i.pages_total, HOST_RAM_PAGES);
    cr_assert_eq(i.pages_free, frame_available());
    cr_assert_eq(i.processes, 1);
    cr_assert_eq(i.trace_paddr, trace_paddr().v);
    cr_assert_eq(i.cpus, 1);
    cr_assert_eq(i.boot_tsc, 1000);
    expect_status(sys(system_info, 0), E_ADDRESS);
    expect_status(sys(system_info, ELF_TEXT), E_ADDRESS);
}

Test(syscall, the_clock_is_that_of_the_timers)
{
    uint64_t before = sys(clock).w[0];
    host_advance(12345);
    struct result r = sys(clock);
    cr_assert_eq(r.w[0], before + 12345);
    cr_assert_eq(r.w[1], host.tsc);
    cr_assert_eq(time_tsc(r.w[0]), host.tsc);
}

Test(syscall, power_off, .exit_code = HOST_EXIT_OFF)
{
    expect_status(sys(system, boot_root, 2), E_ARGUMENT);
    sys(system, boot_root, SYSTEM_POWER_OFF);
}

Test(syscall, reboot, .exit_code = HOST_EXIT_REBOOT) { sys(system, boot_root, SYSTEM_REBOOT); }

/* --- Boot refuses a wrong handoff or image ------------------------------------------------------------------ */

#define BOOT_REFUSED(name, change)                                \
    Test(boot, name, .signal = SIGABRT)                           \
    {                                                             \
        setenv("HOST_QUIET", "1", 1);                             \
        struct handoff *h = handoff_make(HOST_RAM_PAGES);         \
        struct bundle *b = (void *)(host.ram + 2 * PAGE_SIZE);    \
        struct test_elf *e = (void *)((uint8_t *)b + IMAGE_FILE); \
        (void)b, (void)e;                                         \
        change;                                                   \
        kernel_main(h);                                           \
    }

BOOT_REFUSED(magic, h->magic++)
BOOT_REFUSED(version, h->version++)
BOOT_REFUSED(size, h->size--)
BOOT_REFUSED(too_many_ranges, h->range_count = HANDOFF_RANGES + 1)
BOOT_REFUSED(image_magic, b->magic++)
BOOT_REFUSED(image_version, b->version++)
BOOT_REFUSED(image_length, b->length += PAGE_SIZE)
BOOT_REFUSED(image_empty, h->image_bytes = 0)
BOOT_REFUSED(image_count, b->count = 1000000)
BOOT_REFUSED(file_past_the_end, b->entry[0].offset = 5 * PAGE_SIZE)
BOOT_REFUSED(file_too_long, b->entry[0].length = ~0ul)
BOOT_REFUSED(no_supervisor, b->entry[0].name[0] = 'x')
BOOT_REFUSED(supervisor_is_no_elf, e->header.e_machine = 0)
BOOT_REFUSED(supervisor_unaligned, b->entry[0].offset += 8)
BOOT_REFUSED(no_memory, h->range[1].pages = 100)

Test(boot, the_first_lines)
{
    boot();
    cr_assert(strstr(host.log, "Coppice kernel: 32 MiB of memory, 1 CPU"));
    cr_assert(strstr(host.log, "NO IOMMU"));
    cr_assert(strstr(host.log, "{\"boot\":"));
    cr_assert_eq(trace_count(TRACE_BOOT), 1);
}

/* --- Floods of evidence -------------------------------------------------------------------------------- */

Test(syscall, a_line_says_who_wrote_it)
{
    struct child c = child_make(7);
    handle_t theirs = grant(&c, boot_trace, RIGHT_WRITE, 0);
    run_as(c.thread);
    vaddr_t at = buffer_make(USER_DYNAMIC);
    cr_assert_eq(user_write(c.process, at, "KERNEL PANIC: no", 16), OK);
    host.log_length = 0;
    expect_ok(sys(log, theirs, at.v, 16));
    cr_assert_str_eq(host.log, "[7.1] KERNEL PANIC: no\n");
}

Test(syscall, a_flood_of_lines_is_dropped_and_reported)
{
    struct child c = child_make(7);
    handle_t theirs = grant(&c, boot_trace, RIGHT_WRITE, 0), mine = boot_trace;
    run_as(c.thread);
    vaddr_t at = buffer_make(USER_DYNAMIC);
    unsigned written = 0, dropped = 0;
    for (unsigned i = 0; i < 2 * LOG_BURST / 512; i++) {
        struct result r = sys(log, theirs, at.v, 512);
        written += r.status == OK;
        dropped += r.status == E_QUOTA;
    }
    cr_assert_eq(written, LOG_BURST / 512);
    cr_assert_eq(dropped, LOG_BURST / 512);
    run_as(root_thread());
    vaddr_t own = buffer_make(USER_DYNAMIC);
    expect_ok(sys(log, mine, own.v, 512)); /* the others' lines are not its victims */
    host_advance(HOST_TSC_HZ);
    run_as(c.thread);
    host.log_length = 0;
    expect_ok(sys(log, theirs, at.v, 1));
    cr_assert(strstr(host.log, "[7.1] writes too much: 512 lines dropped"), "%s", host.log);
}

/* Processes made by a service: their tag is its own, and they share a bounded part of the trace. */
Test(syscall, a_fork_bomb_does_not_wash_the_trace_away)
{
    struct child c = child_create(400, TAG_MAKE(7, 1), TEST_SCHED);
    handle_t image = grant(&c, boot_image, RIGHT_READ | RIGHT_EXECUTE, 0);
    child_start(&c);
    run_as(c.thread);
    uint64_t before = ((const struct trace_header *)arch_direct(trace_paddr()))->head;
    for (unsigned i = 0; i < 500; i++) {
        handle_t p = make(process_create, image, IMAGE_FILE, ELF_FILE_BYTES, 32, TAG_MAKE(3, 9), TEST_SCHED);
        cr_assert_eq(object_at(c.process, p)->tag, TAG_MAKE(7, 1), "it speaks for another service");
        expect_ok(sys(process_start, p, 0));
        expect_ok(sys(process_destroy, p));
    }
    cr_assert_eq(trace_count(TRACE_TRUNCATED), 1);
    cr_assert_eq(((const struct trace_header *)arch_direct(trace_paddr()))->head - before, TRACE_CREDIT + 1);
    expect_status(sys(trace_mark, 0, MARK_BENCH, 0), E_QUOTA);
    run_as(root_thread());
    uint64_t ends = trace_count(TRACE_FENCE_DONE);
    expect_ok(sys(process_destroy, c.handle));
    cr_assert_eq(trace_count(TRACE_FENCE_DONE), ends + 1, "its own end is not told");
    account_check(process_root);
}
