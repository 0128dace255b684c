/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_bounce_template.c - any bytes as bounce_template_file, and its texts expanded. What is printed of the templates is taken again,
 * without a complaint, and is the same then.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "postconf/bounce_template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void warned(const char *text, void *arg)
{
    if (text[0] == '\0')
        abort();
    *(unsigned *) arg += 1;
}

/* NULL: it cannot be read. */
static struct bounce_templates *load(struct slice text, unsigned *warnings)
{
    struct bounce_templates *t = NULL;
    struct buf path = BUF_INIT(100);
    struct err err = ERR_INIT;
    int fd = memfd_create("template", MFD_CLOEXEC);

    if (fd == -1 || fd_write_all(fd, text.ptr, text.len) == -1)
        abort();
    buf_printf(&path, "/proc/self/fd/%d", fd);
    if (bounce_templates_load(buf_cstr(&path), warned, warnings, &t, &err) == -1 &&
        err.text[0] == '\0')
        abort();
    close(fd);
    buf_fini(&path);
    return t;
}

static void print(const struct bounce_templates *t, struct buf *out)
{
    for (int kind = 0; kind < BOUNCE_TEMPLATE_KINDS; kind++)
        bounce_template_print(t, (enum bounce_template_kind) kind, out);
}

static const struct config *settings(void)
{
    static struct config *cfg;
    static char directory[] = "/tmp/fuzz_template.XXXXXX";
    struct buf path = BUF_INIT(100);
    struct err err = ERR_INIT;

    if (cfg == NULL) {
        if (mkdtemp(directory) == NULL)
            abort();
        buf_printf(&path, "%s/main.cf", directory);
        if (file_replace(buf_cstr(&path), SLICE_LIT("compatibility_level = 3.6\nx = a b\n"), 0600,
                         &err) == -1 ||
            config_load(directory, NULL, 0, NULL, &cfg, &err) == -1)
            abort();
        unlink(buf_cstr(&path));
        rmdir(directory);
    }
    buf_fini(&path);
    return cfg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned warnings = 0;
    unsigned again = 0;
    struct bounce_templates *t = load(slice_of((const char *) data, size), &warnings);
    struct bounce_templates *back;
    struct buf text = BUF_INIT(SIZE_MAX);
    struct buf same = BUF_INIT(SIZE_MAX);

    if (t == NULL)
        return 0;
    for (int kind = 0; kind < BOUNCE_TEMPLATE_KINDS; kind++) {
        const struct bounce_template *one =
            bounce_templates_get(t, (enum bounce_template_kind) kind);
        struct buf out = BUF_INIT(1U << 20);
        struct err err = ERR_INIT;

        if (bounce_template_expand(one, settings(), &out, &err) == -1 && err.text[0] == '\0')
            abort();
        buf_fini(&out);
    }
    print(t, &text);
    back = load(buf_view(&text), &again);
    if (back == NULL || again > 0)
        abort();
    print(back, &same);
    if (!slice_eq(buf_view(&text), buf_view(&same)))
        abort();
    bounce_templates_free(&t);
    bounce_templates_free(&back);
    buf_fini(&text);
    buf_fini(&same);
    return 0;
}
