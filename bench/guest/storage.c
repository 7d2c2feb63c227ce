/* SPDX-License-Identifier: BSD-2-Clause
 * The block driver as a client meets it: reads at two depths, and its deaths under load.
 * A recovery runs from the kill to the first completion that the new incarnation hands to this client. Its
 * beginning (DEATH) is read from the kernel's trace; its end and the idle time at both ends are marks that
 * this process writes into the same trace: MARK_BENCH, value = idle ticks << 1 | 1 at the end. */
#include "bench.h"
#include "abi/protocol.h"
#include "abi/trace.h"
#include "lib/session.h"

#define DEPTH_MAX         32u
#define READ_BYTES        4096u
#define READ_SECTORS      (READ_BYTES / SECTOR_SIZE)
#define BATCHES           12u
#define KILL_EVERY_MIN_MS 12ul /* with intensity 100 a second the service is never given up */
#define KILL_EVERY_SPREAD 8000000ul

static struct block_session disk;
static uint64_t places, random_state = 0x9e3779b97f4a7c15;
static uint32_t outstanding;
static struct samples busy, elapsed, switched;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void disk_open(void)
{
    if (disk.id != 0) return;
    check(block_open(&disk, "virtio_blk", DEPTH_MAX, DEPTH_MAX * READ_BYTES, 0), "a session with virtio_blk");
    check(block_do(&disk, BLOCK_INFO, 0, SECTOR_SIZE, 0), "BLOCK_INFO");
    places = ((const struct block_info *)disk.data)->sectors / READ_SECTORS;
    check(places >= 2 * DEPTH_MAX ? OK : E_NOT_FOUND, "a disk that is large enough");
}

uint64_t suite_boot(void)
{
    struct system_info info;

    disk_open();
    check(block_do(&disk, BLOCK_READ, READ_SECTORS, READ_BYTES, 0), "the first read");
    uint64_t at = ticks();
    check(sys_system_info(&info), "system information");
    return at - info.boot_tsc;
}

/* Until depth reads are outstanding. */
static void reads_submit(uint32_t depth)
{
    for (; outstanding < depth; outstanding++) {
        uint64_t sector = random_next() % places * READ_SECTORS;
        uint64_t buffer =
            (uint64_t)__builtin_ctzl(~disk.busy) * READ_BYTES; /* of the slot that it will get */
        window_round("read4k");
        check(block_submit(&disk, BLOCK_READ, sector, READ_BYTES, buffer) >= 0 ? OK : E_NO_SLOTS,
              "a free slot");
    }
    if (depth > 1)
        block_kick(&disk); /* the device works while we look; alone, block_wait tells it for less */
}

/* Takes what is done, waiting for it if there is nothing. */
static uint32_t reads_take(struct block_done *done)
{
    uint32_t n = block_take(&disk, done, DEPTH_MAX);
    if (n == 0) block_wait(&disk);
    for (uint32_t i = 0; i < n; i++) check(done[i].status, "a read");
    outstanding -= n;
    return n;
}

/* Keeps depth reads outstanding. */
static uint32_t reads_round(uint32_t depth, struct block_done *done)
{
    reads_submit(depth);
    return reads_take(done);
}

static void reads_drain(void)
{
    struct block_done done[DEPTH_MAX];

    while (outstanding > 0) {
        uint32_t n = block_take(&disk, done, DEPTH_MAX);
        if (n == 0) block_wait(&disk);
        outstanding -= n;
    }
}

/* One batch: at least `reads` of them; ticks a read, and busy ticks a read. */
static void reads_batch(uint32_t depth, uint32_t reads, bool count)
{
    struct block_done done[DEPTH_MAX];
    uint32_t n = 0;
    uint64_t switched_before = switches(), idle = idle_ticks(), begin = ticks();

    while (n < reads) n += reads_round(depth, done);
    uint64_t taken = ticks() - begin;
    idle = idle_ticks() - idle;
    if (!count) return;
    samples_add(&elapsed, taken * 1000 / n);
    samples_add(&busy, (taken - idle) * 1000 / n);
    samples_add(&switched, (switches() - switched_before) * 1000 / n);
}

