/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_map_literal.c - whatever an expression matches has the literals that were read off it, and what is taken for a glob matches what
 * the library says.
 *
 * Input: 'p' (PCRE2) or another byte (POSIX), the expression up to a NUL, the key.
 */
#include <regex.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "maps/map_glob.h"
#include "maps/map_literal.h"
#include "maps/map_regexp_cost.h"

#define EXPRESSION_MAX 60 /* the libraries' own time with long ones is their matter */
#define KEY_MAX        200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* 1, 0; -1: it is no expression, or takes too long */
static int pcre_matches(const char *expression, struct slice key)
{
    PCRE2_SIZE at;
    int code;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR) expression, PCRE2_ZERO_TERMINATED,
                                   PCRE2_CASELESS | PCRE2_DOTALL, &code, &at, NULL);
    pcre2_match_context *limits;
    pcre2_match_data *match;

    if (re == NULL)
        return -1;
    limits = pcre2_match_context_create(NULL);
    pcre2_set_match_limit(limits, 10000);
    match = pcre2_match_data_create(1, NULL);
    code = pcre2_match(re, (PCRE2_SPTR) key.ptr, key.len, 0, 0, match, limits);
    pcre2_match_data_free(match);
    pcre2_match_context_free(limits);
    pcre2_code_free(re);
    return code >= 0 ? 1 : code == PCRE2_ERROR_NOMATCH ? 0 : -1;
}

static int posix_matches(const char *expression, const char *key)
{
    regex_t re;
    uint64_t bytes;
    int code;

    if (regexp_cost(slice_str(expression), false, &bytes, NULL) == -1 ||
        regcomp(&re, expression, REG_EXTENDED | REG_ICASE | REG_NOSUB) != 0)
        return -1;
    code = regexec(&re, key, 0, NULL, 0);
    regfree(&re);
    return code == 0;
}

static bool has_all(const struct literals *l, struct slice folded)
{
    for (size_t i = 0; l != NULL && i < l->choices.len; i++) {
        const struct literal_choice *c = l->choices.items[i];
        bool any = false;

        for (size_t k = 0; k < c->strings.len; k++) {
            const struct slice *s = c->strings.items[k];

            any |= memmem(folded.ptr, folded.len, s->ptr, s->len) != NULL;
        }
        if (!any)
            return false;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *) data + 1;
    const char *nul = size > 1 ? memchr(text, '\0', size - 1) : NULL;
    char key[KEY_MAX + 1];
    char folded[KEY_MAX + 1];
    size_t len;
    bool pcre;
    struct literals *l;
    struct glob *g;

    if (nul == NULL || nul - text > EXPRESSION_MAX)
        return 0;
    len = size - 1 - (size_t) (nul + 1 - text);
    if (len > KEY_MAX)
        return 0;
    memcpy(key, nul + 1, len);
    key[len] = '\0';
    for (size_t i = 0; i <= len; i++)
        folded[i] = literal_fold(key[i]);
    pcre = data[0] == 'p';
    l = literals_of(slice_of(text, (size_t) (nul - text)), pcre ? LITERAL_PCRE : LITERAL_ERE);
    if (!has_all(l, slice_of(folded, pcre ? len : strlen(folded))) &&
        (pcre ? pcre_matches(text, slice_of(key, len)) : posix_matches(text, key)) == 1)
        abort();
    g = glob_of(slice_of(text, (size_t) (nul - text)), GLOB_FOLDS | (pcre ? GLOB_NEWLINE_END : 0));
    if (g != NULL) {
        struct slice asked = slice_of(key, pcre ? len : strlen(key));
        int real = pcre ? pcre_matches(text, asked) : posix_matches(text, key);

        if (real != -1 && glob_matches(g, asked) != (real == 1))
            abort();
        free(g);
    }
    literals_free(&l);
    return 0;
}
