/* SPDX-License-Identifier: Apache-2.0 */
/* orcpt.c - see orcpt.h. RFC 6533, section 3. */
#include "mail/orcpt.h"

#include "base/utf8.h"
#include "mail/address.h"
#include "mail/dsn.h"

#define HEX_MAX 6 /* digits of a character */

bool orcpt_is_utf8(struct slice type)
{
    return slice_caseeq_str(type, "utf-8");
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char) ascii_lower((unsigned char) c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The character behind "\x" at the front of *rest, "{F6}". */
static int take_character(struct slice *rest, struct buf *out)
{
    uint32_t c = 0;
    size_t at = 1;

    if (rest->len == 0 || rest->ptr[0] != '{')
        return -1;
    while (at < rest->len && at <= HEX_MAX && hex(rest->ptr[at]) != -1)
        c = c << 4 | (uint32_t) hex(rest->ptr[at++]);
    if (at == 1 || at == rest->len || rest->ptr[at] != '}' || c == 0 || c > UTF8_CODE_MAX)
        return -1;
    utf8_encode(c, out);
    *rest = slice_sub(*rest, at + 1, rest->len);
    return 0;
}

/* "+C3" as in xtext is taken, too: there are systems that write it. */
static int decode_utf8(struct slice text, struct buf *out)
{
    size_t start = out->len;
    struct slice decoded;

    while (text.len > 0) {
        unsigned char c = (unsigned char) text.ptr[0];

        if (c <= ' ' || c == 127 || c == '=')
            return -1;
        if (slice_starts_with(text, SLICE_LIT("\\x"))) {
            text = slice_sub(text, 2, text.len);
            if (take_character(&text, out) == -1)
                return -1;
        } else if (c == '+') {
            if (xtext_decode(slice_sub(text, 0, 3), out) == -1)
                return -1;
            text = slice_sub(text, 3, text.len);
        } else {
            buf_putc(out, (char) c);
            text = slice_sub(text, 1, text.len);
        }
    }
    decoded = slice_sub(buf_view(out), start, out->len);
    return utf8_is_valid(decoded) && slice_find(decoded, '\0') == -1 ? 0 : -1;
}

int orcpt_parse(struct slice text, struct slice *type, struct buf *addr)
{
    ptrdiff_t semicolon = slice_find(text, ';');
    size_t start = addr->len;
    struct slice value;
    int ret;

    if (semicolon <= 0)
        return -1;
    value = slice_sub(text, (size_t) semicolon + 1, text.len);
    *type = slice_sub(text, 0, (size_t) semicolon);
    if (!slice_is_ascii(*type))
        return -1;
    ret = orcpt_is_utf8(*type) ? decode_utf8(value, addr) : xtext_decode(value, addr);
    if (ret == 0 && buf_ok(addr))
        return 0;
    buf_truncate(addr, start);
    return -1;
}

void orcpt_encode_utf8(struct slice addr, struct buf *out)
{
    while (addr.len > 0) {
        uint32_t c = '?';
        size_t n = utf8_decode(addr, &c);

        if (c > ' ' && c <= '~' && c != '\\' && c != '+' && c != '=')
            buf_putc(out, (char) c);
        else
            buf_printf(out, "\\x{%02X}", c);
        addr = slice_sub(addr, n > 0 ? n : 1, addr.len);
    }
}

void orcpt_print(struct slice addr, struct buf *out)
{
    struct buf quoted = BUF_INIT(SIZE_MAX);

    address_quote(addr, &quoted);
    if (slice_is_ascii(addr)) {
        buf_puts(out, "rfc822;");
        xtext_encode(buf_view(&quoted), out);
    } else {
        buf_puts(out, "utf-8;");
        orcpt_encode_utf8(buf_view(&quoted), out);
    }
    buf_fini(&quoted);
}
