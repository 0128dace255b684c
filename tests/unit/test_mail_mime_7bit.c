/* SPDX-License-Identifier: Apache-2.0 */
/* test_mail_mime_7bit.c - 8-bit parts become quoted-printable, the rest of a message stays; whatever the pieces it comes in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mail/content.h"
#include "mail/mime_7bit.h"

#define CTE "Content-Transfer-Encoding: "

/* text: with LF, as it is written here; NULL: as it came. */
static const struct {
    const char *name, *text, *wanted;
} cases[] = {
    {"leaf",
     "Subject: x\n" CTE "8bit\nContent-Type: text/plain\n\nb\xc3\xb6"
     "dy = 1\n",
     "Subject: x\nContent-Type: text/plain\n" CTE "quoted-printable\n\nb=C3=B6dy =3D 1\n"},
    {"binary", CTE "BINARY\n\n\xff\n", CTE "quoted-printable\n\n=FF\n"},
    {"folded and with a comment", CTE "\n (eight (or so)\\)) 8bit\nX: y\n\n\xff\n",
     "X: y\n" CTE "quoted-printable\n\n=FF\n"},
    {"no encoding", "Subject: x\n\n\xff\n", NULL},
    {"7bit that is not", CTE "7bit\n\n\xff\n", NULL},
    {"encoded already", CTE "quoted-printable\n\na=FF\n", NULL},
    {"base64", CTE "base64\n\n\xff\n", NULL},
    {"only a header", CTE "8bit\n", CTE "quoted-printable\n"},
    {"nothing", "", NULL},
    {"a body without a header", "no header\n\xff\n", NULL},
    {"a header that ends at text", CTE "8bit\nno field\xff\n",
     CTE "quoted-printable\nno field=FF\n"},
    {"spaces at the end", CTE "8bit\n\na \nb\t\n c\n\n\xff \n",
     CTE "quoted-printable\n\na=20\nb=09\n c\n\n=FF=20\n"},
    {"stray CR", CTE "8bit\n\na\rb \r\n", CTE "quoted-printable\n\na=0Db =0D\n"},
    {"multipart",
     "Content-Type: multipart/mixed; boundary=\"b 1\"\n" CTE "8bit\n\n\xc3\xa4\n--b 1\n" CTE
     "8bit\n\n\xc3\xa4\n--b 1\nX: \xc3\xa4\n\n\xc3\xa4\n--b 1 \n" CTE
     "8bit\n\n--b 2\xff\n--b 1--\n\xff\n",
     "Content-Type: multipart/mixed; boundary=\"b 1\"\n" CTE "7bit\n\n\xc3\xa4\n--b 1\n" CTE
     "quoted-printable\n\n=C3=A4\n--b 1\nX: \xc3\xa4\n\n\xc3\xa4\n--b 1 \n" CTE
     "quoted-printable\n\n--b 2=FF\n--b 1--\n\xff\n"},
    {"multipart in multipart",
     "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative;\n\tx=\"\\\"y\"; "
     "boundary=ab\n" CTE "8bit\n\n--ab\n" CTE "8bit\n\n\xff\n--a\n" CTE
     "8bit\n\n--ab\n\xff\n--a--\n",
     "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative;\n\tx=\"\\\"y\"; "
     "boundary=ab\n" CTE "7bit\n\n--ab\n" CTE "quoted-printable\n\n=FF\n--a\n" CTE
     "quoted-printable\n\n--ab\n=FF\n--a--\n"},
    {"part without a body",
     "Content-Type: multipart/mixed; boundary=a\n\n--a\n" CTE "8bit\n--a--\n",
     "Content-Type: multipart/mixed; boundary=a\n\n--a\n" CTE "quoted-printable\n--a--\n"},
    {"multipart without a boundary", "Content-Type: multipart/mixed\n" CTE "8bit\n\n\xff\n", NULL},
    {"multipart that hides its parts",
     "Content-Type: multipart/mixed; boundary=a\n" CTE "base64\n\n--a\n" CTE "8bit\n\n\xff\n",
     NULL},
    {"message", "Content-Type: Message/RFC822\n" CTE "8bit\n\nSubject: \xff\n" CTE "8bit\n\n\xff\n",
     "Content-Type: Message/RFC822\n" CTE "7bit\n\nSubject: \xff\n" CTE
     "quoted-printable\n\n=FF\n"},
    {"message without a header", "Content-Type: message/rfc822\n" CTE "8bit\n\n\n\xff\n",
     "Content-Type: message/rfc822\n" CTE "7bit\n\n\n\xff\n"},
    {"message at once", "Content-Type: message/rfc822\n" CTE "8bit\nno field \xff\n",
     "Content-Type: message/rfc822\n" CTE "7bit\nno field \xff\n"},
    {"message of another kind", "Content-Type: message/global\n" CTE "8bit\n\nSubject: \xff\n",
     "Content-Type: message/global\n" CTE "quoted-printable\n\nSubject: =FF\n"},
    {"fragment", "Content-Type: message/partial; id=a\n" CTE "8bit\n\nSubject: x\n\n\xff\n", NULL},
    {"digest",
     "Content-Type: multipart/digest; boundary=a\n\n--a\n\nSubject: x\n" CTE
     "8bit\n\n\xff\n--a\nContent-Type: "
     "text/plain\n" CTE "8bit\n\n\xff\n--a--\n",
     "Content-Type: multipart/digest; boundary=a\n\n--a\n\nSubject: x\n" CTE
     "quoted-printable\n\n=FF\n--a\nContent-Type: text/plain\n" CTE
     "quoted-printable\n\n=FF\n--a--\n"},
    {"boundary of a line's begin",
     "Content-Type: multipart/mixed; boundary=a\n\n--ab\n" CTE "8bit\n\n\xff\n", NULL},
};

