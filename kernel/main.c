/* SPDX-License-Identifier: BSD-2-Clause
 * Boot: from the loader's handoff to the first process, which gets every authority there is. */
#include "process.h"
#include "frame.h"
#include "trace.h"
#include "inject.h"
#include "print.h"
#include "epitaph.h"
#include "../abi/bundle.h"
#include "../abi/startup.h"

#define ROOT_SCHED     SCHED_MAKE(30, 0, 0)
#define ROOT_FALLS_MAX 8u

uint64_t boot_tsc, boot_pages;
static struct object root_object = {.type = OBJECT_ROOT};

static void handoff_check(const struct handoff *h)
{
    if (h->magic != HANDOFF_MAGIC || h->version != HANDOFF_VERSION || h->size != sizeof *h)
        kernel_panic("the loader's handoff is version %u, %u bytes; this kernel needs version %u, %lu bytes",
                     h->version, h->size, HANDOFF_VERSION, sizeof *h);
    if (h->range_count > HANDOFF_RANGES) kernel_panic("the handoff has %u memory ranges", h->range_count);
}

static bool name_equal(const char *a, const char *b)
{
    for (unsigned i = 0; i < BUNDLE_NAME_MAX; i++) {
        if (a[i] != b[i]) return false;
        if (!a[i]) return true;
    }
    return false;
}

static const struct bundle_entry *bundle_find(const struct bundle *b, uint64_t bytes, const char *name)
{
    if (bytes < sizeof *b || b->magic != BUNDLE_MAGIC || b->version != BUNDLE_VERSION || b->length != bytes ||
        b->count > (bytes - sizeof *b) / sizeof(struct bundle_entry))
        kernel_panic("the system image is not a version %u bundle of %lu bytes", BUNDLE_VERSION, bytes);
    for (uint32_t i = 0; i < b->count; i++) {
        const struct bundle_entry *e = &b->entry[i];
        if (e->offset > bytes || e->length > bytes - e->offset)
            kernel_panic("file %u of the system image is cut off", i);
        if (name_equal(e->name, name)) return e;
    }
    kernel_panic("the system image has no \"%s\"", name);
}

static void startup_add(struct startup *s, const char *name, handle_t handle)
{
    struct startup_cap *c = &s->cap[s->cap_count++];
    for (unsigned i = 0; name[i]; i++) c->name[i] = name[i];
    c->handle = handle;
}

/* A kernel object without an owner becomes reachable: its first capability goes to the first process. */
static handle_t root_install(struct process *p, struct object *o, uint32_t rights)
{
    bool room = cap_room(p);
    assert(room);
    return cap_install(p, o, rights);
}

static void root_startup(struct process *p, struct memory *image)
{
    struct memory *page;
    status_t s = memory_create(p, PAGES_FOR(sizeof(struct startup)), 0, &page);
    assert(s == OK);
    s = mapping_create(p, page, (vaddr_t){USER_STARTUP}, 0, page->pages, RIGHT_READ);
    assert(s == OK);
    struct startup *u = arch_direct(memory_frame(page, 0));
    *u = (struct startup){.magic = STARTUP_MAGIC,
                          .version = STARTUP_VERSION,
                          .tag = p->object.tag,
                          .tsc_hz = arch_platform.tsc_hz};
    __builtin_memcpy(u->name, BUNDLE_INIT, sizeof BUNDLE_INIT);
    startup_add(u, "root", root_install(p, &root_object, RIGHT_MANAGE | RIGHT_GRANT));
    startup_add(u, "image", root_install(p, &image->object, RIGHT_READ | RIGHT_EXECUTE | RIGHT_GRANT));
    startup_add(u, "trace", root_install(p, &trace_object()->object, RIGHT_READ | RIGHT_WRITE | RIGHT_GRANT));
    startup_add(u, "inject", root_install(p, &inject_object()->object, RIGHT_MANAGE | RIGHT_GRANT));
    startup_add(u, "self", root_install(p, &p->object, RIGHT_INJECT | RIGHT_GRANT)); /* to be struck by */
}
_Static_assert(sizeof(struct startup) <= PAGE_SIZE, "the startup structure fits a page");

