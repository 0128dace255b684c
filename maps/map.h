/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.h - lookup tables: one interface for every type. "hash:/etc/postfix/virtual", "static:x".
 *
 * A table answers found, not found, or try again (with why): trouble is never "not found". Tables are
 * shared by the threads of a process. File tables reload by themselves when they change on disk.
 */
#ifndef PR_MAP_H
#define PR_MAP_H

#include "base/buf.h"
#include "base/err.h"
#include "base/mtime.h"
#include "postconf/config.h"

enum map_result { MAP_FOUND, MAP_NOTFOUND, MAP_RETRY }; /* RETRY: no answer now, so defer */

#define MAP_KEY_MAX   65536
#define MAP_VALUE_MAX (1U << 20)

enum {
    MAP_FLAG_FIXED = 1,   /* exact keys (hash ...): partial-key searches make sense */
    MAP_FLAG_PATTERN = 2, /* regexp, pcre, cidr: one query with the whole key */
    MAP_FLAG_LOCAL = 4,   /* answers from memory or page cache: may be asked from a loop */
};

struct map;
struct map_env; /* what tables need of the process: configuration; see map_env_new() */

/* The process's table cache for one configuration generation: a table named twice is opened once. */
NODISCARD struct map_env *map_env_new(const struct config *cfg);
void map_env_free(struct map_env **env);
/*
 * This process gives up root's rights now, and in_chroot its view of the file system. Before threads exist. From then on a table that
 * was opened before may change, or appear, where the process may not read it: the old one serves, and map_env_tend() says so.
 */
void map_env_shut_in(struct map_env *env, bool in_chroot);
/*
 * Before threads exist. From then on a table whose file has changed is opened by a thread of env's own, while the old one serves: no
 * lookup waits for it. For processes that live, and call map_env_tend(). Without it the next lookup opens the table, and has the new
 * content.
 */
void map_env_open_aside(struct map_env *env);
/* One of these two was called. */
bool map_env_wants_tending(const struct map_env *env);
/*
 * To be called about twice a second, by any thread: tables whose files have changed are opened anew, though nobody asks them. True: there
 * is one that this process may not open; it is to finish its clients and make room for another.
 */
bool map_env_tend(struct map_env *env);
/* Who answers for "proxy:type:name". To be said before a table is opened. */
enum map_proxy {
    MAP_PROXY_IF_THERE, /* proxymap(8), or the table itself when it cannot be reached: commands. As env begins. */
    MAP_PROXY_ALWAYS, /* proxymap(8); out of reach is "try again": daemons */
    MAP_PROXY_NEVER, /* the table itself: proxymap(8), and what runs as root and must not trust an unprivileged process */
};
void map_env_set_proxy(struct map_env *env, enum map_proxy who);
const struct config *map_env_config(const struct map_env *env);

/*
 * Opens "type:name" ($name already expanded). A table that cannot be opened now (missing file, wrong
 * syntax in a static table) still opens: it answers MAP_RETRY with the reason, and recovers when the
 * file appears. An unknown type or a text without ":" is -1. The map belongs to env.
 */
NODISCARD int map_open(struct map_env *env, struct slice spec, struct map **out, struct err *err);
/* Strict: also -1 when the table is missing, unreadable, or a row is wrong. For postfix check and reload. */
NODISCARD int map_check(struct map_env *env, struct slice spec, struct err *err);
const char *map_name(const struct map *m); /* "hash:/etc/postfix/virtual" */
unsigned map_flags(const struct map *m);
/*
 * The same, of a table whose results name files, commands, users or transports: what a client or sender wrote must not get into
 * them, so rules of regular expressions with $number are reported and left out.
 */
NODISCARD int map_open_plain(struct map_env *env, struct slice spec, struct map **out,
                             struct err *err);
/* The table of that name, as map_open() was given it, if it is open in env; else NULL. */
struct map *map_opened(struct map_env *env, struct slice spec);
/* When what m asks now was opened; 0: it could not be. */
struct wall_time map_loaded(struct map *m);

/* How tables with exact keys fold their keys. UTF8 where smtputf8_enable says so, else ASCII; NONE: postmap -f. */
enum map_folding { MAP_FOLD_NONE, MAP_FOLD_ASCII, MAP_FOLD_UTF8 };
/* For all tables of env; before the first lookup. */
void map_env_set_folding(struct map_env *env, enum map_folding how);
enum map_folding map_env_folding(const struct map_env *env);
/* Appends key in lower case. What is not UTF-8 is folded as ASCII. */
void map_fold(enum map_folding how, struct slice key, struct buf *out);

/*
 * Looks up key in m.
 *
 * key    0..MAP_KEY_MAX bytes of any value, borrowed for the call; the table folds case, not you
 * value  appended to on MAP_FOUND, otherwise untouched
 * err    filled on MAP_RETRY: table, cause
 *
 * Threads may share m. Blocks no longer than the table's own time limit. Source: postmap(1).
 */
