/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map_build.c - table files from text: written under another name, synced, renamed over the old one; so that a reader has one or
 * the other, and a crash leaves the old. Two at once: each has its own temporary file, the last rename stays.
 */
#include "maps/map_build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "mail/address.h"
#include "maps/map_int.h"

#define TEXT_MAX (1U << 30)

struct building {
    const struct map_type *type;
    const struct map_build_options *opt;
    const char *path;
    void *builder;
};

static int put(struct building *b, struct slice key, struct slice value, int line, struct err *err)
{
    struct buf folded = BUF_INIT(MAP_KEY_MAX);
    int res;

    buf_put_slice(&folded, key);
    for (size_t i = 0; !b->opt->keep_case && i < folded.len; i++)
        folded.ptr[i] = (char) ascii_lower((unsigned char) folded.ptr[i]);
    res = b->type->builder->put(b->builder, buf_view(&folded), value, b->opt->replace_duplicates,
                                err);
    if (res == 1 && !b->opt->ignore_duplicates)
        log_warning("%s%s: line %d: duplicate entry: \"%.*s\"", b->path, b->type->builder->suffix,
                    line, SLICE_FMT(buf_view(&folded)));
    buf_fini(&folded);
    return res == -1 ? -1 : 0;
}

/* "key value" */
static int take_postmap(struct slice line, int number, void *arg, struct err *err)
{
    struct building *b = arg;
    struct buf key = BUF_INIT(MAP_KEY_MAX);
    struct err why = ERR_INIT;
    struct slice value;
    int ret = 0;

    if (map_row_split(line, &key, &value, &why) == -1) {
        log_warning("%s, line %d: %s", b->path, number, why.text);
    } else {
        if (key.ptr[key.len - 1] == ':')
            log_warning("%s, line %d: record is in \"key: value\" format; is this an alias file?",
                        b->path, number);
        ret = put(b, buf_view(&key), value, number, err);
    }
    buf_fini(&key);
    return ret;
}

/* "name: value, value", aliases(5) */
static int take_alias(struct slice line, int number, void *arg, struct err *err)
{
    struct building *b = arg;
    struct buf key = BUF_INIT(MAP_KEY_MAX);
    size_t at = 0;
    bool quoted = false;
    struct slice name;
    struct slice value;
    int ret = 0;

    while (at < line.len && (quoted || line.ptr[at] != ':')) {
        if (line.ptr[at] == '"')
            quoted = !quoted;
        at++;
    }
    name = slice_trim(slice_sub(line, 0, at), NULL);
    value = slice_trim(slice_sub(line, at + 1, line.len), NULL);
    if (at == line.len || name.len == 0) {
        log_warning("%s, line %d: name must be local, then \":\"", b->path, number);
        return 0;
    }
    if (value.len == 0) {
        log_warning("%s, line %d: need name:value pair", b->path, number);
        return 0;
    }
    address_unquote(name, &key);
    if (slice_find(buf_view(&key), '@') != -1 && name.ptr[0] != '"')
        log_warning("%s, line %d: name must be local", b->path, number);
    else
        ret = put(b, buf_view(&key), value, number, err);
    buf_fini(&key);
    return ret;
}

/* What alias databases carry beside their rows. */
static int put_alias_marks(struct building *b, struct err *err)
{
    char now[32];
    char host[256];

    if (gethostname(host, sizeof(host)) == -1)
        (void) snprintf(host, sizeof(host), "localhost");
    host[sizeof(host) - 1] = '\0';
    (void) snprintf(now, sizeof(now), "%010ld", (long) time(NULL));
    const struct {
        const char *key, *value;
    } marks[] = {{"@", "@"}, {"YP_LAST_MODIFIED", now}, {"YP_MASTER_NAME", host}};
    for (size_t i = 0; i < ARRAY_LEN(marks); i++)
        if (b->type->builder->put(b->builder, slice_str(marks[i].key), slice_str(marks[i].value),
                                  true, err) == -1)
            return -1;
    return 0;
}

