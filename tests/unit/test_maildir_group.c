/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_maildir_group.c - messages for Maildirs that share flushes: what is called in which order, and what becomes of each message when
 * something fails. The system calls that matter are this program's own: they are noted, delayed, made to fail.
 */
#undef _FORTIFY_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "local/maildir_group.h"

#define ITEMS    40
#define LIMIT_MS 600000

static struct {
    atomic_int clock; /* each event gets the next number */
    atomic_int syncfs, fsyncs;
    atomic_int flush_began, flush_ended; /* the last whole flush of the file system that ended */
    atomic_int flushing_since;           /* 0: none is on its way */
    atomic_int syncfs_ms, fail_syncfs, dirty_kb; /* what is to happen */
    atomic_int hang_fsync;                       /* until it is 0 again */
    atomic_int hang_syncfs;                      /* that one, the first is 1; until it is 0 again */
    long magic;
} disk;

static int tick(void)
{
    return atomic_fetch_add(&disk.clock, 1) + 1;
}

int syncfs(int fd)
{
    int began = tick();
    bool fails = atomic_load(&disk.fail_syncfs) != 0;

    (void) fd;
    atomic_store(&disk.flushing_since, began);
    if (atomic_fetch_add(&disk.syncfs, 1) + 1 == atomic_load(&disk.hang_syncfs))
        while (atomic_load(&disk.hang_syncfs) != 0)
            usleep(1000);
    usleep((useconds_t) atomic_load(&disk.syncfs_ms) * 1000);
    atomic_store(&disk.flushing_since, 0);
    if (fails) {
        errno = EIO;
        return -1;
    }
    atomic_store(&disk.flush_began, began);
    atomic_store(&disk.flush_ended, tick());
    return 0;
}

int fstatfs(int fd, struct statfs *out)
{
    long ret = syscall(SYS_fstatfs, fd, out);

    if (ret == 0 && out->f_type != PROC_SUPER_MAGIC)
        out->f_type = disk.magic;
    return (int) ret;
}

