/* SPDX-License-Identifier: BSD-2-Clause
 * Slots of PCI Express ports whose devices come and go while the system runs (PCI Express Base, 6.7): somebody presses
 * the attention button or pulls the device, drivers are ended, power goes off; something is put in, power goes
 * on, functions are looked for and handed out. Owns slot control and status registers. Slots are looked at ten times a
 * second, if there are any. Invariants: a slot's state is written before what it stands for is done, and each look
 * does all of it again, so that whoever goes on after a fall ends where this one would have; no object of a
 * function is let go of before its driver has ended; a slot is given one command a look. */
#include "pci.h"
#include "abi/protocol.h"

#define LOOK_NS   100000000ul  /* also what a device may take from power on to its first answer (6.6.1) */
#define WAIT_NS   1000000000ul /* for a command, and after power went off (6.7.1.8) */
#define ABSENT_NS 5000000000ul /* power is on, and nothing answers: it is taken off again */
#define LOOK_BIT  1ul

static uint16_t status_of(const struct slot *s)
{
    return config_read16(s->port, s->express + PCIE_SLOT_STATUS);
}

static void event_clear(struct slot *s, uint16_t event)
{
    config_write16(s->port, s->express + PCIE_SLOT_STATUS, event);
}

static uint64_t since(const struct slot *s) { return clock_ns() - s->since_ns; }

/* One command. Interrupts stay off. */
static void command(struct slot *s, uint16_t indicator_and_power)
{
    uint32_t at = s->express + PCIE_SLOT_CONTROL;
    uint16_t kept = config_read16(s->port, at) & (uint16_t) ~(SLOT_INDICATOR | SLOT_POWER_OFF);
    s->since_ns = clock_ns();
    event_clear(s, SLOT_DONE);
    s->commanded = true;
    config_write16(s->port, at, kept | indicator_and_power);
}

static bool command_done(struct slot *s)
{
    bool says = !(config_read32(s->port, s->express + PCIE_SLOT) & SLOT_SILENT);
    if (s->commanded && says && !(status_of(s) & SLOT_DONE) && since(s) < WAIT_NS) return false;
    s->commanded = false;
    return true;
}

static bool powered(const struct slot *s)
{
    return !(config_read16(s->port, s->express + PCIE_SLOT_CONTROL) & SLOT_POWER_OFF);
}

static void state_set(struct slot *s, enum slot_state state)
{
    __atomic_store_n(&s->state, state, __ATOMIC_SEQ_CST);
}

static uint32_t bus_of(const struct slot *s) { return config_read8(s->port, PCI_SECONDARY_BUS); }

static bool answers(const struct slot *s)
{
    bool reports = config_read32(s->port, s->express + PCIE_LINK) & LINK_REPORTS;
    if (reports && !(config_read16(s->port, s->express + PCIE_LINK_STATUS) & LINK_UP)) return false;
    return *(volatile uint16_t *)(s->config + PCI_VENDOR) != VENDOR_NONE;
}

