/* SPDX-License-Identifier: BSD-2-Clause
 * System calls that must be refused: each line says which status exactly. All leave this process as it was;
 * main.c checks that with the kernel's own count of handles, pages and mappings. */
#include <elf.h>
#include "abi/trace.h"
#include "hostile.h"

#define RW (RIGHT_READ | RIGHT_WRITE)
#define RX (RIGHT_READ | RIGHT_EXECUTE)

static void expect(const char *what, const char *attack, status_t got, status_t wanted)
{
    if (got != wanted) failed(attack, what, got, wanted);
}
#define REFUSED(wanted, call)       expect(#call, __func__, (call), wanted)
#define REFUSED_VALUE(wanted, call) expect(#call, __func__, (call).status, wanted)

static status_t raw(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    return sys(number, a, b, c, d, e, f).status;
}

static handle_t made(struct sys_result r) { return r.status == OK ? r.value : 0; }

/* --- Handles ------------------------------------------------------------------------------------------------ */

static void forged_handles(void)
{
    handle_t n = made(sys_notification_create(0));
    uint64_t index = HANDLE_INDEX(n), generation = HANDLE_GENERATION(n);

    REFUSED(E_HANDLE, sys_signal(HANDLE_MAKE(index, generation + 1), 1));
    REFUSED(E_HANDLE, sys_signal(HANDLE_MAKE(index, generation - 1), 1));
    REFUSED(E_HANDLE, sys_signal(HANDLE_MAKE(0, generation), 1));
    REFUSED(E_HANDLE, sys_signal(HANDLE_MAKE(0xffff, generation), 1));
    REFUSED(E_HANDLE, sys_signal(HANDLE_MAKE(index + 64, generation), 1));
    REFUSED(E_HANDLE, sys_signal(~0ul, 1));
    REFUSED(E_HANDLE, sys_signal(KERNEL_TEXT, 1));
    REFUSED(E_HANDLE, sys_signal(n | 1ul << 63, 1));
    REFUSED(OK, sys_cap_delete(n));
    REFUSED(E_HANDLE, sys_signal(n, 1));
    handle_t again = made(sys_notification_create(0));
    REFUSED(E_HANDLE, sys_signal(n, 1));
    REFUSED(E_HANDLE, sys_cap_revoke(n));
    REFUSED(E_HANDLE, sys_cap_delete(n));
    REFUSED(OK, sys_cap_delete(again));
}

/* Every slot with the generations that a young table has: only what we were given answers. */
static void every_slot(void)
{
    struct process_info info;
    uint64_t found = 0;

    if (sys_process_info(0, &info) != OK) return;
    for (uint64_t index = 0; index < 0x4000 + 64; index += index < 256 ? 1 : 61)
        for (uint64_t generation = 0; generation < 3; generation++)
            found += raw(SYS_cap_info, HANDLE_MAKE(index, generation), 0, 0, 0, 0, 0) == OK;
    if (found > info.handles)
        failed(__func__, "more capabilities than the kernel counts", found, info.handles);
}

