/* SPDX-License-Identifier: BSD-2-Clause
 * The local APIC in xAPIC mode (SDM vol. 3A, ch. 10), its timer, and the rates of timer and TSC, measured
 * against the ACPI PM timer. The timer is one-shot; early is allowed (kernel_timer looks at the clock and
 * arms again), late is not: ticks are rounded up by one only, far deadlines are clamped. */
#include "x86.h"
#include "sched.h"
#include "print.h"

#define MSR_APIC_BASE    0x1b
#define APIC_BASE_ENABLE (1ul << 11)
#define APIC_BASE_X2APIC (1ul << 10)

#define APIC_ID            0x20
#define APIC_TPR           0x80
#define APIC_EOI           0xb0
#define APIC_SPURIOUS      0xf0
#define APIC_IN_SERVICE    0x100 /* eight registers of 32 vectors, 16 bytes apart */
#define APIC_SPURIOUS_ON   (1u << 8)
#define APIC_ESR           0x280
#define APIC_ICR_LOW       0x300
#define APIC_ICR_HIGH      0x310
#define APIC_ICR_PENDING   (1u << 12)
#define APIC_ICR_SELF      (1u << 18 | 1u << 14) /* shorthand: self; level assert; fixed */
#define APIC_LVT_TIMER     0x320
#define APIC_LVT_LINT0     0x350
#define APIC_LVT_LINT1     0x360
#define APIC_LVT_ERROR     0x370
#define APIC_LVT_NMI       (4u << 8)
#define APIC_LVT_MASKED    (1u << 16)
#define APIC_TIMER_INITIAL 0x380
#define APIC_TIMER_CURRENT 0x390
#define APIC_TIMER_DIVIDE  0x3e0
#define APIC_DIVIDE_BY_1   0xb

#define PM_TIMER_HZ  3579545u /* ACPI 6.5, 4.8.3.3 */
#define CALIBRATE_PM 35795u   /* 10 ms */
#define SAMPLE_TRIES 16u

static volatile uint8_t *apic;
static uint64_t timer_scale; /* timer ticks a TSC tick, 32.32 */

static uint32_t apic_read(unsigned reg) { return *(volatile uint32_t *)(apic + reg); }
static void apic_write(unsigned reg, uint32_t value) { *(volatile uint32_t *)(apic + reg) = value; }

void apic_eoi(void) { apic_write(APIC_EOI, 0); }

bool apic_in_service(uint8_t vector)
{
    return apic_read(APIC_IN_SERVICE + vector / 32 * 0x10) >> vector % 32 & 1;
}
uint32_t apic_id(void) { return apic_read(APIC_ID) >> 24; }
void apic_send_self(uint8_t vector) { apic_write(APIC_ICR_LOW, APIC_ICR_SELF | vector); }

void apic_send(uint32_t to, uint32_t command)
{
    while (apic_read(APIC_ICR_LOW) & APIC_ICR_PENDING) __builtin_ia32_pause();
    apic_write(APIC_ICR_HIGH, to << 24);
    apic_write(APIC_ICR_LOW, command);
}

void apic_error(void)
{
    apic_write(APIC_ESR, 0); /* latches the errors for reading */
    kernel_log("kernel: local APIC error 0x%x", apic_read(APIC_ESR));
}

void apic_enable(void)
{
    uint64_t base = msr_read(MSR_APIC_BASE);
    if (base & APIC_BASE_X2APIC) { /* x2APIC only goes back to xAPIC through off */
        base &= ~(APIC_BASE_X2APIC | APIC_BASE_ENABLE);
        msr_write(MSR_APIC_BASE, base);
    }
    msr_write(MSR_APIC_BASE, base | APIC_BASE_ENABLE);
    apic_write(APIC_TPR, 0);
    apic_write(APIC_LVT_TIMER, APIC_LVT_MASKED | VECTOR_TIMER);
    apic_write(APIC_TIMER_INITIAL, 0);
    apic_write(APIC_LVT_LINT0, APIC_LVT_MASKED); /* the old PICs: not used */
    apic_write(APIC_LVT_LINT1, APIC_LVT_NMI);
    apic_write(APIC_LVT_ERROR, VECTOR_ERROR);
    apic_write(APIC_ESR, 0);
    apic_write(APIC_SPURIOUS, APIC_SPURIOUS_ON | VECTOR_SPURIOUS);
    apic_write(APIC_TIMER_DIVIDE, APIC_DIVIDE_BY_1);
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER); /* one-shot, and stopped */
    apic_eoi();                               /* whatever the firmware left in service */
    arch_cpu()->arch.apic_id = apic_id();
}

void apic_init(const struct acpi *acpi)
{
    apic = device_map((paddr_t){acpi->lapic_paddr}, PAGE_SIZE);
    if (!apic || acpi->lapic_paddr % PAGE_SIZE) kernel_panic("no local APIC at 0x%lx", acpi->lapic_paddr);
    apic_enable();
}

/* --- Rates ----------------------------------------------------------------------------------------------- */

struct sample {
    uint64_t tsc;
    uint32_t pm, apic;
};

/* All three clocks at one moment. Of several tries the one that took least is taken, so that being
 * interrupted by the machine below (SMI, hypervisor) spoils nothing. */
static struct sample sample_take(uint16_t pm_port)
{
    struct sample best = {0};
    uint64_t best_width = ~0ul;
    for (unsigned i = 0; i < SAMPLE_TRIES; i++) {
        struct sample s;
        uint64_t before = arch_tsc();
        s.pm = in32(pm_port);
        s.apic = apic_read(APIC_TIMER_CURRENT);
        uint64_t width = arch_tsc() - before;
        s.tsc = before + width / 2;
        if (width >= best_width) continue;
        best = s;
        best_width = width;
    }
    return best;
}

void apic_calibrate(const struct acpi *acpi)
{
    uint16_t port = acpi->pm_timer;
    if (!port) kernel_panic("ACPI names no PM timer");
    apic_write(APIC_LVT_TIMER, APIC_LVT_MASKED | VECTOR_TIMER);
    apic_write(APIC_TIMER_INITIAL, ~0u);
    struct sample from = sample_take(port), to;
    uint64_t spins = 0;
    while (((in32(port) - from.pm) & acpi->pm_timer_mask) < CALIBRATE_PM)
        if (++spins > 1ul << 28) kernel_panic("the ACPI PM timer at port 0x%x stands still", port);
    to = sample_take(port);
    uint64_t pm = (to.pm - from.pm) & acpi->pm_timer_mask, tsc = to.tsc - from.tsc,
             ticks = from.apic - to.apic;
    apic_write(APIC_TIMER_INITIAL, 0);
    if (!tsc || !ticks) kernel_panic("TSC or local APIC timer stands still");
    arch_platform.tsc_hz = tsc * PM_TIMER_HZ / pm;
    timer_scale = (ticks << 32) / tsc;
    apic_write(APIC_LVT_TIMER, VECTOR_TIMER); /* one-shot */
}

void arch_timer_arm(uint64_t deadline)
{
    uint64_t now = arch_tsc(), ticks = 0; /* 0 stops it */
    if (deadline != ~0ul) {
        unsigned __int128 exact =
            deadline > now ? (unsigned __int128)(deadline - now) * timer_scale >> 32 : 0;
        ticks = exact < 0xfffffffe ? (uint64_t)exact + 1 : 0xffffffff;
    }
    apic_write(APIC_TIMER_INITIAL, (uint32_t)ticks);
}
