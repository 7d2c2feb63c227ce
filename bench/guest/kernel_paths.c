/* SPDX-License-Identifier: BSD-2-Clause
 * Short kernel paths: null call, IPC, notifications, interrupts, processes, pages. */
#include "bench.h"
#include "abi/protocol.h"

#define ROUNDS          1000u
#define WARM_UP         20u
#define PROCESS_ROUNDS  100u
#define PAGE_ROUNDS     200u
#define COMMIT_ROUNDS   200u
#define RUN_PAGES       64u
#define IRQ_ROUNDS      200u
#define PRIORITY        8u       /* the bench's own, system/bench.toml */
#define SERVER_PRIORITY PRIORITY /* a child may not be more urgent than its parent */

static struct samples samples;

/* --- System calls and IPC ------------------------------------------------------------------------------ */

static void measure_null(void)
{
    for (uint32_t i = 0; i < ROUNDS; i++) samples_add(&samples, timed_nothing());
    samples_report(&samples, "nothing", 1);
    for (uint32_t i = 0; i < WARM_UP; i++) (void)timed_null();
    for (uint32_t i = 0; i < ROUNDS; i++) samples_add(&samples, timed_null());
    samples_report(&samples, "null_syscall", 1);
}

static void call_0w(handle_t endpoint)
{
    uint64_t status;
    uint32_t taken = timed_call_0w(endpoint, &status);

    check((status_t)status, "ipc_0w");
    samples_add(&samples, taken);
}

static void call_8w(handle_t endpoint, uint64_t seed)
{
    uint64_t status, words[MESSAGE_WORDS];

    for (uint64_t i = 0; i < MESSAGE_WORDS; i++) words[i] = seed + i;
    uint32_t taken = timed_call_8w(endpoint, &status, words);
    check((status_t)status, "ipc_8w");
    for (uint64_t i = 0; i < MESSAGE_WORDS; i++)
        check(words[i] == seed + i ? OK : E_PROTOCOL, "ipc_8w: the words that came back");
    samples_add(&samples, taken);
}

static void measure_ipc(void)
{
    struct peer server;
    handle_t endpoint = check_value(sys_endpoint_create(startup()->tag), "an endpoint");

    peer_open(&server, peer_server, SERVER_PRIORITY);
    peer_give(&server, endpoint, RIGHT_READ);
    peer_start(&server);
    for (uint32_t i = 0; i < WARM_UP; i++) call_0w(endpoint);
    samples.n = 0;
    for (uint32_t i = 0; i < ROUNDS; i++) call_0w(endpoint);
    samples_report(&samples, "ipc_0w", 1);
    for (uint32_t i = 0; i < ROUNDS; i++) call_8w(endpoint, i);
    samples_report(&samples, "ipc_8w", 1);
    peer_close(&server);
    check(sys_cap_delete(endpoint), "end of an endpoint");
}

/* The same through a driver's main loop and the C wrapper: what a client of a service pays. */
static void measure_echo(void)
{
    handle_t echo = cap_find("echo");

    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct message m = {.w = {1, 2, 3, 4, 5, 6, 7, 8}};
        uint64_t begin = ticks_at(WINDOW_BEGIN, "ipc_echo");
        status_t status = service_call(echo, ECHO_ECHO, &m);
        uint64_t taken = ticks_at(WINDOW_END, "ipc_echo") - begin;
        check(status, "ipc_echo");
        samples_add(&samples, taken);
    }
    samples_report(&samples, "ipc_echo", 1);
}

static handle_t notification(void)
{
    return check_value(sys_notification_create(startup()->tag), "a notification");
}

static void measure_ping_pong(void)
{
    struct peer pong;
    handle_t to = notification(), from = notification();

    peer_open(&pong, peer_pong, PRIORITY);
    peer_give(&pong, to, RIGHT_READ);
    peer_give(&pong, from, RIGHT_WRITE);
    peer_start(&pong);
    for (uint32_t i = 0; i < WARM_UP; i++) (void)timed_ping(to, from);
    for (uint32_t i = 0; i < ROUNDS; i++) samples_add(&samples, timed_ping(to, from));
    samples_report(&samples, "ping_pong", 1);
    peer_close(&pong);
    check(sys_cap_delete(to), "end of a notification");
    check(sys_cap_delete(from), "end of a notification");
}

/* --- Interrupts ------------------------------------------------------------------------------------------- */

