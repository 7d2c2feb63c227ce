/* SPDX-License-Identifier: BSD-2-Clause
 * The host port: kernel/arch/arch.h on the build machine, for unit, model and fuzz tests. Owns the RAM
 * arena, the page tables as data (no CPU walks them, host_translate does), the virtual clock and the
 * records of devices. It is stricter than a machine: what hardware would let pass in silence (mapping
 * over a mapping, an address that is no RAM, use without the lock) aborts the test with a message. */
#include <execinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "host.h"
#include "../../frame.h"
#include "../../process.h"
#include "../../hide.h"
#include "../../print.h"

struct host host;
uintptr_t host_stack_low = ~0ul;
struct platform arch_platform;
struct cpu cpus[CPUS_MAX];

void host_machine(uint64_t ram_pages)
{
    host.ram_bytes = ram_pages * PAGE_SIZE;
    host.ram = mmap(NULL, host.ram_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1, 0);
    if (host.ram == MAP_FAILED) {
        perror("host: no memory for the guest's RAM");
        abort();
    }
    host.tsc = HOST_TSC_BOOT;
    arch_platform = (struct platform){.tsc_hz = HOST_TSC_HZ, .ecam_paddr = 0xb0000000, .ecam_bus_last = 255};
    host_cpus(1);
}

/* --- Processors ------------------------------------------------------------------------------- */

void host_cpus(uint32_t count)
{
    arch_platform.cpus = count;
    for (unsigned i = 0; i < CPUS_MAX; i++) host.cpu[i].timer_deadline = ~0ul;
}

struct cpu *arch_cpu(void) { return &cpus[host.here]; }
uint64_t arch_tsc(void) { return host.tsc; }

void arch_timer_arm(uint64_t deadline)
{
    host_here()->timer_deadline = deadline;
    host.timer_arms++;
}

/* One CPU at a time, and entry is by function call: there is nothing to keep out. */
void arch_lock(void) {}
void arch_unlock(void) {}

static uint32_t soonest(void)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < arch_platform.cpus; i++)
        if (host.cpu[i].timer_deadline < host.cpu[best].timer_deadline) best = i;
    return best;
}

void host_advance(uint64_t ticks)
{
    uint64_t end = host.tsc + ticks, arms = host.timer_arms;
    uint32_t was = host.here, id = soonest();
    for (; host.cpu[id].timer_deadline <= end; id = soonest()) {
        if (host.cpu[id].timer_deadline > host.tsc) {
            host.tsc = host.cpu[id].timer_deadline;
            arms = host.timer_arms;
        }
        /* A kernel that arms a past deadline at each tick would hang a machine. */
        if (host.timer_arms > arms + 1000000) abort();
        host_cpu(id);
        if (host_here()->timer_deadline > host.tsc) continue; /* it was kicked, and armed anew */
        host_here()->timer_deadline = ~0ul;
        kernel_timer();
    }
    host.tsc = end;
    host_cpu(was);
}

/* --- Several of them ------------------------------------------------------------------------------ */

static void registers_hide(const struct cpu *c)
{
    if (c->current) memory_hide(&c->current->context, sizeof c->current->context);
}
static void registers_show(const struct cpu *c)
{
    if (c->current) memory_show(&c->current->context, sizeof c->current->context);
}

void host_cpu(uint32_t id)
{
    if (id == host.here) return;
    registers_hide(arch_cpu());
    host.here = id;
    registers_show(arch_cpu());
    if (!host_here()->kicked) return;
    host_here()->kicked = false;
    kernel_timer();
}

void arch_kick(struct cpu *c)
{
    if (c == arch_cpu()) kernel_panic("host: CPU %u kicks itself", c->id);
    host.cpu[c->id].kicked = true;
    host.kicks++;
}

