/* SPDX-License-Identifier: Apache-2.0 */
/* config_int.h - what the files of the main.cf side share. */
#ifndef PR_CONFIG_INT_H
#define PR_CONFIG_INT_H

#include <stdatomic.h>

#include "base/htable.h"
#include "base/lock.h"
#include "base/vec.h"
#include "postconf/config.h"

/* One "name = value" as written. */
struct config_entry {
    char *name;
    char *value;
    int line;      /* 0: from -o */
    int overrides; /* line of an earlier entry that this one replaces, or 0 */
};

struct config {
    atomic_uint refs;
    char *dir;
    char *path; /* DIR/main.cf */
    struct htable *entries; /* struct config_entry * */
    struct vec in_order;    /* the same, of main.cf and then -o; replaced ones included */
    struct lock lock;
    struct htable *expanded GUARDED_BY(lock); /* name -> value; kept until the end: config_get() lends them */
};

/* main_cf.c: calls fn for each logical line "name = value"; -1 with "FILE, line N: ..." . fn returns -1 to stop with err set. */
int main_cf_parse(const char *path, struct slice text,
                  int (*fn)(struct slice name, struct slice value, int line, void *arg, struct err *err), void *arg,
                  struct err *err);

/* config_defaults.c: parameters whose default is found out. NULL: none of them. Heap. */
char *config_computed_default(const struct config *cfg, const char *name);

#endif
