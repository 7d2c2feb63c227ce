/* SPDX-License-Identifier: BSD-2-Clause
 * What the simulated processes do: drivers are lib/driver.c with a disk behind them, clients lib/session_block.c
 * with a book of what they must see; other services say READY and wait. A disk executes what it was given in
 * any order; what it has taken over from a driver that died, it may still write until its next reset. */
#include "user.h"

#include "lib/driver.c"
#include "lib/driver_block.c"
#undef RANGE_MASK
#include "lib/session_block.c"

static struct driver drivers[SERVICES_MAX];

/* --- Disks -------------------------------------------------------------------------------------------- */

static void request_execute(struct request *q)
{
    uint64_t sector = q->r.sector % SECTORS;

    if (q->r.op == BLOCK_WRITE) world.disk[sector] = q->captured ? q->value : *q->data;
    if (q->r.op == BLOCK_READ) *q->data = world.disk[sector];
    if (q->r.op == BLOCK_FLUSH) memcpy(world.stable, world.disk, sizeof(world.stable));
    q->executed = true;
}

static void device_remove(struct device *d, uint32_t n) { d->queue[n] = d->queue[--d->count]; }

/* The kernel ends its DMA: reads and flushes are gone; of a write the device may have all that it needs. */
void device_died(uint32_t i)
{
    struct device *d = &world.device[i];

    for (uint32_t n = d->count; n-- > 0;) {
        struct request *q = &d->queue[n];
        if (q->captured) continue;
        if (q->executed || q->r.op != BLOCK_WRITE || world_below(2)) {
            device_remove(d, n);
        } else {
            q->captured = true;
            q->value = *q->data;
        }
    }
}

bool device_runnable(uint32_t i)
{
    const struct device *d = &world.device[i];

    for (uint32_t n = 0; !d->stuck && n < d->count; n++)
        if (!d->queue[n].executed) return true;
    return false;
}

void device_turn(uint32_t i)
{
    struct device *d = &world.device[i];
    uint32_t n = world_below(d->count);

    while (d->queue[n].executed) n = (n + 1) % d->count;
    struct request *q = &d->queue[n];
    request_execute(q);
    if (!q->captured) {
        if (!d->deaf) signal_to(HANDLE_DOORBELL + i, DOORBELL_IRQ(0));
        return;
    }
    sometimes(LATE_WRITE, true);
    device_remove(d, n);
}

/* --- Drivers -------------------------------------------------------------------------------------------- */

struct disk_checkpoint {
    uint64_t value, inverse;
};

static bool disk_checkpoint_valid(const void *checkpoint)
{
    const struct disk_checkpoint *c = checkpoint;

    return c->inverse == ~c->value;
}

static status_t disk_reset(struct driver *d, const void *checkpoint)
{
    uint32_t i = world.running;
    struct device *device = &world.device[i];
    const struct disk_checkpoint *c = checkpoint;

    struct disk_checkpoint next = {.value = (c ? c->value : 0) + 1};
    next.value = next.value > world.own_steps[i] ? next.value : world.own_steps[i]; /* only grows */
    next.inverse = ~next.value;
    process_step();
#ifndef SIM_NO_DRAIN /* the device must be quiet before anything is replayed: DESIGN, idea 4 */
    while (device->count) {
        struct request *q = &device->queue[device->count - 1];
        if (!q->executed && world_below(2)) request_execute(q);
        device->count--;
        process_step();
    }
#endif
    device->stuck = device->deaf = false;
    d->sectors = SECTORS;
    return driver_checkpoint(d, &next);
}

static bool disk_submit(struct driver *d, struct driver_session *s, uint32_t slot,
                        const struct session_slot *r)
{
    uint32_t i = world.running;
    struct device *device = &world.device[i];
    uint8_t *data = driver_data(s);

    (void)d;
    process_step();
    if (device->count >= plan.room[i]) {
        sometimes(DEVICE_FULL, true);
        return false;
    }
    device->queue[device->count++] = (struct request){.session_index = s->index,
                                                      .slot = slot,
                                                      .session = s->id,
                                                      .id = r->id,
                                                      .r = *r,
                                                      .data = (uint64_t *)(data + r->offset)};
    process_step();
    return true;
}

static void disk_interrupt(struct driver *d, uint64_t bits)
{
    struct device *device = &world.device[world.running];

    (void)bits;
    process_step();
    for (uint32_t n = 0; n < device->count;) {
        struct request q = device->queue[n];
        if (!q.executed || q.captured) {
            n++;
            continue;
        }
        device_remove(device, n);
        process_step(); /* taken from the device, not yet in the ledger */
        struct driver_session *s = &d->session[q.session_index];
        if (s->id != q.session) sim_fail("a completion of session %lu, which is gone", q.session);
        if (!driver_complete(d, s, q.slot, OK)) sim_fail("request %lu is not with the device", q.id);
        process_step();
    }
}

static bool disk_unheard(struct driver *d)
{
    const struct device *device = &world.device[world.running];

    (void)d;
    for (uint32_t n = 0; n < device->count; n++)
        if (device->queue[n].executed && !device->queue[n].captured) return true;
    return false;
}