static void wrong_types(void)
{
    handle_t n = made(sys_notification_create(0)), e = made(sys_endpoint_create(0));
    struct message m = {0};

    REFUSED(E_TYPE, sys_call(n, &m));
    REFUSED(E_TYPE, sys_recv(n, &m));
    REFUSED(E_TYPE, sys_signal(e, 1));
    REFUSED_VALUE(E_TYPE, sys_poll(e));
    REFUSED(E_TYPE, sys_bind(e));
    REFUSED(E_TYPE, sys_reply_to(n, &m));
    REFUSED_VALUE(E_TYPE, sys_memory_info(n));
    REFUSED(E_TYPE, sys_memory_map(0, n, SCRATCH_AT, 0, 1, RIGHT_READ));
    REFUSED(E_TYPE, sys_memory_map(n, child_image(), SCRATCH_AT, 0, 1, RIGHT_READ));
    REFUSED_VALUE(E_TYPE, sys_process_create(n, 0, 4096, 64, 0, own_sched(), 0));
    REFUSED_VALUE(E_TYPE, sys_process_grant(n, e, 0, 0));
    REFUSED(E_TYPE, sys_process_start(e, 0));
    REFUSED(E_TYPE, sys_process_kill(e, CAUSE_KILLED));
    REFUSED(E_TYPE, sys_process_destroy(e));
    REFUSED_VALUE(E_TYPE, sys_thread_create(e, USER_IMAGE_BASE, 0, 0));
    REFUSED_VALUE(E_TYPE, sys_memory_create_device(n, (paddr_t){0xfee00000}, 1));
    REFUSED_VALUE(E_TYPE, sys_irq_create(n, IRQ_GSI, 1, 0, 0, 0));
    REFUSED(E_TYPE, sys_irq_bind(n, n, 1));
    REFUSED(E_TYPE, sys_irq_ack(n));
    REFUSED_VALUE(E_TYPE, sys_ports_create(n, 0x60, 1));
    REFUSED_VALUE(E_TYPE, sys_port_in(n, 0, 1, NULL, NULL, 0));
    REFUSED(E_TYPE, sys_port_out(n, 0, 1, 0, NULL, 0));
    REFUSED_VALUE(E_TYPE, sys_timer_create(e, 1));
    REFUSED(E_TYPE, sys_timer_arm(n, 1));
    REFUSED_VALUE(E_TYPE, sys_dma_create(n, 0));
    REFUSED(E_TYPE, sys_dma_attach(n));
    REFUSED_VALUE(E_TYPE, sys_dma_map(n, child_image(), 0, 1, RIGHT_READ));
    REFUSED(E_TYPE, sys_dma_bus_master(n, true));
    REFUSED(E_TYPE, sys_dma_decode(n, true));
    REFUSED_VALUE(E_TYPE, sys_inject(n, n, INJECT_ARM, 0, 0, 0));
    REFUSED(E_TYPE, sys_system(n, SYSTEM_POWER_OFF));
    REFUSED(E_TYPE, sys_log(n, "x", 1));
    REFUSED(E_TYPE, sys_trace_mark(n, MARK_BENCH, 0));
    REFUSED(OK, sys_cap_delete(n));
    REFUSED(OK, sys_cap_delete(e));
}

/* What we were given names no authority over the machine, whichever of it is shown. */
static void given_is_not_root(void)
{
    static const char *const name[] = {"log", "image", "endpoint", "supervisor", "recovery", "echo"};

    for (uint32_t i = 0; i < sizeof(name) / sizeof(name[0]); i++) {
        handle_t h = cap_find(name[i]);
        REFUSED_VALUE(E_TYPE, sys_memory_create_device(h, (paddr_t){0xfee00000}, 1));
        REFUSED_VALUE(E_TYPE, sys_irq_create(h, IRQ_GSI, 4, 0, 0, 0));
        REFUSED_VALUE(E_TYPE, sys_ports_create(h, 0x60, 1));
        REFUSED_VALUE(E_TYPE, sys_dma_create(h, 0));
        REFUSED(E_TYPE, sys_system(h, SYSTEM_REBOOT));
        REFUSED_VALUE(E_TYPE, sys_inject(h, h, INJECT_ARM_TAG, 0, 0, 0));
    }
}

/* --- Rights ---------------------------------------------------------------------------------------------------- */

static void rights_only_shrink(void)
{
    handle_t m = made(sys_memory_create(0, 1, 0)), r = made(sys_cap_derive(m, RIGHT_READ, 0));

    REFUSED_VALUE(E_RIGHTS, sys_cap_derive(r, RW, 0));
    REFUSED_VALUE(E_RIGHTS, sys_cap_derive(r, ~0u, 0));
    REFUSED_VALUE(E_RIGHTS, sys_cap_derive(m, RIGHT_DMA, 0));
    REFUSED_VALUE(E_RIGHTS, sys_cap_derive(m, RIGHT_INJECT, 0));
    REFUSED(E_RIGHTS, raw(SYS_cap_derive, m, 1ul << 40, 0, 0, 0, 0));
    REFUSED(E_RIGHTS, sys_memory_map(0, r, SCRATCH_AT, 0, 1, RW));
    REFUSED(E_RIGHTS, sys_memory_map(0, r, SCRATCH_AT, 0, 1, RX));
    REFUSED_VALUE(E_RIGHTS, sys_process_create(r, 0, 4096, 64, 0, own_sched(), 0));
    REFUSED(OK, sys_cap_delete(m));
}

