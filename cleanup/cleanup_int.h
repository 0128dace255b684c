/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup_int.h - what the files of cleanup(8) share: the process's state, and one message on its way in.
 *
 * The way of a message: cleanup_session.c reads its frames; cleanup_content.c passes the content once, the
 * header (cleanup_header.c) as a whole, the body line by line where checks want it (cleanup_checks.c);
 * cleanup_rcpt.c turns the recipients given into those stored; then the store commits, and the result goes back.
 */
#ifndef PR_CLEANUP_INT_H
#define PR_CLEANUP_INT_H

#include "base/arena.h"
#include "base/htable.h"
#include "base/vec.h"
#include "mail/content.h"
#include "mail/proto.h"
#include "maps/policy.h"
#include "master/worker.h"
#include "qmgr/store.h"
#include "route/route.h"

struct cleanup_params {
    /* other folders' parameters, read by name in start() */
    const char *myhostname, *myorigin, *mail_name, *virtual_alias_maps, *empty_address_recipient;
    /* own rows */
    const char *canonical_maps, *sender_canonical_maps, *recipient_canonical_maps;
    const char *canonical_classes, *sender_canonical_classes, *recipient_canonical_classes;
    const char *header_checks, *body_checks;
    const char *always_bcc, *sender_bcc_maps, *recipient_bcc_maps;
    const char *message_drop_headers;
    const char *masquerade_domains, *masquerade_classes, *masquerade_exceptions;
    const char *undisclosed_recipients_header, *message_reject_characters,
        *message_strip_characters;
    const char *smtputf8_autodetect_classes;
    int64_t virtual_alias_recursion_limit, virtual_alias_expansion_limit,
        virtual_alias_address_length_limit;
    int64_t header_size_limit, body_checks_size_limit, hopcount_limit, message_size_limit;
    int64_t duplicate_filter_limit;
    bool enable_original_recipient, always_add_missing_headers, soft_bounce;
};

/* Address classes of canonical_classes and its kin, as bits. */
enum {
    CLASS_ENVELOPE_SENDER = 1,
    CLASS_ENVELOPE_RECIPIENT = 2,
    CLASS_HEADER_SENDER = 4,
    CLASS_HEADER_RECIPIENT = 8
};

struct byte_set {
    bool any, has[256];
};

/* One for each process; read-only after start-up. */
struct cleanup {
    struct cleanup_params p;
    struct route *route;
    struct map_list *canonical, *sender_canonical, *recipient_canonical, *virtual_alias;
    struct map_list *sender_bcc, *recipient_bcc, *header_checks, *body_checks;
    unsigned canonical_classes, sender_canonical_classes, recipient_canonical_classes,
        masquerade_classes;
    bool smtputf8_enable;
    unsigned utf8_classes; /* cleanup_utf8.c's */
    struct byte_set reject, strip;
    struct htable *drop_headers;
    struct store_writer *writer;
    struct notify *notify;
};

enum cleanup_phase { PHASE_HEADER, PHASE_BODY };

/* One message; lives in the session, its strings in the arena, until the result is out. */
struct cleanup_msg {
    struct cleanup *c;
    struct arena *arena;
    struct mail_envelope env;
    struct vec rcpts; /* struct mail_rcpt *, in the arena: as given, then as stored */
    enum cleanup_phase phase;
    struct buf head; /* header bytes until the header is complete */
    struct store_put *put;
    struct content_facts facts;
    uint64_t bytes; /* received */
    /* what was seen in the header */
    unsigned hops;
    bool has_message_id, has_date, has_from, has_recipient, is_resent;
    struct buf prepend; /* PREPEND actions: before the field under way */
    /* body checks */
    struct buf line;
    uint64_t body_checked;
    /* what actions asked for */
    bool discard;
    /* the first failure; smtp_code 0: none so far */
    uint32_t smtp_code;
    struct slice code, text;
};

/* Notes the first failure; later ones are ignored. text is copied. */
void cleanup_fail(struct cleanup_msg *m, uint32_t smtp_code, const char *code, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
static inline bool cleanup_failed(const struct cleanup_msg *m)
{
    return m->smtp_code != 0;
}

/* cleanup_content.c: content in pieces, then its end. */
void cleanup_content(struct cleanup_msg *m, struct slice piece);
void cleanup_content_end(struct cleanup_msg *m);
/* Appends to the stored content, gathering its facts. */
void cleanup_store(struct cleanup_msg *m, struct slice bytes);

/* cleanup_characters.c: the piece without what is stripped (in space, or itself); fails the message for what is refused. */
struct slice cleanup_characters(struct cleanup_msg *m, struct slice piece, struct buf *space);
NODISCARD int cleanup_characters_parse(const char *value, struct byte_set *out, struct err *err);

/* cleanup_header.c: the whole header (without the empty line) in m->head. */
void cleanup_header(struct cleanup_msg *m, struct slice header);

/* cleanup_checks.c */
enum check_verdict { CHECK_KEEP, CHECK_DROP, CHECK_REPLACED };
/* kind "header" or "body"; replacement gets REPLACE's text on CHECK_REPLACED. */
enum check_verdict cleanup_check(struct cleanup_msg *m, struct map_list *maps, const char *kind,
                                 struct slice text, struct buf *replacement);

/* cleanup_rcpt.c: rewriting and expansion of the envelope. */
void cleanup_envelope(struct cleanup_msg *m);
/* Canonical mapping of one internal address in place; false when nothing changed. class_: one CLASS_ bit. */
bool cleanup_map_address(struct cleanup_msg *m, struct slice addr, unsigned class_,
                         struct buf *out);
/* cleanup_masquerade.c: appends the address without its host, and is true, where masquerade_domains has it. */
bool cleanup_masquerade(const struct cleanup *c, struct slice addr, unsigned class_,
                        struct buf *out);
/* Adds a recipient to the arena's list. */
void cleanup_add_rcpt(struct cleanup_msg *m, struct vec *list, const struct mail_rcpt *r);
unsigned cleanup_classes_parse(const char *value, struct err *err); /* 0 with err: a bad word */

/* cleanup_utf8.c: the message is complete; MAIL_SMTPUTF8 if it needs that, and is of a class for which this is looked at. */
void cleanup_utf8(struct cleanup_msg *m);
NODISCARD int cleanup_utf8_classes_parse(const char *value, unsigned *out, struct err *err);

/* cleanup_notify.c: tells qmgr how far the journal is durable. */
struct notify *notify_new(const char *socket_path);
void notify_free(struct notify **n);
/* Never blocks for long; when qmgr is away, the next call that reaches it says it all. */
void notify_committed(void *notify, uint64_t source, uint64_t end);

extern const struct param_set cleanup_params;

#endif