static const struct driver_ops disk_ops = {.name = "disk",
                                           .class = SESSION_BLOCK,
                                           .checkpoint_version = 1,
                                           .checkpoint_bytes = sizeof(struct disk_checkpoint),
                                           .checkpoint_valid = disk_checkpoint_valid,
                                           .reset = disk_reset,
                                           .submit = disk_submit,
                                           .interrupt = disk_interrupt,
                                           .unheard = disk_unheard};

static uint64_t run_driver(uint32_t i)
{
    struct driver *d = &drivers[i];

    memset(d, 0, sizeof(*d));
    status_t status = driver_start(d, &disk_ops);
    sometimes(START_FAILED, status != OK);
    if (status == OK) driver_serve(d);
    return status;
}

/* Nonsense of six kinds. Whoever does the second and lives may make a well-formed lie of it by going on (CAVEATS.md):
 * it dies at once. */
static void entry_scribble(struct driver_session *s, uint32_t slot, uint32_t arg)
{
    struct session_entry *e = &s->ledger->entry[slot];
    uint64_t id = s->request->slot[slot].id;

    switch (arg / 64 % 6) {
    case 0: e->completed_id = id + 1000 + arg; break;
    case 1:
        if (id == 0) break;
        e->issued_id = 0;
        e->completed_id = id;
        break;
    case 2:
        if (id == 0) break;
        e->status = 0xffff;
        e->issued_id = e->completed_id = id;
        break;
    case 3: e->issued_gen = arg; break;
    case 4: s->hint->complete = s->hint->submit = arg * 0x9e3779b97f4a7c15ull; break;
    default: s->ledger->driver_waiting = 0xdead; break;
    }
}

bool ledger_scribble(uint32_t i, uint32_t arg)
{
    struct driver *d = &drivers[i];

    if (plan.role[i] != ROLE_DRIVER || pagesets_mapped(&world.process[i]) == 0) return false;
    for (uint32_t n = 0; n < DOORBELL_SESSIONS; n++) {
        struct driver_session *s = &d->session[n];
        if (s->id == 0 || s->ledger == NULL || s->hint == NULL || s->request == NULL) continue;
        sometimes(SCRIBBLED, true);
        entry_scribble(s, arg / 8 % s->slots, arg);
        break;
    }
    return arg % 4 != 0 || arg / 64 % 6 == 1;
}

/* --- Clients ---------------------------------------------------------------------------------------------- */

#define UNKNOWN UINT64_MAX /* a poisoned write: done or not */

struct client {
    struct block_session s;
    uint64_t rng;
    uint32_t i, base; /* its first sector */
    uint32_t sectors; /* that it uses: few are written often */
    uint32_t taken;   /* bit n: sector n has a request */
    uint32_t submitted, completed, requests;
    uint32_t values; /* written by this incarnation */
};
static struct client clients[SERVICES_MAX];

void client_born(uint32_t i) { memset(&world.client[i], 0, sizeof(world.client[i])); }

static uint64_t *buffer_of(struct client *c, uint32_t slot)
{
    return (uint64_t *)(c->s.data + slot * SECTOR_SIZE);
}

static void request_submit(struct client *c)
{
    struct client_memory *book = &world.client[c->i];
    uint32_t slot = (uint32_t)__builtin_ctzl(~c->s.busy), draw = sim_below(&c->rng, 100);
    uint32_t sector = sim_below(&c->rng, c->sectors);
    enum block_op op = draw < 60 ? BLOCK_WRITE : draw < 85 ? BLOCK_READ : BLOCK_FLUSH;

    if (c->taken == (1u << c->sectors) - 1) op = BLOCK_FLUSH;
    while (op != BLOCK_FLUSH && (c->taken >> sector & 1)) sector = (sector + 1) % c->sectors;
    uint64_t value = (uint64_t)c->i << 56 | (uint64_t)world.process[c->i].generation << 32 | ++c->values;
    *buffer_of(c, slot) = op == BLOCK_WRITE ? value : ~0ul;
    book->slot[slot].op = op;
    book->slot[slot].sector = sector;
    book->slot[slot].value = value;
    book->slot[slot].id = c->s.next_id;
    book->slot[slot].deaths = 0;
    book->slot[slot].pending = true;
    if (op == BLOCK_FLUSH)
        memcpy(book->slot[slot].flushed, book->acknowledged, sizeof(book->acknowledged));
    else
        c->taken |= 1u << sector;
    int got =
        block_submit(&c->s, op, c->base + sector, op == BLOCK_FLUSH ? 0 : SECTOR_SIZE, slot * SECTOR_SIZE);
    if (got != (int)slot) sim_fail("client %u: slot %d instead of %u", c->i, got, slot);
    c->submitted++;
}

static void flush_verify(const struct client *c, const uint64_t *flushed)
{
    for (uint32_t n = 0; n < OWN_SECTORS; n++) {
        uint64_t on_disk = world.stable[c->base + n];
        if (flushed[n] == UNKNOWN || on_disk >= flushed[n]) continue; /* values of one client only grow */
        sim_fail("client %u: flushed, and sector %u has %lx instead of %lx", c->i, n, on_disk, flushed[n]);
    }
}

