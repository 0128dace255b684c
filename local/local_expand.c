/* SPDX-License-Identifier: Apache-2.0 */
/* local_expand.c - aliases(5), .forward files, and the user's mailbox. */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "local/local_int.h"
#include "mail/address.h"

#define DEPTH_MAX    100
#define ELEMENTS_MAX 10000
#define FORWARD_MAX  (1U << 20)

void local_fail(struct local_job *j, const struct err *err)
{
    if (j->err.kind == ERR_NONE || (j->err.kind == ERR_PERMANENT && err->kind != ERR_PERMANENT))
        j->err = *err;
}

PRINTF_LIKE(4, 5)
static void fail(struct local_job *j, enum err_kind kind, const char *dsn, const char *fmt, ...)
{
    struct err err = ERR_INIT;
    char text[ERR_TEXT_MAX];
    va_list ap;

    va_start(ap, fmt);
    (void) vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    err_set(&err, kind, dsn, "%s", text);
    local_fail(j, &err);
}

bool local_has_word(const char *list, const char *origin)
{
    struct slice rest = slice_str(list);
    struct slice word;

    while (slice_token(&rest, ", \t", &word))
        if (slice_eq_str(word, origin))
            return true;
    return false;
}

static void deliver_file(struct local_job *j, const char *path, const struct local_rights *rights)
{
    struct mailbox_headers h = {.return_path = j->r->msg.sender,
                                .original_to =
                                    j->rcpt->orig.len > 0 ? j->rcpt->orig : j->rcpt->addr,
                                .delivered_to = SLICE_EMPTY};
    struct mailbox_options opt = j->l->mailbox;
    struct err err = ERR_INIT;
    size_t len = strlen(path);
    off_t at = -1;

    opt.strict_ownership &= rights->user != NULL; /* a file of aliases is anybody's */
    if (deliver_is_probe(j->r)) {
        j->delivered++;
        if (j->how.len > 0)
            return;
        buf_puts(&j->how, len > 0 && path[len - 1] == '/' ? "delivers to maildir"
                          : rights->user != NULL          ? "delivers to mailbox"
                                                          : "delivers to file: ");
        if (rights->user == NULL && path[len - 1] != '/')
            buf_puts(&j->how, path);
        return;
    }
    if (local_has_word(j->l->p.prepend_delivered_header, "file"))
        h.delivered_to = j->delivered_to;
    if (mailbox_deliver(j->r, path, &rights->owner, &h, &opt, &at, &err) == -1) {
        local_fail(j, &err);
        return;
    }
    j->delivered++;
    if (j->l->p.biff && rights->user != NULL && at != -1)
        local_biff(rights->user, at);
    if (j->how.len == 0)
        buf_puts(&j->how, len > 0 && path[len - 1] == '/' ? "delivered to maildir"
                          : rights->user != NULL          ? "delivered to mailbox"
                                                          : "delivered to file");
}

static void elements(struct local_job *j, struct slice text, const struct local_rights *rights,
                     unsigned depth);

static void include(struct local_job *j, const char *path, unsigned depth)
{
    struct local_rights rights = {.origin = "include"};
    struct buf text = BUF_INIT(FORWARD_MAX);
    struct err err = ERR_INIT;
    struct stat st;

    if (path[0] != '/' || stat(path, &st) == -1) {
        fail(j, ERR_TEMPORARY, "4.3.5", "cannot open include file %s", path);
        return;
    }
    /* what root owns is not done as root */
    rights.owner =
        st.st_uid == 0 ? j->l->default_privs : (struct mailbox_owner){st.st_uid, st.st_gid};
    if (file_read(path, &text, &err) == -1)
        fail(j, ERR_TEMPORARY, "4.3.5", "include file: %s", err.text);
    else
        elements(j, buf_view(&text), &rights, depth + 1);
    buf_fini(&text);
}

static void user_mailbox(struct local_job *j, const struct passwd *pw)
{
    struct local_rights rights = {.owner = {pw->pw_uid, pw->pw_gid},
                                  .origin = "mailbox",
                                  .user = pw->pw_name,
                                  .home = pw->pw_dir};
    struct buf path = BUF_INIT(4096);
    struct buf command = BUF_INIT(MAP_VALUE_MAX);
    struct err err = ERR_INIT;
    enum map_result res;

    if (local_transport(j, j->l->mailbox_transports, "mailbox_transport_maps",
                        j->l->p.mailbox_transport, slice_str(pw->pw_name)))
        return;
    res = map_list_lookup(j->l->mailbox_commands, slice_str(pw->pw_name), 0, &command, NULL, &err);

    if (res == MAP_NOTFOUND)
        buf_puts(&command, j->l->p.mailbox_command);
    if (res == MAP_RETRY) {
        fail(j, ERR_TEMPORARY, "4.3.0", "mailbox_command_maps: %s", err.text);
    } else if (command.len > 0) {
        if (local_command(j, buf_cstr(&command), &rights, &err) == -1)
            local_fail(j, &err);
    } else {
        if (j->l->p.home_mailbox[0] != '\0') {
            path_join(&path, pw->pw_dir, j->l->p.home_mailbox);
        } else {
            path_join(&path, j->l->p.mail_spool_directory, pw->pw_name);
            if (slice_ends_with(slice_str(j->l->p.mail_spool_directory), SLICE_LIT("/")))
                buf_putc(&path, '/'); /* a maildir */
        }
        deliver_file(j, buf_cstr(&path), &rights);
    }
    buf_fini(&path);
    buf_fini(&command);
}