static int read_source(const char *path, int source_fd, const struct map_build_options *opt,
                       struct buf *text, mode_t *mode, struct err *err)
{
    struct stat st;

    if (source_fd == -1) {
        if (stat(path, &st) == 0 && !opt->default_mode)
            *mode = st.st_mode & 0777;
        return file_read(path, text, err);
    }
    for (;;) {
        char *room = buf_reserve(text, 65536);
        ssize_t n = room != NULL ? fd_read_some(source_fd, room, 65536) : 0;

        if (room == NULL)
            return err_input(err, "standard input is larger than %u bytes", TEXT_MAX);
        if (n == -1)
            return err_sys(err, "read standard input");
        if (n == 0)
            return 0;
        buf_advance(text, (size_t) n);
    }
}

int map_build(const struct map_type *type, const char *path, int source_fd,
              const struct map_build_options *opt, struct err *err)
{
    struct building b = {type, opt, path, NULL};
    struct buf temporary = BUF_INIT(4096);
    struct buf final = BUF_INIT(4096);
    struct buf dir = BUF_INIT(4096);
    struct buf text = BUF_INIT(TEXT_MAX);
    ptrdiff_t slash = slice_rfind(slice_str(path), '/');
    mode_t mode = 0644;
    bool made = false;
    int ret = -1;

    if (type->builder == NULL)
        return err_input(err, "unsupported dictionary type: %s: it has no file to be built",
                         type->name);
    buf_printf(&final, "%s%s", path, type->builder->suffix);
    buf_printf(&temporary, "%s.%d.tmp", buf_cstr(&final), (int) getpid());
    buf_put_slice(&dir, slash > 0    ? slice_of(path, (size_t) slash)
                        : slash == 0 ? SLICE_LIT("/")
                                     : SLICE_LIT("."));
    if (read_source(path, source_fd, opt, &text, &mode, err) == -1)
        goto done;
    (void) unlink(buf_cstr(&temporary));
    if (type->builder->create(buf_cstr(&temporary), mode, &b.builder, err) == -1)
        goto done;
    made = true;
    ret = map_lines_each(buf_view(&text),
                         opt->format == MAP_BUILD_ALIASES ? take_alias : take_postmap, &b, err);
    if (ret == 0 && opt->format == MAP_BUILD_ALIASES)
        ret = put_alias_marks(&b, err);
    if (type->builder->finish(b.builder, ret == 0 ? err : NULL) == -1)
        ret = -1;
    if (ret == 0 && rename(buf_cstr(&temporary), buf_cstr(&final)) == -1)
        ret = err_sys(err, "rename %s to %s", buf_cstr(&temporary), buf_cstr(&final));
    if (ret == 0) {
        made = false;
        ret = dir_sync(buf_cstr(&dir), err);
    }
done:
    if (made)
        (void) unlink(buf_cstr(&temporary));
    buf_fini(&temporary);
    buf_fini(&final);
    buf_fini(&dir);
    buf_fini(&text);
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

int postalias_build(const struct config *cfg, const char *spec, struct err *err)
{
    static const struct map_build_options opt = {.format = MAP_BUILD_ALIASES,
                                                 .program = "postalias"};
    struct slice s = slice_str(spec);
    ptrdiff_t colon = slice_find(s, ':');
    struct slice name = colon > 0 && s.ptr[0] != '/'
                            ? slice_sub(s, 0, (size_t) colon)
                            : slice_str(config_get(cfg, "default_database_type"));
    const struct map_type *type = map_type_find(name);
    const char *path = colon > 0 && s.ptr[0] != '/' ? spec + colon + 1 : spec;

    if (type == NULL)
        return err_input(err, "unsupported dictionary type: %.*s", SLICE_FMT(name));
    return map_build(type, path, -1, &opt, err);
}
