/* SPDX-License-Identifier: BSD-2-Clause
 * Kills one service after the other and counts after each kill: pages, quarantine, processes, threads, handles,
 * mappings, kernel objects. The count after the first kills of a boot is what all later ones must be, exactly; the
 * first kills are not counted, because capability tables and pools grow to what a restart needs, and stay so large.
 * Counts are the kernel's (system_info, process_info); the supervisor adds up those of its children.
 * Output: {"recovered":[[service,ns],...]} of each kill, then one {"leaks":...} line; "leaked" in it is 1 and the
 * count that differs is there if the system did not come back to what it was. */
#include "leaks.h"
#include "abi/protocol.h"
#include "clock.h"
#include "strike.h"

#define POLL_US    200u
#define RETURN_MS  2000u /* for the system to be what it was: clients open their sessions again after READY */
#define STRIKE_MAX 4096u /* instructions: within a driver's way through a request */
#define LINE_PAIRS 24u
#define COUNTS     9u

static const char *const count_name[COUNTS] = {"pages_free", "quarantined", "processes", "pages",   "handles",
                                               "threads",    "mappings",    "objects",   "dead_own"};
struct census {
    uint64_t count[COUNTS];
};

static struct census rest; /* of this boot, after the first kills */
static uint64_t random_state;
static uint64_t recovered[LINE_PAIRS][2];
static uint32_t pairs;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static bool census_take(struct census *c)
{
    struct system_info i;
    struct message m = {.info = INFO_REPLAYABLE};

    if (service_call(cap_find("supervisor"), SUPERVISOR_CENSUS, &m) != OK || sys_system_info(&i) != OK)
        return false;
    *c = (struct census){
        {i.pages_free, i.quarantined_pages, i.processes, m.w[0], m.w[1], m.w[2], m.w[3], m.w[4], m.w[5]}};
    return true;
}

/* How many counts are not what they were. */
static uint32_t differences(const struct census *c)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < COUNTS; i++) n += c->count[i] != rest.count[i];
    return n;
}

/* Waits until all is as it was; false: it does not become so. */
static bool returned(struct census *c)
{
    uint64_t deadline = clock_ns() + RETURN_MS * 1000000ul;

    do {
        if (settle() && census_take(c) && differences(c) == 0) return true;
        sleep_us(POLL_US);
    } while (clock_ns() < deadline);
    return false;
}

/* What it is when everybody has had the time to open sessions again. */
static bool settle_census(struct census *c)
{
    sleep_us(RETURN_MS * 1000);
    return settle() && census_take(c);
}

static void recovered_flush(void)
{
    char line[480];
    int at = 0;

    for (uint32_t i = 0; i < pairs; i++)
        at += format(line + at, sizeof(line) - (size_t)at, "%s[%lu,%lu]", i ? "," : "", recovered[i][0],
                     recovered[i][1]);
    if (pairs) log_line("{\"recovered\":[%s]}", line);
    pairs = 0;
}

/* Everybody but supervisor, recovery and this process. */
static bool may_be_killed(uint32_t i, struct target *t)
{
    return target_read(i, t) == OK && t->state == SERVICE_STATE_RUNNING && strcmp(t->name, "recovery") != 0 &&
           i != TAG_SERVICE(startup()->tag);
}

static uint32_t choose(struct target *t)
{
    uint32_t services = 1;

    while (target_read(services, t) == OK) services++;
    for (;;) {
        uint32_t i = 1 + (uint32_t)(random_next() >> 33) % (services - 1);
        if (may_be_killed(i, t)) return i;
    }
}

/* Half of them after a number of instructions of its own, if it executes that many now; the others, and those that
 * sleep, by the operator's way. The block driver works while its client starts. */
static void kill(handle_t inject, uint32_t service, const struct target *t)
{
    handle_t process;
    uint64_t how = random_next();
    struct target now;
    status_t status = OK;

    if (how & 1 && target_process(service, &process) == OK) {
        (void)sys_inject(inject, process, INJECT_ARM, (how >> 8) % STRIKE_MAX, INJECT_KILL, 0);
        (void)sys_cap_delete(process);
        if (strcmp(t->name, "virtio_blk") == 0) status = target_kill("reader");
        (void)press(t->name, how);
        (void)settle();
        if (target_read(service, &now) != OK || now.generation != t->generation) return;
    }
    status = target_kill(t->name);
    (void)status; /* that it died is seen by its generation */
}

/* c: NULL: it must serve again, no more. */
static bool kill_and_count(handle_t inject, struct census *c)
{
    struct target t, now;
    uint32_t service = choose(&t);

    kill(inject, service, &t);
    if (!(c ? returned(c) : settle()) || target_read(service, &now) != OK) return false;
    if (!c) return true;
    recovered[pairs][0] = service;
    recovered[pairs++][1] = now.recovery_ns;
    if (pairs == LINE_PAIRS) recovered_flush();
    return now.generation > t.generation;
}

static void report(uint64_t done, bool good, const struct census *c)
{
    char line[360];
    int at = 0;
    struct message m = {.info = INFO_REPLAYABLE};

    for (uint32_t i = 0; i < COUNTS; i++)
        at += format(line + at, sizeof(line) - (size_t)at, "%s\"%s\":[%lu,%lu]", i ? "," : "", count_name[i],
                     rest.count[i], c->count[i]);
    if (service_call(cap_find("supervisor"), SUPERVISOR_TOTALS, &m) != OK) good = false;
    log_line("{\"leaks\":{\"kills\":%lu,\"deaths\":%lu,\"leaked\":%u,%s}}", done, m.w[2], !good, line);
}

/* The first order of a boot must have some that are not counted. */
void leaks_run(handle_t inject, uint64_t uncounted, uint64_t kills, uint64_t seed)
{
    struct census c = {{0}};
    uint64_t done = 0;
    bool good = settle();

    random_state = seed * 2 + 1;
    for (uint64_t n = 0; good && n < uncounted; n++) good = kill_and_count(inject, NULL);
    if (uncounted) good = good && settle_census(&rest);
    while (good && done < kills) {
        good = kill_and_count(inject, &c);
        done += good;
    }
    recovered_flush();
    report(done, good, &c);
}
