/* SPDX-License-Identifier: Apache-2.0 */
/* map_int.h - what the files of maps/ share. */
#ifndef PR_MAP_INT_H
#define PR_MAP_INT_H

#include <stdatomic.h>
#include <sys/stat.h>

#include "base/htable.h"
#include "base/lines.h"
#include "base/lock.h"
#include "base/vec.h"
#include "maps/map.h"

extern const struct map_type map_type_hash, map_type_btree, map_type_texthash, map_type_inline,
    map_type_static, map_type_regexp, map_type_pcre, map_type_cidr, map_type_fail, map_type_unix,
    map_type_tcp, map_type_socketmap, map_type_proxy, map_type_memcache, map_type_redis;
extern const struct map_type map_type_cdb, map_type_lmdb, map_type_environ, map_type_internal,
    map_type_unionmap, map_type_pipemap, map_type_randmap, map_type_debug;

struct impl;

/* map_reopen.c: who opens changed tables beside the lookups. */
struct map_reopener;
NODISCARD struct map_reopener *map_reopener_new(void);
void map_reopener_free(struct map_reopener **r); /* when it has finished the one that it is at */
/*
 * By the thread that has set m->opening: opens m anew if its file has changed, or if it could not be opened before (used NULL).
 * True: what is current may be another one now.
 */
bool map_reopen(struct map *m, struct impl *used);

/* The tables of a process: for map.c, map_env.c, map_reopen.c and map_watch.c only. */
struct map_env {
    struct config *cfg;
    struct lock lock;
    struct htable *maps GUARDED_BY(lock); /* name -> struct map * */
    struct lock proxy_lock;
    struct map_servers *proxy GUARDED_BY(proxy_lock); /* NULL: not yet needed */
    enum map_proxy who;                               /* answers for proxy: */
    int64_t slow_ms; /* lookups that take longer are logged; 0: none */
    enum map_folding folding;
    /* map_env_shut_in(); written before there are threads */
    bool is_shut_in, in_chroot;
    struct mono_time shut_in;
    atomic_bool is_outgrown;
    struct map_reopener *reopener; /* NULL: who asks opens; map_env_open_aside() */
};

/* map_watch.c */
bool map_may_look(const struct map *m); /* at its file by its path */
/* A new file of m could not be opened: is it only that this process may not? Then another one is to. */
NODISCARD bool map_watch_refused(struct map *m);
/* m has never been opened, and is asked. */
void map_watch_missed(struct map *m);
void map_outgrow(struct map *m);

/* map.c. The flags that a table will have; 0: its type is unknown. */
unsigned map_spec_flags(struct slice spec);
enum map_proxy map_env_proxy(const struct map_env *env);
/* The connections to proxymap(8) that all tables of env share; made when first asked for, by an open(). */
struct map_servers;
NODISCARD struct map_servers *map_env_proxy_servers(struct map_env *env, struct err *err);
/* map_proxy.c. writes: to the proxywrite service. */
NODISCARD struct map_servers *map_proxy_servers_new(const struct map_env *env, bool writes,
                                                    struct err *err);

/* map_limits.c: slow_lookup_threshold; 0: none. */
int64_t map_slow_lookup_ms(const struct config *cfg);

/* map_metrics.c: one table's counters, made as they are needed. */
#define MAP_LATENCY_BUCKETS 6
struct map_metrics {
    _Atomic(_Atomic int64_t *) result[3]; /* by enum map_result */
    _Atomic(_Atomic int64_t *) bucket[MAP_LATENCY_BUCKETS];
    atomic_uint asked;
};
/* local: the table answers from memory. */
bool map_metrics_wants_time(struct map_metrics *c, bool local);
void map_metrics_count(struct map_metrics *c, const char *table, enum map_result res);
void map_metrics_time(struct map_metrics *c, const char *table, bool local, int64_t us);

/* One opened table. Counted; refs 1 when made. */
struct impl {
    atomic_uint refs;
    const struct map_type *type;
    void *state;
    struct wall_time since;
};

