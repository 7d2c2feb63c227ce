/* SPDX-License-Identifier: BSD-2-Clause
 * The system image as processes read it (lib/bundle.c). Input: changes to the head of a good image; then
 * every file is looked up, and the manifest is mapped. Whatever is found lies inside the image, and nothing
 * outside the mapped pages is read. */
#include "runtime.h"
#include "abi/bundle.h"
#include "abi/manifest.h"

#define IMAGE_PAGES 4u
#define IMAGE       7u /* its handle */

static uint8_t image[IMAGE_PAGES * PAGE_SIZE] __attribute__((aligned(4096)));
static uint8_t *mapped[8]; /* copies of just the pages asked for */
static unsigned mappings;

static struct sys_result sys_memory_info(handle_t m)
{
    check(m == IMAGE);
    return (struct sys_result){OK, IMAGE_PAGES, 0};
}

static status_t map_range(handle_t m, uint64_t offset, uint64_t pages, uint32_t prot, void **out)
{
    check(m == IMAGE && prot == RIGHT_READ);
    if (pages == 0 || offset > IMAGE_PAGES || pages > IMAGE_PAGES - offset) return E_ARGUMENT;
    check(mappings < 8);
    mapped[mappings] = exact_copy(image + offset * PAGE_SIZE, pages * PAGE_SIZE);
    *out = mapped[mappings++];
    return OK;
}

static status_t sys_memory_unmap(handle_t process, uint64_t at)
{
    check(process == 0 && mappings > 0 && at == (uint64_t)mapped[mappings - 1]);
    free(mapped[--mappings]);
    return OK;
}

#include "lib/bundle.c"

static void image_make(void)
{
    struct bundle *b = (void *)image;
    struct manifest *m = (void *)(image + PAGE_SIZE);
    memset(image, 0, sizeof image);
    *b =
        (struct bundle){.magic = BUNDLE_MAGIC, .version = BUNDLE_VERSION, .count = 3, .length = sizeof image};
    b->entry[0] = (struct bundle_entry){BUNDLE_INIT, 3 * PAGE_SIZE, 100};
    b->entry[1] =
        (struct bundle_entry){BUNDLE_MANIFEST, PAGE_SIZE, sizeof(*m) + 2 * sizeof(struct manifest_service)};
    b->entry[2] = (struct bundle_entry){"last", 3 * PAGE_SIZE, PAGE_SIZE};
    *m = (struct manifest){.magic = MANIFEST_MAGIC,
                           .version = MANIFEST_VERSION,
                           .size = (uint32_t)b->entry[1].length,
                           .service_size = sizeof(struct manifest_service),
                           .service_count = 2};
    strcpy(m->service[0].name, "supervisor");
    strcpy(m->service[1].name, "echo");
}

static void files_check(const struct bundle *b)
{
    static const char *const name[] = {BUNDLE_INIT, BUNDLE_MANIFEST, "last", "", "absent"};
    check(b->count <= (sizeof image - sizeof *b) / sizeof(struct bundle_entry));
    for (unsigned i = 0; i < 5; i++) {
        struct bundle_file f;
        status_t s = bundle_find(b, name[i], &f);
        check(s == OK || s == E_NOT_FOUND || s == E_IMAGE);
        if (s == OK) check(f.offset % PAGE_SIZE == 0 && f.offset <= sizeof image);
        if (s == OK) check(f.length <= sizeof image - f.offset);
    }
}

static void manifest_use(const struct manifest *m)
{
    for (uint32_t i = 0; i < m->service_count; i++)
        check(m->service[i].name[0] != 1 || m->service[i].flags + 1);
    uint32_t found = manifest_service_find(m, "echo");
    check(found == MANIFEST_NONE || found < m->service_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    const struct bundle *b;
    const struct manifest *m;
    image_make();
    uint64_t count = take(&in, 2);
    if (count) ((struct bundle *)image)->count = (uint32_t)count;
    while (in.left) {
        bool head = take(&in, 1) & 1;
        patch(&in, head ? image : image + PAGE_SIZE, head ? 256 : 600);
    }
    status_t s = bundle_map(IMAGE, &b), t = manifest_map(IMAGE, &m);
    if (s == OK) files_check(b);
    if (t == OK) manifest_use(m);
    check(t != OK || s == OK);
    if (size == 0) check(s == OK && t == OK && m->service_count == 2);
    while (mappings) free(mapped[--mappings]);
    return 0;
}
