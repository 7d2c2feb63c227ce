/* SPDX-License-Identifier: BSD-2-Clause
 * Snapshots (kernel/snapshot.c): what a kept process wrote after one is undone when it goes on after a fall, and nothing
 * else; it is paid for before; who was being served is served again or told. */
#include <criterion/criterion.h>
#include "tests/unit/host_kernel.h"
#include "kernel/snapshot.h"

#define RW       (RIGHT_READ | RIGHT_WRITE)
#define DATA_AT  (ELF_DATA + 0x100) /* zero in the file */
#define STACK_AT (USER_STACK_TOP - 256)
#define HEAP     USER_DYNAMIC
#define PAGES    12u

static struct child kv, client;
static handle_t kv_endpoint, client_endpoint, endpoint;

TestSuite(snapshot, .init = boot);

static struct child kept_make(uint32_t service, uint64_t how)
{
    struct child c = {.handle = make(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, TEST_QUOTA,
                                     TAG_MAKE(service, 1), TEST_SCHED, PROCESS_KEPT | how)};
    c.process = (struct process *)object_at(process_root, c.handle);
    return c;
}

static void pair_make(void)
{
    endpoint = make(endpoint_create, 0);
    kv = kept_make(1, 0);
    child_start(&kv);
    client = child_make(2);
    kv_endpoint = grant(&kv, endpoint, RIGHT_READ, 0);
    client_endpoint = grant(&client, endpoint, RIGHT_WRITE, 7);
}

/* The running process writes, as the CPU would let it. */
static void user_store(uint64_t at, uint64_t value)
{
    struct process *p = current()->process;
    uint64_t frame = host_touch((vaddr_t){at}, RIGHT_WRITE);
    if (!frame) {
        kernel_write_fault(at);
        cr_assert_eq(current()->process, p);
        frame = host_touch((vaddr_t){at}, RIGHT_WRITE);
    }
    cr_assert_neq(frame, 0, "%lx is not writable", at);
    memcpy((uint8_t *)arch_direct((paddr_t){frame}) + at % PAGE_SIZE, &value, sizeof value);
}

static uint64_t user_load(const struct process *p, uint64_t at)
{
    uint64_t value;
    paddr_t frame = host_translate(p, (vaddr_t){at & ~(PAGE_SIZE - 1)}, NULL, NULL);
    memcpy(&value, (uint8_t *)arch_direct(frame) + at % PAGE_SIZE, sizeof value);
    return value;
}

/* kv serves: takes a snapshot, and waits. */
static void serve(void)
{
    run_as(kv.thread);
    expect_state(sys(reply_recv_snapshot, kv_endpoint), THREAD_RECV);
}

static void ask(uint64_t word, uint64_t flags)
{
    run_as(client.thread);
    expect_state(sys(call, client_endpoint, INFO_MAKE(1, 0) | flags, word), THREAD_REPLY);
    run_as(kv.thread);
    cr_assert_eq(kv.thread->context.w[0], word);
}

/* Its parent starts it again after a fall; it runs, and makes the call that it was to go on with. */
static struct result go_on(void)
{
    cr_assert_eq(kv.process->state, PROCESS_FALLEN);
    run_as(root_thread());
    expect_ok(sys(process_start, kv.handle, 0, 0));
    kv.thread = thread_of(kv.process);
    run_as(kv.thread);
    const struct context *c = &kv.thread->context;
    cr_assert(c->arch.again);
    cr_assert_eq(c->status, SYS_recv);
    return sys(recv, c->handle);
}

static void fall_and_go_on(void)
{
    kernel_exception(CAUSE_PROTECTION, 0);
    go_on();
}

