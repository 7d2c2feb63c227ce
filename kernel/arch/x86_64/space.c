/* SPDX-License-Identifier: BSD-2-Clause
 * Page tables (SDM vol. 3A, ch. 4). Owns the kernel's half, which every address space shares, and a window
 * in it for devices above the direct map. A process owns the user half: its tables are frames charged to
 * it, made by prepare, kept until destroy, so that map and unmap cannot fail.
 * Invariants: no user page is writable and executable; nothing at or above USER_END is mapped for users;
 * the kernel's PML4 entries never change after space_init, so copies of them stay true.
 * What goes is flushed on this CPU here; on others by sched_flush and sched_leave, through arch_stop. */
#include "x86.h"
#include "process.h"
#include "frame.h"
#include "print.h"

#define PTE_PRESENT  (1ul << 0)
#define PTE_WRITE    (1ul << 1)
#define PTE_USER     (1ul << 2)
#define PTE_UNCACHED (1ul << 3 | 1ul << 4) /* PWT | PCD: PAT entry 3 */
#define PTE_LARGE    (1ul << 7)
#define PTE_GLOBAL   (1ul << 8)
#define PTE_NX       (1ul << 63)
#define PTE_ADDRESS  0x000ffffffffff000ul

#define ENTRIES      512u
#define KERNEL_FIRST 256u                 /* PML4 entries from here are the kernel's */
#define WINDOW       0xffffff0000000000ul /* PML4 entry 510 */
#define WINDOW_PAGES ENTRIES
#define FLUSH_PAGES  32u /* beyond this, all is flushed at once */

static uint64_t *kernel_root;
static uint16_t kernel_slot[ENTRIES - KERNEL_FIRST]; /* PML4 entries in use */
static unsigned kernel_slots;
static uint64_t direct_map_bytes;

static uint64_t window_tables[3][ENTRIES] __attribute__((aligned(4096))); /* PDPT, PD, PT */
static unsigned window_used;

static uint64_t *table_of(uint64_t entry) { return arch_direct((paddr_t){entry & PTE_ADDRESS}); }

static unsigned index_at(uint64_t va, unsigned level) { return va >> (3 + 9 * level) & (ENTRIES - 1); }

/* --- The kernel's half ------------------------------------------------------------------------------ */

/* The loader's tables become the kernel's; what they map in the user half goes. */
void space_init(const struct handoff *h)
{
    kernel_root = arch_direct((paddr_t){h->page_table});
    direct_map_bytes = h->direct_map_bytes;
    for (unsigned i = 0; i < KERNEL_FIRST; i++) kernel_root[i] = 0;
    uint64_t tables[3];
    for (unsigned i = 0; i < 3; i++)
        tables[i] = (h->kernel_paddr + (uint64_t)window_tables[i] - KERNEL_BASE) | PTE_PRESENT | PTE_WRITE;
    if (kernel_root[index_at(WINDOW, 4)]) kernel_panic("the loader uses the kernel's device window");
    kernel_root[index_at(WINDOW, 4)] = tables[0];
    window_tables[0][0] = tables[1];
    window_tables[1][0] = tables[2];
    for (unsigned i = KERNEL_FIRST; i < ENTRIES; i++)
        if (kernel_root[i]) kernel_slot[kernel_slots++] = (uint16_t)i;
    cr3_write(h->page_table);
}

void space_guard(const void *page)
{
    uint64_t va = (uint64_t)page;
    uint64_t *table = kernel_root;
    for (unsigned level = 4; level > 1; level--) {
        uint64_t entry = table[index_at(va, level)];
        if (!(entry & PTE_PRESENT) || (level < 4 && (entry & PTE_LARGE)))
            kernel_panic("the kernel's page %p is not mapped as a page of its own", page);
        table = table_of(entry);
    }
    table[index_at(va, 1)] = 0;
    page_flush(va);
}

uint64_t space_kernel_root(void) { return arch_direct_paddr(kernel_root).v; }

static volatile void *window_map(uint64_t page)
{
    uint64_t *pt = window_tables[2],
             entry = page | PTE_PRESENT | PTE_WRITE | PTE_UNCACHED | PTE_GLOBAL | PTE_NX;
    unsigned i = 0;
    while (i < window_used && pt[i] != entry) i++;
    if (i == WINDOW_PAGES) return NULL;
    if (i == window_used) pt[window_used++] = entry;
    return (volatile void *)(WINDOW + i * PAGE_SIZE);
}

volatile void *device_map(paddr_t p, uint64_t bytes)
{
    if (p.v < direct_map_bytes && bytes <= direct_map_bytes - p.v) return arch_direct(p);
    uint64_t inside = p.v % PAGE_SIZE;
    if (bytes > PAGE_SIZE - inside) return NULL;
    volatile uint8_t *page = window_map(p.v - inside);
    return page ? page + inside : NULL;
}

/* --- A process's half --------------------------------------------------------------------------------- */

