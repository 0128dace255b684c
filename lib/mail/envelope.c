/* SPDX-License-Identifier: Apache-2.0 */
/*
 * envelope.c - the tables of envelope.h. Also the form on disk: tags never change, new fields go to the end.
 */
#include "mail/envelope.h"

#include "mail/proto.h"
#include "mail/queue_id.h"

static const struct msg_field envelope_fields[] = {
    MSG_FIELD_BYTES_REQUIRED(1, mail_envelope, queue_id, QUEUE_ID_MAX),
    MSG_FIELD_BYTES(2, mail_envelope, sender, MAIL_ADDR_MAX),
    MSG_FIELD_U64(3, mail_envelope, arrival_us),
    MSG_FIELD_U32(4, mail_envelope, flags, 0),
    MSG_FIELD_U32(5, mail_envelope, dsn_ret, 2),
    MSG_FIELD_BYTES(6, mail_envelope, dsn_envid, 512),
    MSG_FIELD_BYTES(7, mail_envelope, client_name, 512),
    MSG_FIELD_BYTES(8, mail_envelope, client_addr, 512),
    MSG_FIELD_BYTES(9, mail_envelope, client_port, 16),
    MSG_FIELD_BYTES(10, mail_envelope, client_reverse_name, 512),
    MSG_FIELD_BYTES(11, mail_envelope, helo, 512),
    MSG_FIELD_BYTES(12, mail_envelope, protocol, 32),
    MSG_FIELD_BYTES(13, mail_envelope, tls_comment, 512),
    MSG_FIELD_BYTES(14, mail_envelope, sasl_method, 512),
    MSG_FIELD_BYTES(15, mail_envelope, sasl_username, 512),
    MSG_FIELD_BYTES(16, mail_envelope, sasl_sender, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(17, mail_envelope, full_name, 512),
    MSG_FIELD_BYTES(18, mail_envelope, rewrite_domain, 512),
    MSG_FIELD_BYTES(19, mail_envelope, filter, 4096),
    MSG_FIELD_BYTES(20, mail_envelope, redirect, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(21, mail_envelope, log_tag, 255),
    MSG_FIELD_U64(22, mail_envelope, content_bytes),
    MSG_FIELD_U32(23, mail_envelope, header_bytes, 0),
    MSG_FIELD_U32(24, mail_envelope, longest_line, 0),
    MSG_FIELD_U32(25, mail_envelope, rcpt_count, 0),
    MSG_FIELD_BYTES(26, mail_envelope, message_id, 1000),
    MSG_FIELD_U64(27, mail_envelope, next_retry_us),
};
const struct msg_def msg_envelope = {PROTO_ENVELOPE, "envelope", sizeof(struct mail_envelope),
                                     envelope_fields, ARRAY_LEN(envelope_fields)};

static const struct msg_field rcpt_fields[] = {
    MSG_FIELD_BYTES(1, mail_rcpt, addr, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(2, mail_rcpt, orig, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(3, mail_rcpt, orcpt, MAIL_ADDR_MAX),
    MSG_FIELD_U32(4, mail_rcpt, notify, 15),
    MSG_FIELD_U32(5, mail_rcpt, index, 0),
    MSG_FIELD_BYTES(6, mail_rcpt, code, DSN_CODE_MAX),
    MSG_FIELD_BYTES(7, mail_rcpt, reason, MAIL_REASON_MAX),
};
const struct msg_def msg_rcpt = {PROTO_RCPT, "rcpt", sizeof(struct mail_rcpt), rcpt_fields,
                                 ARRAY_LEN(rcpt_fields)};
