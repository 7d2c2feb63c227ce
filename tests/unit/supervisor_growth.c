/* SPDX-License-Identifier: BSD-2-Clause
 * Who is taken to leak (supervisor/core_growth.c), and who is not. */
#include <criterion/criterion.h>
#include "supervisor/core_growth.h"

#define QUOTA 200u
#define PCT   95u
#define MARK  190u /* pages */

static struct growth g;

static bool look(uint64_t used) { return growth_look(&g, 1, used, QUOTA, PCT); }

Test(supervisor_growth, three_looks_above_the_mark_are_a_leak)
{
    cr_assert_not(look(20));
    cr_assert_not(look(MARK));
    cr_assert_not(look(MARK + 1));
    cr_assert(look(MARK + 2), "before the quota is reached");
}

Test(supervisor_growth, one_that_took_all_at_once_is_found_as_well)
{
    cr_assert_not(look(20));
    cr_assert_not(look(QUOTA));
    cr_assert_not(look(QUOTA));
    cr_assert(look(QUOTA));
}

Test(supervisor_growth, what_is_large_from_the_start_is_meant_to_be)
{
    for (uint32_t n = 0; n < 100; n++) cr_assert_not(look(MARK + n % 10));
}

Test(supervisor_growth, what_frees_what_it_takes_is_innocent)
{
    for (uint32_t n = 0; n < 100; n++) cr_assert_not(look(n % GROWTH_LOOKS ? QUOTA : MARK - 1));
}

Test(supervisor_growth, growth_below_the_mark_is_nobodys_business)
{
    for (uint64_t used = 10; used < MARK; used++) cr_assert_not(look(used));
}

Test(supervisor_growth, each_incarnation_is_looked_at_anew)
{
    cr_assert_not(look(20));
    cr_assert_not(look(MARK));
    cr_assert_not(look(MARK));
    for (uint32_t n = 0; n < 10; n++)
        cr_assert_not(growth_look(&g, 2, MARK, QUOTA, PCT), "large from the start");
}

Test(supervisor_growth, without_a_mark_nobody_is_watched)
{
    cr_assert_not(growth_look(&g, 1, 1, QUOTA, 0));
    for (uint32_t n = 0; n < 10; n++) cr_assert_not(growth_look(&g, 1, QUOTA, QUOTA, 0));
}
