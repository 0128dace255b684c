/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_crash_store_faults.c - the queue store on a disk that fails: full, sync errors, torn ends at every byte, flipped bits.
 */
#include <sched.h>
#include <time.h>

#include "base/log.h"
#include "qmgr/journal.h"
#include "tests/crash/store_fixture.h"

/* Invariant: a message whose sync failed is not there afterwards; the writer goes on in another segment. */
static void test_sync_error(void **state)
{
    struct fixture *f = begin();

    (void) state;
    assert_int_equal(put(f, 100), MODEL_ACKED);
    assert_int_equal(put(f, 200), MODEL_ACKED);
    set(f, &f->disk->fail_sync, EIO);
    assert_int_equal(put(f, 300), MODEL_FAILED);
    assert_int_equal(put(f, 10000), MODEL_FAILED); /* large */
    set(f, &f->disk->fail_sync, 0);
    /* a new segment cannot be made within the second after one failed: wait for it */
    for (int i = 0; i < 300 && put(f, 400) != MODEL_ACKED; i++) {
        struct timespec ts = {0, 10000000};

        nanosleep(&ts, NULL);
    }
    assert_int_equal(put(f, 500), MODEL_ACKED);
    recover(f);
    model_check_all(f->model, f->store, &f->disk->ops);
    assert_int_equal(f->model->damaged, 0);
    end(f);
}

/* Many wait for one sync that fails. */
static void test_sync_error_batch(void **state)
{
    struct fixture *f = begin();

    (void) state;
    assert_int_equal(put(f, 100), MODEL_ACKED);
    set(f, &f->disk->fail_sync, EIO);
    for (int i = 0; i < 50; i++)
        (void) model_put(f->model, f->writer, 100);
    model_wait(f->model);
    for (size_t i = 1; i < f->model->count; i++)
        assert_int_equal(f->model->msgs[i].fate, MODEL_FAILED);
    set(f, &f->disk->fail_sync, 0);
    recover(f);
    model_check_all(f->model, f->store, &f->disk->ops);
    assert_int_equal(store_count(f->store), 1);
    end(f);
}

struct captured {
    struct err err;
    int ready;
};

static void capture(void *arg, int result, const struct err *err)
{
    struct captured *c = arg;

    c->err = result == 0 ? ERR_INIT : *err;
    __atomic_store_n(&c->ready, 1, __ATOMIC_RELEASE);
}

/* Puts one message and gives what its sender would be told. */
static struct err put_err(struct fixture *f, size_t bytes)
{
    struct captured result = {ERR_INIT, 0};
    struct mail_envelope env = {.queue_id = SLICE_LIT("ABCDEF0123")};
    struct mail_rcpt rcpt = {.addr = SLICE_LIT("a@b")};
    struct store_put *p = store_put_begin(f->writer);
    char *content = xcalloc(1, bytes + 1);
    struct err err;

    if (store_put_write(p, slice_of(content, bytes), &err) == -1)
        assert_int_equal(err.kind, ERR_TEMPORARY);
    free(content);
    store_put_commit(&p, &env, &rcpt, 1, capture, &result);
    while (!__atomic_load_n(&result.ready, __ATOMIC_ACQUIRE))
        sched_yield();
    return result.err;
}

