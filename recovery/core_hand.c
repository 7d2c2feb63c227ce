/* SPDX-License-Identifier: BSD-2-Clause
 * The rules of core_hand.h. A fall can come between any two stores, so their order is part of the rules. */
#include "core_hand.h"

static bool is_in_hand(const struct hand *h, uint64_t badge, uint64_t label, const uint64_t w[HAND_WORDS])
{
    if (h->badge != badge || h->label != label) return false;
    for (uint32_t i = 0; i < HAND_WORDS; i++)
        if (h->w[i] != w[i]) return false;
    return true;
}

enum hand_verdict hand_take(struct hand *h, uint64_t badge, uint64_t label, const uint64_t w[HAND_WORDS],
                            bool replayed)
{
    if (replayed && is_in_hand(h, badge, label, w)) {
        if (h->answered) return HAND_ANSWERED;
        if (h->tries >= HAND_TRIES_MAX) return HAND_POISONED;
        __atomic_store_n(&h->tries, h->tries + 1, __ATOMIC_SEQ_CST);
        return HAND_AGAIN;
    }
    __atomic_store_n(&h->badge, 0, __ATOMIC_SEQ_CST);  /* nobody's while it changes */
    __atomic_store_n(&h->opened, 0, __ATOMIC_SEQ_CST); /* before `answered`: its client has that session */
    h->closed = false;
    h->label = label;
    for (uint32_t i = 0; i < HAND_WORDS; i++) h->w[i] = w[i];
    h->tries = 1;
    __atomic_store_n(&h->answered, false, __ATOMIC_SEQ_CST);
    __atomic_store_n(&h->badge, badge, __ATOMIC_SEQ_CST);
    return HAND_NEW;
}

void hand_answered(struct hand *h) { __atomic_store_n(&h->answered, true, __ATOMIC_SEQ_CST); }
