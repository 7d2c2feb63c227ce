/* SPDX-License-Identifier: BSD-2-Clause
 * Plays many seeds on several CPUs, shrinks what fails to the fewest faults and requests, prints the line that
 * plays it again, and says which interesting states were never reached.
 *   sim --seeds N [--first SEED] [--jobs N]           N seeds from SEED on
 *   sim --seed SEED [--only 0,3] [--requests N] [--calm] [--trace]    one seed, or a part of it
 * Exit: 0 all held, 1 something failed, 2 usage. */
#define _GNU_SOURCE
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "sim.h"

#define JOBS_MAX     64u
#define SECONDS_MAX  20 /* of one schedule, which takes a millisecond: it loops */
#define FAILURES_MAX 1u /* of one worker */

uint64_t *sim_reached;

struct worker { /* in memory that the parent sees */
    uint64_t schedules, steps, faults, deaths, virtual_ns;
    uint64_t failed_seed, failures;
    uint64_t reached[SOMETIMES_COUNT];
};
static struct worker *workers;
static const struct limits everything = {.faults = ~0ul, .requests = ~0u};
static volatile uint64_t playing; /* number of the schedule */

static const struct {
    const char *name, *text;
} sometimes_names[] = {
#define SOMETIMES(name, text) {#name, text},
#include "sometimes.def"
#undef SOMETIMES
};

/* --- One schedule ----------------------------------------------------------------------------------- */

static void on_trap(int number)
{
    sim_fail(number == SIGILL ? "an assertion of a core" : "signal %d", number);
}

static void on_alarm(int number)
{
    static uint64_t seen;

    (void)number;
    if (seen == playing) sim_fail("it loops");
    seen = playing;
}

static void signals_catch(void)
{
    static uint8_t stack[64 << 10];
    const int fatal[] = {SIGILL, SIGSEGV, SIGBUS, SIGFPE};
    struct sigaction trap = {.sa_handler = on_trap, .sa_flags = SA_NODEFER | SA_ONSTACK};
    struct sigaction alarmed = {.sa_handler = on_alarm, .sa_flags = SA_NODEFER | SA_ONSTACK};
    struct itimerval often = {{SECONDS_MAX, 0}, {SECONDS_MAX, 0}};

    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof(stack)}, NULL);
    for (unsigned n = 0; n < sizeof(fatal) / sizeof(fatal[0]); n++) sigaction(fatal[n], &trap, NULL);
    sigaction(SIGALRM, &alarmed, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
}

static bool play(uint64_t seed, const struct limits *limits)
{
    playing++;
    plan_make(seed, limits);
    return world_run();
}

/* --- Many ---------------------------------------------------------------------------------------------- */

