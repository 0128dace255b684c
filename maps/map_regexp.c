/* SPDX-License-Identifier: Apache-2.0 */
/* map_regexp.c - regexp: POSIX regular expressions. regexp_table(5). Flags: i case, m multi-line, x basic syntax. */
#include "maps/map_glob.h"
#include "maps/map_int.h"
#include "maps/map_literal.h"
#include "maps/map_regexp_cost.h"

#include <regex.h>
#include <stdlib.h>

#define GROUPS        100
#define COSTLY        (1U << 20) /* bytes: fewer are not counted, so that tables may be long */
#define SHOWN_PATTERN 100

struct pattern {
    bool is_there; /* false: nobody asks re, as there is a glob */
    regex_t re;
    size_t
        groups; /* that are wanted, and the whole; 0: only whether it matches, which costs a fraction */
};

/* What the library will take is taken off *room, if it is much. */
static int charge(struct slice expression, bool basic, uint64_t *room, struct err *err)
{
    uint64_t bytes;

    if (regexp_cost(expression, basic, &bytes, err) == -1)
        return -1;
    if (bytes < COSTLY)
        return 0;
    if (bytes > *room)
        return err_input(err, "it would take %d MB of memory, after others that take much",
                         (int) (bytes >> 20));
    *room -= bytes;
    return 0;
}

static int compile(struct slice *rest, struct pattern_made *out, struct err *err)
{
    struct buf text = BUF_INIT(MAP_VALUE_MAX);
    int cflags = REG_EXTENDED | REG_ICASE;
    struct slice flags;
    struct pattern *p = NULL;
    int code;
    int ret = -1;

    if (pattern_delimited(rest, &text, &flags, err) == -1)
        goto done;
    for (size_t i = 0; i < flags.len; i++) {
        switch (flags.ptr[i]) {
        case 'i':
            cflags ^= REG_ICASE;
            break;
        case 'm':
            cflags ^= REG_NEWLINE;
            break;
        case 'x':
            cflags ^= REG_EXTENDED;
            break;
        default:
            err_input(err, "unknown flag \"%c\"", flags.ptr[i]);
            goto done;
        }
    }
    if (charge(buf_view(&text), (cflags & REG_EXTENDED) == 0, &out->room, err) == -1) {
        err_prefix(err, "pattern \"%.*s\": ", SHOWN_PATTERN, buf_cstr(&text));
        goto done;
    }
    p = xcalloc(1, sizeof(*p));
    code = regcomp(&p->re, buf_cstr(&text), cflags);
    if (code != 0) {
        char why[128];

        regerror(code, &p->re, why, sizeof(why));
        err_input(err, "pattern \"%s\": %s", buf_cstr(&text), why);
        free(p);
        goto done;
    }
    if ((cflags & (REG_EXTENDED | REG_NEWLINE)) == REG_EXTENDED)
        out->glob =
            glob_of(buf_view(&text), GLOB_NO_NUL | ((cflags & REG_ICASE) != 0 ? GLOB_FOLDS : 0));
    p->is_there = out->glob == NULL || glob_has_group(out->glob);
    if (!p->is_there)
        regfree(&p->re);
    out->pattern = p;
    out->literals = (cflags & REG_EXTENDED) != 0 ? literals_of(buf_view(&text), LITERAL_ERE) : NULL;
    ret = 0;
done:
    buf_fini(&text);
    return ret;
}

static void free_pattern(void *pattern)
{
    struct pattern *p = pattern;

    if (p->is_there)
        regfree(&p->re);
    free(p);
}

static void prepare(void *pattern, const char *result, bool often)
{
    struct pattern *p = pattern;
    unsigned n = result != NULL ? pattern_highest_group(result) : 0;

    (void) often;
    p->groups = n == 0 ? 0 : n < GROUPS ? n + 1 : GROUPS;
}

static int matches(void *pattern, struct slice key, void *match, struct err *err)
{
    const struct pattern *p = pattern;
    regmatch_t *groups = match;
    int code;

    /* no copy: the first group's slot says where the key is */
    groups[0].rm_so = 0;
    groups[0].rm_eo = (regoff_t) key.len;
    code = regexec(&p->re, key.ptr, p->groups, groups, REG_STARTEND);
    if (code != 0 && code != REG_NOMATCH) {
        char why[128];

        regerror(code, &p->re, why, sizeof(why));
        return err_temporary(err, "%s", why);
    }
    return code == 0;
}

struct groups {
    const struct pattern *p;
    struct slice key;
    const regmatch_t *match;
};

static bool group(unsigned n, struct slice *out, void *arg)
{
    const struct groups *g = arg;

    if (n == 0 || !g->p->is_there || n > g->p->re.re_nsub || n >= GROUPS)
        return false;
    *out = g->match[n].rm_so == -1
               ? SLICE_EMPTY
               : slice_sub(g->key, (size_t) g->match[n].rm_so, (size_t) g->match[n].rm_eo);
    return true;
}

static int substitute(const void *pattern, const char *result, struct slice key, const void *match,
                      struct buf *out, struct err *err)
{
    struct groups g = {pattern, key, match};

    return pattern_expand(result, group, &g, out, err);
}

static const struct pattern_ops ops = {
    "regexp", compile, free_pattern, prepare, matches, substitute, GROUPS * sizeof(regmatch_t),
    NULL,     NULL};

static int open_table(const char *path, struct map_env *env, void **impl, struct err *err)
{
    (void) env;
    return pattern_map_open(path, &ops, impl, err);
}

/* regexec() is given a string with its NUL, although REG_STARTEND says where the key ends: not all that stands in for it
 * (sanitizers, other C libraries) looks at that first. */
static enum map_result lookup(void *impl, struct slice key, struct buf *value, struct err *err)
{
    char space[1024];
    char *copy = key.len < sizeof(space) ? space : xmalloc(key.len + 1);
    enum map_result res;

    memcpy(copy, key.ptr, key.len);
    copy[key.len] = '\0';
    res = pattern_map_lookup(impl, slice_of(copy, key.len), value, err);
    if (copy != space)
        free(copy);
    return res;
}

const struct map_type map_type_regexp = {.name = "regexp",
                                         .flags = MAP_FLAG_PATTERN | MAP_FLAG_LOCAL,
                                         .open = open_table,
                                         .close = pattern_map_close,
                                         .lookup = lookup,
                                         .is_stale = pattern_map_is_stale};
