/* SPDX-License-Identifier: BSD-2-Clause
 * What a process knows of itself: capabilities and arguments by name, a place for its mappings, the
 * time, the log. Owns the addresses behind the image. Everything here works without memory of its
 * own beyond a few words: start-up is part of every recovery. */
#include "runtime.h"

#define LOG_LINE_MAX 512 /* abi/syscalls.def: log */

const struct startup_cap *cap_entry(const char *name)
{
    const struct startup *s = startup();
    uint32_t count = s->cap_count < STARTUP_CAPS ? s->cap_count : STARTUP_CAPS;

    for (uint32_t i = 0; i < count; i++)
        if (strncmp(s->cap[i].name, name, STARTUP_NAME_MAX) == 0) return &s->cap[i];
    return NULL;
}

/* A service that is called and has sessions has two entries of its name: the one with a handle counts. */
handle_t cap_find(const char *name)
{
    const struct startup *s = startup();
    uint32_t count = s->cap_count < STARTUP_CAPS ? s->cap_count : STARTUP_CAPS;

    for (uint32_t i = 0; i < count; i++)
        if (s->cap[i].handle != 0 && strncmp(s->cap[i].name, name, STARTUP_NAME_MAX) == 0)
            return s->cap[i].handle;
    return 0;
}

/* The text after "key=" in the argument string, or NULL. */
static const char *arg_value(const char *key)
{
    const char *at = startup()->args, *end = at + sizeof(startup()->args);
    size_t length = strlen(key);

    while (at < end && *at != 0) {
        if ((size_t)(end - at) > length && strncmp(at, key, length) == 0 && at[length] == '=')
            return at + length + 1;
        while (at < end && *at != 0 && *at != ' ') at++;
        while (at < end && *at == ' ') at++;
    }
    return NULL;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return 99;
}

uint64_t arg_number(const char *key, uint64_t fallback)
{
    const char *at = arg_value(key);
    uint64_t value = 0;
    int base = 10;

    if (at == NULL) return fallback;
    if (at[0] == '0' && (at[1] == 'x' || at[1] == 'X')) {
        base = 16;
        at += 2;
    }
    if (digit_value(*at) >= base) return fallback;
    for (; digit_value(*at) < base; at++) value = value * (uint64_t)base + (uint64_t)digit_value(*at);
    return *at == 0 || *at == ' ' ? value : fallback;
}

bool arg_text(const char *key, char *out, size_t size)
{
    const char *at = arg_value(key), *end = startup()->args + sizeof(startup()->args);
    size_t n = 0;

    if (at == NULL || size == 0) return false;
    for (; at < end && *at != 0 && *at != ' '; at++) {
        if (n + 1 == size) return false;
        out[n++] = *at;
    }
    out[n] = 0;
    return true;
}

extern const char image_end[] __attribute__((weak)); /* lib/user.ld; tests have no image */

/* Behind the image and a page that is never mapped. */
static uint64_t mappings_base(void)
{
    uint64_t end = (uint64_t)image_end;

    return end == 0 ? USER_DYNAMIC : (PAGES_FOR(end) + 1) * PAGE_SIZE;
}

static uint64_t own_position; /* bytes given out */
static uint64_t *position = &own_position;

void map_position_keep(uint64_t *at) { position = at; }

/* Addresses only grow: 128 TiB outlast any process, and a stale pointer faults instead of lying. They are given out
 * before they are used: who is ended in between leaves a hole, not a mapping in the way. */
status_t map_range(handle_t memory, uint64_t offset_pages, uint64_t pages, uint32_t prot, void **out)
{
    uint64_t at = mappings_base() + *position;

    __atomic_store_n(position, *position + pages * PAGE_SIZE, __ATOMIC_RELAXED);
    status_t status = sys_memory_map(0, memory, at, offset_pages, pages, prot);
    if (status != OK) {
        __atomic_store_n(position, *position - pages * PAGE_SIZE, __ATOMIC_RELAXED);
        return status;
    }
    *out = (void *)at;
    return OK;
}

status_t map_new(handle_t memory, uint64_t pages, uint32_t prot, void **out)
{
    return map_range(memory, 0, pages, prot, out);
}

uint64_t rdtsc(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

uint64_t clock_ns(void)
{
    static uint64_t base_ns, base_tsc, ns_per_tick; /* the last in 1/2^32 */

    if (ns_per_tick == 0) {
        struct sys_result now = sys_clock();
        base_ns = now.value;
        base_tsc = now.value1;
        ns_per_tick = (1000000000ul << 32) / startup()->tsc_hz;
    }
    return base_ns + (uint64_t)(((unsigned __int128)(rdtsc() - base_tsc) * ns_per_tick) >> 32);
}

static void log_write(const char *text, va_list args)
{
    static handle_t log;
    char line[LOG_LINE_MAX];

    if (log == 0) log = cap_find("log");
    if (log == 0) log = cap_find("trace");
    if (log == 0) return;
    int n = format_v(line, sizeof(line), text, args);
    size_t length = (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1;
    (void)sys_log(log, line, length); /* a log that is refused has nowhere to say so */
}

void log_line(const char *text, ...)
{
    va_list args;

    va_start(args, text);
    log_write(text, args);
    va_end(args);
}

void fatal(const char *text, ...)
{
    va_list args;

    va_start(args, text);
    log_write(text, args);
    va_end(args);
    sys_exit(1);
}

status_t service_call(handle_t endpoint, uint16_t label, struct message *m)
{
    m->info = (m->info & ~0xfffful) | label;
    status_t status = sys_call(endpoint, m);

    return status != OK ? status : (status_t)INFO_LABEL(m->info);
}
