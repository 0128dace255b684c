/* SPDX-License-Identifier: Apache-2.0 */
/* test_import.c - queue files of Postfix, made record by record: order, pointers, limits, damage; logfiles; the ledger. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "cleanup/import_ledger.h"
#include "cleanup/import_log.h"
#include "qmgr/store.h"

static void put(struct buf *b, char type, const char *data, size_t len)
{
    size_t left = len;

    buf_putc(b, type);
    do {
        buf_putc(b, (char) ((left & 0x7f) | (left > 0x7f ? 0x80 : 0)));
        left >>= 7;
    } while (left > 0);
    buf_put(b, data, len);
}

static void puts_(struct buf *b, char type, const char *text)
{
    put(b, type, text, strlen(text));
}

/* "C" "T" "S" and what follows, "type text" a line; "pNUMBER" in fifteen columns. */
static void make(struct buf *b, const char *const *records)
{
    puts_(b, 'C',
          "             10              20               1               0              10");
    puts_(b, 'T', "1700000000 123456");
    puts_(b, 'S', "s@example.org");
    for (; *records != NULL; records++)
        puts_(b, (*records)[0], *records + 1);
}

static int collect(void *arg, struct slice wire, struct err *err)
{
    (void) err;
    buf_put_slice(arg, wire);
    return 0;
}

struct reading {
    struct arena *arena;
    struct import_message m;
    struct buf content;
    struct err err;
    int result;
};

static void begin(struct reading *rd, struct slice file)
{
    struct import_reader r;

    rd->arena = arena_new(0);
    rd->content = BUF_INIT(SIZE_MAX);
    rd->err = ERR_INIT;
    import_message_init(&rd->m, rd->arena);
    import_reader_init_bytes(&r, file);
    rd->result = import_message_read(&rd->m, &r, collect, &rd->content, &rd->err);
    import_reader_fini(&r);
}

static void end(struct reading *rd)
{
    import_message_fini(&rd->m);
    buf_fini(&rd->content);
    arena_free(&rd->arena);
}

static const struct import_rcpt *rcpt(const struct reading *rd, size_t i)
{
    assert_true(i < rd->m.rcpts.len);
    return rd->m.rcpts.items[i];
}

#define ASSERT_SLICE(s, text) assert_true(slice_eq_str((s), (text)))

