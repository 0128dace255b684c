/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_postconf_params.c - the lists of parameters agree: each of Postfix's is known with its default, none stands both in a
 * folder and among those that are not yet effective, and every row says what it is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/htable.h"
#include "postconf/params_pending.h"

/* Defaults that are meant to differ, and why. */
static const struct {
    const char *name, *why;
} differs[] = {
    {"smtpd_forbid_bare_newline",
     "bare line feeds are refused unless the administrator wants otherwise"},
    {"alias_maps", "there is no NIS"},
};

static bool may_differ(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(differs); i++)
        if (strcmp(differs[i].name, name) == 0)
            return true;
    return false;
}

static struct slice column(struct slice line, int n)
{
    for (; n > 0; n--) {
        ptrdiff_t tab = slice_find(line, '\t');

        line = tab == -1 ? SLICE_EMPTY : slice_sub(line, (size_t) tab + 1, line.len);
    }
    return slice_sub(line, 0,
                     slice_find(line, '\t') == -1 ? line.len : (size_t) slice_find(line, '\t'));
}

static void test_defaults(void **state)
{
    struct buf text = BUF_INIT(1U << 20);
    struct err err = ERR_INIT;
    struct slice rest;
    struct slice line;
    int rows = 0;

    (void) state;
    if (file_read(SOURCE_DIR "/tests/data/main.cf-parameters.tsv", &text, &err) == -1)
        fail_msg("%s", err.text);
    rest = buf_view(&text);
    while (slice_token(&rest, "\n", &line)) {
        char *name = slice_dup(column(line, 0));
        const struct param *p = param_find(name);

        rows++;
        if (p == NULL)
            fail_msg("%s is not known", name);
        if (p->def_fn == NULL && !may_differ(name) &&
            !slice_eq_str(column(line, 1), p->def != NULL ? p->def : ""))
            fail_msg("%s: default \"%s\", wanted \"%.*s\"", name, p->def,
                     SLICE_FMT(column(line, 1)));
        free(name);
    }
    assert_true(rows > 900);
    buf_fini(&text);
}

static void test_rows(void **state)
{
    struct htable *taken = htable_new(false);

    (void) state;
    for (const struct param_set *const *const *folder = all_param_sets; *folder != NULL; folder++) {
        for (const struct param_set *const *set = *folder; *set != NULL; set++) {
            for (size_t i = 0; i < (*set)->count; i++) {
                const struct param *p = &(*set)->rows[i];

                const struct param *other =
                    htable_put(taken, slice_str(p->name), (void *) (uintptr_t) p);

                /* two folders may read one; they must mean the same */
                if (other != NULL && (other->type != p->type || strcmp(other->def, p->def) != 0))
                    fail_msg("%s is there twice, and not the same", p->name);
                if (p->status == PARAM_EFFECTIVE && (p->doc == NULL || p->doc[0] == '\0'))
                    fail_msg("%s has no word of documentation", p->name);
                if (p->status == PARAM_BUILT_IN && p->note == NULL)
                    fail_msg("%s is built in, but the row does not say how", p->name);
            }
        }
    }
    for (size_t i = 0; i < params_pending_count; i++)
        if (htable_get(taken, slice_str(params_pending[i].name)) != NULL)
            fail_msg("%s is taken over: run tools/prune-pending", params_pending[i].name);
    htable_free(&taken, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
