/* SPDX-License-Identifier: BSD-2-Clause
 * Samples, and the lines that leave the guest: JSON on port 0xe9, as Coppice's kernel log has them. */
#include "bench.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>

#define LOG_PORT 0xe9

void report_open(void)
{
    if (ioperm(LOG_PORT, 1, 1) != 0) power_off(); /* nobody would hear why */
}

void say(const char *format, ...)
{
    char line[512];
    va_list arguments;

    va_start(arguments, format);
    int n = vsnprintf(line, sizeof(line) - 1, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= sizeof(line) - 1) n = sizeof(line) - 2;
    line[n] = '\n';
    for (int i = 0; i <= n; i++) outb((unsigned char)line[i], LOG_PORT);
}

void fail(const char *what)
{
    say("{\"bench\":{\"error\":\"%s: %s\"}}", what, strerror(errno));
    power_off();
}

void check(bool good, const char *what)
{
    if (!good) fail(what);
}

void samples_add(struct samples *s, uint64_t value)
{
    check(s->n < SAMPLES_MAX, "room for a sample");
    s->v[s->n++] = value;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The sample below which `percent` of them lie (nearest rank). */
static unsigned long percentile(const struct samples *s, uint32_t percent)
{
    return s->v[(uint64_t)(s->n - 1) * percent / 100];
}

void samples_report(struct samples *s, const char *name, uint64_t each)
{
    check(s->n > 0, name);
    qsort(s->v, s->n, sizeof(s->v[0]), by_value);
    say("{\"bench\":{\"name\":\"%s\",\"n\":%u,\"each\":%lu,\"min\":%lu,\"p50\":%lu,\"p90\":%lu,\"p99\":%lu,"
        "\"max\":%lu}}",
        name, s->n, (unsigned long)each, percentile(s, 0), percentile(s, 50), percentile(s, 90),
        percentile(s, 99), percentile(s, 100));
    s->n = 0;
}

uint64_t random_next(void)
{
    static uint64_t state = 0x9e3779b97f4a7c15;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}