static void test_envelope(void **state)
{
    static const char *const records[] = {"Aenvelope_id=a+b",
                                          "Aret_flags=2",
                                          "Arewrite_context=local",
                                          "Alog_client_address=192.0.2.1",
                                          "Aclient_address=192.0.2.1",
                                          "Aclient_name=other.example",
                                          "Alog_client_name=c.example",
                                          "Asasl_username=user",
                                          "Aencoding=8bit",
                                          "Anew_thing=1",
                                          "Anew_thing=2",
                                          "W             -1",
                                          "Anotify_flags=10",
                                          "Adsn_orig_rcpt=rfc822;a+b@example.org",
                                          "Oalias@example.org",
                                          "Ra@example.org",
                                          "Db@example.org",
                                          "/c@example.org",
                                          "Od@example.org",
                                          "Rd@example.org",
                                          "M",
                                          "NSubject: x",
                                          "NMessage-ID:",
                                          "N <id@example.org>",
                                          "N",
                                          "Lpart ",
                                          "Nof a line",
                                          "N.dot",
                                          "Nwith LF\ninside",
                                          "Nwith CR\r",
                                          "Lno end",
                                          "X",
                                          "Lsmtp:[127.0.0.1]:9",
                                          ">other@example.org",
                                          "E",
                                          NULL};
    struct buf b = BUF_INIT(SIZE_MAX);
    struct reading rd;

    (void) state;
    make(&b, records);
    begin(&rd, buf_view(&b));
    assert_string_equal(rd.err.text, "");
    assert_int_equal(rd.result, 0);
    ASSERT_SLICE(rd.m.env.sender, "s@example.org");
    assert_int_equal(rd.m.env.arrival_us, 1700000000123456);
    ASSERT_SLICE(rd.m.env.dsn_envid, "a+b");
    assert_int_equal(rd.m.env.dsn_ret, DSN_RET_HDRS);
    ASSERT_SLICE(rd.m.env.client_addr, "192.0.2.1");
    ASSERT_SLICE(rd.m.env.sasl_username, "user");
    ASSERT_SLICE(rd.m.env.filter, "smtp:[127.0.0.1]:9");
    ASSERT_SLICE(rd.m.env.redirect, "other@example.org");
    ASSERT_SLICE(rd.m.env.message_id, "<id@example.org>");
    assert_true((rd.m.env.flags & MAIL_LOCAL_ORIGIN) != 0);
    assert_true((rd.m.env.flags & MAIL_8BITMIME) != 0);
    assert_true((rd.m.env.flags & MAIL_DELAY_WARNED) != 0);
    assert_true((rd.m.env.flags & MAIL_FACT_DOT) != 0);
    assert_int_equal(rd.m.rcpts.len, 3);
    ASSERT_SLICE(rcpt(&rd, 0)->r.addr, "a@example.org");
    ASSERT_SLICE(rcpt(&rd, 0)->r.orig, "alias@example.org");
    ASSERT_SLICE(rcpt(&rd, 0)->r.orcpt, "rfc822;a+2Bb@example.org");
    assert_int_equal(rcpt(&rd, 0)->r.notify, DSN_NOTIFY_SUCCESS | DSN_NOTIFY_DELAY);
    assert_true(rcpt(&rd, 1)->done);
    assert_int_equal(rcpt(&rd, 1)->r.orcpt.len, 0);
    ASSERT_SLICE(rcpt(&rd, 2)->r.addr, "d@example.org");
    assert_int_equal(rcpt(&rd, 2)->r.orig.len, 0);
    assert_int_equal(rd.m.lost.len, 2);
    assert_string_equal(rd.m.lost.items[0], "log_client_name");
    assert_string_equal(rd.m.lost.items[1], "attribute new_thing");
    ASSERT_SLICE(buf_view(&rd.content),
                 "Subject: x\r\nMessage-ID:\r\n <id@example.org>\r\n\r\npart of a line\r\n"
                 ".dot\r\nwith LF\r\ninside\r\nwith CR\r\nno end\r\n");
    assert_int_equal(rd.m.env.header_bytes,
                     strlen("Subject: x\r\nMessage-ID:\r\n <id@example.org>\r\n\r\n"));
    end(&rd);
    buf_fini(&b);
}

/* The last number of the size record: only its first bit says that SMTPUTF8 was asked for. */
static void test_utf8(void **state)
{
    static const struct {
        const char *number, *subject;
        bool requested, header;
    } cases[] = {
        {"", "x", false, false},  {"0", "x", false, false}, {"2", "\xc3\xbc", false, true},
        {"4", "x", false, false}, {"1", "x", true, false},  {"7", "\xfc", true, true},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char size[128];
        char field[64];
        struct buf b = BUF_INIT(SIZE_MAX);
        struct reading rd;

        (void) snprintf(size, sizeof(size), "%15d %15d %15d %15d %15d %15s", 300, 600, 1, 0, 300,
                        cases[i].number);
        (void) snprintf(field, sizeof(field), "Subject: %s", cases[i].subject);
        puts_(&b, 'C', size);
        puts_(&b, 'T', "1700000000 123456");
        puts_(&b, 'S', "s@example.org");
        puts_(&b, 'R', "a@example.org");
        puts_(&b, 'M', "");
        puts_(&b, 'N', field);
        puts_(&b, 'N', "");
        puts_(&b, 'N', "\xc3\xbc");
        puts_(&b, 'X', "");
        puts_(&b, 'E', "");
        begin(&rd, buf_view(&b));
        assert_string_equal(rd.err.text, "");
        assert_int_equal((rd.m.env.flags & MAIL_SMTPUTF8) != 0, cases[i].requested);
        assert_int_equal((rd.m.env.flags & MAIL_FACT_8BIT_HEADER) != 0, cases[i].header);
        assert_true((rd.m.env.flags & MAIL_FACT_8BIT) != 0);
        end(&rd);
        buf_fini(&b);
    }
}