Test(snapshot, what_was_written_since_is_undone)
{
    pair_make();
    run_as(kv.thread);
    user_store(DATA_AT, 1);
    user_store(STACK_AT, 1);
    serve();
    for (unsigned n = 0; n < 3; n++) { /* of the same snapshot as often as it takes */
        if (n == 0) ask(41, INFO_REPLAYABLE);
        user_store(DATA_AT, 2);
        user_store(STACK_AT, 2);
        fall_and_go_on();
        cr_assert_eq(user_load(kv.process, DATA_AT), 1);
        cr_assert_eq(user_load(kv.process, STACK_AT), 1);
        cr_assert_eq(trace_count(TRACE_ROLLBACK), n + 1);
        cr_assert_eq(kv.process->snapshot.rollbacks, n + 1);
        account_check(process_root);
    }
    expect_state(sys(reply_recv_snapshot, kv_endpoint, 0, 1), THREAD_RECV);
    cr_assert_eq(kv.process->snapshot.rollbacks, 0);
}

Test(snapshot, the_next_snapshot_keeps_what_was_written)
{
    pair_make();
    serve();
    ask(41, 0);
    user_store(DATA_AT, 2);
    expect_state(sys(reply_recv_snapshot, kv_endpoint, 0, 42), THREAD_RECV);
    run_as(client.thread);
    cr_assert_eq(client.thread->context.status, OK);
    cr_assert_eq(client.thread->context.w[0], 42);
    ask(43, INFO_REPLAYABLE);
    user_store(DATA_AT, 3);
    fall_and_go_on();
    cr_assert_eq(user_load(kv.process, DATA_AT), 2);
}

Test(snapshot, a_replayable_call_is_served_again_and_another_is_told)
{
    pair_make();
    serve();
    ask(41, INFO_REPLAYABLE);
    expect_state(sys(exit, 1), THREAD_ENDED);
    cr_assert_eq(client.thread->state, THREAD_SEND);
    struct result r = go_on();
    cr_assert_eq(r.w[0], 41);
    cr_assert(r.info & INFO_REPLAYED);
    expect_state(sys(reply_recv_snapshot, kv_endpoint, 0, 1), THREAD_RECV);
    ask(42, 0);
    kernel_exception(CAUSE_DIVIDE, 0);
    run_as(client.thread);
    cr_assert_eq(client.thread->context.status, E_PEER_RESTARTED);
    cr_assert_eq(((struct endpoint *)object_at(process_root, endpoint))->generation, 2);
    expect_state(go_on(), THREAD_RECV);
}

/* Whatever ends it: the parent hears of a death as of any other, and says when it goes on. */
Test(snapshot, a_kill_is_a_fall_too_and_destroy_is_the_end)
{
    pair_make();
    serve();
    ask(41, INFO_REPLAYABLE);
    user_store(DATA_AT, 5);
    run_as(root_thread());
    expect_ok(sys(process_kill, kv.handle, CAUSE_STALLED));
    uint64_t used = kv.process->used;
    expect_ok(sys(process_start, kv.handle, 0, TAG_MAKE(1, 2)));
    cr_assert_eq(user_load(kv.process, DATA_AT), 0);
    cr_assert_eq(kv.process->used, used);
    cr_assert_eq(kv.process->object.tag, TAG_MAKE(1, 2));
    expect_ok(sys(process_destroy, kv.handle));
    account_check(process_root);
}

Test(snapshot, who_cannot_pay_is_refused_and_has_answered_nobody)
{
    pair_make();
    serve();
    ask(41, INFO_REPLAYABLE);
    struct process *p = kv.process;
    handle_t m = make(memory_create, 0, (p->quota - p->used) / 2 + 1, 0);
    expect_ok(sys(memory_map, 0, m, HEAP, 0, 1, RW));
    uint64_t used = p->used;
    expect_status(sys(reply_recv_snapshot, kv_endpoint, 0, 1), E_QUOTA);
    cr_assert_eq(p->used, used);
    cr_assert_eq(client.thread->state, THREAD_REPLY);
    user_store(DATA_AT, 9); /* the old one holds */
    fall_and_go_on();
    cr_assert_eq(user_load(p, DATA_AT), 0);
    account_check(process_root);
}

