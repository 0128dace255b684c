/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_used.c - has the process that had a cache open before died with it?
 *
 * The libraries behind caches trust what they read: a damaged page may end the process, and the next one, and so on. So beside a cache
 * stands FILE.used with one digit, how many processes in a row have not closed it, the present one included. Who has the cache open holds a
 * shared lock on it; who gets an exclusive one is alone. Written at each opening; 0 when the last one closes. It is not synced: after a
 * power failure either is right.
 */
#include "maps/map_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

#define COUNT_MOST 9
/* The time for reading all of a cache; one that takes longer is damaged: the libraries may go in circles. */
#define CHECK_S      30
#define CHECK_CPU_US 500000 /* processor time, and as much more for each */
#define CHECK_BYTES  (8U << 20)
#define KEYS_MOST    1000000

int map_used_begin(const char *file, int *fd, int *deaths, struct err *err)
{
    struct buf path = BUF_INIT(4096);
    char digit = '0';
    int count = 0;
    int ret = -1;

    buf_printf(&path, "%s.used", file);
    *fd = open(buf_cstr(&path), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd == -1) {
        err_sys(err, "open %s", buf_cstr(&path));
        goto done;
    }
    if (file_lock(*fd, true, 0) == 0) {
        if (pread(*fd, &digit, 1, 0) == 1 && ascii_is_digit((unsigned char) digit))
            count = digit - '0';
        digit = (char) ('0' + (count < COUNT_MOST ? count + 1 : COUNT_MOST));
        if (fd_pwrite_all(*fd, &digit, 1, 0) == -1) {
            err_sys(err, "write %s", buf_cstr(&path));
            goto done;
        }
    } else if (errno != EAGAIN) {
        err_sys(err, "lock %s", buf_cstr(&path));
        goto done;
    }
    /* of another one that has it open: that did not die */
    if (file_lock(*fd, false, 0) == -1) {
        err_sys(err, "lock %s", buf_cstr(&path));
        goto done;
    }
    *deaths = count;
    ret = 0;
done:
    if (ret == -1)
        fd_close(fd);
    buf_fini(&path);
    return ret;
}

void map_used_end(int *fd)
{
    /* a count that stays has the next one look at the file: no harm */
    if (*fd != -1 && file_lock(*fd, true, 0) == 0 && fd_pwrite_all(*fd, "0", 1, 0) == -1)
        log_warning("a cache's FILE.used cannot be written: errno %d", errno);
    fd_close(fd);
}

static bool take_key(struct slice key, struct slice value, void *arg)
{
    struct vec *keys = arg;
    struct buf *b = xcalloc(1, sizeof(*b));

    (void) value;
    buf_init(b, SIZE_MAX);
    buf_put_slice(b, key);
    vec_push(keys, b);
    return keys->len < KEYS_MOST;
}

/* Reads all rows, and looks up each of their keys. In a process of its own, which nothing is given back to. */
static bool read_all(const struct map_type *type, const char *path, struct map_env *env)
{
    struct vec keys = VEC_INIT;
    struct err err = ERR_INIT;
    void *state;

    if (type->open(path, env, &state, &err) == -1 || type->each(state, take_key, &keys, &err) == -1)
        return false;
    for (size_t i = 0; i < keys.len; i++) {
        struct buf value = BUF_INIT(MAP_VALUE_MAX);

        if (type->lookup(state, buf_view(keys.items[i]), &value, &err) != MAP_FOUND)
            return false;
        buf_fini(&value);
    }
    return true;
}

/* Processor time, after which SIGPROF ends the process. */
static void limit_processor(const char *file)
{
    struct stat st;
    uint64_t us = stat(file, &st) == 0
                      ? CHECK_CPU_US + (uint64_t) st.st_size * CHECK_CPU_US / CHECK_BYTES
                      : (uint64_t) CHECK_S * 1000000;
    struct itimerval t = {
        .it_value = {.tv_sec = (time_t) (us / 1000000), .tv_usec = (suseconds_t) (us % 1000000)}};

    (void) setitimer(ITIMER_PROF, &t, NULL);
}

bool map_used_is_sound(const struct map_type *type, const char *path, const char *file,
                       struct map_env *env)
{
    pid_t child = fork();
    int status = 0;

    if (child == -1)
        return true; /* it is not known to be damaged */
    if (child == 0) {
        static const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM, SIGPROF};

        for (size_t i = 0; i < ARRAY_LEN(deadly); i++)
            (void) signal(deadly[i], SIG_DFL);
        (void) setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        limit_processor(file);
        (void) alarm(CHECK_S);
        _exit(read_all(type, path, env) ? 0 : 1);
    }
    while (waitpid(child, &status, 0) == -1)
        if (errno != EINTR)
            return true;
    return status == 0;
}