static void work(struct worker *w, uint64_t first, uint64_t count, uint32_t step)
{
    sim_reached = w->reached;
    signals_catch();
    for (uint64_t n = 0; n < count && w->failures < FAILURES_MAX; n += step) {
        bool good = play(first + n, &everything);
        w->schedules++;
        w->steps += world.steps;
        w->faults += (uint64_t)__builtin_popcountl(world.fired);
        w->deaths += world.state->deaths;
        w->virtual_ns += world.now_ns;
        if (good) continue;
        w->failures++;
        w->failed_seed = first + n;
    }
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void coverage_print(const struct worker *sum)
{
    uint32_t never = 0;

    for (uint32_t n = 0; n < SOMETIMES_COUNT; n++) never += sum->reached[n] == 0;
    printf("sim: %u of %u interesting states reached\n", SOMETIMES_COUNT - never, SOMETIMES_COUNT);
    for (uint32_t n = 0; n < SOMETIMES_COUNT; n++)
        if (sum->reached[n] == 0)
            printf("sim: never: %s (%s)\n", sometimes_names[n].name, sometimes_names[n].text);
}

static void add(struct worker *sum, const struct worker *w)
{
    sum->schedules += w->schedules;
    sum->steps += w->steps;
    sum->faults += w->faults;
    sum->deaths += w->deaths;
    sum->virtual_ns += w->virtual_ns;
    for (uint32_t n = 0; n < SOMETIMES_COUNT; n++) sum->reached[n] += w->reached[n];
    if (w->failures && (!sum->failures || w->failed_seed < sum->failed_seed))
        sum->failed_seed = w->failed_seed;
    sum->failures += w->failures;
}

/* --- Shrinking ------------------------------------------------------------------------------------------- */

static bool fails(uint64_t seed, const struct limits *limits) { return !play(seed, limits); }

static struct limits shrink(uint64_t seed)
{
    struct limits least = everything;

    (void)play(seed, &least);
    least.faults = (1ul << plan.fault_count) - 1;
    for (bool smaller = true; smaller;) {
        smaller = false;
        for (uint32_t n = 0; n < FAULTS_MAX; n++) {
            struct limits fewer = least;
            fewer.faults &= ~(1ul << n);
            if (fewer.faults == least.faults || !fails(seed, &fewer)) continue;
            least = fewer;
            smaller = true;
        }
    }
    for (uint32_t n = 1; n <= REQUESTS_MAX; n++) {
        struct limits fewer = least;
        fewer.requests = n;
        if (!fails(seed, &fewer)) continue;
        least = fewer;
        break;
    }
    struct limits calm = least;
    calm.calm = true;
    return fails(seed, &calm) ? calm : least;
}

static void failure_explain(const char *program, uint64_t seed)
{
    signals_catch();
    (void)play(seed, &everything);
    printf("sim: seed %lu FAILED: %s\n", seed, sim_failure);
    struct limits least = shrink(seed);
    (void)play(seed, &least);
    printf("sim: shrunk to %d of %u faults: %s\n", __builtin_popcountl(least.faults), plan.fault_count,
           sim_failure);
    plan_print();
    printf("sim: replay: %s --seed %lu --only ", program, seed);
    const char *comma = "";
    for (uint32_t n = 0; n < FAULTS_MAX; n++)
        if (least.faults >> n & 1) comma = (printf("%s%u", comma, n), ",");
    if (least.faults == 0) printf("none");
    if (least.requests != ~0u) printf(" --requests %u", least.requests);
    printf("%s --trace\n", least.calm ? " --calm" : "");
}

static int run_many(const char *program, uint64_t first, uint64_t count, uint32_t jobs)
{
    double began = seconds();
    struct worker sum = {0};

    fflush(stdout);
    for (uint32_t j = 0; j < jobs; j++) {
        pid_t pid = fork();
        if (pid < 0) return perror("sim: fork"), 2;
        if (pid == 0) {
            work(&workers[j], first + j, count - j, jobs);
            _exit(0);
        }
    }
    int status, broken = 0;
    while (wait(&status) > 0) broken |= status;
    for (uint32_t j = 0; j < jobs; j++) add(&sum, &workers[j]);
    double took = seconds() - began;
    printf("sim: %lu schedules in %.1f s on %u CPUs, %.0f a minute; %lu steps, %lu faults, %lu deaths, %.0f "
           "s simulated, "
           "%lu failed\n",
           sum.schedules, took, jobs, (double)sum.schedules * 60 / took, sum.steps, sum.faults, sum.deaths,
           (double)sum.virtual_ns / 1e9, sum.failures);
    coverage_print(&sum);
    if (broken) printf("sim: a worker ended with status %x\n", broken);
    if (sum.failures) failure_explain(program, sum.failed_seed);
    return sum.failures || broken ? 1 : 0;
}

static int run_one(uint64_t seed, const struct limits *limits)
{
    signals_catch();
    plan_make(seed, limits);
    plan_print();
    bool good = play(seed, limits);
    printf("sim: seed %lu: %s%s; %lu steps, %.3f s simulated\n", seed,
           good ? "held" : "FAILED: ", sim_failure, world.steps, (double)world.now_ns / 1e9);
    return good ? 0 : 1;
}

/* --- The command line --------------------------------------------------------------------------------------- */

static uint64_t faults_parse(const char *text)
{
    uint64_t faults = 0;

    for (char *at = (char *)text; *at >= '0' && *at <= '9';) {
        faults |= 1ul << (strtoul(at, &at, 10) & 63);
        if (*at == ',') at++;
    }
    return faults;
}

int main(int argc, char **argv)
{
    const struct option options[] = {{"seeds", 1, 0, 'n'}, {"first", 1, 0, 'f'}, {"jobs", 1, 0, 'j'},
                                     {"seed", 1, 0, 's'},  {"only", 1, 0, 'o'},  {"requests", 1, 0, 'r'},
                                     {"calm", 0, 0, 'c'},  {"trace", 0, 0, 't'}, {0}};
    struct limits limits = everything;
    uint64_t seeds = 1000, first = 1, seed = 0;
    uint32_t jobs = 1;
    bool one = false;

    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'n': seeds = strtoull(optarg, NULL, 10); break;
        case 'f': first = strtoull(optarg, NULL, 10); break;
        case 'j': jobs = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 's': seed = strtoull(optarg, NULL, 10), one = true; break;
        case 'o': limits.faults = faults_parse(optarg); break;
        case 'r': limits.requests = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 'c': limits.calm = true; break;
        case 't': sim_tracing = true; break;
        default: return 2;
        }
    }
    if (optind != argc || seeds == 0 || jobs == 0) return fprintf(stderr, "usage: see tests/sim/main.c\n"), 2;
    if (jobs > JOBS_MAX) jobs = JOBS_MAX;
    if (jobs > seeds) jobs = (uint32_t)seeds;
    workers =
        mmap(NULL, JOBS_MAX * sizeof(*workers), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (workers == MAP_FAILED) return perror("sim: mmap"), 2;
    sim_reached = workers[0].reached;
    return one ? run_one(seed, &limits) : run_many(argv[0], first, seeds, jobs);
}
