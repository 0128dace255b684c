/* SPDX-License-Identifier: Apache-2.0 */
/* share.c - see share.h. */
#include "base/share.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define BYTES ((size_t) SHARE_SLOTS * SHARE_SLOT_BYTES)

struct share {
    int fd;
    char *memory;
};

struct share *share_new(struct err *err)
{
    struct share *s = xcalloc(1, sizeof(*s));

    s->memory = MAP_FAILED;
    s->fd = memfd_create("postrider", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (s->fd == -1) {
        err_sys(err, "memfd_create");
        goto failed;
    }
    /* all of it now: where memory is short, that is said here and not by a signal */
    if (fallocate(s->fd, 0, 0, (off_t) BYTES) == -1 ||
        fcntl(s->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == -1) {
        err_sys(err, "shared memory");
        goto failed;
    }
    s->memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, s->fd, 0);
    if (s->memory == MAP_FAILED) {
        err_sys(err, "mmap");
        goto failed;
    }
    return s;
failed:
    share_free(&s);
    return NULL;
}

struct share *share_adopt(int fd, struct err *err)
{
    struct share *s = xcalloc(1, sizeof(*s));
    int seals = fcntl(fd, F_GET_SEALS);
    struct stat st;

    s->fd = -1;
    s->memory = MAP_FAILED;
    /* EINVAL: no such memory at all */
    if (seals == -1 || (seals & F_SEAL_SHRINK) == 0 || fstat(fd, &st) == -1 ||
        st.st_size != (off_t) BYTES) {
        err_input(err, "a descriptor of something else came in place of shared memory");
        goto failed;
    }
    s->memory = mmap(NULL, BYTES, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (s->memory == MAP_FAILED) {
        err_sys(err, "mmap");
        goto failed;
    }
    return s;
failed:
    share_free(&s);
    return NULL;
}

void share_free(struct share **share)
{
    struct share *s = *share;

    if (s == NULL)
        return;
    if (s->memory != MAP_FAILED)
        (void) munmap(s->memory, BYTES);
    fd_close(&s->fd);
    free(s);
    *share = NULL;
}

int share_fd(const struct share *s)
{
    return s->fd;
}

char *share_slot(const struct share *s, uint64_t slot)
{
    return s->memory + slot % SHARE_SLOTS * SHARE_SLOT_BYTES;
}
