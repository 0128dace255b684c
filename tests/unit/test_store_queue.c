/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_store_queue.c - the queue store on a real file system: what store.h promises, call by call.
 */
#include <dirent.h>
#include <ftw.h>
#include <sched.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "tests/crash/store_model.h"

struct fixture {
    char root[64];
    struct store_options opt;
    struct model *model;
    struct store *store;
    struct store_writer *writer;
};

static const struct store_events events = {model_found, model_damaged};

static void open_writer(struct fixture *f)
{
    struct err err;

    if (store_writer_open(&f->opt, model_committed, f->model, &f->writer, &err) == -1)
        fail_msg("writer: %s", err.text);
}

static void open_store(struct fixture *f)
{
    struct err err;

    model_forget_seen(f->model);
    if (store_open(&f->opt, &events, f->model, &f->store, &err) == -1 ||
        store_recover(f->store, &err) == -1)
        fail_msg("store: %s", err.text);
}

static struct fixture *begin(void)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    struct err err;

    snprintf(f->root, sizeof(f->root), "/tmp/postrider-store.XXXXXX");
    assert_non_null(mkdtemp(f->root));
    f->opt = (struct store_options){f->root, 65536, 8192, 0};
    if (store_make_directories(f->root, getuid(), getgid(), &err) == -1)
        fail_msg("directories: %s", err.text);
    f->model = model_new(0);
    open_writer(f);
    open_store(f);
    return f;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void) st;
    (void) type;
    (void) ftw;
    return remove(path);
}

static void end(struct fixture *f)
{
    store_writer_close(&f->writer);
    store_close(&f->store);
    model_free(&f->model);
    nftw(f->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(f);
}

static void announce(struct fixture *f)
{
    struct err err;

    model_wait(f->model);
    for (; f->model->commits_seen < f->model->ncommits; f->model->commits_seen++) {
        const uint64_t *c = f->model->commits[f->model->commits_seen];

        if (store_committed(f->store, c[0], c[1], &err) == -1)
            fail_msg("%s", err.text);
    }
}

static struct model_msg *put(struct fixture *f, size_t bytes)
{
    struct model_msg *m = model_put(f->model, f->writer, bytes);

    announce(f);
    assert_int_equal(m->fate, MODEL_ACKED);
    assert_non_null(m->handle);
    return m;
}

static void reopen(struct fixture *f)
{
    store_close(&f->store);
    open_store(f);
    model_check_all(f->model, f->store, &io_posix);
}

static size_t count_files(const struct fixture *f, const char *sub, const char *suffix)
{
    char path[512];
    struct dirent *e;
    size_t n = 0;
    DIR *d;

    snprintf(path, sizeof(path), "%s/%s", f->root, sub);
    d = opendir(path);
    while (d != NULL && (e = readdir(d)) != NULL)
        n += e->d_name[0] != '.' && slice_ends_with(slice_str(e->d_name), slice_str(suffix)) &&
             (suffix[0] != '\0' || strlen(e->d_name) == 16 || strlen(e->d_name) == 13);
    if (d != NULL)
        closedir(d);
    return n;
}

/* Housekeeping until cond holds. */
#define EVENTUALLY(f, cond)                                                                        \
    do {                                                                                           \
        int tries_ = 0;                                                                            \
        while (!(cond)) {                                                                          \
            struct timespec ts_ = {0, 5000000};                                                    \
            if (++tries_ > 4000)                                                                   \
                fail_msg("never: %s", #cond);                                                      \
            (void) store_housekeeping((f)->store);                                                 \
            nanosleep(&ts_, NULL);                                                                 \
        }                                                                                          \
    } while (0)

static void test_sizes(void **state)
{
    static const size_t sizes[] = {0,    1,    7,    8,    9,     4095,  4096,
                                   8190, 8191, 8192, 8193, 20000, 200000};
    struct fixture *f = begin();

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct model_msg *m = put(f, sizes[i]);

        assert_int_equal(store_msg_bytes(m->handle), sizes[i]);
        assert_int_equal(store_msg_queue(m->handle), STORE_JOURNAL);
        assert_ptr_equal(store_find(f->store, slice_str(m->id)), m->handle);
    }
    assert_int_equal(count_files(f, "large", ""), 4); /* from 8192 on */
    model_check_all(f->model, f->store, &io_posix);
    reopen(f);
    assert_int_equal(store_count(f->store), ARRAY_LEN(sizes));
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        f->model->msgs[i].removed = true;
        store_msg_remove(f->store, &f->model->msgs[i].handle);
    }
    EVENTUALLY(f, count_files(f, "large", "") == 0);
    reopen(f);
    assert_int_equal(store_count(f->store), 0);
    end(f);
}