void arch_stop(uint32_t mask, bool leave)
{
    if (mask == 0 || mask >> arch_platform.cpus || (mask & arch_cpu()->bit))
        kernel_panic("host: CPUs %x to be stopped by %u", mask, host.here);
    for (uint32_t i = 0; i < arch_platform.cpus; i++) {
        if (!(mask >> i & 1)) continue;
        host.stops++;
        host.cpu[i].kicked = true; /* it waits for the lock in an interrupt */
        registers_show(&cpus[i]);
        if (leave) host.cpu[i].space = NULL;
        if (!host.deaf) memset(host.cpu[i].tlb, 0, sizeof host.cpu[i].tlb);
    }
}

/* --- Translation lookaside buffers ---------------------------------------------------------------- */

static struct host_page *tlb_find(struct host_cpu *c, uint64_t va)
{
    for (unsigned i = 0; i < HOST_TLB; i++)
        if (c->tlb[i].pa && c->tlb[i].va == va) return &c->tlb[i];
    return NULL;
}

uint64_t host_touch(vaddr_t va, uint32_t prot)
{
    struct host_cpu *c = host_here();
    uint64_t page = va.v & ~(PAGE_SIZE - 1);
    struct host_page *hit = tlb_find(c, page);
    if (!hit) {
        uint32_t rights;
        paddr_t p = host_translate(c->space, (vaddr_t){page}, &rights, NULL);
        if (!p.v) return 0;
        hit = &c->tlb[c->tlb_next++ % HOST_TLB];
        *hit = (struct host_page){page, p.v, rights};
    }
    return (hit->prot & prot) == prot ? hit->pa : 0;
}

static bool tlb_true(const struct host_cpu *c)
{
    for (unsigned i = 0; i < HOST_TLB; i++) {
        uint32_t prot;
        if (!c->tlb[i].pa) continue;
        if (!c->space || host_translate(c->space, (vaddr_t){c->tlb[i].va}, &prot, NULL).v != c->tlb[i].pa ||
            prot != c->tlb[i].prot)
            return false;
    }
    return true;
}

bool host_tlbs_true(void)
{
    for (uint32_t i = 0; i < arch_platform.cpus; i++)
        if (cpus[i].current && !tlb_true(&host.cpu[i])) return false;
    return true;
}

/* --- Physical memory ---------------------------------------------------------------------------- */

void *arch_direct(paddr_t p)
{
    if (p.v < HOST_RAM_BASE || p.v >= HOST_RAM_BASE + host.ram_bytes)
        kernel_panic("host: physical address %lx is not RAM", p.v);
    return host.ram + (p.v - HOST_RAM_BASE);
}

paddr_t arch_direct_paddr(const void *p)
{
    const uint8_t *at = p;
    uintptr_t stack = (uintptr_t)__builtin_frame_address(0);
    if (stack < host_stack_low) host_stack_low = stack;
    if (at < host.ram || at >= host.ram + host.ram_bytes)
        kernel_panic("host: %p is no kernel pointer to RAM", p);
    return (paddr_t){(uint64_t)(at - host.ram) + HOST_RAM_BASE};
}

/* --- Address spaces: tables of 512 entries in four levels, as on x86-64 --------------------------- */

#define LEVELS      4u
#define TABLE_BITS  9u
#define ENTRIES     (1u << TABLE_BITS)
#define PTE_PRESENT 1ul
#define PTE_PROT(e) ((uint32_t)((e) >> 1) & 7) /* RIGHT_READ, WRITE, EXECUTE are bits 0 to 2 */
#define PTE_DEVICE  16ul
#define PTE_FRAME   (~0xffful)

static unsigned table_index(uint64_t va, unsigned level)
{
    return (unsigned)(va >> (PAGE_SHIFT + TABLE_BITS * level)) % ENTRIES;
}

static uint64_t *table_at(uint64_t entry) { return arch_direct((paddr_t){entry & PTE_FRAME}); }

/* The entry of level 0 for va, or NULL where a table is missing. */
static uint64_t *page_entry(const struct process *p, uint64_t va)
{
    uint64_t table = p->space.root.v;
    if (!table) return NULL;
    for (unsigned level = LEVELS - 1; level > 0; level--) {
        table = table_at(table)[table_index(va, level)];
        if (!(table & PTE_PRESENT)) return NULL;
    }
    return &table_at(table)[table_index(va, 0)];
}

