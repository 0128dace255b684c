/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_authorized.c - which configuration directories a set-gid command takes from an ordinary user: those that the default
 * main.cf names. Else anybody could write a main.cf, and have the command do what it says with the rights of its group.
 */
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "postconf/config_int.h"

struct search {
    const char *dir;
    bool found;
};

static void compare(struct slice element, void *arg)
{
    struct search *s = arg;

    s->found |= slice_eq_str(element, s->dir);
}

int config_dir_authorize(const char *dir, struct err *err)
{
    static const char *const lists[] = {"alternate_config_directories",
                                        "multi_instance_directories"};
    struct search s = {dir, false};
    struct config *cfg;

    /* the kernel says whether this process has rights that its user has not */
    if (getauxval(AT_SECURE) == 0 || getuid() == 0 || strcmp(dir, CONFIG_DEFAULT_DIR) == 0)
        return 0;
    if (config_load(CONFIG_DEFAULT_DIR, NULL, 0, NULL, &cfg, err) == -1)
        return -1;
    /* as written: what is in these lists is not expanded */
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        const char *value = config_raw(cfg, lists[i]);

        if (value != NULL)
            config_list_each(value, compare, &s);
    }
    config_unref(&cfg);
    if (s.found)
        return 0;
    return err_permanent(
        err,
        "configuration directory %s: it is not one of alternate_config_directories or "
        "multi_instance_directories in %s/main.cf",
        dir, CONFIG_DEFAULT_DIR);
}
