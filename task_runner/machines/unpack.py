"""Putting what an archive holds below a directory, and nowhere else.

Rule 1: no entry is written through a symbolic link, whoever made it (machines/worktree.py), and no file that is there
        is written to: it gives way to the new one.
Rule 2: a symbolic link may go up only at the beginning of its target (`../../a/b`), and not above the directory. As
        every link stands in a real directory (Rule 1) this keeps all of them, one after the other, inside. A `..`
        behind a name is refused: what that name is may be changed by a later entry.
Rule 3: a hard link is made to a regular file alone. To a symbolic link it would move that to another place, from where
        its target leads elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from task_runner.errors import ActionFailed
from task_runner.machines.archives import Entry, Kind
from task_runner.machines.unpacked import damage
from task_runner.machines.worktree import descend, raw, remove
from task_runner.model import workpath

_PIECE = 1 << 16
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Unpacking:
    """Takes entries in the order of the archive. ``finish`` when there are no more."""

    def __init__(self, target: int, *, strip: int, max_bytes: int, max_entries: int) -> None:
        self._target = target
        self._strip = strip
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self.entries = 0
        self.bytes = 0
        #: directories get their modes and times last: a mode may forbid to write into it, writing changes the time
        self._directories: dict[tuple[str, ...], tuple[int, float | None]] = {}

    def put(self, entry: Entry, on_piece: Callable[[], None]) -> None:
        """Make what the entry says. Raises ActionFailed, which names it, and OSError."""
        try:
            self._put(entry, on_piece)
        except ActionFailed as error:
            raise ActionFailed(f"{_short(entry.name)}: {error}") from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            raise ActionFailed(f"{_short(entry.name)}: {error.strerror or error}") from None

    def finish(self) -> None:
        """Give the directories their modes and times, those below before those above."""
        for names, (mode, mtime) in sorted(self._directories.items(), reverse=True):
            parent = descend(self._target, names[:-1], follow=False)
            try:
                fd = os.open(raw(names[-1]), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            finally:
                os.close(parent)
            try:
                os.fchmod(fd, mode)
                if mtime is not None:
                    os.utime(fd, (mtime, mtime))
            finally:
                os.close(fd)

    # -- one entry

    def _put(self, entry: Entry, on_piece: Callable[[], None]) -> None:
        self._count()
        # of a file that is left out, too: somebody has to decompress it
        if self.bytes + entry.size > self._max_bytes:
            raise ActionFailed(f"with it there are more than the {self._max_bytes} bytes allowed (maxBytes)")
        names = self._names(entry.name)
        if entry.kind is Kind.OTHER:
            raise ActionFailed("is a device, a FIFO, or of a kind that is not known; such are not made")
        if not names:
            self.bytes += entry.size
            return
        if entry.kind is Kind.DIRECTORY:
            os.close(descend(self._target, names, make=True, follow=False, made=self._count))
            # the owner keeps all rights: what comes next has to get in, and at last somebody has to remove it
            mode = 0o755 if entry.mode is None else entry.mode & 0o777 | 0o700
            self._directories[names] = (mode, entry.mtime)
            return
        parent = descend(self._target, names[:-1], make=True, follow=False, made=self._count)
        try:
            if entry.kind is Kind.FILE:
                self._file(entry, parent, raw(names[-1]), on_piece)
            elif entry.kind is Kind.SYMLINK:
                self._symlink(entry, parent, names)
            else:
                self._hardlink(entry, parent, names)
        finally:
            os.close(parent)

    def _count(self) -> None:
        self.entries += 1
        if self.entries > self._max_entries:
            raise ActionFailed(f"with it there are more than the {self._max_entries} entries allowed (maxEntries)")

    def _names(self, path: str) -> tuple[str, ...]:
        """Where it goes; nothing, if all of its name is left out."""
        try:
            return workpath.parts(path)[self._strip :]
        except ValueError as error:
            raise ActionFailed(str(error)) from None

    def _file(self, entry: Entry, parent: int, name: bytes, on_piece: Callable[[], None]) -> None:
        with damage():
            content = entry.content()
        remove(parent, name)
        fd = os.open(name, _NEW_FILE, 0o600, dir_fd=parent)
        try:
            while piece := _read(content):
                self.bytes += len(piece)
                if self.bytes > self._max_bytes:
                    raise ActionFailed(f"with it there are more than the {self._max_bytes} bytes allowed (maxBytes)")
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]
                on_piece()
            # neither the bits that lend somebody's rights, nor the sticky one
            os.fchmod(fd, 0o644 if entry.mode is None else entry.mode & 0o777)
            if entry.mtime is not None:
                os.utime(fd, (entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _symlink(self, entry: Entry, parent: int, names: tuple[str, ...]) -> None:
        check_target(entry.target, len(names) - 1)
        name = raw(names[-1])
        remove(parent, name)
        os.symlink(raw(entry.target), name, dir_fd=parent)
        if entry.mtime is not None:
            os.utime(name, (entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _hardlink(self, entry: Entry, parent: int, names: tuple[str, ...]) -> None:
        source = self._names(entry.target)
        if not source:
            raise ActionFailed(f"is a hard link to {_short(entry.target)}, which is no file of the archive")
        if source == names:
            return
        above = descend(self._target, source[:-1], follow=False)
        try:
            found = os.stat(raw(source[-1]), dir_fd=above, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode):
                raise ActionFailed(f"is a hard link to {_short(entry.target)}, which is not a regular file")
            remove(parent, raw(names[-1]))
            os.link(
                raw(source[-1]), raw(names[-1]), src_dir_fd=above, dst_dir_fd=parent, follow_symlinks=False
            )
        except FileNotFoundError:
            raise ActionFailed(f"is a hard link to {_short(entry.target)}, which is not there") from None
        finally:
            os.close(above)


def _short(path: str) -> str:
    return repr(path if len(path) <= 200 else f"{path[:100]}…{path[-99:]}")


def _read(content: object) -> bytes:
    with damage():
        piece: bytes = content.read(_PIECE)  # type: ignore[attr-defined]
        return piece


def check_target(target: str, depth: int) -> None:
    """Whether a symbolic link may lead there from ``depth`` directories below the top (Rule 2). Raises ActionFailed."""
    what = f"is a symbolic link to {_short(target)}, which"
    if not target or "\0" in target or len(raw(target)) >= workpath.MAX_PATH:
        raise ActionFailed(f"{what} is no path")
    if target.startswith("/"):
        raise ActionFailed(f"{what} is absolute")
    steps = [name for name in target.split("/") if name not in ("", ".")]
    up = 0
    while up < len(steps) and steps[up] == "..":
        up += 1
    if up > depth:
        raise ActionFailed(f"{what} leads out of the directory")
    if ".." in steps[up:]:
        raise ActionFailed(f'{what} has a ".." behind a name: where that leads may change')
