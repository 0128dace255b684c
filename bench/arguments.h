/* SPDX-License-Identifier: Apache-2.0 */
/* arguments.h - options of the tools, as rows of a table. */
#ifndef PR_BENCH_ARGUMENTS_H
#define PR_BENCH_ARGUMENTS_H

#include "base/base.h"

#define ARGUMENT_SECONDS_MAX 86400

/* An option, and the one of these that it changes; only the first two have no value. */
struct argument {
    const char *name; /* "-x" or "--long-name"; NULL ends the table */
    bool *on;
    int *choice; /* gets .chosen */
    int chosen;
    const char **text;
    int64_t *number; /* min..max; so do the next */
    int *integer;
    int64_t min, max;
    void (*take)(void *arg, const char *name, const char *value);
    void *arg;
};

/*
 * Sets what the options of the command line say, in their order, and returns what stands behind them.
 *
 * usage     shown by --help, which ends the program with 0; and with 1 when an option is unknown or lacks its value, or the operands are not so many
 * operands  how many are wanted
 *
 * A value that is out of range is fatal(). Before threads are started only.
 */
char **arguments_take(int argc, char **argv, const struct argument *rows, const char *usage,
                      int operands);

#endif
