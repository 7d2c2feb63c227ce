/* SPDX-License-Identifier: BSD-2-Clause
 * What the fuzz targets share. A target is one file, tests/fuzz/NAME.c, with LLVMFuzzerTestOneInput; it
 * includes the sources that it attacks and says with check() what must hold whatever the input is, so that
 * a wrong answer is found as surely as a crash. Inputs are short: most are lists of records, each a change
 * to something valid, so that a mutated byte lands behind the first checks and not in front of them. */
#ifndef COPPICE_TESTS_FUZZ_H
#define COPPICE_TESTS_FUZZ_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak)); /* once, first; most have none */

#define check(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            fprintf(stderr, "fuzz: %s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                              \
        }                                                                         \
    } while (0)

/* What is left of an input; past its end everything is 0. */
struct input {
    const uint8_t *at;
    size_t left;
};

static inline uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes && in->left; i++, in->left--) v |= (uint64_t)*in->at++ << 8 * i;
    return v;
}

/* One change of a byte range: place (2 bytes), width and how (1), value (8). */
static inline void patch(struct input *in, uint8_t *bytes, size_t length)
{
    size_t at = (size_t)take(in, 2) % length;
    unsigned how = (unsigned)take(in, 1), width = 1u << (how & 3);
    uint64_t value = take(in, width);
    for (unsigned i = 0; i < width && at + i < length; i++) {
        uint8_t v = (uint8_t)(value >> 8 * i);
        if (how & 4)
            bytes[at + i] ^= v;
        else
            bytes[at + i] = v;
    }
}

/* A copy whose end is watched by the sanitizer. */
static inline uint8_t *exact_copy(const void *from, size_t length)
{
    uint8_t *to = malloc(length ? length : 1);
    check(to);
    memcpy(to, from, length);
    return to;
}

#endif
