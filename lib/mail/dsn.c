/* SPDX-License-Identifier: Apache-2.0 */
/* dsn.c - see dsn.h. */
#include "mail/dsn.h"

static size_t digits(struct slice s, size_t at, size_t most)
{
    size_t n = 0;

    while (at + n < s.len && n < most && ascii_is_digit((unsigned char) s.ptr[at + n]))
        n++;
    return n;
}

/* Length of the X.Y.Z at the front, 0 if there is none: class 2, 4 or 5, then two numbers of up to three digits. */
static size_t code_length(struct slice s)
{
    size_t at = 1;

    if (s.len < 5 || (s.ptr[0] != '2' && s.ptr[0] != '4' && s.ptr[0] != '5'))
        return 0;
    for (int part = 0; part < 2; part++) {
        size_t n;

        if (at >= s.len || s.ptr[at] != '.')
            return 0;
        n = digits(s, at + 1, 3);
        if (n == 0)
            return 0;
        at += 1 + n;
    }
    return at;
}

bool dsn_code_valid(struct slice s)
{
    return s.len > 0 && code_length(s) == s.len;
}

struct slice dsn_code_split(struct slice text, struct slice *rest)
{
    struct slice s = slice_trim(text, " \t\r\n");
    size_t n = code_length(s);

    if (n == 0 || (n < s.len && !ascii_is_space((unsigned char) s.ptr[n]))) {
        *rest = s;
        return SLICE_EMPTY;
    }
    *rest = slice_trim(slice_sub(s, n, s.len), " \t\r\n");
    return slice_sub(s, 0, n);
}

const char *outcome_name(enum outcome o)
{
    switch (o) {
    case OUTCOME_SENT:
        return "sent";
    case OUTCOME_BOUNCED:
        return "bounced";
    case OUTCOME_EXPIRED:
        return "expired";
    case OUTCOME_DEFERRED:
    case OUTCOME_UNCERTAIN:
        break;
    }
    return "deferred";
}

static const struct {
    const char *name;
    uint32_t bit;
} notify_words[] = {
    {"NEVER", DSN_NOTIFY_NEVER},
    {"SUCCESS", DSN_NOTIFY_SUCCESS},
    {"FAILURE", DSN_NOTIFY_FAILURE},
    {"DELAY", DSN_NOTIFY_DELAY},
};

int dsn_notify_parse(struct slice s, uint32_t *bits, struct err *err)
{
    uint32_t all = 0;
    size_t at = 0;

    for (;;) {
        ptrdiff_t comma = slice_find(slice_sub(s, at, s.len), ',');
        struct slice word = slice_sub(s, at, comma == -1 ? s.len : at + (size_t) comma);
        size_t i = 0;

        while (i < ARRAY_LEN(notify_words) && !slice_caseeq_str(word, notify_words[i].name))
            i++;
        if (i == ARRAY_LEN(notify_words))
            return err_set(err, ERR_BAD_INPUT, "5.5.4", "bad NOTIFY parameter");
        all |= notify_words[i].bit;
        if (comma == -1)
            break;
        at += (size_t) comma + 1;
    }
    if ((all & DSN_NOTIFY_NEVER) != 0 && all != DSN_NOTIFY_NEVER)
        return err_set(err, ERR_BAD_INPUT, "5.5.4", "NOTIFY=NEVER excludes all others");
    *bits = all;
    return 0;
}

void dsn_notify_print(uint32_t bits, struct buf *out)
{
    bool first = true;

    for (size_t i = 0; i < ARRAY_LEN(notify_words); i++) {
        if ((bits & notify_words[i].bit) == 0)
            continue;
        if (!first)
            buf_putc(out, ',');
        buf_puts(out, notify_words[i].name);
        first = false;
    }
}

void xtext_encode(struct slice s, struct buf *out)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char) s.ptr[i];

        if (c > ' ' && c <= '~' && c != '+' && c != '=')
            buf_putc(out, (char) c);
        else
            buf_printf(out, "+%02X", c);
    }
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int xtext_decode(struct slice s, struct buf *out)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '=' || (unsigned char) s.ptr[i] <= ' ' || (unsigned char) s.ptr[i] > '~')
            return -1;
        if (s.ptr[i] != '+') {
            buf_putc(out, s.ptr[i]);
            continue;
        }
        if (s.len - i < 3 || hex(s.ptr[i + 1]) == -1 || hex(s.ptr[i + 2]) == -1)
            return -1;
        buf_putc(out, (char) (hex(s.ptr[i + 1]) * 16 + hex(s.ptr[i + 2])));
        i += 2;
    }
    return buf_ok(out) ? 0 : -1;
}
