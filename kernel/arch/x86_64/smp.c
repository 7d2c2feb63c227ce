/* SPDX-License-Identifier: BSD-2-Clause
 * The other processors: started one after the other by INIT and start-up interrupts (SDM vol. 3A, 9.4) before
 * the kernel has given out any memory, so that the pages they start from need not be kept. A processor that
 * does not come, or whose clock cannot be set to the boot processor's, is put back to waiting and named in
 * the log; the machine runs without it. */
#include "x86.h"
#include "sched.h"
#include "print.h"

#define LOW_END        0x100000ul
#define LOW_PAGES      4u /* code, PML4, PDPT, PD */
#define INIT_WAIT_US   10000ul
#define AGAIN_US       100000ul
#define ALIVE_US       5000000ul
#define CLOCK_ROUNDS   64u
#define MSR_TSC        0x10
#define MSR_TSC_ADJUST 0x3b

#define PTE_TABLE 3ul    /* present, writable */
#define PTE_PAGE  0x83ul /* and 2 MiB */

extern const uint8_t trampoline[]; /* boot.S */
extern const struct trampoline_layout {
    uint32_t bytes, root, cpu; /* root, cpu: offsets of words to be filled in */
} trampoline_layout;
struct context *smp_entered(void);

/* What the boot CPU asks of the one that starts. */
enum order { ORDER_NONE, ORDER_READ_CLOCK, ORDER_SET_CLOCK, ORDER_GO };
static uint32_t alive, order;
static uint64_t clock_read; /* TSC of the new CPU, or what is to be added to it */

static uint64_t tsc_exact(void)
{
    __asm__ volatile("lfence" ::: "memory");
    uint64_t tsc = arch_tsc();
    __asm__ volatile("lfence" ::: "memory");
    return tsc;
}

static bool wait_alive(uint64_t us)
{
    uint64_t since = arch_tsc(), ticks = arch_platform.tsc_hz / 1000000 * us;
    while (!__atomic_load_n(&alive, __ATOMIC_ACQUIRE)) {
        if (arch_tsc() - since > ticks) return false;
        __builtin_ia32_pause();
    }
    return true;
}

/* --- The new CPU ------------------------------------------------------------------------------------------ */

static void clock_set(uint64_t add)
{
    bool adjust = cpuid(0).eax >= 7 && (cpuid(7).ebx >> 1 & 1);
    if (adjust)
        msr_write(MSR_TSC_ADJUST, msr_read(MSR_TSC_ADJUST) + add);
    else
        msr_write(MSR_TSC, arch_tsc() + add);
}

struct context *smp_entered(void)
{
    cpu_init();
    apic_enable();
    __atomic_store_n(&alive, 1, __ATOMIC_RELEASE);
    for (uint32_t o = ORDER_NONE; o != ORDER_GO;) {
        o = __atomic_load_n(&order, __ATOMIC_ACQUIRE);
        if (o == ORDER_READ_CLOCK) clock_read = tsc_exact();
        if (o == ORDER_SET_CLOCK) clock_set(clock_read);
        if (o != ORDER_NONE) __atomic_store_n(&order, ORDER_NONE, __ATOMIC_RELEASE);
        __builtin_ia32_pause();
    }
    arch_lock();
    return kernel_resume();
}

/* --- The boot CPU ----------------------------------------------------------------------------------------- */

static void ask(enum order what)
{
    __atomic_store_n(&order, what, __ATOMIC_RELEASE);
    while (__atomic_load_n(&order, __ATOMIC_ACQUIRE)) __builtin_ia32_pause();
}

/* Each round bounds how far the other clock is ahead, since its reading lies between two of ours. The rounds
 * together contradict "not at all" (0 ahead) only if the clocks really differ: with 0 in the bounds no
 * message between the two CPUs was seen to arrive before it was sent. */
struct ahead {
    int64_t least, most;
};

static struct ahead clock_compare(void)
{
    struct ahead a = {INT64_MIN, INT64_MAX};
    for (unsigned i = 0; i < CLOCK_ROUNDS; i++) {
        uint64_t before = tsc_exact();
        ask(ORDER_READ_CLOCK);
        int64_t least = (int64_t)(clock_read - tsc_exact()), most = (int64_t)(clock_read - before);
        if (least > a.least) a.least = least;
        if (most < a.most) a.most = most;
    }
    return a;
}

static bool clock_agrees(struct ahead a) { return a.least <= 0 && a.most >= 0; }