/* A table by its name: for map.c, map_reopen.c, map_write.c and map_watch.c only. */
struct map {
    char *name;
    char *path; /* what follows "type:" */
    const struct map_type *type;
    unsigned flags;
    struct map_env *env;
    bool is_plain; /* map_open_plain() */
    struct lock lock;
    struct impl *impl GUARDED_BY(lock); /* NULL: could not be opened */
    struct mono_time checked GUARDED_BY(lock);
    struct err why GUARDED_BY(lock);
    bool complained GUARDED_BY(lock);
    bool opening GUARDED_BY(lock); /* a thread is looking for a new file, or is to open it */
    /* map_open_writable(): all calls of the type under write_lock; impl is there, and is replaced only when it is damaged */
    const struct map_writer_type *writer;
    struct lock write_lock;
    int used_fd GUARDED_BY(write_lock); /* map_used_begin(); -1: not yet, or not a file */
    struct map_metrics metrics;
    /* map_watch.c; written before there are threads */
    bool is_early;           /* opened before map_env_shut_in() */
    int watch_fd;            /* of its file, in a chroot; -1: none */
    struct timespec watched; /* when that had last changed */
};
struct impl *impl_new(const struct map_type *type, void *state);
void impl_unref(struct impl *i); /* may be NULL */
NODISCARD struct impl *impl_open(const struct map *m, struct err *err);
/* What "type:path" names; path lies in spec. */
NODISCARD int map_parse_name(const struct config *cfg, struct slice spec,
                             const struct map_type **type, struct slice *path, struct err *err);
struct map *map_new(struct map_env *env, struct slice name, const struct map_type *type,
                    struct slice path);
struct map *map_env_find(struct map_env *env, struct slice name); /* NULL: not there */
/* Puts m under its name, or frees it when another thread was faster; the one that is there. */
struct map *map_env_enter(struct map_env *env, struct slice name, struct map *m);
void map_free(void *m); /* struct map * */
/* The current implementation, with a reference; NULL: none, err tells. */
struct impl *map_current(struct map *m, struct err *err);
/* One lookup in i, with the key folded as the type wants it, timed. */
NODISCARD enum map_result map_ask(struct map *m, struct impl *i, struct slice key,
                                  struct buf *value, struct err *err);
/* map_write.c */
NODISCARD enum map_result map_lookup_writable(struct map *m, struct slice key, struct buf *value,
                                              struct err *err);

/*
 * map_used.c: a cache file is opened. *deaths: how many processes in a row have ended without map_used_end(). *fd: to be kept open
 * meanwhile.
 */
NODISCARD int map_used_begin(const char *file, int *fd, int *deaths, struct err *err);
void map_used_end(int *fd); /* -1: nothing */
/* Can all of the table at path, which is in file, be read? Nothing that its library does with a damaged one happens in this process. */
bool map_used_is_sound(const struct map_type *type, const char *path, const char *file,
                       struct map_env *env);

/* map_list.c: what stands between { and }; -1: text is not in braces. */
NODISCARD int map_in_braces(struct slice text, struct slice *inside);

/* map_lines.c: the logical lines of a table's source (base/lines.h), and the "key value" in them, as postmap(1) reads them. */
NODISCARD int map_lines_each(struct slice text, lines_fn *fn, void *arg, struct err *err);
NODISCARD int map_lines_fd(int fd, lines_fn *fn, void *arg, struct err *err);
/* map_rows.c: rows of key -> heap string; fn returns false to stop. */
enum map_result map_rows_lookup(const struct htable *rows, struct slice key, struct buf *value);
void map_rows_each(struct htable *rows, bool (*fn)(struct slice key, struct slice value, void *arg),
                   void *arg);

/*
 * map_lines.c: splits a logical line at the first white space outside "..." and not after a backslash. Quotes and backslashes stay in the
 * key: an address is looked up as it is written. -1: not a row; err's text is a warning as postmap words it.
 */
NODISCARD int map_row_split(struct slice line, struct slice *key, struct slice *value,
                            struct err *err);
/* Warns of a key with a colon at its end. */
void map_row_warn(const char *path, int line, struct slice key);

/* berkeley_db_create_buffer_size, berkeley_db_read_buffer_size, lmdb_map_size; cfg NULL: the defaults */
struct map_file_sizes {
    int64_t db_create, db_read, lmdb_map;
};
struct map_file_sizes map_file_sizes(const struct config *cfg);

/* What a file looked like when it was opened; changed when another is there now. */
struct file_stamp {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};
NODISCARD int file_stamp_fd(int fd, struct file_stamp *out, struct err *err);
/* A missing file is no change, nor is one yet that is being written to in its place. */
bool file_stamp_differs(const struct file_stamp *s, const char *path);
/*
 * Locks the whole file for the open file description fd (so that it holds whatever else the process opens and closes), against
 * others' fcntl(2) locks. -1 with errno; EAGAIN: somebody else had it for wait_ms.
 */
