/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_postconf_registry.c - the parameters' rows against tests/data/main.cf-parameters.tsv: every name of Postfix's is
 * known once, with its default and type.
 */
#include "test_base.h"

#include <stdlib.h>

#include "base/file.h"
#include "base/htable.h"
#include "postconf/params_pending.h"

#define MAX_PROBLEMS 40

/* Rows that differ from the data on purpose. */
static const struct {
    const char *name;
    const char *why;
} differing[] = {
    {"alias_maps", "there is no table type nis"},
    {"smtpd_forbid_bare_newline", "content with bare line feeds is refused from the start"},
};

struct problems {
    struct buf text;
    unsigned count;
};

PRINTF_LIKE(2, 3) static void problem(struct problems *p, const char *fmt, ...)
{
    va_list ap;

    if (p->count++ >= MAX_PROBLEMS)
        return;
    va_start(ap, fmt);
    buf_vprintf(&p->text, fmt, ap);
    va_end(ap);
    buf_putc(&p->text, '\n');
}

static void finish(struct problems *p)
{
    unsigned count = p->count;

    if (count > 0)
        fprintf(stderr, "%s", buf_cstr(&p->text));
    buf_fini(&p->text);
    check_int("problems, printed above", count, 0);
}

static bool differs_on_purpose(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(differing); i++)
        if (strcmp(differing[i].name, name) == 0)
            return true;
    return false;
}

static const char *type_word(const struct param *p)
{
    static const char *const words[] = {[PARAM_TYPE_STRING] = "string",
                                        [PARAM_TYPE_RAW] = "raw",
                                        [PARAM_TYPE_INT] = "int",
                                        [PARAM_TYPE_BOOL] = "bool",
                                        [PARAM_TYPE_TIME] = "time"};

    return words[p->type];
}

/* Texts of all kinds are one type here; whether a text is expanded at once may be our own choice. */
static bool same_type(const struct param *p, struct slice wanted)
{
    bool text = p->type == PARAM_TYPE_STRING || p->type == PARAM_TYPE_RAW;

    if (slice_eq_str(wanted, "string") || slice_eq_str(wanted, "enum") ||
        slice_eq_str(wanted, "maps") || slice_eq_str(wanted, "raw"))
        return text;
    return slice_eq_str(wanted, type_word(p));
}

/* Columns of one line; empty ones count. */
static struct slice column(struct slice line, unsigned n)
{
    for (;; n--) {
        ptrdiff_t tab = slice_find(line, '\t');

        if (n == 0)
            return tab == -1 ? line : slice_sub(line, 0, (size_t) tab);
        if (tab == -1)
            return SLICE_EMPTY;
        line = slice_sub(line, (size_t) tab + 1, line.len);
    }
}

static void check_row(struct problems *problems, struct slice line)
{
    char *name = slice_dup(column(line, 0));
    const struct param *p = param_find(name);

    if (p == NULL || strcmp(p->name, name) != 0)
        problem(problems, "%s: no row", name);
    else if (!differs_on_purpose(name) &&
             !slice_eq_str(column(line, 1), p->def != NULL ? p->def : ""))
        problem(problems, "%s: default is \"%s\", wanted \"%.*s\"", name, p->def,
                SLICE_FMT(column(line, 1)));
    else if (!differs_on_purpose(name) && !same_type(p, column(line, 2)))
        problem(problems, "%s: type is %s, wanted %.*s", name, type_word(p),
                SLICE_FMT(column(line, 2)));
    free(name);
}

static void check_file(const char *path, int wanted_rows)
{
    struct problems problems = {BUF_INIT(SIZE_MAX), 0};
    struct buf text = BUF_INIT(SIZE_MAX);
    struct err err = ERR_INIT;
    struct slice rest;
    struct slice line;
    int rows = 0;

    if (file_read(path, &text, &err) == -1)
        fail_msg("%s", err.text);
    rest = buf_view(&text);
    while (slice_token(&rest, "\n", &line)) {
        check_row(&problems, line);
        rows++;
    }
    buf_fini(&text);
    finish(&problems);
    check_int(path, rows, wanted_rows);
}

static void test_names_and_defaults(void **state)
{
    (void) state;
    check_file(SOURCE_DIR "/tests/data/main.cf-parameters.tsv", 943);
    check_file(SOURCE_DIR "/tests/data/main.cf-transport-parameters.tsv", 17);
}

