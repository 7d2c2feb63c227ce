/* SPDX-License-Identifier: BSD-2-Clause
 * The VT-d units: start-up, the invalidation queue, the fault records. From arch_iommu_start on no function
 * reaches memory but through a domain, and (if the platform can) no message raises a vector that the kernel did
 * not give to its sender. A unit that lacks something needed is not used, and then none is: the machine runs
 * without an IOMMU and the log says why. A unit that stops answering is a panic: whether devices still reach
 * memory could not be known. */
#include "vtd.h"
#include "frame.h"
#include "print.h"

/* Registers (11.4). */
#define REG_CAP     0x08
#define REG_ECAP    0x10
#define REG_COMMAND 0x18
#define REG_STATUS  0x1c
#define REG_ROOT    0x20
#define REG_FAULT   0x34 /* status */
#define REG_EVENT   0x38 /* control, data, address, upper address */
#define REG_TAIL    0x88
#define REG_QUEUE   0x90
#define REG_REMAP   0xb8

#define CAP_DOMAINS(c)  (1ul << (4 + 2 * ((c)&7)))
#define CAP_WRITE_FLUSH (1ul << 4)
#define CAP_CACHING     (1ul << 7)
#define CAP_3_LEVELS    (1ul << 9)
#define CAP_4_LEVELS    (1ul << 10)
#define CAP_BITS(c)     (((c) >> 16 & 0x3f) + 1)
#define CAP_RECORDS(c)  ((c) >> 24 & 0x3ff) /* in units of 16 bytes */
#define CAP_RECORDED(c) (((c) >> 40 & 0xff) + 1)
#define ECAP_COHERENT   (1ul << 0)
#define ECAP_QUEUE      (1ul << 1)
#define ECAP_REMAP      (1ul << 3)

#define GO_TRANSLATE    (1u << 31)
#define GO_ROOT         (1u << 30)
#define GO_QUEUE        (1u << 26)
#define GO_REMAP        (1u << 25)
#define GO_REMAP_TABLE  (1u << 24)
#define STATUS_ONE_SHOT (~0x96ffffffu) /* bits of the status that are not written back (11.4.4) */

#define FAULT_OVERFLOW 1u
#define FAULT_PENDING  2u
#define FAULT_QUEUE    0x70u /* the queue met an error */
#define RECORD_VALID   (1ul << 63)
#define RECORD_READ    (1ul << 62)

#define QUEUE_ENTRIES 256u
#define CONTEXT_ALL   (1ul | 1ul << 4)
#define IOTLB_ALL     (2ul | 1ul << 4)
#define INTERRUPT_ALL 4ul
#define WAIT(number)  (5ul | 1ul << 5 | (uint64_t)(number) << 32) /* and write the number back */
#define REMAP_VECTORS 7ul                                         /* 2^(7+1) entries */
#define ANSWER_TSC    (1ul << 34)                                 /* several seconds of any CPU */
#define FAULT_LOOKS   256u

struct unit {
    volatile uint8_t *registers;
    volatile struct vtd_request *queue, *records;
    paddr_t queue_at;
    uint64_t cap, ecap;
    uint32_t tail;
};

struct vtd vtd;
static struct dmar dmar;
static struct unit units[DMAR_UNITS_MAX];
static volatile uint32_t *answer; /* one word a unit */
static paddr_t answer_at, root_at, interrupt_at;
static uint32_t asked; /* number of the last wait */

static uint32_t read32(const struct unit *u, unsigned reg)
{
    return *(volatile uint32_t *)(u->registers + reg);
}
static uint64_t read64(const struct unit *u, unsigned reg)
{
    return *(volatile uint64_t *)(u->registers + reg);
}
static void write32(const struct unit *u, unsigned reg, uint32_t v)
{
    *(volatile uint32_t *)(u->registers + reg) = v;
}
static void write64(const struct unit *u, unsigned reg, uint64_t v)
{
    *(volatile uint64_t *)(u->registers + reg) = v;
}

void vtd_flush(const volatile void *at, uint64_t bytes)
{
    if (vtd.snoops) return;
    uint64_t line = (uint64_t)at & ~63ul;
    for (; line < (uint64_t)at + bytes; line += 64) __asm__ volatile("clflush (%0)" ::"r"(line) : "memory");
    __asm__ volatile("mfence" ::: "memory");
}

bool vtd_owns(paddr_t p, uint64_t pages)
{
    for (uint32_t i = 0; i < dmar.units; i++)
        if (dmar.unit[i] < p.v + pages * PAGE_SIZE && p.v < dmar.unit[i] + 4 * PAGE_SIZE) return true;
    return false;
}

