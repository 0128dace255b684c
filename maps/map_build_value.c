/* SPDX-License-Identifier: Apache-2.0 */
/* map_build_value.c - values that are the content of files: postmap -F. */
#include "maps/map_build_int.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "base/file.h"
#include "maps/map_int.h"

#define FILES_MAX (MAP_VALUE_MAX / 4 * 3)

int map_value_of_files(struct slice value, struct buf *out, struct err *err)
{
    struct buf content = BUF_INIT(FILES_MAX);
    struct slice name;
    int ret = 0;
    bool first = true;

    while (ret == 0 && slice_token_braces(&value, ", \t\r\n", &name)) {
        char *path = slice_dup(name);

        if (!first)
            buf_putc(&content, '\n');
        first = false;
        ret = file_read(path, &content, err);
        free(path);
    }
    if (ret == 0 && !buf_ok(&content))
        ret = err_input(err, "the files hold more than %u bytes", FILES_MAX);
    if (ret == 0) {
        char *room = buf_reserve(out, content.len / 3 * 4 + 5);

        if (room == NULL)
            ret = err_input(err, "the files are too large");
        else
            buf_advance(out, (size_t) EVP_EncodeBlock((unsigned char *) room,
                                                      (const unsigned char *) content.ptr,
                                                      (int) content.len));
    }
    buf_fini(&content);
    return ret;
}

int map_value_decode(struct slice value, struct buf *out, struct err *err)
{
    char *room = buf_reserve(out, value.len + 1);
    int n;

    if (room == NULL)
        return err_input(err, "value is too long");
    n = value.len % 4 == 0 ? EVP_DecodeBlock((unsigned char *) room,
                                             (const unsigned char *) value.ptr, (int) value.len)
                           : -1;
    if (n < 0)
        return err_input(err, "malformed BASE64 value: %.*s", SLICE_FMT(value));
    if (value.len > 0 && value.ptr[value.len - 1] == '=')
        n--;
    if (value.len > 1 && value.ptr[value.len - 2] == '=')
        n--;
    buf_advance(out, (size_t) n);
    return 0;
}
