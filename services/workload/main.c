/* SPDX-License-Identifier: BSD-2-Clause
 * The storage workload: writes records at queue depth 1 and 32, reads some back, flushes now and then,
 * and logs every acknowledgement as a JSON line: a channel that is not the disk.
 * Owns one block session and RECORDS places of the disk from block 0.
 * Around each flush it logs {"flush":n} when it is handed in, after all acknowledgements until then, and
 * {"flushed":n} when it is done: what must survive a power cut from then on.
 * Invariants: write `seq` goes to record_place(seq); while any request for an older record of a place is
 * outstanding the place is not written; a write is logged as acknowledged exactly once, after its
 * completion with status OK.
 * It knows nothing of kills. If it dies it is a finding: it does not start again by itself. */
#include "abi/protocol.h"
#include "lib/session.h"
#include "record.h"

#define DEPTH_MAX     32u
#define PLACES_MAX    8192u
#define FLUSH_EVERY   2048u /* operations */
#define READ_ONE_IN   4u
#define ORDERS_EVERY  32u /* rounds between looks at the endpoint */
#define ACK_BATCH     96u
#define DEPTH_ONE_MS  40u /* the two phases take turns */
#define DEPTH_MANY_MS 160u

enum op_kind { OP_NONE, OP_WRITE, OP_READ, OP_FLUSH };

struct op { /* what is outstanding in a slot of the session */
    enum op_kind kind;
    uint32_t buffer;
    uint64_t id, seq;
};

static struct block_session disk;
static struct op op[SESSION_SLOTS_MAX];
static uint32_t outstanding;
static uint64_t buffers_free = (1ul << DEPTH_MAX) - 1;
static uint64_t seed, places, next_seq = 1, random_state, flushes;
static uint64_t acks[ACK_BATCH];
static uint32_t ack_count;
static bool place_failed[PLACES_MAX]; /* its latest write failed, or what is there is known to be wrong */
static uint64_t last_seq[PLACES_MAX]; /* acknowledged there last; 0: none */
static bool stopping, calm;           /* calm: works only when told to */
static struct {
    uint64_t acked, reads, verified, flushes, mismatch, duplicates, errors;
} total;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* --- Acknowledgements ---------------------------------------------------------------------------------- */

/* Logs the batch as inclusive ranges, in as many lines as the log's line length asks for. */
static void acks_log(void)
{
    char line[480];
    int at = 0;

    for (uint32_t i = 0; i < ack_count;) {
        uint32_t j = i;
        while (j + 1 < ack_count && acks[j + 1] == acks[j] + 1) j++;
        at += format(line + at, sizeof(line) - (size_t)at, "%s[%lu,%lu]", at ? "," : "", acks[i], acks[j]);
        i = j + 1;
        if (at > 400 || i == ack_count) {
            log_line("{\"ack\":[%s]}", line);
            at = 0;
        }
    }
    ack_count = 0;
}

static void ack_add(uint64_t seq)
{
    uint32_t i = ack_count++;

    for (; i > 0 && acks[i - 1] > seq; i--) acks[i] = acks[i - 1];
    acks[i] = seq;
    place_failed[record_place(seq, places)] = false;
    last_seq[record_place(seq, places)] = seq;
    total.acked++;
    if (ack_count == ACK_BATCH) acks_log();
}

/* A flush covers what was acknowledged before it is handed in. */
static void flush_log(uint64_t number)
{
    acks_log();
    log_line("{\"flush\":%lu}", number);
}

/* --- Requests -------------------------------------------------------------------------------------------- */

static struct record *buffer_at(uint32_t buffer)
{
    return (struct record *)(disk.data + buffer * RECORD_BYTES);
}

static bool op_submit(enum op_kind kind, uint64_t seq)
{
    static const enum block_op how[] = {
        [OP_WRITE] = BLOCK_WRITE, [OP_READ] = BLOCK_READ, [OP_FLUSH] = BLOCK_FLUSH};
    uint64_t place = record_place(seq, places), id = disk.next_id;
    uint32_t buffer = (uint32_t)__builtin_ctzl(buffers_free);

    if (kind == OP_WRITE) record_make(buffer_at(buffer), seq, place, seed);
    if (kind == OP_FLUSH) flush_log(++flushes);
    if (kind == OP_READ) buffer_at(buffer)->magic = 0; /* an old buffer must not pass for what was read */
    int slot = kind == OP_FLUSH ? block_submit(&disk, BLOCK_FLUSH, 0, 0, 0)
                                : block_submit(&disk, how[kind], place * (RECORD_BYTES / SECTOR_SIZE),
                                               RECORD_BYTES, buffer * RECORD_BYTES);
    if (slot < 0) return false;
    op[slot] = (struct op){.kind = kind, .buffer = buffer, .id = id, .seq = kind == OP_FLUSH ? flushes : seq};
    buffers_free &= ~(1ul << buffer);
    outstanding++;
    return true;
}

