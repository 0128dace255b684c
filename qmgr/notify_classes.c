/* SPDX-License-Identifier: Apache-2.0 */
/* notify_classes.c - the words of notify_classes. See notify_classes.h. */
#include "qmgr/notify_classes.h"

#include "base/edit_distance.h"
#include "postconf/findings.h"

#define SEPARATORS ", \t\r\n"
#define FAR        4 /* from here on no other word can have been meant */

static const struct {
    const char *name;
    unsigned bits;
} known[] = {
    {"bounce", NOTIFY_BOUNCE | NOTIFY_2BOUNCE},
    {"2bounce", NOTIFY_2BOUNCE},
    {"data", NOTIFY_DATA},
    {"delay", NOTIFY_DELAY},
    {"policy", NOTIFY_POLICY},
    {"protocol", NOTIFY_PROTOCOL},
    {"resource", NOTIFY_RESOURCE},
    {"software", NOTIFY_SOFTWARE},
};

/* The index in known[], or its length. The words have one case, as Postfix wants them. */
static size_t find(struct slice word)
{
    size_t i = 0;

    while (i < ARRAY_LEN(known) && !slice_eq_str(word, known[i].name))
        i++;
    return i;
}

static int unknown(struct slice word, struct err *err)
{
    char lower[32] = "";
    const char *best = NULL;
    unsigned least = FAR;

    for (size_t i = 0; i < word.len && word.len < sizeof(lower); i++)
        lower[i] = (char) ascii_lower((unsigned char) word.ptr[i]);
    for (size_t i = 0; i < ARRAY_LEN(known) && least > 0; i++) {
        unsigned d = edit_distance(lower, known[i].name, least - 1);

        if (d < least) {
            least = d;
            best = known[i].name;
        }
    }
    return err_input(err, "unknown class \"%.*s\"%s%s%s", SLICE_FMT(word),
                     best != NULL ? ": did you mean " : "", best != NULL ? best : "",
                     best != NULL ? "?" : "");
}

int notify_classes_parse(const char *value, unsigned *classes, struct err *err)
{
    struct slice rest = slice_str(value);
    struct slice word;
    unsigned bits = 0;

    while (slice_token(&rest, SEPARATORS, &word)) {
        size_t i = find(word);

        if (i == ARRAY_LEN(known))
            return unknown(word, err);
        bits |= known[i].bits;
    }
    *classes = bits;
    return 0;
}

void notify_classes_check(struct map_env *env, struct findings *f)
{
    struct err err = ERR_INIT;
    unsigned classes;

    (void) env;
    if (notify_classes_parse(config_get(findings_config(f), "notify_classes"), &classes, &err) ==
        -1)
        findings_error(f, "notify_classes", "%s", err.text);
}
