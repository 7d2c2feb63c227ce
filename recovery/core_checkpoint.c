/* SPDX-License-Identifier: BSD-2-Clause
 * Checkpoints: two generations a service, in pages that only recovery can write. Owns their format.
 * Invariants: a commit never touches the one that was committed, or chosen at a load, last; what is loaded has its
 * magic, service, schema, length and sums right, and is not older than its reader allows. If recovery dies inside a
 * commit, the other generation is untouched.
 *
 * The sums are Fletcher's over 64-bit words, modulo 2^64: every change of one word changes the first sum, 0 and ~0
 * differ, and an exchange of two words changes the second, unless the words are equal in their lower 56 bits (there are
 * at most 506: the second sum counts a difference at most 506 times). A CRC without a table takes 64 steps a word, this
 * two additions; the enemy is a stray write or a torn copy, not a forger, who would have to be in recovery itself. */
#include "core.h"

#define CHECKPOINT_EXPIRED 0x20444c4f43504f43ul /* "COPCOLD ", instead of the magic */

_Static_assert(sizeof(struct checkpoint) <= PAGE_SIZE, "a checkpoint fits a page");
_Static_assert(offsetof(struct checkpoint, sum) % 8 == 0 && CHECKPOINT_MAX % 8 == 0 &&
                   offsetof(struct checkpoint, data) % 8 == 0,
               "whole words");

struct sums {
    uint64_t first, second;
};

static inline void sum_add(struct sums *s, uint64_t word)
{
    s->first += word;
    s->second += s->first;
}

static void sum_words(struct sums *s, const void *data, uint32_t bytes)
{
    const uint64_t *word = data;

#pragma GCC unroll 4
    for (uint32_t i = 0; i < bytes / 8; i++) sum_add(s, word[i]);
}

/* What is summed is what was copied, whoever writes to `from` meanwhile. */
static void sum_copy(struct sums *s, void *to, const void *from, uint32_t words)
{
    const volatile uint64_t *in = from;
    uint64_t *out = to;

#pragma GCC unroll 4
    for (uint32_t i = 0; i < words; i++) {
        uint64_t word = in[i];
        out[i] = word;
        sum_add(s, word);
    }
}

static void sum_store(const struct sums *s, uint64_t sum[2])
{
    sum[0] = s->first;
    sum[1] = s->second;
}

/* The magic and all fields between it and the sums. 1: so that the number of leading zero words counts in the second. */
static struct sums sum_head(const struct checkpoint *c)
{
    struct sums s = {.first = 1};
    sum_add(&s, CHECKPOINT_MAGIC);
    sum_words(&s, &c->service, offsetof(struct checkpoint, sum) - offsetof(struct checkpoint, service));
    return s;
}

static void checkpoint_sum(const struct checkpoint *c, uint64_t sum[2])
{
    struct sums s = sum_head(c);
    sum_words(&s, c->data, (c->length + 7) & ~7u);
    sum_store(&s, sum);
}

enum checkpoint_verdict checkpoint_check(const struct checkpoint *c, uint32_t room, uint32_t service,
                                         uint32_t schema)
{
    uint64_t sum[2];

    if (c->magic == 0 && c->sequence == 0) return CHECKPOINT_EMPTY;
    if (c->magic == CHECKPOINT_EXPIRED) return CHECKPOINT_TOO_OLD;
    if (c->magic != CHECKPOINT_MAGIC) return CHECKPOINT_BAD_MAGIC;
    if (c->service != service) return CHECKPOINT_BAD_SERVICE;
    if (c->length > room) return CHECKPOINT_BAD_LENGTH;
    checkpoint_sum(c, sum);
    if (sum[0] != c->sum[0] || sum[1] != c->sum[1]) return CHECKPOINT_BAD_SUM;
    return c->schema == schema || schema == CHECKPOINT_ANY_SCHEMA ? CHECKPOINT_GOOD : CHECKPOINT_BAD_SCHEMA;
}

