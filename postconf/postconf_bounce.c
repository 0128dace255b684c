/* SPDX-License-Identifier: Apache-2.0 */
/* postconf_bounce.c - postconf -b and -t: bounce templates, to look at before bounce(8) uses them. */
#include <stdio.h>

#include "base/log.h"
#include "postconf/bounce_template.h"
#include "postconf/postconf_int.h"

static void on_warning(const char *text, void *arg)
{
    (void) arg;
    log_warning("%s", text);
}

int postconf_templates(const struct postconf *p, bool expanded)
{
    struct config *cfg = postconf_load(p);
    struct bounce_templates *templates;
    struct buf out = BUF_INIT(SIZE_MAX);
    struct err err = ERR_INIT;
    const char *path;

    if (p->count > 1)
        fatal("options -b and -t require at most one template file");
    path = p->count == 1 ? p->names[0] : config_get(cfg, "bounce_template_file");
    if (path == NULL)
        fatal("bounce_template_file has no value");
    if (bounce_templates_load(path, on_warning, NULL, &templates, &err) == -1)
        fatal("%s", err.text);
    for (int i = 0; i < BOUNCE_TEMPLATE_KINDS; i++) {
        enum bounce_template_kind kind = (enum bounce_template_kind) i;

        if (i > 0)
            buf_putc(&out, '\n');
        if (!expanded) {
            bounce_template_print(templates, kind, &out);
            continue;
        }
        buf_printf(&out, "expanded_%s_text = <<EOF\n", bounce_template_name(kind));
        if (bounce_template_expand(bounce_templates_get(templates, kind), cfg, &out, &err) == -1)
            fatal("%s template: %s", bounce_template_name(kind), err.text);
        buf_puts(&out, "EOF\n");
    }
    fwrite(out.ptr, 1, out.len, stdout); /* errors show at the end, in main() */
    buf_fini(&out);
    bounce_templates_free(&templates);
    config_unref(&cfg);
    return 0;
}