/* No request for an older record of seq's place is outstanding. */
static bool place_is_quiet(uint64_t seq)
{
    for (uint32_t i = 0; i < disk.slots; i++)
        if ((op[i].kind == OP_WRITE || op[i].kind == OP_READ) && op[i].seq + places <= seq) return false;
    return true;
}

/* The first write that is not yet complete: everything before it may be read back. */
static uint64_t first_unfinished(void)
{
    uint64_t first = next_seq;

    for (uint32_t i = 0; i < disk.slots; i++)
        if (op[i].kind == OP_WRITE && op[i].seq < first) first = op[i].seq;
    return first;
}

/* The oldest write whose place no later one was sent to. */
static uint64_t oldest_readable(void) { return next_seq > places ? next_seq - places : 1; }

static bool seq_failed(uint64_t seq) { return place_failed[record_place(seq, places)]; }

static bool issue_read(void)
{
    uint64_t low = oldest_readable(), end = first_unfinished();

    if (low >= end) return false;
    uint64_t seq = low + random_next() % (end - low);
    return !seq_failed(seq) && op_submit(OP_READ, seq);
}

static bool issue_next(void)
{
    static uint32_t since_flush;
    bool issued;

    if (since_flush >= FLUSH_EVERY) {
        issued = op_submit(OP_FLUSH, 0);
        if (issued) since_flush = 0;
        return issued;
    }
    since_flush++;
    if (random_next() % READ_ONE_IN == 0 && issue_read()) return true;
    if (!place_is_quiet(next_seq) || !op_submit(OP_WRITE, next_seq)) return false;
    next_seq++;
    return true;
}

static void op_failed(const struct op *o, status_t status)
{
    total.errors++;
    if (o->kind == OP_WRITE) place_failed[record_place(o->seq, places)] = true;
    log_line("{\"io_error\":{\"kind\":%u,\"seq\":%lu,\"status\":%u}}", (uint32_t)o->kind, o->seq,
             (uint32_t)status);
}

/* What is wrong is said once, and not read again until it is written anew. */
static void record_check(const struct record *r, uint64_t seq)
{
    uint64_t place = record_place(seq, places);

    if (record_good(r, seq, place, seed)) return;
    total.mismatch++;
    if (seq == last_seq[place]) place_failed[place] = true;
    log_line("{\"mismatch\":{\"seq\":%lu,\"place\":%lu,\"found_magic\":%lu,\"found_seq\":%lu}}", seq, place,
             r->magic, r->seq);
}

static void op_finish(const struct block_done *done)
{
    struct op o = op[done->slot];

    if (o.kind == OP_NONE || o.id != done->id) { /* delivered before, or never asked for */
        total.duplicates++;
        log_line("{\"duplicate\":{\"slot\":%u,\"id\":%lu}}", done->slot, done->id);
        return;
    }
    op[done->slot].kind = OP_NONE;
    outstanding--;
    if (done->status != OK)
        op_failed(&o, done->status);
    else if (o.kind == OP_WRITE)
        ack_add(o.seq);
    else if (o.kind == OP_READ) {
        total.reads++;
        record_check(buffer_at(o.buffer), o.seq);
    } else {
        total.flushes++;
        log_line("{\"flushed\":%lu}", o.seq);
    }
    buffers_free |= 1ul << o.buffer;
}

static void round_finish(void)
{
    struct block_done done[DEPTH_MAX];

    block_kick(&disk);
    uint32_t n = block_take(&disk, done, DEPTH_MAX);
    for (uint32_t i = 0; i < n; i++) op_finish(&done[i]);
    if (n == 0) block_wait(&disk);
}

/* --- The run --------------------------------------------------------------------------------------------- */

static uint32_t depth_now(void)
{
    uint64_t ms = clock_ns() / 1000000 % (DEPTH_ONE_MS + DEPTH_MANY_MS);

    return ms < DEPTH_ONE_MS ? 1 : DEPTH_MAX;
}

static void finish_all(void)
{
    while (outstanding > 0) round_finish();
}

