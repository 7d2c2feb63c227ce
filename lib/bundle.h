/* SPDX-License-Identifier: BSD-2-Clause
 * Files in the system image and the compiled manifest in it, for the few processes that hold the "image"
 * capability. The image was checked as a whole by the loader; what is read here is checked for shape
 * only, and nothing is trusted to be in range. */
#ifndef COPPICE_LIB_BUNDLE_H
#define COPPICE_LIB_BUNDLE_H

#include "../abi/bundle.h"
#include "../abi/manifest.h"
#include "runtime.h"

struct bundle_file {
    uint64_t offset, length;
}; /* bytes; offset page-aligned */

/* Maps the table of files (E_IMAGE: malformed). It stays mapped. */
status_t bundle_map(handle_t image, const struct bundle **out) MUST_USE;
status_t bundle_find(const struct bundle *b, const char *name,
                     struct bundle_file *out) MUST_USE; /* E_NOT_FOUND */
/* The same by number: what bundle_number says of a name, from 0 on. */
uint32_t bundle_number(const struct bundle *b, const char *name); /* BUNDLE_NONE */
status_t bundle_file_at(const struct bundle *b, uint32_t number, struct bundle_file *out) MUST_USE;
#define BUNDLE_NONE ~0u
/* Maps the manifest and checks its head and sizes. */
status_t manifest_map(handle_t image, const struct manifest **out) MUST_USE;
/* Index of the service of this name, or MANIFEST_NONE. */
uint32_t manifest_service_find(const struct manifest *m, const char *name);

#endif
