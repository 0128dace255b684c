/* SPDX-License-Identifier: Apache-2.0 */
/* map_file.c - files of tables: their sizes in main.cf, what they looked like when they were opened, locks on them. */
#include "maps/map_int.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "base/file.h"
#include "postconf/param.h"

#define SETTLE_MS 100

static const struct param rows[] = {
    PARAM_INT("berkeley_db_create_buffer_size", struct map_file_sizes, db_create, .def = "16777216",
              .min = 1, .max = INT32_MAX, .services = "postmap,postalias",
              .doc =
                  "The least memory for building a hash or btree table; a large source gets more."),
    PARAM_INT("berkeley_db_read_buffer_size", struct map_file_sizes, db_read, .def = "131072",
              .min = 1, .max = INT32_MAX,
              .doc = "The memory for the pages of a hash or btree table that is being asked."),
    PARAM_INT("lmdb_map_size", struct map_file_sizes, lmdb_map, .def = "16777216", .min = 65536,
              .doc = "The least size limit of an LMDB table, in bytes; it grows with the table."),
};
extern const struct param_set map_file_params;

const struct param_set map_file_params = PARAM_SET("table files", struct map_file_sizes, rows);

struct map_file_sizes map_file_sizes(const struct config *cfg)
{
    struct map_file_sizes s;

    /* a wrong value is reported by config_check() */
    if (cfg == NULL || config_bind(cfg, &map_file_params, &s, NULL) == -1)
        s = (struct map_file_sizes){.db_create = 16777216, .db_read = 131072, .lmdb_map = 16777216};
    return s;
}

int file_stamp_fd(int fd, struct file_stamp *out, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) == -1)
        return err_sys(err, "fstat");
    *out = (struct file_stamp){st.st_dev, st.st_ino, st.st_size, st.st_mtim};
    return 0;
}

/* Lately: an editor empties a file and then writes it, and what is half there would answer "not found". */
static bool is_being_written(const struct stat *st)
{
    struct timespec now;
    int64_t age_ms;

    if (clock_gettime(CLOCK_REALTIME, &now) == -1)
        return false;
    age_ms = ((int64_t) now.tv_sec - st->st_mtim.tv_sec) * 1000 +
             (now.tv_nsec - st->st_mtim.tv_nsec) / 1000000;
    return age_ms >= 0 && age_ms < SETTLE_MS; /* not if it is of the future */
}

bool file_stamp_differs(const struct file_stamp *s, const char *path)
{
    struct stat st;

    if (stat(path, &st) == -1)
        return false;
    if (st.st_dev != s->dev || st.st_ino != s->ino)
        return true;
    return (st.st_size != s->size || st.st_mtim.tv_sec != s->mtime.tv_sec ||
            st.st_mtim.tv_nsec != s->mtime.tv_nsec) &&
           !is_being_written(&st);
}

int file_read_stamped(const char *path, struct buf *out, struct file_stamp *stamp, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int ret;

    if (fd == -1)
        return err_sys(err, "open %s", path);
    ret = file_stamp_fd(fd, stamp, err);
    if (ret == 0)
        ret = fd_read_all(fd, path, out, err);
    fd_close(&fd);
    return ret;
}

int file_lock(int fd, bool exclusive, int64_t wait_ms)
{
    struct mono_time end = mono_after_ms(mono_now(), wait_ms);
    long pause_ns = 50000;

    for (;;) {
        struct flock l = {.l_type = exclusive ? F_WRLCK : F_RDLCK, .l_whence = SEEK_SET};

        if (fcntl(fd, F_OFD_SETLK, &l) == 0)
            return 0;
        if (errno != EAGAIN && errno != EACCES && errno != EINTR)
            return -1;
        if (mono_diff_ms(end, mono_now()) <= 0) {
            errno = EAGAIN;
            return -1;
        }
        (void) nanosleep(&(struct timespec){.tv_nsec = pause_ns}, NULL);
        if (pause_ns < 20000000)
            pause_ns *= 2;
    }
}

int file_unlock(int fd)
{
    struct flock l = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

    return fcntl(fd, F_OFD_SETLK, &l);
}
