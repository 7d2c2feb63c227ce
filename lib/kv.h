/* SPDX-License-Identifier: BSD-2-Clause
 * Seals of the key-value service: made by the client of what it stores, and checked by it in what it gets back, so
 * that nothing between the two can change a value, or answer another question, unnoticed. */
#ifndef COPPICE_LIB_KV_H
#define COPPICE_LIB_KV_H

#include "abi/types.h"

static inline uint64_t kv_mix(uint64_t sum, uint64_t word)
{
    sum = (sum ^ word) * 0x9e3779b97f4a7c15ul;
    return sum ^ sum >> 29;
}

static inline uint64_t kv_seal(uint64_t key, uint64_t first, uint64_t second, uint64_t version)
{
    return kv_mix(kv_mix(kv_mix(kv_mix(0x6b76, key), first), second), version);
}

/* asked: key and label of the question. w: the answer's words up to the seal. */
static inline uint64_t kv_answer_seal(uint64_t asked, uint64_t status, const uint64_t w[6])
{
    uint64_t sum = kv_mix(kv_mix(0x616e, asked), status);
    for (unsigned i = 0; i < 6; i++) sum = kv_mix(sum, w[i]);
    return sum;
}

static inline uint64_t kv_asked(uint64_t key, uint64_t label) { return key << 8 | label; }

#endif