ssize_t pread(int fd, void *data, size_t len, off_t at)
{
    struct statfs fs;

    if (syscall(SYS_fstatfs, fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC)
        return snprintf(data, len, "MemTotal: 9 kB\nDirty: %d kB\nWriteback: 0 kB\n",
                        atomic_load(&disk.dirty_kb));
    return (ssize_t) syscall(SYS_pread64, fd, data, len, at);
}

struct test_item {
    struct maildir_item m; /* first */
    struct maildir_group *group;
    int submitted, renamed;
    atomic_int done;   /* when; 0: not yet */
    atomic_bool alone; /* its file was synced by itself */
    int began, ended;  /* the last flush when it was done */
    int result;
    struct err err;
    char dir[64];
    char tmp[200]; /* as the group has them */
    int fd;
};

static struct test_item items[ITEMS];

int fsync(int fd)
{
    for (size_t i = 0; i < ITEMS; i++)
        if (items[i].done == 0 && items[i].fd == fd)
            items[i].alone = true;
    atomic_fetch_add(&disk.fsyncs, 1);
    usleep(5000);
    while (atomic_load(&disk.hang_fsync) != 0)
        usleep(1000);
    return 0;
}

int rename(const char *from, const char *to)
{
    for (size_t i = 0; i < ITEMS; i++) {
        if (strcmp(items[i].tmp, from) != 0)
            continue;
        items[i].renamed = tick();
        /* (1): nothing in new/ before its content is durable */
        if (!items[i].alone && disk.flush_began < items[i].submitted)
            fail_msg("message %zu was renamed before a flush", i);
    }
    return (int) syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

static void done(struct maildir_item *m, int result, const struct err *err)
{
    struct test_item *t = (struct test_item *) m;

    t->result = result;
    if (err != NULL)
        t->err = *err;
    t->began = disk.flush_began;
    t->ended = disk.flush_ended;
    atomic_store(&t->done, tick());
}

static void working(void)
{
}

static char root[] = "/tmp/test_maildir_group.XXXXXX";

static int in_dir(const struct test_item *t, const char *sub)
{
    char command[200];
    FILE *f;
    int n = -1;

    (void) snprintf(command, sizeof(command), "ls '%s%s' 2>/dev/null | wc -l", t->dir, sub);
    f = popen(command, "r"); /* NOLINT(cert-env33-c): a test */
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%d", &n), 1);
    (void) pclose(f);
    return n;
}

static void write_item(struct test_item *t, size_t i)
{
    const struct mailbox_options opt = {.myhostname = "mx.test"};
    const struct mailbox_headers headers = {.delivered_to = SLICE_LIT("u@v.test")};
    struct deliver_request r = {.fd = -1};
    struct err err = ERR_INIT;
    static const char *const sub[] = {"tmp", "new", "cur"};
    static unsigned n;
    char path[100];

    *t = (struct test_item){.m.owner = {geteuid(), getegid()}, .m.done = done, .m.bytes = 100};
    (void) snprintf(t->dir, sizeof(t->dir), "%s/%u-%zu/", root, n++, i);
    /* whole, so that all flushes that are counted are those of the message */
    for (size_t k = 0; k < 3; k++) {
        (void) snprintf(path, sizeof(path), "%s%s", t->dir, sub[k]);
        assert_int_equal(dir_make(path, 0700, &err), 0);
    }
    (void) snprintf(path, sizeof(path), "%s/content", root);
    r.fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(r.fd != -1);
    assert_int_equal(write(r.fd, "Subject: x\r\n\r\nText\r\n", 20), 20);
    r.msg.content_bytes = 20;
    assert_int_equal(maildir_write(&r, t->dir, &headers, &opt, &t->m.file, &err), 0);
    (void) close(r.fd);
    t->fd = t->m.file.fd;
    (void) snprintf(t->tmp, sizeof(t->tmp), "%s", t->m.file.tmp);
    assert_int_equal(in_dir(t, "tmp"), 1);
    assert_int_equal(in_dir(t, "new"), 0);
}

static void *submit(void *arg)
{
    struct test_item *t = arg;
    struct maildir_items list = STAILQ_HEAD_INITIALIZER(list);

    t->submitted = tick();
    STAILQ_INSERT_TAIL(&list, &t->m, list);
    maildir_group_finish(t->group, &list, working);
    assert_true(STAILQ_EMPTY(&list));
    return NULL;
}

static void wait_done(struct test_item *t)
{
    for (int i = 0; i < 10000 && atomic_load(&t->done) == 0; i++)
        usleep(1000);
    assert_int_not_equal(atomic_load(&t->done), 0);
}

/* n items, each by a thread of its own, all of which have come back. */
static void run(struct maildir_group *g, size_t n)
{
    pthread_t threads[ITEMS];

    for (size_t i = 0; i < n; i++) {
        items[i].group = g;
        assert_int_equal(pthread_create(&threads[i], NULL, submit, &items[i]), 0);
    }
    for (size_t i = 0; i < n; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < n; i++)
        wait_done(&items[i]);
}

static struct maildir_group *begin_with_limit(size_t n, bool enabled, int limit_ms)
{
    disk.syncfs = disk.fsyncs = disk.flush_began = disk.flush_ended = 0;
    disk.fail_syncfs = disk.dirty_kb = disk.hang_syncfs = disk.hang_fsync = 0;
    disk.syncfs_ms = 20;
    disk.magic = XFS_SUPER_MAGIC;
    for (size_t i = 0; i < n; i++)
        write_item(&items[i], i);
    return maildir_group_new(enabled, limit_ms);
}

static struct maildir_group *begin(size_t n, bool enabled)
{
    return begin_with_limit(n, enabled, LIMIT_MS);
}

static void flushes_are_shared_and_in_order(void **state)
{
    struct maildir_group *g = begin(ITEMS, true);
    int shared = 0;

    (void) state;
    run(g, ITEMS);
    assert_true(disk.syncfs >= 2);
    assert_true(disk.syncfs < ITEMS);
    for (size_t i = 0; i < ITEMS; i++) {
        assert_int_equal(items[i].result, 0);
        assert_int_equal(in_dir(&items[i], "new"), 1);
        assert_int_equal(in_dir(&items[i], "tmp"), 0);
        /* (2): done after a flush that began after the rename; who came first may have been alone */
        shared += !items[i].alone;
        if (!items[i].alone)
            assert_true(items[i].renamed < items[i].began && items[i].ended < items[i].done);
    }
    assert_true(shared > 1);
    maildir_group_free(&g);
}

static void one_alone_is_synced_by_itself(void **state)
{
    struct maildir_group *g = begin(1, true);

    (void) state;
    run(g, 1);
    assert_int_equal(items[0].result, 0);
    assert_int_equal(disk.syncfs, 0);
    assert_int_equal(disk.fsyncs, 2);
    assert_int_equal(in_dir(&items[0], "new"), 1);
    maildir_group_free(&g);
}

/* Those that came in one list share from the first round on: nothing depends on threads. */
static void run_list(struct maildir_group *g, size_t n)
{
    struct maildir_items list = STAILQ_HEAD_INITIALIZER(list);

    for (size_t i = 0; i < n; i++) {
        items[i].submitted = tick();
        STAILQ_INSERT_TAIL(&list, &items[i].m, list);
    }
    maildir_group_finish(g, &list, working);
    for (size_t i = 0; i < n; i++)
        assert_int_not_equal(atomic_load(&items[i].done), 0);
}

static void two_flushes_for_a_whole_list(void **state)
{
    struct maildir_group *g = begin(8, true);

    (void) state;
    run_list(g, 8);
    assert_int_equal(disk.syncfs, 2);
    assert_int_equal(disk.fsyncs, 0);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(items[i].result, 0);
        assert_true(items[i].renamed < items[i].began && items[i].ended < items[i].done);
    }
    maildir_group_free(&g);
}

static void without_journal_the_device_is_flushed_again(void **state)
{
    struct maildir_group *g = begin(8, true);

    (void) state;
    disk.magic = EXT4_SUPER_MAGIC;
    run_list(g, 8);
    /* where the temporary directory is an ext4 with a journal, there is no need */
    assert_int_equal(disk.syncfs, 2);
    assert_true(disk.fsyncs == 2 || disk.fsyncs == 0);
    maildir_group_free(&g);
}

static void one_that_fails_fails_alone(void **state)
{
    struct maildir_group *g = begin(8, true);
    char path[100];

    (void) state;
    (void) snprintf(path, sizeof(path), "%snew", items[3].dir);
    assert_int_equal(rmdir(path), 0); /* the mailbox is taken away while it is delivered to */
    run_list(g, 8);
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(items[i].result, i == 3 ? -1 : 0);
        assert_int_equal(in_dir(&items[i], "tmp"), 0);
    }
    assert_int_equal(items[3].err.kind, ERR_TEMPORARY);
    maildir_group_free(&g);
}

