/* SPDX-License-Identifier: BSD-2-Clause
 * What a driver believes of a client that writes anything, at any time, into a session's shared pages
 * (lib/driver_block.c). Input: records, each something that the client writes or that driver or device do;
 * a driver may die and the next take over. What reaches the device stays inside buffer and disk, once, and
 * was in the ledger before. */
#include "runtime.h"
#include "lib/driver_block.h"

#define SLOTS   5u
#define DATA    (4 * SECTOR_SIZE)
#define SECTORS 100u

static struct session_request request;
static struct session_ledger ledger;
static struct session_hint hint;
static uint8_t *data_page; /* exactly DATA bytes */
static struct driver d;
static struct driver_session *const s = &d.session[0];
static uint64_t with_device; /* bit i: slot i */
static uint32_t room;

/* No client may end its driver, whatever it writes. */
static _Noreturn void fatal(const char *text, ...)
{
    (void)text;
    abort();
}

uint8_t *driver_data(struct driver_session *of) { return of->data; }

#include "lib/driver_block.c"

static bool device_submit(struct driver *by, struct driver_session *of, uint32_t slot,
                          const struct session_slot *r)
{
    check(by == &d && of == s && slot < SLOTS && !(with_device >> slot & 1));
    check(r->id && ledger.entry[slot].issued_id == r->id && ledger.entry[slot].issued_gen == d.generation);
    check(r->op <= BLOCK_FLUSH);
    if (r->op != BLOCK_FLUSH) {
        check(r->length && r->length % SECTOR_SIZE == 0 && r->length <= d.ops->max_bytes);
        check((unsigned __int128)r->offset + r->length <= DATA);
        check((unsigned __int128)r->sector + r->length / SECTOR_SIZE <= SECTORS);
        check(r->op != BLOCK_WRITE || !(d.info.flags & BLOCK_READ_ONLY));
    }
    if (room == 0) return false;
    room--;
    with_device |= 1ul << slot;
    return true;
}

static const struct driver_ops ops = {
    .name = "disk", .class = SESSION_BLOCK, .submit = device_submit, .max_bytes = 2 * SECTOR_SIZE};

static void incarnation(bool first)
{
    uint32_t generation = first ? 1 : d.generation + 1;
    d = (struct driver){
        .ops = &ops, .generation = generation, .sectors = SECTORS, .one_by_one = generation > 4};
    *s = (struct driver_session){.id = 1,
                                 .class = SESSION_BLOCK,
                                 .slots = SLOTS,
                                 .data_bytes = DATA,
                                 .request = &request,
                                 .ledger = &ledger,
                                 .hint = &hint,
                                 .data = data_page};
    with_device = 0;
    room = SLOTS;
    if (!first) check(block_replay(&d, s) <= SLOTS);
}

static void device_done(uint32_t slot, status_t status)
{
    bool had = with_device >> slot & 1;
    uint64_t id = ledger.entry[slot].issued_id;
    check(driver_complete(&d, s, slot, status) == had);
    if (!had) return;
    check(ledger.entry[slot].completed_id == id && ledger.entry[slot].status == (uint32_t)status);
    check(!driver_complete(&d, s, slot, status));
    with_device &= ~(1ul << slot);
    room++;
}

static void account_check(void)
{
    check(s->issued == with_device);
    check(d.in_flight == (uint32_t)__builtin_popcountl(with_device));
    check(d.suspects == (uint32_t)__builtin_popcountl(s->suspects));
    check(!(s->issued >> SLOTS) && !(s->deferred >> SLOTS) && !(s->done >> SLOTS) && !(s->suspects >> SLOTS));
    check(!(s->issued & s->deferred));
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    struct input in = {input, size};
    if (!data_page) data_page = malloc(DATA);
    memset(&request, 0, sizeof request);
    memset(&ledger, 0, sizeof ledger);
    memset(&hint, 0, sizeof hint);
    incarnation(true);
    d.info.flags = (uint32_t)take(&in, 1) & BLOCK_READ_ONLY;
    while (in.left) {
        unsigned what = (unsigned)take(&in, 1), slot = what / 16 % SLOTS;
        struct session_slot *r = &request.slot[slot];
        switch (what % 8) {
        case 0:
        case 1:
            *r =
                (struct session_slot){r->id + 1, what >> 3 & 1, SECTOR_SIZE << (what >> 4 & 1), what >> 5, 0};
            hint.submit |= 1ul << slot;
            break;
        case 2: patch(&in, (uint8_t *)request.slot, SLOTS * sizeof *r); break;
        case 3: patch(&in, (uint8_t *)&hint, sizeof hint); break;
        case 4:
            d.full = d.passed = false; /* as each round begins */
            (void)block_serve(&d, s, what & 8);
            break;
        case 5: device_done(slot, what & 8 ? E_IO : OK); break;
        case 6:
            if (what & 8)
                block_report(s);
            else if (what >= 0xc0)
                incarnation(false);
            break;
        default: room = what >> 4 & 3;
        }
        account_check();
    }
    return 0;
}
