/* SPDX-License-Identifier: BSD-2-Clause
 * The disk through the kernel's virtio_blk: 4 KiB reads past the page cache at two depths, and how long it
 * takes to unbind the driver, bind it again and read. Depth 1 is pread; depth 32 is io_uring with everything
 * registered that can be, because that is the cheapest way Linux has. */
#include "bench.h"
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define BATCHES      12u
#define SECTOR       512u
#define RING_ENTRIES 64u

static struct samples busy, elapsed;
static uint8_t buffer[DEPTH_MAX][READ_BYTES] __attribute__((aligned(PAGE)));
static uint64_t places;
static int disk = -1;

static void disk_open(void)
{
    disk = open(DISK, O_RDONLY | O_DIRECT | O_CLOEXEC);
    check(disk >= 0, DISK);
}

/* Every block begins with its own number (bench/peers.py made the disk so). */
static void block_check(const uint8_t *data, uint64_t place)
{
    uint64_t stamp;

    memcpy(&stamp, data, sizeof(stamp));
    check(stamp == place, "the block that was asked for");
}

static void read_one(uint64_t place)
{
    check(pread(disk, buffer[0], READ_BYTES, (off_t)(place * READ_BYTES)) == READ_BYTES, "a read");
}

uint64_t disk_first_read(void)
{
    disk_open();
    read_one(1);
    uint64_t at = ticks();
    block_check(buffer[0], 1);
    close(disk);
    return at;
}

bool disk_confined(void) { return access("/sys/block/vda/device/../iommu_group", F_OK) == 0; }

/* --- Depth 32 ---------------------------------------------------------------------------------------------- */

static struct {
    int fd;
    uint32_t *tail, *mask, *done_head, *done_tail, *done_mask, *array;
    struct io_uring_sqe *entry;
    struct io_uring_cqe *done;
    uint32_t idle, outstanding; /* idle: bit mask of buffers without a request */
    uint64_t place[DEPTH_MAX];
} ring;

static void *ring_map(size_t bytes, off_t what)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, what);

    check(at != MAP_FAILED, "io_uring's memory");
    return at;
}

static void ring_register(void)
{
    struct iovec whole = {.iov_base = buffer, .iov_len = sizeof(buffer)};

    check(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_BUFFERS, &whole, 1) == 0 &&
              syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES, &disk, 1) == 0,
          "registering with io_uring");
}