static char *to_wire(const char *text)
{
    struct buf out = BUF_INIT(1 << 20);

    for (; *text != '\0'; text++) {
        if (*text == '\n')
            buf_putc(&out, '\r');
        buf_putc(&out, *text);
    }
    return buf_take(&out);
}

static char *convert(struct slice text, size_t piece)
{
    struct mime_7bit *m = mime_7bit_new();
    struct buf out = BUF_INIT(SIZE_MAX);

    buf_puts(&out, "");
    while (text.len > 0) {
        mime_7bit_feed(m, slice_sub(text, 0, piece), &out);
        text = slice_sub(text, piece, text.len);
    }
    mime_7bit_end(m, &out);
    mime_7bit_free(&m);
    return buf_take(&out);
}

static void converts(void **state)
{
    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char *text = to_wire(cases[i].text);
        char *wanted = to_wire(cases[i].wanted != NULL ? cases[i].wanted : cases[i].text);

        for (size_t piece = 1; piece < 64; piece += piece < 4 ? 1 : 13) {
            char *got = convert(slice_str(text), piece);

            if (strcmp(got, wanted) != 0)
                fail_msg("%s, pieces of %zu: got\n%s\nwanted\n%s", cases[i].name, piece, got,
                         wanted);
            free(got);
        }
        free(text);
        free(wanted);
    }
}

/* Every byte, in lines of every length up to what is cut twice: decoded again it is the same, and no line is too long. */
static void is_decoded_again(void **state)
{
    (void) state;
    for (size_t length = 0; length < 200; length += 7) {
        struct buf text = BUF_INIT(1 << 20);
        struct buf again = BUF_INIT(1 << 20);
        struct slice head = SLICE_LIT(CTE "8bit\r\n\r\n");
        size_t in_line = 0;
        char *got;
        char *at;

        buf_put_slice(&text, head);
        for (size_t i = 0; i < 1000; i++) {
            buf_putc(&text, (char) (1 + i % 9 == 0 ? ' ' : 1 + (i * 7) % 255));
            if (text.ptr[text.len - 1] == '\n')
                text.ptr[text.len - 1] = '.';
            if (++in_line > length) {
                buf_puts(&text, "\r\n");
                in_line = 0;
            }
        }
        got = convert(buf_view(&text), 100);
        at = strstr(got, "\r\n\r\n") + 4;
        for (char *line = at; *line != '\0';) {
            size_t n = strcspn(line, "\r");

            assert_true(n <= 76);
            assert_true(n == 0 || (line[n - 1] != ' ' && line[n - 1] != '\t'));
            line += n + (line[n] != '\0' ? 2 : 0);
        }
        while (*at != '\0') {
            if (strncmp(at, "=\r\n", 3) == 0) {
                at += 3;
            } else if (*at == '=') {
                char hex[3] = {at[1], at[2], '\0'};

                buf_putc(&again, (char) strtol(hex, NULL, 16));
                at += 3;
            } else {
                buf_putc(&again, *at++);
            }
        }
        assert_true(slice_eq(buf_view(&again), slice_sub(buf_view(&text), head.len, text.len)));
        free(got);
        buf_fini(&text);
        buf_fini(&again);
    }
}

static void is_bounded(void **state)
{
    struct buf text = BUF_INIT(SIZE_MAX);
    size_t converted = 0;
    char *got;

    (void) state;
    for (int i = 0; i < 150; i++) /* deeper than anybody looks */
        buf_puts(&text, "Content-Type: message/rfc822\r\n" CTE "8bit\r\n\r\n");
    got = convert(buf_view(&text), 1000);
    for (char *at = got; (at = strstr(at, CTE "7bit")) != NULL; at++)
        converted++;
    assert_int_equal(converted, 100);
    free(got);
    buf_reset(&text);
    buf_puts(&text, "Content-Type: multipart/digest; boundary=a\r\n\r\n");
    for (int i = 0; i < 150; i++) /* beside each other is not deep */
        buf_puts(&text, "--a\r\n\r\n" CTE "8bit\r\n\r\n\xff\r\n");
    got = convert(buf_view(&text), 1000);
    assert_null(strchr(got, '\xff'));
    free(got);
    buf_reset(&text);
    buf_puts(&text, CTE "8bit\r\nX: ");
    for (int i = 0; i < (1 << 20) + 10; i++) /* a header without end */
        buf_putc(&text, 'x');
    buf_puts(&text, "\r\n\r\n\xff\r\n");
    got = convert(buf_view(&text), 70000);
    assert_true(slice_eq(slice_str(got), buf_view(&text)));
    free(got);
    buf_reset(&text);
    buf_puts(&text, "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a");
    for (int i = 0; i < 5000; i++) /* no delimiter: too long */
        buf_putc(&text, ' ');
    buf_puts(&text, "\r\n" CTE "8bit\r\n\r\n\xff\r\n");
    got = convert(buf_view(&text), 999);
    assert_true(slice_eq(slice_str(got), buf_view(&text)));
    free(got);
    buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(converts),
        cmocka_unit_test(is_decoded_again),
        cmocka_unit_test(is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
