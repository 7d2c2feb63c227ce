/* SPDX-License-Identifier: BSD-2-Clause
 * The client of the key-value store, and its judge: puts and gets keys at random for ever, knows what each answer must
 * be, and counts. One call in eight may not be replayed: if it is told of a restart, it looks that the call had no
 * effect. A new epoch of the store means that it was started anew and has nothing; that is a loss, known to both.
 * Every EVERY calls, and at once when something is wrong, the counts go to the log. */
#include "abi/protocol.h"
#include "lib/runtime.h"
#include "lib/kv.h"

#define KEYS  128u
#define EVERY 2000u

static struct {
    uint64_t first, second, version; /* version 0: not stored */
} known[KEYS + 1];
static uint64_t epoch, random_state;
static struct {
    uint64_t calls, right, wrong, unsealed, failed, epochs, lost;
} count;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void report(void)
{
    log_line("{\"kv\":{\"calls\":%lu,\"right\":%lu,\"wrong\":%lu,\"unsealed\":%lu,\"failed\":%lu,"
             "\"epochs\":%lu,\"lost\":%lu}}",
             count.calls, count.right, count.wrong, count.unsealed, count.failed, count.epochs, count.lost);
}

static void judge(bool right, const char *what, uint64_t key, uint64_t got, uint64_t wanted)
{
    if (right) {
        count.right++;
        return;
    }
    count.wrong++;
    log_line("{\"kv_wrong\":{\"what\":\"%s\",\"key\":%lu,\"got\":%lu,\"wanted\":%lu}}", what, key, got,
             wanted);
    report();
}

static void epoch_look(uint64_t now)
{
    if (now == epoch) return;
    for (uint64_t key = 1; epoch != 0 && key <= KEYS; key++) count.lost += known[key].version != 0;
    if (epoch != 0) memset(known, 0, sizeof(known));
    count.epochs += epoch != 0;
    epoch = now;
}

/* Asks until the answer has its seal: what was damaged on its way out is no answer. E_PEER_RESTARTED: the call was
 * not to be replayed. */
static status_t ask(uint16_t label, const struct message *question, struct message *m)
{
    for (;;) {
        *m = *question;
        m->info |= label;
        status_t status = sys_call(cap_find("kv"), m);
        count.calls++;
        if (count.calls % EVERY == 0) report();
        if (status != OK) return status;
        status = (status_t)INFO_LABEL(m->info);
        if (m->w[6] == kv_answer_seal(kv_asked(question->w[0], label), status, m->w)) return status;
        count.unsealed++;
    }
}

static void get(uint64_t key, uint64_t flags)
{
    struct message m, question = {.w = {key}, .info = flags};
    status_t status = ask(KV_GET, &question, &m);

    if (status == E_PEER_RESTARTED) {
        count.failed++;
        return;
    }
    epoch_look(m.w[5]);
    if (status != OK || known[key].version == 0)
        judge(status == (known[key].version ? OK : E_NOT_FOUND), "status of a get", key, status,
              known[key].version);
    else
        judge(m.w[0] == key && m.w[1] == known[key].first && m.w[2] == known[key].second &&
                  m.w[3] == known[key].version && m.w[4] == kv_seal(key, m.w[1], m.w[2], m.w[3]),
              "value", key, m.w[3], known[key].version);
}

static void put(uint64_t key, uint64_t flags)
{
    uint64_t first = random_next(), second = random_next(), version = known[key].version + 1, before = epoch;
    uint64_t unsealed = count.unsealed;
    struct message m,
        question = {.w = {key, first, second, version, kv_seal(key, first, second, version)}, .info = flags};
    status_t status = ask(KV_PUT, &question, &m);

    if (status == E_PEER_RESTARTED) {
        count.failed++;
        if (count.unsealed == unsealed) { /* it had no effect */
            get(key, INFO_REPLAYABLE);
            return;
        }
        question.info =
            INFO_REPLAYABLE; /* the first time it may have had: only this version can be kept twice */
        status = ask(KV_PUT, &question, &m);
    }
    epoch_look(m.w[5]);
    if (status == E_STATE && epoch != before) return;             /* of a version that it has lost */
    bool again = status == E_STATE && count.unsealed != unsealed; /* the answer to the first was no answer */
    judge(status == OK || again, "status of a put", key, status, version);
    if (status != OK && !again) return;
    known[key].first = first;
    known[key].second = second;
    known[key].version = version;
    if (again) get(key, INFO_REPLAYABLE);
}

int main(void)
{
    struct message m = {0};

    random_state = rdtsc() | 1;
    if (service_call(cap_find("supervisor"), SUPERVISOR_READY, &m) != OK)
        fatal("kvload: not accepted as ready");
    for (;;) {
        uint64_t what = random_next(), key = 1 + (what >> 8) % KEYS, flags = what & 7 ? INFO_REPLAYABLE : 0;
        if (what & 64)
            put(key, flags);
        else
            get(key, flags);
    }
}
