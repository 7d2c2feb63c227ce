/* SPDX-License-Identifier: BSD-2-Clause
 * The rest of the machine: the debug port, I/O ports, PCI configuration space, power, and what of all this
 * the kernel keeps for itself. */
#include "x86.h"
#include "frame.h"
#include "print.h"

struct platform arch_platform;
static struct acpi tables;
static uint64_t paddr_limit; /* first physical address that the CPU cannot form */

/* --- Log output --------------------------------------------------------------------------------------- */

#define DEBUG_PORT    0xe9
#define COM1          0x3f8
#define COM_LSR       5
#define COM_LSR_EMPTY 0x20
#define COM_SPINS     100000u
#define TAIL_BYTES    4096u

static bool debug_port;
static char tail[TAIL_BYTES]; /* the log's last bytes, for arch_halt */
static uint64_t tail_end;

void debug_init(void)
{
    debug_port = in8(DEBUG_PORT) == DEBUG_PORT; /* QEMU's isa-debugcon reads back its own number */
}

void arch_debug_write(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) tail[tail_end++ % TAIL_BYTES] = text[i];
    if (debug_port) __asm__ volatile("rep outsb" : "+S"(text), "+c"(length) : "d"(DEBUG_PORT) : "memory");
}

static bool serial_put(char c)
{
    for (unsigned i = 0; i < COM_SPINS; i++) {
        if (!(in8(COM1 + COM_LSR) & COM_LSR_EMPTY)) continue;
        out8(COM1, (uint8_t)c);
        return true;
    }
    return false;
}

/* The end of the log on the serial line, as the serial driver left it: the last words of a machine that has
 * no debug port. */
void arch_halt(void)
{
    arch_freeze();
    uint64_t at = tail_end > TAIL_BYTES ? tail_end - TAIL_BYTES : 0;
    bool present = in8(COM1 + COM_LSR) != 0xff;
    for (; present && at < tail_end; at++) {
        char c = tail[at % TAIL_BYTES];
        if (c == '\n') present = serial_put('\r');
        present = present && serial_put(c);
    }
    for (;;) __asm__ volatile("cli; hlt");
}

/* --- Ports ---------------------------------------------------------------------------------------------- */

uint32_t arch_port_in(uint16_t port, uint32_t width)
{
    return width == 1 ? in8(port) : width == 2 ? in16(port) : in32(port);
}

void arch_port_out(uint16_t port, uint32_t width, uint32_t value)
{
    if (width == 1)
        out8(port, (uint8_t)value);
    else if (width == 2)
        out16(port, (uint16_t)value);
    else
        out32(port, value);
}

struct port_range {
    uint16_t first, last;
};

static bool ranges_meet(struct port_range a, struct port_range b)
{
    return a.first <= b.last && b.first <= a.last;
}

