/* SPDX-License-Identifier: Apache-2.0 */
/* postmulti_int.h - what the files of postmulti(1) share. */
#ifndef PR_POSTMULTI_INT_H
#define PR_POSTMULTI_INT_H

#include "master/instances.h"

struct postmulti {
    struct vec instances;                   /* struct instance *; the primary one first */
    bool all;                               /* -a */
    const char *select_name, *select_group; /* -i, -g */
    const char *new_name, *new_group;       /* -I, -G */
    bool reverse;                           /* -R */
    char *const *words;                     /* what follows the options */
    size_t count;
};

/* Is it the one that -i names (a name, a directory, "-" for the primary one)? */
bool postmulti_has_name(const struct instance *i, const char *name);
/* Runs a program with the instance's environment; its exit status, or 1 if it cannot be run or dies. */
int postmulti_run(const struct instance *i, const char *program, char *const *words);
/* The same; what it prints is appended to out. */
int postmulti_capture(const struct instance *i, const char *program, char *const *words,
                      struct buf *out);

/* postmulti_destroy.c. Ends the program unless the instance is disabled, stopped, and without mail. */
void postmulti_check_destroy(const struct instance *i);
/* Removes its files; says what it leaves. */
void postmulti_remove(const struct instance *i);

/* postmulti_edit.c: -e. The exit status. */
int postmulti_edit(struct postmulti *m, const char *action);

#endif
