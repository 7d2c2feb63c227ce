/* SPDX-License-Identifier: BSD-2-Clause
 * Walks PCI Express configuration space (ECAM) from bus 0 through the bridges, as firmware numbered
 * them. Fills the table of functions and owns the mappings of their configuration space: 1 MiB for each
 * bus that has something behind it, no more. Firmware's numbers are checked: a bridge whose
 * secondary bus is out of range or already visited is not followed, so that a loop ends. */
#include "pci.h"

#define BUS_BYTES   (1ul << 20)
#define BUS_DEVICES 32
#define BUSES       256

static uint8_t buses[BUSES]; /* the queue of buses to look at */
static uint32_t bus_count;
static bool bus_seen[BUSES];
static volatile uint8_t *bus_space[BUSES];

static void bus_add(const struct system_info *info, uint32_t bus)
{
    if (bus < info->ecam_bus_first || bus > info->ecam_bus_last || bus >= BUSES || bus_seen[bus]) {
        log_line("pci: bus %u is out of range or reached twice, not followed", bus);
        return;
    }
    bus_seen[bus] = true;
    buses[bus_count++] = (uint8_t)bus;
}

static volatile uint8_t *bus_map(const struct system_info *info, uint32_t bus)
{
    paddr_t at = {info->ecam_paddr + bus * BUS_BYTES};
    struct sys_result memory = sys_memory_create_device(root, at, BUS_BYTES / PAGE_SIZE);
    if (memory.status != OK) return NULL;
    void *mapped;
    if (map_new(memory.value, BUS_BYTES / PAGE_SIZE, RIGHT_READ | RIGHT_WRITE, &mapped) != OK) return NULL;
    return mapped;
}

/* The entry of this address, or a new one; NULL: there are no more. */
static struct function *function_entry(uint32_t bdf)
{
    for (uint32_t i = 0; i < pci->function_count; i++)
        if (pci->function[i].bdf == bdf) return &pci->function[i];
    if (pci->function_count == FUNCTIONS_MAX) return NULL;
    pci->function[pci->function_count] = (struct function){.bdf = (uint16_t)bdf, .vendor = VENDOR_NONE};
    return &pci->function[pci->function_count++];
}

/* Records the function, if there is one, and returns its header type byte (0: no function). info: of a system whose
 * bridges are followed. */
static uint8_t function_add(const struct system_info *info, volatile uint8_t *config, uint32_t bdf)
{
    uint32_t id = *(volatile uint32_t *)(config + PCI_VENDOR);
    struct function *f = (id & 0xffff) == VENDOR_NONE ? NULL : function_entry(bdf);
    if (f == NULL) return 0;
    uint8_t header = config[PCI_HEADER_TYPE];
    *f = (struct function){.config = config,
                           .bdf = (uint16_t)bdf,
                           .vendor = (uint16_t)id,
                           .device = (uint16_t)(id >> 16),
                           .service = MANIFEST_NONE,
                           .class = *(volatile uint32_t *)(config + PCI_CLASS_REVISION) >> 8,
                           .header = header & PCI_HEADER_KIND};
    if (f->header == PCI_HEADER_DEVICE) /* whatever firmware used it for: its DMA waits for a driver */
        config_write16(f, PCI_COMMAND, config_read16(f, PCI_COMMAND) & (uint16_t)~PCI_COMMAND_BUS_MASTER);
    if (info != NULL && f->header == PCI_HEADER_BRIDGE && config_read8(f, PCI_SECONDARY_BUS) != 0)
        bus_add(info, config_read8(f, PCI_SECONDARY_BUS));
    return header;
}

static void device_look(const struct system_info *info, volatile uint8_t *config, uint32_t bdf)
{
    uint8_t header = function_add(info, config, bdf);
    if (!(header & PCI_HEADER_MULTIFUNCTION)) return;
    for (uint32_t n = 1; n < 8; n++) function_add(info, config + n * PAGE_SIZE, bdf | n);
}

void functions_look(volatile uint8_t *config, uint32_t bus)
{
    for (uint32_t i = 0; i < pci->function_count; i++)
        if (pci->function[i].bdf >> 8 == bus) pci->function[i].vendor = VENDOR_NONE;
    device_look(NULL, config, bus << 8);
}

volatile uint8_t *bus_config(uint32_t bus) { return bus_space[bus % BUSES]; }

static void bus_scan(const struct system_info *info, uint32_t bus)
{
    volatile uint8_t *config = bus_map(info, bus);
    if (config == NULL) {
        log_line("pci: configuration space of bus %u cannot be mapped", bus);
        return;
    }
    bus_space[bus] = config;
    for (uint32_t at = 0; at < BUS_DEVICES << 3; at += 8)
        device_look(info, config + at * PAGE_SIZE, bus << 8 | at);
}

uint32_t functions_enumerate(const struct system_info *info)
{
    if (info->ecam_paddr == 0) return 0;
    bus_add(info, info->ecam_bus_first);
    for (uint32_t i = 0; i < bus_count; i++) bus_scan(info, buses[i]);
    return pci->function_count;
}

struct function *function_get(uint32_t n) { return n < pci->function_count ? &pci->function[n] : NULL; }

struct function *function_match(uint16_t vendor, uint16_t device, uint16_t nth)
{
    for (uint32_t i = 0; i < pci->function_count; i++) {
        struct function *f = &pci->function[i];
        if (f->vendor == vendor && f->device == device && nth-- == 0) return f;
    }
    return NULL;
}

bool functions_share(const struct function *but, uint64_t paddr, uint64_t pages)
{
    for (uint32_t i = 0; i < pci->function_count; i++) {
        const struct function *f = &pci->function[i];
        if (f->vendor == VENDOR_NONE) continue;
        uint32_t bars = f->header == PCI_HEADER_DEVICE ? 6 : f->header == PCI_HEADER_BRIDGE ? 2 : 0;
        for (uint32_t n = 0; n < bars && f != but; n++) {
            uint32_t low = config_read32(f, PCI_BAR_0 + 4 * n);
            if (low & PCI_BAR_IO) continue;
            uint64_t at = low & PCI_BAR_MEM_MASK;
            if ((low & PCI_BAR_KIND) == PCI_BAR_KIND_64 && n + 1 < bars)
                at |= (uint64_t)config_read32(f, PCI_BAR_0 + 4 * ++n) << 32;
            if (at != 0 && at >= paddr && at < paddr + pages * PAGE_SIZE) return true;
        }
    }
    return false;
}
