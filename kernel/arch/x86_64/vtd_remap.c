/* SPDX-License-Identifier: BSD-2-Clause
 * Interrupt remapping (5.1, 9.10): the entry with a vector's number says who may raise the vector, and where it
 * goes. A message from anybody else, or for an entry that is not present, is dropped by the unit. */
#include "vtd.h"

#define ENTRY_PRESENT   1ul
#define ENTRY_LEVEL     (1ul << 4)
#define ENTRY_VERIFY    (1ul << 18) /* the whole source id */
#define INTERRUPT_ENTRY (4ul | 1ul << 4)

static void entry_set(uint8_t vector, uint64_t low, uint64_t high)
{
    struct vtd_request request = {INTERRUPT_ENTRY | (uint64_t)vector << 32, 0};
    volatile struct vtd_request *e = &vtd.interrupt[vector];
    e->low = 0;
    e->high = high;
    e->low = low;
    vtd_flush(e, sizeof *e);
    vtd_invalidate(&request, 1);
}

bool vtd_remaps(void) { return vtd.remaps; }

void vtd_interrupt_open(uint8_t vector, uint32_t source, bool level)
{
    entry_set(vector,
              ENTRY_PRESENT | (level ? ENTRY_LEVEL : 0) | (uint64_t)vector << 16 | (uint64_t)apic_id() << 40,
              ENTRY_VERIFY | source);
}

void vtd_interrupt_close(uint8_t vector) { entry_set(vector, 0, 0); }