/* Every file that is cut off anywhere is refused, with a reason. */
static void test_cut(void **state)
{
    static const char *const records[] = {"Ra@example.org", "M", "NSubject: x", "X", "E", NULL};
    struct buf b = BUF_INIT(SIZE_MAX);
    struct reading rd;

    (void) state;
    make(&b, records);
    for (size_t len = 0; len < b.len; len++) {
        begin(&rd, slice_sub(buf_view(&b), 0, len));
        assert_int_equal(rd.result, -1);
        assert_int_not_equal(rd.err.kind, ERR_NONE);
        end(&rd);
    }
    buf_fini(&b);
}

static void test_order(void **state)
{
    static const char *const wrong[][8] = {
        {"Ra@example.org", "M", "Nx", "E", NULL},
        {"Ra@example.org", "M", "Nx", "M", "X", "E", NULL},
        {"Ra@example.org", "X", "E", NULL},
        {"M", "Ra@example.org", "X", "E", NULL},
        {"E", NULL},
        {"Tnever", "M", "X", "E", NULL},
        {"Aret_flags=7", "M", "X", "E", NULL},
        {"Anotify_flags=x", "M", "X", "E", NULL},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct buf b = BUF_INIT(SIZE_MAX);
        struct reading rd;

        make(&b, wrong[i]);
        begin(&rd, buf_view(&b));
        if (rd.result != -1 || rd.err.text[0] == '\0')
            fail_msg("case %zu is taken", i);
        end(&rd);
        buf_fini(&b);
    }
}

static void put_pointer(struct buf *b, size_t to)
{
    char text[32];

    (void) snprintf(text, sizeof(text), "%15zu", to);
    puts_(b, 'p', text);
}

/* A header that was replaced: a pointer away, and one back. */
static void test_pointers(void **state)
{
    static const char *const records[] = {"Ra@example.org", "M", NULL};
    struct buf b = BUF_INIT(SIZE_MAX);
    struct reading rd;
    size_t away;
    size_t back;

    (void) state;
    make(&b, records);
    away = b.len;
    put_pointer(&b, 0); /* patched below */
    back = b.len;
    puts_(&b, 'N', "");
    puts_(&b, 'N', "body");
    put_pointer(&b, 0); /* nothing added */
    puts_(&b, 'w', "padding");
    puts_(&b, 'X', "");
    puts_(&b, 'E', "");
    {
        char text[32];

        (void) snprintf(text, sizeof(text), "%15zu", b.len);
        memcpy(b.ptr + away + 2, text, 15);
    }
    puts_(&b, 'N', "Subject: new");
    put_pointer(&b, back);
    begin(&rd, buf_view(&b));
    assert_string_equal(rd.err.text, "");
    ASSERT_SLICE(buf_view(&rd.content), "Subject: new\r\n\r\nbody\r\n");
    end(&rd);

    /* to itself, and out of the file */
    for (size_t to = away; to <= b.len; to += b.len - away) {
        char text[32];

        (void) snprintf(text, sizeof(text), "%15zu", to);
        memcpy(b.ptr + away + 2, text, 15);
        begin(&rd, buf_view(&b));
        assert_int_equal(rd.result, -1);
        assert_non_null(strstr(rd.err.text, to == away ? "circle" : "out of the file"));
        end(&rd);
    }
    buf_fini(&b);
}

static void test_lengths(void **state)
{
    const struct {
        size_t len;
        bool ok;
    } cases[] = {{0, true},
                 {127, true},
                 {128, true},
                 {16383, true},
                 {16384, true},
                 {IMPORT_RECORD_MAX, true},
                 {IMPORT_RECORD_MAX + 1, false}};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        static const char *const records[] = {"Ra@example.org", "M", "N", NULL};
        struct buf b = BUF_INIT(SIZE_MAX);
        char *line = xmalloc(cases[i].len + 1);
        struct reading rd;

        memset(line, 'x', cases[i].len);
        make(&b, records);
        put(&b, 'N', line, cases[i].len);
        puts_(&b, 'X', "");
        puts_(&b, 'E', "");
        begin(&rd, buf_view(&b));
        assert_int_equal(rd.result, cases[i].ok ? 0 : -1);
        if (cases[i].ok)
            assert_int_equal(rd.content.len, 2 + cases[i].len + 2);
        end(&rd);
        free(line);
        buf_fini(&b);
    }
}