static void test_one_owner(void **state)
{
    struct fixture *f = begin();
    struct store *second = NULL;
    char want[64];
    struct err err;

    (void) state;
    assert_int_equal(store_open(&f->opt, &events, f->model, &second, &err), -1);
    snprintf(want, sizeof(want), "the queue is in use by process %ld", (long) getpid());
    assert_string_equal(err.text, want);
    assert_int_equal(err.kind, ERR_TEMPORARY);
    end(f);
}

static void test_state_and_recipients(void **state)
{
    struct fixture *f = begin();
    struct model_msg *m = put(f, 500);
    struct store_state st = {.attempts = 1, .next_retry_us = 123456789, .warned = true};
    struct arena *arena = arena_new(0);
    struct mail_envelope env;
    struct store_rcpt *r;
    size_t n;
    struct err err;

    (void) state;
    m->attempts = 5;
    for (int round = 0; round < 4; round++) {
        /* 0: in memory, 1: after a restart, 2: in a file, 3: the file after a restart */
        if (round == 0) {
            m->done[2] = true;
            store_rcpt_done(f->store, m->handle, 2);
            store_rcpt_deferred(f->store, m->handle, 0, SLICE_LIT("4.4.1"), SLICE_LIT("first"));
            store_rcpt_deferred(f->store, m->handle, 0, SLICE_LIT("4.4.2"),
                                SLICE_LIT("connection lost"));
            store_msg_set_state(f->store, m->handle, &st);
        } else if (round == 2) {
            assert_int_equal(store_msg_hold(f->store, m->handle, &err), 0);
            assert_int_equal(store_msg_queue(m->handle), STORE_HOLD);
            assert_int_equal(count_files(f, "hold", ""), 1);
        } else {
            store_close(&f->store);
            open_store(f);
        }
        assert_int_equal(store_msg_read(f->store, m->handle, arena, &env, &r, &n, &err), 0);
        assert_true(r[2].done && !r[0].done && !r[1].done);
        assert_true(slice_eq_str(r[0].code, "4.4.2") &&
                    slice_eq_str(r[0].reason, "connection lost"));
        assert_int_equal(r[1].reason.len, 0);
        assert_int_equal(store_msg_state(m->handle)->attempts, 1);
        assert_int_equal(store_msg_state(m->handle)->next_retry_us, 123456789);
        assert_true(store_msg_state(m->handle)->warned &&
                    !store_msg_state(m->handle)->forced_expire);
    }
    /* notes on a file */
    m->done[1] = true;
    store_rcpt_done(f->store, m->handle, 1);
    st.attempts = 2;
    store_msg_set_state(f->store, m->handle, &st);
    assert_int_equal(store_msg_read(f->store, m->handle, arena, &env, &r, &n, &err), 0);
    assert_true(r[1].done);
    store_close(&f->store);
    open_store(f);
    assert_int_equal(store_msg_read(f->store, m->handle, arena, &env, &r, &n, &err), 0);
    assert_true(r[1].done && r[2].done && !r[0].done);
    assert_int_equal(store_msg_state(m->handle)->attempts, 2);
    assert_int_equal(store_msg_release(f->store, m->handle, &err), 0);
    assert_int_equal(store_msg_queue(m->handle), STORE_DEFERRED);
    assert_int_equal(store_msg_state(m->handle)->next_retry_us, 0);
    assert_int_equal(store_msg_release(f->store, m->handle, &err), -1);
    reopen(f);
    m->removed = m->removed_durable = true;
    store_msg_remove(f->store, &m->handle);
    reopen(f);
    assert_int_equal(store_count(f->store), 0);
    arena_free(&arena);
    end(f);
}

