/* SPDX-License-Identifier: Apache-2.0 */
/* config_int.h - what the files of the main.cf side share. */
#ifndef PR_CONFIG_INT_H
#define PR_CONFIG_INT_H

#include <stdatomic.h>

#include "base/htable.h"
#include "base/lock.h"
#include "base/vec.h"
#include "postconf/config.h"
#include "postconf/master_cf.h"

/* One "name = value" as written. */
struct config_entry {
    char *
        name; /* "": a line that continues nothing; it is ignored, and reported by config_check() */
    char *value;
    int line;      /* 0: from -o */
    int overrides; /* line of an earlier entry that this one replaces, or 0 */
};

struct config {
    atomic_uint refs;
    char *dir;
    char *path;             /* DIR/main.cf */
    struct htable *entries; /* struct config_entry * */
    struct vec in_order;    /* the same, of main.cf and then -o; replaced and stray ones included */
    struct lock lock;
    struct htable *
        expanded GUARDED_BY(lock); /* name -> value; kept until the end: config_get() lends them */
    struct htable *stand_ins;      /* NULL, or the names of config_is_stand_in() */
};

/* The names that are being expanded, innermost first: a name that comes up again is a loop. */
struct config_chain;

/* config.c: one without entries; dir and path are copied. An entry more: line 0 for one that main.cf does not have. */
NODISCARD struct config *config_new(const char *dir, const char *path);
void config_add(struct config *cfg, struct slice name, struct slice value, int line);

/*
 * main_cf.c: calls fn for each logical line "name = value"; -1 with "FILE, line N: ..." . fn returns -1 to stop with err
 * set. An empty name: the line begins with white space and continues nothing; value is its text.
 */
NODISCARD int main_cf_parse(const char *path, struct slice text,
                            int (*fn)(struct slice name, struct slice value, int line, void *arg,
                                      struct err *err),
                            void *arg, struct err *err);

/*
 * config_expand.c. What a name stands for before expansion: as set, else its default. *text NULL: unknown. *owned
 * is to be freed.
 */
NODISCARD int config_source(const struct config *cfg, const char *name,
                            const struct config_chain *up, const char **text, char **owned,
                            struct err *err);
/* Appends the expanded value of a name that is needed on the way of up; nothing for an unknown one. */
NODISCARD int config_expand_name(const struct config *cfg, const char *name,
                                 const struct config_chain *up, struct buf *out, struct err *err);

/* config_defaults.c: parameters whose default is found out. *out NULL: none of them. Heap. */
NODISCARD int config_computed_default(const struct config *cfg, const char *name,
                                      const struct config_chain *up, char **out, struct err *err);

/* config_authorized.c: -1 if this is a set-gid command and dir (absolute) is not one that its user may name. */
NODISCARD int config_dir_authorize(const char *dir, struct err *err);

/* config_check.c: config_check() in parts. Lines that are ignored or replaced; values, and names without effect. */
void config_check_lines(const struct config *cfg,
                        void (*fn)(enum config_finding kind, const char *file, int line,
                                   const char *text, void *arg),
                        void *arg);
void config_check_effect(const struct config *cfg,
                         void (*fn)(enum config_finding kind, const char *file, int line,
                                    const char *text, void *arg),
                         void *arg);

/*
 * config_names.c: which names are parameters because something refers to them: $name in a value or a default, a word of
 * smtpd_restriction_classes, SOURCE_suffix of a database that is configured in main.cf.
 */
struct config_names;
struct config_names *config_names_new(const struct config *cfg,
                                      const struct master_cf *m); /* m: NULL for none */
void config_names_free(struct config_names **names);
bool config_names_has(const struct config_names *names, const char *name);
/* A service-defined name ("relay_destination_concurrency_limit") whose service is in master.cf. */
bool config_names_is_service(const struct config_names *names, const char *name);
/* Calls fn for each service-defined name there is, in no order. */
void config_names_each_service(const struct config_names *names,
                               void (*fn)(const char *name, void *arg), void *arg);
/* Calls fn for each $name that is neither set nor known; where: main.cf or master.cf, and the line;
 * 0: named without $, in smtpd_restriction_classes, whose own check reports it. */
void config_names_each_undefined(const struct config_names *names,
                                 void (*fn)(const char *name, bool in_master_cf, int line,
                                            void *arg),
                                 void *arg);
/* Calls fn for each "TYPE:FILE" of a database that FILE describes; known: the names it may have, separated by blanks. */
void config_names_each_source(const struct config_names *names,
                              void (*fn)(const char *spec, const char *known, void *arg),
                              void *arg);
/* Calls fn for each $name in a text. */
void config_each_reference(const char *text, void (*fn)(struct slice name, void *arg), void *arg);

#endif