static void test_logs(void **state)
{
    static const char *const records[] = {
        "Ra@example.org", "Da@example.org", "Db@example.org", "M", "X", "E", NULL};
    static const char defer_log[] =
        "\n<a@example.org>: later\nrecipient=a@example.org\n"
        "offset=999\nstatus=4.2.0\nreason=come back\n\n"
        "<b@example.org>: later\nrecipient=b@example.org\nstatus=4.0.0\n"
        "reason=old\n\nrecipient=nobody@example.org\nreason=x\n\ngarbage";
    struct buf b = BUF_INIT(SIZE_MAX);
    struct buf log = BUF_INIT(SIZE_MAX);
    struct reading rd;

    (void) state;
    make(&b, records);
    begin(&rd, buf_view(&b));
    assert_int_equal(rd.result, 0);
    import_log_apply(&rd.m, IMPORT_DEFER_LOG, slice_str(defer_log));
    ASSERT_SLICE(rcpt(&rd, 0)->r.code, "4.2.0");
    ASSERT_SLICE(rcpt(&rd, 0)->r.reason, "come back");
    assert_int_equal(rcpt(&rd, 2)->r.reason.len,
                     0); /* done: what deferred it once does not matter */
    /* the offset says which of two equal ones */
    buf_printf(&log, "recipient=a@example.org\noffset=%llu\nstatus=5.1.1\nreason=unknown\n",
               (unsigned long long) rcpt(&rd, 1)->at);
    import_log_apply(&rd.m, IMPORT_BOUNCE_LOG, buf_view(&log));
    assert_true(rcpt(&rd, 0)->reported);
    assert_false(rcpt(&rd, 1)->reported);
    ASSERT_SLICE(rcpt(&rd, 1)->r.code, "5.1.1");
    assert_true(rcpt(&rd, 2)->reported);
    end(&rd);
    buf_fini(&log);
    buf_fini(&b);
}

static void test_ledger(void **state)
{
    char dir[] = "/tmp/test-import-XXXXXX";
    char path[64];
    struct import_ledger *l = NULL;
    struct import_ledger *other = NULL;
    struct err err = ERR_INIT;
    struct buf text = BUF_INIT(4096);

    (void) state;
    assert_non_null(mkdtemp(dir));
    (void) snprintf(path, sizeof(path), "%s/imported", dir);
    assert_int_equal(import_ledger_open(path, &l, &err), 0);
    assert_int_equal(import_ledger_open(path, &other, &err), -1);
    assert_non_null(strstr(err.text, "another import is running"));
    assert_int_equal(import_ledger_add(l, SLICE_LIT("ABCDEF"), 17, 100, SLICE_LIT("ABCDEF"), &err),
                     0);
    assert_int_equal(import_ledger_add(l, SLICE_LIT("ABCDEF"), 18, 100, SLICE_LIT("XYZXYZ"), &err),
                     0);
    import_ledger_close(&l);
    /* a line that a crash cut off does not count, and harms no other */
    assert_int_equal(file_read(path, &text, &err), 0);
    buf_puts(&text, "BBBBBB 19 1");
    assert_int_equal(file_replace(path, buf_view(&text), 0600, &err), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(import_ledger_open(path, &l, &err), 0);
        assert_true(import_ledger_has(l, SLICE_LIT("ABCDEF"), 17, 100));
        assert_true(import_ledger_has(l, SLICE_LIT("ABCDEF"), 18, 100));
        assert_false(import_ledger_has(l, SLICE_LIT("ABCDEF"), 18, 101));
        assert_false(import_ledger_has(l, SLICE_LIT("ABCDEF"), 19, 100));
        assert_true(import_ledger_has_id(l, SLICE_LIT("ABCDEF")));
        assert_int_equal(import_ledger_has_id(l, SLICE_LIT("BBBBBB")), i == 1);
        if (i == 0)
            assert_int_equal(
                import_ledger_add(l, SLICE_LIT("BBBBBB"), 19, 1, SLICE_LIT("BBBBBB"), &err), 0);
        import_ledger_close(&l);
    }
    /* one in the middle is for a person to judge */
    buf_reset(&text);
    buf_puts(&text, "ABCDEF x 100 ABCDEF\nBBBBBB 19 1 BBBBBB\n");
    assert_int_equal(file_replace(path, buf_view(&text), 0600, &err), 0);
    assert_int_equal(import_ledger_open(path, &l, &err), -1);
    assert_non_null(strstr(err.text, "line 1"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0);
    buf_fini(&text);
}

/* --- what a message brings along -------------------------------------------------------------- */

static void nobody(void *arg, uint64_t source, uint64_t to)
{
    (void) arg;
    (void) source;
    (void) to;
}

static void on_done(void *arg, int result, const struct err *err)
{
    (void) err;
    *(int *) arg = result;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void) st;
    (void) type;
    (void) ftw;
    return remove(path);
}

