/* SPDX-License-Identifier: Apache-2.0 */
/*
 * receive.h - what is done to mail on its way in, as smtpd(8) and pickup(8) tell cleanup: content_filter and
 * receive_override_options of the service that receives it.
 */
#ifndef PR_CLEANUP_RECEIVE_H
#define PR_CLEANUP_RECEIVE_H

#include "mail/envelope.h"
#include "postconf/config.h"

struct receive_options {
    struct slice filter; /* "transport:nexthop", or empty; borrowed from cfg */
    uint32_t flags;      /* MAIL_NO_ bits for the envelope */
    bool any_recipient; /* no_unknown_recipient_checks: smtpd does not refuse whom no table knows */
};

/* -1: an option that is not known. */
NODISCARD int receive_options_read(const struct config *cfg, struct receive_options *out,
                                   struct err *err);
/* The service's options in a message's envelope; a filter that a rule has set for it stays. */
void receive_options_put(const struct receive_options *o, struct mail_envelope *env);

extern const struct param_set receive_params;

#endif