static void places_check(uint64_t first, uint64_t count)
{
    for (uint32_t i = 0; i < count; i++) buffer_at(i)->magic = 0;
    status_t status = block_do(&disk, BLOCK_READ, first * (RECORD_BYTES / SECTOR_SIZE),
                               (uint32_t)(count * RECORD_BYTES), 0);
    if (status != OK) {
        op_failed(&(struct op){.kind = OP_READ, .seq = last_seq[first]}, status);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        if (last_seq[first + i] != 0 && !place_failed[first + i])
            record_check(buffer_at(i), last_seq[first + i]);
}

/* All that was acknowledged, in large reads with nothing else outstanding: after it, whatever is found wrong is news. */
static void sweep(void)
{
    finish_all();
    acks_log();
    for (uint64_t at = 0; at < places; at += DEPTH_MAX)
        places_check(at, places - at < DEPTH_MAX ? places - at : DEPTH_MAX);
}

/* Answers what waits on the endpoint: the orders of a running workload are STOP and SWEEP. */
static void orders_look(handle_t endpoint)
{
    struct message m = {0};

    if (sys_endpoint_info(endpoint, &m) != OK || m.w[0] == 0) return;
    if (sys_recv(endpoint, &m) != OK) return;
    bool stop = INFO_LABEL(m.info) == WORKLOAD_STOP, check = INFO_LABEL(m.info) == WORKLOAD_SWEEP;
    if (check) sweep();
    m.info = INFO_MAKE(stop || check ? OK : E_ARGUMENT, 0);
    (void)sys_reply(&m); /* a caller that died needs no answer */
    stopping = stopping || stop;
}

static void run(handle_t endpoint)
{
    for (uint64_t round = 0; !stopping; round++) {
        uint32_t depth = depth_now();
        while (outstanding < depth && issue_next()) {}
        round_finish();
        if (round % ORDERS_EVERY == 0) orders_look(endpoint);
    }
    while (outstanding > 0) round_finish();
    acks_log();
}

/* One record from the beginning to the end, with nothing else outstanding. */
static void one_request(void)
{
    uint64_t seq = next_seq;

    if (!op_submit(OP_WRITE, seq)) return;
    next_seq++;
    finish_all();
    (void)op_submit(OP_FLUSH, 0); /* all slots are free */
    finish_all();
    if (!seq_failed(seq)) (void)op_submit(OP_READ, seq);
    finish_all();
    acks_log();
}

static void run_calm(handle_t endpoint)
{
    for (struct message m = {0}; !stopping;) {
        if (sys_recv(endpoint, &m) != OK) fatal("workload: its endpoint is gone");
        stopping = INFO_LABEL(m.info) == WORKLOAD_STOP;
        bool one = INFO_LABEL(m.info) == WORKLOAD_ONE;
        if (one) one_request();
        m.info = INFO_MAKE(stopping || one ? OK : E_ARGUMENT, 0);
        (void)sys_reply(&m); /* a caller that died needs no answer */
    }
}

/* Everything that was written and not overwritten since, read once more. */
static void verify_all(void)
{
    uint64_t seq = oldest_readable();

    (void)op_submit(OP_FLUSH, 0);
    while (outstanding > 0) round_finish();
    while (seq < next_seq || outstanding > 0) {
        while (seq < next_seq && outstanding < DEPTH_MAX) {
            if (!seq_failed(seq)) {
                if (!op_submit(OP_READ, seq)) break;
                total.verified++;
            }
            seq++;
        }
        round_finish();
    }
}

static void totals_log(void)
{
    log_line("{\"workload\":{\"final\":true,\"written\":%lu,\"acked\":%lu,\"reads\":%lu,\"verified\":%lu,"
             "\"flushes\":%lu,\"mismatch\":%lu,\"duplicates\":%lu,\"errors\":%lu,\"violations\":%lu}}",
             next_seq - 1, total.acked, total.reads, total.verified, total.flushes, total.mismatch,
             total.duplicates, total.errors, disk.violations);
}

static void start_await(handle_t endpoint)
{
    struct message m = {0};

    for (;;) {
        if (sys_recv(endpoint, &m) != OK) fatal("workload: its endpoint is gone");
        bool start = INFO_LABEL(m.info) == WORKLOAD_START;
        seed = m.w[0];
        calm = m.w[1] != 0;
        m.info = INFO_MAKE(start ? OK : E_ARGUMENT, 0);
        (void)sys_reply(&m); /* a caller that died needs no answer */
        if (start) return;
    }
}

static void disk_open(void)
{
    status_t status = block_open(&disk, "virtio_blk", DEPTH_MAX, DEPTH_MAX * RECORD_BYTES, 0);

    if (status != OK)
        fatal("{\"fatal\":\"workload: no session with virtio_blk, status %u\"}", (uint32_t)status);
    status = block_do(&disk, BLOCK_INFO, 0, SECTOR_SIZE, 0);
    if (status != OK)
        fatal("{\"fatal\":\"workload: the disk does not answer, status %u\"}", (uint32_t)status);
    places = ((const struct block_info *)disk.data)->sectors / (RECORD_BYTES / SECTOR_SIZE);
    if (places > PLACES_MAX) places = PLACES_MAX;
    if (places < 4 * DEPTH_MAX) fatal("{\"fatal\":\"workload: the disk is too small\"}");
}

int main(void)
{
    handle_t endpoint = cap_find("endpoint");
    struct message m = {.info = INFO_REPLAYABLE};

    if (service_call(cap_find("supervisor"), SUPERVISOR_READY, &m) != OK)
        fatal("workload: not accepted as ready");
    start_await(endpoint);
    disk_open();
    random_state = seed | 1;
    log_line("{\"workload\":{\"start\":true,\"seed\":%lu,\"places\":%lu,\"stride\":%lu}}", seed, places,
             RECORD_STRIDE);
    if (calm)
        run_calm(endpoint);
    else
        run(endpoint);
    verify_all();
    totals_log();
    for (;;) start_await(endpoint); /* rests: a second run would need a fresh disk */
}