static void check_brought(struct store *s, enum store_queue queue)
{
    struct store_msg *m = store_find(s, SLICE_LIT("ABCDEF01"));
    struct arena *arena = arena_new(0);
    struct mail_envelope env;
    struct store_rcpt *r;
    struct err err = ERR_INIT;
    size_t n;

    assert_non_null(m);
    assert_int_equal(store_msg_queue(m), queue);
    assert_int_equal(store_msg_state(m)->next_retry_us, 77);
    assert_int_equal(store_msg_state(m)->attempts, 1);
    assert_true(store_msg_state(m)->warned && store_msg_state(m)->forced_expire);
    assert_int_equal(store_msg_read(s, m, arena, &env, &r, &n, &err), 0);
    assert_int_equal(n, 1);
    ASSERT_SLICE(r[0].code, "4.2.0");
    ASSERT_SLICE(r[0].reason, "come back");
    arena_free(&arena);
}

/* State and reasons of the envelope hold in the journal, in a file, and after each restart. */
static void test_brought_state(void **state)
{
    static const struct store_events events = {NULL, NULL};
    char dir[] = "/tmp/test-import-XXXXXX";
    const struct mail_envelope env = {.queue_id = SLICE_LIT("ABCDEF01"),
                                      .sender = SLICE_LIT("s@example.org"),
                                      .arrival_us = 1,
                                      .next_retry_us = 77,
                                      .flags = MAIL_DELAY_WARNED | MAIL_FORCED_EXPIRE,
                                      .rcpt_count = 1};
    const struct mail_rcpt rcpt_ = {.addr = SLICE_LIT("a@example.org"),
                                    .code = SLICE_LIT("4.2.0"),
                                    .reason = SLICE_LIT("come back")};
    struct store_options opt = {.segment_bytes = 1 << 20, .large_bytes = 1 << 20};
    struct store_writer *w = NULL;
    struct store_put *p;
    struct store *s = NULL;
    struct err err = ERR_INIT;
    int result = -1;

    (void) state;
    assert_non_null(mkdtemp(dir));
    opt.queue_directory = dir;
    assert_int_equal(store_make_directories(dir, geteuid(), getegid(), &err), 0);
    assert_int_equal(store_writer_open(&opt, nobody, NULL, &w, &err), 0);
    p = store_put_begin(w);
    assert_int_equal(store_put_write(p, SLICE_LIT("Subject: x\r\n\r\n"), &err), 0);
    store_put_commit(&p, &env, &rcpt_, 1, on_done, &result);
    store_writer_close(&w);
    assert_int_equal(result, 0);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(store_open(&opt, &events, NULL, &s, &err), 0);
        assert_int_equal(store_recover(s, &err), 0);
        check_brought(s, round == 2 ? STORE_HOLD : STORE_JOURNAL);
        if (round == 1) {
            assert_int_equal(store_msg_hold(s, store_find(s, env.queue_id), &err), 0);
            check_brought(s, STORE_HOLD);
        }
        store_close(&s);
    }
    assert_int_equal(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_envelope),      cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_cut),           cmocka_unit_test(test_order),
        cmocka_unit_test(test_pointers),      cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_logs),          cmocka_unit_test(test_ledger),
        cmocka_unit_test(test_brought_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