static void given_rights_only_shrink(void)
{
    handle_t log = cap_find("log"), image = cap_find("image");
    struct message m = {0};

    REFUSED(E_RIGHTS, sys_recv(cap_find("echo"), &m));
    REFUSED(E_RIGHTS, sys_recv(cap_find("supervisor"), &m));
    REFUSED(E_RIGHTS, sys_recv(cap_find("recovery"), &m));
    REFUSED(E_RIGHTS, sys_call(cap_find("endpoint"), &m));
    REFUSED_VALUE(E_RIGHTS, sys_cap_derive(log, RW, 0));
    REFUSED_VALUE(E_RIGHTS, sys_cap_derive(image, RX, 0));
    REFUSED_VALUE(E_RIGHTS, sys_cap_derive(cap_find("echo"), RW, 0));
    REFUSED(E_RIGHTS, sys_memory_map(0, log, SCRATCH_AT, 0, 1, RIGHT_READ)); /* the trace, not ours to read */
    REFUSED(E_RIGHTS, sys_memory_map(0, image, SCRATCH_AT, 0, 1, RW));
    REFUSED(E_RIGHTS, sys_memory_map(0, image, SCRATCH_AT, 0, 1, RX));
    REFUSED_VALUE(E_RIGHTS, sys_process_create(image, 0, 4096, 64, 0, own_sched(), 0));
}

static void badges_stay(void)
{
    struct sys_result d = sys_cap_derive(cap_find("supervisor"), RIGHT_WRITE, TAG_MAKE(1, 1));
    struct message m = {.badge = d.value};

    if (d.status != OK || sys_raw(SYS_cap_info, &m) != OK || m.w[2] != startup()->tag)
        failed(__func__, "we speak for another", m.w[2], startup()->tag);
    REFUSED(OK, sys_cap_delete(d.value));
}

static void children_speak_for_us(void)
{
    struct process_info info = {0};
    struct sys_result r = sys_process_create(child_image(), 0, child_image_bytes(), CHILD_PAGES,
                                             TAG_MAKE(1, 1), own_sched(), 0);

    if (r.status == OK && sys_process_info(r.value, &info) == OK && info.tag != startup()->tag)
        failed(__func__, "a child has the tag of another service", info.tag, startup()->tag);
    REFUSED(OK, sys_process_destroy(r.value));
}

static void authority_of_services(void)
{
    static const uint16_t label[] = {SUPERVISOR_KILL, SUPERVISOR_RESET, SUPERVISOR_STOP, SUPERVISOR_PROCESS,
                                     SUPERVISOR_COMPLAINT};

    for (uint32_t i = 0; i < sizeof(label) / sizeof(label[0]); i++) {
        struct message m = {.w = {1, 1, CAUSE_STALLED}};
        REFUSED(E_RIGHTS, service_call(cap_find("supervisor"), label[i], &m));
    }
    struct message m = {0};
    REFUSED(E_UNSUPPORTED, service_call(cap_find("supervisor"), 0xffff, &m));
    for (uint64_t id = 0; id < 32; id++) { /* others' sessions, and what is only a driver's */
        m = (struct message){.w = {id}};
        if (service_call(cap_find("recovery"), RECOVERY_CLOSE, &m) == OK)
            failed(__func__, "CLOSE", id, E_NOT_FOUND);
        m = (struct message){.w = {id}};
        if (service_call(cap_find("recovery"), RECOVERY_SESSION_GET, &m) == OK)
            failed(__func__, "SESSION_GET", id, E_NOT_FOUND);
        m = (struct message){.w = {id, 0, 0}};
        if (service_call(cap_find("recovery"), RECOVERY_COMPLAIN, &m) == OK)
            failed(__func__, "COMPLAIN", id, E_NOT_FOUND);
        m = (struct message){.w = {id, 1, 64, ~0ul}};
        if (service_call(cap_find("recovery"), RECOVERY_OPEN, &m) == OK)
            failed(__func__, "OPEN", id, E_RIGHTS);
    }
    m = (struct message){.w = {1, 4096}};
    if (service_call(cap_find("recovery"), RECOVERY_COMMIT, &m) == OK)
        failed(__func__, "COMMIT", OK, E_STATE);
    m = (struct message){.w = {1, 2}};
    if (service_call(cap_find("recovery"), RECOVERY_LOAD, &m) == OK) failed(__func__, "LOAD", OK, E_STATE);
}

