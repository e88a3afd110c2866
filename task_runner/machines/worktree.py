"""Putting files below a directory, and nowhere else.

Rule 1: a path is walked name by name, each opened relative to the directory before it, and a symbolic link is never
        left to the kernel to follow. So nothing that another process exchanges meanwhile leads out.
Rule 2: nothing that is there is written to: it may be a second name of a file elsewhere. A file is made anew and then
        given its name.

Names are text; what is no UTF-8 in them stands as surrogates, as in os.fsdecode.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import BinaryIO, Self

from task_runner.errors import ActionFailed
from task_runner.model import workpath

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: the kernel follows as many
_MAX_LINKS = 40


def raw(name: str) -> bytes:
    """A name as the kernel takes it."""
    return name.encode("utf-8", "surrogateescape")


def open_work(path: str) -> int:
    """The directory that all paths are relative to."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def descend(
    root: int,
    names: Sequence[str],
    *,
    make: bool = False,
    follow: bool = True,
    made: Callable[[], None] = lambda: None,
) -> int:
    """A directory below ``root``, as a new descriptor. Raises ActionFailed, OSError.

    ``make`` directories on the way; ``made`` is called before each. ``follow`` links that stay below ``root``; else
    any link is refused.
    """
    held, todo, links = [os.dup(root)], deque(names), 0
    try:
        while todo:
            name = todo.popleft()
            if name == "..":
                if len(held) == 1:
                    raise ActionFailed(f"{'/'.join(names)} leads out of the working directory, by a symbolic link")
                os.close(held.pop())
                continue
            try:
                held.append(os.open(raw(name), _DIRECTORY, dir_fd=held[-1]))
            except FileNotFoundError:
                if not make:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/".join(names)) from None
                made()
                _make(held[-1], name)
                todo.appendleft(name)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                links += 1
                todo.extendleft(reversed(_link(held[-1], name, names, follow=follow and links <= _MAX_LINKS)))
            else:
                if not follow:  # nobody comes back up
                    os.close(held.pop(-2))
        return held.pop()
    finally:
        for fd in held:
            os.close(fd)


def _make(directory: int, name: str) -> None:
    try:
        os.mkdir(raw(name), 0o755, dir_fd=directory)
    except FileExistsError:
        pass


def _link(directory: int, name: str, path: Sequence[str], *, follow: bool) -> list[str]:
    """Where a link leads, as names from the directory that it stands in."""
    try:
        target = os.readlink(raw(name), dir_fd=directory).decode("utf-8", "surrogateescape")
    except OSError:
        raise ActionFailed(f"{name!r} in {'/'.join(path)!r} is not a directory") from None
    if not follow:
        raise ActionFailed(f"{name!r} in {'/'.join(path)!r} is a symbolic link, which is not followed")
    if target.startswith("/"):
        raise ActionFailed(f"{name!r} in {'/'.join(path)!r} is a symbolic link out of the working directory")
    return [each for each in target.split("/") if each not in ("", ".")]


def open_file(root: int, names: Sequence[str], *, follow: bool = True) -> BinaryIO:
    """A regular file below ``root``, to be read. Raises ActionFailed, OSError."""
    links = 0
    while True:
        directory = descend(root, names[:-1], follow=follow)
        try:
            # O_NONBLOCK: opening a FIFO would wait for a writer
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            fd = os.open(raw(names[-1]), flags, dir_fd=directory)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/".join(names)) from None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            links += 1
            target = _link(directory, names[-1], names, follow=follow and links <= _MAX_LINKS)
            names = [*names[:-1], *target] if target else ["."]
            continue
        finally:
            os.close(directory)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ActionFailed(f"{'/'.join(names)} is not a regular file")
        return open(fd, "rb")


def open_host_file(path: str, allowed: Sequence[str]) -> BinaryIO:
    """A regular file of this machine, below one of the directories that the server allows.

    Raises ActionFailed, OSError.

    Links are resolved first, and the outcome is then walked without following any: what it was is what it is.
    """
    real = os.path.realpath(path)
    for each in allowed:
        top = os.path.realpath(each)
        if real.startswith(top.rstrip("/") + "/"):
            root = open_work(top)
            try:
                return open_file(root, os.path.relpath(real, top).split("/"), follow=False)
            except FileNotFoundError:
                raise ActionFailed(f"{path}: there is no such file") from None
            finally:
                os.close(root)
    raise ActionFailed(f"{path} lies below none of the directories whose files tasks may read (host_files)")


class NewFile:
    """A file that appears under its name when it is whole (`commit`), and otherwise never.

    Until then it has a name beside that: `.NAME.part`. A left one, of a process that was killed, is thrown away.
    """

    def __init__(self, root: int, path: str) -> None:
        """Raises ActionFailed, OSError."""
        try:
            *above, name = workpath.file_parts(path)
        except ValueError as error:
            raise ActionFailed(f"{path}: {error}") from None
        self._path = path
        self._name = raw(name)
        self._part = b"." + self._name[: workpath.MAX_NAME - 6] + b".part"
        self._directory = descend(root, above, make=True)
        try:
            remove(self._directory, self._part)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(self._part, flags, 0o600, dir_fd=self._directory)
        except OSError:
            os.close(self._directory)
            raise
        self._there = True

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def restart(self) -> None:
        """Forget what was written."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)

    def own(self, user: int, group: int) -> None:
        """Give it to somebody; -1 leaves that as it is."""
        os.fchown(self._fd, user, group)

    def commit(self, mode: int = 0o644) -> None:
        """Give it its name, in place of whatever file has that now."""
        os.fchmod(self._fd, mode)
        os.fsync(self._fd)
        try:
            os.rename(self._part, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except IsADirectoryError:
            raise ActionFailed(f"{self._path} is a directory") from None
        self._there = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._there:
                os.unlink(self._part, dir_fd=self._directory)
        finally:
            os.close(self._fd)
            os.close(self._directory)


def remove(directory: int, name: bytes) -> None:
    """Take a name away from whatever is not a directory. Raises OSError."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