NODISCARD enum map_result map_lookup(struct map *m, struct slice key, struct buf *value,
                                     struct err *err);

/* Calls fn for each row, in the file's order, until it returns false. -1: trouble, or a type that cannot be listed. */
NODISCARD int map_each(struct map *m, bool (*fn)(struct slice key, struct slice value, void *arg),
                       void *arg, struct err *err);

/*
 * A table that this process writes: the caches of verify(8), postscreen(8). Types: btree, hash, lmdb, internal.
 *
 * The file is made when it is missing, and no other process may write it meanwhile (lmdb: processes take turns). A file that turns
 * out to be damaged, now or later, is renamed to FILE.corrupt, reported, and a new one begun: a cache is lost, not the service. Also one
 * that processes die of: beside it stands FILE.used, see map_used.c. It is closed by map_env_free().
 * Ask it with map_lookup() and map_each(). -1: the type cannot be written, or the file cannot be made or is in use.
 */
NODISCARD int map_open_writable(struct map_env *env, struct slice spec, struct map **out,
                                struct err *err);
/* Puts the row, in place of the one of that key. m: from map_open_writable(). */
NODISCARD int map_update(struct map *m, struct slice key, struct slice value, struct err *err);
/* MAP_FOUND: it was there and is gone. */
NODISCARD enum map_result map_delete(struct map *m, struct slice key, struct err *err);
/* Until then a crash may lose what was written (or, with Berkeley DB, the cache). */
NODISCARD int map_sync(struct map *m, struct err *err);

/* A list of tables ("hash:/a, regexp:/b"): the first that has the key answers. */
struct map_list;
NODISCARD int map_list_open(struct map_env *env, const char *value, struct map_list **out,
                            struct err *err);
/* Of tables opened by map_open_plain(). */
NODISCARD int map_list_open_plain(struct map_env *env, const char *value, struct map_list **out,
                                  struct err *err);
void map_list_free(struct map_list **l);
bool map_list_is_empty(const struct map_list *l);  /* NULL is empty */
unsigned map_list_flags(const struct map_list *l); /* LOCAL if all are */
/* only: 0, or MAP_FLAG_FIXED to ask only such tables. hit (may be NULL): the table that answered. */
NODISCARD enum map_result map_list_lookup(struct map_list *l, struct slice key, unsigned only,
                                          struct buf *value, const struct map **hit,
                                          struct err *err);

/* Writing a table in use: map_open_writable(). One call at a time. err's kind is permanent when the file is damaged. */
struct map_writer_type {
    const char *suffix; /* of the file; NULL: there is none */
    /* Opens for reading and writing; *impl suits the type's lookup, each and close. */
    int (*open)(const char *path, struct map_env *env, void **impl, struct err *err);
    int (*update)(void *impl, struct slice key, struct slice value, struct err *err);
    enum map_result (*remove)(void *impl, struct slice key, struct err *err);
    int (*sync)(void *impl, struct err *err); /* NULL: nothing to do */
};

/* A table type: one file, one const instance, one row in map.c. */
struct map_type {
    const char *name;
    unsigned flags;
    /* Opens path; *impl is the type's own. Missing file: -1, temporary. */
    int (*open)(const char *path, struct map_env *env, void **impl, struct err *err);
    void (*close)(void *impl);
    /* May be called by several threads at once. key is folded to lower case for FIXED types before. */
    enum map_result (*lookup)(void *impl, struct slice key, struct buf *value, struct err *err);
    /* NULL: never. True when the source has changed and open() should be done anew (cheap: fstat). */
    bool (*is_stale)(void *impl, const char *path);
    /* NULL: cannot be built by postmap. See map_build.h */
    const struct map_builder_type *builder;
    /* NULL: cannot be listed (postmap -s). Stops when fn returns false. */
    int (*each)(void *impl, bool (*fn)(struct slice key, struct slice value, void *arg), void *arg,
                struct err *err);
    bool keeps_key_case;
    /* Is asked for the empty key too, as pattern types are; others have no such row. */
    bool any_key;
    /* NULL: flags, whatever the path. 0: the path is wrong; open() says how. */
    unsigned (*flags_of)(const char *path);
    /* NULL: cannot be written row by row while in use. */
    const struct map_writer_type *writer;
    /* NULL, or the format of its files where the type's own is not built in. */
    const char *stand_in;
};
void map_type_each(void (*fn)(const struct map_type *t, void *arg),
                   void *arg); /* the built-in ones, sorted by name */
/* All that are there, modules (map_plugin.h) too, sorted. */
void map_type_names_each(const struct config *cfg, void (*fn)(const char *name, void *arg),
                         void *arg);

#endif