status_t arch_space_create(struct process *p)
{
    p->space.root = frame_alloc(p);
    p->space.frames = p->space.root.v != 0;
    return p->space.root.v ? OK : E_QUOTA;
}

static void tables_free(struct process *p, uint64_t table, unsigned level)
{
    for (unsigned i = 0; level > 0 && i < ENTRIES; i++)
        if (table_at(table)[i] & PTE_PRESENT) tables_free(p, table_at(table)[i], level - 1);
    frame_free(p, (paddr_t){table & PTE_FRAME});
    p->space.frames--;
}

void arch_space_destroy(struct process *p)
{
    for (uint32_t i = 0; i < arch_platform.cpus; i++) {
        if (host.cpu[i].space != p) continue;
        if (i != host.here) kernel_panic("host: CPU %u has the tables loaded that are to go", i);
        host.cpu[i].space = NULL;
        memset(host.cpu[i].tlb, 0, sizeof host.cpu[i].tlb);
    }
    if (p->space.root.v) tables_free(p, p->space.root.v, LEVELS - 1);
    p->space.root.v = 0;
}

static status_t tables_make(struct process *p, uint64_t va)
{
    uint64_t table = p->space.root.v;
    for (unsigned level = LEVELS - 1; level > 0; level--) {
        uint64_t *entry = &table_at(table)[table_index(va, level)];
        if (!(*entry & PTE_PRESENT)) {
            paddr_t frame = frame_alloc(p);
            if (!frame.v) return E_QUOTA;
            *entry = frame.v | PTE_PRESENT;
            p->space.frames++;
        }
        table = *entry;
    }
    return OK;
}

status_t arch_space_prepare(struct process *p, vaddr_t va, uint64_t pages)
{
    uint64_t region = PAGE_SIZE << TABLE_BITS, end = va.v + pages * PAGE_SIZE;
    for (uint64_t at = va.v & ~(region - 1); at < end; at += region) {
        status_t s = tables_make(p, at);
        if (s != OK) return s;
    }
    return OK;
}

void arch_space_map(struct process *p, vaddr_t va, paddr_t pa, uint32_t prot, bool device)
{
    uint64_t *entry = page_entry(p, va.v);
    if (!entry || *entry)
        kernel_panic("host: map of %lx: %s", va.v, entry ? "already mapped" : "not prepared");
    if ((prot & RIGHT_WRITE) && (prot & RIGHT_EXECUTE))
        kernel_panic("host: map of %lx writable and executable", va.v);
    *entry = pa.v | PTE_PRESENT | (uint64_t)(prot & 7) << 1 | (device ? PTE_DEVICE : 0);
}

void arch_space_unmap(struct process *p, vaddr_t va, uint64_t pages)
{
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t *entry = page_entry(p, va.v + i * PAGE_SIZE);
        if (!entry || !*entry) kernel_panic("host: unmap of %lx: not mapped", va.v + i * PAGE_SIZE);
        *entry = 0;
        struct host_page *page = host_here()->space == p ? tlb_find(host_here(), va.v + i * PAGE_SIZE) : NULL;
        if (page) page->pa = 0;
    }
}

bool arch_space_writable(struct process *p, vaddr_t va)
{
    const uint64_t *entry = page_entry(p, va.v);
    if (!entry || !*entry) kernel_panic("host: is %lx writable: not mapped", va.v);
    return PTE_PROT(*entry) & RIGHT_WRITE;
}

void arch_space_protect(struct process *p, vaddr_t va, bool write)
{
    uint64_t *entry = page_entry(p, va.v), bit = (uint64_t)RIGHT_WRITE << 1;
    if (!entry || !*entry || (PTE_PROT(*entry) & RIGHT_EXECUTE)) kernel_panic("host: protect of %lx", va.v);
    *entry = write ? *entry | bit : *entry & ~bit;
    struct host_page *page = host_here()->space == p ? tlb_find(host_here(), va.v) : NULL;
    if (page) page->pa = 0;
}

