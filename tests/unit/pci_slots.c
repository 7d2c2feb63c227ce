/* SPDX-License-Identifier: BSD-2-Clause
 * services/pci: a slot's life from button to power, over a port of our own; what is done before what, and that whoever
 * goes on after a fall at any step ends where the one that did not fall would have. */
#include <criterion/criterion.h>
#include <setjmp.h>
#include <string.h>

#include "tests/unit/sys_types.h"

static uint64_t now = 1000, next_look;
static inline struct sys_result sys_notification_create(tag_t tag)
{
    return (struct sys_result){OK, 1 + tag, 0};
}
static inline struct sys_result sys_timer_create(handle_t n, uint64_t bits)
{
    cr_assert(n != 0 && bits != 0);
    return (struct sys_result){OK, 9, 0};
}
static inline status_t sys_timer_arm(handle_t t, uint64_t at)
{
    static uint64_t before;
    cr_assert(t == 9 && (at >= now + 100000000 || at == before),
              "no more often than ten times a second, nor later for a fall");
    before = at;
    next_look = at;
    return OK;
}
static inline status_t sys_bind(handle_t n) { return n != 0 ? OK : E_HANDLE; }

/* A fall: the write of this number, or the claim, is the last thing that is done. */
static jmp_buf fell;
static int steps_left = -1;
static void one_step(void)
{
    if (steps_left > 0 && --steps_left == 0) longjmp(fell, 1);
}

#define config_write16 config_write16_plain
#include "services/pci/pci.h"
#undef config_write16

#define EXPRESS 0x40
#define BUS     3
static uint8_t port_space[PAGE_SIZE] __attribute__((aligned(8))),
    bus_space[PAGE_SIZE] __attribute__((aligned(8)));
static uint32_t claimed, powered_off_while_claimed, silent;
static bool device_in = true;

static uint16_t *express(uint32_t at) { return (uint16_t *)(port_space + EXPRESS + at); }
static void bits(uint32_t at, uint16_t clear, uint16_t set)
{
    *express(at) = (uint16_t)((*express(at) & ~clear) | set);
}

/* The port: events are cleared by writing 1; with power goes the link, and what the bus answers. */
static void port_settle(void)
{
    bool on = device_in && !(*express(PCIE_SLOT_CONTROL) & SLOT_POWER_OFF);
    bits(PCIE_SLOT_STATUS, SLOT_PRESENT, device_in ? SLOT_PRESENT : 0);
    bits(PCIE_LINK_STATUS, LINK_UP, on ? LINK_UP : 0);
    memset(bus_space, on ? 0x42 : 0xff, 4);
    if (!on && claimed) powered_off_while_claimed++;
}
static void config_write16(struct function *f, uint32_t at, uint16_t value)
{
    if (at == EXPRESS + PCIE_SLOT_STATUS) {
        bits(PCIE_SLOT_STATUS, value, 0);
    } else {
        config_write16_plain(f, at, value);
        if (at == EXPRESS + PCIE_SLOT_CONTROL && !silent) bits(PCIE_SLOT_STATUS, 0, SLOT_DONE);
    }
    port_settle();
    one_step();
}

static struct pci_kept memory;
struct pci_kept *pci = &memory;
handle_t root;
static const struct startup own;
#define startup() (&own)
#include "services/pci/slot.c"

uint64_t clock_ns(void) { return now; }
void log_line(const char *text, ...) { (void)text; }
void caps_save(uint64_t saved[KEPT_CAPS_WORDS]) { (void)saved; }
volatile uint8_t *bus_config(uint32_t bus) { return bus == BUS ? bus_space : NULL; }
uint32_t capability_find(const struct function *f, uint8_t id)
{
    cr_assert_eq(id, PCI_CAP_PCIE);
    return f->header == PCI_HEADER_BRIDGE ? EXPRESS : 0;
}
void functions_look(volatile uint8_t *config, uint32_t bus)
{
    cr_assert(config == bus_space && bus == BUS && config[0] != 0xff && claimed == 0);
}
void claims_prepare(void)
{
    claimed = 1;
    one_step();
}
void claims_release(uint32_t first, uint32_t last)
{
    cr_assert(first == BUS && last >= first);
    claimed = 0;
    one_step();
}

static void setup(void)
{
    *(uint32_t *)(port_space + PCI_VENDOR) = 0x12348086;
    port_space[PCI_SECONDARY_BUS] = port_space[PCI_SUBORDINATE] = BUS;
    *express(PCIE_FLAGS) = PCIE_FLAGS_SLOT;
    *(uint32_t *)express(PCIE_LINK) = LINK_REPORTS;
    *express(PCIE_SLOT) = SLOT_HOT_PLUG;
    *express(PCIE_SLOT_CONTROL) = SLOT_ON;
    pci->function[0] = (struct function){.config = port_space, .bdf = 0x10, .header = PCI_HEADER_BRIDGE};
    pci->function[1] = (struct function){.config = bus_space, .bdf = BUS << 8};
    pci->function_count = 2;
    claimed = 1;
    port_settle();
}

