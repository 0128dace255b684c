/* SPDX-License-Identifier: Apache-2.0 */
/* map_int.h - what the files of maps/ share. */
#ifndef PR_MAP_INT_H
#define PR_MAP_INT_H

#include <sys/stat.h>

#include "base/lock.h"
#include "base/vec.h"
#include "maps/map.h"

extern const struct map_type map_type_hash, map_type_btree, map_type_texthash, map_type_inline,
    map_type_static, map_type_regexp, map_type_pcre, map_type_cidr, map_type_fail, map_type_unix,
    map_type_tcp, map_type_socketmap, map_type_proxy, map_type_memcache;

/* map.c. The flags that a table will have; 0: its type is unknown. */
unsigned map_spec_flags(struct slice spec);
enum map_proxy map_env_proxy(const struct map_env *env);
/* The connections to proxymap(8) that all tables of env share; made when first asked for, by an open(). */
struct map_servers;
NODISCARD struct map_servers *map_env_proxy_servers(struct map_env *env, struct err *err);
/* map_proxy.c */
NODISCARD struct map_servers *map_proxy_servers_new(const struct map_env *env, struct err *err);

/* map_limits.c: slow_lookup_threshold; 0: none. */
int64_t map_slow_lookup_ms(const struct config *cfg);

/* map_text.c: the lines of a table's source, "key value", as postmap(1) reads them. */
struct map_row {
    struct slice key;
    struct slice value;
    int line;
};
/* Joins continued lines, drops comments and empty lines; fn gets each logical line. Stops when fn returns -1. */
NODISCARD int map_lines_each(struct slice text,
                             int (*fn)(struct slice line, int number, void *arg, struct err *err),
                             void *arg, struct err *err);
/* Splits a logical line at the first white space; a quoted key is unquoted. -1: no value. */
NODISCARD int map_row_split(struct slice line, struct buf *key, struct slice *value,
                            struct err *err);

/* What a file looked like when it was opened; changed when another is there now. */
struct file_stamp {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};
NODISCARD int file_stamp_fd(int fd, struct file_stamp *out, struct err *err);
bool file_stamp_differs(const struct file_stamp *s,
                        const char *path); /* a missing file is no change */
/* Whole file and its stamp. */
NODISCARD int file_read_stamped(const char *path, struct buf *out, struct file_stamp *stamp,
                                struct err *err);

/* map_pattern.c: tables of rules with if/endif, for regexp, pcre and cidr. */
struct pattern_rule {
    enum { RULE_MATCH, RULE_IF, RULE_ENDIF } kind;
    bool negated;
    void *pattern; /* the type's */
    char *result;  /* RULE_MATCH */
    int line;
    size_t end; /* RULE_IF: index of its ENDIF */
};
struct pattern_ops;
struct pattern_table {
    const struct pattern_ops *ops;
    char *path;
    struct file_stamp stamp;
    struct pattern_rule *rules;
    size_t count, cap;
};
struct pattern_ops {
    /* Compiles the pattern at the front of *rest (delimiters and flags too), advances it. */
    int (*compile)(struct slice *rest, bool for_if, void **pattern, struct err *err);
    void (*free_pattern)(void *pattern);
    /* match: room for the type's captures. 1 yes, 0 no, -1 err. */
    int (*matches)(const void *pattern, struct slice key, void *match, struct err *err);
    /* $1 $2 ${1} $(1) $$ of result; NULL: result is plain. */
    int (*substitute)(const void *pattern, const char *result, struct slice key, const void *match,
                      struct buf *out, struct err *err);
    size_t match_size;
    bool (*key_ok)(struct slice key); /* NULL: any key */
};
/* A type's open, by its operations; wrong rules are errors when map_open_is_strict(), else warnings, and left out. */
NODISCARD int pattern_map_open(const char *path, const struct pattern_ops *ops, void **impl,
                               struct err *err);
/* The other members of a pattern type's struct map_type. */
void pattern_map_close(void *impl);
bool pattern_map_is_stale(void *impl, const char *path);
NODISCARD enum map_result pattern_map_lookup(void *impl, struct slice key, struct buf *value,
                                             struct err *err);
/* Appends text with $n replaced by group(n). */
NODISCARD int pattern_expand(const char *text,
                             bool (*group)(unsigned n, struct slice *out, void *arg), void *arg,
                             struct buf *out, struct err *err);
/* /pattern/flags from the front of *rest; any delimiter that is neither space nor alphanumeric, a backslash quotes it. */
NODISCARD int pattern_delimited(struct slice *rest, struct buf *pattern, struct slice *flags,
                                struct err *err);
/* Set by map_check() on its thread: wrong rows are errors. */
bool map_open_is_strict(void);

#endif