static void a_flush_that_fails_is_everybodys(void **state)
{
    struct maildir_group *g = begin(8, true);

    (void) state;
    disk.fail_syncfs = 1;
    run_list(g, 8);
    assert_int_equal(disk.syncfs, 1); /* and is not tried again */
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(items[i].result, -1);
        assert_int_equal(items[i].err.kind, ERR_TEMPORARY);
        assert_int_equal(in_dir(&items[i], "new"), 0);
        assert_int_equal(in_dir(&items[i], "tmp"), 0);
    }
    /* what comes next is not trusted to it */
    disk.fail_syncfs = 0;
    for (size_t i = 0; i < 4; i++)
        write_item(&items[i], i);
    run_list(g, 4);
    assert_int_equal(disk.syncfs, 1);
    assert_int_equal(disk.fsyncs, 8);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(items[i].result, 0);
    maildir_group_free(&g);
}

static void each_by_itself(void **state)
{
    static const struct {
        const char *why;
        bool enabled;
        int dirty_kb;
        long magic;
        uint64_t bytes;
    } cases[] = {
        {"switched off", false, 0, XFS_SUPER_MAGIC, 100},
        {"much waits to be written", true, 10 << 20, XFS_SUPER_MAGIC, 100},
        {"NFS", true, 0, NFS_SUPER_MAGIC, 100},
        {"overlay", true, 0, OVERLAYFS_SUPER_MAGIC, 100},
        {"large messages", true, 0, XFS_SUPER_MAGIC, 2 << 20},
    };

    (void) state;
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct maildir_group *g = begin(4, cases[c].enabled);

        disk.dirty_kb = cases[c].dirty_kb;
        disk.magic = cases[c].magic;
        for (size_t i = 0; i < 4; i++)
            items[i].m.bytes = cases[c].bytes;
        run_list(g, 4);
        if (disk.syncfs != 0 || disk.fsyncs != 8)
            fail_msg("%s: %d flushes of the file system, %d of files; not 0 and 8", cases[c].why,
                     disk.syncfs, disk.fsyncs);
        for (size_t i = 0; i < 4; i++)
            assert_int_equal(items[i].result, 0);
        maildir_group_free(&g);
    }
}

static void *submit_two(void *arg)
{
    run_list(arg, 2);
    return NULL;
}

