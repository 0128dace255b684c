/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify_classes.h - the parameter notify_classes: what the postmaster is told about.
 */
#ifndef PR_NOTIFY_CLASSES_H
#define PR_NOTIFY_CLASSES_H

#include "base/err.h"

struct findings;
struct map_env;

enum notify_class {
    NOTIFY_BOUNCE = 1 << 0,  /* copies of non-delivery notifications; comes with NOTIFY_2BOUNCE */
    NOTIFY_2BOUNCE = 1 << 1, /* notifications that cannot be delivered */
    NOTIFY_DELAY = 1 << 2,   /* copies of delay warnings */
    NOTIFY_POLICY =
        1 << 3, /* sessions in which smtpd refused something for its restrictions or checks */
    NOTIFY_PROTOCOL = 1 << 4, /* sessions in which a client of smtpd broke the protocol */
    /* those in which smtpd could not take mail, for a table, for space, for a service or setting out of order */
    NOTIFY_DATA = 1 << 5,
    NOTIFY_RESOURCE = 1 << 6,
    NOTIFY_SOFTWARE = 1 << 7,
};

/*
 * value: words as in main.cf. -1, ERR_INPUT: a word that is none of them; err has the word, and the class that it may have been meant for.
 */
NODISCARD int notify_classes_parse(const char *value, unsigned *classes, struct err *err);

/* For struct param_set.check: wrong words. */
void notify_classes_check(struct map_env *env, struct findings *f);

#endif
