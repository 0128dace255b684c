/* SPDX-License-Identifier: Apache-2.0 */
/* instances.c - see instances.h. */
#include "master/instances.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

#define P struct instance_params
static const struct param rows[] = {
    PARAM_STRING(
        "multi_instance_directories", P, directories, .def = "",
        .services = "sendmail,postfix,postmulti",
        .doc = "Configuration directories of the other instances; of the default main.cf only."),
    PARAM_STRING("multi_instance_group", P, group, .def = "", .services = "postfix,postmulti",
                 .doc = "The group of instances that this one belongs to."),
    PARAM_STRING("multi_instance_name", P, name, .def = "",
                 .doc = "The instance's name; it begins with postfix-."),
    PARAM_STRING(
        "multi_instance_wrapper", P, wrapper, .def = "", .services = "postfix",
        .doc =
            "The command that postfix(1) runs in place of acting itself, when no instance is named."),
    PARAM_BOOL("multi_instance_enable", P, enable, .def = "no", .services = "postfix,postmulti",
               .doc = "Whether the instance is started and stopped with the others."),
    PARAM_STRING(
        "postmulti_start_commands", P, start_commands, .def = "start", .services = "postmulti",
        .doc = "Commands of postfix(1) that are \"check\" for an instance that is disabled."),
    PARAM_STRING(
        "postmulti_stop_commands", P, stop_commands, .def = "stop abort drain quick-stop",
        .services = "postmulti",
        .doc =
            "Commands that go through the instances from the last to the first, without those disabled."),
    PARAM_STRING("postmulti_control_commands", P, control_commands, .def = "reload flush",
                 .services = "postmulti",
                 .doc = "Commands for running instances: those that are disabled are left out."),
};
#undef P
const struct param_set instance_params = PARAM_SET("instances", struct instance_params, rows);

void instance_free(struct instance **i)
{
    if (*i == NULL)
        return;
    config_unref(&(*i)->cfg);
    free(*i);
    *i = NULL;
}

int instance_load(const char *dir, bool is_primary, struct instance **out, struct err *err)
{
    struct instance *i = xcalloc(1, sizeof(*i));

    i->is_primary = is_primary;
    if (config_load(dir, NULL, 0, NULL, &i->cfg, err) == -1 ||
        config_bind(i->cfg, &config_common_params, &i->common, err) == -1 ||
        config_bind(i->cfg, &instance_params, &i->p, err) == -1) {
        instance_free(&i);
        return -1;
    }
    *out = i;
    return 0;
}

void instances_free(struct vec *list)
{
    for (size_t n = 0; n < list->len; n++) {
        struct instance *i = list->items[n];

        instance_free(&i);
    }
    vec_fini(list);
}

struct loading {
    struct vec *list;
    struct err *err;
    bool failed;
};

static void load_one(struct slice dir, void *arg)
{
    struct loading *l = arg;
    struct instance *i;
    char *path = slice_dup(dir);

    if (!l->failed) {
        if (path[0] != '/') {
            l->failed = true;
            err_input(l->err, "multi_instance_directories: \"%s\" is no absolute path", path);
        } else if (instance_load(path, false, &i, l->err) == -1) {
            l->failed = true;
        } else {
            vec_push(l->list, i);
        }
    }
    free(path);
}

int instances_load(struct vec *out, struct err *err)
{
    struct vec list = VEC_INIT;
    struct loading l = {&list, err, false};
    struct instance *primary;

    if (instance_load(CONFIG_DEFAULT_DIR, true, &primary, err) == -1)
        return -1;
    vec_push(&list, primary);
    config_list_each(primary->p.directories, load_one, &l);
    if (l.failed) {
        instances_free(&list);
        return -1;
    }
    *out = list;
    return 0;
}

char **instance_environment(const struct instance *i)
{
    const struct {
        const char *name, *value;
    } own[] = {
        {"MAIL_CONFIG", config_dir(i->cfg)},
        {"config_directory", config_dir(i->cfg)},
        {"command_directory", i->common.command_directory},
        {"daemon_directory", i->common.daemon_directory},
        {"queue_directory", i->common.queue_directory},
        {"data_directory", i->common.data_directory},
        {"mail_owner", i->common.mail_owner},
        {"setgid_group", i->common.setgid_group},
        {"multi_instance_name", i->p.name},
        {"multi_instance_group", i->p.group},
        {"multi_instance_enable", i->p.enable ? "yes" : "no"},
    };
    struct vec all = VEC_INIT;

    for (size_t n = 0; n < ARRAY_LEN(own); n++) {
        char *text = NULL;

        if (asprintf(&text, "%s=%s", own[n].name, own[n].value) == -1)
            fatal("out of memory");
        vec_push(&all, text);
    }
    if (log_verbosity() > 0)
        vec_push(&all, xstrdup("MAIL_VERBOSE="));
    for (char **e = environ; *e != NULL; e++) {
        bool is_own = false;

        for (size_t n = 0; n < ARRAY_LEN(own); n++)
            is_own |= strncmp(*e, own[n].name, strlen(own[n].name)) == 0 &&
                      (*e)[strlen(own[n].name)] == '=';
        if (!is_own)
            vec_push(&all, xstrdup(*e));
    }
    vec_push(&all, NULL);
    return (char **) all.items;
}

static void add_word(struct slice word, void *arg)
{
    vec_push(arg, slice_dup(word));
}

void instances_run_wrapper(const char *command)
{
    struct vec argv = VEC_INIT;
    struct instance *i;
    struct err err = ERR_INIT;

    /* what is wrong with main.cf is told by the command itself */
    if (instance_load(CONFIG_DEFAULT_DIR, true, &i, &err) == -1)
        return;
    if (i->p.wrapper[0] != '\0') {
        config_list_each(i->p.wrapper, add_word, &argv);
        vec_push(&argv, (void *) (uintptr_t) command);
        vec_push(&argv, NULL);
        execvpe(argv.items[0], (char **) argv.items, instance_environment(i));
        fatal("multi_instance_wrapper: cannot run %s: errno %d", (char *) argv.items[0], errno);
    }
    instance_free(&i);
}
