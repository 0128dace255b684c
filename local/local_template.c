/* SPDX-License-Identifier: Apache-2.0 */
/*
 * local_template.c - values of main.cf that name what they are asked for: $user, ${extension?text}, ${name?{text}:{text}}.
 */
#include <string.h>

#include "local/local_int.h"
#include "mail/address.h"

static void put_filtered(struct slice value, const char *filter, struct buf *out)
{
    for (size_t i = 0; i < value.len; i++)
        buf_putc(out,
                 filter == NULL || (value.ptr[i] != '\0' && strchr(filter, value.ptr[i]) != NULL)
                     ? value.ptr[i]
                     : '_');
}

/* The end of what begins before at, after an opening bracket: where the closing one stands, or the text's end. */
static size_t closing(struct slice text, size_t at, char open, char close)
{
    size_t depth = 1;

    for (; at < text.len; at++) {
        depth += text.ptr[at] == open;
        depth -= text.ptr[at] == close;
        if (depth == 0)
            break;
    }
    return at;
}

/* "value" of ${name?value}, or without the braces of {value}; what is behind it stays in *rest. */
static struct slice branch(struct slice *rest)
{
    struct slice text = *rest;
    size_t end;

    if (text.len == 0 || text.ptr[0] != '{') {
        *rest = SLICE_EMPTY;
        return text;
    }
    end = closing(text, 1, '{', '}');
    *rest = slice_sub(text, end < text.len ? end + 1 : end, text.len);
    return slice_sub(text, 1, end);
}

/* After the name: "?value" if it has one, ":value" if not, "?{value}:{value}". False: neither. */
static bool choose(bool is_there, struct slice rest, struct slice *chosen)
{
    struct slice yes = SLICE_EMPTY;
    struct slice no = SLICE_EMPTY;

    if (rest.len == 0 || (rest.ptr[0] != '?' && rest.ptr[0] != ':'))
        return false;
    if (rest.ptr[0] == '?') {
        rest = slice_sub(rest, 1, rest.len);
        yes = branch(&rest);
    }
    if (rest.len > 0 && rest.ptr[0] == ':') {
        rest = slice_sub(rest, 1, rest.len);
        no = branch(&rest);
    }
    *chosen = is_there ? yes : no;
    return true;
}

void local_expand(const struct local_job *j, struct slice text, const struct local_names *n,
                  const char *filter, struct buf *out)
{
    struct slice local = address_local(j->rcpt->addr);
    struct slice name;
    struct slice ext;
    bool split = address_split_extension(local, j->l->delimiter, &name, &ext);
    const struct {
        const char *name;
        struct slice value;
    } names[] = {
        {"home", slice_str(n->home)},
        {"user", n->user != NULL ? slice_str(n->user) : name},
        {"extension", ext},
        {"recipient_delimiter", split ? slice_sub(local, name.len, name.len + 1) : SLICE_EMPTY},
        {"shell", slice_str(n->shell)},
        {"domain", address_domain(j->rcpt->addr)},
        {"local", local},
        {"recipient", j->rcpt->addr}};

    for (size_t i = 0; i < text.len;) {
        struct slice value = SLICE_EMPTY;
        struct slice chosen;
        size_t start = i + 1;
        size_t end;
        size_t stop;
        char open;

        if (text.ptr[i] != '$') {
            buf_putc(out, text.ptr[i++]);
            continue;
        }
        open = start < text.len ? text.ptr[start] : '\0';
        if (open == '$') {
            buf_putc(out, '$');
            i = start + 1;
            continue;
        }
        start += open == '{' || open == '(';
        end = start;
        while (end < text.len &&
               (ascii_is_alnum((unsigned char) text.ptr[end]) || text.ptr[end] == '_'))
            end++;
        stop = open == '{'   ? closing(text, start, '{', '}')
               : open == '(' ? closing(text, start, '(', ')')
                             : end;
        for (size_t k = 0; k < ARRAY_LEN(names); k++)
            if (slice_eq_str(slice_sub(text, start, end), names[k].name))
                value = names[k].value;
        if (choose(value.len > 0, slice_sub(text, end, stop), &chosen))
            local_expand(j, chosen, n, filter, out);
        else
            put_filtered(value, filter, out);
        i = stop + ((open == '{' || open == '(') && stop < text.len ? 1 : 0);
    }
}
