/* SPDX-License-Identifier: BSD-2-Clause
 * Samples and clocks of the bench. What it says leaves the guest as JSON lines in the kernel log:
 *   {"bench":{"name":...,"n":...,"each":...,"min":...,"p50":...,"p90":...,"p99":...,"max":...}}   ticks
 *   {"bench":{"error":...}}     a measurement could not be made: the run is void */
#include "bench.h"

#define CALIBRATION_ROUNDS 100000u /* of two instructions */
#define CALIBRATION_SLACK  16u
#define CALIBRATION_TRIES  8u

void check(status_t status, const char *what)
{
    if (status != OK) fatal("{\"bench\":{\"error\":\"%s: status %u\"}}", what, (uint32_t)status);
}

handle_t check_value(struct sys_result r, const char *what)
{
    check(r.status, what);
    return r.value;
}

void samples_add(struct samples *s, uint64_t value)
{
    check(s->n < SAMPLES_MAX ? OK : E_NO_SLOTS, "room for a sample");
    s->v[s->n++] = value;
}

static void sift_down(uint64_t *v, uint32_t at, uint32_t n)
{
    for (uint32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && v[child + 1] > v[child]) child++;
        if (v[at] >= v[child]) return;
        uint64_t t = v[at];
        v[at] = v[child];
        v[child] = t;
    }
}

static void sort(uint64_t *v, uint32_t n)
{
    for (uint32_t i = n / 2; i-- > 0;) sift_down(v, i, n);
    while (n > 1) {
        uint64_t t = v[0];
        v[0] = v[--n];
        v[n] = t;
        sift_down(v, 0, n);
    }
}

/* The sample below which `percent` of them lie (nearest rank). */
static uint64_t percentile(const struct samples *s, uint32_t percent)
{
    return s->v[(uint64_t)(s->n - 1) * percent / 100];
}

void samples_report(struct samples *s, const char *name, uint64_t each)
{
    check(s->n > 0 ? OK : E_NOT_FOUND, name);
    sort(s->v, s->n);
    log_line(
        "{\"bench\":{\"name\":\"%s\",\"n\":%u,\"each\":%lu,\"min\":%lu,\"p50\":%lu,\"p90\":%lu,\"p99\":%lu,"
        "\"max\":%lu}}",
        name, s->n, each, s->v[0], percentile(s, 50), percentile(s, 90), percentile(s, 99), s->v[s->n - 1]);
    s->n = 0;
}

/* A loop of known length takes exactly as many ticks, or it does not: chance does not come that close. */
bool ticks_are_instructions(void)
{
    uint64_t best = ~0ul;

    for (uint32_t i = 0; i < CALIBRATION_TRIES; i++) { /* a try may be interrupted */
        uint32_t rounds = CALIBRATION_ROUNDS;
        uint64_t begin = ticks();
        __asm__ volatile("1: dec %0; jnz 1b" : "+r"(rounds) : : "cc");
        uint64_t taken = ticks() - begin;
        if (taken < best) best = taken;
    }
    return best >= 2 * CALIBRATION_ROUNDS && best <= 2 * CALIBRATION_ROUNDS + CALIBRATION_SLACK;
}

static struct peer spinner;

void spinner_start(void)
{
    peer_open(&spinner, peer_spin, 1);
    peer_start(&spinner);
}

uint64_t switches(void)
{
    struct system_info info;

    check(sys_system_info(&info), "system information");
    return info.switches;
}

uint64_t idle_ticks(void)
{
    struct system_info info;

    check(sys_system_info(&info), "system information");
    return info.idle_tsc + (spinner.page != NULL ? spinner.page->count * SPINNER_INSTRUCTIONS : 0);
}
