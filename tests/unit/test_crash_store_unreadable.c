/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_crash_store_unreadable.c - the queue store on a disk that does not give bytes back (EIO), for a while or for good, and on
 * one that takes nothing any more (EROFS). What can be read is served; nothing is given up that may be readable tomorrow.
 */
#include <time.h>

#include "base/log.h"
#include "tests/crash/store_fixture.h"

#define PAGE 4096U

/* Pages of an inode (NULL: of all files) that cannot be read from now on; to 0: they can. */
static void unreadable(struct fixture *f, const struct sim_inode *inode, uint64_t from, uint64_t to)
{
    pthread_mutex_lock(&f->disk->mutex);
    f->disk->fail_read = to == 0 ? 0 : EIO;
    f->disk->fail_inode = inode;
    f->disk->fail_from = from;
    f->disk->fail_to = to;
    pthread_mutex_unlock(&f->disk->mutex);
}

/* Until housekeeping, flush() and all have done what they do now and then. */
static int work(struct fixture *f, int wanted)
{
    struct err err = ERR_INIT;
    int ret = 0;

    for (int i = 0; i < 100; i++) {
        struct timespec ts = {0, 10000000};

        ret = store_flush(f->store, &err);
        (void) store_housekeeping(f->store);
        if (i > 50 && ret == wanted)
            break;
        nanosleep(&ts, NULL);
    }
    return ret;
}

static size_t count_in(const struct fixture *f, const char *dir, const char *end)
{
    size_t n = 0;

    for (const struct sim_name *s = f->disk->names; s != NULL; s = s->next)
        n += s->inode != NULL && sim_in_dir(s->path, dir) &&
             slice_ends_with(slice_str(s->path), slice_str(end));
    return n;
}

static int read_first(struct fixture *f, struct store_msg *m, struct err *err)
{
    struct arena *arena = arena_new(0);
    struct arena *keep = arena_new(0);
    struct mail_envelope env;
    struct store_cursor c;
    struct store_rcpt *rcpts;
    size_t n;
    int ret = store_msg_read_first(f->store, m, arena, keep, 100, &env, &c, &rcpts, &n, err);

    arena_free(&arena);
    arena_free(&keep);
    return ret;
}

/* One page of a segment: the record that it is part of is missing, the others are there; the segment stays, and with the
 * next start, when it can be read again, so is the message. */
static void test_page_of_segment(void **state)
{
    static const struct {
        const char *name;
        uint64_t page;
        size_t lost; /* messages that have a part of it */
    } cases[] = {
        {"in the middle", 3, 2},
        {"the first page of records", 1, 1},
        {"the last one, which is no torn end", 6, 1},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture *f = begin();
        uint64_t page = cases[i].page * PAGE;
        uint64_t from = JOURNAL_SEGMENT_START;

        for (int k = 0; k < 4; k++)
            assert_int_equal(put(f, 5500), MODEL_ACKED);
        store_writer_abandon(&f->writer);
        for (int k = 0; k < 4; k++) {
            if (from < page + PAGE && f->model->commits[k][1] > page)
                f->model->msgs[k].fate = MODEL_UNKNOWN;
            from = f->model->commits[k][1];
        }
        unreadable(f, segment_inode(f), page, page + 1);
        recover(f);
        if (store_count(f->store) != 4 - cases[i].lost || f->model->damaged != 1 ||
            strstr(f->model->last_damage, "I/O error") == NULL)
            fail_msg("%s: %zu messages, %zu damages (%s)", cases[i].name, store_count(f->store),
                     f->model->damaged, f->model->last_damage);
        model_check_all(f->model, f->store, &f->disk->ops);
        for (size_t k = 0; k < f->model->count; k++) {
            if (f->model->msgs[k].handle == NULL)
                continue;
            f->model->msgs[k].removed = f->model->msgs[k].removed_durable = true;
            store_msg_remove(f->store, &f->model->msgs[k].handle);
        }
        (void) work(f, 0); /* recycles what is finished */
        store_close(&f->store);
        unreadable(f, NULL, 0, 0);
        for (int k = 0; k < 4; k++)
            f->model->msgs[k].fate = MODEL_ACKED;
        recover(f);
        model_check_all(f->model, f->store, &f->disk->ops);
        assert_int_equal(store_count(f->store), cases[i].lost);
        end(f);
    }
}

