/* SPDX-License-Identifier: Apache-2.0 */
/* slice.c - see slice.h. */
#include "base/slice.h"

int ascii_lower(int c)
{
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

int ascii_upper(int c)
{
    return c >= 'a' && c <= 'z' ? c - 32 : c;
}

bool ascii_is_space(int c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

bool ascii_is_digit(int c)
{
    return c >= '0' && c <= '9';
}

bool ascii_is_alpha(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool ascii_is_alnum(int c)
{
    return ascii_is_alpha(c) || ascii_is_digit(c);
}

bool ascii_is_print(int c)
{
    return c >= ' ' && c <= '~';
}

bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool slice_eq_str(struct slice a, const char *b)
{
    return slice_eq(a, slice_str(b));
}

bool slice_caseeq(struct slice a, struct slice b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (a.ptr[i] != b.ptr[i] &&
            ascii_lower((unsigned char) a.ptr[i]) != ascii_lower((unsigned char) b.ptr[i]))
            return false;
    return true;
}

bool slice_caseeq_str(struct slice a, const char *b)
{
    return slice_caseeq(a, slice_str(b));
}

bool slice_starts_with(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && slice_eq(slice_of(s.ptr, prefix.len), prefix);
}

bool slice_case_starts_with(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && slice_caseeq(slice_of(s.ptr, prefix.len), prefix);
}

bool slice_ends_with(struct slice s, struct slice suffix)
{
    return s.len >= suffix.len && slice_eq(slice_sub(s, s.len - suffix.len, s.len), suffix);
}

bool slice_case_ends_with(struct slice s, struct slice suffix)
{
    return s.len >= suffix.len && slice_caseeq(slice_sub(s, s.len - suffix.len, s.len), suffix);
}

bool slice_is_ascii(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char) s.ptr[i] > 127)
            return false;
    return true;
}

ptrdiff_t slice_find(struct slice s, char c)
{
    const char *p = s.len > 0 ? memchr(s.ptr, c, s.len) : NULL;

    return p != NULL ? p - s.ptr : -1;
}

ptrdiff_t slice_rfind(struct slice s, char c)
{
    const char *p = s.len > 0 ? memrchr(s.ptr, c, s.len) : NULL;

    return p != NULL ? p - s.ptr : -1;
}

static bool is_in(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

struct slice slice_trim(struct slice s, const char *space)
{
    if (space == NULL)
        space = " \t\r\n";
    while (s.len > 0 && is_in(s.ptr[0], space)) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && is_in(s.ptr[s.len - 1], space))
        s.len--;
    return s;
}

struct slice slice_sub(struct slice s, size_t from, size_t to)
{
    if (to > s.len)
        to = s.len;
    if (from >= to)
        return SLICE_EMPTY;
    return slice_of(s.ptr + from, to - from);
}

static bool token(struct slice *rest, const char *seps, bool braces, struct slice *out)
{
    size_t start = 0;
    size_t end;
    unsigned depth = 0;

    while (start < rest->len && is_in(rest->ptr[start], seps))
        start++;
    if (start == rest->len) {
        *rest = SLICE_EMPTY;
        return false;
    }
    for (end = start; end < rest->len; end++) {
        char c = rest->ptr[end];

        if (braces && c == '{')
            depth++;
        else if (braces && c == '}' && depth > 0)
            depth--;
        else if (depth == 0 && is_in(c, seps))
            break;
    }
    *out = slice_sub(*rest, start, end);
    *rest = slice_sub(*rest, end, rest->len);
    return true;
}

bool slice_token(struct slice *rest, const char *seps, struct slice *out)
{
    return token(rest, seps, false, out);
}

bool slice_token_braces(struct slice *rest, const char *seps, struct slice *out)
{
    return token(rest, seps, true, out);
}

char *slice_dup(struct slice s)
{
    return xstrndup(s.ptr != NULL ? s.ptr : "", s.len);
}
