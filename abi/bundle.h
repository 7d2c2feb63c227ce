/* SPDX-License-Identifier: BSD-2-Clause
 * The system image: every process's ELF file and the compiled manifest, in one file that the loader
 * checks as a whole. Files start on page boundaries so that text is mapped straight from it. */
#ifndef COPPICE_ABI_BUNDLE_H
#define COPPICE_ABI_BUNDLE_H

#include "types.h"

#define BUNDLE_MAGIC    0x31474d4950504f43ul /* "COPPIMG1" */
#define BUNDLE_VERSION  1
#define BUNDLE_NAME_MAX 24
#define BUNDLE_MANIFEST "manifest.bin" /* struct manifest, abi/manifest.h */
#define BUNDLE_INIT     "supervisor"   /* the first process */

struct bundle_entry {           /* 40 bytes */
    char name[BUNDLE_NAME_MAX]; /* zero-terminated */
    uint64_t offset, length;    /* bytes from the bundle's start; offset page-aligned */
};
struct bundle {
    uint64_t magic;
    uint32_t version, count;
    uint64_t length; /* of the whole file, a multiple of PAGE_SIZE */
    struct bundle_entry entry[];
};

#endif