static void measure_reads(uint32_t depth, uint32_t reads, const char *busy_name, const char *elapsed_name,
                          const char *switches_name)
{
    reads_batch(depth, reads / 4, false);
    for (uint32_t i = 0; i < BATCHES; i++) reads_batch(depth, reads, true);
    reads_drain();
    samples_report(&busy, busy_name, 1000);
    samples_report(&elapsed, elapsed_name, 1000);
    samples_report(&switched, switches_name, 1000);
}

void suite_reads(bool instructions)
{
    disk_open();
    measure_reads(1, instructions ? 200 : 1000, "read4k_qd1_busy", "read4k_qd1_elapsed",
                  "read4k_qd1_switches");
    measure_reads(DEPTH_MAX, instructions ? 1000 : 6000, "read4k_qd32_busy", "read4k_qd32_elapsed",
                  "read4k_qd32_switches");
}

/* --- Recovery ------------------------------------------------------------------------------------------------ */

static handle_t trace_cap;
static uint32_t generation; /* the newest incarnation that completed something for us */

static void mark(bool end)
{
    check(sys_trace_mark(trace_cap, MARK_BENCH, idle_ticks() << 1 | end), "a mark");
}

static uint64_t kill_due(void)
{
    return clock_ns() + arg_number("kill_every_ms", KILL_EVERY_MIN_MS) * 1000000 +
           random_next() % KILL_EVERY_SPREAD;
}

static void driver_kill(void)
{
    struct message m = {0};

    memcpy(m.w, "virtio_blk", sizeof("virtio_blk"));
    check(service_call(cap_find("supervisor"), SUPERVISOR_KILL, &m), "the kill");
}

/* Of what was taken: did an incarnation complete it that is newer than those we know? */
static bool newer(const struct block_done *done, uint32_t n)
{
    bool found = false;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t issued = disk.ledger->entry[done[i].slot].issued_gen;
        if (issued <= generation) continue;
        generation = issued;
        found = true;
    }
    return found;
}

/* It dies when it has just been given all reads: as a rule every one of them is with the device then. */
static void recover_once(struct block_done *done)
{
    uint64_t due = kill_due();
    uint32_t n = 0;

    while (n == 0 || clock_ns() < due) {
        n = reads_round(DEPTH_MAX, done);
        (void)newer(done, n);
    }
    reads_submit(DEPTH_MAX);
    mark(false);
    driver_kill();
    while (!newer(done, reads_take(done))) reads_submit(DEPTH_MAX);
    mark(true);
}

void suite_recovery(uint32_t kills)
{
    struct block_done done[DEPTH_MAX] = {0};

    disk_open();
    trace_cap = cap_find("trace");
    for (uint32_t i = 0; i < kills; i++) recover_once(done);
    reads_drain();
    log_line("{\"bench\":{\"recovered\":%u,\"violations\":%lu}}", kills, disk.violations);
}

/* --- Throughput under kills ------------------------------------------------------------------------------------ */

#define LOAD_NS   3000000000ul
#define SETTLE_NS 100000000ul /* between: the last kill is over, the spare stands */

static void reads_until(uint64_t end_ns)
{
    struct block_done done[DEPTH_MAX];

    while (clock_ns() < end_ns) (void)reads_round(DEPTH_MAX, done);
}

/* every_ns 0: no kill. The first comes after half of it, so that each one's recovery is inside. */
static void load_slice(uint64_t every_ns)
{
    struct block_done done[DEPTH_MAX];
    uint64_t reads = 0, kills = 0, begin = clock_ns(), next = every_ns ? begin + every_ns / 2 : ~0ul,
             now = begin;

    for (; now < begin + LOAD_NS; now = clock_ns()) {
        reads += reads_round(DEPTH_MAX, done);
        if (now < next) continue;
        driver_kill();
        next += every_ns;
        kills++;
    }
    log_line("{\"load\":{\"kills\":%lu,\"reads\":%lu,\"ns\":%lu,\"violations\":%lu}}", kills, reads,
             now - begin, disk.violations);
}

void suite_load(uint64_t rounds)
{
    static const uint64_t every_ns[] = {0, 1000000000ul, 100000000ul};

    for (uint64_t n = 0; n < rounds; n++)
        for (uint32_t i = 0; i < 3; i++) {
            reads_until(clock_ns() + SETTLE_NS);
            load_slice(every_ns[i]);
        }
    reads_drain();
    if (rounds != 0) log_line("{\"load\":{\"end\":true}}");
}
