/* SPDX-License-Identifier: Apache-2.0 */
/* map_simple.c - the types without a table: static, fail, environ, unix. */
#include "maps/map_int.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

static int static_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    struct slice s = slice_str(path);

    (void) env;
    if (s.len > 0 && s.ptr[0] == '{') {
        if (s.len < 2 || s.ptr[s.len - 1] != '}')
            return err_input(err, "bad static:name syntax: missing '}' in \"%s\"", path);
        s = slice_trim(slice_sub(s, 1, s.len - 1), NULL);
    }
    *impl = slice_dup(s);
    return 0;
}

static enum map_result static_lookup(void *impl, struct slice key, struct buf *value,
                                     struct err *err)
{
    (void) key;
    (void) err;
    buf_puts(value, impl);
    return MAP_FOUND;
}

static enum map_result fail_lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    (void) key;
    (void) value;
    err_temporary(err, "fail:%s always fails", (const char *) impl);
    return MAP_RETRY;
}

static int name_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    (void) env;
    (void) err;
    *impl = xstrdup(path);
    return 0;
}

static enum map_result environ_lookup(void *impl, struct slice key, struct buf *value,
                                      struct err *err)
{
    char *name = slice_dup(key);
    const char *found = getenv(name);

    (void) impl;
    (void) err;
    if (found != NULL)
        buf_puts(value, found);
    free(name);
    return found != NULL ? MAP_FOUND : MAP_NOTFOUND;
}

static int unix_open(const char *path, struct map_env *env, void **impl, struct err *err)
{
    (void) env;
    if (strcmp(path, "passwd.byname") != 0 && strcmp(path, "group.byname") != 0)
        return err_input(err, "unknown table: unix:%s: only passwd.byname and group.byname exist",
                         path);
    *impl = xstrdup(path);
    return 0;
}

static enum map_result trouble(const char *what, int code, struct err *err)
{
    char why[128];

    err_temporary(err, "unix:%s: %s", what, err_errno_text(code, why, sizeof(why)));
    return MAP_RETRY;
}

static enum map_result unix_lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    char space[16384];
    char *name = slice_dup(key);
    enum map_result result = MAP_NOTFOUND;
    int code;

    if (strcmp(impl, "passwd.byname") == 0) {
        struct passwd pw;
        struct passwd *found = NULL;

        code = getpwnam_r(name, &pw, space, sizeof(space), &found);
        if (found != NULL) {
            buf_printf(value, "%s:%s:%lu:%lu:%s:%s:%s", pw.pw_name, pw.pw_passwd,
                       (unsigned long) pw.pw_uid, (unsigned long) pw.pw_gid, pw.pw_gecos, pw.pw_dir,
                       pw.pw_shell);
            result = MAP_FOUND;
        }
    } else {
        struct group gr;
        struct group *found = NULL;

        code = getgrnam_r(name, &gr, space, sizeof(space), &found);
        if (found != NULL) {
            buf_printf(value, "%s:%s:%lu:", gr.gr_name, gr.gr_passwd, (unsigned long) gr.gr_gid);
            for (char **m = gr.gr_mem; *m != NULL; m++)
                buf_printf(value, "%s%s", m == gr.gr_mem ? "" : ",", *m);
            result = MAP_FOUND;
        }
    }
    free(name);
    /* these codes are "no such name" in some name services */
    if (result == MAP_NOTFOUND && code != 0 && code != ENOENT && code != ESRCH && code != EBADF &&
        code != EPERM)
        return trouble(impl, code, err);
    return result;
}

const struct map_type map_type_static = {.name = "static",
                                         .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                         .open = static_open,
                                         .close = free,
                                         .lookup = static_lookup,
                                         .any_key = true};
const struct map_type map_type_fail = {.name = "fail",
                                       .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                       .open = name_open,
                                       .close = free,
                                       .lookup = fail_lookup};
const struct map_type map_type_environ = {.name = "environ",
                                          .flags = MAP_FLAG_FIXED | MAP_FLAG_LOCAL,
                                          .open = name_open,
                                          .close = free,
                                          .lookup = environ_lookup};
const struct map_type map_type_unix = {.name = "unix",
                                       .flags = MAP_FLAG_FIXED,
                                       .open = unix_open,
                                       .close = free,
                                       .lookup = unix_lookup};
