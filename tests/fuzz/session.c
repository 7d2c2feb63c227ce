/* SPDX-License-Identifier: BSD-2-Clause
 * What a client believes of a driver that writes anything, at any time, into a session's shared pages
 * (lib/session_block.c, lib/session_stream.c). Input: records, each something that the client does or that
 * the driver writes. The target keeps its own account of what is outstanding: each request is delivered at
 * most once, only as completed, and surely once it is. */
#include "runtime.h"
#include "abi/session.h"
#include "abi/protocol.h"

#define SLOTS 5u
#define DATA  (SLOTS * SECTOR_SIZE)

static struct session_request request;
static struct session_ledger ledger;
static struct session_hint hint;
static uint8_t data_page[2 * STREAM_RING];
static uint64_t complaints;

static const struct startup *startup(void)
{
    static const struct startup s = {.tag = TAG_MAKE(3, 1)};
    return &s;
}
static const struct startup_cap *cap_entry(const char *name)
{
    static const struct startup_cap c = {.name = "disk", .value = 2};
    return name[0] == 'd' ? &c : NULL;
}
static handle_t cap_find(const char *name) { return name[0] == 'r' ? 100 : 0; }
static status_t sys_signal(handle_t n, uint64_t bits)
{
    check(n == 9 && bits == 4);
    return OK;
}
static struct sys_result sys_wait(handle_t n) { return (struct sys_result){n ? OK : E_HANDLE, 1, 0}; }
static struct sys_result sys_signal_wait(handle_t n, uint64_t bits, handle_t own)
{
    (void)sys_signal(n, bits);
    return sys_wait(own);
}
static struct sys_result sys_notification_create(tag_t tag)
{
    return (struct sys_result){OK, 5 + tag * 0, 0};
}
static status_t sys_cap_delete(handle_t h) { return h ? OK : E_HANDLE; }
static struct sys_result sys_cap_derive(handle_t h, uint32_t rights, uint64_t badge)
{
    check(!(rights & RIGHT_READ) && badge == 0); /* what is sent along may only signal */
    return (struct sys_result){OK, h + 1, 0};
}
static status_t map_new(handle_t memory, uint64_t pages, uint32_t prot, void **out)
{
    static void *const at[] = {&request, &ledger, &hint, data_page};
    check(memory >= 10 && memory < 14 && pages <= 2 && (memory != 11 || prot == RIGHT_READ));
    *out = at[memory - 10];
    return OK;
}
static status_t service_call(handle_t endpoint, uint16_t label, struct message *m)
{
    check(endpoint == 100);
    if (label == RECOVERY_COMPLAIN) complaints++;
    if (label == RECOVERY_OPEN) *m = (struct message){.w = {77, 4, 8, 10, 11, 12, 13, 9}};
    return OK;
}

#include "lib/session_block.c"
#include "lib/session_stream.c"

static struct block_session s;
static uint64_t waits[SLOTS]; /* id of the request in a slot; 0: none */
static uint64_t last_id, outstanding;

static bool entry_done(uint32_t i)
{
    const struct session_entry *e = &ledger.entry[i];
    return e->completed_id == waits[i] && e->issued_id == waits[i] && e->status < STATUS_COUNT;
}

static void submit(uint64_t how)
{
    int i = block_submit(&s, (enum block_op)(how & 3), how >> 2, SECTOR_SIZE, (how & 7) * 8);
    check((i < 0) == (outstanding == SLOTS));
    if (i < 0) return;
    check((uint32_t)i < SLOTS && waits[i] == 0 && request.slot[i].id == last_id + 1);
    waits[i] = ++last_id;
    outstanding++;
}

