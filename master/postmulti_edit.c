/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postmulti_edit.c - postmulti -e: makes and removes instances, and says which are managed.
 *
 * Files are edited by postconf(1). What is listed in the primary main.cf is a whole instance at every moment: a new one is
 * listed last, one that goes is unlisted first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "master/postmulti_int.h"
#include "master/stock_services.h"

#define NAME_PREFIX "postfix-"

/* Where programs and shared files are: the same for all instances. */
static const char *const shared_names[] = {
    "compatibility_level", "command_directory", "daemon_directory",  "meta_directory",
    "shlib_directory",     "mail_owner",        "setgid_group",      "sendmail_path",
    "mailq_path",          "newaliases_path",   "manpage_directory", "html_directory",
    "readme_directory",    "sample_directory",
};

struct places {
    char *config, *queue, *data;
};

static const struct instance *primary(const struct postmulti *m)
{
    return m->instances.items[0];
}

/* The instance that -i names; ends the program if there is none, or none is named. */
static struct instance *selected(const struct postmulti *m, bool may_be_primary)
{
    struct instance *found = NULL;

    if (m->select_name == NULL)
        fatal("option -i is needed: whose is it?");
    for (size_t n = 0; n < m->instances.len && found == NULL; n++)
        if (postmulti_has_name(m->instances.items[n], m->select_name))
            found = m->instances.items[n];
    if (found == NULL)
        fatal("no instance is called %s", m->select_name);
    if (found->is_primary && !may_be_primary)
        fatal("%s is the primary instance", config_dir(found->cfg));
    return found;
}

/* postconf -e in the instance's environment; settings: "name=value". */
static int set(const struct instance *i, const struct vec *settings)
{
    struct buf path = BUF_INIT(8192);
    struct vec argv = VEC_INIT;
    int status;

    path_join(&path, i->common.command_directory, "postconf");
    vec_push(&argv, (void *) (uintptr_t) "postconf");
    vec_push(&argv, (void *) (uintptr_t) "-e");
    for (size_t n = 0; n < settings->len; n++)
        vec_push(&argv, settings->items[n]);
    vec_push(&argv, NULL);
    status = postmulti_run(i, buf_cstr(&path), (char *const *) argv.items);
    if (status != 0)
        log_error("%s/main.cf was not changed", config_dir(i->cfg));
    vec_fini(&argv);
    buf_fini(&path);
    return status;
}

PRINTF_LIKE(2, 3) static void setting(struct vec *settings, const char *fmt, ...)
{
    struct buf text = BUF_INIT(CONFIG_VALUE_MAX);
    va_list ap;

    va_start(ap, fmt);
    buf_vprintf(&text, fmt, ap);
    va_end(ap);
    vec_push(settings, buf_take(&text));
}

static int set_and_free(const struct instance *i, struct vec *settings)
{
    int status = set(i, settings);

    vec_clear(settings, free);
    vec_fini(settings);
    return status;
}

static int do_init(struct postmulti *m)
{
    struct vec settings = VEC_INIT;

    setting(&settings, "multi_instance_wrapper=${command_directory}/postmulti -p --");
    setting(&settings, "multi_instance_enable=yes");
    return set_and_free(primary(m), &settings);
}

static int enable(struct postmulti *m, const char *value)
{
    struct vec settings = VEC_INIT;

    setting(&settings, "multi_instance_enable=%s", value);
    return set_and_free(selected(m, true), &settings);
}

static int do_enable(struct postmulti *m)
{
    return enable(m, "yes");
}

static int do_disable(struct postmulti *m)
{
    return enable(m, "no");
}

/* A name of -I, or a group of -G; "-" is none, "". */
static const char *new_value(const char *text)
{
    return strcmp(text, "-") == 0 ? "" : text;
}

static void check_new_names(const struct postmulti *m, const struct instance *own)
{
    const char *name = m->new_name;

    if (name == NULL || strcmp(name, "-") == 0)
        return;
    if (strncmp(name, NAME_PREFIX, strlen(NAME_PREFIX)) != 0 || strchr(name, '/') != NULL ||
        strlen(name) == strlen(NAME_PREFIX))
        fatal("\"%s\" is no name of an instance: it begins with %s, and has no slash", name,
              NAME_PREFIX);
    for (size_t n = 0; n < m->instances.len; n++)
        if (m->instances.items[n] != own && postmulti_has_name(m->instances.items[n], name))
            fatal("there is an instance %s already", name);
}

static int do_assign(struct postmulti *m)
{
    const struct instance *i = selected(m, true);
    struct vec settings = VEC_INIT;

    if (m->new_name == NULL && m->new_group == NULL)
        fatal("option -I or -G is needed: what is to be assigned?");
    check_new_names(m, i);
    if (m->new_name != NULL)
        setting(&settings, "multi_instance_name=%s", new_value(m->new_name));
    if (m->new_group != NULL)
        setting(&settings, "multi_instance_group=%s", new_value(m->new_group));
    return set_and_free(i, &settings);
}

