/* SPDX-License-Identifier: BSD-2-Clause
 * Two generations of a checkpoint (recovery/core_checkpoint.c). Input: records that commit, damage a page
 * anywhere, drop the latest or choose. What is chosen is byte for byte something that was committed, under
 * its own number, length and version; an undamaged commit is never passed over for an older one. */
#include "fuzz.h"
#include "recovery/core.h"

#define KEPT    8u /* commits of an input; more are ignored */
#define SERVICE 3u

static struct checkpoint page[2];
static struct commit {
    uint64_t sequence;
    uint32_t length, schema;
    uint8_t fill;
} commit[KEPT];
static unsigned commits;
static bool damaged; /* since the last commit: the newest may be lost */

static void commit_make(struct server *v, uint32_t schema, uint32_t length, uint8_t fill)
{
    static uint8_t data[CHECKPOINT_MAX];
    if (commits == KEPT) return;
    memset(data, fill, length);
    uint64_t n = checkpoint_commit(v, SERVICE, schema, data, length, commits);
    check(n == v->checkpoints && n == commits + 1);
    commit[commits++] = (struct commit){n, length, schema, fill};
    damaged = false;
}

/* The sum is no signature: damage that keeps it is not looked for, each record changes one value. */
static bool is_commit(const struct checkpoint *c)
{
    if (c->sequence == 0 || c->sequence > commits) return false;
    const struct commit *k = &commit[c->sequence - 1];
    for (uint32_t i = 0; i < k->length; i++)
        if (c->data[i] != k->fill) return false;
    return c->length == k->length && c->schema == k->schema;
}

static void choose(const struct server *v, uint32_t schema)
{
    enum checkpoint_source source;
    int best = checkpoint_choose(v, SERVICE, schema, &source);
    check(best >= -1 && best <= 1 && (best < 0) == (source == CHECKPOINT_NONE));
    if (best >= 0) {
        const struct checkpoint *other = v->checkpoint[!best];
        check(checkpoint_check(v->checkpoint[best], v->checkpoint_room, SERVICE, schema) == CHECKPOINT_GOOD);
        check(v->checkpoint[best]->schema == schema && v->checkpoint[best]->length <= CHECKPOINT_MAX);
        check((source == CHECKPOINT_LATEST) == (v->checkpoint[best]->sequence == v->checkpoints));
        if (checkpoint_check(other, v->checkpoint_room, SERVICE, schema) == CHECKPOINT_GOOD)
            check(other->sequence <= v->checkpoint[best]->sequence);
        check(is_commit(v->checkpoint[best]));
    }
    if (commits && !damaged && commit[commits - 1].schema == schema)
        check(best >= 0 && source == CHECKPOINT_LATEST);
}

/* One value of a page changes; what was good and is not as it was must not be good. */
static void damage(struct input *in)
{
    struct checkpoint *c = &page[take(in, 1) & 1], before = *c;
    unsigned head = (unsigned)take(in, 1);
    patch(in, (uint8_t *)c, head & 1 ? offsetof(struct checkpoint, data) + 16 : sizeof *c);
    damaged |= memcmp(c, &before, sizeof before) != 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct server v = {.checkpoint = {&page[0], &page[1]}, .checkpoint_room = CHECKPOINT_MAX};
    memset(page, 0, sizeof page);
    commits = 0;
    damaged = false;
    while (in.left) {
        unsigned what = (unsigned)take(&in, 1);
        uint32_t schema = 1 + (what >> 7);
        switch (what & 3) {
        case 0: {
            uint32_t length = (uint32_t)take(&in, 1) << (what >> 2 & 3);
            commit_make(&v, schema, length, (uint8_t)(1 + take(&in, 1)));
            break;
        }
        case 1: damage(&in); break;
        case 2:
            checkpoint_drop_latest(&v, SERVICE, schema);
            damaged = true;
            break;
        default: choose(&v, schema); break;
        }
    }
    choose(&v, 1);
    choose(&v, 2);
    return 0;
}
