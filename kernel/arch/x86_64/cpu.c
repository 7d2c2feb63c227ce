/* SPDX-License-Identifier: BSD-2-Clause
 * One processor's modes and tables: descriptors, interrupt gates, stacks with guard pages, SYSCALL, and
 * the protections. Owns struct cpu of every CPU and its stacks. NX is required (the loader's tables need
 * it); any other protection that the CPU lacks is named in the log and done without. */
#include "x86.h"
#include "sched.h"
#include "print.h"

#define STACK_BYTES      16384
#define STACK_TRAP_BYTES 8192

/* The first page of each is unmapped: an overflow is a double fault, never a write into the next. */
struct trap_stack {
    uint8_t guard[PAGE_SIZE];
    uint8_t bytes[STACK_TRAP_BYTES];
};
enum trap_stack_index { STACK_NMI, STACK_DOUBLE_FAULT, STACK_MACHINE_CHECK, TRAP_STACKS };
struct cpu_stacks {
    uint8_t guard[PAGE_SIZE];
    uint8_t main[STACK_BYTES];
    struct trap_stack trap[TRAP_STACKS];
};

struct tss { /* SDM vol. 3A, figure 8-11 */
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3, io_map;
} __attribute__((packed));

struct gate { /* SDM vol. 3A, figure 6-8 */
    uint16_t offset0, selector;
    uint8_t ist, type;
    uint16_t offset1;
    uint32_t offset2, reserved;
};

