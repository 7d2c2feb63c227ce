/* SPDX-License-Identifier: BSD-2-Clause
 * Trace rings. Writing an entry is a handful of stores; the oldest is overwritten. */
#include "trace.h"
#include "process.h"
#include "frame.h"
#include "print.h"

static struct trace_header *header; /* of the boot CPU's ring */
static struct trace_entry *entries;
static paddr_t ring;
static struct trace object;

void trace_init(uint32_t cpus)
{
    assert(cpus >= 1);
    status_t s = frame_alloc_run(NULL, TRACE_PAGES, &ring);
    if (s != OK) kernel_panic("no memory for the trace ring: %lu pages", TRACE_PAGES);
    header = arch_direct(ring);
    entries = (struct trace_entry *)(void *)((uint8_t *)header + PAGE_SIZE);
    *header = (struct trace_header){.magic = TRACE_MAGIC,
                                    .version = TRACE_VERSION,
                                    .entries = TRACE_ENTRIES,
                                    .tsc_hz = arch_platform.tsc_hz};
    object.object.type = OBJECT_TRACE;
}

void trace(enum trace_event event, tag_t tag, uint64_t a, uint64_t b)
{
    struct trace_entry *e = &entries[header->head % TRACE_ENTRIES];
    *e = (struct trace_entry){.tsc = arch_tsc(), .event = (uint16_t)event, .tag = tag, .a = a, .b = b};
    __atomic_store_n(&header->head, header->head + 1, __ATOMIC_RELEASE);
}

paddr_t trace_paddr(void) { return ring; }
struct trace *trace_object(void) { return &object; }