/* The head of a segment is needed less than its records; without both it stays for another time, and the other segments are served. */
static void test_heads(void **state)
{
    struct fixture *f = begin();
    struct sim_inode *inode;

    (void) state;
    assert_int_equal(put(f, 1000), MODEL_ACKED);
    store_writer_close(&f->writer);
    inode = segment_inode(f);
    unreadable(f, inode, 0, 1);
    recover(f);
    model_check_all(f->model, f->store, &f->disk->ops);
    assert_int_equal(f->model->damaged, 1);
    store_close(&f->store);
    unreadable(f, inode, 0, UINT64_MAX);
    f->model->msgs[0].fate = MODEL_UNKNOWN;
    recover(f);
    assert_int_equal(store_count(f->store), 0);
    assert_int_equal(f->model->damaged, 1);
    (void) work(f, 0);
    store_close(&f->store);
    unreadable(f, NULL, 0, 0);
    f->model->msgs[0].fate = MODEL_ACKED;
    recover(f);
    model_check_all(f->model, f->store, &f->disk->ops);
    end(f);
}

/* A message file that cannot be read at the start stays where it is, and so does the large content of which nobody knows whose it is. */
static void test_message_file(void **state)
{
    struct fixture *f = begin();
    struct err err = ERR_INIT;

    (void) state;
    assert_int_equal(put(f, 10000), MODEL_ACKED);
    store_writer_close(&f->writer);
    recover(f);
    assert_int_equal(store_msg_hold(f->store, f->model->msgs[0].handle, &err), 0);
    f->model->msgs[0].held = true;
    store_close(&f->store);
    unreadable(f, name_in(f, ROOT "/hold")->inode, 0, 1);
    f->model->msgs[0].fate = MODEL_UNKNOWN;
    recover(f);
    assert_int_equal(store_count(f->store), 0);
    assert_int_equal(f->model->damaged, 1);
    store_close(&f->store);
    unreadable(f, NULL, 0, 0);
    f->model->msgs[0].fate = MODEL_ACKED;
    recover(f);
    model_check_all(f->model, f->store, &f->disk->ops);
    assert_int_equal(count_in(f, ROOT "/large", ""), 1);
    end(f);
}

/* While the store is open: some attempts, in a row; then it counts as damaged, but what could not be copied is not given up. */
static void test_attempts(void **state)
{
    static const struct {
        const char *name, *dir;
        size_t bytes;
        bool hold;
        size_t left; /* found by the next start, when all can be read */
    } cases[] = {
        {"record in the journal", ROOT "/journal", 3000, false, 1},
        {"message file", ROOT "/hold", 3000, true, 0},
        {"large content", ROOT "/large", 10000, true, 0},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture *f = begin();
        struct sim_inode *inode;
        struct store_msg *m;
        struct err err = ERR_INIT;

        assert_int_equal(put(f, cases[i].bytes), MODEL_ACKED);
        store_writer_close(&f->writer);
        recover(f);
        m = f->model->msgs[0].handle;
        if (cases[i].hold)
            assert_int_equal(store_msg_hold(f->store, m, &err), 0);
        inode = cases[i].hold ? name_in(f, cases[i].dir)->inode : segment_inode(f);
        for (int round = 0; round < 2; round++) {
            unreadable(f, inode, 0, UINT64_MAX);
            for (int k = 1; k <= (round == 0 ? STORE_READ_TRIES - 1 : STORE_READ_TRIES); k++) {
                enum err_kind wanted = k < STORE_READ_TRIES ? ERR_TEMPORARY : ERR_PERMANENT;

                assert_int_equal(read_first(f, m, &err), -1);
                if (err.kind != wanted || strstr(err.text, "I/O error") == NULL)
                    fail_msg("%s: attempt %d: kind %d, %s", cases[i].name, k, err.kind, err.text);
            }
            if (round == 1)
                break;
            unreadable(f, NULL, 0, 0); /* it comes back: the attempts count anew */
            assert_int_equal(read_first(f, m, &err), 0);
        }
        assert_int_equal(store_msg_corrupt(f->store, m, err.text, &err), 0);
        store_msg_remove(f->store, &m);
        assert_int_equal(work(f, 0), 0);
        assert_true(f->model->damaged == 1);
        store_close(&f->store);
        unreadable(f, NULL, 0, 0);
        recover(f);
        if (store_count(f->store) != cases[i].left)
            fail_msg("%s: %zu messages (%s)", cases[i].name, store_count(f->store),
                     f->model->last_damage);
        if (cases[i].left == 1)
            model_check_all(f->model, f->store, &f->disk->ops);
        end(f);
    }
}

