/* SPDX-License-Identifier: BSD-2-Clause
 * Random system-call sequences against the reference model, on the host port. Each run is a seed: whichever
 * thread the kernel runs makes a random call with handles that are good, stale, of another type or made up;
 * the model says which refusals must come and what a success changes; then kernel and model are compared.
 * IPC is checked by its promises: each message arrives whole, each call ends exactly once and in an allowed
 * way. MODEL_SEED replays one run; MODEL_FIRST, MODEL_RUNS and MODEL_CALLS say which runs are made (make model). */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "tests/model/model.h"

#define RUNS_DEFAULT  60
#define CALLS_DEFAULT 20000

static uint64_t random_state;
static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 2685821657736338717ul;
}
static uint64_t below(uint64_t n) { return (random_next() >> 11) % n; }
static bool chance(unsigned percent) { return below(100) < percent; }

#include "tests/model/step.h"

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

/* A sanitizer's report or a panic ends the run without a failed assertion: name the run all the same. */
static void replay_print(void)
{
    char text[160];
    int n = snprintf(
        text, sizeof text,
        "model: died at call %lu; replay: MODEL_SEED=%lu MODEL_CALLS=%lu build/tests/model/syscalls\n",
        call_now, seed_now, call_now);
    if (write(2, text, (size_t)n) < 0) _exit(1);
}

static void replay_abort(int number)
{
    replay_print();
    signal(number, SIG_DFL);
    raise(number);
}

ParameterizedTestParameters(model, random_calls)
{
    static uint64_t seeds[100000];
    uint64_t one = number_from("MODEL_SEED", 0), runs = one ? 1 : number_from("MODEL_RUNS", RUNS_DEFAULT);
    if (runs > 100000) runs = 100000;
    uint64_t first = number_from("MODEL_FIRST", 1);
    for (uint64_t i = 0; i < runs; i++) seeds[i] = one ? one : first + i;
    return cr_make_param_array(uint64_t, seeds, runs);
}

ParameterizedTest(uint64_t *seed, model, random_calls)
{
    seed_now = *seed;
    random_state = *seed * 0x9e3779b97f4a7c15ul + 1;
    uint64_t calls = number_from("MODEL_CALLS", CALLS_DEFAULT);
    __sanitizer_set_death_callback(replay_print);
    signal(SIGABRT, replay_abort);
    model_boot();
    for (call_now = 1; call_now <= calls; call_now++) step();
    if (getenv("MODEL_SEED"))
        fprintf(stderr, "%lu answers, %lu replays, %lu told of a restart\n", replies_seen, replays_seen,
                restarts_seen);
    if (calls >= CALLS_DEFAULT)
        must(replies_seen > 20 && replays_seen + restarts_seen > 0,
             "a run without substance: %lu answers, %lu replays, %lu restarts", replies_seen, replays_seen,
             restarts_seen);
    /* Everything ends; nothing is left but the first process. */
    list_each(struct process, child, &process_root->children, sibling) process_destroy(child);
    account_check(process_root);
    must(process_count() == 1, "%lu processes are left", process_count());
}
