/* SPDX-License-Identifier: BSD-2-Clause
 * drivers/serial/main.c: what a driver that has gone wrong would send or put where nobody looks. The kernel's calls are a
 * UART that takes everything. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/sys_types.h"

static struct sys_result sys_port_in(handle_t p, uint64_t offset, uint64_t width, void *to, uint32_t *index,
                                     uint64_t value);
static status_t sys_port_out(handle_t p, uint64_t offset, uint64_t width, uint64_t byte, uint32_t *index,
                             uint64_t value);
static inline status_t sys_irq_bind(handle_t i, handle_t n, uint64_t bits) { return i + n + bits ? OK : OK; }
static inline status_t sys_irq_ack(handle_t i) { return i ? OK : E_HANDLE; }

#define main serial_main
#include "drivers/serial/main.c"
#undef main

static struct session_stream_client client;
static struct session_stream_driver ledger;
static struct driver_session session;
static uint8_t data[2 * STREAM_RING];
static char sent[64], arrived[64];
static uint32_t sent_count, arrived_first, arrived_count;

static struct sys_result sys_port_in(handle_t p, uint64_t offset, uint64_t width, void *to, uint32_t *index,
                                     uint64_t value)
{
    (void)p, (void)width;
    uint64_t line = UART_LSR_TX_EMPTY | UART_LSR_IDLE | (arrived_first < arrived_count ? UART_LSR_RX : 0);
    if (offset != UART_DATA) return (struct sys_result){OK, line, 0};
    *(char *)to = arrived[arrived_first++];
    *index = (uint32_t)value;
    return (struct sys_result){OK, 0, 0};
}

static status_t sys_port_out(handle_t p, uint64_t offset, uint64_t width, uint64_t byte, uint32_t *index,
                             uint64_t value)
{
    (void)p, (void)width;
    if (offset != UART_DATA) return OK;
    sent[sent_count++] = (char)byte;
    *index = (uint32_t)value;
    return OK;
}

handle_t cap_find(const char *name) { return name ? 1 : 0; }
uint64_t clock_ns(void) { return 0; }
void log_line(const char *text, ...) { (void)text; }
void fatal(const char *text, ...)
{
    (void)text;
    abort();
}
int driver_main(const struct driver_ops *ops) { return ops == NULL; }
status_t driver_checkpoint(struct driver *d, const void *checkpoint)
{
    return d && checkpoint ? OK : E_STATE;
}

static void start(void)
{
    memset(data, '.', sizeof data);
    memcpy(data, "tx", 2);
    client = (struct session_stream_client){.tx_head = 2};
    session = (struct driver_session){
        .stream_client = &client, .stream_driver = &ledger, .data = data, .data_bytes = sizeof data};
}
TestSuite(serial, .init = start);

Test(serial, all_that_is_asked_for_is_sent_and_received)
{
    memcpy(arrived, "rx", arrived_count = 2);
    cr_assert(receive(&session));
    cr_assert_not(transmit(&session));
    cr_assert_eq(memcmp(data + STREAM_RING, "rx", 2), 0);
    cr_assert_eq(memcmp(sent, "tx", sent_count), 0);
    cr_assert_eq(ledger.tx_tail, 2);
    cr_assert_eq(ledger.rx_head, 2);
}

/* Over the end of the rings and of their indices. */
Test(serial, the_rings_have_no_end)
{
    client.tx_head = client.rx_tail = ledger.rx_head = 1;
    ledger.tx_tail = ~0u;
    data[STREAM_RING - 1] = 'e';
    cr_assert_not(transmit(&session));
    cr_assert_eq(memcmp(sent, "et", 2), 0);
    cr_assert_eq(sent_count, 2);
}

Test(serial, no_other_byte_is_sent_and_none_that_nobody_wrote)
{
    cr_assert(send_right(&session, 0, 't'));
    cr_assert_not(send_right(&session, 0, 'x'), "another byte");
    cr_assert_not(send_right(&session, 1, 'x'), "not its turn");
    ledger.tx_tail = 1;
    cr_assert(send_right(&session, 1, 'x'));
    ledger.tx_tail = 2;
    cr_assert_not(send_right(&session, 2, '.'), "beyond what the client wrote");
    ledger.tx_tail = ~0u;
    client.tx_head = STREAM_RING;
    cr_assert_not(send_right(&session, ~0u, '.'), "more than a ring holds");
}

Test(serial, received_bytes_go_where_the_client_looks)
{
    ledger.rx_head = 3 * STREAM_RING + 5;
    receive_check(&session, data + STREAM_RING + 5);
}

Test(serial, a_byte_is_not_put_elsewhere, .signal = SIGABRT)
{
    ledger.rx_head = 5;
    receive_check(&session, data + STREAM_RING + 6);
}
