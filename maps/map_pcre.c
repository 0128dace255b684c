/* SPDX-License-Identifier: Apache-2.0 */
/* map_pcre.c - pcre: Perl-compatible expressions by PCRE2 with its just-in-time compiler. pcre_table(5). */
#include "maps/map_glob.h"
#include "maps/map_int.h"
#include "maps/map_literal.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct pattern {
    pcre2_code *code;           /* NULL: nobody asks, as there is a glob */
    _Atomic(pcre2_code *) fast; /* a copy with machine code; NULL: none yet */
    atomic_bool is_compiled;    /* or is being: `fast` is there, or will be, or cannot be */
    uint32_t groups;
};

/* One match block for each thread, as large as any pattern needs. The key is there for its destructor: threads end, the process goes on. */
static _Thread_local pcre2_match_data *block;
static pthread_once_t block_once = PTHREAD_ONCE_INIT;
static pthread_key_t block_key;
static bool has_block_key;
#define GROUPS 100

static void free_block(void *b)
{
    pcre2_match_data_free(b);
    block = NULL;
}

static void make_block_key(void)
{
    has_block_key = pthread_key_create(&block_key, free_block) == 0;
}

static int make_block(struct err *err)
{
    (void) pthread_once(&block_once, make_block_key);
    block = has_block_key ? pcre2_match_data_create(GROUPS, NULL) : NULL;
    if (block == NULL)
        return err_temporary(err, "out of memory");
    if (pthread_setspecific(block_key, block) != 0) {
        free_block(block);
        return err_temporary(err, "out of memory");
    }
    return 0;
}

/* Does what the expression says mean what glob_of() takes it to mean? */
static bool is_plain(const pcre2_code *re, uint32_t options)
{
    uint32_t newline = 0;

    return (options & ~(uint32_t) PCRE2_CASELESS) == PCRE2_DOTALL &&
           pcre2_pattern_info(re, PCRE2_INFO_NEWLINE, &newline) == 0 && newline == PCRE2_NEWLINE_LF;
}

static int compile(struct slice *rest, struct pattern_made *out, struct err *err)
{
    static const struct {
        char flag;
        uint32_t option;
    } known[] = {
        {'i', PCRE2_CASELESS}, {'m', PCRE2_MULTILINE},
        {'s', PCRE2_DOTALL},   {'x', PCRE2_EXTENDED},
        {'A', PCRE2_ANCHORED}, {'E', PCRE2_DOLLAR_ENDONLY},
        {'U', PCRE2_UNGREEDY}, {'X', 0},
    };
    struct buf text = BUF_INIT(MAP_VALUE_MAX);
    uint32_t options = PCRE2_CASELESS | PCRE2_DOTALL;
    struct slice flags;
    PCRE2_SIZE at;
    int code;
    pcre2_code *re;
    struct pattern *p;
    int ret = -1;

    if (pattern_delimited(rest, &text, &flags, err) == -1)
        goto done;
    for (size_t i = 0; i < flags.len; i++) {
        size_t k = 0;

        while (k < ARRAY_LEN(known) && known[k].flag != flags.ptr[i])
            k++;
        if (k == ARRAY_LEN(known)) {
            err_input(err, "unknown flag \"%c\"", flags.ptr[i]);
            goto done;
        }
        options ^= known[k].option;
    }
    re = pcre2_compile((PCRE2_SPTR) buf_cstr(&text), text.len, options, &code, &at, NULL);
    if (re == NULL) {
        PCRE2_UCHAR why[256];

        pcre2_get_error_message(code, why, sizeof(why));
        err_input(err, "pattern \"%s\": at offset %zu: %s", buf_cstr(&text), (size_t) at,
                  (const char *) why);
        goto done;
    }
    p = xcalloc(1, sizeof(*p));
    pcre2_pattern_info(re, PCRE2_INFO_CAPTURECOUNT, &p->groups);
    if (is_plain(re, options))
        out->glob = glob_of(buf_view(&text),
                            GLOB_NEWLINE_END | ((options & PCRE2_CASELESS) != 0 ? GLOB_FOLDS : 0));
    if (out->glob == NULL || glob_has_group(out->glob))
        p->code = re;
    else
        pcre2_code_free(re);
    out->pattern = p;
    out->literals =
        (options & PCRE2_EXTENDED) == 0 ? literals_of(buf_view(&text), LITERAL_PCRE) : NULL;
    ret = 0;
done:
    buf_fini(&text);
    return ret;
}

static void free_pattern(void *pattern)
{
    struct pattern *p = pattern;

    pcre2_code_free(p->code);
    if (p->fast != NULL)
        pcre2_code_free(p->fast);
    free(p);
}

/* Machine code takes some 50 us to make, and memory. By one thread; others use what is there meanwhile. */
static void compile_fast(struct pattern *p)
{
    pcre2_code *fast;

    if (atomic_exchange(&p->is_compiled, true))
        return;
    fast = pcre2_code_copy(p->code);
    if (fast == NULL)
        return;
    if (pcre2_jit_compile(fast, PCRE2_JIT_COMPLETE) == 0)
        atomic_store_explicit(&p->fast, fast, memory_order_release);
    else
        pcre2_code_free(fast); /* it is interpreted */
}

/* Now, if nearly every key comes by; else when the first one does. */
static void prepare(void *pattern, const char *result, bool often)
{
    (void) result;
    if (often)
        compile_fast(pattern);
}

static int matches(void *pattern, struct slice key, void *match, struct err *err)
{
    struct pattern *p = pattern;
    const pcre2_code *re;
    int code;

    (void) match;
    if (block == NULL && make_block(err) == -1)
        return -1;
    if (!atomic_load_explicit(&p->is_compiled, memory_order_relaxed))
        compile_fast(p);
    re = atomic_load_explicit(&p->fast, memory_order_acquire);
    code = pcre2_match(re != NULL ? re : p->code, (PCRE2_SPTR) key.ptr, key.len, 0, 0, block, NULL);
    if (code < 0 && code != PCRE2_ERROR_NOMATCH) {
        PCRE2_UCHAR why[256];

        pcre2_get_error_message(code, why, sizeof(why));
        return err_temporary(err, "%s", (const char *) why);
    }
    return code >= 0;
}

struct groups {
    const struct pattern *p;
    struct slice key;
};

static bool group(unsigned n, struct slice *out, void *arg)
{
    const struct groups *g = arg;
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(block);

    if (n == 0 || n > g->p->groups || n >= GROUPS)
        return false;
    *out = at[2 * n] == PCRE2_UNSET ? SLICE_EMPTY : slice_sub(g->key, at[2 * n], at[2 * n + 1]);
    return true;
}

static int substitute(const void *pattern, const char *result, struct slice key, const void *match,
                      struct buf *out, struct err *err)
{
    struct groups g = {pattern, key};

    (void) match;
    return pattern_expand(result, group, &g, out, err);
}

static const struct pattern_ops ops = {"pcre",     compile, free_pattern, prepare, matches,
                                       substitute, 0,       NULL,         NULL};

static int open_table(const char *path, struct map_env *env, void **impl, struct err *err)
{
    (void) env;
    return pattern_map_open(path, &ops, impl, err);
}

const struct map_type map_type_pcre = {.name = "pcre",
                                       .flags = MAP_FLAG_PATTERN | MAP_FLAG_LOCAL,
                                       .open = open_table,
                                       .close = pattern_map_close,
                                       .lookup = pattern_map_lookup,
                                       .is_stale = pattern_map_is_stale};
