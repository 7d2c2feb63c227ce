/* SPDX-License-Identifier: BSD-2-Clause
 * services/pci: enumeration and the objects of a claim, over configuration spaces of our own: one as QEMU
 * has it, and ones that firmware or a device got wrong. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/sys_types.h"

#define ECAM    0xb0000000ul
#define BUSES_N 4
#define TABLE   0xfe001000ul /* physical address of the MSI-X table */
#define HANDLES 256

#define COMMAND_IO     1u /* what the kernel changes in PCI_COMMAND */
#define COMMAND_MEMORY 2u

static uint8_t ecam[BUSES_N][1 << 20] __attribute__((aligned(4096)));
static uint8_t table_page[PAGE_SIZE] __attribute__((aligned(4096)));
static uint8_t ram_page[PAGE_SIZE] __attribute__((aligned(4096)));
static struct {
    uint64_t paddr, pages;
} device[HANDLES]; /* by handle: device memory that was made */
static uint64_t next_handle = 1;
static uint32_t irqs, bus_maps;

static inline struct sys_result give(void)
{
    cr_assert_lt(next_handle, HANDLES);
    return (struct sys_result){OK, next_handle++, 0};
}
static inline struct sys_result sys_memory_create_device(handle_t r, paddr_t p, uint64_t pages)
{
    cr_assert_eq(r, 0);
    device[next_handle].paddr = p.v;
    device[next_handle].pages = pages;
    return give();
}
static inline struct sys_result sys_memory_create(handle_t a, uint64_t pages, uint32_t flags)
{
    cr_assert(a == 0 && pages == 1 && flags == 0);
    return give();
}
static inline struct sys_result sys_cap_derive(handle_t h, uint32_t rights, uint64_t badge)
{
    cr_assert(rights & RIGHT_GRANT && badge == 0);
    device[next_handle] = device[h];
    return give();
}
static inline struct sys_result sys_dma_create(handle_t r, uint32_t bdf)
{
    if (bdf >= 0x10000) return (struct sys_result){E_ARGUMENT, r, 0};
    device[next_handle].paddr = bdf;
    return give();
}
static inline status_t sys_dma_decode(handle_t dma, bool on)
{
    uint64_t bdf = device[dma].paddr;
    uint16_t *command = (uint16_t *)&ecam[bdf >> 8][(bdf & 0xff) * PAGE_SIZE + 4];
    *command = (uint16_t)((*command & ~(COMMAND_MEMORY | COMMAND_IO)) | (on ? COMMAND_MEMORY : 0));
    return OK;
}
static inline struct sys_result sys_irq_create(handle_t r, int kind, uint32_t n, handle_t table,
                                               uint32_t entry, uint32_t limit)
{
    cr_assert(limit == 0); /* the kernel's own */
    cr_assert(r == 0 && kind == IRQ_MSIX && n == 0x20 && device[table].paddr == TABLE && entry < 4);
    irqs++;
    return give();
}
static uint32_t let_go_of;
static inline status_t sys_cap_delete(handle_t h)
{
    let_go_of++;
    return h ? OK : E_HANDLE;
}
static inline status_t sys_memory_unmap(handle_t p, uint64_t at) { return p == 0 && at ? OK : E_ADDRESS; }

/* Writes to configuration space go through the device below. */
#define config_write32 config_write32_plain
#include "services/pci/pci.h"
#undef config_write32
static uint32_t bar_mask[BARS]; /* what the device keeps of ~0 */
static void config_write32(struct function *f, uint32_t at, uint32_t value)
{
    uint32_t n = (at - PCI_BAR_0) / 4;
    if (at >= PCI_BAR_0 && n < BARS && value == ~0u) {
        cr_assert_not(config_read16(f, PCI_COMMAND) & COMMAND_MEMORY, "sized with decode on");
        value = bar_mask[n];
    }
    config_write32_plain(f, at, value);
}
static struct pci_kept memory;
struct pci_kept *pci = &memory;
#include "services/pci/enumerate.c"
#include "services/pci/function.c"
#include "services/pci/window.c"

handle_t root;
void log_line(const char *text, ...) { (void)text; }
status_t map_new(handle_t memory, uint64_t pages, uint32_t prot, void **out)
{
    (void)prot;
    uint64_t at = device[memory].paddr;
    if (pages == 256) bus_maps++;
    if (at >= ECAM && at < ECAM + sizeof(ecam))
        *out = ecam[(at - ECAM) >> 20];
    else
        *out = at == 0 ? ram_page : table_page;
    return OK;
}

