/* SPDX-License-Identifier: BSD-2-Clause
 * Serial driver for a 16550: the operations table that lib/driver.c drives. Owns eight ports, one
 * interrupt and the line settings. Bytes are moved by the kernel calls that store a ring's index in
 * the same step as the port access, so a byte neither repeats nor vanishes at whatever instruction
 * this process ends. The newest session has the keyboard and sets the line; every session may
 * print. Invariants: FIFOs are never cleared once on; the transmit interrupt is on only while bytes
 * wait, the receive interrupt only while there is room, so that the edge-triggered line always
 * falls again. Fails by ending if its ports or interrupt are taken away; a missing UART is
 * E_NOT_FOUND. */
#include "lib/driver.h"
#include "uart.h"

#define LINE_IDLE_WAIT_NS 200000000ul /* 16 bytes at 1200 baud need 133 ms */

struct serial_checkpoint { /* what the operator set and a restart must not undo */
    uint32_t control;
    uint32_t reserved;
};

static struct uart {
    handle_t ports, irq;
    uint32_t control;              /* line settings in force */
    uint8_t ier, mcr;              /* last written */
    uint64_t open;                 /* bit i: session i is open */
    struct driver_session *reader; /* the open session of the highest id; NULL: none */
} uart;

static uint8_t uart_read(uint32_t reg)
{
    struct sys_result r = sys_port_in(uart.ports, reg, 1, NULL, NULL, 0);
    if (r.status != OK) fatal("serial: port %u cannot be read: status %d", reg, r.status);
    return (uint8_t)r.value;
}

static void uart_write(uint32_t reg, uint8_t value)
{
    status_t status = sys_port_out(uart.ports, reg, 1, value, NULL, 0);
    if (status != OK) fatal("serial: port %u cannot be written: status %d", reg, status);
}

static bool control_valid(uint32_t control)
{
    return STREAM_DIVISOR(control) != 0 && STREAM_LINE(control) <= UART_LCR_MAX;
}

static bool checkpoint_valid(const void *checkpoint)
{
    const struct serial_checkpoint *c = checkpoint;
    return control_valid(c->control) && c->reserved == 0;
}

/* Bytes that are still in the transmitter leave it at the speed they were meant for. */
static void line_idle_wait(void)
{
    uint64_t deadline = clock_ns() + LINE_IDLE_WAIT_NS;
    while (!(uart_read(UART_LSR) & UART_LSR_IDLE) && clock_ns() < deadline) continue;
}

/* Brings the line to `control`. Writes LCR first: a predecessor may have died with DLAB set. */
static void line_set(uint32_t control)
{
    uint8_t lcr = (uint8_t)STREAM_LINE(control);
    uint8_t low = STREAM_DIVISOR(control) & 0xff, high = STREAM_DIVISOR(control) >> 8;
    uart_write(UART_LCR, lcr | UART_LCR_DLAB);
    bool same = uart_read(UART_DATA) == low && uart_read(UART_IER) == high;
    if (!same) {
        line_idle_wait();
        uart_write(UART_DATA, low);
        uart_write(UART_IER, high);
    }
    uart_write(UART_LCR, lcr);
    uart.control = control;
}

static status_t serial_attach(struct driver *d)
{
    uart.ports = cap_find("port:0x3f8");
    uart.irq = cap_find("irq:4");
    if (uart.ports == 0 || uart.irq == 0) return E_NOT_FOUND;
    return sys_irq_bind(uart.irq, d->doorbell, DOORBELL_IRQ(0));
}

static status_t settings_commit(struct driver *d)
{
    struct serial_checkpoint c = {.control = uart.control};
    return driver_checkpoint(d, &c);
}

static status_t serial_reset(struct driver *d, const void *checkpoint)
{
    const struct serial_checkpoint *c = checkpoint;
    uart_write(UART_SCRATCH, 0x5a);
    if (uart_read(UART_SCRATCH) != 0x5a) return E_NOT_FOUND;
    line_set(c != NULL ? c->control : STREAM_CONTROL(1, STREAM_8N1));
    uart_write(UART_IER, 0);
    uart_write(UART_FCR, UART_FCR_ENABLE);
    uart.ier = 0;
    uart.mcr = UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2;
    uart_write(UART_MCR, uart.mcr);
    return c != NULL ? OK : settings_commit(d);
}

static void reader_choose(struct driver *d)
{
    uart.reader = NULL;
    for (uint64_t left = uart.open; left != 0; left &= left - 1) {
        struct driver_session *s = &d->session[__builtin_ctzl(left)];
        if (uart.reader == NULL || s->id > uart.reader->id) uart.reader = s;
    }
}

/* The ledger was written by a predecessor: an index that cannot be is put back to "nothing there".
 */
static status_t serial_session_open(struct driver *d, struct driver_session *s)
{
    struct session_stream_driver *ours = s->stream_driver;
    if (s->data_bytes < 2 * STREAM_RING) return E_ARGUMENT;
    if (s->stream_client->tx_head - ours->tx_tail > STREAM_RING) ours->tx_tail = s->stream_client->tx_head;
    if (ours->rx_head - s->stream_client->rx_tail > STREAM_RING) ours->rx_head = s->stream_client->rx_tail;
    ours->control_done = uart.control;
    uart.open |= 1ul << s->index;
    reader_choose(d);
    return OK;
}

static void serial_session_close(struct driver *d, struct driver_session *s)
{
    uart.open &= ~(1ul << s->index);
    reader_choose(d);
}