/* --- Memory ---------------------------------------------------------------------------------------------------- */

static void write_xor_execute(void)
{
    handle_t m = made(sys_memory_create(0, 2, 0));

    REFUSED(E_ARGUMENT, sys_memory_map(0, m, SCRATCH_AT, 0, 1, RW | RIGHT_EXECUTE));
    REFUSED(OK, sys_memory_map(0, m, SCRATCH_AT, 0, 1, RW));
    REFUSED(E_BUSY, sys_memory_map(0, m, SCRATCH_AT + PAGE_SIZE, 0, 1, RX));
    REFUSED(E_BUSY, sys_memory_map(0, m, SCRATCH_AT + PAGE_SIZE, 1, 1, RX));
    REFUSED(OK, sys_memory_unmap(0, SCRATCH_AT));
    REFUSED(OK, sys_memory_map(0, m, SCRATCH_AT, 0, 1, RX));
    REFUSED(E_BUSY, sys_memory_map(0, m, SCRATCH_AT + PAGE_SIZE, 0, 1, RW));
    struct child c;
    if (child_make(&c, CHILD_PAGES, own_sched()) == OK) /* nor in another process */
        REFUSED(E_BUSY, sys_memory_map(c.process, m, SCRATCH_AT, 0, 1, RW));
    child_end(&c);
    REFUSED(E_BUSY, sys_memory_map(0, child_image(), SCRATCH_AT + PAGE_SIZE, 0, 1, RX));
    REFUSED(OK, sys_cap_delete(m));
    REFUSED(E_NOT_FOUND, sys_memory_unmap(0, SCRATCH_AT)); /* it went with the object */
}

static void bad_places(void)
{
    handle_t m = made(sys_memory_create(0, 4, 0));

    REFUSED(E_ADDRESS, sys_memory_map(0, m, 0, 0, 1, RW));
    REFUSED(E_ADDRESS, sys_memory_map(0, m, USER_BASE - PAGE_SIZE, 0, 1, RW));
    REFUSED(E_ADDRESS, sys_memory_map(0, m, SCRATCH_AT + 1, 0, 1, RW));
    REFUSED(E_ADDRESS, sys_memory_map(0, m, USER_END, 0, 1, RW));
    REFUSED(E_ADDRESS, sys_memory_map(0, m, USER_END - PAGE_SIZE, 0, 2, RW));
    REFUSED(E_ADDRESS, sys_memory_map(0, m, NON_CANONICAL, 0, 1, RW));
    REFUSED(E_ADDRESS, sys_memory_map(0, m, KERNEL_TEXT, 0, 1, RW));
    REFUSED(E_ADDRESS, sys_memory_map(0, m, ~0ul << 12, 0, 1, RW));
    REFUSED(E_ARGUMENT, sys_memory_map(0, m, SCRATCH_AT, 0, 5, RW));
    REFUSED(E_ARGUMENT, sys_memory_map(0, m, SCRATCH_AT, 4, 1, RW));
    REFUSED(E_ARGUMENT, sys_memory_map(0, m, SCRATCH_AT, ~0ul, 2, RW));
    REFUSED(E_ARGUMENT, sys_memory_map(0, m, SCRATCH_AT, 1, ~0ul, RW));
    REFUSED(E_ARGUMENT, sys_memory_map(0, m, SCRATCH_AT, 0, 0, RW));
    REFUSED(E_ARGUMENT, sys_memory_map(0, m, SCRATCH_AT, 0, 1, 0));
    REFUSED(E_ARGUMENT, sys_memory_map(0, m, SCRATCH_AT, 0, 1, RIGHT_WRITE));
    REFUSED(E_ARGUMENT, sys_memory_map(0, m, SCRATCH_AT, 0, 1, 0xff));
    REFUSED(OK, sys_memory_map(0, m, SCRATCH_AT, 0, 4, RW));
    REFUSED(E_EXISTS, sys_memory_map(0, m, SCRATCH_AT, 0, 4, RW));
    REFUSED(E_EXISTS, sys_memory_map(0, m, SCRATCH_AT + 3 * PAGE_SIZE, 0, 4, RW));
    REFUSED(E_EXISTS, sys_memory_map(0, m, SCRATCH_AT - PAGE_SIZE, 0, 2, RW));
    REFUSED(E_EXISTS, sys_memory_map(0, m, USER_IMAGE_BASE, 0, 1, RW));
    REFUSED(E_EXISTS, sys_memory_map(0, m, USER_STARTUP, 0, 1, RW));
    REFUSED(E_NOT_FOUND, sys_memory_unmap(0, SCRATCH_AT + PAGE_SIZE));
    REFUSED(E_NOT_FOUND, sys_memory_unmap(0, SCRATCH_AT + 1));
    REFUSED(E_NOT_FOUND, sys_memory_unmap(0, KERNEL_TEXT));
    REFUSED(OK, sys_memory_unmap(0, SCRATCH_AT));
    REFUSED(OK, sys_cap_delete(m));
}

