/* SPDX-License-Identifier: BSD-2-Clause
 * Registers of the 16550 UART (National Semiconductor PC16550D data sheet, table II): offsets from
 * the base port, and the bits this driver uses. */
#ifndef COPPICE_SERIAL_UART_H
#define COPPICE_SERIAL_UART_H

#define UART_DATA    0 /* read: received byte; write: byte to send; divisor low while DLAB */
#define UART_IER     1 /* interrupt enable; divisor high while DLAB */
#define UART_IIR     2 /* read: what interrupts; reading clears "transmitter empty" */
#define UART_FCR     2 /* write: FIFO control */
#define UART_LCR     3 /* line: word length, stop bits, parity, DLAB */
#define UART_MCR     4 /* modem outputs */
#define UART_LSR     5 /* line status */
#define UART_SCRATCH 7
#define UART_PORTS   8

#define UART_IER_RX       0x01u
#define UART_IER_TX_EMPTY 0x02u
#define UART_IIR_NONE     0x01u
#define UART_FCR_ENABLE   0x01u /* unchanged FIFOs keep their bytes when this is written again */
#define UART_LCR_DLAB     0x80u
#define UART_LCR_MAX      0x3fu /* all but break and DLAB */
#define UART_MCR_DTR      0x01u
#define UART_MCR_RTS      0x02u
#define UART_MCR_OUT2     0x08u /* PC: connects the interrupt line */
#define UART_LSR_RX       0x01u
#define UART_LSR_OVERRUN  0x02u
#define UART_LSR_TX_EMPTY 0x20u /* the transmit FIFO is empty */
#define UART_LSR_IDLE     0x40u /* and the shift register too */
#define UART_FIFO_BYTES   16u

#endif