/* One thing that an alias or .forward file names. */
static void element(struct local_job *j, struct slice text, const struct local_rights *rights,
                    unsigned depth)
{
    struct buf plain = BUF_INIT(65536);
    const char *s;

    if (++j->elements > ELEMENTS_MAX) {
        fail(j, ERR_PERMANENT, "5.4.6", "alias expansion of %.*s is too large",
             SLICE_FMT(j->rcpt->addr));
        return;
    }
    address_unquote(text, &plain);
    s = buf_cstr(&plain);
    if (strncmp(s, ":include:", 9) == 0) {
        include(j, s + 9, depth);
    } else if (s[0] == '|') {
        struct err err = ERR_INIT;

        if (!local_has_word(j->l->p.allow_commands, rights->origin))
            fail(j, ERR_PERMANENT, "5.7.1", "mail to command is restricted");
        else if (local_command(j, s + 1, rights, &err) == -1)
            local_fail(j, &err);
    } else if (s[0] == '/') {
        if (!local_has_word(j->l->p.allow_files, rights->origin))
            fail(j, ERR_PERMANENT, "5.7.1", "mail to file is restricted");
        else
            deliver_file(j, s, rights);
    } else {
        struct slice addr = buf_view(&plain);
        bool to_mailbox = addr.len > 0 && addr.ptr[0] == '\\';

        if (to_mailbox)
            addr = slice_sub(addr, 1, addr.len);
        /* the user himself, named in his own file: his mailbox */
        if (rights->user != NULL && (slice_caseeq_str(addr, rights->user) ||
                                     (slice_caseeq_str(address_local(addr), rights->user) &&
                                      route_domain_is_local(j->l->route, address_domain(addr))))) {
            const struct passwd *pw =
                getpwnam(rights->user); /* NOLINT(concurrency-mt-unsafe): single-threaded */

            if (pw != NULL)
                user_mailbox(j, pw);
        } else if (addr.len > 0) {
            vec_push(&j->forward, arena_printf(j->arena, "%.*s", SLICE_FMT(addr)));
        }
    }
    buf_fini(&plain);
}

/* Elements are divided by commas and line ends outside of quotes; # begins a comment at the begin of a line. */
static void elements(struct local_job *j, struct slice text, const struct local_rights *rights,
                     unsigned depth)
{
    if (depth > DEPTH_MAX) {
        fail(j, ERR_PERMANENT, "5.4.6", "alias expansion of %.*s is nested too deep",
             SLICE_FMT(j->rcpt->addr));
        return;
    }
    while (text.len > 0) {
        ptrdiff_t nl = slice_find(text, '\n');
        struct slice line = slice_trim(slice_sub(text, 0, nl == -1 ? text.len : (size_t) nl), NULL);

        text = nl == -1 ? SLICE_EMPTY : slice_sub(text, (size_t) nl + 1, text.len);
        if (line.len == 0 || line.ptr[0] == '#')
            continue;
        for (size_t at = 0; at <= line.len;) {
            size_t end = at;
            bool quoted = false;

            while (end < line.len && (quoted || line.ptr[end] != ',')) {
                if (line.ptr[end] == '"')
                    quoted = !quoted;
                else if (line.ptr[end] == '\\')
                    end++;
                end++;
            }
            struct slice one = slice_trim(slice_sub(line, at, end), NULL);
            if (one.len > 0)
                element(j, one, rights, depth);
            at = end + 1;
        }
    }
}

/* 1: an alias; 0: none; -1: it cannot be told. */
static int alias(struct local_job *j, struct slice name, unsigned depth)
{
    struct local_rights rights = {.owner = j->l->default_privs, .origin = "alias"};
    struct buf value = BUF_INIT(MAP_VALUE_MAX);
    struct buf owner = BUF_INIT(1024);
    struct err err = ERR_INIT;
    enum map_result res = map_list_lookup(j->l->aliases, name, 0, &value, NULL, &err);
    enum map_result has_owner = MAP_NOTFOUND;

    if (res == MAP_RETRY) {
        fail(j, ERR_TEMPORARY, "4.3.0", "alias database unavailable: %s", err.text);
    } else if (res == MAP_FOUND) {
        struct buf who = BUF_INIT(MAP_VALUE_MAX);

        /* mail for a list comes from its owner, so that reports go there */
        buf_printf(&owner, "owner-%.*s", SLICE_FMT(name));
        if (j->r->msg.sender.len > 0)
            has_owner = map_list_lookup(j->l->aliases, buf_view(&owner), 0, &who, NULL, &err);
        if (has_owner == MAP_RETRY) {
            fail(j, ERR_TEMPORARY, "4.3.0", "alias database unavailable: %s", err.text);
            res = MAP_RETRY;
        } else if (has_owner == MAP_FOUND) {
            if (j->l->p.expand_owner_alias)
                j->sender = arena_slice(j->arena, slice_trim(buf_view(&who), NULL));
            else
                j->sender = slice_str(
                    arena_printf(j->arena, "%.*s@%s", SLICE_FMT(buf_view(&owner)), j->l->myorigin));
        }
        buf_fini(&who);
        if (res == MAP_FOUND)
            elements(j, buf_view(&value), &rights, depth + 1);
    }
    buf_fini(&value);
    buf_fini(&owner);
    return res == MAP_FOUND ? 1 : res == MAP_RETRY ? -1 : 0;
}

