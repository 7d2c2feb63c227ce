/* SPDX-License-Identifier: BSD-2-Clause
 * Recovery's request in hand: what the next recovery makes of a request that one fell with, wherever that was. */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include "recovery/core_hand.h"

#define TRAP 0x100ul

static struct hand hand;
static const uint64_t words[HAND_WORDS] = {7, 1, 2, 3}, others[HAND_WORDS] = {7, 1, 2, 4};

static enum hand_verdict comes(uint64_t badge, const uint64_t w[HAND_WORDS], bool replayed)
{
    return hand_take(&hand, badge, 5, w, replayed);
}

Test(hand, a_request_is_new_again_or_answered)
{
    cr_assert_eq(comes(9, words, false), HAND_NEW);
    cr_assert_eq(comes(9, words, true), HAND_AGAIN);
    hand_answered(&hand);
    cr_assert_eq(comes(9, words, true), HAND_ANSWERED);
    cr_assert_eq(comes(9, words, true), HAND_ANSWERED, "the answer can be lost more than once");
    cr_assert_eq(comes(9, words, false), HAND_NEW, "the caller asks for the same again");
}

Test(hand, one_that_ends_recovery_each_time_is_given_up_alone)
{
    for (uint32_t tries = 0; tries < HAND_TRIES_MAX; tries++)
        cr_assert_eq(comes(9, words, tries > 0), tries ? HAND_AGAIN : HAND_NEW, "try %u", tries);
    cr_assert_eq(comes(9, words, true), HAND_POISONED, "as many fell with it");
    cr_assert_eq(comes(9, words, true), HAND_POISONED, "one fell before it had said so");
    hand_answered(&hand);
    cr_assert_eq(comes(9, words, true), HAND_ANSWERED);
    cr_assert_eq(comes(9, others, true), HAND_NEW, "another of the same caller is not to blame");
    cr_assert_eq(comes(9, words, false), HAND_NEW, "asked for anew it is tried again");
    cr_assert_eq(comes(8, words, true), HAND_NEW, "nor is the same of another caller");
}

Test(hand, one_that_was_not_in_hand_is_new_whatever_the_kernel_says)
{
    cr_assert_eq(comes(9, words, true), HAND_NEW);
    for (uint32_t n = 0; n < 2 * HAND_TRIES_MAX; n++) {
        cr_assert_eq(comes(9, words, true), HAND_AGAIN);
        cr_assert_eq(comes(8, words, true), HAND_NEW, "taken in between: the count begins anew");
        cr_assert_eq(comes(9, words, true), HAND_NEW);
    }
}

static uint64_t instructions, old_was_taken;

/* Had this instruction been the last: no session is closed that its client was told of, and neither request is taken for
 * the other. */
static void on_step(int signal)
{
    struct hand left = hand;

    (void)signal;
    instructions++;
    cr_assert(left.opened == 0 || left.answered, "after %lu instructions: session %lu would be closed",
              instructions, left.opened);
    enum hand_verdict verdict = hand_take(&left, 8, 5, others, true);
    cr_assert(verdict == HAND_NEW || verdict == HAND_AGAIN, "after %lu instructions: %d", instructions,
              verdict);
    cr_assert_eq(left.closed, false);
    left = hand;
    old_was_taken += hand_take(&left, 9, 5, words, true) == HAND_ANSWERED;
}

Test(hand, a_fall_while_the_next_is_taken)
{
    struct sigaction a = {.sa_handler = on_step};

    cr_assert_eq(comes(9, words, false), HAND_NEW);
    hand.opened = 77;
    hand.closed = true;
    hand_answered(&hand);
    sigaction(SIGTRAP, &a, NULL);
    __asm__ volatile("pushfq; orq %0, (%%rsp); popfq" : : "i"(TRAP) : "memory", "cc");
    (void)hand_take(&hand, 8, 5, others, false);
    __asm__ volatile("pushfq; andq %0, (%%rsp); popfq" : : "i"(~TRAP) : "memory", "cc");
    cr_assert_gt(instructions, 30);
    cr_assert_gt(old_was_taken, 0);
    cr_assert_eq(hand.badge, 8);
}
