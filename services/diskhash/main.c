/* SPDX-License-Identifier: BSD-2-Clause
 * Reads every block of the user's disk through its driver and logs the SHA-256 of the whole, which the
 * host compares with its own. Owns one block session, used as a ring of CHUNKs so that the disk is read
 * ahead while earlier chunks are hashed, in order. A read that fails ends it with an error line. */
#include "abi/protocol.h"
#include "lib/session.h"
#include "bearssl_hash.h"

#define DEPTH         16u
#define CHUNK         (32u << 10)
#define STEP          (4u << 10)
#define PROGRESS_EACH (16ul << 20)

static struct block_session disk;
static uint64_t bytes, chunks;                /* of the disk */
static uint64_t submitted, hashed;            /* chunks */
static bool arrived[DEPTH];                   /* chunk c is in buffer c % DEPTH */
static uint32_t buffer_of[SESSION_SLOTS_MAX]; /* by slot */

static uint32_t chunk_bytes(uint64_t chunk)
{
    uint64_t left = bytes - chunk * CHUNK;

    return left < CHUNK ? (uint32_t)left : CHUNK;
}

/* Half of the ring at a time: hashing is slower than reading, and one request after the other would hardly
 * ever leave one in flight. */
static void chunks_submit(void)
{
    if (submitted - hashed > DEPTH / 2) return;
    while (submitted < chunks && submitted - hashed < DEPTH) {
        uint32_t buffer = submitted % DEPTH;
        int slot = block_submit(&disk, BLOCK_READ, submitted * (CHUNK / SECTOR_SIZE), chunk_bytes(submitted),
                                buffer * CHUNK);
        if (slot < 0) break;
        buffer_of[slot] = buffer;
        submitted++;
    }
    block_kick(&disk);
}

static void chunks_take(void)
{
    struct block_done done[DEPTH];
    uint32_t n = block_take(&disk, done, DEPTH);

    for (uint32_t i = 0; i < n; i++) {
        if (done[i].status != OK)
            fatal("{\"diskhash\":{\"error\":%u,\"bytes\":%lu}}", (uint32_t)done[i].status, hashed * CHUNK);
        arrived[buffer_of[done[i].slot]] = true;
    }
    if (n == 0 && !arrived[hashed % DEPTH]) block_wait(&disk);
}

/* In small steps: the storage workload has the same priority and shall not wait for a whole chunk. */
static void chunk_hash(br_sha256_context *sha, uint64_t chunk)
{
    const uint8_t *data = disk.data + chunk % DEPTH * CHUNK;
    uint32_t left = chunk_bytes(chunk);

    while (left > 0) {
        uint32_t step = left < STEP ? left : STEP;
        br_sha256_update(sha, data, step);
        data += step;
        left -= step;
        sys_yield();
    }
}

static void disk_hash(br_sha256_context *sha)
{
    while (hashed < chunks) {
        chunks_submit();
        chunks_take();
        while (hashed < chunks && arrived[hashed % DEPTH]) {
            chunk_hash(sha, hashed);
            arrived[hashed++ % DEPTH] = false;
            chunks_submit();
            if (hashed * CHUNK % PROGRESS_EACH == 0)
                log_line("{\"diskhash\":{\"bytes\":%lu,\"of\":%lu}}", hashed * CHUNK, bytes);
        }
    }
}

static void digest_log(br_sha256_context *sha)
{
    uint8_t digest[br_sha256_SIZE];
    char hex[2 * br_sha256_SIZE + 1];

    br_sha256_out(sha, digest);
    for (uint32_t i = 0; i < br_sha256_SIZE; i++) (void)format(hex + 2 * i, 3, "%02x", digest[i]);
    log_line("{\"diskhash\":{\"final\":true,\"bytes\":%lu,\"sha256\":\"%s\"}}", bytes, hex);
}

static void start_await(handle_t endpoint)
{
    struct message m = {0};
    bool start = false;

    while (!start) {
        if (sys_recv(endpoint, &m) != OK) fatal("diskhash: its endpoint is gone");
        start = INFO_LABEL(m.info) == DISKHASH_START;
        m.info = INFO_MAKE(start ? OK : E_ARGUMENT, 0);
        (void)sys_reply(&m); /* a caller that died needs no answer */
    }
}

int main(void)
{
    static br_sha256_context sha;
    handle_t endpoint = cap_find("endpoint");
    struct message m = {.info = INFO_REPLAYABLE};

    if (service_call(cap_find("supervisor"), SUPERVISOR_READY, &m) != OK)
        fatal("diskhash: not accepted as ready");
    start_await(endpoint);
    status_t status = block_open(&disk, "virtio_disk", DEPTH, DEPTH * CHUNK, 0);
    if (status == OK) status = block_do(&disk, BLOCK_INFO, 0, SECTOR_SIZE, 0);
    if (status != OK) fatal("{\"diskhash\":{\"error\":%u,\"bytes\":0}}", (uint32_t)status);
    bytes = ((const struct block_info *)disk.data)->sectors * SECTOR_SIZE;
    chunks = (bytes + CHUNK - 1) / CHUNK;
    br_sha256_init(&sha);
    log_line("{\"diskhash\":{\"start\":true,\"of\":%lu}}", bytes);
    disk_hash(&sha);
    digest_log(&sha);
    for (;;) start_await(endpoint);
}
