/* SPDX-License-Identifier: BSD-2-Clause
 * Reads the ACPI tables (ACPI 6.5, ch. 5). Firmware's bytes are not trusted: every access goes through
 * span, which knows the range's end. Includes nothing of the kernel, so that it is tested and fuzzed on the
 * build machine. */
#include "acpi.h"

struct span {
    const uint8_t *at;
    uint64_t length;
};

static uint64_t read_le(struct span s, uint64_t offset, unsigned bytes)
{
    uint64_t v = 0;
    if (offset > s.length || bytes > s.length - offset) return 0;
    for (unsigned i = 0; i < bytes; i++) v |= (uint64_t)s.at[offset + i] << (8 * i);
    return v;
}
static uint8_t read8(struct span s, uint64_t o) { return (uint8_t)read_le(s, o, 1); }
static uint16_t read16(struct span s, uint64_t o) { return (uint16_t)read_le(s, o, 2); }
static uint32_t read32(struct span s, uint64_t o) { return (uint32_t)read_le(s, o, 4); }
static uint64_t read64(struct span s, uint64_t o) { return read_le(s, o, 8); }

static bool sum_is_zero(struct span s)
{
    uint8_t sum = 0;
    for (uint64_t i = 0; i < s.length; i++) sum = (uint8_t)(sum + s.at[i]);
    return sum == 0;
}

static bool text_is(struct span s, uint64_t offset, const char *text, unsigned n)
{
    if (offset > s.length || n > s.length - offset) return false;
    for (unsigned i = 0; i < n; i++)
        if (s.at[offset + i] != (uint8_t)text[i]) return false;
    return true;
}

static struct span span_cut(struct span s, uint64_t offset, uint64_t length)
{
    if (offset > s.length || length > s.length - offset) return (struct span){0};
    return (struct span){s.at + offset, length};
}

#define HEADER    36          /* signature, length, revision, checksum, OEM and creator fields */
#define TABLE_MAX (16u << 20) /* a longer one is damage, and summing it would take minutes */

/* A whole valid table at a physical address, or an empty span. */
static struct span table_at(struct span memory, uint64_t paddr)
{
    struct span head = span_cut(memory, paddr, HEADER);
    if (paddr == 0 || head.length == 0) return (struct span){0};
    uint32_t length = read32(head, 4);
    if (length < HEADER || length > TABLE_MAX) return (struct span){0};
    struct span table = span_cut(memory, paddr, length);
    return table.length && sum_is_zero(table) ? table : (struct span){0};
}

/* --- Root: RSDP -> XSDT or RSDT ------------------------------------------------------------------- */

struct root {
    struct span table;
    unsigned entry_bytes;
};

static bool root_find(struct span memory, uint64_t rsdp, struct root *out)
{
    struct span p = span_cut(memory, rsdp, 20);
    if (!text_is(p, 0, "RSD PTR ", 8) || !sum_is_zero(p)) return false;
    if (read8(p, 15) >= 2) {
        struct span full = span_cut(memory, rsdp, 36);
        if (full.length && read32(full, 20) >= 36 && read32(full, 20) <= PAGE_SIZE)
            full = span_cut(memory, rsdp, read32(full, 20));
        if (full.length >= 36 && sum_is_zero(full)) {
            *out = (struct root){table_at(memory, read64(full, 24)), 8};
            if (text_is(out->table, 0, "XSDT", 4)) return true;
        }
    }
    *out = (struct root){table_at(memory, read32(p, 16)), 4};
    return text_is(out->table, 0, "RSDT", 4);
}

static struct span table_find(struct span memory, const struct root *root, const char *signature)
{
    for (uint64_t o = HEADER; o + root->entry_bytes <= root->table.length; o += root->entry_bytes) {
        struct span t = table_at(memory, read_le(root->table, o, root->entry_bytes));
        if (text_is(t, 0, signature, 4)) return t;
    }
    return (struct span){0};
}

/* --- MADT: interrupt controllers --------------------------------------------------------------------- */

static void madt_override(struct span e, struct acpi *out)
{
    if (out->overrides == ACPI_OVERRIDES_MAX || read8(e, 2) != 0) return;
    uint16_t flags = read16(e, 8); /* 0 in either field: as the bus does; ISA is edge, active high */
    out->override[out->overrides++] = (struct acpi_override){
        .source = read8(e, 3), .gsi = read32(e, 4), .low = (flags & 3) == 3, .level = (flags >> 2 & 3) == 3};
}

static void madt_cpu(uint32_t apic_id, uint32_t flags, struct acpi *out)
{
    if (!(flags & 1)) return;
    out->cpus++;
    if (apic_id < 255 && out->reachable < ACPI_CPUS_MAX) out->apic_id[out->reachable++] = (uint8_t)apic_id;
}

static void madt_entry(struct span e, struct acpi *out)
{
    uint8_t type = read8(e, 0);
    if (type == 0 && e.length >= 8)
        madt_cpu(read8(e, 3), read32(e, 4), out);
    else if (type == 9 && e.length >= 16)
        madt_cpu(read32(e, 4), read32(e, 8), out);
    else if (type == 1 && e.length >= 12 && out->ioapics < ACPI_IOAPICS_MAX)
        out->ioapic[out->ioapics++] =
            (struct acpi_ioapic){.paddr = read32(e, 4), .gsi_base = read32(e, 8), .id = read8(e, 2)};
    else if (type == 2 && e.length >= 10)
        madt_override(e, out);
    else if (type == 5 && e.length >= 12)
        out->lapic_paddr = read64(e, 4);
}

