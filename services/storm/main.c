/* SPDX-License-Identifier: BSD-2-Clause
 * A driver that lets its device storm: the first incarnations (args: storms=N) switch on the real-time clock's
 * periodic interrupt at its highest rate and answer each one as they should. The kernel masks it, the
 * supervisor ends them; the one after those leaves the clock alone, which shows that the storm was theirs.
 * Registers: Motorola MC146818A, 1984. */
#include "abi/protocol.h"
#include "lib/runtime.h"

#define REGISTER_A   0x0au
#define REGISTER_B   0x0bu
#define REGISTER_C   0x0cu
#define RATE_MASK    0x0fu
#define RATE_8192_HZ 0x03u
#define PERIODIC_ON  0x40u

static handle_t ports;

static uint8_t clock_read(uint8_t reg)
{
    (void)sys_port_out(ports, 0, 1, reg, NULL, 0);
    return (uint8_t)sys_port_in(ports, 1, 1, NULL, NULL, 0).value;
}

static void clock_write(uint8_t reg, uint8_t value)
{
    (void)sys_port_out(ports, 0, 1, reg, NULL, 0);
    (void)sys_port_out(ports, 1, 1, value, NULL, 0);
}

int main(void)
{
    struct message m = {.info = INFO_REPLAYABLE};
    handle_t irq = cap_find("irq:8"), n = sys_notification_create(0).value;
    bool storms = TAG_GENERATION(startup()->tag) <= arg_number("storms", 0);

    ports = cap_find("port:0x70");
    clock_write(REGISTER_B, clock_read(REGISTER_B) & (uint8_t)~PERIODIC_ON);
    (void)clock_read(REGISTER_C); /* what is pending goes */
    if (sys_irq_bind(irq, n, 1) != OK) fatal("storm: no interrupt");
    if (service_call(cap_find("supervisor"), SUPERVISOR_READY, &m) != OK)
        fatal("storm: not accepted as ready");
    if (storms) {
        clock_write(REGISTER_A, (clock_read(REGISTER_A) & (uint8_t)~RATE_MASK) | RATE_8192_HZ);
        clock_write(REGISTER_B, clock_read(REGISTER_B) | PERIODIC_ON);
    }
    while (sys_wait(n).status == OK) {
        (void)clock_read(REGISTER_C);
        (void)sys_irq_ack(irq);
    }
    return 1;
}