static void settings_follow(struct driver *d)
{
    if (uart.reader == NULL) return;
    uint32_t asked = uart.reader->stream_client->control;
    if (asked == uart.reader->stream_driver->control_done || !control_valid(asked)) return;
    line_set(asked);
    struct serial_checkpoint c = {.control = asked};
    if (driver_checkpoint(d, &c) != OK) log_line("serial: line settings will not outlive a restart");
    uart.reader->stream_driver->control_done = asked;
    uart.reader->wake = true;
}

_Static_assert((STREAM_RING & (STREAM_RING - 1)) == 0, "masks below");

/* Sent is sent, and received is gone from the device: before each, what is about to be done is found once more by other
 * instructions. False: not this byte, or not yet; also if the client has just written there. */
static __attribute__((noinline)) bool send_right(const struct driver_session *s, uint32_t tail, uint8_t byte)
{
    const volatile uint8_t *ring = s->data;
    const volatile struct session_stream_client *client = s->stream_client;

    return tail == s->stream_driver->tx_tail && client->tx_head - tail - 1 < STREAM_RING &&
           ring[tail & (STREAM_RING - 1)] == byte;
}

static __attribute__((noinline)) void receive_check(const struct driver_session *s, const uint8_t *to)
{
    const volatile struct session_stream_driver *ours = s->stream_driver;

    if (to != s->data + STREAM_RING + (ours->rx_head & (STREAM_RING - 1)))
        fatal("serial: a byte was about to be put where nobody looks");
}

/* Takes what has arrived; true: there is room for more. */
static bool receive(struct driver_session *s)
{
    if (s == NULL) return false;
    struct session_stream_driver *ours = s->stream_driver;
    uint8_t *ring = s->data + STREAM_RING;
    for (;;) {
        uint32_t head = ours->rx_head;
        if (head - s->stream_client->rx_tail >= STREAM_RING) return false;
        uint8_t line = uart_read(UART_LSR);
        if (line & UART_LSR_OVERRUN) ours->rx_dropped++;
        if (!(line & UART_LSR_RX)) return true;
        uint8_t *to = &ring[head % STREAM_RING];
        receive_check(s, to);
        struct sys_result r = sys_port_in(uart.ports, UART_DATA, 1, to, &ours->rx_head, head + 1);
        if (r.status != OK) fatal("serial: received byte cannot be stored: status %d", r.status);
        s->wake = true;
    }
}

/* Sends what the transmitter takes; true: bytes are left. */
static bool transmit(struct driver_session *s)
{
    struct session_stream_driver *ours = s->stream_driver;
    for (;;) {
        uint32_t left = s->stream_client->tx_head - ours->tx_tail;
        if (left == 0 || left > STREAM_RING) return false; /* too much: the client broke its index */
        if (!(uart_read(UART_LSR) & UART_LSR_TX_EMPTY)) return true;
        for (uint32_t n = left < UART_FIFO_BYTES ? left : UART_FIFO_BYTES; n > 0; n--) {
            uint32_t tail = ours->tx_tail;
            uint8_t byte = s->data[tail % STREAM_RING];
            if (!send_right(s, tail, byte)) return true;
            status_t status = sys_port_out(uart.ports, UART_DATA, 1, byte, &ours->tx_tail, tail + 1);
            if (status != OK) fatal("serial: byte cannot be sent: status %d", status);
        }
        s->wake = true;
    }
}

/* Interrupts and RTS follow what can be done next. */
static void flow_set(bool receive_more, bool send_more)
{
    uint8_t ier = (receive_more ? UART_IER_RX : 0) | (send_more ? UART_IER_TX_EMPTY : 0);
    uint8_t mcr = UART_MCR_DTR | UART_MCR_OUT2 | (receive_more ? UART_MCR_RTS : 0);
    if (ier != uart.ier) uart_write(UART_IER, ier);
    if (mcr != uart.mcr) uart_write(UART_MCR, mcr);
    uart.ier = ier;
    uart.mcr = mcr;
}

/* Moves all that can be moved. Ends with no interrupt condition left, so the next one makes an
 * edge; it does end, because rings are finite and a condition that cannot be served is switched
 * off. */
static void uart_service(struct driver *d)
{
    do {
        bool left = false;
        settings_follow(d);
        bool room = receive(uart.reader);
        for (uint64_t open = uart.open; open != 0; open &= open - 1)
            if (transmit(&d->session[__builtin_ctzl(open)])) left = true;
        flow_set(room, left);
    } while (!(uart_read(UART_IIR) & UART_IIR_NONE));
}

static void serial_pump(struct driver *d, struct driver_session *s)
{
    (void)s;
    uart_service(d);
}

/* Acknowledged before the library pumps: an edge that comes while we look must not be lost. */
static void serial_interrupt(struct driver *d, uint64_t doorbell_bits)
{
    (void)d, (void)doorbell_bits;
    if (sys_irq_ack(uart.irq) != OK) fatal("serial: the interrupt is gone");
}

static const struct driver_ops operations = {
    .name = "serial",
    .class = SESSION_STREAM,
    .checkpoint_version = 1,
    .checkpoint_bytes = sizeof(struct serial_checkpoint),
    .checkpoint_valid = checkpoint_valid,
    .attach = serial_attach,
    .reset = serial_reset,
    .session_open = serial_session_open,
    .session_close = serial_session_close,
    .pump = serial_pump,
    .interrupt = serial_interrupt,
};

int main(void) { return driver_main(&operations); }