Test(snapshot, who_cannot_go_back_is_refused)
{
    pair_make();
    handle_t irq = make(irq_create, boot_root, IRQ_GSI, 4), theirs = grant(&kv, irq, RIGHT_MANAGE, 0);
    run_as(kv.thread);
    handle_t t = make(thread_create, 0, ELF_TEXT, USER_STACK_TOP, 0);
    expect_status(sys(reply_recv_snapshot, kv_endpoint), E_STATE);
    expect_ok(sys(cap_delete, t));
    handle_t n = make(notification_create, 0);
    expect_ok(sys(irq_bind, theirs, n, 1));
    expect_status(sys(reply_recv_snapshot, kv_endpoint), E_STATE);
    run_as(root_thread());
    expect_ok(sys(cap_delete, irq));
    run_as(client.thread);
    expect_state(sys(call, client_endpoint, INFO_REPLAYABLE, 1), THREAD_SEND);
    run_as(kv.thread);
    expect_ok(sys(recv, kv_endpoint));
    handle_t saved = make(reply_save);
    expect_status(sys(reply_recv_snapshot, kv_endpoint), E_STATE);
    expect_ok(sys(reply_to, saved, 0));
    expect_state(sys(reply_recv_snapshot, kv_endpoint), THREAD_RECV);
    run_as(root_thread());
    struct child plain = child_make(3);
    handle_t e = grant(&plain, endpoint, RIGHT_READ, 0);
    run_as(plain.thread);
    expect_status(sys(reply_recv_snapshot, e), E_STATE); /* nobody would start it again */
}

/* The thread that goes on is woken by what the one before was woken by. */
Test(snapshot, it_is_bound_again)
{
    pair_make();
    run_as(kv.thread);
    handle_t n = make(notification_create, 0);
    expect_ok(sys(bind, n));
    serve();
    ask(41, 0);
    fall_and_go_on();
    cr_assert_eq(kv.thread->state, THREAD_RECV);
    struct notification *bound = (struct notification *)object_at(kv.process, n);
    cr_assert_eq(bound->bound, kv.thread);
    notification_signal(bound, 4);
    run_as(kv.thread);
    cr_assert_eq(kv.thread->context.handle, 4);
    expect_ok(sys(cap_delete, n)); /* and without it, it goes on unbound */
    fall_and_go_on();
    cr_assert_null(kv.thread->bound);
}

Test(snapshot, the_kernels_own_writes_are_undone_too)
{
    pair_make();
    serve();
    ask(41, 0);
    expect_ok(sys(process_info, 0, STACK_AT));
    cr_assert_neq(user_load(kv.process, STACK_AT), 0);
    run_as(root_thread());
    expect_ok(sys(inject, boot_inject, kv.handle, INJECT_POKE, DATA_AT, 77, 8));
    run_as(kv.thread);
    fall_and_go_on();
    cr_assert_eq(user_load(kv.process, DATA_AT), 0);
    cr_assert_eq(user_load(kv.process, STACK_AT), 0);
}

/* A fault that is none of copy-on-write is a fault. */
Test(snapshot, a_write_to_text_or_to_nothing_is_a_fall)
{
    pair_make();
    serve();
    ask(41, INFO_REPLAYABLE);
    kernel_write_fault(ELF_TEXT);
    cr_assert_eq(kv.process->state, PROCESS_FALLEN);
    go_on();
    user_store(DATA_AT, 1);
    cr_assert_eq(kv.process->state, PROCESS_RUNNING);
    kernel_exception(CAUSE_PAGE_FAULT, DATA_AT); /* it may write there now: it was about to execute */
    cr_assert_eq(kv.process->state, PROCESS_FALLEN);
    go_on();
    kernel_write_fault(HEAP + 64 * PAGE_SIZE);
    cr_assert_eq(kv.process->state, PROCESS_FALLEN);
}