static void test_disk_full(void **state)
{
    static const struct {
        const char *name;
        size_t offset;
        int value;
        size_t bytes;
        const char *dsn;
    } cases[] = {
        {"small, no room to write", offsetof(struct sim_disk, fail_write), ENOSPC, 100, "4.3.1"},
        {"large, no room to write", offsetof(struct sim_disk, fail_write), ENOSPC, 10000, "4.3.1"},
        {"large, no inode", offsetof(struct sim_disk, fail_create), ENOSPC, 10000, "4.3.1"},
        {"quota", offsetof(struct sim_disk, fail_write), EDQUOT, 100, "4.3.1"},
        {"large, broken", offsetof(struct sim_disk, fail_write), EIO, 10000, "4.3.0"},
        {"sync finds no room", offsetof(struct sim_disk, fail_sync), ENOSPC, 100, "4.3.1"},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture *f = begin();
        int *field = (int *) ((char *) f->disk + cases[i].offset);
        struct err err;

        assert_int_equal(put(f, 50), MODEL_ACKED);
        set(f, field, cases[i].value);
        err = put_err(f, cases[i].bytes);
        if (err.kind != ERR_TEMPORARY || strcmp(err.dsn, cases[i].dsn) != 0)
            fail_msg("%s: got kind %d, %s (%s), wanted temporary %s", cases[i].name, err.kind,
                     err.dsn, err.text, cases[i].dsn);
        set(f, field, 0);
        for (int k = 0; k < 300 && put(f, 400) != MODEL_ACKED; k++) {
            struct timespec ts = {0, 10000000};

            nanosleep(&ts, NULL);
        }
        assert_int_equal(put(f, 60), MODEL_ACKED);
        assert_int_equal(put(f, 9000), MODEL_ACKED);
        recover(f);
        assert_null(store_find(f->store, SLICE_LIT("ABCDEF0123")));
        model_check_all(f->model, f->store, &f->disk->ops);
        end(f);
    }
}

static void test_min_free(void **state)
{
    struct fixture *f = begin();
    struct err err;

    (void) state;
    store_writer_close(&f->writer);
    options.min_free_bytes = 1000;
    f->disk->free_bytes = 999;
    assert_int_equal(
        store_writer_open_io(&options, &f->disk->ops, model_committed, f->model, &f->writer, &err),
        0);
    err = put_err(f, 10);
    assert_string_equal(err.dsn, "4.3.1");
    store_writer_close(&f->writer);
    f->disk->free_bytes = 1000;
    assert_int_equal(
        store_writer_open_io(&options, &f->disk->ops, model_committed, f->model, &f->writer, &err),
        0);
    err = put_err(f, 10);
    assert_int_equal(err.kind, ERR_NONE);
    end(f);
}

/* Completion records that cannot be written stay in memory and count; later they are written. */
static void test_notes_on_full_disk(void **state)
{
    struct fixture *f = begin();
    struct model_msg *a, *b;
    struct err err;

    (void) state;
    a = model_put(f->model, f->writer, 100);
    b = model_put(f->model, f->writer, 100);
    model_wait(f->model);
    recover(f);
    set(f, &f->disk->fail_write, ENOSPC);
    a->done[1] = true;
    store_rcpt_done(f->store, a->handle, 1);
    b->removed = b->removed_durable = true;
    store_msg_remove(f->store, &b->handle);
    assert_int_equal(store_flush(f->store, &err), -1);
    assert_string_equal(err.dsn, "4.3.1");
    model_check_msg(f->model, f->store, &f->disk->ops, a);
    set(f, &f->disk->fail_write, 0);
    assert_int_equal(store_flush(f->store, &err), 0);
    store_close(&f->store);
    recover(f);
    model_check_all(f->model, f->store, &f->disk->ops);
    assert_int_equal(store_count(f->store), 1);
    end(f);
}

/* A record cut off at every byte, and one with every byte (some bits) damaged: what is before stays, what is behind too. */
static void test_torn_tail(void **state)
{
    struct fixture *f = begin();
    struct sim_inode *inode;
    unsigned char *whole;
    size_t from, to;

    (void) state;
    assert_int_equal(put(f, 700), MODEL_ACKED);
    from = (size_t) f->model->commits[0][1];
    (void) put(f, 300);
    to = (size_t) f->model->commits[1][1];
    store_writer_abandon(&f->writer);
    inode = segment_inode(f);
    whole = xmalloc(to);
    memcpy(whole, inode->now.p, to);
    f->model->msgs[1].fate = MODEL_UNKNOWN;
    for (size_t cut = from; cut < to; cut++) {
        memset(inode->now.p + from, 0xA5, to - from); /* leftovers of earlier use */
        memcpy(inode->now.p + from, whole + from, cut - from);
        recover(f);
        model_check_all(f->model, f->store, &f->disk->ops);
        if (store_count(f->store) != 1 || f->model->damaged != 0)
            fail_msg("cut at %zu: %zu messages, %zu damages (%s)", cut - from,
                     store_count(f->store), f->model->damaged, f->model->last_damage);
        store_abandon(&f->store);
        sim_kill(f->disk);
    }
    free(whole);
    end(f);
}