bool arch_port_reserved(uint16_t base, uint32_t count)
{
    static const struct port_range fixed[] = {
        {0x00, 0x1f},   {0x80, 0x9f},
        {0xc0, 0xdf}, /* ISA DMA: it reaches all memory; port A: fast reset */
        {0x20, 0x21},   {0xa0, 0xa1},
        {0x4d0, 0x4d1}, /* PICs */
        {0x40, 0x43},   {DEBUG_PORT, DEBUG_PORT},
        {0xcf8, 0xcff}, /* PCI configuration, reset control */
    };
    struct port_range asked = {base, (uint16_t)(base + count - 1)};
    for (unsigned i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        if (ranges_meet(asked, fixed[i])) return true;
    const uint16_t acpi[] = {tables.pm_timer, tables.pm1a_control, tables.pm1b_control, tables.smi_command,
                             tables.reset.space == 1 ? (uint16_t)tables.reset.address : 0};
    for (unsigned i = 0; i < sizeof acpi / sizeof acpi[0]; i++)
        if (acpi[i] && ranges_meet(asked, (struct port_range){acpi[i], (uint16_t)(acpi[i] + 3)})) return true;
    return false;
}

/* --- Device memory and PCI -------------------------------------------------------------------------------- */

static bool pages_meet(paddr_t p, uint64_t pages, uint64_t device, uint64_t bytes)
{
    return p.v < device + bytes && device < p.v + pages * PAGE_SIZE;
}

bool arch_device_reserved(paddr_t p, uint64_t pages)
{
    if (p.v % PAGE_SIZE || p.v >= paddr_limit || pages > (paddr_limit - p.v) / PAGE_SIZE) return true;
    if (frame_is_ram(p, pages) || pages_meet(p, pages, tables.lapic_paddr, PAGE_SIZE)) return true;
    for (unsigned i = 0; i < tables.ioapics; i++)
        if (pages_meet(p, pages, tables.ioapic[i].paddr & ~(PAGE_SIZE - 1), PAGE_SIZE)) return true;
    if (vtd_owns(p, pages)) return true;
    return pages_meet(p, pages, 0xfee00000, 1ul << 20); /* writes there are interrupt messages */
}

#define PCI_COMMAND        4
#define PCI_COMMAND_IO     1u
#define PCI_COMMAND_MEMORY 2u
#define PCI_COMMAND_MASTER 4u
#define PCI_COMMAND_NOINTX 0x400u
#define PCI_HEADER         14
#define PCI_HEADER_KIND    0x7f
#define PCI_HEADER_BRIDGE  1
#define PCI_SECONDARY      0x19
#define PCI_SUBORDINATE    0x1a

/* A function's 4 KiB of configuration space (PCI Express Base 6.0, 7.2.2). NULL: none at this address. */
static volatile uint16_t *pci_config(uint32_t bdf)
{
    uint32_t bus = bdf >> 8;
    if (!arch_platform.ecam_paddr || bdf > 0xffff || bus < arch_platform.ecam_bus_first ||
        bus > arch_platform.ecam_bus_last)
        return NULL;
    uint64_t offset = (uint64_t)(bdf - (arch_platform.ecam_bus_first << 8)) * PAGE_SIZE;
    return arch_direct((paddr_t){arch_platform.ecam_paddr + offset});
}

bool arch_pci_exists(uint32_t bdf)
{
    volatile uint16_t *config = pci_config(bdf);
    return config && config[0] != 0xffff;
}

bool pci_behind(uint32_t bridge, uint32_t bdf)
{
    volatile uint8_t *config = (volatile uint8_t *)pci_config(bridge);
    return config && (config[PCI_HEADER] & PCI_HEADER_KIND) == PCI_HEADER_BRIDGE &&
           bdf >> 8 >= config[PCI_SECONDARY] && bdf >> 8 <= config[PCI_SUBORDINATE];
}

static void command_change(uint32_t bdf, uint32_t off, uint32_t on)
{
    volatile uint16_t *config = pci_config(bdf);
    if (!config || config[0] == 0xffff) return; /* unplugged: it does nothing */
    config[PCI_COMMAND / 2] = (uint16_t)((config[PCI_COMMAND / 2] & ~off) | on);
    (void)config[PCI_COMMAND / 2]; /* the write has arrived */
}

void arch_bus_master(uint32_t bdf, bool on)
{
    command_change(bdf, PCI_COMMAND_MASTER, on ? PCI_COMMAND_MASTER : 0);
}

void arch_pci_decode(uint32_t bdf, bool on)
{
    command_change(bdf, PCI_COMMAND_IO | PCI_COMMAND_MEMORY,
                   on ? PCI_COMMAND_MEMORY | PCI_COMMAND_NOINTX : 0);
}

/* --- Power -------------------------------------------------------------------------------------------------- */

#define PM1_SCI_EN  (1u << 0)
#define PM1_SLP_EN  (1u << 13)
#define PM1_SLP_TYP 10
#define PM1_KEPT    0x203u /* SCI_EN, BM_RLD, reserved bit 9 */
#define POWER_SPINS 10000000u

static void spin(void)
{
    for (volatile unsigned i = 0; i < POWER_SPINS; i++) {}
}

static void sleep_enter(uint16_t port, uint8_t type)
{
    if (port) out16(port, (uint16_t)((in16(port) & PM1_KEPT) | (uint32_t)type << PM1_SLP_TYP | PM1_SLP_EN));
}

static void power_off(void)
{
    if (!tables.s5_found || !tables.pm1a_control) return;
    if (!(in16(tables.pm1a_control) & PM1_SCI_EN) && tables.smi_command && tables.acpi_enable) {
        out8(tables.smi_command, tables.acpi_enable);
        for (unsigned i = 0; i < POWER_SPINS && !(in16(tables.pm1a_control) & PM1_SCI_EN); i++) {}
    }
    sleep_enter(tables.pm1a_control, tables.s5_type_a);
    sleep_enter(tables.pm1b_control, tables.s5_type_b);
    spin();
}

static void reset_register(void)
{
    if (!tables.reset_supported) return;
    if (tables.reset.space == 1 && tables.reset.address <= 0xffff)
        out8((uint16_t)tables.reset.address, tables.reset_value);
    volatile uint8_t *at = tables.reset.space == 0 ? device_map((paddr_t){tables.reset.address}, 1) : NULL;
    if (at) *at = tables.reset_value;
}

/* Each way in turn; the last always works. */
static void reboot(void)
{
    reset_register();
    spin();
    out8(0xcf9, 0x02);
    out8(0xcf9, 0x06);
    spin();
    out8(0x64, 0xfe); /* keyboard controller: pulse the reset line */
    spin();
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) none = {0, 0};
    __asm__ volatile("lidt %0; ud2" ::"m"(none)); /* triple fault */
}

void arch_power(enum system_op op)
{
    if (op == SYSTEM_POWER_OFF)
        power_off();
    else
        reboot();
    kernel_log("kernel: the machine did not %s; halted", op == SYSTEM_POWER_OFF ? "switch off" : "reset");
    arch_halt();
}

/* --- What ACPI says -------------------------------------------------------------------------------------------- */

void platform_init(const struct acpi *acpi)
{
    tables = *acpi;
    uint32_t bits = cpuid(0x80000000).eax >= 0x80000008 ? cpuid(0x80000008).eax & 0xff : 36;
    paddr_limit = 1ul << (bits < 52 ? bits : 52);
    arch_platform.cpus = 1;
    arch_platform.iommu = 0;
    if (!acpi->ecam_paddr) return;
    uint64_t bytes = (uint64_t)(acpi->ecam_bus_last - acpi->ecam_bus_first + 1) << 20;
    if (!device_map((paddr_t){acpi->ecam_paddr}, bytes)) {
        kernel_log("kernel: PCI configuration space at 0x%lx is out of reach", acpi->ecam_paddr);
        return;
    }
    arch_platform.ecam_paddr = acpi->ecam_paddr;
    arch_platform.ecam_bus_first = acpi->ecam_bus_first;
    arch_platform.ecam_bus_last = acpi->ecam_bus_last;
}
