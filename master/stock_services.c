/* SPDX-License-Identifier: Apache-2.0 */
/* stock_services.c - see stock_services.h. */
#include "master/stock_services.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

#define MASTER_CF_MAX (4U << 20)

static const char head[] =
    "# Services of the mail system: see master(5). After a change: \"postfix reload\".\n"
    "# service type  private unpriv  chroot  wakeup  maxproc command + args\n"
    "#               (yes)   (yes)   (no)    (never) (100)\n";

/* clang-format off */
const struct stock_service stock_services[] = {
    {"smtp",       SERVICE_INET,       "smtp      inet  n       -       n       -       -       smtpd\n"},
    {"pickup",     SERVICE_UNIX,       "pickup    unix  n       -       n       60      1       pickup\n"},
    {"cleanup",    SERVICE_UNIX,       "cleanup   unix  n       -       n       -       0       cleanup\n"},
    {"qmgr",       SERVICE_UNIX,       "qmgr      unix  n       -       n       300     1       qmgr\n"},
    {"tlsmgr",     SERVICE_UNIX,       "tlsmgr    unix  -       -       n       1000?   1       tlsmgr\n"},
    {"rewrite",    SERVICE_UNIX,       "rewrite   unix  -       -       n       -       -       trivial-rewrite\n"},
    {"bounce",     SERVICE_UNIX,       "bounce    unix  -       -       n       -       0       bounce\n"},
    {"defer",      SERVICE_UNIX,       "defer     unix  -       -       n       -       0       bounce\n"},
    {"trace",      SERVICE_UNIX,       "trace     unix  -       -       n       -       0       bounce\n"},
    {"verify",     SERVICE_UNIX,       "verify    unix  -       -       n       -       1       verify\n"},
    {"flush",      SERVICE_UNIX,       "flush     unix  n       -       n       1000?   0       flush\n"},
    {"proxymap",   SERVICE_UNIX,       "proxymap  unix  -       -       n       -       -       proxymap\n"},
    {"proxywrite", SERVICE_UNIX,       "proxywrite unix -       -       n       -       1       proxymap\n"},
    {"smtp",       SERVICE_UNIX,       "smtp      unix  -       -       n       -       -       smtp\n"},
    {"relay",      SERVICE_UNIX,       "relay     unix  -       -       n       -       -       smtp\n"
                                       "        -o syslog_name=postfix/$service_name\n"},
    {"showq",      SERVICE_UNIX,       "showq     unix  n       -       n       -       -       showq\n"},
    {"error",      SERVICE_UNIX,       "error     unix  -       -       n       -       -       error\n"},
    {"retry",      SERVICE_UNIX,       "retry     unix  -       -       n       -       -       error\n"},
    {"discard",    SERVICE_UNIX,       "discard   unix  -       -       n       -       -       discard\n"},
    {"local",      SERVICE_UNIX,       "local     unix  -       n       n       -       -       local\n"},
    {"virtual",    SERVICE_UNIX,       "virtual   unix  -       n       n       -       -       virtual\n"},
    {"lmtp",       SERVICE_UNIX,       "lmtp      unix  -       -       n       -       -       lmtp\n"},
    {"anvil",      SERVICE_UNIX,       "anvil     unix  -       -       n       -       1       anvil\n"},
    {"scache",     SERVICE_UNIX,       "scache    unix  -       -       n       -       1       scache\n"},
    {"postlog",    SERVICE_UNIX_DGRAM, "postlog   unix-dgram n  -       n       -       1       postlogd\n"},
};
/* clang-format on */
const size_t stock_services_count = ARRAY_LEN(stock_services);

void stock_master_cf(struct buf *out)
{
    buf_puts(out, head);
    for (size_t i = 0; i < stock_services_count; i++)
        buf_puts(out, stock_services[i].line);
}

/* qmgr and pickup may be of type fifo in old files; what an administrator calls differently is his. */
static bool is_there(const struct master_cf *m, const struct stock_service *s)
{
    return master_cf_find(m, s->name, s->type) != NULL ||
           (s->type == SERVICE_UNIX && master_cf_find(m, s->name, SERVICE_FIFO) != NULL) ||
           /* a host that takes no mail from the network has chosen so */
           s->type == SERVICE_INET;
}

int stock_services_add_missing(const char *dir, struct err *err)
{
    struct buf path = BUF_INIT(8192);
    struct buf text = BUF_INIT(MASTER_CF_MAX);
    struct master_cf *m = NULL;
    size_t before;
    int ret = -1;

    path_join(&path, dir, "master.cf");
    if (file_read(buf_cstr(&path), &text, err) == -1 ||
        master_cf_parse(buf_cstr(&path), buf_view(&text), &m, err) == -1)
        goto done;
    if (text.len > 0 && text.ptr[text.len - 1] != '\n')
        buf_putc(&text, '\n');
    before = text.len;
    for (size_t i = 0; i < stock_services_count; i++) {
        if (is_there(m, &stock_services[i]))
            continue;
        printf("%s: adding service %s/%s\n", buf_cstr(&path), stock_services[i].name,
               service_type_name(stock_services[i].type));
        buf_puts(&text, stock_services[i].line);
    }
    if (!buf_ok(&text))
        err_input(err, "%s: too long", buf_cstr(&path));
    else if (text.len == before || file_replace(buf_cstr(&path), buf_view(&text), 0644, err) == 0)
        ret = 0;
done:
    master_cf_free(&m);
    buf_fini(&text);
    buf_fini(&path);
    return ret;
}