/* Notes that cannot be read: duplicates, said so, and nothing lost. */
static void test_notes(void **state)
{
    struct fixture *f = begin();
    struct sim_inode *inode = NULL;
    struct err err = ERR_INIT;

    (void) state;
    assert_int_equal(put(f, 500), MODEL_ACKED);
    assert_int_equal(put(f, 500), MODEL_ACKED);
    store_writer_close(&f->writer);
    recover(f);
    f->model->msgs[0].removed = true;
    store_msg_remove(f->store, &f->model->msgs[0].handle);
    assert_int_equal(store_flush(f->store, &err), 0);
    store_close(&f->store);
    for (const struct sim_name *n = f->disk->names; n != NULL; n = n->next)
        if (slice_ends_with(slice_str(n->path), SLICE_LIT(".done")))
            inode = n->inode;
    unreadable(f, inode, 0, UINT64_MAX);
    recover(f);
    assert_int_equal(f->model->damaged, 1);
    assert_non_null(strstr(f->model->last_damage, "twice"));
    model_check_all(f->model, f->store, &f->disk->ops);
    assert_int_equal(store_count(f->store), 2);
    end(f);
}

/* A finished message whose file cannot be removed: told until it is; then it does not come back. */
static void test_removal_when_read_only(void **state)
{
    struct fixture *f = begin();
    struct err err = ERR_INIT;

    (void) state;
    assert_int_equal(put(f, 500), MODEL_ACKED);
    assert_int_equal(put(f, 10000), MODEL_ACKED);
    store_writer_close(&f->writer);
    recover(f);
    for (int i = 0; i < 2; i++)
        assert_int_equal(store_msg_hold(f->store, f->model->msgs[i].handle, &err), 0);
    assert_int_equal(work(f, 0), 0);
    set(f, &f->disk->read_only, EROFS);
    for (int i = 0; i < 2; i++) {
        f->model->msgs[i].removed = f->model->msgs[i].removed_durable = true;
        store_msg_remove(f->store, &f->model->msgs[i].handle);
    }
    assert_int_equal(work(f, -1), -1);
    assert_int_equal(store_flush(f->store, &err), -1);
    assert_non_null(strstr(err.text, "remove"));
    set(f, &f->disk->read_only, 0);
    assert_int_equal(work(f, 0), 0);
    store_close(&f->store);
    recover(f);
    model_check_all(f->model, f->store, &f->disk->ops);
    assert_int_equal(store_count(f->store), 0);
    assert_int_equal(count_in(f, ROOT "/large", ""), 0);
    assert_int_equal(f->model->damaged, 0);
    end(f);
}

/* Notes of mail in the journal, and promotions, which stop without a word for each. */
static void test_notes_when_read_only(void **state)
{
    struct fixture *f = begin();
    struct store_state tried = {.attempts = 5};
    struct err err = ERR_INIT;

    (void) state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(put(f, 500), MODEL_ACKED);
    store_writer_close(&f->writer);
    recover(f);
    set(f, &f->disk->read_only, EROFS);
    for (int i = 0; i < 3; i++) {
        f->model->msgs[i].attempts = 5;
        store_msg_set_state(f->store, f->model->msgs[i].handle, &tried);
    }
    f->model->msgs[3].removed = true;
    store_msg_remove(f->store, &f->model->msgs[3].handle);
    assert_int_equal(work(f, -1), -1);
    assert_int_equal(store_flush(f->store, &err), -1);
    assert_non_null(strstr(err.text, "Read-only"));
    model_check_all(f->model, f->store, &f->disk->ops);
    set(f, &f->disk->read_only, 0);
    assert_int_equal(work(f, 0), 0);
    f->model->msgs[3].removed_durable = true;
    store_close(&f->store);
    recover(f);
    model_check_all(f->model, f->store, &f->disk->ops);
    assert_int_equal(store_count(f->store), 3);
    assert_int_equal(store_msg_state(f->model->msgs[0].handle)->attempts, 5);
    end(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_of_segment),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_message_file),
        cmocka_unit_test(test_attempts),
        cmocka_unit_test(test_notes),
        cmocka_unit_test(test_removal_when_read_only),
        cmocka_unit_test(test_notes_when_read_only),
    };

    log_open(&(struct log_target){
        .program = "test", .facility = "mail", .maillog_fd = -1, .no_syslog = true});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