static void ring_open(void)
{
    struct io_uring_params p = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};

    ring.fd = (int)syscall(SYS_io_uring_setup, RING_ENTRIES, &p);
    check(ring.fd >= 0, "io_uring");
    uint8_t *sq = ring_map(p.sq_off.array + p.sq_entries * sizeof(uint32_t), IORING_OFF_SQ_RING);
    uint8_t *cq = ring_map(p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
    ring.entry = ring_map(p.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
    ring.tail = (uint32_t *)(sq + p.sq_off.tail), ring.mask = (uint32_t *)(sq + p.sq_off.ring_mask);
    ring.array = (uint32_t *)(sq + p.sq_off.array);
    ring.done_head = (uint32_t *)(cq + p.cq_off.head), ring.done_tail = (uint32_t *)(cq + p.cq_off.tail);
    ring.done_mask = (uint32_t *)(cq + p.cq_off.ring_mask);
    ring.done = (struct io_uring_cqe *)(cq + p.cq_off.cqes);
    ring.idle = ~0u;
    ring.outstanding = 0;
    ring_register();
}

/* Gives the disk back at once: closing alone does so some time later. */
static void ring_close(void)
{
    check(syscall(SYS_io_uring_register, ring.fd, IORING_UNREGISTER_FILES, NULL, 0) == 0 &&
              syscall(SYS_io_uring_register, ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0,
          "leaving io_uring");
    close(ring.fd);
}

static void ring_submit(void)
{
    uint32_t at = (*ring.tail)++ & *ring.mask, slot = (uint32_t)__builtin_ctz(ring.idle);

    ring.place[slot] = random_next() % places;
    ring.entry[at] = (struct io_uring_sqe){.opcode = IORING_OP_READ_FIXED,
                                           .flags = IOSQE_FIXED_FILE,
                                           .off = ring.place[slot] * READ_BYTES,
                                           .addr = (uintptr_t)buffer[slot],
                                           .len = READ_BYTES,
                                           .user_data = slot};
    ring.array[at] = at;
    ring.idle &= ring.idle - 1;
    ring.outstanding++;
}

static uint32_t ring_take(void)
{
    uint32_t n = 0, head = *ring.done_head, tail = __atomic_load_n(ring.done_tail, __ATOMIC_ACQUIRE);

    for (; head != tail; head++, n++) {
        struct io_uring_cqe *done = &ring.done[head & *ring.done_mask];
        check(done->res == (int)READ_BYTES, "a read");
        block_check(buffer[done->user_data], ring.place[done->user_data]);
        ring.idle |= 1u << done->user_data;
    }
    __atomic_store_n(ring.done_head, head, __ATOMIC_RELEASE);
    ring.outstanding -= n;
    return n;
}

/* Keeps 32 reads outstanding: one system call hands over what is new and waits for what is done. */
static uint32_t ring_round(bool refill)
{
    uint32_t before = ring.outstanding;

    while (refill && ring.outstanding < DEPTH_MAX) ring_submit();
    __atomic_thread_fence(__ATOMIC_RELEASE);
    long n =
        syscall(SYS_io_uring_enter, ring.fd, ring.outstanding - before, 1, IORING_ENTER_GETEVENTS, NULL, 0);
    check(n == (long)(ring.outstanding - before), "io_uring_enter");
    return ring_take();
}

/* --- Batches ------------------------------------------------------------------------------------------------ */

static uint32_t reads_round(uint32_t depth)
{
    if (depth > 1) return ring_round(true);
    uint64_t place = random_next() % places;
    read_one(place);
    block_check(buffer[0], place);
    return 1;
}

/* One batch: at least `reads` of them; ticks a read, and busy ticks a read. */
static void reads_batch(uint32_t depth, uint32_t reads, bool count)
{
    uint32_t n = 0;
    uint64_t idle = idle_ticks(), begin = ticks();

    while (n < reads) n += reads_round(depth);
    uint64_t taken = ticks() - begin;
    idle = idle_ticks() - idle;
    if (!count) return;
    samples_add(&elapsed, taken * 1000 / n);
    samples_add(&busy, (taken - idle) * 1000 / n);
}

static void measure_reads(uint32_t depth, uint32_t reads, const char *busy_name, const char *elapsed_name)
{
    reads_batch(depth, reads / 4, false);
    for (uint32_t i = 0; i < BATCHES; i++) reads_batch(depth, reads, true);
    samples_report(&busy, busy_name, 1000);
    samples_report(&elapsed, elapsed_name, 1000);
}

/* Numbers of reads as in bench/guest/storage.c. */
void suite_reads(bool instructions)
{
    places = file_number("/sys/block/vda/size", "%lu") * SECTOR / READ_BYTES;
    disk_open();
    measure_reads(1, instructions ? 200 : 1000, "read4k_qd1_busy", "read4k_qd1_elapsed");
    ring_open();
    measure_reads(DEPTH_MAX, instructions ? 1000 : 6000, "read4k_qd32_busy", "read4k_qd32_elapsed");
    while (ring.outstanding > 0) (void)ring_round(false);
    ring_close();
    close(disk);
}

/* --- Unbind and bind ------------------------------------------------------------------------------------------ */

void suite_rebind(uint32_t rounds)
{
    char link[256] = "";

    check(readlink("/sys/block/vda/device", link, sizeof(link) - 1) > 0, "the disk's device");
    const char *name = strrchr(link, '/') + 1; /* virtioN */
    for (uint32_t i = 0; i < rounds; i++) {
        uint64_t idle = idle_ticks(), begin = ticks();
        file_write("/sys/bus/virtio/drivers/virtio_blk/unbind", name);
        file_write("/sys/bus/virtio/drivers/virtio_blk/bind", name);
        uint64_t taken = disk_first_read() - begin;
        samples_add(&elapsed, taken);
        samples_add(&busy, taken - (idle_ticks() - idle));
    }
    samples_report(&busy, "rebind_busy", 1);
    samples_report(&elapsed, "rebind_elapsed", 1);
}
