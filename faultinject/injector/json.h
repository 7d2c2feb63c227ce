/* SPDX-License-Identifier: BSD-2-Clause
 * The orders' grammar: one flat JSON object a line, keys and texts without escapes, numbers without sign
 * or fraction. Anything else is refused with the column (from 1) and what is wrong there. Pure. */
#ifndef COPPICE_INJECTOR_JSON_H
#define COPPICE_INJECTOR_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_FIELDS   32u
#define JSON_TEXT_MAX 40u

struct json_field {
    char key[JSON_TEXT_MAX];
    bool is_text;
    uint64_t number;
    char text[JSON_TEXT_MAX];
};
struct json_object {
    struct json_field field[JSON_FIELDS];
    uint32_t count;
    uint32_t error_column; /* 0: good */
    const char *error;
};

/* line: zero-terminated. */
bool json_parse(const char *line, struct json_object *out);
uint64_t json_number(const struct json_object *o, const char *key, uint64_t fallback);
const char *json_text(const struct json_object *o, const char *key); /* "" if absent or not a text */

#endif