static bool clock_match(uint32_t apic)
{
    struct ahead a = clock_compare();
    if (clock_agrees(a)) return true;
    clock_read = (uint64_t) - (a.least + (a.most - a.least) / 2);
    ask(ORDER_SET_CLOCK);
    struct ahead b = clock_compare();
    kernel_log("kernel: CPU with APIC id %u: TSC was ahead by %ld to %ld ticks, now by %ld to %ld", apic,
               a.least, a.most, b.least, b.most);
    return clock_agrees(b);
}

/* Pages below 1 MiB that nobody uses yet; 0: none. */
static uint64_t low_find(const struct handoff *h)
{
    for (uint32_t i = 0; i < h->range_count && i < HANDOFF_RANGES; i++) {
        const struct handoff_range *r = &h->range[i];
        uint64_t from = r->base ? r->base : PAGE_SIZE, end = r->base + r->pages * PAGE_SIZE;
        if (end > LOW_END) end = LOW_END;
        if (r->kind == RANGE_FREE && from + LOW_PAGES * PAGE_SIZE <= end) return from;
    }
    return 0;
}

static void trampoline_put(uint64_t low, uint32_t offset, uint64_t value)
{
    *(uint64_t *)arch_direct((paddr_t){low + offset}) = value;
}

/* The code, and tables that map it where it is, and the kernel where that is. */
static void trampoline_place(uint64_t low)
{
    uint64_t *root = arch_direct((paddr_t){low + PAGE_SIZE});
    uint64_t *level3 = root + PAGE_SIZE / 8, *level2 = level3 + PAGE_SIZE / 8;
    __builtin_memcpy(arch_direct((paddr_t){low}), trampoline, trampoline_layout.bytes);
    __builtin_memcpy(root, arch_direct((paddr_t){space_kernel_root()}), PAGE_SIZE);
    __builtin_memset(level3, 0, 2 * PAGE_SIZE);
    root[0] = (low + 2 * PAGE_SIZE) | PTE_TABLE;
    level3[0] = (low + 3 * PAGE_SIZE) | PTE_TABLE;
    level2[0] = PTE_PAGE;
    trampoline_put(low, trampoline_layout.root, low + PAGE_SIZE);
}

static bool cpu_start(struct cpu *c, uint32_t apic, uint64_t low)
{
    alive = order = 0;
    cpu_stacks_init(c);
    c->arch.root = space_kernel_root();
    c->arch.guard = (cpus[0].arch.guard * 0x9e3779b97f4a7c15ul + arch_tsc()) << 8;
    trampoline_put(low, trampoline_layout.cpu, (uint64_t)c);
    apic_send(apic, APIC_INIT);
    wait_alive(INIT_WAIT_US);
    apic_send(apic, APIC_START(low / PAGE_SIZE));
    if (!wait_alive(AGAIN_US)) apic_send(apic, APIC_START(low / PAGE_SIZE));
    if (!wait_alive(ALIVE_US)) {
        kernel_log("kernel: CPU with APIC id %u does not start", apic);
    } else if (clock_match(apic)) {
        ask(ORDER_GO);
        return true;
    }
    apic_send(apic, APIC_INIT); /* it waits for the next start-up interrupt, which never comes */
    return false;
}

void smp_start(const struct acpi *acpi, const struct handoff *h)
{
    uint64_t low = acpi->reachable > 1 ? low_find(h) : 0;
    if (low) trampoline_place(low);
    if (!low && acpi->reachable > 1) kernel_log("kernel: no free page below 1 MiB to start CPUs from");
    for (uint32_t i = 0; low && i < acpi->reachable && arch_platform.cpus < CPUS_MAX; i++)
        if (acpi->apic_id[i] != cpus[0].arch.apic_id)
            arch_platform.cpus += cpu_start(&cpus[arch_platform.cpus], acpi->apic_id[i], low);
    if (acpi->cpus > arch_platform.cpus)
        kernel_log("kernel: %u CPUs present, %u used", acpi->cpus, arch_platform.cpus);
    if (arch_platform.cpus > 1) lock_times_start();
}

/* --- The end ------------------------------------------------------------------------------------------------ */

void arch_freeze(void)
{
    static struct cpu *freezer;
    struct cpu *self = arch_cpu(), *first = NULL;
    if (__atomic_compare_exchange_n(&freezer, &first, self, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        each_cpu(c) if (c != self) apic_send(c->arch.apic_id, APIC_NMI);
        return;
    }
    while (first != self) __asm__ volatile("cli; hlt");
}