NODISCARD int file_lock(int fd, bool exclusive, int64_t wait_ms);
NODISCARD int file_unlock(int fd);
/* Whole file and its stamp. */
NODISCARD int file_read_stamped(const char *path, struct buf *out, struct file_stamp *stamp,
                                struct err *err);

/* map_pattern.c: tables of rules with if/endif, for regexp, pcre and cidr. */
struct glob;
struct literals;
struct prefilter;
struct pattern_rule {
    enum { RULE_MATCH, RULE_IF, RULE_ENDIF } kind;
    bool negated;
    bool is_plain;     /* the result has no $ */
    void *pattern;     /* the type's */
    struct glob *glob; /* asked in its place; or NULL */
    char *result;      /* RULE_MATCH */
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
    void *index;      /* the type's, or NULL */
    uint64_t *packed; /* all globs and results, each rule's side by side; NULL: each is a block */
    /* which rules a key's literals lead to; NULL: all are tried */
    struct prefilter *filter;
    uint32_t *others; /* with a filter: the rules that it is no reason to pass over, rising */
    size_t nothers;
};
struct pattern_made {
    void *pattern;
    struct glob *glob;         /* NULL, or what is to be asked in its place; the caller's */
    struct literals *literals; /* NULL, or what any key that matches has in it; the caller's */
    uint64_t
        room; /* bytes that the table's costly patterns may take yet; what this one takes is taken off */
};
struct pattern_ops {
    const char *type; /* for messages */
    /* Compiles the pattern at the front of *rest (delimiters and flags too), advances it. */
    int (*compile)(struct slice *rest, struct pattern_made *out, struct err *err);
    void (*free_pattern)(void *pattern);
    /* NULL, or: all rules are there, and this pattern's result (NULL: an if has none). often: it is asked for nearly any key. */
    void (*prepare)(void *pattern, const char *result, bool often);
    /* match: room for the type's captures. 1 yes, 0 no, -1 err; PATTERN_NEITHER: not comparable, "!" does not make it match. */
#define PATTERN_NEITHER 2
    int (*matches)(void *pattern, struct slice key, void *match, struct err *err);
    /* $1 $2 ${1} $(1) $$ of result; NULL: result is plain. */
    int (*substitute)(const void *pattern, const char *result, struct slice key, const void *match,
                      struct buf *out, struct err *err);
    size_t match_size;
    /* NULL, or what finds a rule sooner than going through them does; may give NULL. After all rules are there. */
    void *(*index_new)(const struct pattern_table *t);
    void (*index_free)(void *index);
};
/*
 * The first rule that matches answers. What a type's index, or a filter, finds must be what going through the rules finds.
 *
 * A type's open, by its operations; wrong rules are errors when map_open_is_strict(), else warnings, and left out.
 */
NODISCARD int pattern_map_open(const char *path, const struct pattern_ops *ops, void **impl,
                               struct err *err);
/* The other members of a pattern type's struct map_type. */
void pattern_map_close(void *impl);
bool pattern_map_is_stale(void *impl, const char *path);
NODISCARD enum map_result pattern_map_lookup(void *impl, struct slice key, struct buf *value,
                                             struct err *err);
/* The same, rule by rule: for tests. */
NODISCARD enum map_result pattern_map_lookup_plain(const struct pattern_table *t, struct slice key,
                                                   struct buf *value, struct err *err);
/* The highest n of $n in text; 0: none. */
unsigned pattern_highest_group(const char *text);
/* Appends text with $n replaced by group(n). */
NODISCARD int pattern_expand(const char *text,
                             bool (*group)(unsigned n, struct slice *out, void *arg), void *arg,
                             struct buf *out, struct err *err);
/* /pattern/flags from the front of *rest; any delimiter that is neither space nor alphanumeric, a backslash quotes it. */
NODISCARD int pattern_delimited(struct slice *rest, struct buf *pattern, struct slice *flags,
                                struct err *err);
/* Set by map_check() on its thread: wrong rows are errors. */
bool map_open_is_strict(void);
/* Set by map_open_plain() on its thread: rules whose result refers to the key are wrong. */
bool map_open_is_plain(void);

#endif
