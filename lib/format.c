/* SPDX-License-Identifier: BSD-2-Clause
 * printf's smaller brother: %s %c %d %i %u %x %X %p %%, flags 0 and -, a width, a precision for %s, the
 * lengths l, ll and z. Anything else is copied as it stands. No floating point: processes have none. */
#include "runtime.h"

struct sink {
    char *out;
    size_t size, length; /* length may exceed size: the result says what was needed */
};

struct field {
    bool left, zero;
    size_t width, precision;
};

static void sink_put(struct sink *s, char c)
{
    if (s->length + 1 < s->size) s->out[s->length] = c;
    s->length++;
}

static void sink_text(struct sink *s, const struct field *f, const char *text, size_t n)
{
    size_t fill = f->width > n ? f->width - n : 0;

    for (; fill != 0 && !f->left; fill--) sink_put(s, ' ');
    for (size_t i = 0; i < n; i++) sink_put(s, text[i]);
    for (; fill != 0; fill--) sink_put(s, ' ');
}

static void sink_number(struct sink *s, const struct field *f, uint64_t value, uint32_t base,
                        const char *digits, const char *prefix)
{
    char text[40]; /* digits and prefix, filled from the end */
    size_t at = sizeof(text), prefix_length = 0;

    while (prefix[prefix_length] != 0) prefix_length++;
    do {
        text[--at] = digits[value % base];
        value /= base;
    } while (value != 0);
    while (f->zero && !f->left && sizeof(text) - at + prefix_length < f->width && at > 4) text[--at] = '0';
    for (size_t i = prefix_length; i > 0; i--) text[--at] = prefix[i - 1];
    sink_text(s, f, text + at, sizeof(text) - at);
}

/* Reads flags, width and precision; returns the first character after them. */
static const char *field_parse(struct field *f, const char *text, va_list *args)
{
    *f = (struct field){.precision = SIZE_MAX};
    for (;; text++) {
        if (*text == '-')
            f->left = true;
        else if (*text == '0')
            f->zero = true;
        else
            break;
    }
    for (; *text >= '0' && *text <= '9'; text++) f->width = f->width * 10 + (size_t)(*text - '0');
    if (*text != '.') return text;
    if (*++text == '*') {
        int n = va_arg(*args, int);
        f->precision = n < 0 ? SIZE_MAX : (size_t)n;
        return text + 1;
    }
    f->precision = 0;
    for (; *text >= '0' && *text <= '9'; text++) f->precision = f->precision * 10 + (size_t)(*text - '0');
    return text;
}

static void format_string(struct sink *s, const struct field *f, const char *text)
{
    size_t n = 0;

    if (text == NULL) text = "(null)";
    while (n < f->precision && text[n] != 0) n++;
    sink_text(s, f, text, n);
}

int format_v(char *out, size_t size, const char *text, va_list args)
{
    static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
    struct sink s = {out, size, 0};
    struct field f;
    va_list list;

    va_copy(list, args);
    for (; *text != 0; text++) {
        if (*text != '%') {
            sink_put(&s, *text);
            continue;
        }
        bool wide = false;
        text = field_parse(&f, text + 1, &list);
        for (; *text == 'l' || *text == 'z'; text++) wide = true;
        if (*text == 's') {
            format_string(&s, &f, va_arg(list, const char *));
        } else if (*text == 'c') {
            char c = (char)va_arg(list, int);
            sink_text(&s, &f, &c, 1);
        } else if (*text == 'd' || *text == 'i') {
            int64_t v = wide ? va_arg(list, int64_t) : va_arg(list, int);
            sink_number(&s, &f, v < 0 ? 0 - (uint64_t)v : (uint64_t)v, 10, lower, v < 0 ? "-" : "");
        } else if (*text == 'u' || *text == 'x' || *text == 'X') {
            uint64_t v = wide ? va_arg(list, uint64_t) : va_arg(list, uint32_t);
            sink_number(&s, &f, v, *text == 'u' ? 10 : 16, *text == 'X' ? upper : lower, "");
        } else if (*text == 'p') {
            sink_number(&s, &f, (uint64_t)va_arg(list, void *), 16, lower, "0x");
        } else if (*text == 0) {
            break; /* a lone % at the end */
        } else {
            sink_put(&s, *text);
        }
    }
    va_end(list);
    if (size != 0) out[s.length < size ? s.length : size - 1] = 0;
    return (int)s.length;
}

int format(char *out, size_t size, const char *text, ...)
{
    va_list args;

    va_start(args, text);
    int n = format_v(out, size, text, args);
    va_end(args);
    return n;
}
