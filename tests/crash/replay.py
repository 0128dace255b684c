# SPDX-License-Identifier: Apache-2.0
"""The store and the mailboxes as a power cut may leave them, from the log that record_io.c wrote.

What is certain: data that a completed sync of its file covers, names that a completed sync of their directory covers (a rename
is one change, as on ext4, XFS and Btrfs: both names or neither), all that a completed sync of the file system covers. Of all
else each change may have happened or not; a write may have been torn: any of its sectors may be old. Names need a directory: what lies below a directory whose own name is lost, is lost.
"""
import mmap
import struct

HEAD = struct.Struct("<IIQQQq")
CREATE, WRITE, TRUNCATE, SYNC_BEGIN, SYNC_END, RENAME, UNLINK, MKDIR, SYNC_DIR_BEGIN, SYNC_DIR_END, SYNC_FS_BEGIN, SYNC_FS_END = range(1, 13)
SECTOR = 512


class File:
    def __init__(self, data=b""):
        self.data = bytearray(data)  # what is certain
        self.pending = []  # changes that are not: (op, offset, data or grow-only)

    @staticmethod
    def change(data, op, offset, what):
        if op == WRITE:
            if len(data) < offset:
                data.extend(bytes(offset - len(data)))
            data[offset:offset + len(what)] = what
        elif offset > len(data):
            data.extend(bytes(offset - len(data)))
        elif not what:
            del data[offset:]

    def synced(self, covered):
        """covered: pending changes of earlier; another sync may have ended meanwhile, and have made some of them certain."""
        done = {id(c) for c in covered}
        count = sum(id(c) in done for c in self.pending)
        for c in self.pending[:count]:
            self.change(self.data, *c)
        del self.pending[:count]

    def after_cut(self, pick):
        data = bytearray(self.data)
        for op, offset, what in self.pending:
            fate = pick.choice(("lost", "done", "torn"))
            if fate == "done" or (fate == "torn" and op != WRITE):
                self.change(data, op, offset, what)
            elif fate == "torn":
                at = 0
                while at < len(what):
                    n = min(SECTOR - (offset + at) % SECTOR, len(what) - at)
                    if pick.random() < 0.5:
                        self.change(data, WRITE, offset + at, what[at:at + n])
                    at += n
        return data


class Name:
    """A change of names: `add` one, `remove` one, or both. Files are objects, directories None."""

    def __init__(self, add, remove, file):
        self.add, self.remove, self.file = add, remove, file
        self.certain = False


def parent(path):
    return path.rpartition("/")[0]


class Replay:
    """Steps through the log; cut() gives what may be left at this point."""

    def __init__(self, log, before):
        """before: {inode: (path, bytes, or None for a directory)} of what is there, durably, before the log begins."""
        self.file = open(log, "rb")
        self.map = memoryview(mmap.mmap(self.file.fileno(), 0, prot=mmap.PROT_READ))
        self.at = 0
        self.dirs = {inode: path for inode, (path, data) in before.items() if data is None}  # as it is now
        self.changes = []  # of names, in order, that are not all certain
        self.inodes = {inode: File(data) for inode, (_, data) in before.items() if data is not None}
        self.base = {path: self.inodes.get(inode) for inode, (path, _) in before.items()}  # certain names: path -> File, None for a directory
        self.now = {path: file for path, file in self.base.items() if file is not None}  # as the running system sees it
        self.unsynced = set()  # files that have something pending
        self.syncs = {}  # token -> what a completed sync makes certain
        self.time = 0.0

    def _records(self):
        at = 0
        while at < len(self.map):
            op, path_bytes, _, _, length, _ = HEAD.unpack_from(self.map, at)
            yield at, op
            at += HEAD.size + path_bytes + (length if op == WRITE else 0)

    def records(self):
        """Offsets of all records."""
        return [at for at, _ in self._records()]

    def count(self, wanted):
        """How many records are of this kind."""
        return sum(op == wanted for _, op in self._records())

    def _name(self, add, remove, file):
        self.changes.append(Name(add, remove, file))

    def step(self):
        op, path_bytes, inode, offset, length, when = HEAD.unpack_from(self.map, self.at)
        body = self.at + HEAD.size
        path = bytes(self.map[body:body + path_bytes]).decode()
        body += path_bytes
        self.at = body + (length if op == WRITE else 0)
        self.time = when / 1e9
        if op == CREATE:
            self.inodes[inode] = self.now[path] = File()
            self._name(path, None, self.now[path])
        elif op == WRITE:
            self._pending(inode, (WRITE, offset, self.map[body:body + length]))
        elif op == TRUNCATE:
            self._pending(inode, (TRUNCATE, offset, length))
        elif op == SYNC_BEGIN:
            file = self.inodes[inode]
            self.syncs[offset] = (file, list(file.pending))
        elif op == SYNC_END:
            self._synced(*self.syncs.pop(offset))
        elif op == RENAME:
            old, new = path.split("\n")
            if old not in self.now:
                return  # a file of qmgr's own (clock, suspended), made by calls that are not recorded; of mail, this would show as a loss
            self.now[new] = self.now.pop(old)
            self._name(new, old, self.now[new])
        elif op == UNLINK:
            self._name(None, path, self.now.pop(path))
        elif op == MKDIR:
            self.dirs[inode] = path
            self._name(path, None, None)
        elif op == SYNC_DIR_BEGIN:
            self.syncs[offset] = (self.dirs[inode], list(self.changes))
        elif op == SYNC_DIR_END:
            directory, changes = self.syncs.pop(offset)
            self._names_certain([c for c in changes if any(n is not None and parent(n) == directory for n in (c.add, c.remove))])
        elif op == SYNC_FS_BEGIN:
            self.syncs[offset] = ([(file, list(file.pending)) for file in self.unsynced], list(self.changes))
        elif op == SYNC_FS_END:
            files, changes = self.syncs.pop(offset)
            for file, covered in files:
                self._synced(file, covered)
            self._names_certain(changes)

    def _pending(self, inode, change):
        self.inodes[inode].pending.append(change)
        self.unsynced.add(self.inodes[inode])

    def _synced(self, file, covered):
        file.synced(covered)
        if not file.pending:
            self.unsynced.discard(file)

    def _names_certain(self, changes):
        for c in changes:
            c.certain = True
            for earlier in self.changes:  # the name that the file had before is no matter any more
                if earlier is c:
                    break
                earlier.certain |= earlier.remove is None and earlier.add is not None and earlier.add == c.remove and earlier.file is c.file
        while self.changes and self.changes[0].certain:
            self._apply(self.base, self.changes.pop(0))

    @staticmethod
    def _apply(names, c):
        if c.remove is not None and names.get(c.remove, names) is c.file:
            del names[c.remove]
        if c.add is not None:
            names[c.add] = c.file

    def cut(self, pick):
        """{path: bytes, or None for a directory} and {path: end of what was certain} for one random outcome."""
        names = dict(self.base)
        for c in self.changes:
            if c.certain or pick.random() < 0.5:
                self._apply(names, c)
        kept = {}
        for p in sorted(names):  # a directory before what is in it
            if "/" not in p or parent(p) in kept:
                kept[p] = names[p]
        content = {}  # a file that a rename left with both names has one content
        out, certain = {}, {}
        for path, file in kept.items():
            if file is None:
                out[path] = None
                continue
            if file not in content:
                content[file] = file.after_cut(pick)
            out[path] = content[file]
            certain[path] = [(o, o + len(w)) for op, o, w in file.pending if op == WRITE]
        return out, certain
