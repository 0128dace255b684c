/* SPDX-License-Identifier: Apache-2.0 */
/* map_build_owner.c - building tables by type and name; root works on another user's files as that user. */
#include "maps/map_build_int.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <unistd.h>

#include "maps/map_plugin.h"

int privileges_lower(struct privileges *before, const struct stat *st, bool wanted, struct err *err)
{
    gid_t gid;

    *before = (struct privileges){.uid = geteuid(), .gid = getegid()};
    if (!wanted || before->uid != 0 || st->st_uid == 0)
        return 0;
    gid = st->st_gid;
    before->ngroups = getgroups(0, NULL);
    if (before->ngroups < 0)
        return err_sys(err, "getgroups");
    before->groups = xcalloc((size_t) before->ngroups + 1, sizeof(*before->groups));
    before->ngroups = getgroups(before->ngroups, before->groups);
    before->lowered = true;
    if (before->ngroups < 0 || setgroups(1, &gid) == -1 || setegid(gid) == -1 ||
        seteuid(st->st_uid) == -1) {
        err_sys(err, "become user %u", (unsigned) st->st_uid);
        if (before->ngroups >= 0 && privileges_restore(before, NULL) == -1)
            return -1;
        return -1;
    }
    return 0;
}

int privileges_restore(struct privileges *before, struct err *err)
{
    int ret = 0;

    if (before->lowered && (seteuid(before->uid) == -1 || setegid(before->gid) == -1 ||
                            setgroups((size_t) before->ngroups, before->groups) == -1))
        ret = err_sys(err, "become user %u again", (unsigned) before->uid);
    before->lowered = false;
    free(before->groups);
    before->groups = NULL;
    return ret;
}

struct finding {
    struct slice name;
    const struct map_type *type;
};

static void match(const struct map_type *t, void *arg)
{
    struct finding *f = arg;

    if (slice_eq_str(f->name, t->name))
        f->type = t;
}

const struct map_type *map_type_find(struct slice name)
{
    struct finding f = {name, NULL};

    map_type_each(match, &f);
    return f.type;
}

int map_spec_split(const struct config *cfg, const char *spec, const struct map_type **type,
                   const char **path, struct err *err)
{
    struct slice s = slice_str(spec);
    ptrdiff_t colon = slice_find(s, ':');
    const char *fallback = config_get(cfg, "default_database_type");
    struct slice name = slice_str(fallback != NULL ? fallback : "");

    *path = spec;
    if (colon >= 0 && s.ptr[0] != '/' && s.ptr[0] != '.') {
        name = slice_sub(s, 0, (size_t) colon);
        *path = spec + colon + 1;
        if (name.len == 0 || **path == '\0')
            return err_input(err, "open dictionary: expecting \"type:name\" form instead of \"%s\"",
                             spec);
    }
    *type = map_type_find(name);
    if (*type == NULL)
        *type = map_plugin_load(cfg, name, err);
    return *type != NULL ? 0 : -1;
}

int postalias_build(const struct config *cfg, const char *spec, struct err *err)
{
    const char *utf8 = config_get(cfg, "smtputf8_enable");
    bool is_utf8 = utf8 != NULL && slice_eq_str(slice_str(utf8), "yes");
    struct map_build_options opt = {.cfg = cfg,
                                    .format = MAP_BUILD_ALIASES,
                                    .folding = is_utf8 ? MAP_FOLD_UTF8 : MAP_FOLD_ASCII,
                                    .utf8_only = is_utf8,
                                    .progress = isatty(STDERR_FILENO) == 1};
    const struct map_type *type;
    const char *path;

    if (map_spec_split(cfg, spec, &type, &path, err) == -1)
        return -1;
    return map_build(type, path, &opt, err);
}
