/* SPDX-License-Identifier: Apache-2.0 */
/* qmgr_clock_file.c - see qmgr_clock_file.h. The file is of use to the same machine in the same run only, so it is the struct as it is. */
#include "qmgr/qmgr_clock_file.h"

#include <string.h>

#include "base/crc32c.h"
#include "base/file.h"

#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"
#define FILE_MODE    0600

struct saved {
    char magic[8];
    char boot_id[BOOT_ID_MAX];
    struct qmgr_clock clock;
    uint32_t crc; /* of all before it */
};
static const char magic[8] = "PRCLK1";

void qmgr_clock_boot_id(char out[BOOT_ID_MAX])
{
    struct buf text = BUF_INIT(256);
    struct slice id = SLICE_EMPTY;

    if (file_read(BOOT_ID_PATH, &text, NULL) == 0)
        id = slice_trim(buf_view(&text), NULL);
    memset(out, 0, BOOT_ID_MAX);
    if (id.len > 0 && id.len < BOOT_ID_MAX)
        memcpy(out, id.ptr, id.len);
    buf_fini(&text);
}

bool qmgr_clock_load(const char *path, const char boot_id[BOOT_ID_MAX], struct qmgr_clock *c)
{
    struct buf data = BUF_INIT(4096);
    struct saved s;
    bool ret = false;

    if (boot_id[0] == '\0' || file_read(path, &data, NULL) == -1 || data.len != sizeof(s))
        goto done;
    memcpy(&s, data.ptr, sizeof(s));
    ret = memcmp(s.magic, magic, sizeof(magic)) == 0 &&
          memcmp(s.boot_id, boot_id, BOOT_ID_MAX) == 0 && s.clock.nsteps <= CLOCK_STEPS &&
          s.crc == crc32c(0, &s, offsetof(struct saved, crc));
    if (ret)
        *c = s.clock;
done:
    buf_fini(&data);
    return ret;
}

int qmgr_clock_save(const char *path, const char boot_id[BOOT_ID_MAX], const struct qmgr_clock *c,
                    struct err *err)
{
    struct saved s;

    if (boot_id[0] == '\0')
        return 0;
    memset(&s, 0, sizeof(s)); /* padding too */
    memcpy(s.magic, magic, sizeof(magic));
    memcpy(s.boot_id, boot_id, BOOT_ID_MAX);
    s.clock = *c;
    s.crc = crc32c(0, &s, offsetof(struct saved, crc));
    return file_replace(path, slice_of((const char *) &s, sizeof(s)), FILE_MODE, err);
}