/* 1: a .forward file was followed; 0: there is none; -1: trouble. */
static int forward_file(struct local_job *j, const struct passwd *pw, unsigned depth)
{
    struct local_rights rights = {.owner = {pw->pw_uid, pw->pw_gid},
                                  .origin = "forward",
                                  .user = pw->pw_name,
                                  .home = pw->pw_dir};
    const struct local_names names = {pw->pw_name, pw->pw_dir, pw->pw_shell};
    struct slice rest = slice_str(j->l->p.forward_path);
    struct slice word;
    int found = 0;

    while (found == 0 && slice_token_braces(&rest, ", \t\r\n", &word)) {
        struct buf path = BUF_INIT(4096);
        struct buf text = BUF_INIT(FORWARD_MAX);
        struct err err = ERR_INIT;
        struct stat st;
        bool there;

        local_expand(j, word, &names, j->l->p.forward_filter, &path);
        if (mailbox_become(&rights.owner, &err) == -1) {
            local_fail(j, &err);
            found = -1;
        } else {
            there = stat(buf_cstr(&path), &st) == 0;
            if (there && (!S_ISREG(st.st_mode) || (st.st_uid != pw->pw_uid && st.st_uid != 0) ||
                          (st.st_mode & 002) != 0)) {
                log_warning("%s is not followed: wrong owner, or writable for others",
                            buf_cstr(&path));
                there = false;
            }
            if (there && file_read(buf_cstr(&path), &text, &err) == -1) {
                fail(j, ERR_TEMPORARY, "4.3.0", "%s", err.text);
                found = -1;
            }
            mailbox_become_root();
            if (there && found == 0 && slice_trim(buf_view(&text), NULL).len > 0) {
                elements(j, buf_view(&text), &rights, depth + 1);
                found = 1;
            }
        }
        buf_fini(&path);
        buf_fini(&text);
    }
    return found;
}

static void unknown_user(struct local_job *j, const char *name)
{
    if (local_transport(j, j->l->mailbox_transports, "mailbox_transport_maps",
                        j->l->p.mailbox_transport, slice_str(name)) ||
        local_transport(j, j->l->fallback_transports, "fallback_transport_maps",
                        j->l->p.fallback_transport, slice_str(name)))
        return;
    if (j->l->p.luser_relay[0] != '\0') {
        const struct local_names names = {.user = name};
        struct buf relay = BUF_INIT(MAP_VALUE_MAX);

        local_expand(j, slice_str(j->l->p.luser_relay), &names, NULL, &relay);
        vec_push(&j->forward, arena_strdup(j->arena, buf_cstr(&relay)));
        buf_fini(&relay);
    } else {
        fail(j, ERR_PERMANENT, "5.1.1", "unknown user: \"%s\"", name);
    }
}

void local_recipient(struct local_job *j, struct slice name, unsigned depth)
{
    struct slice user;
    struct slice ext;
    const struct passwd *pw;
    char *login;

    (void) address_split_extension(name, j->l->delimiter, &user, &ext);
    int found = alias(j, name, depth);
    if (found == 0 && ext.len > 0)
        found = alias(j, user, depth);
    if (found != 0)
        return;
    login = slice_dup(user);
    for (char *p = login; *p != '\0'; p++)
        *p = (char) ascii_lower((unsigned char) *p);
    errno = 0;
    pw = getpwnam(login); /* NOLINT(concurrency-mt-unsafe): single-threaded */
    if (pw == NULL && errno != 0 && errno != ENOENT && errno != ESRCH) {
        fail(j, ERR_TEMPORARY, "4.3.0", "user lookup error: errno %d", errno);
    } else if (pw == NULL) {
        unknown_user(j, login);
    } else if (j->l->p.require_home_directory && access(pw->pw_dir, F_OK) == -1) {
        fail(j, ERR_TEMPORARY, "4.3.0", "cannot access home directory %s", pw->pw_dir);
    } else if (forward_file(j, pw, depth) == 0) {
        user_mailbox(j, pw);
    }
    free(login);
}
