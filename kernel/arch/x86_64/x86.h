/* SPDX-License-Identifier: BSD-2-Clause
 * Privileged instructions as functions, and what the port's files call in each other. */
#ifndef COPPICE_X86_H
#define COPPICE_X86_H

#include "arch/arch.h"
#include "offsets.h"
#include "acpi.h"

/* --- Instructions (Intel SDM vol. 2) ----------------------------------------------------------- */
static inline uint64_t msr_read(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}
static inline void msr_write(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)) : "memory");
}
static inline uint8_t in8(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint16_t in16(uint16_t port)
{
    uint16_t v;
    __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint32_t in32(uint16_t port)
{
    uint32_t v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline void out8(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port) : "memory");
}
static inline void out16(uint16_t port, uint16_t v)
{
    __asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port) : "memory");
}
static inline void out32(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port) : "memory");
}
struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};
static inline struct cpuid cpuid(uint32_t leaf)
{
    struct cpuid r;
    __asm__ volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(0));
    return r;
}
#define CONTROL_REGISTER(name)                              \
    static inline uint64_t name##_read(void)                \
    {                                                       \
        uint64_t v;                                         \
        __asm__ volatile("movq %%" #name ", %0" : "=r"(v)); \
        return v;                                           \
    }                                                       \
    static inline void name##_write(uint64_t v) { __asm__ volatile("movq %0, %%" #name ::"r"(v) : "memory"); }
CONTROL_REGISTER(cr0)
CONTROL_REGISTER(cr2)
CONTROL_REGISTER(cr3)
CONTROL_REGISTER(cr4)
CONTROL_REGISTER(dr6)
CONTROL_REGISTER(dr7)
static inline void page_flush(uint64_t va) { __asm__ volatile("invlpg (%0)" ::"r"(va) : "memory"); }

/* --- cpu.c: one CPU's tables and modes ------------------------------------------------------------ */
void cpu_init(void);
void cpu_stacks_init(struct cpu *c);
bool cpu_stack_holds(uint64_t address, uint64_t bytes); /* inside one of the kernel's stacks */

/* --- space.c --------------------------------------------------------------------------------------- */
void space_init(const struct handoff *h);
void space_guard(const void *page); /* unmaps one page of the kernel's own image */
uint64_t space_kernel_root(void);   /* physical address of the kernel's own PML4 */
/* Kernel pointer to a device page, uncached. NULL: the window is full. Never undone. */
volatile void *device_map(paddr_t p, uint64_t bytes) MUST_USE;

/* --- apic.c: local APIC and its timer ----------------------------------------------------------------- */
void apic_init(const struct acpi *acpi);
void apic_enable(void);                       /* this CPU's */
void apic_calibrate(const struct acpi *acpi); /* fills arch_platform.tsc_hz */
void apic_eoi(void);
bool apic_in_service(uint8_t vector); /* delivered to this CPU, and no EOI yet */
void apic_error(void);
uint32_t apic_id(void);
void apic_send_self(uint8_t vector);
void apic_send(uint32_t to, uint32_t command); /* APIC_* below, or a vector */
#define APIC_NMI         0x4400u
#define APIC_INIT        0x4500u
#define APIC_START(page) (0x4600u | (page))

/* --- smp.c: the other processors ------------------------------------------------------------------------- */
void smp_start(const struct acpi *acpi, const struct handoff *h); /* fills arch_platform.cpus */

/* --- lock.c: waiting for the kernel lock, and how long it is held ---------------------------------------- */
void lock_times_start(void);
struct context *trap_interrupt(uint32_t vector);
struct context *trap_user(uint32_t vector, uint32_t error);

/* --- interrupts.c: I/O APIC lines and MSI-X ------------------------------------------------------------- */
void interrupts_init(const struct acpi *acpi);
bool interrupt_arrived(uint8_t vector); /* false: not to be delivered now */

/* Learns how each I/O APIC signs its messages. False: not of all, so interrupts cannot be remapped. */
struct dmar;
bool interrupts_sources(const struct dmar *dmar);

/* --- vtd*.c: the IOMMU ------------------------------------------------------------------------------- */
void vtd_init(const struct acpi *acpi);
bool vtd_owns(paddr_t p, uint64_t pages); /* its registers */
void vtd_faults(void);
bool vtd_remaps(void); /* interrupts go through its table; then every vector must be opened there */
void vtd_interrupt_open(uint8_t vector, uint32_t source,
                        bool level); /* source: bus<<8 | device<<3 | function */
void vtd_interrupt_close(uint8_t vector);

/* --- platform.c ------------------------------------------------------------------------------------- */
void platform_init(const struct acpi *acpi);
void debug_init(void);
bool pci_behind(uint32_t bridge, uint32_t bdf); /* on one of the buses behind this bridge */

#endif
