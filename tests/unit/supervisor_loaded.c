/* SPDX-License-Identifier: BSD-2-Clause
 * Programs from files: a slot is written only while nobody needs what it holds, and what a fall in the middle leaves is
 * taken up again by the same messages. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "supervisor/core_loaded.h"

#define SERVICES 4u
#define FIRST    10u /* program number of slot 0 */
#define ME       TAG_MAKE(3, 1)
#define OTHER    TAG_MAKE(2, 7)

static struct supervisor_state *state;
static struct loaded slot[LOADED_SLOTS];
static bool other_lives;

static bool lives(tag_t tag) { return tag == ME || (tag == OTHER && other_lives); }

static void world_make(void)
{
    state = calloc(1, supervisor_state_size(SERVICES));
    state->count = SERVICES;
    for (uint32_t n = 0; n < LOADED_SLOTS; n++) slot[n].at = calloc(1, 64);
}

TestSuite(supervisor_loaded, .init = world_make);

static uint32_t choose(tag_t caller) { return loaded_choose(slot, state, FIRST, caller, lives); }

static uint32_t begin(tag_t caller, const char *text, uint32_t bytes)
{
    char name[MANIFEST_NAME_MAX] = {0};
    uint32_t n = choose(caller);
    cr_assert_neq(n, LOADED_NONE);
    strcpy(name, text);
    loaded_begin(slot, n, caller, name, bytes);
    return n;
}

Test(supervisor_loaded, a_slot_is_kept_for_whoever_is_was_or_becomes_it)
{
    struct supervised *s = &state->service[1];
    cr_assert_not(loaded_in_use(state, FIRST));
    s->program = FIRST;
    cr_assert(loaded_in_use(state, FIRST));
    s->program = 0;
    s->previous = FIRST;
    cr_assert_not(loaded_in_use(state, FIRST), "it has none");
    s->has_previous = true;
    cr_assert(loaded_in_use(state, FIRST));
    s->has_previous = false;
    s->spare_program = FIRST;
    cr_assert_not(loaded_in_use(state, FIRST), "nothing stands by");
    s->spare = SPARE_BUILDING;
    cr_assert(loaded_in_use(state, FIRST));
    s->spare = SPARE_READY;
    cr_assert(loaded_in_use(state, FIRST));
    cr_assert_not(loaded_in_use(state, FIRST + 1));
}

Test(supervisor_loaded, slots_run_out_and_come_back)
{
    for (uint32_t n = 0; n < LOADED_SLOTS; n++) {
        cr_assert_eq(begin(ME, "p", 8), n);
        struct supervised *s = &state->service[1 + n / 2];
        if (n % 2) s->has_previous = true;
        *(n % 2 ? &s->previous : &s->program) = FIRST + n;
    }
    cr_assert_eq(choose(ME), LOADED_NONE);
    state->service[2].program = 0;
    cr_assert_eq(choose(ME), 2);
}

Test(supervisor_loaded, what_did_not_become_a_program_is_overwritten_by_the_next)
{
    cr_assert_eq(begin(ME, "a", 8), 0);
    cr_assert_eq(begin(ME, "b", 16), 0);
    cr_assert_str_eq(slot[0].name, "b");
    cr_assert_eq(slot[0].received, 0);
}

/* A rollback lets go of a slot while its loader fills the next: the two are not mistaken for each other. */
Test(supervisor_loaded, a_loader_has_one_load)
{
    cr_assert_eq(begin(ME, "bad", 8), 0);
    cr_assert(loaded_take(&slot[0], 0, "12345678", 8));
    state->service[1].program = FIRST;
    cr_assert_eq(begin(ME, "good", 16), 1);
    state->service[1].program = 0;
    cr_assert_eq(loaded_by(slot, ME), 1);
    cr_assert_not(loaded_whole(&slot[1]));
}

Test(supervisor_loaded, two_loaders_do_not_meet_and_the_dead_give_way)
{
    other_lives = true;
    cr_assert_eq(begin(OTHER, "o", 8), 0);
    cr_assert_eq(begin(ME, "m", 8), 1);
    cr_assert_eq(loaded_by(slot, OTHER), 0);
    cr_assert_eq(loaded_by(slot, ME), 1);
    other_lives = false;
    state->service[1].program = FIRST + 1;
    cr_assert_eq(choose(ME), 0);
}

Test(supervisor_loaded, bytes_come_in_order_and_may_come_twice)
{
    struct loaded *l = &slot[begin(ME, "p", 20)];
    cr_assert_not(loaded_whole(l));
    cr_assert_not(loaded_take(l, 8, "87654321", 8), "a hole");
    cr_assert(loaded_take(l, 0, "abcdefgh", 8));
    cr_assert(loaded_take(l, 0, "XXXXXXXX", 8), "it has come before, the answer was lost");
    cr_assert(loaded_take(l, 8, "ijklmnop", 8));
    cr_assert_not(loaded_take(l, 16, "qrstuvwx", 8), "beyond the end");
    cr_assert_not(loaded_take(l, UINT64_MAX, "q", 1));
    cr_assert(loaded_take(l, 16, "qrst", 4));
    cr_assert(loaded_whole(l));
    cr_assert_arr_eq(l->at, "abcdefghijklmnopqrst", 20);
    cr_assert_not(loaded_take(l, 20, "u", 1));
}

/* The supervisor fell after any of its stores, and the message comes again. */
Test(supervisor_loaded, a_fall_in_the_middle_of_beginning)
{
    begin(ME, "old", 8);
    cr_assert(loaded_take(&slot[0], 0, "12345678", 8));
    state->service[1].program = FIRST;
    uint32_t n = begin(ME, "new", 8);
    slot[n].loader = 0; /* the last store is missing */
    cr_assert_eq(loaded_by(slot, ME), LOADED_NONE);
    cr_assert_eq(begin(ME, "new", 8), n);
    slot[n].at[0] = 'x'; /* copied, and not yet counted */
    cr_assert(loaded_take(&slot[n], 0, "abcdefgh", 8));
    cr_assert_arr_eq(slot[n].at, "abcdefgh", 8);
    cr_assert_arr_eq(slot[0].at, "12345678", 8);
}
