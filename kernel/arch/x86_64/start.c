/* SPDX-License-Identifier: BSD-2-Clause
 * The order in which the machine comes up, from the loader's handoff to the first process. Anything that
 * fails here is a panic line on the debug port. */
#include "x86.h"
#include "print.h"

struct context *arch_start(const struct handoff *h);

struct context *arch_start(const struct handoff *h)
{
    static struct acpi acpi;
    debug_init();
    if (h->magic != HANDOFF_MAGIC || h->version != HANDOFF_VERSION || h->size != sizeof *h)
        kernel_panic("the loader's handoff is not of version %u", HANDOFF_VERSION);
    symbols_init(arch_direct((paddr_t){h->kernel_file_paddr}), h->kernel_file_bytes);
    arch_lock();
    space_init(h);
    cpu_init();
    const char *wrong = acpi_parse(arch_direct((paddr_t){0}), h->direct_map_bytes, h->rsdp, &acpi);
    if (wrong) kernel_panic("ACPI: %s", wrong);
    platform_init(&acpi);
    apic_init(&acpi);
    interrupts_init(&acpi);
    vtd_init(&acpi);
    apic_calibrate(&acpi);
    smp_start(&acpi, h);
    kernel_main(h);
    return kernel_resume();
}
