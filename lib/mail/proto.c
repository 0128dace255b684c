/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proto.c - the tables of proto.h, and the few calls that every channel begins with.
 *
 * Tags are positions in these tables and never change: new fields go to the end.
 */
#include "mail/proto.h"

#include "base/share.h"
#include "mail/queue_id.h"

static const struct msg_field hello_fields[] = {
    MSG_FIELD_U32(1, proto_hello, version, 0),
    MSG_FIELD_BYTES(2, proto_hello, service, 255),
};
const struct msg_def msg_hello = {PROTO_HELLO, "hello", sizeof(struct proto_hello), hello_fields,
                                  ARRAY_LEN(hello_fields)};

static const struct msg_field result_fields[] = {
    MSG_FIELD_U32(1, proto_result, status, 0),    MSG_FIELD_BYTES(2, proto_result, code, 16),
    MSG_FIELD_BYTES(3, proto_result, text, 4096), MSG_FIELD_U32(4, proto_result, smtp_code, 599),
    MSG_FIELD_U64(5, proto_result, count),
};
const struct msg_def msg_result = {PROTO_RESULT, "result", sizeof(struct proto_result),
                                   result_fields, ARRAY_LEN(result_fields)};

static const struct msg_field shared_fields[] = {
    MSG_FIELD_U32(1, proto_shared, bytes, SHARE_SLOT_BYTES),
};
const struct msg_def msg_shared = {PROTO_SHARED, "shared", sizeof(struct proto_shared),
                                   shared_fields, ARRAY_LEN(shared_fields)};

static const struct msg_field taken_fields[] = {
    MSG_FIELD_U32(1, proto_taken, slots, SHARE_SLOTS),
};
const struct msg_def msg_taken = {PROTO_TAKEN, "taken", sizeof(struct proto_taken), taken_fields,
                                  ARRAY_LEN(taken_fields)};

static const struct msg_field committed_fields[] = {
    MSG_FIELD_U64(1, proto_committed, source),
    MSG_FIELD_U64(2, proto_committed, end),
};
const struct msg_def msg_committed = {PROTO_COMMITTED, "committed", sizeof(struct proto_committed),
                                      committed_fields, ARRAY_LEN(committed_fields)};

