/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_params.c - the parameters of the queue store.
 */
#include "qmgr/store.h"

struct store_params_values {
    int64_t segment_bytes;
    int64_t large_bytes;
    int64_t min_free_bytes;
};

static const struct param rows[] = {
    PARAM_INT("journal_segment_size", struct store_params_values, segment_bytes, .def = "16777216",
              .min = 65536, .max = 1073741824, .services = "cleanup,qmgr",
              .doc = "The size in bytes of one preallocated segment file of the queue's journal."),
    PARAM_INT(
        "journal_large_message_size", struct store_params_values, large_bytes, .def = "1048576",
        .min = 4096, .max = 268435456, .services = "cleanup",
        .doc =
            "The content of a message from this size on is kept in a file of its own instead of the journal."),
    PARAM_INT(
        "queue_minfree", struct store_params_values, min_free_bytes, .def = "0", .min = 0,
        .services = "cleanup,smtpd",
        .doc =
            "Mail is refused for the time being while the queue's file system has fewer free bytes than this."),
};

const struct param_set store_params = PARAM_SET("queue store", struct store_params_values, rows);

int store_options_from(const struct config *cfg, struct store_options *out, struct err *err)
{
    struct store_params_values v;
    const char *dir;

    if (config_bind(cfg, &store_params, &v, err) == -1)
        return -1;
    dir = config_get(cfg, "queue_directory");
    if (dir == NULL || dir[0] == '\0')
        return err_permanent(err, "queue_directory is not set");
    out->queue_directory = dir;
    out->segment_bytes = v.segment_bytes & ~4095LL;
    out->large_bytes = v.large_bytes;
    out->min_free_bytes = v.min_free_bytes;
    return 0;
}
