/* SPDX-License-Identifier: BSD-2-Clause
 * `trace`: the newest entries of the kernel's trace rings in words. Reads the rings as abi/trace.h
 * says a reader must: copy, then drop what may have been overwritten meanwhile. Never writes them.
 */
#include "console.h"

struct event_words {
    const char *name, *a, *b;
};
static const struct event_words events[] = {
#define EVENT(name, number, a, b, text) [number] = {#name, a, b},
#include "abi/trace.def"
#undef EVENT
};
struct mark_words {
    const char *name, *value;
};
static const struct mark_words marks[] = {
#define MARK(name, number, value, text) [number] = {#name, value},
#include "abi/marks.def"
#undef MARK
};
static const char *const causes[] = {
#define CAUSE(name, number, text) [number] = #name,
#include "abi/faults.def"
#undef CAUSE
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool word_in(const char *label, const char *word)
{
    size_t n = strlen(word);
    for (; *label != 0; label++)
        if (strncmp(label, word, n) == 0) return true;
    return false;
}

static void tag_format(char *out, size_t size, uint64_t tag)
{
    format(out, size, "%s.%u", service_name(TAG_SERVICE((tag_t)tag)), TAG_GENERATION((tag_t)tag));
}

/* The labels of trace.def say what a number is. */
static void value_format(char *out, size_t size, const char *label, uint64_t value)
{
    if (label[0] == 0 || word_in(label, "tsc"))
        out[0] = 0;
    else if (strcmp(label, "cause") == 0 && value < COUNT(causes) && causes[value] != NULL)
        format(out, size, "%s", causes[value]);
    else if (strcmp(label, "service") == 0)
        format(out, size, "%s", service_name((uint32_t)value));
    else if (word_in(label, "tag") && value != 0)
        tag_format(out, size, value);
    else if (word_in(label, "rip") || word_in(label, "address") || word_in(label, "bits"))
        format(out, size, "%s 0x%lx", label, value);
    else if (word_in(label, "bdf"))
        format(out, size, "%02lx:%02lx.%lx", value >> 8, value >> 3 & 31, value & 7);
    else
        format(out, size, "%s %lu", label, value);
}

/* A mark's name is in a, and what b means is the mark's to say (abi/marks.def). */
static void mark_format(char *a, char *b, size_t size, const struct trace_entry *e)
{
    const struct mark_words *w = e->a < COUNT(marks) ? &marks[e->a] : &marks[0];
    format(a, size, "%s", w->name != NULL ? w->name : "?");
    b[0] = 0;
    if (e->a == MARK_ATTACHED) {
        char tag[40];
        tag_format(tag, sizeof(tag), e->b >> 32);
        format(b, size, "%s, %lu requests in flight", tag, e->b & 0xffffffff);
    } else if (w->value != NULL && strcmp(w->value, "service") == 0) {
        format(b, size, "%s", service_name((uint32_t)e->b));
    } else if (w->value != NULL && w->value[0] != 0) {
        format(b, size, "%lu", e->b);
    }
}

static void entry_show(const struct trace_entry *e, const struct system_info *info)
{
    static const struct event_words unknown = {"?", "a", "b"};
    const struct event_words *w = &unknown;
    if (e->event < COUNT(events) && events[e->event].name != NULL) w = &events[e->event];
    char who[40], a[80], b[80];
    uint64_t us = (e->tsc - info->boot_tsc) / (info->tsc_hz / 1000000);
    if (e->tag == 0)
        format(who, sizeof(who), "kernel");
    else
        tag_format(who, sizeof(who), e->tag);
    if (e->event == TRACE_MARK) {
        mark_format(a, b, sizeof(a), e);
    } else {
        value_format(a, sizeof(a), w->a, e->a);
        value_format(b, sizeof(b), w->b, e->b);
    }
    const char *separator = a[0] != 0 && b[0] != 0 ? ", " : "";
    print("%6lu.%06lu  %-18s %-16s %s%s%s\n", us / 1000000, us % 1000000, who, w->name, a, separator, b);
}

static const struct trace_header *ring_map(const struct system_info *info)
{
    static const struct trace_header *ring;
    void *at;
    if (ring != NULL) return ring;
    status_t status = map_new(cap_find("trace"), info->trace_pages, RIGHT_READ, &at);
    if (status != OK) {
        print("trace: cannot map the rings: %s\n", status_text(status));
        return NULL;
    }
    ring = at;
    return ring;
}

static void ring_show(const struct trace_header *ring, const struct system_info *info, uint64_t count)
{
    const struct trace_entry *entries = (const void *)((const uint8_t *)ring + PAGE_SIZE);
    const volatile uint64_t *head = &ring->head;
    uint64_t capacity = ring->entries, end = *head;
    if (ring->magic != TRACE_MAGIC || ring->version != TRACE_VERSION || capacity == 0 ||
        capacity * sizeof(*entries) > info->trace_pages * PAGE_SIZE) {
        print("trace: the ring's header makes no sense\n");
        return;
    }
    if (count > capacity / 2) count = capacity / 2; /* showing them writes new ones */
    for (uint64_t n = end > count ? end - count : 0; n < end; n++) {
        struct trace_entry e = entries[n % capacity];
        if (*head - n < capacity) entry_show(&e, info);
    }
}

void trace_show(uint64_t count)
{
    struct system_info info;
    if (sys_system_info(&info) != OK) return;
    const struct trace_header *first = ring_map(&info);
    if (first == NULL) return;
    uint64_t ring_pages = info.cpus > 0 ? info.trace_pages / info.cpus : info.trace_pages;
    for (uint32_t cpu = 0; cpu < info.cpus; cpu++) {
        if (info.cpus > 1) print("cpu %u\n", cpu);
        ring_show((const void *)((const uint8_t *)first + cpu * ring_pages * PAGE_SIZE), &info, count);
    }
}