struct table_pointer {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

struct cpu cpus[CPUS_MAX] __attribute__((aligned(64)));
static struct cpu_stacks stacks[CPUS_MAX] __attribute__((aligned(4096)));
static struct tss tss[CPUS_MAX];
static uint64_t gdt[CPUS_MAX][7] __attribute__((aligned(16)));
static struct gate idt[256] __attribute__((aligned(16)));

/* For boot.S, which runs before any C. */
__asm__(".globl boot_stack_top\n.set boot_stack_top, stacks + 4096 + 16384");
_Static_assert(STACK_BYTES == 16384 && offsetof(struct cpu_stacks, main) == 4096, "boot_stack_top");

/* --- Offsets that assembly relies on --------------------------------------------------------------- */
#define CONTEXT_AT(offset, member) _Static_assert(offset == offsetof(struct context, member), #member)
CONTEXT_AT(CONTEXT_RAX, status);
CONTEXT_AT(CONTEXT_RDI, handle);
CONTEXT_AT(CONTEXT_RSI, info);
CONTEXT_AT(CONTEXT_RDX, w[0]);
CONTEXT_AT(CONTEXT_R10, w[1]);
CONTEXT_AT(CONTEXT_R8, w[2]);
CONTEXT_AT(CONTEXT_R9, w[3]);
CONTEXT_AT(CONTEXT_R12, w[4]);
CONTEXT_AT(CONTEXT_R13, w[5]);
CONTEXT_AT(CONTEXT_R14, w[6]);
CONTEXT_AT(CONTEXT_R15, w[7]);
CONTEXT_AT(CONTEXT_RBX, arch.rbx);
CONTEXT_AT(CONTEXT_RBP, arch.rbp);
CONTEXT_AT(CONTEXT_RCX, arch.rcx);
CONTEXT_AT(CONTEXT_R11, arch.r11);
CONTEXT_AT(CONTEXT_RIP, arch.rip);
CONTEXT_AT(CONTEXT_RSP, arch.rsp);
CONTEXT_AT(CONTEXT_RFLAGS, arch.rflags);
CONTEXT_AT(CONTEXT_WAY, arch.way);
_Static_assert(offsetof(struct cpu, arch) == 0, "gs:0 is struct arch_cpu");
_Static_assert(offsetof(struct arch_cpu, self) == 0, "arch_cpu()");
_Static_assert(CPU_CONTEXT == offsetof(struct arch_cpu, context), "context");
_Static_assert(CPU_STACK == offsetof(struct arch_cpu, stack_top), "stack_top");
_Static_assert(CPU_SCRATCH == offsetof(struct arch_cpu, scratch), "scratch");
_Static_assert(CPU_ROOT == offsetof(struct arch_cpu, root), "root");
_Static_assert(CPU_CURRENT == offsetof(struct cpu, current), "current");
_Static_assert(CPU_GUARD == offsetof(struct arch_cpu, guard) && CPU_GUARD == 40, "gcc's gs:40");
_Static_assert(sizeof(struct tss) == 104 && sizeof(struct gate) == 16, "by the manual");

void __stack_chk_fail(void) __attribute__((noreturn));
void __stack_chk_fail(void) { kernel_panic("stack protector: a kernel function overran its buffer"); }

bool cpu_stack_holds(uint64_t address, uint64_t bytes)
{
    uint64_t start = (uint64_t)stacks, end = start + sizeof stacks;
    return address >= start && address <= end - bytes;
}

/* --- Descriptor tables ------------------------------------------------------------------------------ */

/* The boot CPU does it for each: page tables change while nobody else looks. */
void cpu_stacks_init(struct cpu *c)
{
    uint32_t id = (uint32_t)(c - cpus);
    struct cpu_stacks *s = &stacks[id];
    c->arch.self = c;
    c->arch.stack_top = (uint64_t)(s->main + STACK_BYTES);
    space_guard(s->guard);
    tss[id] = (struct tss){.io_map = sizeof(struct tss)}; /* no port is open to user mode */
    tss[id].rsp[0] = (uint64_t)(s->main + STACK_BYTES);
    for (unsigned i = 0; i < TRAP_STACKS; i++) {
        space_guard(s->trap[i].guard);
        tss[id].ist[i] = (uint64_t)(s->trap[i].bytes + STACK_TRAP_BYTES);
    }
}

static void gdt_load(uint32_t id)
{
    uint64_t *g = gdt[id], base = (uint64_t)&tss[id];
    g[KERNEL_CS / 8] = 0x00af9a000000ffff;
    g[KERNEL_SS / 8] = 0x00cf92000000ffff;
    g[USER_SS / 8] = 0x00cff2000000ffff;
    g[USER_CS / 8] = 0x00affa000000ffff;
    g[TSS_SEL / 8] =
        (sizeof(struct tss) - 1) | (base & 0xffffff) << 16 | 0x89ul << 40 | (base >> 24 & 0xff) << 56;
    g[TSS_SEL / 8 + 1] = base >> 32;
    struct table_pointer p = {sizeof gdt[id] - 1, (uint64_t)g};
    __asm__ volatile("lgdt %0\n\t"
                     "movl %1, %%ss\n\t"
                     "pushq %2\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\tltr %w3"
                     :
                     : "m"(p), "r"(KERNEL_SS), "i"(KERNEL_CS), "r"(TSS_SEL)
                     : "rax", "memory");
}

static uint8_t trap_ist(unsigned vector)
{
    switch (vector) {
    case VECTOR_NMI: return STACK_NMI + 1;
    case VECTOR_DOUBLE_FAULT: return STACK_DOUBLE_FAULT + 1;
    case VECTOR_MACHINE_CHECK: return STACK_MACHINE_CHECK + 1;
    default: return 0;
    }
}

static void idt_fill(void)
{
    extern const uint8_t trap_stubs[];
    for (unsigned v = 0; v < 256; v++) {
        uint64_t at = (uint64_t)trap_stubs + 16 * v;
        bool user = v == 3 || v == 4; /* INT3 and INT 4 are exceptions of their own, not #GP */
        idt[v] = (struct gate){.offset0 = (uint16_t)at,
                               .selector = KERNEL_CS,
                               .ist = trap_ist(v),
                               .type = user ? 0xee : 0x8e, /* present, interrupt gate, DPL */
                               .offset1 = (uint16_t)(at >> 16),
                               .offset2 = (uint32_t)(at >> 32)};
    }
}

static void idt_load(void)
{
    struct table_pointer p = {sizeof idt - 1, (uint64_t)idt};
    __asm__ volatile("lidt %0" ::"m"(p));
}

/* --- Modes ---------------------------------------------------------------------------------------------- */

#define EFER_SCE           (1ul << 0)
#define MSR_STAR           0xc0000081
#define MSR_LSTAR          0xc0000082
#define MSR_SFMASK         0xc0000084
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_SYSENTER_CS    0x174

#define FLAG_TF (1ul << 8)
#define FLAG_IF (1ul << 9)
#define FLAG_DF (1ul << 10)
#define FLAG_NT (1ul << 14)
#define FLAG_AC (1ul << 18)

static void syscall_init(void)
{
    extern const uint8_t syscall_entry[];
    msr_write(MSR_EFER, msr_read(MSR_EFER) | EFER_SCE | EFER_NXE);
    msr_write(MSR_STAR, (uint64_t)SYSRET_BASE << 48 | (uint64_t)KERNEL_CS << 32);
    msr_write(MSR_LSTAR, (uint64_t)syscall_entry);
    msr_write(MSR_SFMASK, FLAG_TF | FLAG_IF | FLAG_DF | FLAG_NT | FLAG_AC);
    msr_write(MSR_KERNEL_GS_BASE, 0); /* what the user has in gs */
    msr_write(MSR_SYSENTER_CS, 0);    /* SYSENTER is #GP, whatever the firmware used it for */
}

#define CR0_MP (1ul << 1)
#define CR0_EM (1ul << 2)
#define CR0_TS (1ul << 3)
#define CR0_WP (1ul << 16)
#define CR0_AM (1ul << 18)

#define CR4_MCE    (1ul << 6)
#define CR4_PGE    (1ul << 7)
#define CR4_OSFXSR (1ul << 9)
#define CR4_UMIP   (1ul << 11)
#define CR4_LA57   (1ul << 12)
#define CR4_SMEP   (1ul << 20)
#define CR4_SMAP   (1ul << 21)

static uint64_t protection(bool present, uint64_t bit, const char *name)
{
    if (!present && arch_cpu() == cpus) kernel_log("kernel: this CPU has no %s; running without it", name);
    return present ? bit : 0;
}

/* TS without EM, and OSFXSR on: x87, MMX and SSE instructions are all #NM, so a process that uses them ends
 * with cause NO_FPU and not as an invalid opcode. OSXSAVE stays off: AVX is #UD. FSGSBASE stays off: gs is
 * the kernel's to trust. */
static void protections_init(void)
{
    struct cpuid features = cpuid(1), extended = cpuid(0x80000001);
    struct cpuid structured = cpuid(0).eax >= 7 ? cpuid(7) : (struct cpuid){0};
    if (!(extended.edx >> 20 & 1)) kernel_panic("this CPU has no NX");
    if (!(extended.edx >> 11 & 1)) kernel_panic("this CPU has no SYSCALL");
    cr0_write((cr0_read() | CR0_MP | CR0_TS | CR0_WP | CR0_AM) & ~CR0_EM);
    uint64_t cr4 = (cr4_read() & CR4_LA57) | CR4_PAE | CR4_OSFXSR;
    cr4 |= protection(features.edx >> 13 & 1, CR4_PGE, "global pages");
    cr4 |= protection(features.edx >> 7 & 1, CR4_MCE, "machine checks");
    cr4 |= protection(structured.ebx >> 7 & 1, CR4_SMEP, "SMEP");
    cr4 |= protection(structured.ebx >> 20 & 1, CR4_SMAP, "SMAP");
    cr4 |= protection(structured.ecx >> 2 & 1, CR4_UMIP, "UMIP");
    cr4_write(cr4);
    dr7_write(0x400); /* no breakpoint of whoever ran before */
}

void cpu_init(void)
{
    uint32_t id = (uint32_t)(arch_cpu() - cpus);
    if (id == 0) cpu_stacks_init(arch_cpu());
    if (id == 0) idt_fill();
    gdt_load(id);
    idt_load();
    protections_init();
    syscall_init();
    arch_cpu()->arch.root = cr3_read();
}