static void test_promotion_and_recycling(void **state)
{
    struct fixture *f = begin();
    struct store_state st = {.attempts = 3, .next_retry_us = INT64_MAX};
    struct model_msg *kept[5];
    size_t segments;

    (void) state;
    for (int i = 0; i < 5; i++) {
        kept[i] = put(f, i == 4 ? 9000 : 700);
        kept[i]->attempts = 3;
        for (int k = 0; k < 100; k++) {
            struct model_msg *m = put(f, 1500);

            m->removed = true;
            store_msg_remove(f->store, &m->handle);
        }
    }
    segments = count_files(f, "journal", "") + count_files(f, "journal/free", "");
    for (int i = 0; i < 4; i++)
        store_msg_set_state(f->store, kept[i]->handle, &st);
    st.attempts = 1; /* leaves because its segment is nearly empty */
    store_msg_set_state(f->store, kept[4]->handle, &st);
    for (int i = 0; i < 5; i++)
        EVENTUALLY(f, store_msg_queue(kept[i]->handle) == STORE_DEFERRED || i == 4);
    model_check_all(f->model, f->store, &io_posix);
    EVENTUALLY(f, count_files(f, "journal/free", "") >= 2 && count_files(f, "journal", "") <= 3);
    assert_true(segments > 5);
    /* free segments are used again */
    segments = count_files(f, "journal/free", "");
    for (int k = 0; k < 200; k++)
        (void) put(f, 1500);
    assert_true(count_files(f, "journal/free", "") < segments);
    reopen(f);
    assert_int_equal(store_count(f->store), 205);
    end(f);
}

/* A segment whose content somebody reads is not recycled, and its mail not moved. */
static void test_pin(void **state)
{
    struct fixture *f = begin();
    struct model_msg *m = put(f, 700);
    struct store_state st = {.attempts = 3};
    uint64_t offset, bytes;
    struct err err;
    int fd;

    (void) state;
    store_msg_set_state(f->store, m->handle, &st);
    assert_int_equal(store_msg_content(f->store, m->handle, &fd, &offset, &bytes, &err), 0);
    assert_int_equal(write(fd, "x", 1), -1); /* it goes to delivery agents */
    for (int i = 0; i < 50; i++) {
        struct timespec ts = {0, 2000000};

        (void) store_housekeeping(f->store);
        nanosleep(&ts, NULL);
    }
    assert_int_equal(store_msg_queue(m->handle), STORE_JOURNAL);
    m->attempts = 3;
    store_msg_set_state(f->store, m->handle, &st);
    EVENTUALLY(f, store_msg_queue(m->handle) == STORE_DEFERRED);
    reopen(f);
    end(f);
}

static void test_corrupt(void **state)
{
    struct fixture *f = begin();
    struct model_msg *a = put(f, 700);
    struct model_msg *b = put(f, 800);
    struct err err;
    char path[256];

    (void) state;
    assert_int_equal(store_msg_hold(f->store, b->handle, &err), 0);
    assert_int_equal(store_msg_corrupt(f->store, a->handle, "for a test", &err), 0);
    assert_int_equal(store_msg_corrupt(f->store, b->handle, "for a test", &err), 0);
    assert_int_equal(f->model->damaged, 0); /* that may have been another thread */
    assert_int_equal(store_flush(f->store, &err), 0);
    assert_int_equal(f->model->damaged, 2);
    assert_int_equal(store_msg_queue(a->handle), STORE_CORRUPT);
    a->removed = b->removed = true;
    store_msg_remove(f->store, &a->handle);
    store_msg_remove(f->store, &b->handle);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof(path), "%s/corrupt/%s", f->root, i == 0 ? a->id : b->id);
        assert_int_equal(access(path, R_OK), 0);
    }
    reopen(f);
    assert_int_equal(store_count(f->store), 0);
    end(f);
}

