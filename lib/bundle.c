/* SPDX-License-Identifier: BSD-2-Clause
 * Reading the system image: see bundle.h. Only the pages that are needed are mapped. */
#include "bundle.h"

static bool bundle_head_valid(const struct bundle *b, uint64_t image_pages)
{
    return b->magic == BUNDLE_MAGIC && b->version == BUNDLE_VERSION && b->length <= image_pages * PAGE_SIZE &&
           b->count <= 0xffff && sizeof(*b) + b->count * sizeof(struct bundle_entry) <= b->length;
}

status_t bundle_map(handle_t image, const struct bundle **out)
{
    struct sys_result info = sys_memory_info(image);
    void *at;
    status_t status = info.status;

    if (status == OK) status = map_range(image, 0, 1, RIGHT_READ, &at);
    if (status != OK) return status;

    const struct bundle *b = at;
    if (!bundle_head_valid(b, info.value)) return E_IMAGE;
    uint64_t pages = PAGES_FOR(sizeof(*b) + b->count * sizeof(struct bundle_entry));
    if (pages > 1) {
        status = sys_memory_unmap(0, (uint64_t)at);
        if (status == OK) status = map_range(image, 0, pages, RIGHT_READ, &at);
        if (status != OK) return status;
    }
    *out = at;
    return OK;
}

uint32_t bundle_number(const struct bundle *b, const char *name)
{
    for (uint32_t i = 0; i < b->count; i++)
        if (strncmp(b->entry[i].name, name, BUNDLE_NAME_MAX) == 0) return i;
    return BUNDLE_NONE;
}

status_t bundle_file_at(const struct bundle *b, uint32_t number, struct bundle_file *out)
{
    if (number >= b->count) return E_NOT_FOUND;
    const struct bundle_entry *e = &b->entry[number];
    if (e->offset % PAGE_SIZE != 0 || e->offset > b->length || e->length > b->length - e->offset)
        return E_IMAGE;
    *out = (struct bundle_file){e->offset, e->length};
    return OK;
}

status_t bundle_find(const struct bundle *b, const char *name, struct bundle_file *out)
{
    return bundle_file_at(b, bundle_number(b, name), out);
}

static bool manifest_valid(const struct manifest *m, uint64_t length)
{
    return length >= sizeof(*m) && m->magic == MANIFEST_MAGIC && m->version == MANIFEST_VERSION &&
           m->service_size == sizeof(struct manifest_service) && m->size <= length &&
           m->service_count <= MANIFEST_SERVICES &&
           sizeof(*m) + m->service_count * sizeof(struct manifest_service) <= m->size;
}

status_t manifest_map(handle_t image, const struct manifest **out)
{
    const struct bundle *b;
    struct bundle_file file;
    void *at;
    status_t status = bundle_map(image, &b);

    if (status == OK) status = bundle_find(b, BUNDLE_MANIFEST, &file);
    if (status == OK && file.length < sizeof(struct manifest)) status = E_IMAGE;
    if (status == OK)
        status = map_range(image, file.offset / PAGE_SIZE, PAGES_FOR(file.length), RIGHT_READ, &at);
    if (status != OK) return status;
    if (!manifest_valid(at, file.length)) return E_IMAGE;
    *out = at;
    return OK;
}

uint32_t manifest_service_find(const struct manifest *m, const char *name)
{
    for (uint32_t i = 0; i < m->service_count; i++)
        if (strncmp(m->service[i].name, name, MANIFEST_NAME_MAX) == 0) return i;
    return MANIFEST_NONE;
}
