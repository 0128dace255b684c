/* SPDX-License-Identifier: Apache-2.0 */
/*
 * postconf_about.c - what the registry knows beyond values: which parameters are effective, all about one of them, and the
 * manual page postconf(5).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "postconf/postconf_int.h"

static const char *status_text(const struct param *p)
{
    switch ((enum param_status) p->status) {
    case PARAM_EFFECTIVE:
        return "effective";
    case PARAM_BUILT_IN:
        return "built in";
    case PARAM_PENDING:
        return "not yet effective";
    }
    return "unknown";
}

static const char *type_text(const struct param *p)
{
    switch ((enum param_type) p->type) {
    case PARAM_TYPE_STRING:
        return "text";
    case PARAM_TYPE_RAW:
        return "text, expanded when it is used";
    case PARAM_TYPE_INT:
        return "number";
    case PARAM_TYPE_BOOL:
        return "yes or no";
    case PARAM_TYPE_TIME:
        return "time";
    }
    return "unknown";
}

static void count_row(const struct param *p, void *arg)
{
    unsigned *counts = arg;

    counts[p->status]++;
    printf("%-18s %s\n", status_text(p), p->name);
}

int postconf_status(void)
{
    unsigned counts[] = {[PARAM_EFFECTIVE] = 0, [PARAM_BUILT_IN] = 0, [PARAM_PENDING] = 0};

    param_each(count_row, counts);
    printf("%u effective, %u built in, %u not yet effective\n", counts[PARAM_EFFECTIVE],
           counts[PARAM_BUILT_IN], counts[PARAM_PENDING]);
    return 0;
}

/* "1 to 20", "at least 1", or "" */
static void put_range(const struct param *p, struct buf *out)
{
    const char *unit = p->type == PARAM_TYPE_TIME ? "s" : "";

    if (p->type != PARAM_TYPE_INT && p->type != PARAM_TYPE_TIME)
        return;
    if (p->max > 0)
        buf_printf(out, "%lld%s to %lld%s", (long long) p->min, unit, (long long) p->max, unit);
    else if (p->min != 0)
        buf_printf(out, "at least %lld%s", (long long) p->min, unit);
}

static void explain(const struct config *cfg, const char *name)
{
    const struct param *p = param_find(name);
    const char *value = config_get(cfg, name);
    struct buf range = BUF_INIT(200);
    char near[PARAM_SUGGESTION_MAX];

    printf("%s = %s\n", name, value != NULL ? value : "");
    if (config_line(cfg, name) > 0)
        printf("  set in %s, line %d, as: %s\n", cfg->path, config_line(cfg, name),
               config_raw(cfg, name));
    else if (config_is_set(cfg, name))
        printf("  set by -o as: %s\n", config_raw(cfg, name));
    if (p != NULL) {
        put_range(p, &range);
        printf("  default: %s\n  type: %s%s%s\n  status: %s%s%s\n  read by: %s\n",
               p->def != NULL ? p->def : "", type_text(p), range.len > 0 ? ", " : "",
               buf_cstr(&range), status_text(p), p->note != NULL ? ": " : "",
               p->note != NULL ? p->note : "", p->services != NULL ? p->services : "all");
        if (p->doc != NULL)
            printf("  %s\n", p->doc);
    } else {
        printf("  a name of your own%s\n", param_suggestion(name, near));
    }
    buf_fini(&range);
}

int postconf_explain(const struct postconf *p)
{
    struct config *cfg;
    int status = 0;

    if (p->count == 0)
        fatal("--explain requires parameter names");
    cfg = postconf_load(p);
    for (size_t i = 0; i < p->count; i++) {
        const char *name = p->names[i];
        char near[PARAM_SUGGESTION_MAX];

        if (param_find(name) != NULL || config_is_set(cfg, name)) {
            explain(cfg, name);
        } else {
            status = 1;
            log_warning("%s: unknown parameter%s", name, param_suggestion(name, near));
        }
    }
    config_unref(&cfg);
    return status;
}