static uint8_t *space(uint32_t bus, uint32_t slot, uint32_t fn)
{
    return &ecam[bus][(slot << 3 | fn) * PAGE_SIZE];
}
static void put16(uint8_t *c, uint32_t at, uint16_t v) { memcpy(c + at, &v, 2); }
static void put32(uint8_t *c, uint32_t at, uint32_t v) { memcpy(c + at, &v, 4); }

static uint8_t *function_put(uint32_t bus, uint32_t slot, uint32_t fn, uint32_t id, uint8_t header)
{
    uint8_t *c = space(bus, slot, fn);
    put32(c, PCI_VENDOR, id);
    c[PCI_HEADER_TYPE] = header;
    return c;
}

static void bridge_put(uint32_t bus, uint32_t slot, uint8_t secondary)
{
    function_put(bus, slot, 0, 0x00018086, PCI_HEADER_BRIDGE)[PCI_SECONDARY_BUS] = secondary;
}

static void setup(void)
{
    memset(ecam, 0xff, sizeof(ecam));
    for (uint32_t b = 0; b < BUSES_N; b++)
        for (uint32_t f = 0; f < 256; f++) memset(ecam[b] + f * PAGE_SIZE + 4, 0, PAGE_SIZE - 4);
}

static uint32_t enumerate(void)
{
    struct system_info info = {.ecam_paddr = ECAM, .ecam_bus_last = BUSES_N - 1};
    return functions_enumerate(&info);
}

Test(pci, nothing_without_ecam)
{
    struct system_info info = {0};
    cr_assert_eq(functions_enumerate(&info), 0);
}

Test(pci, follows_bridges_and_functions, .init = setup)
{
    function_put(0, 0, 0, 0x29c08086, 0);
    function_put(0, 31, 0, 0x29188086, PCI_HEADER_MULTIFUNCTION);
    function_put(0, 31, 3, 0x29308086, 0);
    function_put(0, 5, 2, 0x12345678, 0); /* function 0 is absent: not looked at */
    bridge_put(0, 2, 1);
    function_put(1, 0, 0, 0x10421af4, 0);
    function_put(2, 0, 0, 0x10421af4, 0); /* behind no bridge */
    cr_assert_eq(enumerate(), 5);
    cr_assert_eq(function_match(0x1af4, 0x1042, 0)->bdf, 0x100);
    cr_assert_null(function_match(0x1af4, 0x1042, 1));
    cr_assert_null(function_get(5));
    cr_assert_eq(bus_maps, 2, "configuration space of buses with nothing is not mapped");
}

Test(pci, bridges_that_loop_or_point_nowhere, .init = setup, .timeout = 5)
{
    bridge_put(0, 1, 1);
    bridge_put(0, 2, 1);   /* twice */
    bridge_put(0, 3, 200); /* out of range */
    bridge_put(0, 4, 0);   /* not numbered */
    bridge_put(1, 0, 2);
    bridge_put(2, 0, 1); /* back */
    cr_assert_eq(enumerate(), 6);
    cr_assert_eq(bus_maps, 3);
}

Test(pci, more_functions_than_the_table_holds, .init = setup)
{
    bridge_put(0, 0, 1);
    for (uint32_t i = 0; i < 256; i++) function_put(1, i >> 3, i & 7, 0x10421af4, PCI_HEADER_MULTIFUNCTION);
    cr_assert_eq(enumerate(), FUNCTIONS_MAX);
}

/* virtio-blk-pci as QEMU has it: MSI-X in BAR 1 (4 KiB), registers in BAR 4 (64 bits, 16 KiB). */
static uint8_t *virtio_put(void)
{
    uint8_t *c = function_put(0, 4, 0, 0x10421af4, 0);
    put16(c, PCI_COMMAND, COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER | COMMAND_IO);
    put16(c, PCI_STATUS, PCI_STATUS_CAPABILITIES);
    put32(c, PCI_BAR_0 + 4, TABLE), bar_mask[1] = 0xfffff000;
    put32(c, PCI_BAR_0 + 16, 0x0000000c), put32(c, PCI_BAR_0 + 20, 8); /* at 32 GiB */
    bar_mask[4] = 0xffffc00c, bar_mask[5] = 0xffffffff;
    c[PCI_CAPABILITIES] = 0x98;
    put32(c, 0x98, PCI_CAP_MSIX | 1u << 16);
    put32(c, 0x98 + MSIX_TABLE, 1);
    put32(c, 0x98 + MSIX_PBA, 0x800 | 1);
    return c;
}

