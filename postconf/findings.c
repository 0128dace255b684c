/* SPDX-License-Identifier: Apache-2.0 */
/* findings.c - findings with their places, each said once. See findings.h. */
#include "postconf/findings.h"

#include <stdlib.h>

#include "base/htable.h"

#define TEXT_MAX 8192

struct findings {
    struct config *own; /* main.cf's */
    struct config *cfg; /* own, or a service's */
    const char *place;  /* NULL: own */
    bool network;
    findings_fn fn;
    void *arg;
    struct htable *said; /* "NAME: text" */
};

struct findings *findings_new(const struct config *cfg, bool network, findings_fn fn, void *arg)
{
    struct findings *f = xcalloc(1, sizeof(*f));

    f->own = config_readable(cfg);
    f->cfg = config_ref(f->own);
    f->network = network;
    f->fn = fn;
    f->arg = arg;
    f->said = htable_new(false);
    return f;
}

void findings_free(struct findings **f)
{
    if (*f == NULL)
        return;
    config_unref(&(*f)->own);
    config_unref(&(*f)->cfg);
    htable_free(&(*f)->said, NULL);
    free(*f);
    *f = NULL;
}

void findings_of_service(struct findings *f, const struct config *cfg, const char *place)
{
    config_unref(&f->cfg);
    f->cfg = place != NULL ? config_readable(cfg) : config_ref(f->own);
    f->place = place;
}

const struct config *findings_config(const struct findings *f)
{
    return f->cfg;
}

const struct config *findings_main_config(const struct findings *f)
{
    return f->own;
}

bool findings_knows(const struct findings *f, const char *parameter)
{
    const char *own = config_get(f->own, parameter);
    const char *now = config_get(f->cfg, parameter);

    return f->place != NULL && own != NULL && now != NULL && strcmp(own, now) == 0;
}

bool findings_may_ask_network(const struct findings *f)
{
    return f->network;
}

static void put_place(const struct findings *f, const char *parameter, struct buf *out)
{
    int line = config_line(f->cfg, parameter);
    bool by_override = line == 0 && config_is_set(f->cfg, parameter);

    if (f->place != NULL)
        buf_printf(out, "%s: ", f->place);
    if (line > 0)
        buf_printf(out, "%s/main.cf, line %d: ", config_dir(f->cfg), line);
    else if (!by_override)
        buf_printf(out, "%s/main.cf: ", config_dir(f->cfg));
}

PRINTF_LIKE(4, 0)
static void say(struct findings *f, bool is_fatal, const char *parameter, const char *fmt,
                va_list ap)
{
    static char present[] = "";
    struct buf text = BUF_INIT(TEXT_MAX);
    struct buf line = BUF_INIT(2 * TEXT_MAX);

    /* of what cannot be read that is all there is to say */
    if (config_is_stand_in(f->cfg, parameter))
        return;
    buf_printf(&text, "%s: ", parameter);
    buf_vprintf(&text, fmt, ap);
    if (htable_put(f->said, buf_view(&text), present) == NULL) {
        put_place(f, parameter, &line);
        buf_put_slice(&line, buf_view(&text));
        f->fn(is_fatal, buf_cstr(&line), f->arg);
    }
    buf_fini(&text);
    buf_fini(&line);
}

void findings_warn(struct findings *f, const char *parameter, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(f, false, parameter, fmt, ap);
    va_end(ap);
}

void findings_error(struct findings *f, const char *parameter, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(f, true, parameter, fmt, ap);
    va_end(ap);
}
