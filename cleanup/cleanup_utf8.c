/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup_utf8.c - smtputf8_autodetect_classes: finds out whether a message needs SMTPUTF8 (RFC 6531) of which nobody said so.
 */
#include "cleanup/cleanup_int.h"

enum {
    ORIGIN_SENDMAIL = 1,
    ORIGIN_SMTPD = 2,
    ORIGIN_FORWARD = 4,
    ORIGIN_BOUNCE = 8,
    ORIGIN_NOTIFY = 16,
};

/* Where a message comes from: one bit. */
static unsigned origin(const struct mail_envelope *e)
{
    if ((e->flags & MAIL_NOTICE) != 0)
        return ORIGIN_NOTIFY;
    if ((e->flags & MAIL_BOUNCE) != 0)
        return ORIGIN_BOUNCE;
    if ((e->flags & MAIL_FORWARDED) != 0)
        return ORIGIN_FORWARD;
    return e->client_addr.len > 0 ? ORIGIN_SMTPD : ORIGIN_SENDMAIL;
}

int cleanup_utf8_classes_parse(const char *value, unsigned *out, struct err *err)
{
    static const struct {
        const char *name;
        unsigned bits; /* 0: nothing of ours makes such mail */
    } classes[] = {
        {"sendmail", ORIGIN_SENDMAIL},
        {"smtpd", ORIGIN_SMTPD},
        {"qmqpd", 0},
        {"forward", ORIGIN_FORWARD},
        {"bounce", ORIGIN_BOUNCE},
        {"notify", ORIGIN_NOTIFY},
        {"verify", 0},
        {"all", ~0U},
    };
    struct slice rest = slice_str(value);
    struct slice word;
    unsigned all = 0;

    while (slice_token(&rest, ", \t\r\n", &word)) {
        size_t i = 0;

        while (i < ARRAY_LEN(classes) && !slice_caseeq_str(word, classes[i].name))
            i++;
        if (i == ARRAY_LEN(classes))
            return err_input(err, "unknown class \"%.*s\"", SLICE_FMT(word));
        all |= classes[i].bits;
    }
    *out = all;
    return 0;
}

void cleanup_utf8(struct cleanup_msg *m)
{
    struct mail_envelope *e = &m->env;
    bool needed = (e->flags & MAIL_FACT_8BIT_HEADER) != 0 || !slice_is_ascii(e->sender);

    if (!m->c->smtputf8_enable || (m->c->utf8_classes & origin(e)) == 0)
        return;
    for (size_t i = 0; i < m->rcpts.len && !needed; i++)
        needed = !slice_is_ascii(((struct mail_rcpt *) m->rcpts.items[i])->addr);
    if (needed)
        e->flags |= MAIL_SMTPUTF8;
}