static struct claim c;
static status_t claim(void)
{
    cr_assert_geq(enumerate(), 1);
    c = (struct claim){.function = function_match(0x1af4, 0x1042, 0)};
    return claim_prepare(&c);
}

Test(pci, claim_of_a_virtio_function, .init = setup)
{
    uint8_t *config = virtio_put();
    handle_t first, again;

    cr_assert_eq(claim(), OK);
    cr_assert(c.bar[4].paddr == 8ul << 32 && c.bar[4].bytes == 0x4000 && c.bar[4].memory != 0);
    cr_assert(device[c.bar[4].memory].paddr == 8ul << 32 && device[c.bar[4].memory].pages == 4);
    cr_assert(c.bar[1].bytes == 0x1000 && c.bar[1].memory == 0, "the MSI-X table is never handed out");
    cr_assert(c.bar[0].bytes == 0 && c.bar[5].bytes == 0);
    cr_assert_eq(c.msix.entries, 2);
    cr_assert_eq(config_read16(c.function, PCI_COMMAND), COMMAND_MEMORY);
    cr_assert_eq(config_read16(c.function, 0x98 + MSIX_CONTROL), MSIX_CONTROL_ENABLE | 1);
    cr_assert(table_page[12] == MSIX_ENTRY_MASKED && table_page[28] == MSIX_ENTRY_MASKED &&
              table_page[44] == 0);
    cr_assert_eq(memcmp(ram_page, config, PAGE_SIZE), 0, "the copy is of the function as it is now");
    cr_assert(claim_irq(&c, 1, &first) == OK && claim_irq(&c, 1, &again) == OK);
    cr_assert(first == again && irqs == 1, "made once");
    cr_assert_eq(claim_irq(&c, 2, &first), E_ARGUMENT);
}

Test(pci, registers_beside_the_msix_table_are_refused, .init = setup)
{
    uint8_t *config = virtio_put();

    put32(config, 0x98 + MSIX_PBA, 0x3ff8 | 4); /* the last bytes of BAR 4 */
    cr_assert_eq(claim(), OK);
    cr_assert_eq(c.bar[4].memory, 0);
}

Test(pci, msix_outside_its_bar, .init = setup)
{
    static const uint32_t bad[] = {0xff0 | 1, 0x1000 | 1, 0xfffffff8 | 1, 0, 6, 5, 8 | 1};
    uint8_t *config = virtio_put();

    cr_assert_geq(enumerate(), 1);
    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        put32(config, 0x98 + MSIX_TABLE, bad[i]);
        c = (struct claim){.function = function_match(0x1af4, 0x1042, 0)};
        cr_assert_eq(claim_prepare(&c), E_UNSUPPORTED, "table at 0x%x", bad[i]);
    }
}

Test(pci, a_capability_list_that_loops_ends, .init = setup, .timeout = 5)
{
    uint8_t *config = virtio_put();

    config[PCI_CAPABILITIES] = 0x40;
    put16(config, 0x40, 0x09 | 0x50 << 8);
    put16(config, 0x50, 0x09 | 0x40 << 8);
    cr_assert_eq(claim(), OK);
    cr_assert(c.msix.entries == 0 && c.bar[1].memory != 0);
}

Test(pci, a_page_with_another_functions_registers_is_refused, .init = setup)
{
    uint8_t *config = virtio_put(), *other = function_put(0, 5, 0, 0xabcd1234, 0);

    put32(config, PCI_BAR_0 + 12, 0xfe002000), bar_mask[3] = 0xffffff00; /* 256 bytes */
    put32(other, PCI_BAR_0, 0xfe002100);
    cr_assert_eq(claim(), OK);
    cr_assert(c.bar[3].bytes == 256 && c.bar[3].memory == 0);
}