Test(snapshot, memory_that_is_shared_is_not_covered)
{
    pair_make();
    run_as(kv.thread);
    handle_t m = make(memory_create, 0, 2, 0), dma = make(memory_create, 0, 1, MEMORY_DMA);
    expect_ok(sys(memory_map, 0, m, HEAP, 0, 2, RW));
    expect_ok(sys(memory_map, 0, dma, HEAP + 8 * PAGE_SIZE, 0, 1, RW));
    serve();
    ask(41, 0);
    struct memory *memory = (struct memory *)object_at(kv.process, m);
    cr_assert_not_null(memory->saved);
    cr_assert_null(((struct memory *)object_at(kv.process, dma))->saved);
    expect_ok(sys(memory_map, 0, m, HEAP + 16 * PAGE_SIZE, 0, 2, RIGHT_READ)); /* seen twice from now */
    cr_assert_null(memory->saved);
    user_store(HEAP, 5);
    user_store(HEAP + 8 * PAGE_SIZE, 5);
    fall_and_go_on();
    cr_assert_eq(user_load(kv.process, HEAP), 5);
    cr_assert_eq(user_load(kv.process, HEAP + 8 * PAGE_SIZE), 5);
    account_check(process_root);
}

/* Random writes, snapshots, falls and mappings against a copy of what must be there. */
Test(snapshot, whatever_is_done_it_comes_back)
{
    static uint64_t now[PAGES], then[PAGES];
    uint64_t state = 88172645463325252ull;
    pair_make();
    run_as(kv.thread);
    handle_t m = make(memory_create, 0, PAGES, 0);
    expect_ok(sys(memory_map, 0, m, HEAP, 0, PAGES, RW));
    serve();
    ask(1, INFO_REPLAYABLE);
    for (unsigned n = 2; n < 4000; n++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        unsigned page = (unsigned)(state >> 8) % PAGES;
        switch (state % 16) {
        case 1:
            expect_state(sys(exit, 1), THREAD_ENDED);
            go_on();
            memcpy(now, then, sizeof now);
            break;
        case 2: /* what was unmapped meanwhile keeps what it has */
            expect_ok(sys(memory_unmap, 0, HEAP));
            expect_ok(sys(memory_map, 0, m, HEAP, 0, PAGES, RW)); /* fall through */
        case 0:
            expect_state(sys(reply_recv_snapshot, kv_endpoint), THREAD_RECV);
            memcpy(then, now, sizeof then);
            ask(n, INFO_REPLAYABLE);
            break;
        default: user_store(HEAP + page * PAGE_SIZE + 8 * (state % 512), now[page] = state);
        }
        for (unsigned i = 0; i < PAGES; i++) {
            bool found = now[i] == 0;
            const uint64_t *words =
                arch_direct(host_translate(kv.process, (vaddr_t){HEAP + i * PAGE_SIZE}, NULL, NULL));
            for (unsigned w = 0; w < 512 && !found; w++) found = words[w] == now[i];
            cr_assert(found, "step %u: page %u is not what it was", n, i);
        }
        if (n % 512 == 0) account_check(process_root);
    }
}

/* --- Several CPUs -------------------------------------------------------------------------------------------- */

Test(snapshot_smp, on_another_cpu_no_right_to_write_is_remembered)
{
    boot_cpus(2);
    endpoint = make(endpoint_create, 0);
    kv = kept_make(1, 0);
    kv_endpoint = grant(&kv, endpoint, RIGHT_READ, 0);
    child_start(&kv);
    client = child_make(2); /* so that CPU 1 goes on to something else, with kv's tables loaded before */
    client_endpoint = grant(&client, endpoint, RIGHT_WRITE, 7);
    host_cpu(1);
    run_as(kv.thread);
    expect_state(sys(reply_recv_snapshot, kv_endpoint), THREAD_RECV);
    run_as(client.thread);
    expect_state(sys(call, client_endpoint, INFO_REPLAYABLE, 3), THREAD_REPLY);
    cr_assert_eq(current(), kv.thread);
    cr_assert_eq(host_touch((vaddr_t){DATA_AT}, RIGHT_WRITE), 0, "it is not copied yet");
    user_store(DATA_AT, 6);
    cr_assert_neq(host_touch((vaddr_t){DATA_AT}, RIGHT_WRITE), 0);
    host_cpu(0);
    uint64_t stops = host.stops;
    expect_ok(sys(process_kill, kv.handle, CAUSE_KILLED));
    cr_assert_gt(host.stops, stops);
    expect_ok(sys(process_start, kv.handle, 0, 0));
    cr_assert(host_tlbs_true());
    cr_assert_eq(user_load(kv.process, DATA_AT), 0);
    kv.thread = thread_of(kv.process);
    host_cpu(1);
    run_as(kv.thread);
    cr_assert_eq(host_touch((vaddr_t){DATA_AT}, RIGHT_WRITE), 0);
}

