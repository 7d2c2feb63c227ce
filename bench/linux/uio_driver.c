/* SPDX-License-Identifier: BSD-2-Clause
 * The UIO driver: a process that drives the virtio-blk device (virtio 1.2, sections 4.1 and 5.2) through
 * uio_pci_generic, with the device's INTx line. Keeps 32 reads of random blocks with the device until somebody
 * kills it. It checks every block that it reads. What it cannot do is reported like any other failure. */
#include "uio.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTORS (READ_BYTES / 512)

static struct uio_memory *memory;
static volatile struct virtio_pci_common_cfg *common;
static volatile uint16_t *doorbell;
static volatile uint8_t *interrupt_status;
static int config, uio;
static uint8_t space[256]; /* the device's configuration space */
static uint16_t used_seen;
static uint32_t idle = ~0u; /* bit mask of request slots that the device does not have */
static uint64_t place[DEPTH_MAX];

static uint8_t *bar_map(uint8_t bar)
{
    static uint8_t *mapped[6];
    struct stat file;
    char path[80];

    check(bar < 6, "the device's BAR");
    if (mapped[bar] != NULL) return mapped[bar];
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource%u", memory->function, bar);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    check(fd >= 0 && fstat(fd, &file) == 0, path);
    mapped[bar] = mmap(NULL, (size_t)file.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check(mapped[bar] != MAP_FAILED, path);
    close(fd);
    return mapped[bar];
}

static void structures_find(void)
{
    uint8_t *notify = NULL;
    uint32_t multiplier = 0;

    for (uint8_t at = space[PCI_CAPABILITY_LIST]; at != 0; at = space[at + PCI_CAP_LIST_NEXT]) {
        struct virtio_pci_cap cap;
        if (space[at] != PCI_CAP_ID_VNDR || at > sizeof(space) - sizeof(cap) - sizeof(multiplier)) continue;
        memcpy(&cap, &space[at], sizeof(cap));
        if (cap.cfg_type < VIRTIO_PCI_CAP_COMMON_CFG || cap.cfg_type > VIRTIO_PCI_CAP_ISR_CFG) continue;
        uint8_t *structure = bar_map(cap.bar) + cap.offset;
        if (cap.cfg_type == VIRTIO_PCI_CAP_COMMON_CFG) common = (void *)structure;
        if (cap.cfg_type == VIRTIO_PCI_CAP_ISR_CFG) interrupt_status = structure;
        if (cap.cfg_type != VIRTIO_PCI_CAP_NOTIFY_CFG) continue;
        notify = structure;
        memcpy(&multiplier, &space[at + sizeof(cap)], sizeof(multiplier));
    }
    check(common != NULL && interrupt_status != NULL && notify != NULL, "the device's structures");
    common->queue_select = 0;
    doorbell = (volatile uint16_t *)(notify + (size_t)common->queue_notify_off * multiplier);
}

static void command_write(uint16_t value)
{
    check(pwrite(config, &value, sizeof(value), PCI_COMMAND) == sizeof(value), "the command register");
}

static void device_open(void)
{
    char path[80];

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", memory->function);
    config = open(path, O_RDWR | O_CLOEXEC);
    uio = open(UIO_DEVICE, O_RDWR | O_CLOEXEC);
    check(config >= 0 && uio >= 0 && pread(config, space, sizeof(space), 0) == sizeof(space), path);
    command_write(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
    structures_find();
}

static uint64_t features_offered(void)
{
    common->device_feature_select = 1;
    uint64_t high = common->device_feature;
    common->device_feature_select = 0;
    return high << 32 | common->device_feature;
}

static void features_set(void)
{
    uint64_t wanted = 1ul << VIRTIO_F_VERSION_1 | 1ul << VIRTIO_F_ACCESS_PLATFORM;
    uint64_t taken = features_offered() & wanted;

    common->guest_feature_select = 0;
    common->guest_feature = (uint32_t)taken;
    common->guest_feature_select = 1;
    common->guest_feature = (uint32_t)(taken >> 32);
    common->device_status |= VIRTIO_CONFIG_S_FEATURES_OK;
    check((common->device_status & VIRTIO_CONFIG_S_FEATURES_OK) != 0, "the features");
}

static void address_set(volatile uint32_t *low, volatile uint32_t *high, const volatile void *at)
{
    uint64_t physical = uio_physical(memory, at);

    *low = (uint32_t)physical;
    *high = (uint32_t)(physical >> 32);
}

static void device_start(void)
{
    common->device_status = 0;
    while (common->device_status != 0) continue;
    common->device_status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
    features_set();
    memory->available.flags = memory->available.index = 0;
    memory->used.flags = memory->used.index = 0;
    memory->flying = 0;
    common->queue_select = 0;
    common->queue_size = QUEUE_SIZE;
    address_set(&common->queue_desc_lo, &common->queue_desc_hi, memory->descriptor);
    address_set(&common->queue_avail_lo, &common->queue_avail_hi, &memory->available);
    address_set(&common->queue_used_lo, &common->queue_used_hi, &memory->used);
    common->queue_enable = 1;
    common->device_status |= VIRTIO_CONFIG_S_DRIVER_OK;
}

static uint64_t place_next(void)
{
    memory->random ^= memory->random << 13;
    memory->random ^= memory->random >> 7;
    memory->random ^= memory->random << 17;
    return memory->random % memory->places;
}

static void read_submit(void)
{
    uint16_t slot = (uint16_t)__builtin_ctz(idle), head = (uint16_t)(slot * 3);
    struct uio_request *r = &memory->request[slot];
    struct vring_desc *d = &memory->descriptor[head];

    place[slot] = place_next();
    *r = (struct uio_request){.type = VIRTIO_BLK_T_IN, .sector = place[slot] * SECTORS, .status = 0xff};
    d[0] = (struct vring_desc){uio_physical(memory, r), 16, VRING_DESC_F_NEXT, (uint16_t)(head + 1)};
    d[1] = (struct vring_desc){uio_physical(memory, memory->data[slot]), READ_BYTES,
                               VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, (uint16_t)(head + 2)};
    d[2] = (struct vring_desc){uio_physical(memory, &r->status), 1, VRING_DESC_F_WRITE, 0};
    memory->available.ring[memory->available.index % QUEUE_SIZE] = head;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    memory->available.index++;
    memory->flying++;
    idle &= idle - 1;
}

static uint32_t reads_take(void)
{
    uint32_t n = 0;

    for (; used_seen != memory->used.index; used_seen++, n++) {
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        uint32_t slot = memory->used.ring[used_seen % QUEUE_SIZE].id / 3;
        uint64_t stamp;
        memcpy(&stamp, memory->data[slot], sizeof(stamp));
        check(memory->request[slot].status == VIRTIO_BLK_S_OK && stamp == place[slot], "a read");
        idle |= 1u << slot;
        memory->flying--;
        memory->reads++;
    }
    return n;
}

/* The kernel's handler has disabled INTx when read() returns; the status register takes the line down. */
static void interrupt_wait(void)
{
    uint32_t count;

    command_write(PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    check(read(uio, &count, sizeof(count)) == sizeof(count), UIO_DEVICE);
    (void)*interrupt_status;
}

void uio_driver(void)
{
    bool first = true;

    memory = mmap(NULL, sizeof(*memory), PROT_READ | PROT_WRITE, MAP_SHARED, UIO_MEMORY_FD, 0);
    check(memory != MAP_FAILED, "the memory of the UIO driver");
    device_open();
    device_start();
    for (;;) {
        while (idle != 0) read_submit();
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        *doorbell = 0;
        if (reads_take() == 0) {
            interrupt_wait();
        } else if (first) {
            check(write(UIO_FIRST_FD, "", 1) == 1, "the report of the first read");
            first = false;
        }
    }
}