/* Text for troff: what it would take for itself is escaped. */
static void put_troff(const char *text)
{
    if (text[0] == '.' || text[0] == '\'')
        fputs("\\&", stdout);
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '\\')
            fputs("\\e", stdout);
        else if (*c == '-')
            fputs("\\-", stdout);
        else
            putchar(*c);
    }
}

static void put_entry(const struct param *p, void *arg)
{
    const enum param_status *wanted = arg;
    struct buf range = BUF_INIT(200);

    if (p->status != *wanted)
        return;
    put_range(p, &range);
    fputs(".TP\n\\fB", stdout);
    put_troff(p->name);
    fputs("\\fR (default: ", stdout);
    if (p->def != NULL && p->def[0] != '\0')
        put_troff(p->def);
    else
        fputs("empty", stdout);
    fputs(")\n", stdout);
    if (p->status == PARAM_PENDING) {
        printf("(%s%s%s; %s)\n", type_text(p), range.len > 0 ? ", " : "", buf_cstr(&range),
               p->services != NULL ? p->services : "all programs");
    } else {
        if (p->doc != NULL) {
            put_troff(p->doc);
            putchar('\n');
        }
        if (p->note != NULL) {
            fputs("Built in: ", stdout);
            put_troff(p->note);
            fputs(".\n", stdout);
        }
        printf("(%s%s%s; %s)\n", type_text(p), range.len > 0 ? ", " : "", buf_cstr(&range),
               p->services != NULL ? p->services : "all programs");
    }
    buf_fini(&range);
}

int postconf_manual(void)
{
    enum param_status status;

    fputs(
        ".\\\" SPDX-License-Identifier: Apache-2.0\n"
        ".\\\" Made from the parameter registry by \"postconf --manual\". Change the rows, not this page.\n"
        ".TH POSTCONF 5 \"\" Postrider\n"
        ".nh\n.ad l\n"
        ".SH NAME\npostconf \\- the parameters of main.cf\n"
        ".SH DESCRIPTION\n"
        "Each logical line of main.cf is \"name = value\". Lines that begin with white space continue the one before, also\n"
        "over empty lines and comments; a comment is a line whose first visible character is #. Of several lines for one name\n"
        "the last counts. A name that is not set has its default.\n"
        ".PP\n"
        "A value may refer to others:\n"
        ".TP\n.BR $name \", \" ${name} \", \" $(name)\nthe value of that parameter; nothing if there is none\n"
        ".TP\n.BR ${name?text} \", \" ${name?{text}:{text}}\nthe first text if the value is not empty, else the second\n"
        ".TP\n.BR ${name:text}\nthe text if the value is empty\n"
        ".TP\n.B ${{a} == {b} ? {text} : {text}}\n"
        "compares, as numbers where both sides are digits, with == != < <= > >=; with <=level and the like as compatibility\n"
        "levels\n"
        ".TP\n.B $$\na dollar sign\n"
        ".PP\n"
        "Times are numbers with s, m, h, d or w after them. A name that begins with * stands for one for each delivery service\n"
        "in master.cf: relay_destination_concurrency_limit.\n",
        stdout);
    fputs(".SH PARAMETERS\n", stdout);
    status = PARAM_EFFECTIVE;
    param_each(put_entry, &status);
    fputs(".SH PARAMETERS THAT NEED NO SETTING\n"
          "These are accepted. What they steer in Postfix is done here in another way.\n",
          stdout);
    status = PARAM_BUILT_IN;
    param_each(put_entry, &status);
    fputs(
        ".SH PARAMETERS THAT ARE NOT YET EFFECTIVE\n"
        "These are known with their defaults. Where one is set, postfix check, postconf and every start say so.\n",
        stdout);
    status = PARAM_PENDING;
    param_each(put_entry, &status);
    fputs(".SH SEE ALSO\npostconf(1), master(5), postfix(1)\n", stdout);
    return 0;
}