static struct slot *slot(void)
{
    if (pci->slot_count == 0) cr_assert(slots_find() == OK && slots_begin() == OK && pci->slot_count == 1);
    return &pci->slot[0];
}

static void looks(uint32_t n)
{
    while (n-- > 0) {
        now = next_look;
        slots_look();
    }
}

static void press(void) { bits(PCIE_SLOT_STATUS, 0, SLOT_BUTTON); }

static void pull(void)
{
    device_in = false;
    port_settle();
}

static void put_in(void)
{
    device_in = true;
    press();
    port_settle();
}

Test(pci_slots, a_port_without_a_switch_is_left_alone, .init = setup)
{
    *express(PCIE_SLOT) = 0;
    cr_assert(slots_find() == OK && slots_begin() == OK && pci->slot_count == 0 && pci->timer == 0);
    *express(PCIE_SLOT) = SLOT_HOT_PLUG;
    port_space[PCI_SECONDARY_BUS] = 5;
    cr_assert(slots_find() == OK && pci->slot_count == 0, "nor one whose bus was not found");
}

Test(pci_slots, button_pulled_and_back, .init = setup)
{
    cr_assert_eq(slot()->state, SLOT_SERVES);
    looks(3);
    cr_assert(claimed && slot()->state == SLOT_SERVES);
    press();
    looks(1);
    cr_assert(!claimed && slot()->state == SLOT_COOLING);
    looks(8);
    cr_assert_eq(*express(PCIE_SLOT_CONTROL), SLOT_BLINK | SLOT_POWER_OFF, "it cools down first");
    looks(3);
    cr_assert_eq(*express(PCIE_SLOT_CONTROL), SLOT_OFF | SLOT_POWER_OFF);
    looks(20);
    cr_assert_eq(slot()->state, SLOT_STANDS, "it is not started again because it is still in");
    pull();
    looks(2);
    cr_assert_eq(slot()->state, SLOT_EMPTY);
    put_in();
    looks(1);
    cr_assert(!claimed && slot()->state == SLOT_STARTING);
    looks(3);
    cr_assert(claimed && slot()->state == SLOT_SERVES,
              "the press that came with it does not take it out again");
    cr_assert_eq(*express(PCIE_SLOT_CONTROL), SLOT_ON);
    cr_assert_eq(config_read16(slot()->port, PCI_COMMAND), PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
    cr_assert_eq(powered_off_while_claimed, 0);
}

Test(pci_slots, button_pressed_twice_starts_it_again, .init = setup)
{
    slot();
    press();
    looks(13);
    press();
    looks(4);
    cr_assert(claimed && slot()->state == SLOT_SERVES);
}

Test(pci_slots, pulled_without_a_word, .init = setup)
{
    slot();
    pull();
    looks(14);
    cr_assert(!claimed && slot()->state == SLOT_EMPTY);
}

Test(pci_slots, nothing_answers, .init = setup)
{
    device_in = false;
    pci->function_count = 1;
    claimed = 0;
    port_settle();
    cr_assert_eq(slot()->state, SLOT_EMPTY);
    put_in();
    *(uint32_t *)express(PCIE_LINK) = 0; /* a port that does not say */
    for (uint32_t i = 0; i < 80; i++) {
        memset(bus_space, 0xff, 4);
        looks(1);
    }
    cr_assert(!claimed && slot()->state == SLOT_STANDS);
}

Test(pci_slots, a_command_is_awaited_but_not_for_ever, .init = setup)
{
    slot();
    silent = 1;
    press();
    looks(5);
    cr_assert_eq(slot()->state, SLOT_COOLING);
    looks(30);
    cr_assert_eq(slot()->state, SLOT_STANDS);
}

/* Falls after the n-th step of each kind, for all n; then goes on. */
static bool falls(int n, void (*what)(void), uint32_t then)
{
    steps_left = n;
    if (setjmp(fell) == 0) {
        what();
        looks(then);
        bool reached = steps_left == 0;
        steps_left = -1;
        return reached;
    }
    steps_left = -1;
    cr_assert_eq(slots_begin(), OK);
    looks(then);
    return true;
}

Test(pci_slots, whoever_goes_on_after_a_fall_comes_as_far, .init = setup)
{
    static volatile int n;
    static volatile bool out = true, in = true;
    slot();
    for (n = 1; out || in; n++) {
        cr_assert_lt(n, 100);
        out = falls(n, press, 20);
        cr_assert(!claimed && slot()->state == SLOT_STANDS && powered_off_while_claimed == 0, "fell at %d",
                  n);
        pull();
        looks(1);
        in = falls(n, put_in, 20);
        cr_assert(claimed && slot()->state == SLOT_SERVES, "fell at %d", n);
    }
    cr_assert_gt(n, 4);
}