/* A message file that was damaged at rest: reading says so, and at the next start one with a broken head is set aside. */
static void test_damaged_file(void **state)
{
    struct fixture *f = begin();
    struct model_msg *m = put(f, 700);
    struct arena *arena = arena_new(0);
    struct mail_envelope env;
    struct store_rcpt *r;
    size_t n;
    char path[256];
    struct err err;
    int fd;

    (void) state;
    assert_int_equal(store_msg_hold(f->store, m->handle, &err), 0);
    snprintf(path, sizeof(path), "%s/hold/%s", f->root, m->id);
    fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "XXXX", 4, 600), 4);
    assert_int_equal(store_msg_read(f->store, m->handle, arena, &env, &r, &n, &err), -1);
    assert_int_equal(err.kind, ERR_PERMANENT);
    assert_int_equal(pwrite(fd, "XXXX", 4, 8), 4);
    close(fd);
    store_close(&f->store);
    open_store(f);
    assert_int_equal(store_count(f->store), 0);
    assert_int_equal(f->model->damaged, 1);
    assert_int_equal(count_files(f, "corrupt", ""), 1);
    arena_free(&arena);
    end(f);
}

/* Asked for while the message was in use, and nobody came back to it: before the flush it is a wish, after that the next recovery does it. */
static void test_hold_later(void **state)
{
    (void) state;
    for (int in_file = 0; in_file < 2; in_file++) {
        struct fixture *f = begin();
        struct model_msg *m = put(f, 700);
        struct err err;

        if (in_file) {
            assert_int_equal(store_msg_hold(f->store, m->handle, &err), 0);
            assert_int_equal(store_msg_release(f->store, m->handle, &err), 0);
        }
        store_msg_hold_later(f->store, m->handle);
        assert_int_not_equal(store_msg_queue(m->handle), STORE_HOLD);
        assert_true(store_msg_state(m->handle)->hold);
        assert_int_equal(store_flush(f->store, &err), 0);
        store_abandon(&f->store);
        open_store(f);
        assert_int_equal(store_msg_queue(m->handle), STORE_HOLD);
        assert_false(store_msg_state(m->handle)->hold);
        model_check_all(f->model, f->store, &io_posix);
        /* it is no wish any more */
        store_abandon(&f->store);
        open_store(f);
        assert_int_equal(store_msg_queue(m->handle), STORE_HOLD);
        assert_int_equal(store_msg_release(f->store, m->handle, &err), 0);
        store_abandon(&f->store);
        open_store(f);
        assert_int_equal(store_msg_queue(m->handle), STORE_DEFERRED);
        /* nor after it was done in time */
        store_msg_hold_later(f->store, m->handle);
        assert_int_equal(store_msg_hold(f->store, m->handle, &err), 0);
        assert_int_equal(store_msg_release(f->store, m->handle, &err), 0);
        reopen(f);
        assert_int_equal(store_msg_queue(m->handle), STORE_DEFERRED);
        end(f);
    }
}

/* 0: in the journal, 1: large, 2: in a file. */
static void test_remove_later(void **state)
{
    (void) state;
    for (int where = 0; where < 3; where++) {
        struct fixture *f = begin();
        struct model_msg *m = put(f, where == 1 ? 10000 : 700);
        struct err err;

        if (where == 2) {
            assert_int_equal(store_msg_hold(f->store, m->handle, &err), 0);
            assert_int_equal(store_msg_release(f->store, m->handle, &err), 0);
        }
        store_msg_remove_later(f->store, m->handle);
        assert_int_equal(store_flush(f->store, &err), 0);
        m->removed = true;
        m->was_file = where == 2;
        store_abandon(&f->store);
        open_store(f);
        assert_int_equal(store_count(f->store), 0);
        EVENTUALLY(f, count_files(f, "large", "") == 0);
        reopen(f);
        assert_int_equal(store_count(f->store), 0);
        end(f);
    }
}

