/* SPDX-License-Identifier: BSD-2-Clause
 * drivers/virtio_blk/pci.c: the capability list of a function that may say anything. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/sys_types.h"

static inline status_t sys_dma_attach(handle_t d) { return d ? OK : E_HANDLE; }
static inline status_t sys_dma_reset_done(handle_t d) { return d ? OK : E_HANDLE; }

#include "drivers/virtio_blk/pci.c"

enum { CONFIG_CAP = 50, DMA_CAP, IRQ_CAP, BAR_CAP };
#define BAR_BYTES 0x4000u
static uint8_t config[PAGE_SIZE];
static uint8_t *bar; /* exactly as large as the BAR: the sanitizer sees a step beyond */
static uint32_t bar_calls;
static uint64_t lowest = 1 << 4; /* BARs that may be mapped */

status_t service_call(handle_t endpoint, uint16_t label, struct message *m)
{
    cr_assert_eq(endpoint, 9);
    if (label == PCI_BAR) {
        bar_calls++;
        if (m->w[1] != 4) return E_NOT_FOUND;
        *m = (struct message){.w = {BAR_BYTES, 0, 0, 0, 0, 0, 0, BAR_CAP}};
        return OK;
    }
    cr_assert(label == PCI_CLAIM && m->w[1] == 1);
    *m = (struct message){
        .w = {0x10, 0, 2 | lowest << 16, BAR_BYTES, lowest ? BAR_CAP : 0, IRQ_CAP, CONFIG_CAP, DMA_CAP}};
    return OK;
}
handle_t cap_find(const char *name) { return strcmp(name, "pci") == 0 ? 9 : 0; }
uint64_t clock_ns(void) { return 0; }
status_t map_new(handle_t memory, uint64_t pages, uint32_t prot, void **out)
{
    (void)prot;
    cr_assert_eq(pages, memory == CONFIG_CAP ? 1 : BAR_BYTES / PAGE_SIZE);
    *out = memory == CONFIG_CAP ? config : bar;
    return OK;
}

static void setup(void) { bar = malloc(BAR_BYTES); }

static void cap_put(uint8_t at, uint8_t next, uint8_t type, uint8_t in_bar, uint32_t offset, uint32_t length)
{
    struct virtio_pci_notify_cap cap = {.cap = {0x09, next, 20, type, in_bar, 0, {0}, offset, length},
                                        .notify_off_multiplier = 4};
    memcpy(config + at, &cap, sizeof(cap));
}

/* As QEMU lays it out. */
static void config_good(void)
{
    memset(config, 0, sizeof(config));
    config[0x34] = 0x40;
    cap_put(0x40, 0x60, VIRTIO_PCI_CAP_COMMON_CFG, 4, 0, 0x1000);
    cap_put(0x60, 0x80, VIRTIO_PCI_CAP_DEVICE_CFG, 4, 0x2000, 0x1000);
    cap_put(0x80, 0, VIRTIO_PCI_CAP_NOTIFY_CFG, 4, 0x3000, 0x1000);
}

static status_t attach(struct transport *t)
{
    *t = (struct transport){0};
    bar_calls = 0;
    return transport_attach(t);
}

Test(virtio_pci, finds_the_blocks, .init = setup)
{
    struct transport t;

    config_good();
    cr_assert_eq(attach(&t), OK);
    cr_assert_eq((uint8_t *)t.common, bar);
    cr_assert_eq(t.config, bar + 0x2000);
    cr_assert_eq(t.notify, bar + 0x3000);
    cr_assert_eq(t.notify_multiplier, 4);
    cr_assert(bar_calls == 0 && t.irq == IRQ_CAP && t.dma == DMA_CAP);
}

Test(virtio_pci, a_block_in_another_bar_than_the_lowest_is_asked_for, .init = setup)
{
    struct transport t;

    config_good();
    lowest = 1 << 2 | 1 << 4;
    cr_assert_eq(attach(&t), OK);
    cr_assert(bar_calls == 1 && (uint8_t *)t.common == bar);
    lowest = 0; /* all its BARs are refused */
    cr_assert_eq(attach(&t), E_UNSUPPORTED);
}