void arch_space_switch(struct process *p)
{
    if (!p->space.root.v) kernel_panic("host: switch to process %u, which has no address space", p->pid);
    host_here()->space = p;
    memset(host_here()->tlb, 0, sizeof host_here()->tlb);
    host.space_switches++;
}

paddr_t host_translate(const struct process *p, vaddr_t va, uint32_t *prot, bool *device)
{
    const uint64_t *entry = page_entry(p, va.v);
    if (!entry || !*entry) return (paddr_t){0};
    if (prot) *prot = PTE_PROT(*entry);
    if (device) *device = *entry & PTE_DEVICE;
    return (paddr_t){*entry & PTE_FRAME};
}

static uint64_t tables_count(uint64_t table, unsigned level)
{
    uint64_t n = 1;
    for (unsigned i = 0; level > 0 && i < ENTRIES; i++)
        if (table_at(table)[i] & PTE_PRESENT) n += tables_count(table_at(table)[i], level - 1);
    return n;
}

uint64_t host_table_frames(const struct process *p) { return p->space.root.v ? p->space.frames : 0; }

uint64_t host_table_walk(const struct process *p)
{
    return p->space.root.v ? tables_count(p->space.root.v, LEVELS - 1) : 0;
}

/* --- Register state ------------------------------------------------------------------------------- */

void arch_context_init(struct context *c, uint64_t entry, uint64_t stack_top, uint64_t arg)
{
    *c = (struct context){.handle = arg, .arch = {.rip = entry, .rsp = stack_top}};
}

void arch_context_step(struct context *c, bool on) { c->arch.step = on; }

void arch_context_jump(struct context *c, uint64_t target) { c->arch.rip = target; }

uint64_t arch_context_rip(const struct context *c) { return c->arch.rip; }
void arch_context_again(struct context *c) { c->arch.again = true; }

/* --- Interrupts ------------------------------------------------------------------------------------ */

struct host_vector *host_irq_find(enum irq_kind kind, uint32_t number)
{
    for (unsigned i = 0; i < HOST_VECTORS; i++) {
        struct host_vector *v = &host.vector[i];
        if (v->state != HOST_IRQ_CLOSED && v->kind == kind &&
            number == (kind == IRQ_GSI ? v->number : v->entry))
            return v;
    }
    return NULL;
}

static bool source_taken(enum irq_kind kind, uint32_t number, paddr_t table, uint32_t entry)
{
    for (unsigned i = 0; i < HOST_VECTORS; i++) {
        const struct host_vector *v = &host.vector[i];
        if (v->state == HOST_IRQ_CLOSED || v->kind != kind) continue;
        if (kind == IRQ_GSI ? v->number == number : v->table == table.v && v->entry == entry) return true;
    }
    return false;
}

status_t arch_irq_open(struct irq_line *line, enum irq_kind kind, uint32_t number, paddr_t table,
                       uint32_t entry)
{
    if (kind == IRQ_GSI ? number >= HOST_GSIS : entry >= HOST_MSIX_TABLE) return E_ARGUMENT;
    if (source_taken(kind, number, table, entry)) return E_BUSY;
    for (unsigned i = 0; i < HOST_VECTORS; i++) {
        if (host.vector[i].state != HOST_IRQ_CLOSED) continue;
        host.vector[i] = (struct host_vector){HOST_IRQ_MASKED, (uint8_t)kind, number, entry, table.v};
        *line = (struct irq_line){.vector = (uint8_t)(HOST_VECTOR_BASE + i),
                                  .kind = (uint8_t)kind,
                                  .entry = (uint16_t)entry,
                                  .gsi = number};
        return OK;
    }
    return E_NO_SLOTS;
}

static struct host_vector *vector_of(struct irq_line *line)
{
    struct host_vector *v = &host.vector[line->vector - HOST_VECTOR_BASE];
    if (v->state == HOST_IRQ_CLOSED) kernel_panic("host: vector %u is closed", line->vector);
    return v;
}