static void test_writer_gone(void **state)
{
    struct fixture *f = begin();
    struct model_msg *m = model_put(f->model, f->writer, 100);
    uint64_t source, upto;
    struct err err;

    (void) state;
    model_wait(f->model);
    store_writer_position(f->writer, &source, &upto);
    assert_true(source != 0 && upto > 0);
    assert_null(m->handle); /* nobody has said so */
    assert_int_equal(store_writer_gone(f->store, source, &err),
                     0); /* its connection broke, it lives on */
    assert_non_null(m->handle);
    m = model_put(f->model, f->writer, 100);
    model_wait(f->model);
    store_writer_abandon(&f->writer);
    assert_int_equal(store_writer_gone(f->store, source, &err), 0);
    assert_non_null(m->handle);
    assert_int_equal(store_committed(f->store, source, upto, &err), 0); /* late, and again */
    assert_int_equal(store_committed(f->store, 0x1234, 5000, &err), 0); /* recycled meanwhile */
    assert_int_equal(store_count(f->store), 2);
    end(f);
}

static void test_lost_announcement(void **state)
{
    struct fixture *f = begin();
    struct model_msg *m[100];

    (void) state;
    for (int i = 0; i < 100; i++)
        m[i] = model_put(f->model, f->writer, 1500); /* over several segments */
    model_wait(f->model);
    for (int i = 0; i < 100; i++)
        EVENTUALLY(f, m[i]->handle != NULL);
    model_check_all(f->model, f->store, &io_posix);
    end(f);
}

static void test_readonly(void **state)
{
    struct fixture *f = begin();
    struct store *s = NULL;
    struct model *own = f->model;
    struct err err;

    (void) state;
    (void) put(f, 100);
    (void) put(f, 9000);
    assert_int_equal(store_msg_hold(f->store, own->msgs[0].handle, &err), 0);
    model_forget_seen(own);
    assert_int_equal(store_open_readonly(&f->opt, &events, own, &s, &err), 0);
    assert_int_equal(store_recover(s, &err), 0);
    assert_int_equal(store_count(s), 2);
    assert_int_equal(store_msg_queue(own->msgs[0].handle), STORE_HOLD);
    store_close(&s);
    model_forget_seen(own);
    end(f);
}

/* Two accepted messages of one id (the clock was set back): both stay. */
static void test_twin_ids(void **state)
{
    struct fixture *f = begin();
    struct mail_envelope env = {.queue_id = SLICE_LIT("ABCDEF0123")};
    struct mail_rcpt rcpt = {.addr = SLICE_LIT("a@b")};
    struct err err;

    (void) state;
    store_close(&f->store);
    f->model->count = 2;
    memcpy(f->model->msgs[0].id, "ABCDEF0123", 11);
    memcpy(f->model->msgs[1].id, "ABCDEF01231", 12);
    for (int i = 0; i < 2; i++) {
        struct store_put *p = store_put_begin(f->writer);

        f->model->msgs[i].model = f->model;
        f->model->pending++;
        assert_int_equal(store_put_write(p, i == 0 ? SLICE_LIT("one") : SLICE_LIT("two"), &err), 0);
        store_put_commit(&p, &env, &rcpt, 1, model_done, &f->model->msgs[i]);
        model_wait(f->model);
    }
    open_store(f);
    assert_int_equal(store_count(f->store), 2);
    end(f);
}