Test(virtio_pci, a_list_that_loops_ends, .init = setup, .timeout = 5)
{
    struct transport t;

    config_good();
    config[0x81] = 0x40;
    cr_assert_eq(attach(&t), OK);
    config[0x41] = 0x40; /* to itself: the others are not found */
    cr_assert_eq(attach(&t), E_UNSUPPORTED);
}

Test(virtio_pci, blocks_outside_their_bar_are_refused, .init = setup)
{
    static const uint32_t bad[][2] = {
        {0x3001, 0x1000}, {0x3004, 0x1000}, {0xfffffffc, 8}, {BAR_BYTES, 4}, {4, ~0u}};
    struct transport t;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        config_good();
        cap_put(0x80, 0, VIRTIO_PCI_CAP_NOTIFY_CFG, 4, bad[i][0], bad[i][1]);
        cr_assert_eq(attach(&t), E_UNSUPPORTED, "offset 0x%x length 0x%x", bad[i][0], bad[i][1]);
    }
}

Test(virtio_pci, a_common_block_that_is_too_short_is_refused, .init = setup)
{
    struct transport t;

    config_good();
    cap_put(0x40, 0x60, VIRTIO_PCI_CAP_COMMON_CFG, 4, 0, sizeof(struct virtio_pci_common_cfg) - 1);
    cr_assert_eq(attach(&t), E_UNSUPPORTED);
}

Test(virtio_pci, bars_that_do_not_exist_are_refused, .init = setup)
{
    struct transport t;

    config_good();
    cap_put(0x40, 0x60, VIRTIO_PCI_CAP_COMMON_CFG, 6, 0, 0x1000);
    cr_assert_eq(attach(&t), E_UNSUPPORTED);
    cap_put(0x40, 0x60, VIRTIO_PCI_CAP_COMMON_CFG, 0, 0, 0x1000);
    cr_assert_eq(attach(&t), E_UNSUPPORTED);
}

/* Whatever the page holds: an answer, and every block that was accepted lies inside the BAR. */
Test(virtio_pci, any_configuration_space, .init = setup, .timeout = 60)
{
    struct transport t;
    uint32_t accepted = 0;

    srand(1);
    for (uint32_t round = 0; round < 200000; round++) {
        config_good();
        for (int n = rand() % 24; n > 0; n--) config[0x34 + rand() % (0x100 - 0x34)] = (uint8_t)rand();
        if (attach(&t) != OK) continue;
        accepted++;
        cr_assert((uint8_t *)t.common >= bar && (uint8_t *)t.common + sizeof(*t.common) <= bar + BAR_BYTES);
        cr_assert(t.notify >= bar && t.notify + t.notify_bytes <= bar + BAR_BYTES);
        cr_assert(t.config >= bar && t.config + t.config_bytes <= bar + BAR_BYTES);
        (void)transport_config32(&t, 0xfffffffe); /* past the end, where an addition would wrap */
    }
    cr_assert_gt(accepted, 1000, "the changes must not hide what is tested");
}

Test(virtio_pci, a_queue_doorbell_outside_the_notify_block_is_refused, .init = setup)
{
    volatile uint16_t *notify;
    struct transport t;

    config_good();
    cr_assert_eq(attach(&t), OK);
    memset(bar, 0, BAR_BYTES);
    t.common->queue_size = 256;
    t.common->queue_notify_off = 0x3ff;
    cr_assert_eq(transport_queue_enable(&t, 128, 0, 0, 0, &notify), OK);
    cr_assert_eq((volatile uint8_t *)notify, bar + 0x3ffc);
    t.common->queue_notify_off = 0x400;
    t.common->queue_size = 256;
    cr_assert_eq(transport_queue_enable(&t, 128, 0, 0, 0, &notify), E_UNSUPPORTED);
    t.common->queue_notify_off = 0;
    t.common->queue_size = 64;
    cr_assert_eq(transport_queue_enable(&t, 128, 0, 0, 0, &notify), E_UNSUPPORTED);
}