/* Registers of the 16550: TI PC16550D data sheet, table 2. */
enum uart_register {
    UART_DATA = 0,
    UART_DIVISOR_LOW = 0,
    UART_INTERRUPTS = 1,
    UART_DIVISOR_HIGH = 1,
    UART_FIFO = 2,
    UART_LINE = 3,
    UART_MODEM = 4
};
#define INTERRUPT_RECEIVED 0x01u
#define FIFO_ON_14_CLEAR \
    0xc7u /* interrupts at 14 characters, or when fewer have waited for four times one's length */
#define LINE_8N1       0x03u
#define LINE_DIVISOR   0x80u
#define MODEM_LOOPBACK 0x10u

static handle_t uart;

static void uart_write(enum uart_register at, uint8_t value)
{
    check(sys_port_out(uart, at, 1, value, NULL, 0), "write to the UART");
}

/* COM1 in loop-back: a character sent is a character received, and as one alone does not fill the FIFO to
 * its mark, the interrupt comes by itself some 350 us later: a device interrupt at a time when something
 * else runs. */
static void uart_init(void)
{
    uart_write(UART_INTERRUPTS, 0);
    uart_write(UART_LINE, LINE_DIVISOR);
    uart_write(UART_DIVISOR_LOW, 1);
    uart_write(UART_DIVISOR_HIGH, 0);
    uart_write(UART_LINE, LINE_8N1);
    uart_write(UART_MODEM, MODEM_LOOPBACK);
    uart_write(UART_FIFO, FIFO_ON_14_CLEAR);
    uart_write(UART_INTERRUPTS, INTERRUPT_RECEIVED);
}

static void measure_irq(struct peer *stamp, handle_t n)
{
    handle_t irq = cap_find("irq:4");

    uart = cap_find("port:0x3f8");
    uart_init();
    check(sys_irq_bind(irq, n, 1), "binding of the UART's interrupt");
    for (uint32_t i = 0; i < IRQ_ROUNDS; i++) {
        uart_write(UART_DATA, 'x');
        uint32_t at = wait_then_tsc(n);
        samples_add(&samples, (uint32_t)(at - stamp->page->tsc));
        check(sys_port_in(uart, UART_DATA, 1, NULL, NULL, 0).status, "read from the UART");
        check(sys_irq_ack(irq), "acknowledgement of the UART's interrupt");
    }
    samples_report(&samples, "irq_to_user", 1);
    uart_write(UART_INTERRUPTS, 0);
}

static void measure_timer(struct peer *stamp, handle_t n)
{
    handle_t timer = check_value(sys_timer_create(n, 1), "a timer");

    for (uint32_t i = 0; i < IRQ_ROUNDS; i++) {
        check(sys_timer_arm(timer, sys_clock().value + 100000), "the timer");
        uint32_t at = wait_then_tsc(n);
        samples_add(&samples, (uint32_t)(at - stamp->page->tsc));
    }
    samples_report(&samples, "timer_to_user", 1);
    check(sys_cap_delete(timer), "end of a timer");
}

/* The time at which the interrupt struck is the last one that a process of the lowest priority stored. */
static void measure_interrupts(void)
{
    struct peer stamp;
    handle_t n = notification();

    peer_open(&stamp, peer_stamp, 1);
    peer_start(&stamp);
    measure_irq(&stamp, n);
    measure_timer(&stamp, n);
    peer_close(&stamp);
    check(sys_cap_delete(n), "end of a notification");
}

/* --- Processes ---------------------------------------------------------------------------------------------- */

/* Create and start; it runs and comes to rest; destroy. */
static void measure_process(void)
{
    static struct samples ends;
    handle_t rests = notification(), never = notification();

    for (uint32_t i = 0; i < PROCESS_ROUNDS; i++) {
        struct peer p;
        uint64_t begin = ticks_at(WINDOW_BEGIN, "process_create");
        struct sys_result made = peer_create(peer_leave, PRIORITY);
        uint64_t created = ticks_at(WINDOW_END, "process_create");
        check(made.status, "process_create");
        check(sys_process_destroy(made.value), "process_destroy");
        samples_add(&samples, created - begin);

        peer_open(&p, peer_rest, PRIORITY);
        peer_give(&p, never, RIGHT_READ);
        peer_give(&p, rests, RIGHT_WRITE);
        peer_start(&p);
        check(sys_wait(rests).status, "a peer that comes to rest");
        sys_yield(); /* it signalled before its wait */
        begin = ticks_at(WINDOW_BEGIN, "process_destroy");
        status_t status = sys_process_destroy(p.process);
        samples_add(&ends, ticks_at(WINDOW_END, "process_destroy") - begin);
        check(status, "process_destroy");
        check(sys_memory_unmap(0, (uint64_t)p.page), "unmapping of a peer's page");
        check(sys_cap_delete(p.memory), "release of a peer's page");
    }
    samples_report(&samples, "process_create", 1);
    samples_report(&ends, "process_destroy", 1);
}