static void test_pending_are_nobody_elses(void **state)
{
    struct problems problems = {BUF_INIT(SIZE_MAX), 0};
    struct htable *pending = htable_new(false);
    static char present[] = "";

    (void) state;
    for (size_t i = 0; i < params_pending_count; i++)
        if (htable_put(pending, slice_str(params_pending[i].name), present) != NULL)
            problem(&problems, "%s: twice among the pending ones", params_pending[i].name);
    for (const struct param_set *const *const *folder = all_param_sets; *folder != NULL; folder++)
        for (const struct param_set *const *set = *folder; *set != NULL; set++)
            for (size_t i = 0; i < (*set)->count; i++)
                if (htable_get(pending, slice_str((*set)->rows[i].name)) != NULL)
                    problem(&problems, "%s: both in %s and pending: run tools/prune-pending",
                            (*set)->rows[i].name, (*set)->name);
    htable_free(&pending, NULL);
    finish(&problems);
}

static void check_words(const struct param *p, void *arg)
{
    struct problems *problems = arg;

    if (p->def == NULL && p->def_fn == NULL)
        problem(problems, "%s: no default", p->name);
    if (p->status == PARAM_PENDING)
        return;
    if (p->status == PARAM_EFFECTIVE && (p->doc == NULL || p->doc[0] == '\0'))
        problem(problems, "%s: no sentence that documents it", p->name);
    if (p->status == PARAM_BUILT_IN && (p->note == NULL || p->note[0] == '\0'))
        problem(problems, "%s: built in, but no note says how", p->name);
    if (p->max > 0 && p->min > p->max)
        problem(problems, "%s: min is more than max", p->name);
}

static void test_rows_are_complete(void **state)
{
    struct problems problems = {BUF_INIT(SIZE_MAX), 0};

    (void) state;
    param_each(check_words, &problems);
    finish(&problems);
}

static void test_find(void **state)
{
    static const struct {
        const char *name;
        const char *wanted; /* the row's name; NULL: none */
    } rows[] = {
        {"myhostname", "myhostname"},
        {"foo_destination_concurrency_limit", "*_destination_concurrency_limit"},
        {"a_b_destination_concurrency_limit", "*_destination_concurrency_limit"},
        {"local_destination_concurrency_limit", "local_destination_concurrency_limit"},
        {"foo_initial_destination_concurrency", "*_initial_destination_concurrency"},
        {"x_destination_recipient_limit", "*_destination_recipient_limit"},
        {"x_extra_recipient_limit", "*_extra_recipient_limit"},
        {"x_recipient_limit", "*_recipient_limit"},
        {"_recipient_limit", NULL},
        {"recipient_limit", NULL},
        {"nosuch", NULL},
        {"", NULL},
        {"MYHOSTNAME", NULL},
    };

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct param *p = param_find(rows[i].name);

        if (rows[i].wanted == NULL)
            check_int(rows[i].name, p == NULL, true);
        else
            check_str(rows[i].name, p != NULL ? p->name : NULL, rows[i].wanted);
    }
}

static void test_suggest(void **state)
{
    static const struct {
        const char *name;
        const char *wanted;
    } rows[] = {
        {"myhostnme", "myhostname"},
        {"myhotsname", "myhostname"},
        {"myhostnames", "myhostname"},
        {"relayhosts", "relayhost"},
        {"smtpd_recipient_restriction", "smtpd_recipient_restrictions"},
        {"slow_destination_concurency_limit", "slow_destination_concurrency_limit"},
        {"my_own_destinaton_rate_delay", "my_own_destination_rate_delay"},
        {"_destination_concurency_limit", NULL}, /* no service */
        {"ldap_size_limit", NULL},               /* hardly *_time_limit */
        {"zzzzzzzzzzzzzzzz", NULL},
        {"", NULL},
    };
    char got[PARAM_SUGGESTION_MAX];
    char wanted[PARAM_SUGGESTION_MAX];

    (void) state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        (void) snprintf(wanted, sizeof(wanted),
                        rows[i].wanted != NULL ? ": did you mean %s?" : "%s",
                        rows[i].wanted != NULL ? rows[i].wanted : "");
        check_str(rows[i].name, param_suggestion(rows[i].name, got), wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_defaults),
        cmocka_unit_test(test_pending_are_nobody_elses),
        cmocka_unit_test(test_rows_are_complete),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_suggest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