static void completion_verify(struct client *c, const struct block_done *done)
{
    struct client_memory *book = &world.client[c->i];
    uint32_t n = done->slot;

    if (!book->slot[n].pending || book->slot[n].id != done->id)
        sim_fail("client %u: request %lu completes, and it is not pending", c->i, done->id);
    book->slot[n].pending = false;
    uint32_t sector = book->slot[n].sector;
    enum block_op op = book->slot[n].op;
    if (op != BLOCK_FLUSH) c->taken &= ~(1u << sector);
    if (done->status == E_POISONED) {
        sometimes(POISONED_SEEN, true);
        if (book->slot[n].deaths < SESSION_ATTEMPTS_MAX)
            sim_fail("client %u: request %lu is poisoned after %u deaths", c->i, done->id,
                     book->slot[n].deaths);
        if (op == BLOCK_WRITE) book->acknowledged[sector] = UNKNOWN;
        return;
    }
    if (done->status != OK) sim_fail("client %u: request %lu: status %d", c->i, done->id, done->status);
    if (op == BLOCK_FLUSH) flush_verify(c, book->slot[n].flushed);
    if (op == BLOCK_WRITE) {
        book->acknowledged[sector] = book->slot[n].value;
        if (world.disk[c->base + sector] != book->slot[n].value)
            sim_fail("client %u: write %lu is acknowledged and not on the disk", c->i, done->id);
    }
    if (op == BLOCK_READ && book->acknowledged[sector] != UNKNOWN &&
        *buffer_of(c, n) != book->acknowledged[sector])
        sim_fail("client %u: read %lu of sector %u gives %lx instead of %lx", c->i, done->id, sector,
                 *buffer_of(c, n), book->acknowledged[sector]);
}

static void client_work(struct client *c)
{
    struct block_done done[SLOTS_MAX];

    while (c->completed < c->requests) {
        uint32_t batch = 1 + sim_below(&c->rng, 4);
        while (batch-- && c->submitted < c->requests && c->s.busy != (1ul << c->s.slots) - 1)
            request_submit(c);
        if (sim_below(&c->rng, 2)) block_kick(&c->s);
        uint32_t n = block_take(&c->s, done, SLOTS_MAX);
        for (uint32_t k = 0; k < n; k++) completion_verify(c, &done[k]);
        c->completed += n;
        if (n == 0) block_wait(&c->s);
    }
    for (uint32_t n = 0; n < OWN_SECTORS; n++) {
        uint64_t value = world.client[c->i].acknowledged[n];
        if (value && value != UNKNOWN && world.disk[c->base + n] != value)
            sim_fail("client %u: an acknowledged write to sector %u is lost", c->i, n);
    }
}

static uint64_t run_client(uint32_t i)
{
    struct client *c = &clients[i];
    struct message ready = {.info = INFO_REPLAYABLE};
    uint32_t generation = world.process[i].generation, sessions;

    *c = (struct client){.i = i, .rng = plan.seed * 31 + i * 7 + generation + 1};
    c->sectors = 1 + sim_below(&c->rng, sim_below(&c->rng, 2) ? 2 : OWN_SECTORS);
    c->base = ((i - plan.first_client) * 8 + generation % 8) * OWN_SECTORS;
    status_t status = service_call(HANDLE_SUPERVISOR, SUPERVISOR_READY, &ready);
    if (status != OK) return status;
    sessions = 1 + sim_below(&c->rng, 2);
    while (sessions--) {
        c->submitted = c->completed = 0;
        c->requests = plan.requests[i];
        for (uint32_t n = 0; n < OWN_SECTORS; n++)
            if (world.client[i].acknowledged[n] == 0)
                world.client[i].acknowledged[n] = world.disk[c->base + n];
        status =
            block_open(&c->s, "disk", plan.slots[i], plan.slots[i] * SECTOR_SIZE, HANDLE_NOTIFICATION + i);
        if (status != OK) return status;
        client_work(c);
        if (sessions == 0 && sim_below(&c->rng, 2)) break;
        status = block_close(&c->s);
        if (status != OK) return status;
        for (uint32_t n = 0; n < world.pagesets; n++)
            for (int part = 0; part < SESSION_PARTS; part++)
                if (world.pages[n].client == i) world.process[i].mapped[part] &= ~(1ul << n);
    }
    world.client[i].finished = true;
    return OK;
}

/* --- All -------------------------------------------------------------------------------------------------- */

void actor_main(uint32_t i)
{
    struct message ready = {.info = INFO_REPLAYABLE};
    uint64_t code = 0;

    if (plan.role[i] == ROLE_DRIVER)
        code = run_driver(i);
    else if (plan.role[i] == ROLE_CLIENT)
        code = run_client(i);
    else
        code = service_call(HANDLE_SUPERVISOR, SUPERVISOR_READY, &ready);
    if (code != OK || plan.file.service[i].restart != RESTART_PERMANENT) process_exit(code);
    for (;;) (void)sys_wait(HANDLE_NOTIFICATION + i);
}
