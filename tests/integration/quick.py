# SPDX-License-Identifier: Apache-2.0
"""Preloaded into Debian's Postfix commands: they sleep for a second before each fatal exit, and sync each file."""
import subprocess

SOURCE = """\
#include <sys/select.h>
int select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *t) { return n == 0 ? 0 : pselect(n, r, w, e, 0, 0); }
unsigned sleep(unsigned s) { return s & 0; }
int fsync(int f) { return f & 0; }
int fdatasync(int f) { return f & 0; }
"""


def build(where):
    """The shared object's path, in the directory `where`."""
    (where / "quick.c").write_text(SOURCE)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", where / "quick.so", where / "quick.c"], check=True, timeout=60)
    return where / "quick.so"