/* --- the list in the primary main.cf ------------------------------------------------------------- */

/* dir is put before the instance at place (1: the first of the others); place 0: dir is left out. */
static int relist(struct postmulti *m, const char *dir, size_t place)
{
    struct buf list = BUF_INIT(CONFIG_VALUE_MAX);
    struct vec settings = VEC_INIT;

    for (size_t n = 1; n <= m->instances.len; n++) {
        const struct instance *i = n < m->instances.len ? m->instances.items[n] : NULL;

        if (n == place)
            buf_printf(&list, "%s%s", list.len > 0 ? " " : "", dir);
        if (i != NULL && strcmp(config_dir(i->cfg), dir) != 0)
            buf_printf(&list, "%s%s", list.len > 0 ? " " : "", config_dir(i->cfg));
    }
    setting(&settings, "multi_instance_directories=%s", buf_cstr(&list));
    buf_fini(&list);
    return set_and_free(primary(m), &settings);
}

/* Where -a, -g and -i put a new one. */
static size_t place_of_new(const struct postmulti *m)
{
    if (m->all)
        return 1;
    for (size_t n = 1; n < m->instances.len; n++) {
        const struct instance *i = m->instances.items[n];

        if ((m->select_name != NULL && postmulti_has_name(i, m->select_name)) ||
            (m->select_group != NULL && strcmp(i->p.group, m->select_group) == 0))
            return n;
    }
    if (m->select_name != NULL)
        fatal("no secondary instance is called %s", m->select_name);
    return m->instances.len;
}

static int do_deport(struct postmulti *m)
{
    return relist(m, config_dir(selected(m, false)->cfg), 0);
}

/* --- create and import ---------------------------------------------------------------------------- */

/* The primary instance's path with the new name in place of its last part; NULL without a name. */
static char *sibling(const char *path, const char *name)
{
    struct buf out = BUF_INIT(8192);
    ptrdiff_t slash = slice_rfind(slice_str(path), '/');

    if (name == NULL || strcmp(name, "-") == 0 || slash == -1)
        return NULL;
    buf_put(&out, path, (size_t) slash + 1);
    buf_puts(&out, name);
    return buf_take(&out);
}

static void take_places(const struct postmulti *m, struct places *p)
{
    const struct {
        const char *name;
        char **at;
        const char *of_primary;
    } known[] = {
        {"config_directory", &p->config, config_dir(primary(m)->cfg)},
        {"queue_directory", &p->queue, primary(m)->common.queue_directory},
        {"data_directory", &p->data, primary(m)->common.data_directory},
    };

    for (size_t n = 0; n < m->count; n++) {
        const char *equal = strchr(m->words[n], '=');
        size_t i = 0;

        while (
            i < ARRAY_LEN(known) &&
            (equal == NULL ||
             !slice_eq_str(slice_of(m->words[n], (size_t) (equal - m->words[n])), known[i].name)))
            i++;
        if (i == ARRAY_LEN(known))
            fatal("\"%s\": config_directory=, queue_directory= or data_directory= is wanted",
                  m->words[n]);
        if (equal[1] != '/')
            fatal("\"%s\": an absolute path is wanted", m->words[n]);
        free(*known[i].at);
        *known[i].at = xstrdup(equal + 1);
    }
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (*known[i].at == NULL)
            *known[i].at = sibling(known[i].of_primary, m->new_name);
        if (*known[i].at == NULL)
            fatal("give the instance a name with -I, or %s=/some/path", known[i].name);
    }
}

static bool is_file(const char *dir, const char *name)
{
    struct buf path = BUF_INIT(8192);
    struct stat st;
    bool found;

    path_join(&path, dir, name);
    found = stat(buf_cstr(&path), &st) == 0 && S_ISREG(st.st_mode);
    buf_fini(&path);
    return found;
}

/* A directory of one's own is what makes it an instance. */
static void check_apart(const struct postmulti *m, const char *config, const char *queue,
                        const char *data)
{
    for (size_t n = 0; n < m->instances.len; n++) {
        const struct instance *i = m->instances.items[n];

        if (strcmp(config_dir(i->cfg), config) == 0)
            fatal("%s is an instance already", config);
        if (strcmp(i->common.queue_directory, queue) == 0)
            fatal("queue_directory %s is that of the instance in %s", queue, config_dir(i->cfg));
        if (strcmp(i->common.data_directory, data) == 0)
            fatal("data_directory %s is that of the instance in %s", data, config_dir(i->cfg));
    }
}

static int write_file(const char *dir, const char *name, struct buf *text, struct err *err)
{
    struct buf path = BUF_INIT(8192);
    int ret;

    path_join(&path, dir, name);
    ret = file_replace(buf_cstr(&path), buf_view(text), 0644, err);
    buf_fini(&path);
    return ret;
}

