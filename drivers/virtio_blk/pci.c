/* SPDX-License-Identifier: BSD-2-Clause
 * virtio over PCI: claims the function from the pci service, finds the register blocks through the
 * vendor capabilities of the read-only configuration copy, and performs the status and feature
 * handshake. Owns struct transport. Every offset that comes from the function is checked against
 * its BAR before use: a function that lies makes attach fail, never this process fault. */
#include "device.h"
#include "abi/protocol.h"

#define PCI_CONFIG_BYTES      256 /* capability lists live in the first 256 bytes */
#define PCI_CAPABILITY_LIST   0x34
#define PCI_CAPABILITIES_AT   0x40 /* nothing in a list lies below */
#define PCI_CAPABILITY_VENDOR 0x09

static uint32_t config_u32(const uint8_t *config, uint32_t at)
{
    uint32_t value;
    memcpy(&value, config + at, sizeof(value));
    return value;
}

static status_t bar_map(struct transport *t, uint32_t bar, handle_t memory, uint64_t bytes, uint64_t offset)
{
    if (bytes == 0 || offset >= PAGE_SIZE) return E_PROTOCOL;
    void *at;
    status_t status = map_new(memory, PAGES_FOR(offset + bytes), RIGHT_READ | RIGHT_WRITE, &at);
    if (status != OK) return status;
    t->bar[bar] = (uint8_t *)at + offset;
    t->bar_bytes[bar] = bytes;
    return OK;
}

static status_t bar_get(struct transport *t, uint32_t bar)
{
    struct message m = {.info = INFO_REPLAYABLE, .w = {0, bar}};
    status_t status = service_call(t->pci, PCI_BAR, &m);
    return status == OK ? bar_map(t, bar, m.w[7], m.w[0], m.w[1]) : status;
}

/* The block that a vendor capability describes, or NULL if it does not lie inside a BAR. */
static uint8_t *block_map(struct transport *t, const uint8_t *config, uint32_t cap, uint64_t *bytes)
{
    uint32_t bar = config[cap + VIRTIO_PCI_CAP_BAR];
    uint64_t offset = config_u32(config, cap + VIRTIO_PCI_CAP_OFFSET);
    uint64_t length = config_u32(config, cap + VIRTIO_PCI_CAP_LENGTH);
    if (bar >= TRANSPORT_BARS || offset % 4 != 0) return NULL;
    if (t->bar[bar] == NULL && bar_get(t, bar) != OK) return NULL;
    if (offset + length > t->bar_bytes[bar]) return NULL;
    *bytes = length;
    return t->bar[bar] + offset;
}

/* The first capability of each type wins (virtio 1.1, 4.1.4: the driver should use the first it
 * supports). */
static void capability_use(struct transport *t, const uint8_t *config, uint32_t cap)
{
    uint64_t bytes = 0;
    switch (config[cap + VIRTIO_PCI_CAP_CFG_TYPE]) {
    case VIRTIO_PCI_CAP_COMMON_CFG:
        if (t->common != NULL) return;
        uint8_t *common = block_map(t, config, cap, &bytes);
        if (bytes >= sizeof(*t->common)) t->common = (volatile void *)common;
        return;
    case VIRTIO_PCI_CAP_NOTIFY_CFG:
        if (t->notify != NULL || cap + VIRTIO_PCI_NOTIFY_CAP_MULT + 4 > PCI_CONFIG_BYTES) return;
        t->notify = block_map(t, config, cap, &t->notify_bytes);
        t->notify_multiplier = config_u32(config, cap + VIRTIO_PCI_NOTIFY_CAP_MULT);
        return;
    case VIRTIO_PCI_CAP_DEVICE_CFG:
        if (t->config == NULL) t->config = block_map(t, config, cap, &t->config_bytes);
        return;
    default: return; /* the ISR block is for INTx, PCI_CFG for firmware */
    }
}

static status_t capabilities_parse(struct transport *t, const uint8_t *config)
{
    uint32_t cap = config[PCI_CAPABILITY_LIST] & ~3u;
    /* Each entry takes 4 bytes at least, which bounds a list that loops. */
    for (uint32_t n = 0; cap >= PCI_CAPABILITIES_AT && n < PCI_CONFIG_BYTES / 4; n++) {
        if (config[cap] == PCI_CAPABILITY_VENDOR && cap + sizeof(struct virtio_pci_cap) <= PCI_CONFIG_BYTES &&
            config[cap + VIRTIO_PCI_CAP_LEN] >= sizeof(struct virtio_pci_cap))
            capability_use(t, config, cap);
        cap = config[cap + 1] & ~3u;
    }
    return t->common != NULL && t->notify != NULL && t->config != NULL ? OK : E_UNSUPPORTED;
}