static void take_some(uint32_t max)
{
    struct block_done done[SLOTS];
    bool woken =
        request.client_waiting && !hint.complete; /* for nothing, as far as hints go: it looks everywhere */
    uint64_t said = (woken ? ~0ul : hint.complete | s.ready) & ((1ul << SLOTS) - 1), sure = 0,
             wrong = s.violations;
    for (uint32_t i = 0; i < SLOTS; i++) sure += waits[i] && (said >> i & 1) && entry_done(i);
    uint32_t n = block_take(&s, done, max);
    check(n <= max && n <= sure && (n == sure || n == max));
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = done[k].slot;
        check(i < SLOTS && (said >> i & 1) && waits[i] == done[k].id && entry_done(i));
        check((uint32_t)done[k].status == ledger.entry[i].status && request.slot[i].id == 0);
        waits[i] = 0;
        outstanding--;
    }
    check(s.violations - wrong <= SLOTS && complaints <= s.violations);
}

static void block_run(struct input *in)
{
    memset(&s, 0, sizeof s);
    memset(waits, 0, sizeof waits);
    last_id = outstanding = 0;
    check(block_open(&s, "absent", SLOTS, DATA, 0) == E_NOT_FOUND);
    check(block_open(&s, "disk", SESSION_SLOTS_MAX + 1, DATA, 0) == E_ARGUMENT);
    check(block_open(&s, "disk", SLOTS, DATA, 0) == OK);
    while (in->left) {
        uint64_t what = take(in, 1);
        uint32_t slot = (uint32_t)(what >> 4) % SLOTS;
        switch (what % 8) {
        case 0:
        case 1: submit(what >> 3); break;
        case 2: take_some(1 + (uint32_t)(what >> 3) % SLOTS); break;
        case 3: block_kick(&s); break;
        case 4: ledger.entry[slot].issued_id = ledger.entry[slot].completed_id = request.slot[slot].id; break;
        case 5: patch(in, (uint8_t *)ledger.entry, SLOTS * sizeof ledger.entry[0]); break;
        case 6: hint.complete |= what & 8 ? ~0ul : 1ul << slot; break;
        default:
            check(!block_arm(&s) || request.client_waiting == 1);
            patch(in, (uint8_t *)&hint, sizeof hint);
        }
        uint64_t busy = 0;
        for (uint32_t i = 0; i < SLOTS; i++) busy |= (uint64_t)(waits[i] != 0) << i;
        check(s.busy == busy && (block_close(&s) == E_BUSY) == (busy != 0));
    }
}

/* --- Streams ------------------------------------------------------------------------------------------- */

static struct session_stream_client *const client = (void *)&request;
static struct session_stream_driver *const driver = (void *)&ledger;

/* What was moved is what there was room or input for, and no more; nonsense moves nothing. */
static void stream_move(struct stream_session *t, bool out, uint32_t n)
{
    static uint8_t bytes[2 * STREAM_RING];
    uint32_t used = out ? client->tx_head - driver->tx_tail : driver->rx_head - client->rx_tail;
    uint32_t tx = client->tx_head, rx = client->rx_tail, want = out ? STREAM_RING - used : used;
    uint8_t *exact = exact_copy(bytes, n);
    size_t moved = out ? stream_write(t, exact, n) : stream_read(t, exact, n);
    check(moved == (used > STREAM_RING ? 0 : want < n ? want : n));
    check(client->tx_head == tx + (out ? moved : 0) && client->rx_tail == rx + (out ? 0 : moved));
    free(exact);
}

static void stream_run(struct input *in)
{
    struct stream_session t;
    check(stream_open(&t, "disk", 0) == OK);
    while (in->left) {
        uint64_t what = take(in, 1);
        uint32_t n = (uint32_t)take(in, 1) << (what >> 4 & 7) & 0x1fff;
        switch (what % 8) {
        case 0:
        case 1: stream_move(&t, true, n); break;
        case 2:
        case 3: stream_move(&t, false, n); break;
        case 4: driver->tx_tail += n; break;
        case 5: driver->rx_head += n; break;
        case 6: patch(in, (uint8_t *)driver, sizeof *driver); break;
        default: check(!stream_arm(&t) || client->client_waiting == 1);
        }
        check(complaints <= t.violations);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    memset(&request, 0, sizeof request);
    memset(&ledger, 0, sizeof ledger);
    memset(&hint, 0, sizeof hint);
    complaints = 0;
    if (take(&in, 1) & 1)
        stream_run(&in);
    else
        block_run(&in);
    return 0;
}
