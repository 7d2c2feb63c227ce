/* SPDX-License-Identifier: BSD-2-Clause
 * The trace rings (abi/trace.h): one a CPU, written only here, readable through the trace object. */
#ifndef COPPICE_KERNEL_TRACE_H
#define COPPICE_KERNEL_TRACE_H

#include "../abi/trace.h"
#include "memory.h"

#define TRACE_ENTRIES 65536ul
#define TRACE_PAGES   (1 + TRACE_ENTRIES * sizeof(struct trace_entry) / PAGE_SIZE)

struct trace {
    struct object object;
    struct memory *memory;
};
void trace_init(void);
void trace(enum trace_event event, tag_t tag, uint64_t a, uint64_t b);
/* What a process can bring about as often as it likes. How often a service dies and starts is its supervisor's
 * policy; what the processes that a service made do is traced while the service has credit. */
void trace_process(enum trace_event event, struct process *p, uint64_t a, uint64_t b);
paddr_t trace_paddr(void);  /* of the first ring; those of the other CPUs follow, TRACE_PAGES each */
uint64_t trace_pages(void); /* of all rings */
struct trace *trace_object(void);

#endif