static void test_bit_flips(void **state)
{
    struct fixture *f = begin();
    struct sim_inode *inode;
    size_t from, to;

    (void) state;
    assert_int_equal(put(f, 100), MODEL_ACKED);
    from = (size_t) f->model->commits[0][1];
    assert_int_equal(put(f, 150), MODEL_ACKED);
    to = (size_t) f->model->commits[1][1];
    assert_int_equal(put(f, 100), MODEL_ACKED);
    store_writer_abandon(&f->writer);
    inode = segment_inode(f);
    f->model->msgs[1].fate = MODEL_UNKNOWN;
    for (size_t at = from; at < to; at++) {
        unsigned char saved = inode->now.p[at];

        inode->now.p[at] ^= (unsigned char) (1U << (at % 8));
        recover(f);
        model_check_all(f->model, f->store, &f->disk->ops);
        if (store_count(f->store) != 2 || f->model->damaged != 1)
            fail_msg("flip at %zu: %zu messages, %zu damages (%s)", at - from,
                     store_count(f->store), f->model->damaged, f->model->last_damage);
        store_abandon(&f->store);
        /* said once: what is set aside is not reported at every start */
        recover(f);
        assert_int_equal(f->model->damaged, 0);
        store_abandon(&f->store);
        sim_kill(f->disk);
        inode->now.p[at] = saved;
        for (struct sim_name *n = f->disk->names; n != NULL; n = n->next) {
            if (sim_in_dir(n->path, ROOT "/corrupt")) {
                (void) f->disk->ops.unlink(f->disk, n->path);
                break;
            }
        }
    }
    /* the segment's head */
    for (size_t at = 0; at < 40; at++) {
        inode->now.p[at] ^= 1;
        recover(f);
        assert_int_equal(store_count(f->store), 3);
        assert_int_equal(f->model->damaged, 1);
        store_abandon(&f->store);
        sim_kill(f->disk);
        inode->now.p[at] ^= 1;
    }
    end(f);
}

/* An envelope larger than any segment gets a segment of its own. */
static void test_oversize(void **state)
{
    struct fixture *f = begin();
    size_t n = 3000;
    struct captured result = {ERR_INIT, 0};
    struct mail_rcpt *rcpts = xcalloc(n, sizeof(*rcpts));
    struct mail_envelope env = {.queue_id = SLICE_LIT("ABCDEF0123")};
    struct store_put *p;
    struct store_rcpt *got;
    size_t ngot;
    struct arena *arena = arena_new(0);
    struct store_msg *m;
    struct err err;

    (void) state;
    for (size_t i = 0; i < n; i++)
        rcpts[i].addr = SLICE_LIT("somebody-with-a-rather-long-name@host.example.com");
    assert_int_equal(put(f, 100), MODEL_ACKED);
    p = store_put_begin(f->writer);
    assert_int_equal(store_put_write(p, SLICE_LIT("body\r\n"), &err), 0);
    store_put_commit(&p, &env, rcpts, n, capture, &result);
    while (!__atomic_load_n(&result.ready, __ATOMIC_ACQUIRE))
        sched_yield();
    assert_int_equal(result.err.kind, ERR_NONE);
    assert_int_equal(put(f, 100), MODEL_ACKED);
    f->model->count = 3;
    memcpy(f->model->msgs[2].id, "ABCDEF0123", 11);
    recover(f);
    m = store_find(f->store, SLICE_LIT("ABCDEF0123"));
    assert_non_null(m);
    assert_int_equal(store_msg_read(f->store, m, arena, &env, &got, &ngot, &err), 0);
    assert_int_equal(ngot, n);
    store_rcpt_done(f->store, m, 2999);
    for (uint32_t i = 0; i < n - 1; i++)
        store_rcpt_deferred(f->store, m, i, SLICE_LIT("4.0.0"), SLICE_LIT("later"));
    assert_int_equal(store_flush(f->store, &err), 0);
    arena_reset(arena);
    assert_int_equal(store_msg_read(f->store, m, arena, &env, &got, &ngot, &err), 0);
    assert_true(got[2999].done && !got[2998].done);
    assert_true(slice_eq_str(got[2998].reason, "later") && slice_eq_str(got[0].code, "4.0.0"));
    arena_free(&arena);
    free(rcpts);
    end(f);
}