/* Where the kernel is to write or read: never into itself, never through us where we may not. */
static void bad_pointers(void)
{
    handle_t m = made(sys_memory_create(0, 2, 0)), log = cap_find("log");
    static const uint64_t bad[] = {0,
                                   1,
                                   KERNEL_TEXT,
                                   ~0ul,
                                   ~0ul - 127,
                                   NON_CANONICAL,
                                   USER_END,
                                   USER_END - 8,
                                   USER_STARTUP,
                                   USER_IMAGE_BASE,
                                   0xffff800000000000ul};

    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        REFUSED(E_ADDRESS, raw(SYS_process_info, 0, bad[i], 0, 0, 0, 0));
        REFUSED(E_ADDRESS, raw(SYS_system_info, bad[i], 0, 0, 0, 0, 0));
        REFUSED(E_ADDRESS, raw(SYS_process_event, bad[i], 0, 0, 0, 0, 0));
        if (bad[i] < USER_STARTUP || bad[i] >= USER_END)
            REFUSED(E_ADDRESS, raw(SYS_log, log, bad[i], 512, 0, 0, 0));
    }
    REFUSED(OK, sys_memory_map(0, m, SCRATCH_AT, 0, 1, RW));
    REFUSED(E_ADDRESS,
            raw(SYS_system_info, SCRATCH_AT + PAGE_SIZE - 64, 0, 0, 0, 0, 0)); /* its end is nowhere */
    REFUSED(OK, raw(SYS_system_info, SCRATCH_AT + PAGE_SIZE - 128, 0, 0, 0, 0, 0));
    REFUSED(OK, raw(SYS_system_info, SCRATCH_AT + 1, 0, 0, 0, 0, 0));
    REFUSED(OK, sys_memory_unmap(0, SCRATCH_AT));
    REFUSED(OK, sys_memory_map(0, m, SCRATCH_AT, 0, 1, RIGHT_READ));
    REFUSED(E_ADDRESS, raw(SYS_system_info, SCRATCH_AT, 0, 0, 0, 0, 0));
    REFUSED(E_ARGUMENT, raw(SYS_log, log, SCRATCH_AT, 513, 0, 0, 0));
    REFUSED(E_ARGUMENT, raw(SYS_log, log, SCRATCH_AT, ~0ul, 0, 0, 0));
    REFUSED(OK, sys_cap_delete(m));
}