void arch_irq_mask(struct irq_line *line) { vector_of(line)->state = HOST_IRQ_MASKED; }
void arch_irq_unmask(struct irq_line *line) { vector_of(line)->state = HOST_IRQ_OPEN; }
void arch_irq_close(struct irq_line *line) { vector_of(line)->state = HOST_IRQ_CLOSED; }

bool host_irq_raise(enum irq_kind kind, uint32_t number)
{
    struct host_vector *v = host_irq_find(kind, number);
    if (!v || v->state != HOST_IRQ_OPEN) return false;
    kernel_irq((uint8_t)(HOST_VECTOR_BASE + (unsigned)(v - host.vector)));
    return true;
}

/* --- Devices and platform ----------------------------------------------------------------------------- */

uint32_t arch_port_in(uint16_t port, uint32_t width)
{
    host.port_reads++;
    return width == 4 ? host.port_value[port] : host.port_value[port] & ((1u << 8 * width) - 1);
}

void arch_port_out(uint16_t port, uint32_t width, uint32_t value)
{
    host.port_writes++;
    host.port_last = (struct host_port_write){port, width, value};
}

bool arch_port_reserved(uint16_t base, uint32_t count)
{
    static const struct {
        uint32_t first, last;
    } kept[] = {{0x20, 0x21}, {0x40, 0x43}, {0xa0, 0xa1}, {0xe9, 0xe9}};
    for (unsigned i = 0; i < sizeof kept / sizeof kept[0]; i++)
        if (base <= kept[i].last && (uint32_t)base + count > kept[i].first) return true;
    return false;
}

bool arch_device_reserved(paddr_t p, uint64_t pages)
{
    uint64_t end = p.v + pages * PAGE_SIZE;
    bool apic = p.v < 0xfee01000 && end > 0xfec00000;
    return apic || (p.v < HOST_RAM_BASE + host.ram_bytes && end > HOST_RAM_BASE) || frame_is_ram(p, pages);
}

bool arch_pci_exists(uint32_t bdf) { return bdf >= HOST_PCI_FIRST && bdf <= HOST_PCI_LAST && bdf % 8 == 0; }

void arch_bus_master(uint32_t bdf, bool on)
{
    if (!arch_pci_exists(bdf)) kernel_panic("host: no PCI function %x", bdf);
    host.bus_master[bdf] = on;
}

void arch_pci_decode(uint32_t bdf, bool on)
{
    if (!arch_pci_exists(bdf)) kernel_panic("host: no PCI function %x", bdf);
    each_cpu(c) if (c->current && c != arch_cpu() && !host.cpu[c->id].kicked)
        kernel_panic("host: CPU %u runs while device memory moves", c->id);
    uint32_t bit = 1u << (bdf - HOST_PCI_FIRST) / 8;
    host.decode = on ? host.decode | bit : host.decode & ~bit;
}

void arch_debug_write(const char *text, size_t length)
{
    if (length > HOST_LOG_BYTES) length = HOST_LOG_BYTES;
    if (host.log_length + length > HOST_LOG_BYTES) host.log_length = 0;
    memcpy(host.log + host.log_length, text, length);
    host.log_length += length;
    host.log[host.log_length] = 0;
    if (getenv("HOST_LOG")) fwrite(text, 1, length, stderr);
}

void arch_power(enum system_op op) { exit(op == SYSTEM_REBOOT ? HOST_EXIT_REBOOT : HOST_EXIT_OFF); }

void arch_freeze(void) {}

void arch_halt(void)
{
    if (!getenv("HOST_QUIET")) fputs(host.log, stderr);
    abort();
}

void arch_backtrace(void (*line)(uint64_t rip))
{
    void *frame[32];
    int n = backtrace(frame, 32);
    for (int i = 0; i < n; i++) line((uint64_t)frame[i]);
    if (!getenv("HOST_QUIET")) backtrace_symbols_fd(frame, n, 2);
}
