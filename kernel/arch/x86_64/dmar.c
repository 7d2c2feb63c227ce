/* SPDX-License-Identifier: BSD-2-Clause
 * Reads the ACPI table DMAR. Firmware's bytes are not trusted: every access goes through span, every structure
 * must lie inside the table and every scope inside its structure. Structures of unknown types are skipped, as
 * the specification (8.2) asks. Includes nothing of the kernel. */
#include "dmar.h"

#define HEADER          48 /* ACPI's 36 bytes, address width, flags, reserved */
#define STRUCTURES_MAX  256
#define FLAG_REMAP      1u
#define TYPE_UNIT       0
#define TYPE_RESERVED   1
#define UNIT_BYTES      16
#define UNIT_ALL        1u
#define RESERVED_BYTES  24
#define SCOPE_BYTES     6
#define SCOPE_FUNCTION  1
#define SCOPE_BRIDGE    2
#define SCOPE_IOAPIC    3
#define REGISTERS_ALIGN 4096ul
#define REGISTERS_LIMIT (1ul << 52)

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

/* --- Device scopes ------------------------------------------------------------------------------------------ */

static const char *ioapic_add(uint8_t id, uint16_t source, struct dmar *out)
{
    if (out->ioapics == DMAR_IOAPICS_MAX) return "too many I/O APICs";
    out->ioapic[out->ioapics++] = (struct dmar_ioapic){id, source};
    return NULL;
}

/* One step of a path is understood: behind a bridge, the bridge itself is what a table should name. A function
 * with a longer path counts as served by nobody, which is the safe side. */
static const char *scope_add(struct span scope, struct dmar *out)
{
    uint64_t type = read_le(scope, 0, 1), device = read_le(scope, 6, 1), function = read_le(scope, 7, 1);
    if (scope.length != SCOPE_BYTES + 2) return NULL;
    if (device > 31 || function > 7) return "a device scope's path leads nowhere";
    uint16_t bdf = (uint16_t)(read_le(scope, 5, 1) << 8 | device << 3 | function);
    if (type == SCOPE_IOAPIC) return ioapic_add((uint8_t)read_le(scope, 4, 1), bdf, out);
    if (type != SCOPE_FUNCTION && type != SCOPE_BRIDGE) return NULL;
    if (out->scopes == DMAR_SCOPES_MAX) return "too many device scopes";
    out->scope[out->scopes++] = (struct dmar_scope){type == SCOPE_BRIDGE, bdf};
    return NULL;
}

static const char *scopes_parse(struct span s, uint64_t offset, struct dmar *out)
{
    while (offset < s.length) {
        uint64_t length = read_le(s, offset + 1, 1);
        if (length < SCOPE_BYTES || length % 2 || length > s.length - offset)
            return "a device scope of impossible length";
        const char *wrong = scope_add((struct span){s.at + offset, length}, out);
        if (wrong) return wrong;
        offset += length;
    }
    return NULL;
}

/* --- Structures ---------------------------------------------------------------------------------------------- */

static const char *unit_add(struct span s, struct dmar *out)
{
    if (s.length < UNIT_BYTES) return "a remapping unit's entry is cut off";
    if (read_le(s, 6, 2) != 0)
        return NULL; /* another PCI segment: the kernel reaches none of its functions */
    uint64_t registers = read_le(s, 8, 8);
    if (!registers || registers % REGISTERS_ALIGN || registers >= REGISTERS_LIMIT)
        return "a remapping unit's registers have no possible address";
    for (uint32_t i = 0; i < out->units; i++)
        if (out->unit[i] == registers) return "a remapping unit is listed twice";
    if (out->units == DMAR_UNITS_MAX) return "too many remapping units";
    out->unit[out->units++] = registers;
    out->all |= read_le(s, 4, 1) & UNIT_ALL;
    return scopes_parse(s, UNIT_BYTES, out);
}

static const char *reserved_add(struct span s, struct dmar *out)
{
    if (s.length < RESERVED_BYTES) return "a reserved region's entry is cut off";
    uint64_t base = read_le(s, 8, 8), limit = read_le(s, 16, 8);
    if (base > limit) return "a reserved region ends before it begins";
    if (out->reserved == DMAR_RESERVED_MAX) return "too many reserved regions";
    out->region[out->reserved++] = (struct dmar_reserved){base, limit};
    return NULL;
}

const char *dmar_parse(const uint8_t *table, uint64_t length, struct dmar *out)
{
    struct span all = {table, length};
    *out = (struct dmar){0};
    if (length < HEADER) return "the table is cut off";
    out->remap = read_le(all, 37, 1) & FLAG_REMAP;
    uint32_t structures = 0;
    for (uint64_t at = HEADER; at < length;) {
        uint64_t bytes = read_le(all, at + 2, 2);
        if (length - at < 4 || bytes < 4 || bytes > length - at) return "a structure of impossible length";
        if (++structures > STRUCTURES_MAX) return "too many structures";
        struct span s = {table + at, bytes};
        uint64_t type = read_le(s, 0, 2);
        const char *wrong = type == TYPE_UNIT       ? unit_add(s, out)
                            : type == TYPE_RESERVED ? reserved_add(s, out)
                                                    : NULL;
        if (wrong) return wrong;
        at += bytes;
    }
    return out->units ? NULL : "it names no remapping unit";
}