static const struct msg_field queue_op_fields[] = {
    MSG_FIELD_U32(1, proto_queue_op, op, 0),
    MSG_FIELD_BYTES(2, proto_queue_op, arg, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(3, proto_queue_op, queue, 32),
};
const struct msg_def msg_queue_op = {PROTO_QUEUE_EDIT, "queue_op", sizeof(struct proto_queue_op),
                                     queue_op_fields, ARRAY_LEN(queue_op_fields)};

static const struct msg_field queue_select_fields[] = {
    MSG_FIELD_BYTES(1, proto_queue_select, queues, 100),
    MSG_FIELD_BYTES(2, proto_queue_select, queue_id, QUEUE_ID_MAX),
    MSG_FIELD_BYTES(3, proto_queue_select, sender, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(4, proto_queue_select, recipient, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(5, proto_queue_select, domain, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(6, proto_queue_select, reason, MAIL_REASON_MAX),
    MSG_FIELD_U64(7, proto_queue_select, arrived_to_us),
};
const struct msg_def msg_queue_select = {PROTO_QUEUE_LIST, "queue_select",
                                         sizeof(struct proto_queue_select), queue_select_fields,
                                         ARRAY_LEN(queue_select_fields)};

static const struct msg_field queue_item_fields[] = {
    MSG_FIELD_BYTES(1, proto_queue_item, queue, 32),
    MSG_FIELD_BYTES_REQUIRED(2, proto_queue_item, queue_id, QUEUE_ID_MAX),
    MSG_FIELD_BYTES(3, proto_queue_item, sender, MAIL_ADDR_MAX),
    MSG_FIELD_U64(4, proto_queue_item, arrival_us),
    MSG_FIELD_U64(5, proto_queue_item, size),
    MSG_FIELD_U64(6, proto_queue_item, next_retry_us),
    MSG_FIELD_U32(7, proto_queue_item, forced_expire, 0),
    MSG_FIELD_BYTES(8, proto_queue_item, waits_for, 32),
    MSG_FIELD_BYTES(9, proto_queue_item, waits_text, MAIL_REASON_MAX),
    MSG_FIELD_U64(10, proto_queue_item, waits_until_us),
};
const struct msg_def msg_queue_item = {PROTO_QUEUE_ITEM, "queue_item",
                                       sizeof(struct proto_queue_item), queue_item_fields,
                                       ARRAY_LEN(queue_item_fields)};

static const struct msg_field queue_rcpt_fields[] = {
    MSG_FIELD_BYTES(1, proto_queue_rcpt, addr, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(2, proto_queue_rcpt, reason, 4096),
    MSG_FIELD_BYTES(3, proto_queue_rcpt, waits_for, 32),
    MSG_FIELD_BYTES(4, proto_queue_rcpt, waits_text, MAIL_REASON_MAX),
    MSG_FIELD_U64(5, proto_queue_rcpt, waits_until_us),
};
const struct msg_def msg_queue_rcpt = {PROTO_QUEUE_RCPT, "queue_rcpt",
                                       sizeof(struct proto_queue_rcpt), queue_rcpt_fields,
                                       ARRAY_LEN(queue_rcpt_fields)};

static const struct msg_field suspension_fields[] = {
    MSG_FIELD_U32(1, proto_suspension, op, SUSPENSION_LIST),
    MSG_FIELD_BYTES(2, proto_suspension, kind, 32),
    MSG_FIELD_BYTES(3, proto_suspension, name, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(4, proto_suspension, by, SUSPENSION_BY_MAX),
    MSG_FIELD_BYTES(5, proto_suspension, reason, SUSPENSION_REASON_MAX),
    MSG_FIELD_U64(6, proto_suspension, since_us),
    MSG_FIELD_U64(7, proto_suspension, until_us),
};
const struct msg_def msg_suspension = {PROTO_QUEUE_SUSPENSION, "suspension",
                                       sizeof(struct proto_suspension), suspension_fields,
                                       ARRAY_LEN(suspension_fields)};

static const struct msg_field queue_move_fields[] = {
    MSG_FIELD_BYTES(1, proto_queue_move, select.queues, 100),
    MSG_FIELD_BYTES(2, proto_queue_move, select.queue_id, QUEUE_ID_MAX),
    MSG_FIELD_BYTES(3, proto_queue_move, select.sender, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(4, proto_queue_move, select.recipient, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(5, proto_queue_move, select.domain, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(6, proto_queue_move, select.reason, MAIL_REASON_MAX),
    MSG_FIELD_U64(7, proto_queue_move, select.arrived_to_us),
    MSG_FIELD_BYTES_REQUIRED(8, proto_queue_move, nexthop, MAIL_ADDR_MAX),
    MSG_FIELD_U32(9, proto_queue_move, held, 1),
    MSG_FIELD_BYTES(10, proto_queue_move, by, MOVE_BY_MAX),
};
const struct msg_def msg_queue_move = {PROTO_QUEUE_MOVE, "queue_move",
                                       sizeof(struct proto_queue_move), queue_move_fields,
                                       ARRAY_LEN(queue_move_fields)};

static const struct msg_field queue_moved_fields[] = {
    MSG_FIELD_U64(1, proto_queue_moved, meant),
    MSG_FIELD_U64(2, proto_queue_moved, moved),
    MSG_FIELD_U64(3, proto_queue_moved, stayed),
    MSG_FIELD_U64(4, proto_queue_moved, untried),
    MSG_FIELD_U64(5, proto_queue_moved, elsewhere),
    MSG_FIELD_U64(6, proto_queue_moved, held),
    MSG_FIELD_U64(7, proto_queue_moved, arrived),
    MSG_FIELD_U32(8, proto_queue_moved, found_all, 1),
};
const struct msg_def msg_queue_moved = {PROTO_QUEUE_MOVED, "queue_moved",
                                        sizeof(struct proto_queue_moved), queue_moved_fields,
                                        ARRAY_LEN(queue_moved_fields)};

static const struct msg_field queue_stayed_fields[] = {
    MSG_FIELD_BYTES_REQUIRED(1, proto_queue_stayed, queue_id, QUEUE_ID_MAX),
    MSG_FIELD_BYTES(2, proto_queue_stayed, sender, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(3, proto_queue_stayed, addr, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(4, proto_queue_stayed, reason, MAIL_REASON_MAX),
    MSG_FIELD_U64(5, proto_queue_stayed, others),
};
const struct msg_def msg_queue_stayed = {PROTO_QUEUE_STAYED, "queue_stayed",
                                         sizeof(struct proto_queue_stayed), queue_stayed_fields,
                                         ARRAY_LEN(queue_stayed_fields)};

static const struct msg_field deliver_fields[] = {
    MSG_FIELD_BYTES_REQUIRED(1, proto_deliver, queue_id, QUEUE_ID_MAX),
    MSG_FIELD_BYTES(2, proto_deliver, nexthop, 4096),
    MSG_FIELD_BYTES(3, proto_deliver, sender, MAIL_ADDR_MAX),
    MSG_FIELD_U64(4, proto_deliver, content_offset),
    MSG_FIELD_U64(5, proto_deliver, content_bytes),
    MSG_FIELD_U32(6, proto_deliver, header_bytes, 0),
    MSG_FIELD_U32(7, proto_deliver, flags, 0),
    MSG_FIELD_U32(8, proto_deliver, longest_line, 0),
    MSG_FIELD_U64(9, proto_deliver, arrival_us),
    MSG_FIELD_U64(10, proto_deliver, queued_us),
    MSG_FIELD_U32(11, proto_deliver, dsn_ret, 2),
    MSG_FIELD_BYTES(12, proto_deliver, dsn_envid, 512),
    MSG_FIELD_BYTES(13, proto_deliver, client_name, 512),
    MSG_FIELD_BYTES(14, proto_deliver, client_addr, 512),
    MSG_FIELD_BYTES(15, proto_deliver, client_port, 16),
    MSG_FIELD_BYTES(16, proto_deliver, helo, 512),
    MSG_FIELD_BYTES(17, proto_deliver, protocol, 32),
    MSG_FIELD_BYTES(18, proto_deliver, sasl_method, 512),
    MSG_FIELD_BYTES(19, proto_deliver, sasl_username, 512),
    MSG_FIELD_BYTES(20, proto_deliver, sasl_sender, MAIL_ADDR_MAX),
    MSG_FIELD_U32(21, proto_deliver, reuse, 1),
    MSG_FIELD_BYTES(22, proto_deliver, message_id, 1000),
    MSG_FIELD_U32(23, proto_deliver, handover, 1),
};
const struct msg_def msg_deliver = {PROTO_DELIVER, "deliver", sizeof(struct proto_deliver),
                                    deliver_fields, ARRAY_LEN(deliver_fields)};

static const struct msg_field deliver_rcpt_fields[] = {
    MSG_FIELD_U32(1, proto_deliver_rcpt, index, 0),
    MSG_FIELD_BYTES(2, proto_deliver_rcpt, addr, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(3, proto_deliver_rcpt, orig, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(4, proto_deliver_rcpt, orcpt, MAIL_ADDR_MAX),
    MSG_FIELD_U32(5, proto_deliver_rcpt, notify, 15),
};
const struct msg_def msg_deliver_rcpt = {PROTO_DELIVER_RCPT, "deliver_rcpt",
                                         sizeof(struct proto_deliver_rcpt), deliver_rcpt_fields,
                                         ARRAY_LEN(deliver_rcpt_fields)};

static const struct msg_field status_fields[] = {
    MSG_FIELD_U32(1, proto_status, index, 0),
    MSG_FIELD_U32(2, proto_status, outcome, OUTCOME_UNCERTAIN),
    MSG_FIELD_BYTES(3, proto_status, code, 16),
    MSG_FIELD_BYTES(4, proto_status, text, 16384),
    MSG_FIELD_BYTES(5, proto_status, diag_type, 64),
    MSG_FIELD_BYTES(6, proto_status, diag_text, 16384),
    MSG_FIELD_BYTES(7, proto_status, mta_name, 512),
    MSG_FIELD_U32(8, proto_status, site_dead, 1),
    MSG_FIELD_U32(9, proto_status, notify_passed, 1),
    MSG_FIELD_BYTES(10, proto_status, relay, 2048),
};
const struct msg_def msg_status = {PROTO_STATUS, "status", sizeof(struct proto_status),
                                   status_fields, ARRAY_LEN(status_fields)};

static const struct msg_field report_fields[] = {
    MSG_FIELD_U32(1, proto_report, kind, REPORT_VERIFY),
    MSG_FIELD_BYTES_REQUIRED(2, proto_report, queue_id, QUEUE_ID_MAX),
    MSG_FIELD_BYTES(3, proto_report, sender, MAIL_ADDR_MAX),
    MSG_FIELD_U64(4, proto_report, content_offset),
    MSG_FIELD_U64(5, proto_report, content_bytes),
    MSG_FIELD_U32(6, proto_report, header_bytes, 0),
    MSG_FIELD_U32(7, proto_report, flags, 0),
    MSG_FIELD_U64(8, proto_report, arrival_us),
    MSG_FIELD_U32(9, proto_report, dsn_ret, 2),
    MSG_FIELD_BYTES(10, proto_report, dsn_envid, 512),
    MSG_FIELD_U64(11, proto_report, expires_us),
    MSG_FIELD_BYTES(12, proto_report, message_id, 1000),
};
const struct msg_def msg_report = {PROTO_REPORT, "report", sizeof(struct proto_report),
                                   report_fields, ARRAY_LEN(report_fields)};

static const struct msg_field report_rcpt_fields[] = {
    MSG_FIELD_BYTES(1, proto_report_rcpt, addr, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(2, proto_report_rcpt, orig, MAIL_ADDR_MAX),
    MSG_FIELD_BYTES(3, proto_report_rcpt, orcpt, MAIL_ADDR_MAX),
    MSG_FIELD_U32(4, proto_report_rcpt, notify, 15),
    MSG_FIELD_U32(5, proto_report_rcpt, outcome, OUTCOME_UNCERTAIN),
    MSG_FIELD_BYTES(6, proto_report_rcpt, code, 16),
    MSG_FIELD_BYTES(7, proto_report_rcpt, text, 16384),
    MSG_FIELD_BYTES(8, proto_report_rcpt, diag_type, 64),
    MSG_FIELD_BYTES(9, proto_report_rcpt, diag_text, 16384),
    MSG_FIELD_BYTES(10, proto_report_rcpt, mta_name, 512),
    MSG_FIELD_BYTES(11, proto_report_rcpt, relay, 2048),
};
const struct msg_def msg_report_rcpt = {PROTO_REPORT_RCPT, "report_rcpt",
                                        sizeof(struct proto_report_rcpt), report_rcpt_fields,
                                        ARRAY_LEN(report_rcpt_fields)};

static const struct msg_field worker_status_fields[] = {
    MSG_FIELD_U32(1, proto_worker_status, sessions, 0),
    MSG_FIELD_U32(2, proto_worker_status, capacity, 0),
    MSG_FIELD_U64(3, proto_worker_status, served),
    MSG_FIELD_U32(4, proto_worker_status, ready, 1),
    MSG_FIELD_U32(5, proto_worker_status, leaving, 1),
    MSG_FIELD_U32(6, proto_worker_status, shape, 16),
};
const struct msg_def msg_worker_status = {PROTO_WORKER_STATUS, "worker_status",
                                          sizeof(struct proto_worker_status), worker_status_fields,
                                          ARRAY_LEN(worker_status_fields)};

static const struct msg_field control_fields[] = {
    MSG_FIELD_U32(1, proto_control, op, 0),
    MSG_FIELD_BYTES(2, proto_control, arg, 255),
};
const struct msg_def msg_control = {PROTO_CONTROL, "control", sizeof(struct proto_control),
                                    control_fields, ARRAY_LEN(control_fields)};

static const struct msg_field map_request_fields[] = {
    MSG_FIELD_U32(1, proto_map_request, op, 0),
    MSG_FIELD_BYTES_REQUIRED(2, proto_map_request, table, PROTO_MAP_TABLE_MAX),
    MSG_FIELD_BYTES(3, proto_map_request, key, PROTO_MAP_KEY_MAX),
    MSG_FIELD_BYTES(4, proto_map_request, value, PROTO_MAP_VALUE_MAX),
    MSG_FIELD_U32(5, proto_map_request, plain, 1),
};
const struct msg_def msg_map_request = {PROTO_MAP_REQUEST, "map_request",
                                        sizeof(struct proto_map_request), map_request_fields,
                                        ARRAY_LEN(map_request_fields)};

static const struct msg_field map_answer_fields[] = {
    MSG_FIELD_U32(1, proto_map_answer, status, PROTO_MAP_ROW),
    MSG_FIELD_BYTES(2, proto_map_answer, key, PROTO_MAP_KEY_MAX),
    MSG_FIELD_BYTES(3, proto_map_answer, value, PROTO_MAP_VALUE_MAX),
    MSG_FIELD_BYTES(4, proto_map_answer, text, 4096),
};
const struct msg_def msg_map_answer = {PROTO_MAP_ANSWER, "map_answer",
                                       sizeof(struct proto_map_answer), map_answer_fields,
                                       ARRAY_LEN(map_answer_fields)};

static const struct msg_field table_ask_fields[] = {
    MSG_FIELD_U64(1, proto_table_ask, id),
    MSG_FIELD_BYTES_REQUIRED(2, proto_table_ask, table, PROTO_MAP_TABLE_MAX),
    MSG_FIELD_BYTES(3, proto_table_ask, key, PROTO_MAP_KEY_MAX),
};
const struct msg_def msg_table_ask = {PROTO_TABLE_ASK, "table_ask", sizeof(struct proto_table_ask),
                                      table_ask_fields, ARRAY_LEN(table_ask_fields)};

static const struct msg_field table_said_fields[] = {
    MSG_FIELD_U64(1, proto_table_said, id),
    MSG_FIELD_U32(2, proto_table_said, status, PROTO_TABLE_SILENT),
    MSG_FIELD_BYTES(3, proto_table_said, value, PROTO_TABLE_SAID_MAX),
    MSG_FIELD_BYTES(4, proto_table_said, text, 4096),
    MSG_FIELD_U64(5, proto_table_said, loaded_us),
    MSG_FIELD_BYTES(6, proto_table_said, program, 255),
    MSG_FIELD_U32(7, proto_table_said, pid, 0),
};
const struct msg_def msg_table_said = {PROTO_TABLE_SAID, "table_said",
                                       sizeof(struct proto_table_said), table_said_fields,
                                       ARRAY_LEN(table_said_fields)};

const struct msg_def *const proto_all[] = {
    &msg_envelope,     &msg_rcpt,         &msg_hello,
    &msg_result,       &msg_committed,    &msg_queue_op,
    &msg_queue_select, &msg_queue_item,   &msg_queue_rcpt,
    &msg_deliver,      &msg_deliver_rcpt, &msg_status,
    &msg_report,       &msg_report_rcpt,  &msg_worker_status,
    &msg_control,      &msg_map_request,  &msg_map_answer,
    &msg_table_ask,    &msg_table_said,   &msg_suspension,
    &msg_queue_move,   &msg_queue_moved,  &msg_queue_stayed,
    &msg_shared,       &msg_taken,        NULL,
};

int proto_put(struct chan *c, const struct msg_def *def, const void *m, int fd, struct err *err)
{
    struct buf payload = BUF_INIT(FRAME_PAYLOAD_MAX);
    int ret = msg_encode(def, m, &payload, err);

    if (ret == 0)
        chan_put(c, def->type, buf_view(&payload), fd);
    buf_fini(&payload);
    return ret;
}

void proto_put_empty(struct chan *c, uint16_t type)
{
    chan_put(c, type, SLICE_EMPTY, -1);
}

int proto_decode(const struct frame *f, const struct msg_def *def, void *m, struct err *err)
{
    /* flush and edit requests share one struct */
    bool same = f->type == def->type || (def == &msg_queue_op && f->type == PROTO_QUEUE_FLUSH);

    if (!same)
        return err_input(err, "frame of type %u where %s was expected", f->type, def->name);
    return msg_decode(def, f->payload, m, err);
}

void proto_hello(struct chan *c, const char *service)
{
    struct proto_hello hello = {.version = PROTO_VERSION, .service = slice_str(service)};
    struct err err = ERR_INIT;

    if (proto_put(c, &msg_hello, &hello, -1, &err) == -1) {
        hello.service = SLICE_EMPTY; /* a name over the limit is only a name */
        (void) !proto_put(c, &msg_hello, &hello, -1, &err);
    }
}

int proto_check_hello(const struct frame *f, struct err *err)
{
    struct proto_hello hello;

    if (proto_decode(f, &msg_hello, &hello, err) == -1)
        return -1;
    if (hello.version != PROTO_VERSION)
        return err_temporary(
            err,
            "the peer speaks version %u of the internal protocol, we speak %u: is an upgrade under way?",
            hello.version, PROTO_VERSION);
    return 0;
}

struct chan *proto_connect(const char *path, const char *service, int timeout_ms, struct err *err)
{
    int fd = unix_connect(path, timeout_ms, err);
    struct chan *c;

    if (fd == -1)
        return NULL;
    c = chan_new(fd);
    proto_hello(c, service);
    return c;
}

enum chan_result proto_get_wait(struct chan *c, struct frame *out, int timeout_ms, struct err *err)
{
    for (;;) {
        enum chan_result res = chan_get_wait(c, out, timeout_ms, err);

        if (res != CHAN_OK || out->type != PROTO_HELLO)
            return res;
        if (proto_check_hello(out, err) == -1)
            return CHAN_ERROR;
    }
}
