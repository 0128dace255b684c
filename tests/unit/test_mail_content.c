/* SPDX-License-Identifier: Apache-2.0 */
/* test_mail_content.c - facts and line ends, with every input cut at every byte: the cut must not show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "mail/content.h"
#include "mail/envelope.h"

static const char *const texts[] = {
    "",
    "a\r\nb\r\n",
    ".\r\n..\r\n.a\r\n",
    "long line without end",
    "a\rb\r\n",
    "a\r\r\nb\r\n",
    "\xc3\xa4\r\n",
    "a\nb\n",
    "\r\n\r\n",
    "x\r",
    "0123456789012345678901234567890123456789\r\nshort\r\n",
};

static struct content_facts scan(struct slice text, size_t cut)
{
    struct content_facts f;

    content_facts_init(&f);
    content_facts_scan(&f, slice_sub(text, 0, cut));
    content_facts_scan(&f, slice_sub(text, cut, text.len));
    content_facts_end(&f);
    return f;
}

static void test_facts_cut(void **state)
{
    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct slice text = slice_str(texts[i]);
        struct content_facts whole = scan(text, text.len);

        for (size_t cut = 0; cut < text.len; cut++) {
            struct content_facts f = scan(text, cut);

            if (f.flags != whole.flags || f.bytes != whole.bytes ||
                f.longest_line != whole.longest_line)
                fail_msg("text %zu cut at %zu: flags %x/%x longest %u/%u", i, cut, f.flags,
                         whole.flags, f.longest_line, whole.longest_line);
        }
    }
}

static void test_facts(void **state)
{
    static const struct {
        const char *text;
        uint32_t flags, longest;
    } cases[] = {
        {"a\r\nbc\r\n", 0, 2},
        {".\r\n", MAIL_FACT_DOT, 1},
        {"a.\r\n", 0, 2},
        {"a\rb\r\n", MAIL_FACT_BARE_CR, 3},
        {"\xe4\r\n", MAIL_FACT_8BIT, 1},
        {"abc", 0, 3},
        {"0123456\r\n01234567\r\n012345678\r\n", 0, 9},
        {"x\r", MAIL_FACT_BARE_CR, 2},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice text = slice_str(cases[i].text);
        struct content_facts f = scan(text, text.len);

        if (f.flags != cases[i].flags || f.longest_line != cases[i].longest)
            fail_msg("case %zu: flags %x longest %u, wanted %x %u", i, f.flags, f.longest_line,
                     cases[i].flags, cases[i].longest);
    }
}

/* Byte by byte, from the descriptions in content.h and envelope.h. */
static struct content_facts plainly(struct slice text)
{
    struct content_facts f = {.bytes = text.len};
    size_t begin = 0;

    for (size_t i = 0; i <= text.len; i++) {
        unsigned char c = i < text.len ? (unsigned char) text.ptr[i] : 0;
        size_t length = i - begin;

        if (i < text.len)
            f.flags |= (c >= 128 ? MAIL_FACT_8BIT : 0U) | (c == 0 ? MAIL_FACT_NUL : 0U) |
                       (c == '.' && i == begin ? MAIL_FACT_DOT : 0U);
        if (i > 0 && text.ptr[i - 1] == '\r' && (i == text.len || c != '\n'))
            f.flags |= MAIL_FACT_BARE_CR;
        if (i < text.len && c != '\n')
            continue;
        if (i < text.len && length > 0 && text.ptr[i - 1] == '\r')
            length--;
        if (length > f.longest_line)
            f.longest_line = (uint32_t) length;
        begin = i + 1;
    }
    return f;
}

static size_t plain_lines(struct slice text)
{
    size_t at = 0;

    for (;;) {
        struct slice rest = slice_sub(text, at, text.len);
        ptrdiff_t nl = slice_find(rest, '\n');

        if (nl < 1 || rest.ptr[nl - 1] != '\r' || rest.ptr[0] == '.')
            return at;
        at += (size_t) nl + 1;
    }
}