static void revoked_is_unmapped(void)
{
    handle_t m = made(sys_memory_create(0, 1, 0)), d = made(sys_cap_derive(m, RW, 0));

    REFUSED(OK, sys_memory_map(0, d, SCRATCH_AT, 0, 1, RW));
    REFUSED(OK, raw(SYS_system_info, SCRATCH_AT, 0, 0, 0, 0, 0));
    REFUSED(OK, sys_cap_revoke(m));
    REFUSED(E_ADDRESS, raw(SYS_system_info, SCRATCH_AT, 0, 0, 0, 0, 0));
    REFUSED(E_HANDLE, sys_memory_map(0, d, SCRATCH_AT, 0, 1, RW));
    REFUSED(OK, sys_cap_delete(m));
}

/* --- Quotas ------------------------------------------------------------------------------------------------------ */

static void quotas(void)
{
    uint64_t s = own_sched();
    handle_t i = child_image(), n = made(sys_notification_create(0)), e = made(sys_endpoint_create(0)), t[80];
    uint64_t length = child_image_bytes(), budget = SCHED_BUDGET_US(s), period = SCHED_PERIOD_US(s);
    uint32_t timers = 0;
    struct sys_result r;

    REFUSED_VALUE(E_QUOTA, sys_memory_create(0, 1ul << 12, 0));
    REFUSED_VALUE(E_QUOTA, sys_memory_create(0, 1ul << 12, MEMORY_CONTIGUOUS));
    REFUSED_VALUE(E_QUOTA, sys_memory_create(0, ~0ul, 0));
    REFUSED_VALUE(E_ARGUMENT, sys_memory_create(0, 1ul << 52, 0));
    REFUSED_VALUE(E_ARGUMENT, sys_memory_create(0, 0, 0));
    REFUSED_VALUE(E_ARGUMENT, sys_memory_create(0, 1, MEMORY_DEVICE));
    REFUSED_VALUE(E_ARGUMENT, sys_memory_create(0, 1, 0x18));
    REFUSED_VALUE(E_QUOTA, sys_process_create(i, 0, length, 1ul << 20, 0, s, 0));
    REFUSED_VALUE(E_QUOTA, sys_process_create(i, 0, length, ~0ul, 0, s, 0));
    REFUSED_VALUE(E_ARGUMENT, sys_process_create(i, 0, length, 0, 0, s, 0));
    REFUSED_VALUE(E_QUOTA, sys_process_create(i, 0, length, 16, 0, s, 0)); /* it does not hold the program */
    REFUSED_VALUE(E_ARGUMENT, sys_process_create(i, 1, length, 64, 0, s, 0));
    REFUSED_VALUE(E_ARGUMENT, sys_process_create(i, ~0ul << 12, length, 64, 0, s, 0));
    REFUSED_VALUE(E_ARGUMENT, sys_process_create(i, 0, ~0ul, 64, 0, s, 0));
    REFUSED_VALUE(E_ARGUMENT, sys_process_create(i, 0, length, 64, 0, SCHED_MAKE(30, budget, period), 0));
    REFUSED_VALUE(E_ARGUMENT, sys_process_create(i, 0, length, 64, 0, SCHED_MAKE(0, budget, period), 0));
    REFUSED_VALUE(E_ARGUMENT, sys_process_create(i, 0, length, 64, 0, SCHED_MAKE(1, period, period), 0));
    REFUSED_VALUE(E_ARGUMENT, sys_process_create(i, 0, length, 64, 0, SCHED_MAKE(1, 0, 0), 0));
    REFUSED_VALUE(E_ARGUMENT, sys_process_create(i, 0, length, 64, 0, SCHED_MAKE(1, 1, 1000), 0));
    while (timers < 80 && (r = sys_timer_create(n, 1)).status == OK) t[timers++] = r.value;
    if (timers >= 80) failed(__func__, "timers without end", timers, 64);
    REFUSED(E_ARGUMENT, sys_timer_arm(t[0], 1ul << 60));
    for (uint32_t k = 0; k < timers; k++) REFUSED(OK, sys_timer_arm(t[k], 1));
    while (timers) REFUSED(OK, sys_cap_delete(t[--timers]));
    REFUSED(OK, sys_cap_delete(n));
    REFUSED(OK, sys_cap_delete(e));
}

