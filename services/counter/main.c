/* SPDX-License-Identifier: BSD-2-Clause
 * A small service that is there in numbers (system/scale.toml): it counts calls and its own starts, in a
 * checkpoint that every incarnation loads and commits; if its manifest names virtio_blk, it also reads a
 * block through a session of its own at each start. Incarnation n is its n-th start: if the checkpoint says
 * otherwise, it says so in the log. */
#include "abi/protocol.h"
#include "lib/driver.h"
#include "lib/session.h"

#define CHECKPOINT_VERSION 1
struct checkpoint {
    uint64_t starts, calls;
};
static struct checkpoint now;
static struct block_session disk;

static status_t block_read(void)
{
    status_t status = block_open(&disk, "virtio_blk", 1, PAGE_SIZE, 0);

    return status == OK ? block_do(&disk, BLOCK_READ, 0, PAGE_SIZE, 0) : status;
}

static status_t counter_reset(struct driver *d, const void *checkpoint)
{
    if (checkpoint != NULL) now = *(const struct checkpoint *)checkpoint;
    if (++now.starts != d->generation && checkpoint != NULL)
        log_line("counter: %s: start %lu, generation %u", startup()->name, now.starts, d->generation);
    status_t status = driver_checkpoint(d, &now);
    if (status == OK && cap_entry("virtio_blk") != NULL) status = block_read();
    return status;
}

static void counter_call(struct driver *d, struct message *m)
{
    bool known = INFO_LABEL(m->info) == COUNTER_COUNT;

    if (known) now.calls++;
    status_t status = known ? driver_checkpoint(d, &now) : E_UNSUPPORTED;
    m->w[0] = now.calls;
    m->w[1] = now.starts;
    m->info = INFO_MAKE(status, 0);
}

int main(void)
{
    static const struct driver_ops ops = {.name = "counter",
                                          .call = counter_call,
                                          .reset = counter_reset,
                                          .checkpoint_version = CHECKPOINT_VERSION,
                                          .checkpoint_bytes = sizeof(struct checkpoint)};
    return driver_main(&ops);
}
