/* SPDX-License-Identifier: BSD-2-Clause
 * The smallest driver: no device, one call, one checkpoint. Copy this folder to begin a driver of your
 * own. Kill it at any instruction: a caller sees latency (if its call is replayable), the count goes on. */
#include "lib/driver.h"
#include "abi/protocol.h"

/* What the next incarnation should know. Raise CHECKPOINT_VERSION when the layout changes. */
#define CHECKPOINT_VERSION   1
#define CALLS_PER_CHECKPOINT 64 /* a commit is a call: the count may lag by as many */
struct checkpoint {
    uint64_t calls, inverted;
};

static struct checkpoint now;

static bool echo_checkpoint_valid(const void *checkpoint)
{
    const struct checkpoint *c = checkpoint;

    return c->inverted == ~c->calls;
}

static status_t echo_reset(struct driver *d, const void *checkpoint)
{
    (void)d;
    if (checkpoint != NULL) now = *(const struct checkpoint *)checkpoint;
    return OK;
}

static void echo_call(struct driver *d, struct message *m)
{
    status_t status = INFO_LABEL(m->info) == ECHO_ECHO ? OK : E_UNSUPPORTED;

    now.inverted = ~++now.calls;
    if (now.calls % CALLS_PER_CHECKPOINT == 0 && driver_checkpoint(d, &now) != OK)
        log_line("echo: checkpoint refused at call %lu", now.calls);
    m->info = INFO_MAKE(status, 0); /* w0..w7 go back as they came */
}

int main(void)
{
    static const struct driver_ops ops = {.name = "echo",
                                          .call = echo_call,
                                          .reset = echo_reset,
                                          .checkpoint_version = CHECKPOINT_VERSION,
                                          .checkpoint_bytes = sizeof(struct checkpoint),
                                          .checkpoint_valid = echo_checkpoint_valid};
    return driver_main(&ops);
}
