/* SPDX-License-Identifier: BSD-2-Clause
 * The part of <string.h> that the compiler may call and programs need. String instructions by eight
 * bytes: the fewest instructions without vector registers, which processes do not have. */
#include "runtime.h"

void *memcpy(void *to, const void *from, size_t n)
{
    void *result = to;
    size_t words = n / 8, bytes = n % 8;

    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
    return result;
}

void *memmove(void *to, const void *from, size_t n)
{
    if ((uintptr_t)to - (uintptr_t)from >= n) return memcpy(to, from, n);

    /* The end of `to` overlaps the start of `from`: from the last byte down. */
    uint8_t *t = (uint8_t *)to + n - 1;
    const uint8_t *f = (const uint8_t *)from + n - 1;
    __asm__ volatile("std; rep movsb; cld" : "+D"(t), "+S"(f), "+c"(n) : : "memory", "cc");
    return to;
}

void *memset(void *to, int c, size_t n)
{
    void *result = to;
    uint64_t pattern = 0x0101010101010101ul * (uint8_t)c;
    size_t words = n / 8, bytes = n % 8;

    __asm__ volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(pattern) : "memory");
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(pattern) : "memory");
    return result;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *x = a, *y = b;

    for (size_t i = 0; i < n; i++)
        if (x[i] != y[i]) return x[i] - y[i];
    return 0;
}

size_t strlen(const char *s)
{
    size_t n = 0;

    /* The empty asm keeps the compiler from turning the loop into a call of strlen. */
    for (; s[n] != 0; n++) __asm__ volatile("");
    return n;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, SIZE_MAX); }

int strncmp(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (a[i] != b[i]) return (uint8_t)a[i] - (uint8_t)b[i];
        if (a[i] == 0) return 0;
    }
    return 0;
}