bool vtd_serves(uint32_t bdf)
{
    bool found = dmar.all;
    for (uint32_t i = 0; i < dmar.scopes && !found; i++)
        found = dmar.scope[i].bridge ? pci_behind(dmar.scope[i].bdf, bdf) : dmar.scope[i].bdf == bdf;
    return found;
}

/* --- The invalidation queue ----------------------------------------------------------------------------------- */

static void unit_ask(struct unit *u, const struct vtd_request *request, unsigned count)
{
    unsigned n = (unsigned)(u - units);
    for (unsigned i = 0; i <= count; i++) {
        struct vtd_request r = {WAIT(asked), answer_at.v + n * sizeof *answer};
        if (i < count) r = request[i];
        u->queue[u->tail].low = r.low;
        u->queue[u->tail].high = r.high;
        u->tail = (u->tail + 1) % QUEUE_ENTRIES;
    }
    write64(u, REG_TAIL, u->tail * sizeof *request);
}

static void unit_await(const struct unit *u)
{
    uint64_t start = arch_tsc();
    unsigned n = (unsigned)(u - units);
    while (answer[n] != asked) {
        if (read32(u, REG_FAULT) & FAULT_QUEUE || arch_tsc() - start > ANSWER_TSC)
            kernel_panic("IOMMU %u does not invalidate: fault status 0x%x", n, read32(u, REG_FAULT));
        __builtin_ia32_pause();
    }
}

uint64_t vtd_invalidate(const struct vtd_request *request, unsigned count)
{
    if (++asked == 0) asked = 1;
    for (uint32_t i = 0; i < dmar.units; i++) unit_ask(&units[i], request, count);
    for (uint32_t i = 0; i < dmar.units; i++) unit_await(&units[i]);
    return asked;
}

/* --- Faults ----------------------------------------------------------------------------------------------------- */

static void records_take(struct unit *u)
{
    for (unsigned i = 0; i < CAP_RECORDED(u->cap); i++) {
        volatile struct vtd_request *r = &u->records[i];
        uint64_t high = r->high, low = r->low;
        if (!(high & RECORD_VALID)) continue;
        ((volatile uint32_t *)r)[3] = (uint32_t)(RECORD_VALID >> 32); /* writing 1 clears it */
        kernel_dma_fault((uint16_t)high, low & ~(PAGE_SIZE - 1), (uint32_t)(high >> 32 & 0xff),
                         !(high & RECORD_READ));
    }
    write32(u, REG_FAULT, FAULT_OVERFLOW);
}

/* Until nothing is pending, or the next fault would raise no interrupt. It ends: who has faulted is fenced. */
void vtd_faults(void)
{
    for (uint32_t i = 0; i < dmar.units && arch_platform.iommu; i++)
        for (unsigned look = 0; look < FAULT_LOOKS; look++) {
            if (!(read32(&units[i], REG_FAULT) & (FAULT_PENDING | FAULT_OVERFLOW))) break;
            records_take(&units[i]);
        }
}

/* --- Start-up ------------------------------------------------------------------------------------------------------ */

static void unit_go(struct unit *u, uint32_t bit, bool on)
{
    uint64_t start = arch_tsc();
    uint32_t now = read32(u, REG_STATUS) & ~STATUS_ONE_SHOT;
    write32(u, REG_COMMAND, on ? now | bit : now & ~bit);
    while (!(read32(u, REG_STATUS) & bit) == on)
        if (arch_tsc() - start > ANSWER_TSC) kernel_panic("IOMMU does not take command 0x%x", bit);
}

static const char *unit_lacks(const struct unit *u)
{
    if (!(u->ecap & ECAP_QUEUE)) return "queued invalidation";
    if (u->cap & CAP_WRITE_FLUSH) return "write buffers that need no flushing";
    if (!(u->cap & (CAP_3_LEVELS | CAP_4_LEVELS))) return "second-level tables of 3 or 4 levels";
    if (CAP_BITS(u->cap) < IOVA_BITS) return "addresses of 39 bits";
    return u->records ? NULL : "fault records within a page";
}

static const char *unit_find(struct unit *u, uint64_t at)
{
    u->registers = device_map((paddr_t){at}, PAGE_SIZE);
    if (!u->registers) return "registers within reach";
    u->cap = read64(u, REG_CAP);
    u->ecap = read64(u, REG_ECAP);
    u->records = device_map((paddr_t){at + 16 * CAP_RECORDS(u->cap)}, 16 * CAP_RECORDED(u->cap));
    return unit_lacks(u);
}