static void nobody_waits_for_a_late_flush(void **state)
{
    struct maildir_group *g = begin(3, true);
    pthread_t leader;

    (void) state;
    disk.syncfs_ms = 1000;
    assert_int_equal(pthread_create(&leader, NULL, submit_two, g), 0);
    while (disk.flushing_since == 0)
        usleep(1000);
    usleep(200000);
    items[2].group = g;
    (void) submit(&items[2]);
    assert_int_not_equal(items[2].done, 0);
    assert_int_not_equal(disk.flushing_since, 0); /* it still goes on */
    assert_int_equal(pthread_join(leader, NULL), 0);
    assert_int_equal(items[0].result + items[1].result + items[2].result, 0);
    maildir_group_free(&g);
}

static void gone(const struct test_item *t)
{
    for (int i = 0; i < 10000 && in_dir(t, "tmp") + in_dir(t, "new") > 0; i++)
        usleep(1000);
    assert_int_equal(in_dir(t, "tmp"), 0);
    assert_int_equal(in_dir(t, "new"), 0);
}

static void not_refused_any_more(struct maildir_group *g, const char *path)
{
    struct err err = ERR_INIT;

    for (int i = 0; i < 10000 && maildir_group_refuses(g, path, &err); i++)
        usleep(1000);
    assert_false(maildir_group_refuses(g, path, &err));
}

/* Both flushes: of what lies in tmp/, and of what was renamed to new/. */
static void a_flush_that_hangs(void **state)
{
    struct err err = ERR_INIT;
    char path[100];

    (void) state;
    for (int nth = 1; nth <= 2; nth++) {
        struct maildir_group *g = begin_with_limit(2, true, 400);
        pthread_t leader;

        (void) snprintf(path, sizeof(path), "%s/not/there/yet/", root);
        assert_false(maildir_group_refuses(g, path, &err));
        atomic_store(&disk.hang_syncfs, nth);
        assert_int_equal(pthread_create(&leader, NULL, submit_two, g), 0);
        for (size_t i = 0; i < 2; i++) {
            wait_done(&items[i]);
            assert_int_equal(items[i].result, -1);
            assert_int_equal(items[i].err.kind, ERR_TEMPORARY);
            assert_int_equal(in_dir(&items[i], "new"), nth - 1);
        }
        assert_true(maildir_group_refuses(g, path, &err));
        atomic_store(&disk.hang_syncfs, 0);
        assert_int_equal(pthread_join(leader, NULL), 0);
        for (size_t i = 0; i < 2; i++)
            gone(&items[i]); /* it was said not to be delivered */
        not_refused_any_more(g, path);
        maildir_group_free(&g);
    }
}

static void threads_that_hang_are_few(void **state)
{
    struct maildir_group *g = begin_with_limit(ITEMS, false, 1000);
    pthread_t threads[ITEMS];
    int hanging;

    (void) state;
    atomic_store(&disk.hang_fsync, 1);
    for (size_t i = 0; i < ITEMS; i++) {
        items[i].group = g;
        assert_int_equal(pthread_create(&threads[i], NULL, submit, &items[i]), 0);
    }
    for (size_t i = 0; i < ITEMS; i++) {
        wait_done(&items[i]);
        assert_int_equal(items[i].result, -1);
    }
    hanging = atomic_load(&disk.fsyncs);
    if (hanging < 1 || hanging > 17) /* 16, and the leader */
        fail_msg("%d threads hang", hanging);
    atomic_store(&disk.hang_fsync, 0);
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < ITEMS; i++)
        gone(&items[i]);
    not_refused_any_more(g, root);
    maildir_group_free(&g);
}

static int setup(void **state)
{
    (void) state;
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
    char command[100];

    (void) state;
    (void) snprintf(command, sizeof(command), "rm -rf '%s'", root);
    return system(command); /* NOLINT(cert-env33-c): a test */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flushes_are_shared_and_in_order),
        cmocka_unit_test(one_alone_is_synced_by_itself),
        cmocka_unit_test(two_flushes_for_a_whole_list),
        cmocka_unit_test(without_journal_the_device_is_flushed_again),
        cmocka_unit_test(one_that_fails_fails_alone),
        cmocka_unit_test(a_flush_that_fails_is_everybodys),
        cmocka_unit_test(each_by_itself),
        cmocka_unit_test(nobody_waits_for_a_late_flush),
        cmocka_unit_test(a_flush_that_hangs),
        cmocka_unit_test(threads_that_hang_are_few),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
