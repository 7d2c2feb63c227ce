/* SPDX-License-Identifier: BSD-2-Clause
 * The run: structured attacks one after the other, random ones in children beside them, for as long as was
 * ordered. It reports what it saw; the harness looks at the kernel and at everybody else from outside, and
 * believes nothing that is said here but the failures. */
#include "hostile.h"

#define REPORT_NS (1000 * MS)

static struct {
    uint64_t until_ns, report_ns, seed, state;
    uint64_t attacks, failures;
    uint32_t next;
} run;

uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state * 0x2545f4914f6cdd1dul;
}

void failed(const char *attack, const char *what, uint64_t got, uint64_t wanted)
{
    run.failures++;
    log_line("{\"hostile_failed\":{\"attack\":\"%s\",\"what\":\"%s\",\"got\":%lu,\"wanted\":%lu}}", attack,
             what, got, wanted);
}

/* After each attack the kernel counts what it counted before: nothing was gained, nothing leaked. */
static void attack(uint32_t i)
{
    struct process_info before, after;
    bool calls = i < calls_count();

    if (sys_process_info(0, &before) != OK) return;
    if (calls)
        calls_run(i);
    else
        lethal_run(i - calls_count());
    run.attacks++;
    if (sys_process_info(0, &after) != OK) return;
    if (after.handles != before.handles)
        failed(calls ? "calls" : "lethal", "handles", after.handles, before.handles);
    if (after.mappings != before.mappings)
        failed(calls ? "calls" : "lethal", "mappings", after.mappings, before.mappings);
}

static void report(bool final)
{
    struct process_info info = {0};

    (void)sys_process_info(0, &info);
    log_line(
        "{\"hostile\":{\"final\":%s,\"seed\":%lu,\"attacks\":%lu,\"kinds\":%u,\"failures\":%lu,\"calls\":%lu,"
        "\"children\":%lu,\"deaths\":%lu,\"page_faults\":%lu,\"killed\":%lu,\"exits\":%lu,\"handles\":%u,"
        "\"pages\":%lu}}",
        final ? "true" : "false", run.seed, run.attacks, calls_count() + lethal_count(), run.failures,
        shared->calls, chaos_children, chaos_deaths, chaos_causes[CAUSE_PAGE_FAULT],
        chaos_causes[CAUSE_KILLED], chaos_causes[CAUSE_EXIT], info.handles, info.used_pages);
}

static void order(struct message *m)
{
    status_t status = OK;
    uint64_t ms = m->w[1];

    switch (INFO_LABEL(m->info)) {
    case HOSTILE_ATTACK:
        run.seed = m->w[0];
        run.state = run.seed | 1;
        run.until_ns = clock_ns() + ms * MS;
        run.report_ns = clock_ns() + REPORT_NS;
        break;
    case HOSTILE_FLOOD: break;
    default: status = E_UNSUPPORTED;
    }
    uint64_t flood = INFO_LABEL(m->info) == HOSTILE_FLOOD ? m->w[0] : 0;
    m->info = INFO_MAKE(status, 0);
    (void)sys_reply(m); /* who ordered it need not wait for it */
    if (flood) flood_run((uint32_t)flood, ms);
}

static void attack_on(void)
{
    struct process_event event;
    uint64_t now = clock_ns();

    while (sys_process_event(&event) == OK) {}
    chaos_keep(&run.state, now);
    attack(run.next++ % (calls_count() + lethal_count()));
    if (now >= run.report_ns) {
        report(false);
        run.report_ns = now + REPORT_NS;
    }
    if (now < run.until_ns) return;
    chaos_stop();
    run.until_ns = 0;
    report(true);
}

int main(void)
{
    handle_t endpoint = cap_find("endpoint");
    struct message m = {.info = INFO_REPLAYABLE};

    if (!child_image_make()) fatal("hostile: cannot make the image of its children");
    if (service_call(cap_find("supervisor"), SUPERVISOR_READY, &m) != OK)
        fatal("hostile: not accepted as ready");
    for (;;) {
        bool waiting = sys_endpoint_info(endpoint, &m) == OK && m.w[0] > 0;
        if (waiting || !run.until_ns) {
            if (sys_recv(endpoint, &m) != OK) fatal("hostile: its endpoint is gone");
            order(&m);
        } else {
            attack_on();
        }
    }
}
