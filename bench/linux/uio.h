/* SPDX-License-Identifier: BSD-2-Clause
 * What the supervisor of the UIO driver (uio.c) and the driver (uio_driver.c) share: a memory file with the
 * queue and the buffers, and a pipe on which each incarnation reports its first completion. The supervisor owns
 * the memory and has looked up its physical addresses, which a new incarnation need not do again: that
 * favours Linux. */
#ifndef COPPICE_BENCH_LINUX_UIO_H
#define COPPICE_BENCH_LINUX_UIO_H

#include "bench.h"
#include <linux/virtio_ring.h>

#define UIO_MEMORY_FD 10 /* descriptors that the driver inherits */
#define UIO_FIRST_FD  11
#define UIO_DEVICE    "/dev/uio0"
#define QUEUE_SIZE    128u /* 3 descriptors a read */

struct uio_request { /* one read: header and status byte */
    uint32_t type, reserved;
    uint64_t sector;
    uint8_t status, rest[15];
};

struct uio_memory {
    uint64_t places;                  /* 4 KiB blocks of the disk */
    uint64_t random;                  /* seed of the next incarnation */
    volatile uint64_t reads;          /* completed, by all incarnations */
    volatile uint32_t flying;         /* reads that the device has */
    char function[16];                /* the device, 0000:00:03.0 */
    uint64_t physical[8 + DEPTH_MAX]; /* of the pages of this structure, in order */
    /* each of the following begins a page and lies within one */
    struct vring_desc descriptor[QUEUE_SIZE] __attribute__((aligned(PAGE)));
    struct {
        volatile uint16_t flags, index, ring[QUEUE_SIZE];
    } available __attribute__((aligned(PAGE)));
    struct {
        volatile uint16_t flags, index;
        struct vring_used_elem ring[QUEUE_SIZE];
    } used __attribute__((aligned(PAGE)));
    struct uio_request request[DEPTH_MAX] __attribute__((aligned(PAGE)));
    uint8_t data[DEPTH_MAX][READ_BYTES] __attribute__((aligned(PAGE)));
};
_Static_assert(sizeof(struct uio_memory) <= (8 + DEPTH_MAX) * PAGE, "physical[]");

static inline uint64_t uio_physical(const struct uio_memory *m, const volatile void *at)
{
    size_t offset = (size_t)((const volatile uint8_t *)at - (const volatile uint8_t *)m);
    return m->physical[offset / PAGE] + offset % PAGE;
}

#endif
