/* SPDX-License-Identifier: BSD-2-Clause
 * Physical memory under the firmware: what the loader takes for the kernel, and the map it hands
 * over. Owns the list of taken runs. Everything is allocated before boot services end, so the end
 * itself is only: read the map, convert it, leave; again if the map changed in between
 * (UEFI 2.10, 7.4.6). */
#include "firmware.h"

#define TAKEN_MAX         16
#define EXIT_ATTEMPTS_MAX 8 /* the specification needs two; more means broken firmware */

static struct {
    uint64_t base, pages;
    enum range_kind kind;
} taken[TAKEN_MAX];
static uint32_t taken_count;
static struct {
    uint8_t *buffer;
    UINTN capacity, size, descriptor;
} map;

static uint64_t pages_allocate(EFI_MEMORY_TYPE type, uint64_t pages)
{
    EFI_PHYSICAL_ADDRESS base;
    if (EFI_ERROR(BS->AllocatePages(AllocateAnyPages, type, pages, &base)))
        stop(L"memory", "not enough for the kernel and its image");
    return base;
}

static void taken_add(uint64_t base, uint64_t pages, enum range_kind kind)
{
    if (taken_count == TAKEN_MAX) stop(L"memory", "the loader took too many runs");
    taken[taken_count].base = base;
    taken[taken_count].pages = pages;
    taken[taken_count++].kind = kind;
}

bool memory_take_at(uint64_t paddr, uint64_t pages, enum range_kind kind)
{
    EFI_PHYSICAL_ADDRESS base = paddr;
    if (EFI_ERROR(BS->AllocatePages(AllocateAddress, EfiLoaderData, pages, &base))) return false;
    taken_add(paddr, pages, kind);
    return true;
}

static uint64_t pages_take(EFI_MEMORY_TYPE type, uint64_t pages, uint64_t align, enum range_kind kind)
{
    uint64_t unit = align * PAGE_SIZE, base = pages_allocate(type, pages + align - 1);
    base = (base + unit - 1) & ~(unit - 1); /* the rest stays EfiLoaderData: free to the kernel */
    __builtin_memset((void *)base, 0, pages * PAGE_SIZE);
    taken_add(base, pages, kind);
    return base;
}

uint64_t memory_take(uint64_t pages, uint64_t align, enum range_kind kind)
{
    return pages_take(EfiLoaderData, pages, align, kind);
}

uint64_t memory_take_code(void) { return pages_take(EfiLoaderCode, 1, 1, RANGE_BOOT); }

static uint32_t kind_of(uint32_t type)
{
    switch (type) {
    case EfiLoaderCode:
    case EfiLoaderData:
    case EfiBootServicesCode:
    case EfiBootServicesData:
    case EfiConventionalMemory: return RANGE_FREE;
    case EfiACPIReclaimMemory: return RANGE_ACPI;
    default: /* runtime services, ACPI NVS, MMIO, unusable, and types not yet invented */
        return RANGE_RESERVED;
    }
}

static void map_convert(struct ranges *r)
{
    r->count = 0;
    r->overflow = false;
    for (UINTN at = 0; at + map.descriptor <= map.size; at += map.descriptor) {
        const EFI_MEMORY_DESCRIPTOR *d = (const void *)(map.buffer + at);
        ranges_paint(r, d->PhysicalStart, d->NumberOfPages, kind_of(d->Type));
    }
    for (uint32_t i = 0; i < taken_count; i++) ranges_paint(r, taken[i].base, taken[i].pages, taken[i].kind);
    ranges_paint(r, 0, 1, RANGE_RESERVED); /* so that physical address 0 can mean "none" */
    if (r->overflow) stop(L"memory", "the firmware's map has too many ranges");
}

UINTN memory_read(struct ranges *r)
{
    UINTN key;
    UINT32 version;
    if (!map.buffer) { /* with room to grow: nothing can be allocated once leaving has begun */
        map.size = 0;
        BS->GetMemoryMap(&map.size, NULL, &key, &map.descriptor, &version);
        map.capacity = map.size + 64 * map.descriptor;
        map.buffer = (uint8_t *)pages_allocate(EfiLoaderData, PAGES_FOR(map.capacity));
    }
    map.size = map.capacity;
    if (EFI_ERROR(BS->GetMemoryMap(&map.size, (EFI_MEMORY_DESCRIPTOR *)map.buffer, &key, &map.descriptor,
                                   &version)))
        stop(L"memory", "the firmware's map cannot be read");
    map_convert(r);
    return key;
}

void memory_leave_firmware(EFI_HANDLE image, struct ranges *r)
{
    for (int i = 0; i < EXIT_ATTEMPTS_MAX; i++) {
        UINTN key = memory_read(r);
        if (!EFI_ERROR(BS->ExitBootServices(image, key))) return;
    }
    stop(L"firmware", "does not let go of boot services");
}
