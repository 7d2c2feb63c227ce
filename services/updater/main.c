/* SPDX-License-Identifier: BSD-2-Clause
 * Live updates under load (README.md). Owns one block session with a place on the disk for each slot, which is written,
 * read and compared in turn. Nothing is retried but an order that came too early: a request that is lost is never
 * completed, and the run does not end; what is completed twice or with an error, or reads otherwise, is counted. */
#include "abi/manifest.h"
#include "abi/protocol.h"
#include "lib/session.h"

#define DEPTH         32u
#define BYTES         4096u
#define FIRST_SECTOR  2048u
#define BAD_ONE_IN    10u
#define EVERY_NS      30000000ul /* between two updates: the next spare stands then */
#define LOOK_NS       500000ul
#define COM2_STATUS   5u
#define COM2_RECEIVED 1u

static const char service[MANIFEST_NAME_MAX] = "virtio_blk", bad[MANIFEST_NAME_MAX] = "virtio_blk_v3";
static const char good[2][MANIFEST_NAME_MAX] = {"virtio_blk", "virtio_blk_v2"};

static struct block_session disk;
static struct {
    uint64_t seq;
    bool reads; /* what it does next, or is doing */
} slot[DEPTH];
static struct {
    uint64_t completed, verified, mismatched, errors;
} total;
static uint64_t gap_ns,
    last_ns; /* the longest time without a completion since the order; the last completion */

static struct {
    uint64_t wanted, n, next_ns, ordered_ns;
    bool waits;
    char to[MANIFEST_NAME_MAX];
} updates;

static void check(status_t status, const char *what)
{
    if (status != OK) fatal("{\"update\":{\"error\":\"%s: status %d\"}}", what, status);
}

/* --- Load ---------------------------------------------------------------------------------------------------- */

static uint64_t *buffer_of(uint32_t n) { return (uint64_t *)(disk.data + n * BYTES); }
static uint64_t word_of(uint32_t n, uint64_t i) { return (slot[n].seq << 16 | n) * 0x9e3779b97f4a7c15ul + i; }

static void submit(void)
{
    uint32_t n = (uint32_t)__builtin_ctzl(~disk.busy);

    if (!slot[n].reads) slot[n].seq++;
    for (uint64_t i = 0; i < BYTES / 8; i++) buffer_of(n)[i] = slot[n].reads ? 0 : word_of(n, i);
    if (block_submit(&disk, slot[n].reads ? BLOCK_READ : BLOCK_WRITE,
                     FIRST_SECTOR + n * (BYTES / SECTOR_SIZE), BYTES, n * BYTES) != (int)n)
        check(E_NO_SLOTS, "a free slot");
}

static void take(const struct block_done *done)
{
    uint32_t n = done->slot;
    bool same = true;

    total.completed++;
    if (done->status != OK) {
        total.errors++;
        return;
    }
    for (uint64_t i = 0; slot[n].reads && i < BYTES / 8; i++) same &= buffer_of(n)[i] == word_of(n, i);
    total.mismatched += !same;
    total.verified += slot[n].reads;
    slot[n].reads = !slot[n].reads;
}

static void load_round(void)
{
    struct block_done done[DEPTH];

    while (disk.busy != (1ul << DEPTH) - 1) submit();
    block_kick(&disk);
    uint32_t n = block_take(&disk, done, DEPTH);
    uint64_t now = clock_ns();
    if (now - last_ns > gap_ns) gap_ns = now - last_ns;
    if (n != 0) last_ns = now;
    for (uint32_t i = 0; i < n; i++) take(&done[i]);
    if (n == 0) block_wait(&disk);
}

/* --- Updates --------------------------------------------------------------------------------------------------- */

static uint64_t program_now(char name[MANIFEST_NAME_MAX])
{
    static uint64_t index;
    struct message m = {.w = {index}};

    if (index == 0) index = cap_entry(service)->value;
    m.w[0] = index;
    check(service_call(cap_find("supervisor"), SUPERVISOR_PROGRAM, &m), "which program");
    memcpy(name, m.w, MANIFEST_NAME_MAX);
    return m.w[3];
}

static void order(uint64_t now)
{
    char is[MANIFEST_NAME_MAX];
    struct message m = {0};

    (void)program_now(is);
    bool fails = updates.n % BAD_ONE_IN == BAD_ONE_IN - 1;
    memcpy(updates.to, fails ? bad : strcmp(is, good[0]) == 0 ? good[1] : good[0], sizeof(updates.to));
    memcpy(&m.w[0], service, sizeof(service));
    memcpy(&m.w[3], updates.to, sizeof(updates.to));
    gap_ns = 0;
    status_t status = service_call(cap_find("supervisor"), SUPERVISOR_UPDATE, &m);
    updates.next_ns = now + LOOK_NS;
    if (status == E_STATE || status == E_BUSY) return; /* a restart is under way */
    check(status, "an update");
    updates.ordered_ns = now;
    updates.waits = true;
}

/* It has become what it was to be, or what it was before: and the bad one must not stay. */
static void look(uint64_t now)
{
    char is[MANIFEST_NAME_MAX];
    uint64_t how = program_now(is);
    bool fails = strcmp(updates.to, bad) == 0, there = strcmp(is, updates.to) == 0, back = (how & 4) != 0;

    updates.next_ns = now + LOOK_NS;
    if ((how & 2) != 0 || (fails && !back) || (!there && !back)) return;
    log_line("{\"update\":{\"n\":%lu,\"to\":\"%s\",\"is\":\"%s\",\"rolled_back\":%u,\"gap_us\":%lu,\"took_"
             "us\":%lu,"
             "\"completed\":%lu,\"verified\":%lu,\"mismatched\":%lu,\"errors\":%lu,\"violations\":%lu}}",
             updates.n, updates.to, is, back, gap_ns / 1000, (now - updates.ordered_ns) / 1000,
             total.completed, total.verified, total.mismatched, total.errors, disk.violations);
    updates.waits = false;
    updates.n++;
    updates.next_ns = now + EVERY_NS;
}

/* A line with a number, from whoever holds the other end of COM2. */
static void com2_look(void)
{
    static uint64_t number;
    static handle_t ports;

    if (ports == 0) ports = cap_find("port:0x2f8");
    while ((sys_port_in(ports, COM2_STATUS, 1, NULL, NULL, 0).value & COM2_RECEIVED) != 0) {
        char c = (char)sys_port_in(ports, 0, 1, NULL, NULL, 0).value;
        if (c >= '0' && c <= '9') {
            number = number * 10 + (uint64_t)(c - '0');
        } else {
            updates.wanted += number;
            number = 0;
        }
    }
}

static void updates_round(uint64_t now)
{
    if (now < updates.next_ns) return;
    updates.next_ns = now + LOOK_NS;
    if (updates.waits)
        look(now);
    else if (updates.n < updates.wanted)
        order(now);
    else
        com2_look();
}

int main(void)
{
    struct message m = {.info = INFO_REPLAYABLE};

    check(block_open(&disk, service, DEPTH, DEPTH * BYTES, 0), "a session");
    check(service_call(cap_find("supervisor"), SUPERVISOR_READY, &m), "readiness");
    log_line("{\"update\":{\"begin\":true}}");
    for (last_ns = clock_ns();;) {
        load_round();
        updates_round(clock_ns());
    }
}