status_t transport_attach(struct transport *t)
{
    t->pci = cap_find("pci");
    struct message m = {.info = INFO_REPLAYABLE, .w = {0, 1}};
    status_t status = service_call(t->pci, PCI_CLAIM, &m);
    if (status != OK) return status;
    t->bdf = (uint32_t)m.w[0];
    t->irq = m.w[5];
    t->dma = m.w[7];
    uint32_t bars = m.w[2] >> 16 & ((1u << TRANSPORT_BARS) - 1);
    if (t->irq == 0 || bars == 0) return E_UNSUPPORTED;
    status = bar_map(t, (uint32_t)__builtin_ctz(bars), m.w[4], m.w[3], m.w[2] >> 32);
    void *config;
    if (status == OK) status = map_new(m.w[6], 1, RIGHT_READ, &config);
    if (status == OK) status = capabilities_parse(t, config);
    return status == OK ? sys_dma_attach(t->dma) : status;
}

status_t transport_reset(struct transport *t)
{
    t->common->device_status = 0;
    for (uint64_t deadline = 0; t->common->device_status != 0;) {
        uint64_t now = clock_ns();
        if (deadline == 0) deadline = now + RESET_WAIT_NS;
        if (now > deadline) return E_IO;
    }
    return sys_dma_reset_done(t->dma);
}

uint64_t transport_features(struct transport *t)
{
    t->common->device_feature_select = 0;
    uint64_t low = t->common->device_feature;
    t->common->device_feature_select = 1;
    return low | (uint64_t)t->common->device_feature << 32;
}

status_t transport_negotiate(struct transport *t, uint64_t features)
{
    const uint8_t started = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
    t->common->device_status = started;
    t->common->guest_feature_select = 0;
    t->common->guest_feature = (uint32_t)features;
    t->common->guest_feature_select = 1;
    t->common->guest_feature = (uint32_t)(features >> 32);
    t->common->device_status = started | VIRTIO_CONFIG_S_FEATURES_OK;
    return t->common->device_status & VIRTIO_CONFIG_S_FEATURES_OK ? OK : E_UNSUPPORTED;
}

status_t transport_queue_enable(struct transport *t, uint16_t entries, uint64_t desc, uint64_t avail,
                                uint64_t used, volatile uint16_t **notify)
{
    volatile struct virtio_pci_common_cfg *c = t->common;
    c->msix_config = VIRTIO_MSI_NO_VECTOR; /* capacity changes are not followed */
    c->queue_select = 0;
    if (c->queue_size < entries) return E_UNSUPPORTED;
    c->queue_size = entries;
    c->queue_msix_vector = 0;
    if (c->queue_msix_vector != 0) return E_UNSUPPORTED;
    uint64_t at = (uint64_t)c->queue_notify_off * t->notify_multiplier;
    if (at + sizeof(**notify) > t->notify_bytes) return E_UNSUPPORTED;
    *notify = (volatile uint16_t *)(t->notify + at);
    c->queue_desc_lo = (uint32_t)desc;
    c->queue_desc_hi = (uint32_t)(desc >> 32);
    c->queue_avail_lo = (uint32_t)avail;
    c->queue_avail_hi = (uint32_t)(avail >> 32);
    c->queue_used_lo = (uint32_t)used;
    c->queue_used_hi = (uint32_t)(used >> 32);
    c->queue_enable = 1;
    return OK;
}

void transport_driver_ok(struct transport *t)
{
    t->common->device_status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
                               VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK;
}

uint32_t transport_config32(const struct transport *t, uint32_t offset)
{
    if ((uint64_t)offset + 4 > t->config_bytes) return 0;
    return *(const volatile uint32_t *)(t->config + offset);
}

uint64_t transport_config64(const struct transport *t, uint32_t offset)
{
    uint8_t before;
    uint64_t value;
    /* A device that changes its configuration for ever is stopped by the start timeout. */
    do {
        before = t->common->config_generation;
        value = transport_config32(t, offset) | (uint64_t)transport_config32(t, offset + 4) << 32;
    } while (before != t->common->config_generation);
    return value;
}
