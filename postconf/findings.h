/* SPDX-License-Identifier: Apache-2.0 */
/*
 * findings.h - what the checks of the folders (struct param_set.check) say of a configuration that parses: where the matter is,
 * what is wrong with it, and what to do.
 *
 * One struct findings goes from check to check, and from main.cf to each service with its -o. What was said once is not said
 * again: a finding about main.cf holds for every service that does not change it. Where a value cannot be read (whoever looks
 * for that says so) the checks see another in its place, and nothing is said of it: config_is_stand_in().
 */
#ifndef PR_FINDINGS_H
#define PR_FINDINGS_H

#include "postconf/config.h"

struct findings;

/* is_fatal: the system would not start, or not do what it must. text: one line with the place in front. */
typedef void (*findings_fn)(bool is_fatal, const char *text, void *arg);

/*
 * cfg      the generation that is looked at; a reference is taken
 * network  whether checks may ask the network (for a few seconds in all): not where a daemon waits for the result
 */
NODISCARD struct findings *findings_new(const struct config *cfg, bool network, findings_fn fn,
                                        void *arg);
void findings_free(struct findings **f);

/*
 * From here on the findings are about cfg, which a service of master.cf sees with its -o: place is what stands before
 * them ("/etc/postfix/master.cf, line 12: service smtps"; borrowed until the next call). NULL: back to main.cf's own.
 */
void findings_of_service(struct findings *f, const struct config *cfg, const char *place);

/* What the checks look at: config_readable() of what was given. */
const struct config *findings_config(const struct findings *f);
/* main.cf's own, without a service's -o. */
const struct config *findings_main_config(const struct findings *f);
/* Has this value been looked at already: is a service's -o in force, and the parameter the same as without it? */
bool findings_knows(const struct findings *f, const char *parameter);
bool findings_may_ask_network(const struct findings *f);

/* About the value of a parameter (or user-defined name), where it is set. The text needs neither place nor name. */
void findings_warn(struct findings *f, const char *parameter, const char *fmt, ...)
    PRINTF_LIKE(3, 4);
void findings_error(struct findings *f, const char *parameter, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

#endif
