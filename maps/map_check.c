/* SPDX-License-Identifier: Apache-2.0 */
/* map_check.c - the tables that a configuration names. See map_check.h. */
#include "maps/map_check.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "maps/map_build.h"

/* How the administrator rebuilds a table that this parameter names. */
static const char *build_command(const char *parameter)
{
    return strcmp(parameter, "alias_maps") == 0 || strcmp(parameter, "alias_database") == 0
               ? "postalias"
               : "postmap";
}

static bool is_newer(const struct stat *a, const struct stat *b)
{
    return a->st_mtim.tv_sec > b->st_mtim.tv_sec ||
           (a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec > b->st_mtim.tv_nsec);
}

/* Can the account that most daemons run as open it? Only root can find out. */
static bool owner_can_read(const struct config *cfg, const char *path)
{
    const char *owner = config_get(cfg, "mail_owner");
    struct passwd entry;
    struct passwd *found = NULL;
    char space[16384];
    int status = 0;
    pid_t pid;

    if (geteuid() != 0 || owner == NULL ||
        getpwnam_r(owner, &entry, space, sizeof(space), &found) != 0 || found == NULL)
        return true;
    pid = fork();
    if (pid == 0) {
        int fd;

        if (initgroups(owner, found->pw_gid) == -1 ||
            setresgid(found->pw_gid, found->pw_gid, found->pw_gid) == -1 ||
            setresuid(found->pw_uid, found->pw_uid, found->pw_uid) == -1)
            _exit(0);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        _exit(fd == -1 && errno == EACCES ? 1 : 0);
    }
    return pid == -1 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
           WEXITSTATUS(status) == 0;
}

/* What is odd about the files of a table that opens. */
static void check_files(struct map_env *env, struct findings *f, const char *parameter,
                        const struct map_type *type, struct slice spec, const char *path,
                        bool is_proxied)
{
    struct buf index = BUF_INIT(8192);
    struct stat of_source;
    struct stat of_index;

    if (path[0] != '/')
        return;
    buf_puts(&index, path);
    if (type->builder != NULL)
        buf_puts(&index, type->builder->suffix);
    if (type->builder != NULL && stat(path, &of_source) == 0 &&
        stat(buf_cstr(&index), &of_index) == 0 && is_newer(&of_source, &of_index))
        findings_warn(f, parameter, "%s is newer than %s: run \"%s %.*s\"", path, buf_cstr(&index),
                      build_command(parameter), SLICE_FMT(spec));
    /* other daemons open their tables as root, before they become that account */
    if (is_proxied && access(buf_cstr(&index), F_OK) == 0 &&
        !owner_can_read(map_env_config(env), buf_cstr(&index)))
        findings_warn(
            f, parameter,
            "%s cannot be read by %s (mail_owner), which proxymap(8) runs as: lookups are "
            "\"try again\"",
            buf_cstr(&index), config_get(map_env_config(env), "mail_owner"));
    buf_fini(&index);
}

/* A table that cannot be used: is it only that nobody has built it? */
static void report_broken(struct findings *f, const char *parameter, const struct map_type *type,
                          struct slice spec, const char *path, const struct err *err)
{
    struct buf index = BUF_INIT(8192);

    buf_puts(&index, path);
    if (type->builder != NULL)
        buf_puts(&index, type->builder->suffix);
    if (type->builder != NULL && access(path, F_OK) == 0 && access(buf_cstr(&index), F_OK) == -1)
        findings_error(f, parameter, "%s: run \"%s %.*s\"", err->text, build_command(parameter),
                       SLICE_FMT(spec));
    else
        findings_error(f, parameter, "%s", err->text);
    buf_fini(&index);
}

/* Is it the name of a table type that Postfix has? Anything else with a colon may be an address, a transport, a time. */
static bool is_missing_type(struct slice name)
{
    static const char *const types[] = {
        "btree",   "cdb",     "cidr",     "dbm",   "environ",   "hash",    "inline", "internal",
        "ldap",    "lmdb",    "memcache", "mysql", "nis",       "nisplus", "pcre",   "pgsql",
        "pipemap", "randmap", "regexp",   "sdbm",  "socketmap", "sqlite",  "tcp",    "unionmap",
    };

    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (slice_eq_str(name, types[i]))
            return true;
    return false;
}

/* unix:private/policy is where a service listens; the table unix has two names, without a directory. */
static bool is_socket(struct slice spec)
{
    return slice_starts_with(spec, SLICE_LIT("unix:")) && slice_find(spec, '/') != -1;
}

void map_check_value(struct map_env *env, struct findings *f, const char *parameter,
                     const char *value)
{
    struct slice rest = slice_str(value);
    struct slice spec;

    while (slice_token_braces(&rest, ", \t\r\n", &spec)) {
        const struct map_type *type;
        struct err err = ERR_INIT;
        struct slice whole;
        ptrdiff_t colon;
        char *path;

        while (spec.len > 0 && spec.ptr[0] == '!')
            spec = slice_sub(spec, 1, spec.len);
        whole = spec;
        while (slice_starts_with(spec, SLICE_LIT("proxy:")))
            spec = slice_sub(spec, 6, spec.len);
        colon = slice_find(spec, ':');
        if (colon < 1)
            continue;
        type = map_type_find(slice_sub(spec, 0, (size_t) colon));
        if (type == NULL && is_missing_type(slice_sub(spec, 0, (size_t) colon)) &&
            map_check(env, whole, &err) == -1)
            findings_error(f, parameter, "%s", err.text);
        if (type == NULL || is_socket(spec))
            continue;
        path = slice_dup(slice_sub(spec, (size_t) colon + 1, spec.len));
        if (map_check(env, whole, &err) == 0)
            check_files(env, f, parameter, type, spec, path, whole.len > spec.len);
        else
            report_broken(f, parameter, type, spec, path, &err);
        free(path);
    }
}

struct walk {
    struct map_env *env;
    struct findings *f;
};

static void check_parameter(const struct param *p, void *arg)
{
    struct walk *w = arg;
    const struct config *cfg = findings_config(w->f);

    /* what others may ask for is looked at where it is asked for */
    if (strcmp(p->name, "proxy_read_maps") == 0 || strcmp(p->name, "proxy_write_maps") == 0)
        return;
    if (p->name[0] == '*' || p->status != PARAM_EFFECTIVE || p->type != PARAM_TYPE_STRING ||
        !config_is_set(cfg, p->name) || findings_knows(w->f, p->name))
        return;
    map_check_value(w->env, w->f, p->name, config_get(cfg, p->name));
}

void map_check_parameters(struct map_env *env, struct findings *f)
{
    struct walk w = {env, f};

    param_each(check_parameter, &w);
}
