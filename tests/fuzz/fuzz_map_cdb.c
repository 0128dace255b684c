/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_map_cdb.c - any bytes as a cdb file: it is refused or asked and listed without harm. The libraries of Berkeley DB and LMDB trust
 * what they read within pages: fuzz_map_db.c and fuzz_map_lmdb.c try the damages that are looked for.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "maps/map_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#if PR_HAVE_CDB
#include "maps/map_cdb.h"

static bool count(struct slice key, struct slice value, void *arg)
{
    *(size_t *) arg += key.len + value.len;
    return true;
}

/* The file is open under a name that ends in ".cdb". */
static void ask(const char *path)
{
    static const char *const keys[] = {"a", "b", "key", "longer key", ""};
    struct err err = ERR_INIT;
    size_t sum = 0;
    void *impl;

    if (cdb_map_open(path, NULL, &impl, &err) == -1) {
        if (err.kind == ERR_NONE)
            abort();
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct buf value = BUF_INIT(SIZE_MAX);

        if (cdb_map_lookup(impl, slice_str(keys[i]), &value, &err) == MAP_NOTFOUND && value.len > 0)
            abort();
        buf_fini(&value);
    }
    if (cdb_map_each(impl, count, &sum, &err) == -1 && err.kind != ERR_PERMANENT)
        abort();
    cdb_map_close(impl);
}
#endif

#if PR_HAVE_CDB
static char dir[] = "/tmp/fuzz-cdb-XXXXXX";

static void clean_up(void)
{
    (void) rmdir(dir);
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
#if PR_HAVE_CDB
    static char file[sizeof(dir) + 8];
    static char path[sizeof(dir) + 8];
    int fd = memfd_create("cdb", MFD_CLOEXEC);
    char target[64];

    if (path[0] == '\0') {
        if (mkdtemp(dir) == NULL || atexit(clean_up) != 0)
            abort();
        (void) snprintf(path, sizeof(path), "%s/t", dir);
        (void) snprintf(file, sizeof(file), "%s/t.cdb", dir);
    }
    (void) snprintf(target, sizeof(target), "/proc/self/fd/%d", fd);
    if (fd == -1 || fd_write_all(fd, data, size) == -1 || symlink(target, file) == -1)
        abort();
    ask(path);
    (void) unlink(file);
    close(fd);
#else
    (void) data;
    (void) size;
#endif
    return 0;
}
