/* SPDX-License-Identifier: BSD-2-Clause
 * Making and checking records. Two sums instead of a CRC: two additions a word, and the host computes
 * them at C speed with nothing but the standard library. */
#include "record.h"

struct sums {
    uint64_t plain, partial;
};

static struct sums record_sums(const struct record *r)
{
    const uint64_t *word = (const uint64_t *)r;
    struct sums s = {0, 0};

    for (uint32_t i = 0; i < RECORD_WORDS; i++) {
        if (i != 4 && i != 5) s.plain += word[i]; /* the sums themselves count as 0 */
        s.partial += s.plain;
    }
    return s;
}

void record_make(struct record *r, uint64_t seq, uint64_t place, uint64_t seed)
{
    uint64_t x = seed ^ seq * 0x9e3779b97f4a7c15ul;

    r->magic = RECORD_MAGIC;
    r->seq = seq;
    r->place = place;
    r->seed = seed;
    for (uint32_t i = 0; i < RECORD_WORDS - 6; i++) {
        x = x * 6364136223846793005ul + 1442695040888963407ul;
        r->fill[i] = x;
    }
    struct sums s = record_sums(r);
    r->sum = s.plain;
    r->sum2 = s.partial;
}

bool record_good(const struct record *r, uint64_t seq, uint64_t place, uint64_t seed)
{
    if (r->magic != RECORD_MAGIC || r->seq != seq || r->place != place || r->seed != seed) return false;
    struct sums s = record_sums(r);
    return r->sum == s.plain && r->sum2 == s.partial;
}
