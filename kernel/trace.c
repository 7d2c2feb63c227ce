/* SPDX-License-Identifier: BSD-2-Clause
 * Trace rings. Writing an entry is a handful of stores; the oldest is overwritten. */
#include "trace.h"
#include "process.h"
#include "frame.h"
#include "print.h"

static paddr_t rings;
static struct trace object;

static void trace_open(struct cpu *c)
{
    c->trace = arch_direct((paddr_t){rings.v + c->id * TRACE_PAGES * PAGE_SIZE});
    *c->trace = (struct trace_header){.magic = TRACE_MAGIC,
                                      .version = TRACE_VERSION,
                                      .cpu = c->id,
                                      .entries = TRACE_ENTRIES,
                                      .tsc_hz = arch_platform.tsc_hz};
}

void trace_init(void)
{
    status_t s = frame_alloc_run(NULL, trace_pages(), &rings);
    if (s != OK) kernel_panic("no memory for the trace rings: %lu pages", trace_pages());
    each_cpu(c) trace_open(c);
    object.object.type = OBJECT_TRACE;
}

void trace(enum trace_event event, tag_t tag, uint64_t a, uint64_t b)
{
    struct trace_header *h = arch_cpu()->trace;
    struct trace_entry *entries = (struct trace_entry *)(void *)((uint8_t *)h + PAGE_SIZE);
    entries[h->head % TRACE_ENTRIES] = (struct trace_entry){
        .tsc = arch_tsc(), .event = (uint16_t)event, .cpu = (uint16_t)h->cpu, .tag = tag, .a = a, .b = b};
    __atomic_store_n(&h->head, h->head + 1, __ATOMIC_RELEASE);
}

void trace_process(enum trace_event event, struct process *p, uint64_t a, uint64_t b)
{
    if (p != p->service) {
        if (!p->service->trace_credit) return;
        if (!--p->service->trace_credit) trace(TRACE_TRUNCATED, p->object.tag, 0, 0);
    }
    trace(event, p->object.tag, a, b);
}

paddr_t trace_paddr(void) { return rings; }
uint64_t trace_pages(void) { return TRACE_PAGES * arch_platform.cpus; }
struct trace *trace_object(void) { return &object; }
