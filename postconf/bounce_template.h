/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bounce_template.h - the letters at the beginning of delivery status notifications: built in, or from the file that
 * bounce_template_file names. Source: bounce(5).
 */
#ifndef PR_BOUNCE_TEMPLATE_H
#define PR_BOUNCE_TEMPLATE_H

#include "postconf/config.h"

enum bounce_template_kind {
    BOUNCE_TEMPLATE_FAILURE,
    BOUNCE_TEMPLATE_DELAY,
    BOUNCE_TEMPLATE_SUCCESS,
    BOUNCE_TEMPLATE_VERIFY,
    BOUNCE_TEMPLATE_KINDS
};

struct bounce_template {
    const char *charset; /* "us-ascii" */
    const char *from; /* value of the From: header; an address without domain is completed later */
    const char *subject;            /* of the sender's notification */
    const char *postmaster_subject; /* of the postmaster's copy; NULL where there is none */
    const char *text;               /* lines that end with LF, $name not expanded */
};

struct bounce_templates;

/*
 * The templates of FILE, and the built-in ones for what it does not define. path "": the built-in ones. A template that is
 * wrong is left out after warn() was told ("FILE, line N: ..."); a file that cannot be read is -1.
 */
NODISCARD int bounce_templates_load(const char *path, void (*warn)(const char *text, void *arg),
                                    void *arg, struct bounce_templates **out, struct err *err);
void bounce_templates_free(struct bounce_templates **t);
const struct bounce_template *bounce_templates_get(const struct bounce_templates *t,
                                                   enum bounce_template_kind kind);
/* "failure", "delay", ... */
const char *bounce_template_name(enum bounce_template_kind kind);
/*
 * Appends the text with $name expanded from cfg; $delay_warning_time_UNIT and $maximal_queue_lifetime_UNIT, with seconds,
 * minutes, hours, days or weeks for UNIT, are whole numbers of it.
 */
NODISCARD int bounce_template_expand(const struct bounce_template *t, const struct config *cfg,
                                     struct buf *out, struct err *err);
/* Appends the template as it would stand in a file. */
void bounce_template_print(const struct bounce_templates *t, enum bounce_template_kind kind,
                           struct buf *out);

#endif
