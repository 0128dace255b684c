/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_master_cf.c - any bytes as master.cf. What is accepted is written again, on one line and folded; both must be
 * read to the same services.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "postconf/postconf_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same_words(char *const *a, char *const *b)
{
    for (; *a != NULL && *b != NULL; a++, b++)
        if (strcmp(*a, *b) != 0)
            abort();
    if (*a != NULL || *b != NULL)
        abort();
}

static void check_again(const struct master_cf *m, bool fold)
{
    struct buf text = BUF_INIT(SIZE_MAX);
    struct master_cf *again = NULL;
    struct err err = ERR_INIT;

    for (size_t i = 0; i < m->services.len; i++)
        postconf_put_service(m->services.items[i], fold, &text);
    if (master_cf_parse("again", buf_view(&text), &again, &err) == -1)
        abort();
    if (again->services.len != m->services.len)
        abort();
    for (size_t i = 0; i < m->services.len; i++) {
        const struct master_service *a = m->services.items[i];
        const struct master_service *b = again->services.items[i];

        for (size_t c = 0; c < MASTER_COLUMNS; c++)
            if (strcmp(a->columns[c], b->columns[c]) != 0)
                abort();
        if (strcmp(a->command, b->command) != 0)
            abort();
        same_words(a->args, b->args);
        same_words(a->overrides, b->overrides);
    }
    master_cf_free(&again);
    buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct master_cf *m = NULL;
    struct err err = ERR_INIT;

    if (master_cf_parse("master.cf", slice_of((const char *) data, size), &m, &err) == -1) {
        if (err.kind != ERR_BAD_INPUT || strstr(err.text, "master.cf, line ") == NULL)
            abort();
        return 0;
    }
    check_again(m, false);
    check_again(m, true);
    master_cf_free(&m);
    return 0;
}