Test(pci, bars_that_make_no_sense_are_absent, .init = setup)
{
    uint8_t *config = virtio_put();

    put32(config, PCI_BAR_0, 0xfe003000), bar_mask[0] = 0xffff0000; /* not aligned to its size */
    put32(config, PCI_BAR_0 + 8, 0xc001), bar_mask[2] = 0xffffff81; /* I/O */
    put32(config, PCI_BAR_0 + 12, 0), bar_mask[3] = 0xfffff000;     /* not assigned */
    cr_assert_eq(claim(), OK);
    cr_assert(c.bar[0].bytes == 0 && c.bar[2].bytes == 0 && c.bar[3].bytes == 0 && c.bar[4].memory != 0);
}

/* Behind a port with 2 MiB, and 1 MiB for what can be prefetched above 32 GiB. */
static uint8_t *plugged_put(void)
{
    bridge_put(0, 2, 1);
    uint8_t *port = space(0, 2, 0);
    put32(port, PCI_MEMORY_WINDOW, 0xfe10fe00); /* to 0xfe1fffff */
    put32(port, PCI_PREFETCH, 0x00010001);
    put32(port, PCI_PREFETCH_BASE, 8), put32(port, PCI_PREFETCH_LIMIT, 8);
    uint8_t *config = virtio_put();
    memcpy(space(1, 0, 0), config, PAGE_SIZE);
    memset(config, 0xff, 4);
    config = space(1, 0, 0);
    put32(config, PCI_BAR_0 + 4, 0), put32(config, PCI_BAR_0 + 20, 0); /* nobody assigned anything */
    cr_assert_eq(enumerate(), 2);
    pci->slot[0] = (struct slot){.port = function_get(0), .state = SLOT_STARTING};
    pci->slot_count = 1;
    return config;
}

Test(pci, a_function_that_firmware_never_saw_gets_addresses, .init = setup)
{
    uint8_t *config = plugged_put();

    pci->slot[0].used_to[0] = 0xfe000001; /* the next page, then */
    c = (struct claim){.function = function_match(0x1af4, 0x1042, 0)};
    cr_assert_eq(claim_prepare(&c), OK);
    cr_assert(c.bar[1].paddr == TABLE && c.bar[1].bytes == 0x1000);
    cr_assert(c.bar[4].paddr == 8ul << 32 && c.bar[4].bytes == 0x4000 && c.bar[4].memory != 0);
    cr_assert(config_read32(c.function, PCI_BAR_0 + 16) == 0 &&
              config_read32(c.function, PCI_BAR_0 + 20) == 8);
    cr_assert_eq(*(uint32_t *)(config + PCI_BAR_0 + 4), TABLE);
    cr_assert_eq(pci->slot[0].used_to[1], (8ul << 32) + 0x4000);
    claim_unprepare(&c);
    cr_assert_eq(let_go_of, 4, "BAR, table, copy, domain");
    cr_assert_not(config_read16(c.function, PCI_COMMAND) & COMMAND_MEMORY);
}

Test(pci, no_room_no_address, .init = setup)
{
    const struct function *f;

    plugged_put();
    f = function_match(0x1af4, 0x1042, 0);
    cr_assert_eq(window_take(f, true, true, 1ul << 21), 0xfe000000, "not prefetchable is right too");
    cr_assert_eq(window_take(f, false, false, 1), 0, "it was all");
    cr_assert_eq(window_take(f, false, true, PAGE_SIZE), 0, "the other lies where 32 bits do not reach");
    cr_assert_eq(window_take(f, true, true, 1ul << 63), 0);
    pci->slot[0].state = SLOT_SERVES;
    cr_assert_eq(window_take(f, true, true, PAGE_SIZE), 0, "firmware's own choice is not added to");
}

Test(pci, an_unplugged_functions_entry_is_its_successors, .init = setup)
{
    uint8_t *config = plugged_put();
    uint32_t entries = pci->function_count;

    put16(config, PCI_VENDOR, 0xffff);
    functions_look(ecam[1], 1);
    cr_assert_null(function_match(0x1af4, 0x1042, 0));
    put32(config, PCI_VENDOR, 0x10421af4);
    functions_look(ecam[1], 1);
    cr_assert(function_match(0x1af4, 0x1042, 0)->bdf == 0x100 && pci->function_count == entries);
}

Test(pci, bridges_are_not_claimed, .init = setup)
{
    bridge_put(0, 1, 1);
    put32(space(0, 1, 0), PCI_VENDOR, 0x10421af4);
    cr_assert_eq(claim(), E_UNSUPPORTED);
}
