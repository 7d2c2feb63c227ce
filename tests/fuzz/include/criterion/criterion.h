/* SPDX-License-Identifier: BSD-2-Clause
 * Stands in for Criterion in fuzz targets, so that they use the fixtures of the unit tests: what would fail
 * a test ends the run. */
#ifndef COPPICE_TESTS_FUZZ_CRITERION_H
#define COPPICE_TESTS_FUZZ_CRITERION_H

#include "tests/fuzz/fuzz.h"

#define cr_assert(condition, ...)                                \
    do {                                                         \
        if (!(condition)) fprintf(stderr, "fuzz: " __VA_ARGS__); \
        check(condition);                                        \
    } while (0)
#define cr_assert_not(condition, ...) check(!(condition))
#define cr_assert_eq(a, b, ...)       check((a) == (b))
#define cr_assert_leq(a, b, ...)      check((a) <= (b))
#define cr_assert_lt(a, b, ...)       check((a) < (b))
#define cr_assert_not_null(a, ...)    check((a) != NULL)
#define cr_assert_null(a, ...)        check((a) == NULL)

#endif