int checkpoint_choose(const struct server *v, uint32_t service, uint32_t schema,
                      enum checkpoint_source *source)
{
    *source = CHECKPOINT_NONE;
    if (v->checkpoint[0] == NULL) return -1;
    /* A latest that was lost is known by its number: then what is left is the previous. */
    int best = -1;
    for (int i = 0; i < 2; i++) {
        if (checkpoint_check(v->checkpoint[i], v->checkpoint_room, service, schema) != CHECKPOINT_GOOD)
            continue;
        if (best < 0 || v->checkpoint[i]->sequence > v->checkpoint[best]->sequence) best = i;
    }
    if (best >= 0)
        *source = v->checkpoint[best]->sequence == v->checkpoints ? CHECKPOINT_LATEST : CHECKPOINT_PREVIOUS;
    return best;
}

uint32_t checkpoint_bytes(uint32_t length)
{
    return offsetof(struct checkpoint, data) + length <= PAGE_SIZE / 2 ? PAGE_SIZE : 2 * PAGE_SIZE;
}

void checkpoint_place(struct server *v, void *memory, uint32_t bytes)
{
    uint32_t room = bytes / 2 - (uint32_t)offsetof(struct checkpoint, data);

    for (uint32_t i = 0; i < 2; i++) {
        struct checkpoint *c = (struct checkpoint *)((uint8_t *)memory + i * bytes / 2);
        if (v->checkpoint[i] != NULL)
            __builtin_memcpy(c, v->checkpoint[i], offsetof(struct checkpoint, data) + v->checkpoint_room);
        v->checkpoint[i] = c;
    }
    v->checkpoint_room = room < CHECKPOINT_MAX ? room : CHECKPOINT_MAX;
}

uint64_t checkpoint_commit(struct server *v, uint32_t service, uint32_t schema, const void *data,
                           uint32_t length, uint64_t now_ns)
{
    uint32_t n = v->checkpoint_kept == 1;
    struct checkpoint *c = v->checkpoint[n];

    c->magic = 0; /* not one thing and not the other until the last lines */
    c->service = service;
    c->schema = schema;
    c->sequence = ++v->checkpoints;
    c->length = length;
    c->reserved = 0;
    c->committed_ns = now_ns;
    struct sums s = sum_head(c);
    sum_copy(&s, c->data, data, length / 8);
    if (length % 8) {
        uint64_t last = 0;
        __builtin_memcpy(&last, (const uint8_t *)data + length / 8 * 8, length % 8);
        sum_copy(&s, c->data + length / 8 * 8, &last, 1);
    }
    sum_store(&s, c->sum);
    c->magic = CHECKPOINT_MAGIC;
    v->checkpoint_kept = 1 + n;
    return c->sequence;
}

void checkpoint_keep(struct server *v, int n) { v->checkpoint_kept = 1 + (uint32_t)n; }

uint32_t checkpoint_expire(struct server *v, uint64_t oldest_ns)
{
    uint32_t expired = 0;

    for (int i = 0; i < 2; i++) {
        struct checkpoint *c = v->checkpoint[i];
        if (c == NULL || c->magic != CHECKPOINT_MAGIC || c->committed_ns >= oldest_ns) continue;
        c->magic = CHECKPOINT_EXPIRED;
        expired++;
    }
    return expired;
}

int checkpoint_to_set_aside(const struct server *v, uint32_t service, uint32_t schema)
{
    enum checkpoint_source source;
    uint32_t kept = v->checkpoint_kept;
    if (kept && v->checkpoint[kept - 1]->schema == schema) return -1; /* as a rule: nothing to be summed */
    int newest = checkpoint_choose(v, service, CHECKPOINT_ANY_SCHEMA, &source);

    return newest >= 0 && v->checkpoint[newest]->schema != schema ? newest : -1;
}

void checkpoint_drop_latest(struct server *v, uint32_t service, uint32_t schema)
{
    enum checkpoint_source source;
    int latest = checkpoint_choose(v, service, schema, &source);

    if (latest < 0 || source != CHECKPOINT_LATEST) return;
    v->checkpoint[latest]->magic = 0;
    checkpoint_keep(v, !latest);
}