/* main.cf and master.cf of a new instance: stopped, without network services, taking mail from nobody, until it is set up. */
static int make_files(const struct postmulti *m, const struct places *p, struct err *err)
{
    struct buf main_cf = BUF_INIT(CONFIG_VALUE_MAX);
    struct buf master_cf = BUF_INIT(CONFIG_VALUE_MAX);
    int ret;

    buf_puts(&main_cf,
             "# Parameters of this instance: see postconf(5), and postmulti(1) for those below.\n");
    for (size_t n = 0; n < ARRAY_LEN(shared_names); n++)
        if (config_is_set(primary(m)->cfg, shared_names[n]))
            buf_printf(&main_cf, "%s = %s\n", shared_names[n],
                       config_raw(primary(m)->cfg, shared_names[n]));
    buf_printf(&main_cf,
               "queue_directory = %s\ndata_directory = %s\nmulti_instance_name = %s\n"
               "multi_instance_group = %s\nmulti_instance_enable = no\n"
               "master_service_disable = inet\nauthorized_submit_users =\n",
               p->queue, p->data, m->new_name != NULL ? new_value(m->new_name) : "",
               m->new_group != NULL ? new_value(m->new_group) : "");
    stock_master_cf(&master_cf);
    ret = dir_make(p->config, 0755, err) == -1 ||
                  write_file(p->config, "master.cf", &master_cf, err) == -1 ||
                  write_file(p->config, "main.cf", &main_cf, err) == -1
              ? -1
              : 0;
    buf_fini(&main_cf);
    buf_fini(&master_cf);
    return ret;
}

static int import(struct postmulti *m, const char *dir, bool is_new)
{
    size_t place = place_of_new(m);
    struct instance *i;
    struct err err = ERR_INIT;
    struct vec settings = VEC_INIT;
    int status = 0;

    if (instance_load(dir, false, &i, &err) == -1)
        fatal("%s", err.text);
    check_apart(m, dir, i->common.queue_directory, i->common.data_directory);
    if (!is_new) {
        if (m->new_name != NULL)
            setting(&settings, "multi_instance_name=%s", new_value(m->new_name));
        if (m->new_group != NULL)
            setting(&settings, "multi_instance_group=%s", new_value(m->new_group));
        status = settings.len > 0 ? set_and_free(i, &settings) : 0;
    }
    instance_free(&i);
    return status != 0 ? status : relist(m, dir, place);
}

static int create_or_import(struct postmulti *m, bool create)
{
    struct places p = {NULL, NULL, NULL};
    struct err err = ERR_INIT;
    bool exists;
    int status;

    check_new_names(m, NULL);
    take_places(m, &p);
    exists = is_file(p.config, "main.cf") && is_file(p.config, "master.cf");
    if (!exists && !create)
        fatal("%s has no main.cf and master.cf", p.config);
    if (!exists) {
        (void) place_of_new(m); /* what is asked for must be possible before anything is made */
        check_apart(m, p.config, p.queue, p.data);
        if (is_file(p.config, "main.cf") || is_file(p.config, "master.cf"))
            fatal("%s has only one of main.cf and master.cf", p.config);
        if (make_files(m, &p, &err) == -1)
            fatal("%s", err.text);
    }
    status = import(m, p.config, !exists);
    free(p.config);
    free(p.queue);
    free(p.data);
    return status;
}

static int do_create(struct postmulti *m)
{
    return create_or_import(m, true);
}

static int do_import(struct postmulti *m)
{
    return create_or_import(m, false);
}

static int do_destroy(struct postmulti *m)
{
    const struct instance *i = selected(m, false);
    int status;

    postmulti_check_destroy(i);
    status = relist(m, config_dir(i->cfg), 0);
    if (status == 0)
        postmulti_remove(i);
    return status;
}

int postmulti_edit(struct postmulti *m, const char *action)
{
    static const struct {
        const char *name;
        int (*fn)(struct postmulti *m);
        bool takes_words;
    } actions[] = {
        {"init", do_init, false},     {"create", do_create, true},
        {"import", do_import, true},  {"destroy", do_destroy, false},
        {"deport", do_deport, false}, {"assign", do_assign, false},
        {"enable", do_enable, false}, {"disable", do_disable, false},
    };

    for (size_t n = 0; n < ARRAY_LEN(actions); n++) {
        if (strcmp(actions[n].name, action) != 0)
            continue;
        if (m->count > 0 && !actions[n].takes_words)
            fatal("-e %s takes no more arguments: \"%s\"", action, m->words[0]);
        return actions[n].fn(m);
    }
    fatal("-e %s: init, create, import, destroy, deport, enable, disable or assign is wanted",
          action);
}
