/* SPDX-License-Identifier: BSD-2-Clause
 * A key-value store that keeps its state in its own memory and has no checkpoint code. It answers by
 * reply_recv_snapshot, and before each answer it looks at all that it has, and whether the answer follows from it; if
 * something is wrong it exits. The supervisor then starts it from what it was when it answered last, and the request in
 * progress is asked again.
 * Owns the table. Its epoch is the incarnation that began with an empty one, and every answer says it: who began empty
 * again has lost all keys, and its clients know. */
#include "abi/protocol.h"
#include "lib/runtime.h"
#include "lib/kv.h"

#define ENTRIES 256u
#define FULL    192u

static struct entry {
    uint64_t key, first, second, version, seal; /* key 0: free, and then all is 0 */
} * table;                                      /* on its heap */
static uint64_t used;
static struct birth { /* sealed once: who seals again what was damaged meanwhile, makes it true */
    uint64_t epoch, text, seal;
} birth;

struct found { /* in the whole table, of one key */
    uint32_t times;
    uint64_t word[5];
};

static void __attribute__((noreturn)) damaged(void) { sys_exit(1); }

/* --- What there is ----------------------------------------------------------------------------- */

extern const uint8_t image_text[], image_text_end[]; /* lib/user.ld */

/* Of the program itself: an instruction that was changed would make answers that look right. */
static uint64_t text_sum(void)
{
    uint64_t sum = 0;

    for (uintptr_t at = (uintptr_t)image_text; at + 8 <= (uintptr_t)image_text_end; at += 8)
        sum = kv_mix(sum, *(const uint64_t *)at);
    return sum;
}

static uint64_t birth_seal(void) { return kv_seal(0, birth.epoch, birth.text, 1); }

/* Everything, by reading it from one end to the other: how an entry is found plays no part. */
static uint64_t table_look(uint64_t key, struct found *found)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < ENTRIES; i++) {
        const struct entry *e = &table[i];
        if (e->key == 0 && (e->first | e->second | e->version | e->seal)) damaged();
        if (e->key == 0) continue;
        if (e->seal != kv_seal(e->key, e->first, e->second, e->version)) damaged();
        count++;
        if (e->key != key) continue;
        found->times++;
        memcpy(found->word, e, sizeof(found->word));
    }
    return count;
}

/* Does the answer to the question follow from the table? */
static bool follows(uint64_t label, const uint64_t question[], status_t status, const uint64_t answer[],
                    const struct found *found)
{
    if (label == KV_GET && status == OK) return found->times == 1 && memcmp(answer, found->word, 40) == 0;
    if (label == KV_GET) return status == E_NOT_FOUND && found->times == 0;
    if (label != KV_PUT) return status == E_UNSUPPORTED;
    if (status == OK) return found->times == 1 && memcmp(question, found->word, 40) == 0;
    if (status == E_NO_SLOTS) return found->times == 0 && used == FULL;
    return status == E_STATE && question[3] != (found->times ? found->word[3] : 0) + 1;
}

/* Of its own, so that a test can switch it off. question: as it was asked; m: the answer, sealed. */
__attribute__((noinline)) void kv_verify(uint64_t info, const uint64_t question[], const struct message *m);
void kv_verify(uint64_t info, const uint64_t question[], const struct message *m)
{
    status_t status = (status_t)INFO_LABEL(m->info);
    struct found found = {0};

    if (table_look(question[0], &found) != used) damaged();
    if (birth.seal != birth_seal() || birth.text != text_sum() || birth.epoch != m->w[5]) damaged();
    if (!follows(INFO_LABEL(info), question, status, m->w, &found)) damaged();
    if (m->w[6] != kv_answer_seal(kv_asked(question[0], INFO_LABEL(info)), status, m->w)) damaged();
}

/* --- What is asked ------------------------------------------------------------------------------ */

/* Where the key is, or belongs. */
static struct entry *find(uint64_t key)
{
    uint32_t i = (uint32_t)(kv_mix(1, key) % ENTRIES);

    for (uint32_t n = 0; table[i].key != 0 && table[i].key != key; n++) {
        if (n == ENTRIES) damaged();
        i = (i + 1) % ENTRIES;
    }
    return &table[i];
}

static status_t put(const uint64_t w[])
{
    struct entry *e = find(w[0]);
    bool is_new = e->key == 0;

    if (w[0] == 0 || w[4] != kv_seal(w[0], w[1], w[2], w[3])) damaged(); /* the client made it right */
    if (w[3] != e->version + 1) return E_STATE;
    if (is_new && used == FULL) return E_NO_SLOTS;
    used += is_new;
    *e = (struct entry){w[0], w[1], w[2], w[3], w[4]};
    return OK;
}

static void serve(struct message *m)
{
    uint64_t key = m->w[0], label = INFO_LABEL(m->info), answer[5] = {key};
    const struct entry *e;
    status_t status = E_UNSUPPORTED;

    if (label == KV_PUT) {
        status = put(m->w);
        answer[3] = m->w[3];
    } else if (label == KV_GET) {
        e = find(key);
        status = e->key != 0 ? OK : E_NOT_FOUND;
        const uint64_t kept[5] = {key, e->first, e->second, e->version, e->seal};
        memcpy(answer, kept, sizeof(answer));
    }
    memcpy(m->w, answer, sizeof(answer));
    m->w[5] = birth.epoch;
    m->w[6] = kv_answer_seal(kv_asked(key, label), status, m->w);
    m->info = INFO_MAKE(status, 0);
}

static void table_make(void)
{
    uint64_t pages = PAGES_FOR(ENTRIES * sizeof(struct entry));
    struct sys_result memory = sys_memory_create(0, pages, 0);
    void *at = NULL;

    if (memory.status != OK || map_new(memory.value, pages, RIGHT_READ | RIGHT_WRITE, &at) != OK)
        fatal("kv: no memory");
    table = at;
}

int main(void)
{
    handle_t endpoint = cap_find("endpoint");
    struct message m = {0};

    table_make();
    birth.epoch = TAG_GENERATION(startup()->tag);
    birth.text = text_sum();
    birth.seal = birth_seal();
    if (service_call(cap_find("supervisor"), SUPERVISOR_READY, &m) != OK) fatal("kv: not accepted as ready");
    log_line("kv: empty, epoch %lu", birth.epoch);
    for (;;) {
        status_t status = sys_reply_recv_snapshot(endpoint, &m);
        if (status != OK) fatal("kv: no snapshot, status %u", (uint32_t)status);
        uint64_t info = m.info, question[MESSAGE_WORDS];
        memcpy(question, m.w, sizeof(question));
        serve(&m);
        kv_verify(info, question, &m);
    }
}
