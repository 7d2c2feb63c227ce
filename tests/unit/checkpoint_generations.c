/* SPDX-License-Identifier: BSD-2-Clause
 * Two generations, each field corrupted in turn (recovery/core_checkpoint.c). */
#include "tests/unit/recovery_fixture.h"

#define SCHEMA 3

static struct server v;
static struct checkpoint page[2];
static char data[1024];
static enum checkpoint_source source;
static uint64_t now_ns = 1000;

static void setup(void)
{
    v.checkpoint[0] = &page[0];
    v.checkpoint[1] = &page[1];
    v.checkpoint_room = CHECKPOINT_MAX;
    for (unsigned i = 0; i < sizeof(data); i++) data[i] = (char)(i * 7);
}
TestSuite(checkpoint, .init = setup);

static uint64_t commit(const char *text)
{
    strcpy(data, text);
    return checkpoint_commit(&v, DISK, SCHEMA, data, sizeof(data), now_ns);
}

static const char *load(void)
{
    int i = checkpoint_choose(&v, DISK, SCHEMA, &source);

    return i < 0 ? "" : (const char *)page[i].data;
}

static struct checkpoint *latest(void) { return page[0].sequence > page[1].sequence ? &page[0] : &page[1]; }

Test(checkpoint, none_before_the_first_commit)
{
    cr_assert_str_eq(load(), "");
    cr_assert_eq(source, CHECKPOINT_NONE);
    cr_assert_eq(checkpoint_check(&page[0], CHECKPOINT_MAX, DISK, SCHEMA), CHECKPOINT_EMPTY);
    v.checkpoint[0] = v.checkpoint[1] = NULL;
    cr_assert_str_eq(load(), "");
}

Test(checkpoint, latest_is_loaded)
{
    for (uint64_t i = 1; i < 10; i++) {
        char text[8] = {(char)('a' + i)};
        cr_assert_eq(commit(text), i);
        cr_assert_str_eq(load(), text);
        cr_assert_eq(source, CHECKPOINT_LATEST);
    }
}

static void previous_after(enum checkpoint_verdict expected)
{
    cr_assert_eq(checkpoint_check(latest(), CHECKPOINT_MAX, DISK, SCHEMA), expected);
    cr_assert_str_eq(load(), "old");
    cr_assert_eq(source, CHECKPOINT_PREVIOUS);
    commit("newer");
    cr_assert_str_eq(load(), "newer");
    cr_assert_eq(source, CHECKPOINT_LATEST);
}

