/* SPDX-License-Identifier: BSD-2-Clause
 * 16550 input (National PC16550D data sheet, section 8). The host sends no faster than the FIFO is read:
 * QEMU holds bytes back while it is full. */
#include "com2.h"

enum { RBR = 0, IER = 1, FCR = 2, LCR = 3, MCR = 4, LSR = 5, DLL = 0, DLM = 1 };
#define IER_RECEIVED 0x01u
#define FCR_ENABLE   0x01u
#define FCR_AT_14    0xC0u /* interrupt at 14 bytes, or when the line is quiet for four characters' time */
#define LCR_8N1      0x03u
#define LCR_DIVISOR  0x80u
#define MCR_DTR_RTS  0x03u
#define MCR_OUT2     0x08u /* lets the interrupt out of the chip */
#define LSR_DATA     0x01u
#define INPUT_MAX    1024u /* a power of two: `first` wraps */

static handle_t ports, irq;
static char input[INPUT_MAX]; /* as it came */
static uint32_t first, count;
static char buffer[COM2_LINE_MAX]; /* of the line that is not complete */
static uint32_t length;
static bool too_long;

static status_t put(uint32_t offset, uint32_t value)
{
    return sys_port_out(ports, offset, 1, value, NULL, 0);
}

status_t com2_open(handle_t notification, uint64_t bits)
{
    ports = cap_find("port:0x2f8");
    irq = cap_find("irq:3");
    if (ports == 0 || irq == 0) return E_NOT_FOUND;
    status_t status = put(IER, 0);
    /* 115200 baud makes that quiet short. QEMU hands over as many bytes at once as the trigger level says; with a
     * level of one, an order of 130 bytes took it 130 rounds of its main loop: 45 ms. */
    if (status == OK) status = put(LCR, LCR_DIVISOR);
    if (status == OK) status = put(DLL, 1);
    if (status == OK) status = put(DLM, 0);
    if (status == OK) status = put(LCR, LCR_8N1);
    if (status == OK) status = put(FCR, FCR_ENABLE | FCR_AT_14);
    if (status == OK) status = put(MCR, MCR_DTR_RTS | MCR_OUT2);
    if (status == OK) status = sys_irq_bind(irq, notification, bits);
    if (status == OK) status = put(IER, IER_RECEIVED);
    return status;
}

static bool byte_take(char *out)
{
    struct sys_result state = sys_port_in(ports, LSR, 1, NULL, NULL, 0);

    if (state.status != OK || !(state.value & LSR_DATA)) return false;
    struct sys_result byte = sys_port_in(ports, RBR, 1, NULL, NULL, 0);
    *out = (char)byte.value;
    return byte.status == OK;
}

void com2_pull(void)
{
    char byte;

    for (int look = 0; look < 2; look++) { /* once more after the acknowledgement: no edge is lost */
        while (count < INPUT_MAX && byte_take(&byte)) input[(first + count++) % INPUT_MAX] = byte;
        (void)sys_irq_ack(irq);
    }
}

static bool line_take(char line[COM2_LINE_MAX], bool *cut)
{
    while (count > 0) {
        char byte = input[first++ % INPUT_MAX];
        count--;
        if (byte == '\r') continue;
        if (byte != '\n') {
            if (length + 1 < COM2_LINE_MAX)
                buffer[length++] = byte;
            else
                too_long = true;
            continue;
        }
        memcpy(line, buffer, length);
        line[length] = 0;
        *cut = too_long;
        length = 0;
        too_long = false;
        return true;
    }
    return false;
}

bool com2_line(char line[COM2_LINE_MAX], bool *cut)
{
    for (;;) {
        if (line_take(line, cut)) return true;
        com2_pull();
        if (count == 0) return false;
    }
}
