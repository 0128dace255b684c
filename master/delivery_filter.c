/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery_filter.c - see delivery_filter.h. postconf(5), default_delivery_status_filter.
 *
 * A success stays one, and so does a failure; whether a failure is for good is what the new code says. A table that cannot be
 * asked might have said that a failure is not for good, so it is not taken as such until the table can be.
 */
#include "master/delivery_filter.h"

#include <stdlib.h>

#include "base/log.h"

struct delivery_filter {
    const char *name; /* the configuration's */
    struct map_list *maps;
};

int delivery_filter_open(struct map_env *env, const char *name, const char *value,
                         struct delivery_filter **out, struct err *err)
{
    struct map_list *maps = NULL;

    if (map_list_open(env, value, &maps, err) == -1)
        return err_prefix(err, "%s: ", name);
    *out = NULL;
    if (map_list_is_empty(maps)) {
        map_list_free(&maps);
        return 0;
    }
    *out = xcalloc(1, sizeof(**out));
    **out = (struct delivery_filter){name, maps};
    return 0;
}

static void take(const struct delivery_filter *f, struct dsn_status *status, struct slice value)
{
    struct slice text = value;
    struct slice code = dsn_code_split(value, &text);

    if (code.len == 0 || code.len > DSN_CODE_MAX ||
        (code.ptr[0] == '2') != (status->outcome == OUTCOME_SENT)) {
        log_warning("%s: bad status code: %.*s", f->name, SLICE_FMT(slice_sub(value, 0, 200)));
        return;
    }
    if (code.ptr[0] == '5')
        status->outcome = OUTCOME_BOUNCED;
    else if (code.ptr[0] == '4' && status->outcome == OUTCOME_BOUNCED)
        status->outcome = OUTCOME_DEFERRED;
    status->code = code;
    text = slice_trim(text, NULL);
    if (text.len > 0)
        status->text = text;
}

void delivery_filter_apply(void *arg, struct dsn_status *status, struct buf *space)
{
    const struct delivery_filter *f = arg;
    struct buf key = BUF_INIT(MAP_KEY_MAX);
    struct err err = ERR_INIT;

    buf_put_slice(&key, status->code);
    buf_putc(&key, ' ');
    buf_put_slice(&key, slice_sub(status->text, 0, MAP_KEY_MAX / 2));
    switch (map_list_lookup(f->maps, buf_view(&key), 0, space, NULL, &err)) {
    case MAP_FOUND:
        take(f, status, slice_trim(buf_view(space), NULL));
        break;
    case MAP_NOTFOUND:
        break;
    case MAP_RETRY:
        log_warning("%s: %s", f->name, err.text);
        if (status->outcome == OUTCOME_BOUNCED) {
            status->outcome = OUTCOME_DEFERRED;
            buf_reset(space);
            buf_printf(space, "%s: temporary lookup failure; without it: ", f->name);
            buf_put_slice(space, status->text);
            status->code = SLICE_LIT("4.3.0");
            status->text = buf_view(space);
        }
        break;
    }
    buf_fini(&key);
}
