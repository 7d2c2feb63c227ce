/* SPDX-License-Identifier: BSD-2-Clause
 * Interrupt sources: I/O APIC lines (Intel 82093AA) and MSI-X table entries (PCI 3.0, 6.8.2). Owns the
 * vectors 48..239, one source each, all sent to this CPU. A message's address and data are written by the
 * kernel alone: a device that could choose them could raise any vector.
 * An I/O APIC drops edges of a masked line, so a masked edge line is only held: it stays open in hardware,
 * an edge that arrives is remembered and given at unmask. Level lines and MSI-X keep what is pending
 * themselves. Line states: CLOSED (hardware-masked) -> LIVE (unmask) -> HELD (mask) -> MISSED (an edge came;
 * hardware-masked) -> LIVE. */
#include "x86.h"
#include "dmar.h"
#include "print.h"

#define VECTORS (VECTOR_DEVICE_END - VECTOR_DEVICE_FIRST)

enum line_state { LINE_FREE, LINE_CLOSED, LINE_LIVE, LINE_HELD, LINE_MISSED };
struct line {
    enum line_state state;
    enum irq_kind kind;
    bool level, low;
    uint64_t source; /* GSI, or physical address of the MSI-X entry */
};

struct ioapic {
    volatile uint32_t *registers;
    uint32_t gsi_base, lines, source; /* source: how it signs messages, for the IOMMU */
    uint8_t id;
};

#define IOAPIC_VERSION  1
#define IOAPIC_ENTRY(n) (0x10 + 2 * (n))
#define ENTRY_LOW       (1u << 13)
#define ENTRY_LEVEL     (1u << 15)
#define ENTRY_MASKED    (1u << 16)
#define ENTRY_REMAPPED  (1u << 16) /* in the upper half: bits 17..31 are an index into the IOMMU's table */

#define MSIX_ADDRESS     0 /* words of a table entry */
#define MSIX_UPPER       1
#define MSIX_DATA        2
#define MSIX_CONTROL     3
#define MSIX_MASKED      1u
#define MSIX_ENTRIES     2048u
#define MESSAGE_BASE     0xfee00000u
#define MESSAGE_REMAPPED (1u << 4) /* bits 5..19 are an index into the IOMMU's table, data is 0 */

static struct line lines[VECTORS];
static struct ioapic ioapics[ACPI_IOAPICS_MAX];
static unsigned ioapic_count;
static struct acpi_override overrides[ACPI_OVERRIDES_MAX];
static unsigned override_count;

static struct line *line_of(uint8_t vector)
{
    assert(vector >= VECTOR_DEVICE_FIRST && vector < VECTOR_DEVICE_END);
    return &lines[vector - VECTOR_DEVICE_FIRST];
}

/* --- I/O APIC ----------------------------------------------------------------------------------------- */

static uint32_t ioapic_read(const struct ioapic *a, unsigned reg)
{
    a->registers[0] = reg;
    return a->registers[4];
}
static void ioapic_write(const struct ioapic *a, unsigned reg, uint32_t value)
{
    a->registers[0] = reg;
    a->registers[4] = value;
}

static const struct ioapic *ioapic_of(uint64_t gsi)
{
    for (unsigned i = 0; i < ioapic_count; i++)
        if (gsi >= ioapics[i].gsi_base && gsi - ioapics[i].gsi_base < ioapics[i].lines) return &ioapics[i];
    return NULL;
}

static void gsi_set(const struct line *l, uint8_t vector, bool masked)
{
    const struct ioapic *a = ioapic_of(l->source);
    unsigned n = (unsigned)(l->source - a->gsi_base);
    ioapic_write(a, IOAPIC_ENTRY(n) + 1,
                 vtd_remaps() ? ENTRY_REMAPPED | (uint32_t)vector << 17 : apic_id() << 24);
    ioapic_write(a, IOAPIC_ENTRY(n),
                 vector | (l->low ? ENTRY_LOW : 0) | (l->level ? ENTRY_LEVEL : 0) |
                     (masked ? ENTRY_MASKED : 0));
}

static void ioapic_init(const struct acpi_ioapic *found)
{
    struct ioapic *a = &ioapics[ioapic_count];
    a->registers = device_map((paddr_t){found->paddr}, 32);
    if (!a->registers) kernel_panic("I/O APIC at 0x%lx cannot be mapped", found->paddr);
    a->gsi_base = found->gsi_base;
    a->id = found->id;
    a->lines = (ioapic_read(a, IOAPIC_VERSION) >> 16 & 0xff) + 1;
    for (unsigned n = 0; n < a->lines; n++) ioapic_write(a, IOAPIC_ENTRY(n), ENTRY_MASKED);
    ioapic_count++;
}

void interrupts_init(const struct acpi *acpi)
{
    out8(0x21, 0xff); /* the old PICs: everything masked */
    out8(0xa1, 0xff);
    for (unsigned i = 0; i < acpi->ioapics; i++) ioapic_init(&acpi->ioapic[i]);
    override_count = acpi->overrides;
    for (unsigned i = 0; i < override_count; i++) overrides[i] = acpi->override[i];
}

bool interrupts_sources(const struct dmar *dmar)
{
    unsigned known = 0;
    for (unsigned i = 0; i < ioapic_count; i++)
        for (uint32_t n = 0; n < dmar->ioapics; n++) {
            if (dmar->ioapic[n].id != ioapics[i].id) continue;
            ioapics[i].source = dmar->ioapic[n].source;
            known++;
            break;
        }
    return known == ioapic_count;
}

