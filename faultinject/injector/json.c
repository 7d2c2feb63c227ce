/* SPDX-License-Identifier: BSD-2-Clause
 * A recursive-descent parser for json.h's grammar, without the recursion: nothing is nested. */
#include "json.h"

struct cursor {
    const char *line, *at;
    struct json_object *out;
};

static bool refuse(struct cursor *c, const char *why)
{
    c->out->error = why;
    c->out->error_column = (uint32_t)(c->at - c->line) + 1;
    return false;
}

static void skip_blanks(struct cursor *c)
{
    while (*c->at == ' ' || *c->at == '\t') c->at++;
}

static bool expect(struct cursor *c, char wanted, const char *why)
{
    skip_blanks(c);
    if (*c->at != wanted) return refuse(c, why);
    c->at++;
    return true;
}

static bool parse_text(struct cursor *c, char *out)
{
    size_t n = 0;

    if (!expect(c, '"', "expected a text")) return false;
    for (; *c->at != '"'; c->at++) {
        if ((unsigned char)*c->at < ' ') return refuse(c, "the text does not end");
        if (*c->at == '\\') return refuse(c, "escapes are not part of this grammar");
        if (n + 1 == JSON_TEXT_MAX) return refuse(c, "the text is too long");
        out[n++] = *c->at;
    }
    out[n] = 0;
    c->at++;
    return true;
}

static bool parse_number(struct cursor *c, uint64_t *out)
{
    if (*c->at < '0' || *c->at > '9') return refuse(c, "expected a text or a number");
    if (*c->at == '0' && c->at[1] >= '0' && c->at[1] <= '9')
        return refuse(c, "a number does not start with 0");
    for (*out = 0; *c->at >= '0' && *c->at <= '9'; c->at++) {
        uint64_t digit = (uint64_t)(*c->at - '0');
        if (*out > (UINT64_MAX - digit) / 10) return refuse(c, "the number is too large");
        *out = *out * 10 + digit;
    }
    return true;
}

static bool parse_field(struct cursor *c)
{
    if (c->out->count == JSON_FIELDS) return refuse(c, "too many keys");
    struct json_field *f = &c->out->field[c->out->count];
    skip_blanks(c);
    if (!parse_text(c, f->key) || !expect(c, ':', "expected ':'")) return false;
    skip_blanks(c);
    f->is_text = *c->at == '"';
    if (!(f->is_text ? parse_text(c, f->text) : parse_number(c, &f->number))) return false;
    c->out->count++;
    skip_blanks(c);
    return true;
}

bool json_parse(const char *line, struct json_object *out)
{
    struct cursor c = {line, line, out};

    out->count = 0;
    out->error_column = 0;
    out->error = "";
    if (!expect(&c, '{', "expected '{'")) return false;
    skip_blanks(&c);
    if (*c.at != '}') {
        if (!parse_field(&c)) return false;
        while (*c.at == ',') {
            c.at++;
            if (!parse_field(&c)) return false;
        }
    }
    if (!expect(&c, '}', "expected ',' or '}'")) return false;
    skip_blanks(&c);
    return *c.at == 0 || refuse(&c, "something follows the object");
}

static bool same(const char *a, const char *b)
{
    while (*a != 0 && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static const struct json_field *find(const struct json_object *o, const char *key)
{
    for (uint32_t i = 0; i < o->count; i++)
        if (same(o->field[i].key, key)) return &o->field[i];
    return NULL;
}

uint64_t json_number(const struct json_object *o, const char *key, uint64_t fallback)
{
    const struct json_field *f = find(o, key);
    return f == NULL || f->is_text ? fallback : f->number;
}

const char *json_text(const struct json_object *o, const char *key)
{
    const struct json_field *f = find(o, key);
    return f == NULL || !f->is_text ? "" : f->text;
}
