/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_suspend.c - any bytes as the file of suspensions: what is read comes back as it was written. */
#include <stdint.h>
#include <stdlib.h>

#include "qmgr/qmgr_suspend.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void damaged(void *arg, unsigned line, const char *why)
{
    (void) arg;
    if (line == 0 || why[0] == '\0')
        abort();
}

static void must_not(void *arg, unsigned line, const char *why)
{
    (void) arg;
    (void) line;
    (void) why;
    abort();
}

static void fini(struct vec *list)
{
    for (size_t i = 0; i < list->len; i++) {
        struct suspension *s = list->items[i];

        suspension_free(&s);
    }
    vec_fini(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct vec list = VEC_INIT;
    struct vec back = VEC_INIT;
    struct buf text = BUF_INIT(SIZE_MAX);
    struct buf again = BUF_INIT(SIZE_MAX);

    suspension_read(&list, slice_of((const char *) data, size), damaged, NULL);
    suspension_write(&list, &text);
    suspension_read(&back, buf_view(&text), must_not, NULL);
    suspension_write(&back, &again);
    if (!slice_eq(buf_view(&text), buf_view(&again)))
        abort();
    fini(&list);
    fini(&back);
    buf_fini(&text);
    buf_fini(&again);
    return 0;
}
