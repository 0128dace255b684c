/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_plugin.c - see map_plugin.h.
 *
 * A module runs with the rights of who loads it: it must belong to root or to the user himself, and nobody else may write it. It is
 * never unloaded: the libraries behind it keep threads' storage, and tables hold its functions.
 */
#include "maps/map_plugin.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const names[] = {"ldap", "mysql", "pgsql", "sqlite"};

bool map_plugin_is_name(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (slice_eq_str(name, names[i]))
            return true;
    return false;
}

/* The path of the module; NULL: there is none. The caller frees. */
static char *find(const struct config *cfg, const char *name)
{
    const char *set =
        cfg == NULL || getauxval(AT_SECURE) != 0 ? NULL : config_get(cfg, "shlib_directory");
    char *installed = config_default_directory("daemon_directory");
    const char *const dirs[] = {set, installed};
    char *found = NULL;

    for (size_t i = 0; i < ARRAY_LEN(dirs) && found == NULL; i++) {
        struct buf path = BUF_INIT(SIZE_MAX);

        if (dirs[i] != NULL && dirs[i][0] == '/') {
            buf_printf(&path, "%s/postrider-%s.so", dirs[i], name);
            if (access(buf_cstr(&path), F_OK) == 0)
                found = buf_take(&path);
        }
        buf_fini(&path);
    }
    free(installed);
    return found;
}

static int may_be_loaded(const char *path, struct err *err)
{
    struct stat st;

    if (stat(path, &st) == -1)
        return err_sys(err, "%s", path);
    if (!S_ISREG(st.st_mode))
        return err_temporary(err, "%s is not a file", path);
    if (st.st_uid != 0 && st.st_uid != getuid())
        return err_temporary(err, "%s belongs neither to root nor to this user", path);
    if ((st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return err_temporary(err, "%s can be written by others", path);
    return 0;
}

static const struct map_type *load(const char *path, const char *name, struct err *err)
{
    const struct map_plugin *plugin;
    void *module;

    if (may_be_loaded(path, err) == -1)
        return NULL;
    module = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    plugin = module != NULL ? dlsym(module, "postrider_map_plugin") : NULL;
    if (plugin == NULL) {
        /* glibc keeps the text for each thread */
        const char *why = dlerror(); /* NOLINT(concurrency-mt-unsafe) */

        (void) err_temporary(err, "%s", why != NULL ? why : path);
    } else if (plugin->version != MAP_PLUGIN_VERSION ||
               plugin->type_size != sizeof(struct map_type)) {
        (void) err_temporary(err, "%s is of another version", path);
    } else if (strcmp(plugin->type->name, name) != 0) {
        (void) err_temporary(err, "%s holds the type %s", path, plugin->type->name);
    } else {
        return plugin->type; /* module stays: RTLD_NODELETE needs no handle */
    }
    return NULL;
}

const struct map_type *map_plugin_load(const struct config *cfg, struct slice name, struct err *err)
{
    const struct map_type *type = NULL;
    char *known = slice_dup(name);
    char *path = map_plugin_is_name(name) ? find(cfg, known) : NULL;

    if (path != NULL) {
        type = load(path, known, err);
        if (type == NULL)
            err_prefix(err, "unsupported dictionary type: %s: ", known);
    } else if (map_plugin_is_name(name)) {
        (void) err_input(
            err, "unsupported dictionary type: %s: plug-in postrider-%s.so is not installed", known,
            known);
    } else {
        (void) err_input(err, "unsupported dictionary type: %s", known);
    }
    free(path);
    free(known);
    return type;
}

void map_plugin_each(const struct config *cfg, void (*fn)(const char *name, void *arg), void *arg)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *path = find(cfg, names[i]);

        if (path != NULL)
            fn(names[i], arg);
        free(path);
    }
}