/* What a command of root's makes belongs to the mail system. */
static void test_owner_of_files(void **state)
{
    static const char *const names[] = {"journal/lock", "deferred", "hold/ID", "deferred/X/ID"};
    struct fixture *f;
    struct model_msg *m;
    struct err err;
    struct stat st;
    char path[512];

    (void) state;
    if (geteuid() != 0)
        skip();
    f = begin();
    store_writer_close(&f->writer);
    store_close(&f->store);
    assert_int_equal(store_make_directories(f->root, 65534, 65534, &err), 0);
    open_writer(f);
    open_store(f);
    m = put(f, 9000);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        int n = 0;

        if (i == 2)
            assert_int_equal(store_msg_hold(f->store, m->handle, &err), 0);
        if (i == 3)
            assert_int_equal(store_msg_release(f->store, m->handle, &err), 0);
        for (const char *x = "0123456789ABCDEF"; *x != '\0'; x++) {
            if (i == 3)
                snprintf(path, sizeof(path), "%s/deferred/%c/%s", f->root, *x, m->id);
            else if (i == 2)
                snprintf(path, sizeof(path), "%s/hold/%s", f->root, m->id);
            else
                snprintf(path, sizeof(path), "%s/%s", f->root, names[i]);
            if (stat(path, &st) == -1)
                continue;
            n++;
            if (st.st_uid != 65534)
                fail_msg("%s: got owner %d, wanted 65534", path, (int) st.st_uid);
        }
        assert_true(n > 0);
    }
    end(f);
}

static void *many_puts(void *arg)
{
    struct fixture *f = arg;

    for (int i = 0; i < 100; i++)
        (void) model_put(f->model, f->writer, (size_t) i * 13);
    return NULL;
}

static void test_threads(void **state)
{
    struct fixture *f = begin();
    pthread_t t[8];

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        assert_int_equal(pthread_create(&t[i], NULL, many_puts, f), 0);
    for (size_t i = 0; i < ARRAY_LEN(t); i++)
        pthread_join(t[i], NULL);
    announce(f);
    assert_int_equal(store_count(f->store), 800);
    model_check_all(f->model, f->store, &io_posix);
    store_writer_close(&f->writer);
    reopen(f);
    end(f);
}

/* The clock was ahead when mail passed that has left since; it is right now, and nobody remembers. */
static void test_ids_after_clock_was_ahead(void **state)
{
    struct fixture *f = begin();
    struct timespec ahead = {time(NULL) + 86400, 0};
    char path[128];
    char id[QUEUE_ID_MAX + 1];

    (void) state;
    queue_id_new(false, id);
    assert_true(queue_id_us(slice_str(id)) < (int64_t) ahead.tv_sec * 1000000);
    snprintf(path, sizeof(path), "%s/journal/free", f->root);
    assert_int_equal(utimensat(AT_FDCWD, path, (const struct timespec[]){ahead, ahead}, 0), 0);
    reopen(f);
    queue_id_new(false, id);
    assert_true(queue_id_us(slice_str(id)) > (int64_t) ahead.tv_sec * 1000000);
    end(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_one_owner),
        cmocka_unit_test(test_state_and_recipients),
        cmocka_unit_test(test_promotion_and_recycling),
        cmocka_unit_test(test_pin),
        cmocka_unit_test(test_corrupt),
        cmocka_unit_test(test_damaged_file),
        cmocka_unit_test(test_hold_later),
        cmocka_unit_test(test_remove_later),
        cmocka_unit_test(test_writer_gone),
        cmocka_unit_test(test_lost_announcement),
        cmocka_unit_test(test_readonly),
        cmocka_unit_test(test_twin_ids),
        cmocka_unit_test(test_owner_of_files),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(
            test_ids_after_clock_was_ahead), /* the last one: it leaves them a day ahead */
    };

    log_open(&(struct log_target){
        .program = "test", .facility = "mail", .maillog_fd = -1, .no_syslog = true});
    return cmocka_run_group_tests(tests, NULL, NULL);
}
