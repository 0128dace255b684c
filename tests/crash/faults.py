# SPDX-License-Identifier: Apache-2.0
"""What faults.c, preloaded into an instance's daemons, is to do. Takes effect at once, in all of them."""
import mmap
import os
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "scenario"))
from instance import STAGE  # noqa: E402

LAYOUT = struct.Struct("<1024s1024sQQq1024s")


def allow_preloading():
    """What is preloaded comes before the sanitizer's library."""
    options = [o for o in os.environ.get("ASAN_OPTIONS", "").split(":") if o and "verify_asan_link_order" not in o]
    os.environ["ASAN_OPTIONS"] = ":".join([*options, "verify_asan_link_order=0"])


class Faults:
    def __init__(self, path):
        """path: a file of its own, outside of the queue directory."""
        allow_preloading()
        self.path = pathlib.Path(path)
        self.path.write_bytes(bytes(LAYOUT.size))
        self.path.chmod(0o644)
        self.file = self.path.open("r+b")
        self.map = mmap.mmap(self.file.fileno(), LAYOUT.size)
        self.read_only, self.unreadable, self.pages, self.offset_s, self.hanging = "", "", (0, 0), 0, ""

    def environment(self):
        """For import_environment."""
        module = STAGE / "tests/faults.so"
        assert module.exists(), module
        return f"MAIL_CONFIG TZ LANG=C ASAN_OPTIONS LD_PRELOAD={module} FAULTS_FILE={self.path}"

    def set(self, read_only=None, unreadable=None, pages=None, offset_s=None, hanging=None):
        """read_only: a directory, "" for none. unreadable: part of paths, "" for none, and pages (first, last) of those files. offset_s: of the
        wall clock. hanging: part of paths, "" for none: their disk does not answer. What is not given stays."""
        self.read_only = self.read_only if read_only is None else str(read_only)
        self.unreadable = self.unreadable if unreadable is None else unreadable
        self.pages = self.pages if pages is None else pages
        self.offset_s = self.offset_s if offset_s is None else offset_s
        self.hanging = self.hanging if hanging is None else hanging
        self.map[:] = LAYOUT.pack(self.read_only.encode(), self.unreadable.encode(), *self.pages, int(self.offset_s * 1e6), self.hanging.encode())