/* The whole life: create, start, its first instructions, its exit, the event, destroy. */
static void measure_process_life(void)
{
    handle_t n = notification();

    check(sys_event_bind(n, 1), "event_bind");
    for (uint32_t i = 0; i < PROCESS_ROUNDS; i++) {
        struct process_event event = {0};
        uint64_t begin = ticks();
        struct sys_result p = peer_create(peer_leave, SERVER_PRIORITY);
        status_t status = p.status;
        if (status == OK) status = sys_process_start(p.value, 0);
        if (status == OK) status = sys_wait(n).status;
        if (status == OK) status = sys_process_event(&event);
        if (status == OK) status = sys_process_destroy(p.value);
        uint64_t taken = ticks() - begin;
        check(status, "process_life");
        check(event.cause == CAUSE_EXIT ? OK : E_PROTOCOL, "process_life: its end");
        samples_add(&samples, taken);
    }
    samples_report(&samples, "process_life", 1);
    check(sys_cap_delete(n), "end of a notification");
}

/* --- Pages ---------------------------------------------------------------------------------------------------- */

/* Inline, so that each of the two sizes has windows of its own. */
#define page_ticks(kind, name) (pages == 1 ? ticks_at(kind, name "_single") : ticks_at(kind, name))

static inline __attribute__((always_inline)) void measure_pages(uint64_t pages, const char *map_name,
                                                                const char *unmap_name)
{
    static struct samples unmaps;
    handle_t m = check_value(sys_memory_create(0, pages, 0), "memory");
    void *at; /* mapped once before: its page tables exist from then on */

    check(map_new(m, pages, RIGHT_READ | RIGHT_WRITE, &at), "a mapping");
    check(sys_memory_unmap(0, (uint64_t)at), "an unmapping");
    for (uint32_t i = 0; i < PAGE_ROUNDS; i++) {
        uint64_t t0 = page_ticks(WINDOW_BEGIN, "page_map");
        status_t status = sys_memory_map(0, m, (uint64_t)at, 0, pages, RIGHT_READ | RIGHT_WRITE);
        uint64_t t1 = page_ticks(WINDOW_END, "page_map");
        check(status, map_name);
        for (uint64_t page = 0; page < pages; page++) ((volatile uint8_t *)at)[page * PAGE_SIZE] = 1;
        uint64_t t2 = page_ticks(WINDOW_BEGIN, "page_unmap");
        status = sys_memory_unmap(0, (uint64_t)at);
        uint64_t t3 = page_ticks(WINDOW_END, "page_unmap");
        check(status, unmap_name);
        samples_add(&samples, t1 - t0);
        samples_add(&unmaps, t3 - t2);
    }
    samples_report(&samples, map_name, pages);
    samples_report(&unmaps, unmap_name, pages);
    check(sys_cap_delete(m), "release of memory");
}

/* --- A kilobyte of state, kept ------------------------------------------------------------------------------ */

/* As driver_checkpoint does it: into the staging area, then recovery copies it from there. */
static void measure_checkpoint(void)
{
    static uint8_t now[1024];
    handle_t recovery = cap_find("recovery");
    struct message m = {.info = INFO_REPLAYABLE};
    void *staging;

    check(service_call(recovery, RECOVERY_ATTACH, &m), "attaching to recovery");
    check(map_new(m.w[7], 1, RIGHT_READ | RIGHT_WRITE, &staging), "the staging area");
    for (uint32_t i = 0; i < WARM_UP + COMMIT_ROUNDS; i++) {
        m = (struct message){.info = INFO_REPLAYABLE, .w = {1, sizeof(now)}};
        now[0]++;
        uint64_t begin = ticks();
        memcpy(staging, now, sizeof(now));
        status_t status = service_call(recovery, RECOVERY_COMMIT, &m);
        uint64_t taken = ticks() - begin;
        check(status, "a commit");
        if (i >= WARM_UP) samples_add(&samples, taken);
    }
    samples_report(&samples, "checkpoint_1k", 1);
}

void suite_kernel(void)
{
    measure_null();
    measure_ipc();
    measure_echo();
    measure_ping_pong();
    measure_interrupts();
    measure_process();
    measure_process_life();
    measure_pages(RUN_PAGES, "page_map", "page_unmap");
    measure_pages(1, "page_map_single", "page_unmap_single");
    measure_checkpoint();
}