static void start(struct slot *s)
{
    state_set(s, SLOT_STARTING);
    event_clear(s, SLOT_BUTTON);
    config_write16(s->port, PCI_COMMAND,
                   config_read16(s->port, PCI_COMMAND) | PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
    command(s, SLOT_BLINK);
}

/* A slot without power is what whoever fell left: nothing was made of its device yet. */
static void starting(struct slot *s)
{
    if (!powered(s)) {
        start(s);
        return;
    }
    if (since(s) < LOOK_NS) return;
    if (!answers(s)) {
        if (since(s) > ABSENT_NS) state_set(s, SLOT_LEAVING);
        return;
    }
    claims_release(bus_of(s), bus_of(s)); /* that a predecessor made before it fell */
    functions_look(s->config, bus_of(s));
    log_line("pci: %02x:00.0 is plugged in", bus_of(s));
    claims_prepare();
    command(s, SLOT_ON);
    state_set(s, SLOT_SERVES);
    caps_save(pci->capabilities);
}

static void leave(struct slot *s)
{
    if (powered(s)) log_line("pci: %02x:00.0 is being unplugged", bus_of(s));
    state_set(s, SLOT_LEAVING);
    event_clear(s, SLOT_BUTTON);
    claims_release(bus_of(s), config_read8(s->port, PCI_SUBORDINATE));
    s->used_to[0] = s->used_to[1] = 0;
    command(s, SLOT_BLINK | SLOT_POWER_OFF);
    state_set(s, SLOT_COOLING);
    caps_save(pci->capabilities);
}

static void slot_look(struct slot *s)
{
    if (!command_done(s)) return;
    uint16_t status = status_of(s);
    bool pressed = status & SLOT_BUTTON, present = status & SLOT_PRESENT;
    switch (s->state) {
    case SLOT_EMPTY:
        if (present) start(s);
        return;
    case SLOT_STANDS:
        if (!present) state_set(s, SLOT_EMPTY);
        if (present && pressed) start(s);
        return;
    case SLOT_STARTING:
        if (present) starting(s);
        if (!present) leave(s);
        return;
    case SLOT_SERVES:
        if (pressed || !present) leave(s);
        return;
    case SLOT_LEAVING: leave(s); return;
    case SLOT_COOLING:
        if (since(s) < WAIT_NS) return;
        command(s, SLOT_OFF | SLOT_POWER_OFF);
        state_set(s, SLOT_STANDS);
    }
}

static status_t look_later(void)
{
    pci->look_ns = clock_ns() + LOOK_NS;
    return sys_timer_arm(pci->timer, pci->look_ns);
}

void slots_look(void)
{
    if (look_later() != OK) log_line("pci: slots are not looked at any more");
    for (uint32_t i = 0; i < pci->slot_count; i++) slot_look(&pci->slot[i]);
}

/* A port with a slot that can be switched, and buses behind it. */
static void slot_add(struct function *port)
{
    uint32_t at = port->header == PCI_HEADER_BRIDGE ? capability_find(port, PCI_CAP_PCIE) : 0;
    if (at == 0 || at + PCIE_BYTES > 256 || !(config_read16(port, at + PCIE_FLAGS) & PCIE_FLAGS_SLOT) ||
        !(config_read32(port, at + PCIE_SLOT) & SLOT_HOT_PLUG))
        return;
    uint32_t bus = config_read8(port, PCI_SECONDARY_BUS);
    if (bus_config(bus) == NULL || bus == port->bdf >> 8 || pci->slot_count == SLOTS_MAX) {
        log_line("pci: the slot of %02x:%02x.%x is not used", port->bdf >> 8, port->bdf >> 3 & 31,
                 port->bdf & 7);
        return;
    }
    struct slot *s = &pci->slot[pci->slot_count++];
    *s = (struct slot){.port = port, .express = at, .config = bus_config(bus)};
    bool found = false;
    for (uint32_t i = 0; i < pci->function_count; i++) found |= pci->function[i].bdf >> 8 == bus;
    s->state = found ? SLOT_SERVES : SLOT_EMPTY;
}

status_t slots_find(void)
{
    for (uint32_t i = 0; i < pci->function_count; i++) slot_add(&pci->function[i]);
    if (pci->slot_count == 0) return OK;
    log_line("pci: %u slots for devices that come and go", pci->slot_count);
    struct sys_result r = sys_notification_create(startup()->tag);
    if (r.status != OK) return r.status;
    pci->notification = r.value;
    r = sys_timer_create(pci->notification, LOOK_BIT);
    pci->timer = r.value;
    return r.status;
}

status_t slots_begin(void)
{
    if (pci->slot_count == 0) return OK;
    status_t status = sys_bind(pci->notification);
    if (status != OK) return status;
    return pci->look_ns == 0 ? look_later() : sys_timer_arm(pci->timer, pci->look_ns);
}