status_t arch_space_create(struct process *p)
{
    struct arch_space *s = &p->space;
    *s = (struct arch_space){.region = ~0ul};
    s->root = frame_alloc(p);
    if (!s->root.v) return E_QUOTA;
    uint64_t *root = arch_direct(s->root);
    for (unsigned i = 0; i < kernel_slots; i++) root[kernel_slot[i]] = kernel_root[kernel_slot[i]];
    return OK;
}

/* Frees the table and all tables below it. Stops looking once the counts say that none is left: most of a
 * space's tables are near its start. */
static void table_destroy(struct process *p, paddr_t table, unsigned level)
{
    uint64_t *t = arch_direct(table);
    unsigned end = level == 4 ? KERNEL_FIRST : ENTRIES;
    for (unsigned i = 0; level > 1 && i < end && p->space.tables[level - 1]; i++) {
        if (!(t[i] & PTE_PRESENT)) continue;
        table_destroy(p, (paddr_t){t[i] & PTE_ADDRESS}, level - 1);
        p->space.tables[level - 1]--;
    }
    frame_free(p, table);
}

void arch_space_destroy(struct process *p)
{
    struct arch_cpu *cpu = &arch_cpu()->arch;
    if (!p->space.root.v) return;
    if (cpu->root == p->space.root.v) {
        cpu->root = space_kernel_root();
        cr3_write(cpu->root);
    }
    table_destroy(p, p->space.root, 4);
    assert(!p->space.tables[1] && !p->space.tables[2] && !p->space.tables[3]);
    p->space = (struct arch_space){.region = ~0ul};
}

static status_t region_prepare(struct process *p, uint64_t va)
{
    uint64_t *table = arch_direct(p->space.root);
    for (unsigned level = 4; level > 1; level--) {
        uint64_t *entry = &table[index_at(va, level)];
        if (!(*entry & PTE_PRESENT)) {
            paddr_t frame = frame_alloc(p);
            if (!frame.v) return E_QUOTA;
            *entry = frame.v | PTE_PRESENT | PTE_WRITE | PTE_USER; /* rights are in the last level */
            p->space.tables[level - 1]++;
        }
        table = table_of(*entry);
    }
    p->space.region = va >> 21;
    p->space.region_table = table;
    return OK;
}

status_t arch_space_prepare(struct process *p, vaddr_t va, uint64_t pages)
{
    uint64_t end = va.v + pages * PAGE_SIZE;
    assert(pages && end > va.v && end <= USER_END);
    for (uint64_t region = va.v >> 21; region <= (end - 1) >> 21; region++) {
        if (region == p->space.region) continue;
        status_t s = region_prepare(p, region << 21);
        if (s != OK) return s;
    }
    return OK;
}

/* The page-table entry of an address whose tables prepare has made. */
static uint64_t *entry_of(struct process *p, uint64_t va)
{
    struct arch_space *s = &p->space;
    if (s->region != va >> 21) {
        uint64_t *table = arch_direct(s->root);
        for (unsigned level = 4; level > 1; level--) {
            uint64_t entry = table[index_at(va, level)];
            assert(entry & PTE_PRESENT);
            table = table_of(entry);
        }
        s->region = va >> 21;
        s->region_table = table;
    }
    return &s->region_table[index_at(va, 1)];
}

void arch_space_map(struct process *p, vaddr_t va, paddr_t pa, uint32_t prot, bool device)
{
    uint64_t bits = PTE_PRESENT | PTE_USER;
    assert(!(prot & RIGHT_WRITE) || !(prot & RIGHT_EXECUTE));
    if (prot & RIGHT_WRITE) bits |= PTE_WRITE;
    if (!(prot & RIGHT_EXECUTE)) bits |= PTE_NX;
    if (device) bits |= PTE_UNCACHED;
    uint64_t *entry = entry_of(p, va.v);
    assert(!(*entry & PTE_PRESENT));
    *entry = pa.v | bits;
}

void arch_space_unmap(struct process *p, vaddr_t va, uint64_t pages)
{
    bool loaded = arch_cpu()->arch.root == p->space.root.v;
    for (uint64_t i = 0; i < pages; i++) {
        *entry_of(p, va.v + i * PAGE_SIZE) = 0;
        if (loaded && pages <= FLUSH_PAGES) page_flush(va.v + i * PAGE_SIZE);
    }
    if (loaded && pages > FLUSH_PAGES) cr3_write(p->space.root.v);
}

bool arch_space_writable(struct process *p, vaddr_t va) { return *entry_of(p, va.v) & PTE_WRITE; }

void arch_space_protect(struct process *p, vaddr_t va, bool write)
{
    uint64_t *entry = entry_of(p, va.v);
    assert((*entry & PTE_PRESENT) && (*entry & PTE_NX));
    *entry = write ? *entry | PTE_WRITE : *entry & ~PTE_WRITE;
    if (arch_cpu()->arch.root == p->space.root.v) page_flush(va.v);
}

void arch_space_switch(struct process *p)
{
    struct arch_cpu *cpu = &arch_cpu()->arch;
    cpu->root = p->space.root.v;
    cr3_write(cpu->root);
}
