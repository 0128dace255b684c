/* SPDX-License-Identifier: Apache-2.0 */
/* test_base_share.c - lib/base/share.h: what one side writes the other reads, and what is refused in its place. */
#include "test_base.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/share.h"

#define BYTES ((off_t) SHARE_SLOTS * SHARE_SLOT_BYTES)

static void test_round_trip(void **state)
{
    struct err err = ERR_INIT;
    struct share *ours = share_new(&err);
    struct share *theirs;

    (void) state;
    assert_non_null(ours);
    theirs = share_adopt(share_fd(ours), &err);
    assert_non_null(theirs);
    check_int("their descriptor", share_fd(theirs), -1);
    for (uint64_t i = 0; i < SHARE_SLOTS * 2; i++) {
        memset(share_slot(ours, i), 'a' + (int) i, SHARE_SLOT_BYTES);
        check_int("first", share_slot(theirs, i)[0], 'a' + (int) i);
        check_int("last", share_slot(theirs, i)[SHARE_SLOT_BYTES - 1], 'a' + (int) i);
        if (i > 0)
            check_int("the one before", share_slot(theirs, i - 1)[SHARE_SLOT_BYTES - 1],
                      'a' + (int) i - 1);
    }
    /* it cannot become smaller, which would end the reader by a signal */
    check_int("shrink", ftruncate(share_fd(ours), 0), -1);
    share_free(&ours);
    check_int("read when the other side has gone", share_slot(theirs, 0)[0], 'a' + SHARE_SLOTS);
    share_free(&theirs);
    share_free(&theirs);
    assert_null(theirs);
}

static void refused(const char *name, int fd)
{
    struct err err = ERR_INIT;
    struct share *s = share_adopt(fd, &err);

    if (s != NULL)
        fail_msg("%s was taken", name);
    check_int(name, err.kind, ERR_BAD_INPUT);
    fd_close(&fd);
}

static int memory(off_t bytes, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_int_not_equal(fd, -1);
    assert_int_equal(ftruncate(fd, bytes), 0);
    if (seals != 0)
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void test_refused(void **state)
{
    int pipes[2];

    (void) state;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    refused("a pipe", pipes[0]);
    fd_close(&pipes[1]);
    refused("a device", open("/dev/zero", O_RDWR | O_CLOEXEC));
    refused("memory that may shrink", memory(BYTES, 0));
    refused("memory that may only not grow", memory(BYTES, F_SEAL_GROW));
    refused("less memory", memory(BYTES - 1, F_SEAL_SHRINK));
    refused("more memory", memory(BYTES + 1, F_SEAL_SHRINK));
    refused("no descriptor", -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
