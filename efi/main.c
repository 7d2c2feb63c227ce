/* SPDX-License-Identifier: BSD-2-Clause
 * The loader, \EFI\BOOT\BOOTX64.EFI: finds, checks and places kernel and system image, describes
 * the machine in struct handoff and enters the kernel. Owns nothing afterwards: every page it used
 * is listed in the handoff. On any problem the boot stops with one line that names it (stop). */
#include "firmware.h"

#define GIB         (1ul << 30)
#define LARGE_PAGES 512 /* 2 MiB */
#define STACK_PAGES 8

static EFI_HANDLE self;

void stop(const CHAR16 *subject, const char *problem)
{
    UINTN index;
    Print(L"Coppice loader: %s: %a\n", subject, problem);
    ST->ConIn->Reset(ST->ConIn, FALSE);
    BS->WaitForEvent(1, &ST->ConIn->WaitForKey, &index);
    BS->Exit(self, EFI_LOAD_ERROR, 0, NULL);
    for (;;) __asm__ volatile("cli; hlt"); /* Exit does not return from a started image */
}

static uint64_t read_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* The kernel's tables use NX and four levels. */
static void cpu_check(void)
{
    uint32_t a = 0x80000001, b, c = 0, d;
    uint64_t cr4;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (!(d & 1u << 20)) stop(L"CPU", "has no NX bit");
    __asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
    if (cr4 & 1ul << 12) stop(L"firmware", "runs with five-level page tables");
}

static uint64_t rsdp_find(void)
{
    EFI_GUID acpi2 = ACPI_20_TABLE_GUID;
    for (UINTN i = 0; i < ST->NumberOfTableEntries; i++)
        if (CompareGuid(&ST->ConfigurationTable[i].VendorGuid, &acpi2) == 0)
            return (uint64_t)ST->ConfigurationTable[i].VendorTable;
    stop(L"firmware", "has no ACPI 2 tables");
}

static bool range_is_ram(const struct handoff_range *r) { return r->kind != RANGE_RESERVED; }

/* Has the 2 MiB page at paddr any RAM? context: the ranges as first read; RAM does not move. */
static bool page_cached(void *context, uint64_t paddr)
{
    const struct ranges *r = context;
    for (uint32_t i = 0; i < r->count && r->range[i].base < paddr + LARGE_PAGES * PAGE_SIZE; i++)
        if (range_is_ram(&r->range[i]) && r->range[i].base + r->range[i].pages * PAGE_SIZE > paddr)
            return true;
    return false;
}

static uint64_t direct_map_bytes(const struct ranges *r)
{
    uint64_t end = 4 * GIB; /* local APIC, I/O APIC and the usual ECAM are below it */
    for (uint32_t i = 0; i < r->count; i++) {
        uint64_t e = r->range[i].base + r->range[i].pages * PAGE_SIZE;
        if (range_is_ram(&r->range[i]) && e > end) end = e;
    }
    return (end + GIB - 1) & ~(GIB - 1);
}

/* Reads and checks both files, places the kernel; fills the handoff's fields about them. */
static void load(EFI_HANDLE image, struct handoff *h, struct kernel_layout *layout)
{
    struct file kernel = {.path = L"\\coppice\\kernel.elf"}, system = {.path = L"\\coppice\\system.img"};
    const char *problem;
    file_read(image, &kernel);
    problem = verify_kernel((void *)kernel.paddr, kernel.bytes, &expected_kernel);
    if (problem) stop(kernel.path, problem);
    file_read(image, &system);
    problem = verify_image((void *)system.paddr, system.bytes, &expected_image);
    if (problem) stop(system.path, problem);

    kernel_layout((void *)kernel.paddr, layout);
    h->kernel_paddr = memory_take(layout->pages, LARGE_PAGES, RANGE_KERNEL);
    h->kernel_pages = layout->pages;
    kernel_place((void *)kernel.paddr, (void *)h->kernel_paddr);
    h->kernel_file_paddr = kernel.paddr;
    h->kernel_file_bytes = kernel.bytes;
    h->image_paddr = system.paddr;
    h->image_bytes = system.bytes;
    __builtin_memcpy(h->kernel_sha256, expected_kernel.sha256, 32);
    __builtin_memcpy(h->image_sha256, expected_image.sha256, 32);
}

/* Builds the kernel's address space; `ranges` is the memory map as it is now. */
static void map(struct handoff *h, const struct kernel_layout *layout, struct ranges *ranges, uint64_t page)
{
    struct table_plan plan = {
        .kernel = layout,
        .kernel_paddr = h->kernel_paddr,
        .direct_map_bytes = direct_map_bytes(ranges),
        .identity_page = page,
        .cached = page_cached,
        .context = ranges,
    };
    uint64_t frames = tables_frames(plan.direct_map_bytes);
    plan.next = memory_take(frames, 1, RANGE_BOOT);
    plan.end = plan.next + frames * PAGE_SIZE;
    h->page_table = tables_build(&plan);
    h->direct_map_bytes = plan.direct_map_bytes;
    if (plan.next > plan.end) stop(L"loader", "counted too few page tables");
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *system_table)
{
    uint64_t tsc = read_tsc();
    static struct kernel_layout layout;
    self = image;
    InitializeLib(image, system_table);
    BS->SetWatchdogTimer(0, 0, 0, NULL); /* a line that waits for its reader must not reboot */
    Print(L"Coppice loader: UEFI %d.%d, %s\n", ST->Hdr.Revision >> 16, (ST->Hdr.Revision & 0xffff) / 10,
          ST->FirmwareVendor);
    cpu_check();

    uint64_t epitaph = epitaph_take(image); /* first: nobody else has its place yet */
    struct handoff *h = (struct handoff *)memory_take(PAGES_FOR(sizeof(*h)), 1, RANGE_BOOT);
    struct ranges ranges = {.range = h->range};
    h->magic = HANDOFF_MAGIC;
    h->version = HANDOFF_VERSION;
    h->size = sizeof(*h);
    h->loader_tsc = tsc;
    h->epitaph_paddr = epitaph;
    h->rsdp = rsdp_find();
    load(image, h, &layout);
    uint64_t page = memory_take_code();
    uint64_t stack_top = memory_take(STACK_PAGES, 1, RANGE_BOOT) + STACK_PAGES * PAGE_SIZE;
    __builtin_memcpy((void *)page, enter_code, (uintptr_t)enter_code_end - (uintptr_t)enter_code);
    memory_read(&ranges);
    map(h, &layout, &ranges, page);

    memory_leave_firmware(image, &ranges);
    h->range_count = ranges.count;
    ((enter_fn *)page)(h->page_table, DIRECT_MAP + stack_top, DIRECT_MAP + (uint64_t)h, layout.entry);
    __builtin_unreachable();
}