/* The injector writes on one CPU what the process may write, at once, on another. */
Test(snapshot_smp, a_copy_made_for_somebody_else_opens_the_page)
{
    boot_cpus(2);
    endpoint = make(endpoint_create, 0);
    kv = kept_make(1, 1u << 1);
    kv_endpoint = grant(&kv, endpoint, RIGHT_READ, 0);
    child_start(&kv);
    host_cpu(1);
    expect_state(sys(reply_recv_snapshot, kv_endpoint), THREAD_RECV);
    host_cpu(0);
    handle_t call = make(cap_derive, endpoint, RIGHT_WRITE, 1);
    (void)call;
    expect_ok(sys(inject, boot_inject, kv.handle, INJECT_POKE, DATA_AT, 77, 8));
    cr_assert(host_tlbs_true());
    cr_assert_eq(user_load(kv.process, DATA_AT), 77);
    expect_ok(sys(process_kill, kv.handle, CAUSE_KILLED));
    expect_ok(sys(process_start, kv.handle, 0, 0));
    cr_assert_eq(user_load(kv.process, DATA_AT), 0);
}

/* Its fault waits for the kernel lock, whose holder opens the page: it may write now, and does. */
Test(snapshot_cpus, a_fault_that_another_cpu_has_dealt_with_is_none)
{
    boot_cpus(2);
    endpoint = make(endpoint_create, 0);
    kv = kept_make(1, 1u << 1);
    kv_endpoint = grant(&kv, endpoint, RIGHT_READ, 0);
    handle_t call = make(cap_derive, endpoint, RIGHT_WRITE | RIGHT_GRANT, 1);
    child_start(&kv);
    host_cpu(1);
    handle_t m = make(memory_create, 0, 1, 0);
    expect_ok(sys(memory_map, 0, m, HEAP, 0, 1, RIGHT_READ | RIGHT_WRITE));
    expect_state(sys(reply_recv_snapshot, kv_endpoint), THREAD_RECV);
    host_cpu(0);
    client.handle = make(process_create, boot_image, IMAGE_FILE, ELF_FILE_BYTES, TEST_QUOTA, TAG_MAKE(2, 1),
                         SCHED_MAKE(5, 0, 0), 2);
    client.process = (struct process *)object_at(process_root, client.handle);
    client_endpoint = grant(&client, call, RIGHT_WRITE, 0);
    child_start(&client);
    host_cpu(1);
    cr_assert_eq(current(), client.thread);
    expect_state(sys(call, client_endpoint, 0), THREAD_REPLY);
    cr_assert_eq(current(), kv.thread);
    cr_assert_eq(host_touch((vaddr_t){HEAP}, RIGHT_WRITE), 0); /* and is on its way to the lock */
    host_cpu(0);
    expect_ok(sys(inject, boot_inject, kv.handle, INJECT_POKE, HEAP, 77, 8));
    host_cpu(1);
    kernel_write_fault(HEAP);
    cr_assert_eq(kv.process->state, PROCESS_RUNNING);
    cr_assert_neq(host_touch((vaddr_t){HEAP}, RIGHT_WRITE), 0);
}
