/* SPDX-License-Identifier: BSD-2-Clause
 * lib/format.c against the C library's snprintf. */
#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "lib/runtime.h"

#define SAME(...)                                                                   \
    do {                                                                            \
        char ours[200], theirs[200];                                                \
        int n = snprintf(theirs, sizeof(theirs), __VA_ARGS__);                      \
        cr_assert_eq(format(ours, sizeof(ours), __VA_ARGS__), n, "\"%s\"", theirs); \
        cr_assert_str_eq(ours, theirs);                                             \
    } while (0)

Test(format, text)
{
    SAME("plain");
    SAME("100%%");
    SAME("[%s] [%8s] [%-8s] [%.2s] [%.*s]", "abc", "abc", "abc", "abc", 1, "abc");
    SAME("[%c] [%3c] [%-3c]", 'x', 'y', 'z');
}

Test(format, numbers)
{
    SAME("%d %d %d %i", 0, INT_MAX, INT_MIN, -1);
    SAME("%u %x %X", UINT_MAX, 0xdeadbeefu, 0xdeadbeefu);
    SAME("%ld %lu %lx %zu %lld", LONG_MIN, ULONG_MAX, ULONG_MAX, (size_t)7, -5ll);
    SAME("[%5d] [%-5d] [%05d] [%05d] [%2d]", 42, 42, 42, -42, 12345);
    SAME("[%016lx] [%8x] [%-8x]", 0x1234ul, 0xabu, 0xabu);
    SAME("%p", (void *)0x1234);
}

Test(format, never_writes_past_the_end)
{
    char out[8] = "#######";

    cr_assert_eq(format(out, 4, "%s", "abcdef"), 6);
    cr_assert_str_eq(out, "abc");
    cr_assert_eq(out[4], '#');
    cr_assert_eq(format(out, 1, "%d", 5), 1);
    cr_assert_eq(out[0], 0);
    cr_assert_eq(format(NULL, 0, "%d", 12345), 5);
}