/* The first process is loaded through an image object that it comes to own itself. */
static void root_start(const struct handoff *h)
{
    const struct bundle *b = arch_direct((paddr_t){h->image_paddr});
    const struct bundle_entry *e = bundle_find(b, h->image_bytes, BUNDLE_INIT);
    struct memory boot_image = {
        .pages = PAGES_FOR(h->image_bytes), .flags = MEMORY_KERNEL, .base = {h->image_paddr}};
    struct memory *image, *ring;
    struct process *p;
    status_t s = process_create(NULL, &boot_image, e->offset, e->length, frame_available(), TAG_MAKE(0, 1),
                                ROOT_SCHED, PROCESS_KEPT, &p);
    if (s != OK) kernel_panic("\"%s\" in the system image cannot be started: status %u", BUNDLE_INIT, s);
    process_root = p;
    s = memory_create_range(p, (paddr_t){h->image_paddr}, boot_image.pages, MEMORY_KERNEL | MEMORY_IMMUTABLE,
                            &image);
    assert(s == OK);
    s = memory_create_range(p, trace_paddr(), trace_pages(), MEMORY_KERNEL | MEMORY_IMMUTABLE, &ring);
    assert(s == OK);
    trace_object()->memory = ring;
    root_startup(p, image);
    s = process_start(p, 0, 0);
    assert(s == OK);
}

/* The guardian: the first process fell, and is started again with all that it had. That it comes as far as to hear
 * of its children, sets `falls` back; one that never does cannot be helped. */
void root_again(struct process *p)
{
    const char *what = "the first process fell";
    kernel_log("kernel: %s: cause %u at %p, address %p, code %lu", what, p->cause, (void *)p->fault_rip,
               (void *)p->fault_address, p->exit_code);
    if (++p->falls > ROOT_FALLS_MAX) kernel_panic("%s %u times in a row", what, p->falls);
    struct startup *u = user_pointer(p, (vaddr_t){USER_STARTUP}, sizeof *u, RIGHT_READ);
    tag_t tag = TAG_MAKE(0, TAG_GENERATION(p->object.tag) + 1);
    status_t s = process_start(p, p->cause, tag);
    if (s != OK || !u) kernel_panic("%s, and cannot be started again: status %u", what, s);
    u->tag = tag;
}

void kernel_main(const struct handoff *h)
{
    handoff_check(h);
    boot_tsc = h->loader_tsc;
    for (uint32_t i = 0; i < h->range_count; i++)
        if (h->range[i].kind != RANGE_RESERVED) boot_pages += h->range[i].pages;
    symbols_init(arch_direct((paddr_t){h->kernel_file_paddr}), h->kernel_file_bytes);
    each_cpu(c) sched_init(c, (uint32_t)(c - cpus));
    frame_init(h);
    trace_init();
    trace(TRACE_BOOT, 0, HANDOFF_VERSION, 0);
    kernel_log("Coppice kernel: %lu MiB of memory, %u CPU%s, TSC %lu MHz", boot_pages >> 8,
               arch_platform.cpus, arch_platform.cpus > 1 ? "s" : "", arch_platform.tsc_hz / 1000000);
    epitaph_init(h->epitaph_paddr ? arch_direct((paddr_t){h->epitaph_paddr}) : NULL);
    arch_iommu_start();
    if (!arch_platform.iommu)
        kernel_log("kernel: NO IOMMU: DMA IS UNPROTECTED, a faulty device or driver can write anywhere");
    kernel_log(
        "{\"boot\":{\"trace_paddr\":%lu,\"trace_pages\":%lu,\"tsc_hz\":%lu,\"loader_tsc\":%lu,\"cpus\":%u}}",
        trace_paddr().v, trace_pages(), arch_platform.tsc_hz, boot_tsc, arch_platform.cpus);
    root_start(h);
}
