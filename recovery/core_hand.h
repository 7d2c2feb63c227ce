/* SPDX-License-Identifier: BSD-2-Clause
 * The request in hand: whoever falls with it leaves to the next one which it was, how far it got, and how often it was tried.
 * It is the ladder's first rung for recovery's own requests: one that ends recovery each time is given up alone. */
#ifndef COPPICE_RECOVERY_CORE_HAND_H
#define COPPICE_RECOVERY_CORE_HAND_H

#include <stdbool.h>
#include <stdint.h>

#define HAND_TRIES_MAX 5u /* as many falls with it in hand, as for the supervisor's requests and a driver's */
#define HAND_WORDS     4u /* of a message, that a request of recovery has */

struct hand {
    uint64_t badge, label, w[HAND_WORDS];
    uint32_t tries;  /* begun, this one included */
    uint64_t opened; /* OPEN: session that its client does not know yet; 0: none */
    bool closed;     /* CLOSE: the session is closed */
    bool answered;   /* all is done, and the answer is written down */
};

enum hand_verdict {
    HAND_NEW,      /* to be done */
    HAND_AGAIN,    /* one fell with it: half of it may be done */
    HAND_ANSWERED, /* done, only the answer was lost */
    HAND_POISONED, /* HAND_TRIES_MAX fell with it: not to be tried again */
};

/* From here on this request is the one in hand. replayed: the kernel says that somebody fell with it. */
enum hand_verdict hand_take(struct hand *h, uint64_t badge, uint64_t label, const uint64_t w[HAND_WORDS],
                            bool replayed);
void hand_answered(
    struct hand *h); /* what was to be done is done or refused, and the answer is written down */

#endif