/* The content of a large message is checked at each attempt but the first; what is damaged goes to corrupt/, all of it. */
static void test_large_content(void **state)
{
    static const size_t places[] = {0, 5000, 9999};

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        for (int held = 0; held < 2; held++) {
            struct fixture *f = begin();
            struct arena *arena = arena_new(0);
            struct arena *keep = arena_new(0);
            struct mail_envelope env;
            struct store_cursor c;
            struct store_rcpt *rcpts;
            struct store_msg *m;
            struct err err = ERR_INIT;
            size_t n;

            assert_int_equal(put(f, 10000), MODEL_ACKED);
            store_writer_close(&f->writer);
            recover(f);
            m = f->model->msgs[0].handle;
            if (held == 1)
                assert_int_equal(store_msg_hold(f->store, m, &err), 0);
            assert_int_equal(
                store_msg_read_first(f->store, m, arena, keep, 100, &env, &c, &rcpts, &n, &err), 0);
            name_in(f, ROOT "/large")->inode->now.p[places[i]] ^= 1;
            assert_int_equal(
                store_msg_read_first(f->store, m, arena, keep, 100, &env, &c, &rcpts, &n, &err),
                -1);
            assert_int_equal(err.kind, ERR_PERMANENT);
            assert_int_equal(store_msg_corrupt(f->store, m, err.text, &err), 0);
            store_msg_remove(f->store, &m);
            store_close(&f->store);
            recover(f);
            assert_int_equal(store_count(f->store), 0);
            assert_null(name_in(f, ROOT "/large"));
            n = 0;
            for (struct sim_name *s = f->disk->names; s != NULL; s = s->next)
                n += s->inode != NULL && sim_in_dir(s->path, ROOT "/corrupt");
            assert_int_equal(n, 2); /* record and content */
            arena_free(&arena);
            arena_free(&keep);
            end(f);
        }
    }
}

/* What a living writer may still have to refuse is not found by an owner that starts, until it is known to be durable. */
static void test_not_durable_yet(void **state)
{
    struct fixture *f = begin();

    (void) state;
    assert_int_equal(put(f, 100), MODEL_ACKED);
    f->model->msgs[0].fate = MODEL_UNKNOWN; /* the disk says from now on that it is not */
    set(f, &f->disk->fail_sync, EIO);
    recover(f);
    assert_int_equal(store_count(f->store), 0);
    set(f, &f->disk->fail_sync, 0);
    (void) store_housekeeping(f->store);
    assert_int_equal(store_count(f->store), 1);
    model_check_all(f->model, f->store, &f->disk->ops);
    end(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sync_error),         cmocka_unit_test(test_sync_error_batch),
        cmocka_unit_test(test_disk_full),          cmocka_unit_test(test_min_free),
        cmocka_unit_test(test_notes_on_full_disk), cmocka_unit_test(test_torn_tail),
        cmocka_unit_test(test_bit_flips),          cmocka_unit_test(test_oversize),
        cmocka_unit_test(test_large_content),      cmocka_unit_test(test_not_durable_yet),
    };

    log_open(&(struct log_target){
        .program = "test", .facility = "mail", .maillog_fd = -1, .no_syslog = true});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