#define CORRUPTION(name, change, expected) \
    Test(checkpoint, corrupt_##name)       \
    {                                      \
        commit("old");                     \
        commit("new");                     \
        struct checkpoint *c = latest();   \
        change;                            \
        previous_after(expected);          \
    }

CORRUPTION(magic, c->magic ^= 1, CHECKPOINT_BAD_MAGIC)
CORRUPTION(service, c->service = CLIENT, CHECKPOINT_BAD_SERVICE)
CORRUPTION(schema, c->schema ^= 1, CHECKPOINT_BAD_SUM)
CORRUPTION(sequence, c->sequence += 7, CHECKPOINT_BAD_SUM)
CORRUPTION(length_huge, c->length = 0xffffffff, CHECKPOINT_BAD_LENGTH)
CORRUPTION(length_one_more_page, c->length = CHECKPOINT_MAX + 1, CHECKPOINT_BAD_LENGTH)
CORRUPTION(length_shorter, c->length--, CHECKPOINT_BAD_SUM)
CORRUPTION(reserved, c->reserved = 1, CHECKPOINT_BAD_SUM)
CORRUPTION(committed, c->committed_ns ^= 1ul << 40, CHECKPOINT_BAD_SUM)
CORRUPTION(first_sum, c->sum[0]++, CHECKPOINT_BAD_SUM)
CORRUPTION(second_sum, c->sum[1]--, CHECKPOINT_BAD_SUM)
CORRUPTION(first_byte, c->data[0] ^= 0x80, CHECKPOINT_BAD_SUM)
CORRUPTION(last_byte, c->data[sizeof(data) - 1] ^= 1, CHECKPOINT_BAD_SUM)

Test(checkpoint, zeros_are_not_ones)
{
    memset(data, 0, sizeof(data));
    checkpoint_commit(&v, DISK, SCHEMA, data, sizeof(data), now_ns);
    memset(latest()->data, 0xff, 4);
    cr_assert_eq(checkpoint_check(latest(), CHECKPOINT_MAX, DISK, SCHEMA), CHECKPOINT_BAD_SUM);
}

Test(checkpoint, exchanged_words_are_seen)
{
    commit("abcdefgh");
    uint8_t word[4];
    memcpy(word, latest()->data, 4);
    memcpy(latest()->data, latest()->data + 4, 4);
    memcpy(latest()->data + 4, word, 4);
    cr_assert_eq(checkpoint_check(latest(), CHECKPOINT_MAX, DISK, SCHEMA), CHECKPOINT_BAD_SUM);
}

Test(checkpoint, every_bit_counts)
{
    checkpoint_commit(&v, DISK, SCHEMA, data, 61, now_ns);
    struct checkpoint *c = latest();
    for (unsigned bit = 0; bit < 8 * (offsetof(struct checkpoint, data) + 61); bit++) {
        ((uint8_t *)c)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_assert_neq(checkpoint_check(c, CHECKPOINT_MAX, DISK, SCHEMA), CHECKPOINT_GOOD, "bit %u", bit);
        ((uint8_t *)c)[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    cr_assert_eq(checkpoint_check(c, CHECKPOINT_MAX, DISK, SCHEMA), CHECKPOINT_GOOD);
}

Test(checkpoint, of_another_schema_is_not_loaded)
{
    commit("old");
    cr_assert_eq(checkpoint_choose(&v, DISK, SCHEMA + 1, &source), -1);
    cr_assert_eq(checkpoint_check(latest(), CHECKPOINT_MAX, DISK, SCHEMA + 1), CHECKPOINT_BAD_SCHEMA);
}

Test(checkpoint, both_lost_is_a_cold_start)
{
    commit("old");
    commit("new");
    page[0].data[9]++;
    page[1].data[9]++;
    cr_assert_str_eq(load(), "");
    cr_assert_eq(source, CHECKPOINT_NONE);
}

Test(checkpoint, dropped_latest_gives_way)
{
    commit("old");
    commit("new");
    checkpoint_drop_latest(&v, DISK, SCHEMA);
    cr_assert_str_eq(load(), "old");
    cr_assert_eq(source, CHECKPOINT_PREVIOUS);
    checkpoint_drop_latest(&v, DISK, SCHEMA);
    cr_assert_str_eq(load(), "old", "only a latest is dropped");
}

Test(checkpoint, one_that_is_too_old_is_not_used)
{
    commit("old");
    now_ns += 500;
    commit("new");
    cr_assert_eq(checkpoint_expire(&v, 1000), 0);
    cr_assert_eq(checkpoint_expire(&v, 1001), 1);
    cr_assert_str_eq(load(), "new");
    cr_assert_eq(source, CHECKPOINT_LATEST);
    latest()->data[3]++;
    cr_assert_str_eq(load(), "", "the previous was too old");
    commit("again");
    now_ns += 500;
    commit("newest");
    cr_assert_eq(checkpoint_expire(&v, 2000), 1);
    cr_assert_eq(checkpoint_expire(&v, 2001), 1);
    cr_assert_eq(checkpoint_check(latest(), CHECKPOINT_MAX, DISK, SCHEMA), CHECKPOINT_TOO_OLD);
    cr_assert_str_eq(load(), "");
    cr_assert_eq(source, CHECKPOINT_NONE, "a cold start");
    commit("fresh");
    cr_assert_str_eq(load(), "fresh");
    cr_assert_eq(source, CHECKPOINT_LATEST);
}

Test(checkpoint, a_time_from_the_future_is_believed_only_with_its_sum)
{
    commit("old");
    latest()->committed_ns = UINT64_MAX; /* it would never age */
    cr_assert_eq(checkpoint_expire(&v, now_ns + 1), 0);
    cr_assert_str_eq(load(), "");
}

Test(checkpoint, a_commit_leaves_alone_what_was_committed_or_taken_last)
{
    commit("first");
    for (unsigned n = 0; n < 6; n++) {
        uint64_t before = latest()->sequence;
        commit("x");
        cr_assert(page[0].sequence == before || page[1].sequence == before);
    }
    commit("good");
    commit("lost");
    latest()->data[0]++;
    int i = checkpoint_choose(&v, DISK, SCHEMA, &source);
    checkpoint_keep(&v, i); /* as recovery does at a load */
    commit("next");
    cr_assert_str_eq((const char *)page[i].data, "good");
}

/* The driver's other half writes the staging area while it is copied: whatever was copied has a right sum. */
Test(checkpoint, what_is_summed_is_what_was_copied)
{
    for (uint32_t length = 1; length < 80; length++) {
        memset(data, (int)length, sizeof(data));
        checkpoint_commit(&v, DISK, SCHEMA, data, length, now_ns);
        cr_assert_eq(checkpoint_check(latest(), CHECKPOINT_MAX, DISK, SCHEMA), CHECKPOINT_GOOD);
        cr_assert_eq(memcmp(latest()->data, data, length), 0);
    }
}

Test(checkpoint, longest_fits)
{
    static uint8_t big[CHECKPOINT_MAX];
    memset(big, 0xff, sizeof(big));
    checkpoint_commit(&v, DISK, SCHEMA, big, sizeof(big), now_ns);
    cr_assert_eq(checkpoint_check(latest(), CHECKPOINT_MAX, DISK, SCHEMA), CHECKPOINT_GOOD);
}

/* --- Small ones share a page ------------------------------------------------------------------ */
Test(checkpoint, two_small_ones_share_a_page_and_two_large_ones_do_not)
{
    uint32_t head = offsetof(struct checkpoint, data);
    cr_assert_eq(checkpoint_bytes(1), PAGE_SIZE);
    cr_assert_eq(checkpoint_bytes(PAGE_SIZE / 2 - head), PAGE_SIZE);
    cr_assert_eq(checkpoint_bytes(PAGE_SIZE / 2 - head + 1), 2 * PAGE_SIZE);
    cr_assert_eq(checkpoint_bytes(CHECKPOINT_MAX), 2 * PAGE_SIZE);
}

Test(checkpoint, growing_keeps_both_generations)
{
    static uint8_t small[PAGE_SIZE] __attribute__((aligned(8))),
        large[2 * PAGE_SIZE] __attribute__((aligned(8)));
    static uint8_t big[CHECKPOINT_MAX];
    v = (struct server){0};
    checkpoint_place(&v, small, sizeof(small));
    cr_assert_geq(v.checkpoint_room, sizeof(data));
    commit("first");
    commit("second");
    checkpoint_place(&v, large, sizeof(large));
    cr_assert_eq(v.checkpoint_room, CHECKPOINT_MAX);
    memset(small, 0xff, sizeof(small));
    int i = checkpoint_choose(&v, DISK, SCHEMA, &source);
    cr_assert_eq(source, CHECKPOINT_LATEST);
    cr_assert_str_eq((const char *)v.checkpoint[i]->data, "second");
    memset(big, 7, sizeof(big));
    checkpoint_commit(&v, DISK, SCHEMA, big, sizeof(big), now_ns);
    checkpoint_drop_latest(&v, DISK, SCHEMA);
    i = checkpoint_choose(&v, DISK, SCHEMA, &source);
    cr_assert_str_eq((const char *)v.checkpoint[i]->data, "second");
}

Test(checkpoint, a_length_beyond_its_room_is_not_followed)
{
    static uint8_t small[PAGE_SIZE] __attribute__((aligned(8)));
    v = (struct server){0};
    checkpoint_place(&v, small, sizeof(small));
    commit("one");
    v.checkpoint[0]->length = v.checkpoint_room + 4;
    cr_assert_eq(checkpoint_check(v.checkpoint[0], v.checkpoint_room, DISK, SCHEMA), CHECKPOINT_BAD_LENGTH);
}