/* Texts of some blocks, mostly of what matters, each cut once. */
static void test_many_bytes(void **state)
{
    static const char *const parts[] = {"\r\n",  "\r\n", "\r\n", "x",    "0123456789", ".",
                                        "\r\n.", "\n",   "\r",   "\xe4", "\0y",        "\r\r\n"};
    uint32_t random = 2463534242U;
    char data[400];

    (void) state;
    for (unsigned round = 0; round < 40000; round++) {
        size_t kinds = round % 4 == 0 ? ARRAY_LEN(parts) : 5 + round % 8; /* some are plain */
        size_t len = 0;
        struct content_facts wanted, got;
        struct slice text;

        while (len < round % (sizeof(data) - 16)) {
            const char *part;

            random ^= random << 13, random ^= random >> 17, random ^= random << 5;
            part = parts[random % kinds];
            memcpy(data + len, part, part[0] == '\0' ? 2 : strlen(part));
            len += part[0] == '\0' ? 2 : strlen(part);
        }
        text = slice_of(data, len);
        wanted = plainly(text);
        got = scan(text, random % (len + 1));
        if (got.flags != wanted.flags || got.longest_line != wanted.longest_line ||
            got.bytes != wanted.bytes)
            fail_msg("round %u: flags %x longest %u, wanted %x %u", round, got.flags,
                     got.longest_line, wanted.flags, wanted.longest_line);
        if (content_plain_lines(text) != plain_lines(text))
            fail_msg("round %u: %zu bytes of plain lines, wanted %zu", round,
                     content_plain_lines(text), plain_lines(text));
    }
}

static void convert(void (*fn)(struct slice, bool *, struct buf *), struct slice text, size_t cut,
                    bool start, struct buf *out)
{
    bool state = start;

    fn(slice_sub(text, 0, cut), &state, out);
    fn(slice_sub(text, cut, text.len), &state, out);
}

static void test_conversions(void **state)
{
    static const struct {
        void (*fn)(struct slice, bool *, struct buf *);
        bool start;
        const char *in, *out;
    } cases[] = {
        {content_to_wire, false, "a\nb\r\nc", "a\r\nb\r\nc"},
        {content_to_wire, false, "\n\n", "\r\n\r\n"},
        {content_to_wire, false, "a\rb\n", "a\rb\r\n"},
        {content_to_unix, false, "a\r\nb\r\n", "a\nb\n"},
        {content_to_unix, false, "a\rb\r\r\n", "a\rb\r\n"},
        {content_dot_stuff, true, ".a\r\n.\r\nb.\r\n", "..a\r\n..\r\nb.\r\n"},
        {content_dot_stuff, false, ".a\r\n.b", ".a\r\n..b"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct slice in = slice_str(cases[i].in);

        for (size_t cut = 0; cut <= in.len; cut++) {
            struct buf out = BUF_INIT(1024);

            convert(cases[i].fn, in, cut, cases[i].start, &out);
            if (!slice_eq_str(buf_view(&out), cases[i].out))
                fail_msg("case %zu cut at %zu: got %zu bytes \"%.*s\"", i, cut, out.len,
                         SLICE_FMT(buf_view(&out)));
            buf_fini(&out);
        }
    }
}

static void test_header(void **state)
{
    struct slice rest =
        SLICE_LIT("From: a@b\r\nSubject: one\r\n two\r\nX-Odd : c\r\n\r\nbody: no\r\n");
    struct slice field;
    struct slice name;
    struct slice value;

    (void) state;
    assert_true(header_next(&rest, &field, &name, &value));
    assert_true(slice_eq_str(name, "From"));
    assert_true(slice_eq_str(value, " a@b\r\n"));
    assert_true(header_next(&rest, &field, &name, &value));
    assert_true(slice_eq_str(value, " one\r\n two\r\n"));
    assert_true(header_next(&rest, &field, &name, &value));
    assert_true(slice_eq_str(name, "X-Odd"));
    assert_false(header_next(&rest, &field, &name, &value));
    assert_true(slice_starts_with(rest, SLICE_LIT("\r\nbody")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts_cut),  cmocka_unit_test(test_facts),
        cmocka_unit_test(test_many_bytes), cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_header),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
