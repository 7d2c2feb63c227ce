/* SPDX-License-Identifier: BSD-2-Clause
 * Measures what a client of others sees: how long a call to echo, a call to the supervisor and a read of the
 * disk take, one of each a millisecond, through a session that is opened for it. Once with and once without
 * somebody who floods the system; the figures are compared by who ordered them. */
#include "abi/protocol.h"
#include "lib/session.h"

#define SAMPLES_MAX 4096u
#define EVERY_NS    1000000ul
#define BLOCK_BYTES 4096u

static struct series {
    const char *name;
    uint32_t count;
    uint64_t ticks[SAMPLES_MAX];
} series[] = {{.name = "echo"}, {.name = "supervisor"}, {.name = "read"}};
enum { ECHO, SUPERVISOR, READ, SERIES };

static struct block_session disk;
static handle_t notification, timer;

static void sample(uint32_t i, uint64_t since)
{
    struct series *s = &series[i];

    if (s->count < SAMPLES_MAX) s->ticks[s->count++] = rdtsc() - since;
}

static void round_measure(uint64_t n, bool reads)
{
    struct message m = {.info = INFO_REPLAYABLE};
    uint64_t since = rdtsc();

    if (service_call(cap_find("echo"), ECHO_ECHO, &m) == OK) sample(ECHO, since);
    m = (struct message){.info = INFO_REPLAYABLE};
    since = rdtsc();
    if (service_call(cap_find("supervisor"), SUPERVISOR_LIST, &m) == OK) sample(SUPERVISOR, since);
    since = rdtsc();
    if (reads && block_do(&disk, BLOCK_READ, n * 8 % 65536, BLOCK_BYTES, 0) == OK) sample(READ, since);
}

static void sort(uint64_t *v, uint32_t n)
{
    for (uint32_t gap = n / 2; gap > 0; gap /= 2)
        for (uint32_t i = gap; i < n; i++)
            for (uint32_t k = i; k >= gap && v[k - gap] > v[k]; k -= gap) {
                uint64_t t = v[k];
                v[k] = v[k - gap];
                v[k - gap] = t;
            }
}

static uint64_t ns_of(uint64_t ticks) { return ticks * 1000 / (startup()->tsc_hz / 1000000); }

static void report(struct series *s)
{
    sort(s->ticks, s->count);
    if (s->count == 0) return;
    log_line(
        "{\"meter\":{\"name\":\"%s\",\"n\":%u,\"p50_ns\":%lu,\"p90_ns\":%lu,\"p99_ns\":%lu,\"max_ns\":%lu}}",
        s->name, s->count, ns_of(s->ticks[s->count / 2]), ns_of(s->ticks[s->count * 9ul / 10]),
        ns_of(s->ticks[s->count * 99ul / 100]), ns_of(s->ticks[s->count - 1]));
    s->count = 0;
}

static void measure(uint64_t ms)
{
    status_t opened =
        block_open(&disk, "virtio_blk", 1, BLOCK_BYTES, 0); /* last of all, where there is a flood */
    uint64_t next = clock_ns(), until = next + ms * 1000000;

    for (uint64_t n = 0; next < until; n++) {
        next += EVERY_NS;
        if (next > clock_ns() && sys_timer_arm(timer, next) == OK) (void)sys_wait(notification);
        round_measure(n, opened == OK);
        if (next < clock_ns()) next = clock_ns(); /* late: no burst to make up for it */
    }
    if (opened == OK && block_close(&disk) != OK) log_line("meter: its session does not close");
    for (uint32_t i = 0; i < SERIES; i++) report(&series[i]);
    log_line("{\"meter\":{\"done\":true,\"session\":%u}}", (uint32_t)opened);
}

int main(void)
{
    struct message m = {.info = INFO_REPLAYABLE};

    notification = sys_notification_create(0).value;
    timer = sys_timer_create(notification, 1).value;
    if (service_call(cap_find("supervisor"), SUPERVISOR_READY, &m) != OK)
        fatal("meter: not accepted as ready");
    for (;;) {
        if (sys_recv(cap_find("endpoint"), &m) != OK) fatal("meter: its endpoint is gone");
        uint64_t ms = INFO_LABEL(m.info) == METER_MEASURE ? m.w[0] : 0;
        m.info = INFO_MAKE(ms ? OK : E_ARGUMENT, 0);
        (void)sys_reply(&m); /* who ordered it does not wait for it */
        measure(ms);
    }
}