static bool madt_parse(struct span t, struct acpi *out)
{
    if (t.length < 44) return false;
    out->lapic_paddr = read32(t, 36);
    for (uint64_t o = 44; o + 2 <= t.length;) {
        uint8_t length = read8(t, o + 1);
        struct span e = span_cut(t, o, length);
        if (length < 2 || e.length == 0) return false;
        madt_entry(e, out);
        o += length;
    }
    return true;
}

/* --- MCFG: PCI Express configuration space ------------------------------------------------------------ */

static void mcfg_parse(struct span t, struct acpi *out)
{
    for (uint64_t o = 44; o + 16 <= t.length; o += 16) {
        uint8_t first = read8(t, o + 10), last = read8(t, o + 11);
        uint64_t base = read64(t, o);
        if (read16(t, o + 8) != 0 || last < first || base == 0 || base % (1ul << 20) || base >> 52) continue;
        /* The base is bus 0's, whatever the first bus is. */
        out->ecam_paddr = base + ((uint64_t)first << 20);
        out->ecam_bus_first = first;
        out->ecam_bus_last = last;
        return;
    }
}

/* --- FADT and DSDT: power, reset, the PM timer --------------------------------------------------------- */

static struct acpi_register register_read(struct span t, uint64_t offset)
{
    return (struct acpi_register){read8(t, offset), read8(t, offset + 1), read64(t, offset + 4)};
}

/* The 64-bit field if it is there and a port, else the 32-bit one. */
static uint16_t fadt_port(struct span t, uint64_t extended, uint64_t legacy)
{
    struct acpi_register r = register_read(t, extended);
    if (r.address && r.space == 1 && r.address <= 0xfffc) return (uint16_t)r.address;
    uint32_t port = read32(t, legacy);
    return port <= 0xfffc ? (uint16_t)port : 0;
}

/* A small AML integer: ZeroOp, OneOp, or a byte with its prefix. */
static bool aml_byte(struct span t, uint64_t *offset, uint8_t *value)
{
    uint8_t op = read8(t, *offset);
    if (*offset >= t.length) return false;
    *offset += 1;
    *value = op;
    if (op <= 1) return true;
    if (op != 0x0a || *offset >= t.length) return false;
    *value = read8(t, *offset);
    *offset += 1;
    return true;
}

/* Name (_S5_, Package (n) {a, b, ...}): 08 [5c] "_S5_" 12 PkgLength n a b (ACPI 6.5, 20.2). */
static bool s5_at(struct span t, uint64_t o, struct acpi *out)
{
    uint8_t before = read8(t, o - 1), before2 = read8(t, o - 2);
    if (before != 0x08 && !(before == 0x5c && before2 == 0x08)) return false;
    o += 4;
    if (read8(t, o) != 0x12) return false;
    o += 1;
    o += 1u + (read8(t, o) >> 6); /* PkgLength: 0 to 3 more bytes */
    if (read8(t, o) < 2) return false;
    o += 1;
    uint8_t a, b;
    if (!aml_byte(t, &o, &a) || !aml_byte(t, &o, &b) || a > 7 || b > 7) return false;
    out->s5_found = true;
    out->s5_type_a = a;
    out->s5_type_b = b;
    return true;
}

static void dsdt_parse(struct span t, struct acpi *out)
{
    for (uint64_t o = HEADER + 2; o + 4 <= t.length; o++)
        if (text_is(t, o, "_S5_", 4) && s5_at(t, o, out)) return;
}

static void fadt_parse(struct span memory, struct span t, struct acpi *out)
{
    if (t.length < 116) return;
    uint32_t flags = read32(t, 112);
    out->pm_timer = fadt_port(t, 208, 76);
    out->pm_timer_mask = flags & (1u << 8) ? 0xffffffff : 0xffffff;
    out->pm1a_control = fadt_port(t, 172, 64);
    out->pm1b_control = fadt_port(t, 184, 68);
    out->smi_command = read32(t, 48) <= 0xffff ? read16(t, 48) : 0;
    out->acpi_enable = read8(t, 52);
    out->reset_supported = (flags & (1u << 10)) && t.length >= 129;
    out->reset = register_read(t, 116);
    out->reset_value = read8(t, 128);
    struct span dsdt = table_at(memory, read64(t, 140));
    if (!dsdt.length) dsdt = table_at(memory, read32(t, 40));
    if (text_is(dsdt, 0, "DSDT", 4)) dsdt_parse(dsdt, out);
}

const char *acpi_parse(const uint8_t *bytes, uint64_t length, uint64_t rsdp, struct acpi *out)
{
    struct span memory = {bytes, length};
    struct root root;
    *out = (struct acpi){0};
    if (!root_find(memory, rsdp, &root)) return "no valid RSDP with an XSDT or RSDT";
    if (!madt_parse(table_find(memory, &root, "APIC"), out)) return "no valid MADT";
    mcfg_parse(table_find(memory, &root, "MCFG"), out);
    fadt_parse(memory, table_find(memory, &root, "FACP"), out);
    struct span dmar = table_find(memory, &root, "DMAR");
    out->dmar = dmar.at;
    out->dmar_bytes = dmar.length;
    return NULL;
}
