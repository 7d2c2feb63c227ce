/* SPDX-License-Identifier: BSD-2-Clause
 * Checkpoints: two generations a service, in pages that only recovery can write. Owns their format.
 * Invariants: a commit never touches the newest good one; what is loaded has its magic, service, schema,
 * length and sums right. If recovery dies inside a commit, the other generation is untouched.
 *
 * The sums are Fletcher's over 32-bit words, kept whole in 64 bits each instead of modulo 2^32 - 1: over
 * at most 1,012 words neither can overflow, so 0 and ~0 differ, every change of one word changes the first
 * sum, every exchange of two words the second. A CRC without a table takes 32 steps a word, this two additions; the
 * enemy is a stray write or a torn copy, not a forger, who would have to be in recovery itself. */
#include "core.h"

_Static_assert(sizeof(struct checkpoint) <= PAGE_SIZE, "a checkpoint fits a page");
_Static_assert(offsetof(struct checkpoint, sum) % 4 == 0 && CHECKPOINT_MAX % 4 == 0, "whole words");

static void sum_words(uint64_t sum[2], const void *data, uint32_t bytes)
{
    const uint32_t *word = data;
    uint64_t first = sum[0], second = sum[1];

    for (uint32_t i = 0; i < bytes / 4; i++) {
        first += word[i];
        second += first;
    }
    sum[0] = first;
    sum[1] = second;
}

static void checkpoint_sum(const struct checkpoint *c, uint64_t sum[2])
{
    sum[0] = 1; /* so that the number of leading zero words counts in the second */
    sum[1] = 0;
    sum_words(sum, c, offsetof(struct checkpoint, sum));
    sum_words(sum, c->data, (c->length + 3) & ~3u);
}

enum checkpoint_verdict checkpoint_check(const struct checkpoint *c, uint32_t room, uint32_t service,
                                         uint32_t schema)
{
    uint64_t sum[2];

    if (c->magic == 0 && c->sequence == 0) return CHECKPOINT_EMPTY;
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
                           uint32_t length)
{
    enum checkpoint_source source;
    int keep = checkpoint_choose(v, service, CHECKPOINT_ANY_SCHEMA, &source);
    struct checkpoint *c = v->checkpoint[keep == 0 ? 1 : 0];

    c->magic = 0; /* not one thing and not the other until the last line */
    c->service = service;
    c->schema = schema;
    c->sequence = ++v->checkpoints;
    c->length = length;
    c->reserved = 0;
    __builtin_memcpy(c->data, data, length);
    for (uint32_t i = length; i % 4 != 0; i++) c->data[i] = 0;
    c->magic = CHECKPOINT_MAGIC;
    checkpoint_sum(c, c->sum);
    return c->sequence;
}

int checkpoint_to_set_aside(const struct server *v, uint32_t service, uint32_t schema)
{
    enum checkpoint_source source;
    int newest = checkpoint_choose(v, service, CHECKPOINT_ANY_SCHEMA, &source);

    return newest >= 0 && v->checkpoint[newest]->schema != schema ? newest : -1;
}

void checkpoint_drop_latest(struct server *v, uint32_t service, uint32_t schema)
{
    enum checkpoint_source source;
    int latest = checkpoint_choose(v, service, schema, &source);

    if (latest >= 0 && source == CHECKPOINT_LATEST) v->checkpoint[latest]->magic = 0;
}