/* GSIs below 16 are the ISA lines, edge and active high; others PCI, level and active low; unless the
 * firmware says otherwise. */
static void gsi_trigger(struct line *l)
{
    l->level = l->low = l->source >= 16;
    for (unsigned i = 0; i < override_count; i++) {
        if (overrides[i].gsi != l->source) continue;
        l->level = overrides[i].level;
        l->low = overrides[i].low;
    }
}

/* --- MSI-X ---------------------------------------------------------------------------------------------- */

/* All of the entry, each time: a function-level reset may have cleared it. */
static void msix_set(const struct irq_line *line, bool masked)
{
    line->msix[MSIX_CONTROL] = MSIX_MASKED;
    line->msix[MSIX_ADDRESS] =
        MESSAGE_BASE | (vtd_remaps() ? MESSAGE_REMAPPED | (uint32_t)line->vector << 5 : apic_id() << 12);
    line->msix[MSIX_UPPER] = 0;
    line->msix[MSIX_DATA] = vtd_remaps() ? 0 : line->vector; /* fixed, edge */
    if (!masked) line->msix[MSIX_CONTROL] = 0;
    (void)line->msix[MSIX_CONTROL]; /* posted writes have arrived */
}

/* --- The port ---------------------------------------------------------------------------------------------- */

static status_t source_check(enum irq_kind kind, uint32_t number, paddr_t table, uint32_t entry,
                             uint64_t *source)
{
    if (kind == IRQ_GSI) {
        *source = number;
        return ioapic_of(number) ? OK : E_ARGUMENT;
    }
    *source = table.v + (uint64_t)entry * 16;
    if (kind != IRQ_MSIX || entry >= MSIX_ENTRIES || table.v % 8 || *source < table.v) return E_ARGUMENT;
    if (vtd_remaps() && !arch_pci_exists(number)) return E_ARGUMENT; /* whose messages they will be */
    return arch_device_reserved((paddr_t){*source & ~(PAGE_SIZE - 1)}, 1) ? E_ARGUMENT : OK;
}

status_t arch_irq_open(struct irq_line *line, enum irq_kind kind, uint32_t number, paddr_t table,
                       uint32_t entry)
{
    uint64_t source;
    status_t s = source_check(kind, number, table, entry, &source);
    if (s != OK) return s;
    unsigned vacant = VECTORS;
    for (unsigned i = VECTORS; i-- > 0;) {
        if (lines[i].state == LINE_FREE)
            vacant = i;
        else if (lines[i].kind == kind && lines[i].source == source)
            return E_BUSY;
    }
    if (vacant == VECTORS) return E_NO_SLOTS;
    volatile uint32_t *msix = kind == IRQ_MSIX ? device_map((paddr_t){source}, 16) : NULL;
    if (kind == IRQ_MSIX && !msix) return E_NO_SLOTS;
    struct line *l = &lines[vacant];
    *l = (struct line){.state = LINE_CLOSED, .kind = kind, .source = source};
    *line = (struct irq_line){.vector = (uint8_t)(VECTOR_DEVICE_FIRST + vacant),
                              .kind = (uint8_t)kind,
                              .entry = (uint16_t)entry,
                              .gsi = number,
                              .msix = msix};
    if (kind == IRQ_GSI) gsi_trigger(l);
    if (vtd_remaps())
        vtd_interrupt_open(line->vector, kind == IRQ_GSI ? ioapic_of(number)->source : number, l->level);
    if (kind == IRQ_GSI) {
        gsi_set(l, line->vector, true);
    } else {
        msix_set(line, true);
    }
    return OK;
}

void arch_irq_mask(struct irq_line *line)
{
    struct line *l = line_of(line->vector);
    if (l->state != LINE_LIVE) return;
    if (l->kind == IRQ_MSIX)
        line->msix[MSIX_CONTROL] = MSIX_MASKED;
    else if (l->level)
        gsi_set(l, line->vector, true);
    l->state = l->kind == IRQ_GSI && !l->level ? LINE_HELD : LINE_CLOSED;
}

void arch_irq_unmask(struct irq_line *line)
{
    struct line *l = line_of(line->vector);
    enum line_state was = l->state;
    l->state = LINE_LIVE;
    if (l->kind == IRQ_MSIX)
        msix_set(line, false);
    else if (was != LINE_LIVE && was != LINE_HELD)
        gsi_set(l, line->vector, false);
    if (was == LINE_MISSED) apic_send_self(line->vector);
}

void arch_irq_close(struct irq_line *line)
{
    struct line *l = line_of(line->vector);
    if (l->kind == IRQ_GSI)
        gsi_set(l, line->vector, true);
    else
        line->msix[MSIX_CONTROL] = MSIX_MASKED;
    if (vtd_remaps()) vtd_interrupt_close(line->vector);
    l->state = LINE_FREE;
}

bool interrupt_arrived(uint8_t vector)
{
    if (vector < VECTOR_DEVICE_FIRST || vector >= VECTOR_DEVICE_END) return false;
    struct line *l = line_of(vector);
    if (l->state == LINE_LIVE) return true;
    if (l->state != LINE_HELD) return false; /* was on its way when it was masked */
    l->state = LINE_MISSED;
    gsi_set(l, vector, true);
    return false;
}
