/* SPDX-License-Identifier: Apache-2.0 */
/* arguments.c - see arguments.h. What getopt_long(3) gives back for a row is FIRST plus its place in the table. */
#include "arguments.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/num.h"

#define ROWS_MAX 64
#define FIRST    256

static bool has_value(const struct argument *row)
{
    return row->on == NULL && row->choice == NULL;
}

static bool is_long(const struct argument *row)
{
    return row->name[1] == '-';
}

static int64_t number(const struct argument *row, const char *value)
{
    struct err err = ERR_INIT;
    int64_t n;

    if (num_parse_i64(slice_str(value), row->min, row->max, &n, &err) == -1)
        fatal("%s: %s", row->name, err.text);
    return n;
}

static void apply(const struct argument *row, const char *value)
{
    if (row->on != NULL)
        *row->on = true;
    else if (row->choice != NULL)
        *row->choice = row->chosen;
    else if (row->text != NULL)
        *row->text = value;
    else if (row->number != NULL)
        *row->number = number(row, value);
    else if (row->integer != NULL)
        *row->integer = (int) number(row, value);
    else
        row->take(row->arg, row->name, value);
}

static NORETURN void show(const char *usage, int status)
{
    (void) fprintf(status == 0 ? stdout : stderr, "%s\n", usage);
    exit(status); /* NOLINT(concurrency-mt-unsafe): no threads */
}

/* The tables that getopt_long(3) wants. How many rows there are. */
static int describe(const struct argument *rows, char *letters, struct option *names)
{
    int n = 0;

    for (; rows[n].name != NULL; n++) {
        const struct argument *row = &rows[n];

        if (n == ROWS_MAX)
            panic("more than %d options", ROWS_MAX);
        if (is_long(row)) {
            *names++ = (struct option){.name = row->name + 2,
                                       .has_arg = has_value(row) ? required_argument : no_argument,
                                       .val = FIRST + n};
        } else {
            *letters++ = row->name[1];
            if (has_value(row))
                *letters++ = ':';
        }
    }
    *names++ = (struct option){.name = "help", .has_arg = no_argument, .val = FIRST + n};
    *names = (struct option){0};
    *letters = '\0';
    return n;
}

static const struct argument *find_letter(const struct argument *rows, int letter)
{
    for (; rows->name != NULL; rows++)
        if (!is_long(rows) && rows->name[1] == letter)
            return rows;
    return NULL;
}

char **arguments_take(int argc, char **argv, const struct argument *rows, const char *usage,
                      int operands)
{
    char letters[2 * ROWS_MAX + 1];
    struct option names[ROWS_MAX + 2];
    int count = describe(rows, letters, names);
    int found;

    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no threads */
    while ((found = getopt_long(argc, argv, letters, names, NULL)) != -1) {
        const struct argument *row = found >= FIRST + count ? NULL
                                     : found >= FIRST       ? &rows[found - FIRST]
                                                            : find_letter(rows, found);

        if (row == NULL) /* '?' is nobody's letter */
            show(usage, found == FIRST + count ? 0 : 1);
        apply(row, optarg);
    }
    if (argc - optind != operands)
        show(usage, 1);
    return argv + optind;
}