/* A file of ours that says anything: refused, or a process that can be ended. */
static void malformed_images(void)
{
    static uint64_t state = 88172645463325252ul;
    uint8_t *at = child_image_at();

    for (uint32_t n = 0; n < 64; n++) {
        uint64_t where = random_next(&state) % (sizeof(Elf64_Ehdr) + 3 * sizeof(Elf64_Phdr));
        uint64_t was, is = random_next(&state) >> random_next(&state) % 64;
        memcpy(&was, at + where, sizeof(was));
        memcpy(at + where, &is, 1 + random_next(&state) % sizeof(is));
        struct sys_result r =
            sys_process_create(child_image(), 0, child_image_bytes(), CHILD_PAGES, 0, own_sched(), 0);
        if (r.status == OK) REFUSED(OK, sys_process_destroy(r.value));
        memcpy(at + where, &was, sizeof(was));
    }
}

/* --- IPC ---------------------------------------------------------------------------------------------------------- */

static void replies_and_events(void)
{
    struct message m = {0};
    struct process_event event;

    REFUSED(E_STATE, sys_reply(&m));
    REFUSED_VALUE(E_STATE, sys_reply_save());
    REFUSED(E_HANDLE, sys_reply_to(1, &m));
    REFUSED(E_ARGUMENT, sys_recv(0, &m));
    while (sys_process_event(&event) == OK) {}
    REFUSED(E_WOULD_BLOCK, sys_process_event(&event));
    REFUSED(E_HANDLE, sys_process_destroy(0));
    REFUSED(E_ARGUMENT, sys_process_kill(0, CAUSE_NONE));
    REFUSED(E_ARGUMENT, raw(SYS_process_kill, 0, 256, 0, 0, 0, 0));
    REFUSED(E_ARGUMENT, raw(SYS_process_kill, 0, ~0ul, 0, 0, 0, 0));
    REFUSED_VALUE(E_ADDRESS, sys_thread_create(0, KERNEL_TEXT, USER_STACK_TOP, 0));
    REFUSED_VALUE(E_ADDRESS, sys_thread_create(0, USER_IMAGE_BASE, KERNEL_TEXT, 0));
    REFUSED_VALUE(E_ADDRESS, sys_thread_create(0, NON_CANONICAL, USER_STACK_TOP, 0));
    REFUSED_VALUE(E_ADDRESS, sys_thread_create(0, USER_END, USER_STACK_TOP, 0));
}

static uint64_t handles_of(uint64_t service)
{
    struct message m = {.w = {service}};

    return service_call(cap_find("supervisor"), SUPERVISOR_INFO, &m) == OK ? m.w[2] : 0;
}

/* More capabilities than anybody asked for, in messages to everybody we may call. */
static void unwanted_capabilities(void)
{
    static const char *const name[] = {"supervisor", "recovery", "echo"};
    handle_t n = made(sys_notification_create(0));

    for (uint32_t i = 0; i < 3; i++) {
        const struct startup_cap *c = cap_entry(name[i]);
        uint64_t before = handles_of(c->value);
        for (uint32_t k = 0; k < 200; k++) {
            struct message m = {.info = INFO_MAKE(0, 7), .w = {n, n, n, n, n, n, n, n}};
            m.info |= 1 + k % 12;
            (void)sys_call(c->handle, &m);
        }
        uint64_t after = handles_of(c->value);
        if (after > before + 100)
            failed(__func__, name[i], after, before); /* it may have had other business */
    }
    REFUSED(OK, sys_cap_delete(n));
}

static void (*const calls[])(void) = {
    forged_handles,
    every_slot,
    wrong_types,
    given_is_not_root,
    rights_only_shrink,
    given_rights_only_shrink,
    badges_stay,
    children_speak_for_us,
    authority_of_services,
    write_xor_execute,
    bad_places,
    bad_pointers,
    revoked_is_unmapped,
    quotas,
    malformed_images,
    replies_and_events,
    unwanted_capabilities,
};
uint32_t calls_count(void) { return sizeof(calls) / sizeof(calls[0]); }
void calls_run(uint32_t i) { calls[i](); }