/* What all units can do. */
static bool units_agree(void)
{
    uint64_t cap = ~0ul, ecap = ~0ul;
    vtd.domains = ~0u;
    for (uint32_t i = 0; i < dmar.units; i++) {
        const struct unit *u = &units[i];
        cap &= u->cap;
        ecap &= u->ecap;
        vtd.caches_all |= (u->cap & CAP_CACHING) != 0;
        if (CAP_DOMAINS(u->cap) < vtd.domains) vtd.domains = (uint32_t)CAP_DOMAINS(u->cap);
    }
    vtd.levels = cap & CAP_3_LEVELS ? 3 : 4;
    vtd.snoops = ecap & ECAP_COHERENT;
    vtd.remaps = dmar.remap && (ecap & ECAP_REMAP);
    return cap & (CAP_3_LEVELS | CAP_4_LEVELS);
}

bool vtd_frame(volatile void **out, paddr_t *at)
{
    *at = frame_alloc(NULL);
    if (!at->v) return false;
    *out = arch_direct(*at);
    vtd_flush(*out, PAGE_SIZE);
    return true;
}

/* Whatever firmware left on goes off: the tables it used are ordinary memory now. */
static void unit_stop(struct unit *u)
{
    uint32_t on = read32(u, REG_STATUS);
    if (on & GO_TRANSLATE) unit_go(u, GO_TRANSLATE, false);
    if (on & GO_REMAP) unit_go(u, GO_REMAP, false);
    if (on & GO_QUEUE) unit_go(u, GO_QUEUE, false);
}

static void unit_start(struct unit *u)
{
    write64(u, REG_TAIL, 0);
    write64(u, REG_QUEUE, u->queue_at.v);
    unit_go(u, GO_QUEUE, true);
    write64(u, REG_ROOT, root_at.v);
    unit_go(u, GO_ROOT, true);
    if (vtd.remaps) {
        write64(u, REG_REMAP, interrupt_at.v | REMAP_VECTORS);
        unit_go(u, GO_REMAP_TABLE, true);
    }
    write32(u, REG_EVENT + 4, VECTOR_IOMMU);
    write32(u, REG_EVENT + 8, 0xfee00000u | apic_id() << 12);
    write32(u, REG_EVENT + 12, 0);
    write32(u, REG_EVENT, 0); /* unmasked */
}

static bool units_find(void)
{
    for (uint32_t i = 0; i < dmar.units; i++) {
        const char *lacks = unit_find(&units[i], dmar.unit[i]);
        if (!lacks) continue;
        kernel_log("kernel: the IOMMU at 0x%lx has not %s", dmar.unit[i], lacks);
        return false;
    }
    if (units_agree()) return true;
    kernel_log("kernel: the IOMMUs share no form of table");
    return false;
}

static bool units_furnish(void)
{
    bool good = vtd_frame((volatile void **)&answer, &answer_at) &&
                vtd_frame((volatile void **)&vtd.root, &root_at) &&
                vtd_frame((volatile void **)&vtd.interrupt, &interrupt_at);
    for (uint32_t i = 0; good && i < dmar.units; i++)
        good = vtd_frame((volatile void **)&units[i].queue, &units[i].queue_at);
    return good;
}

void vtd_init(const struct acpi *acpi)
{
    if (!acpi->dmar) return;
    const char *wrong = dmar_parse(acpi->dmar, acpi->dmar_bytes, &dmar);
    if (!wrong) return;
    kernel_log("kernel: ACPI DMAR: %s", wrong);
    dmar.units = 0;
}

void arch_iommu_start(void)
{
    if (!dmar.units || !units_find()) return;
    if (!units_furnish()) kernel_panic("no memory for the IOMMU's tables");
    vtd.remaps = vtd.remaps && interrupts_sources(&dmar);
    for (uint32_t i = 0; i < dmar.units; i++) unit_stop(&units[i]);
    for (uint32_t i = 0; i < dmar.units; i++) unit_start(&units[i]);
    static const struct vtd_request all[] = {{CONTEXT_ALL, 0}, {IOTLB_ALL, 0}, {INTERRUPT_ALL, 0}};
    vtd_invalidate(all, vtd.remaps ? 3 : 2);
    for (uint32_t i = 0; i < dmar.units; i++) {
        unit_go(&units[i], GO_TRANSLATE, true);
        if (vtd.remaps) unit_go(&units[i], GO_REMAP, true); /* compatibility format stays off: blocked */
    }
    arch_platform.iommu = dmar.units;
    kernel_log("kernel: IOMMU: %u unit, %u levels, %s", dmar.units, vtd.levels,
               vtd.remaps ? "interrupts remapped" : "INTERRUPTS NOT REMAPPED: a device can raise any vector");
    for (uint32_t i = 0; i < dmar.reserved; i++)
        kernel_log("kernel: firmware's device memory at 0x%lx is blocked as all else", dmar.region[i].base);
}
