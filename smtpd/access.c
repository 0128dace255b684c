/* SPDX-License-Identifier: Apache-2.0 */
/* access.c - the actions of access tables (access(5)). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "mail/dsn.h"
#include "smtpd/policy_int.h"

/* "X.Y.Z text" of a REJECT or DEFER: code and text, with defaults. */
static enum policy_verdict refuse(struct evaluation *e, int64_t code, const char *dsn,
                                  struct slice text, struct slice key, const char *class_)
{
    struct slice rest = text;
    struct slice given = dsn_code_split(text, &rest);
    char own[DSN_CODE_MAX + 1];

    snprintf(own, sizeof(own), "%.*s",
             (int) (given.len > 0 && given.len <= DSN_CODE_MAX ? given.len : strlen(dsn)),
             given.len > 0 && given.len <= DSN_CODE_MAX ? given.ptr : dsn);
    if (rest.len == 0)
        rest = SLICE_LIT("Access denied");
    return policy_reject(e, code, own, key, class_, "%.*s", SLICE_FMT(rest));
}

static void do_effect(struct evaluation *e, enum policy_effect what, struct slice args,
                      const char *otherwise)
{
    char text[600];

    snprintf(text, sizeof(text), "%.*s", SLICE_FMT(args.len > 0 ? args : slice_str(otherwise)));
    if (e->effect != NULL)
        e->effect(e->effect_arg, what, text);
}

static enum policy_verdict defer_if(struct evaluation *e, bool permit, struct slice args,
                                    struct slice key, const char *class_)
{
    struct policy_result saved = *e->result;

    if (!permit) {
        e->state->defer_if_reject = true;
        return POLICY_DUNNO;
    }
    return policy_defer_if_permit(e,
                                  refuse(e, e->p->p.access_defer_code, "4.7.1",
                                         args.len > 0 ? args : SLICE_LIT("Service unavailable"),
                                         key, class_),
                                  &saved);
}

/* "450 4.7.1 text", "554 text". */
static enum policy_verdict by_number(struct evaluation *e, struct slice value, struct slice key,
                                     const char *class_)
{
    int code = (value.ptr[0] - '0') * 100 + (value.ptr[1] - '0') * 10 + (value.ptr[2] - '0');
    struct slice rest = slice_trim(slice_sub(value, 3, value.len), NULL);
    enum policy_verdict v = refuse(e, code, code < 500 ? "4.7.1" : "5.7.1", rest, key, class_);

    return v == POLICY_REJECT && (code == 421 || code == 521) ? POLICY_DISCONNECT : v;
}

static bool all_digits(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!ascii_is_digit((unsigned char) s.ptr[i]))
            return false;
    return s.len > 0;
}

/* Anything else is a list of restrictions. */
static enum policy_verdict by_restrictions(struct evaluation *e, struct slice value,
                                           struct slice key, const char *class_, const char *table)
{
    struct vec list = VEC_INIT;
    struct err err = ERR_INIT;
    char *text = slice_dup(value);
    const char *class_before = e->class_;
    struct slice what_before = e->what;
    enum policy_verdict v;

    e->class_ = class_;
    e->what = key;

    if (++e->depth > 10 || policy_parse(e->p, text, &list, e->depth, &err) == -1) {
        log_warning("access table %s: entry %.*s: %s", table, SLICE_FMT(key), err.text);
        v = policy_reject(e, 451, "4.3.5", key, NULL, "Server configuration error");
    } else {
        v = policy_run(e, &list);
    }
    e->depth--;
    e->class_ = class_before;
    e->what = what_before;
    policy_list_free(&list);
    free(text);
    return v;
}

enum policy_verdict access_action(struct evaluation *e, struct slice value, struct slice key,
                                  const char *class_, const char *table)
{
    static const struct {
        const char *name;
        enum policy_effect effect;
        const char *otherwise; /* NULL: an argument must be there */
    } effects[] = {
        {"HOLD", EFFECT_HOLD, "triggers HOLD action"},
        {"DISCARD", EFFECT_DISCARD, "triggers DISCARD action"},
        {"FILTER", EFFECT_FILTER, NULL},
        {"REDIRECT", EFFECT_REDIRECT, NULL},
        {"PREPEND", EFFECT_PREPEND, NULL},
        {"BCC", EFFECT_BCC, NULL},
        {"WARN", EFFECT_WARN, "triggers WARN action"},
        {"INFO", EFFECT_INFO, "triggers INFO action"},
    };
    struct slice rest = slice_trim(value, NULL);
    struct slice whole = rest;
    struct slice word = SLICE_EMPTY;

    (void) slice_token(&rest, " \t", &word);
    rest = slice_trim(rest, NULL);
    if (slice_caseeq_str(word, "DUNNO") || word.len == 0)
        return POLICY_DUNNO;
    if (slice_caseeq_str(word, "OK") || slice_caseeq_str(word, "RELAY") ||
        slice_caseeq_str(word, "PERMIT")) {
        policy_log_permit(e, word, class_, key, slice_caseeq_str(word, "PERMIT") ? NULL : table);
        return POLICY_PERMIT;
    }
    if (slice_caseeq_str(word, "REJECT"))
        return refuse(e, e->p->p.access_reject_code, "5.7.1", rest, key, class_);
    if (slice_caseeq_str(word, "DEFER"))
        return refuse(e, e->p->p.access_defer_code, "4.7.1", rest, key, class_);
    if (slice_caseeq_str(word, "DEFER_IF_PERMIT") || slice_caseeq_str(word, "DEFER_IF_REJECT"))
        return defer_if(e, slice_caseeq_str(word, "DEFER_IF_PERMIT"), rest, key, class_);
    if (word.len == 3 && all_digits(word) && (word.ptr[0] == '4' || word.ptr[0] == '5'))
        return by_number(e, whole, key, class_);
    if (all_digits(word)) { /* any other number: as pop-before-smtp tables have them */
        policy_log_permit(e, word, class_, key, table);
        return POLICY_PERMIT;
    }
    for (size_t i = 0; i < ARRAY_LEN(effects); i++) {
        if (!slice_caseeq_str(word, effects[i].name))
            continue;
        if (effects[i].otherwise == NULL && rest.len == 0) {
            log_warning("access table %s: entry %.*s: %s without its argument", table,
                        SLICE_FMT(key), effects[i].name);
            return policy_reject(e, 451, "4.3.5", key, NULL, "Server configuration error");
        }
        do_effect(e, effects[i].effect, rest,
                  effects[i].otherwise != NULL ? effects[i].otherwise : "");
        if (effects[i].effect != EFFECT_DISCARD)
            return POLICY_DUNNO;
        policy_log_permit(e, word, class_, key, table);
        return POLICY_PERMIT;
    }
    return by_restrictions(e, whole, key, class_, table);
}
